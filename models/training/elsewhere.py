"""Examples made ahead by a process of its own, while the training computes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from multiprocessing import get_context
from multiprocessing.queues import Queue
from typing import TypeVar

Known = TypeVar("Known")
Made = TypeVar("Made")

MOST_AHEAD = 24


def made_elsewhere(prepare: Callable[[], Known], make: Callable[[Known, int], Made], numbers: range) -> Iterator[Made]:
    """What `make(prepare(), number)` gives for each of `numbers`, in order.

    `prepare` is called once in the other process, which yields to others; both must be picklable.
    """
    context = get_context("spawn")
    queue: Queue[Made] = context.Queue(MOST_AHEAD)
    worker = context.Process(target=_make_all, args=(queue, prepare, make, numbers), daemon=True)
    os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")
    worker.start()
    try:
        for _ in numbers:
            yield queue.get()
    finally:
        worker.terminate()


def _make_all(
    queue: Queue[Made], prepare: Callable[[], Known], make: Callable[[Known, int], Made], numbers: range
) -> None:
    os.nice(5)
    known = prepare()
    for number in numbers:
        queue.put(make(known, number))

from __future__ import annotations

import queue
import threading
import time
from types import SimpleNamespace
from typing import Any

from dicom_node.reactor import stand_still_while_asking


class SlowReactor(threading.Thread):
    """Does what pynetdicom's does, but takes its time between leaving the checkpoint and looking into the queue."""

    def __init__(self, answers: queue.Queue[int]) -> None:
        super().__init__(daemon=True)
        self._reactor_checkpoint: Any = None
        self.answers = answers
        self.taken: list[int] = []
        self.stop = False

    def run(self) -> None:
        while not self.stop:
            self._reactor_checkpoint.wait()
            time.sleep(0.001)
            try:
                self.taken.append(self.answers.get_nowait())
            except queue.Empty:
                continue


def test_an_answer_that_somebody_waits_for_is_never_taken() -> None:
    answers: queue.Queue[int] = queue.Queue()
    reactor = SlowReactor(answers)
    stand_still_while_asking(reactor)  # type: ignore[arg-type]
    reactor.start()
    for number in range(100):
        reactor._reactor_checkpoint.clear()
        answers.put(number)
        time.sleep(0.002)
        assert answers.get(timeout=5) == number
        reactor._reactor_checkpoint.set()
    reactor.stop = True
    reactor.join(5)
    assert reactor.taken == []


def test_a_reactor_that_has_ended_is_not_waited_for() -> None:
    ended = SimpleNamespace(is_alive=lambda: False, _reactor_checkpoint=None)
    stand_still_while_asking(ended)  # type: ignore[arg-type]
    ended._reactor_checkpoint.clear()

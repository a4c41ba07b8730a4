"""All frames of a stack, or images of a study, into one memory-mapped file, on as many cores as there are.

The file is temporary and has no name, so it ends with the arrays and with the process, and the kernel may write its
pages back to disk where memory is short (decision 0010). Each frame is written to its place in that file as soon as it
is decoded: beside it, no more than a frame for each process is in memory. Uncompressed frames are read by this process;
compressed ones go to processes of their own, since the decoders' bindings hold Python's lock.
"""

from __future__ import annotations

import mmap
import os
import tempfile
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import numpy as np

from pipelines.decoders import Place, decode_frame, decode_on_cores
from pipelines.pixels import HounsfieldUnits, Pixels, StoredPixels, StoredValues
from pipelines.reasons import Reason

FEWEST_PIXELS_FOR_PROCESSES = 32 << 18
"""From so many compressed pixels on, processes are worth their start (0.4 s for each core, once)."""


def decode(frames: Sequence[Pixels], cores: int | None = None) -> tuple[HounsfieldUnits, dict[int, Reason]]:
    """Hounsfield units `[frame, row, column]` of frames of one shape, and why some could not be decoded, by index.

    The array is int16, or float32 where those of a frame are not whole. What could not be decoded is 0. `cores` is for
    processes of decoders; by default those that this process may use. Raises `OSError` when there is no room on the
    disk of temporary files (`TMPDIR`), and `DecodersDiedError`.
    """
    dtype = np.dtype(np.int16 if all(frame.gives_whole_hu for frame in frames) else np.float32)
    shape = (len(frames), *frames[0].shape)
    mapped, _, failures = _decode_to_file(frames, [dtype] * len(frames), cores)
    return np.frombuffer(mapped, dtype).reshape(shape), failures


def decode_each(
    frames: Sequence[StoredPixels], cores: int | None = None
) -> tuple[list[StoredValues], dict[int, Reason]]:
    """Stored values of frames that may each have a shape and type of their own; else as `decode`."""
    mapped, places, failures = _decode_to_file(frames, [frame.dtype for frame in frames], cores)
    arrays: list[StoredValues] = []
    for frame, place in zip(frames, places, strict=True):
        rows, columns = frame.shape
        arrays.append(np.frombuffer(mapped, place.dtype, rows * columns, place.offset).reshape(frame.shape))
    return arrays, failures


def _decode_to_file(
    frames: Sequence[StoredPixels], dtypes: Sequence[np.dtype[Any]], cores: int | None
) -> tuple[mmap.mmap, list[Place], dict[int, Reason]]:
    """The frames behind each other in a mapped file, and where each begins."""
    cores = usable_cores() if cores is None else cores
    # Each frame begins at a whole float32.
    sizes = [
        -(-frame.shape[0] * frame.shape[1] * dtype.itemsize // 4) * 4
        for frame, dtype in zip(frames, dtypes, strict=True)
    ]
    with tempfile.TemporaryFile(buffering=0) as file:
        # All room is taken now: a disk that is full is an error here, and the end of the process at a write later.
        os.posix_fallocate(file.fileno(), 0, sum(sizes))
        offsets = accumulate(sizes[:-1], initial=0)
        places = [Place(file.fileno(), at, dtype.str) for at, dtype in zip(offsets, dtypes, strict=True)]
        shared = [k for k, frame in enumerate(frames) if frame.is_compressed]
        if cores == 1 or sum(frames[k].shape[0] * frames[k].shape[1] for k in shared) < FEWEST_PIXELS_FOR_PROCESSES:
            shared = []
        answers = decode_on_cores([(frames[k], places[k]) for k in shared], cores)
        failures = {k: reason for k, reason in zip(shared, answers, strict=True) if reason is not None}
        for k in sorted(set(range(len(frames))) - set(shared)):
            if (reason := decode_frame(frames[k], places[k])) is not None:
                failures[k] = reason
        return mmap.mmap(file.fileno(), sum(sizes)), places, failures


def usable_cores() -> int:
    """Cores that this process may use, and no more than it was told to use threads (`OMP_NUM_THREADS`)."""
    told = os.environ.get("OMP_NUM_THREADS", "")
    cores = len(os.sched_getaffinity(0))
    return min(cores, int(told)) if told.isdecimal() and int(told) > 0 else cores

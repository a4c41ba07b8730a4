"""Processes that decode frames, made with the first series that needs them and kept warm.

They are children by `subprocess`, not by `multiprocessing`: a reading runs in a process that Dask made a daemon, which
may have no children of that kind, and these must not import what their parent did (torch). Each has a socket to the
parent. It takes one frame at a time from it, decodes it, writes it into the parent's file and answers. When the parent
ends, in whatever way, the socket closes and they end too.

A decoder that is brought down, by a damaged frame or from outside, is replaced and its frame tried once more. A frame
that brings down two is unreadable, as any other damaged one.
"""

from __future__ import annotations

import atexit
import contextlib
import faulthandler
import logging
import os
import signal
import subprocess
import sys
import threading
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, Pipe, wait

from pipelines.pixels import StoredPixels
from pipelines.reasons import Reason, Refusal

MOST_DECODERS = 16
LONGEST_FRAME_S = 60.0
"""A decoder that takes longer over one frame hangs, and ends itself."""
TRIES = 2
MOST_DEATHS = 16
"""So many dead decoders in one series are not the fault of damaged frames alone."""


class DecodersDiedError(RuntimeError):
    """Decoders cannot be started, or die one after another: this machine's fault rather than the series'."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a decoded frame goes: a file that is open, the offset in it in bytes, and the type of the numbers."""

    file: int
    offset: int
    dtype: str


def decode_frame(frame: StoredPixels, place: Place) -> Reason | None:
    """Decode a frame and write it to its place; the reason when it cannot be decoded."""
    try:
        values = frame.decode()
    except Refusal as refusal:
        return refusal.reason
    data = values.astype(place.dtype, copy=False).data.cast("B")
    written = 0
    while written < len(data):
        written += os.pwrite(place.file, data[written:], place.offset + written)
    return None


def decode_on_cores(frames: Sequence[tuple[StoredPixels, Place]], cores: int) -> list[Reason | None]:
    """What `decode_frame` answers for each frame, each done by one of `cores` processes (16 at most).

    Raises `DecodersDiedError` when the decoders do not start or too many of them die.
    """
    if not frames:
        return []
    with _pool.lock:
        try:
            return _decode_in(_pool, frames, min(cores, MOST_DECODERS, len(frames)))
        except BaseException:
            _pool.close()  # whoever is still decoding would answer to the next series
            raise


@dataclass(slots=True, eq=False)
class _Decoder:
    """A child process, and this side's end of its pipe."""

    process: subprocess.Popen[bytes]
    connection: Connection

    def close(self) -> None:
        self.connection.close()
        self.process.kill()
        self.process.wait()


@dataclass(slots=True, eq=False)
class _Pool:
    """The decoders of this process; those of a parent that forked are not its own."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    decoders: list[_Decoder] = field(default_factory=list)
    owner: int = 0

    def ready(self, count: int) -> list[_Decoder]:
        """`count` decoders, started as far as they are not there yet."""
        if self.owner != os.getpid():
            self.decoders, self.owner = [], os.getpid()
        for decoder in [decoder for decoder in self.decoders if decoder.process.poll() is not None]:
            self.decoders.remove(decoder)
            decoder.close()
        while len(self.decoders) < count:
            self.decoders.append(_start())
        return self.decoders[:count]

    def replace(self, decoder: _Decoder) -> _Decoder:
        """Another in the place of one that died."""
        decoder.close()
        self.decoders.remove(decoder)
        self.decoders.append(_start())
        return self.decoders[-1]

    def close(self) -> None:
        if self.owner == os.getpid():
            while self.decoders:
                self.decoders.pop().close()


_pool = _Pool()
atexit.register(_pool.close)


def _start() -> _Decoder:
    ours, theirs = Pipe()
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-c", f"from pipelines.decoders import serve; serve({theirs.fileno()}, {os.getpid()})"],
            stdin=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OMP_NUM_THREADS": "1"},
        )
        return _Decoder(process, ours)


def _decode_in(pool: _Pool, frames: Sequence[tuple[StoredPixels, Place]], count: int) -> list[Reason | None]:
    answers: list[Reason | None] = [None] * len(frames)
    deaths = [0] * len(frames)
    waiting = list(range(len(frames)))[::-1]
    at_work: dict[Connection, tuple[_Decoder, int]] = {}

    def give(decoder: _Decoder) -> None:
        k = waiting.pop()
        at_work[decoder.connection] = (decoder, k)
        with contextlib.suppress(OSError):  # it is dead: the answer is the end of its socket
            decoder.connection.send(frames[k])

    for decoder in pool.ready(count):
        give(decoder)
    while at_work:
        for connection in wait(list(at_work)):
            assert isinstance(connection, Connection)
            decoder, k = at_work.pop(connection)
            try:
                answers[k] = connection.recv()
            except (EOFError, OSError) as error:
                deaths[k] += 1
                if sum(deaths) > MOST_DEATHS:
                    raise DecodersDiedError("the decoders die one after another") from error
                decoder = pool.replace(decoder)
                if deaths[k] < TRIES:
                    waiting.append(k)
                else:
                    answers[k] = Reason("input.pixel_data_unreadable", {"detail": "its decoder died"})
            if waiting:
                give(decoder)
    return answers


def serve(socket_number: int, parent: int) -> None:
    """The life of a decoder: frames come over the socket, until it closes. `parent` has the files open."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
    logging.disable()
    warnings.simplefilter("ignore")
    connection = Connection(socket_number)
    with contextlib.suppress(EOFError, OSError):
        while True:
            frame, place = connection.recv()
            faulthandler.dump_traceback_later(LONGEST_FRAME_S, exit=True)
            file = os.open(f"/proc/{parent}/fd/{place.file}", os.O_WRONLY)
            try:
                answer = decode_frame(frame, Place(file, place.offset, place.dtype))
            finally:
                os.close(file)
            faulthandler.cancel_dump_traceback_later()
            connection.send(answer)

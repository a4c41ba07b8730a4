"""Wake-ups between the processes of one host: a datagram that says "look at the ledger". A lost one costs a poll."""

from __future__ import annotations

import contextlib
import hashlib
import socket
import threading
from collections.abc import Iterable
from pathlib import Path


def _address(spool: Path) -> str:
    # An abstract name: it needs no file, ends with its process, and is not bound by the length of a path.
    return "\0triage-node-" + hashlib.sha256(str(spool.resolve()).encode()).hexdigest()[:32]


class Notifier:
    """Sends wake-ups to the coordinator of the node whose spool this is; never waits and never fails."""

    def __init__(self, spool: Path) -> None:
        self._address = _address(spool)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)

    def __call__(self) -> None:
        with contextlib.suppress(OSError):  # nobody listens, or enough wake-ups wait already
            self._socket.sendto(b"w", self._address)


def listen(spool: Path, events: Iterable[threading.Event]) -> threading.Thread:
    """Set every event whenever a wake-up comes, from a daemon thread of this process."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    listener.bind(_address(spool))
    held = tuple(events)

    def serve() -> None:
        while True:
            listener.recv(16)
            for event in held:
                event.set()

    thread = threading.Thread(target=serve, name="wake", daemon=True)
    thread.start()
    return thread

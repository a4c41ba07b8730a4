"""Keeps pynetdicom's reactor from taking answers that somebody waits for.

A requestor's answers arrive in a queue that two threads read: the one that sent the request, and the association's
reactor, which looks for unasked-for messages. pynetdicom 3.0 pauses the reactor while a request is out, but believes
that it stands at its checkpoint when it may just be leaving it. An answer that comes within a millisecond or two is
then thrown away: a stored object looks unanswered, a found one absent.
"""

from __future__ import annotations

import threading

from pynetdicom.association import Association

LOOK_AGAIN_S = 0.05


class _Checkpoint(threading.Event):
    """As the event it takes the place of, but `clear` returns only when the reactor does stand still (or has ended)."""

    def __init__(self, reactor: threading.Thread) -> None:
        super().__init__()
        self._reactor = reactor
        self._changed = threading.Condition()
        self._is_open = True
        self._is_occupied = False

    def set(self) -> None:
        with self._changed:
            self._is_open = True
            self._changed.notify_all()

    def clear(self) -> None:
        with self._changed:
            self._is_open = False
            while not self._is_occupied and self._reactor.is_alive():
                self._changed.wait(LOOK_AGAIN_S)

    def wait(self, timeout: float | None = None) -> bool:
        with self._changed:
            self._is_occupied = True
            self._changed.notify_all()
            passed = self._changed.wait_for(lambda: self._is_open, timeout)
            self._is_occupied = False
            return passed


def stand_still_while_asking(association: Association) -> None:
    """Do this to an association that was just established, before the first request."""
    association._reactor_checkpoint = _Checkpoint(association)

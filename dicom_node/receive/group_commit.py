"""Many threads, one ledger: what waits at the same time is committed in one transaction, without waiting for more."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar, cast

from sqlalchemy import Connection
from sqlalchemy.exc import OperationalError

from db.connect import Ledger, LedgerError

Result = TypeVar("Result")


class _Ticket(Generic[Result]):
    def __init__(self, change: Callable[[Connection], Result]) -> None:
        self.change = change
        self.woken = threading.Event()
        self.done = False
        self.result: Result | None = None
        self.error: LedgerError | None = LedgerError("the transaction was interrupted")


class GroupCommit:
    """Commits changes in the order in which they are submitted.

    The first thread that comes while nobody commits does so, for itself and for all that came meanwhile; then the
    first of those that wait takes over. So a lone sender pays for no change of threads, and many share one commit.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._mutex = threading.Lock()
        self._waiting: list[_Ticket[object]] = []
        self._led = False

    def submit(self, change: Callable[[Connection], Result]) -> Result:
        """Run `change` in a transaction; gives its result once that is durable. Raises `LedgerError`."""
        ticket = _Ticket(change)
        with self._mutex:
            self._waiting.append(cast("_Ticket[object]", ticket))
            leads = not self._led
            self._led = True
        if not leads:
            ticket.woken.wait()
        if not ticket.done:
            self._lead()
        if ticket.error is not None:
            raise ticket.error
        return cast("Result", ticket.result)

    def _lead(self) -> None:
        with self._mutex:
            batch, self._waiting = self._waiting, []
        try:
            self._commit(batch)
        finally:
            with self._mutex:
                self._led = bool(self._waiting)
                if self._waiting:
                    self._waiting[0].woken.set()
            for ticket in batch:
                ticket.done = True
                ticket.woken.set()

    def _commit(self, batch: list[_Ticket[object]]) -> None:
        try:
            with self._ledger.write() as connection:
                for ticket in batch:
                    ticket.result = ticket.change(connection)
        except LedgerError as error:
            if len(batch) > 1 and not isinstance(error.__cause__, OperationalError):
                for ticket in batch:  # the ledger works but refuses a change: the others must not fail with it
                    self._commit([ticket])
                return
            outcome: LedgerError | None = error
        else:
            outcome = None
        for ticket in batch:
            ticket.error = outcome

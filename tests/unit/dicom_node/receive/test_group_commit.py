from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy import Connection, text
from sqlalchemy.exc import IntegrityError, OperationalError

from db.connect import Ledger, LedgerError
from dicom_node.receive.group_commit import GroupCommit


def test_a_change_gives_its_result(ledger: Ledger) -> None:
    assert GroupCommit(ledger).submit(lambda connection: connection.execute(text("SELECT 7")).scalar()) == 7


class HeldLedger(Ledger):
    """Counts transactions, and holds the first one open until it is let go."""

    def __init__(self, ledger: Ledger) -> None:
        super().__init__(ledger._engine)
        self.transactions = 0
        self.begun, self.go_on = threading.Event(), threading.Event()

    @contextmanager
    def write(self) -> Iterator[Connection]:
        self.transactions += 1
        with super().write() as connection:
            self.begun.set()
            assert self.go_on.wait(10)
            yield connection


def submit_all(commits: GroupCommit, held: HeldLedger, changes: list[object]) -> list[object]:
    """Submit the first change, the others while it commits; gives each one's result or error."""
    outcomes: list[object] = [None] * len(changes)

    def submit(number: int) -> None:
        try:
            outcomes[number] = commits.submit(changes[number])  # type: ignore[arg-type]
        except LedgerError as error:
            outcomes[number] = error

    threads = [threading.Thread(target=submit, args=(number,)) for number in range(len(changes))]
    threads[0].start()
    assert held.begun.wait(10)
    for thread in threads[1:]:
        thread.start()
    while len(commits._waiting) < len(changes) - 1:
        threading.Event().wait(0.001)
    held.go_on.set()
    for thread in threads:
        thread.join(10)
    return outcomes


def test_what_waits_together_is_committed_together(ledger: Ledger) -> None:
    held = HeldLedger(ledger)
    outcomes = submit_all(GroupCommit(held), held, [lambda _, n=n: n for n in range(20)])
    assert outcomes == list(range(20))
    assert held.transactions == 2


def refused(_connection: Connection) -> None:
    raise IntegrityError("", {}, Exception("refused"))


def test_a_change_that_the_ledger_refuses_fails_alone(ledger: Ledger) -> None:
    held = HeldLedger(ledger)
    outcomes = submit_all(GroupCommit(held), held, [lambda _: 0, lambda _: 1, refused, lambda _: 3])
    assert outcomes[:2] == [0, 1]
    assert isinstance(outcomes[2], LedgerError)
    assert outcomes[3] == 3


def unavailable(_connection: Connection) -> None:
    raise OperationalError("", {}, Exception("no disk"))


def test_a_ledger_that_is_down_fails_all_that_wait_at_once(ledger: Ledger) -> None:
    held = HeldLedger(ledger)
    outcomes = submit_all(GroupCommit(held), held, [lambda _: 0, unavailable, lambda _: 2])
    assert outcomes[0] == 0
    assert [type(outcome) for outcome in outcomes[1:]] == [LedgerError, LedgerError]
    assert held.transactions == 2


def test_an_error_of_the_program_is_never_taken_for_success(ledger: Ledger) -> None:
    def broken(_connection: Connection) -> None:
        raise ZeroDivisionError

    commits = GroupCommit(ledger)
    with pytest.raises(ZeroDivisionError):
        commits.submit(broken)
    assert commits.submit(lambda _: 1) == 1

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from sqlalchemy import Connection, delete, select, text, update

from db import audit
from db.audit import GENESIS, Break
from db.connect import Ledger, LedgerError, open_ledger
from db.schema import audit as table
from tests.conftest import MovableClock

AT = MovableClock().now
STUDY = "2.25.7"


def write(connection: Connection, count: int) -> None:
    for number in range(count):
        audit.append(
            connection,
            at=AT + timedelta(seconds=number),
            event="decision.made" if number % 2 else "series.received",
            actor="route",
            study_instance_uid=STUDY if number < 2 else "",
            facts={"number": number, "word": "Jörg"},
        )


def verify(ledger: Ledger) -> tuple[int, str, Break | None]:
    with ledger.read() as connection:
        return audit.verify(connection)


def disarm(connection: Connection) -> None:
    """As somebody with the database's own tools could."""
    for name in connection.execute(text("SELECT name FROM sqlite_master WHERE type = 'trigger'")).scalars().all():
        connection.execute(text(f"DROP TRIGGER {name}"))


def test_an_empty_trail_holds(ledger: Ledger) -> None:
    assert verify(ledger) == (0, GENESIS, None)


def test_events_are_chained_in_order(ledger: Ledger) -> None:
    with ledger.write() as connection:
        write(connection, 4)
        rows = list(audit.rows(connection))
    assert [row.sequence for row in rows] == [1, 2, 3, 4]
    assert [row.previous_hash for row in rows] == [GENESIS, *(row.hash for row in rows[:-1])]
    assert rows[1].at == AT + timedelta(seconds=1)
    assert rows[0].facts == '{"number":0,"word":"Jörg"}'
    assert verify(ledger) == (4, rows[-1].hash, None)


def test_events_are_found_by_study_kind_and_place(ledger: Ledger) -> None:
    with ledger.write() as connection:
        write(connection, 5)
        assert [row.sequence for row in audit.rows(connection, study_instance_uid=STUDY)] == [1, 2]
        assert [row.sequence for row in audit.rows(connection, event="series.")] == [1, 3, 5]
        assert [row.sequence for row in audit.rows(connection, event="series_")] == []
        assert [row.sequence for row in audit.rows(connection, after=2, limit=2)] == [3, 4]
        assert audit.last_facts(connection, "decision.made") == {"number": 3, "word": "Jörg"}
        assert audit.last_facts(connection, "alert.raised") is None


def test_the_database_itself_refuses_changes(ledger: Ledger) -> None:
    with ledger.write() as connection:
        write(connection, 2)
    for statement in (update(table).values(actor="nobody"), delete(table)):
        with pytest.raises(LedgerError, match="append-only"), ledger.write() as connection:
            connection.execute(statement)
    assert verify(ledger)[0] == 2


CHANGES = {
    "at": AT - timedelta(days=1),
    "event": "alert.raised",
    "outcome": 12,
    "actor": "nobody",
    "study_instance_uid": "2.25.8",
    "facts": "{}",
    "hash": "f" * 64,
    "previous_hash": "e" * 64,
}


@hypothesis_settings(max_examples=25)
@given(column=st.sampled_from(sorted(CHANGES)), sequence=st.integers(1, 5))
def test_a_changed_event_is_found(column: str, sequence: int) -> None:
    ledger = open_ledger("sqlite://")
    try:
        with ledger.write() as connection:
            write(connection, 5)
            disarm(connection)
            connection.execute(update(table).where(table.c.sequence == sequence).values({column: CHANGES[column]}))
            _, _, broken = audit.verify(connection)
        assert broken is not None
        assert broken.sequence == sequence
    finally:
        ledger.close()


@hypothesis_settings(max_examples=5)
@given(sequence=st.integers(1, 4))
def test_a_removed_event_is_found(sequence: int) -> None:
    ledger = open_ledger("sqlite://")
    try:
        with ledger.write() as connection:
            write(connection, 5)
            disarm(connection)
            connection.execute(delete(table).where(table.c.sequence == sequence))
            _, _, broken = audit.verify(connection)
            assert broken == Break(sequence + 1, f"event {sequence} is missing")
            shifted = update(table).where(table.c.sequence > sequence).values(sequence=table.c.sequence - 1)
            connection.execute(shifted)
            _, _, broken = audit.verify(connection)
            assert broken is not None and broken.sequence == sequence
    finally:
        ledger.close()


def test_two_events_that_change_places_are_found(ledger: Ledger) -> None:
    with ledger.write() as connection:
        write(connection, 4)
        disarm(connection)
        for old, new in ((2, 99), (3, 2), (99, 3)):
            connection.execute(update(table).where(table.c.sequence == old).values(sequence=new))
    assert verify(ledger)[2] == Break(2, "it does not follow from the event before it")


def test_a_cut_end_shows_in_the_last_hash_only(ledger: Ledger) -> None:
    with ledger.write() as connection:
        write(connection, 3)
        last = connection.execute(select(table.c.hash).where(table.c.sequence == 3)).scalar_one()
        disarm(connection)
        connection.execute(delete(table).where(table.c.sequence == 3))
    count, hash_, broken = verify(ledger)
    assert (count, broken) == (2, None)
    assert hash_ != last

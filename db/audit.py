"""The audit trail: append-only, each row holding the hash of the one before it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime

from sqlalchemy import Connection, insert, select, text

from db.schema import audit

GENESIS = "0" * 64
"""What stands for the hash before the first row."""

_POSTGRESQL_CHAIN_LOCK = 0x7472_6961


@dataclass(frozen=True, slots=True)
class AuditRow:
    """One event. `outcome` is 0 ok, 4 minor, 8 serious, 12 major failure (PS3.15, A.5)."""

    sequence: int
    at: datetime
    event: str
    outcome: int
    actor: str
    study_instance_uid: str
    facts: str
    previous_hash: str
    hash: str


def append(
    connection: Connection,
    *,
    at: datetime,
    event: str,
    actor: str,
    study_instance_uid: str = "",
    outcome: int = 0,
    facts: Mapping[str, object] | None = None,
) -> None:
    """Add an event to the end of the chain, in the transaction of the change it tells of."""
    if connection.dialect.name == "postgresql":  # SQLite's write lock orders the chain by itself
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _POSTGRESQL_CHAIN_LOCK})
    last = connection.execute(select(audit.c.sequence, audit.c.hash).order_by(audit.c.sequence.desc()).limit(1)).first()
    sequence, previous_hash = (last.sequence + 1, last.hash) if last else (1, GENESIS)
    unsealed = AuditRow(
        sequence=sequence,
        at=at,
        event=event,
        outcome=outcome,
        actor=actor,
        study_instance_uid=study_instance_uid,
        facts=json.dumps(facts or {}, sort_keys=True, ensure_ascii=False, separators=(",", ":")),
        previous_hash=previous_hash,
        hash="",
    )
    connection.execute(insert(audit).values(**asdict(replace(unsealed, hash=_hash(unsealed)))))


def rows(
    connection: Connection, *, study_instance_uid: str = "", event: str = "", after: int = 0, limit: int | None = None
) -> Iterator[AuditRow]:
    """Events in order; optionally of one study, of one kind (a prefix such as `delivery.`), after a sequence number."""
    query = select(audit).where(audit.c.sequence > after).order_by(audit.c.sequence).limit(limit)
    if study_instance_uid:
        query = query.where(audit.c.study_instance_uid == study_instance_uid)
    if event:
        query = query.where(audit.c.event.startswith(event, autoescape=True))
    for row in connection.execute(query.execution_options(yield_per=1000)):
        yield AuditRow(*row)


def last_facts(connection: Connection, event: str) -> dict[str, object] | None:
    """The facts of the newest event of this name, or None where there is none."""
    query = select(audit.c.facts).where(audit.c.event == event).order_by(audit.c.sequence.desc()).limit(1)
    facts = connection.execute(query).scalar()
    return None if facts is None else dict(json.loads(facts))


@dataclass(frozen=True, slots=True)
class Break:
    """Where the chain does not hold, and in what way."""

    sequence: int
    problem: str


def verify(connection: Connection) -> tuple[int, str, Break | None]:
    """Walk the whole chain. Gives the number of events, the last hash, and the first break if there is one.

    A trail cut at its end still holds: only a copy of the last hash kept elsewhere shows that, hence it is given.
    """
    count, previous = 0, GENESIS
    for row in rows(connection):
        count += 1
        if row.sequence != count:
            return count, previous, Break(row.sequence, f"event {count} is missing")
        if row.previous_hash != previous:
            return count, previous, Break(row.sequence, "it does not follow from the event before it")
        if row.hash != _hash(row):
            return count, previous, Break(row.sequence, "its content was changed")
        previous = row.hash
    return count, previous, None


def _hash(row: AuditRow) -> str:
    content = (
        row.sequence,
        row.at.isoformat(),
        row.event,
        row.outcome,
        row.actor,
        row.study_instance_uid,
        row.facts,
        row.previous_hash,
    )
    return hashlib.sha256(json.dumps(content, ensure_ascii=False).encode()).hexdigest()

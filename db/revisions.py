"""The life of a revision: a list of the instances of a series, fixed once it is complete."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, exists, func, select, update

from db.schema import associations, decisions, instances, revisions, series


@dataclass(frozen=True, slots=True)
class Share:
    """What one association brought of a revision. `ended_at` and `ended_by` are None while it is open."""

    association_id: str
    calling_ae_title: str
    instance_count: int
    first_received_at: datetime
    last_received_at: datetime
    ended_at: datetime | None
    ended_by: str | None


@dataclass(frozen=True, slots=True)
class Receiving:
    """A revision in the state receiving. It holds all instances of its series; `shares` tells of those new in it."""

    revision_id: int
    series_instance_uid: str
    study_instance_uid: str
    number: int
    instance_count: int
    shares: tuple[Share, ...]


@dataclass(frozen=True, slots=True)
class Member:
    """An instance as a part of a revision; `file` lies below the spool."""

    instance_id: int
    sop_instance_uid: str
    file: str
    sha256: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class NewestRevision:
    """The newest revision of a series; `action` and `pipeline` are what was decided on it, None before that.

    `undecided_since` is when the first of the series' revisions that nothing was decided on was complete, None where
    there is none.
    """

    revision_id: int
    series_instance_uid: str
    number: int
    state: str
    action: str | None
    pipeline: str | None
    undecided_since: datetime | None


def receiving(connection: Connection) -> list[Receiving]:
    """Every revision that is being received, the one opened first in front."""
    query = (
        select(
            revisions.c.revision_id,
            revisions.c.series_instance_uid,
            series.c.study_instance_uid,
            revisions.c.number,
            instances.c.revision_number,
            associations.c.association_id,
            associations.c.calling_ae_title,
            associations.c.ended_at,
            associations.c.ended_by,
            func.count().label("held"),
            func.min(instances.c.received_at).label("first"),
            func.max(instances.c.received_at).label("last"),
        )
        .join(series, series.c.series_instance_uid == revisions.c.series_instance_uid)
        .join(instances, instances.c.series_instance_uid == revisions.c.series_instance_uid)
        .join(associations, associations.c.association_id == instances.c.association_id)
        .where(revisions.c.state == "receiving", instances.c.revision_number <= revisions.c.number)
        .group_by(
            revisions.c.revision_id,
            instances.c.revision_number,
            associations.c.association_id,
            series.c.study_instance_uid,
        )
        .order_by(revisions.c.revision_id, associations.c.association_id)
    )
    found: dict[int, Receiving] = {}
    for row in connection.execute(query):
        empty = Receiving(row.revision_id, row.series_instance_uid, row.study_instance_uid, row.number, 0, ())
        held = found.get(row.revision_id, empty)
        share = Share(
            row.association_id, row.calling_ae_title, row.held, row.first, row.last, row.ended_at, row.ended_by
        )
        is_new = row.revision_number == row.number
        found[row.revision_id] = Receiving(
            row.revision_id,
            row.series_instance_uid,
            row.study_instance_uid,
            row.number,
            held.instance_count + row.held,
            (*held.shares, share) if is_new else held.shares,
        )
    return list(found.values())


def members(connection: Connection, series_instance_uid: str, number: int) -> tuple[Member, ...]:
    """What a revision holds, in order of SOP Instance UID."""
    query = (
        select(
            instances.c.instance_id,
            instances.c.sop_instance_uid,
            instances.c.file,
            instances.c.sha256,
            instances.c.size_bytes,
        )
        .where(instances.c.series_instance_uid == series_instance_uid, instances.c.revision_number <= number)
        .order_by(instances.c.sop_instance_uid)
    )
    return tuple(Member(*row) for row in connection.execute(query))


def digest(held: Sequence[Member]) -> str:
    """Names a fixed list of instances: SHA-256 over their own, in order of SOP Instance UID."""
    ordered = sorted(held, key=lambda member: member.sop_instance_uid)
    return hashlib.sha256("".join(member.sha256 for member in ordered).encode()).hexdigest()


def complete(
    connection: Connection, revision_id: int, *, state: str, at: datetime, by: str, held: Sequence[Member]
) -> None:
    """Fix what a revision holds."""
    connection.execute(
        update(revisions)
        .where(revisions.c.revision_id == revision_id)
        .values(state=state, completed_at=at, completed_by=by, instance_count=len(held), digest=digest(held))
    )


def older(connection: Connection, series_instance_uid: str, number: int) -> list[tuple[int, str]]:
    """Id and state of the revisions before `number` that nothing has taken the place of."""
    query = select(revisions.c.revision_id, revisions.c.state).where(
        revisions.c.series_instance_uid == series_instance_uid,
        revisions.c.number < number,
        revisions.c.superseded_by.is_(None),
    )
    return [(row.revision_id, row.state) for row in connection.execute(query)]


def supersede(connection: Connection, revision_id: int, *, state: str, by: int) -> None:
    """Let the revision `by` take the place of an older one of its series."""
    connection.execute(
        update(revisions).where(revisions.c.revision_id == revision_id).values(state=state, superseded_by=by)
    )


def mark_read(connection: Connection, revision_id: int) -> None:
    """Record that reading ended with an answer; a revision that was superseded meanwhile stays so."""
    connection.execute(
        update(revisions)
        .where(revisions.c.revision_id == revision_id, revisions.c.state == "complete")
        .values(state="read")
    )


def state_of(connection: Connection, revision_id: int) -> str:
    """The state of a revision."""
    return str(connection.execute(select(revisions.c.state).where(revisions.c.revision_id == revision_id)).scalar_one())


def studies_to_route(connection: Connection) -> list[str]:
    """Studies with a complete revision that nothing was decided on, the one completed first in front."""
    query = (
        select(series.c.study_instance_uid)
        .join(revisions, revisions.c.series_instance_uid == series.c.series_instance_uid)
        .where(revisions.c.state == "complete")
        .where(~exists().where(decisions.c.revision_id == revisions.c.revision_id))
        .group_by(series.c.study_instance_uid)
        .order_by(func.min(revisions.c.completed_at))
    )
    return list(connection.execute(query).scalars())


def newest(connection: Connection, study_instance_uid: str) -> tuple[NewestRevision, ...]:
    """The newest revision of each series of a study."""
    query = (
        select(
            revisions.c.revision_id,
            revisions.c.series_instance_uid,
            revisions.c.number,
            revisions.c.state,
            decisions.c.action,
            decisions.c.pipeline,
            revisions.c.completed_at,
        )
        .join(series, series.c.series_instance_uid == revisions.c.series_instance_uid)
        .outerjoin(decisions, decisions.c.revision_id == revisions.c.revision_id)
        .where(series.c.study_instance_uid == study_instance_uid)
        .order_by(revisions.c.series_instance_uid, revisions.c.number)
    )
    by_series: dict[str, NewestRevision] = {}
    for row in connection.execute(query):
        before = by_series.get(row.series_instance_uid)
        since = (before.undecided_since if before else None) or row.completed_at
        by_series[row.series_instance_uid] = NewestRevision(
            row.revision_id,
            row.series_instance_uid,
            row.number,
            row.state,
            row.action,
            row.pipeline,
            undecided_since=since if row.action is None else None,
        )
    return tuple(by_series.values())

"""The queue: who may read which revisions next. A claim takes a lease and a fencing token.

A job reads one revision of a series, or those of all series that make a study.

Only the holder of the newest fencing token of a job may record what came of it. The states' words are the caller's
(`dispatch.policy`); what is fixed here is that only a waiting job, or a running one whose lease ran out, is claimed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    Select,
    Update,
    and_,
    case,
    exists,
    func,
    insert,
    or_,
    select,
    update,
)

from db import audit
from db.revisions import Member
from db.schema import decisions, instances, job_revisions, jobs, revisions, series


@dataclass(frozen=True, slots=True)
class ReadRevision:
    """A revision that a job reads."""

    revision_id: int
    series_instance_uid: str
    number: int
    digest: str | None


@dataclass(frozen=True, slots=True)
class Job:
    """A job and the revisions it is to read. `attempts` counts the claims, `worker_deaths` those that killed a worker.

    `revision_id`, the series and its number are of the revision whose decision asked for the job; `reads` are all, in
    order of their series' UIDs. `reason` says why it waits again, was not read or was cancelled (as `Reason.as_json`
    gives it).
    """

    job_id: int
    revision_id: int
    study_instance_uid: str
    series_instance_uid: str
    revision_number: int
    is_superseded: bool
    rule: str | None
    pipeline: str
    priority: int
    state: str
    attempts: int
    worker_deaths: int
    fencing_token: int
    lease_owner: str | None
    lease_until: datetime | None
    not_before: datetime
    reason: dict[str, Any] | None
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    reads: tuple[ReadRevision, ...]


def enqueue(
    connection: Connection,
    *,
    revision_id: int,
    together_with: Sequence[int] = (),
    pipeline: str,
    priority: int,
    now: datetime,
) -> int:
    """Ask for a revision to be read, and others with it; lower `priority` goes first. Gives the job's number."""
    row = {
        "revision_id": revision_id,
        "pipeline": pipeline,
        "priority": priority,
        "state": "waiting",
        "attempts": 0,
        "worker_deaths": 0,
        "fencing_token": 0,
        "not_before": now,
        "created_at": now,
    }
    job_id = int(connection.execute(insert(jobs).values(**row).returning(jobs.c.job_id)).scalar_one())
    read = [{"job_id": job_id, "revision_id": one} for one in (revision_id, *together_with)]
    connection.execute(insert(job_revisions), read)
    return job_id


def claim(connection: Connection, *, owner: str, now: datetime, lease_until: datetime) -> Job | None:
    """Take the most urgent job that is due, the oldest of its priority first; None when there is none.

    The attempt is counted here, so that a job that brings its reader down cannot be tried for ever.
    """
    is_due = and_(jobs.c.state == "waiting", jobs.c.not_before <= now)
    is_abandoned = and_(jobs.c.state == "running", jobs.c.lease_until < now)
    query = (
        select(jobs.c.job_id)
        .where(or_(is_due, is_abandoned))
        .order_by(jobs.c.priority, jobs.c.created_at, jobs.c.job_id)
        .limit(1)
        .with_for_update(skip_locked=True)
    )
    job_id = connection.execute(query).scalar()
    if job_id is None:
        return None
    connection.execute(
        update(jobs)
        .where(jobs.c.job_id == job_id)
        .values(
            state="running",
            attempts=jobs.c.attempts + 1,
            fencing_token=jobs.c.fencing_token + 1,
            lease_owner=owner,
            lease_until=lease_until,
            started_at=now,
        )
    )
    return find(connection, job_id)


def renew(connection: Connection, job: Job, *, lease_until: datetime) -> bool:
    """Keep a claim for longer. False when the claim is no longer this one: what it reads will not be recorded."""
    return connection.execute(_held(job).values(lease_until=lease_until)).rowcount == 1


def end(connection: Connection, job: Job, *, state: str, reason: dict[str, Any] | None, now: datetime) -> bool:
    """End a claimed job. False, and nothing is changed, when its fencing token is no longer the newest."""
    values = {"state": state, "reason": reason, "ended_at": now, "lease_owner": None, "lease_until": None}
    return connection.execute(_held(job).values(**values)).rowcount == 1


def put_back(
    connection: Connection, job: Job, *, state: str, reason: dict[str, Any], worker_deaths: int, not_before: datetime
) -> bool:
    """Give a claimed job back, to be tried again. False, and nothing is changed, when the claim is no longer this."""
    values = {"state": state, "reason": reason, "worker_deaths": worker_deaths, "not_before": not_before}
    return connection.execute(_held(job).values(**values, lease_owner=None, lease_until=None)).rowcount == 1


def release_orphans(connection: Connection, *, now: datetime) -> int:
    """Let go of every claim: for the start of the coordinator, of which only one ever runs. Gives their number."""
    values = {"state": "waiting", "not_before": now, "lease_owner": None, "lease_until": None}
    return connection.execute(update(jobs).where(jobs.c.state == "running").values(**values)).rowcount


def retry(connection: Connection, job_id: int, *, now: datetime) -> bool:
    """Let a job that ended as `not_read` begin anew. False when there is no such job in this state."""
    job = find(connection, job_id)
    if job is None or job.state != "not_read":
        return False
    values = {"state": "waiting", "attempts": 0, "worker_deaths": 0, "not_before": now, "ended_at": None}
    connection.execute(update(jobs).where(jobs.c.job_id == job_id).values(**values))
    audit.append(
        connection,
        at=now,
        event="reading.retry_asked",
        actor="operator",
        study_instance_uid=job.study_instance_uid,
        facts=told(job) | {"pipeline": job.pipeline},
    )
    return True


def told(job: Job) -> dict[str, object]:
    """What the audit trail tells of what a job reads: series, revision and digest; a list of them for a study."""
    every = [
        {"series_instance_uid": one.series_instance_uid, "revision": one.number, "digest": one.digest}
        for one in job.reads
    ]
    return dict(every[0]) if len(every) == 1 else {"series": every}


def next_due(connection: Connection) -> datetime | None:
    """When the next job will be due, or the next lease run out; None when nothing waits and nothing runs."""
    when = case((jobs.c.state == "waiting", jobs.c.not_before), else_=jobs.c.lease_until)
    query = select(when.label("due")).where(jobs.c.state.in_(("waiting", "running"))).order_by("due").limit(1)
    return connection.execute(query).scalar()


def last_received_at(connection: Connection, job: Job) -> datetime:
    """When the last of the instances came that a job reads."""
    found: datetime = connection.execute(_of_job(job.job_id, func.max(instances.c.received_at))).scalar_one()
    return found


def members(connection: Connection, job_id: int) -> tuple[Member, ...]:
    """The instances that a job reads, in order of SOP Instance UID."""
    columns = [instances.c[name] for name in Member.__slots__]
    query = _of_job(job_id, *columns).order_by(instances.c.sop_instance_uid)
    return tuple(Member(*row) for row in connection.execute(query))


def superseded() -> ColumnElement[bool]:
    """Whether a newer answer takes the place of that of the job in `jobs`.

    So it is when a newer revision of a series that it reads is complete, or when a later job reads one of its revisions
    too: then the study has grown.
    """
    own, later = job_revisions.alias(), job_revisions.alias()
    return or_(
        exists()
        .where(own.c.job_id == jobs.c.job_id)
        .where(revisions.c.revision_id == own.c.revision_id, revisions.c.state == "superseded")
        .correlate(jobs),
        exists()
        .where(own.c.job_id == jobs.c.job_id)
        .where(later.c.revision_id == own.c.revision_id, later.c.job_id > jobs.c.job_id)
        .correlate(jobs),
    )


def is_superseded(connection: Connection, job_id: int) -> bool:
    """Whether a newer answer takes the place of this job's; see `superseded`."""
    return bool(connection.execute(select(superseded()).select_from(jobs).where(jobs.c.job_id == job_id)).scalar_one())


def find(connection: Connection, job_id: int) -> Job | None:
    """One job, or None."""
    row = connection.execute(_query().where(jobs.c.job_id == job_id)).first()
    return None if row is None else _job(connection, row)


def list_jobs(connection: Connection, *, states: Sequence[str] = (), limit: int | None = None) -> list[Job]:
    """Jobs, those in work first, then in the order in which they will be taken, then the ended ones, newest first."""
    rank = case((jobs.c.state == "running", 0), (jobs.c.state == "waiting", 1), else_=2)
    query = _query().order_by(rank, jobs.c.ended_at.desc(), jobs.c.priority, jobs.c.created_at, jobs.c.job_id)
    if states:
        query = query.where(jobs.c.state.in_(states))
    return [_job(connection, row) for row in connection.execute(query.limit(limit)).all()]


def _held(job: Job) -> Update:
    return update(jobs).where(
        jobs.c.job_id == job.job_id, jobs.c.state == "running", jobs.c.fencing_token == job.fencing_token
    )


def _query() -> Select[Any]:
    return (
        select(
            jobs.c.job_id,
            jobs.c.revision_id,
            series.c.study_instance_uid,
            series.c.series_instance_uid,
            revisions.c.number.label("revision_number"),
            superseded().label("is_superseded"),
            decisions.c.rule,
            jobs.c.pipeline,
            jobs.c.priority,
            jobs.c.state,
            jobs.c.attempts,
            jobs.c.worker_deaths,
            jobs.c.fencing_token,
            jobs.c.lease_owner,
            jobs.c.lease_until,
            jobs.c.not_before,
            jobs.c.reason,
            jobs.c.created_at,
            jobs.c.started_at,
            jobs.c.ended_at,
        )
        .join(revisions, revisions.c.revision_id == jobs.c.revision_id)
        .join(series, series.c.series_instance_uid == revisions.c.series_instance_uid)
        .outerjoin(decisions, decisions.c.revision_id == jobs.c.revision_id)
    )


def _job(connection: Connection, row: Row[Any]) -> Job:
    query = (
        select(revisions.c.revision_id, revisions.c.series_instance_uid, revisions.c.number, revisions.c.digest)
        .join(job_revisions, job_revisions.c.revision_id == revisions.c.revision_id)
        .where(job_revisions.c.job_id == row.job_id)
        .order_by(revisions.c.series_instance_uid)
    )
    return Job(**row._mapping, reads=tuple(ReadRevision(*one) for one in connection.execute(query)))


def _of_job(job_id: int, *columns: ColumnElement[Any]) -> Select[Any]:
    """Columns of the instances that a job reads."""
    return (
        select(*columns)
        .select_from(job_revisions)
        .join(revisions, revisions.c.revision_id == job_revisions.c.revision_id)
        .join(
            instances,
            and_(
                instances.c.series_instance_uid == revisions.c.series_instance_uid,
                instances.c.revision_number <= revisions.c.number,
            ),
        )
        .where(job_revisions.c.job_id == job_id)
    )

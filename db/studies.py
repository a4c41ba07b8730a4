"""The worklist's view of the ledger: each study with its series and the one answer each of them got."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, Select, func, select

from db.schema import decisions, instances, job_revisions, jobs, results, revisions, series, studies

URGENCY = ("finding", "unsure", "reading", "queued", "receiving", "not_read", "clean", "ignored")
"""States of a series and so of a study, the one to look at first in front."""


@dataclass(frozen=True, slots=True)
class SeriesState:
    """The newest revision of one series. `reason` says why it was not read or ignored.

    Series that were read together as one study have one `outcome`; one of which every image was refused in it is
    `not_read`, or `ignored`, all the same.
    """

    series_instance_uid: str
    modality: str
    series_description: str
    revision_number: int
    instance_count: int
    state: str
    pipeline: str | None
    score: float | None
    reason: dict[str, Any] | None
    outcome: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class Study:
    """One study; its state is that of its most urgent series."""

    study_instance_uid: str
    patient_id: str
    patient_name: str
    accession_number: str
    study_date: str
    study_description: str
    first_received_at: datetime
    last_received_at: datetime
    state: str
    series: tuple[SeriesState, ...]


def list_studies(connection: Connection, *, limit: int | None = None) -> list[Study]:
    """The newest studies first."""
    query = select(studies).order_by(studies.c.last_received_at.desc()).limit(limit)
    return [_study(connection, row) for row in connection.execute(query).all()]


def find_study(connection: Connection, study_instance_uid: str) -> Study | None:
    """One study, or None."""
    row = connection.execute(select(studies).where(studies.c.study_instance_uid == study_instance_uid)).first()
    return None if row is None else _study(connection, row)


def last_received_at(connection: Connection, study_instance_uid: str) -> datetime:
    """When the last of a study's instances came."""
    query = select(studies.c.last_received_at).where(studies.c.study_instance_uid == study_instance_uid)
    found: datetime = connection.execute(query).scalar_one()
    return found


def study_of(connection: Connection, uid: str) -> str | None:
    """The study that a study, series or SOP instance UID belongs to, or None."""
    queries: Sequence[Select[str]] = (
        select(studies.c.study_instance_uid).where(studies.c.study_instance_uid == uid),
        select(series.c.study_instance_uid).where(series.c.series_instance_uid == uid),
        select(instances.c.study_instance_uid).where(instances.c.sop_instance_uid == uid),
    )
    return next((found for query in queries if (found := connection.execute(query).scalar()) is not None), None)


def _study(connection: Connection, row: Row[Any]) -> Study:
    held = _series_of(connection, row.study_instance_uid)
    state = min((one.state for one in held), key=URGENCY.index, default="receiving")
    return Study(**row._mapping, state=state, series=held)


def _series_of(connection: Connection, study_instance_uid: str) -> tuple[SeriesState, ...]:
    newest = (
        select(revisions.c.series_instance_uid, func.max(revisions.c.number).label("number"))
        .join(series, series.c.series_instance_uid == revisions.c.series_instance_uid)
        .where(series.c.study_instance_uid == study_instance_uid)
        .group_by(revisions.c.series_instance_uid)
        .subquery()
    )
    held = (
        select(func.count())
        .where(instances.c.series_instance_uid == revisions.c.series_instance_uid)
        .where(instances.c.revision_number <= revisions.c.number)
        .scalar_subquery()
    )
    newest_job = (
        select(func.max(job_revisions.c.job_id))
        .where(job_revisions.c.revision_id == revisions.c.revision_id)
        .scalar_subquery()
    )
    of_job = results.alias()
    newest_result = select(func.max(of_job.c.result_id)).where(of_job.c.job_id == jobs.c.job_id).scalar_subquery()
    query = (
        select(
            series,
            revisions.c.number,
            revisions.c.state.label("revision_state"),
            held.label("held"),
            decisions.c.action,
            decisions.c.pipeline,
            decisions.c.reason.label("decision_reason"),
            jobs.c.state.label("job_state"),
            jobs.c.reason.label("job_reason"),
            results.c.status,
            results.c.score,
            results.c.outcome,
        )
        .join(newest, newest.c.series_instance_uid == series.c.series_instance_uid)
        .join(
            revisions,
            (revisions.c.series_instance_uid == newest.c.series_instance_uid) & (revisions.c.number == newest.c.number),
        )
        .outerjoin(decisions, decisions.c.revision_id == revisions.c.revision_id)
        .outerjoin(jobs, jobs.c.job_id == newest_job)
        .outerjoin(results, results.c.result_id == newest_result)
        .order_by(series.c.series_instance_uid)
    )
    return tuple(_series_state(connection, row) for row in connection.execute(query).all())


def _series_state(connection: Connection, row: Row[Any]) -> SeriesState:
    refusal = _refusal(connection, row)
    return SeriesState(
        row.series_instance_uid,
        row.modality,
        row.series_description,
        row.number,
        row.held,
        _state(row) if refusal is None else refusal["action"],
        row.pipeline,
        row.score if refusal is None else None,
        (refusal["reason"] if refusal else None) or row.job_reason or row.decision_reason,
        row.outcome,
    )


def _refusal(connection: Connection, row: Row[Any]) -> dict[str, Any] | None:
    """What became of a series of which no image was read although its study was; None where one was."""
    refused = {one["sop_instance_uid"]: one for one in (row.outcome or {}).get("refused", ())}
    if not refused or row.status == "not_read":
        return None
    query = (
        select(instances.c.sop_instance_uid)
        .where(instances.c.series_instance_uid == row.series_instance_uid, instances.c.revision_number <= row.number)
        .order_by(instances.c.sop_instance_uid)
    )
    held = list(connection.execute(query).scalars())
    if not all(uid in refused for uid in held):
        return None
    # Of several that of an image which somebody should look at.
    result: dict[str, Any] = max((refused[uid] for uid in held), key=lambda one: one["action"] == "not_read")
    return result


def _state(row: Row[Any]) -> str:
    """The one word for where a series stands."""
    if row.revision_state == "receiving":
        return "receiving"
    if row.status is not None:
        return str(row.status)
    if row.action in ("ignored", "not_read"):
        return str(row.action)
    if row.job_state in ("not_read", "quarantined", "cancelled"):
        return "not_read"
    return "reading" if row.job_state == "running" else "queued"

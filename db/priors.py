"""The earlier answers on a patient: what a new series may be compared with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, select

from db.jobs import Job, members, superseded
from db.revisions import Member
from db.schema import jobs, results, revisions, series, studies

MOST_CANDIDATES = 3


@dataclass(frozen=True, slots=True)
class EarlierAnswer:
    """An answer on an earlier study of a patient; `members` are the instances that it was read from."""

    series_instance_uid: str
    study_date: str
    outcome: dict[str, Any]
    members: tuple[Member, ...]


def earlier_answers(connection: Connection, job: Job) -> tuple[EarlierAnswer, ...]:
    """What the pipeline of a job found in earlier studies of the same Patient ID, the newest study first.

    A study without a date has no earlier ones, and one without a Patient ID belongs to nobody. Whether two issuers mean
    the same patient by their Patient ID is left to the caller.
    """
    now = connection.execute(
        select(studies.c.patient_id, studies.c.study_date).where(studies.c.study_instance_uid == job.study_instance_uid)
    ).one()
    if not now.patient_id or not now.study_date:
        return ()
    query = (
        select(series.c.series_instance_uid, studies.c.study_date, results.c.outcome, results.c.job_id)
        .join(jobs, jobs.c.job_id == results.c.job_id)
        .join(revisions, revisions.c.revision_id == results.c.revision_id)
        .join(series, series.c.series_instance_uid == revisions.c.series_instance_uid)
        .join(studies, studies.c.study_instance_uid == series.c.study_instance_uid)
        .where(studies.c.patient_id == now.patient_id)
        .where(studies.c.study_date != "", studies.c.study_date < now.study_date)
        .where(results.c.pipeline == job.pipeline, results.c.status != "not_read", ~superseded())
        .order_by(studies.c.study_date.desc(), results.c.result_id.desc())
        .limit(MOST_CANDIDATES)
    )
    return tuple(
        EarlierAnswer(row.series_instance_uid, row.study_date, row.outcome, members(connection, row.job_id))
        for row in connection.execute(query).all()
    )

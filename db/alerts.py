"""Alerts, what happened to each, and the results that have not been asked for one yet."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Select, func, insert, select, update

from db.jobs import superseded
from db.schema import alert_events, alerts, instances, jobs, results, studies


@dataclass(frozen=True, slots=True)
class NewResult:
    """A result that the alert rules have not been asked about. `is_superseded`: a newer answer takes its place."""

    result_id: int
    study_instance_uid: str
    pipeline: str
    status: str
    score: float | None
    outcome: Mapping[str, Any]
    is_superseded: bool


@dataclass(frozen=True, slots=True)
class Earlier:
    """An alert that the same rule raised for the same study and pipeline, with the status and outcome of its result."""

    alert_id: int
    state: str
    status: str
    outcome: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Alert:
    """One alert with the result it tells of. `priority` is that of the job; `reason` that of the last failure."""

    alert_id: int
    result_id: int
    study_instance_uid: str
    rule: str
    state: str
    attempts: int
    next_attempt_at: datetime | None
    reason: Mapping[str, Any] | None
    raised_at: datetime
    delivered_at: datetime | None
    pipeline: str
    status: str
    score: float | None
    outcome: Mapping[str, Any]
    recorded_at: datetime
    priority: int
    patient_id: str
    patient_name: str
    accession_number: str


@dataclass(frozen=True, slots=True)
class AlertEvent:
    """One thing that happened to an alert. `channel` is named without its secrets."""

    event_id: int
    alert_id: int
    at: datetime
    event: str
    channel: str
    detail: str


def not_considered(connection: Connection) -> tuple[NewResult, ...]:
    """Results that the rules have not been asked about, in the order in which they came."""
    query = (
        select(
            results.c.result_id,
            results.c.study_instance_uid,
            results.c.pipeline,
            results.c.status,
            results.c.score,
            results.c.outcome,
            superseded().label("is_superseded"),
        )
        .join(jobs, jobs.c.job_id == results.c.job_id)
        .where(results.c.alert_considered_at.is_(None))
        .order_by(results.c.result_id)
    )
    return tuple(NewResult(**row._mapping) for row in connection.execute(query))


def mark_considered(connection: Connection, result_id: int, at: datetime) -> None:
    """The rules have been asked about this result."""
    connection.execute(update(results).where(results.c.result_id == result_id).values(alert_considered_at=at))


def earlier(connection: Connection, *, study_instance_uid: str, rule: str, pipeline: str) -> tuple[Earlier, ...]:
    """What this rule raised before for this study and pipeline."""
    query = (
        select(alerts.c.alert_id, alerts.c.state, results.c.status, results.c.outcome)
        .join(results, results.c.result_id == alerts.c.result_id)
        .where(alerts.c.study_instance_uid == study_instance_uid, alerts.c.rule == rule, results.c.pipeline == pipeline)
        .order_by(alerts.c.alert_id)
    )
    return tuple(Earlier(**row._mapping) for row in connection.execute(query))


def add(connection: Connection, *, result_id: int, study_instance_uid: str, rule: str, raised_at: datetime) -> int:
    """Raise an alert, to be sent at once. Gives its id."""
    added = connection.execute(
        insert(alerts)
        .values(
            result_id=result_id,
            study_instance_uid=study_instance_uid,
            rule=rule,
            state="raised",
            attempts=0,
            next_attempt_at=raised_at,
            raised_at=raised_at,
        )
        .returning(alerts.c.alert_id)
    )
    return int(added.scalar_one())


def first_due(connection: Connection, rule: str, now: datetime) -> Alert | None:
    """The due alert of a rule that goes first: by priority of its job, then by age."""
    query = (
        _query()
        .where(alerts.c.rule == rule, alerts.c.next_attempt_at <= now)
        .order_by(jobs.c.priority, alerts.c.alert_id)
        .limit(1)
    )
    return next(iter(_fetch(connection, query)), None)


def next_due(connection: Connection, rule: str) -> datetime | None:
    """When the next attempt of a rule is due; None when nothing waits."""
    return connection.execute(select(func.min(alerts.c.next_attempt_at)).where(alerts.c.rule == rule)).scalar()


def change(connection: Connection, alert_id: int, **values: Any) -> None:
    """Set columns of one alert."""
    connection.execute(update(alerts).where(alerts.c.alert_id == alert_id).values(**values))


def add_event(
    connection: Connection, alert_id: int, *, at: datetime, event: str, channel: str, detail: str = ""
) -> None:
    """Note what happened to an alert."""
    connection.execute(
        insert(alert_events).values(alert_id=alert_id, at=at, event=event, channel=channel, detail=detail)
    )


def events_of(connection: Connection, alert_id: int) -> tuple[AlertEvent, ...]:
    """Everything that happened to an alert, in order."""
    query = select(alert_events).where(alert_events.c.alert_id == alert_id).order_by(alert_events.c.event_id)
    return tuple(AlertEvent(**row._mapping) for row in connection.execute(query))


def file_of_instance(connection: Connection, sop_instance_uid: str) -> str | None:
    """Where the image that shows the finding lies below the spool, or None."""
    query = select(instances.c.file).where(instances.c.sop_instance_uid == sop_instance_uid)
    return connection.execute(query).scalar()


def list_alerts(
    connection: Connection, *, study_instance_uid: str = "", state: str = "", limit: int | None = None
) -> tuple[Alert, ...]:
    """The newest first; optionally of one study or in one state."""
    query = _query().order_by(alerts.c.alert_id.desc()).limit(limit)
    if study_instance_uid:
        query = query.where(alerts.c.study_instance_uid == study_instance_uid)
    if state:
        query = query.where(alerts.c.state == state)
    return _fetch(connection, query)


def find_alert(connection: Connection, alert_id: int) -> Alert | None:
    """One alert, or None."""
    return next(iter(_fetch(connection, _query().where(alerts.c.alert_id == alert_id))), None)


def _query() -> Select[Any]:
    return (
        select(
            alerts,
            results.c.pipeline,
            results.c.status,
            results.c.score,
            results.c.outcome,
            results.c.recorded_at,
            jobs.c.priority,
            studies.c.patient_id,
            studies.c.patient_name,
            studies.c.accession_number,
        )
        .join(results, results.c.result_id == alerts.c.result_id)
        .join(jobs, jobs.c.job_id == results.c.job_id)
        .join(studies, studies.c.study_instance_uid == alerts.c.study_instance_uid)
    )


def _fetch(connection: Connection, query: Select[Any]) -> tuple[Alert, ...]:
    return tuple(Alert(**row._mapping) for row in connection.execute(query))

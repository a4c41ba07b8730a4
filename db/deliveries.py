"""The outbox: one row for each object of a result and each destination it goes to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, Select, func, insert, select, update

from db.schema import deliveries, jobs, objects, results


@dataclass(frozen=True, slots=True)
class Delivery:
    """One object on its way to one destination. `file` lies below the spool; `reason` is that of the last failure."""

    delivery_id: int
    object_id: int
    result_id: int
    destination: str
    state: str
    attempts: int
    next_attempt_at: datetime | None
    status: int | None
    comment: str
    reason: Mapping[str, Any] | None
    created_at: datetime
    stored_at: datetime | None
    confirmed_at: datetime | None
    kind: str
    sop_class_uid: str
    sop_instance_uid: str
    series_instance_uid: str
    study_instance_uid: str
    file: str
    sha256: str
    pipeline: str


def add(
    connection: Connection, *, object_id: int, result_id: int, destinations: Sequence[str], created_at: datetime
) -> None:
    """Ask for an object to be delivered to each of the destinations."""
    for destination in destinations:
        connection.execute(
            insert(deliveries).values(
                object_id=object_id,
                result_id=result_id,
                destination=destination,
                state="pending",
                attempts=0,
                next_attempt_at=created_at,
                comment="",
                created_at=created_at,
            )
        )


def due_of_first_result(connection: Connection, destination: str, now: datetime) -> tuple[Delivery, ...]:
    """What is due at a destination of the one result that goes first: by priority of its job, then by age."""
    first = (
        select(deliveries.c.result_id)
        .join(results, results.c.result_id == deliveries.c.result_id)
        .join(jobs, jobs.c.job_id == results.c.job_id)
        .where(deliveries.c.destination == destination, deliveries.c.next_attempt_at <= now)
        .order_by(jobs.c.priority, deliveries.c.created_at, deliveries.c.delivery_id)
        .limit(1)
        .scalar_subquery()
    )
    return _fetch(connection, _due(destination, now).where(deliveries.c.result_id == first))


def due(connection: Connection, destination: str, now: datetime) -> tuple[Delivery, ...]:
    """Everything that is due at a destination."""
    return _fetch(connection, _due(destination, now))


def next_due(connection: Connection, destination: str) -> datetime | None:
    """When the next attempt at a destination is due; None when nothing waits."""
    query = select(func.min(deliveries.c.next_attempt_at)).where(deliveries.c.destination == destination)
    return connection.execute(query).scalar()


def change(connection: Connection, delivery_id: int, **values: Any) -> None:
    """Set columns of one delivery."""
    connection.execute(update(deliveries).where(deliveries.c.delivery_id == delivery_id).values(**values))


def bring_forward(connection: Connection, destination: str, now: datetime) -> None:
    """Make due at once what only waits because the destination could not be reached."""
    connection.execute(
        update(deliveries)
        .where(deliveries.c.destination == destination, deliveries.c.next_attempt_at > now)
        .where(deliveries.c.state == "pending", deliveries.c.status.is_(None))
        .values(next_attempt_at=now)
    )


def list_deliveries(
    connection: Connection, *, study_instance_uid: str = "", state: str = "", limit: int | None = None
) -> tuple[Delivery, ...]:
    """The newest first; optionally of one study or in one state."""
    query = _query().order_by(deliveries.c.delivery_id.desc()).limit(limit)
    if study_instance_uid:
        query = query.where(results.c.study_instance_uid == study_instance_uid)
    if state:
        query = query.where(deliveries.c.state == state)
    return _fetch(connection, query)


def find_delivery(connection: Connection, delivery_id: int) -> Delivery | None:
    """One delivery, or None."""
    return next(iter(_fetch(connection, _query().where(deliveries.c.delivery_id == delivery_id))), None)


def _query() -> Select[Any]:
    return (
        select(
            deliveries,
            objects.c.kind,
            objects.c.sop_class_uid,
            objects.c.sop_instance_uid,
            objects.c.series_instance_uid,
            results.c.study_instance_uid,
            objects.c.file,
            objects.c.sha256,
            results.c.pipeline,
        )
        .join(objects, objects.c.object_id == deliveries.c.object_id)
        .join(results, results.c.result_id == deliveries.c.result_id)
    )


def _due(destination: str, now: datetime) -> Select[Any]:
    return (
        _query()
        .where(deliveries.c.destination == destination, deliveries.c.next_attempt_at <= now)
        .order_by(deliveries.c.delivery_id)
    )


def _fetch(connection: Connection, query: Select[Any]) -> tuple[Delivery, ...]:
    return tuple(_delivery(row) for row in connection.execute(query))


def _delivery(row: Row[Any]) -> Delivery:
    return Delivery(**row._mapping)

"""The answers: what a reading gave, the objects that were built of it, and the models that were used."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, insert, select

from db.insert import insert_if_new
from db.schema import models, objects, results


@dataclass(frozen=True, slots=True)
class NewResult:
    """An answer to be recorded; `fencing_token` is that of the claim that it came from."""

    job_id: int
    fencing_token: int
    revision_id: int
    study_instance_uid: str
    pipeline: str
    status: str
    score: float | None
    outcome: Mapping[str, object]
    configuration_hash: str
    recorded_at: datetime


@dataclass(frozen=True, slots=True)
class Result:
    """An answer as the ledger holds it."""

    result_id: int
    job_id: int
    fencing_token: int
    revision_id: int
    study_instance_uid: str
    pipeline: str
    status: str
    score: float | None
    outcome: dict[str, Any]
    configuration_hash: str
    recorded_at: datetime
    alert_considered_at: datetime | None


@dataclass(frozen=True, slots=True)
class NewObject:
    """A built object whose file is durable already; `file` is its path below the spool."""

    kind: str
    sop_class_uid: str
    sop_instance_uid: str
    series_instance_uid: str
    file: str
    sha256: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Object:
    """A built object as the ledger holds it."""

    object_id: int
    result_id: int
    kind: str
    sop_class_uid: str
    sop_instance_uid: str
    series_instance_uid: str
    file: str
    sha256: str
    size_bytes: int


def add(connection: Connection, result: NewResult, built: Sequence[NewObject]) -> tuple[int, tuple[Object, ...]]:
    """Record an answer with its objects. Gives its number and the objects with theirs."""
    query = insert(results).values(**asdict(result)).returning(results.c.result_id)
    result_id = int(connection.execute(query).scalar_one())
    return result_id, tuple(_add_object(connection, result_id, one) for one in built)


def add_model(connection: Connection, *, name: str, version: str, sha256: str, now: datetime) -> None:
    """Remember that a model was used, if it was not before."""
    insert_if_new(connection, models, {"name": name, "version": version, "sha256": sha256, "first_used_at": now})


def find(connection: Connection, result_id: int) -> Result | None:
    """One answer, or None."""
    row = connection.execute(select(results).where(results.c.result_id == result_id)).first()
    return None if row is None else Result(**row._mapping)


def of_job(connection: Connection, job_id: int) -> Result | None:
    """The newest answer that a job gave: a job that is tried again by hand gives another one."""
    query = select(results).where(results.c.job_id == job_id).order_by(results.c.result_id.desc()).limit(1)
    row = connection.execute(query).first()
    return None if row is None else Result(**row._mapping)


def objects_of(connection: Connection, result_id: int) -> tuple[Object, ...]:
    """The objects of one answer, in the order in which they were built."""
    query = select(objects).where(objects.c.result_id == result_id).order_by(objects.c.object_id)
    return tuple(Object(**row._mapping) for row in connection.execute(query))


def _add_object(connection: Connection, result_id: int, built: NewObject) -> Object:
    values = {"result_id": result_id, **asdict(built)}
    object_id = connection.execute(insert(objects).values(**values).returning(objects.c.object_id)).scalar_one()
    return Object(object_id=int(object_id), **values)

"""Studies, their series, and the revisions of each series: what was received so far of a fixed list of instances."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, bindparam, insert, select, update

from db.insert import insert_if_new
from db.schema import revisions, series, studies


@dataclass(frozen=True, slots=True)
class Study:
    """A study as its first instance described it; text as in the data set, empty where it says nothing."""

    study_instance_uid: str
    patient_id: str
    patient_name: str
    accession_number: str
    study_date: str
    study_description: str


@dataclass(frozen=True, slots=True)
class Series:
    """A series as its first instance described it."""

    series_instance_uid: str
    study_instance_uid: str
    modality: str
    series_description: str


_STUDY_SEEN = (
    update(studies).where(studies.c.study_instance_uid == bindparam("uid")).values(last_received_at=bindparam("at"))
)
_STUDY_OF_SERIES = select(series.c.study_instance_uid).where(series.c.series_instance_uid == bindparam("uid"))
_NEWEST_REVISION = (
    select(revisions.c.number, revisions.c.state)
    .where(revisions.c.series_instance_uid == bindparam("uid"))
    .order_by(revisions.c.number.desc())
    .limit(1)
    .with_for_update()
)


def enter_study(connection: Connection, study: Study, at: datetime) -> None:
    """Note that an instance of this study came at `at`; the first one's description is kept."""
    if connection.execute(_STUDY_SEEN, {"uid": study.study_instance_uid, "at": at}).rowcount:
        return
    row = {name: getattr(study, name) for name in Study.__slots__} | {"first_received_at": at, "last_received_at": at}
    insert_if_new(connection, studies, row)


def study_of_series(connection: Connection, series_instance_uid: str) -> str | None:
    """The Study Instance UID under which the series is held; None when it is not held."""
    return connection.execute(_STUDY_OF_SERIES, {"uid": series_instance_uid}).scalar()


def enter_series(connection: Connection, entry: Series) -> bool:
    """Enter the series, whose study must stand; False when it stands already."""
    return insert_if_new(connection, series, {name: getattr(entry, name) for name in Series.__slots__})


@dataclass(frozen=True, slots=True)
class OpenRevision:
    """The revision that a new instance of a series belongs to, and whether it was opened for this one."""

    number: int
    opened: bool


def open_revision(connection: Connection, series_instance_uid: str, at: datetime) -> OpenRevision:
    """The series' newest revision while it is still receiving, else a further one, opened at `at`."""
    newest = connection.execute(_NEWEST_REVISION, {"uid": series_instance_uid}).first()
    if newest is not None and newest.state == "receiving":
        return OpenRevision(newest.number, opened=False)
    number = newest.number + 1 if newest is not None else 1
    row = {"series_instance_uid": series_instance_uid, "number": number, "state": "receiving", "opened_at": at}
    connection.execute(insert(revisions), row)
    return OpenRevision(number, opened=True)

"""The instances the node holds: one row for each SOP Instance UID, entered once its file is durable."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, bindparam, select

from db.insert import insert_if_new
from db.schema import instances


@dataclass(frozen=True, slots=True)
class Instance:
    """A held instance. `file` lies below the spool; `sha256` and `size_bytes` are of the data set as it came."""

    sop_instance_uid: str
    sop_class_uid: str
    series_instance_uid: str
    study_instance_uid: str
    revision_number: int
    association_id: str
    file: str
    sha256: str
    size_bytes: int
    transfer_syntax_uid: str
    received_at: datetime


_HELD = select(instances.c.sha256, instances.c.transfer_syntax_uid).where(
    instances.c.sop_instance_uid == bindparam("uid")
)


@dataclass(frozen=True, slots=True)
class HeldContent:
    """What tells whether an instance that comes again is the same."""

    sha256: str
    transfer_syntax_uid: str


def held_content(connection: Connection, sop_instance_uid: str) -> HeldContent | None:
    """The content held under this SOP Instance UID; None when there is none."""
    row = connection.execute(_HELD, {"uid": sop_instance_uid}).first()
    return HeldContent(*row) if row else None


def enter_instance(connection: Connection, instance: Instance) -> bool:
    """Enter the instance; False when another is held under its SOP Instance UID."""
    return insert_if_new(connection, instances, {name: getattr(instance, name) for name in Instance.__slots__})


def of_study(connection: Connection, study_instance_uid: str) -> list[Instance]:
    """Every held instance of a study, in the order in which they came."""
    columns = [instances.c[name] for name in Instance.__slots__]
    query = select(*columns).where(instances.c.study_instance_uid == study_instance_uid)
    return [Instance(*row) for row in connection.execute(query.order_by(instances.c.instance_id))]

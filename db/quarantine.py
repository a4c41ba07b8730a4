"""What was refused and kept: the bytes of a sender that could not be entered among the instances."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, insert, select

from db.schema import quarantine


@dataclass(frozen=True, slots=True)
class Quarantined:
    """One refused object. `file` lies below the spool; `reason` is the JSON of a row of the table of reasons."""

    at: datetime
    association_id: str | None
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    file: str
    sha256: str
    reason: Mapping[str, object]


def enter_quarantined(connection: Connection, entry: Quarantined) -> bool:
    """Enter a refused object; False when the same bytes stand there already for the same SOP Instance UID."""
    same = select(quarantine.c.quarantine_id).where(
        quarantine.c.sop_instance_uid == entry.sop_instance_uid, quarantine.c.sha256 == entry.sha256
    )
    if connection.execute(same).first() is not None:
        return False
    row = {name: getattr(entry, name) for name in Quarantined.__slots__}
    connection.execute(insert(quarantine), row | {"reason": dict(entry.reason)})
    return True


def list_quarantined(connection: Connection, limit: int | None = None) -> list[Quarantined]:
    """The newest first."""
    columns = [quarantine.c[name] for name in Quarantined.__slots__]
    query = select(*columns).order_by(quarantine.c.quarantine_id.desc()).limit(limit)
    return [Quarantined(*row) for row in connection.execute(query)]

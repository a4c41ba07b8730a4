"""Associations on which instances came: who called, and how the call ended."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from sqlalchemy import Connection, bindparam, update

from db.insert import insert_if_new
from db.schema import associations

End = Literal["released", "aborted", "lost"]


@dataclass(frozen=True, slots=True)
class Association:
    """A call that was accepted."""

    association_id: str
    receiver: str
    calling_ae_title: str
    called_ae_title: str
    peer_address: str
    opened_at: datetime


_ENDED = (
    update(associations)
    .where(associations.c.association_id == bindparam("id"), associations.c.ended_at.is_(None))
    .values(ended_at=bindparam("at"), ended_by=bindparam("how"))
)


def enter_association(connection: Connection, association: Association) -> None:
    """Enter the association; one that stands already is kept."""
    insert_if_new(connection, associations, {name: getattr(association, name) for name in Association.__slots__})


def end_association(connection: Connection, association_id: str, how: End, at: datetime) -> None:
    """Note how the association ended; the first end that is noted stands."""
    connection.execute(_ENDED, {"id": association_id, "at": at, "how": how})


def mark_lost(connection: Connection, receiver: str, at: datetime) -> int:
    """End what `receiver` left open when it died. Gives the number of associations."""
    query = update(associations).where(associations.c.receiver == receiver, associations.c.ended_at.is_(None))
    return connection.execute(query.values(ended_at=at, ended_by="lost")).rowcount

"""What was decided on each complete revision: which rule, which pipeline, why; the ignored ones too."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, exists, insert, select

from db.schema import decisions, instances, objects


@dataclass(frozen=True, slots=True)
class Decision:
    """One decision. `reason` is set when the revision is not read; `facts` is what the decision was made on."""

    decision_id: int
    revision_id: int
    action: str
    rule: str | None
    pipeline: str | None
    reason: dict[str, Any] | None
    facts: dict[str, Any]
    configuration_hash: str
    decided_at: datetime


def enter_decision(
    connection: Connection,
    *,
    revision_id: int,
    action: str,
    rule: str | None,
    pipeline: str | None,
    reason: Mapping[str, object] | None,
    facts: Mapping[str, object],
    configuration_hash: str,
    decided_at: datetime,
) -> None:
    """Record the decision on a revision; there is never more than one."""
    connection.execute(
        insert(decisions).values(
            revision_id=revision_id,
            action=action,
            rule=rule,
            pipeline=pipeline,
            reason=reason,
            facts=facts,
            configuration_hash=configuration_hash,
            decided_at=decided_at,
        )
    )


def decision_on(connection: Connection, revision_id: int) -> Decision | None:
    """The decision on a revision, or None before it."""
    row = connection.execute(select(decisions).where(decisions.c.revision_id == revision_id)).first()
    return None if row is None else Decision(*row)


def holds_own_results(connection: Connection, series_instance_uid: str) -> bool:
    """Whether an instance of the series is an object that this node made."""
    query = select(
        exists().where(
            instances.c.series_instance_uid == series_instance_uid,
            objects.c.sop_instance_uid == instances.c.sop_instance_uid,
        )
    )
    return bool(connection.execute(query).scalar())

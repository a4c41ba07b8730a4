"""How many of what are in which state."""

from __future__ import annotations

from sqlalchemy import Connection, func, select

from db.schema import alerts, deliveries, instances, jobs, quarantine, results, revisions, studies

_STATES = {
    "revisions": revisions.c.state,
    "jobs": jobs.c.state,
    "results": results.c.status,
    "deliveries": deliveries.c.state,
    "alerts": alerts.c.state,
}
_TOTALS = {"studies": studies, "instances": instances, "quarantine": quarantine}


def counts(connection: Connection) -> dict[str, dict[str, int]]:
    """Rows of each subject by state; subjects without states have a total."""
    totals = {
        subject: {"total": connection.execute(select(func.count()).select_from(table)).scalar_one()}
        for subject, table in _TOTALS.items()
    }
    by_state: dict[str, dict[str, int]] = {}
    for subject, column in _STATES.items():
        rows = connection.execute(select(column, func.count()).group_by(column).order_by(column))
        by_state[subject] = {state: count for state, count in rows}  # noqa: C416  rows are no tuples to the types
    return totals | by_state

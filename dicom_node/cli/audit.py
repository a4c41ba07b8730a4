"""`triage-node audit`: the audit trail."""

from __future__ import annotations

import click

from db import audit as trail
from dicom_node.audit.events import EVENTS
from dicom_node.cli.common import (
    ANSWER_IS_NO,
    ledger_of,
    print_json,
    print_rows,
    say,
    with_json,
    with_settings,
)
from dicom_node.settings import Settings


@click.group()
def audit() -> None:
    """Who did what, and when: an append-only trail whose events are chained by their hashes."""


@audit.command("list")
@click.option("--study", default="", metavar="UID", help="Only events of this study.")
@click.option("--event", default="", help="Only events whose name begins so, such as `delivery.`.")
@click.option("--after", default=0, metavar="NUMBER", help="Only events after this one.")
@click.option("--limit", type=click.IntRange(min=1), help="At most so many.")
@with_json
@with_settings
def list_(*, settings: Settings, study: str, event: str, after: int, limit: int | None, as_json: bool) -> None:
    """List events, oldest first."""
    with ledger_of(settings) as ledger, ledger.read() as connection:
        rows = list(trail.rows(connection, study_instance_uid=study, event=event, after=after, limit=limit))
    print_rows(rows, ("sequence", "at", "event", "outcome", "actor", "facts"), as_json=as_json, title="audit events")


@audit.command()
@with_json
@with_settings
def verify(*, settings: Settings, as_json: bool) -> None:
    """Check the chain from its first event to its last; exit 1 where it does not hold."""
    with ledger_of(settings) as ledger, ledger.read() as connection:
        count, last_hash, broken = trail.verify(connection)
    if as_json:
        problem = None if broken is None else {"sequence": broken.sequence, "problem": broken.problem}
        print_json({"holds": broken is None, "events": count, "last_hash": last_hash, "break": problem})
    elif broken is None:
        say(f"The chain of {count} events holds. Last hash: {last_hash}", "ok")
    else:
        say(f"The chain breaks at event {broken.sequence}: {broken.problem}.", "failed")
    if broken is not None:
        raise SystemExit(ANSWER_IS_NO)


@audit.command()
@with_json
def events(*, as_json: bool) -> None:
    """List the kinds of events there are."""
    rows = [{"event": name, "meaning": event.meaning, "event_id": event.event_id} for name, event in EVENTS.items()]
    print_rows(rows, ("event", "meaning", "event_id"), as_json=as_json, title="kinds of events")

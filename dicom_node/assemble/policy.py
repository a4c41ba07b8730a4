"""When a series counts as whole. Waiting for silence costs the patient time, so it is the last resort."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

Event = Literal["complete", "read", "supersede"]
CompletedBy = Literal["association_end", "quiet_time", "hard_limit"]

TRANSITIONS: dict[tuple[str, Event], str] = {
    ("receiving", "complete"): "complete",
    ("complete", "read"): "read",
    ("complete", "supersede"): "superseded",
    ("read", "supersede"): "superseded",
}
"""The life of a revision: (state, event) to state. What does not stand here does not happen."""


@dataclass(frozen=True, slots=True)
class RevisionFacts:
    """What is known of a revision that is being received.

    `first_received_at` and `last_received_at` concern the instances that are new in it. `ended_by` is None while an
    association that brought some of them is open, else how the one that ended last did: a sender that was cut off and
    tried again has said all it has to say by then. `is_whole` says that nothing speaks of a missing slice, and
    `may_come_one_by_one` that a slice came alone on its association, as from a sender that opens one for each image.
    """

    first_received_at: datetime
    last_received_at: datetime
    ended_by: str | None
    is_whole: bool
    may_come_one_by_one: bool


@dataclass(frozen=True, slots=True)
class Complete:
    """The revision is complete now, and why."""

    by: CompletedBy


@dataclass(frozen=True, slots=True)
class Wait:
    """The revision may still grow; look again at `until`, or when something changes."""

    until: datetime


def decide(facts: RevisionFacts, *, now: datetime, quiet_time_s: float, hard_limit_s: float) -> Complete | Wait:
    """Complete at once when the sender ended in order and nothing is missing; else after silence, or at the limit."""
    limit = facts.first_received_at + timedelta(seconds=hard_limit_s)
    quiet = facts.last_received_at + timedelta(seconds=quiet_time_s)
    if facts.ended_by == "released" and facts.is_whole and not facts.may_come_one_by_one:
        return Complete("association_end")
    if now >= quiet:
        return Complete("quiet_time")
    if now >= limit:
        return Complete("hard_limit")
    return Wait(min(quiet, limit))

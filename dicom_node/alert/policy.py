"""Decides of which result somebody is told, and what becomes of an alert."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import dicom_node.reasons  # noqa: F401  (enters the service's rows)
from pipelines.reasons import Reason

State = Literal["raised", "delivered", "acknowledged", "escalated", "withdrawn", "closed", "given_up"]
Event = Literal["taken", "expired"]

TRANSITIONS: dict[tuple[State, Event], State] = {
    ("raised", "taken"): "delivered",
    ("delivered", "taken"): "delivered",
    ("raised", "expired"): "given_up",
    ("delivered", "expired"): "delivered",
}
"""An alert is `delivered` when the first of its rule's channels took it; the others are tried further."""


def follow(state: str, event: Event) -> State:
    """The state after `event`. An event that cannot happen in this state is a programming error (`ValueError`)."""
    for (before, what), after in TRANSITIONS.items():
        if (before, what) == (state, event):
            return after
    raise ValueError(f"an alert that is {state} cannot be {event}")


URGENCY = {"not_read": 1, "unsure": 2, "finding": 3}
"""Of two results of a study the one with the greater number has more to tell. A clean one tells nothing."""

NEVER_ARRIVED = ("withdrawn", "given_up")


@dataclass(frozen=True, slots=True)
class Rule:
    """What a rule of service.toml asks for; no pipelines means every one."""

    pipelines: tuple[str, ...]
    statuses: tuple[str, ...]
    minimum_score: float


@dataclass(frozen=True, slots=True)
class EarlierAlert:
    """What the rule raised before for this study and pipeline; `status` is that of its result."""

    state: str
    status: str


@dataclass(frozen=True, slots=True)
class Facts:
    """A result, and what this rule told of its study before."""

    pipeline: str
    status: str
    score: float | None
    is_superseded: bool
    earlier: Sequence[EarlierAlert]


@dataclass(frozen=True, slots=True)
class Raise:
    """Somebody is to be told."""


@dataclass(frozen=True, slots=True)
class DoNot:
    """Nobody is told. `is_for_rule`: the rule asks for such results, so that the ledger should say why."""

    reason: Reason
    is_for_rule: bool


def decide(facts: Facts, rule: Rule) -> Raise | DoNot:
    """One alert for what a study shows, however many series or reruns show it; a more urgent result raises anew."""
    if facts.status not in rule.statuses or (rule.pipelines and facts.pipeline not in rule.pipelines):
        return DoNot(
            Reason("alert.not_in_rule", {"status": facts.status, "pipeline": facts.pipeline}), is_for_rule=False
        )
    if facts.score is not None and facts.score < rule.minimum_score:
        scores = {"score": round(facts.score, 4), "minimum_score": rule.minimum_score}
        return DoNot(Reason("alert.below_score", scores), is_for_rule=True)
    if facts.is_superseded:
        return DoNot(Reason("alert.superseded"), is_for_rule=True)
    told = [URGENCY[one.status] for one in facts.earlier if one.state not in NEVER_ARRIVED]
    if max(told, default=0) >= URGENCY[facts.status]:
        return DoNot(Reason("alert.already_raised"), is_for_rule=True)
    return Raise()

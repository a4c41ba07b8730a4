"""Decides of which result somebody is told, and what becomes of an alert."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import dicom_node.reasons  # noqa: F401  (enters the service's rows)
from pipelines import codes
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

LUNG_RADS_QUESTION = codes.LUNG_RADS.meaning
LUNG_RADS_CATEGORIES = tuple(category.meaning.split()[-1] for category in codes.LUNG_RADS_ORDER)
"""From the least to the most to be done: "1", "2", "0", "3", "4A", "4B", "4X"."""


@dataclass(frozen=True, slots=True)
class Rule:
    """What a rule of service.toml asks for; no pipelines means every one.

    A finding that a Lung-RADS category is suggested for is told from `lung_rads_from` on.
    """

    pipelines: tuple[str, ...]
    statuses: tuple[str, ...]
    minimum_score: float
    lung_rads_from: str = "4B"


@dataclass(frozen=True, slots=True)
class EarlierAlert:
    """What the rule raised before for this study and pipeline; `status` and `lung_rads` are those of its result."""

    state: str
    status: str
    lung_rads: str | None = None


@dataclass(frozen=True, slots=True)
class Facts:
    """A result, and what this rule told of its study before. `lung_rads` is the category suggested for it, if any."""

    pipeline: str
    status: str
    score: float | None
    is_superseded: bool
    earlier: Sequence[EarlierAlert]
    lung_rads: str | None = None


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
    if facts.lung_rads is not None and _place(facts.lung_rads) < _place(rule.lung_rads_from):
        categories = {"category": facts.lung_rads, "lung_rads_from": rule.lung_rads_from}
        return DoNot(Reason("alert.below_category", categories), is_for_rule=True)
    if facts.is_superseded:
        return DoNot(Reason("alert.superseded"), is_for_rule=True)
    told = [_urgency(one.status, one.lung_rads) for one in facts.earlier if one.state not in NEVER_ARRIVED]
    if told and max(told) >= _urgency(facts.status, facts.lung_rads):
        return DoNot(Reason("alert.already_raised"), is_for_rule=True)
    return Raise()


def lung_rads_of(outcome: Mapping[str, Any]) -> str | None:
    """The Lung-RADS category suggested for a result, from its JSON: the highest of its findings, such as "4A"."""
    answers = (finding.get("attributes", {}).get(LUNG_RADS_QUESTION) for finding in outcome.get("findings", ()))
    categories = [answer.split()[-1] for answer in answers if answer is not None]
    return max(categories, key=_place, default=None)


def _urgency(status: str, lung_rads: str | None) -> tuple[int, int]:
    """The more there is to tell, the greater."""
    return URGENCY[status], -1 if lung_rads is None else _place(lung_rads)


def _place(category: str) -> int:
    return LUNG_RADS_CATEGORIES.index(category)

"""Decides what becomes of an object on its way to a destination."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import dicom_node.reasons  # noqa: F401  (enters the service's rows)
from dicom_node.backoff import Patience
from pipelines.reasons import Reason

State = Literal["pending", "sent", "stored", "confirmed", "refused", "given_up", "not_sent"]
Event = Literal["sending", "accepted", "found", "put_back", "declined", "refused", "expired", "retry_asked"]

TRANSITIONS: dict[tuple[State, Event], State] = {
    ("pending", "sending"): "sent",
    ("pending", "declined"): "not_sent",
    ("pending", "refused"): "refused",
    ("pending", "expired"): "given_up",
    ("sent", "sending"): "sent",
    ("sent", "accepted"): "stored",
    ("sent", "found"): "confirmed",
    ("sent", "put_back"): "pending",
    ("sent", "declined"): "not_sent",
    ("sent", "refused"): "refused",
    ("sent", "expired"): "given_up",
    ("stored", "found"): "confirmed",
    ("stored", "expired"): "given_up",
    ("not_sent", "retry_asked"): "pending",
    ("refused", "retry_asked"): "pending",
    ("given_up", "retry_asked"): "pending",
}
"""`pending`: it cannot be at the destination. `sent`: it may be, the answer is not known. `stored`: it was accepted.
`not_sent`: the destination does without it."""


class TransitionError(ValueError):
    """This event cannot happen in this state."""


def follow(state: str, event: Event) -> State:
    """The state after `event`. Raises `TransitionError`."""
    for (before, what), after in TRANSITIONS.items():
        if (before, what) == (state, event):
            return after
    raise TransitionError(f"a delivery that is {state} cannot be {event}")


Verdict = Literal["accepted", "busy", "refused", "declined"]
"""`declined`: the destination does not take objects of this class at all."""


def judge(status: int) -> Verdict:
    """What a C-STORE status means to the sender (PS3.4, B.2.3; PS3.7, C).

    0000 and Bxxx are success, the latter with a remark. A7xx and 0213 say that resources are short just now. Everything
    else would be answered in the same way again.
    """
    if status == 0x0000 or 0xB000 <= status <= 0xBFFF:
        return "accepted"
    if 0xA700 <= status <= 0xA7FF or status == 0x0213:
        return "busy"
    return "refused"


_KEY_OBJECT_SELECTION = "1.2.840.10008.5.1.4.1.1.88.59"
_STRUCTURED_REPORTS = "1.2.840.10008.5.1.4.1.1.88."
_PRESENTATION_STATES = "1.2.840.10008.5.1.4.1.1.11."
OPTIONAL = ("mammography_cad_report", "presentation_state", "segmentation")
"""Kinds that say again, to those who can use it, what the report and the summary image say to everybody."""

Accepts = Literal["probe"] | tuple[str, ...]


def is_offered(accepts: Accepts, kind: str) -> bool:
    """Whether objects of this kind are offered to a destination at all."""
    return accepts == "probe" or kind in accepts


def not_asked_for(destination: str, accepts: Accepts, kind: str) -> Reason | None:
    """Why an object of this kind is not even offered to a destination, or None."""
    if is_offered(accepts, kind):
        return None
    return Reason("deliver.kind_not_listed", {"destination": destination, "kind": kind})


def after_declined(destination: str, accepts: Accepts, kind: str) -> tuple[Event, Reason]:
    """What follows when a destination does not take the class of an object.

    It may do without an optional kind that it never said it takes. Without the others a reader would be told nothing.
    """
    facts = {"destination": destination, "kind": kind}
    if accepts == "probe" and kind in OPTIONAL:
        return "declined", Reason("deliver.kind_not_taken", facts)
    return "refused", Reason("deliver.class_not_accepted", facts)


def sending_rank(sop_class_uid: str) -> int:
    """What goes first: pictures and segmentations, then what points at images, then reports, which refer to all of it.

    A reader who is told of the report then finds everything that it refers to.
    """
    if sop_class_uid == _KEY_OBJECT_SELECTION or sop_class_uid.startswith(_PRESENTATION_STATES):
        return 1
    return 2 if sop_class_uid.startswith(_STRUCTURED_REPORTS) else 0


@dataclass(frozen=True, slots=True)
class TryAgain:
    """The next attempt, at a time."""

    at: datetime


@dataclass(frozen=True, slots=True)
class GiveUp:
    """No further attempt; why stands in the reason."""

    reason: Reason


def after_failure(
    *, destination: str, accepted: bool, attempts: int, created_at: datetime, now: datetime, patience: Patience
) -> TryAgain | GiveUp:
    """What follows a failed attempt, the `attempts`-th. The last one falls on the deadline itself.

    `accepted` says that the destination took the object but could not show it when it was asked.
    """
    at = patience.next_attempt(attempts=attempts, since=created_at, now=now)
    if at is not None:
        return TryAgain(at)
    code = "deliver.not_confirmed" if accepted else "deliver.given_up"
    return GiveUp(Reason(code, {"destination": destination, "hours": patience.give_up_after_h}))

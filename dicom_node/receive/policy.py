"""What becomes of an instance that came whole: facts in, a frozen verdict out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from dicom_node.receive.header import Header
from pipelines.reasons import Reason

Fate = Literal["enter", "already_held", "quarantine"]


@dataclass(frozen=True, slots=True)
class Announced:
    """What the C-STORE request, or the file's meta information, says of the data set that follows it."""

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str


@dataclass(frozen=True, slots=True)
class Content:
    """What tells whether two data sets are the same."""

    sha256: str
    transfer_syntax_uid: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """`reason` is set when the instance is refused; the sender then gets its DIMSE status."""

    fate: Fate
    reason: Reason | None = None


def check_announcement(announced: Announced, header: Header) -> Reason | None:
    """The data set must be what it was announced as (PS3.4, Annex B.2.3: A900 otherwise)."""
    same = (announced.sop_class_uid, announced.sop_instance_uid) == (header.sop_class_uid, header.sop_instance_uid)
    return None if same else Reason("receive.class_mismatch")


def judge(came: Content, held: Content | None, study_instance_uid: str, study_of_series: str | None) -> Verdict:
    """Decide on an instance given what is held under its SOP Instance UID, and its series' study where that is known.

    A series that turns up under a second study would mix two patients in one reading, and is kept apart.
    """
    if held is not None:
        same = came == held
        return Verdict("already_held") if same else Verdict("quarantine", Reason("receive.duplicate_differs"))
    if study_of_series not in (None, study_instance_uid):
        return Verdict("quarantine", Reason("receive.series_in_other_study"))
    return Verdict("enter")


def comment(reason: Reason) -> str:
    """The Error Comment (0000,0902) for a reason: at most 64 characters of the default repertoire, no patient data."""
    text = "".join(character for character in reason.text if " " <= character <= "~" and character != "\\")
    if len(text) <= 64:
        return text
    return text[:61].rsplit(" ", 1)[0] + "..."

"""The words of an alert. By default they name no patient: a short token stands for the study."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from dicom_node.alert.catalogue import Message
from dicom_node.alert.policy import lung_rads_of
from pipelines import codes

STATUS_WORDS = {"finding": "finding", "unsure": "not sure", "not_read": "not read"}
DISCLAIMER = "For research use, not a medical device. Look at the images."
_MEASURES = {"volume_ml": "mL", "long_axis_mm": "mm long", "short_axis_mm": "mm short"}
_BI_RADS = {code.meaning: code.meaning.split()[0] for code in codes.BI_RADS_ORDER}


@dataclass(frozen=True, slots=True)
class Patient:
    """For rules that may carry patient data."""

    name: str
    patient_id: str
    accession_number: str


@dataclass(frozen=True, slots=True)
class Told:
    """What an alert tells. `outcome` is the result's JSON; `key_slices` maps its key instances to InstanceNumber."""

    study_token: str
    pipeline: str
    priority: str
    status: str
    score: float | None
    outcome: Mapping[str, Any]
    key_slices: Mapping[str, int]
    recorded_at: datetime
    ae_title: str
    patient: Patient | None


def compose(told: Told) -> Message:
    """The alert of one result."""
    answer = STATUS_WORDS[told.status] + ("" if told.score is None else f", {told.score:.0%}".replace("%", " %"))
    suggested = _suggested(told.outcome)
    if suggested is not None:
        answer += f", {suggested}"
    impression = told.outcome.get("impression")
    reason = told.outcome.get("reason") or {}
    lines = [
        f"Study {told.study_token}",
        *([] if told.patient is None else [_patient(told.patient)]),
        f"{told.pipeline}: {answer}",
        *([str(impression)] if impression else []),
        *([str(reason["text"])] if reason else []),
        *(f"- {_finding(finding, told.key_slices)}" for finding in told.outcome.get("findings", ())),
        *(f"Note: {warning['text']}" for warning in told.outcome.get("warnings", ())),
        f"Read {told.recorded_at:%Y-%m-%d %H:%M} UTC by {told.ae_title}, priority {told.priority}",
        DISCLAIMER,
    ]
    title = f"{told.priority.upper()} {told.pipeline}: {answer}"
    # What has a category is told within days, whichever it is: nobody's phone need ring for it.
    is_urgent = told.status == "finding" and suggested is None
    return Message(title, "\n".join(lines), "urgent" if is_urgent else "attention")


def compose_test(rule: str, ae_title: str, at: datetime) -> Message:
    """A message that says it is a test."""
    text = f"This is a test of the alert rule {rule} of {ae_title}, {at:%Y-%m-%d %H:%M} UTC. Nothing was found."
    return Message(f"TEST of alert rule {rule}", f"{text}\n{DISCLAIMER}", "information")


def in_a_line(finding: Mapping[str, Any]) -> str:
    """A finding of a result's JSON: label, view or side, what was measured, and the category suggested for it."""
    suggested = _suggested({"findings": [finding]})
    place = finding.get("view") or finding.get("side")
    parts: Sequence[str] = [
        str(finding["label"]),
        *([str(place)] if place else []),
        *([f"{finding['count']:.0f} calcifications"] if finding.get("count") is not None else []),
        *(f"{_rounded(finding[key])} {unit}" for key, unit in _MEASURES.items() if finding.get(key) is not None),
        *([] if suggested is None else [suggested]),
    ]
    return ", ".join(parts)


def _suggested(outcome: Mapping[str, Any]) -> str | None:
    """The category that is suggested for a result, in words: of its findings' the one that asks for the most."""
    category = lung_rads_of(outcome)
    if category is not None:
        return f"Lung-RADS {category} suggested"
    given = {finding.get("attributes", {}).get(codes.BI_RADS.meaning) for finding in outcome.get("findings", ())}
    assessed = [short for meaning, short in _BI_RADS.items() if meaning in given]
    return f"BI-RADS {assessed[-1]} suggested" if assessed else None


def _rounded(value: float) -> str:
    """To a tenth; what is less than one, such as a small nodule's mL, to a hundredth."""
    return f"{value:.1f}" if value >= 1 else f"{value:.2f}"


def _finding(finding: Mapping[str, Any], key_slices: Mapping[str, int]) -> str:
    uid = str(finding.get("key_instance_uid"))
    is_on_slice = uid in key_slices and not finding.get("view")
    return in_a_line(finding) + (f", slice {key_slices[uid]}" if is_on_slice else "")


def _patient(patient: Patient) -> str:
    return f"Patient {patient.name}, ID {patient.patient_id}, accession number {patient.accession_number or 'none'}"

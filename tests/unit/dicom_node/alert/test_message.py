from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from dicom_node.alert.message import DISCLAIMER, Patient, Told, compose, compose_test
from pipelines import codes
from tests.ledger_rows import FINDING, KEY_INSTANCE

TOLD = Told(
    study_token="a1b2c3d4e5",
    pipeline="hemorrhage",
    priority="stat",
    status="finding",
    score=0.934,
    outcome={"findings": [FINDING], "warnings": [{"text": "The gantry was tilted."}], "reason": None},
    key_slices={KEY_INSTANCE: 14},
    recorded_at=datetime(2026, 3, 1, 12, 0, tzinfo=UTC),
    ae_title="TRIAGE",
    patient=None,
)


def test_a_finding_is_told_in_full() -> None:
    message = compose(TOLD)
    assert message.title == "STAT hemorrhage: finding, 93 %"
    assert message.urgency == "urgent"
    assert message.text.splitlines() == [
        "Study a1b2c3d4e5",
        "hemorrhage: finding, 93 %",
        "- Subdural hemorrhage, left, 12.3 mL, slice 14",
        "Note: The gantry was tilted.",
        "Read 2026-03-01 12:00 UTC by TRIAGE, priority stat",
        DISCLAIMER,
    ]


def test_nodules_are_told_with_their_number_and_category_and_ring_no_phone() -> None:
    nodule = {
        "label": "Nodule",
        "side": "right",
        "volume_ml": 0.512,
        "long_axis_mm": 12.34,
        "short_axis_mm": 9.1,
        "attributes": {"Lung-RADS assessment": "Lung-RADS 4B"},
    }
    impression = "2 lung nodules, largest 12.3 x 9.1 mm solid, right; Lung-RADS 4B suggested"
    outcome = {"findings": [nodule, FINDING], "impression": impression}
    message = compose(replace(TOLD, pipeline="nodule", priority="routine", outcome=outcome))
    assert message.title == "ROUTINE nodule: finding, 93 %, Lung-RADS 4B suggested"
    assert message.urgency == "attention"
    lines = message.text.splitlines()
    assert impression in lines
    assert "- Nodule, right, 0.51 mL, 12.3 mm long, 9.1 mm short, Lung-RADS 4B suggested" in lines


def test_calcifications_are_told_with_their_view_and_category_and_ring_no_phone() -> None:
    cluster = {
        "label": "Calcification Cluster",
        "side": "right",
        "view": "R CC",
        "count": 12,
        "long_axis_mm": 8.4,
        "short_axis_mm": 5.0,
        "key_instance_uid": KEY_INSTANCE,
        "attributes": {"Assessment Category": "4B - Intermediate suspicion"},
    }
    benign = cluster | {"view": "L CC", "attributes": {"Assessment Category": codes.BI_RADS_2.meaning}}
    message = compose(replace(TOLD, pipeline="calcification", outcome={"findings": [benign, cluster]}))
    assert message.title == "STAT calcification: finding, 93 %, BI-RADS 4B suggested"
    assert message.urgency == "attention"
    told = "Calcification Cluster, R CC, 12 calcifications, 8.4 mm long, 5.0 mm short, BI-RADS 4B suggested"
    assert f"- {told}" in message.text.splitlines()


def test_what_is_not_known_is_left_out() -> None:
    bare = {"label": "Nodule", "side": None, "volume_ml": None, "key_instance_uid": KEY_INSTANCE}
    message = compose(replace(TOLD, outcome={"findings": [bare]}, key_slices={}))
    assert "- Nodule" in message.text.splitlines()


def test_what_was_not_read_is_told_with_its_reason() -> None:
    outcome = {"findings": [], "warnings": [], "reason": {"text": "The images do not show a head."}}
    message = compose(replace(TOLD, status="not_read", score=None, outcome=outcome, priority="urgent"))
    assert message.title == "URGENT hemorrhage: not read"
    assert message.urgency == "attention"
    assert "The images do not show a head." in message.text


def test_the_patient_is_named_only_when_given() -> None:
    patient = Patient("Test^Jörg", "T1", "A77")
    assert "Jörg" not in compose(TOLD).text
    assert "Patient Test^Jörg, ID T1, accession number A77" in compose(replace(TOLD, patient=patient)).text


def test_a_test_says_that_it_is_one() -> None:
    message = compose_test("oncall", "TRIAGE", TOLD.recorded_at)
    assert message.title.startswith("TEST") and "Nothing was found" in message.text

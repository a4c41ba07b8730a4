from __future__ import annotations

import pytest

import dicom_node.reasons  # noqa: F401  (enters the service's rows)
from dicom_node.receive.policy import Announced, Content, Verdict, check_announcement, comment, judge
from pipelines.reasons import TABLE, Reason
from tests.unit.dicom_node.receive.made import HEADER

CAME = Content("a" * 64, "1.2.840.10008.1.2.1")


@pytest.mark.parametrize(
    ("held", "study_of_series", "fate", "code"),
    [
        (None, None, "enter", None),
        (None, "1.1", "enter", None),
        (CAME, "1.1", "already_held", None),
        (Content("b" * 64, CAME.transfer_syntax_uid), "1.1", "quarantine", "receive.duplicate_differs"),
        (Content(CAME.sha256, "1.2.840.10008.1.2"), "1.1", "quarantine", "receive.duplicate_differs"),
        (None, "1.2", "quarantine", "receive.series_in_other_study"),
    ],
)
def test_the_fate_of_an_instance(
    held: Content | None, study_of_series: str | None, fate: str, code: str | None
) -> None:
    verdict = judge(CAME, held, "1.1", study_of_series)
    assert verdict == Verdict(fate, Reason(code) if code else None)  # type: ignore[arg-type]


def test_a_data_set_must_be_what_was_announced() -> None:
    announced = Announced(HEADER.sop_class_uid, HEADER.sop_instance_uid, "1.2.840.10008.1.2")
    assert check_announcement(announced, HEADER) is None
    for other in (Announced("1.2", announced.sop_instance_uid, ""), Announced(announced.sop_class_uid, "1.2", "")):
        assert check_announcement(other, HEADER) == Reason("receive.class_mismatch")


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("receive.disk_full", 0xA700),
        ("receive.storage_failed", 0xA700),
        ("receive.ledger_unavailable", 0xA700),
        ("receive.class_mismatch", 0xA900),
        ("receive.duplicate_differs", 0x0111),
        ("receive.data_set_unreadable", 0xC000),
        ("access.service_not_allowed", 0x0124),
    ],
)
def test_the_sender_gets_the_status_of_the_standard(code: str, status: int) -> None:
    assert TABLE[code].dimse_status == status


def test_a_comment_fits_the_error_comment() -> None:
    long = Reason("receive.storage_failed", {"detail": "x" * 40 + "\\ü " + "y" * 40})
    assert comment(long) == "The instance could not be written to the spool..."
    assert comment(Reason("receive.disk_full")) == "The disk of the spool is full."


@pytest.mark.parametrize(
    "code", [code for code, row in TABLE.items() if code.startswith("receive.") and "{" not in row.sentence]
)
def test_the_sentence_of_a_refusal_reaches_the_sender_whole(code: str) -> None:
    assert comment(Reason(code)) == TABLE[code].sentence

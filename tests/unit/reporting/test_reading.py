from __future__ import annotations

from copy import deepcopy
from io import BytesIO
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import Dataset, dcmread

from pipelines import codes
from pipelines.findings import Outcome
from pipelines.reasons import Refusal
from reporting.reading import KEYS, centers, read_report
from reporting.source import ReportCase
from tests.unit.reporting.cases import made_case
from tests.unit.reporting.conftest import build_once, made
from tests.unit.reporting.nodule_cases import NODULES, nodule_case


def objects(case: ReportCase) -> dict[str, Dataset]:
    return {built.kind: dcmread(BytesIO(built.content)) for built in build_once(case)}


def comparable(outcome: Outcome) -> list[dict[str, Any]]:
    """The findings as a report can tell them: rounded, without the place and the key image."""
    left_out = ("center_mm", "key_instance_uid", "key_frame", "label", "center_px", "partner_uid")
    return [{key: value for key, value in one.as_json().items() if key not in left_out} for one in outcome.findings]


def test_a_report_is_read_as_it_was_written(any_case: ReportCase) -> None:
    read = read_report(objects(any_case)["measurement_report"])
    assert read.looked_for == any_case.looked_for.value
    assert (read.study_instance_uid, f"{read.study_date:%Y%m%d}") == (
        any_case.headers[0].StudyInstanceUID,
        any_case.headers[0].StudyDate,
    )
    images: dict[str, set[str]] = {}
    for header in any_case.headers:
        images.setdefault(str(header.SeriesInstanceUID), set()).add(str(header.SOPInstanceUID))
    assert {key: set(held) for key, held in read.images.items()} == images
    expected = comparable(any_case.outcome)
    assert len(read.findings) == len(expected)
    for told, wanted in zip(read.findings, expected, strict=True):
        got = {key: value for key, value in told.items() if key != "label"}
        numbers = {key: value for key, value in wanted.items() if isinstance(value, float)}
        assert {key: got.pop(key) for key in numbers} == pytest.approx(numbers, abs=6e-4)
        assert got == {key: value for key, value in wanted.items() if key not in numbers}


def test_a_nodule_is_read_with_all_that_was_said_of_it() -> None:
    case = nodule_case(nodules=NODULES[:3])
    read = read_report(objects(case)["measurement_report"])
    growing, new, stable = read.findings
    assert growing["doubling_time_highest_d"] == 320.0
    assert growing["solid_long_axis_mm"] == pytest.approx(8.96)
    assert [one["attributes"]["Change since prior study"] for one in (growing, new, stable)] == [  # type: ignore[index]
        "Growing",
        "New",
        "Stable",
    ]
    assert [one["side"] for one in read.findings] == ["right", "left", "right"]


def test_every_measurement_of_the_table_of_codes_has_its_key() -> None:
    assert len(set(KEYS.values())) == len(KEYS)
    assert KEYS[codes.VOLUME] == "volume_ml"


@pytest.mark.parametrize("name", ["plain", "tilted", "anisotropic", "multi_frame"])
def test_a_segmentation_tells_where_each_finding_lies(name: str) -> None:
    case = made(name)
    found = centers(objects(case)["segmentation"])
    assert set(found) == {finding.tracking_uid for finding in case.segmented}
    for finding in case.segmented:
        assert found[finding.tracking_uid] == pytest.approx(finding.center_mm, abs=0.01)


def test_what_is_not_ours_is_refused() -> None:
    case = made_case()
    written = objects(case)
    foreign = deepcopy(written["measurement_report"])
    foreign.ManufacturerModelName = "another"
    del foreign.ContributingEquipmentSequence
    with pytest.raises(Refusal) as refusal:
        read_report(foreign)
    assert refusal.value.reason.code == "report.not_ours"
    with pytest.raises(Refusal):
        read_report(written["segmentation"])
    with pytest.raises(Refusal):
        centers(written["measurement_report"])


def _elements(dataset: Dataset) -> list[tuple[Dataset, Any]]:
    held = [(dataset, element.tag) for element in dataset]
    for element in dataset:
        if element.VR == "SQ":
            for item in element.value:
                held += _elements(item)
    return held


@given(st.data())
def test_a_damaged_report_is_read_or_refused(data: st.DataObject) -> None:
    report = deepcopy(objects(made("plain"))["measurement_report"])
    elements = _elements(report)
    for _ in range(data.draw(st.integers(1, 3))):
        holder, tag = data.draw(st.sampled_from(elements))
        if tag not in holder:
            continue
        if data.draw(st.booleans()):
            del holder[tag]
        else:
            holder[tag].value = [] if holder[tag].VR == "SQ" else None
    try:
        read = read_report(report)
    except Refusal as refusal:
        assert refusal.reason.code == "report.not_ours"
    else:
        assert all(one["tracking_uid"] for one in read.findings)

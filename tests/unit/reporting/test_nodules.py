"""Nodules in words, in the report, as segments, and on their page."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from io import BytesIO

import numpy as np
import pytest
from pydicom import Dataset, dcmread

from pipelines import codes
from pipelines.codes import Code
from pipelines.findings import Finding, Measurement, Outcome
from reporting import closeups, picture
from reporting.build import build
from reporting.catalogue import narratives
from reporting.frontal import seen_from_in_front
from reporting.objects import summary_image
from reporting.source import ReportCase
from tests.unit.reporting.cases import made_case
from tests.unit.reporting.conftest import build_once, made
from tests.unit.reporting.nodule_cases import NODULES, Chest, Nodule, chest_pixels, chest_planes, nodule_case

EN = narratives()["en"]
DAY = date(2025, 3, 1)


def finding_of(nodule: Nodule) -> Finding:
    return nodule_case(nodules=(nodule,)).outcome.findings[0]


def objects_of(case: ReportCase) -> dict[str, Dataset]:
    return {built.kind: dcmread(BytesIO(built.content)) for built in build_once(case)}


def groups_of(report: Dataset) -> list[Dataset]:
    return next(
        list(item.ContentSequence)
        for item in report.ContentSequence
        if item.ConceptNameCodeSequence[0].CodeValue == "126010"
    )


def answers_of(group: Dataset) -> dict[str, str]:
    """The coded evaluations of a measurement group."""
    return {
        item.ConceptNameCodeSequence[0].CodeMeaning: item.ConceptCodeSequence[0].CodeMeaning
        for item in group.ContentSequence
        if item.ValueType == "CODE"
    }


def texts_of(report: Dataset) -> list[str]:
    container = next(i for i in report.ContentSequence if i.ConceptNameCodeSequence[0].CodeValue == "C0034375")
    return [item.TextValue for item in container.ContentSequence]


@pytest.mark.parametrize(
    ("nodules", "sentence"),
    [
        (NODULES[1:2], "1 lung nodule, 17.0 x 13.6 mm solid, left; Lung-RADS 4B suggested"),
        (NODULES[:3], "3 lung nodules, largest 22.4 x 17.9 mm part-solid, right; Lung-RADS 4X suggested"),
        ((replace(NODULES[1], category=None),), "1 lung nodule, 17.0 x 13.6 mm solid, left"),
    ],
)
def test_the_impression_counts_nodules_and_suggests(nodules: tuple[Nodule, ...], sentence: str) -> None:
    assert EN.impression(nodule_case(nodules=nodules).outcome, codes.NODULE) == sentence


def test_what_is_not_found_or_not_sure_is_said_of_nodules() -> None:
    unsure = EN.impression(Outcome("unsure", 0.44), codes.NODULE)
    assert unsure == "Not sure about lung nodules (score 44%): read by eye"
    assert EN.impression(Outcome("clean", 0.034), codes.NODULE) == "No lung nodules found (score 3%)"


def test_a_nodule_in_full() -> None:
    assert EN.finding(1, finding_of(NODULES[0]), DAY) == (
        "Nodule 1, right: part-solid, 22.4 x 17.9 mm (mean 20.2), solid part 9.0 mm, 3.8 mL, Lung-RADS 4X suggested, "
        "growing, +85% since 2025-03-01, doubling time 210 d (150-320), non-calcified, upper third, mean 12 HU, "
        "mass 3813 mg, readers' impression of malignancy 62%, certainty 97%"
    )


@pytest.mark.parametrize(
    ("nodule", "change"),
    [
        (replace(NODULES[0], change=None), ""),
        (replace(NODULES[0], change=codes.NEW), "new since 2025-03-01"),
        (replace(NODULES[0], change=codes.STABLE), "stable, -3% since 2025-03-01"),
        (replace(NODULES[0], change=codes.GROWING), "growing, +85% since 2025-03-01"),
    ],
)
def test_what_became_of_a_nodule(nodule: Nodule, change: str) -> None:
    assert EN.change(finding_of(nodule), DAY) == change


def test_a_volume_is_in_cubic_millimeters_below_a_milliliter() -> None:
    finding = finding_of(NODULES[0])

    def of(volume_ml: float) -> str:
        measured = Measurement("volume_ml", codes.VOLUME, volume_ml, codes.CUBIC_CENTIMETER)
        return EN.volume(replace(finding, measurements=(measured,)))

    assert (of(0.5124), of(0.999), of(1.0)) == ("512 mm3", "999 mm3", "1.0 mL")


def test_what_was_not_measured_is_not_told() -> None:
    bare = replace(finding_of(NODULES[0]), measurements=(), attributes={}, side=None)
    assert EN.finding(2, bare) == "Nodule 2: certainty 97%"
    assert EN.impression(Outcome("finding", 0.9, (bare,)), codes.NODULE) == "1 lung nodule"


def test_the_report_holds_every_measurement_and_answer_of_each_nodule() -> None:
    case = made("nodules")
    groups = groups_of(objects_of(case)["measurement_report"])[1:]
    assert len(groups) == len(NODULES)
    for group, finding in zip(groups, case.outcome.findings, strict=True):
        numbers = {
            item.ConceptNameCodeSequence[0].CodeMeaning: (
                float(item.MeasuredValueSequence[0].NumericValue),
                item.MeasuredValueSequence[0].MeasurementUnitsCodeSequence[0].CodeValue,
            )
            for item in group.ContentSequence
            if item.ValueType == "NUM"
        }
        for measurement in finding.measurements:
            value, unit = numbers[measurement.name.meaning]
            assert (value, unit) == (pytest.approx(measurement.value, abs=5e-4), measurement.unit.value)
        assert (
            answers_of(group).items()
            >= {question.meaning: answer.meaning for question, answer in finding.attributes.items()}.items()
        )


def test_the_report_says_the_suggestion_its_edition_and_that_it_is_provisional() -> None:
    report = objects_of(made("nodules"))["measurement_report"]
    study = answers_of(groups_of(report)[0])
    assert study["Lung-RADS assessment"] == "Lung-RADS 4X"
    assert study["Nodule"] == "Present"
    said = " ".join(texts_of(report))
    assert "v2022" in said and "provisional" in said and "Compared with the study of 2025-03-01." in said


@pytest.mark.parametrize(
    ("category", "priority"),
    [
        (codes.LUNG_RADS_0, None),
        (codes.LUNG_RADS_1, None),
        (codes.LUNG_RADS_2, None),
        (codes.LUNG_RADS_3, None),
        (codes.LUNG_RADS_4A, codes.ACTIONABLE_DAYS),
        (codes.LUNG_RADS_4B, codes.ACTIONABLE_DAYS),
        (codes.LUNG_RADS_4X, codes.ACTIONABLE_DAYS),
        (None, codes.ACTIONABLE_DAYS),
    ],
)
def test_a_nodule_is_told_within_days_if_it_is_suspicious(category: Code | None, priority: Code | None) -> None:
    case = nodule_case(Chest(slices=20, size=48, step_mm=12.0), (replace(NODULES[0], category=category),))
    report = next(dcmread(BytesIO(one.content)) for one in build(case) if one.kind == "measurement_report")
    assert answers_of(groups_of(report)[0]).get("Priority") == (priority and priority.meaning)


def test_a_bleed_is_told_within_minutes() -> None:
    report = objects_of(made("plain"))["measurement_report"]
    assert answers_of(groups_of(report)[0])["Priority"] == codes.ACTIONABLE_MINUTES.meaning


def test_nodules_are_segments_of_their_own_in_the_lung() -> None:
    segments = objects_of(made("nodules"))["segmentation"].SegmentSequence
    assert [segment.SegmentLabel for segment in segments[:2]] == ["Nodule 1, right", "Nodule 2, left"]
    first, second = segments[:2]
    assert first.SegmentedPropertyTypeCodeSequence[0].CodeValue == "27925004"
    assert first.SegmentedPropertyCategoryCodeSequence[0].CodeValue == "49755003"
    region = first.AnatomicRegionSequence[0]
    assert (region.CodeValue, region.AnatomicRegionModifierSequence[0].CodeMeaning) == ("39607008", "Right")
    assert list(first.RecommendedDisplayCIELabValue) != list(second.RecommendedDisplayCIELabValue)


def test_a_shortened_description_does_not_change_the_category() -> None:
    assert objects_of(made("nodules"))["segmentation"].ContentDescription == (
        "12 lung nodules, largest 22.4 x 17.9 mm part-solid, right"
    )


def test_key_images_come_in_the_order_of_the_findings() -> None:
    case = made("nodules")
    selection = objects_of(case)["key_object_selection"]
    images = [item for item in selection.ContentSequence if item.ValueType == "IMAGE"]
    shown = [item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID for item in images]
    assert shown == list(dict.fromkeys(finding.key_instance_uid for finding in case.outcome.findings))


@pytest.mark.parametrize("chest", [Chest(), Chest(prone=True), Chest(feet_first=True), Chest(slices=12, step_mm=20.0)])
def test_the_view_from_in_front_shows_everything_at_its_place(chest: Chest) -> None:
    """A bright ball in the middle depth is seen where its centre is said to be, whichever way the stack runs."""
    ball = Nodule((-70.0, 0.0, 40.0), 30.0)
    case = nodule_case(chest, (ball,))
    frontal = seen_from_in_front(case, (0, 0, chest.size, chest.size), 200)
    empty = chest_pixels(chest_planes(chest), chest.size, ())
    without = seen_from_in_front(replace(case, pixels=empty), (0, 0, chest.size, chest.size), 200)
    brighter = np.clip(frontal.grey.astype(float) - without.grey, 0, None)
    rows, columns = np.indices(brighter.shape)
    seen = (float((columns * brighter).sum() / brighter.sum()), float((rows * brighter).sum() / brighter.sum()))
    assert np.subtract(seen, frontal.place(ball.center)) == pytest.approx([0, 0], abs=4 / frontal.pixel_mm)
    assert frontal.place((70.0, 0.0, 0.0))[0] > frontal.place((-70.0, 0.0, 0.0))[0]
    assert frontal.place((0.0, 0.0, 80.0))[1] < frontal.place((0.0, 0.0, -80.0))[1]


def test_the_view_from_in_front_is_in_true_proportion() -> None:
    for chest in (Chest(slices=60, step_mm=4.0), Chest(slices=15, step_mm=16.0)):
        case = nodule_case(chest, NODULES[:1])
        height, width = seen_from_in_front(case, (0, 0, chest.size, chest.size), 180).grey.shape
        assert height / width == pytest.approx(240 / 360, rel=0.02)


@pytest.mark.parametrize("prone", [False, True])
def test_an_upright_slice_has_the_right_side_on_the_left(prone: bool) -> None:
    case = nodule_case(Chest(prone=prone), NODULES[:1])
    k = picture.key_slice(case)
    panel = np.asarray(picture.slice_panel(case, k, picture.body_box(case, (k,)), 300, marked=True, upright=True))
    rows, columns = np.nonzero((panel == np.array(picture.AMBER)).all(axis=-1))
    assert columns.max() < 150 and rows.mean() < 150


@pytest.mark.parametrize(
    ("count", "numbers"),
    [(0, {0}), (1, {1}), (2, {1, 2}), (6, {1, 2, 3, 4, 5, 6}), (12, {1, 2, 3, 4, 5, 6})],
)
def test_the_row_shows_the_first_findings_and_their_key_slices(count: int, numbers: set[int]) -> None:
    case = nodule_case(nodules=NODULES[:count], status="finding" if count else "clean")
    shown = closeups.tiles(case)
    assert {number for number, _ in shown} == numbers
    assert len(shown) <= closeups.TILES
    for number in numbers - {0}:
        key = case.outcome.findings[number - 1].key_instance_uid
        assert key in {case.headers[k].SOPInstanceUID for one, k in shown if one == number}


@pytest.mark.parametrize("name", ["nodules", "nodules_prone", "no_nodules"])
def test_the_page_is_the_same_each_time_and_marks_only_what_was_found(name: str) -> None:
    case = made(name)
    first = np.asarray(summary_image.draw_summary(case, EN))
    assert first.shape == (900, 1200, 3)
    assert (first == np.asarray(summary_image.draw_summary(case, EN))).all()
    marked = (first[104:740, 20:] == np.array(picture.AMBER)).all(axis=-1).any()
    assert marked == bool(case.outcome.findings)


def test_a_stack_of_one_slice_has_a_page() -> None:
    case = nodule_case(Chest(slices=1, step_mm=5.0), (replace(NODULES[0], center=(-60.0, -20.0, 0.0)),))
    assert summary_image.draw_summary(case, EN).size == (1200, 900)


def test_what_is_looked_for_decides_the_page() -> None:
    assert summary_image.LAYOUTS[codes.NODULE] is closeups.draw_closeups
    assert codes.INTRACRANIAL_HEMORRHAGE not in summary_image.LAYOUTS
    case = made_case()
    page = summary_image.draw_summary(case, EN)
    assert page.tobytes() == summary_image.draw_slices(case, EN).tobytes()

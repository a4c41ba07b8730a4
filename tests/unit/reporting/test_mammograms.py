"""Groups of calcifications in words, in the measurement report, among the key images and on their page."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
from pydicom import Dataset, dcmread

from pipelines import codes
from pipelines.findings import Outcome
from pipelines.mammogram import RefusedView, Spacing
from pipelines.reasons import Reason
from reporting import hanging, picture
from reporting.build import build
from reporting.catalogue import narratives
from reporting.objects import summary_image
from reporting.source import ReportCase
from tests.unit.reporting.conftest import build_once, made
from tests.unit.reporting.mammogram_cases import (
    ALONE,
    FOUR,
    GROUPS,
    PAIR,
    Group,
    Look,
    mammogram,
    mammography_case,
    of_view,
    refused_view,
)

EN = narratives()["en"]


def objects_of(case: ReportCase) -> dict[str, Dataset]:
    return {built.kind: dcmread(BytesIO(built.content)) for built in build_once(case)}


def groups_of(report: Dataset) -> list[Dataset]:
    return next(
        list(item.ContentSequence)
        for item in report.ContentSequence
        if item.ConceptNameCodeSequence[0].CodeValue == "126010"
    )


def answers_of(group: Dataset) -> dict[str, str]:
    return {
        item.ConceptNameCodeSequence[0].CodeMeaning: item.ConceptCodeSequence[0].CodeMeaning
        for item in group.ContentSequence
        if item.ValueType == "CODE"
    }


def texts_of(report: Dataset) -> str:
    container = next(i for i in report.ContentSequence if i.ConceptNameCodeSequence[0].CodeValue == "C0034375")
    return " ".join(item.TextValue for item in container.ContentSequence)


def amber(image: object) -> np.ndarray:
    return (np.asarray(image) == np.array(picture.AMBER)).all(axis=-1)


# Words


def test_the_impression_counts_groups_not_views_and_names_the_one_of_most_concern() -> None:
    assert EN.impression(mammography_case().outcome, codes.CALCIFICATION_CLUSTER) == (
        "1 group of calcifications, 26.7 x 18.7 mm fine pleomorphic, right; BI-RADS 4B suggested"
    )
    assert EN.impression(mammography_case(groups=GROUPS).outcome, codes.CALCIFICATION_CLUSTER) == (
        "3 groups of calcifications, first 26.7 x 18.7 mm fine pleomorphic, right; BI-RADS 4B suggested"
    )


@pytest.mark.parametrize(
    ("outcome", "sentence"),
    [
        (Outcome("clean", 0.034), "No groups of calcifications found (score 3%)"),
        (Outcome("unsure", 0.44), "Not sure about groups of calcifications (score 44%): read by eye"),
    ],
)
def test_what_is_not_found_or_not_sure_is_said(outcome: Outcome, sentence: str) -> None:
    assert EN.impression(outcome, codes.CALCIFICATION_CLUSTER) == sentence


def test_a_group_in_full() -> None:
    case = mammography_case()
    assert EN.finding(1, case.outcome.findings[1]) == (
        "Group 1, R MLO: fine pleomorphic, 27.6 x 19.3 mm, BI-RADS 4B suggested, grouped, upper outer quadrant, "
        "middle third, 12 calcifications, seen on both views, certainty 84%"
    )


@pytest.mark.parametrize("name", [name for name in vars(codes) if name.startswith("BI_RADS_") and name[-1] != "R"])
def test_every_category_is_called_by_its_name(name: str) -> None:
    case = mammography_case(("R MLO",), (replace(ALONE, category=getattr(codes, name)),))
    assert f"BI-RADS {name.removeprefix('BI_RADS_')} suggested" in EN.finding(1, case.outcome.findings[0])


def test_a_suggestion_is_never_told_as_an_assessment() -> None:
    [sentence] = EN.assessed(Outcome("clean", 0.1), codes.CALCIFICATION_CLUSTER, codes.BI_RADS_1)
    assert "BI-RADS 1 is suggested" in sentence and "not an assessment" in sentence
    assert EN.assessed(Outcome("clean", 0.1), codes.CALCIFICATION_CLUSTER, None) == []


def test_it_is_told_how_each_view_was_measured() -> None:
    case = of_view(mammography_case(), "L MLO", spacing=Spacing(0.07, 0.07, "detector"))
    first, second = EN.measured_how(case.outcome, case.study)
    assert first.startswith("Sizes on R CC, L CC, R MLO:") and "magnification factor" in first
    assert second.startswith("Sizes on L MLO:") and "taken to lie on the detector" in second
    assert EN.measured_how(Outcome("clean", 0.1), case.study) == []


def test_findings_that_are_taken_for_one_have_one_number() -> None:
    names = [group.name for group in GROUPS]
    assert dict(zip(names, mammography_case(groups=GROUPS).outcome.numbers, strict=True)) == {
        "a cc": 1, "a mlo": 1, "b": 2, "c": 3,
    }  # fmt: skip
    apart = (PAIR[0], GROUPS[2], PAIR[1])
    assert mammography_case(groups=apart).outcome.numbers == (1, 2, 1)


# Measurement report


def test_each_finding_is_a_group_with_its_outline_on_its_image() -> None:
    case = made("mammograms")
    report = objects_of(case)["measurement_report"]
    study, *groups = groups_of(report)
    assert study.ContentTemplateSequence[0].TemplateIdentifier == "1501"
    for group, finding in zip(groups, case.outcome.findings, strict=True):
        assert group.ContentTemplateSequence[0].TemplateIdentifier == "1410"
        [region] = [item for item in group.ContentSequence if item.ValueType == "SCOORD"]
        assert region.GraphicType == "POLYLINE"
        points = np.asarray(region.GraphicData).reshape(-1, 2)
        assert points[:-1] == pytest.approx(np.asarray(finding.region.points))
        assert (points[0] == points[-1]).all()
        [image] = region.ContentSequence
        assert image.RelationshipType == "SELECTED FROM"
        assert image.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == finding.key_instance_uid


def test_a_group_says_side_view_and_all_that_is_known() -> None:
    case = made("mammograms")
    _, group, *_ = groups_of(objects_of(case)["measurement_report"])
    told = answers_of(group)
    assert told["Image View"] == "cranio-caudal"
    assert told["Assessment Category"] == "4B - Intermediate suspicion"
    assert told["Calcification Type"] == "Fine pleomorphic calcification"
    assert told["Finding Site"] == "Breast"
    [site] = [item for item in group.ContentSequence if item.ConceptNameCodeSequence[0].CodeMeaning == "Finding Site"]
    assert site.ContentSequence[0].ConceptCodeSequence[0].CodeMeaning == "Right"


def test_the_report_is_of_a_mammography_and_answers_for_the_study() -> None:
    report = objects_of(made("mammograms"))["measurement_report"]
    [procedure] = [i for i in report.ContentSequence if i.ConceptNameCodeSequence[0].CodeValue == "121058"]
    assert procedure.ConceptCodeSequence[0].CodeMeaning == "Mammography"
    told = answers_of(groups_of(report)[0])
    assert told["Calcification Cluster"] == "Present"
    assert told["Assessment Category"] == "4B - Intermediate suspicion"
    assert "not an assessment" in texts_of(report)
    clean = answers_of(groups_of(objects_of(made("no_groups"))["measurement_report"])[0])
    assert (clean["Calcification Cluster"], clean["Assessment Category"]) == ("Absent", "1 - Negative")


def test_what_was_refused_is_said_with_its_reason() -> None:
    report = objects_of(made("partly_refused"))["measurement_report"]
    assert f"L MLO was not read: {Reason('input.truncated').text}" in texts_of(report)


@pytest.mark.parametrize(
    ("category", "priority"),
    [
        (codes.BI_RADS_2, None),
        (codes.BI_RADS_3, None),
        (codes.BI_RADS_4A, codes.ACTIONABLE_DAYS),
        (codes.BI_RADS_4C, codes.ACTIONABLE_DAYS),
        (codes.BI_RADS_5, codes.ACTIONABLE_DAYS),
        (None, codes.ACTIONABLE_DAYS),
    ],
)
def test_a_group_is_told_within_days_if_it_is_suspicious(category, priority) -> None:
    case = mammography_case(("R MLO",), (replace(ALONE, category=category),))
    report = next(dcmread(BytesIO(one.content)) for one in build(case) if one.kind == "measurement_report")
    assert answers_of(groups_of(report)[0]).get("Priority") == (priority and priority.meaning)


def test_key_images_are_the_views_with_findings() -> None:
    case = made("partly_refused")
    selection = objects_of(case)["key_object_selection"]
    images = [item for item in selection.ContentSequence if item.ValueType == "IMAGE"]
    shown = [item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID for item in images]
    assert shown == [case.headers[0].SOPInstanceUID, case.headers[2].SOPInstanceUID]
    assert all("ReferencedFrameNumber" not in item.ReferencedSOPSequence[0] for item in images)


def test_projections_have_no_segmentation() -> None:
    assert "segmentation" not in {built.kind for built in build_once(made("mammograms"))}


@pytest.mark.parametrize(("views", "side"), [(FOUR, "B"), (("R CC", "R MLO"), "R"), (("L MLO",), "L")])
def test_the_summary_says_which_breasts_it_shows(views: tuple[str, ...], side: str) -> None:
    case = mammography_case(views, (), status="clean")
    summary = next(dcmread(BytesIO(one.content)) for one in build(case) if one.kind == "summary_image")
    assert summary.ImageLaterality == side


# The page


@pytest.mark.parametrize("mirrored", [False, True])
def test_views_hang_back_to_back_however_they_are_stored(mirrored: bool) -> None:
    for name in FOUR:
        view = mammogram(name, Look(mirrored=mirrored))
        hung = hanging.turned(view).image((0, 0, *view.pixels.shape))
        wall = hung[:, -1] if view.laterality == "R" else hung[:, 0]
        skin = hung[:, 0] if view.laterality == "R" else hung[:, -1]
        assert wall.mean() > skin.mean()


@pytest.mark.parametrize(
    ("name", "down", "upside_down"),
    [
        ("R MLO", "F", False), ("R MLO", "FL", False), ("R MLO", "H", True), ("R MLO", "HR", True),
        ("R CC", "L", False), ("R CC", "R", True), ("L CC", "R", False), ("L CC", "L", True),
    ],
)  # fmt: skip
def test_views_hang_head_up_or_outer_side_up(name: str, down: str, upside_down: bool) -> None:
    view = mammogram(name)
    view.header.PatientOrientation = ["P", down]
    assert hanging.turned(view).rows == upside_down
    del view.header.PatientOrientation
    assert not hanging.turned(view).rows


@pytest.mark.parametrize("columns", [False, True])
@pytest.mark.parametrize("rows", [False, True])
def test_a_place_stays_where_its_pixel_is(columns: bool, rows: bool) -> None:
    view = mammogram("L CC")
    pixels = np.zeros_like(view.pixels)
    pixels[60, 40] = 1.0
    hung = hanging.Turned(replace(view, pixels=pixels), columns, rows)
    box = (50, 20, 90, 100)
    row, column = np.argwhere(hung.image(box) == 1.0)[0]
    assert hung.points([(40.5, 60.5)], box)[0] == pytest.approx((column + 0.5, row + 0.5))


def test_a_view_is_cut_to_the_breast_without_letters() -> None:
    view = mammogram("L CC")
    pixels = view.pixels.copy()
    whole = hanging.breast_box(view)
    pixels[2:8, 150:160] = 1.0
    assert hanging.breast_box(replace(view, pixels=pixels)) == whole
    assert whole[1] == 0
    dark = replace(view, pixels=np.zeros_like(pixels))
    assert hanging.breast_box(dark) == (0, 0, *pixels.shape)


@pytest.mark.parametrize(
    "name", ["mammograms", "no_groups", "one_view", "partly_refused", "unsure_mammograms", "voi_lut"]
)
def test_the_page_is_the_same_each_time(name: str) -> None:
    case = made(name)
    first = np.asarray(summary_image.draw_summary(case, EN))
    assert first.shape == (900, 1200, 3)
    assert (first == np.asarray(summary_image.draw_summary(case, EN))).all()


def test_marks_are_where_the_grains_are() -> None:
    """The group is in the outer half of the right breast: on the page left of the middle of its panel, above it."""
    case = mammography_case(("R CC", "L CC"), (Group("g", "R CC", (0.7, 0.3)),))
    page = amber(summary_image.draw_summary(case, EN))
    left, top = hanging.LEFT, hanging.TOP
    panel = page[top : top + hanging.BESIDE_INSETS, left : left + hanging.PANEL_WIDTH]
    rows, columns = np.nonzero(panel)
    assert columns.max() < hanging.PANEL_WIDTH / 2 and rows.max() < hanging.BESIDE_INSETS / 2
    other = page[top : top + hanging.BESIDE_INSETS, left + hanging.PANEL_WIDTH + hanging.BETWEEN : hanging.INSETS - 1]
    assert not other.any()


def test_only_what_was_found_is_marked() -> None:
    page = amber(summary_image.draw_summary(made("no_groups"), EN))
    assert not page[hanging.TOP : 792, 20:].any()


def test_the_places_of_missing_and_refused_views_say_so() -> None:
    refused = refused_view("R CC")
    case = mammography_case(("R MLO",), (), status="clean", refused=(refused,))
    slots = {name: hanging.slot_of(case, EN, name) for row in hanging.HANGING for name in row}
    assert slots["R CC"].refused is refused and slots["R CC"].view is None
    assert slots["L CC"].refused is None and slots["L CC"].view is None
    assert slots["R MLO"].view is not None
    page = np.asarray(summary_image.draw_summary(case, EN))
    assert amber(page[hanging.TOP : 792]).any()


def test_a_whole_view_hangs_before_a_spot_view_and_a_read_one_before_a_refused_one() -> None:
    case = mammography_case(FOUR, (), status="clean", refused=(refused_view("R CC"),))
    assert case.study is not None
    spot = replace(case.study.views[0], modifiers=frozenset({codes.SPOT_COMPRESSION}), instance_uid="2.25.5")
    study = replace(case.study, views=(spot, *case.study.views))
    slot = hanging.slot_of(replace(case, study=study), EN, "R CC")
    assert slot.view is case.study.views[0] and slot.refused is None


@pytest.mark.parametrize(("count", "shown"), [(0, 0), (1, 1), (2, 2), (4, 4), (6, 4)])
def test_the_groups_of_most_concern_are_magnified(count: int, shown: int) -> None:
    groups = tuple(Group(str(k), "R CC", (0.3 + 0.08 * k, 0.5), 3.0, 4) for k in range(count))
    case = mammography_case(groups=groups, status="finding" if groups else "clean")
    assert [placed.number for placed in hanging.insets(case)] == list(range(1, shown + 1))
    summary_image.draw_summary(case, EN)


def test_both_views_of_a_group_are_magnified_together() -> None:
    case = mammography_case(groups=(PAIR[0], GROUPS[2], PAIR[1]))
    assert [(placed.number, placed.view.name) for placed in hanging.insets(case)] == [
        (1, "R CC"), (1, "R MLO"), (2, "L CC"),
    ]  # fmt: skip


def test_an_inset_shows_every_grain_as_bright_as_it_is() -> None:
    """One pixel of the image takes a whole number of pixels of the page, and nothing is drawn over the grains."""
    case = mammography_case(("R MLO",), (replace(ALONE, radius_mm=15.0),))
    page = np.asarray(summary_image.draw_summary(case, EN))[hanging.TOP : 720, hanging.INSETS : 1176]
    bright = (page.astype(int).min(axis=-1) > 180).sum()
    assert bright >= 9 * 4


def test_what_has_no_place_on_the_page_is_said() -> None:
    unnamed = RefusedView("2.25.7", Reason("input.not_dicom"))
    case = mammography_case((*FOUR, "R ML"), (), status="clean", refused=(unnamed,))
    slots = [[hanging.slot_of(case, EN, name) for name in row] for row in hanging.HANGING]
    assert hanging._besides(case, EN, slots, []) == [
        "Also read: R ML.",
        f"An image was not read: {Reason('input.not_dicom').text}",
    ]

"""The Mammography CAD SR: what it says, and that a tree that is not of TID 4000 is not sent."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import replace
from functools import cache
from io import BytesIO
from itertools import pairwise

import pytest
from pydicom import Dataset, dcmread
from pydicom.sequence import Sequence

from pipelines import codes
from pipelines.codes import Code
from pipelines.mammogram import RefusedView
from pipelines.reasons import Reason
from reporting.build import build
from reporting.catalogue import narratives, objects
from reporting.check.check import check
from reporting.check.mammography_cad import mammography_cad_faults
from reporting.objects.mammography_cad_report import SINGLE_CALCIFICATIONS
from reporting.reasons import ReportError
from reporting.source import ReportCase
from tests.unit.reporting.cases import made_case
from tests.unit.reporting.mammogram_cases import (
    ALONE,
    FOUR,
    GROUPS,
    PAIR,
    Look,
    mammogram,
    mammography_case,
    refused_view,
    tracking,
)

KIND = "mammography_cad_report"
LIBRARY, SUMMARY, DETECTIONS, ANALYSES = 1, 2, 3, 4
"""Places among the root's children."""


def cad_report(case: ReportCase) -> Dataset:
    [report] = objects()[KIND].build(case, narratives()["en"])
    return report


@cache
def sound() -> tuple[ReportCase, Dataset]:
    case = mammography_case(FOUR[:3], (*PAIR, GROUPS[2]), refused=(refused_view("L MLO"),))
    return case, cad_report(case)


def children(item: Dataset) -> list[Dataset]:
    return list(item.get("ContentSequence") or ())


def name(item: Dataset) -> str:
    names = item.get("ConceptNameCodeSequence")
    return names[0].CodeMeaning if names else ""


def value(item: Dataset) -> object:
    if item.ValueType == "CODE":
        return item.ConceptCodeSequence[0].CodeMeaning
    if item.ValueType == "NUM":
        return float(item.MeasuredValueSequence[0].NumericValue)
    return item.get("TextValue") or item.get("UID") or item.get("Date") or item.get("Time")


def said(item: Dataset) -> dict[str, object]:
    """The answers directly below an item, by their names."""
    return {name(child): value(child) for child in children(item) if "ConceptNameCodeSequence" in child}


def below(item: Dataset, code: Code) -> list[Dataset]:
    """The children of this name."""
    return [child for child in children(item) if name(child) == code.meaning]


def every(item: Dataset) -> Iterator[Dataset]:
    for child in children(item):
        yield child
        yield from every(child)


def images_referred_to(report: Dataset, item: Dataset) -> list[str]:
    """The instances of the library that the references below an item lead to."""
    found = []
    for child in children(item):
        if "ReferencedContentItemIdentifier" in child:
            target = report
            for place in list(child.ReferencedContentItemIdentifier)[1:]:
                target = target.ContentSequence[place - 1]
            found.append(target.ReferencedSOPSequence[0].ReferencedSOPInstanceUID)
    return found


def test_only_studies_of_mammograms_have_one() -> None:
    assert objects()[KIND].build(made_case(), narratives()["en"]) == ()
    assert KIND in {built.kind for built in build(mammography_case(groups=(), status="clean"))}


@pytest.mark.parametrize(
    ("case", "answer", "detections"),
    [
        (mammography_case(), "All algorithms succeeded; with findings", "Succeeded"),
        (mammography_case(groups=(), status="clean"), "All algorithms succeeded; without findings", "Succeeded"),
        (mammography_case(groups=(), status="unsure"), "All algorithms succeeded; without findings", "Succeeded"),
        (sound()[0], "Not all algorithms succeeded; with findings", "Partially Succeeded"),
        (
            mammography_case(FOUR[:2], (), status="clean", refused=(refused_view("R MLO"),)),
            "Not all algorithms succeeded; without findings",
            "Partially Succeeded",
        ),
    ],
)
def test_it_says_what_was_done_and_found(case: ReportCase, answer: str, detections: str) -> None:
    root = cad_report(case)
    assert value(root.ContentSequence[SUMMARY]) == answer
    assert value(root.ContentSequence[DETECTIONS]) == detections
    assert bool(below(root.ContentSequence[SUMMARY], codes.INDIVIDUAL_IMPRESSION)) == bool(case.outcome.findings)


def test_the_library_has_what_the_headers_have() -> None:
    case = mammography_case(("R MLO",), (), status="clean", look=Look(snomed_rt=True))
    [entry] = children(cad_report(case).ContentSequence[LIBRARY])
    assert said(entry) == {
        "Image Laterality": "Right breast",
        "Image View": "medio-lateral oblique",
        "Patient Orientation Row": "P",
        "Patient Orientation Column": "FL",
        "Study Date": "20261121",
        "Study Time": "101500",
        "Content Date": "20261121",
        "Content Time": "101730",
        "Horizontal Pixel Spacing": 1.05,
        "Vertical Pixel Spacing": 1.05,
        "Positioner Primary Angle": 45.0,
    }


@pytest.mark.parametrize(
    ("keyword", "left_out"),
    [
        ("ImageLaterality", {"Image Laterality"}),
        ("ViewCodeSequence", {"Image View"}),
        ("PatientOrientation", {"Patient Orientation Row", "Patient Orientation Column"}),
        ("ContentTime", {"Content Time"}),
        ("ImagerPixelSpacing", {"Horizontal Pixel Spacing", "Vertical Pixel Spacing"}),
        ("PositionerPrimaryAngle", {"Positioner Primary Angle"}),
    ],
)
def test_what_a_header_lacks_is_not_in_the_library(keyword: str, left_out: set[str]) -> None:
    case = mammography_case(("R MLO",), (), status="clean")
    whole = set(said(children(cad_report(case).ContentSequence[LIBRARY])[0]))
    header = Dataset(case.headers[0])
    del header[keyword]
    report = cad_report(replace(case, headers=(header,)))
    assert set(said(children(report.ContentSequence[LIBRARY])[0])) == whole - left_out
    assert list(mammography_cad_faults(case, report)) == []


def test_a_value_that_is_not_valid_is_not_in_the_library() -> None:
    case = mammography_case(("R MLO",), (), status="clean")
    header = Dataset(case.headers[0])
    header.add_new("ContentDate", "DA", "21.11.2026")
    header.ViewCodeSequence[0].CodeValue = "unknown"
    told = said(children(cad_report(replace(case, headers=(header,))).ContentSequence[LIBRARY])[0])
    assert not {"Content Date", "Image View"} & set(told)


def test_the_same_group_on_two_views_is_one_feature() -> None:
    case = mammography_case(groups=GROUPS)
    report = cad_report(case)
    impressions = below(report.ContentSequence[SUMMARY], codes.INDIVIDUAL_IMPRESSION)
    together, second, third = ([name(item) for item in children(one)] for one in impressions)
    assert together == ["Rendering Intent", "Composite Feature"]
    assert second == third == ["Rendering Intent", "Single Image Finding"]
    [feature] = below(impressions[0], codes.COMPOSITE_FEATURE)
    told = said(feature)
    assert told["Composite Type"] == "Target Content Items are related spatially"
    assert told["Scope of Feature"] == "Feature detected on multiple images"
    assert told["Certainty of Feature"] == 91.0
    assert told["Tracking Identifier"] == "Group 1, R CC, R MLO"
    targets = below(feature, codes.SINGLE_IMAGE_FINDING)
    assert [target.RelationshipType for target in targets] == ["INFERRED FROM"] * 2
    assert [said(target)["Tracking Unique Identifier"] for target in targets] == [tracking(group) for group in PAIR]
    assert told["Tracking Unique Identifier"] not in {tracking(group) for group in PAIR}


def test_a_feature_is_tracked_alike_whichever_view_comes_first() -> None:
    def uids_of(groups: tuple[object, ...]) -> set[object]:
        report = cad_report(mammography_case(groups=groups))  # type: ignore[arg-type]
        return {said(item)["Tracking Unique Identifier"] for item in every(report) if name(item) == "Composite Feature"}

    assert uids_of(PAIR) == uids_of(PAIR[::-1])


def test_a_finding_says_all_that_is_known_of_it() -> None:
    case = mammography_case(groups=(ALONE,))
    report = cad_report(case)
    [impression] = below(report.ContentSequence[SUMMARY], codes.INDIVIDUAL_IMPRESSION)
    [finding] = below(impression, codes.SINGLE_IMAGE_FINDING)
    told, source = said(finding), case.outcome.findings[0]
    assert value(finding) == "Calcification Cluster"
    assert told["Tracking Identifier"] == "Group 1, R MLO"
    assert told["Algorithm Name"] == case.model.name
    assert told["Algorithm Version"] == case.model.version
    assert told["Certainty of Finding"] == 91.0
    assert told["Calcification Type"] == "Fine pleomorphic calcification"
    assert told["Calcification Distribution"] == "Grouped calcification distribution"
    assert told["Number of calcifications"] == 9
    assert told["Long Axis"] == pytest.approx(source.measured("long_axis_mm"), abs=1e-3)
    assert told["Area"] == pytest.approx(source.measured("area_mm2"), abs=1e-3)
    [center], [outline] = below(finding, codes.CENTER), below(finding, codes.OUTLINE)
    assert list(center.GraphicData) == pytest.approx(source.center_px)
    points = list(outline.GraphicData)
    assert points[:2] == points[-2:]
    assert points[:-2] == pytest.approx([value for point in source.region.points for value in point])
    for item in (center, outline):
        assert images_referred_to(report, item) == [source.key_instance_uid]


def test_the_calcifications_of_a_group_stand_below_it_one_by_one() -> None:
    case = mammography_case(groups=(ALONE,))
    [finding] = [item for item in every(cad_report(case)) if said(item).get("Tracking Identifier") == "Group 1, R MLO"]
    singles = below(finding, codes.SINGLE_IMAGE_FINDING)
    assert {value(single) for single in singles} == {"Individual Calcification"}
    places = [tuple(below(single, codes.CENTER)[0].GraphicData) for single in singles]
    assert places == [pytest.approx(mark) for mark in case.outcome.findings[0].region.marks]


@pytest.mark.parametrize(
    ("count", "placed"), [(SINGLE_CALCIFICATIONS, SINGLE_CALCIFICATIONS), (180, SINGLE_CALCIFICATIONS)]
)
def test_of_a_large_group_the_first_are_placed_and_it_is_said(count: int, placed: int) -> None:
    report = cad_report(mammography_case(("R MLO",), (replace(ALONE, count=count, radius_mm=40.0),)))
    singles = [
        item for item in every(report) if item.get("ValueType") == "CODE" and value(item) == "Individual Calcification"
    ]
    assert len(singles) == placed
    words = str(said(report.ContentSequence[SUMMARY])["Impression Description"])
    assert (f"{SINGLE_CALCIFICATIONS} of {count} calcifications are placed singly" in words) == (count > placed)
    assert [value(item) for item in every(report) if name(item) == "Number of calcifications"] == [float(count)]


@pytest.mark.parametrize(
    ("case", "category", "side"),
    [
        (mammography_case(), "4B - Intermediate suspicion", "Right breast"),
        (mammography_case(groups=GROUPS), "4B - Intermediate suspicion", "Right breast"),
        (
            mammography_case(groups=(ALONE, replace(ALONE, name="other", view="L CC"))),
            "4B - Intermediate suspicion",
            "Both breasts",
        ),
        (mammography_case(("R MLO",), (ALONE,)), "4B - Intermediate suspicion", "Right breast"),
        (mammography_case(groups=(), status="clean"), "1 - Negative", "Both breasts"),
        (mammography_case(("L CC", "L MLO"), (), status="clean"), "1 - Negative", "Left breast"),
        (mammography_case(FOUR[:2], (), status="clean"), None, None),
        (mammography_case(groups=(), status="unsure"), None, None),
        (mammography_case(groups=(), status="clean", refused=(refused_view("R ML"),)), None, None),
    ],
)
def test_a_category_is_suggested_where_all_was_seen(case: ReportCase, category: str | None, side: str | None) -> None:
    overall = cad_report(case).ContentSequence[SUMMARY]
    assert said(overall).get("Assessment Category") == category
    for item in below(overall, codes.BI_RADS):
        assert said(item) == {"Laterality": side}
        if category != "1 - Negative":
            assert item.ConceptCodeSequence[0].CodingSchemeVersion == "4.0"


@pytest.mark.parametrize(
    ("category", "status", "intent"),
    [
        (codes.BI_RADS_4B, "finding", codes.PRESENTATION_REQUIRED),
        (codes.BI_RADS_3, "finding", codes.PRESENTATION_REQUIRED),
        (None, "finding", codes.PRESENTATION_REQUIRED),
        (codes.BI_RADS_2, "finding", codes.PRESENTATION_OPTIONAL),
        (codes.BI_RADS_4B, "unsure", codes.PRESENTATION_OPTIONAL),
    ],
)
def test_what_is_benign_or_not_sure_may_be_left_out_by_a_display(category, status, intent) -> None:
    case = mammography_case(("R MLO",), (replace(ALONE, category=category),), status=status)
    report = cad_report(case)
    assert {value(item) for item in every(report) if name(item) == "Rendering Intent"} == {intent.meaning}


def test_detections_name_every_image_and_which_of_them_failed() -> None:
    case, report = sound()
    succeeded, failed = children(report.ContentSequence[DETECTIONS])
    [done], [not_done] = children(succeeded), children(failed)
    assert images_referred_to(report, done) == [header.SOPInstanceUID for header in case.headers]
    assert images_referred_to(report, not_done) == [header.SOPInstanceUID for header in case.refused_headers]


def test_an_image_that_could_not_be_parsed_is_no_reference() -> None:
    unparsed = RefusedView("2.25.77", Reason("input.not_dicom"))
    report = cad_report(mammography_case(refused=(unparsed,)))
    assert len(children(report.ContentSequence[LIBRARY])) == 4
    assert value(report.ContentSequence[DETECTIONS]) == "Succeeded"


@pytest.mark.parametrize(
    ("views", "groups", "analyses"),
    [
        (FOUR, PAIR, ["Spatial collocation", "Individual Impression", "Overall Impression"]),
        (FOUR, (), ["Spatial collocation", "Overall Impression"]),
        (("R MLO",), (ALONE,), ["Individual Impression", "Overall Impression"]),
        (FOUR[:2], (), []),
    ],
)
def test_analyses_are_those_that_were_made(views, groups, analyses) -> None:
    report = cad_report(mammography_case(views, groups, status="finding" if groups else "clean"))
    summary = report.ContentSequence[ANALYSES]
    made = [value(item) for container in children(summary) for item in children(container)]
    assert len(made) == len(analyses)
    assert all(str(one).startswith(start) for one, start in zip(made, analyses, strict=True))
    assert value(summary) == ("Succeeded" if analyses else "Not Attempted")


def test_only_breasts_that_are_seen_twice_are_held_together() -> None:
    case = mammography_case(("R CC", "L CC", "R MLO"))
    report = cad_report(case)
    collocation = children(children(report.ContentSequence[ANALYSES])[0])[0]
    assert images_referred_to(report, collocation) == [case.headers[k].SOPInstanceUID for k in (0, 2)]


def test_every_image_is_evidence() -> None:
    case, report = sound()
    [study] = report.CurrentRequestedProcedureEvidenceSequence
    listed = {
        item.ReferencedSOPInstanceUID
        for series in study.ReferencedSeriesSequence
        for item in series.ReferencedSOPSequence
    }
    assert listed == {header.SOPInstanceUID for header in (*case.headers, *case.refused_headers)}


def test_a_spot_view_is_told_as_such() -> None:
    view = mammogram("R CC")
    view.header.ViewCodeSequence[0].ViewModifierCodeSequence = [_coded(codes.MAGNIFICATION)]
    case = mammography_case(("R CC",), (), status="clean")
    report = cad_report(replace(case, headers=(view.header,)))
    [entry] = children(report.ContentSequence[LIBRARY])
    [shown] = below(entry, codes.IMAGE_VIEW)
    assert said(shown) == {"Image View Modifier": "Magnification"}
    assert list(mammography_cad_faults(case, report)) == []


def _coded(code: Code) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = code
    return item


# What is broken on purpose


def first(report: Dataset, code: Code) -> Dataset:
    return next(item for item in every(report) if name(item) == code.meaning)


def parent_of(report: Dataset, wanted: Dataset) -> Dataset:
    return next(item for item in (report, *every(report)) if any(child is wanted for child in children(item)))


def remove(report: Dataset, code: Code) -> None:
    wanted = first(report, code)
    parent = parent_of(report, wanted)
    parent.ContentSequence = Sequence(child for child in parent.ContentSequence if child is not wanted)


def swap(report: Dataset, code: Code, with_next: int = 1) -> None:
    wanted = first(report, code)
    parent = parent_of(report, wanted)
    items = list(parent.ContentSequence)
    place = next(k for k, item in enumerate(items) if item is wanted)
    items[place], items[place + with_next] = items[place + with_next], items[place]
    parent.ContentSequence = Sequence(items)


def repeat(report: Dataset, code: Code) -> None:
    wanted = first(report, code)
    parent = parent_of(report, wanted)
    items = list(parent.ContentSequence)
    items.insert(next(k for k, item in enumerate(items) if item is wanted), deepcopy(wanted))
    parent.ContentSequence = Sequence(items)


def relate(report: Dataset, code: Code, relation: str) -> None:
    first(report, code).RelationshipType = relation


def answer(report: Dataset, code: Code, given: Code) -> None:
    first(report, code).ConceptCodeSequence = Sequence([_coded(given)])


def rename(report: Dataset, code: Code, new: Code) -> None:
    first(report, code).ConceptNameCodeSequence = Sequence([_coded(new)])


def lead(report: Dataset, code: Code, path: list[int]) -> None:
    reference = next(child for child in every(first(report, code)) if "ReferencedContentItemIdentifier" in child)
    reference.ReferencedContentItemIdentifier = path


def measured(report: Dataset, code: Code) -> Dataset:
    return first(report, code).MeasuredValueSequence[0]


def in_unit(report: Dataset, code: Code, unit: Code) -> None:
    measured(report, code).MeasurementUnitsCodeSequence = Sequence([_coded(unit)])


BROKEN: list[tuple[str, Callable[[Dataset], object]]] = [
    ("the root is not of TID 4000", lambda d: setattr(d.ContentTemplateSequence[0], "TemplateIdentifier", "4100")),
    ("the root is not of TID 4000", lambda d: d.__delitem__("ContentTemplateSequence")),
    ("the root is no container", lambda d: setattr(d, "ConceptNameCodeSequence", Sequence([_coded(codes.FINDING)]))),
    ("TID 4000 lacks Language", lambda d: remove(d, codes.LANGUAGE)),
    ("TID 4000 lacks Image Library", lambda d: remove(d, codes.IMAGE_LIBRARY)),
    ("TID 4000 lacks CAD Processing", lambda d: remove(d, codes.CAD_SUMMARY)),
    ("TID 4000 lacks Summary of Detections", lambda d: remove(d, codes.SUMMARY_OF_DETECTIONS)),
    ("TID 4000 lacks Summary of Analyses", lambda d: remove(d, codes.SUMMARY_OF_ANALYSES)),
    ("the rows of TID 4000 are out of order", lambda d: swap(d, codes.SUMMARY_OF_DETECTIONS)),
    ("the rows of TID 4000 are out of order", lambda d: swap(d, codes.LANGUAGE)),
    ("TID 4000 may not hold", lambda d: repeat(d, codes.SUMMARY_OF_ANALYSES)),
    ("TID 4000 holds Comment", lambda d: rename(d, codes.SUMMARY_OF_ANALYSES, codes.COMMENT)),
    ("image library lacks IMAGE", lambda d: setattr(first(d, codes.IMAGE_LIBRARY), "ContentSequence", Sequence())),
    ("the rows of TID 4020 are out of order", lambda d: swap(d, codes.IMAGE_LATERALITY)),
    ("is not of its context group", lambda d: answer(d, codes.IMAGE_LATERALITY, codes.RIGHT)),
    ("is not of its context group", lambda d: answer(d, codes.IMAGE_VIEW, codes.MAGNIFICATION)),
    ("is related by CONTAINS, not HAS ACQ CONTEXT", lambda d: relate(d, codes.IMAGE_VIEW, "CONTAINS")),
    ("wrong unit", lambda d: in_unit(d, codes.HORIZONTAL_PIXEL_SPACING, codes.PERCENT)),
    ("has no value", lambda d: first(d, codes.PATIENT_ORIENTATION_ROW).__delitem__("TextValue")),
    ("needs 1 of", lambda d: (remove(d, codes.BI_RADS), remove(d, codes.IMPRESSION_DESCRIPTION))),
    ("is not of its context group", lambda d: answer(d, codes.BI_RADS, codes.LUNG_RADS_2)),
    ("is not of its context group", lambda d: answer(d, codes.CAD_SUMMARY, codes.SUCCEEDED)),
    ("TID 4001 lacks Algorithm Name", lambda d: remove(d, codes.ALGORITHM_NAME)),
    ("TID 4001 may not hold Individual Impression", lambda d: answer(
        d, codes.CAD_SUMMARY, codes.PARTLY_SUCCEEDED_CLEAN)),
    ("TID 4001 lacks Individual Impression", lambda d: (
        remove(d, codes.INDIVIDUAL_IMPRESSION), remove(d, codes.INDIVIDUAL_IMPRESSION))),
    ("TID 4003 lacks Rendering Intent", lambda d: remove(d, codes.RENDERING_INTENT)),
    ("TID 4003 needs 1 of", lambda d: remove(d, codes.COMPOSITE_FEATURE)),
    ("is not of its context group", lambda d: answer(d, codes.RENDERING_INTENT, codes.PRESENT)),
    ("TID 4004 lacks Composite Type", lambda d: remove(d, codes.COMPOSITE_TYPE)),
    ("TID 4004 lacks Scope of Feature", lambda d: remove(d, codes.SCOPE_OF_FEATURE)),
    ("the rows of TID 4004 are out of order", lambda d: swap(d, codes.COMPOSITE_TYPE)),
    ("TID 4004 needs 2 of", lambda d: remove(d, codes.SINGLE_IMAGE_FINDING)),
    ("is related by CONTAINS, not INFERRED FROM", lambda d: relate(d, codes.SINGLE_IMAGE_FINDING, "CONTAINS")),
    ("is related by CONTAINS, not INFERRED FROM", lambda d: relate(d, codes.INDIVIDUAL_IMPRESSION, "CONTAINS")),
    ("is not of its context group", lambda d: answer(d, codes.SINGLE_IMAGE_FINDING, codes.NODULE)),
    ("TID 4006 lacks Center", lambda d: remove(d, codes.CENTER)),
    ("the rows of TID 4006 are out of order", lambda d: swap(d, codes.CENTER)),
    ("the rows of TID 4006 are out of order", lambda d: swap(d, codes.CALCIFICATION_TYPE)),
    ("TID 4006 may not hold Outline", lambda d: repeat(d, codes.OUTLINE)),
    ("a centre is not one point", lambda d: setattr(first(d, codes.CENTER), "GraphicType", "MULTIPOINT")),
    ("a centre is not one point", lambda d: setattr(first(d, codes.CENTER), "GraphicData", [1.0, 2.0, 3.0, 4.0])),
    ("an outline is not a closed line", lambda d: setattr(
        first(d, codes.OUTLINE), "GraphicData", list(first(d, codes.OUTLINE).GraphicData)[:-2])),
    ("Center lies outside its image", lambda d: setattr(first(d, codes.CENTER), "GraphicData", [900.0, 20.0])),
    ("is not from 0 to 100 %", lambda d: setattr(measured(d, codes.CERTAINTY), "NumericValue", "101")),
    ("has no number", lambda d: measured(d, codes.CERTAINTY).__delitem__("NumericValue")),
    ("is not of its context group", lambda d: answer(d, codes.CALCIFICATION_TYPE, codes.GROUPED)),
    ("is not of its context group", lambda d: answer(d, codes.CALCIFICATION_DISTRIBUTION, codes.ROUND)),
    ("wrong unit", lambda d: in_unit(d, codes.NUMBER_OF_CALCIFICATIONS, codes.DAY)),
    ("selected lacks IMAGE", lambda d: setattr(first(d, codes.CENTER), "ContentSequence", Sequence())),
    ("leads nowhere", lambda d: lead(d, codes.CENTER, [1, 2, 9])),
    ("leads nowhere", lambda d: lead(d, codes.CENTER, [2, 2, 1])),
    ("leads nowhere", lambda d: lead(d, codes.SUMMARY_OF_DETECTIONS, [1, 7])),
    ("does not lead to an image of the library", lambda d: lead(d, codes.CENTER, [1, 2])),
    ("does not lead to an image of the library", lambda d: lead(d, codes.OUTLINE, [1, 3, 1])),
    ("TID 4015 lacks Successful Detections", lambda d: remove(d, codes.SUCCESSFUL_DETECTIONS)),
    ("TID 4015 lacks Failed Detections", lambda d: remove(d, codes.FAILED_DETECTIONS)),
    ("TID 4015 may not hold Failed Detections", lambda d: answer(d, codes.SUMMARY_OF_DETECTIONS, codes.SUCCEEDED)),
    ("detections lacks Detection Performed", lambda d: remove(d, codes.DETECTION_PERFORMED)),
    ("TID 4017 lacks IMAGE", lambda d: setattr(
        first(d, codes.DETECTION_PERFORMED),
        "ContentSequence",
        Sequence(c for c in children(first(d, codes.DETECTION_PERFORMED)) if "ValueType" in c))),
    ("TID 4016 lacks Successful Analyses", lambda d: remove(d, codes.SUCCESSFUL_ANALYSES)),
    ("TID 4016 may not hold Successful Analyses", lambda d: answer(d, codes.SUMMARY_OF_ANALYSES, codes.NOT_ATTEMPTED)),
    ("is not of its context group", lambda d: answer(d, codes.ANALYSIS_PERFORMED, codes.CALCIFICATION_CLUSTER)),
    ("has items below it", lambda d: setattr(
        first(d, codes.ALGORITHM_VERSION), "ContentSequence", Sequence([deepcopy(first(d, codes.COMPOSITE_TYPE))]))),
    ("is related by HAS PROPERTIES, not SELECTED FROM", lambda d: setattr(
        children(first(d, codes.CENTER))[0], "RelationshipType", "HAS PROPERTIES")),
]  # fmt: skip


def test_what_is_built_has_no_fault() -> None:
    case, report = sound()
    assert list(mammography_cad_faults(case, report)) == []


@pytest.mark.parametrize(("detail", "mutate"), BROKEN)
def test_what_is_broken_is_not_sent(detail: str, mutate: Callable[[Dataset], object]) -> None:
    case, report = sound()
    broken = deepcopy(report)
    mutate(broken)
    found = list(mammography_cad_faults(case, broken))
    assert any(detail in message for message in found), found
    with pytest.raises(ReportError) as caught:
        check(case, {KIND: (broken,)})
    assert caught.value.reason.code == "report.not_fit_to_send"


def test_grains_below_a_cluster_need_a_type_and_clusters_are_not_below_grains() -> None:
    case = mammography_case(groups=(ALONE,))
    report = cad_report(case)
    single = next(
        item for item in every(report) if item.get("ValueType") == "CODE" and value(item) == "Individual Calcification"
    )
    bare = deepcopy(report)
    found = next(item for item in every(bare) if item == single)
    found.ContentSequence = Sequence(c for c in children(found) if name(c) != "Calcification Type")
    assert any("TID 4006 needs 1 of" in fault for fault in mammography_cad_faults(case, bare))
    counted = deepcopy(report)
    found = next(item for item in every(counted) if item == single)
    found.ContentSequence.append(deepcopy(first(counted, codes.NUMBER_OF_CALCIFICATIONS)))
    assert any("TID 4006 may not hold Number" in fault for fault in mammography_cad_faults(case, counted))


def test_no_two_items_can_change_places_unnoticed() -> None:
    """Wherever they stand, unless both are of one row: references, images, parameters."""
    case = mammography_case(("R CC", "R MLO"), (replace(PAIR[0], count=2), replace(PAIR[1], count=1)))
    report = cad_report(case)
    unnoticed = set()
    for parent in (report, *every(report)):
        sound_items = children(parent)
        for k, (one, other) in enumerate(pairwise(sound_items)):
            parent.ContentSequence = Sequence([*sound_items[:k], other, one, *sound_items[k + 2 :]])
            if not list(mammography_cad_faults(case, report)):
                unnoticed.add((one.get("ValueType"), name(one), other.get("ValueType"), name(other)))
        if sound_items:
            parent.ContentSequence = Sequence(sound_items)
    assert list(mammography_cad_faults(case, report)) == []
    assert {(kind, called) for kind, called, _, _ in unnoticed} == {(kind, called) for _, _, kind, called in unnoticed}
    assert {called for _, called, _, _ in unnoticed} <= {
        "", "Algorithm Parameters", "Analysis Performed", "Single Image Finding",
    }  # fmt: skip


def test_it_is_written_and_read_alike() -> None:
    case = mammography_case(groups=GROUPS)
    [built] = [one for one in build(case) if one.kind == KIND]
    assert list(mammography_cad_faults(case, dcmread(BytesIO(built.content)))) == []

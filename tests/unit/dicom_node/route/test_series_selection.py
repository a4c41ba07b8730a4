from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pydicom import Dataset
from pydicom.uid import (
    BasicTextSRStorage,
    DigitalMammographyXRayImageStorageForPresentation,
    EnhancedCTImageStorage,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
)

from dicom_node.route.policy import Evaluation, Failure
from dicom_node.route.series_selection import Candidate, Standing, describe, select, typical
from tests.unit.dicom_node.made import SAGITTAL, facts, header, stack

HEAD = (Evaluation("head", "hemorrhage", "stat", ()),)
CHEST = (Evaluation("chest", "nodule", "routine", ()),)
NO_RULE = (Evaluation("head", "hemorrhage", "stat", (Failure("Modality", "equal CT", "MR"),)),)


def candidate(
    headers: list[Dataset],
    standing: Standing = "undecided",
    rules: tuple[Evaluation, ...] = HEAD,
    *,
    own: bool = False,
) -> Candidate:
    return Candidate(describe(typical(facts(headers)), is_own_result=own), rules, standing)


def decided(*study: Candidate) -> dict[int, str]:
    """By series number: `read`, or the code of the reason."""
    return {
        choice.candidate.series.series_number or 0: choice.reason.code if choice.reason else "read"
        for choice in select(study)
    }


def localizer(series: int = 1) -> Candidate:
    kind = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    return candidate([header(series, 1, ImageType=kind, ImageOrientationPatient=SAGITTAL)])


def brain(series: int, standing: Standing = "undecided", *, slices: int = 28, **changes: Any) -> Candidate:
    (first,) = facts([header(series, 1, **changes)])
    instances = [first]
    for number in range(2, slices + 1):  # as `stack` makes them, but parsed once
        z = number * (first.thickness_mm or 0)
        places = tuple(replace(place, origin=(*place.origin[:2], z)) for place in first.places)
        uid = f"{first.series_instance_uid}.{number}"
        instances.append(replace(first, sop_instance_uid=uid, instance_number=number, places=places))
    return Candidate(describe(typical(instances), is_own_result=False), HEAD, standing)


def thin(series: int, standing: Standing = "undecided", **changes: Any) -> Candidate:
    return brain(series, standing, slices=140, SliceThickness=1, **changes)


def test_of_a_study_with_everything_the_thin_brain_is_read() -> None:
    screens = [header(9, n, SOPClassUID=SecondaryCaptureImageStorage, ImagePositionPatient=None) for n in range(1, 4)]
    assert decided(
        localizer(1),
        brain(2),
        thin(3),
        thin(4, ConvolutionKernel="H60s"),
        candidate(screens),
    ) == {
        1: "selection.localizer",
        2: "selection.thicker",
        3: "read",
        4: "selection.kernel",
        9: "selection.secondary_capture",
    }


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, "selection.localizer"),
        ({"ImageType": ["DERIVED", "SECONDARY", "AXIAL", "MIP"]}, "selection.projection"),
        ({"SeriesDescription": "AX MIP 10mm"}, "selection.projection"),
        ({"ImageType": ["DERIVED", "PRIMARY", "PERFUSION", "RCBF"]}, "selection.parametric_map"),
        ({"ImageType": ["DERIVED", "SECONDARY", "SCREEN SAVE"]}, "selection.screen"),
        ({"SOPClassUID": SecondaryCaptureImageStorage}, "selection.secondary_capture"),
        ({"SamplesPerPixel": 3}, "selection.color"),
        ({"SOPClassUID": SegmentationStorage}, "input.not_an_image_to_read"),
        ({"SOPClassUID": BasicTextSRStorage, "SamplesPerPixel": None}, "input.not_an_image_to_read"),
        ({"ImageOrientationPatient": SAGITTAL}, "geometry.not_axial"),
    ],
)
def test_what_is_never_read(changes: dict[str, Any], code: str) -> None:
    assert decided(brain(1, **changes)) == {1: code}


def test_own_results_are_not_read() -> None:
    assert decided(candidate(stack(1), own=True)) == {1: "route.own_result"}


def test_series_without_a_rule_is_ignored() -> None:
    assert decided(candidate(stack(1, Modality="MR"), rules=NO_RULE)) == {1: "route.no_rule"}


@pytest.mark.parametrize(
    ("better", "worse", "code"),
    [
        ({"slices": 3, "ConvolutionKernel": "H60s"}, {"slices": 2}, "selection.few_slices"),
        ({"ConvolutionKernel": "H60s"}, {"slices": 12, "SliceThickness": 1}, "selection.small_extent"),
        ({}, {"ConvolutionKernel": "H60s", "slices": 140, "SliceThickness": 1}, "selection.kernel"),
        ({}, {"ConvolutionKernel": None, "Manufacturer": ""}, "selection.kernel"),
        ({}, {"ContrastBolusAgent": "ISOVUE 300", "slices": 140, "SliceThickness": 1}, "selection.contrast"),
        ({}, {"SeriesDescription": "HEAD POST CONTRAST"}, "selection.contrast"),
        ({}, {"ImageType": ["DERIVED", "SECONDARY", "AXIAL"], "slices": 140, "SliceThickness": 1}, "selection.derived"),
        ({}, {"ImageType": ["DERIVED", "SECONDARY", "MPR"]}, "selection.derived"),
        ({"slices": 16}, {"SliceThickness": 7.5, "slices": 20}, "selection.thicker"),
        ({"SliceThickness": 2.5, "slices": 60}, {}, "selection.thicker"),
        ({"slices": 30}, {"slices": 29}, "selection.fewer_slices"),
        (
            {"AcquisitionDate": "20260301", "AcquisitionTime": "120500"},
            {"AcquisitionDate": "20260301", "AcquisitionTime": "115959.9"},
            "selection.earlier",
        ),
        ({}, {}, "selection.equal"),
    ],
)
def test_the_better_series_is_read(better: dict[str, Any], worse: dict[str, Any], code: str) -> None:
    first, second = brain(1, **better), brain(2, **worse)
    assert decided(first, second) == decided(second, first) == {1: "read", 2: code}


def test_complete_series_is_preferred_to_a_thinner_one_with_a_gap() -> None:
    gapped = [made for made in stack(2, 140, SliceThickness=1) if made.InstanceNumber not in range(60, 70)]
    assert decided(brain(1), candidate(gapped)) == {1: "read", 2: "selection.incomplete"}


@pytest.mark.parametrize("changes", [{"slices": 1}, {"ConvolutionKernel": "H60s"}, {"ImagePositionPatient": None}])
def test_only_series_of_its_kind_is_read_whatever_it_is_like(changes: dict[str, Any]) -> None:
    assert decided(localizer(1), brain(2, **changes)) == {1: "selection.localizer", 2: "read"}


def test_localizer_inside_a_series_does_not_hide_its_slices() -> None:
    inside = header(1, 99, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"], ImageOrientationPatient=SAGITTAL)
    assert decided(candidate([inside, *stack(1)])) == {1: "read"}


def test_reason_names_the_series_that_is_read() -> None:
    (reason,) = [choice.reason for choice in select([brain(1), thin(2)]) if choice.reason]
    assert reason.text == "Its slices are 5.0 mm thick; series 2 of the study is read, with 1.0 mm."


def test_chest_takes_thin_slices_of_either_kernel() -> None:
    def chest(series: int, slices: int, thickness: float, kernel: str) -> Candidate:
        return candidate(
            stack(series, slices, SliceThickness=thickness, ConvolutionKernel=kernel, ContrastBolusAgent="X"),
            rules=CHEST,
        )

    study = chest(1, 300, 1, "B70f"), chest(2, 60, 5, "B30f"), chest(3, 290, 1, "B30f")
    assert decided(*study) == {1: "read", 2: "selection.thicker", 3: "selection.fewer_slices"}


def test_pipelines_do_not_compete_with_each_other() -> None:
    assert decided(thin(1), candidate(stack(2), rules=CHEST)) == {1: "read", 2: "read"}


def test_every_mammogram_is_read() -> None:
    rules = (Evaluation("mammography", "calcification", "routine", ()),)
    views = [
        candidate(
            [header(n, 1, Modality="MG", SOPClassUID=DigitalMammographyXRayImageStorageForPresentation,
                    ImageType=["DERIVED", "PRIMARY"], ImagePositionPatient=None)],
            rules=rules,
        )
        for n in range(1, 5)
    ]  # fmt: skip
    assert decided(*views) == dict.fromkeys(range(1, 5), "read")


def test_enhanced_object_without_slices_read_from_it_is_still_a_candidate() -> None:
    made = header(1, 1, SOPClassUID=EnhancedCTImageStorage, ImagePositionPatient=None)
    assert decided(candidate([made])) == {1: "read"}


# While other series still arrive.


def test_waits_for_a_series_that_may_be_better() -> None:
    assert decided(localizer(1), brain(2), thin(3, "receiving")) == {1: "selection.localizer"}


@pytest.mark.parametrize(
    "arriving",
    [
        {"ConvolutionKernel": "H60s", "SliceThickness": 1},
        {"SliceThickness": 7.5},
        {"ContrastBolusAgent": "ISOVUE 300", "SliceThickness": 1},
        {"ImageType": ["DERIVED", "SECONDARY", "MIP"], "SliceThickness": 1},
        {"ImageOrientationPatient": SAGITTAL, "SliceThickness": 1},
    ],
)
def test_does_not_wait_for_a_series_that_cannot_be_better(arriving: dict[str, Any]) -> None:
    assert decided(brain(1), brain(2, "receiving", slices=1, **arriving)) == {1: "read"}


def test_does_not_wait_for_a_series_of_another_pipeline() -> None:
    assert decided(brain(1), candidate(stack(2, 1), "receiving", CHEST)) == {1: "read"}


def test_worse_series_after_one_that_was_read_is_ignored() -> None:
    assert decided(thin(1, "read"), brain(2)) == {2: "selection.thicker"}


def test_worse_series_after_one_that_was_read_waits_for_nothing() -> None:
    assert decided(thin(1, "read"), brain(2), thin(3, "receiving")) == {2: "selection.thicker"}


def test_better_series_after_one_that_was_read_is_read_too() -> None:
    (choice,) = select([brain(1, "read"), thin(2)])
    assert choice.reason is None
    assert choice.instead_of == ("2.25.1.1",)


OPTIONS = st.fixed_dictionaries({
    "slices": st.sampled_from([1, 20, 28]),
    "SliceThickness": st.sampled_from([1, 5, 7.5]),
    "ConvolutionKernel": st.sampled_from(["H30s", "H60s", None]),
    "ContrastBolusAgent": st.sampled_from(["", "ISOVUE"]),
    "ImageType": st.sampled_from([["ORIGINAL", "PRIMARY", "AXIAL"], ["DERIVED", "SECONDARY", "AXIAL"]]),
})  # fmt: skip


@hypothesis_settings(deadline=None)
@given(options=st.lists(OPTIONS, min_size=1, max_size=5), data=st.data())
def test_exactly_one_is_read_whatever_the_order(options: list[dict[str, Any]], data: st.DataObject) -> None:
    study = [brain(number, **option) for number, option in enumerate(options, start=1)]
    found = decided(*study)
    assert sorted(found) == list(range(1, len(study) + 1))
    assert list(found.values()).count("read") == 1
    assert decided(*data.draw(st.permutations(study))) == found

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import Dataset

from dicom_node.headers import read_facts
from dicom_node.stack import Stack, stack_of
from tests.unit.dicom_node.made import SAGITTAL, facts, header, stack


def made_stack(headers: list[Dataset]) -> Stack:
    found = stack_of(facts(headers))
    assert found is not None
    return found


def test_even_stack_is_whole() -> None:
    assert made_stack(stack(1, slices=10, SliceThickness=2.5)) == Stack(10, 2.5, 25.0, 0.0, False, True)


def test_localizer_among_the_slices_is_not_counted() -> None:
    localizer = header(1, 11, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"], ImageOrientationPatient=SAGITTAL)
    assert made_stack([*stack(1, slices=10), localizer]) == made_stack(stack(1, slices=10))
    assert stack_of(facts([localizer])) is None


@pytest.mark.parametrize(
    "positions",
    [
        [0, 4, 8, 12, 13.08, 20.08, 27.08, 34.08],  # two blocks that overlap
        [0, 2, 4, 6, 11, 16, 21],  # thin slices at the base
        [0, 10],
    ],
)
def test_spacing_may_change(positions: list[float]) -> None:
    headers = [header(1, i, ImagePositionPatient=[0, 0, z]) for i, z in enumerate(positions, start=1)]
    assert made_stack(headers).is_whole


def test_gap_is_seen_although_the_numbers_have_none() -> None:
    positions = [0, 5, 10, 20, 25, 30]
    headers = [header(1, i, ImagePositionPatient=[0, 0, z]) for i, z in enumerate(positions, start=1)]
    assert (made_stack(headers).has_gap, made_stack(headers).is_whole) == (True, False)


def test_one_slice_too_few_of_a_second_phase_is_seen() -> None:
    second = [header(1, 20 + i, ImagePositionPatient=[0, 0, 5.0 * i]) for i in range(1, 11)]
    first = [header(1, 10 + i, ImagePositionPatient=[0, 0, 5.0 * i]) for i in range(1, 11)]
    assert made_stack(first + second).is_whole
    assert made_stack(first + second).slices == 10
    assert not made_stack(first + second[:-1]).is_whole


def test_mixed_directions_are_not_whole_and_the_larger_part_is_described() -> None:
    found = made_stack([*stack(1, slices=10), header(1, 11, ImageOrientationPatient=SAGITTAL)])
    assert (found.slices, found.degrees_from_axial, found.is_whole) == (10, 0.0, False)


@given(
    order=st.permutations(range(12)),
    tilt=st.floats(-30, 30),
    spacing=st.floats(0.3, 10),
    missing=st.one_of(st.none(), st.integers(2, 9)),
)
def test_only_a_missing_slice_matters(order: list[int], tilt: float, spacing: float, missing: int | None) -> None:
    angle = np.radians(tilt)
    directions = [1, 0, 0, 0, float(np.cos(angle)), float(np.sin(angle))]
    headers = [
        header(1, 1, SOPInstanceUID=f"2.25.{i}", InstanceNumber=None, SliceThickness=spacing,
               ImageOrientationPatient=directions, ImagePositionPatient=[0, 0, i * spacing])
        for i in order if i != missing
    ]  # fmt: skip
    found = made_stack(headers)
    assert found.is_whole == (missing is None)
    assert found.degrees_from_axial == pytest.approx(abs(tilt), abs=0.01)


@pytest.mark.parametrize(
    ("folder", "whole"),
    [
        ("head/ge_tilted_variable_spacing", True),
        ("head/philips_phantom_study/S2010", True),
        ("head/philips_phantom_tilted/S3010", True),
        ("head/ge_tiny_head_series", False),
    ],
)
def test_real_stacks(triage_data: Path, folder: str, whole: bool) -> None:
    files = [path for path in (triage_data / folder).iterdir() if path.suffix in ("", ".dcm")]
    found = stack_of([read_facts(path) for path in files])
    assert found is not None
    assert found.is_whole == whole

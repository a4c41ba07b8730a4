from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.geometry import Plane
from pipelines.hemorrhage.measure import Midplane, find_bleeds, side_of
from pipelines.measuring import axes_mm, connected_parts
from pipelines.volume import Volume

SHAPE = (96, 96)
SPACING = 1.0
MIDPLANE = Midplane(np.zeros(3), np.array([1.0, 0.0, 0.0]))


def stack(heights: list[float], tilt_degrees: float = 0.0, flipped: bool = False) -> Volume:
    """Slices about the patient's origin at these positions along their normal; the table moves along z."""
    tilt = np.radians(tilt_degrees)
    column = np.array([0.0, np.cos(tilt), -np.sin(tilt)])
    row = np.array([-1.0 if flipped else 1.0, 0.0, 0.0])
    middle = (SHAPE[0] - 1) / 2 * SPACING * (row + column)
    normal_z = np.cos(tilt)
    planes = []
    for height in heights:
        x, y, z = (np.array([0.0, 0.0, height / normal_z]) - middle).tolist()
        planes.append(Plane((x, y, z), tuple(row.tolist()), tuple(column.tolist()), SPACING, SPACING, 5.0))
    planes = planes[::-1] if flipped else planes
    names = tuple(f"2.25.{k}" for k in range(len(planes)))
    return Volume(np.full((len(planes), *SHAPE), 60, np.int16), tuple(planes), names, (1,) * len(planes))


def ball(volume: Volume, center: tuple[float, float, float], radius: float) -> np.ndarray:
    rows, columns = np.meshgrid(np.arange(SHAPE[0]), np.arange(SHAPE[1]), indexing="ij")
    points = np.stack([plane.patient_from_pixel(rows, columns) for plane in volume.plane])
    return np.asarray(np.linalg.norm(points - np.array(center), axis=-1) <= radius)


def bleeds(volume: Volume, mask: np.ndarray, **changes: float) -> tuple:
    facts = {"cut": 0.5, "least_ml": 0.1, "score": 0.9} | changes
    return find_bleeds(volume, np.where(mask, 240, 0).astype(np.uint8), MIDPLANE, model_sha256="0" * 64, **facts)


UNEVEN = [*np.arange(-40, 0, 2.0).tolist(), *np.arange(0.5, 40, 3.5).tolist()]


@settings(deadline=None, max_examples=20)
@given(
    tilt=st.floats(-25, 25),
    flipped=st.booleans(),
    center=st.tuples(*[st.floats(-12, 12)] * 3),
    radius=st.floats(12, 18),
)
def test_a_ball_has_its_volume_center_and_axes_in_any_stack(
    tilt: float, flipped: bool, center: tuple[float, float, float], radius: float
) -> None:
    volume = stack(UNEVEN, tilt, flipped)
    found = bleeds(volume, ball(volume, center, radius))
    assert len(found) == 1
    assert found[0].measured("volume_ml") == pytest.approx(4 / 3 * np.pi * radius**3 / 1000, rel=0.05)
    assert found[0].center_mm == pytest.approx(center, abs=1.0)
    assert found[0].measured("long_axis_mm") == pytest.approx(2 * radius, abs=2.5)
    assert found[0].measured("short_axis_mm") == pytest.approx(2 * radius, abs=2.5)
    assert found[0].measured("mean_hu") == 60
    key = volume.instance_uid.index(found[0].key_instance_uid)
    nearest = np.abs(volume.position_mm - np.dot(center, volume.plane[0].normal)).argmin()
    assert abs(int(key) - int(nearest)) <= 1


def test_steep_tilt_does_not_cut_a_thin_bleed_into_pieces() -> None:
    volume = stack([-14.0, -7.0, 0.0, 7.0, 14.0], 28.0)
    along_z = np.zeros((5, *SHAPE), np.bool_)
    for k, plane in enumerate(volume.plane):
        row, column = plane.pixel_from_patient(np.array([5.0, 3.0, plane.position_mm / np.cos(np.radians(28))]))
        along_z[k, round(float(row)) : round(float(row)) + 2, round(float(column))] = True
    _, count = connected_parts(along_z, volume.plane)
    # what lies above each other along the normal touches; along z it moves 3.7 pixels a slice and does not
    assert count == 5
    along_normal = np.zeros_like(along_z)
    for k, plane in enumerate(volume.plane):
        point = np.array([5.0, 3.0, 0.0]) + plane.position_mm * np.array(plane.normal)
        row, column = plane.pixel_from_patient(point)
        along_normal[k, round(float(row)), round(float(column))] = True
    _, count = connected_parts(along_normal, volume.plane)
    assert count == 1


def test_two_bleeds_are_two_findings_the_larger_first() -> None:
    volume = stack(UNEVEN)
    mask = ball(volume, (25, 0, 0), 8) | ball(volume, (-25, 0, 0), 12)
    found = bleeds(volume, mask)
    assert [finding.side for finding in found] == ["right", "left"]
    assert found[0].measured("volume_ml") > found[1].measured("volume_ml")
    assert len({finding.tracking_uid for finding in found}) == 2
    assert found[0].certainty == 0.9


@pytest.mark.parametrize("flipped", [False, True])
def test_sides_are_the_patients(flipped: bool) -> None:
    volume = stack(UNEVEN, flipped=flipped)
    assert bleeds(volume, ball(volume, (20, 0, 0), 8))[0].side == "left"
    assert bleeds(volume, ball(volume, (-20, 0, 0), 8))[0].side == "right"
    assert bleeds(volume, ball(volume, (1, 0, 0), 8))[0].side == "midline"


@pytest.mark.parametrize(
    ("distances", "side"),
    [
        ([20, 30], "left"),
        ([-20, -30], "right"),
        ([-30, 30], "bilateral"),
        ([-2, 3], "midline"),
        ([-30, 40, 40], "bilateral"),
    ],
)
def test_side_of_voxels(distances: list[float], side: str) -> None:
    assert side_of(np.array(distances, float), np.ones(len(distances))) == side


def test_small_bleeds_are_left_out_but_never_the_only_one() -> None:
    volume = stack(UNEVEN)
    large, small = ball(volume, (20, 0, 0), 9), ball(volume, (-20, 0, 0), 2.5)
    assert len(bleeds(volume, large | small, least_ml=0.5)) == 1
    assert len(bleeds(volume, large | small, least_ml=0.0)) == 2
    assert len(bleeds(volume, small, least_ml=0.5)) == 1


def test_bone_is_no_blood_and_does_not_raise_its_mean() -> None:
    volume = stack(UNEVEN)
    mask = ball(volume, (20, 0, 0), 12)
    outer = mask & ~ball(volume, (20, 0, 0), 9)
    between = mask & ~ball(volume, (20, 0, 0), 8) & ~outer
    volume.hu[outer] = 900
    volume.hu[between] = 300
    found = bleeds(volume, mask)
    assert len(found) == 1
    assert found[0].measured("volume_ml") == pytest.approx(4 / 3 * np.pi * 9**3 / 1000, rel=0.08)
    assert found[0].measured("mean_hu") == 60


def test_below_the_cut_the_most_certain_voxels_are_shown() -> None:
    volume = stack(UNEVEN)
    probability = np.where(ball(volume, (20, 0, 0), 9), 80, 0).astype(np.uint8)
    found = find_bleeds(volume, probability, MIDPLANE, cut=0.5, least_ml=0, score=0.4, model_sha256="")
    assert len(found) == 1
    assert find_bleeds(volume, probability * 0, MIDPLANE, cut=0.5, least_ml=0, score=0.4, model_sha256="") == ()


def test_the_same_work_gives_the_same_tracking_uid_and_other_weights_another() -> None:
    volume = stack(UNEVEN)
    probability = np.where(ball(volume, (20, 0, 0), 9), 240, 0).astype(np.uint8)
    uids = [
        find_bleeds(volume, probability, MIDPLANE, cut=0.5, least_ml=0, score=0.9, model_sha256=sha)[0].tracking_uid
        for sha in ("a", "a", "b")
    ]
    assert uids[0] == uids[1] != uids[2]
    assert uids[0].startswith("2.25.")
    assert len(uids[0]) <= 64


def test_axes_of_a_bar_and_of_one_pixel() -> None:
    plane = Plane((0, 0, 0), (1, 0, 0), (0, 1, 0), 0.5, 0.5, 5)
    mask = np.zeros((40, 60), np.bool_)
    mask[10:14, 5:45] = True
    long_axis, short_axis = axes_mm(mask, plane)
    assert long_axis == pytest.approx(20, abs=0.6)
    assert short_axis == pytest.approx(2, abs=2.0)
    mask[:] = False
    mask[3, 3] = True
    assert axes_mm(mask, plane) == (0.5, 0.5)

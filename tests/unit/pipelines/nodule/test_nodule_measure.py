from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.geometry import Plane, Point
from pipelines.measuring import axes_mm
from pipelines.nodule.measure import BORDERS, measure
from tests.unit.pipelines.nodule.nodules import LUNG_HU, TISSUE_HU, ellipsoid, region, stack

FINE = np.arange(-20, 20.1, 1.0).tolist()


@settings(max_examples=15)
@given(
    tilt=st.floats(-20, 20),
    flipped=st.booleans(),
    center=st.tuples(*[st.floats(-3, 3)] * 3),
    radius=st.floats(3, 12),
)
def test_a_ball_has_its_size_in_any_stack(tilt: float, flipped: bool, center: Point, radius: float) -> None:
    volume = stack(FINE, tilt_degrees=tilt, flipped=flipped)
    ball = ellipsoid(volume, center, radius)
    volume.hu[ball] = TISSUE_HU
    found = measure(volume, region(ball))
    assert found.volume_mm3 == pytest.approx(4 / 3 * np.pi * radius**3, rel=0.08)
    assert found.equivalent_diameter_mm == pytest.approx(2 * radius, rel=0.03)
    assert found.long_axis_mm == pytest.approx(2 * radius, abs=0.6)
    assert found.short_axis_mm == pytest.approx(2 * radius, abs=0.8)
    assert found.longest_diameter_mm == pytest.approx(2 * radius, abs=0.8)
    assert found.center_mm == pytest.approx(center, abs=0.3)
    assert found.mean_hu == pytest.approx(TISSUE_HU)
    assert found.mass_mg == pytest.approx(found.volume_mm3 * 1.04)
    nearest = np.abs(volume.position_mm - np.dot(center, volume.plane[0].normal)).argmin()
    # near the equator of a ball the slices hardly differ
    assert abs(found.key_slice - int(nearest)) <= 2


@given(radius=st.floats(2, 8), part=st.floats(0.5, 1.0), angle=st.floats(0, np.pi), pixel=st.floats(0.5, 0.9))
def test_axes_of_an_ellipse_at_any_angle(radius: float, part: float, angle: float, pixel: float) -> None:
    plane = Plane((0, 0, 0), (1, 0, 0), (0, 1, 0), pixel, pixel, 1)
    rows, columns = (np.mgrid[:48, :48] - 23.7) * pixel
    along, across = rows * np.cos(angle) + columns * np.sin(angle), columns * np.cos(angle) - rows * np.sin(angle)
    mask = (along / radius) ** 2 + (across / (part * radius)) ** 2 <= 1
    long_axis, short_axis = axes_mm(mask, plane, BORDERS)
    # The tips of ellipses under four pixels wide miss the pixels' centres: 1.48 pixels are the most in 40000 draws.
    is_narrow = part * radius < 2 * pixel
    assert long_axis == pytest.approx(2 * radius, abs=(1.5 if is_narrow else 1.3) * pixel)
    assert short_axis == pytest.approx(2 * part * radius, abs=2 * pixel)


def test_the_borders_leave_no_bias_on_discs() -> None:
    generator = np.random.default_rng(0)
    long_errors, short_errors = [], []
    for diameter in np.linspace(3, 15, 150):
        pixel = generator.uniform(0.5, 0.9)
        plane = Plane((0, 0, 0), (1, 0, 0), (0, 1, 0), pixel, pixel, 1)
        rows, columns = np.mgrid[:40, :40] - (20 + generator.uniform(-0.5, 0.5, 2))[:, None, None]
        long_axis, short_axis = axes_mm(np.hypot(rows, columns) * pixel < diameter / 2, plane, BORDERS)
        long_errors.append(long_axis - diameter)
        short_errors.append(short_axis - diameter)
    assert abs(np.mean(long_errors)) < 0.06
    assert abs(np.mean(short_errors)) < 0.1


def test_the_axes_are_those_of_the_slice_where_it_is_longest() -> None:
    volume = stack(FINE)
    mask = ellipsoid(volume, (0, 0, 0), (3, 3, 8)) | ellipsoid(volume, (0, 0, 6), (7, 2, 1.5))
    found = measure(volume, region(mask))
    assert volume.position_mm[found.key_slice] == pytest.approx(6, abs=1)
    assert found.long_axis_mm == pytest.approx(14, abs=0.8)
    assert found.short_axis_mm < found.long_axis_mm / 2
    assert found.longest_diameter_mm > found.long_axis_mm


def test_what_is_long_along_z_is_long_in_three_dimensions_only() -> None:
    volume = stack(FINE)
    found = measure(volume, region(ellipsoid(volume, (0, 0, 0), (3, 3, 10))))
    # no more than a slice short at either end
    assert found.longest_diameter_mm == pytest.approx(20, abs=2)
    assert found.long_axis_mm == pytest.approx(6, abs=0.6)


def test_one_voxel_and_one_slice_can_be_measured() -> None:
    volume = stack(FINE)
    mask = np.zeros(volume.hu.shape, np.bool_)
    mask[5, 40, 40] = True
    found = measure(volume, region(mask))
    assert found.volume_mm3 == pytest.approx(0.7 * 0.7)
    assert 0 < found.short_axis_mm <= found.long_axis_mm <= found.longest_diameter_mm < 1
    mask[5, 40, 40:45] = True
    assert measure(volume, region(mask)).longest_diameter_mm == pytest.approx(4.3 * 0.7, abs=0.1)


def test_the_solid_part_of_a_part_solid_nodule() -> None:
    volume = stack(FINE)
    whole, core = ellipsoid(volume, (0, 0, 0), 9), ellipsoid(volume, (2, 0, 0), 4)
    volume.hu[whole], volume.hu[core] = -620, TISSUE_HU
    noise = np.random.default_rng(1).normal(0, 60, volume.hu.shape)
    volume.hu[:] = volume.hu + noise
    found = measure(volume, region(whole))
    assert found.solid_long_axis_mm == pytest.approx(8, abs=1.2)
    assert -620 < found.mean_hu < -400


def test_ground_glass_has_no_solid_part_and_lung_weighs_little() -> None:
    volume = stack(FINE)
    whole = ellipsoid(volume, (0, 0, 0), 8)
    volume.hu[whole] = -650
    found = measure(volume, region(whole))
    assert found.solid_long_axis_mm == 0
    assert found.mass_mg == pytest.approx(0.35 * found.volume_mm3)
    volume.hu[whole] = LUNG_HU - 174
    assert measure(volume, region(whole)).mass_mg == 0

"""The grid over a stack, and CT numbers on it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pipelines.geometry import Floats, Plane
from pipelines.grid import Grid, grid_over, resample
from pipelines.volume import Volume

# Image Orientation (Patient) of supine, prone, decubitus and mirrored pictures; read feet first or head first alike.
ORIENTATIONS = (
    ((1, 0, 0), (0, 1, 0)), ((-1, 0, 0), (0, -1, 0)), ((-1, 0, 0), (0, 1, 0)), ((1, 0, 0), (0, -1, 0)),
    ((0, 1, 0), (1, 0, 0)), ((0, -1, 0), (1, 0, 0)), ((0, 1, 0), (-1, 0, 0)), ((0, -1, 0), (-1, 0, 0)),
)  # fmt: skip
# HU per mm along x, y, z and the value at the origin: within int16 over the stacks made here, and steep.
SLOPE = np.array([3.0, -5.0, 7.0])


@st.composite
def stacks(draw: st.DrawFn) -> tuple[Plane, ...]:
    """Stacks of any orientation, tilt, pixel shape and uneven spacing, in ascending order along their normal."""
    row, column = (np.array(direction, float) for direction in draw(st.sampled_from(ORIENTATIONS)))
    tilt = np.radians(draw(st.floats(-30, 30)))
    turn = np.array([[1, 0, 0], [0, np.cos(tilt), np.sin(tilt)], [0, -np.sin(tilt), np.cos(tilt)]])
    row, column = turn @ row, turn @ column
    spacings = draw(st.floats(0.4, 2.5)), draw(st.floats(0.4, 2.5))
    gaps = draw(st.lists(st.floats(0.5, 6.0), min_size=4, max_size=12))
    normal = np.cross(row, column)
    heights = np.concatenate([[0.0], np.cumsum(gaps)])
    # The table moves along z under the tilted gantry.
    steps = heights / normal[2]
    x, y, z = draw(st.floats(-50, 50)), draw(st.floats(-50, 50)), draw(st.floats(-50, 50))
    return tuple(Plane((x, y, z + step), tuple(row), tuple(column), *spacings, 3.0) for step in steps)


def volume_of(planes: tuple[Plane, ...], hu: NDArray[np.int16]) -> Volume:
    return Volume(hu, planes, tuple(str(k) for k in range(len(planes))), (1,) * len(planes))


def ramp(planes: tuple[Plane, ...], shape: tuple[int, int] = (24, 31)) -> Volume:
    row, column = np.meshgrid(np.arange(shape[0]), np.arange(shape[1]), indexing="ij")
    hu = np.stack([np.rint(plane.patient_from_pixel(row, column) @ SLOPE) for plane in planes])
    return volume_of(planes, hu.astype(np.int16))


def all_points(grid: Grid) -> Floats:
    return grid.points(np.stack(np.indices(grid.shape), axis=-1))


def depth_inside(volume: Volume, points: Floats) -> Floats:
    """How far points lie inside the sheared block of slices, mm; below 0 they are outside of it."""
    rows, columns = volume.hu.shape[1:]
    heights = points @ np.asarray(volume.plane[0].normal)
    depths = []
    for plane in volume.plane:
        row, column = plane.pixel_from_patient(points)
        depths += [
            np.minimum(row, rows - 1 - row) * plane.row_spacing_mm,
            np.minimum(column, columns - 1 - column) * plane.column_spacing_mm,
        ]
    depths += [heights - volume.position_mm[0], volume.position_mm[-1] - heights]
    return np.asarray(np.min(depths, axis=0))


@settings(max_examples=60, deadline=None)
@given(stacks(), st.floats(0.8, 4.0))
def test_a_ramp_in_patient_space_stays_as_it_is(planes: tuple[Plane, ...], step_mm: float) -> None:
    volume = ramp(planes)
    grid = grid_over(volume, step_mm)
    points = all_points(grid)
    # What is averaged over a step at the border would need samples from beyond it.
    is_inner = depth_inside(volume, points) > 0.75 * step_mm
    difference = resample(volume, grid) - points @ SLOPE
    assert np.abs(difference[is_inner]).max(initial=0) <= 1.01


@settings(max_examples=60, deadline=None)
@given(stacks(), st.floats(0.5, 4.0), st.data())
def test_points_and_indices_are_inverse(planes: tuple[Plane, ...], step_mm: float, data: st.DataObject) -> None:
    grid = grid_over(ramp(planes), step_mm)
    index = np.array([data.draw(st.floats(-5, size + 5)) for size in grid.shape])
    assert np.allclose(grid.indices(grid.points(index)), index, atol=1e-6)
    assert np.allclose(grid.axes @ grid.axes.T, np.eye(3), atol=1e-9)
    assert grid.normal[2] > 0 and grid.left[0] > 0.5 and grid.back[1] > 0.5


@settings(max_examples=40, deadline=None)
@given(stacks(), st.floats(0.8, 3.0))
def test_the_grid_covers_the_stack(planes: tuple[Plane, ...], step_mm: float) -> None:
    volume = ramp(planes)
    grid = grid_over(volume, step_mm)
    corners = np.concatenate(
        [plane.patient_from_pixel([0, 0, 23, 23], [0, 30, 0, 30]) for plane in (volume.plane[0], volume.plane[-1])]
    )
    index = grid.indices(corners)
    assert index.min() >= -0.51 and np.all(index <= np.array(grid.shape) - 0.49)


def straight(count: int, spacing: float, pixel: float) -> tuple[Plane, ...]:
    return tuple(Plane((0.0, 0.0, spacing * k), (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), pixel, pixel, spacing)
                 for k in range(count))  # fmt: skip


def test_outside_the_stack_is_air() -> None:
    volume = volume_of(straight(6, 2.0, 1.0), np.full((6, 20, 20), 50, np.int16))
    grid = grid_over(volume, 1.0)
    beyond = grid.box((-4, -4, -4), tuple(size + 4 for size in grid.shape))
    hu = resample(volume, beyond)
    inner = np.zeros(beyond.shape, bool)
    inner[tuple(slice(4, size - 4) for size in beyond.shape)] = True
    # Up to half a slice, the outermost slice goes on beyond its middle.
    inner[[3, -4]] = inner[4]
    assert np.all(hu[inner] == 50)
    assert np.all(hu[~inner] == -1024)


def test_a_box_shows_what_the_whole_shows() -> None:
    planes = straight(8, 1.5, 0.7)
    hu = np.random.default_rng(3).integers(-1000, 1000, (8, 40, 44)).astype(np.int16)
    volume = volume_of(planes, hu)
    grid = grid_over(volume, 1.0)
    part = resample(volume, grid.box((2, 5, 7), (6, 15, 21)))
    assert np.array_equal(part, resample(volume, grid)[2:6, 5:15, 7:21])


def test_samples_finer_than_the_grid_are_averaged() -> None:
    noise = np.random.default_rng(5).normal(0, 100, (40, 60, 60)).astype(np.int16)
    fine = resample(volume := volume_of(straight(40, 0.5, 0.5), noise), grid_over(volume, 2.0))
    # 64 samples fill a voxel; a reading that took the nearest 8 would keep a standard deviation above 35.
    assert fine.std() < 20
    assert resample(volume, grid_over(volume, 0.5)).std() == pytest.approx(100, rel=0.02)


def test_fractional_values_are_read_too() -> None:
    hu = np.full((4, 8, 8), 10.6, np.float32)
    volume = replace(volume_of(straight(4, 1.0, 1.0), hu.astype(np.int16)), hu=hu)
    assert np.all(resample(volume, grid_over(volume, 1.0)) == 11)


def test_a_grid_askew_is_not_read() -> None:
    volume = ramp(straight(4, 1.0, 1.0))
    grid = grid_over(volume, 1.0)
    askew = replace(grid, left=np.array([0.8, 0.6, 0.0]), back=np.array([-0.6, 0.8, 0.0]))
    with pytest.raises(ValueError, match="parallel"):
        resample(volume, askew)

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipelines.geometry import Plane, local_thicknesses_mm, positions_mm, tilt_degrees
from pipelines.volume import Volume

angles = st.floats(min_value=-30, max_value=30)
spacings = st.floats(min_value=0.2, max_value=3)
gap_lists = st.lists(st.floats(min_value=0.5, max_value=12), min_size=2, max_size=12)


def _rotation(tilt: float, turn: float) -> np.ndarray:
    t, r = np.radians(tilt), np.radians(turn)
    about_x = np.array([[1, 0, 0], [0, np.cos(t), -np.sin(t)], [0, np.sin(t), np.cos(t)]])
    about_z = np.array([[np.cos(r), -np.sin(r), 0], [np.sin(r), np.cos(r), 0], [0, 0, 1]])
    return about_z @ about_x


@st.composite
def volumes(draw: st.DrawFn) -> Volume:
    """Tilted, turned, flipped stacks of uneven spacing, sheared as a moving table shears them."""
    rotation = _rotation(draw(angles), draw(angles))
    row, column = rotation[:, 0] * draw(st.sampled_from([1, -1])), rotation[:, 1] * draw(st.sampled_from([1, -1]))
    normal = np.cross(row, column)
    heights = np.concatenate([[0.0], np.cumsum(draw(gap_lists))])
    origins = np.array([draw(angles), draw(angles), draw(angles)]) + np.outer(heights / normal[2], [0, 0, 1.0])
    row_spacing, column_spacing = draw(spacings), draw(spacings)
    planes = tuple(Plane(tuple(o), tuple(row), tuple(column), row_spacing, column_spacing, 5.0) for o in origins)
    names = tuple(f"2.25.{k}" for k in range(len(planes)))
    return Volume(np.zeros((len(planes), 4, 6), np.int16), planes, names, (1,) * len(planes))


@given(volume=volumes(), row=st.floats(0, 500), column=st.floats(0, 500), data=st.data())
def test_a_voxel_is_found_again_from_its_patient_coordinates(
    volume: Volume, row: float, column: float, data: st.DataObject
) -> None:
    k = data.draw(st.integers(0, len(volume.plane) - 1))
    point = np.array(volume.patient_from_voxel(k, row, column))
    distances = np.abs(volume.position_mm - point @ np.array(volume.plane[0].normal))
    assert int(distances.argmin()) == k
    back = volume.plane[k].pixel_from_patient(point)
    assert np.allclose(back, (row, column), atol=1e-6)


@given(volume=volumes())
def test_local_thicknesses_fill_the_stack_and_half_a_gap_at_each_end(volume: Volume) -> None:
    gaps = np.diff(volume.position_mm)
    assert np.all(gaps > 0)
    assert np.isclose(volume.local_thickness_mm.sum(), gaps.sum() + (gaps[0] + gaps[-1]) / 2)


@given(tilt=angles, gaps=gap_lists)
def test_tilt_is_the_angle_between_table_and_normal(tilt: float, gaps: list[float]) -> None:
    column = _rotation(tilt, 0)[:, 1]
    heights = np.concatenate([[0.0], np.cumsum(gaps)])
    planes = [Plane((0.0, 0.0, z), (1.0, 0.0, 0.0), tuple(column), 1.0, 1.0, 5.0) for z in heights.tolist()]
    assert np.isclose(tilt_degrees(planes), abs(tilt), atol=1e-4)
    assert np.allclose(np.diff(positions_mm(planes)), np.array(gaps) * np.cos(np.radians(tilt)))
    assert np.all(local_thicknesses_mm(planes) > 0)

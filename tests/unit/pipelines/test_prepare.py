"""The working stack and the way back to the source's own planes."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines.geometry import Floats, Plane, Point
from pipelines.hemorrhage import prepare
from pipelines.reasons import Refusal
from pipelines.volume import Volume

SKULL_MM = np.array([72.0, 88.0, 80.0])
HALF_PIXEL = prepare.WORKING_MM / 2
SIDE = 150

AXIAL = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0))
MIRRORED = ((-1.0, 0.0, 0.0), (0.0, 1.0, 0.0))
UPSIDE_DOWN = ((-1.0, 0.0, 0.0), (0.0, -1.0, 0.0))
TRANSPOSED = ((0.0, 1.0, 0.0), (1.0, 0.0, 0.0))


def tilted(degrees: float) -> tuple[Point, Point]:
    angle = np.radians(degrees)
    return ((1.0, 0.0, 0.0), (0.0, float(np.cos(angle)), -float(np.sin(angle))))


def head_at(points: Floats, turn: float, mark: Floats) -> Floats:
    """CT numbers of an egg-shaped skull full of brain, turned about z by degrees, with a bright ball of 4 mm."""
    angle = np.radians(turn)
    rotation = np.array([[np.cos(angle), np.sin(angle), 0], [-np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    within = np.linalg.norm(points @ rotation.T / SKULL_MM, axis=-1)
    hu = np.select([within > 1, within > 0.92], [-1000.0, 1000.0], 40.0)
    return np.where(np.linalg.norm(points - mark, axis=-1) < 4, 80.0, hu)


def head_volume(
    directions: tuple[Point, Point],
    positions: Floats,
    *,
    turn: float = 0.0,
    mark: tuple[float, float, float] = (25.0, -30.0, 10.0),
    thickness: float = 5.0,
) -> Volume:
    """The head on planes that cut the z axis at `positions` (a table moves along z, whatever the tilt)."""
    row_direction, column_direction = directions
    spacing = (1.4, 1.6)
    planes = []
    for z in positions:
        corner = (
            np.array([0.0, 0.0, z])
            - np.array(row_direction) * spacing[1] * (SIDE - 1) / 2
            - np.array(column_direction) * spacing[0] * (SIDE - 1) / 2
        )
        origin = (float(corner[0]), float(corner[1]), float(corner[2]))
        planes.append(Plane(origin, row_direction, column_direction, *spacing, thickness))
    planes.sort(key=lambda plane: plane.position_mm)
    rows, columns = np.meshgrid(np.arange(SIDE), np.arange(SIDE), indexing="ij")
    hu = np.stack([head_at(plane.patient_from_pixel(rows, columns), turn, np.array(mark)) for plane in planes])
    return Volume(hu.astype(np.int16), tuple(planes), tuple(str(k) for k in range(len(planes))), (1,) * len(planes))


VOLUMES = {
    "axial": lambda: head_volume(AXIAL, np.arange(-60, 90, 5.0)),
    "mirrored rows": lambda: head_volume(MIRRORED, np.arange(-60, 90, 5.0)),
    "upside down": lambda: head_volume(UPSIDE_DOWN, np.arange(-60, 90, 5.0)),
    "transposed": lambda: head_volume(TRANSPOSED, np.arange(-60, 90, 5.0)),
    "tilted": lambda: head_volume(tilted(18.5), np.arange(-60, 90, 5.0)),
    "turned head": lambda: head_volume(AXIAL, np.arange(-60, 90, 5.0), turn=9),
    "thin": lambda: head_volume(AXIAL, np.arange(-30, 82, 1.0), thickness=1.0),
    "uneven": lambda: head_volume(AXIAL, np.concatenate([np.arange(-60, 0, 4.0), np.arange(3, 90, 7.0)])),
}


def source_pixel(volume: Volume, index: int, point: Floats) -> Floats:
    return np.array(volume.plane[index].pixel_from_patient(point))


@pytest.mark.parametrize("kind", VOLUMES)
def test_a_marked_voxel_comes_back_onto_its_own_plane(kind: str) -> None:
    volume = VOLUMES[kind]()
    prepared = prepare.prepare(volume)
    position = prepared.position_mm
    working = int(np.argmin(np.abs(position - np.dot((25.0, -30.0, 10.0), prepared.frame.normal))))
    row, column = 90, 121
    map_ = np.zeros_like(prepared.stack)
    near = np.hypot(*(np.ogrid[: prepare.ROWS, : prepare.COLUMNS][k] - (row, column)[k] for k in range(2)))
    map_[working] = np.exp(-((near / 3) ** 2))
    found = prepare.to_source(prepared, map_).astype(float)
    member = prepared.members[working][len(prepared.members[working]) // 2]
    assert found[member].max() > 0.8 * 255
    seen = np.argwhere(found[member] > 0)
    center = (seen * found[member][tuple(seen.T)][:, None]).sum(axis=0) / found[member].sum()
    plane = volume.plane[member]
    patient = plane.patient_from_pixel(*center)
    meant = prepared.frame.points(prepare.plane_position(volume, member), np.array(float(row)), np.array(float(column)))
    assert np.linalg.norm(patient - meant) < HALF_PIXEL
    others = [k for k in range(len(volume.plane)) if abs(position[working] - prepare.plane_position(volume, k)) > 6]
    assert found[others].max() == 0


@pytest.mark.parametrize("kind", VOLUMES)
def test_a_bright_ball_lands_where_the_frame_says(kind: str) -> None:
    volume = VOLUMES[kind]()
    prepared = prepare.prepare(volume)
    mark = np.array([25.0, -30.0, 10.0])
    rows, columns = prepared.frame.pixels(mark)
    working = int(np.argmin(np.abs(prepared.position_mm - mark @ prepared.frame.normal)))
    window = prepared.stack[working, int(rows) - 9 : int(rows) + 10, int(columns) - 9 : int(columns) + 10]
    bright = np.argwhere(window > 50)
    assert len(bright) > 5
    corner = np.array([int(rows) - 9, int(columns) - 9])
    np.testing.assert_allclose(bright.mean(axis=0) + corner, (rows, columns), atol=1.0)


@pytest.mark.parametrize("kind", VOLUMES)
def test_the_head_stands_upright_and_in_the_middle(kind: str) -> None:
    prepared = prepare.prepare(VOLUMES[kind]())
    assert prepared.frame.left[0] > 0.97
    assert prepared.frame.back[1] > 0.9
    bone = np.argwhere(prepared.stack.max(axis=0) > 75)
    middle = (bone.min(axis=0) + bone.max(axis=0)) / 2
    np.testing.assert_allclose(middle, ((prepare.ROWS - 1) / 2, (prepare.COLUMNS - 1) / 2), atol=6)


def test_a_turned_head_is_turned_back() -> None:
    prepared = prepare.prepare(VOLUMES["turned head"]())
    turn = np.degrees(np.arctan2(prepared.frame.left[1], prepared.frame.left[0]))
    assert abs(turn - 9) <= 3


def test_the_brain_reads_33() -> None:
    prepared = prepare.prepare(VOLUMES["axial"]())
    inside = prepared.stack[len(prepared.stack) // 2, 100:120, 60:80]
    assert float(np.median(inside)) == pytest.approx(prepare.BRAIN_HU, abs=0.5)


def test_a_windowed_series_is_prepared_the_same() -> None:
    whole = VOLUMES["axial"]()
    clipped = Volume(np.clip(whole.hu, -20, 100), whole.plane, whole.instance_uid, whole.frame)
    np.testing.assert_array_equal(prepare.prepare(whole).stack, prepare.prepare(clipped).stack)


def test_thin_slices_are_averaged_and_thick_ones_kept() -> None:
    thin, uneven = VOLUMES["thin"](), VOLUMES["uneven"]()
    sizes = [len(group) for group in prepare.group_slices(thin)]
    assert set(sizes[:-1]) == {5}
    assert sum(sizes) == len(thin.plane)
    assert [len(group) for group in prepare.group_slices(uneven)] == [1] * len(uneven.plane)


def test_neighbors_are_found_by_position() -> None:
    position = np.array([0.0, 4.0, 8.0, 9.0, 16.0, 23.0, 40.0])
    assert prepare.neighbor(position, 1, 5.0) == 3
    assert prepare.neighbor(position, 1, -5.0) == 0
    assert prepare.neighbor(position, 4, -5.0) == 3
    assert prepare.neighbor(position, 6, 5.0) == 6
    assert prepare.neighbor(position, 6, -5.0) == 6


def test_air_is_refused() -> None:
    whole = VOLUMES["axial"]()
    empty = Volume(np.full_like(whole.hu, -1000), whole.plane, whole.instance_uid, whole.frame)
    with pytest.raises(Refusal):
        prepare.prepare(empty)


def test_a_skull_full_of_air_is_refused() -> None:
    whole = VOLUMES["axial"]()
    hollow = np.where(whole.hu == 40, np.int16(-992), whole.hu)
    with pytest.raises(Refusal):
        prepare.prepare(Volume(hollow, whole.plane, whole.instance_uid, whole.frame))

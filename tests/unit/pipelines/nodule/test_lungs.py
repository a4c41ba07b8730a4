"""The lung mask on chests made of ellipsoids, in all the ways in which series come."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from pipelines.geometry import Floats, Plane
from pipelines.nodule.lungs import FARTHEST_OUTSIDE_MM, LEFT, RIGHT, Lungs, find_lungs
from pipelines.reasons import Refusal
from pipelines.volume import Volume

PIXEL_MM, SLICE_MM = 2.0, 4.0
SHAPE = (70, 124, 160)
# Patient points (LPS, mm) of the voxels, z towards the head; the body's middle is the origin.
STEPS = (SLICE_MM, PIXEL_MM, PIXEL_MM)
Z, Y, X = np.meshgrid(
    *((np.arange(size) - (size - 1) / 2) * step for size, step in zip(SHAPE, STEPS, strict=True)), indexing="ij"
)
Field = NDArray[np.float32]


def ellipsoid(center: tuple[float, float, float], radii: tuple[float, float, float]) -> NDArray[np.bool_]:
    """Voxels within an ellipsoid; center and radii in (x, y, z), mm."""
    return np.asarray(sum(((axis - c) / r) ** 2 for axis, c, r in zip((X, Y, Z), center, radii, strict=True)) < 1)


def lung(side: int, scale: float = 1.0) -> NDArray[np.bool_]:
    x = (-65.0 if side == RIGHT else 65.0) * scale
    heart = ellipsoid((15 * scale, -25 * scale, -30 * scale), (55 * scale, 45 * scale, 55 * scale))
    return ellipsoid((x, 0, 0), (50 * scale, 85 * scale, 120 * scale)) & ~heart & (-95 * scale < Z)


def body(scale: float = 1.0) -> NDArray[np.bool_]:
    return np.asarray((X / (145 * scale)) ** 2 + (Y / (108 * scale)) ** 2 < 1)


def chest(sides: tuple[int, ...] = (RIGHT, LEFT), scale: float = 1.0, lung_hu: float = -850) -> Field:
    """Body, spine, trachea and lungs, without noise."""
    hu = np.where(body(scale), 30, -1000).astype(np.float32)
    hu[ellipsoid((0, 70 * scale, 0), (18 * scale, 18 * scale, 1e4))] = 500
    for side in sides:
        hu[lung(side, scale)] = lung_hu
    hu[(np.hypot(X, Y - 20) < 9 * scale) & (Z > 0)] = -1000
    return hu


def volume_of(hu: Field, noise: float = 0.0, *, step: int = 1) -> Volume:
    """A head-first supine stack of every `step`-th slice."""
    noisy = hu + np.random.default_rng(4).normal(0, noise, hu.shape) if noise else hu
    values = np.clip(np.rint(noisy), -1024, 3071).astype(np.int16)[::step]
    heights = Z[::step, 0, 0]
    planes = tuple(
        Plane((float(X[0, 0, 0]), float(Y[0, 0, 0]), float(z)), (1.0, 0.0, 0.0), (0.0, 1.0, 0.0),
              PIXEL_MM, PIXEL_MM, SLICE_MM * step)
        for z in heights
    )  # fmt: skip
    return Volume(values, planes, tuple(str(k) for k in range(len(values))), (1,) * len(values))


def points() -> Floats:
    return np.stack([X, Y, Z], axis=-1)


def overlap(lungs: Lungs, truth: NDArray[np.bool_], side: int) -> float:
    """Dice of one side with its truth."""
    found = lungs.side_at(points()) == side
    return float(2 * (found & truth).sum() / (found.sum() + truth.sum()))


def dice(hu: Field, noise: float = 0.0, scale: float = 1.0) -> float:
    """The lesser Dice of both sides."""
    lungs = find_lungs(volume_of(hu, noise))
    return min(overlap(lungs, lung(side, scale), side) for side in (RIGHT, LEFT))


@pytest.mark.parametrize(("noise", "lung_hu"), [(0.0, -850), (100.0, -850), (40.0, -930), (40.0, -700)])
def test_both_lungs_are_found_whatever_the_noise(noise: float, lung_hu: float) -> None:
    assert dice(chest(lung_hu=lung_hu), noise) > 0.95


def test_a_childs_lungs_are_found() -> None:
    assert dice(chest(scale=0.6), scale=0.6) > 0.93


def mirrored(volume: Volume, *, rows: bool = False, columns: bool = False, slices: bool = False) -> Volume:
    """The same patient with the picture's rows, columns or slices running the other way."""
    hu, planes = volume.hu, list(volume.plane)
    order = slice(None, None, -1)
    height, width = hu.shape[1] - 1, hu.shape[2] - 1
    origins = [plane.patient_from_pixel(height * rows, width * columns) for plane in planes]
    row = tuple(-value if columns else value for value in planes[0].row_direction)
    column = tuple(-value if rows else value for value in planes[0].column_direction)
    hu = hu[:, order if rows else slice(None), order if columns else slice(None)]
    made = [
        Plane((float(x), float(y), float(z)), row, column, PIXEL_MM, PIXEL_MM, SLICE_MM)  # type: ignore[arg-type]
        for x, y, z in origins
    ]
    if slices:
        hu, made = hu[order], made[order]
    return Volume(hu, tuple(made), volume.instance_uid, volume.frame)


@pytest.mark.parametrize(
    "turned",
    [
        {"rows": True, "columns": True},  # prone, as the scanner shows it
        {"columns": True, "slices": True},  # feet first, seen from the head
        {"rows": True, "slices": True},
    ],
)
def test_the_pose_makes_no_difference(turned: dict[str, bool]) -> None:
    volume = mirrored(volume_of(chest()), **turned)
    lungs = find_lungs(volume)
    assert min(overlap(lungs, lung(side), side) for side in (RIGHT, LEFT)) > 0.95


def without_air(hu: Field, where: NDArray[np.bool_], value: float = 40) -> Field:
    return np.where(where, np.float32(value), hu)


# Center and radius, mm, and how much of it the closed lung holds at least: of what touches the chest wall or the
# mediastinum with its broad side, a crust may stay outside.
MASSES = {
    "nodule at the side": ((-106, 0, 20), 10, 0.7),
    "nodule behind": ((-65, 78, 0), 10, 0.7),
    "nodule at the mediastinum": ((-27, 0, 50), 10, 0.7),
    "mass in the lung": ((-65, 20, 20), 34, 0.9),
    "mass at the side": ((-95, 10, 20), 32, 0.7),
    "mass behind": ((65, 60, 10), 30, 0.6),
}


@pytest.mark.parametrize("name", MASSES)
def test_nodules_and_masses_belong_to_the_lung(name: str) -> None:
    center, radius, least = MASSES[name]
    tumor = ellipsoid(center, (radius,) * 3)
    side = RIGHT if center[0] < 0 else LEFT
    lungs = find_lungs(volume_of(without_air(chest(), tumor)))
    assert lungs.side_at(center) == side
    covered = lungs.side_at(points()[tumor & lung(side)]) == side
    assert covered.mean() > least


def test_heart_spine_and_liver_do_not() -> None:
    lungs = find_lungs(volume_of(chest()))
    heart = ellipsoid((15, -25, -30), (45, 35, 45))
    liver = ellipsoid((-65, 0, -115), (40, 60, 14))
    spine = ellipsoid((0, 70, 0), (16, 16, 1e4))
    for organ in (heart, liver, spine):
        assert (lungs.side_at(points()[organ]) > 0).mean() < 0.02


def test_airways_and_bowel_gas_do_not() -> None:
    stomach = ellipsoid((60, -30, -118), (35, 30, 16))
    bowel = ellipsoid((-20, -50, -128), (60, 25, 14))
    hu = without_air(chest(), stomach | bowel, -1000)
    lungs = find_lungs(volume_of(hu, noise=30))
    trachea = (np.hypot(X, Y - 20) < 9) & (Z > 0)
    for gas in (stomach, bowel, trachea):
        assert (lungs.side_at(points()[gas]) > 0).mean() < 0.1


def test_main_bronchi_that_join_the_lungs_do_not_mix_them() -> None:
    bronchi = (np.hypot(Y - 20, Z) < 7) & (np.abs(X) < 45)
    assert dice(without_air(chest(), bronchi, -1000)) > 0.95


def test_lungs_that_touch_in_front_are_parted() -> None:
    # Both lungs reach over the middle in front; two sheets of pleura, thinner than a voxel, lie between them.
    bridge = (np.abs(X) < 40) & (np.abs(Y + 58) < 12) & (Z > 20) & (Z < 60)
    pleura = bridge & (np.abs(X - 3) < PIXEL_MM / 2)
    hu = without_air(without_air(chest(), bridge, -850), pleura, -450)
    lungs = find_lungs(volume_of(hu, noise=20))
    found = lungs.side_at(points())
    assert (found[bridge & (X < -3)] == RIGHT).mean() > 0.9
    assert (found[bridge & (X > 9)] == LEFT).mean() > 0.9


@pytest.mark.parametrize("side", [RIGHT, LEFT])
def test_one_lung_alone_keeps_its_side(side: int) -> None:
    lungs = find_lungs(volume_of(chest(sides=(side,))))
    assert overlap(lungs, lung(side), side) > 0.95
    assert lungs.volume_ml[2 - side] < 20


def test_fluid_leaves_the_aerated_rest() -> None:
    hu = without_air(chest(), lung(RIGHT) & (Y > 20), 10)
    lungs = find_lungs(volume_of(hu))
    assert (lungs.side_at(points()[lung(RIGHT) & (Y < 15)]) == RIGHT).mean() > 0.95
    assert overlap(lungs, lung(LEFT), LEFT) > 0.95


def cut(volume: Volume, slices: slice, rows: slice, columns: slice) -> Volume:
    """A part of the field of view."""
    planes = []
    for plane in volume.plane[slices]:
        x, y, z = plane.patient_from_pixel(rows.start or 0, columns.start or 0).tolist()
        planes.append(Plane((x, y, z), plane.row_direction, plane.column_direction, PIXEL_MM, PIXEL_MM, SLICE_MM))
    hu = volume.hu[slices, rows, columns]
    return Volume(hu, tuple(planes), volume.instance_uid[slices], volume.frame[slices])


@pytest.mark.parametrize(
    ("slices", "rows", "columns"),
    [
        (slice(26, 40), slice(None), slice(None)),  # a slab
        (slice(None), slice(None), slice(40, 120)),  # both lungs cut at the sides
        (slice(None), slice(38, None), slice(None)),  # and in front
    ],
)
def test_lungs_cut_by_the_field_of_view_are_found(slices: slice, rows: slice, columns: slice) -> None:
    volume = cut(volume_of(chest(), noise=20), slices, rows, columns)
    lungs = find_lungs(volume)
    shown = points()[slices, rows, columns]
    for side in (RIGHT, LEFT):
        truth = lung(side)[slices, rows, columns]
        found = lungs.side_at(shown) == side
        assert 2 * (found & truth).sum() / (found.sum() + truth.sum()) > 0.94


def test_lung_cut_by_a_round_field_of_view_is_found() -> None:
    hu = np.where(np.hypot(X, Y) < 95, chest(), -2000)
    lungs = find_lungs(volume_of(hu, noise=20))
    for side in (RIGHT, LEFT):
        truth = lung(side) & (np.hypot(X, Y) < 95)
        assert overlap(lungs, truth, side) > 0.92


def test_air_beside_the_body_is_no_lung() -> None:
    # A hollow table filled with foam, arms that close a gap, and a body that the sides of the picture cut.
    hu = chest()
    hu[Y > 108] = -930
    hu[np.abs(Y - 109) < 1.5] = -300
    arms = ellipsoid((-152, 10, 0), (16, 18, 1e4)) | ellipsoid((152, 10, 0), (16, 18, 1e4))
    hu[arms] = 40
    lungs = find_lungs(volume_of(hu, noise=30))
    beside = ~body()
    assert (lungs.side_at(points()[beside]) > 0).mean() < 0.005
    assert min(overlap(lungs, lung(side), side) for side in (RIGHT, LEFT)) > 0.95


def no_lung() -> dict[str, Callable[[], Field]]:
    def head() -> Field:
        hu = np.where(ellipsoid((0, 0, 0), (80, 95, 110)), 1000, -1000).astype(np.float32)
        hu[ellipsoid((0, 0, 0), (73, 88, 103))] = 35
        hu[ellipsoid((0, -60, -70), (25, 15, 20))] = -1000
        return hu

    def abdomen() -> Field:
        hu = chest(sides=())
        hu[ellipsoid((40, -40, 0), (60, 30, 90))] = -1000
        return hu

    def phantom() -> Field:
        hu = np.where(np.hypot(X, Y) < 100, 0, -1000).astype(np.float32)
        hu[np.hypot(X - 50, Y) < 12] = -1000
        hu[np.hypot(X + 50, Y) < 12] = -800
        return hu

    return {"head": head, "abdomen": abdomen, "phantom": phantom, "air": lambda: np.full(SHAPE, -1000, np.float32)}


@pytest.mark.parametrize("name", no_lung())
def test_what_shows_no_lung_is_refused(name: str) -> None:
    with pytest.raises(Refusal) as refused:
        find_lungs(volume_of(no_lung()[name](), noise=20))
    assert refused.value.reason.code == "body_part.unexpected"


def test_where_a_point_lies() -> None:
    lungs = find_lungs(volume_of(chest()))
    assert lungs.side_at([(-65, 20, 30), (65, 20, 30), (0, -100, 0), (900, 0, 0)]).tolist() == [RIGHT, LEFT, 0, 0]
    depth = lungs.inside_mm([(-65, 20, 30), (-112, 0, 0), (-125, 0, 0), (-500, 0, 0)])
    assert depth[0] == pytest.approx(47, abs=5)
    assert depth[1] == pytest.approx(3, abs=2.5)
    assert depth[2] == pytest.approx(-10, abs=2.5)
    assert depth[3] <= -FARTHEST_OUTSIDE_MM
    assert [lungs.third_at((-65, 20, z)) for z in (-80, 10, 100)] == ["lower", "middle", "upper"]
    right, left = (float(lung(side).sum()) * PIXEL_MM**2 * SLICE_MM / 1000 for side in (RIGHT, LEFT))
    assert lungs.volume_ml == pytest.approx((right, left), rel=0.05)

"""A small made chest of which everything is known: two lungs full of vessels, and balls in them, in any pose."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pipelines.findings import Region
from pipelines.geometry import Floats, Plane, Point
from pipelines.grid import grid_over
from pipelines.nodule.lungs import Lungs
from pipelines.volume import Volume

PIXEL_MM, SLICE_MM = 3.0, 3.0
SIZE, SLICES = 100, 84
LUNG_CENTERS = np.array([[-66.0, 0.0, 0.0], [66.0, 5.0, 0.0]])
LUNG_RADII = np.array([52.0, 80.0, 95.0])


@dataclass(frozen=True)
class Pose:
    """How a chest lies in the scanner: patient points are `matrix @ point + offset` of the chest's own points."""

    degrees: float = 0.0
    breath: float = 1.0
    offset: tuple[float, float, float] = (0.0, 0.0, 0.0)

    @property
    def matrix(self) -> Floats:
        c, s = np.cos(np.radians(self.degrees)), np.sin(np.radians(self.degrees))
        turn_z, turn_x = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]), np.array([[1, 0, 0], [0, c, -s], [0, s, c]])
        return np.asarray(turn_x @ turn_z @ np.diag([1.0, 1.0, self.breath]))

    def place(self, points: Floats) -> Floats:
        return np.asarray(points @ self.matrix.T + self.offset)

    def chest(self, points: Floats) -> Floats:
        return np.asarray((points - self.offset) @ np.linalg.inv(self.matrix).T)


@dataclass(frozen=True, eq=False)
class Chest:
    """One scan of the chest, with the balls (centre in the scan, radius, mm) that are in it."""

    volume: Volume
    lungs: Lungs
    balls: tuple[tuple[Point, float], ...]


@dataclass(frozen=True)
class IdealSegmenter:
    """Gives the very ball that is nearest to each point."""

    chests: tuple[Chest, ...]
    asked: list[Point] = field(default_factory=list)

    def segment(self, volume: Volume, centers_mm: list[Point]) -> tuple[Region, ...]:
        chest = next(one for one in self.chests if np.array_equal(one.volume.hu, volume.hu))
        self.asked.extend(centers_mm)
        return tuple(region_of(volume, *min(chest.balls, key=lambda b: distance(b[0], c))) for c in centers_mm)


def distance(one: Point, other: Point) -> float:
    return float(np.linalg.norm(np.subtract(one, other)))


def region_of(volume: Volume, center: Point, radius: float) -> Region:
    rows, columns = np.indices(volume.hu.shape[1:])
    points = np.stack([plane.patient_from_pixel(rows, columns) for plane in volume.plane])
    mask = np.linalg.norm(points - center, axis=-1) <= radius
    return Region.from_volume(mask)


def scan(balls: list[tuple[Point, float]], pose: Pose = Pose(), *, seed: int = 0, vessels: int = 0) -> Chest:
    """A scan of the chest in a pose, with balls given in the chest's own coordinates (their size does not breathe)."""
    origin = (-PIXEL_MM * SIZE / 2, -PIXEL_MM * SIZE / 2 + 10)
    planes = tuple(
        Plane((*origin, (k - SLICES / 2) * SLICE_MM), (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), PIXEL_MM, PIXEL_MM, SLICE_MM)
        for k in range(SLICES)
    )
    rows, columns = np.indices((SIZE, SIZE))
    points = np.stack([plane.patient_from_pixel(rows, columns) for plane in planes]).astype(np.float32)
    own = pose.chest(points).astype(np.float32)
    hu = np.where((own[..., 0] / 145) ** 2 + (own[..., 1] / 105) ** 2 < 1, 40.0, -1000.0).astype(np.float32)
    is_lung = _in_lung(own)
    hu[is_lung] = _lung_tissue(own[is_lung], vessels)
    placed = tuple((tuple(map(float, pose.place(np.array(center)))), radius) for center, radius in balls)
    for center, radius in placed:
        part = np.clip((radius - np.linalg.norm(points - center, axis=-1)) / PIXEL_MM + 0.5, 0, 1)
        hu = hu * (1 - part) + 40 * part
    hu += np.random.default_rng(seed).normal(0, 25, hu.shape)
    names = tuple(f"2.25.7.{seed}.{k}" for k in range(SLICES))
    volume = Volume(hu.astype(np.int16), planes, names, (1,) * SLICES)
    return Chest(volume, _lungs(volume, pose), placed)  # type: ignore[arg-type]


def _in_lung(own: NDArray[np.float32]) -> NDArray[np.bool_]:
    return np.asarray(
        np.any([(((own - center) / LUNG_RADII) ** 2).sum(axis=-1) < 1 for center in LUNG_CENTERS], axis=0)
    )


def _vessels(seed: int) -> list[tuple[Floats, Floats, float]]:
    """Tubes from each hilum outwards, of 1.5 to 4 mm radius."""
    random = np.random.default_rng(1000 + seed)
    tubes = []
    for side, center in zip((1, -1), LUNG_CENTERS, strict=True):
        hilum = center + np.array([side * 35.0, 10.0, 0.0])
        for _ in range(20):
            way = random.normal(size=3) * LUNG_RADII
            end = center + way / np.linalg.norm(way / LUNG_RADII) * 0.9
            tubes.append((hilum, end, float(random.uniform(1.5, 4.0))))
    return tubes


def _lung_tissue(points: NDArray[np.float32], vessels: int) -> NDArray[np.float32]:
    """HU at points `[n, 3]` in the lungs, in the chest's own coordinates."""
    hu = np.full(len(points), -860, np.float32)
    for start, end, radius in _vessels(vessels):
        way = (end - start).astype(np.float32)
        offset = points - start.astype(np.float32)
        along = np.clip(offset @ way / (way @ way), 0, 1)
        away = np.linalg.norm(offset - along[:, None] * way, axis=-1)
        part = np.clip((radius - away) / PIXEL_MM + 0.5, 0, 1)
        hu = np.maximum(hu, hu * (1 - part) + 30 * part)
    return hu


def _lungs(volume: Volume, pose: Pose) -> Lungs:
    grid = grid_over(volume, 2.0)
    own = pose.chest(grid.points(np.moveaxis(np.indices(grid.shape), 0, -1))).astype(np.float32)
    side = _in_lung(own).astype(np.uint8)
    side[(own[..., 0] > 0) & (side > 0)] = 2
    return Lungs(grid, side, (1000.0, 1000.0))

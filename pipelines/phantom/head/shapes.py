"""Shapes that a made head is built of: signed distances and masks on a 1 mm grid in patient coordinates (LPS).

Points are (x, y, z) in mm: towards left, posterior and superior. Arrays are `[z, y, x]`. Distances are approximate
(exact for balls and tubes), negative inside.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Field = NDArray[np.float32]
Mask = NDArray[np.bool_]
Point = tuple[float, float, float]
Box = tuple[slice, slice, slice]


@dataclass(frozen=True, slots=True)
class Grid:
    """A grid of cubic voxels: the patient coordinates of its first voxel, its shape `(z, y, x)` and its step in mm."""

    origin: Point
    shape: tuple[int, int, int]
    step: float = 1.0

    def axes(self, box: Box | None = None) -> tuple[Field, Field, Field]:
        """Coordinates x, y, z of the voxels (of a box), shaped to broadcast together to `[z, y, x]`."""
        z, y, x = (
            np.arange(side, dtype=np.float32)[part] * np.float32(self.step) + np.float32(start)
            for side, start, part in zip(self.shape, self.origin[::-1], box or (slice(None),) * 3, strict=True)
        )
        return x[None, None, :], y[None, :, None], z[:, None, None]

    def box(self, low: Sequence[float], high: Sequence[float]) -> Box:
        """The part of the grid between two points, a voxel wider on each side."""
        spans = [
            slice(max(0, int((first - start) / self.step) - 1), max(0, min(side, int((last - start) / self.step) + 3)))
            for first, last, start, side in zip(low, high, self.origin, self.shape[::-1], strict=True)
        ]
        return spans[2], spans[1], spans[0]


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """A signed distance within a box of the grid."""

    box: Box
    distance: Field

    @property
    def mask(self) -> Mask:
        inside: Mask = self.distance < 0
        return inside

    def on(self, grid: Grid, beyond: float) -> Field:
        """The distance on the whole grid, `beyond` where the part's box does not reach."""
        field = np.full(grid.shape, beyond, np.float32)
        field[self.box] = self.distance
        return field


def ellipsoid_distance(axes: tuple[Field, Field, Field], center: Point, radii: Point) -> Field:
    """Approximate signed distance to an ellipsoid along the coordinate axes, exact on its surface."""
    scaled = [(axis - c) / r for axis, c, r in zip(axes, center, radii, strict=True)]
    k0 = np.sqrt(scaled[0] ** 2 + scaled[1] ** 2 + scaled[2] ** 2)
    k1 = np.sqrt(sum((part / r) ** 2 for part, r in zip(scaled, radii, strict=True)))
    distance: Field = k0 * (k0 - 1) / np.maximum(k1, 1e-6)
    return distance


def ellipsoid(grid: Grid, center: Point, radii: Point, margin: float = 0.0) -> Part:
    """An ellipsoid; the box is `margin` mm wider than it."""
    reach = [radius + margin for radius in radii]
    box = grid.box(np.subtract(center, reach).tolist(), np.add(center, reach).tolist())
    return Part(box, ellipsoid_distance(grid.axes(box), center, radii))


def tube(grid: Grid, points: Sequence[Point], radii: Sequence[float], margin: float = 0.0) -> Part:
    """A tube along straight pieces between points, its radius changing linearly from point to point."""
    reach = max(radii) + margin
    low, high = np.min(points, axis=0) - reach, np.max(points, axis=0) + reach
    box = grid.box(low.tolist(), high.tolist())
    axes = grid.axes(box)
    distance: Field | None = None
    for (start, end), (first, last) in zip(pairwise(points), pairwise(radii), strict=True):
        along = np.subtract(end, start)
        offset = [axis - np.float32(c) for axis, c in zip(axes, start, strict=True)]
        part = sum(o * np.float32(a) for o, a in zip(offset, along, strict=True)) / np.float32(along @ along)
        part = np.clip(part, 0, 1)
        squared = sum((o - part * np.float32(a)) ** 2 for o, a in zip(offset, along, strict=True))
        piece = np.sqrt(squared) - (np.float32(first) + np.float32(last - first) * part)
        distance = piece if distance is None else np.minimum(distance, piece)
    if distance is None:
        raise ValueError("a tube needs two points")
    return Part(box, distance.astype(np.float32))


def smooth_union(first: Field, second: Field, width: float) -> Field:
    """The smaller of two distances, rounded over `width` mm where they meet."""
    part = np.clip(0.5 + 0.5 * (second - first) / width, 0, 1)
    joined: Field = second + (first - second) * part - width * part * (1 - part)
    return joined


def smooth_noise(generator: np.random.Generator, shape: tuple[int, ...], length_mm: float) -> Field:
    """Smooth noise of unit SD whose values are alike over about `length_mm`."""
    step = max(1.0, length_mm / 3)
    small = tuple(int(side / step) + 6 for side in shape)
    noise = ndimage.gaussian_filter(generator.standard_normal(small, np.float32), length_mm / step / 2)
    noise /= noise.std()
    return enlarged(noise, shape, step)


def enlarged(values: Field, shape: tuple[int, ...], step: float) -> Field:
    """Values `step` voxels apart, read linearly at every voxel of `shape`."""
    for axis, side in enumerate(shape):
        place = np.arange(side, dtype=np.float32) / np.float32(step)
        low = np.minimum(place.astype(np.intp), values.shape[axis] - 2)
        part = (place - low).reshape([-1 if k == axis else 1 for k in range(values.ndim)]).astype(np.float32)
        values = values.take(low, axis) * (1 - part) + values.take(low + 1, axis) * part
    return values

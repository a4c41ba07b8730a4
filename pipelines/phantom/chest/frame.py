"""Where the parts of a made chest lie, and the means to draw them.

A point is (x, y, z) in mm from the middle of the grid's floor, an index (z, y, x).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.phantom.chest.build import ChestOptions, HardKind, HardNegative
from pipelines.phantom.chest.trees import Points
from pipelines.phantom.head.shapes import Field, Grid, Point, smooth_noise, tube

Labels = NDArray[np.uint8]
Floats = NDArray[np.float64]
Box = tuple[slice, slice, slice]
At = Sequence[float] | NDArray[np.floating[Any]]

RIGHT, LEFT = 1, 2
RUL, RML, RLL, LUL, LLL = 1, 2, 3, 4, 5
STEP_MM = 2.0
FAR_MM = 60.0


def doubled(values: Field, shape: tuple[int, ...]) -> Field:
    """Values of the lattice read linearly at every voxel of 1 mm: each second one lies between two of them."""
    for axis, side in enumerate(shape):
        low, high = (values.take(range(first, (side + 1) // 2 + first), axis) for first in (0, 1))
        wide = np.empty((*values.shape[:axis], 2 * low.shape[axis], *values.shape[axis + 1 :]), np.float32)
        before = (slice(None),) * axis
        wide[*before, ::2] = low
        np.add(low, high, out=low)
        low *= np.float32(0.5)
        wide[*before, 1::2] = low
        values = wide[*before, :side]
    return np.ascontiguousarray(values)


class Drawing:
    """One chest while it is drawn: its landmarks, and what each step leaves for the next.

    Signed distances (mm, negative inside) and HU are `[z, y, x]`, on the lattice of 2 mm (`coarse`) or at 1 mm.
    """

    # what the steps leave for each other: on the lattice
    parts: list[tuple[Field, float]]
    mediastinum: Field
    cavity: Field
    shell: Field
    lung: Field
    below: Field
    soft: Field
    # at 1 mm
    hu: Field
    distance: Field
    bone: Field
    gristle: Field
    whole: Field
    lungs: Labels
    lobes: Labels
    sheet: Field
    parenchyma: Field
    part: Field
    occupied: Field
    lumen: Field
    wall: Field
    # places
    floor_map: Field
    sheet_hu: float
    plate_x: float
    hilum_right: Floats
    hilum_left: Floats
    heart_middle: Point
    whole_origin: Point
    corner: tuple[int, int, int]
    window: Box

    def __init__(self, options: ChestOptions, generator: np.random.Generator) -> None:
        self.options, self.generator = options, generator
        o = options
        width = int(np.clip(2 * (o.half_width + o.muscle + o.fat + 26), 320, 390)) // 2 * 2
        depth = int(np.clip(2 * (o.half_depth + 22 + o.fat * 0.8) + 24, 240, 290)) // 2 * 2
        tall = int(np.clip(o.height + 36, 280, 330)) // 2 * 2
        self.origin: Point = (-width / 2, -depth / 2 - 2, 0.0)
        self.shape = (tall, depth, width)
        self.coarse = Grid(self.origin, (tall // 2 + 2, depth // 2 + 2, width // 2 + 2), STEP_MM)
        self.x, self.y, self.z = self.coarse.axes()
        self.floor = 14.0
        self.top = self.floor + o.height
        self.hard: list[HardNegative] = []
        self._place()

    def _place(self) -> None:
        """The landmarks that everything else follows."""
        draw, o = self.generator.uniform, self.options
        self.scale = o.half_width / 132
        self.kyphosis = draw(12, 30)
        self.lean = draw(-4, 4, 2)
        self.carina_z = self.floor + o.height * draw(0.63, 0.69)
        self.dome = self.floor + o.height * draw(0.24, 0.32)
        self.spine_gap = draw(28, 34) * self.scale
        self.square = draw(2.0, 2.4)
        self.carina: Point = (draw(-2, 6), self.spine_y(self.carina_z) - draw(36, 44) * self.scale, self.carina_z)

    def rise(self, z: Field | float) -> Field:
        return np.asarray((np.asarray(z, np.float32) - self.floor) / self.options.height, np.float32)

    def back_y(self, z: Field | float) -> Field:
        """The rearmost of the lungs' space at a height."""
        t = self.rise(z)
        return np.asarray(self.options.half_depth - self.kyphosis * ((t - 0.42) / 0.58) ** 2, np.float32)

    def front_y(self, z: Field | float) -> Field:
        t = np.clip((self.rise(z) - 0.42) / 0.58, 0, 1.2)
        low = np.clip(0.3 - self.rise(z), 0, 0.3)
        depth = 2 * self.options.half_depth
        return np.asarray(-self.options.half_depth + 0.30 * depth * t**1.4 + 20 * low, np.float32)

    def half_width(self, z: Field | float) -> Field:
        t = np.clip(self.rise(z), -0.2, 1)
        o = self.options
        return np.asarray(
            o.half_width * (1 - 0.34 * np.clip(t - 0.25, 0, 1) ** 2.2 / 0.75**2.2 - 0.02 * (1 - t)), np.float32
        )

    def spine_y(self, z: Field | float) -> float:
        return float(self.back_y(z)) - self.spine_gap

    def noise(self, length_mm: float) -> Field:
        return smooth_noise(self.generator, self.coarse.shape, length_mm / STEP_MM)

    def blob(self, center: At, radii: At) -> Field:
        scaled = [
            (axis - np.float32(c)) / np.float32(r)
            for axis, c, r in zip((self.x, self.y, self.z), center, radii, strict=True)
        ]
        k0 = np.sqrt(scaled[0] ** 2 + scaled[1] ** 2 + scaled[2] ** 2)
        return np.asarray((k0 - 1) * np.float32(min(radii)), np.float32)

    def pipe(self, points: Sequence[Sequence[float]], radii: Sequence[float], margin: float = 24.0) -> Field:
        line = [(float(p[0]), float(p[1]), float(p[2])) for p in points]
        return tube(self.coarse, line, radii, margin).on(self.coarse, FAR_MM)

    def index(self, points: Sequence[At] | Points) -> Points:
        """Points (x, y, z) as fractional indices (z, y, x) of the voxels."""
        return (np.asarray(points, np.float32) - np.asarray(self.origin, np.float32))[..., ::-1]

    def around(self, center: At, reach: At) -> Box | None:
        at, wide = self.index([center])[0], np.array(reach)[::-1]
        low = np.maximum(np.floor(at - wide).astype(int), 0)
        high = np.minimum(np.ceil(at + wide).astype(int) + 1, self.shape)
        if (low >= high).any():
            return None
        return slice(low[0], high[0]), slice(low[1], high[1]), slice(low[2], high[2])

    def around_index(self, at: Points, reach: float) -> tuple[slice, slice, slice]:
        low = np.clip(np.floor(at - reach).astype(int), 0, np.array(self.shape) - 1)
        high = np.clip(np.ceil(at + reach).astype(int) + 1, 1, self.shape)
        return slice(low[0], high[0]), slice(low[1], high[1]), slice(low[2], high[2])

    def axes(self, box: Box) -> tuple[Field, Field, Field]:
        return Grid(self.origin, self.shape).axes(box)

    def note(self, kind: HardKind, point: At, radius_mm: float) -> None:
        self.note_index(kind, self.index([point])[0], radius_mm)

    def note_index(self, kind: HardKind, at: At, radius_mm: float) -> None:
        k, j, i = (round(float(value)) for value in at)
        if 0 <= k < self.shape[0] and 0 <= j < self.shape[1] and 0 <= i < self.shape[2]:
            self.hard.append(HardNegative(kind, (k, j, i), float(radius_mm)))

"""How a view flattens a breast: its outline on the image, and where places of the breast come to lie.

Images are drawn with the chest wall at the left border; those of right breasts are mirrored in the end. Image
coordinates are (column, row) in mm from the first pixel's outer corner.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from pipelines.phantom.breast.anatomy import MadeBreast
from pipelines.phantom.breast.texture import Field, Points, enlarged

Generator = np.random.Generator
View = Literal["CC", "MLO"]

STEP_MM = 0.5
BEYOND_MM = 40.0
"""How far the outline is known beyond the image's borders, where breast and chest go on."""


@dataclass(frozen=True, slots=True)
class Projection:
    """A view of one breast.

    Lengths in mm: `depth` from the chest wall to the nipple, `above` and `below` half the width on either side of the
    nipple's axis, `row` where that axis meets the left border. `tilt` (radians) is how far the axis points down, and
    `square` the exponent of the outline (2: an ellipse). In MLO views `armpit` is how wide the image's upper part is
    filled, `muscle` the pectoral muscle's edge: where it meets the upper border (mm from the left one), and where the
    left one (mm from the upper one), 0: no muscle; `bow` how far that bulges, as a part of its length.
    """

    view: View
    height: float
    width: float
    depth: float
    above: float
    below: float
    row: float
    tilt: float
    square: float
    armpit: float
    muscle: tuple[float, float]
    bow: float

    @staticmethod
    def random(generator: Generator, breast: MadeBreast, view: View, field_mm: tuple[float, float]) -> Projection:
        """How a radiographer places a breast on a detector of (height, width) mm."""
        o, uniform = breast.options, generator.uniform
        height, width = field_mm
        depth = min(o.depth_mm * uniform(0.97, 1.03), width - 12)
        half = o.width_mm / 2
        if view == "CC":
            row = height * uniform(0.45, 0.55)
            above, below = half * uniform(1.0, 1.12), half * uniform(0.95, 1.05)
            muscle = (uniform(3, 12), 0.0) if generator.random() < 0.2 else (0.0, 0.0)
            return Projection(view, height, width, depth, above, below, row, 0.0, uniform(1.85, 2.3), 0.0, muscle, 0.0)
        angle = uniform(0.3, 0.5)
        tilt = angle * uniform(0.25, 0.45)
        below = half * uniform(0.8, 0.95)
        reach = depth * np.sin(tilt)
        row = min(height * uniform(0.52, 0.62), height - below - 12)
        edge = (row + uniform(-15, 10)) if generator.random() < 0.85 else row * uniform(0.5, 0.8)
        muscle = (min(float(edge * np.tan(angle)), 0.5 * width), float(edge))
        armpit = min(max(o.depth_mm * uniform(0.55, 0.75), muscle[0] + uniform(8, 20)), 0.9 * depth)
        return Projection(
            view, height, width, depth, row * uniform(0.85, 1.0), below, row - 0.3 * reach, tilt, uniform(1.9, 2.4),
            armpit, muscle, uniform(-0.01, 0.04),
        )  # fmt: skip

    @property
    def nipple(self) -> tuple[float, float]:
        """Where the nipple's base is."""
        return self.depth * float(np.cos(self.tilt)), self.row + self.depth * float(np.sin(self.tilt))

    def inward(self, column: Field, row: Field) -> tuple[Field, Field]:
        """Depth from the chest wall, 1 at the nipple, and place across, -1 to 1 within the breast proper."""
        cosine, sine = np.float32(np.cos(self.tilt)), np.float32(np.sin(self.tilt))
        down = row - np.float32(self.row)
        anterior = (column * cosine + down * sine) / np.float32(self.depth)
        upward = column * sine - down * cosine
        half = np.where(upward > 0, np.float32(self.above), np.float32(self.below)) * self._taper(np.asarray(anterior))
        return np.asarray(anterior, np.float32), np.asarray(upward / half, np.float32)

    def _taper(self, anterior: Field) -> Field:
        """Half the width at a depth, against that at the chest wall; behind the nipple it does not vanish."""
        inner = np.clip(anterior, 0, 0.985)
        found: Field = (1 - inner ** np.float32(self.square)) ** np.float32(1 / self.square)
        return found

    def on_image(self, places: Points) -> Points:
        """Where places (anterior, outer, up) of the breast come to lie: `[point, (column, row)]` in mm."""
        across = places[:, 1] if self.view == "CC" else (places[:, 1] + places[:, 2]) * np.sqrt(0.5)
        anterior = places[:, 0] * self.depth
        half = np.where(across > 0, self.above, self.below) * self._taper(np.asarray(places[:, 0], np.float32))
        upward = across * half
        cosine, sine = np.cos(self.tilt), np.sin(self.tilt)
        return np.stack([anterior * cosine + upward * sine, self.row + anterior * sine - upward * cosine], -1)

    def seen(self, offsets: Points) -> Points:
        """Offsets in the breast (towards the nipple, outer, up; mm) as they are seen: `[point, (column, row)]`, mm."""
        across = offsets[:, 1] if self.view == "CC" else (offsets[:, 1] + offsets[:, 2]) * np.sqrt(0.5)
        cosine, sine = np.cos(self.tilt), np.sin(self.tilt)
        return np.stack([offsets[:, 0] * cosine + across * sine, offsets[:, 0] * sine - across * cosine], -1)

    def heading(self, points: Points) -> Points:
        """Direction to the nipple, as far as it makes sense, at points (column, row)."""
        column, row = self.nipple
        return np.asarray(np.arctan2(row - points[:, 1], np.maximum(column + 15 - points[:, 0], 5.0)))

    def skin_depth(self, generator: Generator, shape: tuple[int, int], pitch: float) -> Field:
        """Distance (mm) from the skin line inwards, negative outside, at every pixel."""
        rows = np.arange(-BEYOND_MM, self.height + BEYOND_MM, STEP_MM, dtype=np.float32)[:, None]
        columns = np.arange(-BEYOND_MM, self.width + 5, STEP_MM, dtype=np.float32)[None, :]
        mask = self._covered(columns, rows, generator)
        smooth = ndimage.gaussian_filter(mask.astype(np.float32), 7 / STEP_MM, mode="nearest") > 0.5
        mask = smooth | (mask & (columns > 0.6 * self.depth))
        away = ndimage.distance_transform_edt(mask) - ndimage.distance_transform_edt(~mask)
        away = ndimage.gaussian_filter(away.astype(np.float32) * np.float32(STEP_MM), 1.0 / STEP_MM, mode="nearest")
        return at_pixels(away, (-BEYOND_MM, -BEYOND_MM), STEP_MM, shape, pitch)

    def _covered(self, columns: Field, rows: Field, generator: Generator) -> NDArray[np.bool_]:
        anterior, _ = self.inward(columns, rows)
        body = np.abs(np.clip(anterior, 0, None)) ** np.float32(self.square)
        cosine, sine = np.float32(np.cos(self.tilt)), np.float32(np.sin(self.tilt))
        upward = columns * sine - (rows - np.float32(self.row)) * cosine
        half = np.where(upward > 0, np.float32(self.above), np.float32(self.below))
        inside: NDArray[np.bool_] = body + np.abs(upward / half) ** np.float32(self.square) < 1
        if self.view == "MLO":
            slope = np.float32(generator.uniform(-0.1, 0.2))
            arm = columns < np.float32(self.armpit) + slope * (np.float32(self.row * 0.4) - rows)
            inside |= arm & (rows < self.row) & (upward > 0)
        return inside

    def muscle_depth(self, shape: tuple[int, int], pitch: float) -> Field | None:
        """Distance (mm) from the muscle's edge into it, at every pixel."""
        top, left = self.muscle
        if top <= 0:
            return None
        columns = (np.arange(shape[1], dtype=np.float32) + np.float32(0.5)) * np.float32(pitch)
        rows = (np.arange(shape[0], dtype=np.float32) + np.float32(0.5)) * np.float32(pitch)
        if self.view == "CC":
            bow = ((rows - np.float32(self.row)) / np.float32(0.35 * self.height)) ** 2
            return np.asarray(np.float32(top) * (1 - bow)[:, None] - columns[None, :], np.float32)
        length = np.float32(np.hypot(top, left))
        flat = (
            (1 - columns[None, :] / np.float32(top) - rows[:, None] / np.float32(left))
            * np.float32(top * left)
            / length
        )
        bow = np.float32(4 * self.bow) * length * (rows / np.float32(left)) * (1 - rows / np.float32(left))
        return np.asarray(flat + np.where(rows < left, bow, 0)[:, None], np.float32)


def at_pixels(
    values: Field, first_mm: tuple[float, float], step_mm: float, shape: tuple[int, int], pitch: float
) -> Field:
    """Values of a coarse grid, whose first lies at (column, row) mm, read linearly at every pixel's middle."""
    found = values
    for axis, side in enumerate(shape):
        at = (np.arange(side, dtype=np.float32) + np.float32(0.5)) * np.float32(pitch) - np.float32(first_mm[1 - axis])
        at = np.clip(at / np.float32(step_mm), 0, values.shape[axis] - 1.001)
        low = at.astype(np.intp)
        part = (at - low).reshape((-1, 1) if axis == 0 else (1, -1))
        first = found.take(low, axis)
        found = first + (found.take(low + 1, axis) - first) * part
    return np.asarray(found, np.float32)


def gland_seen(breast: MadeBreast, projection: Projection, shape: tuple[int, int], pitch: float) -> Field:
    """The part of the beam's way through the breast that lies in gland (0 to 1), from the map in three dimensions."""
    anterior, outer, up = breast.gland.shape
    gland = breast.gland
    cross = np.linspace(-1, 1, outer, dtype=np.float32)
    if projection.view == "MLO":
        s, d = np.meshgrid(cross, cross, indexing="ij")
        u, w = ((s - d) * np.float32(np.sqrt(0.5)), (s + d) * np.float32(np.sqrt(0.5)))
        at = np.stack([(u + 1) * np.float32((outer - 1) / 2), (w + 1) * np.float32((up - 1) / 2)])
        gland = np.stack([ndimage.map_coordinates(layer, at, np.float32, order=1, mode="nearest") for layer in gland])
    chord = cross[:, None] ** 2 + cross[None, :] ** 2 <= 1
    flat = (gland * chord).sum(axis=2) / np.maximum(chord.sum(axis=1), 1)
    flat = ndimage.gaussian_filter(flat, (0.5, 0.5))
    coarse = (-(-int(shape[0] * pitch) // 1), -(-int(shape[1] * pitch) // 1))
    rows = ((np.arange(coarse[0], dtype=np.float32) + np.float32(0.5)) * np.float32(shape[0] * pitch / coarse[0]))[
        :, None
    ]
    columns = ((np.arange(coarse[1], dtype=np.float32) + np.float32(0.5)) * np.float32(shape[1] * pitch / coarse[1]))[
        None, :
    ]
    depth, across = projection.inward(columns, rows)
    at = np.stack([depth * anterior - np.float32(0.5), (across + 1) * np.float32((outer - 1) / 2)])
    seen = ndimage.map_coordinates(flat, at, np.float32, order=1, mode="nearest")
    seen *= np.clip((np.float32(1.1) - np.abs(across)) * np.float32(5), 0, 1)
    return enlarged(seen.astype(np.float32), shape)

"""What is often found in lungs and is no nodule: scars, plates, tags, plaques and fluid."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipelines.phantom.chest.frame import LEFT, RIGHT, Drawing
from pipelines.phantom.chest.lungs import lung_voxels, somewhere
from pipelines.phantom.chest.trees import Points, distance_to_piece
from pipelines.phantom.head.shapes import Field, Grid

Floats = NDArray[np.float32]


def draw_findings(d: Drawing, hu: Field) -> None:
    """All that the options ask for, at random places."""
    draw = d.generator.uniform
    for _ in range(d.options.scars):
        _band(d, hu, draw(8, 30), draw(0.8, 2.0), draw(-300, 0))
    for _ in range(d.options.plates):
        _plate(d, hu)
    for _ in range(d.options.tags):
        _tag(d, hu)
    for _ in range(d.options.plaques):
        _plaque(d, hu)
    if d.options.effusion_mm:
        _fluid(d, hu)


def _surface(d: Drawing) -> tuple[Floats, Floats] | None:
    """A voxel under the pleura, and the unit direction from it into the lung (both z, y, x)."""
    for _ in range(30):
        k, j, i = lung_voxels(d, 1, depth_mm=0.5)[0].tolist()
        if not (6 < k < d.shape[0] - 6 and 6 < j < d.shape[1] - 6 and 6 < i < d.shape[2] - 6):
            continue
        spot = np.array([k, j, i], float)
        for _step in range(12):
            a, b, c = np.clip(np.rint(spot).astype(int), 3, np.array(d.shape) - 4)
            slope = (
                np.array(
                    [
                        d.distance[a + 2, b, c] - d.distance[a - 2, b, c],
                        d.distance[a, b + 2, c] - d.distance[a, b - 2, c],
                        d.distance[a, b, c + 2] - d.distance[a, b, c - 2],
                    ]
                )
                / 4
            )
            spot = spot - float(d.distance[a, b, c]) * slope / max(float(slope @ slope), 0.1) * 0.7
            spot = np.clip(spot, 3, np.array(d.shape) - 4)
        a, b, c = np.rint(spot).astype(int)
        if abs(d.distance[a, b, c]) < 1.5:
            return spot.astype(np.float32), np.asarray(-slope / max(float(np.linalg.norm(slope)), 1e-3), np.float32)
    return None


def _paint(  # noqa: PLR0917  what, where, how, in this order
    d: Drawing, hu: Field, first: Points, last: Points, radius: float, value: float
) -> None:
    found = distance_to_piece(d.shape, first, last, radius + 1)
    if found is not None:
        box, distance = found
        part = np.clip(radius + 0.5 - distance, 0, 1) * (d.lungs[box] > 0)
        hu[box] += part * np.maximum(value - hu[box], 0)


def _band(d: Drawing, hu: Field, length: float, radius: float, value: float) -> None:
    """A scar: a crooked band from the pleura inwards, thinner and thinner."""
    found = _surface(d)
    if found is None:
        return
    at, inward = found
    way = inward + d.generator.normal(0, 0.5, 3)
    way /= np.linalg.norm(way)
    line = at + np.linspace(0, length, 6)[:, None] * way + d.generator.normal(0, 0.9, (6, 3))
    for first, last, reach in zip(line[:-1], line[1:], np.linspace(radius * 1.5, radius * 0.6, 5), strict=True):
        _paint(d, hu, first.astype(np.float32), last.astype(np.float32), float(reach), value)
    d.note_index("scar", line[1], 5)


def _tag(d: Drawing, hu: Field) -> None:
    """A thread from the pleura into the lung, at whose foot the pleura is drawn up like a tent.

    The tent is low and wide: a round one would be just what a nodule at the pleura is.
    """
    draw = d.generator.uniform
    found = _surface(d)
    if found is None:
        return
    at, inward = found
    _thicken(d, hu, at, draw(2.5, 5), draw(0.6, 1.6), 20)
    _paint(d, hu, at, (at + inward * draw(5, 18)).astype(np.float32), draw(0.4, 0.9), -100)
    d.note_index("pleural_tag", at, 4)


def _plate(d: Drawing, hu: Field) -> None:
    """A thin plate of collapsed lung, mostly low and level."""
    draw = d.generator.uniform
    at = d.index([somewhere(d, 6)])[0]
    at[0] = d.floor + draw(0.15, 0.4) * d.options.height
    box = d.around_index(at, 26)
    z, y, x = np.ogrid[box]
    normal = np.array([1, *d.generator.normal(0, 0.3, 2)])
    normal /= np.linalg.norm(normal)
    high = (z - at[0]) * normal[0] + (y - at[1]) * normal[1] + (x - at[2]) * normal[2]
    out = np.sqrt((y - at[1]) ** 2 + (x - at[2]) ** 2 / draw(0.3, 1))
    part = np.clip(draw(0.5, 1.6) + 0.5 - np.abs(high), 0, 1) * np.clip(draw(10, 20) - out, 0, 1) * (d.lungs[box] > 0)
    hu[box] += part * np.maximum(draw(-300, 0) - hu[box], 0)
    d.note_index("atelectasis", at, 10)


def _plaque(d: Drawing, hu: Field) -> None:
    """A flat thickening of the pleura, calcified in some."""
    draw = d.generator.uniform
    found = _surface(d)
    if found is None:
        return
    at, _ = found
    wide, thick = draw(6, 18), draw(1.5, 4)
    _thicken(d, hu, at, wide, thick, draw(20, 60))
    if draw() < 0.5:
        _thicken(d, hu, at, wide / 1.3, 0.7 * thick, draw(200, 700), beneath_mm=0.5)
    d.note_index("pleural_plaque", at, wide)


def _thicken(  # noqa: PLR0917  where, how far, how much, in this order
    d: Drawing, hu: Field, at: Floats, wide: float, thick: float, value: float, *, beneath_mm: float = -1.0
) -> None:
    """A lens of `value` on the pleura about `at`, as far from the surface as `beneath_mm`, all in mm."""
    box = d.around_index(at, wide)
    z, y, x = np.ogrid[box]
    out = np.sqrt((z - at[0]) ** 2 + (y - at[1]) ** 2 + (x - at[2]) ** 2) / wide
    depth = -d.distance[box]
    part = np.clip(thick * np.clip(1 - out**2, 0, 1) ** 0.5 - depth + 0.5, 0, 1) * (depth > beneath_mm)
    hu[box] += part * (value - hu[box])


def _fluid(d: Drawing, hu: Field) -> None:
    """A sickle of fluid between lung and wall: thickest below and where gravity takes it."""
    side = RIGHT if d.generator.random() < 0.6 else LEFT
    _, y, z = Grid(d.origin, d.shape).axes()
    back, front = d.back_y(z), d.front_y(z)
    down = (back - y if d.options.is_prone else y - front) / (back - front)
    thickness = d.options.effusion_mm * np.clip((down - 0.4) / 0.6, 0, 1) ** 1.3 * np.clip(1.3 - d.rise(z), 0, 1)
    wet = (d.lungs == side) & (-d.distance < thickness - 2)
    hu[wet] = 8
    d.lungs[wet] = 0

"""A made chest: clean Hounsfield units at 1 mm out of shapes, tubes and branching trees, with no data of anybody.

Arrays are `[z, y, x]` with z towards the head, y towards the back and x towards the patient's left, so that indices
grow along the axes of the patient (LPS). Within the drawing a point is (x, y, z) in mm from the middle of the grid's
floor. Smooth shapes are signed distances (negative inside) on a lattice of 2 mm, read linearly at 1 mm; ribs and
vessels are drawn at 1 mm within their boxes. Nodules are painted by `pipelines.phantom.chest.nodules`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from pipelines.phantom.chest import body, bones, lungs, vessels
from pipelines.phantom.chest.build import ChestOptions, HardNegative
from pipelines.phantom.chest.findings import draw_findings
from pipelines.phantom.chest.frame import Drawing, Labels
from pipelines.phantom.head.shapes import Field, Mask, Point


@dataclass(frozen=True, slots=True, eq=False)
class Chest:
    """A made chest on voxels of 1 mm, all arrays `[z, y, x]`.

    `hu` is int16 without noise or blur. `lungs` is 0 outside, 1 in the right and 2 in the left lung (vessels included,
    the large ones of the hilum excluded); `lobes` 0 or 1 to 5 (RUL, RML, RLL, LUL, LLL); `vessel` 1 where most of a
    voxel in the lung is vessel; `fissure` marks the fissures' sheets. `origin_mm` is the patient point (LPS) of voxel
    (0, 0, 0).
    """

    hu: NDArray[np.int16]
    lungs: Labels
    lobes: Labels
    vessel: Labels
    fissure: Mask
    origin_mm: Point
    hard: tuple[HardNegative, ...]
    options: ChestOptions


def make_chest(generator: np.random.Generator, *, options: ChestOptions | None = None) -> Chest:
    """A chest of random build, or with the given `options`. Takes about 8 s of one core."""
    drawing = Drawing(options or ChestOptions.random(generator), generator)
    body.shape_mediastinum(drawing)
    body.shape_lungs(drawing)
    body.draw_soft_tissue(drawing)
    body.enlarge(drawing)
    bones.draw_bones(drawing)
    lungs.crop(drawing)
    lungs.draw_lungs(drawing)
    vessels.draw_trees(drawing)
    _finish(drawing)
    return _assembled(drawing)


def _finish(d: Drawing) -> None:
    o = d.options
    hu, part = d.hu, d.part
    hu += part * (d.parenchyma - hu)
    draw_findings(d, hu)
    blood = o.contrast_hu if o.contrast_hu > 60 else 35.0
    near = d.lungs > 0
    near |= _hilar(d)
    vessel = np.where(near, d.occupied, 0)
    hu += vessel * (blood - hu)
    wall = np.where(near | (d.lumen > 0), d.wall, 0)
    hu += wall * (20 - hu)
    hu += d.lumen * (-990 - hu)
    _move_heart(d, hu)
    large = (d.lumen > 0.5) | (d.occupied > 0.5) & ~(d.distance < -1)
    d.lungs[large & (d.distance > -6)] = 0
    d.lobes[d.lungs == 0] = 0


def _move_heart(d: Drawing, hu: Field) -> None:
    """The heart's edge is blurred by its motion, and so is the lung beside it."""
    if not d.options.cardiac_blur:
        return
    box = d.around(d.heart_middle, (85, 75, 70))
    if box is None:
        return
    x, y, z = d.axes(box)
    a, b, c = d.heart_middle
    far = np.sqrt(((x - a) / 75) ** 2 + ((y - b) / 62) ** 2 + ((z - c) / 58) ** 2)
    weight = np.clip((1.15 - far) / 0.3, 0, 1)
    blurred = ndimage.gaussian_filter(
        hu[box], (0.5 * d.options.cardiac_blur,) + (d.options.cardiac_blur,) * 2, truncate=2.5
    )
    hu[box] += weight * (blurred - hu[box])


def _hilar(d: Drawing) -> Mask:
    mask = np.zeros(d.shape, np.bool_)
    for center in (d.hilum_right, d.hilum_left):
        box = d.around(center, (42, 40, 55))
        if box is not None:
            mask[box] = True
    return mask


def _assembled(d: Drawing) -> Chest:
    def whole(values: NDArray[np.generic], dtype: type) -> NDArray[Any]:
        full: NDArray[Any] = np.zeros(d.whole.shape, dtype)
        full[d.window] = values
        return full

    inside = d.lungs > 0
    hu = np.rint(np.clip(d.whole, -1024, 3000)).astype(np.int16)
    vessel = (d.occupied > 0.5) & inside
    fissure = (d.sheet > 0.3) & inside
    for at in d.generator.permutation(np.argwhere(fissure[::4, ::4, ::4]) * 4)[:10]:
        d.note_index("fissure", at, 4)
    hard = [replace(place, center=_moved(place.center, d.corner)) for place in d.hard]

    return Chest(
        hu,
        whole(d.lungs, np.uint8),
        whole(d.lobes, np.uint8),
        whole(vessel, np.uint8),
        whole(fissure, np.bool_),
        d.whole_origin,
        tuple(hard),
        d.options,
    )


def _moved(index: tuple[int, int, int], corner: tuple[int, int, int]) -> tuple[int, int, int]:
    (k, j, i), (z, y, x) = index, corner
    return k + z, j + y, i + x

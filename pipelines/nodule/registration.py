"""Where a point of today's chest lies in an earlier CT of it: an affine map of the lungs, then a look at each place.

The chest lies otherwise on the table and breathes otherwise each time. The affine map takes up pose and depth of breath
as a whole; what is left, near the diaphragm up to a centimetre or two, is found by comparing what lies round a place.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import SimpleITK
from numpy.typing import NDArray
from scipy import ndimage, signal

from pipelines.geometry import Floats, Point
from pipelines.grid import Grid, grid_over, resample
from pipelines.nodule.lungs import Lungs
from pipelines.volume import Volume

STEP_MM = 4.0
START_STEP_MM = 8.0
MARGIN_MM = 16.0
LOWEST_HU, HIGHEST_HU = -1000.0, 200.0
"""Air to soft tissue: contrast medium and metal are not to pull."""
START_SHIFTS_MM = np.arange(-64.0, 65.0, 8.0)
START_SCALES = (0.9, 1.0, 1.1)
ITERATIONS = 80
LEAST_OVERLAP = 0.7
LEAST_SIMILARITY = 0.5
"""Dice coefficient of the lungs, and correlation of the CT numbers about them, below which two chests are not one."""

PATCH_STEP_MM = 1.5
SURROUNDINGS_MM = 15.0
SEARCH_MM = 15.0
COST_PER_MM = 0.01
"""Of correlation, for each mm away from where the affine map points."""
RIM_MM = 3.0
WANDER_MM = 3.0


@dataclass(frozen=True, slots=True, eq=False)
class Registration:
    """The affine map `matrix @ point + offset` from patient points now to those of the earlier CT (LPS, mm).

    `similarity` is the correlation of the CT numbers in and about the lungs, `overlap` the Dice coefficient of the
    lungs.
    """

    matrix: Floats
    offset: Floats
    similarity: float
    overlap: float

    def before(self, points: Floats) -> Floats:
        """Points of the earlier CT, `[..., 3]`, for points of now."""
        return np.asarray(points @ self.matrix.T + self.offset)

    def now(self, points: Floats) -> Floats:
        """Points of now, `[..., 3]`, for points of the earlier CT."""
        return np.asarray((points - self.offset) @ np.linalg.inv(self.matrix).T)

    @property
    def is_good(self) -> bool:
        """Whether the two are images of one chest, as far as can be told, and lie on each other."""
        return self.similarity >= LEAST_SIMILARITY and self.overlap >= LEAST_OVERLAP


@dataclass(frozen=True, slots=True)
class Place:
    """Where something of now would be in the earlier CT.

    `is_covered` says whether the earlier CT shows that place, `looks_alike` is the correlation, up to 1, of what lies
    round it, and `is_there` the correlation of the thing itself with what lies at the place.
    """

    point: Point
    is_covered: bool
    looks_alike: float
    is_there: float


@dataclass(frozen=True, slots=True, eq=False)
class _Chest:
    """CT numbers, cut to air and soft tissue, over the box of the lungs, and the lungs on the same grid."""

    grid: Grid
    hu: NDArray[np.float32]
    lungs: NDArray[np.bool_]


def register(now: Volume, now_lungs: Lungs, before: Volume, before_lungs: Lungs) -> Registration:
    """Lay an earlier CT of the same chest on the one of now; the same input gives the same map.

    Check `is_good` of what comes back. Takes a second or two: all is done at 4 mm, on one thread.
    """
    fixed, moving = _chest(now, now_lungs), _chest(before, before_lungs)
    start = _start(fixed, moving)
    transform = _refine(fixed, moving, start)
    matrix = np.array(transform.GetMatrix()).reshape(3, 3)
    center = np.array(transform.GetCenter())
    offset = np.array(transform.GetTranslation()) + center - matrix @ center
    return _judged(fixed, moving, matrix, offset)


def find_again(now: Volume, before: Volume, registration: Registration, center: Point, diameter_mm: float) -> Place:
    """Look for a round thing of now, of this diameter, in the earlier CT: first by what lies round it."""
    expected = registration.before(np.asarray(center))
    reach = max(SURROUNDINGS_MM, diameter_mm / 2 + 8.0)
    template = _patch(now, np.asarray(center), np.eye(3), reach)
    picture = _patch(before, expected, registration.matrix, reach + SEARCH_MM)
    ball = _ball(template.shape, reach / PATCH_STEP_MM)
    # With the thing and without it, which may be new: what fits better tells the place.
    shell = ball - _ball(template.shape, (diameter_mm / 2 + RIM_MM) / PATCH_STEP_MM)
    alike = np.maximum(_correlation(picture, template, ball), _correlation(picture, template, shell))
    shifts = _offsets(alike.shape)
    best = np.unravel_index(np.argmax(alike - COST_PER_MM * np.linalg.norm(shifts, axis=-1)), alike.shape)
    shift = shifts[best]
    point = expected + registration.matrix @ shift
    core = min(reach, diameter_mm / 2 + RIM_MM)
    small = _patch(now, np.asarray(center), np.eye(3), core)
    there = _patch(before, point, registration.matrix, core + WANDER_MM)
    is_there = float(_correlation(there, small, _ball(small.shape, core / PATCH_STEP_MM)).max())
    x, y, z = (float(v) for v in point)
    return Place((x, y, z), _is_covered(before, point), float(alike[best]), is_there)


def _chest(volume: Volume, lungs: Lungs) -> _Chest:
    whole = grid_over(volume, STEP_MM)
    inside = lungs.grid.points(np.argwhere(lungs.side > 0))
    index = whole.indices(inside)
    margin = MARGIN_MM / STEP_MM
    low = np.maximum(np.floor(index.min(axis=0) - margin), 0).astype(int)
    high = np.minimum(np.ceil(index.max(axis=0) + margin) + 1, whole.shape).astype(int)
    grid = whole.box(low.tolist(), high.tolist())
    hu = np.clip(resample(volume, grid), LOWEST_HU, HIGHEST_HU).astype(np.float32)
    mask = lungs.side_at(grid.points(np.moveaxis(np.indices(grid.shape), 0, -1))) > 0
    return _Chest(grid, hu, mask)


def _start(fixed: _Chest, moving: _Chest) -> tuple[Floats, Floats]:
    """Matrix and offset to begin with: the lungs' centres on each other, the best of a row of heights and breaths.

    Heights are tried one by one, because lungs that are cut off at an end have no comparable centre.
    """
    every = round(START_STEP_MM / STEP_MM)
    index = np.stack(np.meshgrid(*(np.arange(0, n, every) for n in fixed.grid.shape), indexing="ij"), axis=-1)
    near = ndimage.binary_dilation(fixed.lungs, iterations=2)
    index = index[near[tuple(np.moveaxis(index, -1, 0))]]
    points, values = fixed.grid.points(index), fixed.hu[tuple(index.T)]
    here, there = (chest.grid.points(np.argwhere(chest.lungs)).mean(axis=0) for chest in (fixed, moving))
    width = np.array([np.ptp(chest.grid.points(np.argwhere(chest.lungs))[:, 0]) for chest in (fixed, moving)])
    across = float(np.clip(width[1] / width[0], 0.85, 1.15))
    best = (-2.0, np.eye(3), there - here)
    for scale, shift in product(START_SCALES, START_SHIFTS_MM):
        matrix = np.diag([across, across, scale])
        offset = there + np.array([0.0, 0.0, shift]) - matrix @ here
        seen, is_inside = _read(moving, points @ matrix.T + offset)
        if is_inside.mean() > 0.5 and (alike := _pearson(values[is_inside], seen[is_inside])) > best[0]:
            best = (alike, matrix, offset)
    return best[1], best[2]


def _refine(fixed: _Chest, moving: _Chest, start: tuple[Floats, Floats]) -> Any:
    transform: Any = SimpleITK.AffineTransform(3)  # type: ignore[no-untyped-call]
    center = fixed.grid.points(np.argwhere(fixed.lungs)).mean(axis=0)
    matrix, offset = start
    transform.SetCenter(center.tolist())
    transform.SetMatrix(matrix.ravel().tolist())
    transform.SetTranslation((matrix @ center + offset - center).tolist())
    method: Any = SimpleITK.ImageRegistrationMethod()  # type: ignore[no-untyped-call]
    method.SetNumberOfThreads(1)
    method.SetMetricAsCorrelation()
    method.SetMetricFixedMask(_image(ndimage.binary_dilation(fixed.lungs, iterations=2).astype(np.uint8), fixed.grid))
    method.SetMetricSamplingStrategy(method.NONE)
    method.SetInterpolator(SimpleITK.sitkLinear)
    method.SetOptimizerAsRegularStepGradientDescent(
        learningRate=4.0, minStep=0.05, numberOfIterations=ITERATIONS, relaxationFactor=0.6
    )
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetShrinkFactorsPerLevel([2, 1])
    method.SetSmoothingSigmasPerLevel([4.0, 0.0])
    method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOn()
    method.SetInitialTransform(transform, inPlace=True)
    try:
        method.Execute(_image(fixed.hu, fixed.grid), _image(moving.hu, moving.grid))
    except RuntimeError:  # ITK's, when the images come to lie beside each other: as far as it came is judged then
        return transform
    return transform


def _judged(fixed: _Chest, moving: _Chest, matrix: Floats, offset: Floats) -> Registration:
    near = np.argwhere(ndimage.binary_dilation(fixed.lungs, iterations=2))
    seen, is_inside = _read(moving, fixed.grid.points(near) @ matrix.T + offset)
    similarity = _pearson(fixed.hu[tuple(near.T)][is_inside], seen[is_inside]) if is_inside.any() else -1.0
    held = fixed.grid.points(np.argwhere(fixed.lungs)) @ matrix.T + offset
    back = (moving.grid.points(np.argwhere(moving.lungs)) - offset) @ np.linalg.inv(matrix).T
    return Registration(matrix, offset, similarity, _overlap(moving, held, fixed, back))


def _overlap(moving: _Chest, held: Floats, fixed: _Chest, back: Floats) -> float:
    """Of the lung that both show, the part in which they agree (Dice): what one CT does not show is left out."""
    parts = []
    for chest, points in ((moving, held), (fixed, back)):
        index = np.rint(chest.grid.indices(points)).astype(int)
        is_inside = ((index >= 0) & (index < chest.grid.shape)).all(axis=-1)
        parts.append(chest.lungs[tuple(index[is_inside].T)])
    seen = np.concatenate(parts)
    return float(seen.mean()) if 2 * len(seen) >= len(held) + len(back) else 0.0


def _read(chest: _Chest, points: Floats) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    index = chest.grid.indices(points)
    is_inside = np.all((index >= 0) & (index <= np.array(chest.grid.shape) - 1), axis=-1)
    return ndimage.map_coordinates(chest.hu, index.T, order=1, mode="nearest"), is_inside


def _pearson(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    if one.std() == 0 or other.std() == 0:
        return 0.0
    return float(np.corrcoef(one, other)[0, 1])


def _image(array: NDArray[Any], grid: Grid) -> Any:
    image: Any = SimpleITK.GetImageFromArray(array)
    image.SetOrigin(grid.origin.tolist())
    image.SetSpacing([grid.step_mm] * 3)
    image.SetDirection(grid.axes[::-1].T.ravel().tolist())
    return image


def _offsets(shape: tuple[int, ...]) -> Floats:
    """The offsets (x, y, z), mm, of the cells of a cube about its middle cell: `[z, y, x, 3]`."""
    index = np.moveaxis(np.indices(shape), 0, -1) - (np.array(shape) - 1) / 2
    return np.asarray(index[..., ::-1] * PATCH_STEP_MM)


def _patch(volume: Volume, center: Floats, matrix: Floats, reach_mm: float) -> NDArray[np.float64]:
    """CT numbers `[z, y, x]` at `center + matrix @ offset` for the offsets of a cube that reaches so far each way."""
    half = int(np.ceil(reach_mm / PATCH_STEP_MM))
    points = center + _offsets((2 * half + 1,) * 3) @ matrix.T
    grid = grid_over(volume, PATCH_STEP_MM)
    index = grid.indices(points)
    low, high = np.floor(index.min(axis=(0, 1, 2))).astype(int), np.ceil(index.max(axis=(0, 1, 2))).astype(int) + 1
    hu = np.clip(resample(volume, grid.box(low.tolist(), high.tolist())), LOWEST_HU, HIGHEST_HU)
    return np.asarray(
        ndimage.map_coordinates(hu.astype(np.float64), np.moveaxis(index - low, -1, 0), order=1, mode="nearest")
    )


def _ball(shape: tuple[int, ...], radius: float) -> NDArray[np.float64]:
    index = np.moveaxis(np.indices(shape), 0, -1) - (np.array(shape) - 1) / 2
    return np.asarray(np.linalg.norm(index, axis=-1) <= max(radius, 1.0), np.float64)


def _correlation(
    picture: NDArray[np.float64], template: NDArray[np.float64], weight: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The correlation coefficient of `template`, within `weight`, with `picture` at every place where it fits in."""
    count = weight.sum()
    pattern = (template - (weight * template).sum() / count) * weight
    picture = picture - picture.mean()
    flipped, window = pattern[::-1, ::-1, ::-1], weight[::-1, ::-1, ::-1]
    product_ = signal.fftconvolve(picture, flipped, mode="valid")
    total = signal.fftconvolve(picture, window, mode="valid")
    squares = signal.fftconvolve(picture**2, window, mode="valid") - total**2 / count
    scale = np.sqrt(np.maximum(squares, 1.0) * max(float((pattern**2).sum()), 1.0))
    return np.asarray(product_ / scale)


def _is_covered(volume: Volume, point: Floats) -> bool:
    plane = volume.plane[0]
    row, column = plane.pixel_from_patient(point)
    height = float(np.dot(point, plane.normal))
    gap = float(np.abs(np.diff(volume.position_mm)).max())
    rows, columns = volume.hu.shape[1:]
    is_in_plane = bool(0 <= row <= rows - 1 and 0 <= column <= columns - 1)
    return is_in_plane and volume.position_mm[0] - gap <= height <= volume.position_mm[-1] + gap

"""Where the lungs are: right and left, closed over nodules, masses and vessels, without airways, heart and bowel.

The mask is for looking inside and for telling where something lies, so it rather holds a little too much at the hilum
and over the pleura than misses a nodule that sits there. Aerated lung is found by its CT number inside the body
(Hu, Hoffman, Reinhardt, IEEE Trans Med Imaging 20, 2001, 490-498, gives the classical steps); what is denser comes back
by closing each lung with balls, whose sizes decide what is nodule or mass and what is heart or liver.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import SimpleITK
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from pipelines.geometry import Floats, Point
from pipelines.grid import Grid, grid_over, resample
from pipelines.morphology import Mask, closed, dilate, erode
from pipelines.reasons import refuse
from pipelines.volume import Volume

Third = Literal["upper", "middle", "lower"]
Labels = NDArray[np.int32]

RIGHT, LEFT = 1, 2
GRID_MM = 2.0
FARTHEST_OUTSIDE_MM = 16.0
_VOXEL_ML = GRID_MM**3 / 1000
# Half way between aerated lung (about -850 HU) and soft tissue (about 40 HU), where a blurred edge lies.
_TISSUE_HU = -400.0
# Air outside the body and in bowel is -1000 HU, lung seldom below -930 HU even in emphysema: its vessels are in it.
_OUTSIDE_HU = -945.0
_GAS_HU = -965.0
# What is lower than this has no measured value: the field of view ends there.
_PADDING_HU = -1020
# Shells of tables and cushions are thinner than a chest wall; 6 mm and less are not body.
_MOST_AIR_PART = 0.1
_LEAST_IN_HULL = 0.8
_HULL_SAMPLES = 4000
# Gas pockets are sought below several CT numbers: at full breath or in emphysema lung is hard to tell from airways.
_POCKET_HU = (-920, -950, -975)
_POCKET_ML = (1.0, 300.0)
_POCKET_LUNG_PART = 0.35
_WALL_VOXELS = 3
# A piece of aerated lung beside the largest one counts from here on: cut off by fluid, a tumour or the field of view.
_PIECE_ML = 15.0
_PIECE_PART = 0.01
_DENSEST_HU = -500.0
# Less lung than this is no chest: the tips of the lungs on an abdomen, mastoids, or a phantom's inserts.
LEAST_LUNG_ML = 300.0
_BONE_HU = (250, 550)
_LEAST_BONE_ML = 50.0
_BORDER_MM = 70.0
_STEEPEST = 2
_ONE_SIDED = 0.85
# Closing by 12 mm brings back what is up to 24 mm wide and touches the pleura, and vessels up to the hilum.
_NODULE_MM = 12.0
# Balls of 35 mm fit into hearts and livers, not into masses up to 7 cm. They do not fit into the aorta, the hilum and
# the corners around heart and spine either: those are thinner than balls of 8 mm, longer than any mass, or border on
# lung with less of their surface than a mass, even one at the wall, does.
_MASS_MM, _CORE_MM, _LONGEST_MASS_MM = 35.0, 8.0, 84.0
_LEAST_CONTACT = 0.4
_MASS_HU = (-150.0, 300.0)
# On the side of the chest wall lungs are smooth and convex: there balls of 50 mm close over what is wide and shallow.
_WALL_MM, _WALL_DEPTH_MM = 50.0, 15.0
_COARSE = 2
_COARSE_MM = _COARSE * GRID_MM
_EVERY = (slice(None, None, _COARSE),) * 3
# From front to back; smaller chests are children's, whose hearts, livers and aortas are smaller too.
_ADULT_DEPTH_MM = 170.0
_IN_PLANE = np.array([np.zeros((3, 3)), [[0, 1, 0], [1, 1, 1], [0, 1, 0]], np.zeros((3, 3))], np.bool_)


@dataclass(frozen=True, eq=False)
class Lungs:
    """Both lungs on a grid of 2 mm: `side[k, j, i]` is 0 outside, 1 in the right and 2 in the left lung.

    They are closed: nodules, masses and vessels within them or at their surface belong to them; trachea, main bronchi,
    heart and bowel do not. `volume_ml` is that of (right, left).
    """

    grid: Grid
    side: NDArray[np.uint8]
    volume_ml: tuple[float, float]

    def side_at(self, points: ArrayLike) -> NDArray[np.uint8]:
        """0, 1 (right) or 2 (left) at patient points `[..., 3]` (LPS, mm)."""
        index = np.rint(self.grid.indices(points)).astype(int)
        is_inside = np.all((index >= 0) & (index < self.grid.shape), axis=-1)
        k, j, i = np.moveaxis(np.where(is_inside[..., None], index, 0), -1, 0)
        return np.where(is_inside, self.side[k, j, i], 0).astype(np.uint8)

    def inside_mm(self, points: ArrayLike) -> Floats:
        """How far patient points `[..., 3]` lie from the surface of their lung, mm; below 0 they are outside.

        Beyond `FARTHEST_OUTSIDE_MM` it is only known that they are at least so far away.
        """
        index = self.grid.indices(points)
        depths = [
            ndimage.map_coordinates(depth, np.moveaxis(index - start, -1, 0), order=1, mode="nearest")
            for depth, start in self._depths_mm
        ]
        return np.asarray(np.maximum.reduce(depths), np.float64)

    def third_at(self, point: Point) -> Third:
        """The third of its lung, by height, that a patient point lies in; of both lungs' for points outside."""
        side = int(self.side_at(point))
        is_lung = self.side == side if side else self.side > 0
        heights = np.flatnonzero(is_lung.any(axis=(1, 2)))
        part = (float(self.grid.indices(point)[0]) - heights[0] + 0.5) / (heights[-1] - heights[0] + 1)
        return "lower" if part < 1 / 3 else "middle" if part < 2 / 3 else "upper"

    @cached_property
    def _depths_mm(self) -> list[tuple[NDArray[np.float32], NDArray[np.intp]]]:
        """For each lung the signed distance from its surface (mm) of the voxels in and near it, and their first index.

        Distances take long: they are computed in each lung's own box, at whose border the nearest voxel stands in.
        """
        return [_signed_distance(self.side == side) for side in (RIGHT, LEFT) if (self.side == side).any()]


def _signed_distance(lung: Mask) -> tuple[NDArray[np.float32], NDArray[np.intp]]:
    margin = round(FARTHEST_OUTSIDE_MM / GRID_MM)
    window = _window(lung, margin=0)
    mask = np.pad(lung[window], margin).astype(np.uint8)
    distance = SimpleITK.SignedMaurerDistanceMap(  # type: ignore[no-untyped-call]
        SimpleITK.GetImageFromArray(mask), insideIsPositive=True, squaredDistance=False, useImageSpacing=False
    )
    # Voxels' centres are half a step from the surface between them.
    depth = np.asarray((SimpleITK.GetArrayViewFromImage(distance) + 0.5) * GRID_MM, np.float32)
    return depth, np.array([side.start - margin for side in window])


def find_lungs(volume: Volume) -> Lungs:
    """The lungs of a volume in any pose. Refuses (`body_part.unexpected`) where there is no, or next to no, lung."""
    grid = grid_over(volume, GRID_MM)
    hu = resample(volume, grid)
    smooth = _smoothed(hu)
    air = (smooth < _TISSUE_HU) & _inside_body(hu, smooth)
    window = _window(air, margin=1)
    gas = np.zeros_like(air)
    gas[window] = _gas_pockets(smooth[window], air[window])
    aerated = np.zeros_like(air)
    aerated[window] = _lung_pieces(smooth[window], air[window] & ~gas[window])
    _check(aerated)
    side = np.zeros(air.shape, np.uint8)
    side[window] = _sides(smooth[window], aerated[window], _midline(hu, aerated) - window[2].start)
    side = _closed_sides(side, smooth)
    side[gas] = 0
    right, left = (float((side == which).sum()) * _VOXEL_ML for which in (RIGHT, LEFT))
    return Lungs(grid, side, (right, left))


def _smoothed(hu: NDArray[np.int16]) -> NDArray[np.int16]:
    """The picture smoothed by 1-2-1 along every axis, cut at 400 HU: noise of sharp kernels must not make holes."""
    result = np.minimum(hu, 400)
    for axis in range(3):
        padded = np.pad(result, [(1, 1) if axis == own else (0, 0) for own in range(3)], mode="edge")
        low, middle, high = (
            np.take(padded, range(first, first + hu.shape[axis]), axis) if axis else padded[first : first + hu.shape[0]]
            for first in range(3)
        )
        result = (low + 2 * middle + high) >> 2
    return result


def _inside_body(hu: NDArray[np.int16], smooth: NDArray[np.int16]) -> Mask:
    """What is not outside air: air that reaches the edge of its slice, unless it is lung that the edge cuts.

    Such lung is denser than air all over or, in emphysema, lies within the convex hull of the body. Between blankets,
    breasts or the table it may look so in some slices, which is why slices that hang together are judged together.
    """
    padding = _touching_edge(hu <= _PADDING_HU)
    body = _without_thin(smooth >= _TISSUE_HU)
    space = ~body & ~padding
    pieces, count = ndimage.label(_touching_edge(space, also=_dilated_in_plane(padding)))
    interior = _eroded_in_plane(space) & (pieces > 0)
    voxels = np.bincount(pieces[interior], minlength=count + 1)
    air = np.bincount(pieces[interior], smooth[interior] < _OUTSIDE_HU, count + 1)
    is_outside = np.ones(count + 1, np.bool_)
    is_outside[0] = False
    for piece in 1 + np.flatnonzero((air < voxels / 2)[1:] & (voxels[1:] * _VOXEL_ML > _PIECE_ML)):
        is_outside[piece] = (
            air[piece] > _MOST_AIR_PART * voxels[piece] and _part_in_hull(body, pieces == piece) < _LEAST_IN_HULL
        )
    return np.asarray(~(is_outside[pieces] | padding))


def _part_in_hull(body: Mask, piece: Mask) -> float:
    """The part of a piece that lies within the convex hull of the body in its slice."""
    k, j, i = (axis[:: max(1, len(axis) // _HULL_SAMPLES)] for axis in np.nonzero(piece))
    is_inside = np.ones(len(k), np.bool_)
    for reach, down, along in _supports(body):
        is_inside &= j * down + i * along <= reach[k] + 0.01
    return float(is_inside.mean())


def _touching_edge(mask: Mask, also: Mask | None = None) -> Mask:
    """The parts of a mask, slice by slice, that reach the edge of the picture, or what else counts as such."""
    if not mask.any():
        return mask
    labels, count = ndimage.label(mask, _IN_PLANE)
    is_kept = np.zeros(count + 1, np.bool_)
    is_kept[_edge_labels(labels)] = True
    if also is not None:
        is_kept[labels[also]] = True
    is_kept[0] = False
    return np.asarray(is_kept[labels])


def _edge_labels(labels: Labels) -> Labels:
    """The labels on the first and last row and column of every slice."""
    sides = (labels[:, 0], labels[:, -1], labels[:, :, 0], labels[:, :, -1])
    return np.unique(np.concatenate([side.ravel() for side in sides]))


def _without_thin(body: Mask) -> Mask:
    """A mask without what is at most 6 mm thin in its slice; at the edge it is taken to go on as it is there."""
    wide = np.pad(body, ((0, 0), (2, 2), (2, 2)), mode="edge")
    return _dilated_in_plane(_eroded_in_plane(wide))[:, 2:-2, 2:-2]


def _gas_pockets(smooth: NDArray[np.int16], air: Mask) -> Mask:
    """Airways and bowel: pockets of gas that soft tissue, not lung, lies around, with their blurred walls."""
    pockets = np.zeros_like(air)
    for cut in _POCKET_HU:
        labels, _ = ndimage.label(air & (smooth < cut))
        sizes = np.bincount(labels.ravel()) * _VOXEL_ML
        boxes = ndimage.find_objects(labels)
        for label in 1 + np.flatnonzero((sizes[1:] >= _POCKET_ML[0]) & (sizes[1:] <= _POCKET_ML[1])):
            box = tuple(slice(max(0, side.start - 5), side.stop + 5) for side in boxes[label - 1])
            pocket = dilate(labels[box] == label, _WALL_VOXELS) & air[box]
            around = dilate(pocket, 1.5) & ~pocket
            if (air[box] & around).sum() <= _POCKET_LUNG_PART * around.sum():
                pockets[box] |= pocket
    return pockets


def _lung_pieces(smooth: NDArray[np.int16], aerated: Mask) -> Mask:
    """The pieces of aerated tissue that are lung: the largest one, and those of some size that hold no mere gas."""
    labels, count = ndimage.label(aerated)
    sizes = np.bincount(labels.ravel(), minlength=count + 1) * _VOXEL_ML
    sizes[0] = 0
    inner = _eroded_in_plane(_eroded_in_plane(aerated))
    pixels = np.bincount(labels[inner], minlength=count + 1)
    gas = np.bincount(labels[inner], smooth[inner] < _GAS_HU, count + 1)
    mean = np.bincount(labels[inner], smooth[inner], count + 1) / np.maximum(pixels, 1)
    is_lung = (gas < pixels / 2) & (mean < _DENSEST_HU)
    sizes = np.where(is_lung, sizes, 0)
    return np.asarray((sizes >= max(_PIECE_ML, _PIECE_PART * float(sizes.max(initial=0))))[labels] & (labels > 0))


def _check(aerated: Mask) -> None:
    found_ml = float(aerated.sum()) * _VOXEL_ML
    if found_ml < LEAST_LUNG_ML:
        raise refuse("body_part.unexpected", detail=f"only {found_ml:.0f} mL of lung were found")


def _midline(hu: NDArray[np.int16], aerated: Mask) -> int:
    """The column between the lungs: where spine and sternum heap up bone; without bone, the middle of the lungs."""
    heights = aerated.any(axis=(1, 2))
    bone = np.clip(hu[heights], _BONE_HU[0], _BONE_HU[1]).sum(axis=(0, 1), dtype=np.int64)
    bone -= _BONE_HU[0] * int(heights.sum()) * hu.shape[1]
    columns = np.flatnonzero(aerated.any(axis=(0, 1)))
    if bone.sum() * _VOXEL_ML < _LEAST_BONE_ML * (_BONE_HU[1] - _BONE_HU[0]):
        return int(columns.mean())
    return int(np.argmax(ndimage.uniform_filter1d(bone.astype(float), round(30 / GRID_MM), mode="nearest")))


def _sides(smooth: NDArray[np.int16], aerated: Mask, midline: int) -> NDArray[np.uint8]:
    """Right (1) and left (2) lung. A piece that lies on both sides of the border between them is cut along it."""
    columns = np.arange(aerated.shape[2])
    is_left = columns > _border(smooth, aerated, midline)[:, :, None]
    labels, count = ndimage.label(aerated)
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    left_part = np.bincount(labels[is_left], minlength=count + 1) / np.maximum(sizes, 1)
    is_left = np.where((left_part > _ONE_SIDED)[labels], True, is_left & (left_part > 1 - _ONE_SIDED)[labels])
    return np.where(aerated, np.where(is_left, LEFT, RIGHT), 0).astype(np.uint8)


def _border(smooth: NDArray[np.int16], aerated: Mask, midline: int) -> NDArray[np.int64]:
    """The border's column `[k, j]`: from front to back of each slice the way through the least lung, near the midline.

    Lungs may touch in front of the heart and behind the trachea, where only two sheets of pleura part them: the denser
    way is taken.
    """
    reach = round(_BORDER_MM / GRID_MM)
    columns = np.clip(np.arange(midline - reach, midline + reach + 1), 0, aerated.shape[2] - 1)
    # Away from the midline the way gets a little longer, so that it stays there where nothing draws it elsewhere.
    away = np.abs(columns - midline) / 1000
    cost = np.where(aerated[:, :, columns], ((_TISSUE_HU - smooth[:, :, columns]) / 450) ** 2, 0) + away
    steps = range(-_STEEPEST, _STEEPEST + 1)
    came_from = np.zeros(cost.shape, np.int8)
    total = cost[:, 0]
    for row in range(1, cost.shape[1]):
        wide = np.pad(total, ((0, 0), (_STEEPEST, _STEEPEST)), constant_values=np.inf)
        options = np.stack([wide[:, _STEEPEST + step :][:, : total.shape[1]] + abs(step) / 100 for step in steps])
        best = options.argmin(axis=0)
        came_from[:, row] = best - _STEEPEST
        total = np.take_along_axis(options, best[None], axis=0)[0] + cost[:, row]
    path = np.empty(cost.shape[:2], np.int64)
    path[:, -1] = total.argmin(axis=1)
    slices = np.arange(len(cost))
    for row in range(cost.shape[1] - 1, 0, -1):
        path[:, row - 1] = path[:, row] + came_from[slices, row, path[:, row]]
    return columns[path]


def _closed_sides(side: NDArray[np.uint8], smooth: NDArray[np.int16]) -> NDArray[np.uint8]:
    """Each lung closed by itself, so that nothing between the two is closed over."""
    rows = np.flatnonzero(side.any(axis=(0, 2)))
    scale = float(np.clip((rows[-1] - rows[0] + 1) * GRID_MM / _ADULT_DEPTH_MM, 0.5, 1.0))
    is_wall = _depth_in_hull(side[_EVERY] > 0) * _COARSE_MM < scale * _WALL_DEPTH_MM

    def claimed(which: int) -> Mask:
        own = side == which
        claim: Mask = np.zeros_like(own)
        if own.any():
            window = _window(own, margin=round(_WALL_MM / GRID_MM))
            coarse = tuple(slice(axis.start // _COARSE, -(-axis.stop // _COARSE)) for axis in window)
            claim[window] = _closed_lung(own[window], smooth[window], is_wall[coarse], scale)
        return claim

    with ThreadPoolExecutor(2) as pool:  # most of the time goes into numpy's loops, beside which another thread runs
        right, left = pool.map(claimed, (RIGHT, LEFT))
    result = side.copy()
    result[(side == 0) & right & ~left] = RIGHT
    result[(side == 0) & left & ~right] = LEFT
    return result


def _closed_lung(lung: Mask, smooth: NDArray[np.int16], is_wall: Mask, scale: float) -> Mask:
    """A lung with its vessels, nodules and masses; `scale` is its size as a part of an adult's."""
    fine = closed(lung, scale * _NODULE_MM / GRID_MM)
    plain = fine[_EVERY]
    filled = plain | (closed(plain, scale * _WALL_MM / _COARSE_MM) & is_wall)
    is_tissue = (smooth[_EVERY] > _MASS_HU[0]) & (smooth[_EVERY] < _MASS_HU[1])
    hollow = closed(filled, scale * _MASS_MM / _COARSE_MM) & ~filled & is_tissue
    radius = scale * _CORE_MM / _COARSE_MM
    cores, _ = ndimage.label(erode(hollow, radius))
    masses = np.zeros_like(filled)
    for label, box in enumerate(ndimage.find_objects(cores), start=1):
        longest_mm = max(axis.stop - axis.start for axis in box) * _COARSE_MM + 2 * scale * _CORE_MM
        mass = dilate(cores == label, radius + 1) & hollow
        around = dilate(mass, 1) & ~mass
        if longest_mm <= scale * _LONGEST_MASS_MM and (filled & around).sum() >= _LEAST_CONTACT * around.sum():
            masses |= mass
    added = (filled | masses) & ~plain
    for axis in range(3):
        added = np.repeat(added, _COARSE, axis=axis)
    return fine | added[tuple(slice(size) for size in fine.shape)]


def _depth_in_hull(mask: Mask) -> NDArray[np.float32]:
    """How far every voxel lies within the convex hull of its slice of a mask, voxels; below 0 it lies outside."""
    rows, columns = (np.arange(size, dtype=np.float32) for size in mask.shape[1:])
    depth = np.full(mask.shape, np.inf, np.float32)
    for reach, down, along in _supports(mask):
        np.minimum(depth, reach[:, None, None] - (rows[:, None] * down + columns * along), out=depth)
    return depth


def _supports(mask: Mask) -> Iterator[tuple[NDArray[np.float32], float, float]]:
    """The lines that bound the convex hull of a mask's slices: how far it reaches, by slice, along 32 directions."""
    rows = np.arange(mask.shape[1])
    is_row = mask.any(axis=2)
    first, last = mask.argmax(axis=2), mask.shape[2] - 1 - mask[:, :, ::-1].argmax(axis=2)
    for angle in np.linspace(0, 2 * np.pi, 32, endpoint=False):
        down, along = float(np.sin(angle)), float(np.cos(angle))
        reach = np.where(is_row, rows * down + np.maximum(first * along, last * along), -np.inf).max(axis=1)
        yield reach.astype(np.float32), down, along


def _window(mask: Mask, margin: int) -> tuple[slice, slice, slice]:
    """The box around a mask, wider by a margin as far as the array goes; it begins on a voxel of the coarse grid."""
    sides = []
    for axis in range(3):
        found = np.flatnonzero(mask.any(axis=tuple(other for other in range(3) if other != axis)))
        low, high = (int(found[0]), int(found[-1]) + 1) if len(found) else (0, 1)
        low = max(0, low - margin)
        sides.append(slice(low - low % _COARSE, min(mask.shape[axis], high + margin)))
    return (sides[0], sides[1], sides[2])


def _dilated_in_plane(mask: Mask) -> Mask:
    """A mask with its neighbours (eight) in the same slice."""
    result = mask.copy()
    result[:, 1:] |= mask[:, :-1]
    result[:, :-1] |= mask[:, 1:]
    before = result.copy()
    result[:, :, 1:] |= before[:, :, :-1]
    result[:, :, :-1] |= before[:, :, 1:]
    return result


def _eroded_in_plane(mask: Mask) -> Mask:
    """A mask without what touches its outside in the same slice; the edge of the picture does not count as outside."""
    return ~_dilated_in_plane(~mask)

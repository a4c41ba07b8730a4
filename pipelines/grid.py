"""An even, upright grid over a stack of slices, and the stack's CT numbers on it.

Networks and masks want one step in every direction and axes that run the same way in every patient. A `Grid` gives
that; `resample` fills it, each source slice read on its own true plane, so that tilted and unevenly spaced stacks are
normal input.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipelines.geometry import Floats
from pipelines.pixels import OUTSIDE_HU
from pipelines.volume import Volume

if TYPE_CHECKING:
    import torch

Index = tuple[int, int, int]


@dataclass(frozen=True, slots=True, eq=False)
class Grid:
    """Points `[k, j, i]` with one step: k along `normal` (towards the head), j along `back`, i along `left`.

    `origin` is the patient point (LPS, mm) of index (0, 0, 0); the directions are orthogonal unit vectors. `back` and
    `left` are the in-plane directions of the source that are nearest to the patient's +y and +x.
    """

    origin: Floats
    normal: Floats
    back: Floats
    left: Floats
    step_mm: float
    shape: Index

    @property
    def axes(self) -> Floats:
        """The directions of k, j and i, one a row."""
        return np.stack([self.normal, self.back, self.left])

    def points(self, index: ArrayLike) -> Floats:
        """Patient points (LPS, mm) `[..., 3]` of indices (k, j, i) `[..., 3]`, which may be fractional."""
        return np.asarray(self.origin + np.asarray(index, np.float64) * self.step_mm @ self.axes)

    def indices(self, points: ArrayLike) -> Floats:
        """Fractional indices (k, j, i) `[..., 3]` of patient points `[..., 3]`."""
        return np.asarray((np.asarray(points, np.float64) - self.origin) @ self.axes.T / self.step_mm)

    def box(self, low: Sequence[int], high: Sequence[int]) -> Grid:
        """The part from index `low` up to, not including, `high`; it may reach beyond this grid."""
        k, j, i = (int(past - first) for first, past in zip(low, high, strict=True))
        return Grid(self.points(low), self.normal, self.back, self.left, self.step_mm, (k, j, i))


@dataclass(frozen=True, slots=True, eq=False)
class _Taps:
    """How points on an axis are read from samples along it: `[point, tap]`, and which points lie within its extent."""

    index: NDArray[np.int64]
    weight: NDArray[np.float32]
    is_inside: NDArray[np.bool_]


def grid_over(volume: Volume, step_mm: float) -> Grid:
    """The grid over a whole stack, centred on it: no outer voxel's centre is more than half a step outside."""
    normal, back, left = _axes(volume)
    rows, columns = volume.hu.shape[1:]
    corners = np.array([[0, 0], [0, columns - 1], [rows - 1, 0], [rows - 1, columns - 1]])
    points = np.concatenate([plane.patient_from_pixel(*corners.T) for plane in volume.plane])
    along = points @ np.stack([normal, back, left]).T
    low, high = along.min(axis=0), along.max(axis=0)
    counts = np.floor((high - low) / step_mm + 1e-6).astype(int) + 1
    origin = ((low + high) / 2 - (counts - 1) / 2 * step_mm) @ np.stack([normal, back, left])
    k, j, i = counts.tolist()
    return Grid(origin, normal, back, left, step_mm, (k, j, i))


def resample(volume: Volume, grid: Grid) -> NDArray[np.int16]:
    """CT numbers of a stack on a grid that lies parallel to its slices (`grid_over`'s, or a box of it): HU `[k, j, i]`.

    Linear on each slice's plane and between slices; where the source is finer than the grid, its samples are averaged
    over a step. What lies outside the stack is -1024. The source is read slice by slice and never copied whole. Raises
    `ValueError` for a grid that is not parallel to the slices.
    """
    import torch  # noqa: PLC0415  heavy: the catalogue of pipelines loads without it

    if np.abs(np.abs(grid.axes @ np.stack(_axes(volume)).T) - np.eye(3)).max() > 1e-3:
        raise ValueError("the grid does not lie parallel to the slices")
    order, positions = _heights(volume, grid.normal)
    taps = _taps(positions, float(grid.origin @ grid.normal), grid.step_mm, grid.shape[0])
    in_plane = cache(partial(_taps_on, grid))
    result = np.full(grid.shape, OUTSIDE_HU, np.int16)
    ready: dict[int, torch.Tensor] = {}
    for k in np.flatnonzero(taps.is_inside):
        total = torch.zeros(grid.shape[1:])
        for index, weight in zip(taps.index[k].tolist(), taps.weight[k].tolist(), strict=True):
            if index not in ready:
                ready[index] = _in_plane(volume, int(order[index]), grid, in_plane)
            total.add_(ready[index], alpha=weight)
        result[k] = total.round_().clamp_(max=np.iinfo(np.int16).max).numpy()
        ready = {index: picture for index, picture in ready.items() if index >= taps.index[k].min()}
    return result


def _axes(volume: Volume) -> tuple[Floats, Floats, Floats]:
    """Normal, back and left of a stack: its own directions, turned towards head, back and left."""
    plane = volume.plane[0]
    row, column = np.asarray(plane.row_direction), np.asarray(plane.column_direction)
    normal = np.cross(row, column)
    normal = normal / np.linalg.norm(normal) * (1 if normal[2] >= 0 else -1)
    left = row if abs(row[0]) >= abs(column[0]) else column
    left = left * (1 if left[0] >= 0 else -1)
    back = np.cross(normal, left)
    return normal, back * (1 if back[1] >= 0 else -1), left


def _heights(volume: Volume, normal: Floats) -> tuple[NDArray[np.int64], Floats]:
    """The slices in ascending order along `normal`, and where they lie along it, mm."""
    positions = np.array([np.dot(plane.origin, normal) for plane in volume.plane])
    order = np.argsort(positions)
    return order, positions[order]


def _taps(samples: Floats, first: float, step: float, count: int) -> _Taps:
    """Taps for `count` points from `first` on, a `step` apart, on samples at ascending places, all in mm.

    Reading linearly smooths by about one sample; the mean of `reads` linear readings beside each other, which keeps
    ramps as they are, widens that to a step where the step is longer.
    """
    gap = float(np.median(np.diff(samples))) if len(samples) > 1 else step
    width = float(np.sqrt(max(0.0, step**2 - gap**2)))
    reads = 1 + round(width / gap)
    beside = ((np.arange(reads) + 0.5) / reads - 0.5) * width
    points = first + step * np.arange(count)
    places = np.interp(points[:, None] + beside, samples, np.arange(len(samples), dtype=float))
    below = np.minimum(places.astype(np.int64), max(0, len(samples) - 2))
    above = np.minimum(below + 1, len(samples) - 1)
    part = places - below
    is_inside = (points >= samples[0] - gap / 2) & (points <= samples[-1] + gap / 2)
    index, weight = np.concatenate([below, above], axis=1), np.concatenate([1 - part, part], axis=1) / reads
    return _Taps(index, weight.astype(np.float32), is_inside)


def _taps_on(grid: Grid, axis: int, first: float, step: float, count: int) -> _Taps:
    """Taps of the grid's axis (1 or 2) on `count` samples from `first` on, a `step` apart."""
    direction = (grid.back, grid.left)[axis - 1]
    samples = first + step * np.arange(count, dtype=np.float64)
    return _taps(samples, float(grid.origin @ direction), grid.step_mm, grid.shape[axis])


def _in_plane(
    volume: Volume, index: int, grid: Grid, taps_on: Callable[[int, float, float, int], _Taps]
) -> torch.Tensor:
    """One slice on the grid's (j, i), on its own plane: float32 `[j, i]`, -1024 beside the slice.

    The slices of a stack that is not tilted share their taps: `taps_on` remembers them.
    """
    plane, picture = volume.plane[index], volume.hu[index]
    # Along rows of the picture's index first (they grow along the column direction), then along columns.
    steps = [
        plane.row_spacing_mm * np.asarray(plane.column_direction),
        plane.column_spacing_mm * np.asarray(plane.row_direction),
    ]
    if abs(steps[0] @ grid.left) > abs(steps[0] @ grid.back):
        picture, steps = picture.T, steps[::-1]
    taps = []
    for axis, (step, direction) in enumerate(zip(steps, (grid.back, grid.left), strict=True)):
        count = picture.shape[axis]
        first, along = float(plane.origin @ direction), float(step @ direction)
        if along < 0:
            picture, first, along = np.flip(picture, axis), first + along * (count - 1), -along
        taps.append(taps_on(1 + axis, round(first, 6), round(along, 9), count))
    return _read(picture, *taps)


def _read(picture: NDArray[np.int16] | NDArray[np.float32], down: _Taps, along: _Taps) -> torch.Tensor:
    """A picture read along both axes: only the part that the taps touch is converted."""
    import torch  # noqa: PLC0415  heavy: the catalogue of pipelines loads without it

    rows, columns = (slice(int(taps.index.min()), int(taps.index.max()) + 1) for taps in (down, along))
    source = torch.from_numpy(np.ascontiguousarray(picture[rows, columns], np.float32))
    turned = _weighted(source, down, rows.start).T.contiguous()
    result = _weighted(turned, along, columns.start).T.contiguous()
    result[torch.from_numpy(~down.is_inside)] = OUTSIDE_HU
    result[:, torch.from_numpy(~along.is_inside)] = OUTSIDE_HU
    return result


def _weighted(source: torch.Tensor, taps: _Taps, first: int) -> torch.Tensor:
    import torch  # noqa: PLC0415  heavy: the catalogue of pipelines loads without it

    index, weight = torch.from_numpy(taps.index - first), torch.from_numpy(taps.weight)
    return torch.nn.functional.embedding_bag(index, source, mode="sum", per_sample_weights=weight)

"""What is measured alike in every part of the body: connected parts, axes, points and sizes of what was found."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial.distance import pdist, squareform

from pipelines.findings import Region
from pipelines.geometry import Floats, Plane, Point
from pipelines.volume import Volume

Mask = NDArray[np.bool_]

EIGHT_NEIGHBOURS = np.ones((3, 3), np.bool_)


def connected_parts(mask: Mask, planes: Sequence[Plane]) -> tuple[NDArray[np.int32], int]:
    """Number the connected parts of a mask from 1; voxels outside are 0. Returns the numbers and how many there are.

    Pixels touch within a slice; parts of neighbouring slices belong together when they overlap, or touch, where they
    truly lie: in a tilted stack the same pixel of the next slice lies several pixels further along.
    """
    label = np.zeros(mask.shape, np.int32)
    window = (slice(None), *(_extent(np.any(mask, axis=axes)) for axes in ((0, 2), (0, 1))))
    label[window], count = _connected_parts(mask[window], planes)
    return label, count


def _extent(is_held: Mask) -> slice:
    """From the first to the last that is held; empty where none is."""
    held = np.flatnonzero(is_held)
    return slice(int(held[0]), int(held[-1]) + 1) if len(held) else slice(0, 0)


def _connected_parts(mask: Mask, planes: Sequence[Plane]) -> tuple[NDArray[np.int32], int]:
    label = np.zeros(mask.shape, np.int32)
    total = 0
    for k, plane_mask in enumerate(mask):
        if plane_mask.any():
            numbered, count = ndimage.label(plane_mask, EIGHT_NEIGHBOURS)
            label[k] = np.where(numbered > 0, numbered + total, 0)
            total += count
    pairs = [np.empty((0, 2), np.int32)]
    for k in range(len(planes) - 1):
        if label[k].any() and label[k + 1].any():
            row, column = planes[k].pixel_from_patient(planes[k + 1].origin)
            grown = ndimage.grey_dilation(label[k + 1], footprint=EIGHT_NEIGHBOURS)
            pairs.append(_overlaps(label[k], _shifted(grown, round(float(row)), round(float(column)))))
    first, second = np.concatenate(pairs).T - 1
    graph = coo_array((np.ones(len(first), np.bool_), (first, second)), shape=(total, total))
    count, group = connected_components(graph, directed=False)
    return np.concatenate([[0], group + 1]).astype(np.int32)[label], int(count)


def region_of(label: NDArray[np.int32], number: int, slices: slice) -> Region:
    """The voxels with a number, all of which lie in `slices`."""
    mask = label[slices] == number
    held = np.flatnonzero(mask.any(axis=(1, 2)))
    return Region(tuple((slices.start + held).tolist()), mask[held])


def axes_mm(mask: Mask, plane: Plane, borders: tuple[float, float] = (1.0, 1.0)) -> tuple[float, float]:
    """Longest diameter of a mask `[row, column]` in its plane and its extent square to that, mm.

    Both run from centre to centre of pixels, plus `borders` pixels each: 1 for the pixels' outer borders.
    """
    rows = np.flatnonzero(mask.any(axis=1))
    first = mask[rows].argmax(axis=1)
    last = mask.shape[1] - 1 - mask[rows][:, ::-1].argmax(axis=1)
    # The ends of the longest diameter are among the first and last pixels of the rows.
    ends = np.stack(
        [np.tile(rows, 2) * plane.row_spacing_mm, np.concatenate([first, last]) * plane.column_spacing_mm], 1
    )
    long_border, short_border = np.multiply(borders, (plane.row_spacing_mm + plane.column_spacing_mm) / 2).tolist()
    distances = squareform(pdist(ends))
    start, end = np.unravel_index(int(distances.argmax()), distances.shape)
    longest = float(distances[start, end])
    if longest == 0:
        return long_border, short_border
    along = (ends[end] - ends[start]) / longest
    across = ends @ np.array([-along[1], along[0]])
    return longest + long_border, float(np.ptp(across)) + short_border


def points_of(volume: Volume, region: Region) -> tuple[Floats, Floats]:
    """Patient coordinates of a region's voxels `[n, 3]` and the volume that each stands for, mm3."""
    thickness = volume.local_thickness_mm
    points, weights = [], []
    for k, mask in zip(region.slice_index, region.mask, strict=True):
        rows, columns = _pixels(mask)
        points.append(volume.plane[k].patient_from_pixel(rows, columns))
        weights.append(np.full(len(rows), volume.plane[k].pixel_area_mm2 * thickness[k]))
    return np.concatenate(points), np.concatenate(weights)


def center_of(points: Floats, weights: Floats) -> Point:
    """The centre of gravity of points `[n, 3]`."""
    x, y, z = np.average(points, axis=0, weights=weights).tolist()
    return (x, y, z)


def values_of(volume: Volume, region: Region) -> NDArray[np.int16] | NDArray[np.float32]:
    """The CT numbers of a region's voxels `[n]`, in the order of `points_of`."""
    return np.concatenate(
        [volume.hu[k][_pixels(mask)] for k, mask in zip(region.slice_index, region.mask, strict=True)]
    )


def _pixels(mask: Mask) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows and columns of a mask's pixels; where there are none is not looked at one by one."""
    window = _extent(np.any(mask, axis=1))
    rows, columns = np.nonzero(mask[window])
    return rows + window.start, columns


def areas_mm2(volume: Volume, region: Region) -> Floats:
    """The area of a region on each of its slices."""
    areas: Floats = region.mask.sum(axis=(1, 2)) * np.array(
        [volume.plane[k].pixel_area_mm2 for k in region.slice_index]
    )
    return areas


def volume_mm3(volume: Volume, region: Region) -> float:
    """Area times what each slice stands for, summed."""
    return float(areas_mm2(volume, region) @ volume.local_thickness_mm[list(region.slice_index)])


def _shifted(image: NDArray[np.int32], rows: int, columns: int) -> NDArray[np.int32]:
    """The image moved by whole pixels; what comes in from outside is 0."""
    moved = np.zeros_like(image)
    height, width = image.shape
    if abs(rows) < height and abs(columns) < width:
        moved[max(0, rows) : height + min(0, rows), max(0, columns) : width + min(0, columns)] = image[
            max(0, -rows) : height + min(0, -rows), max(0, -columns) : width + min(0, -columns)
        ]
    return moved


def _overlaps(first: NDArray[np.int32], second: NDArray[np.int32]) -> NDArray[np.int32]:
    """The pairs of numbers that stand at one pixel, `[n, 2]`."""
    both = (first > 0) & (second > 0)
    return np.unique(np.stack([first[both], second[both]], axis=1), axis=0)

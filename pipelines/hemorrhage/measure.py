"""Voxel probabilities to findings: connected bleeds on their true planes, each measured in patient coordinates."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial.distance import pdist, squareform

from pipelines import codes
from pipelines.codes import Code
from pipelines.findings import Finding, Measurement, Region, Side
from pipelines.geometry import Floats, Plane
from pipelines.uids import derived_uid
from pipelines.volume import Volume

Mask = NDArray[np.bool_]

BONE_HU = 500
"""Half-way between blood and the skull: a voxel from here on is more bone than blood, whatever the network says."""
PURE_BLOOD_HU = 100
EIGHT_NEIGHBOURS = np.ones((3, 3), np.bool_)
MIDLINE_MM = 5.0
"""A bleed whose centre lies nearer to the midplane than this, and that stays near it, is a midline one."""
ONE_SIDED_PART = 0.85


@dataclass(frozen=True, slots=True, eq=False)
class Midplane:
    """The head's plane of symmetry: a point of it (LPS, mm) and its unit normal towards the patient's left."""

    point: Floats
    left: Floats

    def distance_mm(self, points: Floats) -> Floats:
        """Signed distance of points `[..., 3]`; positive on the patient's left."""
        distance: Floats = (points - self.point) @ self.left
        return distance


def find_bleeds(
    volume: Volume,
    probability: NDArray[np.uint8],
    midplane: Midplane,
    *,
    cut: float,
    least_ml: float,
    score: float,
    model_sha256: str,
    kind: Code = codes.INTRACRANIAL_HEMORRHAGE,
) -> tuple[Finding, ...]:
    """The bleeds in a volume, the largest first.

    `probability` is that of blood for each voxel of `volume`, 255 for 1. Voxels from `cut` (0 to 1) on are blood; where
    none is, the most certain ones are shown (three quarters of the highest probability on). A bleed of less than
    `least_ml` is left out unless it is the largest. `score` is the calibrated probability that the study holds a bleed:
    the bleed that the network is surest of gets it as certainty, the others a share in the ratio of their highest
    probabilities.
    """
    probability = np.where(volume.hu < BONE_HU, probability, np.uint8(0))
    highest = int(probability.max())
    if highest == 0:
        return ()
    label, count = connected_bleeds(probability >= min(255 * cut, 0.75 * highest), volume.plane)
    voxel_ml = np.array([plane.pixel_area_mm2 for plane in volume.plane]) * volume.local_thickness_mm / 1000
    boxes = ndimage.find_objects(label)
    volumes_ml = [
        float(((label[box] == number).sum(axis=(1, 2)) * voxel_ml[box[0]]).sum())
        for number, box in enumerate(boxes, start=1)
    ]
    order = sorted(range(count), key=lambda k: -volumes_ml[k])
    kept = [k for k in order if volumes_ml[k] >= least_ml] or order[:1]
    peaks = {k: float(probability[boxes[k]][label[boxes[k]] == k + 1].max()) for k in kept}
    series_key = "\n".join((*volume.instance_uid, model_sha256))
    surest = max(peaks.values())
    return tuple(
        _finding(
            volume,
            _region(label, k + 1, boxes[k][0]),
            midplane,
            volume_ml=volumes_ml[k],
            certainty=score * peaks[k] / surest,
            series_key=series_key,
            kind=kind,
        )
        for k in kept
    )


def connected_bleeds(mask: Mask, planes: Sequence[Plane]) -> tuple[NDArray[np.int32], int]:
    """Number the connected parts of a mask from 1; voxels outside are 0. Returns the numbers and how many there are.

    Pixels touch within a slice; parts of neighbouring slices belong together when they overlap, or touch, where they
    truly lie: in a tilted stack the same pixel of the next slice lies several pixels further along.
    """
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


def side_of(distances_mm: Floats, weights: Floats) -> Side:
    """The side of a bleed from the signed distances of its voxels to the midplane and their volumes."""
    center = float(np.average(distances_mm, weights=weights))
    if abs(center) < MIDLINE_MM and float(np.average(np.abs(distances_mm) < 3 * MIDLINE_MM, weights=weights)) > 0.9:
        return "midline"
    left = float(np.average(distances_mm > 0, weights=weights))
    if left >= ONE_SIDED_PART:
        return "left"
    return "right" if left <= 1 - ONE_SIDED_PART else "bilateral"


def axes_mm(mask: Mask, plane: Plane) -> tuple[float, float]:
    """Longest diameter of a mask `[row, column]` in its plane and its extent square to that, mm.

    Both run between the pixels' outer borders (centre to centre plus one pixel).
    """
    rows = np.flatnonzero(mask.any(axis=1))
    first = mask[rows].argmax(axis=1)
    last = mask.shape[1] - 1 - mask[rows][:, ::-1].argmax(axis=1)
    # The ends of the longest diameter are among the first and last pixels of the rows.
    ends = np.stack(
        [np.tile(rows, 2) * plane.row_spacing_mm, np.concatenate([first, last]) * plane.column_spacing_mm], 1
    )
    pixel = (plane.row_spacing_mm + plane.column_spacing_mm) / 2
    distances = squareform(pdist(ends))
    start, end = np.unravel_index(int(distances.argmax()), distances.shape)
    longest = float(distances[start, end])
    if longest == 0:
        return pixel, pixel
    along = (ends[end] - ends[start]) / longest
    across = ends @ np.array([-along[1], along[0]])
    return longest + pixel, float(np.ptp(across)) + pixel


def _finding(
    volume: Volume,
    region: Region,
    midplane: Midplane,
    *,
    volume_ml: float,
    certainty: float,
    series_key: str,
    kind: Code,
) -> Finding:
    areas = region.mask.sum(axis=(1, 2)) * np.array([volume.plane[k].pixel_area_mm2 for k in region.slice_index])
    largest = int(areas.argmax())
    key = region.slice_index[largest]
    points, weights = _points(volume, region)
    x, y, z = np.average(points, axis=0, weights=weights).tolist()
    long_axis, short_axis = axes_mm(region.mask[largest], volume.plane[key])
    digest = hashlib.sha256(np.packbits(region.mask).tobytes() + str(region.slice_index).encode()).hexdigest()
    return Finding(
        kind=kind,
        label=kind.meaning,
        certainty=round(certainty, 4),
        region=region,
        center_mm=(x, y, z),
        measurements=(
            Measurement("volume_ml", codes.VOLUME, round(volume_ml, 3), codes.CUBIC_CENTIMETER),
            Measurement("long_axis_mm", codes.LONG_AXIS, round(long_axis, 1), codes.MILLIMETER),
            Measurement("short_axis_mm", codes.SHORT_AXIS, round(short_axis, 1), codes.MILLIMETER),
            Measurement("mean_hu", codes.MEAN_ATTENUATION, round(_mean_hu(volume, region), 1), codes.HOUNSFIELD),
        ),
        key_instance_uid=volume.instance_uid[key],
        key_frame=volume.frame[key],
        tracking_uid=derived_uid("hemorrhage", series_key, digest),
        side=side_of(midplane.distance_mm(points), weights),
    )


def _region(label: NDArray[np.int32], number: int, slices: slice) -> Region:
    """The voxels with a number, all of which lie in `slices`."""
    mask = label[slices] == number
    held = np.flatnonzero(mask.any(axis=(1, 2)))
    return Region(tuple((slices.start + held).tolist()), mask[held])


def _mean_hu(volume: Volume, region: Region) -> float:
    """Mean of the voxels that no bone is mixed into, where there are any."""
    held = zip(region.slice_index, region.mask, strict=True)
    values = np.concatenate([volume.hu[k][mask] for k, mask in held])
    pure = values[values < PURE_BLOOD_HU]
    return float((pure if pure.size else values).mean())


def _points(volume: Volume, region: Region) -> tuple[Floats, Floats]:
    """Patient coordinates of a region's voxels `[n, 3]` and the volume that each stands for, mm3."""
    thickness = volume.local_thickness_mm
    points, weights = [], []
    for k, mask in zip(region.slice_index, region.mask, strict=True):
        rows, columns = np.nonzero(mask)
        points.append(volume.plane[k].patient_from_pixel(rows, columns))
        weights.append(np.full(len(rows), volume.plane[k].pixel_area_mm2 * thickness[k]))
    return np.concatenate(points), np.concatenate(weights)


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

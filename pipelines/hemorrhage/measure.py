"""Voxel probabilities to findings: connected bleeds on their true planes, each measured in patient coordinates."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from pipelines import codes
from pipelines.codes import Code
from pipelines.findings import Finding, Measurement, Region, Side
from pipelines.geometry import Floats
from pipelines.measuring import areas_mm2, axes_mm, center_of, connected_parts, points_of, region_of, values_of
from pipelines.uids import derived_uid
from pipelines.volume import Volume

BONE_HU = 500
"""Half-way between blood and the skull: a voxel from here on is more bone than blood, whatever the network says."""
PURE_BLOOD_HU = 100
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
    label, count = connected_parts(probability >= min(255 * cut, 0.75 * highest), volume.plane)
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
            region_of(label, k + 1, boxes[k][0]),
            midplane,
            volume_ml=volumes_ml[k],
            certainty=score * peaks[k] / surest,
            series_key=series_key,
            kind=kind,
        )
        for k in kept
    )


def side_of(distances_mm: Floats, weights: Floats) -> Side:
    """The side of a bleed from the signed distances of its voxels to the midplane and their volumes."""
    center = float(np.average(distances_mm, weights=weights))
    if abs(center) < MIDLINE_MM and float(np.average(np.abs(distances_mm) < 3 * MIDLINE_MM, weights=weights)) > 0.9:
        return "midline"
    left = float(np.average(distances_mm > 0, weights=weights))
    if left >= ONE_SIDED_PART:
        return "left"
    return "right" if left <= 1 - ONE_SIDED_PART else "bilateral"


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
    largest = int(areas_mm2(volume, region).argmax())
    key = region.slice_index[largest]
    points, weights = points_of(volume, region)
    long_axis, short_axis = axes_mm(region.mask[largest], volume.plane[key])
    digest = hashlib.sha256(np.packbits(region.mask).tobytes() + str(region.slice_index).encode()).hexdigest()
    return Finding(
        kind=kind,
        label=kind.meaning,
        certainty=round(certainty, 4),
        region=region,
        center_mm=center_of(points, weights),
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


def _mean_hu(volume: Volume, region: Region) -> float:
    """Mean of the voxels that no bone is mixed into, where there are any."""
    values = values_of(volume, region)
    pure = values[values < PURE_BLOOD_HU]
    return float((pure if pure.size else values).mean())

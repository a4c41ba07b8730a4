"""How large a nodule is, as radiologists measure it, and how dense.

Long and short axis follow LIDC and LUNA16 practice (Armato et al., Med Phys 2011, 38:915; Bankier et al., Radiology
2017, 285:584): the longest diameter in the axial plane on the slice where it is longest, and the extent square to it on
the same slice. The volume is that of the voxels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import ConvexHull, QhullError
from scipy.spatial.distance import pdist

from pipelines.findings import Region
from pipelines.geometry import Floats, Point
from pipelines.measuring import axes_mm, center_of, points_of, values_of, volume_mm3
from pipelines.volume import Volume

Mask = NDArray[np.bool_]

BORDERS = (0.3, 0.65)
"""What the distances between pixel centres lack to the true axes, in pixels: found on discs of 3 to 15 mm.

The longest of all distances finds the luckiest pair of pixels and so needs less than half a pixel at each end.
"""
SOLID_HU = -300
"""Half-way between ground-glass (about -650 HU) and soft tissue (about 50 HU): more solid than not."""
SMOOTHING_MM = 0.7
AIR_HU = -1000


@dataclass(frozen=True, slots=True)
class Measures:
    """One nodule. `key_slice` is the index of the slice with the long axis; `center_mm` is the centre of gravity (LPS).

    `longest_diameter_mm` is that in three dimensions, `equivalent_diameter_mm` that of a ball of the same volume.
    `mass_mg` takes lung tissue for water that is thinned with air: volume times (mean HU + 1000) / 1000 mg/mm3
    (de Hoop et al., Radiology 2010, 255:199). `solid_long_axis_mm` is 0 where nothing in the nodule is solid.
    """

    volume_mm3: float
    long_axis_mm: float
    short_axis_mm: float
    key_slice: int
    longest_diameter_mm: float
    equivalent_diameter_mm: float
    mean_hu: float
    mass_mg: float
    solid_long_axis_mm: float
    center_mm: Point


def measure(volume: Volume, region: Region) -> Measures:
    """Measure a nodule's region on its volume; mm, mm3, HU, mg."""
    points, weights = points_of(volume, region)
    size = volume_mm3(volume, region)
    mean_hu = float(np.average(values_of(volume, region), weights=weights))
    key, long_axis, short_axis = _longest_axes(volume, region)
    return Measures(
        volume_mm3=size,
        long_axis_mm=long_axis,
        short_axis_mm=short_axis,
        key_slice=key,
        longest_diameter_mm=_longest_diameter(volume, points, long_axis),
        equivalent_diameter_mm=float(np.cbrt(6 * size / np.pi)),
        mean_hu=mean_hu,
        mass_mg=size * max(0.0, (mean_hu - AIR_HU) / 1000),
        solid_long_axis_mm=_solid_long_axis(volume, region),
        center_mm=center_of(points, weights),
    )


def solid_part(volume: Volume, region: Region) -> Mask:
    """The solid voxels of a region, on its slices; a little smoothed, so that noise makes none."""
    solid = np.zeros_like(region.mask)
    for k, (index, mask) in enumerate(zip(region.slice_index, region.mask, strict=True)):
        box = ndimage.find_objects(mask.astype(np.uint8))[0]
        plane = volume.plane[index]
        sigma = (SMOOTHING_MM / plane.row_spacing_mm, SMOOTHING_MM / plane.column_spacing_mm)
        inside = mask[box].astype(np.float32)
        # the mean of the nodule's own voxels: lung beyond its border makes nothing less solid
        weight = ndimage.gaussian_filter(inside, sigma)
        mean = ndimage.gaussian_filter(inside * volume.hu[index][box], sigma) / np.maximum(weight, 1e-6)
        solid[k][box] = mask[box] & (mean > SOLID_HU)
    return solid


def _longest_axes(volume: Volume, region: Region) -> tuple[int, float, float]:
    """The slice with the longest diameter, that diameter and the extent square to it."""
    axes = [axes_mm(mask, volume.plane[k], BORDERS) for k, mask in zip(region.slice_index, region.mask, strict=True)]
    longest = int(np.argmax([long_axis for long_axis, _ in axes]))
    long_axis, short_axis = axes[longest]
    return region.slice_index[longest], long_axis, min(short_axis, long_axis)


def _longest_diameter(volume: Volume, points: Floats, long_axis_mm: float) -> float:
    """The longest distance between voxels in three dimensions; never less than in the axial plane."""
    try:
        ends = points[ConvexHull(points).vertices]
    except (QhullError, ValueError):
        return long_axis_mm
    plane = volume.plane[0]
    return max(long_axis_mm, float(pdist(ends).max()) + BORDERS[0] * plane.column_spacing_mm)


def _solid_long_axis(volume: Volume, region: Region) -> float:
    """The longest axial diameter of a connected solid part."""
    longest = 0.0
    for k, solid in zip(region.slice_index, solid_part(volume, region), strict=True):
        numbers, count = ndimage.label(solid)
        for part in range(1, count + 1):
            longest = max(longest, axes_mm(numbers == part, volume.plane[k], BORDERS)[0])
    return longest

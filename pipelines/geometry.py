"""Where a voxel is: planes, directions and distances in the patient coordinate system (LPS, mm; PS3.3, C.7.6.2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Point = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Plane:
    """The plane of one slice: where its first pixel's centre is and how rows and columns run from it.

    `row_direction` is the direction of a growing column index (the first three values of Image Orientation (Patient)),
    `column_direction` that of a growing row index (the last three). `row_spacing_mm` lies between the centres of
    neighbouring rows, `column_spacing_mm` between those of columns (Pixel Spacing gives them in this order).
    `thickness_mm` is the nominal thickness of this slice.
    """

    origin: Point
    row_direction: Point
    column_direction: Point
    row_spacing_mm: float
    column_spacing_mm: float
    thickness_mm: float

    @property
    def normal(self) -> Point:
        """Unit normal: row direction times column direction."""
        x, y, z = np.cross(self.row_direction, self.column_direction)
        return (float(x), float(y), float(z))

    @property
    def position_mm(self) -> float:
        """Signed distance of the plane from the origin of the patient coordinate system, along the normal."""
        return float(np.dot(self.origin, self.normal))

    @property
    def pixel_area_mm2(self) -> float:
        return self.row_spacing_mm * self.column_spacing_mm

    def patient_from_pixel(self, row: ArrayLike, column: ArrayLike) -> Floats:
        """Patient coordinates of pixel centres; `row` and `column` are indices from 0. Shape `[..., 3]`."""
        rows = np.asarray(row, np.float64)[..., None] * self.row_spacing_mm
        columns = np.asarray(column, np.float64)[..., None] * self.column_spacing_mm
        down, along = rows * np.asarray(self.column_direction), columns * np.asarray(self.row_direction)
        return np.asarray(np.asarray(self.origin) + down + along)

    def pixel_from_patient(self, point: ArrayLike) -> tuple[Floats, Floats]:
        """Row and column index (fractional) of the foot of `point` on the plane. `point` has shape `[..., 3]`."""
        offset = np.asarray(point, np.float64) - np.asarray(self.origin)
        row = offset @ np.asarray(self.column_direction) / self.row_spacing_mm
        column = offset @ np.asarray(self.row_direction) / self.column_spacing_mm
        return row, column


def positions_mm(planes: Sequence[Plane]) -> Floats:
    """Distance of each plane along the common normal of a stack of parallel planes, mm."""
    normal = np.asarray(planes[0].normal)
    return np.array([np.dot(plane.origin, normal) for plane in planes])


def local_thicknesses_mm(planes: Sequence[Plane]) -> Floats:
    """The extent along the normal that each slice stands for: half the gap to either neighbour, mm.

    The outermost slices take their one gap whole. A single slice stands for its nominal thickness. Volumes are sums of
    area times this, which is right for uneven spacing and for tilt (the step between origins is not).
    """
    if len(planes) == 1:
        return np.array([planes[0].thickness_mm])
    gaps = np.abs(np.diff(positions_mm(planes)))
    padded = np.concatenate([gaps[:1], gaps, gaps[-1:]])
    return np.asarray((padded[:-1] + padded[1:]) / 2)


def tilt_degrees(planes: Sequence[Plane]) -> float:
    """Angle between the step from slice to slice and the slices' normal, degrees; 0 where there is no tilt."""
    if len(planes) < 2:
        return 0.0
    step = np.subtract(planes[-1].origin, planes[0].origin)
    length = float(np.linalg.norm(step))
    if length == 0:
        return 0.0
    cosine = abs(float(np.dot(step, planes[0].normal))) / length
    return float(np.degrees(np.arccos(min(1.0, cosine))))

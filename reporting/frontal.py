"""A chest seen from in front: the mean of a slab of the stack, head up and the patient's left on the right."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipelines.geometry import Floats, Point
from reporting.picture import Box, windowed
from reporting.source import ReportCase

SLAB_MM = 40.0
WINDOW = (-450.0, 1100.0)
"""Vessels stand out of lung that is nearly black; soft tissue is white."""
LOWEST_HU, HIGHEST_HU = -1000, 300


@dataclass(frozen=True, slots=True, eq=False)
class Frontal:
    """`grey[row, column]` with square pixels.

    `across` (towards the patient's left) and `up` (towards the head) are unit vectors in patient coordinates (LPS). The
    centre of pixel (0, 0) lies at `left_mm` along `across` and at `top_mm` along `up`.
    """

    grey: NDArray[np.uint8]
    pixel_mm: float
    across: Floats
    up: Floats
    left_mm: float
    top_mm: float

    def place(self, point: Point) -> tuple[float, float]:
        """Column and row (fractional) where a patient point (LPS, mm) is seen."""
        at = np.asarray(point)
        return float(at @ self.across - self.left_mm) / self.pixel_mm, float(self.top_mm - at @ self.up) / self.pixel_mm


def seen_from_in_front(case: ReportCase, box: Box, side: int) -> Frontal:
    """The columns of `box`, and all slices, in a picture whose longer side has `side` pixels.

    The slab lies in the middle of the rows of `box`. At most `side` slices are looked at, one at a time, so that
    neither time nor memory grow with the stack.
    """
    plane = case.planes[0]
    across = _towards(plane.row_direction, axis=0)
    up = _towards(plane.normal, axis=2)
    heights = np.array([np.dot(other.origin, up) for other in case.planes])
    _, first, _, end = box
    step = plane.column_spacing_mm * float(np.sign(np.dot(plane.row_direction, across)))
    places: Floats = float(np.dot(plane.origin, across)) + step * np.arange(first, end, dtype=np.float64)
    thickness = max(plane.thickness_mm, 0.1)
    height_mm, width_mm = float(np.ptp(heights)) + thickness, float(np.ptp(places)) + plane.column_spacing_mm
    pixel_mm = max(height_mm, width_mm) / side
    top_mm = float(heights.max()) + thickness / 2 - pixel_mm / 2
    left_mm = float(places.min()) - plane.column_spacing_mm / 2 + pixel_mm / 2
    looked_at = np.unique(np.linspace(0, len(heights) - 1, min(len(heights), side)).round().astype(int))
    lines = np.stack([_line(case, int(k), box) for k in looked_at])
    rows: Floats = top_mm - pixel_mm * np.arange(max(1, round(height_mm / pixel_mm)), dtype=np.float64)
    columns: Floats = left_mm + pixel_mm * np.arange(max(1, round(width_mm / pixel_mm)), dtype=np.float64)
    hu = _between(heights[looked_at], lines, rows)
    hu = _between(places, hu.T, columns).T
    return Frontal(windowed(hu, WINDOW), pixel_mm, across, up, left_mm, top_mm)


def _towards(direction: Point, axis: int) -> Floats:
    """The direction or its opposite, whichever has this coordinate growing."""
    vector = np.asarray(direction, np.float64)
    return vector if vector[axis] >= 0 else -vector


def _line(case: ReportCase, k: int, box: Box) -> Floats:
    """The mean of the slab on one slice, for each column of the box, HU."""
    top, left, bottom, right = box
    half = max(1, round(SLAB_MM / 2 / case.planes[k].row_spacing_mm))
    middle = (top + bottom) // 2
    slab = case.pixels[k][max(top, middle - half) : min(bottom, middle + half), left:right]
    return np.asarray(np.clip(slab, LOWEST_HU, HIGHEST_HU).mean(axis=0, dtype=np.float64))


def _between(at: Floats, values: Floats, wanted: Floats) -> Floats:
    """Rows `values[i]`, known at `at[i]`, linearly between them at `wanted`."""
    order = np.argsort(at)
    at, values = at[order], values[order]
    if len(at) == 1:
        return np.repeat(values, len(wanted), axis=0)
    after = np.clip(np.searchsorted(at, wanted), 1, len(at) - 1)
    share = np.clip((wanted - at[after - 1]) / np.maximum(at[after] - at[after - 1], 1e-6), 0, 1)[:, None]
    return np.asarray((1 - share) * values[after - 1] + share * values[after])

"""Instances to `Volume`: CT numbers in a stack of slices, each on its own true plane."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipelines.geometry import Floats, Plane, local_thicknesses_mm, positions_mm


@dataclass(frozen=True, slots=True, eq=False)
class Volume:
    """A stack of parallel CT slices in ascending order along their normal.

    `hu` is int16 or float32 `[slice, row, column]` in Hounsfield units; what lies outside the field of view is -1024.
    `plane[k]` is the true plane of slice k: tilted and unevenly spaced stacks are normal input, no single affine is
    assumed. `instance_uid[k]` and `frame[k]` (from 1) say where slice k came from.
    """

    hu: NDArray[np.int16] | NDArray[np.float32]
    plane: tuple[Plane, ...]
    instance_uid: tuple[str, ...]
    frame: tuple[int, ...]

    @property
    def position_mm(self) -> Floats:
        """Position of each slice along the common normal, mm, ascending."""
        return positions_mm(self.plane)

    @property
    def local_thickness_mm(self) -> Floats:
        """The extent along the normal that each slice stands for, mm."""
        return local_thicknesses_mm(self.plane)

    def patient_from_voxel(self, slice_: int, row: float, column: float) -> tuple[float, float, float]:
        """Patient coordinates (LPS, mm) of a voxel's centre."""
        x, y, z = self.plane[slice_].patient_from_pixel(row, column)
        return (float(x), float(y), float(z))

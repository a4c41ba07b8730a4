"""`Volume` to what the networks for nodules read: the lungs' box on an even grid of 1 mm."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipelines.grid import Grid, resample
from pipelines.nodule.lungs import Lungs, find_lungs
from pipelines.volume import Volume

WORKING_MM = 1.0
AROUND_MM = 16.0
"""So far the box reaches beyond the lungs: what the networks look at around a nodule at the pleura."""


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """`hu` is int16 `[k, j, i]` on `grid` (1 mm, k towards the head, j to the back, i to the left)."""

    hu: NDArray[np.int16]
    grid: Grid
    lungs: Lungs


def prepare(volume: Volume) -> Prepared:
    """Lungs and working box of a volume. Refuses (`body_part.unexpected`) where there is no lung."""
    lungs = find_lungs(volume)
    grid = working_grid(lungs)
    return Prepared(resample(volume, grid), grid, lungs)


def working_grid(lungs: Lungs) -> Grid:
    """The 1 mm grid over the lungs' box and what is close to it."""
    marked = np.nonzero(lungs.side)
    step = lungs.grid.step_mm
    low = np.array([axis.min() for axis in marked]) * step - AROUND_MM
    high = np.array([axis.max() for axis in marked]) * step + AROUND_MM
    origin = lungs.grid.origin + low @ lungs.grid.axes
    k, j, i = np.ceil((high - low) / WORKING_MM + 1).astype(int).tolist()
    grid = lungs.grid
    return Grid(origin, grid.normal, grid.back, grid.left, WORKING_MM, (k, j, i))

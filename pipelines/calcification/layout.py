"""How the grains of a group lie to each other: extent, direction, whether they follow a line or two parallel ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial import ConvexHull, QhullError, cKDTree
from scipy.spatial.distance import pdist

from pipelines.geometry import Floats

LEAST_FOR_BEND = 6
"""Grains from which on a line through them may bend (a parabola)."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Lengths in mm.

    `length` is the largest distance of two grains, `across` the extent square to the principal axis, `spread` the root
    of the mean square distance from the centre. `angle` is the direction of the principal axis, radians from the
    columns' direction towards the rows'. `off_line` is the root mean square distance from the line (bent, where there
    are grains enough) that fits the grains best; `two_lines` says how far those distances fall into two heaps, one on
    either side: 0 for one heap, towards 1 for two thin ones. `gap` is the mean distance to the nearest other grain.
    `area_mm2` is that of the convex hull.
    """

    length: float
    across: float
    spread: float
    angle: float
    off_line: float
    two_lines: float
    gap: float
    area_mm2: float

    @property
    def slenderness(self) -> float:
        """Length over twice the scatter about the line: large for a line."""
        return self.length / max(2 * self.off_line, 0.2)


def layout_of(places_mm: Floats) -> Layout:
    """Of places [n, 2] (along columns, along rows), n at least 1."""
    middle = places_mm.mean(axis=0)
    away = places_mm - middle
    if len(places_mm) < 2:
        return Layout(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    _, _, axes = np.linalg.svd(away, full_matrices=False)
    along, across = away @ axes[0], away @ np.array([-axes[0, 1], axes[0, 0]])
    bend = np.polyfit(along, across, 2 if len(along) >= LEAST_FOR_BEND else 1) if np.ptp(along) > 0 else np.zeros(2)
    off = across - np.polyval(bend, along)
    nearest = cKDTree(places_mm).query(places_mm, k=2)[0][:, 1]
    return Layout(
        length=float(pdist(places_mm).max()),
        across=float(np.ptp(across)),
        spread=float(np.sqrt((away**2).sum(axis=1).mean())),
        angle=float(np.arctan2(axes[0, 1], axes[0, 0])),
        off_line=float(np.sqrt((off**2).mean())),
        two_lines=_two_heaps(off),
        gap=float(nearest.mean()),
        area_mm2=_hull_area(places_mm),
    )


def _two_heaps(off: Floats) -> float:
    """The part of the variance that parting the values at 0 explains (0 to 1), less what an even spread gives (3/4)."""
    high, low = off[off > 0], off[off <= 0]
    if not len(high) or not len(low) or off.var() == 0:
        return 0.0
    between = (len(high) * high.mean() ** 2 + len(low) * low.mean() ** 2) / len(off)
    return float(np.clip((between / (off**2).mean() - 0.75) / 0.25, 0, 1))


def _hull_area(places_mm: Floats) -> float:
    if len(places_mm) < 3:
        return 0.0
    try:
        return float(ConvexHull(places_mm).volume)
    except QhullError:  # all on one line
        return 0.0

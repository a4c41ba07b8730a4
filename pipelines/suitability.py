"""What every pipeline asks of a series before it reads it."""

from __future__ import annotations

import numpy as np
from pydicom import Dataset

from pipelines.reasons import refuse
from pipelines.volume import Volume

FEWEST_PIXELS = 64
MOST_DEGREES_FROM_AXIAL = 45.0
NO_CONTRAST = frozenset({"", "NO", "NONE", "N", "NATIVE", "WITHOUT"})


def check_geometry(volume: Volume) -> None:
    """Refuse slices that are far from axial, and pictures too small to show anything."""
    rows, columns = volume.hu.shape[1:]
    if min(rows, columns) < FEWEST_PIXELS:
        raise refuse("input.matrix_too_small", rows=rows, columns=columns)
    angle = float(np.degrees(np.arccos(min(1.0, abs(volume.plane[0].normal[2])))))
    if angle > MOST_DEGREES_FROM_AXIAL:
        raise refuse("geometry.not_axial", angle=round(angle))


def has_contrast(header: Dataset) -> bool:
    """Whether the header names a contrast agent."""
    agent = str(header.get("ContrastBolusAgent") or "").strip().upper()
    return agent not in NO_CONTRAST or bool(header.get("ContrastBolusAgentSequence"))

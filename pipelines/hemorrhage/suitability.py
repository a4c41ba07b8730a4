"""Whether a volume is a head to read, and what the reader of the answer should know about it.

What is refused is what would make an answer meaningless; everything else is read with a warning.
"""

from __future__ import annotations

import numpy as np

from pipelines.reasons import Reason, refuse
from pipelines.volume import LoadedSeries, Volume

FEWEST_PIXELS = 64
MOST_DEGREES_FROM_AXIAL = 45.0
LEAST_INTRACRANIAL_ML = 20.0
PARTIAL_ML = 600.0
NO_CONTRAST = frozenset({"", "NO", "NONE", "N", "NATIVE", "WITHOUT"})


def check_geometry(volume: Volume) -> None:
    """Refuse slices that are far from axial, and pictures too small to show a bleed."""
    rows, columns = volume.hu.shape[1:]
    if min(rows, columns) < FEWEST_PIXELS:
        raise refuse("input.matrix_too_small", rows=rows, columns=columns)
    angle = float(np.degrees(np.arccos(min(1.0, abs(volume.plane[0].normal[2])))))
    if angle > MOST_DEGREES_FROM_AXIAL:
        raise refuse("geometry.not_axial", angle=round(angle))


def check_content(inside_ml: float) -> None:
    """Refuse what shows next to nothing of a brain. `inside_ml` is the volume inside the skull."""
    if inside_ml < LEAST_INTRACRANIAL_ML:
        raise refuse("body_part.unexpected", detail=f"only {inside_ml:.0f} mL of the inside of a skull were found")


def warnings_about(series: LoadedSeries, inside_ml: float) -> tuple[Reason, ...]:
    """What qualifies an answer on this series: contrast, and a head that is only partly there."""
    warnings = []
    if _has_contrast(series):
        warnings.append(Reason("contrast.given"))
    if inside_ml < PARTIAL_ML:
        warnings.append(Reason("body_part.partial", {"detail": f"{inside_ml:.0f} mL inside the skull"}))
    return tuple(warnings)


def _has_contrast(series: LoadedSeries) -> bool:
    header = series.headers[0]
    agent = str(header.get("ContrastBolusAgent") or "").strip().upper()
    return agent not in NO_CONTRAST or bool(header.get("ContrastBolusAgentSequence"))

"""What objects of projections share: codes of their views, and outlines that are drawn beside what they surround."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy.spatial import ConvexHull

from pipelines import codes
from pipelines.codes import Code
from pipelines.findings import Finding, Outline
from pipelines.mammogram import Laterality, Mammogram, Projection
from reporting.source import ReportCase

Points = tuple[tuple[float, float], ...]
VIEWS: Mapping[Projection, Code] = {
    "CC": codes.CRANIO_CAUDAL,
    "MLO": codes.MEDIO_LATERAL_OBLIQUE,
    "ML": codes.MEDIO_LATERAL,
    "LM": codes.LATERO_MEDIAL,
    "LMO": codes.LATERO_MEDIAL_OBLIQUE,
    "XCCL": codes.EXAGGERATED_LATERALLY,
    "XCCM": codes.EXAGGERATED_MEDIALLY,
    "FB": codes.CAUDO_CRANIAL,
}
SIDES: Mapping[Laterality, Code] = {"R": codes.RIGHT_BREAST, "L": codes.LEFT_BREAST}
CLEARANCE_MM = 1.0
"""How far outside a finding's outline its mark is drawn."""
ROUND = 24
"""Points of the disc that an outline is widened by."""


class Placed(NamedTuple):
    """A finding that is outlined on a view, and the number it is told by."""

    number: int
    finding: Finding
    outline: Outline
    view: Mammogram


def outlined(case: ReportCase) -> list[Placed]:
    """The findings that are outlined on a view that was read, in their order."""
    if case.study is None:
        return []
    views = {view.instance_uid: view for view in case.study.views}
    return [
        Placed(number, finding, finding.region, views[finding.region.instance_uid])
        for number, finding in zip(case.outcome.numbers, case.outcome.findings, strict=True)
        if isinstance(finding.region, Outline) and finding.region.instance_uid in views
    ]


def on_view(case: ReportCase, view: Mammogram) -> list[Placed]:
    """The findings outlined on one view."""
    return [placed for placed in outlined(case) if placed.view is view]


def closed(points: Sequence[tuple[float, float]]) -> Points:
    """A polygon with its first point again at the end, by which a polyline is closed (PS3.3, C.18.6.1.2)."""
    held = tuple((float(x), float(y)) for x, y in points)
    return held if held[0] == held[-1] and len(held) > 1 else (*held, held[0])


def middle(finding: Finding, outline: Outline) -> tuple[float, float]:
    """The place of a finding on its view: as told, else the middle of its outline."""
    if finding.center_px is not None:
        return finding.center_px
    x, y = np.mean(np.asarray(outline.points, np.float64), axis=0)
    return float(x), float(y)


def mark_around(outline: Outline, view: Mammogram) -> Points:
    """A closed line about an outline that clears what lies on it: its convex hull, widened by a disc, in the image."""
    turns = np.linspace(0, 2 * np.pi, ROUND, endpoint=False)
    disc = CLEARANCE_MM / view.spacing.object_mm * np.stack([np.cos(turns), np.sin(turns)], axis=1)
    widened = (np.asarray(outline.points, np.float64)[:, None] + disc).reshape(-1, 2)
    height, width = view.pixels.shape
    hull = np.clip(widened[ConvexHull(widened).vertices], 0, (width, height))
    return closed([(float(x), float(y)) for x, y in hull])

"""What a group of calcifications is like: type, distribution, outline, size, and where it lies.

The words are those of BI-RADS (D'Orsi CJ et al., ACR BI-RADS Atlas, 5th edition, 2013, mammography, section B). Type
and distribution each come from one table: the first rule that applies counts. Where the atlas gives a size, the rule
has it: punctate is below 0.5 mm, coarse heterogeneous mostly 0.5 to 1 mm, fine pleomorphic and the width of fine linear
below 0.5 mm, popcorn above 2 to 3 mm; grouped reaches up to 2 cm, regional beyond; what is diffuse lies throughout the
breast, what is segmental or linear suggests a duct. For what the atlas says in words alone (hazy, varying, in a line,
pointing to the nipple) the limits were set on made breasts (`pipelines.phantom.breast`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.spatial import ConvexHull
from scipy.spatial.distance import pdist, squareform

from pipelines import codes
from pipelines.calcification.breast import Breast
from pipelines.calcification.grains import Grains
from pipelines.calcification.group import Group
from pipelines.calcification.layout import Layout
from pipelines.calcification.place import Frame, half_of, spacing
from pipelines.codes import Code
from pipelines.findings import Finding, Measurement, Outline
from pipelines.geometry import Floats
from pipelines.mammogram import Mammogram
from pipelines.uids import derived_uid

MARGIN_MM = 1.0
"""How far outside of the grains the outline runs."""
SOLID = 0.6
"""Compactness from which on a grain's outline is its own."""
_AROUND = 12
"""Corners of the polygon that stands for a grain in outlines."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What the rules go by. Sizes are diameters of discs of the same area, mm; lengths mm; angles degrees.

    `long_share` is the part of grains that are at least twice as long as wide and thinner than 0.5 mm; `largest_mm` and
    `largest_lucency` are those of the largest grain that is clear, `elongation`, `compactness` and `prominence` medians
    of the grains'. `to_nipple` is the angle between the group's axis and the direction to the nipple, `of_breast` the
    part of the breast's area that the group's hull takes.
    """

    number: int
    median_mm: float
    largest_mm: float
    elongation: float
    compactness: float
    long_share: float
    largest_lucency: float
    prominence: float
    lined_up: float
    below_skin_mm: float
    layout: Layout
    to_nipple: float
    of_breast: float


@dataclass(frozen=True, slots=True)
class Rule:
    """A row of a table: what it calls what it applies to, and why in words."""

    id: str
    code: Code
    why: str
    applies: Callable[[Facts], bool]


TYPE_RULES: tuple[Rule, ...] = (
    Rule("skin", codes.SKIN_CALCIFICATION, "Smooth, 0.5 mm and more, within 3 mm of the skin line",
         lambda f: f.below_skin_mm < 3 and f.median_mm >= 0.5 and f.elongation < 1.5),
    Rule("rim", codes.RIM, "Largest one above 1.5 mm with a lucent middle",
         lambda f: f.largest_mm > 1.5 and f.largest_lucency >= 0.4),
    Rule("popcorn", codes.POPCORN, "Largest one above 2.5 mm, or mostly above 1.5 mm",
         lambda f: f.largest_mm > 2.5 or f.median_mm > 1.5),
    Rule("vascular", codes.VASCULAR, "Eight and more along 1.5 cm of a line: in two rows, or long ones that follow it",
         lambda f: f.number >= 8 and f.layout.length >= 15 and f.layout.slenderness >= 6
         and (f.layout.two_lines >= 0.3 or f.lined_up >= 0.3)),
    Rule("fine_linear", codes.FINE_LINEAR, "Two fifths of them, or more, long and thinner than 0.5 mm",
         lambda f: f.long_share >= 0.4),
    Rule("coarse_heterogeneous", codes.COARSE_HETEROGENEOUS, "Mostly 0.5 mm and more, irregular",
         lambda f: f.median_mm >= 0.5 and f.elongation >= 1.3),
    Rule("round", codes.ROUND, "Mostly 0.5 mm and more, round", lambda f: f.median_mm >= 0.5),
    Rule("punctate", codes.PUNCTATE, "Mostly smaller than 0.5 mm, round and smooth",
         lambda f: f.elongation < 1.4 and f.compactness >= 0.9),
    Rule("amorphous", codes.AMORPHOUS, "Smaller than 0.5 mm and hazy: little more than the tissue about them",
         lambda f: f.prominence < 4.5 and f.elongation < 1.6),
    Rule("fine_pleomorphic", codes.FINE_PLEOMORPHIC, "Smaller than 0.5 mm, discrete, irregular", lambda _: True),
)  # fmt: skip

DISTRIBUTION_RULES: tuple[Rule, ...] = (
    Rule("diffuse", codes.DIFFUSE, "Over more than two fifths of the breast", lambda f: f.of_breast > 0.4),
    Rule("linear", codes.LINEAR, "Within half a millimetre of a line of 5 mm and more",
         lambda f: f.number >= 4 and f.layout.length >= 5 and f.layout.slenderness >= 6 and f.layout.off_line <= 0.5),
    Rule("segmental", codes.SEGMENTAL, "Longer than 1 cm, more than twice as long as wide, pointing to the nipple",
         lambda f: f.number >= 5 and f.layout.length > 10 and f.layout.length > 2.2 * f.layout.across
         and f.to_nipple <= 35),
    Rule("regional", codes.REGIONAL, "Longer than 2 cm", lambda f: f.layout.length > 20),
    Rule("grouped", codes.GROUPED, "Within 2 cm", lambda _: True),
)  # fmt: skip
"""The last rule of each table applies to all that is left."""


@dataclass(frozen=True, slots=True, eq=False)
class Description:
    """A group in words and numbers. `outline` is a closed polygon [n, 2] of (column, row) px; axes are those of the
    grains themselves, without the outline's margin; `half` and `depth` say where its centre lies.
    """

    facts: Facts
    type: Code
    distribution: Code
    outline: Floats
    long_axis_mm: float
    short_axis_mm: float
    area_mm2: float
    half: Code
    depth: Code


def describe(view: Mammogram, breast: Breast, frame: Frame, group: Group) -> Description:
    """Describe one group."""
    facts = facts_of(breast, frame, group)
    side = spacing(view)
    outline = _around(group.grains, MARGIN_MM / side, side)
    height, width = view.pixels.shape
    edge = _around(group.grains, 0.0, side) * side
    long_axis, short_axis = _axes(edge)
    return Description(
        facts=facts,
        type=first(TYPE_RULES, facts).code,
        distribution=first(DISTRIBUTION_RULES, facts).code,
        outline=np.clip(outline, 0, (width, height)),
        long_axis_mm=long_axis,
        short_axis_mm=short_axis,
        area_mm2=float(ConvexHull(edge).volume),
        half=half_of(view, frame, group.center_px),
        depth=frame.depth(group.center_px),
    )


def first(rules: tuple[Rule, ...], facts: Facts) -> Rule:
    """The rule that counts. The last rule of a table applies to everything."""
    return next(rule for rule in rules if rule.applies(facts))


def facts_of(breast: Breast, frame: Frame, group: Group) -> Facts:
    """What the rules go by, of one group. Each grain counts by its score: false ones are mostly the doubtful ones."""
    grains, layout = group.grains, group.layout
    weight = grains.score + 1e-6
    width = grains.size_mm / np.sqrt(grains.elongation)
    # Faint ones run out into the tissue at times: the largest counts among those that are clear.
    clear = (grains.contrast >= np.median(grains.contrast)) & (grains.compactness >= SOLID)
    largest = int(np.where(clear, grains.size_mm, 0).argmax())
    toward = np.array(frame.nipple_px) - group.center_px
    angle = np.degrees(np.arctan2(toward[1], toward[0]) - layout.angle) % 180
    return Facts(
        number=len(grains),
        median_mm=_median(grains.size_mm, weight),
        largest_mm=float(grains.size_mm[largest]) if clear.any() else 0.0,
        elongation=_median(grains.elongation, weight),
        compactness=_median(grains.compactness, weight),
        long_share=float(np.average((grains.elongation >= 2) & (width < 0.5), weights=weight)),
        largest_lucency=float(grains.lucency[largest]),
        prominence=_median(grains.prominence, weight),
        lined_up=group.features["lined_up"],
        below_skin_mm=float(np.median(breast.depth_mm(grains.center_px))),
        layout=layout,
        to_nipple=float(min(angle, 180 - angle)),
        of_breast=layout.area_mm2 / frame.area_mm2 if frame.area_mm2 else 0.0,
    )


def finding_of(
    view: Mammogram, group: Group, description: Description, *, certainty: float, region: Code, model_sha256: str
) -> Finding:
    """The finding of one group on one view; `region` is a quadrant, or the half that this view shows."""
    outline = Outline(view.instance_uid, _points(description.outline), _points(group.grains.center_px))
    digest = hashlib.sha256(np.round(group.grains.center_px, 1).tobytes()).hexdigest()
    column, row = group.center_px
    return Finding(
        kind=codes.CALCIFICATION_CLUSTER,
        label=codes.CALCIFICATION_CLUSTER.meaning,
        certainty=round(certainty, 4),
        region=outline,
        center_mm=None,
        measurements=(
            Measurement("count", codes.NUMBER_OF_CALCIFICATIONS, float(len(group.grains)), codes.NO_UNITS),
            Measurement("long_axis_mm", codes.LONG_AXIS, round(description.long_axis_mm, 1), codes.MILLIMETER),
            Measurement("short_axis_mm", codes.SHORT_AXIS, round(description.short_axis_mm, 1), codes.MILLIMETER),
            Measurement("area_mm2", codes.AREA, round(description.area_mm2, 1), codes.SQUARE_MILLIMETER),
        ),
        key_instance_uid=view.instance_uid,
        tracking_uid=derived_uid("calcification", view.instance_uid, model_sha256, digest),
        side="right" if view.laterality == "R" else "left",
        attributes={
            codes.CALCIFICATION_TYPE: description.type,
            codes.CALCIFICATION_DISTRIBUTION: description.distribution,
            codes.BREAST_REGION: region,
            codes.BREAST_DEPTH: description.depth,
        },
        view=view.name,
        center_px=(round(column, 1), round(row, 1)),
    )


def _median(values: Floats, weight: Floats) -> float:
    """The value that half of the weight lies below."""
    order = np.argsort(values)
    return float(values[order][np.searchsorted(np.cumsum(weight[order]), weight.sum() / 2)])


def _around(grains: Grains, margin_px: float, spacing_mm: float) -> Floats:
    """The convex hull, px, of the grains' discs with a margin; closed: the first point stands again at the end."""
    turn = np.arange(_AROUND) * 2 * np.pi / _AROUND
    radius = grains.size_mm / 2 / spacing_mm + margin_px
    circle = np.stack([np.cos(turn), np.sin(turn)], axis=1)
    points = (grains.center_px[:, None, :] + radius[:, None, None] * circle).reshape(-1, 2)
    corners = points[ConvexHull(points).vertices]
    return np.concatenate([corners, corners[:1]])


def _axes(points_mm: Floats) -> tuple[float, float]:
    """The largest distance of two points, and the extent square to it."""
    distances = squareform(pdist(points_mm))
    start, end = np.unravel_index(int(distances.argmax()), distances.shape)
    along = (points_mm[end] - points_mm[start]) / distances[start, end]
    return float(distances[start, end]), float(np.ptp(points_mm @ np.array([-along[1], along[0]])))


def _points(places: Floats) -> tuple[tuple[float, float], ...]:
    return tuple((round(float(column), 2), round(float(row), 2)) for column, row in places)

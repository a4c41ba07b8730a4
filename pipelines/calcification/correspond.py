"""The same group on two views of one breast, and what that does to its certainty; the two breasts against each other.

What lies in the breast keeps its distance from the nipple, measured along the chest-wall normal, when the breast is
turned and pressed for the other view; radiologists go by that distance, with about 1 cm to either side (Kopans DB,
Breast Imaging, 3rd edition, 2007; within 1 cm in most: Bassett LW et al., Radiology 1993, 188:803-806). Here it
may differ by `FARTHEST_MM` at most. Number, size and type are compared beside it:

    agreement = exp(-(d / 8 mm)^2 / 2) * exp(-|ln(n1 / n2)| / 4) * exp(-|ln(l1 / l2)| / 4) * t

with the difference of the distances d, numbers n, lengths l (of 3 mm at least), and t = 1 for the same type, 0.8
otherwise. Of all ways to pair the groups of two views the one is taken whose agreements, weighted with both groups'
certainties, sum to most. Then, for the logarithm of the odds of each group,

    with a partner of certainty p:      + 1.5 * agreement * p
    without, where one was to be seen:  - 0.7

It was to be seen where the other view reaches that far back. Where a breast has no two views, from above and from the
side, or a nipple is not found, nothing is changed. Of several views of one kind the first counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.special import expit, logit

from pipelines import codes
from pipelines.calcification.describe import Description
from pipelines.calcification.group import Group
from pipelines.calcification.place import FROM_ABOVE, Frame, quadrant_of
from pipelines.codes import Code
from pipelines.mammogram import Mammogram

DISTANCE_MM, FARTHEST_MM = 8.0, 20.0
"""Standard deviation of the difference of the distances from the nipple, and the largest that is allowed."""
LEAST_LENGTH_MM = 3.0
RATIO = 4.0
"""Numbers or lengths that differ e-fold take a quarter of the exponent's unit off."""
OTHER_TYPE = 0.8
RAISE, LOWER = 1.5, 0.7
LEAST_AGREEMENT = 0.2
"""Groups that agree less are not taken for the same."""
SHORT_OF_WALL_MM = 10.0
"""What lies closer to the chest wall or muscle than this may be missing on the other view."""
WIDE = (codes.REGIONAL, codes.DIFFUSE)


@dataclass(frozen=True, slots=True, eq=False)
class Marked:
    """A described group on its view. `certainty` is its chance to be one, with all views known; `partner` the place in
    the list of the same group on the other view, and `region` the quadrant, or the half where there is no partner.
    """

    view: Mammogram
    frame: Frame
    group: Group
    description: Description
    certainty: float
    region: Code
    partner: int | None = None

    @staticmethod
    def alone(view: Mammogram, frame: Frame, group: Group, description: Description) -> Marked:
        """As one view shows it."""
        return Marked(view, frame, group, description, group.certainty, description.half)

    @property
    def behind_nipple_mm(self) -> float:
        return float(self.frame.behind_nipple_mm([self.group.center_px])[0])


def correspond(marked: Sequence[Marked], views: Sequence[tuple[Mammogram, Frame]]) -> tuple[Marked, ...]:
    """The groups of a study, in their order, each with its partner, and its certainty with that known.

    `views` are all views that were read, with or without groups.
    """
    known = list(marked)
    for side in ("R", "L"):
        above, beside = (_first(views, side, from_above=kind) for kind in (True, False))
        if above is None or beside is None:
            continue
        first = [k for k, one in enumerate(marked) if one.view is above[0]]
        second = [k for k, one in enumerate(marked) if one.view is beside[0]]
        for k, partner, agreement in _pairs(marked, first, second):
            known[k] = _with_partner(marked, k, partner, agreement)
            known[partner] = _with_partner(marked, partner, k, agreement)
        for members, other in ((first, beside), (second, above)):
            for k in members:
                if known[k].partner is None and _reaches(other[1], marked[k].behind_nipple_mm):
                    known[k] = replace(known[k], certainty=_shifted(marked[k].certainty, -LOWER))
    return tuple(known)


def agreement_of(one: Marked, other: Marked) -> float:
    """How well two groups fit as one on two views, 0 to 1."""
    apart = abs(one.behind_nipple_mm - other.behind_nipple_mm)
    if apart > FARTHEST_MM:
        return 0.0
    numbers = abs(np.log(len(one.group.grains) / len(other.group.grains)))
    lengths = abs(np.log(_length(one) / _length(other)))
    same_type = 1.0 if one.description.type == other.description.type else OTHER_TYPE
    return float(np.exp(-((apart / DISTANCE_MM) ** 2) / 2 - numbers / RATIO - lengths / RATIO) * same_type)


def is_bilateral(one: Marked, marked: Sequence[Marked], least: float) -> bool:
    """Whether the other breast has groups of the same type that are as widely spread (regional or diffuse).

    Of such calcifications both breasts make benign ones alike (BI-RADS, 5th edition, "diffuse"). Groups of the other
    breast that are less certain than `least` do not count.
    """
    return one.description.distribution in WIDE and any(
        other.view.laterality != one.view.laterality
        and other.certainty >= least
        and other.description.type == one.description.type
        and other.description.distribution in WIDE
        for other in marked
    )


def _first(views: Sequence[tuple[Mammogram, Frame]], side: str, *, from_above: bool) -> tuple[Mammogram, Frame] | None:
    """The first view of a breast from above, or from the side, on which the nipple was found."""
    return next(
        (
            (view, frame)
            for view, frame in views
            if view.laterality == side and (view.projection in FROM_ABOVE) == from_above and frame.has_nipple
        ),
        None,
    )


def _pairs(marked: Sequence[Marked], first: Sequence[int], second: Sequence[int]) -> list[tuple[int, int, float]]:
    if not first or not second:
        return []
    agreement = np.array([[agreement_of(marked[a], marked[b]) for b in second] for a in first])
    certainty = np.sqrt(np.outer([marked[a].certainty for a in first], [marked[b].certainty for b in second]))
    chosen = linear_sum_assignment(np.where(agreement >= LEAST_AGREEMENT, agreement * certainty, 0), maximize=True)
    return [
        (first[row], second[column], float(agreement[row, column]))
        for row, column in zip(*chosen, strict=True)
        if agreement[row, column] >= LEAST_AGREEMENT
    ]


def _with_partner(marked: Sequence[Marked], k: int, partner: int, agreement: float) -> Marked:
    one, other = marked[k], marked[partner]
    above, beside = (one, other) if one.view.projection in FROM_ABOVE else (other, one)
    return replace(
        one,
        certainty=_shifted(one.certainty, RAISE * agreement * other.certainty),
        region=quadrant_of(above.description.half, beside.description.half),
        partner=partner,
    )


def _reaches(frame: Frame, behind_nipple_mm: float) -> bool:
    return behind_nipple_mm < frame.reach_mm - SHORT_OF_WALL_MM


def _length(one: Marked) -> float:
    return max(one.description.long_axis_mm, LEAST_LENGTH_MM)


def _shifted(certainty: float, by: float) -> float:
    return float(expit(logit(np.clip(certainty, 1e-6, 1 - 1e-6)) + by))

"""From single grains to groups, and how likely each group is to be one.

Grouping is by density. A grain lies in a crowd when the scores of all grains within 5 mm of it, its own among them, sum
to at least `Grouping.least_weight`: scores are chances, so the sum is the number of calcifications to be expected in a
circle 1 cm wide. That is the circle in which BI-RADS (5th edition, 2013, "grouped") asks for five calcifications; fewer
are asked for here, because a detector does not see them all. Crowded grains within 5 mm of each other belong together
(DBSCAN: Ester M et al., Proc KDD 1996, 226-231), and every other grain within 5 mm of one joins the nearest.

Whether a group is one is told by logistic regression over a few features that can be read (`FEATURES`); its numbers
stand in the model's manifest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree
from scipy.special import expit

from pipelines.calcification.breast import Breast
from pipelines.calcification.grains import Grains
from pipelines.calcification.layout import Layout, layout_of
from pipelines.calcification.place import Frame, frame_of, share_within, spacing
from pipelines.geometry import Floats
from pipelines.mammogram import Mammogram

FARTHEST = 3.0
"""Features count up to this many standard deviations from their mean: what was never seen says no more than that."""


@dataclass(frozen=True, slots=True)
class Grouping:
    """Which grains belong together: see the module."""

    reach_mm: float = 5.0
    least_score: float = 0.1
    """Grains that the detector is less sure of are left out."""
    least_weight: float = 1.5
    least_number: int = 3


@dataclass(frozen=True, slots=True, eq=False)
class Group:
    """Grains of one view that lie together. `certainty` is the chance, 0 to 1, that they are a group of calcifications;
    `features` are what that was told by.
    """

    grains: Grains
    layout: Layout
    features: Mapping[str, float]
    certainty: float

    @property
    def center_px(self) -> tuple[float, float]:
        """(column, row) mean of the grains' centres, each weighted with its score."""
        column, row = np.average(self.grains.center_px, axis=0, weights=self.grains.score + 1e-6).tolist()
        return column, row


@dataclass(frozen=True, slots=True, eq=False)
class Setting:
    """What the features of a group are taken from: the group, and where it lies."""

    grains: Grains
    layout: Layout
    frame: Frame
    breast: Breast
    below_skin_mm: Floats
    """Of each grain."""
    others: float
    """Sum of the scores of the view's grains that are not in the group."""


def _lined_up(setting: Setting) -> float:
    """How far long grains point along the group's axis: 1 all do, 0 as by chance; those below 1.5 to 1 count little."""
    weight = np.clip(setting.grains.elongation - 1, 0, 2)
    return float((weight * np.cos(2 * (setting.grains.angle - setting.layout.angle))).sum() / (weight.sum() + 1.0))


FEATURES: Mapping[str, Callable[[Setting], float]] = {
    "expected_number": lambda s: float(np.log(s.grains.score.sum())),
    "number": lambda s: float(np.log(len(s.grains))),
    "mean_score": lambda s: float(s.grains.score.mean()),
    "third_score": lambda s: float(np.sort(s.grains.score)[-min(3, len(s.grains))]),
    "highest_score": lambda s: float(s.grains.score.max()),
    "spread": lambda s: float(np.log(max(s.layout.spread, 0.2))),
    "density": lambda s: float(np.log(s.grains.score.sum() / (s.layout.area_mm2 + 4.0))),
    "slenderness": lambda s: float(np.log(max(s.layout.slenderness, 0.5))),
    "two_lines": lambda s: s.layout.two_lines,
    "lined_up": _lined_up,
    "size": lambda s: float(np.log(np.median(s.grains.size_mm))),
    "size_varies": lambda s: float(np.log(s.grains.size_mm).std()),
    "elongation": lambda s: float(np.log(s.grains.elongation).mean()),
    "compactness": lambda s: float(s.grains.compactness.mean()),
    "prominence": lambda s: float(np.log(np.maximum(s.grains.prominence, 0.5)).mean()),
    "prominence_varies": lambda s: float(np.log(np.maximum(s.grains.prominence, 0.5)).std()),
    "contrast": lambda s: float(np.log(np.maximum(s.grains.contrast, 1e-3)).mean()),
    "on_muscle": lambda s: share_within(s.breast.pectoral, s.grains.center_px),
    "on_artifact": lambda s: share_within(s.breast.artifacts, s.grains.center_px),
    "outside_breast": lambda s: (
        1.0 - share_within(s.breast.mask, s.grains.center_px) - share_within(s.breast.pectoral, s.grains.center_px)
    ),
    "near_skin": lambda s: float(np.exp(-s.below_skin_mm / 5.0).mean()),
    "near_nipple": lambda s: float(np.exp(-s.frame.from_nipple_mm(s.grains.center_px) / 10.0).mean()),
    "others": lambda s: float(np.log1p(s.others)),
}
"""What a group is told by, each a number without a unit, most of them logarithms."""


@dataclass(frozen=True, slots=True)
class GroupModel:
    """Logistic regression: each feature less its `mean`, in units of its `scale`, times its `weight`; their sum and
    `offset` are the log odds. Raises `ValueError` for features that are not those of `FEATURES`.
    """

    offset: float
    weight: Mapping[str, float]
    mean: Mapping[str, float]
    scale: Mapping[str, float]

    def __post_init__(self) -> None:
        for numbers in (self.weight, self.mean, self.scale):
            if set(numbers) != set(FEATURES):
                raise ValueError(f"the group model must have exactly the features {sorted(FEATURES)}")

    def certainty(self, features: Mapping[str, float]) -> float:
        """The chance that what has these features is a group of calcifications."""
        told = sum(
            self.weight[name] * float(np.clip((value - self.mean[name]) / self.scale[name], -FARTHEST, FARTHEST))
            for name, value in features.items()
        )
        return float(expit(self.offset + told))

    def as_json(self) -> dict[str, Any]:
        """As a manifest holds it."""
        return {
            "offset": round(self.offset, 5),
            **{
                part: {name: round(value, 5) for name, value in getattr(self, part).items()}
                for part in ("weight", "mean", "scale")
            },
        }

    @staticmethod
    def from_json(document: Mapping[str, Any]) -> GroupModel:
        """Back from what a manifest holds."""
        return GroupModel(document["offset"], document["weight"], document["mean"], document["scale"])


def groups_of(
    view: Mammogram, breast: Breast, grains: Grains, model: GroupModel, grouping: Grouping | None = None
) -> tuple[Group, ...]:
    """The groups of a view, the surest first."""
    frame = frame_of(view, breast)
    found = [
        Group(held, layout, features, model.certainty(features))
        for held, layout, features in described_parts(view, breast, frame, grains, grouping or Grouping())
    ]
    return tuple(sorted(found, key=lambda group: -group.certainty))


def described_parts(
    view: Mammogram, breast: Breast, frame: Frame, grains: Grains, grouping: Grouping
) -> list[tuple[Grains, Layout, dict[str, float]]]:
    """The grains that lie together, how they lie, and their features; in no order of likelihood."""
    side = spacing(view)
    usable = grains.taken(grains.score >= grouping.least_score)
    total = float(usable.score.sum())
    found = []
    for members in parted(usable.center_px * side, usable.score, grouping):
        held = usable.taken(members)
        layout = layout_of(held.center_px * side)
        setting = Setting(held, layout, frame, breast, breast.depth_mm(held.center_px), total - float(held.score.sum()))
        found.append((held, layout, {name: measured(setting) for name, measured in FEATURES.items()}))
    return found


def parted(places_mm: Floats, scores: Floats, grouping: Grouping) -> list[NDArray[np.intp]]:
    """Indices of the grains of each group, by the first of each; `places_mm` is [n, 2]."""
    if not len(places_mm):
        return []
    tree = cKDTree(places_mm)
    pairs = tree.query_pairs(grouping.reach_mm, output_type="ndarray")
    weight = scores.copy()
    np.add.at(weight, pairs[:, 0], scores[pairs[:, 1]])
    np.add.at(weight, pairs[:, 1], scores[pairs[:, 0]])
    crowded = weight >= grouping.least_weight
    core = np.flatnonzero(crowded)
    if not len(core):
        return []
    links = pairs[crowded[pairs].all(axis=1)]
    graph = coo_array((np.ones(len(links), np.bool_), (links[:, 0], links[:, 1])), shape=(len(scores),) * 2)
    _, number = connected_components(graph, directed=False)
    away, nearest = cKDTree(places_mm[core]).query(places_mm)
    joined = np.where(away <= grouping.reach_mm, number[core[nearest]], -1)
    members = [np.flatnonzero(joined == k) for k in dict.fromkeys(joined.tolist()) if k >= 0]
    return [part for part in members if len(part) >= grouping.least_number]


def fit(features: Sequence[Mapping[str, float]], is_group: Sequence[bool], *, penalty: float = 1.0) -> GroupModel:
    """The regression that fits made examples best. `penalty` holds the weights small (half the sum of their squares).

    Both classes count as often as they come: certainties are chances where groups are as frequent as there. Raises
    `ValueError` where one class has no example.
    """
    truth = np.array(is_group, np.float64)
    if not 0 < truth.sum() < len(truth):
        raise ValueError("there must be examples of groups, and of what is none")
    table = np.array([[row[name] for name in FEATURES] for row in features], np.float64)
    mean, scale = table.mean(axis=0), np.maximum(table.std(axis=0), 1e-3)
    standard = np.clip((table - mean) / scale, -FARTHEST, FARTHEST)
    sign = 2 * truth - 1

    def loss(numbers: Floats) -> tuple[float, Floats]:
        offset, weight = numbers[0], numbers[1:]
        margin = sign * (offset + standard @ weight)
        slope = -sign * expit(-margin)
        value = np.logaddexp(0, -margin).sum() + penalty * (weight @ weight) / 2
        return float(value), np.concatenate([[slope.sum()], slope @ standard + penalty * weight])

    best = minimize(loss, np.zeros(1 + table.shape[1]), jac=True, method="L-BFGS-B", options={"maxiter": 500}).x
    named = [dict(zip(FEATURES, numbers.tolist(), strict=True)) for numbers in (best[1:], mean, scale)]
    return GroupModel(float(best[0]), *named)

"""How well scores tell two classes apart: area under the ROC curve, sensitivity and specificity, with intervals.

All intervals are of 95 %: percentiles 2.5 to 97.5 of a bootstrap over cases for the area, Wilson's for proportions.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata

Interval = tuple[float, float]
Z_95 = 1.959963984540054


@dataclass(frozen=True, slots=True)
class Proportion:
    """`count` of `total` cases with the interval of the proportion; `value` is None when there are no cases."""

    count: int
    total: int

    @property
    def value(self) -> float | None:
        return self.count / self.total if self.total else None

    @property
    def interval(self) -> Interval | None:
        """Wilson's score interval (J Am Stat Assoc 1927, 22:209)."""
        if self.total == 0:
            return None
        share, weight = self.count / self.total, Z_95**2 / self.total
        center = (share + weight / 2) / (1 + weight)
        half = Z_95 / (1 + weight) * sqrt(share * (1 - share) / self.total + weight / (4 * self.total))
        low = 0.0 if self.count == 0 else center - half
        high = 1.0 if self.count == self.total else center + half
        return low, high


def roc_auc(scores: ArrayLike, positive: ArrayLike) -> float | None:
    """Probability that a positive case scores higher than a negative one, ties counting half; None without both."""
    values, truth = _cases(scores, positive)
    positives, negatives = int(truth.sum()), int((~truth).sum())
    if positives == 0 or negatives == 0:
        return None
    ranks = rankdata(values)
    return (float(ranks[truth].sum()) - positives * (positives + 1) / 2) / (positives * negatives)


def roc_auc_interval(
    scores: ArrayLike, positive: ArrayLike, *, together: ArrayLike | None = None, seed: int = 0, draws: int = 2000
) -> Interval | None:
    """Interval of `roc_auc` by drawing positive and negative cases, each with replacement; None without both.

    `together` names for each case what it belongs to, such as a patient: then these are drawn, with all their cases;
    draws without a positive or without a negative case are left out.
    """
    values, truth = _cases(scores, positive)
    bleeding, clean = values[truth], values[~truth]
    if not bleeding.size or not clean.size:
        return None
    generator = np.random.default_rng(seed)
    if together is not None:
        return _interval_of_groups(values, truth, np.asarray(together), generator, draws)
    areas = np.empty(draws)
    labels = np.repeat([True, False], [bleeding.size, clean.size])
    for draw in range(draws):
        drawn = np.concatenate([generator.choice(bleeding, bleeding.size), generator.choice(clean, clean.size)])
        area = roc_auc(drawn, labels)
        areas[draw] = np.nan if area is None else area
    low, high = np.percentile(areas, [2.5, 97.5])
    return float(low), float(high)


def _interval_of_groups(
    values: NDArray[np.float64],
    truth: NDArray[np.bool_],
    together: NDArray[np.generic],
    generator: np.random.Generator,
    draws: int,
) -> Interval:
    number = np.unique(together, return_inverse=True)[1]
    members = [np.flatnonzero(number == k) for k in range(int(number.max()) + 1)]
    areas: list[float] = []
    while len(areas) < draws:
        drawn = np.concatenate([members[k] for k in generator.integers(0, len(members), len(members))])
        area = roc_auc(values[drawn], truth[drawn])
        areas += [] if area is None else [area]
    low, high = np.percentile(areas, [2.5, 97.5])
    return float(low), float(high)


def sensitivity(called: ArrayLike, positive: ArrayLike) -> Proportion:
    """Share of the positive cases that were called positive."""
    calls, truth = np.asarray(called, np.bool_), np.asarray(positive, np.bool_)
    return Proportion(int((calls & truth).sum()), int(truth.sum()))


def specificity(called: ArrayLike, positive: ArrayLike) -> Proportion:
    """Share of the negative cases that were not called positive."""
    calls, truth = np.asarray(called, np.bool_), np.asarray(positive, np.bool_)
    return Proportion(int((~calls & ~truth).sum()), int((~truth).sum()))


def _cases(scores: ArrayLike, positive: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    values, truth = np.asarray(scores, np.float64), np.asarray(positive, np.bool_)
    if values.shape != truth.shape or values.ndim != 1:
        raise ValueError("scores and truth must be lists of the same length")
    if not np.isfinite(values).all():
        raise ValueError("a score is not a number")
    return values, truth

"""Free-response figures: marks on images against what is to be found there, whatever the rules of hitting are.

A case (a scan, an image) brings the best score on each of its targets that was hit and the scores of its false marks.
As the threshold falls, marks with the same score come in together. Of cases that belong together (the images of one
woman) all or none are drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.evaluation.classification import Interval

Floats = NDArray[np.float64]

TAIL = 0.025


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """One scan or image: how many targets it has, best score on each that was hit, scores of the false marks."""

    targets: int
    hits: Floats
    false_marks: Floats


@dataclass(frozen=True, slots=True, eq=False)
class Entries:
    """What moves the curve, highest score first: targets at their best mark, and false marks.

    `case` says which case each entry is of, `last_of_tie` which entries are the last of their score.
    """

    case: NDArray[np.intp]
    score: Floats
    is_hit: NDArray[np.bool_]
    last_of_tie: NDArray[np.intp]
    targets: NDArray[np.intp]

    @property
    def thresholds(self) -> Floats:
        """The score at each operating point; the first, at which nothing is marked, is infinite."""
        return np.concatenate([[np.inf], self.score[self.last_of_tie]])


def entries_of(cases: Sequence[Case]) -> Entries:
    """All hits and false marks in one order."""
    scores = [part for one in cases for part in (one.hits, one.false_marks)]
    lengths = [part.size for part in scores]
    case = np.repeat(np.repeat(np.arange(len(cases)), 2), lengths)
    is_hit = np.repeat(np.tile([True, False], len(cases)), lengths)
    score = np.concatenate(scores)
    order = np.argsort(-score, kind="stable")
    score = score[order]
    last_of_tie = np.flatnonzero(np.append(np.diff(score) != 0, np.ones(min(score.size, 1), np.bool_)))
    targets = np.array([one.targets for one in cases], np.intp)
    return Entries(case[order], score, is_hit[order], last_of_tie, targets)


def curve_of(entries: Entries, weights: Floats, counted: NDArray[np.bool_] | None = None) -> tuple[Floats, Floats]:
    """False marks per case and part of the targets found at each operating point, each case counted `weights` times.

    The first point is (0, 0). With `counted`, false marks are those on these cases alone, per such case.
    """
    among = np.ones(len(weights), np.bool_) if counted is None else counted
    weight = weights[entries.case]
    hits = np.cumsum(weight * entries.is_hit)[entries.last_of_tie]
    false_marks = np.cumsum(weight * ~entries.is_hit * among[entries.case])[entries.last_of_tie]
    start = np.zeros(1)
    return (
        np.concatenate([start, false_marks / weights[among].sum()]),
        np.concatenate([start, hits / (weights @ entries.targets)]),
    )


def drawn(
    entries: Entries,
    grid: Floats,
    draws: int,
    generator: np.random.Generator,
    *,
    together: NDArray[np.intp] | None = None,
    counted: NDArray[np.bool_] | None = None,
) -> Floats:
    """[draw, grid] part of the targets found at `grid` false marks per case, in draws of cases with replacement.

    `together` numbers the cases' groups from 0, of which as many are drawn as there are. A draw without a target, or
    without a case whose false marks are counted, has no curve and is left out.
    """
    group = np.arange(entries.targets.size) if together is None else together
    groups = int(group.max(initial=-1)) + 1
    curves = []
    for _ in range(draws):
        weights = np.bincount(generator.integers(groups, size=groups), minlength=groups).astype(np.float64)[group]
        if weights @ entries.targets and (counted is None or weights[counted].any()):
            curves.append(np.interp(grid, *curve_of(entries, weights, counted)))
    return np.array(curves).reshape(-1, grid.size)


def interval_of(draws: Floats) -> Floats:
    """[2, ...] ends of the 95 % interval over the first axis: of n sorted draws, floor(0.025 n) and floor(0.975 n)."""
    ordered = np.sort(draws, axis=0)
    ends: Floats = ordered[[int(TAIL * len(ordered)), int((1 - TAIL) * len(ordered))]]
    return ends


def pair(ends: Floats) -> Interval:
    """Both ends of one interval."""
    return float(ends[0]), float(ends[1])

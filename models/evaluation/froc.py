"""Sensitivity against false positives per scan (free-response ROC), by the rules of the LUNA16 challenge.

Source: Setio AAA et al., Med Image Anal 2017, 42:1-13, and its scorer `noduleCADEvaluationLUNA16.py`, whose rules are:

- A mark hits a nodule when its distance to the nodule's center is below the radius; at the radius it does not.
- Of several marks on one nodule the highest score counts, once; the others are neither hits nor false positives.
- A mark inside several nodules finds each of them.
- A mark on an excluded finding and on no nodule is ignored. A finding of unknown size (diameter -1) is 10 mm wide.
- Of a scan with more than 100 marks those are kept that score higher than the 101st; ties with it go.
- A nodule without a mark is missed at every threshold. A scan without findings counts like any other.
- Marks with the same score come in together. Between operating points, sensitivity is interpolated linearly; beyond the
  last one it stays.
- CPM (competition performance metric) is the mean sensitivity at 1/8, 1/4, 1/2, 1, 2, 4 and 8 false positives per scan.
- Intervals are of 95 %, by drawing scans with replacement, as many as there are, with all that is in them (1000 times);
  of n sorted draws they end at number floor(0.025 n) and floor(0.975 n), counted from 0.

Where nothing was marked the scorer fails; here every sensitivity is 0. Figures here are those of the scans themselves;
the scorer's table of its bootstrap gives the means of the draws, which differ in the third place.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from models.evaluation.classification import Interval
from models.evaluation.free_response import Case, Floats, curve_of, drawn, entries_of, interval_of, pair

Point = tuple[float, float, float]

SEVEN_POINTS = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
"""False positives per scan at which LUNA16 reads the sensitivity."""

_STEPS_PER_DOUBLING = 16
GRID: Floats = 2.0 ** (np.arange(6 * _STEPS_PER_DOUBLING + 1) / _STEPS_PER_DOUBLING - 3)
"""False positives per scan from 1/8 to 8 at which curve and band are drawn; every sixteenth is one of the seven."""

MARKS_PER_SCAN = 100
UNKNOWN_DIAMETER_MM = 10.0


@dataclass(frozen=True, slots=True)
class Mark:
    """What a detector marked: a place in patient coordinates (LPS, mm; any fixed frame will do) and how sure it was."""

    scan: str
    position_mm: Point
    score: float


@dataclass(frozen=True, slots=True)
class Annotation:
    """A nodule or another finding in a scan: center as in `Mark`, and diameter in mm, negative where it is unknown."""

    scan: str
    position_mm: Point
    diameter_mm: float

    @property
    def radius_mm(self) -> float:
        return (UNKNOWN_DIAMETER_MM if self.diameter_mm < 0 else self.diameter_mm) / 2


@dataclass(frozen=True, slots=True)
class FrocCounts:
    """How many there were. `marks` counts all that were given; each of the four below it is a part of them."""

    scans: int
    nodules: int
    nodules_found: int
    marks: int
    false_positives: int
    on_excluded: int
    """Marks on excluded findings only: ignored."""
    repeated: int
    """Further marks on a nodule that was hit already, summed over nodules: ignored."""
    over_limit: int
    """Marks beyond the limit for each scan: ignored."""


@dataclass(frozen=True, slots=True, eq=False)
class FrocCurve:
    """The curve, point by point as the threshold falls, and its figures.

    `false_positives_per_scan`, `sensitivity` and `thresholds` are as long as there are operating points; the first is
    (0, 0) at infinity. `at_seven` holds the sensitivities at `SEVEN_POINTS`, `on_grid` those at `GRID`. Intervals are
    of 95 %, `band` is [2, grid] (low, high); all three are None when nothing was drawn.
    """

    false_positives_per_scan: Floats
    sensitivity: Floats
    thresholds: Floats
    at_seven: tuple[float, ...]
    on_grid: Floats
    cpm: float
    sensitivity_intervals: tuple[Interval, ...] | None
    cpm_interval: Interval | None
    band: Floats | None
    counts: FrocCounts

    def as_json(self) -> dict[str, object]:
        """The figures; `curve` gives the sensitivity at `GRID`, with the ends of its interval."""
        low, high = (None, None) if self.band is None else (end.tolist() for end in self.band)
        return {
            "schema": 1,
            "false_positives_per_scan": SEVEN_POINTS,
            "sensitivity": self.at_seven,
            "sensitivity_intervals": self.sensitivity_intervals,
            "cpm": self.cpm,
            "cpm_interval": self.cpm_interval,
            **asdict(self.counts),
            "curve": {
                "false_positives_per_scan": GRID.tolist(),
                "sensitivity": self.on_grid.tolist(),
                "low": low,
                "high": high,
            },
        }


@dataclass(frozen=True, slots=True, eq=False)
class _Matched:
    """One scan, and what was ignored in it."""

    case: Case
    on_excluded: int
    repeated: int
    over_limit: int


class _InScan(Protocol):
    @property
    def scan(self) -> str: ...


_T = TypeVar("_T", bound=_InScan)


def froc(
    scans: Iterable[str],
    annotations: Iterable[Annotation],
    excluded: Iterable[Annotation],
    marks: Iterable[Mark],
    *,
    draws: int = 1000,
    seed: int = 0,
    marks_per_scan: int = MARKS_PER_SCAN,
) -> FrocCurve:
    """Score marks against the nodules in `annotations`; marks on findings in `excluded` are ignored.

    What lies in a scan that is not one of `scans` is left out, as LUNA16's scorer does. The order of nothing matters.
    With `draws=0` there are no intervals. Raises `ValueError` when a scan is named twice, when there is no nodule, or
    when a score or a position is not a number.
    """
    names = sorted(scans)
    if len(set(names)) < len(names):
        raise ValueError("a scan is named twice")
    nodules, others, marked = _by_scan(annotations), _by_scan(excluded), _by_scan(marks)
    total = sum(len(nodules[name]) for name in names)
    if total == 0:
        raise ValueError("there is no nodule in these scans")
    matched = [_match(nodules[name], others[name], marked[name], marks_per_scan) for name in names]
    entries = entries_of([one.case for one in matched])
    false_positives, found = curve_of(entries, np.ones(len(names)))
    on_grid = np.interp(GRID, false_positives, found)
    bootstrap = drawn(entries, GRID, draws, np.random.default_rng(seed))
    at_seven = _seven(on_grid)
    return FrocCurve(
        false_positives_per_scan=false_positives,
        sensitivity=found,
        thresholds=entries.thresholds,
        at_seven=tuple(at_seven.tolist()),
        on_grid=on_grid,
        cpm=float(at_seven.mean()),
        sensitivity_intervals=tuple(map(pair, interval_of(_seven(bootstrap)).T)) if len(bootstrap) else None,
        cpm_interval=pair(interval_of(_seven(bootstrap).mean(axis=1))) if len(bootstrap) else None,
        band=interval_of(bootstrap) if len(bootstrap) else None,
        counts=FrocCounts(
            scans=len(names),
            nodules=total,
            nodules_found=sum(one.case.hits.size for one in matched),
            marks=sum(len(marked[name]) for name in names),
            false_positives=sum(one.case.false_marks.size for one in matched),
            on_excluded=sum(one.on_excluded for one in matched),
            repeated=sum(one.repeated for one in matched),
            over_limit=sum(one.over_limit for one in matched),
        ),
    )


def _by_scan(things: Iterable[_T]) -> defaultdict[str, list[_T]]:
    found: defaultdict[str, list[_T]] = defaultdict(list)
    for thing in things:
        found[thing.scan].append(thing)
    return found


def _match(
    nodules: Sequence[Annotation], excluded: Sequence[Annotation], marks: Sequence[Mark], limit: int
) -> _Matched:
    positions = np.array([mark.position_mm for mark in marks], np.float64).reshape(-1, 3)
    scores = np.array([mark.score for mark in marks], np.float64)
    if not (np.isfinite(positions).all() and np.isfinite(scores).all()):
        raise ValueError("a mark's score or position is not a number")
    kept = _within_limit(scores, limit)
    positions, scores = positions[kept], scores[kept]
    on_nodule, on_excluded = _inside(nodules, positions), _inside(excluded, positions)
    is_hit = on_nodule.any(axis=0)
    is_ignored = on_excluded.any(axis=0) & ~is_hit
    marks_on = on_nodule.sum(axis=1)
    best = np.where(on_nodule, scores, -np.inf).max(axis=1, initial=-np.inf)
    return _Matched(
        case=Case(len(nodules), best[marks_on > 0], scores[~is_hit & ~is_ignored]),
        on_excluded=int(is_ignored.sum()),
        repeated=int(np.maximum(marks_on - 1, 0).sum()),
        over_limit=int((~kept).sum()),
    )


def _within_limit(scores: Floats, limit: int) -> NDArray[np.bool_]:
    if scores.size <= limit:
        return np.ones(scores.size, np.bool_)
    first_out = np.sort(scores)[::-1][limit]
    kept: NDArray[np.bool_] = scores > first_out
    return kept


def _inside(findings: Sequence[Annotation], positions: Floats) -> NDArray[np.bool_]:
    """[finding, mark] whether the mark lies within the finding's radius; squares as in the scorer, for its borders."""
    centers = np.array([finding.position_mm for finding in findings], np.float64).reshape(-1, 1, 3)
    radii = np.array([finding.radius_mm for finding in findings], np.float64)
    inside: NDArray[np.bool_] = ((centers - positions) ** 2).sum(axis=2) < radii[:, None] ** 2
    return inside


def _seven(on_grid: Floats) -> Floats:
    return on_grid[..., ::_STEPS_PER_DOUBLING]

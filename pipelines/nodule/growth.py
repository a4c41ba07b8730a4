"""What became of nodules since an earlier CT: which are the same, how their volume changed, how fast they double.

Volumes of both times are measured by one method, on the images, wherever the earlier images are at hand.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Literal, Protocol

import numpy as np
from scipy.optimize import linear_sum_assignment

from pipelines import codes
from pipelines.catalogue import Prior
from pipelines.codes import Code
from pipelines.findings import Finding, Measurement, Region
from pipelines.geometry import Floats, Point
from pipelines.nodule.lungs import Lungs, find_lungs
from pipelines.nodule.measure import Measures, measure
from pipelines.nodule.registration import Place, Registration, find_again, register
from pipelines.reasons import Reason, Refusal
from pipelines.volume import Volume, load

Verdict = Literal["growing", "stable", "shrinking"]

REPEATABILITY_PERCENT = 25.0
"""Two measurements of one unchanged nodule differ by at most this in 95 % of cases, on thin slices: what the British
Thoracic Society calls growth begins here (Callister et al., Thorax 2015;70 Suppl 2). Marchiano et al. (Radiology
2009;251:919) found 27 %, Wormanns et al. (Eur Radiol 2004;14:86) and Gietema et al. (Radiology 2006;241:251) 20 to 24,
each on one scanner with one protocol."""
Z = 1.96
"""Of a 95 % interval."""
ERROR_PERCENT = 100 * math.log(1 + REPEATABILITY_PERCENT / 100) / (Z * math.sqrt(2))
"""Standard deviation of one measured volume, in percent, on a log scale: two of them give the repeatability above."""
THIN_MM = 1.5
SMALL_MM = 6.0
"""Slices thicker, and nodules smaller, than this are measured less exactly (Nietert et al., Chest 2009;135:1580). That
the error grows in proportion is an assumption, made to be careful."""

GATE_MM = 6.0
"""How far apart the places of one nodule may lie beyond its size, where what lies round it was found again."""
LOOSE_GATE_MM = 15.0
"""The same where it was not: the affine map alone may be so far off near the diaphragm."""
FOUND_AGAIN = 0.5
IS_THERE = 0.6
NEVER_MM = 1e6
CHANGES: Mapping[Verdict, Code] = {
    "growing": codes.GROWING,
    "stable": codes.STABLE,
    "shrinking": codes.SHRINKING,
}


class Segmenter(Protocol):
    """What finds the region of a nodule from a point in it."""

    def segment(self, volume: Volume, centers_mm: Sequence[Point]) -> tuple[Region, ...]: ...


@dataclass(frozen=True, slots=True)
class Growth:
    """How a volume changed within `days`.

    `doubling_time_days` is None for what became no larger. `doubling_time_lowest_days` and `doubling_time_highest_days`
    are the ends of its 95 % interval: no highest where it may as well not grow at all, neither where it surely shrinks.
    """

    volume_change_percent: float
    days: int
    doubling_time_days: float | None
    doubling_time_lowest_days: float | None
    doubling_time_highest_days: float | None
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Matching:
    """Pairs (index now, index before) in order of the first, and the indices that have no partner."""

    pairs: tuple[tuple[int, int], ...]
    new: tuple[int, ...]
    vanished: tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Before:
    """What a nodule was at the earlier study.

    `measures` are measured now on the images of then, None where it was not found on them at its place: then
    `volume_mm3` is what was told. `told` is the finding of then (as `Finding.as_json`), None where it was overlooked.
    """

    volume_mm3: float
    measures: Measures | None
    told: Mapping[str, object] | None


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """The findings with what is known of their change, as far as a comparison could be made.

    `before[n]` is what finding n was then, None for what was not there, or cannot be known. `days` lie between the two.
    `vanished` are the nodules of the earlier study, as `Finding.as_json` gives them, that lie in the field of view and
    were not found again. `compared_with` is the date of the earlier study, None when no comparison could be made: then
    a warning says why.
    """

    findings: tuple[Finding, ...]
    before: tuple[Before | None, ...]
    days: int
    warnings: tuple[Reason, ...] = ()
    vanished: tuple[Mapping[str, object], ...] = ()
    compared_with: date | None = None


@dataclass(frozen=True, slots=True, eq=False)
class _Known:
    """A nodule of the earlier study."""

    told: Mapping[str, object]
    center: Point
    diameter_mm: float
    volume_mm3: float
    tracking_uid: str


@dataclass(frozen=True, slots=True, eq=False)
class _Earlier:
    """The earlier study as far as it is needed: its volume, how it lies to that of now, and its nodules."""

    volume: Volume
    registration: Registration
    nodules: tuple[_Known, ...]
    study_date: date


def change(
    now_mm3: float, before_mm3: float, days: int, error_percent_now: float, error_percent_before: float
) -> Growth:
    """How a volume changed, and whether that is more than the error of measuring.

    Errors are standard deviations in percent (see `volume_error_percent`), taken on a log scale. The doubling time is
    `days * ln 2 / ln(now / before)` (Schwartz, Cancer 1961;14:1272; as in the guidelines of Fleischner 2017 and BTS
    2015). Without a day between the two there is none. Raises `ValueError` unless both volumes are above 0.
    """
    if now_mm3 <= 0 or before_mm3 <= 0:
        raise ValueError("volumes must be above 0")
    growth = math.log(now_mm3 / before_mm3)
    spread = Z * math.hypot(error_percent_now, error_percent_before) / 100
    verdict: Verdict = "stable"
    if abs(growth) > spread:
        verdict = "growing" if growth > 0 else "shrinking"
    doubling, lowest, highest = (
        days * math.log(2) / rate if days > 0 and rate > 0 else None
        for rate in (growth, growth + spread, growth - spread)
    )
    return Growth(100 * math.expm1(growth), days, doubling, lowest, highest, verdict)


def volume_error_percent(diameter_mm: float, slice_mm: float) -> float:
    """Standard deviation of a measured volume, in percent, by the nodule's diameter and the extent of a slice."""
    return ERROR_PERCENT * max(1.0, slice_mm / THIN_MM) * max(1.0, SMALL_MM / max(diameter_mm, 1.0))


def match(
    now: Floats, before: Floats, now_mm: Sequence[float], before_mm: Sequence[float], gate_mm: Sequence[float]
) -> Matching:
    """Which nodules are the same: places `[n, 3]` and `[m, 3]` in one coordinate system (mm), with their diameters.

    Two may be the same when they lie no further apart than `gate_mm[n]` and a quarter of their diameters together. Of
    all ways to pair them, each at most once, that with the most pairs is taken, and of those the one with the shortest
    distances in all.
    """
    if len(now) == 0 or len(before) == 0:
        return Matching((), tuple(range(len(now))), tuple(range(len(before))))
    distance = np.linalg.norm(now[:, None] - before[None], axis=-1)
    reach = np.asarray(gate_mm)[:, None] + (np.asarray(now_mm)[:, None] + np.asarray(before_mm)) / 4
    rows, columns = linear_sum_assignment(np.where(distance <= reach, distance, NEVER_MM))
    pairs = tuple((int(n), int(m)) for n, m in zip(rows, columns, strict=True) if distance[n, m] <= reach[n, m])
    paired_now, paired_before = {n for n, _ in pairs}, {m for _, m in pairs}
    return Matching(
        pairs,
        tuple(n for n in range(len(now)) if n not in paired_now),
        tuple(m for m in range(len(before)) if m not in paired_before),
    )


def compare(
    volume: Volume,
    lungs: Lungs,
    findings: Sequence[Finding],
    prior: Prior,
    segmenter: Segmenter,
    *,
    study_date: date,
) -> Comparison:
    """Tell what became of each nodule since the earlier study; a study that cannot be compared with is a warning.

    A nodule that is known from then keeps its `tracking_uid`. One that stands in no list of then is looked for in the
    images of then, at its place: only what is not there either is new. Where the earlier CT does not show the place,
    nothing is said.
    """
    days = (study_date - prior.study_date).days
    try:
        earlier = _lay_on(volume, lungs, prior)
    except Refusal as refusal:
        return Comparison(tuple(findings), (None,) * len(findings), days, (refusal.reason,))
    places = [_place(volume, earlier, finding) for finding in findings]
    matching = match(
        np.array([place.point for place in places]).reshape(-1, 3),
        np.array([nodule.center for nodule in earlier.nodules]).reshape(-1, 3),
        [_diameter_mm(finding) for finding in findings],
        [nodule.diameter_mm for nodule in earlier.nodules],
        [GATE_MM if place.looks_alike >= FOUND_AGAIN else LOOSE_GATE_MM for place in places],
    )
    known = {n: earlier.nodules[m] for n, m in matching.pairs}
    before = _before(earlier, places, known, segmenter)
    slices_mm = _slice_mm(volume), _slice_mm(earlier.volume)
    told = tuple(
        _told(finding, places[n], known.get(n), _change(finding, before.get(n), days, slices_mm))
        for n, finding in enumerate(findings)
    )
    vanished = tuple(
        earlier.nodules[m].told for m in matching.vanished if _is_shown(volume, earlier, earlier.nodules[m])
    )
    warnings = (Reason("prior.nodules_not_found", {"count": len(vanished)}),) if vanished else ()
    held = tuple(before.get(n) for n in range(len(findings)))
    return Comparison(told, held, days, warnings, vanished, prior.study_date)


def _lay_on(volume: Volume, lungs: Lungs, prior: Prior) -> _Earlier:
    """The earlier study laid on that of now. Raises `Refusal` with a reason of the family `prior`."""
    if not prior.paths:
        raise Refusal(Reason("prior.not_comparable", {"detail": "its images are not at hand"}))
    try:
        before = load(prior.paths).volume
        before_lungs = find_lungs(before)
    except Refusal as refusal:
        raise Refusal(Reason("prior.not_comparable", {"detail": refusal.reason.code})) from refusal
    registration = register(volume, lungs, before, before_lungs)
    if not registration.is_good:
        raise Refusal(Reason("prior.not_comparable", {"detail": "its images do not come to lie on these"}))
    nodules = tuple(nodule for told in prior.findings if (nodule := _known(told)) is not None)
    return _Earlier(before, registration, nodules, prior.study_date)


def _known(told: Mapping[str, object]) -> _Known | None:
    """A nodule as it was told then, or None for what is none or has no place, volume or name."""
    center, volume_ml, uid = told.get("center_mm"), told.get("volume_ml"), told.get("tracking_uid")
    if told.get("kind") != codes.NODULE.value or not isinstance(center, (list, tuple)) or len(center) != 3:
        return None
    if not isinstance(volume_ml, (int, float)) or volume_ml <= 0 or not isinstance(uid, str):
        return None
    x, y, z = (float(v) for v in center)
    volume_mm3 = 1000.0 * volume_ml
    return _Known(told, (x, y, z), _ball_mm(volume_mm3), volume_mm3, uid)


def _place(volume: Volume, earlier: _Earlier, finding: Finding) -> Place:
    if finding.center_mm is None:
        raise ValueError("a nodule has a centre")
    return find_again(volume, earlier.volume, earlier.registration, finding.center_mm, _diameter_mm(finding))


def _before(
    earlier: _Earlier, places: Sequence[Place], known: Mapping[int, _Known], segmenter: Segmenter
) -> dict[int, Before]:
    """What each nodule of now that was there then was, by its index.

    Measured on the images of then. What was told then stands in where the region found now is not at the place of then.
    """
    at = {n: nodule.center for n, nodule in known.items()}
    at |= {
        n: place.point
        for n, place in enumerate(places)
        if n not in known and place.is_covered and place.looks_alike >= FOUND_AGAIN and place.is_there >= IS_THERE
    }
    order = sorted(at)
    regions = segmenter.segment(earlier.volume, [at[n] for n in order]) if order else ()
    before: dict[int, Before] = {}
    for n, region in zip(order, regions, strict=True):
        measured = measure(earlier.volume, region)
        away_mm = float(np.linalg.norm(np.subtract(measured.center_mm, at[n])))
        if away_mm <= GATE_MM + _ball_mm(measured.volume_mm3) / 4:
            before[n] = Before(measured.volume_mm3, measured, known[n].told if n in known else None)
        elif n in known:
            before[n] = Before(known[n].volume_mm3, None, known[n].told)
    return before


def _change(finding: Finding, before: Before | None, days: int, slices_mm: tuple[float, float]) -> Growth | None:
    """The change of a nodule that was there then, None for one that was not."""
    volume_ml = finding.measured("volume_ml")
    if before is None or volume_ml is None:
        return None
    both = 1000.0 * volume_ml, before.volume_mm3
    error_now, error_before = (
        volume_error_percent(_ball_mm(mm3), slice_mm) for mm3, slice_mm in zip(both, slices_mm, strict=True)
    )
    return change(*both, days, error_now, error_before)


def _told(finding: Finding, place: Place, known: _Known | None, growth: Growth | None) -> Finding:
    """The finding with what became of it. Only what would be seen, were it there, is called new."""
    if growth is None:
        if not place.is_covered or place.looks_alike < FOUND_AGAIN:
            return finding
        return replace(finding, attributes={**finding.attributes, codes.CHANGE: codes.NEW})
    return replace(
        finding,
        measurements=(*finding.measurements, *_measurements(growth)),
        attributes={**finding.attributes, codes.CHANGE: CHANGES[growth.verdict]},
        tracking_uid=finding.tracking_uid if known is None else known.tracking_uid,
    )


def _measurements(growth: Growth) -> tuple[Measurement, ...]:
    """In the order in which reports list them. A doubling time is told only of what certainly grows."""
    rows = [("volume_change_percent", codes.VOLUME_CHANGE, growth.volume_change_percent, codes.PERCENT)]
    if growth.verdict == "growing":
        times = (
            ("doubling_time_d", codes.DOUBLING_TIME, growth.doubling_time_days),
            ("doubling_time_lowest_d", codes.DOUBLING_TIME_LOWEST, growth.doubling_time_lowest_days),
            ("doubling_time_highest_d", codes.DOUBLING_TIME_HIGHEST, growth.doubling_time_highest_days),
        )
        rows += [(key, name, value, codes.DAY) for key, name, value in times if value is not None]
    return tuple(Measurement(*row) for row in rows)


def _is_shown(volume: Volume, earlier: _Earlier, nodule: _Known) -> bool:
    """Whether the CT of now shows the place of a nodule of then, with room for the error of the map."""
    points = earlier.registration.now(np.asarray(nodule.center)) + LOOSE_GATE_MM * np.array([[0, 0, -1], [0, 0, 1]])
    heights = points @ np.asarray(volume.plane[0].normal)
    positions = volume.position_mm
    return bool(((heights >= positions[0]) & (heights <= positions[-1])).all())


def _slice_mm(volume: Volume) -> float:
    return float(np.median(volume.local_thickness_mm))


def _diameter_mm(finding: Finding) -> float:
    volume_ml = finding.measured("volume_ml")
    return finding.measured("long_axis_mm") or (0.0 if volume_ml is None else _ball_mm(1000.0 * volume_ml))


def _ball_mm(volume_mm3: float) -> float:
    """The diameter of a ball of this volume."""
    return float(np.cbrt(6 * volume_mm3 / np.pi))

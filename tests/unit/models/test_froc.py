from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.evaluation import luna16
from models.evaluation.froc import GRID, SEVEN_POINTS, Annotation, FrocCounts, FrocCurve, Mark, Point, froc

CENTER: Point = (10.0, -20.0, 30.0)
NODULE = Annotation("a", CENTER, 10.0)
FAR: Point = (100.0, 100.0, 100.0)


def score(
    marks: list[Mark],
    nodules: tuple[Annotation, ...] = (NODULE,),
    excluded: tuple[Annotation, ...] = (),
    scans: str = "ab",
) -> FrocCurve:
    return froc(scans, nodules, excluded, marks, draws=0)


def moved(millimeters: float, axis: int = 0) -> Point:
    x, y, z = (value + millimeters * (axis == number) for number, value in enumerate(CENTER))
    return x, y, z


def test_no_detections_find_nothing() -> None:
    curve = score([])
    assert curve.at_seven == (0.0,) * 7
    assert curve.cpm == 0
    assert (curve.counts.nodules, curve.counts.nodules_found, curve.counts.marks) == (1, 0, 0)
    assert curve.false_positives_per_scan.tolist() == [0.0]


def test_a_hit_alone_is_found_at_every_point() -> None:
    curve = score([Mark("a", moved(1), 0.5)])
    assert curve.at_seven == (1.0,) * 7
    assert curve.thresholds.tolist() == [math.inf, 0.5]


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_mark_at_the_radius_is_no_hit(axis: int) -> None:
    border = score([Mark("a", moved(5.0, axis), 0.5)]).counts
    assert (border.nodules_found, border.false_positives) == (0, 1)
    inside = score([Mark("a", moved(5.0 - 1e-9, axis), 0.5)]).counts
    assert (inside.nodules_found, inside.false_positives) == (1, 0)


def test_a_mark_in_another_scan_is_no_hit() -> None:
    assert score([Mark("b", CENTER, 0.5)]).counts.false_positives == 1


def test_of_repeated_hits_the_highest_counts_once() -> None:
    # the false positive at 0.6 comes between the two hits: found before it by the better one
    marks = [Mark("a", moved(1), 0.2), Mark("a", moved(2), 0.9), Mark("b", FAR, 0.6)]
    curve = score(marks)
    assert curve.sensitivity.tolist() == [0.0, 1.0, 1.0]
    assert curve.false_positives_per_scan.tolist() == [0.0, 0.0, 0.5]
    assert curve.counts == FrocCounts(2, 1, 1, 3, 1, on_excluded=0, repeated=1, over_limit=0)


def test_marks_on_excluded_findings_are_ignored() -> None:
    excluded = (Annotation("a", FAR, -1.0),)
    counts = score([Mark("a", FAR, 0.9), Mark("b", FAR, 0.9)], excluded=excluded).counts
    assert (counts.on_excluded, counts.false_positives) == (1, 1)


@pytest.mark.parametrize(("distance", "ignored"), [(4.999, 1), (5.0, 0)])
def test_a_finding_of_unknown_size_is_ten_millimeters_wide(distance: float, ignored: int) -> None:
    counts = score([Mark("a", moved(distance), 0.9)], (Annotation("a", FAR, 8.0),), (replace(NODULE, diameter_mm=-1),))
    assert counts.counts.on_excluded == ignored


def test_a_mark_on_a_nodule_counts_though_it_is_on_an_excluded_finding_too() -> None:
    counts = score([Mark("a", CENTER, 0.9)], excluded=(NODULE,)).counts
    assert (counts.nodules_found, counts.on_excluded, counts.false_positives) == (1, 0, 0)


def test_one_mark_within_two_nodules_finds_both() -> None:
    neighbour = Annotation("a", moved(6), 10.0)
    curve = score([Mark("a", moved(3), 0.7)], (NODULE, neighbour))
    assert curve.counts.nodules_found == 2
    assert curve.sensitivity.tolist() == [0.0, 1.0]
    assert curve.counts.false_positives == 0


def test_a_nodule_without_a_mark_keeps_the_curve_down() -> None:
    assert score([Mark("a", CENTER, 0.9)], (NODULE, Annotation("b", FAR, 8.0))).at_seven == (0.5,) * 7


def test_scans_without_nodules_are_counted() -> None:
    marks = [Mark("a", CENTER, 0.1), Mark("a", FAR, 0.9)]
    assert score(marks, scans="a").at_seven == (0, 0, 0, 1, 1, 1, 1)
    assert score(marks, scans="abcd").at_seven == (0, 1, 1, 1, 1, 1, 1)


def test_ties_come_in_together_and_are_interpolated() -> None:
    # hit and false positive at the same score: one straight line from (0, 0) to (1/2 per scan, 1)
    curve = score([Mark("a", CENTER, 0.5), Mark("b", FAR, 0.5)])
    assert curve.sensitivity.tolist() == [0.0, 1.0]
    assert curve.at_seven == (0.25, 0.5, 1, 1, 1, 1, 1)
    before = score([Mark("a", CENTER, 0.6), Mark("b", FAR, 0.5)])
    after = score([Mark("a", CENTER, 0.4), Mark("b", FAR, 0.5)])
    assert before.at_seven == (1, 1, 1, 1, 1, 1, 1)
    assert after.at_seven == (0, 0, 1, 1, 1, 1, 1)


def test_of_more_than_a_hundred_marks_the_highest_are_kept() -> None:
    low = Mark("a", CENTER, 0.0)
    marks = [Mark("a", FAR, 1.0 + number) for number in range(99)]
    assert score([*marks, low]).counts.nodules_found == 1
    counts = score([*marks, Mark("a", FAR, 200.0), low]).counts
    assert (counts.nodules_found, counts.over_limit, counts.false_positives) == (0, 1, 100)


def test_ties_with_the_first_mark_over_the_limit_go() -> None:
    marks = [Mark("a", FAR, 1.0)] * 50 + [Mark("a", CENTER, 2.0)] * 10 + [Mark("a", FAR, 1.0)] * 41
    counts = score(marks).counts
    assert (counts.over_limit, counts.nodules_found, counts.repeated, counts.false_positives) == (91, 1, 9, 0)


def test_what_lies_in_other_scans_is_left_out() -> None:
    curve = score([Mark("z", FAR, 1.0), Mark("a", CENTER, 0.5)], (NODULE, Annotation("z", FAR, 8.0)))
    assert (curve.counts.nodules, curve.counts.marks, curve.counts.false_positives) == (1, 1, 0)


def test_wrong_input_is_told() -> None:
    with pytest.raises(ValueError, match="twice"):
        score([], scans="aa")
    with pytest.raises(ValueError, match="no nodule"):
        score([], ())
    with pytest.raises(ValueError, match="not a number"):
        score([Mark("a", CENTER, math.nan)])


def reference(
    scans: list[str], nodules: list[Annotation], excluded: list[Annotation], marks: list[Mark], limit: int
) -> list[float]:
    """LUNA16's rules once more, mark by mark and threshold by threshold: sensitivity at the seven points."""
    hits, wrong = [], []
    for scan in scans:
        own = [mark for mark in marks if mark.scan == scan]
        if len(own) > limit:
            bar = sorted((mark.score for mark in own), reverse=True)[limit]
            own = [mark for mark in own if mark.score > bar]
        free = list(own)
        for nodule in (one for one in nodules if one.scan == scan):
            on = [mark for mark in own if reaches(nodule, mark)]
            free = [mark for mark in free if mark not in on]
            hits.append(max((mark.score for mark in on), default=None))
        for finding in (one for one in excluded if one.scan == scan):
            free = [mark for mark in free if not reaches(finding, mark)]
        wrong += [mark.score for mark in free]
    points = [(0.0, 0.0)]
    for bar in sorted({one for one in [*hits, *wrong] if one is not None}, reverse=True):
        found = sum(one is not None and one >= bar for one in hits)
        points.append((sum(one >= bar for one in wrong) / len(scans), found / len(hits)))
    return [interpolated(points, wanted) for wanted in SEVEN_POINTS]


def reaches(finding: Annotation, mark: Mark) -> bool:
    diameter = 10.0 if finding.diameter_mm < 0 else finding.diameter_mm
    squared = sum((a - b) ** 2 for a, b in zip(finding.position_mm, mark.position_mm, strict=True))
    return squared < (diameter / 2) ** 2


def interpolated(points: list[tuple[float, float]], wanted: float) -> float:
    left = max(point for point in points if point[0] <= wanted)
    right = [point for point in points if point[0] > wanted]
    if not right:
        return left[1]
    x, y = min(right)
    return left[1] + (y - left[1]) * (wanted - left[0]) / (x - left[0])


places = st.tuples(*(st.integers(0, 6).map(float),) * 3)
names = st.sampled_from("abcd")
findings = st.builds(Annotation, names, places, st.sampled_from([-1.0, 2.0, 3.0, 4.0, 6.0]))
detections = st.lists(st.builds(Mark, names, places, st.integers(0, 5).map(float)), max_size=25, unique=True)
nodule_lists = st.lists(findings, min_size=1, max_size=6)


@given(nodule_lists, st.lists(findings, max_size=4), detections, st.integers(1, 8))
def test_it_is_the_reference(
    nodules: list[Annotation], excluded: list[Annotation], marks: list[Mark], limit: int
) -> None:
    curve = froc("abcd", nodules, excluded, marks, draws=0, marks_per_scan=limit)
    assert curve.at_seven == pytest.approx(reference(list("abcd"), nodules, excluded, marks, limit))


@given(nodule_lists, st.lists(findings, max_size=4), detections, st.randoms(use_true_random=False))
def test_the_curve_rises_within_0_and_1_and_no_order_matters(
    nodules: list[Annotation], excluded: list[Annotation], marks: list[Mark], random: Random
) -> None:
    curve = froc("abcd", nodules, excluded, marks, draws=5)
    for axis in (curve.false_positives_per_scan, curve.sensitivity, curve.on_grid):
        assert (np.diff(axis) >= 0).all()
    assert (np.diff(curve.thresholds) < 0).all()
    assert 0 <= curve.sensitivity.min() <= curve.sensitivity.max() <= 1
    shuffled = [list(things) for things in ("abcd", nodules, excluded, marks)]
    for things in shuffled:
        random.shuffle(things)
    again = froc(*shuffled, draws=5)  # type: ignore[arg-type]
    assert again.as_json() == curve.as_json()


@given(nodule_lists, detections, st.builds(Mark, names, st.just(FAR), st.integers(0, 5).map(float)))
def test_another_false_positive_never_raises_the_curve(
    nodules: list[Annotation], marks: list[Mark], wrong: Mark
) -> None:
    before, after = (froc("abcd", nodules, (), given, draws=0) for given in (marks, [*marks, wrong]))
    assert after.counts.false_positives == before.counts.false_positives + 1
    assert (after.on_grid <= before.on_grid + 1e-12).all()


def made(scans: int, seed: int) -> tuple[list[str], list[Annotation], list[Mark]]:
    generator = np.random.default_rng(seed)
    names = [str(number) for number in range(scans)]
    nodules = [Annotation(name, CENTER, 8.0) for name in names]
    marks = [Mark(name, CENTER, generator.normal(1.0)) for name in names if generator.random() < 0.8]
    marks += [Mark(name, FAR, generator.normal()) for name in names for _ in range(8)]
    return names, nodules, marks


def test_the_interval_holds_the_curve_is_seeded_and_narrows_with_more_scans() -> None:
    widths = []
    for scans in (30, 300):
        names, nodules, marks = made(scans, 3)
        curve = froc(names, nodules, (), marks, draws=200, seed=1)
        assert curve.cpm_interval is not None
        assert curve.sensitivity_intervals is not None
        assert curve.band is not None
        assert curve.cpm_interval[0] < curve.cpm < curve.cpm_interval[1]
        for value, (low, high) in zip(curve.at_seven, curve.sensitivity_intervals, strict=True):
            assert low <= value <= high
        assert (curve.band[0] <= curve.band[1]).all()
        assert curve.band[:, ::16].T.tolist() == [list(pair) for pair in curve.sensitivity_intervals]
        assert froc(names, nodules, (), marks, draws=200, seed=1).cpm_interval == curve.cpm_interval
        assert froc(names, nodules, (), marks, draws=200, seed=2).cpm_interval != curve.cpm_interval
        widths.append(curve.cpm_interval[1] - curve.cpm_interval[0])
    assert widths[1] < widths[0] / 2


def test_a_draw_is_the_curve_of_the_drawn_scans() -> None:
    names, nodules, marks = made(6, 5)
    (draw,) = [np.random.default_rng(7).integers(6, size=6)]
    copies = [(names[drawn], f"{names[drawn]} {copy}") for copy, drawn in enumerate(draw.tolist())]
    by_hand = froc(
        [new for _, new in copies],
        [replace(nodule, scan=new) for old, new in copies for nodule in nodules if nodule.scan == old],
        (),
        [replace(mark, scan=new) for old, new in copies for mark in marks if mark.scan == old],
        draws=0,
    )
    once = froc(names, nodules, (), marks, draws=1, seed=7)
    assert once.band is not None
    assert once.band[0] == pytest.approx(by_hand.on_grid)


def test_draws_without_a_nodule_are_left_out() -> None:
    curve = froc("abcdefgh", [NODULE], (), [Mark("a", CENTER, 1.0)], draws=50)
    assert curve.cpm_interval == (1.0, 1.0)


def test_the_grid_holds_the_seven_points() -> None:
    assert GRID[::16].tolist() == list(SEVEN_POINTS)


def test_a_perfect_detector_has_a_cpm_of_1_on_all_of_luna16(triage_data: Path) -> None:
    folder = triage_data / "chest" / "luna16"
    if not folder.is_dir():
        pytest.skip("LUNA16's tables are not in TRIAGE_DATA")
    scans = luna16.read_scans(folder / "seriesuids.csv.gz")
    nodules = luna16.read_findings(folder / "annotations.csv.gz")
    excluded = luna16.read_findings(folder / "annotations_excluded.csv.gz")
    perfect = [Mark(nodule.scan, nodule.position_mm, 1.0) for nodule in nodules]
    useless = [Mark(finding.scan, finding.position_mm, 1.0) for finding in excluded]
    curve = froc(scans, nodules, excluded, perfect)
    assert curve.cpm == 1.0
    assert curve.cpm_interval == (1.0, 1.0)
    assert (curve.counts.scans, curve.counts.nodules, curve.counts.nodules_found) == (888, 1186, 1186)
    assert curve.counts.false_positives == 0
    on_others = froc(scans, nodules, excluded, useless, draws=0, marks_per_scan=10_000).counts
    assert (on_others.false_positives, on_others.over_limit) == (0, 0)

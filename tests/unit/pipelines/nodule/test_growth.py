from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from pipelines import codes
from pipelines.catalogue import Prior
from pipelines.findings import Finding, Measurement, Region
from pipelines.geometry import Floats, Point
from pipelines.nodule import growth
from pipelines.nodule.growth import ERROR_PERCENT, Comparison, change, compare, match, volume_error_percent
from pipelines.nodule.lungs import Lungs, find_lungs
from pipelines.nodule.measure import measure
from pipelines.nodule.registration import Registration, register
from pipelines.phantom.chest.nodules import NoduleRecipe
from pipelines.phantom.chest.study import ChestStudyOptions, MadeStudy, make_study
from pipelines.reasons import refuse
from pipelines.volume import LoadedSeries, Volume, load
from tests.unit.pipelines.nodule.chests import Chest, IdealSegmenter, Pose, distance, region_of, scan

volumes = st.floats(10, 1e5)
errors = st.floats(1, 60)
days = st.integers(1, 4000)

NOW, THEN = date(2026, 3, 1), date(2025, 3, 1)
BEFORE = [
    ((-70.0, 20.0, 40.0), 8.0),
    ((60.0, -30.0, -50.0), 8.0),
    ((-50.0, -10.0, -20.0), 9.5),
    ((90.0, 10.0, 30.0), 8.0),
]
"""Centre and radius, mm: what grows, what stays, what shrinks, and what will be gone."""
AFTER = [(BEFORE[0][0], 10.5), (BEFORE[1][0], 8.0), (BEFORE[2][0], 7.5), ((-66.0, -50.0, 10.0), 7.0)]
"""The last one is new."""


@given(volumes, volumes, days, errors, errors)
def test_change_and_doubling_time_say_the_same(now: float, before: float, d: int, e1: float, e2: float) -> None:
    told = change(now, before, d, e1, e2)
    assert before * (1 + told.volume_change_percent / 100) == pytest.approx(now)
    if told.doubling_time_days is not None:
        assert before * 2 ** (d / told.doubling_time_days) == pytest.approx(now)
    assert (told.doubling_time_days is not None) == (math.log(now / before) > 0)


@given(volumes, volumes, days, errors, errors)
def test_the_interval_holds_the_doubling_time_and_tells_the_verdict(
    now: float, before: float, d: int, e1: float, e2: float
) -> None:
    told = change(now, before, d, e1, e2)
    lowest, middle, highest = (
        told.doubling_time_lowest_days,
        told.doubling_time_days,
        told.doubling_time_highest_days,
    )
    assert (told.verdict == "growing") == (highest is not None)
    assert (told.verdict == "shrinking") <= (lowest is None and middle is None)
    if middle is not None:
        assert lowest is not None
        assert lowest <= middle
    if highest is not None:
        assert middle is not None
        assert middle <= highest


@given(st.tuples(volumes, volumes), days, st.tuples(errors, errors), st.floats(0.1, 10), st.integers(1, 5))
def test_change_heeds_neither_the_unit_nor_the_order(
    both: tuple[float, float], d: int, wrong: tuple[float, float], unit: float, times: int
) -> None:
    (now, before), (e1, e2) = both, wrong
    assume(abs(abs(math.log(now / before)) - 1.96 * math.hypot(e1, e2) / 100) > 1e-9)
    told, scaled = change(now, before, d, e1, e2), change(unit * now, unit * before, times * d, e1, e2)
    assert scaled.volume_change_percent == pytest.approx(told.volume_change_percent, abs=1e-6)
    assert scaled.verdict == told.verdict
    if told.doubling_time_days is not None and told.doubling_time_days < 1e6:
        assert scaled.doubling_time_days == pytest.approx(times * told.doubling_time_days, rel=1e-3)
    back = change(before, now, d, e2, e1)
    assert back.verdict == {"growing": "shrinking", "shrinking": "growing", "stable": "stable"}[told.verdict]


@pytest.mark.parametrize(
    ("now", "verdict"), [(124.0, "stable"), (126.0, "growing"), (81.0, "stable"), (79.0, "shrinking")]
)
def test_growth_begins_where_the_repeatability_ends(now: float, verdict: str) -> None:
    assert change(now, 100.0, 90, ERROR_PERCENT, ERROR_PERCENT).verdict == verdict


def test_doubling_time_of_a_doubled_volume() -> None:
    told = change(200.0, 100.0, 100, ERROR_PERCENT, ERROR_PERCENT)
    assert told.doubling_time_days == pytest.approx(100)
    assert told.doubling_time_lowest_days == pytest.approx(100 * math.log(2) / math.log(2.5))
    assert told.doubling_time_highest_days == pytest.approx(100 * math.log(2) / math.log(1.6))


def test_no_day_between_gives_no_doubling_time() -> None:
    told = change(200.0, 100.0, 0, 8, 8)
    assert (told.verdict, told.doubling_time_days, told.doubling_time_highest_days) == ("growing", None, None)


@pytest.mark.parametrize(("now", "before"), [(0.0, 1.0), (1.0, 0.0), (-1.0, 1.0)])
def test_no_volume_is_no_change(now: float, before: float) -> None:
    with pytest.raises(ValueError, match="above 0"):
        change(now, before, 1, 8, 8)


def test_thick_slices_and_small_nodules_are_measured_less_surely() -> None:
    assert volume_error_percent(10, 1.0) == ERROR_PERCENT
    assert volume_error_percent(10, 5.0) > volume_error_percent(10, 2.5) > ERROR_PERCENT
    assert volume_error_percent(4, 1.0) > ERROR_PERCENT


points = st.lists(st.tuples(*[st.floats(-100, 100)] * 3), max_size=7).map(lambda p: np.array(p, float).reshape(-1, 3))


@given(points, points, st.floats(0, 40), st.randoms())
def test_matching_is_one_to_one_within_the_gate_and_symmetric(
    now: Floats, before: Floats, gate: float, random: Any
) -> None:
    now_mm, before_mm = [random.uniform(2, 20) for _ in now], [random.uniform(2, 20) for _ in before]
    told = match(now, before, now_mm, before_mm, [gate] * len(now))
    assert sorted([*(n for n, _ in told.pairs), *told.new]) == list(range(len(now)))
    assert sorted([*(m for _, m in told.pairs), *told.vanished]) == list(range(len(before)))
    for n, m in told.pairs:
        assert np.linalg.norm(now[n] - before[m]) <= gate + (now_mm[n] + before_mm[m]) / 4 + 1e-9
    for n in told.new:
        for m in told.vanished:
            assert np.linalg.norm(now[n] - before[m]) > gate + (now_mm[n] + before_mm[m]) / 4 - 1e-9
    back = match(before, now, before_mm, now_mm, [gate] * len(before))
    assert len(back.pairs) == len(told.pairs)
    length, length_back = (
        sum(np.linalg.norm(a[x] - b[y]) for x, y in pairs)
        for a, b, pairs in ((now, before, told.pairs), (before, now, back.pairs))
    )
    assert length == pytest.approx(length_back)


@given(st.permutations(range(6)))
def test_matching_heeds_no_order(order: list[int]) -> None:
    places = np.random.default_rng(5).uniform(-80, 80, (6, 3))
    moved = places[order] + np.random.default_rng(6).uniform(-2, 2, (6, 3))
    told = match(moved, places, [6.0] * 6, [6.0] * 6, [6.0] * 6)
    assert told.pairs == tuple(enumerate(order))


def test_of_two_near_ones_each_gets_its_own() -> None:
    now, before = np.array([[0.0, 0, 0], [8.0, 0, 0]]), np.array([[7.0, 0, 0], [15.0, 0, 0]])
    assert match(now, before, [6, 6], [6, 6], [6, 6]).pairs == ((0, 0), (1, 1))


# ---- whole comparisons of made chests ----


LAID: dict[tuple[int, int], Registration] = {}


@cache
def chest_now() -> Chest:
    return scan(AFTER, seed=1)


@cache
def chest_before(pose: Pose) -> Chest:
    return scan(BEFORE, pose, seed=2)


def outlined(volume: Volume, region: Region, number: int) -> Finding:
    measured = measure(volume, region)
    return Finding(
        kind=codes.NODULE,
        label="Nodule",
        certainty=0.9,
        region=region,
        center_mm=measured.center_mm,
        measurements=(
            Measurement("long_axis_mm", codes.LONG_AXIS, measured.long_axis_mm, codes.MILLIMETER),
            Measurement("volume_ml", codes.VOLUME, measured.volume_mm3 / 1000, codes.CUBIC_CENTIMETER),
        ),
        key_instance_uid=volume.instance_uid[measured.key_slice],
        tracking_uid=f"{volume.instance_uid[0]}.{number}",
    )


def findings(chest: Chest) -> tuple[Finding, ...]:
    return tuple(
        outlined(chest.volume, region_of(chest.volume, *ball), number) for number, ball in enumerate(chest.balls)
    )


def compared(
    monkeypatch: pytest.MonkeyPatch, before: Chest, told: tuple[Finding, ...], now: Chest | None = None
) -> tuple[Comparison, IdealSegmenter]:
    """The comparison of the chest now with one that would be loaded from the prior's files."""
    now = now or chest_now()
    monkeypatch.setattr(growth, "load", lambda paths: LoadedSeries(before.volume, (), ()))
    monkeypatch.setattr(growth, "find_lungs", lambda volume: before.lungs)
    monkeypatch.setattr(growth, "register", laid_on)
    segmenter = IdealSegmenter((now, before))
    prior = Prior((Path("1.dcm"),), tuple(one.as_json() for one in told), "2.25.7", THEN)
    return compare(now.volume, now.lungs, findings(now), prior, segmenter, study_date=NOW), segmenter


def laid_on(now: Volume, lungs: Lungs, before: Volume, before_lungs: Lungs) -> Registration:
    """As `register`, which gives the same each time (a test sees to it), once for two chests."""
    key = (hash(now.hu.tobytes()), hash(before.hu.tobytes()))
    if key not in LAID:
        LAID[key] = register(now, lungs, before, before_lungs)
    return LAID[key]


def said(comparison: Comparison) -> list[str | None]:
    answers = (one.attributes.get(codes.CHANGE) for one in comparison.findings)
    return [None if answer is None else answer.meaning for answer in answers]


POSES = [Pose(6, 1.08, (12.0, -9.0, 17.0)), Pose(-8, 0.92, (-20.0, 15.0, -25.0))]


@pytest.mark.parametrize("pose", POSES)
def test_known_growth_is_told_in_any_pose(pose: Pose, monkeypatch: pytest.MonkeyPatch) -> None:
    before = chest_before(pose)
    told = findings(before)
    comparison, _ = compared(monkeypatch, before, told)
    assert said(comparison) == ["Growing", "Stable", "Shrinking", "New"]
    assert [one.tracking_uid for one in comparison.findings] == [
        *(one.tracking_uid for one in told[:3]),
        findings(chest_now())[3].tracking_uid,
    ]
    assert [one["tracking_uid"] for one in comparison.vanished] == [told[3].tracking_uid]
    assert [(one.code, one.facts["count"]) for one in comparison.warnings] == [("prior.nodules_not_found", 1)]
    assert (comparison.compared_with, comparison.days) == (THEN, 365)
    assert [one and one.told and one.told["tracking_uid"] for one in comparison.before] == [
        *(one.tracking_uid for one in told[:3]),
        None,
    ]
    assert all(one.measures is not None for one in comparison.before[:3] if one is not None)
    truths = [100 * ((now / then) ** 3 - 1) for (_, now), (_, then) in zip(AFTER[:3], BEFORE[:3], strict=True)]
    changes = [one.measured("volume_change_percent") for one in comparison.findings[:3]]
    wrong = [abs((1 + got / 100) / (1 + truth / 100) - 1) for got, truth in zip(changes, truths, strict=True) if got]
    assert np.median(wrong) < 0.1
    growing = comparison.findings[0]
    lowest, days_, highest = (growing.measured(f"doubling_time{end}_d") for end in ("_lowest", "", "_highest"))
    assert lowest is not None and days_ is not None and highest is not None
    assert lowest < 365 * math.log(2) / math.log((10.5 / 8) ** 3) < highest
    assert lowest < days_ < highest
    assert comparison.findings[1].measured("doubling_time_d") is None


def test_a_nodule_that_was_overlooked_then_is_not_new(monkeypatch: pytest.MonkeyPatch) -> None:
    before = chest_before(POSES[0])
    comparison, segmenter = compared(monkeypatch, before, findings(before)[1:])
    assert said(comparison)[0] == "Growing"
    assert comparison.findings[0].tracking_uid == findings(chest_now())[0].tracking_uid
    assert min(distance(before.balls[0][0], point) for point in segmenter.asked) < 4


def test_what_was_told_stands_in_for_what_is_not_found_on_the_images(monkeypatch: pytest.MonkeyPatch) -> None:
    before = chest_before(POSES[0])
    told = findings(before)
    hidden = Chest(before.volume, before.lungs, before.balls[1:])
    now = chest_now()
    monkeypatch.setattr(growth, "load", lambda paths: LoadedSeries(hidden.volume, (), ()))
    monkeypatch.setattr(growth, "find_lungs", lambda volume: hidden.lungs)
    monkeypatch.setattr(growth, "register", laid_on)
    prior = Prior((Path("1.dcm"),), (told[0].as_json(),), "2.25.7", THEN)
    comparison = compare(now.volume, now.lungs, findings(now)[:1], prior, IdealSegmenter((now, hidden)), study_date=NOW)
    assert said(comparison) == ["Growing"]
    assert comparison.findings[0].tracking_uid == told[0].tracking_uid
    [before_] = comparison.before
    assert before_ is not None
    assert (before_.measures, before_.volume_mm3) == (None, pytest.approx(1000 * told[0].measured("volume_ml")))  # type: ignore[operator]


def test_a_prior_without_images_is_not_compared_with() -> None:
    now = chest_now()
    told = findings(now)
    prior = Prior((), tuple(one.as_json() for one in told), "2.25.7", THEN)
    comparison = compare(now.volume, now.lungs, told, prior, IdealSegmenter((now,)), study_date=NOW)
    assert comparison.findings == told
    assert [one.code for one in comparison.warnings] == ["prior.not_comparable"]
    assert comparison.compared_with is None


def test_a_prior_that_cannot_be_read_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_lungs(volume: Volume) -> Lungs:
        raise refuse("body_part.unexpected", detail="no lung")

    now = chest_now()
    monkeypatch.setattr(growth, "load", lambda paths: LoadedSeries(now.volume, (), ()))
    monkeypatch.setattr(growth, "find_lungs", no_lungs)
    prior = Prior((Path("1.dcm"),), (), "2.25.7", THEN)
    comparison = compare(now.volume, now.lungs, (), prior, IdealSegmenter((now,)), study_date=NOW)
    assert [(one.code, one.facts["detail"]) for one in comparison.warnings] == [
        ("prior.not_comparable", "body_part.unexpected")
    ]


def test_another_chest_does_not_come_to_lie_on_this_one() -> None:
    now = chest_now()
    noise = np.random.default_rng(9).normal(-500, 300, now.volume.hu.shape).astype(np.int16)
    other = Volume(noise, now.volume.plane, now.volume.instance_uid, now.volume.frame)
    assert not register(now.volume, now.lungs, other, now.lungs).is_good


def test_the_same_two_chests_are_laid_on_each_other_alike_each_time() -> None:
    now, before = chest_now(), chest_before(POSES[0])
    chests = now.volume, now.lungs, before.volume, before.lungs
    once, again = laid_on(*chests), register(*chests)
    assert np.array_equal(once.matrix, again.matrix) and np.array_equal(once.offset, again.offset)
    places = np.array([center for center, _ in before.balls])
    assert once.before(once.now(places)) == pytest.approx(places)


def test_what_the_earlier_ct_does_not_show_is_not_called_new(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = chest_before(POSES[0])
    kept = slice(25, None)
    volume = Volume(
        whole.volume.hu[kept], whole.volume.plane[kept], whole.volume.instance_uid[kept], whole.volume.frame[kept]
    )
    upper = Chest(volume, whole.lungs, whole.balls)
    now = scan([*AFTER[:1], ((-66.0, 10.0, -75.0), 7.0)], seed=1)
    comparison, _ = compared(monkeypatch, upper, findings(whole)[:1], now)
    assert said(comparison) == ["Growing", None]


# ---- a pair of studies of the made chest ----

PAIR = tuple(NoduleRecipe("solid", "intrapulmonary", diameter) for diameter in (7.0, 9.0, 12.0, 16.0))


@dataclass(frozen=True)
class TrueSegmenter:
    """Gives the pixels that the nearest nodule was painted into."""

    studies: tuple[tuple[MadeStudy, Volume], ...]

    def segment(self, volume: Volume, centers_mm: Sequence[Point]) -> tuple[Region, ...]:
        study = next(made for made, held in self.studies if held.instance_uid == volume.instance_uid)
        nearest = (min(range(len(PAIR)), key=lambda n: distance(true_center(study, n), c)) for c in centers_mm)
        return tuple(true_region(study, n) for n in nearest)


def true_center(study: MadeStudy, number: int) -> Point:
    nodules: Any = study.truth["nodules"]
    x, y, z = nodules[number]["center_mm"]
    return (x, y, z)


def true_region(study: MadeStudy, number: int) -> Region:
    return Region.from_volume(study.nodules == number + 1)


@pytest.mark.slow
def test_growth_between_two_made_studies_in_other_poses(tmp_path: Path) -> None:
    factor = 1.6
    made = [
        make_study(tmp_path / str(n), ChestStudyOptions(seed=5, nodules=0, recipes=PAIR, growth=one, pixels=400))
        for n, one in enumerate((None, factor))
    ]
    volumes = [load(study.files).volume for study in made]
    told, now = (
        tuple(outlined(volume, true_region(study, number), number) for number in range(len(PAIR)))
        for study, volume in zip(made, volumes, strict=True)
    )
    prior = Prior(made[0].files, tuple(one.as_json() for one in told), "2.25.7", date(2025, 1, 1))
    segmenter = TrueSegmenter(tuple(zip(made, volumes, strict=True)))
    lungs = find_lungs(volumes[1])
    comparison = compare(volumes[1], lungs, now, prior, segmenter, study_date=date(2025, 7, 1))
    assert said(comparison) == ["Growing"] * len(PAIR)
    assert [one.tracking_uid for one in comparison.findings] == [one.tracking_uid for one in told]
    truths = [
        np.divide(*(study.truth["nodules"][number]["volume_mm3"] for study in reversed(made)))  # type: ignore[index]
        for number in range(len(PAIR))
    ]
    got = [1 + (one.measured("volume_change_percent") or 0) / 100 for one in comparison.findings]
    assert np.median(np.abs(np.divide(got, truths) - 1)) < 0.1

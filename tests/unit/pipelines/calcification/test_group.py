"""Grains that lie together become groups, and groups are told from chance."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.calcification.group import FEATURES, Grouping, GroupModel, fit, groups_of, parted
from pipelines.calcification.layout import layout_of
from tests.unit.pipelines.calcification.made import breast_of, cluster, grains_at, mammogram, plain_model


def parts(places_mm: np.ndarray, scores: np.ndarray | None = None) -> list[list[int]]:
    given_scores = np.full(len(places_mm), 0.9) if scores is None else scores
    return [part.tolist() for part in parted(places_mm, given_scores, Grouping())]


def test_crowds_are_groups_and_single_grains_are_not() -> None:
    places = np.concatenate([cluster((300, 300)), cluster((600, 800), seed=1), [[100, 1000], [100, 100]]]) * 0.1
    assert parts(places) == [list(range(8)), list(range(8, 16))]


def test_a_chain_of_doubtful_grains_links_nothing() -> None:
    places = np.concatenate([cluster((200, 300)), cluster((500, 300), seed=1), [[x, 300] for x in range(240, 480, 40)]])
    scores = np.concatenate([np.full(16, 0.9), np.full(6, 0.11)])
    assert len(parts(places * 0.1, scores)) == 2


@given(seed=st.integers(0, 1000), turn=st.floats(0, 6.28), shift=st.floats(-500, 500))
def test_groups_do_not_depend_on_order_or_place(seed: int, turn: float, shift: float) -> None:
    generator = np.random.default_rng(seed)
    places, scores = generator.uniform(0, 60, (60, 2)), generator.random(60)
    order = generator.permutation(60)
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    found = {frozenset(part) for part in parts(places, scores)}
    again = {frozenset(order[part].tolist()) for part in parts((places @ rotation.T + shift)[order], scores[order])}
    members = [set().union(*found) if found else set(), set().union(*again) if again else set()]
    assert members[0] == members[1]
    # A grain just as far from two groups may join either.
    assert len(found) == len(again)


def test_no_grain_no_group() -> None:
    view = mammogram()
    assert groups_of(view, breast_of(view), grains_at(np.empty((0, 2))), plain_model()) == ()
    assert parts(np.array([[1.0, 1.0]])) == []


def test_the_surest_group_comes_first() -> None:
    view = mammogram()
    places = np.concatenate([cluster((400, 500), number=5), cluster((600, 700), number=20, seed=1)])
    found = groups_of(view, breast_of(view), grains_at(places), plain_model(number=1.0))
    assert [len(group.grains) for group in found] == [20, 5]
    assert found[0].certainty > found[1].certainty
    assert found[0].center_px == pytest.approx((600, 700), abs=15)


def test_grains_that_the_detector_doubts_are_left_out() -> None:
    view = mammogram()
    places = cluster((400, 500), number=6)
    grains = grains_at(places, score=[0.9, 0.9, 0.9, 0.05, 0.9, 0.9])
    (found,) = groups_of(view, breast_of(view), grains, plain_model())
    assert len(found.grains) == 5


def feature(name: str, places: np.ndarray, muscle: bool = False, **measured: float) -> float:
    view = mammogram(projection="MLO")
    (found,) = groups_of(view, breast_of(view, muscle=muscle), grains_at(places, **measured), plain_model())
    return found.features[name]


def test_features_tell_what_they_say() -> None:
    here = cluster((500, 600))
    assert feature("number", here) == pytest.approx(np.log(8))
    assert feature("expected_number", here) == pytest.approx(np.log(7.2))
    assert feature("on_muscle", cluster((850, 150)), muscle=True) > 0.8
    assert feature("on_muscle", here, muscle=True) == 0
    assert feature("outside_breast", cluster((50, 60))) == 1
    assert feature("outside_breast", here) == 0
    assert feature("near_skin", cluster((110, 600), reach_mm=1)) > 0.8
    assert feature("near_nipple", cluster((110, 600), reach_mm=1)) > 0.8
    assert feature("near_nipple", here) < 0.2
    line = np.stack([np.linspace(300, 600, 10), np.full(10, 600.0)], axis=1)
    assert feature("slenderness", line) > feature("slenderness", here) + 1
    assert feature("lined_up", line, elongation=3.0, angle=0.0) > 0.8
    assert feature("lined_up", line, elongation=3.0, angle=np.pi / 2) < -0.8
    assert feature("spread", cluster((500, 600), reach_mm=1)) < feature("spread", here)


def test_what_surrounds_a_group_is_known() -> None:
    view = mammogram()
    places = np.concatenate([cluster((500, 600)), [[300, 300], [700, 900]]])
    (found,) = groups_of(view, breast_of(view), grains_at(places), plain_model())
    assert found.features["others"] == pytest.approx(np.log1p(1.8))


def test_two_lines_are_told_from_one() -> None:
    along = np.linspace(0, 30, 20)
    wall = np.where(np.arange(20) % 2, 1.0, -1.0)
    assert layout_of(np.stack([along, wall], axis=1)).two_lines > 0.9
    scattered = np.random.default_rng(0).normal(0, 1, 20)
    assert layout_of(np.stack([along, scattered], axis=1)).two_lines < 0.3
    bent = layout_of(np.stack([along, 0.005 * along**2], axis=1))
    assert bent.off_line < 0.1
    assert bent.slenderness > 50


@given(
    places=st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), min_size=1, max_size=12),
    turn=st.floats(0, 6.28),
)
def test_a_layout_is_the_same_however_it_lies(places: list[tuple[int, int]], turn: float) -> None:
    given_places = np.array(places, np.float64)
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    one, other = layout_of(given_places), layout_of(given_places @ rotation.T)
    for name in ("length", "spread", "gap"):
        assert getattr(one, name) == pytest.approx(getattr(other, name), abs=1e-6)
    assert one.area_mm2 == pytest.approx(other.area_mm2, rel=1e-3, abs=1e-3)


def examples(count: int, seed: int) -> tuple[list[dict[str, float]], list[bool]]:
    """Groups score 1 higher on one feature, the rest is noise."""
    generator = np.random.default_rng(seed)
    truth = generator.random(count) < 0.3
    rows = [
        {name: float(generator.normal(2.0 * positive if name == "mean_score" else 0, 1)) for name in FEATURES}
        for positive in truth
    ]
    return rows, truth.tolist()


def test_a_fitted_model_tells_groups_with_calibrated_chances() -> None:
    model = fit(*examples(2000, 0))
    rows, truth = examples(4000, 1)
    certainty = np.array([model.certainty(row) for row in rows])
    assert max(model.weight, key=lambda name: abs(model.weight[name])) == "mean_score"
    for low, high in ((0.0, 0.2), (0.2, 0.5), (0.5, 1.0)):
        part = (certainty >= low) & (certainty < high)
        assert np.mean(np.array(truth)[part]) == pytest.approx(certainty[part].mean(), abs=0.06)


def test_fitting_repeats_and_survives_the_manifest() -> None:
    rows, truth = examples(300, 0)
    model = fit(rows, truth)
    assert fit(rows, truth) == model
    again = GroupModel.from_json(json.loads(json.dumps(model.as_json())))
    assert again.certainty(rows[0]) == pytest.approx(model.certainty(rows[0]), abs=1e-3)


def test_a_model_counts_no_further_than_it_has_seen() -> None:
    model = plain_model(spread=1.0)
    features = dict.fromkeys(FEATURES, 0.0)
    assert model.certainty(features | {"spread": 3.0}) == model.certainty(features | {"spread": 300.0})


def test_models_of_other_features_are_refused() -> None:
    document = plain_model().as_json()
    document["weight"].pop("number")
    with pytest.raises(ValueError, match="features"):
        GroupModel.from_json(document)


def test_fitting_needs_both_classes() -> None:
    rows, _ = examples(10, 0)
    with pytest.raises(ValueError, match="examples"):
        fit(rows, [True] * 10)

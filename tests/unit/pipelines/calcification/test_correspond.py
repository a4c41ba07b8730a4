"""The same group on two views, both breasts, and what a study's findings are in the end."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines import codes
from pipelines.calcification.breast import Breast
from pipelines.calcification.conclude import Conclusion, conclude
from pipelines.calcification.correspond import Marked, agreement_of, correspond, is_bilateral
from pipelines.calcification.describe import describe
from pipelines.calcification.grains import Grains
from pipelines.calcification.group import Group
from pipelines.calcification.place import frame_of
from pipelines.mammogram import Laterality, Mammogram, Projection
from tests.unit.pipelines.calcification.made import breast_of, cluster, grains_at, group_of, mammogram

View = tuple[Mammogram, Breast]
CC, MLO = (mammogram(projection="CC"), mammogram(projection="MLO"))
MAPS = {view.name: breast_of(view) for view in (CC, MLO, mammogram("L"), mammogram("L", "MLO"))}


def view(laterality: Laterality = "R", projection: Projection = "CC", *, nipple: bool = True) -> View:
    shown = mammogram(laterality, projection)
    return shown, replace(MAPS[shown.name], nipple=MAPS[shown.name].nipple if nipple else None)


def grains(column: float, row: float, number: int = 8, **measured: float) -> Grains:
    return grains_at(cluster((column, row), number=number), **measured)


def marked_on(of: View, held: Grains, certainty: float = 0.6) -> Marked:
    shown, breast = of
    frame, group = frame_of(shown, breast), group_of(shown, breast, held, certainty)
    return Marked.alone(shown, frame, group, describe(shown, breast, frame, group))


def paired(*marked: Marked, views: tuple[View, ...]) -> tuple[Marked, ...]:
    return correspond(marked, [(shown, frame_of(shown, breast)) for shown, breast in views])


def test_groups_at_the_same_distance_from_the_nipple_are_one() -> None:
    cc, mlo = view(), view(projection="MLO")
    far, near = marked_on(cc, grains(700, 700)), marked_on(cc, grains(300, 400))
    same = marked_on(mlo, grains(320, 900))
    found = paired(far, near, same, views=(cc, mlo))
    assert [one.partner for one in found] == [None, 2, 1]
    assert found[1].certainty > near.certainty
    assert found[2].certainty > same.certainty
    assert found[0].certainty < far.certainty
    # Above on CC is outer, below on MLO is lower.
    assert found[1].region == found[2].region == codes.LOWER_OUTER_QUADRANT
    assert found[0].region == codes.INNER_HALF


def test_certainty_moves_as_the_formula_says() -> None:
    cc, mlo = view(), view(projection="MLO")
    one, other = marked_on(cc, grains(400, 600), 0.5), marked_on(mlo, grains(400, 600), 0.8)
    assert agreement_of(one, other) == pytest.approx(1.0, abs=0.02)
    found = paired(one, other, views=(cc, mlo))
    agreement = agreement_of(one, other)
    assert found[0].certainty == pytest.approx(1 / (1 + np.exp(-1.5 * agreement * 0.8)), abs=1e-6)
    (alone,) = paired(one, views=(cc, mlo))
    assert alone.certainty == pytest.approx(1 / (1 + np.exp(0.7)), abs=1e-6)


@given(apart=st.floats(0, 400), number=st.integers(3, 40))
def test_agreement_falls_with_every_difference(apart: float, number: int) -> None:
    one = marked_on(view(), grains(300, 600))
    other = marked_on(view(projection="MLO"), grains(300 + apart, 600, number))
    more = marked_on(view(projection="MLO"), grains(310 + apart, 600, number))
    assert 0 <= agreement_of(one, more) <= agreement_of(one, other) + 1e-9 <= 1 + 1e-9
    assert agreement_of(one, other) == pytest.approx(agreement_of(other, one))
    if apart > 220:
        assert agreement_of(one, other) == 0


def test_another_type_agrees_less() -> None:
    one, other = marked_on(view(), grains(300, 600)), marked_on(view(projection="MLO"), grains(300, 600, size_mm=0.8))
    assert agreement_of(one, other) < 0.85 * agreement_of(one, marked_on(view(projection="MLO"), grains(300, 600)))


@pytest.mark.parametrize(
    "views",
    [
        (view(),),
        (view(), view("L", "MLO")),
        (view(), view(projection="MLO", nipple=False)),
    ],
    ids=["one view", "other breast", "no nipple"],
)
def test_without_two_views_nothing_changes(views: tuple[View, ...]) -> None:
    one = marked_on(views[0], grains(400, 600))
    assert paired(one, views=views) == (one,)


def test_what_the_other_view_does_not_reach_is_not_held_against_a_group() -> None:
    cc, mlo = view(), view(projection="MLO")
    deep = marked_on(cc, grains(850, 600))
    assert paired(deep, views=(cc, mlo)) == (deep,)


def test_each_group_has_one_partner_at_most() -> None:
    cc, mlo = view(), view(projection="MLO")
    on_cc = [marked_on(cc, grains(300 + 40 * k, 400 + 100 * k)) for k in range(4)]
    on_mlo = [marked_on(mlo, grains(310 + 40 * k, 500 + 100 * k)) for k in range(3)]
    found = paired(*on_cc, *on_mlo, views=(cc, mlo))
    partners = [one.partner for one in found if one.partner is not None]
    assert len(partners) == len(set(partners)) == 6
    assert all(found[one.partner].partner == k for k, one in enumerate(found) if one.partner is not None)


def wide(of: View, certainty: float = 0.7) -> Marked:
    places = np.random.default_rng(0).uniform((420, 400), (740, 800), (40, 2))
    return marked_on(of, grains_at(places, prominence=3.0, compactness=0.8), certainty)


def test_the_same_wide_calcifications_in_both_breasts_are_bilateral() -> None:
    right, left = wide(view()), wide(view("L"))
    assert right.description.distribution == codes.REGIONAL
    assert is_bilateral(right, [right, left], 0.5)
    assert not is_bilateral(right, [right], 0.5)
    assert not is_bilateral(right, [right, wide(view("L"), 0.3)], 0.5)
    assert not is_bilateral(right, [right, marked_on(view("L"), grains(400, 600))], 0.5)
    narrow = marked_on(view(), grains(400, 600))
    assert not is_bilateral(narrow, [narrow, marked_on(view("L"), grains(400, 600))], 0.5)


def concluded(*views: tuple[View, list[tuple[Grains, float]]], least: float = 0.5) -> Conclusion:
    made: list[tuple[Mammogram, Breast, list[Group]]] = []
    for (shown, breast), groups in views:
        made.append((shown, breast, [group_of(shown, breast, held, certainty) for held, certainty in groups]))
    return conclude(made, least=least, model_sha256="0")


def test_a_study_has_its_findings_scores_and_category() -> None:
    conclusion = concluded(
        (view(), [(grains(400, 500, size_mm=0.3, elongation=1.7, compactness=0.8), 0.7)]),
        (view("L"), [(grains(500, 600), 0.95), (grains(300, 300), 0.2)]),
        (view("R", "MLO"), [(grains(400, 700, size_mm=0.3, elongation=1.7, compactness=0.8), 0.6)]),
        (view("L", "MLO"), []),
    )
    # The suspicious ones first although they are less sure, then the punctate group of the left.
    assert [finding.view for finding in conclusion.findings] == ["R CC", "R MLO", "L CC"]
    first, second, third = conclusion.findings
    assert first.partner_uid == second.tracking_uid
    assert second.partner_uid == first.tracking_uid
    assert third.partner_uid is None
    assert first.attributes[codes.BI_RADS] == codes.BI_RADS_4B
    assert first.attributes[codes.BREAST_REGION] == codes.LOWER_OUTER_QUADRANT
    assert third.attributes[codes.BI_RADS] == codes.BI_RADS_3
    assert (conclusion.category, conclusion.priority) == (codes.BI_RADS_4B, codes.ACTIONABLE_DAYS)
    assert conclusion.score_by_breast["L"] == pytest.approx(third.certainty, abs=1e-4)
    assert conclusion.score_by_view[view("L", "MLO")[0].instance_uid] == 0
    assert conclusion.score == max(conclusion.score_by_breast.values())


def test_a_partner_that_is_not_told_of_is_not_named() -> None:
    conclusion = concluded(
        (view(), [(grains(400, 500), 0.6)]), (view("R", "MLO"), [(grains(400, 700), 0.1)]), least=0.5
    )
    (finding,) = conclusion.findings
    assert finding.partner_uid is None


def test_bilateral_wide_calcifications_are_suggested_as_benign() -> None:
    places = np.random.default_rng(0).uniform((420, 400), (740, 800), (40, 2))
    amorphous = grains_at(places, prominence=3.0, compactness=0.8)
    both = concluded((view(), [(amorphous, 0.8)]), (view("L"), [(amorphous, 0.8)]))
    assert both.category == codes.BI_RADS_2
    assert both.priority is None
    assert concluded((view(), [(amorphous, 0.8)]), (view("L"), [])).category == codes.BI_RADS_4B


def test_a_study_without_groups_is_negative() -> None:
    conclusion = concluded((view(), []), (view("L"), []))
    assert conclusion.findings == ()
    assert conclusion.score == 0
    assert (conclusion.category, conclusion.priority) == (codes.BI_RADS_1, None)


def test_the_same_work_gives_the_same_findings() -> None:
    views = [(view(), [(grains(400, 500), 0.7)]), (view("R", "MLO"), [(grains(400, 700), 0.6)])]
    assert concluded(*views).findings == concluded(*views).findings

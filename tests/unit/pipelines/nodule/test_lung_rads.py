from __future__ import annotations

from dataclasses import replace
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines import codes
from pipelines.nodule.lung_rads import (
    CODES,
    NO_NODULE,
    RULES,
    SUSPICION,
    SUSPICIOUS_RULE,
    Category,
    CategoryName,
    Composition,
    Earlier,
    NoduleFacts,
    categorize,
    mean_diameter,
    study_category,
    suggestion,
)


def solid(size: float, **facts: Any) -> NoduleFacts:
    return NoduleFacts("solid", size, **facts)


def part(size: float, component: float, **facts: Any) -> NoduleFacts:
    return NoduleFacts("part_solid", size, component, **facts)


def glass(size: float, **facts: Any) -> NoduleFacts:
    return NoduleFacts("ground_glass", size, **facts)


def since(before: NoduleFacts, months: float = 12, category: CategoryName | None = None) -> dict[str, Earlier]:
    return {"prior": Earlier(before, months, category)}


def beside(size: float, **facts: Any) -> NoduleFacts:
    return solid(size, **({"position": "juxtapleural", "benign_shape": True} | facts))


def in_airway(level: str, **facts: Any) -> NoduleFacts:
    return solid(7, position=f"airway_{level}", **facts)


def cyst(kind: str, **facts: Any) -> NoduleFacts:
    return solid(20, cyst=kind, **facts)


CASES: list[tuple[str, NoduleFacts]] = [
    # solid at baseline: 6, 8 and 15 mm; sizes to one decimal
    ("2.solid", solid(1)),
    ("2.solid", solid(5.94)),
    ("3.solid", solid(5.95)),
    ("3.solid", solid(6)),
    ("3.solid", solid(7.94)),
    ("4A.solid", solid(8)),
    ("4A.solid", solid(14.9)),
    ("4B.solid", solid(15)),
    ("4B.solid", solid(80)),
    # solid, new: 4, 6 and 8 mm
    ("2.solid_new", solid(3.9, is_new=True)),
    ("3.solid_new", solid(4, is_new=True)),
    ("3.solid_new", solid(5.9, is_new=True)),
    ("4A.solid_new", solid(6, is_new=True)),
    ("4A.solid_new", solid(7.9, is_new=True)),
    ("4B.solid_new", solid(8, is_new=True)),
    # solid, growing by more than 1.5 mm in 12 months: 8 mm
    ("4A.solid_growing", solid(5.1, **since(solid(3.5)))),
    ("2.stable_2", solid(5, **since(solid(3.5)))),
    ("4A.solid_growing", solid(7.9, **since(solid(6.3)))),
    ("4B.solid_growing", solid(8, **since(solid(6.4)))),
    ("4A.solid_growing", solid(6, **since(solid(4), 1))),
    ("4A.solid_growing", solid(7, **since(solid(6, **since(solid(5.4), 6)), 6))),
    ("4A.solid_growing", solid(7, **since(solid(3), 24))),
    ("4B.solid_growing", solid(9, **since(glass(9)))),
    ("4B.solid_growing", solid(9, **since(part(9, 5)))),
    # solid and part-solid, slowly growing: more than 1.5 mm in all, not in any 12 months
    ("4B.slow", solid(6, **since(solid(5, **since(solid(4)))))),
    ("2.stable_2", solid(5.5, **since(solid(4.8, **since(solid(4)))))),
    ("4B.slow", solid(7, **since(solid(4), 24))),
    ("4B.slow", part(9, 4, **since(part(8, 4, **since(part(7, 4)))))),
    ("4B.slow", part(9, 4, **since(part(9, 3, **since(part(9, 2)))))),
    ("2.stable_3", solid(6.6, **since(solid(8.2, **since(solid(5, **since(solid(5), 36)), 36)), 36, "3"))),
    ("4A.component", part(9, 2, **since(glass(9), 24))),
    # reached a higher size class without growth (note 5)
    ("3.solid", solid(6.2, **since(solid(5.5)))),
    ("4A.solid", solid(8, **since(solid(7.9)))),
    ("4B.solid", solid(15.2, **since(solid(14.5), 3))),
    ("3.part_solid", part(6, 2, **since(part(5.5, 2)))),
    ("4A.part_solid", part(9, 6, **since(part(9, 5)))),
    ("4A.solid", beside(10, **since(beside(9.5)))),
    # part-solid at baseline: 6 mm in all; component 6 and 8 mm
    ("2.part_solid", part(5.9, 3)),
    ("3.part_solid", part(6, 3)),
    ("3.part_solid", part(40, 5.9)),
    ("4A.part_solid", part(10, 6)),
    ("4A.part_solid", part(10, 7.9)),
    ("4B.part_solid", part(10, 8)),
    # part-solid, new: 6 mm in all; new or growing component: 4 mm
    ("3.part_solid_new", part(5.9, 2, is_new=True)),
    ("4A.component", part(6, 3.9, is_new=True)),
    ("4B.component", part(6, 4, is_new=True)),
    ("4A.component", part(10, 3.9, **since(glass(10)))),
    ("4B.component", part(10, 4, **since(glass(10)))),
    ("4A.component", part(10, 3.9, **since(part(10, 2.3)))),
    ("2.stable_3", part(10, 3.8, **since(part(10, 2.3)))),
    ("4B.component", part(10, 4, **since(part(10, 2.4)))),
    ("3.part_solid", part(12, 4, **since(part(9, 4)))),  # grows in ground glass alone
    # ground glass: 30 mm
    ("2.ground_glass", glass(29.9)),
    ("2.ground_glass", glass(29.9, is_new=True)),
    ("2.ground_glass", glass(29, **since(glass(20)))),
    ("3.ground_glass", glass(30)),
    ("3.ground_glass", glass(30, is_new=True)),
    ("3.ground_glass", glass(34, **since(glass(32)))),
    ("3.ground_glass", glass(30.1, **since(glass(29)))),
    ("2.ground_glass_large", glass(32, **since(glass(31.5)))),
    ("2.ground_glass_large", glass(34, **since(glass(32), 24))),
    # follow-up of stable nodules
    ("2.stable_2", solid(5, **since(solid(5)))),
    ("2.stable_2", solid(12, **since(solid(12), 12, "2"))),
    ("3.stable_3", solid(7, **since(solid(7), 5.4))),
    ("2.stable_3", solid(7, **since(solid(7), 5.5))),
    ("2.stable_3", solid(4, **since(solid(7), 6))),
    ("2.stable_3", part(9, 3, **since(part(9, 3), 6))),
    ("3.stable_3", solid(5, **since(solid(5, is_new=True), 3))),
    ("4A.stable_4A", solid(10, **since(solid(10), 2.4))),
    ("3.stable_4A", solid(10, **since(solid(10), 2.5))),
    ("3.stable_4A", solid(10, **since(solid(10), 3))),
    ("2.stable_3", solid(10, **since(solid(10, **since(solid(10), 3)), 6))),
    ("4B.stable_4B", solid(16, **since(solid(16)))),
    ("4B.stable_4B", solid(9, **since(solid(9, is_new=True)))),
    ("4B.stable_4B", solid(7, **since(solid(7, suspicious_features=True)))),
    ("2.proven_benign", solid(16, proven_benign=True, **since(solid(16)))),
    ("3.solid", solid(7, **since(solid(7, inflammatory=True), 2))),
    # benign
    ("1.none", solid(7, resolved=True, **since(solid(7)))),
    *(("1.calcified", solid(20, calcification=pattern)) for pattern in ("diffuse", "central", "popcorn", "laminated")),
    ("4B.solid", solid(20, calcification="eccentric")),
    ("1.fat", solid(20, contains_fat=True)),
    # juxtapleural: 10 mm; solid, of benign shape, at baseline or new
    ("2.juxtapleural", beside(9.9)),
    ("2.juxtapleural", beside(9.9, is_new=True)),
    ("2.juxtapleural", beside(9.9, position="perifissural")),
    ("4A.solid", beside(10)),
    ("4A.solid", beside(9.9, benign_shape=False)),
    ("4A.solid", beside(9.9, position="intrapulmonary")),
    ("2.stable_2", beside(9.9, **since(beside(9.5)))),
    ("4B.solid_growing", beside(9.9, **since(beside(7)))),
    ("3.part_solid", replace(beside(9.9), composition="part_solid", solid_mean_diameter_mm=3)),
    # infection
    ("0.inflammatory", solid(20, inflammatory=True)),
    # airway
    ("2.airway_subsegmental", in_airway("subsegmental")),
    ("2.airway_subsegmental", in_airway("subsegmental", is_new=True)),
    ("2.airway_subsegmental", in_airway("subsegmental", **since(in_airway("subsegmental")))),
    ("4A.solid_growing", in_airway("subsegmental", **since(replace(in_airway("subsegmental"), mean_diameter_mm=5)))),
    ("4A.airway", in_airway("proximal")),
    ("4A.airway", in_airway("proximal", is_new=True)),
    ("4B.airway", in_airway("proximal", **since(in_airway("proximal"), 3))),
    ("4B.airway", in_airway("proximal", **since(replace(in_airway("proximal"), mean_diameter_mm=4), 3))),
    ("2.airway_air", in_airway("proximal", airway_contains_air=True)),
    # atypical cysts
    ("4A.cyst_thick", cyst("thick_walled")),
    ("4A.cyst_thick", cyst("thick_walled", is_new=True)),
    ("4A.cyst_multilocular", cyst("multilocular")),
    ("4A.cyst_became", cyst("multilocular", cyst_change="became_multilocular", **since(cyst("thick_walled")))),
    ("3.cyst_cavity", cyst("thick_walled", cyst_change="larger_cavity", **since(cyst("thick_walled")))),
    ("4B.cyst_wall", cyst("thick_walled", cyst_change="thicker_wall", **since(cyst("thick_walled")))),
    ("4B.cyst_larger", cyst("multilocular", cyst_change="larger", **since(cyst("multilocular")))),
    ("4B.cyst_denser", cyst("multilocular", cyst_change="denser", **since(cyst("multilocular")))),
    ("3.stable_4A", cyst("multilocular", **since(cyst("multilocular"), 3))),
    # 4X: any of 3 and 4
    (SUSPICIOUS_RULE, solid(6, suspicious_features=True)),
    (SUSPICIOUS_RULE, solid(8, suspicious_features=True)),
    (SUSPICIOUS_RULE, solid(15, suspicious_features=True)),
    (SUSPICIOUS_RULE, solid(15, suspicious_features=True, inflammatory=True)),
    ("2.solid", solid(5.9, suspicious_features=True)),
    ("1.calcified", solid(20, calcification="central", suspicious_features=True)),
]


@pytest.mark.parametrize(("rule", "facts"), CASES)
def test_each_rule_and_both_sides_of_each_border(rule: str, facts: NoduleFacts) -> None:
    category = categorize(facts)
    assert category.rule == rule
    assert category.name == rule.partition(".")[0]


def test_every_rule_of_the_table_is_tested() -> None:
    ids = [rule.id for rule in RULES]
    assert len(ids) == len(set(ids))
    assert {*ids, SUSPICIOUS_RULE} == {rule for rule, _ in CASES}
    assert all(rule.id.partition(".")[0] == rule.category for rule in RULES)


@pytest.mark.parametrize(
    ("long", "short", "mean"), [(6, 5.9, 6.0), (6, 5.8, 5.9), (5.94, 5.94, 5.9), (7.25, 7.24, 7.3), (10, 4, 7.0)]
)
def test_the_mean_diameter_has_one_decimal(long: float, short: float, mean: float) -> None:
    assert mean_diameter(long, short) == mean


def test_each_category_has_its_code() -> None:
    assert CODES["4A"] == codes.LUNG_RADS_4A
    assert categorize(solid(8)).code == codes.LUNG_RADS_4A
    assert [CODES[name].meaning for name in CODES] == [f"Lung-RADS {name}" for name in CODES]
    assert set(CODES) == set(SUSPICION)


def test_the_examination_goes_by_its_most_suspicious_nodule() -> None:
    nodules = [categorize(solid(size)) for size in (5, 10, 7)]
    assert study_category(nodules).rule == "4A.solid"
    assert study_category([*nodules, categorize(solid(7, suspicious_features=True))]).name == "4X"
    assert study_category([]) == NO_NODULE
    assert study_category([categorize(solid(20, calcification="central"))]).name == "1"


@pytest.mark.parametrize(("size", "name"), [(5, "0"), (6, "3"), (16, "4B")])
@pytest.mark.parametrize("missing", [{"lungs_evaluated": False}, {"prior_awaited": True}])
def test_an_incomplete_examination_takes_no_suspicion_back(size: float, name: str, missing: dict[str, bool]) -> None:
    assert study_category([categorize(solid(size))], **missing).name == name
    assert study_category([], **missing).name == "0"


def test_it_is_worded_as_a_suggestion() -> None:
    words = suggestion(categorize(solid(8)))
    assert words == (
        "Lung-RADS v2022 category 4A suggested (Solid nodule 8 to < 15 mm at baseline); Lung-RADS applies to lung "
        "cancer screening only, and the radiologist's assessment decides."
    )


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: solid(0),
        lambda: solid(float("nan")),
        lambda: NoduleFacts("part_solid", 8),
        lambda: solid(8, is_new=True, **since(solid(8))),
        lambda: Earlier(solid(8), 0),
    ],
)
def test_facts_that_contradict_are_refused(wrong: Any) -> None:
    with pytest.raises(ValueError, match=r"must be|no prior|at least some time"):
        wrong()


sizes = st.floats(1, 40)
kinds: st.SearchStrategy[Composition] = st.sampled_from(get_args(Composition))


@st.composite
def nodules(draw: st.DrawFn, depth: int = 2) -> NoduleFacts:
    size = draw(sizes)
    prior = None
    if depth and draw(st.booleans()):
        prior = Earlier(
            draw(nodules(depth - 1)), draw(st.floats(0.1, 48)), draw(st.none() | st.sampled_from(SUSPICION))
        )
    return NoduleFacts(
        composition=draw(kinds),
        mean_diameter_mm=size,
        solid_mean_diameter_mm=size * draw(st.floats(0.1, 1)),
        prior=prior,
        is_new=prior is None and draw(st.booleans()),
        position=draw(st.sampled_from(["intrapulmonary", "juxtapleural", "airway_subsegmental", "airway_proximal"])),
        benign_shape=draw(st.booleans()),
    )


@given(nodules())
def test_every_nodule_has_a_category_and_features_never_lower_it(facts: NoduleFacts) -> None:
    plain = categorize(facts)
    marked = categorize(replace(facts, suspicious_features=True))
    assert SUSPICION.index(marked.name) >= SUSPICION.index(plain.name)
    assert (marked.name == "4X") == (plain.name in {"3", "4A", "4B"})


@given(sizes, sizes, kinds, st.booleans())
def test_a_larger_nodule_is_never_less_suspicious(one: float, other: float, kind: Any, is_new: bool) -> None:
    small, large = (
        SUSPICION.index(categorize(NoduleFacts(kind, size, size * 0.7, is_new=is_new)).name)
        for size in sorted((one, other))
    )
    assert small <= large


@given(sizes, st.floats(0, 40), st.floats(0.1, 48))
def test_one_that_grew_is_never_less_suspicious_than_at_baseline(size: float, more: float, months: float) -> None:
    before = solid(size)
    after: Category = categorize(solid(size + more, **since(before, months)))
    if more > 1.6:
        assert SUSPICION.index(after.name) >= SUSPICION.index(categorize(solid(size + more)).name)

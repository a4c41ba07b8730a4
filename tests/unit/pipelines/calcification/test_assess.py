"""The table of categories: every rule fires, every group has one, and category 4 stands where the chances fall."""

from __future__ import annotations

from itertools import product

import pytest

from pipelines import codes
from pipelines.calcification.assess import (
    RULES,
    TYPICALLY_BENIGN,
    Facts,
    assess,
    likelihood,
    priority_of,
    study_category,
)
from pipelines.calcification.describe import DISTRIBUTION_RULES, TYPE_RULES
from pipelines.codes import Code

TYPES = [rule.code for rule in TYPE_RULES]
DISTRIBUTIONS = [rule.code for rule in DISTRIBUTION_RULES]
EVERYTHING = [Facts(*facts) for facts in product(TYPES, DISTRIBUTIONS, [False, True])]
LIMITS = {codes.BI_RADS_4A: (0.0, 0.10), codes.BI_RADS_4B: (0.10, 0.50), codes.BI_RADS_4C: (0.50, 0.95)}


@pytest.mark.parametrize(
    ("facts", "rule", "category"),
    [
        (Facts(codes.VASCULAR, codes.LINEAR), "2.typical", codes.BI_RADS_2),
        (Facts(codes.SKIN_CALCIFICATION, codes.GROUPED), "2.typical", codes.BI_RADS_2),
        (Facts(codes.AMORPHOUS, codes.DIFFUSE, bilateral=True), "2.bilateral", codes.BI_RADS_2),
        (Facts(codes.PUNCTATE, codes.REGIONAL), "2.even_wide", codes.BI_RADS_2),
        (Facts(codes.PUNCTATE, codes.SEGMENTAL), "4B.even_in_a_duct", codes.BI_RADS_4B),
        (Facts(codes.ROUND, codes.GROUPED), "2.round", codes.BI_RADS_2),
        (Facts(codes.PUNCTATE, codes.GROUPED), "3.punctate", codes.BI_RADS_3),
        (Facts(codes.FINE_LINEAR, codes.SEGMENTAL), "5.linear_in_a_duct", codes.BI_RADS_5),
        (Facts(codes.FINE_LINEAR, codes.GROUPED), "4C.linear", codes.BI_RADS_4C),
        (Facts(codes.FINE_PLEOMORPHIC, codes.LINEAR), "4C.pleomorphic_in_a_duct", codes.BI_RADS_4C),
        (Facts(codes.FINE_PLEOMORPHIC, codes.GROUPED), "4B.pleomorphic", codes.BI_RADS_4B),
        (Facts(codes.AMORPHOUS, codes.DIFFUSE), "4A.diffuse", codes.BI_RADS_4A),
        (Facts(codes.AMORPHOUS, codes.GROUPED), "4B.amorphous", codes.BI_RADS_4B),
        (Facts(codes.COARSE_HETEROGENEOUS, codes.GROUPED), "4B.coarse", codes.BI_RADS_4B),
    ],
)
def test_rule(facts: Facts, rule: str, category: Code) -> None:
    found = assess(facts)
    assert (found.id, found.category) == (rule, category)


def test_every_rule_fires_and_everything_has_one() -> None:
    assert {assess(facts).id for facts in EVERYTHING} == {rule.id for rule in RULES}


@pytest.mark.parametrize("facts", EVERYTHING, ids=lambda facts: f"{facts.type.meaning} {facts.distribution.meaning}")
def test_category_4_stands_where_the_chance_falls(facts: Facts) -> None:
    category, chance = assess(facts).category, likelihood(facts.type, facts.distribution)
    if category not in LIMITS or chance is None:
        return
    low, high = LIMITS[category]
    # What the atlas calls 4B or 4C by type alone is not taken back by a diffuse distribution.
    assert chance < high
    assert chance > low or facts.distribution == codes.DIFFUSE


def test_only_what_is_typically_benign_or_even_or_bilateral_is_benign() -> None:
    for facts in EVERYTHING:
        if assess(facts).category in {codes.BI_RADS_2, codes.BI_RADS_3}:
            assert facts.type in TYPICALLY_BENIGN | {codes.ROUND, codes.PUNCTATE} or facts.bilateral


def test_the_study_has_the_most_suspicious_category() -> None:
    assert study_category([]) == codes.BI_RADS_1
    assert study_category([codes.BI_RADS_2, codes.BI_RADS_4B, codes.BI_RADS_3]) == codes.BI_RADS_4B


@pytest.mark.parametrize("category", codes.BI_RADS_ORDER)
def test_priority_begins_at_4a(category: Code) -> None:
    suspicious = category.meaning[0] in "45"
    assert priority_of(category) == (codes.ACTIONABLE_DAYS if suspicious else None)

from __future__ import annotations

from dataclasses import replace
from datetime import date

import pytest

from pipelines import codes
from pipelines.codes import Code
from pipelines.findings import Finding, Outcome, Outline


def nodule(*, category: Code | None) -> Finding:
    attributes = {} if category is None else {codes.LUNG_RADS: category}
    return Finding(
        codes.NODULE, "Nodule", 0.9, Outline("2.25.1", ()), None, (), "2.25.1", "2.25.2", attributes=attributes
    )


@pytest.mark.parametrize(
    ("categories", "study"),
    [
        ((), None),
        ((None,), None),
        ((None, codes.LUNG_RADS_1), codes.LUNG_RADS_1),
        ((codes.LUNG_RADS_3, codes.LUNG_RADS_4A, codes.LUNG_RADS_2), codes.LUNG_RADS_4A),
        ((codes.LUNG_RADS_4X, codes.LUNG_RADS_4B), codes.LUNG_RADS_4X),
        ((codes.LUNG_RADS_4A, codes.LUNG_RADS_4B), codes.LUNG_RADS_4B),
        ((codes.LUNG_RADS_0, codes.LUNG_RADS_2), codes.LUNG_RADS_0),
        ((codes.LUNG_RADS_0, codes.LUNG_RADS_3), codes.LUNG_RADS_3),
    ],
)
def test_a_study_has_the_highest_suggestion_of_its_findings(
    categories: tuple[Code | None, ...], study: Code | None
) -> None:
    outcome = Outcome("finding", 0.9, tuple(nodule(category=category) for category in categories))
    assert outcome.lung_rads == study


@pytest.mark.parametrize(
    ("categories", "study"),
    [
        ((), None),
        ((None,), None),
        ((codes.BI_RADS_2, codes.BI_RADS_4B, codes.BI_RADS_3), codes.BI_RADS_4B),
        ((codes.BI_RADS_0, codes.BI_RADS_3), codes.BI_RADS_0),
        ((codes.BI_RADS_0, codes.BI_RADS_4A), codes.BI_RADS_4A),
    ],
)
def test_a_mammography_study_has_the_highest_suggestion_of_its_findings(
    categories: tuple[Code | None, ...], study: Code | None
) -> None:
    groups = (replace(nodule(category=None), attributes={codes.BI_RADS: one} if one else {}) for one in categories)
    outcome = Outcome("finding", 0.9, tuple(groups))
    assert (outcome.bi_rads, outcome.lung_rads) == (study, None)


@pytest.mark.parametrize(("scale", "order"), [("LUNG_RADS_", codes.LUNG_RADS_ORDER), ("BI_RADS_", codes.BI_RADS_ORDER)])
def test_every_category_has_its_place_in_the_order(scale: str, order: tuple[Code, ...]) -> None:
    named = {code for name, code in vars(codes).items() if name.startswith(scale) and isinstance(code, Code)}
    assert set(order) == named
    assert len(order) == len(named)


def test_the_date_of_the_earlier_study_is_told() -> None:
    assert Outcome("clean", 0.1, compared_with=date(2025, 3, 1)).as_json()["compared_with"] == "2025-03-01"
    assert Outcome("clean", 0.1).as_json()["compared_with"] is None

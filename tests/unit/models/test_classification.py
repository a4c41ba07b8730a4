from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.evaluation.classification import Proportion, roc_auc, roc_auc_interval, sensitivity, specificity

cases = st.lists(st.tuples(st.integers(0, 8), st.booleans()), min_size=1, max_size=40)


def _slow_auc(scores: list[int], positive: list[bool]) -> float | None:
    """Every pair of a positive and a negative case, counted."""
    pairs = [(p, n) for p, is_p in zip(scores, positive, strict=True) if is_p
             for n, is_n in zip(scores, positive, strict=True) if not is_n]  # fmt: skip
    return sum((p > n) + 0.5 * (p == n) for p, n in pairs) / len(pairs) if pairs else None


@given(cases)
def test_auc_is_the_share_of_pairs_in_order(drawn: list[tuple[int, bool]]) -> None:
    scores, positive = [score for score, _ in drawn], [truth for _, truth in drawn]
    slow = _slow_auc(scores, positive)
    fast = roc_auc(scores, positive)
    assert (fast is None) == (slow is None)
    if fast is not None:
        assert fast == pytest.approx(slow)


def test_the_interval_holds_the_area_and_narrows_with_more_cases() -> None:
    generator = np.random.default_rng(1)
    widths = []
    for count in (40, 400):
        positive = np.arange(count) % 2 == 0
        scores = generator.normal(positive * 1.5, 1)
        interval = roc_auc_interval(scores, positive)
        area = roc_auc(scores, positive)
        assert interval is not None
        assert area is not None
        assert interval[0] < area < interval[1]
        widths.append(interval[1] - interval[0])
    assert widths[1] < widths[0] / 2


def test_the_interval_repeats() -> None:
    assert roc_auc_interval([1, 2, 3, 4], [0, 1, 0, 1]) == roc_auc_interval([1, 2, 3, 4], [0, 1, 0, 1])


def test_without_both_classes_there_is_no_area() -> None:
    assert roc_auc([0.1, 0.2], [True, True]) is None
    assert roc_auc_interval([0.1, 0.2], [False, False]) is None


def test_scores_that_are_no_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="not a number"):
        roc_auc([0.1, float("nan")], [True, False])


@pytest.mark.parametrize(
    ("count", "total", "low", "high"),
    # Newcombe 1998, Statistics in Medicine 17:857, table I, method 3
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_intervals_are_those_of_the_literature(count: int, total: int, low: float, high: float) -> None:
    assert Proportion(count, total).interval == pytest.approx((low, high), abs=1e-4)


def test_proportions_of_nothing_have_no_value() -> None:
    assert Proportion(0, 0).value is None
    assert Proportion(0, 0).interval is None


def test_sensitivity_and_specificity() -> None:
    called, positive = [True, False, True, False, False], [True, True, False, False, False]
    assert sensitivity(called, positive) == Proportion(1, 2)
    assert specificity(called, positive) == Proportion(2, 3)


def test_interval_over_groups_is_wider_where_their_cases_are_alike() -> None:
    generator = np.random.default_rng(0)
    truth = np.repeat(np.arange(20) % 2 == 0, 10)
    scores = np.repeat(generator.normal(0, 1, 20), 10) + truth
    alone = roc_auc_interval(scores, truth, draws=300)
    together = roc_auc_interval(scores, truth, together=np.repeat(np.arange(20), 10), draws=300)
    assert alone is not None
    assert together is not None
    area = roc_auc(scores, truth)
    assert together[0] <= area <= together[1]
    assert together[1] - together[0] > 1.5 * (alone[1] - alone[0])
    assert roc_auc_interval(scores, truth, together=np.repeat(np.arange(20), 10), draws=300) == together

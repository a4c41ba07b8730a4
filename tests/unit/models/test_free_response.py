"""The curve of marks against targets, and its draws by groups of cases."""

from __future__ import annotations

import numpy as np
import pytest

from models.evaluation.free_response import Case, curve_of, drawn, entries_of, interval_of, pair

GRID = np.array([0.5, 1.0, 2.0])


def case(targets: int, hits: list[float], false: list[float]) -> Case:
    return Case(targets, np.array(hits, np.float64), np.array(false, np.float64))


CASES = [case(2, [0.9], [0.8]), case(1, [0.7], []), case(0, [], [0.8, 0.1]), case(0, [], [])]


def test_marks_of_one_score_come_in_together() -> None:
    entries = entries_of(CASES)
    false_marks, found = curve_of(entries, np.ones(4))
    assert entries.thresholds.tolist() == [np.inf, 0.9, 0.8, 0.7, 0.1]
    assert false_marks.tolist() == [0, 0, 0.5, 0.5, 0.75]
    assert found == pytest.approx([0, 1 / 3, 1 / 3, 2 / 3, 2 / 3])


def test_false_marks_may_count_on_some_cases_alone() -> None:
    false_marks, found = curve_of(entries_of(CASES), np.ones(4), np.array([False, False, True, True]))
    assert false_marks.tolist() == [0, 0, 0.5, 0.5, 1.0]
    assert found[-1] == pytest.approx(2 / 3)


def test_cases_that_belong_together_are_drawn_together() -> None:
    """Two groups: one finds everything, one nothing; drawn whole, the sensitivity is 0, 1/2 or 1."""
    cases = [case(1, [0.9], []), case(1, [0.9], []), case(1, [], []), case(1, [], [])]
    together = drawn(entries_of(cases), GRID, 200, np.random.default_rng(0), together=np.array([0, 0, 1, 1], np.intp))
    assert set(np.unique(together)) == {0.0, 0.5, 1.0}
    alone = drawn(entries_of(cases), GRID, 200, np.random.default_rng(0))
    assert {0.25, 0.75} <= set(np.unique(alone))
    assert pair(interval_of(together)[:, 0]) == (0.0, 1.0)


def test_draws_without_a_target_or_a_counted_case_are_left_out() -> None:
    cases = [case(1, [0.9], []), case(0, [], [0.5])]
    counted = np.array([False, True])
    curves = drawn(entries_of(cases), GRID, 100, np.random.default_rng(0), counted=counted)
    assert 0 < len(curves) < 100
    assert np.all(curves == 1.0)

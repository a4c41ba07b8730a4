from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from db.schema import ALERT_STATES, RESULT_STATUSES
from dicom_node.alert import policy
from dicom_node.alert.policy import DoNot, EarlierAlert, Facts, Raise, Rule
from dicom_node.settings import AlertRule

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
RULE = Rule(pipelines=(), statuses=("finding", "unsure", "not_read"), minimum_score=0.5)


def facts(
    status: str = "finding",
    score: float | None = 0.9,
    *,
    pipeline: str = "hemorrhage",
    is_superseded: bool = False,
    earlier: tuple[tuple[str, ...], ...] = (),
    lung_rads: str | None = None,
) -> Facts:
    return Facts(pipeline, status, score, is_superseded, tuple(EarlierAlert(*one) for one in earlier), lung_rads)


def nodules(*categories: str | None) -> dict[str, object]:
    """The JSON of a result with nodules of these suggestions."""
    answers = [{} if one is None else {"Lung-RADS assessment": f"Lung-RADS {one}"} for one in categories]
    return {"findings": [{"label": "Nodule", "attributes": answer} for answer in answers]}


@pytest.mark.parametrize(
    ("case", "rule"),
    [
        (facts(), RULE),
        (facts(score=0.5), RULE),
        (facts("not_read", None), RULE),
        (facts("unsure", 0.6), RULE),
        (facts(), Rule(("hemorrhage",), ("finding",), 0.0)),
        (facts(earlier=(("delivered", "unsure"),)), RULE),
        (facts("unsure", earlier=(("raised", "not_read"),)), RULE),
        (facts(earlier=(("given_up", "finding"),)), RULE),
        (facts(earlier=(("withdrawn", "finding"),)), RULE),
        (facts(pipeline="nodule", lung_rads="4B"), RULE),
        (facts(pipeline="nodule", lung_rads="4X"), RULE),
        (facts(pipeline="nodule", lung_rads="4A"), replace(RULE, lung_rads_from="4A")),
        (facts(pipeline="nodule", lung_rads="1"), replace(RULE, lung_rads_from="1")),
        (facts(pipeline="nodule", lung_rads=None), RULE),
        (facts(pipeline="nodule", lung_rads="4X", earlier=(("delivered", "finding", "4B"),)), RULE),
        (facts(pipeline="nodule", lung_rads="4B", earlier=(("given_up", "finding", "4X"),)), RULE),
    ],
)
def test_somebody_is_told(case: Facts, rule: Rule) -> None:
    assert policy.decide(case, rule) == Raise()


@pytest.mark.parametrize(
    ("case", "rule", "code", "is_for_rule"),
    [
        (facts("clean"), RULE, "alert.not_in_rule", False),
        (facts("unsure"), Rule((), ("finding",), 0.0), "alert.not_in_rule", False),
        (facts(pipeline="nodule"), Rule(("hemorrhage",), ("finding",), 0.0), "alert.not_in_rule", False),
        (facts(score=0.49), RULE, "alert.below_score", True),
        (facts(lung_rads="4A"), RULE, "alert.below_category", True),
        (facts(lung_rads="0"), RULE, "alert.below_category", True),
        (facts("unsure", 0.6, lung_rads="3"), RULE, "alert.below_category", True),
        (facts(lung_rads="4B"), replace(RULE, lung_rads_from="4X"), "alert.below_category", True),
        (facts(lung_rads="4B", earlier=(("delivered", "finding", "4B"),)), RULE, "alert.already_raised", True),
        (facts(lung_rads="4B", earlier=(("delivered", "finding", "4X"),)), RULE, "alert.already_raised", True),
        (facts(is_superseded=True), RULE, "alert.superseded", True),
        (facts(earlier=(("delivered", "finding"),)), RULE, "alert.already_raised", True),
        (facts(earlier=(("acknowledged", "finding"),)), RULE, "alert.already_raised", True),
        (facts("unsure", earlier=(("closed", "finding"),)), RULE, "alert.already_raised", True),
        (facts("not_read", None, earlier=(("raised", "not_read"),)), RULE, "alert.already_raised", True),
    ],
)
def test_nobody_is_told_for_a_reason(case: Facts, rule: Rule, code: str, is_for_rule: bool) -> None:
    decision = policy.decide(case, rule)
    assert isinstance(decision, DoNot)
    assert (decision.reason.code, decision.is_for_rule) == (code, is_for_rule)


@given(st.lists(st.sampled_from(("finding", "unsure", "not_read", "clean")), max_size=12))
def test_reruns_raise_at_most_one_alert_for_each_step_of_urgency(statuses: list[str]) -> None:
    raised: list[EarlierAlert] = []
    for status in statuses:
        if isinstance(policy.decide(Facts("hemorrhage", status, 0.9, False, tuple(raised)), RULE), Raise):
            raised.append(EarlierAlert("delivered", status))
    urgencies = [policy.URGENCY[one.status] for one in raised]
    assert urgencies == sorted(set(urgencies))
    assert max(urgencies, default=0) == max((policy.URGENCY.get(status, 0) for status in statuses), default=0)


@pytest.mark.parametrize(
    ("outcome", "category"),
    [
        ({}, None),
        (nodules(), None),
        (nodules(None), None),
        ({"findings": [{"label": "Hemorrhage"}]}, None),
        (nodules("2", None, "4A", "3"), "4A"),
        (nodules("4B", "4X"), "4X"),
        (nodules("2", "0"), "0"),
    ],
)
def test_the_category_of_a_result_is_the_highest_of_its_findings(
    outcome: dict[str, object], category: str | None
) -> None:
    assert policy.lung_rads_of(outcome) == category


def test_a_rule_can_name_every_category_and_no_other() -> None:
    assert get_args(AlertRule.model_fields["lung_rads_from"].annotation) == policy.LUNG_RADS_CATEGORIES
    assert AlertRule.model_fields["lung_rads_from"].default == Rule((), (), 0.0).lung_rads_from


def test_the_words_are_those_of_the_ledger() -> None:
    assert set(get_args(policy.State)) == set(ALERT_STATES)
    assert set(policy.URGENCY) == set(RESULT_STATUSES) - {"clean"}


def test_an_alert_that_was_given_up_is_not_delivered_later() -> None:
    with pytest.raises(ValueError, match="given_up"):
        policy.follow("given_up", "taken")

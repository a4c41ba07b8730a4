from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from db.schema import REVISION_STATES
from dicom_node.assemble.policy import TRANSITIONS, Complete, RevisionFacts, Wait, decide

START = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
QUIET_S, HARD_S = 20.0, 600.0


def after(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def facts(last_s: float, ended_by: str | None, *, whole: bool, one_by_one: bool = False) -> RevisionFacts:
    return RevisionFacts(START, after(last_s), ended_by, whole, one_by_one)


@pytest.mark.parametrize(
    ("known", "now_s", "expected"),
    [
        # The sender ended in order and nothing is missing: at once.
        (facts(3, "released", whole=True), 3.1, Complete("association_end")),
        # It ended in order, but slices are missing: they may come by another association.
        (facts(3, "released", whole=False), 3.1, Wait(after(23))),
        (facts(3, "released", whole=False), 23, Complete("quiet_time")),
        # It was cut off: what is there looks whole, but its end may be missing.
        (facts(3, "aborted", whole=True), 3.1, Wait(after(23))),
        (facts(3, "lost", whole=True), 22.9, Wait(after(23))),
        (facts(3, "lost", whole=True), 23, Complete("quiet_time")),
        # It opens an association for each image: the first two slices look whole too.
        (facts(3, "released", whole=True, one_by_one=True), 3.1, Wait(after(23))),
        # It keeps its association open.
        (facts(3, None, whole=True), 22.9, Wait(after(23))),
        (facts(3, None, whole=True), 23, Complete("quiet_time")),
        # It never falls silent.
        (facts(599, None, whole=False), 599.5, Wait(after(600))),
        (facts(599, None, whole=False), 600, Complete("hard_limit")),
    ],
)
def test_decision(known: RevisionFacts, now_s: float, expected: Complete | Wait) -> None:
    assert decide(known, now=after(now_s), quiet_time_s=QUIET_S, hard_limit_s=HARD_S) == expected


@given(
    last_s=st.floats(0, 600),
    since_s=st.floats(0, 1200),
    ended_by=st.sampled_from([None, "released", "aborted", "lost"]),
    whole=st.booleans(),
    one_by_one=st.booleans(),
)
def test_waiting_always_ends(
    last_s: float, since_s: float, ended_by: str | None, whole: bool, one_by_one: bool
) -> None:
    known, now = facts(last_s, ended_by, whole=whole, one_by_one=one_by_one), after(last_s + since_s)
    decision = decide(known, now=now, quiet_time_s=QUIET_S, hard_limit_s=HARD_S)
    if isinstance(decision, Wait):
        assert now < decision.until <= after(HARD_S)
        later = decide(known, now=decision.until, quiet_time_s=QUIET_S, hard_limit_s=HARD_S)
        assert isinstance(later, Complete)


def test_every_state_can_be_reached_and_none_is_unknown() -> None:
    states = {state for state, _ in TRANSITIONS} | set(TRANSITIONS.values())
    assert states == set(REVISION_STATES)
    assert set(REVISION_STATES) - set(TRANSITIONS.values()) == {"receiving"}

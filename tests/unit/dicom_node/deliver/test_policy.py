from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from db.schema import DELIVERY_STATES
from dicom_node.backoff import Patience
from dicom_node.deliver import policy
from dicom_node.deliver.policy import TRANSITIONS, GiveUp, TransitionError, TryAgain

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
PATIENCE = Patience(retry_s=5, retry_limit_s=600, give_up_after_h=72)


@pytest.mark.parametrize(
    ("status", "verdict"),
    [
        (0x0000, "accepted"),
        (0xB000, "accepted"),
        (0xB006, "accepted"),
        (0xB007, "accepted"),
        (0xA700, "busy"),
        (0xA7FF, "busy"),
        (0x0213, "busy"),
        (0xA900, "refused"),
        (0xC000, "refused"),
        (0xCFFF, "refused"),
        (0x0110, "refused"),
        (0x0111, "refused"),
        (0x0117, "refused"),
        (0x0122, "refused"),
        (0x0124, "refused"),
        (0xA800, "refused"),
    ],
)
def test_each_status_has_its_verdict(status: int, verdict: str) -> None:
    assert policy.judge(status) == verdict


@given(st.integers(0, 0xFFFF))
def test_only_success_and_warnings_count_as_accepted(status: int) -> None:
    assert (policy.judge(status) == "accepted") == (status == 0 or f"{status:04X}".startswith("B"))


def test_the_table_uses_exactly_the_states_of_the_ledger() -> None:
    assert {state for (state, _), to in TRANSITIONS.items() for state in (state, to)} == set(DELIVERY_STATES)
    assert set(get_args(policy.State)) == set(DELIVERY_STATES)


def test_a_confirmed_delivery_stays_confirmed() -> None:
    for event in get_args(policy.Event):
        with pytest.raises(TransitionError):
            policy.follow("confirmed", event)


def test_nothing_is_confirmed_that_was_not_handed_over() -> None:
    assert {before for (before, _), after in TRANSITIONS.items() if after in ("stored", "confirmed")} == {
        "sent",
        "stored",
    }


@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.88.59"),
        ("1.2.840.10008.5.1.4.1.1.7", "1.2.840.10008.5.1.4.1.1.11.1"),
        ("1.2.840.10008.5.1.4.1.1.88.59", "1.2.840.10008.5.1.4.1.1.88.34"),
        ("1.2.840.10008.5.1.4.1.1.11.1", "1.2.840.10008.5.1.4.1.1.88.33"),
    ],
)
def test_what_is_referred_to_goes_before_what_refers(earlier: str, later: str) -> None:
    assert policy.sending_rank(earlier) < policy.sending_rank(later)


def after(attempts: int, hours: float, *, accepted: bool = False) -> TryAgain | GiveUp:
    return policy.after_failure(
        destination="pacs",
        accepted=accepted,
        attempts=attempts,
        created_at=NOON,
        now=NOON + timedelta(hours=hours),
        patience=PATIENCE,
    )


@pytest.mark.parametrize(("attempts", "wait_s"), [(1, 5), (2, 10), (3, 20), (7, 320), (8, 600), (5000, 600)])
def test_the_wait_doubles_up_to_its_limit(attempts: int, wait_s: float) -> None:
    assert after(attempts, 0) == TryAgain(NOON + timedelta(seconds=wait_s))


def test_the_last_attempt_falls_on_the_deadline() -> None:
    assert after(100, 71.99) == TryAgain(NOON + timedelta(hours=72))
    given_up = after(101, 72)
    assert isinstance(given_up, GiveUp)
    assert given_up.reason.code == "deliver.given_up"
    assert "72" in given_up.reason.text


def test_what_was_accepted_but_never_shown_is_told_apart() -> None:
    given_up = after(9, 80, accepted=True)
    assert isinstance(given_up, GiveUp)
    assert given_up.reason.code == "deliver.not_confirmed"

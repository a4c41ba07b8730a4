from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from dicom_node.backoff import Patience

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(("attempts", "wait_s"), [(1, 5), (2, 10), (6, 160), (7, 300), (900, 300)])
def test_the_wait_doubles_up_to_its_limit_and_ends_at_the_deadline(attempts: int, wait_s: float) -> None:
    patience = Patience(retry_s=5, retry_limit_s=300, give_up_after_h=12)
    assert patience.next_attempt(attempts=attempts, since=NOON, now=NOON) == NOON + timedelta(seconds=wait_s)
    late = NOON + timedelta(hours=12)
    almost = late - timedelta(seconds=1)
    assert patience.next_attempt(attempts=attempts, since=NOON, now=almost) == late
    assert patience.next_attempt(attempts=attempts, since=NOON, now=late) is None

"""How long and how often something that failed is tried again."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta


@dataclass(frozen=True, slots=True)
class Patience:
    """The wait before the second attempt, the longest wait, and when to give up."""

    retry_s: float
    retry_limit_s: float
    give_up_after_h: float

    def wait_after(self, attempts: int) -> timedelta:
        """The wait after `attempts` failures (from 1): it doubles with each, up to the limit."""
        doublings = min(attempts - 1, 32)  # beyond it every limit is reached, and the power would grow without bound
        return timedelta(seconds=min(self.retry_limit_s, self.retry_s * 2**doublings))

    def next_attempt(self, *, attempts: int, since: datetime, now: datetime) -> datetime | None:
        """When to try again after the `attempts`-th failure of what waits `since` then; None when time is over.

        The last attempt falls on the deadline itself.
        """
        deadline = since + timedelta(hours=self.give_up_after_h)
        return None if now >= deadline else min(deadline, now + self.wait_after(attempts))

"""How long to wait before something that failed is tried again."""

from __future__ import annotations

from datetime import timedelta


def wait_after(attempts: int, first_s: float, limit_s: float) -> timedelta:
    """The wait after `attempts` failures (from 1): doubles with each, from `first_s` up to `limit_s`."""
    doublings = min(attempts - 1, 32)  # beyond it every limit is reached, and the power would grow without bound
    return timedelta(seconds=min(limit_s, first_s * 2**doublings))

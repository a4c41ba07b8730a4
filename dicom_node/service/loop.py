"""One loop drives every stage: claim, carry out, record, back off. A stage finds its work in the ledger by query."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import datetime
from typing import Protocol, TypeVar

import structlog

import dicom_node.reasons  # noqa: F401  (enters the service's rows)
from db.connect import LedgerError, LedgerRuleError
from dicom_node.clock import Clock
from pipelines.reasons import Reason, TriageError

POLL_S = 2.0
"""How long a lost wake-up can cost."""

SHORTEST_WAIT_S = 0.01
"""Before work is looked for again that was due and could not be claimed."""

LEDGER_BACKOFF_S = 1.0

Work = TypeVar("Work")

log = structlog.get_logger()


class Stage(Protocol[Work]):
    """One stage of the service. Its `policy` decides, its methods act; what is done is recorded in one transaction."""

    @property
    def name(self) -> str: ...

    def claim(self, now: datetime) -> Work | None:
        """The next piece of work that is due, or None."""
        ...

    def carry_out(self, work: Work, now: datetime) -> None:
        """Decide on it, act, and record what came of it."""
        ...

    def put_off(self, work: Work, reason: Reason, now: datetime) -> None:
        """Record that it could not be carried out, so that `claim` does not give it again at once."""
        ...

    def next_due(self, now: datetime) -> datetime | None:
        """When work that only waits for time will be due; None when there is none."""
        ...


def drive(
    stage: Stage[Work], wake: threading.Event, stop: threading.Event, clock: Clock, worked: Callable[[], None]
) -> None:
    """Run `stage` until `stop` is set.

    `wake` says that there may be work (set it too after setting `stop`); `worked` is called after each piece that was
    carried out, so that the stages after this one look at the ledger.
    """
    while not stop.is_set():
        wake.clear()
        try:
            while not stop.is_set() and (work := stage.claim(clock())) is not None:
                _carry_out(stage, work, clock)
                worked()
            due = stage.next_due(clock())
        except LedgerError as error:
            log.error("ledger.unavailable", stage=stage.name, error=str(error))
            stop.wait(LEDGER_BACKOFF_S)
            continue
        if stop.is_set():  # set before `wake` was cleared, it would cost a poll
            return
        wait = POLL_S if due is None else min(POLL_S, max(SHORTEST_WAIT_S, (due - clock()).total_seconds()))
        wake.wait(wait)


def _carry_out(stage: Stage[Work], work: Work, clock: Clock) -> None:
    try:
        stage.carry_out(work, clock())
    except Exception as error:  # the one place that may: whatever fails ends as a stated reason
        if isinstance(error, LedgerError) and not isinstance(error, LedgerRuleError):
            raise
        log.exception("stage.failed", stage=stage.name)
        facts = {"stage": stage.name, "error": type(error).__name__}
        reason = error.reason if isinstance(error, TriageError) else Reason("service.unexpected", facts)
        stage.put_off(work, reason, clock())

"""The loop that drives every stage; `wake` is a recorder, so that nothing here waits for a clock."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import pytest
import structlog

from db.connect import LedgerError, LedgerRuleError
from dicom_node.service import loop
from dicom_node.service.loop import POLL_S, SHORTEST_WAIT_S, drive
from pipelines.reasons import Reason, refuse
from tests.conftest import MovableClock


@dataclass
class Wake(threading.Event):
    """Notes how long the loop would wait, then does what the test says comes next."""

    stop: threading.Event
    then: list[Callable[[], None]]
    waits: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def __hash__(self) -> int:
        return id(self)

    def wait(self, timeout: float | None = None) -> bool:
        assert timeout is not None
        self.waits.append(timeout)
        if self.then:
            self.then.pop(0)()
        else:
            self.stop.set()
        return True


class Stop(threading.Event):
    """Notes the waits of the loop when the ledger is gone; ends no time."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[float | None] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.waits.append(timeout)
        return self.is_set()


@dataclass
class Work:
    """A stage whose work is words; `fails` says what happens at which."""

    name: str = "words"
    waiting: list[str] = field(default_factory=list)
    done: list[str] = field(default_factory=list)
    put: list[tuple[str, Reason]] = field(default_factory=list)
    fails: dict[str, Exception] = field(default_factory=dict)
    claims_fail: list[Exception] = field(default_factory=list)
    due: datetime | None = None

    def claim(self, now: datetime) -> str | None:
        if self.claims_fail:
            raise self.claims_fail.pop(0)
        return self.waiting.pop(0) if self.waiting else None

    def carry_out(self, work: str, now: datetime) -> None:
        if work in self.fails:
            raise self.fails[work]
        self.done.append(work)

    def put_off(self, work: str, reason: Reason, now: datetime) -> None:
        self.put.append((work, reason))

    def next_due(self, now: datetime) -> datetime | None:
        return self.due


@dataclass
class Bench:
    clock: MovableClock
    stage: Work = field(default_factory=Work)
    stop: Stop = field(default_factory=Stop)
    then: list[Callable[[], None]] = field(default_factory=list)
    worked: int = 0

    def run(self) -> list[float]:
        wake = Wake(self.stop, self.then)
        drive(self.stage, wake, self.stop, self.clock, self._work)
        return wake.waits

    def _work(self) -> None:
        self.worked += 1


@pytest.fixture
def bench(clock: MovableClock) -> Bench:
    return Bench(clock)


def test_all_that_waits_is_done_before_it_waits(bench: Bench) -> None:
    bench.stage.waiting = ["a", "b", "c"]
    assert bench.run() == [POLL_S]
    assert bench.stage.done == ["a", "b", "c"]
    assert bench.worked == 3


def test_a_wake_up_makes_it_look_again(bench: Bench) -> None:
    bench.then = [lambda: bench.stage.waiting.append("late"), lambda: None]
    assert len(bench.run()) == 3
    assert bench.stage.done == ["late"]


@pytest.mark.parametrize(("due_in", "wait"), [(0.5, 0.5), (60, POLL_S), (-3, SHORTEST_WAIT_S), (None, POLL_S)])
def test_it_waits_until_the_next_is_due_or_polls(bench: Bench, due_in: float | None, wait: float) -> None:
    bench.stage.due = None if due_in is None else bench.clock() + timedelta(seconds=due_in)
    assert bench.run() == [pytest.approx(wait)]


def test_a_wake_up_while_it_works_is_not_lost(bench: Bench) -> None:
    """The event is cleared before the ledger is asked, not after."""
    stop, seen = threading.Event(), []

    class Once(Work):
        def claim(self, now: datetime) -> str | None:
            seen.append(wake.is_set())
            if len(seen) == 1:
                wake.set()  # comes just after the look that finds nothing
            else:
                stop.set()
            return None

    wake = threading.Event()
    drive(Once(), wake, stop, bench.clock, lambda: None)
    assert seen == [False, False]


def test_what_fails_is_put_off_with_a_reason_and_the_others_go_on(bench: Bench) -> None:
    bench.stage.waiting = ["bad", "refused", "good"]
    bench.stage.fails = {"bad": RuntimeError("Doe^Jane"), "refused": refuse("input.truncated")}
    with structlog.testing.capture_logs() as logs:
        bench.run()
    assert bench.stage.done == ["good"]
    [(first, unexpected), (second, refusal)] = bench.stage.put
    assert (first, second) == ("bad", "refused")
    assert (unexpected.code, dict(unexpected.facts)) == (
        "service.unexpected",
        {"stage": "words", "error": "RuntimeError"},
    )
    assert refusal.code == "input.truncated"
    assert "Doe" not in json.dumps(unexpected.as_json())
    assert [line["event"] for line in logs] == ["stage.failed", "stage.failed"]
    assert bench.worked == 3, "those that follow may have been concerned"


def test_a_ledger_that_is_gone_is_waited_for(bench: Bench) -> None:
    bench.stage.claims_fail = [LedgerError("database is locked"), LedgerError("database is locked")]
    bench.stage.waiting = ["a"]
    with structlog.testing.capture_logs() as logs:
        assert bench.run() == [POLL_S]
    assert bench.stop.waits == [loop.LEDGER_BACKOFF_S] * 2
    assert bench.stage.done == ["a"]
    assert [line["event"] for line in logs] == ["ledger.unavailable"] * 2


def test_work_that_the_ledger_did_not_take_is_not_put_off(bench: Bench) -> None:
    bench.stage.waiting = ["a", "b"]
    bench.stage.fails = {"a": LedgerError("disk I/O error")}
    bench.run()
    assert bench.stage.put == []
    assert bench.stage.done == ["b"]


def test_work_that_breaks_a_rule_of_the_ledger_holds_up_nothing(bench: Bench) -> None:
    bench.stage.waiting = ["a", "b"]
    bench.stage.fails = {"a": LedgerRuleError("UNIQUE constraint failed")}
    bench.run()
    assert [(work, reason.code) for work, reason in bench.stage.put] == [("a", "service.unexpected")]
    assert bench.stage.done == ["b"]


def test_it_stops_between_two_pieces_of_work(bench: Bench) -> None:
    bench.stage.waiting = ["a", "b"]

    class Stopping(Work):
        def carry_out(self, work: str, now: datetime) -> None:
            super().carry_out(work, now)
            bench.stop.set()

    bench.stage = Stopping(waiting=["a", "b"])
    bench.run()
    assert bench.stage.done == ["a"]

from __future__ import annotations

import errno
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from db import audit, deliveries, jobs, results
from db.connect import Ledger
from db.jobs import Job
from db.results import Result
from db.revisions import members
from db.schema import models, revisions
from dicom_node.dispatch.engine import EngineError, EngineUnavailableError, TimeLimitError, WorkerDiedError
from dicom_node.dispatch.run import ReadAnswer, ReadRequest, read_series
from dicom_node.dispatch.stage import DispatchStage
from dicom_node.settings import Settings, parse
from dicom_node.spool import Spool, sha256_of
from pipelines.reasons import Reason
from tests.conftest import MovableClock
from tests.unit.db.queued import enqueue, receive
from tests.unit.dicom_node.made import Sender, settle

TOML = """
[pipelines.dummy]
time_limit_s = 7
[destinations.pacs]
ae_title = "PACS"
host = "localhost"
port = 11113
[destinations.archive]
ae_title = "ARCHIVE"
host = "localhost"
port = 11114
accepts = ["no such kind"]
"""
Event = EngineError | Callable[[], None]


@dataclass
class HereAndNow:
    """An engine that reads in this thread. `events` come before the answer: an error, or something that happens."""

    events: list[Event] = field(default_factory=list)
    requests: list[ReadRequest] = field(default_factory=list)
    limits: list[float] = field(default_factory=list)
    ready: bool = True
    released: int = 0

    def is_ready(self) -> bool:
        return self.ready

    def submit(self, request: ReadRequest, *, key: str, time_limit_s: float) -> HereAndNow:
        self.requests.append(request)
        self.limits.append(time_limit_s)
        return self

    def wait(self, timeout_s: float) -> ReadAnswer | None:
        if not self.events:
            return read_series(self.requests[-1])
        event = self.events.pop(0)
        if isinstance(event, EngineError):
            raise event
        event()
        return None

    def release(self) -> None:
        self.released += 1


@dataclass
class Bench:
    ledger: Ledger
    spool: Spool
    clock: MovableClock
    settings: Settings = field(default_factory=lambda: parse(TOML))
    engine: HereAndNow = field(default_factory=HereAndNow)
    woken: int = 0

    def __post_init__(self) -> None:
        self.sender = Sender(self.ledger, self.spool)
        self.stage = DispatchStage(
            ledger=self.ledger,
            settings=self.settings,
            spool=self.spool,
            engine=self.engine,
            clock=self.clock,
            notify=self._wake,
        )

    def _wake(self) -> None:
        self.woken += 1

    def enqueue(self, series: int = 1, **how: Any) -> int:
        return enqueue(self.ledger, self.sender, series, self.clock(), **how)

    def settle(self) -> int:
        return settle(self.stage, self.clock())

    def job(self, job_id: int) -> Job:
        with self.ledger.read() as connection:
            found = jobs.find(connection, job_id)
        assert found is not None
        return found

    def files(self, job_id: int) -> list[Path]:
        job = self.job(job_id)
        with self.ledger.read() as connection:
            held = members(connection, job.series_instance_uid, job.revision_number)
        return [self.spool.path(one.file) for one in held]

    def result(self, job_id: int) -> Result | None:
        with self.ledger.read() as connection:
            return results.of_job(connection, job_id)

    def state_and_reason(self, job_id: int) -> tuple[str, str | None]:
        job = self.job(job_id)
        return job.state, None if job.reason is None else job.reason["code"]

    def revision_state(self, job_id: int) -> str:
        query = select(revisions.c.state).where(revisions.c.revision_id == self.job(job_id).revision_id)
        with self.ledger.read() as connection:
            return str(connection.execute(query).scalar_one())

    def events(self) -> list[tuple[str, dict[str, Any]]]:
        with self.ledger.read() as connection:
            return [(row.event, json.loads(row.facts)) for row in audit.rows(connection, event="reading.")]


@pytest.fixture
def bench(ledger: Ledger, spool: Spool, clock: MovableClock) -> Bench:
    return Bench(ledger, spool, clock)


def test_answer_is_recorded_whole(bench: Bench) -> None:
    job_id = bench.enqueue()
    assert bench.settle() == 1
    result = bench.result(job_id)
    assert result is not None
    assert (result.status, result.score, result.fencing_token) == ("clean", 0.1, 1)
    assert (bench.state_and_reason(job_id), bench.revision_state(job_id)) == (("done", None), "read")
    with bench.ledger.read() as connection:
        held = results.objects_of(connection, result.result_id)
        sent = deliveries.list_deliveries(connection)
        used = connection.execute(select(models.c.name, models.c.version)).all()
    assert held
    assert [sha256_of(bench.spool.path(one.file)) for one in held] == [one.sha256 for one in held]
    assert {(one.object_id, one.destination, one.state) for one in sent} == {
        (one.object_id, destination, "pending") for one in held for destination in ("pacs", "archive")
    }
    assert [tuple(row) for row in used] == [("dummy", "1")]
    [(event, facts)] = bench.events()
    assert (event, facts["status"]) == ("reading.done", "clean")
    assert facts["objects"] == {one.sop_instance_uid: one.sha256 for one in held}
    assert bench.woken == 1
    assert bench.engine.released == 1


def test_request_names_what_is_read_and_with_which_settings(bench: Bench) -> None:
    job_id = bench.enqueue()
    received_at = bench.clock()
    bench.clock.advance(100)
    bench.settle()
    [request] = bench.engine.requests
    assert len(request.files) == 4
    assert request.revision_digest == bench.job(job_id).reads[0].digest
    assert request.made_at == received_at
    assert request.configuration_hash == bench.settings.hash_for("dummy")
    assert bench.engine.limits == [7.0]


def test_refused_series_has_its_answer_too(bench: Bench) -> None:
    job_id = bench.enqueue()
    for file in bench.files(job_id):
        file.write_bytes(b"no image")
    bench.settle()
    result = bench.result(job_id)
    assert result is not None
    assert (result.status, result.score) == ("not_read", None)
    assert bench.state_and_reason(job_id) == ("not_read", result.outcome["reason"]["code"])
    assert bench.revision_state(job_id) == "read"
    assert [event for event, _ in bench.events()] == ["reading.not_read"]
    with bench.ledger.read() as connection:
        assert not deliveries.list_deliveries(connection)


def test_poison_ends_after_two_dead_workers(bench: Bench) -> None:
    job_id = bench.enqueue()
    bench.engine.events = [WorkerDiedError(), WorkerDiedError()]
    assert bench.settle() == 2
    assert bench.state_and_reason(job_id) == ("not_read", "engine.worker_died_twice")
    result = bench.result(job_id)
    assert result is not None
    assert result.status == "not_read"


def test_one_dead_worker_costs_only_time(bench: Bench) -> None:
    job_id = bench.enqueue()
    bench.engine.events = [WorkerDiedError()]
    assert bench.settle() == 2
    assert bench.state_and_reason(job_id) == ("done", None)
    assert (bench.job(job_id).attempts, bench.job(job_id).worker_deaths) == (2, 1)


def test_lost_engine_is_no_fault_of_the_series(bench: Bench) -> None:
    job_id = bench.enqueue()
    for attempt in range(1, 6):
        bench.engine.events = [EngineUnavailableError()]
        assert bench.settle() == 1
        assert bench.state_and_reason(job_id) == ("waiting", "engine.interrupted")
        assert (bench.job(job_id).attempts, bench.job(job_id).worker_deaths) == (attempt, 0)
        assert bench.stage.next_due(bench.clock()) == bench.clock() + timedelta(seconds=bench.settings.work.retry_s)
        bench.clock.advance(bench.settings.work.retry_s)
    bench.settle()
    assert bench.state_and_reason(job_id) == ("done", None)


def test_nothing_is_claimed_while_there_is_no_engine(bench: Bench) -> None:
    job_id = bench.enqueue()
    bench.engine.ready = False
    assert bench.settle() == 0
    assert bench.stage.next_due(bench.clock()) is None
    assert bench.job(job_id).attempts == 0


def test_time_limit_ends_the_job(bench: Bench) -> None:
    job_id = bench.enqueue()
    bench.engine.events = [TimeLimitError()]
    assert bench.settle() == 1
    assert bench.state_and_reason(job_id) == ("not_read", "engine.time_limit")


def test_pipeline_that_is_not_installed_gives_a_reason(bench: Bench) -> None:
    job_id = bench.enqueue(pipeline="never_made")
    assert bench.settle() == 0
    assert bench.state_and_reason(job_id) == ("not_read", "pipeline.not_configured")
    result = bench.result(job_id)
    assert result is not None
    assert result.status == "not_read"
    assert bench.woken == 1


def test_job_that_was_interrupted_too_often_is_not_read(bench: Bench) -> None:
    job_id = bench.enqueue()
    for _ in range(bench.settings.work.maximum_attempts):
        assert bench.stage.claim(bench.clock()) is not None
        with bench.ledger.write() as connection:
            jobs.release_orphans(connection, now=bench.clock())
    assert bench.stage.claim(bench.clock()) is None
    assert bench.state_and_reason(job_id) == ("not_read", "engine.attempts_exhausted")


def test_superseded_revision_is_not_read(bench: Bench) -> None:
    job_id = bench.enqueue()
    receive(bench.ledger, bench.sender, 1, bench.clock(), count=6)
    assert bench.settle() == 0
    assert bench.state_and_reason(job_id) == ("cancelled", "revision.superseded")
    assert bench.result(job_id) is None
    [(event, facts)] = bench.events()
    assert (event, facts["reason"]) == ("reading.not_read", "revision.superseded")


def test_answer_for_a_revision_superseded_meanwhile_is_kept_but_not_delivered(bench: Bench) -> None:
    job_id = bench.enqueue()

    def later_slices_come() -> None:
        receive(bench.ledger, bench.sender, 1, bench.clock(), count=6)

    bench.engine.events = [later_slices_come]
    assert bench.settle() == 1
    result = bench.result(job_id)
    assert result is not None
    assert (result.status, bench.state_and_reason(job_id)[0]) == ("clean", "done")
    assert bench.revision_state(job_id) == "superseded"
    with bench.ledger.read() as connection:
        assert results.objects_of(connection, result.result_id)
        assert not deliveries.list_deliveries(connection)


def test_lease_is_renewed_while_the_engine_reads(bench: Bench) -> None:
    job_id = bench.enqueue()
    leases = []

    def ten_seconds_pass() -> None:
        bench.clock.advance(10)
        leases.append(bench.job(job_id).lease_until)

    began = bench.clock()
    bench.engine.events = [ten_seconds_pass] * 3
    bench.settle()
    assert leases == [began + timedelta(seconds=seconds) for seconds in (30, 40, 50)]
    assert bench.state_and_reason(job_id) == ("done", None)


def test_whoever_lost_the_claim_records_nothing(bench: Bench) -> None:
    job_id = bench.enqueue()
    taken: list[Job | None] = []

    def another_takes_it() -> None:
        bench.clock.advance(31)
        taken.append(bench.stage.claim(bench.clock()))

    work = bench.stage.claim(bench.clock())
    assert work is not None
    bench.engine.events = [another_takes_it]
    bench.stage.carry_out(work, bench.clock())
    assert (bench.result(job_id), bench.state_and_reason(job_id)[0]) == (None, "running")
    assert taken[0] is not None
    bench.stage.carry_out(taken[0], bench.clock())
    bench.stage.carry_out(work, bench.clock())
    assert [event for event, _ in bench.events()] == ["reading.done"]


def test_full_disk_puts_the_job_back(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    job_id = bench.enqueue()

    def full(*_: object) -> str:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(bench.spool, "write", full)
        assert bench.settle() == 1
    assert bench.state_and_reason(job_id) == ("waiting", "receive.disk_full")
    assert bench.result(job_id) is None
    bench.clock.advance(60)
    bench.settle()
    assert bench.state_and_reason(job_id) == ("done", None)


def test_reading_that_fails_is_tried_again_and_then_told(bench: Bench) -> None:
    bench = Bench(bench.ledger, bench.spool, bench.clock, raising(bench.settings))
    job_id = bench.enqueue()
    for _ in range(2):
        assert bench.settle() == 1
        assert bench.state_and_reason(job_id) == ("waiting", "pipeline.failed")
        bench.clock.advance(bench.settings.work.retry_s)
    assert bench.settle() == 1
    assert bench.state_and_reason(job_id) == ("not_read", "pipeline.failed")


def test_job_tried_anew_by_hand_gives_a_second_answer(bench: Bench) -> None:
    job_id = bench.enqueue()
    bench.engine.events = [TimeLimitError()]
    bench.settle()
    first = bench.result(job_id)
    with bench.ledger.write() as connection:
        assert jobs.retry(connection, job_id, now=bench.clock())
    assert bench.settle() == 1
    second = bench.result(job_id)
    assert first is not None
    assert second is not None
    assert (first.status, second.status) == ("not_read", "clean")
    assert second.result_id > first.result_id
    assert [event for event, _ in bench.events()] == ["reading.not_read", "reading.retry_asked", "reading.done"]


def test_unexpected_error_ends_with_its_reason(bench: Bench) -> None:
    job_id = bench.enqueue()
    work = bench.stage.claim(bench.clock())
    assert work is not None
    bench.stage.put_off(work, Reason("service.unexpected", {"stage": "dispatch", "error": "KeyError"}), bench.clock())
    assert bench.state_and_reason(job_id) == ("waiting", "service.unexpected")


def test_same_work_done_twice_gives_the_same_files(bench: Bench) -> None:
    job_id = bench.enqueue()
    bench.settle()
    result = bench.result(job_id)
    assert result is not None
    with bench.ledger.read() as connection:
        held = results.objects_of(connection, result.result_id)
    answer = read_series(bench.engine.requests[0])
    assert {one.sop_instance_uid: one.sha256 for one in held} == {
        one.sop_instance_uid: hashlib.sha256(one.content).hexdigest() for one in answer.objects
    }


def raising(settings: Settings) -> Settings:
    own = settings.pipeline("dummy").model_copy(update={"behavior": "raise"})
    return settings.model_copy(update={"pipelines": {"dummy": own}})

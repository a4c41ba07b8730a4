from __future__ import annotations

import tempfile
from dataclasses import replace
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path

import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from db import audit, jobs
from db.connect import Ledger, open_ledger
from db.jobs import Job
from dicom_node.spool import Spool
from tests.conftest import MovableClock
from tests.unit.db.queued import enqueue, receive
from tests.unit.dicom_node.made import Sender

LEASE = timedelta(seconds=30)
REASON = {"code": "pipeline.failed"}


@pytest.fixture
def sender(ledger: Ledger, spool: Spool) -> Sender:
    return Sender(ledger, spool)


def claim(ledger: Ledger, now: datetime, owner: str = "slot 0") -> Job | None:
    with ledger.write() as connection:
        return jobs.claim(connection, owner=owner, now=now, lease_until=now + LEASE)


def claimed(ledger: Ledger, now: datetime) -> Job:
    job = claim(ledger, now)
    assert job is not None
    return job


def test_most_urgent_goes_first_then_the_oldest(ledger: Ledger, sender: Sender, clock: MovableClock) -> None:
    wanted = []
    for series, priority in ((1, 2), (2, 0), (3, 2), (4, 0)):
        job_id = enqueue(ledger, sender, series, clock(), priority=priority)
        wanted.append((priority, series, job_id))
        clock.advance(1)
    taken = [claimed(ledger, clock()).job_id for _ in wanted]
    assert taken == [job_id for _, _, job_id in sorted(wanted)]
    assert claim(ledger, clock()) is None


def test_claim_counts_the_attempt_and_says_what_is_to_be_read(
    ledger: Ledger, sender: Sender, clock: MovableClock
) -> None:
    enqueue(ledger, sender, 1, clock())
    job = claimed(ledger, clock())
    assert (job.state, job.attempts, job.fencing_token) == ("running", 1, 1)
    assert (job.series_instance_uid, job.study_instance_uid, job.revision_number) == ("2.25.1.1", "2.25.1", 1)
    [read] = job.reads
    assert (read.revision_id, read.number) == (job.revision_id, 1)
    assert read.digest is not None
    with ledger.read() as connection:
        assert jobs.last_received_at(connection, job) == clock()


def test_lease_that_ran_out_lets_another_claim_and_shuts_the_first_out(
    ledger: Ledger, sender: Sender, clock: MovableClock
) -> None:
    enqueue(ledger, sender, 1, clock())
    first = claimed(ledger, clock())
    clock.advance(29)
    assert claim(ledger, clock()) is None
    clock.advance(2)
    second = claimed(ledger, clock())
    assert (second.attempts, second.fencing_token) == (2, 2)
    with ledger.write() as connection:
        assert not jobs.end(connection, first, state="done", reason=None, now=clock())
        assert not jobs.renew(connection, first, lease_until=clock() + LEASE)
        not_before = clock()
        assert not jobs.put_back(
            connection, first, state="waiting", reason=REASON, worker_deaths=0, not_before=not_before
        )
        assert jobs.end(connection, second, state="done", reason=None, now=clock())
        assert not jobs.end(connection, second, state="not_read", reason=REASON, now=clock())


def test_renewed_lease_keeps_the_claim(ledger: Ledger, sender: Sender, clock: MovableClock) -> None:
    enqueue(ledger, sender, 1, clock())
    job = claimed(ledger, clock())
    clock.advance(20)
    with ledger.write() as connection:
        assert jobs.renew(connection, job, lease_until=clock() + LEASE)
    clock.advance(20)
    assert claim(ledger, clock()) is None


def test_start_of_the_coordinator_frees_every_claim_and_keeps_the_attempts(
    ledger: Ledger, sender: Sender, clock: MovableClock
) -> None:
    enqueue(ledger, sender, 1, clock())
    orphan = claimed(ledger, clock())
    with ledger.write() as connection:
        assert jobs.release_orphans(connection, now=clock()) == 1
        assert not jobs.end(connection, orphan, state="done", reason=None, now=clock())
    assert claimed(ledger, clock()).attempts == 2


def test_job_that_was_put_back_waits_until_it_is_due(ledger: Ledger, sender: Sender, clock: MovableClock) -> None:
    enqueue(ledger, sender, 1, clock())
    job = claimed(ledger, clock())
    due = clock() + timedelta(seconds=5)
    with ledger.write() as connection:
        assert jobs.put_back(connection, job, state="waiting", reason=REASON, worker_deaths=1, not_before=due)
    with ledger.read() as connection:
        assert jobs.next_due(connection) == due
    assert claim(ledger, clock()) is None
    clock.advance(5)
    again = claimed(ledger, clock())
    assert (again.worker_deaths, again.reason) == (1, REASON)
    with ledger.read() as connection:
        assert jobs.next_due(connection) == clock() + LEASE


def test_only_what_was_not_read_is_tried_anew(ledger: Ledger, sender: Sender, clock: MovableClock) -> None:
    job_id = enqueue(ledger, sender, 1, clock())
    job = claimed(ledger, clock())
    with ledger.write() as connection:
        assert not jobs.retry(connection, job_id, now=clock())
        assert not jobs.retry(connection, job_id + 1, now=clock())
        jobs.end(connection, job, state="not_read", reason=REASON, now=clock())
    with ledger.write() as connection:
        assert jobs.retry(connection, job_id, now=clock())
        assert list(audit.rows(connection))[-1].event == "reading.retry_asked"
    again = claimed(ledger, clock())
    assert (again.attempts, again.fencing_token) == (1, 2)


def test_a_later_job_on_a_revision_takes_the_place_of_the_one_before(
    ledger: Ledger, sender: Sender, clock: MovableClock
) -> None:
    """As when a study has grown: the job reads what was read before, and more."""
    first = enqueue(ledger, sender, 1, clock())
    asking = receive(ledger, sender, 2, clock())
    with ledger.write() as connection:
        before = jobs.find(connection, first)
        assert before is not None and not before.is_superseded
        second = jobs.enqueue(
            connection,
            revision_id=asking,
            together_with=[before.revision_id],
            pipeline="dummy",
            priority=1,
            now=clock(),
        )
        assert [jobs.is_superseded(connection, job) for job in (first, second)] == [True, False]
        grown = jobs.find(connection, second)
        assert grown is not None
        assert [one.series_instance_uid for one in grown.reads] == ["2.25.1.1", "2.25.1.2"]
        assert (grown.revision_id, grown.series_instance_uid) == (asking, "2.25.1.2")
        assert len(jobs.members(connection, second)) == 8
        clock.advance(1)
    receive(ledger, sender, 1, clock(), count=6)
    with ledger.read() as connection:
        assert jobs.is_superseded(connection, second)
        assert len(jobs.members(connection, second)) == 8, "what came later is not of it"
        assert jobs.last_received_at(connection, grown) < clock()


def test_the_trail_tells_one_series_or_a_list(ledger: Ledger, sender: Sender, clock: MovableClock) -> None:
    job_id = enqueue(ledger, sender, 1, clock())
    with ledger.read() as connection:
        job = jobs.find(connection, job_id)
    assert job is not None
    one = {"series_instance_uid": "2.25.1.1", "revision": 1, "digest": job.reads[0].digest}
    assert jobs.told(job) == one
    assert jobs.told(replace(job, reads=job.reads * 2)) == {"series": [one, one]}


def test_list_shows_what_is_in_work_first(ledger: Ledger, sender: Sender, clock: MovableClock) -> None:
    ids = [enqueue(ledger, sender, series, clock()) for series in (1, 2, 3)]
    with ledger.write() as connection:
        done = jobs.claim(connection, owner="s", now=clock(), lease_until=clock() + LEASE)
        assert done is not None
        jobs.end(connection, done, state="done", reason=None, now=clock())
    claimed(ledger, clock())
    with ledger.read() as connection:
        assert [job.job_id for job in jobs.list_jobs(connection)] == [ids[1], ids[2], ids[0]]
        assert [job.job_id for job in jobs.list_jobs(connection, states=("done",))] == [ids[0]]
        assert [job.job_id for job in jobs.list_jobs(connection, limit=1)] == [ids[1]]


@cache
def three_waiting_jobs() -> bytes:
    """A ledger, as its file holds it."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "ledger.sqlite3"
        ledger = open_ledger(f"sqlite:///{file}")
        sender = Sender(ledger, Spool(Path(folder)))
        for series, priority in ((1, 1), (2, 0), (3, 1)):
            enqueue(ledger, sender, series, MovableClock()(), priority=priority)
        ledger.close()
        return file.read_bytes()


class Queue(RuleBasedStateMachine):
    """Slots that claim, renew, lose, put back and end jobs in any order: never two answers, never a lost job."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        file = Path(self.folder.name) / "ledger.sqlite3"
        file.write_bytes(three_waiting_jobs())
        self.ledger = open_ledger(f"sqlite:///{file}")
        self.clock = MovableClock()
        self.claims: list[Job] = []
        self.ended: dict[int, int] = {}

    @rule()
    def claim(self) -> None:
        job = claim(self.ledger, self.clock())
        if job is not None:
            assert job.job_id not in self.ended
            newest = self.newest(job.job_id)
            assert newest is None or job.fencing_token > newest.fencing_token
            self.claims.append(job)

    @precondition(lambda self: self.claims)
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        job = data.draw(st.sampled_from(self.claims))
        with self.ledger.write() as connection:
            if jobs.end(connection, job, state="done", reason=None, now=self.clock()):
                assert self.newest(job.job_id) == job
                assert job.job_id not in self.ended
                self.ended[job.job_id] = job.fencing_token

    @precondition(lambda self: self.claims)
    @rule(data=st.data(), wait_s=st.integers(0, 40))
    def put_back(self, data: st.DataObject, wait_s: int) -> None:
        job = data.draw(st.sampled_from(self.claims))
        due = self.clock() + timedelta(seconds=wait_s)
        with self.ledger.write() as connection:
            is_held = jobs.put_back(connection, job, state="waiting", reason=REASON, worker_deaths=0, not_before=due)
        assert not is_held or self.newest(job.job_id) == job

    @precondition(lambda self: self.claims)
    @rule(data=st.data())
    def renew(self, data: st.DataObject) -> None:
        job = data.draw(st.sampled_from(self.claims))
        with self.ledger.write() as connection:
            is_held = jobs.renew(connection, job, lease_until=self.clock() + LEASE)
        assert not is_held or self.newest(job.job_id) == job

    @rule(seconds=st.integers(1, 60))
    def pass_time(self, seconds: int) -> None:
        self.clock.advance(seconds)

    @rule()
    def restart(self) -> None:
        with self.ledger.write() as connection:
            jobs.release_orphans(connection, now=self.clock())

    @invariant()
    def every_job_is_ended_or_will_be_due(self) -> None:
        with self.ledger.read() as connection:
            held = jobs.list_jobs(connection)
            due = jobs.next_due(connection)
        assert len(held) == 3
        assert {job.job_id for job in held if job.state == "done"} == set(self.ended)
        assert (due is None) == (len(self.ended) == 3)
        for job in held:
            assert job.attempts == job.fencing_token == sum(one.job_id == job.job_id for one in self.claims)

    def newest(self, job_id: int) -> Job | None:
        return next((job for job in reversed(self.claims) if job.job_id == job_id), None)

    def teardown(self) -> None:
        self.ledger.close()
        self.folder.cleanup()


Queue.TestCase.settings = hypothesis_settings(max_examples=8, stateful_step_count=25, deadline=None)
TestQueue = Queue.TestCase

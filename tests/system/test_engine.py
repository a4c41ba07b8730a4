"""The real engine: a `work` process with its Dask workers, killed in every way."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import psutil
import pytest

from db import jobs, results
from db.connect import Ledger
from db.jobs import Job
from dicom_node.dispatch.engine import (
    Engine,
    EngineUnavailableError,
    Pending,
    TimeLimitError,
    WorkerDiedError,
)
from dicom_node.dispatch.run import ReadAnswer, ReadRequest
from dicom_node.dispatch.stage import DispatchStage
from dicom_node.identity import equipment
from dicom_node.process import published
from dicom_node.settings import Settings, parse
from dicom_node.spool import Spool
from tests.conftest import REPOSITORY, MovableClock
from tests.dummy_room import ROOM, dummy_pipeline
from tests.unit.db.queued import enqueue
from tests.unit.dicom_node.made import Sender, settle

PATIENCE_S = 180.0
WORK = """
import sys, threading
from pathlib import Path
from dicom_node import settings
from dicom_node.dispatch.engine import serve_engine
from dicom_node.process import stop_on_signals

if __name__ == "__main__":
    serve_engine(settings.load(Path(sys.argv[1])), stop_on_signals(), lambda: None)
"""


def until(happened: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not happened():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)


class WorkRole:
    """A `work` process in a folder of its own, with the dummy pipeline installed, and the coordinator's side of it."""

    def __init__(self, folder: Path) -> None:
        self.spool = folder / "spool"
        self.file = folder / "service.toml"
        self.file.write_text(
            f'[node]\nspool = "{self.spool}"\n[routes.all]\npipeline = "dummy"\nwhen = {{ Modality = "CT" }}\n'
        )
        (folder / "work.py").write_text(WORK)
        (folder / "sitecustomize.py").write_text(f"import pipelines\npipelines.__path__.append({str(ROOM)!r})\n")
        self._folder = folder
        self._keys = itertools.count()
        self.engine = Engine(self.spool)
        self.start()

    def start(self) -> None:
        path = os.pathsep.join([str(self._folder), str(REPOSITORY)])
        command = [sys.executable, str(self._folder / "work.py"), str(self.file)]
        self.process = subprocess.Popen(command, env=os.environ | {"PYTHONPATH": path})
        until(self.engine.is_ready)

    def descendants(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def submit(self, behavior: str = "read", marker: Path = Path("unused"), limit_s: float = 60.0) -> Pending:
        settings_json = json.dumps({"behavior": behavior, "marker": str(marker)})
        made_at = datetime(2026, 3, 1, tzinfo=UTC)
        request = ReadRequest("dummy", settings_json, (), "ab", "cd", made_at, equipment(Settings()))
        return self.engine.submit(request, key=f"test-{next(self._keys)}", time_limit_s=limit_s)

    def read(self) -> ReadAnswer:
        return answer_of(self.submit())

    def end(self) -> None:
        self.engine.close()
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


def answer_of(pending: Pending) -> ReadAnswer:
    try:
        answer = pending.wait(PATIENCE_S)
    finally:
        pending.release()
    assert answer is not None
    return answer


@pytest.fixture(autouse=True)
def dummy() -> Iterator[None]:
    with dummy_pipeline():
        yield


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkRole]:
    """One for all tests that leave it whole; a test that kills its process starts it again."""
    role = WorkRole(tmp_path_factory.mktemp("work"))
    yield role
    role.end()


@pytest.fixture
def own_settings(tmp_path: Path) -> Callable[[str], Settings]:
    def of(behavior: str) -> Settings:
        settings = parse("")
        marker = tmp_path / "marker"
        own = settings.pipeline("dummy").model_copy(update={"behavior": behavior, "marker": marker})
        return settings.model_copy(update={"pipelines": {"dummy": own}})

    return of


def job_after_reading(
    role: WorkRole, ledger: Ledger, spool: Spool, clock: MovableClock, settings: Settings
) -> tuple[Job, str]:
    """Queue a series, let the dispatcher and the engine do all they can; gives the job and its answer."""
    job_id = enqueue(ledger, Sender(ledger, spool), 1, clock())
    stage = DispatchStage(
        ledger=ledger, settings=settings, spool=spool, engine=role.engine, clock=clock, notify=lambda: None
    )
    settle(stage, clock())
    with ledger.read() as connection:
        job, result = jobs.find(connection, job_id), results.of_job(connection, job_id)
    assert job is not None
    assert result is not None
    return job, result.status


def test_worker_that_dies_once_costs_only_time(
    shared: WorkRole, ledger: Ledger, spool: Spool, clock: MovableClock, own_settings: Callable[[str], Settings]
) -> None:
    job, status = job_after_reading(shared, ledger, spool, clock, own_settings("die_once"))
    assert (job.state, status, job.attempts, job.worker_deaths) == ("done", "clean", 2, 1)


def test_poison_ends_with_its_reason_and_the_next_series_is_read(
    shared: WorkRole, ledger: Ledger, spool: Spool, clock: MovableClock, own_settings: Callable[[str], Settings]
) -> None:
    job, status = job_after_reading(shared, ledger, spool, clock, own_settings("die"))
    assert (job.state, status, job.reason and job.reason["code"]) == (
        "not_read", "not_read", "engine.worker_died_twice",
    )  # fmt: skip
    assert shared.read().status == "not_read"


def test_model_that_may_not_be_used_is_a_reason_and_no_crash(
    shared: WorkRole, ledger: Ledger, spool: Spool, clock: MovableClock, own_settings: Callable[[str], Settings]
) -> None:
    before = shared.descendants()
    job, status = job_after_reading(shared, ledger, spool, clock, own_settings("unverified"))
    assert (job.state, status, job.reason and job.reason["code"]) == ("not_read", "not_read", "model.unverified")
    assert shared.descendants() == before


def test_reading_over_its_time_limit_is_stopped(shared: WorkRole) -> None:
    shared.read()  # the worker is up, so that what is measured is the limit
    hung = shared.submit("hang", limit_s=0.5)
    with pytest.raises(TimeLimitError):
        answer_of(hung)
    assert shared.read().status == "not_read"


def test_worker_killed_from_outside_is_started_again(shared: WorkRole, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    pending = shared.submit("hold_on", marker)
    until(lambda: marker.exists() and marker.read_text())
    os.kill(int(marker.read_text()), signal.SIGKILL)
    with pytest.raises(WorkerDiedError):
        answer_of(pending)
    assert shared.read().status == "not_read"


def test_reading_that_waited_behind_a_dead_one_is_not_to_blame(shared: WorkRole, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    first = shared.submit("hold_on", marker)
    until(lambda: first.started_after_s is not None and marker.exists() and marker.read_text())
    behind = shared.submit()
    assert behind.wait(0.2) is None
    os.kill(int(marker.read_text()), signal.SIGKILL)
    with pytest.raises(WorkerDiedError):
        answer_of(first)
    with pytest.raises(EngineUnavailableError):
        answer_of(behind)


def test_killed_work_role_leaves_nothing_behind_and_is_found_again(shared: WorkRole, tmp_path: Path) -> None:
    shared.read()
    marker = tmp_path / "marker"
    pending = shared.submit("hold_on", marker)
    until(lambda: marker.exists() and marker.read_text())
    descendants = shared.descendants()
    assert int(marker.read_text()) in {one.pid for one in descendants}
    shared.process.kill()
    shared.process.wait()
    with pytest.raises(EngineUnavailableError):
        answer_of(pending)
    _, alive = psutil.wait_procs(descendants, timeout=PATIENCE_S)
    assert not alive
    assert not shared.engine.is_ready()
    with pytest.raises(EngineUnavailableError):
        shared.submit()
    shared.start()
    assert shared.read().status == "not_read"


def test_sigterm_stops_the_role_and_its_workers(tmp_path: Path) -> None:
    role = WorkRole(tmp_path)
    try:
        descendants = role.descendants()
        role.process.terminate()
        assert role.process.wait(PATIENCE_S) == 0
        _, alive = psutil.wait_procs(descendants, timeout=PATIENCE_S)
        assert not alive
        assert "engine" not in published(role.spool)
    finally:
        role.end()

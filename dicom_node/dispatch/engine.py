"""The engine: Dask carries readings to worker processes. The ledger decides what is read; Dask only carries it out.

The `work` role runs `serve_engine`: a scheduler and the workers of this host, on the loopback device. The coordinator
holds an `Engine`, which finds the cluster through what the `work` role published, and finds it again when it was
started anew.
"""

from __future__ import annotations

import contextlib
import faulthandler
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import CancelledError
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dask
import structlog
from distributed import Client, KilledWorker, LocalCluster, TimeoutError, get_worker
from distributed.core import Status
from distributed.diagnostics.plugin import WorkerPlugin

from dicom_node.dispatch.policy import Failure
from dicom_node.dispatch.priors import clear_up
from dicom_node.dispatch.run import ReadAnswer, ReadRequest, read_series, warm
from dicom_node.process import end_with_parent, publish, published
from dicom_node.settings import Settings
from dicom_node.telemetry import configure_logging
from pipelines.catalogue import catalogue

log = structlog.get_logger()

PUBLISHED_AS = "engine"
CONNECT_WITHIN_S = 5.0
START_WITHIN_S = 120.0
"""Longest wait for a worker to take a reading, beyond the time limit of a reading that may be before it."""
STOP_GRACE_S = 0.25
"""A worker stops itself this long after its time limit, so that a death at the limit is known for what it is."""
STARTED = "reading-started"

WATCH_S = 1.0

_DASK = {
    "distributed.scheduler.allowed-failures": 0,  # a dead worker is told at once; the ledger decides on another try
    "distributed.deploy.lost-worker-timeout": "365 days",  # else a worker slow to come back is given up for good
    "distributed.scheduler.active-memory-manager.start": False,
    "distributed.scheduler.http.routes": [],
    "distributed.worker.http.routes": [],
    "distributed.worker.profile.enabled": False,
    "distributed.admin.system-monitor.interval": "10s",
    "distributed.diagnostics.nvml": False,
    "distributed.comm.compression": False,
}


class EngineError(Exception):
    """A reading gave no answer; `failure` says how, in the words of the policy."""

    failure: Failure


class WorkerDiedError(EngineError):
    """The worker died while it read this series."""

    failure = "worker_died"


class TimeLimitError(EngineError):
    """The reading took longer than its time limit and was stopped, with its worker."""

    failure = "time_limit"


class EngineUnavailableError(EngineError):
    """There is no engine, or it went away; the series is not to blame."""

    failure = "interrupted"


class WarmWorker(WorkerPlugin):
    """Makes a worker process ready before its first reading: it ends with the engine, and its models are warm."""

    name = "warm"

    def __init__(self, pipelines: Mapping[str, str]) -> None:
        self._pipelines = dict(pipelines)

    def setup(self, worker: object) -> None:  # noqa: ARG002  Dask gives it
        end_with_parent()
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the engine stops its workers
        configure_logging("worker")
        _quiet()
        for pipeline, settings_json in self._pipelines.items():
            warm(pipeline, settings_json)


def serve_engine(settings: Settings, stop: threading.Event, notify: Callable[[], None]) -> None:
    """Run the scheduler and the workers of this host until `stop` is set. Returns when all of them have ended.

    A worker that dies is started again. Raises `EngineUnavailableError` when one cannot be, for the supervisor to see.
    The address is published once the models are warm; `notify` then tells the coordinator that work can be given.
    """
    _quiet()
    run_folder = settings.node.spool / "run"
    run_folder.mkdir(parents=True, exist_ok=True)
    clear_up(run_folder)
    threads = str(settings.work.threads or max(1, len(os.sched_getaffinity(0)) // settings.work.workers))
    environment = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), threads)
    environment["ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"] = threads
    options = _DASK | {"distributed.nanny.pre-spawn-environ": environment, "temporary-directory": str(run_folder)}
    with (
        dask.config.set(options),
        LocalCluster(  # type: ignore[no-untyped-call]  # Dask's classes are half typed
            n_workers=settings.work.workers,
            threads_per_worker=1,
            memory_limit=0,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
            worker_dashboard_address=None,
            scheduler_kwargs={"dashboard": False},
            silence_logs=logging.WARNING,
            plugins=(WarmWorker(_routed_pipelines(settings)),),
        ) as cluster,
    ):
        publish(settings.node.spool, PUBLISHED_AS, {"address": cluster.scheduler_address})
        notify()
        log.info("engine.started", workers=settings.work.workers, threads=threads)
        while not stop.wait(WATCH_S):
            if any(nanny.status is not Status.running for nanny in cluster.workers.values()):
                raise EngineUnavailableError("a worker cannot be started")


def _routed_pipelines(settings: Settings) -> dict[str, str]:
    """The settings, as JSON, of every installed pipeline that a route asks for."""
    asked = {route.pipeline for route in settings.routes.values()}
    return {name: settings.pipeline(name).model_dump_json() for name in sorted(asked & set(catalogue()))}


def _quiet() -> None:
    """Let Dask's logs go the way of all others, from WARNING on: it brings its own handlers."""
    for name in ("distributed", *(n for n in logging.root.manager.loggerDict if n.startswith("distributed."))):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
        logger.setLevel(logging.WARNING)


def _read(request: ReadRequest, key: str, time_limit_s: float) -> ReadAnswer:
    """Runs in the worker. The watchdog is no Python thread: it ends the process even where Python no longer runs."""
    worker = get_worker()
    worker.log_event(STARTED, {"key": key, "worker": worker.address})
    faulthandler.dump_traceback_later(time_limit_s + STOP_GRACE_S, exit=True)
    try:
        return read_series(request)
    finally:
        faulthandler.cancel_dump_traceback_later()


@dataclass(slots=True, eq=False)
class _Run:
    """A reading on its way; times are monotonic."""

    submitted: float
    time_limit_s: float
    started: float | None = None


@dataclass(slots=True, eq=False)
class _Connection:
    """The client of one life of the cluster."""

    address: str
    client: Any
    runs: dict[str, _Run] = field(default_factory=dict)
    reads: dict[str, str] = field(default_factory=dict)
    """What each worker reads, or was reading when it died."""

    @property
    def is_up(self) -> bool:
        return bool(self.client.status == "running")


class Engine:
    """The coordinator's side. Safe to use from several threads; it connects again when the cluster was started anew."""

    def __init__(self, spool: Path) -> None:
        self._spool = spool
        self._lock = threading.Lock()
        self._connection: _Connection | None = None

    def is_ready(self) -> bool:
        """Whether there is an engine to give readings to."""
        try:
            self._connected()
        except EngineUnavailableError:
            return False
        return True

    def submit(self, request: ReadRequest, *, key: str, time_limit_s: float) -> Pending:
        """Hand over a reading; `key` is never used twice. Raises `EngineUnavailableError`."""
        connection = self._connected()
        connection.runs[key] = _Run(time.monotonic(), time_limit_s)
        try:
            future = connection.client.submit(_read, request, key, time_limit_s, key=key, pure=False)
        except (OSError, RuntimeError, ValueError) as error:  # Dask has no one error for a client that just closed
            del connection.runs[key]
            raise EngineUnavailableError(type(error).__name__) from error
        return Pending(connection, key, future)

    def close(self) -> None:
        with self._lock:
            self._drop()

    def _connected(self) -> _Connection:
        with self._lock:
            facts = published(self._spool).get(PUBLISHED_AS)
            if facts is None:
                self._drop()
                raise EngineUnavailableError("the work role is not up")
            address = str(facts["address"])
            if self._connection is None or self._connection.address != address or not self._connection.is_up:
                self._drop()
                self._connection = _connect(address)
            return self._connection

    def _drop(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(OSError, TimeoutError):  # it is gone already
                self._connection.client.close(timeout=1.0)
            self._connection = None


def _connect(address: str) -> _Connection:
    _quiet()
    for name in ("distributed.client", "distributed.utils"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # a lost connection is told by our own errors
    try:
        with dask.config.set(_DASK):
            client: Any = Client(  # type: ignore[no-untyped-call]
                address, timeout=CONNECT_WITHIN_S, set_as_default=False
            )
    except OSError as error:
        raise EngineUnavailableError(type(error).__name__) from error
    connection = _Connection(address, client)

    def note_start(event: tuple[float, Mapping[str, str]]) -> None:
        _, message = event
        if (run := connection.runs.get(message["key"])) is not None:
            run.started = time.monotonic()
            connection.reads[message["worker"]] = message["key"]

    client.subscribe_topic(STARTED, note_start)
    return connection


class Pending:
    """A reading that was handed over."""

    def __init__(self, connection: _Connection, key: str, future: Any) -> None:
        self._connection = connection
        self._key = key
        self._future = future
        self._run = connection.runs[key]

    @property
    def started_after_s(self) -> float | None:
        """Seconds from handing over to the worker's start; None when it did not start yet."""
        return None if self._run.started is None else self._run.started - self._run.submitted

    def wait(self, timeout_s: float) -> ReadAnswer | None:
        """The answer as soon as it is there; None when it is not within the time. Raises `EngineError`."""
        try:
            answer: ReadAnswer = self._future.result(timeout=timeout_s)
        except TimeoutError:
            self._check_that_it_can_start()
            return None
        except KilledWorker as error:
            raise self._death(error.last_worker.address) from error
        except (CancelledError, UnboundLocalError) as error:
            # The second is what Dask's `sync` ends in when its connection closes while it waits.
            raise EngineUnavailableError("the engine went away") from error
        for worker, key in list(self._connection.reads.items()):
            if key == self._key:
                del self._connection.reads[worker]
        return answer

    def release(self) -> None:
        """Let go of it, whether it was answered or not; a reading that did not start yet is not begun."""
        self._connection.runs.pop(self._key, None)
        if self._future.done():
            self._future.release()
        else:
            self._future.cancel()

    def _check_that_it_can_start(self) -> None:
        waited = time.monotonic() - self._run.submitted
        if self._run.started is None and waited > self._run.time_limit_s + START_WITHIN_S:
            raise EngineUnavailableError("no worker takes it")

    def _death(self, worker: str) -> EngineError:
        if self._connection.reads.get(worker, self._key) != self._key:
            return EngineUnavailableError("the worker died of another reading, before this one began")
        if self._run.started is not None and time.monotonic() - self._run.started >= self._run.time_limit_s:
            return TimeLimitError()
        return WorkerDiedError()

"""Starts the roles, each in its own processes, and starts again whatever dies."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog

from dicom_node import settings as configuration
from dicom_node.process import end_with_parent, stop_on_signals
from dicom_node.settings import ConfigurationError, Settings
from dicom_node.spool import Spool

log = structlog.get_logger()

SHORTEST_WAIT_S, LONGEST_WAIT_S = 0.1, 30.0
LIVED_LONG_S = 30.0
"""A process that lived this long is started again without waiting."""

STOP_WITHIN_S = 15.0
WRONG_USAGE = 2
"""The exit code of a role that starting again cannot help: its configuration is wrong or its port is taken."""


@dataclass(slots=True)
class _Child:
    role: str
    slot: int
    process: subprocess.Popen[bytes]
    started: float
    wait_s: float = SHORTEST_WAIT_S
    died: float | None = None
    """When its end was noticed."""


class Supervisor:
    """The processes of one node on one host. `run` blocks until it is told to stop and gives the exit code."""

    def __init__(self, config: Path | None, settings: Settings) -> None:
        self._config = config
        self._settings = settings
        self._children: list[_Child] = []
        self._reload = threading.Event()

    def run(self) -> int:
        stop = stop_on_signals()
        wake = threading.Event()
        signal.signal(signal.SIGHUP, lambda *_: self._reload.set())
        signal.signal(signal.SIGCHLD, lambda *_: wake.set())
        left = Spool(self._settings.node.spool).sweep()
        log.info("service.started", half_written_files_removed=left)
        self._start_all()
        try:
            while not stop.is_set():
                if self._reload.is_set():
                    self._reload.clear()
                    self._reload_configuration()
                if (code := self._restart_the_dead()) is not None:
                    return code
                wake.wait(0.2)
                wake.clear()
            return 0
        finally:
            self._stop_all()
            log.info("service.stopped")

    def _start_all(self) -> None:
        roles = [
            ("work", 0),
            ("coordinate", 0),
            *(("receive", slot) for slot in range(self._settings.receive.processes)),
        ]
        self._children = [self._start(role, slot) for role, slot in roles]

    def _start(self, role: str, slot: int) -> _Child:
        command = [sys.executable, "-m", "dicom_node.cli.main", "serve", "--role", role, "--slot", str(slot)]
        if self._config is not None:
            command += ["--config", str(self._config)]
        process = subprocess.Popen(command, preexec_fn=end_with_parent)  # noqa: PLW1509  prctl is safe there
        return _Child(role, slot, process, time.monotonic())

    def _restart_the_dead(self) -> int | None:
        for index, child in enumerate(self._children):
            code = child.process.poll()
            if code is None:
                continue
            if code == WRONG_USAGE:
                return WRONG_USAGE
            now = time.monotonic()
            if child.died is None:
                child.died = now
                lived_s = round(now - child.started, 1)
                log.error("process.died", died=child.role, slot=child.slot, exit_code=code, lived_s=lived_s)
            wait = SHORTEST_WAIT_S if child.died - child.started > LIVED_LONG_S else child.wait_s
            if now - child.started < wait:
                continue  # looked at again in a moment; the others are not held up meanwhile
            self._children[index] = self._start(child.role, child.slot)
            self._children[index].wait_s = min(LONGEST_WAIT_S, wait * 2)
        return None

    def _reload_configuration(self) -> None:
        try:
            self._settings = configuration.load(self._config)
        except ConfigurationError as error:
            log.error("configuration.refused", problems=error.problems)
            return
        log.info("configuration.reloaded", configuration_hash=self._settings.hash())
        self._stop_all()
        self._start_all()

    def _stop_all(self) -> None:
        """The engine goes last: a reading that loses its worker would look like one that brings workers down."""
        for engine in (False, True):
            _stop([child for child in self._children if (child.role == "work") == engine])


def _stop(children: Sequence[_Child]) -> None:
    for child in children:
        child.process.terminate()
    deadline = time.monotonic() + STOP_WITHIN_S
    for child in children:
        try:
            child.process.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            log.error("process.killed", role=child.role, slot=child.slot)
            child.process.kill()
            child.process.wait()

"""The supervisor with small programs in the place of the roles."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import structlog

from dicom_node.service import supervisor as module
from dicom_node.service.supervisor import Supervisor
from dicom_node.settings import load

FOREVER = (
    "import signal, sys; signal.signal(signal.SIGTERM, lambda *_: sys.exit(0)); print('up', flush=True); signal.pause()"
)


@dataclass
class Seconds:
    """A monotonic clock that a test moves."""

    now: float = 1000.0

    def monotonic(self) -> float:
        return self.now


@dataclass
class Ended:
    """A process that has ended already."""

    code: int

    def poll(self) -> int:
        return self.code

    def terminate(self) -> None: ...

    def wait(self, timeout: float | None = None) -> int:
        return self.code


@dataclass
class Bench:
    supervisor: Supervisor
    seconds: Seconds
    started: list[float] = field(default_factory=list)
    code: int = 1

    def start(self, role: str, slot: int) -> module._Child:
        self.started.append(self.seconds.now)
        return module._Child(role, slot, Ended(self.code), self.seconds.now)  # type: ignore[arg-type]


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    seconds = Seconds()
    monkeypatch.setattr(module, "time", seconds)
    bench = Bench(Supervisor(None, load(None)), seconds)
    monkeypatch.setattr(bench.supervisor, "_start", bench.start)
    bench.supervisor._children = [bench.start("work", 0)]
    return bench


def watch(bench: Bench, seconds: float) -> list[float]:
    """Look every tenth of a second; gives the waits before each start."""
    for _ in range(round(seconds * 10)):
        bench.seconds.now += 0.1
        assert bench.supervisor._restart_the_dead() is None
    return [round(later - sooner, 1) for sooner, later in zip(bench.started, bench.started[1:], strict=False)]


def test_what_dies_at_once_is_started_again_with_growing_waits(bench: Bench) -> None:
    with structlog.testing.capture_logs() as logs:
        waits = watch(bench, 200)
    assert waits[:5] == [pytest.approx(wait, abs=0.15) for wait in (0.1, 0.2, 0.4, 0.8, 1.6)]
    assert waits == sorted(waits)
    assert waits[-3:] == [pytest.approx(module.LONGEST_WAIT_S, abs=0.15)] * 3, "it never begins anew with short waits"
    assert [line["event"] for line in logs] == ["process.died"] * len(logs)
    assert len(logs) == len(bench.started), "each death is told once"


def test_what_lived_long_is_started_again_at_once(bench: Bench) -> None:
    [child] = bench.supervisor._children
    child.wait_s = 20.0
    bench.seconds.now += module.LIVED_LONG_S + 1
    assert bench.supervisor._restart_the_dead() is None
    assert len(bench.started) == 2
    assert bench.supervisor._children[0].wait_s == 2 * module.SHORTEST_WAIT_S


def test_what_starting_again_cannot_help_ends_the_node(bench: Bench) -> None:
    bench.supervisor._children = [module._Child("receive", 0, Ended(2), bench.seconds.now)]  # type: ignore[arg-type]
    assert bench.supervisor._restart_the_dead() == 2
    assert len(bench.started) == 1


@dataclass
class Running:
    """A supervisor in this (the main) thread, and what a test does to it from another one."""

    supervisor: Supervisor
    children: list[subprocess.Popen[str]] = field(default_factory=list)
    died: list[str] = field(default_factory=list)

    def start(self, role: str, slot: int) -> module._Child:
        process = subprocess.Popen([sys.executable, "-c", FOREVER], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None and process.stdout.readline()
        self.children.append(process)
        return module._Child(role, slot, process, time.monotonic())  # type: ignore[arg-type]

    def run(self, meanwhile: Callable[[], None]) -> int:
        def then() -> None:
            try:
                wait_until(lambda: len(self.children) >= 3)
                meanwhile()
            except AssertionError as error:
                self.died.append(str(error))
            finally:
                signal.raise_signal(signal.SIGTERM)

        thread = threading.Thread(target=then)
        thread.start()
        code = self.supervisor.run()
        thread.join(30)
        assert self.died == []
        return code


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not true():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.01)


@pytest.fixture
def running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Running]:
    handlers = {n: signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)}
    file = tmp_path / "service.toml"
    file.write_text(f'[node]\nspool = "{tmp_path / "spool"}"\nport = 11112\n')
    running = Running(Supervisor(file, load(file)))
    monkeypatch.setattr(running.supervisor, "_start", running.start)
    yield running
    for child in running.children:
        child.kill()
        child.wait()
    for number, handler in handlers.items():
        signal.signal(number, handler)


def test_it_starts_every_role_and_stops_them_cleanly(running: Running) -> None:
    assert running.run(lambda: None) == 0
    assert [child.wait(5) for child in running.children] == [0, 0, 0]
    assert [child.role for child in running.supervisor._children] == ["work", "coordinate", "receive"]


def test_a_role_that_is_killed_is_started_again(running: Running) -> None:
    def kill_one() -> None:
        running.children[1].kill()
        wait_until(lambda: len(running.children) == 4)

    assert running.run(kill_one) == 0
    assert running.supervisor._children[1].role == "coordinate"


def test_sighup_with_a_wrong_configuration_keeps_it_running(running: Running, tmp_path: Path) -> None:
    told: list[str] = []

    def reload() -> None:
        (tmp_path / "service.toml").write_text("[nod]\n")
        signal.raise_signal(signal.SIGHUP)
        wait_until(lambda: any(line["event"] == "configuration.refused" for line in logs))
        told.append(str(running.children[0].poll()))

    with structlog.testing.capture_logs() as logs:
        assert running.run(reload) == 0
    assert told == ["None"]
    assert len(running.children) == 3
    [refused] = [line for line in logs if line["event"] == "configuration.refused"]
    assert "did you mean node?" in refused["problems"][0]


def test_sighup_with_a_new_configuration_starts_the_roles_anew(running: Running, tmp_path: Path) -> None:
    def reload() -> None:
        text = (tmp_path / "service.toml").read_text()
        (tmp_path / "service.toml").write_text(text + "[receive]\nprocesses = 2\n")
        signal.raise_signal(signal.SIGHUP)
        wait_until(lambda: len(running.children) == 7)

    assert running.run(reload) == 0
    assert [child.poll() for child in running.children] == [0] * 7
    roles = [(child.role, child.slot) for child in running.supervisor._children]
    assert roles == [("work", 0), ("coordinate", 0), ("receive", 0), ("receive", 1)]


def test_a_role_that_does_not_stop_is_killed(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STOP_WITHIN_S", 0.2)
    deaf = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); signal.pause()"
    monkeypatch.setattr(sys.modules[__name__], "FOREVER", deaf)
    with structlog.testing.capture_logs() as logs:
        assert running.run(lambda: None) == 0
    assert {child.poll() for child in running.children} == {-signal.SIGKILL}
    assert [line["event"] for line in logs].count("process.killed") == 3

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from pathlib import Path

from dicom_node.process import publish, published, stop_on_signals


def test_what_a_living_process_published_is_found(tmp_path: Path) -> None:
    assert published(tmp_path) == {}
    publish(tmp_path, "receive-0", {"port": 11112})
    publish(tmp_path, "engine", {"address": "tcp://127.0.0.1:1"})
    publish(tmp_path, "engine", {"address": "tcp://127.0.0.1:2"})
    assert published(tmp_path) == {
        "engine": {"pid": os.getpid(), "address": "tcp://127.0.0.1:2"},
        "receive-0": {"pid": os.getpid(), "port": 11112},
    }


def test_the_dead_are_not_found(tmp_path: Path) -> None:
    publish(tmp_path, "alive", {})
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    (tmp_path / "run" / "dead.json").write_text(json.dumps({"pid": ended.pid}))
    assert set(published(tmp_path)) == {"alive"}


def test_a_process_of_somebody_else_is_alive(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "init.json").write_text(json.dumps({"pid": 1}))
    assert set(published(tmp_path)) == {"init"}


def test_a_file_that_a_power_cut_left_empty_harms_nothing(tmp_path: Path) -> None:
    publish(tmp_path, "alive", {})
    (tmp_path / "run" / "cut.json").touch()
    (tmp_path / "run" / ".half.7").write_text("{")
    assert set(published(tmp_path)) == {"alive"}


def test_sigterm_and_sigint_say_stop() -> None:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        for number in before:
            stop = stop_on_signals()
            assert not stop.is_set()
            signal.raise_signal(number)
            assert stop.is_set()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


PARENT = """
import subprocess, sys
from dicom_node.process import end_with_parent
waiting = [sys.executable, "-c", "import sys; sys.stdin.read()"]
child = subprocess.Popen(waiting, stdin=subprocess.PIPE, preexec_fn=end_with_parent)
print(child.pid, flush=True)
sys.stdin.read()
"""


def test_a_child_ends_with_its_parent() -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    watch = os.pidfd_open(child)
    parent.kill()
    parent.wait()
    assert select.select([watch], [], [], 10)[0] == [watch]
    os.close(watch)

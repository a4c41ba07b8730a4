"""What every process of the node does alike: end with its parent, stop on SIGTERM, say that it is there."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import threading
from collections.abc import Mapping
from pathlib import Path

_PR_SET_PDEATHSIG = 1


def end_with_parent() -> None:
    """Have the kernel kill this process when the thread that started it ends (prctl(2)); safe between fork and exec.

    Killing is safe because every process may be killed at any line; it leaves no half node behind that holds the port.
    """
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def stop_on_signals() -> threading.Event:
    """An event that SIGTERM and SIGINT set. Call it from the main thread."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    return stop


def publish(spool: Path, name: str, facts: Mapping[str, object]) -> None:
    """Tell the other processes of this host, and `triage-node status`, that `name` is up (`run/NAME.json`)."""
    folder = spool / "run"
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f".{name}.{os.getpid()}"
    temporary.write_text(json.dumps({"pid": os.getpid(), **facts}))
    temporary.rename(folder / f"{name}.json")


def published(spool: Path) -> dict[str, dict[str, object]]:
    """What the processes that are alive have published, by name."""
    found = {}
    for path in sorted((spool / "run").glob("*.json")):
        try:
            facts = json.loads(path.read_text())
        except ValueError:  # a power cut left it empty; whoever wrote it is gone
            continue
        if is_alive(int(facts["pid"])):
            found[path.stem] = facts
    return found


def is_alive(pid: int) -> bool:
    """Whether there is a process of this number."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True

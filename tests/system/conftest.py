"""Real servers on free loopback ports."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

START_WITHIN_S = 30.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Orthanc:
    """An Orthanc with its own storage. `kill` ends it without warning; after `start` it is the same PACS again."""

    def __init__(self, binary: str, folder: Path, **configuration: Any) -> None:
        self.ae_title = "ORTHANC"
        self.host = "127.0.0.1"
        self.port = free_port()
        self.http_port = free_port()
        self.url = f"http://127.0.0.1:{self.http_port}"
        self._folder = folder
        self._binary = binary
        self._process: subprocess.Popen[bytes] | None = None
        self._file = folder / "orthanc.json"
        self._file.write_text(
            json.dumps(
                {
                    "Name": self.ae_title,
                    "DicomAet": self.ae_title,
                    "DicomPort": self.port,
                    "DicomCheckCalledAet": False,
                    "DicomAlwaysAllowEcho": True,
                    "DicomAlwaysAllowStore": True,
                    "DicomAlwaysAllowFind": True,
                    "DicomAlwaysAllowFindWorklist": False,
                    "HttpPort": self.http_port,
                    "RemoteAccessAllowed": False,
                    "AuthenticationEnabled": False,
                    "Plugins": [],
                    "StorageDirectory": str(folder / "storage"),
                    "IndexDirectory": str(folder / "storage"),
                    "OverwriteInstances": False,
                    **configuration,
                }
            )
        )

    def start(self) -> None:
        with (self._folder / "orthanc.log").open("ab") as log:
            self._process = subprocess.Popen([self._binary, str(self._file)], stdout=log, stderr=log)
        deadline = time.monotonic() + START_WITHIN_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"Orthanc did not start: {(self._folder / 'orthanc.log').read_text()[-2000:]}")
            time.sleep(0.05)

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def get(self, path: str) -> Any:
        """What the REST interface answers, such as for `/instances`."""
        with urllib.request.urlopen(f"{self.url}{path}", timeout=10) as answer:
            return json.load(answer)

    def content(self, path: str) -> bytes:
        with urllib.request.urlopen(f"{self.url}{path}", timeout=10) as answer:
            return bytes(answer.read())

    def sop_instance_uids(self, study_instance_uid: str) -> list[str]:
        """Of every instance that it holds of a study, sorted."""
        held = (self.get(f"/instances/{one}/simplified-tags") for one in self.get("/instances"))
        return sorted(tags["SOPInstanceUID"] for tags in held if tags["StudyInstanceUID"] == study_instance_uid)

    def _answers(self) -> bool:
        try:
            self.get("/system")
            with socket.create_connection((self.host, self.port), 1):
                return True
        except OSError:
            return False

    def _end(self, how: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(30)
            self._process = None


def orthanc_binary() -> str:
    found = shutil.which("Orthanc", path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"]))
    if found is None:
        pytest.skip("Orthanc is not installed")
    return found


@pytest.fixture(scope="session")
def orthanc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    """One Orthanc for the whole run: use UIDs of your own."""
    started = Orthanc(orthanc_binary(), tmp_path_factory.mktemp("orthanc"))
    started.start()
    yield started
    started.stop()


@pytest.fixture
def own_orthanc(tmp_path: Path) -> Iterator[Orthanc]:
    """An Orthanc that a test may kill and start again."""
    folder = tmp_path / "orthanc"
    folder.mkdir()
    started = Orthanc(orthanc_binary(), folder)
    started.start()
    yield started
    started.stop()

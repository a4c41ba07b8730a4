"""Runs a whole node in a folder, as `triage-node serve` does: for the demonstration and for system tests."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pynetdicom import AE, build_context
from pynetdicom.sop_class import Verification

from dicom_node import settings as configuration
from dicom_node.demonstration.pacs import AE_TITLE as PACS_AE_TITLE
from dicom_node.demonstration.pacs import Pacs, free_port
from dicom_node.process import end_with_parent, published
from dicom_node.reactor import stand_still_while_asking
from dicom_node.settings import Settings

START_WITHIN_S = 90.0
READY = {"receive-0", "coordinate-0", "engine"}
"""What a node has published when it can take and read images."""


@dataclass(slots=True)
class Node:
    """A node of our own in `folder`; its service.toml is `config`."""

    folder: Path
    config: Path
    settings: Settings
    process: subprocess.Popen[bytes] | None = None

    @property
    def port(self) -> int:
        return self.settings.node.port

    def start(self) -> None:
        """Start the service; returns when it answers C-ECHO and its engine is warm. Raises `RuntimeError`."""
        with (self.folder / "node.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "dicom_node.cli.main", "serve", "--config", str(self.config)],
                stderr=log,
                stdout=log,
                preexec_fn=end_with_parent,  # noqa: PLW1509
            )
        deadline = time.monotonic() + START_WITHIN_S
        while not (set(published(self.settings.node.spool)) >= READY and self.answers()):
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the node did not start; see {self.folder / 'node.log'}")
            time.sleep(0.05)

    def answers(self) -> bool:
        """Whether it answers a C-ECHO."""
        ae = AE(ae_title="DEMO")
        ae.connection_timeout = ae.acse_timeout = ae.dimse_timeout = 2
        called = self.settings.node.ae_title
        association = ae.associate("127.0.0.1", self.port, [build_context(Verification)], ae_title=called)
        if not association.is_established:
            return False
        stand_still_while_asking(association)
        status = association.send_c_echo()
        association.release()
        return bool(status) and status.Status == 0

    def pids(self) -> dict[str, int]:
        """The processes of the node by name, the supervisor among them."""
        running = {name: int(str(facts["pid"])) for name, facts in published(self.settings.node.spool).items()}
        if self.process is not None and self.process.poll() is None:
            running["supervisor"] = self.process.pid
        return running

    def stop(self) -> None:
        """Stop it as an administrator would."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(30)

    def kill(self, name: str) -> None:
        """SIGKILL one of its processes."""
        os.kill(self.pids()[name], signal.SIGKILL)


def service_toml(folder: Path, pacs: Pacs, webhook: str = "") -> str:
    """A configuration for a node in `folder` that sends to `pacs` and, where there is one, alerts a webhook."""
    alerts = f'[alerts.oncall]\nchannels = ["{webhook}"]\n' if webhook else ""
    return f"""
[node]
host = "127.0.0.1"
port = {free_port()}
spool = "{folder / "spool"}"

[destinations.pacs]
ae_title = "{PACS_AE_TITLE}"
host = "127.0.0.1"
port = {pacs.port}

{alerts}"""


@contextmanager
def running_node(folder: Path, service_toml: str) -> Iterator[Node]:
    """A node with this configuration, running; stopped at the end. `[node] spool` should lie in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "service.toml"
    config.write_text(service_toml)
    node = Node(folder, config, configuration.load(config))
    try:
        node.start()
        yield node
    finally:
        node.stop()

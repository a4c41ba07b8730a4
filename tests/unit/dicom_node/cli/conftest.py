from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import structlog
from click.testing import CliRunner, Result

from db.connect import Ledger, open_ledger
from dicom_node.cli.main import main
from dicom_node.settings import Settings, load
from dicom_node.spool import Spool
from tests.system.conftest import free_port


@pytest.fixture(autouse=True)
def own_logging() -> Iterator[None]:
    """A command sets the logs of its process up, and its standard error ends with it."""
    handlers, shown = list(logging.root.handlers), warnings.showwarning
    yield
    warnings.showwarning = shown
    logging.root.handlers[:] = handlers
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


@dataclass
class Node:
    """A node that does not run: its service.toml, and commands that use it."""

    config: Path

    @property
    def settings(self) -> Settings:
        return load(self.config)

    def add(self, toml: str) -> None:
        self.config.write_text(f"{self.config.read_text()}{toml}\n")

    def ledger(self) -> Ledger:
        return open_ledger(self.settings.node.database_url)

    def spool(self) -> Spool:
        return Spool(self.settings.node.spool)

    def run(self, *words: object) -> Result:
        return CliRunner().invoke(main, [*map(str, words), "--config", str(self.config)])


@pytest.fixture
def node(tmp_path: Path) -> Node:
    config = tmp_path / "service.toml"
    config.write_text(f'[node]\nhost = "127.0.0.1"\nport = {free_port()}\nspool = "{tmp_path / "spool"}"\n')
    return Node(config)


def invoke(*words: object) -> Result:
    """A command that needs no configuration."""
    return CliRunner().invoke(main, [*map(str, words)])


def told(result: Result, code: int = 0) -> Any:
    """What went wrong, as far as it is not told in words: no command ends in a traceback."""
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code == code, result.output
    return result

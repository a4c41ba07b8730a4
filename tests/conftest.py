"""Fixtures that every suite shares."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import settings as hypothesis_settings

from db.connect import Ledger, open_ledger
from dicom_node.spool import Spool

REPOSITORY = Path(__file__).parent.parent

# How long an example takes depends on what else the machine does.
hypothesis_settings.register_profile("node", deadline=None)
hypothesis_settings.load_profile("node")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--regen", action="store_true", help="write tests/golden anew; read the difference before commit")


@pytest.fixture(scope="session")
def triage_data() -> Path:
    """The folder of real studies; tests that need it are skipped where it is not."""
    folder = Path(os.environ.get("TRIAGE_DATA", REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip("the real studies are not at hand: set TRIAGE_DATA to their folder")
    return folder


@dataclass
class MovableClock:
    """A clock that stands still until a test moves it."""

    now: datetime = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@pytest.fixture
def clock() -> MovableClock:
    return MovableClock()


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "spool")


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    opened = open_ledger(f"sqlite:///{tmp_path / 'ledger.sqlite3'}")
    yield opened
    opened.close()

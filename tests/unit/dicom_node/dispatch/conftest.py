from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import pipelines
from pipelines.catalogue import catalogue
from tests.conftest import REPOSITORY


@pytest.fixture(autouse=True)
def dummy_pipeline() -> Iterator[Path]:
    """Drops one new module into the room of the pipelines."""
    room = REPOSITORY / "tests" / "dummy_pipeline"
    pipelines.__path__.append(str(room))
    catalogue.cache_clear()
    yield room
    pipelines.__path__.remove(str(room))
    catalogue.cache_clear()

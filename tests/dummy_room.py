"""Drops new modules into the room of the pipelines."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pipelines
from pipelines.catalogue import catalogue
from tests.conftest import REPOSITORY

ROOM = REPOSITORY / "tests" / "dummy_pipeline"


@contextmanager
def dummy_pipeline() -> Iterator[None]:
    """The pipelines `dummy` and `dummy_study` are installed while this lasts."""
    pipelines.__path__.append(str(ROOM))
    catalogue.cache_clear()
    try:
        yield
    finally:
        pipelines.__path__.remove(str(ROOM))
        catalogue.cache_clear()

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.dummy_room import dummy_pipeline


@pytest.fixture(autouse=True)
def dummy() -> Iterator[None]:
    with dummy_pipeline():
        yield

from __future__ import annotations

from pathlib import Path

import pytest

from tests.system.killing import torture


@pytest.mark.parametrize("seed", [4])
def test_nothing_is_lost_unread_or_doubled_by_kills(tmp_path: Path, seed: int) -> None:
    assert torture(tmp_path, kills=3, seed=seed) == []

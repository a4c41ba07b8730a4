from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from models import registry
from models.registry import UnverifiedModelError


def _model(folder: Path) -> dict[str, object]:
    save_file({"weight": np.arange(6, dtype=np.float32)}, folder / "toy.safetensors")
    manifest: dict[str, object] = {
        "name": "toy",
        "version": "1",
        "sha256": hashlib.sha256((folder / "toy.safetensors").read_bytes()).hexdigest(),
        "licence": "Apache-2.0",
        "intended_use": "tests",
        "data": "none",
        "architecture": {"name": "toy", "arguments": {}},
        "inputs": {},
        "calibration": {"threshold": 0.5},
        "figures": {},
    }
    (folder / "toy.json").write_text(json.dumps(manifest))
    return manifest


def test_a_matching_pair_is_verified(tmp_path: Path) -> None:
    manifest = _model(tmp_path)
    model = registry.verify("toy", tmp_path)
    assert registry.names(tmp_path) == ("toy",)
    assert model.manifest.sha256 == manifest["sha256"]
    assert model.weights == tmp_path / "toy.safetensors"


@pytest.mark.parametrize("at", [0, 8, 60, -1])
def test_one_changed_byte_of_the_weights_is_noticed(tmp_path: Path, at: int) -> None:
    _model(tmp_path)
    weights = tmp_path / "toy.safetensors"
    changed = bytearray(weights.read_bytes())
    changed[at] ^= 1
    weights.write_bytes(changed)
    with pytest.raises(UnverifiedModelError, match="hash"):
        registry.verify("toy", tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        {"sha256": "0" * 64},
        {"name": "other"},
        {"version": 2},
        {"calibration": []},
        {"more": "field"},
        {"licence": None},
    ],
)
def test_a_wrong_manifest_is_not_accepted(tmp_path: Path, change: dict[str, object]) -> None:
    manifest = _model(tmp_path) | change
    (tmp_path / "toy.json").write_text(json.dumps({key: value for key, value in manifest.items() if value is not None}))
    with pytest.raises(UnverifiedModelError):
        registry.verify("toy", tmp_path)


@pytest.mark.parametrize("lost", ["toy.json", "toy.safetensors"])
def test_a_lost_file_is_noticed(tmp_path: Path, lost: str) -> None:
    _model(tmp_path)
    (tmp_path / lost).unlink()
    with pytest.raises(UnverifiedModelError):
        registry.verify("toy", tmp_path)


def test_a_manifest_that_is_no_json_is_noticed(tmp_path: Path) -> None:
    _model(tmp_path)
    (tmp_path / "toy.json").write_bytes(b"\xff\x00{")
    with pytest.raises(UnverifiedModelError):
        registry.verify("toy", tmp_path)


def test_every_shipped_model_matches_its_manifest() -> None:
    for name in registry.names():
        assert registry.verify(name).manifest.name == name

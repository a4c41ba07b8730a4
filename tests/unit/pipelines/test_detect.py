"""Scores, and the pair of weights and manifest."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from models.registry import verify
from pipelines.hemorrhage import detect, prepare
from pipelines.hemorrhage.detect import Calibration, Maps
from pipelines.reasons import Refusal

CALIBRATION = Calibration(slope=1.0, offset=0.0, threshold=0.5, unsure_from=0.3, pixel_threshold=0.5)


def maps_with(*spots: tuple[int, int]) -> Maps:
    blood = np.zeros((3, prepare.ROWS, prepare.COLUMNS), np.float32)
    for row, column in spots:
        blood[1, row - 5 : row + 5, column - 5 : column + 5] = 0.9
    return Maps(blood, np.ones_like(blood, np.bool_))


def test_a_spot_is_evidence_in_its_own_slice() -> None:
    evidence = detect.evidence_by_slice(maps_with((100, 60)))
    assert int(np.argmax(evidence)) == 1
    assert evidence[1] > 0 > evidence[0]


def test_a_pair_of_mirrored_spots_counts_less() -> None:
    pair = detect.evidence_by_slice(maps_with((100, 60), (100, prepare.COLUMNS - 60)))
    assert pair.max() < detect.evidence_by_slice(maps_with((100, 60))).max()


def test_scores_follow_the_calibration() -> None:
    assert CALIBRATION.score(0.0) == 0.5
    assert Calibration(2.0, -2.0, 0.5, 0.3, 0.5).score(1.0) == 0.5
    assert CALIBRATION.score(-1e6) < 1e-9


class Bright(nn.Module):
    """Calls blood what is brighter than the brain, and inside what is neither dark nor bone."""

    def forward(self, pictures: Tensor) -> Tensor:
        inside = 20.0 * ((pictures[:, 0] > -1.5) & (pictures[:, 0] < 3.0)) - 10.0
        return torch.stack([20 * (pictures[:, 0] - 1), inside], dim=1)


def test_patches_outside_the_skull_do_not_count() -> None:
    stack = np.zeros((4, prepare.ROWS, prepare.COLUMNS), np.float32)
    stack[:, 50:170, 40:150] = 33
    stack[2, 90:100, 60:70] = 60
    stack[2, 10:20, 10:20] = 60
    found = detect.ready(Bright(), CALIBRATION).maps(stack, np.arange(4) * 5.0)
    assert found.blood[2, 95, 65] > 0.9
    assert found.inside[2, 95, 65]
    assert not found.inside[2, 15, 15]
    assert found.blood[2, 15, 15] == 0


def test_the_shipped_weights_load_and_belong_to_their_manifest() -> None:
    model = verify("hemorrhage")
    manifest = detect.load_manifest(model.weights.with_suffix(".json"))
    detector = detect.load_detector(model.weights, manifest)
    maps = detector.maps(np.zeros((2, prepare.ROWS, prepare.COLUMNS), np.float32), np.array([0.0, 5.0]))
    assert detector.calibration.score(float(detect.evidence_by_slice(maps).max())) < detector.calibration.threshold
    assert 0 < detector.calibration.unsure_from < detector.calibration.threshold < 1
    assert model.weights.stat().st_size < 8_000_000


def test_weights_that_do_not_match_are_refused(tmp_path: Path) -> None:
    model = verify("hemorrhage")
    manifest = json.loads(model.weights.with_suffix(".json").read_text())
    changed = tmp_path / "hemorrhage.safetensors"
    changed.write_bytes(model.weights.read_bytes() + b" ")
    with pytest.raises(Refusal) as refused:
        detect.load_detector(changed, manifest)
    assert refused.value.reason.code == "model.unverified"

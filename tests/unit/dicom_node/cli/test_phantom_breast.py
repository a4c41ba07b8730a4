"""`triage-node phantom breast`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydicom import dcmread

from tests.unit.dicom_node.cli.conftest import invoke, told


def test_a_breast_phantom_is_made_to_order(tmp_path: Path) -> None:
    options = ["--groups", 0, "--group", "L:round:regional", "--density", "B", "--pitch-mm", 0.25, "--views", "LMLO"]
    told_truth = told(invoke("phantom", "breast", "--out", tmp_path / "a", *options, "--for-processing", "--json"))
    truth = json.loads(told_truth.stdout)
    assert truth == json.loads((tmp_path / "a" / "truth.json").read_text())
    assert truth["density"] == "B"
    assert [(group["laterality"], group["morphology"], group["distribution"]) for group in truth["groups"]] == [
        ("L", "round", "regional")
    ]
    (image,) = (dcmread(path, stop_before_pixels=True) for path in (tmp_path / "a").glob("*.dcm"))
    assert (image.ImageLaterality, image.PresentationIntentType) == ("L", "FOR PROCESSING")
    assert truth["views"][0]["sop_instance_uid"] == image.SOPInstanceUID


@pytest.mark.parametrize(
    "options",
    [
        ("--group", "X:punctate"), ("--group", "L:nose"), ("--group", "L:punctate:nowhere"), ("--views", "RCC,QQ"),
        ("--views", "RCC,RCC"), ("--pitch-mm", 3), ("--dose", 0), ("--density", "E"), ("--benign", "nose"),
        ("--lookalike", "dust"), ("--lesions", 99), ("--groups", 21),
    ],
)  # fmt: skip
def test_breast_phantoms_that_cannot_be_are_wrong_usage(tmp_path: Path, options: tuple[object, ...]) -> None:
    assert "Usage:" in told(invoke("phantom", "breast", "--out", tmp_path / "x", *options), 2).stderr
    assert not (tmp_path / "x").exists()

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Literal, cast

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from pydicom import Dataset, dcmread
from safetensors.torch import save_file

from models import registry
from pipelines.catalogue import Pipeline, catalogue
from pipelines.findings import ModelIdentity
from pipelines.hemorrhage.detect import Calibration, ready
from pipelines.hemorrhage.pipeline import PIPELINE, Cuts, HemorrhageReader, HemorrhageSettings
from pipelines.hemorrhage.suitability import warnings_about
from pipelines.networks import build_unet
from pipelines.phantom.head.study import MadeStudy, PhantomOptions, make_study
from pipelines.reasons import TriageError
from pipelines.volume import load
from tests.unit.pipelines.series import axial_plane, ct_dataset, write

SMALLEST = {"inputs": 4, "outputs": 2, "widths": [4, 4, 4, 4, 4]}


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> MadeStudy:
    return make_study(tmp_path_factory.mktemp("study"), PhantomOptions(seed=1, pixels=128, slice_mm=8.0))


def untrained(offset: float) -> HemorrhageReader:
    """A reader whose network knows nothing and whose score is that of `offset` alone."""
    torch.manual_seed(0)
    network = build_unet(SMALLEST)
    with torch.no_grad():  # four pixels by two maps: "inside the skull" everywhere
        network.get_submodule("last").get_parameter("bias")[4:] = 10.0
    calibration = Calibration(0.0, offset, 0.6, 0.3, 0.5)
    identity = ModelIdentity("untrained", "0", "0" * 64)
    return HemorrhageReader(ready(network, calibration), identity, Cuts(0.6, 0.3, 0.5), 0.1)


def test_the_catalogue_finds_it_without_loading_torch() -> None:
    code = (
        "import sys; from pipelines.catalogue import catalogue; "
        "assert 'hemorrhage' in catalogue(); assert 'torch' not in sys.modules"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    pipeline: Pipeline = catalogue()["hemorrhage"]
    assert pipeline is cast("Pipeline", PIPELINE)


@pytest.mark.parametrize(("offset", "status"), [(5.0, "finding"), (-0.2, "unsure"), (-5.0, "clean")])
def test_the_score_decides_the_answer(study: MadeStudy, offset: float, status: str) -> None:
    reading = untrained(offset).read(study.files)
    assert reading.outcome.status == status
    assert reading.outcome.score == pytest.approx(1 / (1 + np.exp(-offset)))
    assert bool(reading.outcome.findings) == (status != "clean")
    assert reading.volume is not None
    assert len(reading.headers) == len(reading.outcome.score_by_slice) == len(reading.volume.plane)
    assert set(reading.outcome.timings) == {"load", "prepare", "network", "measure"}
    for finding in reading.outcome.findings:
        assert finding.key_instance_uid in reading.volume.instance_uid
    json.dumps(reading.outcome.as_json())


def test_the_same_files_give_the_same_answer_in_any_order(study: MadeStudy) -> None:
    reader = untrained(5.0)
    first, again = (reader.read(files).outcome.as_json() for files in (study.files, study.files[::-1]))
    assert {**first, "seconds": None} == {**again, "seconds": None}


def test_a_windowed_series_is_read_with_a_warning(study: MadeStudy, tmp_path: Path) -> None:
    datasets = []
    for path in study.files:
        dataset = dcmread(path)
        hu = np.clip(dataset.pixel_array.astype(float) - 1024, -20, 100)
        dataset.PixelData = np.rint((hu + 20) / 120 * 255).astype(np.uint8).tobytes()
        dataset["PixelData"].VR = "OB"
        dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 8, 8, 7
        dataset.RescaleSlope, dataset.RescaleIntercept = "0.47058824", -20
        dataset.ImageType = ["DERIVED", "SECONDARY"]
        datasets.append(dataset)
    outcome = untrained(-5.0).read(write(tmp_path, datasets)).outcome
    assert outcome.status == "clean"
    assert "input.clipped_values" in {reason.code for reason in outcome.warnings}


@pytest.mark.parametrize(
    ("agent", "inside_ml", "codes"),
    [
        ("iodine", 1300.0, {"contrast.given"}),
        ("NONE", 1300.0, set()),
        ("", 300.0, {"body_part.partial"}),
    ],
)
def test_contrast_and_a_partial_head_are_told(
    study: MadeStudy, tmp_path: Path, agent: str, inside_ml: float, codes: set[str]
) -> None:
    datasets: list[Dataset] = [dcmread(path) for path in study.files[12:16]]
    for dataset in datasets:
        dataset.ContrastBolusAgent = agent
    series = load(write(tmp_path, datasets))
    assert {reason.code for reason in warnings_about(series, inside_ml)} == codes


@pytest.mark.parametrize(
    ("shape", "hu", "reason"),
    [
        ((32, 32), 40, "input.matrix_too_small"),
        ((128, 128), -1000, "body_part.unexpected"),
        ((128, 128), 40, "body_part.unexpected"),
    ],
)
def test_what_is_no_head_is_not_read(tmp_path: Path, shape: tuple[int, int], hu: int, reason: str) -> None:
    stored = np.full(shape, hu + 1024, np.uint16)
    datasets = [ct_dataset(axial_plane(5.0 * k), stored) for k in range(12)]
    outcome = untrained(5.0).read(write(tmp_path, datasets)).outcome
    assert outcome.status == "not_read"
    assert outcome.reason is not None
    assert outcome.reason.code == reason
    assert outcome.score is None


def test_coronal_slices_are_not_read(study: MadeStudy, tmp_path: Path) -> None:
    datasets = [dcmread(path) for path in study.files]
    for k, dataset in enumerate(datasets):
        dataset.ImageOrientationPatient = [1, 0, 0, 0, 0, -1]
        dataset.ImagePositionPatient = [-100, 5.0 * k, 100]
    outcome = untrained(5.0).read(write(tmp_path, datasets)).outcome
    assert outcome.reason is not None
    assert outcome.reason.code == "geometry.not_axial"
    assert outcome.reason.facts["angle"] == 90


@pytest.mark.parametrize("folder", ["head/philips_phantom_study", "chest/lidc_slabs/LIDC-IDRI-0314_slab_dicom"])
def test_a_skull_full_of_air_and_a_chest_are_not_read(triage_data: Path, folder: str) -> None:
    files = sorted(path for path in (triage_data / folder).rglob("*") if path.is_file() and path.suffix != ".txt")
    outcome = untrained(5.0).read(files).outcome
    assert outcome.reason is not None
    assert outcome.reason.code == "body_part.unexpected"


def test_the_real_tilted_head_is_read(triage_data: Path) -> None:
    files = sorted((triage_data / "head" / "ge_tilted_variable_spacing").glob("*.dcm"))
    reading = untrained(-5.0).read(files)
    assert reading.outcome.status == "clean"
    assert {reason.code for reason in reading.outcome.warnings} == {"geometry.tilted", "geometry.variable_spacing"}


@pytest.mark.skipif("hemorrhage" not in registry.names(), reason="no weights are shipped yet")
@pytest.mark.parametrize(("bleed", "status"), [("none", "clean"), ("intraparenchymal", "finding")])
def test_the_shipped_network_reads_phantoms_rightly(
    tmp_path: Path, bleed: Literal["none", "intraparenchymal"], status: str
) -> None:
    made = make_study(tmp_path, PhantomOptions(seed=7, bleed=bleed, volume_ml=30, pixels=256))
    outcome = PIPELINE.open(HemorrhageSettings(threads=1)).read(made.files).outcome
    assert outcome.status == status
    if outcome.findings:
        assert outcome.findings[0].center_mm == pytest.approx(made.truth["center_mm"], abs=6)
        assert outcome.findings[0].measured("volume_ml") == pytest.approx(made.truth["volume_ml"], rel=0.4)
        assert outcome.findings[0].side == made.truth["side"]


def _shipped(folder: Path) -> None:
    """An untrained model with its manifest, as a folder of models."""
    network = build_unet(SMALLEST)
    save_file(
        {name: value.contiguous() for name, value in network.state_dict().items()}, folder / "hemorrhage.safetensors"
    )
    manifest = {
        "name": "hemorrhage",
        "version": "0",
        "sha256": hashlib.sha256((folder / "hemorrhage.safetensors").read_bytes()).hexdigest(),
        "licence": "",
        "intended_use": "",
        "data": "",
        "architecture": {"name": "unet25d", "arguments": SMALLEST},
        "inputs": {},
        "calibration": {"slope": 1, "offset": 0, "threshold": 0.6, "unsure_from": 0.3, "pixel_threshold": 0.4},
        "figures": {},
    }
    (folder / "hemorrhage.json").write_text(json.dumps(manifest))


def test_opening_takes_thresholds_from_the_manifest_unless_they_are_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _shipped(tmp_path)
    verify = registry.verify
    monkeypatch.setattr(registry, "verify", lambda name: verify(name, tmp_path))
    assert PIPELINE.open(HemorrhageSettings(threads=1)).cuts == Cuts(0.6, 0.3, 0.4)
    assert PIPELINE.open(HemorrhageSettings(threads=1, threshold=0.2)).cuts == Cuts(0.2, 0.2, 0.4)
    assert PIPELINE.open(HemorrhageSettings(threads=1, unsure_from=0.1)).model.name == "hemorrhage"


def test_weights_that_were_tampered_with_are_not_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _shipped(tmp_path)
    weights = tmp_path / "hemorrhage.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\xff")
    verify = registry.verify
    monkeypatch.setattr(registry, "verify", lambda name: verify(name, tmp_path))
    with pytest.raises(TriageError) as caught:
        PIPELINE.open(HemorrhageSettings(threads=1))
    assert caught.value.reason.code == "model.unverified"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_device_that_is_not_there_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _shipped(tmp_path)
    verify = registry.verify
    monkeypatch.setattr(registry, "verify", lambda name: verify(name, tmp_path))
    with pytest.raises(TriageError) as caught:
        PIPELINE.open(HemorrhageSettings(threads=1, device="cuda"))
    assert caught.value.reason.code == "model.no_device"


def test_settings_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(ValidationError, match="unsure_from"):
        HemorrhageSettings(threshold=0.3, unsure_from=0.5)

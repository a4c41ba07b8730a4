from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from pipelines.hemorrhage.measure import Midplane, find_bleeds
from pipelines.phantom.head import labels as tissue
from pipelines.phantom.head.anatomy import Anatomy, make_head
from pipelines.phantom.head.bleeds import Kind
from pipelines.phantom.head.study import MadeStudy, PhantomOptions, make_study
from pipelines.volume import load

SMALL = {"pixels": 128, "slice_mm": 8.0}


@pytest.fixture(scope="module")
def head() -> Anatomy:
    return make_head(np.random.default_rng(4))


@pytest.fixture(scope="module")
def tilted(tmp_path_factory: pytest.TempPathFactory) -> MadeStudy:
    options = PhantomOptions(
        seed=3, bleed="intraparenchymal", volume_ml=30, tilt_degrees=18.5, has_variable_spacing=True, pixels=256
    )
    return make_study(tmp_path_factory.mktemp("tilted"), options)


def _ml(head: Anatomy, *numbers: int) -> float:
    return float(tissue.table(*numbers)[head.labels].sum()) / 1000


@pytest.mark.parametrize(
    ("numbers", "least", "most"),
    # adults: intracranial 1200-1700 mL, ventricles 10-60, cerebellum 100-180, fluid around the brain 100-550
    [
        (tissue.INTRACRANIAL, 1200, 1700),
        (tissue.VENTRICLES, 10, 60),
        (tissue.CEREBELLUM, 100, 180),
        ((tissue.FLUID, tissue.SULCUS), 100, 550),
        (tissue.WHITE_MATTER, 350, 700),
        (tissue.CORTEX, 300, 650),
        ((tissue.FALX,), 2, 15),
        ((tissue.AIR_CELL,), 10, 80),
        ((tissue.EYE,), 8, 20),
    ],
)
def test_a_made_head_has_the_volumes_of_an_adult(
    head: Anatomy, numbers: tuple[int, ...], least: float, most: float
) -> None:
    assert least < _ml(head, *numbers) < most


def test_a_made_head_is_about_as_large_on_both_sides(head: Anatomy) -> None:
    for left, right in (tissue.WHITE_MATTER, tissue.CORTEX, tissue.LATERAL_VENTRICLE, tissue.THALAMUS):
        assert _ml(head, left) == pytest.approx(_ml(head, right), rel=0.15)
    x = np.nonzero(head.labels == tissue.LATERAL_VENTRICLE[0])[2] + head.origin[0]
    assert x.mean() > 5  # LPS: x grows to the left


def test_a_study_is_read_back_as_it_was_made(tilted: MadeStudy) -> None:
    series = load(tilted.files)
    assert {reason.code for reason in series.warnings} == {"geometry.tilted", "geometry.variable_spacing"}
    assert len(series.volume.plane) == len(tilted.files)
    slices = tilted.truth["slices"]
    assert isinstance(slices, list)
    assert [entry["sop_instance_uid"] for entry in slices] == list(series.volume.instance_uid)
    brain = series.volume.hu[len(series.volume.hu) // 2, 118:138, 100:120]
    assert 15 < np.median(brain) < 60


def test_measuring_the_painted_blood_finds_the_truth(tilted: MadeStudy) -> None:
    volume = load(tilted.files).volume
    probability = np.rint(tilted.blood * 255).astype(np.uint8)
    midplane = Midplane(np.zeros(3), np.array([1.0, 0.0, 0.0]))
    found = find_bleeds(volume, probability, midplane, cut=0.5, least_ml=0, score=1, model_sha256="")
    volumes = [finding.measured("volume_ml") or 0.0 for finding in found]
    assert volumes[0] > 0.9 * sum(volumes)  # ragged bleeds shed crumbs
    assert sum(volumes) == pytest.approx(tilted.truth["volume_ml"], rel=0.05)
    assert found[0].center_mm == pytest.approx(tilted.truth["center_mm"], abs=2)
    assert found[0].side == tilted.truth["side"]
    slices = tilted.truth["slices"]
    assert isinstance(slices, list)
    areas = [entry["bleed_area_mm2"] for entry in slices]
    key = [entry["sop_instance_uid"] for entry in slices].index(found[0].key_instance_uid)
    assert areas[key] == max(areas)


@pytest.mark.parametrize("kind", get_args(Kind))
def test_each_kind_has_about_its_volume_in_the_slices(tmp_path: Path, kind: Kind) -> None:
    made = make_study(tmp_path, PhantomOptions(seed=5, bleed=kind, volume_ml=15, **SMALL))
    assert json.loads((tmp_path / "truth.json").read_text()) == made.truth
    assert made.truth["kind"] == kind
    areas = made.blood.sum(axis=(1, 2)) * (230 / 128) ** 2
    assert float(areas.sum()) * 8 / 1000 == pytest.approx(made.truth["volume_ml"], rel=0.15)


def test_a_clean_study_has_no_blood_and_its_progress_ends(tmp_path: Path) -> None:
    heard: list[tuple[int, int]] = []
    made = make_study(tmp_path, PhantomOptions(seed=5, **SMALL), lambda done, total: heard.append((done, total)))
    assert made.blood.max() == 0
    assert made.truth["volume_ml"] == 0
    assert made.truth["kind"] is None
    assert [done for done, _ in heard] == list(range(1, heard[-1][1] + 1))


def test_the_same_options_give_the_same_bytes(tmp_path: Path) -> None:
    first, again = (
        make_study(tmp_path / name, PhantomOptions(seed=1, bleed="subdural", **SMALL)) for name in ("first", "again")
    )
    assert [path.read_bytes() for path in first.files] == [path.read_bytes() for path in again.files]
    assert first.truth == again.truth


@pytest.mark.parametrize(
    "options",
    [
        PhantomOptions(bleed="epidural", volume_ml=0),
        PhantomOptions(bleed="epidural", volume_ml=500),
        PhantomOptions(slice_mm=0.1),
        PhantomOptions(tilt_degrees=60),
    ],
)
def test_what_no_scanner_makes_is_refused(tmp_path: Path, options: PhantomOptions) -> None:
    with pytest.raises(ValueError, match=r"bleed|slices|gantry"):
        make_study(tmp_path, options)


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dciodvfy is not installed")
def test_every_image_is_valid_ct(tilted: MadeStudy) -> None:
    for path in tilted.files[::5]:
        done = subprocess.run(["dciodvfy", "-new", str(path)], capture_output=True, text=True, check=False)
        assert "Error" not in done.stderr, done.stderr
    done = subprocess.run(["dcentvfy", *map(str, tilted.files)], capture_output=True, text=True, check=False)
    assert done.stderr.strip() == ""

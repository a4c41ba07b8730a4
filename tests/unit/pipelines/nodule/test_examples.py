"""Made scenes: repeatable, truthful, and shown as a scanner would."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipelines.nodule import examples
from pipelines.nodule.examples import Background, Library, Recipe, Scanner
from pipelines.phantom.chest.nodules import Canvas


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Library:
    """One small background of even lung in a body."""
    folder = tmp_path_factory.mktemp("backgrounds")
    lungs = np.zeros((80, 90, 90), np.uint8)
    lungs[5:75, 10:80, 10:80] = 1
    hu = np.where(lungs > 0, -860, 30).astype(np.int16)
    none = np.zeros_like(lungs)
    examples.save_background(Background(hu, lungs, none, none, np.array([[40, 40, 40]], np.int32)), folder / "000.json")
    return examples.open_library(folder, Path("nowhere"), None, 2, real=0.0)


def test_a_scene_follows_from_its_generator(library: Library) -> None:
    first, again = (examples.make_scene(library, Recipe(real=0, empty=0), np.random.default_rng(5)) for _ in range(2))
    np.testing.assert_array_equal(first.image, again.image)
    assert first.nodules == again.nodules


def test_nodules_are_where_the_scene_says(library: Library) -> None:
    brighter = 0
    for seed in range(12):
        scene = examples.make_scene(library, Recipe(real=0, empty=0), np.random.default_rng(seed))
        for nodule in scene.nodules:
            z, y, x = (round(value) for value in nodule.center)
            around = scene.image[max(0, z - 1) : z + 2, max(0, y - 1) : y + 2, max(0, x - 1) : x + 2]
            brighter += float(around.mean()) > -840
            assert scene.lungs[z, y, x] or nodule.diameter_mm > 6
    assert brighter >= 12


def scanner(**changed: float) -> Scanner:
    plain = {"slice_mm": 1.0, "step_mm": 1.0, "point_spread_mm": 0.3, "sharpening": 0.0, "noise_hu": 10.0}
    return Scanner(**{**plain, "grain_mm": 0.5, **changed})


def canvas(hu: np.ndarray) -> Canvas:
    ones = np.ones(hu.shape, np.uint8)
    none = np.zeros(hu.shape, np.bool_)
    return Canvas(hu.astype(np.float32), ones, none, none, np.zeros(hu.shape, np.float32))


def test_the_scanner_keeps_numbers_and_adds_the_noise_it_says() -> None:
    shown = examples.show(canvas(np.full((40, 40, 40), -850.0)), scanner(noise_hu=30.0), np.random.default_rng(0))
    assert shown.mean() == pytest.approx(-850, abs=2)
    acquired = examples.acquire(canvas(np.full((40, 40, 40), -850.0)), scanner(noise_hu=30.0), np.random.default_rng(0))
    assert acquired.hu.std() == pytest.approx(30, rel=0.05)


def test_thick_slices_spread_what_is_small_over_their_thickness() -> None:
    hu = np.full((40, 40, 40), -850.0)
    hu[20, 18:22, 18:22] = 50.0
    thin = examples.show(canvas(hu), scanner(noise_hu=0.01), np.random.default_rng(0))
    thick = examples.show(canvas(hu), scanner(noise_hu=0.01, slice_mm=4.0, step_mm=4.0), np.random.default_rng(0))
    assert thin[20, 20, 20] > thick[20, 20, 20] + 100
    assert thick[:, 20, 20].sum() == pytest.approx(thin[:, 20, 20].sum(), rel=0.15)


def test_noise_that_an_implant_brought_is_not_added_again() -> None:
    on = canvas(np.full((24, 40, 40), -850.0))
    on.noise[:, :20] = 30.0**2
    acquired = examples.acquire(on, scanner(noise_hu=30.0), np.random.default_rng(0))
    assert acquired.hu[:, :20].std() < 3
    assert acquired.hu[:, 20:].std() > 25

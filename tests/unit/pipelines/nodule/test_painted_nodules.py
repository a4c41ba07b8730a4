"""Nodules painted and implanted: what is told of them is what the voxels show, and nothing else changes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.nodule import implant
from pipelines.phantom.chest import nodules
from pipelines.phantom.chest.nodules import Canvas, NoduleRecipe

SIDE = 56


def canvas(wall: int = 10) -> Canvas:
    """Lung of -860 HU with a chest wall of `wall` voxels on the patient's right."""
    lungs = np.ones((SIDE,) * 3, np.uint8)
    lungs[..., :wall] = 0
    hu = np.where(lungs > 0, -860, 40).astype(np.float32)
    none = np.zeros_like(lungs, np.bool_)
    return Canvas(hu, lungs, none, none, np.zeros_like(hu))


@given(kind=st.sampled_from(nodules.KINDS), diameter=st.floats(3.5, 24.0), seed=st.integers(0, 10_000))
@settings(max_examples=25, deadline=None)
def test_a_painted_nodule_has_the_size_and_place_that_are_told(kind: nodules.Kind, diameter: float, seed: int) -> None:
    on = canvas()
    before = on.hu.copy()
    center = np.array([28.0, 28.0, 34.0])
    made = nodules.paint(on, NoduleRecipe(kind, "intrapulmonary", diameter), center, np.random.default_rng(seed))
    assert made is not None
    assert np.linalg.norm(np.array(made.center) - center) < 1 + 0.15 * diameter
    assert 0.6 * diameter < made.diameter_mm < 1.45 * diameter
    changed = np.argwhere(np.abs(on.hu - before) > 20)
    assert np.abs(changed - center).max() < 2.2 * diameter / 2 + 5
    assert on.hu[tuple(np.rint(center).astype(int))] > -860


def test_ground_glass_lets_vessels_through() -> None:
    on = canvas()
    on.hu[28, 28, :] = 30.0
    nodules.paint(
        on, NoduleRecipe("ground_glass", "intrapulmonary", 12.0), np.array([28.0, 28.0, 34.0]), np.random.default_rng(1)
    )
    assert on.hu[28, 28, 34] == pytest.approx(30.0)
    assert -800 < on.hu[31, 28, 34] < -350


def test_a_juxtapleural_nodule_ends_at_the_pleura() -> None:
    generator = np.random.default_rng(3)
    on = canvas()
    center = nodules.place(on, "juxtapleural", 5.0, generator)
    assert center is not None
    made = nodules.paint(on, NoduleRecipe("solid", "juxtapleural", 10.0), center, generator)
    assert made is not None
    assert np.all(on.hu[on.lungs == 0] == 40)


@given(seed=st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_places_are_in_the_lung_and_apart(seed: int) -> None:
    generator = np.random.default_rng(seed)
    on = canvas()
    taken = [(np.array([28.0, 28.0, 34.0]), 6.0)]
    center = nodules.place(on, "intrapulmonary", 4.0, generator, taken=taken)
    assert center is not None
    assert on.lungs[tuple(np.rint(center).astype(int))] == 1
    assert np.linalg.norm(center - taken[0][0]) > 14
    assert center.min() >= 5 and center.max() <= SIDE - 6


def test_where_there_is_no_lung_nothing_is_placed() -> None:
    on = canvas(wall=SIDE)
    assert nodules.place(on, "intrapulmonary", 3.0, np.random.default_rng(0)) is None


def patch_folder(folder: Path, *, flipped: bool = False) -> Path:
    """One made patch in the form of the LIDC ones: a ball of 8 mm at 0.7 x 0.7 x 1.25 mm that three readers marked."""
    spacing = np.array([0.7, 0.7, 1.25])
    axes = np.meshgrid(*(np.arange(n) * s for n, s in zip((44, 44, 8), spacing, strict=True)), indexing="ij")
    middle = [15.13, 14.91, 4.41]  # so that no voxel lies at just 4 mm
    far = np.sqrt(sum((axis - value) ** 2 for axis, value in zip(axes, middle, strict=True)))
    image = np.where(far < 4, 30, -880).astype(np.int16)
    image[30:34, :, :] = 60
    masks = np.where(far < 4, 0b111, 0).astype(np.uint8)
    affine = np.diag([-0.7, -0.7, 1.25, 1.0])
    if flipped:
        image, masks, affine[0, 0] = image[::-1], masks[::-1], 0.7
    (folder / "nodules").mkdir(parents=True)
    np.savez(folder / "nodules" / "a.npz", image=image, masks=masks, affine=affine, spacing=spacing)
    columns = "nodule_id,patient_id,file,n_readers,flags,texture_ratings,malignancy_ratings,calcification_ratings"
    row = "a_R_1,P1,nodules/a.npz,3,,5;5;4,3;3;3,6;6;6"
    unmatched = "b_R_1,P1,nodules/b.npz,3,reader_masks_unmatched,5;5;4,3;3;3,6;6;6"
    (folder / "index.csv").write_text(f"{columns}\n{row}\n{unmatched}\n", encoding="utf-8")
    return folder


def test_an_implant_is_where_and_as_large_as_told(tmp_path: Path) -> None:
    (patch,) = implant.load_patches(patch_folder(tmp_path))
    assert patch.kind == "solid"
    for seed in range(5):
        on = canvas()
        center = np.array([28.0, 30.0, 33.0])
        made = implant.implant(on, patch, center, "intrapulmonary", np.random.default_rng(seed), scale=1.1)
        assert made is not None
        assert np.linalg.norm(np.array(made.center) - center) < 0.7
        assert made.diameter_mm == pytest.approx(8.8, abs=0.7)
        assert on.hu[28, 30, 33] > 0
        # Beyond the blended rim the lung is as it was.
        assert np.all(on.hu[:16] == np.where(on.lungs[:16] > 0, -860, 40))


def test_axes_that_run_the_other_way_are_turned(tmp_path: Path) -> None:
    (plain,) = implant.load_patches(patch_folder(tmp_path / "plain"))
    (flipped,) = implant.load_patches(patch_folder(tmp_path / "flipped", flipped=True))
    np.testing.assert_array_equal(plain.hu, flipped.hu)
    np.testing.assert_array_equal(plain.consensus, flipped.consensus)


def test_a_piece_without_nodule_brings_no_nodule(tmp_path: Path) -> None:
    (patch,) = implant.load_patches(patch_folder(tmp_path))
    for seed in range(8):
        on = canvas()
        implant.set_piece(on, patch, np.array([28.0, 28.0, 34.0]), np.random.default_rng(seed))
        assert on.hu[on.lungs > 0].max() < 100


def test_folds_hold_every_patient_once() -> None:
    names = [f"LIDC-IDRI-{number:04d}" for number in range(400)]
    folds = [implant.fold_of(name, 2) for name in names]
    assert 140 < sum(folds) < 260
    assert folds == [implant.fold_of(name, 2) for name in names]

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import ndimage

from pipelines.phantom.chest import study
from pipelines.phantom.chest.anatomy import Chest, make_chest
from pipelines.phantom.chest.build import ChestOptions
from pipelines.phantom.chest.frame import LEFT, RIGHT
from pipelines.phantom.chest.nodules import NoduleRecipe
from pipelines.phantom.chest.study import ChestStudyOptions, MadeStudy, make_study
from pipelines.phantom.chest.trees import draw_thick, draw_thin, grow
from pipelines.volume import load

RECIPES = (
    NoduleRecipe("solid", "intrapulmonary", 12.0),
    NoduleRecipe("ground_glass", "intrapulmonary", 18.0),
    NoduleRecipe("calcified", "intrapulmonary", 9.0),
)
OPTIONS = ChestStudyOptions(
    seed=3, nodules=0, recipes=RECIPES, slice_mm=4.0, pixels=192, kernel="soft", has_padding=True, position="HFP"
)


@pytest.fixture(scope="module")
def chest() -> Chest:
    """A chest drawn once for all: of typical build, with one of each finding."""
    options = ChestOptions(
        height=236, half_width=122, half_depth=92, fat=8, scars=2, plates=1, tags=3, plaques=2, mucus=1, hazes=1,
        emphysema=0.2, cardiac_blur=1.5, is_prone=True,
    )  # fmt: skip
    return make_chest(np.random.default_rng(5), options=options)


@pytest.fixture(scope="module")
def made(chest: Chest, tmp_path_factory: pytest.TempPathFactory) -> tuple[MadeStudy, MadeStudy]:
    """A study of that chest, and one some months later with nodules of twice the volume."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(study, "make_chest", lambda *_args, **_options: chest)
        return (
            make_study(tmp_path_factory.mktemp("first"), OPTIONS),
            make_study(tmp_path_factory.mktemp("later"), replace(OPTIONS, growth=2.0)),
        )


def _nodules(made: MadeStudy) -> list[dict[str, Any]]:
    found = made.truth["nodules"]
    assert isinstance(found, list)
    return found


def test_a_made_chest_has_two_lungs_of_an_adult(chest: Chest) -> None:
    x = np.arange(chest.hu.shape[2]) + chest.origin_mm[0]
    for side, sign in ((RIGHT, -1), (LEFT, 1)):
        lung = chest.lungs == side
        assert 1.0e6 < lung.sum() < 3.5e6
        assert sign * (lung.sum(axis=(0, 1)) @ x) > 0  # LPS: x grows to the left
        pieces, count = ndimage.label(lung[::2, ::2, ::2])
        assert np.bincount(pieces.ravel())[1:].max() > 0.99 * (pieces > 0).sum(), count


def test_every_voxel_of_a_lung_is_in_a_lobe_of_its_side(chest: Chest) -> None:
    assert set(np.unique(chest.lobes[chest.lungs == RIGHT])) == {1, 2, 3}
    assert set(np.unique(chest.lobes[chest.lungs == LEFT])) == {4, 5}
    assert not chest.lobes[chest.lungs == 0].any()
    heights = [np.nonzero(chest.lobes == lobe)[0].mean() for lobe in range(1, 6)]
    assert heights[0] > heights[1]
    assert heights[0] > heights[2]
    assert heights[3] > heights[4]


def test_tissues_have_their_hounsfield_units(chest: Chest) -> None:
    inside = ndimage.binary_erosion(chest.lungs > 0, iterations=3)
    assert -910 < np.median(chest.hu[inside & (chest.vessel == 0)]) < -780
    assert np.median(chest.hu[chest.vessel > 0]) > -350
    assert chest.hu[0, 0, 0] == -1000
    assert (chest.hu > 400).sum() > 100_000  # bone
    soft = chest.hu[(chest.hu > -50) & (chest.hu < 100)]
    assert soft.size > 3e6


def test_vessels_fill_the_lungs_as_in_real_ones(chest: Chest) -> None:
    # real scans of 1 to 3 mm: 3 to 7 of 100 voxels in the lung are above -600 HU
    hu = ndimage.gaussian_filter(chest.hu.astype(np.float32)[100:140], 0.6)
    lung = ndimage.binary_erosion(chest.lungs[100:140] > 0, iterations=4)
    assert 0.02 < (hu[lung] > -600).mean() < 0.09
    depth = ndimage.distance_transform_edt(chest.lungs[100:140] > 0)
    outer, inner = ((depth > a) & (depth < b) for a, b in ((5, 12), (25, 60)))
    assert (hu[outer] > -700).mean() > 0.01
    assert (hu[inner] > -700).mean() > 0.01


def test_fissures_are_thin_sheets_in_the_lung(chest: Chest) -> None:
    assert chest.lungs[chest.fissure].all()
    assert 3_000 < chest.fissure.sum() < 150_000
    near = ndimage.binary_dilation(chest.fissure[120:150], iterations=2)
    steps = chest.lobes[120:150][near & (chest.lungs[120:150] == LEFT)]
    assert set(np.unique(steps)) == {4, 5}  # fissures part lobes
    assert -800 < np.median(chest.hu[chest.fissure & (chest.vessel == 0)]) < -450


def test_the_places_that_look_like_nodules_lie_in_the_chest(chest: Chest) -> None:
    kinds = {place.kind for place in chest.hard}
    assert {"vessel_crossing", "bifurcation", "vessel_end_on", "pleural_tag", "rib_end", "mucus", "scar"} <= kinds
    for place in chest.hard:
        assert all(0 <= at < side for at, side in zip(place.center, chest.hu.shape, strict=True))
    forks = [place.center for place in chest.hard if place.kind == "bifurcation"]
    near = [
        chest.vessel[max(k - 2, 0) : k + 3, max(j - 2, 0) : j + 3, max(i - 2, 0) : i + 3].any() for k, j, i in forks
    ]
    assert np.mean(near) > 0.7


def test_the_same_seed_gives_the_same_chest(chest: Chest) -> None:
    again = make_chest(np.random.default_rng(5), options=chest.options)
    assert np.array_equal(again.hu, chest.hu)
    assert np.array_equal(again.lungs, chest.lungs)
    assert again.hard == chest.hard


def test_a_study_is_read_back_as_it_was_made(made: tuple[MadeStudy, MadeStudy]) -> None:
    first, _ = made
    series = load(first.files)
    assert series.warnings == ()
    volume = series.volume
    assert volume.hu.shape == first.nodules.shape
    assert json.loads((first.files[0].parent / "truth.json").read_text()) == json.loads(json.dumps(first.truth))
    assert series.headers[0].PatientPosition == "HFP"
    assert volume.plane[0].row_direction == (-1, 0, 0)
    assert volume.plane[0].column_direction == (0, -1, 0)
    assert volume.hu[0, 0, 0] == -1024  # padding
    assert series.headers[0].PixelPaddingValue == -2000


def test_the_truth_says_where_the_pixels_hold_nodules(made: tuple[MadeStudy, MadeStudy]) -> None:
    for one in made:
        volume = load(one.files).volume
        entries = _nodules(one)
        assert [entry["kind"] for entry in entries] == ["solid", "ground_glass", "calcified"]
        for number, entry in enumerate(entries, start=1):
            where = np.argwhere(one.nodules == number)
            k, j, i = where.mean(axis=0)
            near = volume.patient_from_voxel(round(k), j, i)
            assert near == pytest.approx(entry["center_mm"], abs=4)
            assert where[:, 0].min() <= entry["slice"] <= where[:, 0].max()
            assert volume.instance_uid[entry["slice"]] == entry["sop_instance_uid"]
            assert entry["side"] == ("left" if entry["center_mm"][0] > 0 else "right")
            ml = len(where) * volume.plane[0].pixel_area_mm2 * 4
            assert ml == pytest.approx(entry["volume_mm3"], rel=0.35)
            bright = np.percentile(volume.hu[one.nodules == number], 90)
            low, high = {"solid": (-150, 150), "ground_glass": (-790, -300), "calcified": (100, 2000)}[entry["kind"]]
            assert low < bright < high


def test_nodules_grow_by_the_factor_and_the_patient_has_moved(made: tuple[MadeStudy, MadeStudy]) -> None:
    first, later = made
    for before, after in zip(_nodules(first), _nodules(later), strict=True):
        assert after["volume_mm3"] / before["volume_mm3"] == pytest.approx(2.0, rel=0.06)
        assert after["side"] == before["side"]
        assert 1 < np.linalg.norm(np.subtract(after["center_mm"], before["center_mm"])) < 60
    headers = [load(one.files).headers[0] for one in made]
    assert headers[0].PatientID == headers[1].PatientID
    assert headers[0].StudyDate < headers[1].StudyDate
    assert headers[0].StudyInstanceUID != headers[1].StudyInstanceUID


@pytest.mark.parametrize(
    "options",
    [
        ChestStudyOptions(slice_mm=0.1),
        ChestStudyOptions(dose=0),
        ChestStudyOptions(growth=100),
        ChestStudyOptions(recipes=(NoduleRecipe("solid", "intrapulmonary", 500),)),
        ChestStudyOptions(field_mm=50),
        ChestStudyOptions(study_date="20251341"),
    ],
)
def test_what_no_scanner_makes_is_refused(tmp_path: Path, options: ChestStudyOptions) -> None:
    with pytest.raises(ValueError, match=r"slices|dose|grow|nodules|field|month|isoformat"):
        make_study(tmp_path, options)


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dciodvfy is not installed")
def test_every_image_is_valid_ct(made: tuple[MadeStudy, MadeStudy]) -> None:
    for path in made[0].files[::20]:
        done = subprocess.run(["dciodvfy", "-new", str(path)], capture_output=True, text=True, check=False)
        assert "Error" not in done.stderr, done.stderr


def test_a_tree_reaches_all_its_points_and_is_thickest_at_its_root() -> None:
    generator = np.random.default_rng(1)
    points = generator.uniform(0, 60, (300, 3)).astype(np.float32)
    tree = grow(np.array([0, 30, 30], np.float32), points, generator)
    assert len(tree.end) == 300
    roots = tree.parent < 0
    assert tree.terminals[roots].sum() == (np.bincount(tree.parent[~roots], minlength=300) == 0).sum()
    assert (tree.parent < np.arange(300)).all()
    radius = tree.radius(0.4)
    assert (radius[~roots] <= radius[tree.parent[~roots]]).all()
    ends = tree.end[np.bincount(tree.parent[~roots], minlength=300) == 0]
    nearest = np.linalg.norm(ends[:, None] - points, axis=2).min(axis=1)
    assert nearest.max() < 1e-3  # leaves keep their place


@pytest.mark.parametrize("draw", [draw_thin, draw_thick])
def test_a_tube_fills_its_volume(draw: Any) -> None:
    field = np.zeros((20, 20, 40), np.float32)
    start, end = np.array([[10.3, 9.6, 8.0]], np.float32), np.array([[10.3, 9.6, 32.0]], np.float32)
    radius = np.array([1.2], np.float32)
    draw(field, start, end, radius)
    assert field[:, :, 12:28].sum() == pytest.approx(np.pi * 1.44 * 16, rel=0.12)

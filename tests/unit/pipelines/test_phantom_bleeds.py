"""The painter of bleeds and the scanner, on a head of a few balls in a skull."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from pipelines.geometry import Floats, Plane
from pipelines.phantom.head import bleeds, ct
from pipelines.phantom.head import labels as tissue
from pipelines.phantom.head.bleeds import KINDS, Bleed, Kind, Labels, Surroundings

SIDE = 110
MIDDLE = (SIDE - 1) / 2


def ball_head() -> Labels:
    """Skull, fluid, cortex and white matter as shells; two ventricles; a brain stem; a falx."""
    z, y, x = np.ogrid[:SIDE, :SIDE, :SIDE]
    radius = np.sqrt((z - MIDDLE) ** 2 + (y - MIDDLE) ** 2 + (x - MIDDLE) ** 2)
    left = np.broadcast_to(x > MIDDLE, radius.shape)
    labels = np.zeros(radius.shape, np.uint8)
    labels[radius < 53] = tissue.HARD_BONE
    labels[radius < 48] = tissue.SULCUS
    for side, half in enumerate((left, ~left)):
        labels[(radius < 45) & half] = tissue.CORTEX[side]
        labels[(radius < 40) & half] = tissue.WHITE_MATTER[side]
        beside = np.sqrt((z - MIDDLE) ** 2 + ((y - MIDDLE) / 2) ** 2 + (np.abs(x - MIDDLE) - 9) ** 2)
        labels[(beside < 6) & half] = tissue.LATERAL_VENTRICLE[side]
        labels[(beside > 9) & (beside < 10) & half & (radius < 20)] = tissue.THALAMUS[side]
    labels[(radius < 45) & (np.abs(x - MIDDLE) < 1) & (z > MIDDLE + 12)] = tissue.FALX
    labels[(radius < 48) & (z < MIDDLE - 25)] = tissue.FLUID
    labels[(np.hypot(y - MIDDLE, x - MIDDLE) < 8) & (z < MIDDLE - 15) & (radius < 46)] = tissue.BRAIN_STEM
    return labels


@cache
def around() -> Surroundings:
    return bleeds.survey(ball_head())


@cache
def painted(kind: Kind, volume_ml: float, seed: int) -> tuple[Labels, Bleed]:
    return bleeds.paint(around(), kind, volume_ml, np.random.default_rng(seed))


def spread(mask: np.ndarray) -> Floats:
    """Extents of a mask in mm along its principal directions, the smallest first."""
    return np.sqrt(np.linalg.eigvalsh(np.cov(np.argwhere(mask).T)))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("volume_ml", [0.5, 3.0])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_volume_is_the_one_asked_for(kind: Kind, volume_ml: float, seed: int) -> None:
    labels, bleed = painted(kind, volume_ml, seed)
    assert bleed.volume_ml == pytest.approx(volume_ml, abs=0.001)
    assert bleed.mask.sum() == round(1000 * volume_ml)
    assert (labels[bleed.mask] == tissue.BLOOD).all()
    assert (labels == tissue.BLOOD).sum() == bleed.mask.sum()
    assert (around().depth[bleed.mask] > 0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_paints_the_same_bleed(kind: Kind) -> None:
    again, bleed = bleeds.paint(around(), kind, 3.0, np.random.default_rng(1))
    np.testing.assert_array_equal(again, painted(kind, 3.0, 1)[0])
    other = bleeds.paint(around(), kind, 3.0, np.random.default_rng(7))[1]
    assert (other.mask != bleed.mask).any()


def test_painting_leaves_the_given_map_alone() -> None:
    before = around().labels.copy()
    for kind in KINDS:
        bleeds.paint(around(), kind, 2.0, np.random.default_rng(5))
    np.testing.assert_array_equal(around().labels, before)


def test_no_more_blood_than_room() -> None:
    room = float(tissue.table(*tissue.VENTRICLES)[around().labels].sum()) / 1000
    _, bleed = painted("intraventricular", 500.0, 1)
    assert bleed.volume_ml == pytest.approx(room)


@pytest.mark.parametrize("seed", [1, 2, 3, 4])
def test_bleeds_lie_where_their_kind_lies(seed: int) -> None:
    before = around().labels
    assert around().depth[painted("epidural", 3.0, seed)[1].mask].min() < 1.5
    assert tissue.table(tissue.FLUID, tissue.SULCUS)[before[painted("subarachnoid", 3.0, seed)[1].mask]].all()
    assert tissue.table(*tissue.VENTRICLES)[before[painted("intraventricular", 2.0, seed)[1].mask]].all()
    assert around().depth[painted("intraparenchymal", 1.0, seed)[1].mask].max() > 4


def test_a_subdural_is_a_thinner_sheet_than_an_epidural() -> None:
    flatness: dict[Kind, list[float]] = {"epidural": [], "subdural": []}
    for kind, found in flatness.items():
        for seed in range(8):
            thickness, _, length = spread(painted(kind, 4.0, seed)[1].mask)
            found.append(float(thickness / length))
    assert np.median(flatness["subdural"]) < np.median(flatness["epidural"])


def test_an_epidural_is_a_lens_thickest_in_its_middle() -> None:
    _, bleed = painted("epidural", 6.0, 2)
    points = np.argwhere(bleed.mask)
    depth = around().depth[bleed.mask]
    away = np.linalg.norm(points - points.mean(axis=0), axis=1)
    near, far = away < np.quantile(away, 0.3), away > np.quantile(away, 0.9)
    assert depth[near].max() > 1.3 * depth[far].max()


def test_a_parenchymal_bleed_has_a_rim_of_oedema() -> None:
    labels, bleed = painted("intraparenchymal", 3.0, 1)
    rim = np.argwhere(labels == tissue.OEDEMA)
    assert len(rim) > 300
    assert np.abs(rim.mean(axis=0) - np.array(bleed.center)).max() < 12


def test_tissue_gives_way_to_a_lens() -> None:
    labels, bleed = painted("epidural", 6.0, 2)
    cortex = tissue.table(*tissue.CORTEX)
    overwritten = int((cortex[around().labels] & bleed.mask).sum())
    assert overwritten > 500
    assert cortex[labels].sum() > cortex[around().labels].sum() - 0.95 * overwritten
    assert (tissue.table(tissue.HARD_BONE)[labels] == tissue.table(tissue.HARD_BONE)[around().labels]).all()


def scanned(scanner: ct.Scanner, labels: Labels, tilt_degrees: float = 0.0) -> ct.Scan:
    tilt = np.radians(tilt_degrees)
    down = (0.0, float(np.cos(tilt)), -float(np.sin(tilt)))
    planes = [Plane((0.0, 0.0, z), (1.0, 0.0, 0.0), down, 1.0, 1.0, 5.0) for z in np.arange(35.0, 100.0, 5.0)]
    return ct.scan(
        labels,
        lambda points: points[..., ::-1],
        planes,
        (SIDE, SIDE),
        ct.typical_appearance(),
        scanner,
        np.random.default_rng(4),
    )


QUIET = ct.Scanner(noise_hu=0.0, narrow=(0.0, 4.0), wide=(0.0, 12.0), streak_hu=0.0)


def test_ct_numbers_are_those_of_the_tissue() -> None:
    found = scanned(QUIET, ball_head())
    middle = found.hu[3]
    assert float(np.median(middle[45:65, 18:26])) == pytest.approx(27, abs=3)
    assert middle[55, 4] > 500
    assert middle[0, 0] == pytest.approx(-1000, abs=5)
    assert found.inside[3, 55, 30] == 1
    assert found.inside[3, 0, 0] == 0


def test_blood_is_bright_and_its_fraction_told() -> None:
    labels, bleed = painted("intraparenchymal", 3.0, 2)
    found = scanned(QUIET, labels)
    solid = found.blood > 0.99
    assert found.hu[solid].mean() == pytest.approx(ct.MEAN_HU[tissue.BLOOD], abs=8)
    assert found.blood.sum() * 5 / 1000 == pytest.approx(bleed.volume_ml, rel=0.15)


def test_numbers_rise_near_bone() -> None:
    plain, shining = scanned(QUIET, ball_head()), scanned(ct.Scanner(noise_hu=0.0, streak_hu=0.0), ball_head())
    rise = (shining.hu - plain.hu)[4]
    assert rise[55, 12] > rise[55, 55] + 2


def test_noise_has_the_strength_and_grain_asked_for() -> None:
    labels = np.full((SIDE, SIDE, SIDE), tissue.WHITE_MATTER[0], np.uint8)
    scanner = ct.Scanner(noise_hu=4.0, noise_grain_mm=1.0, narrow=(0, 4), wide=(0, 12), streak_hu=0)
    noise = scanned(scanner, labels).hu - scanned(QUIET, labels).hu
    noise -= noise.mean()
    assert noise.std() == pytest.approx(4.0, rel=0.15)
    beside = float((noise[..., 1:] * noise[..., :-1]).mean() / noise.var())
    assert 0.5 < beside < 0.95


def test_a_window_leaves_256_steps() -> None:
    found = scanned(ct.Scanner(window=(-20.0, 100.0)), ball_head()).hu
    assert (found.min(), found.max()) == (-20, 100)
    assert len(np.unique(found)) <= 256


def test_a_tilted_plane_reads_the_place_it_lies_in() -> None:
    labels = np.zeros((SIDE, SIDE, SIDE), np.uint8)
    labels[60:70, 40:50, 30:40] = tissue.BLOOD
    found = scanned(QUIET, labels, tilt_degrees=20)
    k, row, column = np.argwhere(found.blood > 0.9).mean(axis=0)
    tilt = np.radians(20)
    z, y = 35 + 5 * k - row * np.sin(tilt), row * np.cos(tilt)
    np.testing.assert_allclose((z, y, column), (64.5, 44.5, 34.5), atol=1.0)

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from models.registry import verify
from pipelines.nodule import character
from pipelines.nodule.character import COMPOSITIONS, FEATURES, Character, Characterizer, describe, load_characterizer
from pipelines.nodule.character_training import fit, judge_held_back
from pipelines.nodule.measure import measure
from pipelines.nodule.patches import Row
from pipelines.reasons import Refusal
from pipelines.volume import Volume
from tests.unit.pipelines.nodule.nodules import TISSUE_HU, ellipsoid, region, stack

HEIGHTS = np.arange(-12, 12.1, 1.0).tolist()
RADIUS = 8.0


def nodule(*parts: tuple[tuple[float, float, float], float, int], radius: float = RADIUS, hu: int = TISSUE_HU) -> tuple:
    """A ball with smaller balls (centre, radius, HU) in it, and its mask."""
    volume = stack(HEIGHTS, size=48)
    mask = ellipsoid(volume, (0, 0, 0), radius)
    volume.hu[mask] = hu
    for center, small, value in parts:
        volume.hu[ellipsoid(volume, center, small)] = value
    return volume, mask


def pattern(volume: Volume, mask: np.ndarray) -> str:
    return describe(volume, region(mask), measure(volume, region(mask)))[1]


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ((), "none"),
        ((((0, 0, 0), 2, 600),), "none"),
        ((((0, 0, 0), 9, 600),), "diffuse"),
        ((((0, 0, 0), 4.5, 600),), "central"),
        ((((4, 0, 0), 4, 600),), "eccentric"),
        ((((0, 0, 0), 6, 600), ((0, 0, 0), 5, TISSUE_HU)), "laminated"),
        ((((5, 0, 0), 2.9, 600), ((-3, 4, 0), 2.9, 600), ((-3, -4, 0), 2.9, 600)), "popcorn"),
    ],
)
def test_the_pattern_of_calcification(parts: tuple, expected: str) -> None:
    assert pattern(*nodule(*parts)) == expected


def test_a_small_granuloma_whose_rim_is_mixed_with_lung_is_diffuse() -> None:
    volume, mask = nodule(((0, 0, 0), 2.2, 700), radius=2.8, hu=-200)
    assert pattern(volume, mask) == "diffuse"


def test_features_say_how_dense_a_nodule_is() -> None:
    solid, glass = nodule(), nodule(hu=-650)
    values = [
        dict(zip(FEATURES, describe(volume, region(mask), measure(volume, region(mask)))[0], strict=True))
        for volume, mask in (solid, glass)
    ]
    assert values[0]["core"] == pytest.approx(TISSUE_HU, abs=15)
    assert values[1]["core"] == pytest.approx(-650, abs=15)
    assert values[0]["above_-300"] > 0.8
    assert values[1]["above_-300"] < 0.1
    assert all(np.isfinite(list(one.values())).all() for one in values)


def test_features_are_numbers_for_the_smallest_nodule_in_the_smallest_stack() -> None:
    volume = stack([0.0, 1.0, 2.0], size=8)
    mask = np.zeros(volume.hu.shape, np.bool_)
    mask[0, 0, 0] = True
    features, calcification = describe(volume, region(mask), measure(volume, region(mask)))
    assert features.shape == (len(FEATURES),)
    assert np.isfinite(features).all()
    assert calcification == "none"


def made_ratings(count: int = 400) -> tuple[np.ndarray, list[Row]]:
    """Features of which the first says what it is and the second how suspicious."""
    generator = np.random.default_rng(3)
    features = generator.normal(0, 1, (count, len(FEATURES)))
    rows = []
    for number, (texture, suspicion) in enumerate(features[:, :2]):
        rating = 5 if texture < 0.3 else 3 if texture < 1.0 else 1
        rows.append(
            Row(str(number), str(number), "", 3, (rating,) * 3, (5 if suspicion > 0 else 1,) * 3, (6,) * 3, True)
        )
    return features, rows


def test_the_models_learn_what_the_ratings_say() -> None:
    features, rows = made_ratings()
    said = judge_held_back(features, ["none"] * len(rows), rows, [number % 4 for number in range(len(rows))])
    right = [
        one.composition == ("solid" if values[0] < 0.3 else "part_solid" if values[0] < 1.0 else "ground_glass")
        for one, values in zip(said, features, strict=True)
    ]
    assert np.mean(right) > 0.8
    order = np.array([one.malignancy for one in said])
    assert order[features[:, 1] > 0.5].min() > order[features[:, 1] < -0.5].max()
    assert all(sum(one.composition_probability.values()) == pytest.approx(1) for one in said)


def test_the_same_ratings_give_the_same_models() -> None:
    first, second = fit(*made_ratings()), fit(*made_ratings())
    assert all(np.array_equal(first.arrays[name], second.arrays[name]) for name in first.arrays)


def test_models_of_other_features_are_refused(tmp_path: Path) -> None:
    manifest = {"name": "x", "sha256": "", "architecture": {"name": "linear"}, "inputs": {"features": ["size"]}}
    with pytest.raises(Refusal, match="does not match"):
        load_characterizer(tmp_path / "none", manifest)


@pytest.fixture(scope="module")
def shipped() -> Characterizer:
    model = verify(character.NAME)
    manifest = {name: getattr(model.manifest, name) for name in ("name", "sha256", "architecture", "inputs")}
    return load_characterizer(model.weights, manifest)


def characterized(known: Characterizer, volume: Volume, mask: np.ndarray) -> Character:
    return known.characterize(volume, region(mask), measure(volume, region(mask)))


@pytest.mark.parametrize(
    ("made", "expected"),
    [(nodule(), "solid"), (nodule(hu=-620), "ground_glass")],
    ids=COMPOSITIONS[::2],
)
def test_the_shipped_models_know_plain_nodules(shipped: Characterizer, made: tuple, expected: str) -> None:
    volume, mask = made
    volume.hu[:] = volume.hu + np.random.default_rng(2).normal(0, 30, volume.hu.shape)
    assert characterized(shipped, volume, mask).composition == expected


def test_a_large_solid_nodule_is_more_suspicious_than_a_small_calcified_one(shipped: Characterizer) -> None:
    large = characterized(shipped, *nodule())
    small = characterized(shipped, *nodule(radius=2.5, hu=700))
    assert large.malignancy > small.malignancy + 0.3

"""Where nodules lie and what shape they have, in a made piece of lung: a wall, a curved fissure, and vessels."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from pipelines import codes
from pipelines.findings import Finding, Region
from pipelines.geometry import Plane
from pipelines.grid import grid_over
from pipelines.nodule.character import Character
from pipelines.nodule.describe import category_of, describe
from pipelines.nodule.growth import Before
from pipelines.nodule.lungs import RIGHT, Lungs
from pipelines.nodule.measure import measure
from pipelines.nodule.position import Place, place_of
from pipelines.phantom.chest.nodules import Canvas, NoduleRecipe, Position, paint
from pipelines.phantom.chest.trees import distance_to_piece
from pipelines.volume import Volume

SIDE = 84
WALL = 14
# Where the fissure crosses the middle, and places far from fissure and wall, below which only vessels run.
MIDDLE = (42.0, 42.0, 48.0)
BELOW = (18.0, 42.0, 48.0)
Z, Y, X = np.mgrid[:SIDE, :SIDE, :SIDE].astype(np.float32)
FISSURE_HEIGHT = 42 + 0.25 * (Y - 42) + 0.004 * (X - 48) ** 2 + 1.5 * np.sin(Y / 14)
Field = NDArray[np.float32]
Mask = NDArray[np.bool_]


def canvas(*, fissure: bool = True, vessels: int = 40, seed: int = 3) -> Canvas:
    """A fresh copy of a drawn lung."""
    drawn = draw(fissure, vessels, seed)
    return replace(drawn, hu=drawn.hu.copy())


@cache
def draw(fissure: bool, vessels: int, seed: int) -> Canvas:
    """A lung beside a wall at small x, with a fissure of 1 mm and vessels of 1 to 3 mm in all directions."""
    generator = np.random.default_rng(seed)
    hu = np.full((SIDE,) * 3, -860, np.float32)
    distance = np.abs(Z - FISSURE_HEIGHT) / np.sqrt(1 + 0.25**2)
    if fissure:
        hu += np.clip(1 - distance, 0, 1) * 270
    vessel = np.zeros(hu.shape, np.bool_)
    for _ in range(vessels):
        line = generator.uniform(WALL, SIDE, 3) + np.linspace(-30, 30, 4)[:, None] * generator.normal(0, 0.7, 3)
        radius = generator.uniform(0.5, 1.5)
        for first, last in pairwise(line.astype(np.float32)):
            found = distance_to_piece(hu.shape, first, last, radius + 1)
            if found is not None:
                part = np.clip(radius + 0.5 - found[1], 0, 1)
                hu[found[0]] = np.maximum(hu[found[0]], -860 + part * 900)
                vessel[found[0]] |= part > 0.5
    hu[X < WALL] = 40
    return Canvas(hu, (X >= WALL).astype(np.uint8) * RIGHT, vessel, (distance < 0.7) & (X >= WALL), np.zeros_like(hu))


def volume_of(hu: Field, noise: float = 20.0, *, step: int = 1) -> Volume:
    """The scanner's stack of it: blurred, noisy, in slices of `step` mm."""
    seen = ndimage.gaussian_filter(hu, 0.6) + np.random.default_rng(8).normal(0, noise, hu.shape)
    seen = seen[: SIDE // step * step].reshape(-1, step, SIDE, SIDE).mean(axis=1)
    heights = (np.arange(len(seen)) + 0.5) * step
    planes = tuple(Plane((0.0, 0.0, float(z)), (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), 1.0, 1.0, step) for z in heights)
    return Volume(np.rint(seen).astype(np.int16), planes, tuple(map(str, heights)), (1,) * len(planes))


def lungs_of(volume: Volume) -> Lungs:
    grid = grid_over(volume, 2.0)
    index = np.moveaxis(np.indices(grid.shape), 0, -1)
    return Lungs(grid, (grid.points(index)[..., 0] >= WALL - 0.5).astype(np.uint8) * RIGHT, (1.0, 0.0))


def painted(
    on: Canvas, position: Position, diameter_mm: float, center: tuple[float, float, float], seed: int = 1
) -> Mask:
    """Paint a solid nodule; its voxels."""
    before = on.hu.copy()
    assert paint(on, NoduleRecipe("solid", position, diameter_mm), np.array(center), np.random.default_rng(seed))
    return (on.hu - before > 200) & (on.hu > -450)


def set_in(on: Canvas, mask: Mask) -> Mask:
    """Put a nodule of a given shape in."""
    mask = mask & (on.lungs > 0)
    on.hu[mask] = 30
    return mask


def ellipsoid(center: tuple[float, float, float], radii: tuple[float, float, float]) -> Mask:
    return np.asarray(sum(((axis - c) / r) ** 2 for axis, c, r in zip((Z, Y, X), center, radii, strict=True)) <= 1)


def place_in(on: Canvas, mask: Mask, noise: float = 20.0, *, step: int = 1) -> Place:
    volume = volume_of(on.hu, noise, step=step)
    thin = mask[: SIDE // step * step].reshape(-1, step, SIDE, SIDE).mean(axis=1) >= 0.5
    region = Region.from_volume(thin)
    return place_of(volume, lungs_of(volume), region, measure(volume, region))


@pytest.mark.parametrize(("diameter", "off", "noise"), [(4.5, 0.0, 20), (7.0, 2.5, 10), (9.0, -3.0, 30), (6.0, 0, 30)])
def test_a_nodule_on_the_fissure_is_perifissural(diameter: float, off: float, noise: float):
    on = canvas()
    mask = painted(on, "perifissural", diameter, (MIDDLE[0] + off, *MIDDLE[1:]), seed=round(10 * diameter))
    assert place_in(on, mask, noise).position == "perifissural"


@pytest.mark.parametrize("seed", range(4))
def test_vessels_alone_make_no_fissure(seed: int):
    on = canvas(fissure=False, vessels=90, seed=seed)
    mask = painted(on, "juxtavascular", 5.0 + seed, MIDDLE, seed)
    assert place_in(on, mask, 30).position == "intrapulmonary"


def test_a_fan_of_vessels_in_the_fissures_place_is_none():
    on = canvas(fissure=False, vessels=0)
    for angle in np.linspace(0, np.pi, 3, endpoint=False):
        across = np.abs((Y - 42) * np.cos(angle) - (X - 48) * np.sin(angle))
        on.hu[np.hypot(across, Z - 42) < 1.2] = 30
    mask = painted(on, "intrapulmonary", 6.0, MIDDLE)
    assert place_in(on, mask).position == "intrapulmonary"


def test_a_fissure_that_passes_by_does_not_count():
    on = canvas()
    mask = painted(on, "intrapulmonary", 6.0, (MIDDLE[0] - 9, *MIDDLE[1:]))
    assert place_in(on, mask).position == "intrapulmonary"


def test_a_sheet_on_one_side_only_is_no_fissure():
    on = canvas(vessels=0)
    plain = canvas(fissure=False, vessels=0)
    on.hu[...] = np.where(X > 48, on.hu, plain.hu)
    assert place_in(on, painted(on, "perifissural", 6.0, MIDDLE)).position == "intrapulmonary"


def test_thick_slices_show_no_fissure():
    on = canvas(vessels=0)
    mask = painted(on, "perifissural", 7.0, MIDDLE)
    assert place_in(on, mask).position == "perifissural"
    assert place_in(on, mask, step=3).position == "intrapulmonary"


@pytest.mark.parametrize(("gap", "position"), [(-2.0, "juxtapleural"), (0.5, "juxtapleural"), (4.0, "intrapulmonary")])
def test_what_touches_the_wall_is_juxtapleural(gap: float, position: str):
    on = canvas()
    mask = set_in(on, ellipsoid((*BELOW[:2], WALL + gap + 4), (4, 4, 4)))
    assert place_in(on, mask).position == position


def test_the_wall_itself_is_no_fissure():
    on = canvas(fissure=False, vessels=0)
    mask = set_in(on, ellipsoid((*BELOW[:2], WALL + 7), (3, 3, 3)))
    assert place_in(on, mask).position == "intrapulmonary"


def wedge() -> Mask:
    """A prism on the wall, whose base in the slice is 10 mm and whose tip 7 mm away."""
    return (np.abs(Z - BELOW[0]) < 3.5) & ((X - WALL) / 7 + np.abs(Y - 42) / 5 < 1) & (X >= WALL)


def lobes() -> Mask:
    around = [(0, 4), (4, 0), (0, -4), (-4, 0)]
    balls = [ellipsoid((BELOW[0] + a, 42 + b, WALL + 1), (2.4, 2.4, 2.4)) for a, b in around]
    return np.any([ellipsoid((BELOW[0], 42, WALL + 1), (2.4, 2.4, 5)), *balls], axis=0)


@pytest.mark.parametrize(
    ("mask", "is_benign"),
    [
        (ellipsoid((*BELOW[:2], WALL + 2), (4.5, 4.5, 2.6)), True),
        (ellipsoid((*BELOW[:2], WALL - 1), (4.5, 4.5, 4.5)), True),
        (wedge(), True),
        (ellipsoid((*BELOW[:2], WALL + 4), (4, 4, 4)), False),
        (ellipsoid((*BELOW[:2], WALL + 5), (2.5, 2.5, 5)), False),
        (ellipsoid((*BELOW[:2], WALL), (9, 9, 2)), False),
        (lobes(), False),
        (ellipsoid((*BELOW[:2], WALL + 1), (1.5, 1.5, 1)), False),
    ],
    ids=["oval", "half ball", "triangle", "ball", "upright", "plaque", "lobes", "too small"],
)
def test_benign_shapes_at_the_wall_are_told_from_others(mask: Mask, *, is_benign: bool):
    on = canvas()
    assert place_in(on, set_in(on, mask)) == Place("juxtapleural", is_benign)


def test_an_oval_within_the_lung_has_no_benign_place():
    on = canvas()
    assert place_in(on, set_in(on, ellipsoid(BELOW, (4.5, 4.5, 2.6)))) == Place("intrapulmonary", False)


def test_an_oval_along_the_fissure_is_benign_and_one_across_is_not():
    for radii, is_benign in (((2.6, 4.2, 4.2), True), ((4.8, 2.6, 2.6), False)):
        on = canvas(vessels=0)
        turned = Y - 42 + 0.25 * (Z - 42), Z - 42 - 0.25 * (Y - 42)
        mask = (turned[1] / radii[0]) ** 2 + (turned[0] / radii[1]) ** 2 + ((X - 48) / radii[2]) ** 2 <= 1
        assert place_in(on, set_in(on, np.asarray(mask))) == Place("perifissural", is_benign)


def test_the_same_nodule_has_the_same_place_every_time():
    on = canvas()
    mask = painted(on, "perifissural", 7.0, MIDDLE)
    assert len({place_in(on, mask) for _ in range(3)}) == 1


class Reader:
    """Says of every nodule the same."""

    def __init__(self, malignancy: float) -> None:
        self.malignancy = malignancy

    def characterize(self, *_: object) -> Character:
        return Character("solid", {"solid": 1.0}, "none", self.malignancy)


def described(malignancy: float) -> Finding:
    on = canvas()
    mask = set_in(on, ellipsoid((*BELOW[:2], WALL + 2), (4.5, 4.5, 2.6)))
    volume = volume_of(on.hu)
    reader: Any = Reader(malignancy)
    return describe(volume, lungs_of(volume), [Region.from_volume(mask)], [0.9], reader, model_sha256="0" * 64)[0]


def test_a_benign_juxtapleural_nodule_is_category_2_then_and_now():
    benign, suspected = described(0.2), described(0.8)
    assert benign.attributes[codes.NODULE_SHAPE] == codes.BENIGN_SHAPE
    assert category_of(benign, None, 0).name == "2"
    assert codes.NODULE_SHAPE not in suspected.attributes
    assert category_of(suspected, None, 0).name == "3"
    assert category_of(benign, Before(100.0, None, benign.as_json()), 90).name == "2"
    assert category_of(suspected, Before(100.0, None, suspected.as_json()), 90).name == "3"

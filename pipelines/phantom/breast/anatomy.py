"""One made breast in three dimensions: what every view of it shows.

A place is (anterior, outer, up): anterior from 0 at the chest wall to 1 at the nipple, the others from -1 to 1 across
the breast at that depth, within the unit circle. Views flatten it, each in its own direction.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import fft, ndimage

from pipelines.phantom.breast.calcifications import (
    Layout,
    Plaque,
    random_group,
    random_length,
    random_plaques,
)
from pipelines.phantom.breast.texture import Field, Points
from pipelines.phantom.breast.tissue import Tissue
from pipelines.phantom.breast.truth import Distribution, Morphology, Shape

Generator = np.random.Generator
Density = Literal["A", "B", "C", "D"]
Laterality = Literal["R", "L"]
LesionKind = Literal["cyst", "mass", "lymph_node"]
Benign = Literal["vascular", "skin", "rim", "popcorn", "rod", "dystrophic", "round"]
BENIGN: tuple[Benign, ...] = ("vascular", "skin", "rim", "popcorn", "rod", "dystrophic", "round")

DENSITIES: tuple[Density, ...] = ("A", "B", "C", "D")
DENSITY_ODDS = (0.12, 0.38, 0.38, 0.12)
COMPOSITION_SHAPE = (56, 80, 80)
"""Steps of the map of gland: anterior, outer, up."""


@dataclass(frozen=True, slots=True)
class GroupRecipe:
    """A group to make; what is None is left to chance."""

    morphology: Morphology | None = None
    distribution: Distribution | None = None


@dataclass(frozen=True, slots=True)
class BreastOptions:
    """What one woman's breasts have in common, and what this one holds.

    `depth_mm` is from the chest wall to the nipple when compressed, `width_mm` across it, `thickness_mm` between the
    plates. `groups` are calcification groups, `benign` what else is calcified, `lesions` how many cysts, masses and
    lymph nodes there are.
    """

    laterality: Laterality
    density: Density
    depth_mm: float
    width_mm: float
    thickness_mm: float
    tissue: Tissue
    groups: tuple[GroupRecipe, ...] = ()
    benign: tuple[Benign, ...] = ()
    lesions: int = 0

    @staticmethod
    def random(generator: Generator, laterality: Laterality, density: Density | None = None) -> BreastOptions:
        """A breast of a size and density as they come, without findings."""
        category = density or DENSITIES[int(generator.choice(4, p=DENSITY_ODDS))]
        size = float(np.clip(np.exp(generator.normal(0, 0.17)), 0.65, 1.3))
        return BreastOptions(
            laterality,
            category,
            depth_mm=85 * size * float(generator.uniform(0.9, 1.1)),
            width_mm=175 * size**0.7 * float(generator.uniform(0.92, 1.08)),
            thickness_mm=float(np.clip(generator.normal(54, 8) * size**0.6, 25, 85)),
            tissue=Tissue.random(generator, category),
        )


@dataclass(frozen=True, slots=True, eq=False)
class Vessel:
    """A vessel: places along it `[point, (anterior, outer, up)]`, radius in mm at its beginning, and its plaques."""

    way: Points
    radius_mm: float
    plaques: tuple[Plaque, ...] = ()
    number: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class PlacedGroup:
    """A group and the place of its middle. Its particles are numbered from `number` on."""

    place: Points
    layout: Layout
    number: int


@dataclass(frozen=True, slots=True, eq=False)
class PlacedGrain:
    """A calcification that lies alone."""

    place: Points
    shape: Shape
    length_mm: float
    number: int


@dataclass(frozen=True, slots=True, eq=False)
class PlacedLesion:
    """A cyst, mass or lymph node."""

    kind: LesionKind
    place: Points
    radius_mm: float


@dataclass(frozen=True, slots=True, eq=False)
class MadeBreast:
    """A breast. `gland` float32 `[anterior, outer, up]` from 0 to 1 says where gland is, over the whole cube."""

    options: BreastOptions
    gland: Field
    vessels: tuple[Vessel, ...]
    ducts: tuple[Vessel, ...]
    groups: tuple[PlacedGroup, ...]
    grains: tuple[PlacedGrain, ...]
    lesions: tuple[PlacedLesion, ...]


def make_breast(generator: Generator, options: BreastOptions) -> MadeBreast:
    """A breast with its findings. The same state of the generator gives the same breast."""
    gland = _gland(generator, options)
    vessels = _vessels(generator, options)
    ducts = _ducts(generator)
    numbers = iter(range(0, 10**9, 1000))
    groups = tuple(
        PlacedGroup(
            _within_gland(generator, gland),
            random_group(generator, recipe.morphology, recipe.distribution, 0.4 * options.depth_mm),
            next(numbers),
        )
        for recipe in options.groups
    )
    if "vascular" in options.benign:
        vessels = tuple(
            Vessel(
                vessel.way,
                vessel.radius_mm,
                random_plaques(generator, options.depth_mm) if k in {0, 4} else (),
                next(numbers),
            )
            for k, vessel in enumerate(vessels)
        )
    grains = _grains(generator, gland, options.benign, next(numbers))
    lesions = tuple(_lesion(generator, gland) for _ in range(options.lesions))
    return MadeBreast(options, gland, vessels, ducts, groups, grains, lesions)


def _axes() -> tuple[Field, Field, Field]:
    """Coordinates of the map of gland, shaped to broadcast."""
    anterior, outer, up = COMPOSITION_SHAPE
    a = (np.arange(anterior, dtype=np.float32) + np.float32(0.5)) / np.float32(anterior)
    u = (np.arange(outer, dtype=np.float32) + np.float32(0.5)) * np.float32(2 / outer) - 1
    w = (np.arange(up, dtype=np.float32) + np.float32(0.5)) * np.float32(2 / up) - 1
    return a[:, None, None], u[None, :, None], w[None, None, :]


_REACH: dict[Density, tuple[float, float]] = {"A": (0.42, 0.6), "B": (0.5, 0.7), "C": (0.58, 0.78), "D": (0.68, 0.85)}
"""How far gland reaches from the breast's axis."""


def _gland(generator: Generator, options: BreastOptions) -> Field:
    """A cone of lobes behind the nipple, wider towards the armpit, with fat under the skin and before the muscle."""
    a, u, w = _axes()
    low, high = _REACH[options.density]
    outer, up = generator.uniform(0.02, 0.2, 2)
    away = np.hypot(u - np.float32(outer), w - np.float32(up))
    reach = np.float32(generator.uniform(low, high)) * (
        np.float32(1.08) - np.clip((a - np.float32(0.55)) / 0.45, 0, 1) * np.float32(0.3)
    )
    back = np.float32(generator.uniform(0.02, 0.22))
    lobes = noise_3d(generator, 3.4, 5.0)
    fine = noise_3d(generator, 2.8, 3.0)
    edge = (reach - away) * np.float32(6) + np.clip((a - back) * np.float32(14), -6, 0)
    edge += lobes * np.float32(1.3) + fine * np.float32(0.4)
    holes = noise_3d(generator, 3.0, 4.0)
    holed = {"A": 0.9, "B": 0.6, "C": 0.25, "D": -0.2}[options.density]
    edge -= np.clip(holes + np.float32(holed), 0, None) * np.float32(2.2)
    part = np.tanh(edge) * np.float32(0.5) + np.float32(0.5)
    axis = np.exp(-((away / np.float32(0.16)) ** 2)) * np.clip((a - np.float32(0.75)) * 5, 0, 1)
    return np.asarray(np.maximum(part, axis * np.float32(0.8)), np.float32)


def noise_3d(generator: Generator, beta: float, outer: float) -> Field:
    """A power-law field over the map of gland, of mean 0 and standard deviation 1; flat beyond 1/outer of the cube."""
    white = generator.standard_normal(COMPOSITION_SHAPE, np.float32)
    z, y, x = (
        (fft.fftfreq(side) * side).astype(np.float32) if axis < 2 else (fft.rfftfreq(side) * side).astype(np.float32)
        for axis, side in enumerate(COMPOSITION_SHAPE)
    )
    squared = (z * np.float32(1.6))[:, None, None] ** 2 + y[None, :, None] ** 2 + x[None, None, :] ** 2
    waves = fft.rfftn(white) * (squared + np.float32(outer**2)) ** np.float32(-beta / 4)
    waves[0, 0, 0] = 0
    found: Field = fft.irfftn(waves, s=COMPOSITION_SHAPE).astype(np.float32)
    found /= np.float32(found.std())
    return found


def _within_gland(generator: Generator, gland: Field, edge: float = 0.8) -> Points:
    """A place where gland is, not too near to chest wall, nipple or skin."""
    a, u, w = _axes()
    odds = gland * ((a > 0.15) & (a < 0.88) & (np.hypot(u, w) < edge)) + 0.0
    sums = np.cumsum(odds.ravel().astype(np.float64))
    index = int(np.searchsorted(sums, generator.random() * sums[-1]))
    k, j, i = np.unravel_index(min(index, gland.size - 1), gland.shape)
    return np.array([a[k, 0, 0], u[0, j, 0], w[0, 0, i]], np.float64)


def _anywhere(generator: Generator, inner: float = 0.0, outer: float = 0.9) -> Points:
    angle = generator.uniform(0, 2 * np.pi)
    away = np.sqrt(generator.uniform(inner**2, outer**2))
    return np.array([generator.uniform(0.1, 0.85), away * np.cos(angle), away * np.sin(angle)])


def _vessels(generator: Generator, options: BreastOptions) -> tuple[Vessel, ...]:
    """Arteries and veins, in pairs, from the chest wall towards the nipple, winding under the skin."""
    found = []
    for _ in range(int(generator.integers(2, 6))):
        radius = float(generator.uniform(0.4, 1.1))
        turn = float(generator.uniform(0, 2 * np.pi))
        way = _vessel_way(generator, turn, options.depth_mm)
        found.append(Vessel(way, radius))
        if generator.random() < 0.6:
            beside = way + ndimage.gaussian_filter1d(generator.normal(0, 1, way.shape), 60, axis=0) * [0, 0.15, 0.15]
            beside[:, 1:] += generator.normal(0, 0.035, 2)
            found.append(Vessel(beside, radius * float(generator.uniform(1.0, 1.6))))
        if generator.random() < 0.6:  # a branch
            start = int(generator.uniform(0.2, 0.6) * len(way))
            branch = _vessel_way(generator, turn + float(generator.normal(0, 0.6)), options.depth_mm)[start:]
            found.append(Vessel(branch - branch[0] + way[start], radius * 0.7))
    return tuple(found)


def _vessel_way(generator: Generator, turn: float, depth_mm: float) -> Points:
    count = int(depth_mm / 0.1)
    along = np.linspace(-0.1, generator.uniform(0.6, 0.92), count)
    wander = np.zeros((count, 2))
    for length_mm, size in ((25, 0.09), (9, 0.035), (4, 0.014)):
        sigma = length_mm / 0.1 / 4
        noise = ndimage.gaussian_filter1d(generator.standard_normal((count, 2)), sigma, axis=0, mode="nearest")
        wander += noise * size * np.sqrt(sigma * 3.5)
    away = np.linspace(generator.uniform(0.55, 0.85), generator.uniform(0.1, 0.5), count) + wander[:, 0]
    angle = turn + wander[:, 1] * 1.4
    return np.stack([along, away * np.cos(angle), away * np.sin(angle)], -1)


def _ducts(generator: Generator) -> tuple[Vessel, ...]:
    """Ducts that spread out behind the nipple."""
    found = []
    for turn in generator.uniform(0, 2 * np.pi, int(generator.integers(5, 12))):
        count = 260
        along = np.linspace(1.0, generator.uniform(0.62, 0.85), count)
        spread = np.linspace(0, generator.uniform(0.1, 0.45), count) ** 0.9
        wander = ndimage.gaussian_filter1d(generator.standard_normal((count, 2)), 25, axis=0) * 0.25
        angle = turn + wander[:, 0]
        away = spread * (1 + 0.3 * wander[:, 1])
        found.append(
            Vessel(
                np.stack([along, away * np.cos(angle), away * np.sin(angle)], -1), float(generator.uniform(0.25, 0.7))
            )
        )
    return tuple(found)


def _grains(generator: Generator, gland: Field, benign: tuple[Benign, ...], number: int) -> tuple[PlacedGrain, ...]:
    """What is calcified besides groups and vessels."""
    found: list[PlacedGrain] = []

    def add(shape: Shape, place: Points) -> None:
        found.append(PlacedGrain(place, shape, random_length(generator, shape), number + len(found)))

    for kind in benign:
        if kind == "skin":
            for _ in range(int(generator.integers(3, 10))):
                add("skin", _anywhere(generator, 0.75, 0.97))
        elif kind == "rod":
            for _ in range(int(generator.integers(3, 12))):
                add("rod", _anywhere(generator, 0, 0.6))
        elif kind == "round":
            for _ in range(int(generator.integers(1, 8))):
                add("round" if generator.random() < 0.6 else "punctate", _anywhere(generator))
        elif kind != "vascular":
            for _ in range(int(generator.integers(1, 3))):
                add(kind, _within_gland(generator, gland))
    return tuple(found)


def _lesion(generator: Generator, gland: Field) -> PlacedLesion:
    kind: LesionKind = ("cyst", "mass", "lymph_node")[int(generator.choice(3, p=(0.4, 0.35, 0.25)))]
    place = _within_gland(generator, gland)
    if kind == "lymph_node":
        place = np.array([generator.uniform(0.1, 0.4), generator.uniform(0.3, 0.6), generator.uniform(0.3, 0.6)])
    radius = float(np.clip(np.exp(generator.normal(np.log(5), 0.45)), 2.5, 14))
    return PlacedLesion(kind, place, min(radius, 6.0) if kind == "lymph_node" else radius)

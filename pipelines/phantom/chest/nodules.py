"""Simulated nodules of every kind, painted into a lung of 1 mm voxels: HU and truth change in place.

A nodule is an ellipsoid whose surface is bent by smooth noise (lobulation) and may carry spikes (spiculation). Solid
ones replace the lung; ground glass only raises it, so that vessels stay visible within. What touches pleura, fissure or
vessel is placed there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pipelines.phantom.head.shapes import smooth_noise

Kind = Literal["solid", "part_solid", "ground_glass", "calcified"]
Position = Literal["intrapulmonary", "juxtapleural", "juxtavascular", "perifissural"]
Box = tuple[slice, slice, slice]
Floats = NDArray[np.float64]

KINDS: tuple[Kind, ...] = ("solid", "part_solid", "ground_glass", "calcified")
KIND_SHARES = (0.62, 0.14, 0.14, 0.10)
POSITIONS: tuple[Position, ...] = ("intrapulmonary", "juxtapleural", "juxtavascular", "perifissural")
POSITION_SHARES = (0.45, 0.27, 0.18, 0.10)
AERATED_HU, LEAST_AERATED = -550, 0.35
"""How much of what surrounds a nodule must be aerated lung: one within a hilum or a consolidation is seen by nobody."""
AIRY_HU = -850.0
REACH = 2.2
"""Radii that spicules reach at most."""
LARGEST_NODULE_MM = 30.0
"""From here on it is called a mass (Fleischner Society's glossary, Radiology 2008; 246: 697)."""


@dataclass(frozen=True, slots=True, eq=False)
class Canvas:
    """What is painted on, all `[z, y, x]` of 1 mm: `hu` float32 is changed in place, the others say what lies where.

    `noise` float32 is the variance (HU squared) of noise that implanted pictures brought with them.
    """

    hu: NDArray[np.float32]
    lungs: NDArray[np.uint8]
    vessel: NDArray[np.bool_]
    fissure: NDArray[np.bool_]
    noise: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class PaintedNodule:
    """What was painted. `center` is its centre of gravity as index (z, y, x); `volume_mm3` that of the voxels at least
    half of which it fills, `diameter_mm` of the sphere of that volume. `source` is the patient it came from, or "made".
    """

    kind: Kind
    position: Position
    center: tuple[float, float, float]
    diameter_mm: float
    volume_mm3: float
    source: str = "made"


@dataclass(frozen=True, slots=True)
class NoduleRecipe:
    """One nodule to paint: its kind, where it lies, and the diameter of the sphere of its volume in mm."""

    kind: Kind
    position: Position
    diameter_mm: float


def random_recipe(generator: np.random.Generator, *, masses: float = 0.05) -> NoduleRecipe:
    """A nodule as they come: mostly small and solid. `masses` is the part of them over 30 mm."""
    kind = KINDS[generator.choice(len(KINDS), p=KIND_SHARES)]
    position = POSITIONS[generator.choice(len(POSITIONS), p=POSITION_SHARES)]
    if generator.random() < masses:
        return NoduleRecipe("solid", position, float(generator.uniform(LARGEST_NODULE_MM, 65)))
    low = 5.0 if kind in {"part_solid", "ground_glass"} else 3.0
    diameter = float(low * np.exp(np.abs(generator.normal(0, 0.75))))
    return NoduleRecipe(kind, position, min(diameter, LARGEST_NODULE_MM))


def place(
    canvas: Canvas,
    position: Position,
    radius_mm: float,
    generator: np.random.Generator,
    *,
    margin: int = 6,
    taken: Sequence[tuple[Floats, float]] = (),
) -> Floats | None:
    """An index (z, y, x) for the centre of a nodule, or None where no such place was found.

    At least `margin` voxels from the canvas's border, inside the lung (at its surface for the juxtapleural ones),
    against aerated lung for a good part, and clear of the balls (centre, radius) `taken`.
    """
    inner = tuple(slice(margin, side - margin) for side in canvas.lungs.shape)
    wanted = {"juxtavascular": canvas.vessel, "perifissural": canvas.fissure}.get(position)
    for _ in range(12):
        index = _draw(canvas.lungs[inner] > 0 if wanted is None else wanted[inner], generator)
        if index is None:
            return None
        center = np.asarray(index, float) + margin
        if position == "juxtavascular":
            center = center + _direction(generator) * radius_mm * generator.uniform(0.5, 1.1)
        if position == "juxtapleural":
            at_surface = _to_surface(canvas.lungs, center, generator)
            if at_surface is None:
                continue
            surface, inward = at_surface
            center = surface + inward * radius_mm * generator.uniform(0.25, 0.85)
        nearest = np.rint(center).astype(int)
        if np.any(nearest < margin) or np.any(nearest >= np.array(canvas.lungs.shape) - margin):
            continue
        if canvas.lungs[tuple(nearest)] == 0:
            continue
        if position == "intrapulmonary" and radius_mm < 12 and not _is_clear(canvas.lungs, nearest, radius_mm + 1):
            continue
        if _aerated_about(canvas.hu, center, radius_mm) < LEAST_AERATED:
            continue
        if all(np.linalg.norm(center - other) > radius_mm + radius + 4 for other, radius in taken):
            return center
    return None


def _aerated_about(hu: NDArray[np.float32], center: Floats, radius_mm: float) -> float:
    """The part of a shell 1 to 3 mm outside a ball that is aerated lung."""
    box = box_around(center, radius_mm + 3, hu.shape)
    away = np.sqrt(sum(axis**2 for axis in _axes(box, center))) - radius_mm
    shell = (away > 1) & (away < 3)
    return float(np.mean(hu[box][shell] < AERATED_HU)) if shell.any() else 0.0


def paint(
    canvas: Canvas,
    recipe: NoduleRecipe,
    center: Floats,
    generator: np.random.Generator,
    *,
    parenchyma: float | None = None,
) -> PaintedNodule | None:
    """Paint one nodule about `center` (index z, y, x). None, and nothing painted, where next to nothing of it would
    lie in the lung. Ground glass stands out from the `parenchyma` (HU); None for what lies about it.
    """
    radius = recipe.diameter_mm / 2
    box = box_around(center, radius * REACH + 4, canvas.hu.shape)
    filled = _filled(recipe, center, box, generator)
    lung = canvas.lungs[box] > 0
    truth = (filled >= 0.5) & (lung if recipe.diameter_mm < LARGEST_NODULE_MM else True)
    if truth.sum() < 0.3 * (filled >= 0.5).sum() or truth.sum() < 8:
        return None
    region = canvas.hu[box]
    level = parenchyma_about(canvas, center, radius) if parenchyma is None else parenchyma
    numbers = _numbers(recipe, filled, center, box, level, generator)
    if recipe.kind in {"ground_glass", "part_solid"}:
        numbers = np.maximum(numbers, region)
    weight = filled * (lung if recipe.diameter_mm < LARGEST_NODULE_MM else region < 150)
    region += weight * (numbers - region)
    return painted(recipe.kind, recipe.position, truth, box)


def parenchyma_about(canvas: Canvas, center: Floats, radius_mm: float) -> float:
    """The median HU of the aerated lung where a nodule is to lie."""
    box = box_around(center, radius_mm * REACH + 4, canvas.hu.shape)
    aerated = canvas.hu[box][(canvas.lungs[box] > 0) & (canvas.hu[box] < AERATED_HU)]
    return float(np.median(aerated)) if len(aerated) else AIRY_HU


def painted(kind: Kind, position: Position, truth: NDArray[np.bool_], box: Box, source: str = "made") -> PaintedNodule:
    """The record of a nodule whose voxels in `box` are `truth`."""
    volume = float(truth.sum())
    middle = np.mean(np.nonzero(truth), axis=1) + [part.start for part in box]
    z, y, x = (float(value) for value in middle)
    return PaintedNodule(kind, position, (z, y, x), float((6 * volume / np.pi) ** (1 / 3)), volume, source)


def box_around(center: Floats, reach_mm: float, shape: tuple[int, ...]) -> Box:
    """The voxels within `reach_mm` of `center` along each axis, cut at the canvas."""
    low = np.maximum(np.floor(center - reach_mm), 0).astype(int)
    high = np.minimum(np.ceil(center + reach_mm) + 1, shape).astype(int)
    z, y, x = (slice(int(first), int(max(first + 1, last))) for first, last in zip(low, high, strict=True))
    return z, y, x


def _draw(mask: NDArray[np.bool_], generator: np.random.Generator) -> tuple[int, int, int] | None:
    """A random voxel of a mask: first by chance, for masks that fill a good part, then by counting."""
    tries = generator.integers(0, mask.shape, size=(64, 3))
    hits = np.flatnonzero(mask[tuple(tries.T)])
    if len(hits):
        z, y, x = tries[hits[0]]
        return int(z), int(y), int(x)
    held = np.flatnonzero(mask)
    if not len(held):
        return None
    z, y, x = np.unravel_index(int(held[generator.integers(len(held))]), mask.shape)
    return int(z), int(y), int(x)


def _direction(generator: np.random.Generator) -> Floats:
    direction: Floats = generator.normal(size=3)
    return direction / np.linalg.norm(direction)


def _to_surface(
    lungs: NDArray[np.uint8], start: Floats, generator: np.random.Generator
) -> tuple[Floats, Floats] | None:
    """Where a ray from `start` leaves the lung, and the direction back."""
    direction = _direction(generator)
    steps = start + direction * np.arange(0, 120)[:, None]
    index = np.rint(steps).astype(int)
    within = np.all((index >= 0) & (index < lungs.shape), axis=1)
    index = index[within]
    outside = np.flatnonzero(lungs[tuple(index.T)] == 0)
    if not len(outside) or outside[0] == 0:
        return None
    return steps[outside[0]], -direction


def _is_clear(lungs: NDArray[np.uint8], center: NDArray[np.intp], reach: float) -> bool:
    """Whether the lung reaches that far along the six directions."""
    step = int(np.ceil(reach))
    for axis in range(3):
        for sign in (-step, step):
            at = center.copy()
            at[axis] += sign
            if np.any(at < 0) or np.any(at >= lungs.shape) or lungs[tuple(at)] == 0:
                return False
    return True


def _axes(box: Box, center: Floats) -> list[NDArray[np.float32]]:
    """Offsets (z, y, x) of a box's voxels from the centre, shaped to broadcast."""
    return [
        (np.arange(part.start, part.stop, dtype=np.float32) - np.float32(middle)).reshape(
            [-1 if axis == k else 1 for k in range(3)]
        )
        for axis, (part, middle) in enumerate(zip(box, center, strict=True))
    ]


def _filled(recipe: NoduleRecipe, center: Floats, box: Box, generator: np.random.Generator) -> NDArray[np.float32]:
    """How much of each voxel of the box the nodule fills, 0 to 1."""
    radius = recipe.diameter_mm / 2
    axes = _axes(box, center)
    stretch = np.exp(generator.normal(0, 0.18, 3))
    if recipe.position == "perifissural":
        stretch[generator.integers(3)] *= 0.6
    stretch *= 1 / np.prod(stretch) ** (1 / 3)
    turn, _ = np.linalg.qr(generator.normal(size=(3, 3)))
    turned = [sum(axes[k] * np.float32(turn[k, axis]) for k in range(3)) for axis in range(3)]
    squared = sum((part / np.float32(radius * s)) ** 2 for part, s in zip(turned, stretch, strict=True))
    depth = np.sqrt(np.asarray(squared, np.float32))
    if radius > 2.5:
        shape = tuple(part.stop - part.start for part in box)
        bend = generator.uniform(0.02, 0.22) * smooth_noise(generator, shape, max(2.5, radius * 0.9))
        depth = depth / (1 + np.clip(bend, -0.45, 0.6))
    if radius > 3 and generator.random() < (0.3 if radius < 6 else 0.5):
        for _ in range(generator.integers(4, 14) if radius < 6 else generator.integers(8, 26)):
            depth = np.minimum(depth, _spike(axes, radius, generator))
    edge = generator.uniform(1.5, 3.5) if recipe.kind == "ground_glass" else generator.uniform(0.8, 1.4)
    return np.asarray(np.clip((1 - depth) * radius / edge + 0.5, 0, 1), np.float32)


def _spike(axes: list[NDArray[np.float32]], radius: float, generator: np.random.Generator) -> NDArray[np.float32]:
    """A thin cone from the middle outwards, as a depth: 1 at its surface."""
    direction = _direction(generator)
    along = sum(axis * np.float32(d) for axis, d in zip(axes, direction, strict=True))
    length = radius * generator.uniform(1.3, 2.1)
    across = np.sqrt(np.maximum(sum(axis**2 for axis in axes) - along**2, 0))
    width = np.maximum(generator.uniform(0.7, 1.6) * (1 - along / length), 1e-3)
    spike: NDArray[np.float32] = np.where((along > 0) & (along < length), 1 + (across - width) / radius, 9.0)
    return spike.astype(np.float32)


def _numbers(  # noqa: PLR0917  what, where, in what, in this order
    recipe: NoduleRecipe,
    filled: NDArray[np.float32],
    center: Floats,
    box: Box,
    parenchyma: float,
    generator: np.random.Generator,
) -> NDArray[np.float32]:
    """The CT numbers that the nodule's tissue has in the box; ground glass stands out from the `parenchyma`."""
    radius = recipe.diameter_mm / 2
    rough = smooth_noise(generator, filled.shape, generator.uniform(2, 5))
    texture = np.asarray(generator.uniform(5, 30) * rough, np.float32)
    if recipe.kind == "solid":
        return np.asarray(generator.uniform(-60, 90) + texture, np.float32)
    if recipe.kind == "ground_glass":
        return np.asarray(parenchyma + generator.uniform(130, 380) + 1.5 * texture, np.float32)
    axes = _axes(box, center + generator.normal(0, 0.12 * radius, 3))
    far = np.asarray(np.sqrt(np.asarray(sum(axis**2 for axis in axes))) / radius, np.float32)
    if recipe.kind == "part_solid":
        core = generator.uniform(0.35, 0.75)
        solid = np.clip((core - far) * radius / 1.2 + 0.5, 0, 1)
        glass = parenchyma + generator.uniform(130, 340) + 1.5 * texture
        return np.asarray(glass + solid * (generator.uniform(-60, 60) - glass), np.float32)
    return _calcified(far, texture, generator)


def _calcified(
    far: NDArray[np.float32], texture: NDArray[np.float32], generator: np.random.Generator
) -> NDArray[np.float32]:
    """Diffuse, central, laminated or popcorn calcification. `far` is the distance from the middle over the radius."""
    soft, hard = generator.uniform(0, 80) + texture, generator.uniform(250, 1000)
    share: NDArray[np.float32] | float
    match generator.integers(4):
        case 0:
            share = 1.0
        case 1:
            share = np.clip((generator.uniform(0.3, 0.7) - far) * 4 + 0.5, 0, 1)
        case 2:
            share = np.clip(np.sin(far * generator.uniform(5, 10)) * 3, 0, 1)
        case _:
            share = np.clip(smooth_noise(generator, far.shape, 3.0) * 2, 0, 1)
    return np.asarray(soft + share * (hard - soft), np.float32)

"""Made cases to learn from: heads with and without bleeds, in the very form in which `prepare` hands on real ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipelines.geometry import Floats, positions_mm
from pipelines.hemorrhage import prepare
from pipelines.phantom.head import bleeds, ct, heads
from pipelines.phantom.head.bleeds import Kind, Surroundings
from pipelines.phantom.head.ct import Scanner
from pipelines.phantom.head.heads import Head

STEPS_PER_HU = 2.8
"""Stacks are held in 8 bits: the shown 0 to 90 HU in so many steps each."""

_LARGEST_ML: dict[Kind, float] = {
    "epidural": 60.0,
    "subdural": 80.0,
    "subarachnoid": 35.0,
    "intraparenchymal": 60.0,
    "intraventricular": 25.0,
}


@dataclass(frozen=True, slots=True)
class Recipe:
    """What is drawn: how often a head bleeds or is an infant's, in mL the smallest bleed, in HU the faintest."""

    bleeding: float = 0.6
    infants: float = 0.1
    smallest_ml: float = 0.4
    least_contrast_hu: float = 10.0


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """A made head. `stack` and `blood` are uint8 `[slice, row, column]`: steps of a HU, and the fraction of a pixel in
    blood times 255; `inside` is bool. `bleeds` are what was painted, by kind and volume in the label map (mL).
    """

    stack: NDArray[np.uint8]
    blood: NDArray[np.uint8]
    inside: NDArray[np.bool_]
    position_mm: Floats
    bleeds: tuple[tuple[Kind, float], ...]
    head: str

    @property
    def shown(self) -> prepare.Stack:
        """The stack in HU."""
        return self.stack.astype(np.float32) / np.float32(STEPS_PER_HU)

    @property
    def volume_ml(self) -> float:
        return sum(volume for _, volume in self.bleeds)


def make(
    chosen: Sequence[Head],
    recipe: Recipe,
    generator: np.random.Generator,
    wanted: Sequence[tuple[Kind, float]] | None = None,
    draw_scanner: Callable[[np.random.Generator], Scanner] = heads.draw_scanner,
) -> Case:
    """One case. `wanted` names its bleeds (none: a clean head); without it they are drawn."""
    while True:
        head = chosen[int(generator.integers(len(chosen)))]
        infant = bool(generator.random() < recipe.infants)
        around = heads.vary(head, generator, infant)
        painted = []
        for kind, volume in _draw_bleeds(recipe, generator) if wanted is None else wanted:
            labels, bleed = bleeds.paint(around, kind, volume, generator)
            around = bleeds.relabelled(around, labels)
            painted.append(bleed)
        appearance = heads.draw_appearance(generator, infant, recipe.least_contrast_hu)
        warp = heads.draw_warp(head, generator, infant)
        scan, position = _scanned(head, around, warp, appearance, scanner=draw_scanner(generator), generator=generator)
        leveled = prepare.level(np.clip(scan.hu, *prepare.CLIP_HU))
        if leveled is not None:
            return Case(
                np.rint(leveled * STEPS_PER_HU).astype(np.uint8),
                np.rint(scan.blood * 255).astype(np.uint8),
                scan.inside > 0.5,
                position,
                tuple((bleed.kind, bleed.volume_ml) for bleed in painted),
                head.name,
            )


def _draw_bleeds(recipe: Recipe, generator: np.random.Generator) -> list[tuple[Kind, float]]:
    """One to three bleeds, their volumes spread evenly over the orders of magnitude."""
    if generator.random() >= recipe.bleeding:
        return []
    count = int(generator.choice([1, 2, 3], p=[0.65, 0.23, 0.12]))
    kinds = [bleeds.KINDS[k] for k in generator.choice(len(bleeds.KINDS), count, p=[0.3, 0.26, 0.16, 0.18, 0.1])]
    low = np.log(recipe.smallest_ml)
    return [(kind, float(np.exp(generator.uniform(low, np.log(_LARGEST_ML[kind]))))) for kind in kinds]


def _scanned(
    head: Head,
    around: Surroundings,
    warp: heads.Warp,
    appearance: ct.Appearance,
    *,
    scanner: Scanner,
    generator: np.random.Generator,
) -> tuple[ct.Scan, Floats]:
    """The head scanned straight onto the working grid, now and then with its holder; where the slices lie."""
    shape = (prepare.ROWS, prepare.COLUMNS)
    planes = heads.planes_through(head, warp, generator, shape)
    scan = ct.scan(around.labels, warp, planes, shape, appearance, scanner, generator)
    if generator.random() < 0.6:
        heads.add_holder(scan.hu, generator)
    return scan, positions_mm(planes)


def pick_slices(case: Case, count: int, generator: np.random.Generator) -> NDArray[np.intp]:
    """Slices to learn from: bleeding ones, the vertex and the base more often, those without a head hardly ever."""
    inside = case.inside.sum(axis=(1, 2)).astype(float)
    weight = 0.15 + 1.0 * (inside > 300)
    upper = np.flatnonzero(inside > 300)
    if upper.size:
        weight[upper[-4:]] *= 2.0
        weight[upper[:6]] *= 1.5
    bleeding = case.blood.sum(axis=(1, 2)) > 20 * 255
    weight[bleeding] *= 3.0
    return generator.choice(len(weight), count, replace=False, p=weight / weight.sum())


def load_heads(paths: Sequence[Path]) -> tuple[Head, ...]:
    """The heads of label maps, to be held in memory."""
    return tuple(heads.load(path) for path in paths)

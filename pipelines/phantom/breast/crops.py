"""Small pieces of mammograms, made directly: what networks learn calcifications from.

A crop shows what any part of a breast may: gland or fat, skin line or muscle, a group of calcifications or none, and
often something that only looks like calcification.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from pipelines.phantom.breast.anatomy import DENSITIES, DENSITY_ODDS, Density
from pipelines.phantom.breast.calcifications import Layout, particle, random_group, random_length, random_plaques
from pipelines.phantom.breast.imaging import Medium, Receptor
from pipelines.phantom.breast.mimics import add_mimics
from pipelines.phantom.breast.presentation import Processing
from pipelines.phantom.breast.scene import Scene, picture
from pipelines.phantom.breast.texture import Field, Grain, Points, draw, winding
from pipelines.phantom.breast.tissue import Course, Tissue, fibre_mm, rolled_off, skin_mm, tissue_parts
from pipelines.phantom.breast.truth import MadeGrain, MadeGroup, Mimic, Shape

Generator = np.random.Generator


@dataclass(frozen=True, slots=True)
class CropOptions:
    """What to make; None leaves it to chance. `group_odds` is the chance of one group, and again of a second."""

    medium: Medium | None = None
    pitch_mm: float | None = None
    density: Density | None = None
    group_odds: float = 0.55
    benign_odds: float = 0.35
    mimic_odds: float = 0.6


@dataclass(frozen=True, slots=True, eq=False)
class MadeCrop:
    """`pixels` float32 `[row, column]` from 0 to 1, dense bright, as `Mammogram.pixels` are; `pitch_mm` their side.

    `is_presented` tells those processed for presentation (and films) from the logarithm of the exposure.
    """

    pixels: Field
    grains: tuple[MadeGrain, ...]
    groups: tuple[MadeGroup, ...]
    pitch_mm: float
    medium: Medium
    is_presented: bool
    mimics: tuple[Mimic, ...] = field(default=())


def make_crop(generator: Generator, side_px: int = 512, options: CropOptions = CropOptions()) -> MadeCrop:
    """A square piece of a mammogram with its truth. The same state of the generator gives the same crop."""
    receptor = Receptor.random(generator, options.medium, options.pitch_mm)
    scene, grain, base = _ground(generator, side_px, receptor, options.density)
    for _ in range(2):
        if generator.random() >= options.group_odds:
            break
        _lay_group(
            generator, scene, random_group(generator, most_mm=min(40.0, 0.7 * side_px * receptor.pitch_mm)), grain
        )
    if generator.random() < options.benign_odds:
        _lay_benign(generator, scene, grain)
    if generator.random() < options.mimic_odds:
        add_mimics(generator, scene, receptor.medium, grain.angle)
    processing = None if receptor.medium != "film" and generator.random() < 0.25 else Processing.random(generator)
    if processing is not None:  # a unit does not show a dense breast white all over
        processing = replace(processing, dense=max(processing.dense, 1.3 * base))
    aim = float(np.clip(base + generator.normal(0, 0.1), 0.05, 0.9))
    made = picture(generator, scene, receptor, generator.uniform(26, 32), processing, aim)
    return MadeCrop(
        made.pixels,
        made.grains,
        made.groups,
        receptor.pitch_mm,
        receptor.medium,
        receptor.medium == "film" or processing is not None,
        tuple(scene.mimics),
    )


def _ground(generator: Generator, side: int, receptor: Receptor, density: Density | None) -> tuple[Scene, Grain, float]:
    """The breast without calcifications, how its tissue runs, and its part of gland."""
    uniform, pitch = generator.uniform, receptor.pitch_mm
    shape = (side, side)
    category = density or DENSITIES[int(generator.choice(4, p=DENSITY_ODDS))]
    usual = float(np.clip(generator.normal({"A": 62, "B": 57, "C": 50, "D": 44}[category], 11), 22, 90))
    grain = Grain(uniform(-np.pi, np.pi), uniform(1.0, 1.9))
    tissue = Tissue.random(generator, category)
    depth = _depth(generator, shape, pitch)
    thickness = np.full(shape, np.float32(usual)) if depth is None else rolled_off(depth, usual)
    course = Course(shape, pitch, grain)
    part, net = tissue_parts(generator, course, tissue)
    gland = part * thickness
    fibres = fibre_mm(generator, course, tissue, net)
    if depth is None:
        gland += fibres
    else:
        gland *= np.clip(depth / uniform(6, 16) - 0.25, 0.05, 1)  # fat lies under the skin
        fibres *= np.clip(depth / 4, 0, 1)
        gland += fibres
        gland += skin_mm(depth, thickness, uniform(1.2, 2.4))
    if generator.random() < 0.08:
        gland = _with_muscle(generator, gland, thickness, pitch)
    np.clip(gland, 0, thickness, out=gland)
    return Scene(pitch, usual, thickness, gland), grain, tissue.base


def _depth(generator: Generator, shape: tuple[int, int], pitch: float) -> Field | None:
    """Distance (mm) inwards from the skin line, for the few crops that hold it."""
    if generator.random() > 0.15:
        return None
    rows, columns = (np.arange(side, dtype=np.float32) * np.float32(pitch) for side in shape)
    angle = generator.uniform(0, 2 * np.pi)
    size = shape[0] * pitch
    radius = generator.uniform(50, 120)
    edge = generator.uniform(-0.45, 0.7) * size
    middle = size / 2 - np.array([np.cos(angle), np.sin(angle)]) * (edge * -1 + radius)
    away = np.hypot(columns[None, :] - np.float32(middle[0]), rows[:, None] - np.float32(middle[1]))
    return np.asarray(radius - away, np.float32)


def _with_muscle(generator: Generator, gland: Field, thickness: Field, pitch: float) -> Field:
    rows, columns = (np.arange(side, dtype=np.float32) * np.float32(pitch) for side in gland.shape)
    angle = generator.uniform(-np.pi, np.pi)
    size = gland.shape[0] * pitch
    across = (columns[None, :] - size / 2) * np.float32(np.cos(angle)) + (rows[:, None] - size / 2) * np.float32(
        np.sin(angle)
    )
    across += np.float32(generator.uniform(-0.3, 0.3) * size)
    bow = (columns[None, :] * np.float32(np.sin(angle)) - rows[:, None] * np.float32(np.cos(angle))) / np.float32(size)
    across += np.float32(generator.normal(0, 2)) * bow**2
    part = (1 + np.tanh(across / np.float32(generator.uniform(0.4, 3.0)))) * np.float32(0.5)
    rise = np.clip(across / np.float32(generator.uniform(10, 40)), 0, 1) * np.float32(generator.uniform(0.2, 0.5))
    found: Field = gland + part * (np.float32(generator.uniform(0.15, 0.4)) + rise) * (thickness - gland)
    return found


def _lay_group(generator: Generator, scene: Scene, layout: Layout, grain: Grain) -> None:
    """Lay a group so that its middle is on the image and within the breast."""
    middle = _place(generator, scene)
    if middle is None:
        return
    cosine, sine = np.cos(grain.angle), np.sin(grain.angle)
    along, across = layout.offsets_mm[:, 0], layout.offsets_mm[:, 1]
    places = np.stack([along * cosine - across * sine, along * sine + across * cosine], -1) / scene.pitch_mm + middle
    scene.lay_group(generator, layout, places, grain.angle, bool(generator.random() < 0.5))


def _place(generator: Generator, scene: Scene, least_mm: float = 8.0) -> Points | None:
    for _ in range(12):
        at = (0.06 + 0.88 * generator.random(2)) * scene.shape[::-1]
        if scene.holds(at, least_mm):
            return np.asarray(at)
    return None


_SINGLES: tuple[tuple[Shape, float], ...] = (
    ("round", 0.5),
    ("punctate", 0.6),
    ("skin", 0.25),
    ("rim", 0.1),
    ("popcorn", 0.08),
    ("dystrophic", 0.12),
    ("rod", 0.1),
)


def _lay_benign(generator: Generator, scene: Scene, grain: Grain) -> None:
    """What most breasts of some age hold: single calcifications of typically benign form, or a calcified artery."""
    if generator.random() < 0.2:
        _lay_artery(generator, scene, grain)
    for shape, odds in _SINGLES:
        if generator.random() >= odds * 0.6:
            continue
        for _ in range(int(generator.integers(1, 5 if shape in {"round", "punctate", "skin"} else 2))):
            at = _place(generator, scene)
            if at is not None:
                made = particle(generator, shape, random_length(generator, shape))
                scene.lay(made, (float(at[0]), float(at[1])))


def _lay_artery(generator: Generator, scene: Scene, grain: Grain) -> None:
    size = scene.shape[0] * scene.pitch_mm
    line = winding(generator, np.zeros(2), grain.angle + generator.normal(0, 0.5), size * 1.6, 0.04, 0.5, 6.0)
    line += generator.uniform(0.2, 0.8, 2) * size - line[len(line) // 2]
    radius = generator.uniform(0.5, 1.4)
    draw(scene.gland, [(line / scene.pitch_mm, np.full(len(line), 1.6 * radius))], radius * 0.6 / scene.pitch_mm)
    np.minimum(scene.gland, scene.thickness, out=scene.gland)
    scene.lay_plaques(generator, line / scene.pitch_mm, radius, random_plaques(generator, size * 1.6))

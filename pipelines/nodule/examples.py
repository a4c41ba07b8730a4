"""Made scenes to learn from: pieces of made chests with nodules, as the working grid shows them.

The backgrounds are made chests of 1 mm voxels, kept in a folder; nodules are painted or implanted into a copy of a
piece, which then goes through a scanner: slice thickness, point spread, sharpening and noise are drawn anew each time.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from pipelines.nodule import implant
from pipelines.nodule.implant import Patch
from pipelines.phantom.chest import nodules
from pipelines.phantom.chest.nodules import Canvas, PaintedNodule

Image = NDArray[np.float32]

_ARRAYS = ("hu", "lungs", "vessel", "fissure")
CUT_OFF = 0.15
"""The part of the scenes that end somewhere along z."""
MARGIN = 6
"""Nodules' centres keep so many mm from the border of a piece."""


@dataclass(frozen=True, slots=True, eq=False)
class Background:
    """A made chest on disk, `[z, y, x]` of 1 mm: `hard` are the centres of what is easily taken for a nodule."""

    hu: NDArray[np.int16]
    lungs: NDArray[np.uint8]
    vessel: NDArray[np.uint8]
    fissure: NDArray[np.uint8]
    hard: NDArray[np.int32]


@dataclass(frozen=True, slots=True, eq=False)
class Library:
    """What scenes are made of."""

    backgrounds: tuple[Background, ...]
    patches: tuple[Patch, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """A piece of a made scan: `image` int16 HU `[z, y, x]` of 1 mm, its nodules (centres as indices) and lungs."""

    image: NDArray[np.int16]
    nodules: tuple[PaintedNodule, ...]
    lungs: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Recipe:
    """What scenes are drawn: their side in voxels, the shares of real nodules and of masses among nodules, that of
    scenes without any, and the most nodules in one.
    """

    side: int = 64
    real: float = 0.5
    masses: float = 0.03
    empty: float = 0.25
    most: int = 3


@dataclass(frozen=True, slots=True)
class Scanner:
    """How the scanner shows a piece: slices `slice_mm` thick every `step_mm`; noise as SD and grain at 1 mm."""

    slice_mm: float
    step_mm: float
    point_spread_mm: float
    sharpening: float
    noise_hu: float
    grain_mm: float

    @staticmethod
    def random(generator: np.random.Generator) -> Scanner:
        """From thin and soft to thick or sharp, as they come."""
        thickness = float(
            generator.choice([0.6, 1.0, 1.25, 1.5, 2.0, 2.5, 3.0], p=[0.1, 0.3, 0.2, 0.1, 0.1, 0.15, 0.05])
        )
        step = thickness * float(generator.choice([1.0, 0.8, 0.6], p=[0.6, 0.2, 0.2]))
        sharp = generator.random() < 0.4
        low, high = (15, 90) if sharp else (4, 35)
        return Scanner(
            thickness,
            step,
            float(generator.uniform(0.2, 0.5) if sharp else generator.uniform(0.4, 0.9)),
            float(generator.uniform(0.2, 1.2) if sharp else generator.uniform(0, 0.2)),
            float(np.exp(generator.uniform(np.log(low), np.log(high)))),
            float(generator.uniform(0.3, 0.6) if sharp else generator.uniform(0.5, 1.0)),
        )


def open_library(folder: Path, patches: Path, held_back: int | None, folds: int, *, real: float) -> Library:
    """The backgrounds of `folder` (from disk as they are needed) and the patches of all folds but `held_back`; no
    patches where no nodule is to be a real one.
    """
    known = implant.load_patches(patches) if real > 0 else ()
    if held_back is not None:
        known = tuple(patch for patch in known if implant.fold_of(patch.patient_id, folds) != held_back)
    return Library(tuple(open_background(path) for path in sorted(folder.glob("*.json"))), known)


def open_background(path: Path) -> Background:
    """A background by its JSON file, beside which the arrays lie."""
    hu, lungs, vessel, fissure = (np.load(path.with_suffix(f".{name}.npy"), mmap_mode="r") for name in _ARRAYS)
    hard = np.asarray(json.loads(path.read_text(encoding="utf-8")), np.int32).reshape(-1, 3)
    return Background(hu, lungs, vessel, fissure, hard)


def save_background(background: Background, path: Path) -> None:
    """Write a background; the JSON file comes last, so that half of one is never opened."""
    for name in _ARRAYS:
        np.save(path.with_suffix(f".{name}.npy"), getattr(background, name))
    path.write_text(json.dumps(background.hard.tolist()), encoding="utf-8")


def make_scene(library: Library, recipe: Recipe, generator: np.random.Generator) -> Scene:
    """One scene."""
    background = library.backgrounds[generator.integers(len(library.backgrounds))]
    canvas = _piece(background, recipe.side, generator)
    made: list[PaintedNodule] = []
    if generator.random() >= recipe.empty:
        for _ in range(min(recipe.most, 1 + generator.poisson(0.5 if recipe.most <= 3 else recipe.most / 2))):
            add_nodule(canvas, library.patches, generator, made, real=recipe.real, masses=recipe.masses)
    for _ in range(generator.integers(0, 4) if library.patches else 0):
        add_piece(canvas, library.patches, generator, made)
    image = show(canvas, Scanner.random(generator), generator)
    scene = Scene(np.rint(np.clip(image, -1024, 3000)).astype(np.int16), tuple(made), canvas.lungs > 0)
    return _cut_off(scene, generator) if generator.random() < CUT_OFF else scene


def _cut_off(scene: Scene, generator: np.random.Generator) -> Scene:
    """A scene that ends somewhere along z, as a scan does that does not cover the whole lung."""
    depth = scene.image.shape[0]
    kept = int(generator.integers(depth // 3, depth - 2))
    part = slice(0, kept) if generator.random() < 0.5 else slice(depth - kept, depth)
    image, lungs = np.full_like(scene.image, -1024), np.zeros_like(scene.lungs)
    image[part], lungs[part] = scene.image[part], scene.lungs[part]
    inside = tuple(nodule for nodule in scene.nodules if part.start <= nodule.center[0] <= part.stop - 1)
    return Scene(image, inside, lungs)


def add_nodule(
    canvas: Canvas,
    patches: Sequence[Patch],
    generator: np.random.Generator,
    made: list[PaintedNodule],
    *,
    real: float = 0.5,
    masses: float = 0.03,
    margin: int = MARGIN,
    evenly: bool = True,
) -> None:
    """Paint or implant one more nodule, clear of those already `made`, where a place for it is found.

    Real ones come `evenly` by kind and size, else as they are.
    """
    taken = [(np.asarray(nodule.center), nodule.diameter_mm / 2) for nodule in made]
    painted = None
    if generator.random() < real:
        patch = implant.choose(patches, generator, evenly=evenly)
        scale = float(np.exp(generator.normal(0, 0.12)))
        position: nodules.Position = "juxtapleural" if patch.wall is not None else "intrapulmonary"
        center = nodules.place(canvas, position, scale * patch.diameter_mm / 2, generator, margin=margin, taken=taken)
        if center is not None:
            outward = implant.outward_at(canvas.lungs, center) if patch.wall is not None else None
            painted = implant.implant(canvas, patch, center, position, generator, scale=scale, outward=outward)
    else:
        recipe = nodules.random_recipe(generator, masses=masses)
        radius = recipe.diameter_mm / 2
        center = nodules.place(canvas, recipe.position, radius, generator, margin=margin, taken=taken)
        if center is None:
            recipe = replace(recipe, position="intrapulmonary")
            center = nodules.place(canvas, recipe.position, radius, generator, margin=margin, taken=taken)
        painted = nodules.paint(canvas, recipe, center, generator) if center is not None else None
    if painted is not None:
        made.append(painted)


def add_piece(
    canvas: Canvas, patches: Sequence[Patch], generator: np.random.Generator, made: Sequence[PaintedNodule]
) -> None:
    """Set a piece of real lung that holds no nodule, clear of the nodules."""
    center = nodules.place(
        canvas, "intrapulmonary", 3.0, generator, taken=[(np.asarray(n.center), n.diameter_mm / 2 + 3) for n in made]
    )
    if center is not None:
        implant.set_piece(canvas, patches[int(generator.integers(len(patches)))], center, generator)


def _piece(background: Background, side: int, generator: np.random.Generator) -> Canvas:
    """A copy of a cube about a place in the lung, now and then about one that is easily taken for a nodule."""
    shape = np.array(background.hu.shape)
    center: NDArray[np.int64]
    if len(background.hard) and generator.random() < 0.35:
        center = background.hard[generator.integers(len(background.hard))] + generator.integers(-12, 13, 3)
    else:
        tries = generator.integers(0, shape, size=(200, 3))
        inside = np.flatnonzero(background.lungs[tuple(tries.T)])
        center = tries[inside[0]] if len(inside) else shape // 2
    low = np.clip(center - side // 2, 0, shape - side)
    return canvas_of(background, tuple(slice(int(first), int(first) + side) for first in low))


def canvas_of(background: Background, box: tuple[slice, ...]) -> Canvas:
    """A copy of a part of a background to paint on."""
    hu = np.asarray(background.hu[box], np.float32)
    return Canvas(
        hu,
        np.array(background.lungs[box]),
        np.asarray(background.vessel[box]) > 0,
        np.asarray(background.fissure[box]) > 0,
        np.zeros_like(hu),
    )


@dataclass(frozen=True, slots=True, eq=False)
class Acquired:
    """A scan of a canvas: `hu` `[slice, y, x]` with pixels of 1 mm, and at which z index each slice lies."""

    hu: Image
    height: NDArray[np.float64]


def acquire(canvas: Canvas, scanner: Scanner, generator: np.random.Generator) -> Acquired:
    """The scanner's slices of a canvas. Noise that implants brought is not added again."""
    seen = ndimage.gaussian_filter(canvas.hu, (0, scanner.point_spread_mm, scanner.point_spread_mm), truncate=3)
    if scanner.sharpening:
        bounded = np.clip(seen, -1000, 300)
        seen = seen + scanner.sharpening * (bounded - ndimage.gaussian_filter(bounded, (0, 1.0, 1.0), truncate=3))
    height = _heights(canvas.hu.shape[0], scanner, generator)
    slices = _averages(height, canvas.hu.shape[0], scanner)
    level = max(scanner.noise_hu, 0.8 * float(np.sqrt(canvas.noise.max(initial=0))))
    brought = np.tensordot(slices, canvas.noise, (1, 0))
    noise = _add(level, brought) * _grain(generator, brought.shape, scanner)
    return Acquired(np.asarray(np.tensordot(slices, seen, (1, 0)) + noise, np.float32), height)


def show(canvas: Canvas, scanner: Scanner, generator: np.random.Generator) -> Image:
    """The scanner's picture of a canvas, back on its 1 mm grid."""
    acquired = acquire(canvas, scanner, generator)
    distance = np.abs(np.arange(canvas.hu.shape[0])[:, None] - acquired.height) / max(scanner.step_mm, 1.0)
    between = np.maximum(1 - distance, 0)
    between /= between.sum(axis=1, keepdims=True)
    return np.asarray(np.tensordot(between.astype(np.float32), acquired.hu, (1, 0)), np.float32)


def _add(level: float, brought: Image) -> Image:
    """SD of the noise to add where some is there already."""
    return np.asarray(np.sqrt(np.maximum(np.float32(level**2) - brought, 0)), np.float32)


def _heights(depth: int, scanner: Scanner, generator: np.random.Generator) -> NDArray[np.float64]:
    """Where slices lie that cover all voxels."""
    return np.arange(-generator.random() * scanner.step_mm, depth - 1 + scanner.step_mm, scanner.step_mm)


def _averages(height: NDArray[np.float64], depth: int, scanner: Scanner) -> Image:
    """The matrix `[slice, voxel]` of means over the slice thickness."""
    voxels = np.arange(depth)
    half = scanner.slice_mm / 2
    overlap = np.minimum(voxels + 0.5, height[:, None] + half) - np.maximum(voxels - 0.5, height[:, None] - half)
    weight = np.maximum(overlap, 0)
    outside = weight.sum(axis=1) < 1e-3
    weight[outside, np.where(height[outside] < 0, 0, depth - 1)] = 1
    return np.asarray(weight / weight.sum(axis=1, keepdims=True), np.float32)


def _grain(generator: np.random.Generator, shape: tuple[int, ...], scanner: Scanner) -> Image:
    """Noise of unit SD in every slice: soft, or with the low frequencies taken out where the kernel is sharp."""
    noise = generator.standard_normal(shape, np.float32)
    made = ndimage.gaussian_filter(noise, (0, scanner.grain_mm, scanner.grain_mm), truncate=3)
    if scanner.sharpening > 0.2:
        made = made - 0.8 * ndimage.gaussian_filter(noise, (0, 1.5, 1.5), truncate=2.5)
    return np.asarray(made / made.std(), np.float32)

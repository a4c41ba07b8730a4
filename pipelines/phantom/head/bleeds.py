"""Paints bleeds of the five kinds into a label map of a head, at a wanted volume.

Label maps are uint8 `[z, y, x]` at 1 mm, axes towards superior, posterior and left of the patient (`labels` says what
the numbers mean). Every kind is a growth order over voxels: the wanted volume is the first so many voxels of it, so the
volume is exact wherever there is room, and what there is no room for is missing from `Bleed.volume_ml`. Bleeds that
take room push the tissue about them aside.

Shapes: epidural is a convex lens on the inner table, subdural a thin crescent along it that keeps to one side,
subarachnoid fills sulci and cisterns, intraparenchymal is an uneven ellipsoid with a rim of oedema, intraventricular
lies low in the ventricles of a patient on the back.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from pipelines.phantom.head import labels as tissue

Labels = NDArray[np.uint8]
Indices = NDArray[np.intp]
Floats = NDArray[np.float32]
Kind = Literal["epidural", "subdural", "subarachnoid", "intraparenchymal", "intraventricular"]
KINDS: tuple[Kind, ...] = get_args(Kind)

_SHELL_MM = 28.0
_FLUID = tissue.table(tissue.FLUID, tissue.SULCUS)
_VENTRICLES = tissue.table(*tissue.VENTRICLES)
_BRAIN = tissue.table(*tissue.BRAIN)
_HINDBRAIN = tissue.table(*tissue.CEREBELLUM, tissue.BRAIN_STEM)
_FIRM = tissue.table(*tissue.BRAIN, *tissue.VENTRICLES, tissue.FLUID, tissue.SULCUS)


@dataclass(frozen=True, slots=True, eq=False)
class Surroundings:
    """A label map and what painting needs to know of it.

    `depth` is the distance from the inner table in mm (0 outside the skull). `shell` holds the flat indices of the
    voxels less than 28 mm deep, `rim` of those on the inner table above the base. `midline` is the x of the middle.
    """

    labels: Labels
    depth: Floats
    shell: Indices
    rim: Indices
    midline: float


@dataclass(frozen=True, slots=True, eq=False)
class Bleed:
    """What was painted: `mask` is bool `[z, y, x]`, `volume_ml` the volume achieved, `center` its centre of gravity."""

    kind: Kind
    mask: NDArray[np.bool_]
    volume_ml: float
    center: tuple[float, float, float]


@dataclass(frozen=True, slots=True, eq=False)
class _Growth:
    """Flat indices of candidate voxels and their order; `push` gives the label map with its tissue moved aside."""

    voxels: Indices
    order: Floats
    push: Callable[[Labels, float], Labels] | None = None


def inside_skull(labels: Labels) -> NDArray[np.bool_]:
    """The intracranial space of a label map."""
    return tissue.table(*tissue.INTRACRANIAL)[labels]


def survey(labels: Labels) -> Surroundings:
    """What painting needs to know of a label map (a distance transform: about a second for a head)."""
    depth = ndimage.distance_transform_edt(inside_skull(labels)).astype(np.float32)
    stem = np.nonzero(labels == tissue.BRAIN_STEM)[0]
    base = float(np.percentile(stem, 60)) if stem.size else 0.0
    shallow = depth.ravel()
    above = np.arange(labels.shape[0]) > base
    rim = np.flatnonzero((depth > 0) & (depth < 2) & above[:, None, None])
    left, right = (np.nonzero(tissue.table(*side)[labels])[2] for side in (tissue.CEREBRUM_LEFT, tissue.CEREBRUM_RIGHT))
    midline = (float(left.mean()) + float(right.mean())) / 2 if left.size and right.size else labels.shape[2] / 2
    shell = np.flatnonzero((shallow > 0) & (shallow < _SHELL_MM))
    return Surroundings(labels, depth, shell, rim, midline)


def relabelled(around: Surroundings, labels: Labels) -> Surroundings:
    """The same skull with other labels in it (a second bleed is painted on top of the first)."""
    return replace(around, labels=labels)


def paint(around: Surroundings, kind: Kind, volume_ml: float, generator: np.random.Generator) -> tuple[Labels, Bleed]:
    """A copy of the label map with a bleed of `kind` in it, and the bleed."""
    growth = _GROWTHS[kind](around, generator)
    wanted = min(round(volume_ml * 1000), growth.voxels.size)
    chosen = np.argpartition(growth.order, wanted - 1)[:wanted] if 0 < wanted < growth.order.size else np.arange(wanted)
    size = float(growth.order[chosen].max()) if wanted else 0.0
    painted = growth.push(around.labels, size) if growth.push and wanted else around.labels.copy()
    if kind == "intraparenchymal" and wanted:
        _paint_rim(painted, growth, wanted, generator)
    mask = np.zeros(painted.shape, np.bool_)
    mask.ravel()[growth.voxels[chosen]] = True
    painted[mask] = tissue.BLOOD
    where = np.unravel_index(growth.voxels[chosen], mask.shape)
    center = tuple(float(np.mean(axis)) if wanted else 0.0 for axis in where)
    return painted, Bleed(kind, mask, wanted / 1000, (center[0], center[1], center[2]))


def _paint_rim(painted: Labels, growth: _Growth, wanted: int, generator: np.random.Generator) -> None:
    """Oedema: the brain that the bleed would grow into next."""
    outer = min(int(wanted * generator.uniform(1.0, 2.5)), growth.order.size)
    rim = growth.voxels[np.argpartition(growth.order, outer - 1)[:outer]]
    flat = painted.ravel()
    flat[rim[_BRAIN[flat[rim]]]] = tissue.OEDEMA


def _coordinates(around: Surroundings, voxels: Indices) -> Floats:
    return np.stack(np.unravel_index(voxels, around.labels.shape)).astype(np.float32)


def _wobble(points: Floats, generator: np.random.Generator, length_mm: float, strength: float) -> Floats:
    """A smooth random factor about 1 at each point: a few plane waves, so it needs no grid."""
    waves = generator.normal(0, 1 / length_mm, (6, 3)).astype(np.float32)
    phases = generator.uniform(0, 2 * np.pi, (6, 1)).astype(np.float32)
    factor: Floats = 1 + strength * np.sin(waves @ points + phases).sum(axis=0) / np.float32(np.sqrt(3))
    return np.maximum(factor, 0.2, out=factor)


def _on_table(around: Surroundings, generator: np.random.Generator, slope: float, one_side: bool) -> _Growth:
    """Lens of half width W and thickness `slope` x W (1 - (s/W)^2) at distance s from its middle.

    The order of a voxel of depth d is the smallest W whose lens holds it, the positive root of
    slope W^2 - d W - slope s^2 = 0.
    """
    rim = around.rim if around.rim.size else around.shell
    middle = _coordinates(around, rim[generator.integers(rim.size)][None])
    points = _coordinates(around, around.shell)
    squared = ((points - middle) ** 2).sum(axis=0)
    near = squared < (120.0 if one_side else 70.0) ** 2
    if one_side:
        near &= np.sign(points[2] - around.midline) == np.sign(middle[2, 0] - around.midline)
        near &= ~_HINDBRAIN[around.labels.ravel()[around.shell]]
    voxels, points, squared = around.shell[near], points[:, near], squared[near]
    depth = around.depth.ravel()[voxels]
    uneven = _wobble(points, generator, 14.0, 0.18)
    depth_uneven = depth * uneven
    order = (depth_uneven + np.sqrt(depth_uneven**2 + 4 * slope**2 * squared)) / np.float32(2 * slope)

    def push(labels: Labels, width: float) -> Labels:
        thickness = np.maximum(slope * width * (1 - squared / max(width, 1e-3) ** 2), 0) / uneven
        return _pushed_inwards(around, labels, voxels, points, thickness)

    return _Growth(voxels, order.astype(np.float32), push)


def _pushed_inwards(around: Surroundings, labels: Labels, voxels: Indices, points: Floats, thickness: Floats) -> Labels:
    """Tissue under a lens moves away from the skull; how far fades to nothing at three thicknesses and 10 mm."""
    depth, reach = around.depth.ravel()[voxels], 3 * thickness + 10
    moved = (thickness > 0.5) & (depth > thickness) & (depth < reach) & _FIRM[labels.ravel()[voxels]]
    voxels, points = voxels[moved], points[:, moved]
    depth, thickness, reach = depth[moved], thickness[moved], reach[moved]
    source_depth = (depth - thickness) * reach / (reach - thickness)
    distance = around.depth.ravel()
    strides = np.array([labels.shape[1] * labels.shape[2], labels.shape[2], 1])[:, None]
    last = distance.size - 1
    inwards = distance[np.minimum(voxels + strides, last)] - distance[np.maximum(voxels - strides, 0)]
    inwards /= np.maximum(np.linalg.norm(inwards, axis=0), 1e-3)
    return _moved(labels, voxels, points - inwards * (depth - source_depth))


def _moved(labels: Labels, voxels: Indices, source: Floats) -> Labels:
    """`labels` with each of `voxels` read at `source`, where soft tissue is found there."""
    limit = np.array(labels.shape)[:, None] - 1
    nearest = np.clip(np.rint(source).astype(np.intp), 0, limit)
    found = labels[nearest[0], nearest[1], nearest[2]]
    painted = labels.copy()
    firm = _FIRM[found]
    painted.ravel()[voxels[firm]] = found[firm]
    return painted


def _epidural(around: Surroundings, generator: np.random.Generator) -> _Growth:
    return _on_table(around, generator, generator.uniform(0.25, 0.6), one_side=False)


def _subdural(around: Surroundings, generator: np.random.Generator) -> _Growth:
    if generator.random() < 0.2:
        falx = np.flatnonzero(tissue.table(tissue.FALX, tissue.TENTORIUM)[around.labels])
        if falx.size:
            return _along(around, generator, falx)
    return _on_table(around, generator, generator.uniform(0.09, 0.22), one_side=True)


def _along(around: Surroundings, generator: np.random.Generator, dura: Indices) -> _Growth:
    """A sheet along falx or tentorium: near a fold of dura first, then further from the middle of the bleed."""
    middle = _coordinates(around, dura[generator.integers(dura.size)][None])
    box = _box(around, middle[:, 0], 60)
    labels = around.labels[box]
    sheet = tissue.table(tissue.FALX, tissue.TENTORIUM)[labels]
    distance = ndimage.distance_transform_edt(~sheet)
    soft = _FIRM[labels] & (distance < 9)
    points = _box_points(box, soft)
    length = np.sqrt(((points - middle) ** 2).sum(axis=0))
    order = length + generator.uniform(5, 14) * distance[soft].astype(np.float32)
    return _Growth(_flat(around, points), (order * _wobble(points, generator, 14.0, 0.15)).astype(np.float32))


def _box(around: Surroundings, center: Floats, half: int) -> tuple[slice, slice, slice]:
    low = np.maximum(np.rint(center).astype(int) - half, 0)
    high = np.minimum(np.rint(center).astype(int) + half + 1, around.labels.shape)
    return (slice(low[0], high[0]), slice(low[1], high[1]), slice(low[2], high[2]))


def _box_points(box: tuple[slice, slice, slice], chosen: NDArray[np.bool_]) -> Floats:
    """Coordinates in the whole map of the chosen voxels of a box."""
    low = np.array([side.start for side in box], np.float32)[:, None]
    return np.stack(np.nonzero(chosen)).astype(np.float32) + low


def _flat(around: Surroundings, points: Floats) -> Indices:
    z, y, x = points.astype(np.intp)
    rows, columns = around.labels.shape[1:]
    flat: Indices = (z * rows + y) * columns + x
    return flat


def _subarachnoid(around: Surroundings, generator: np.random.Generator) -> _Growth:
    """Fluid near one to three places: cisterns at the base in half of the cases, sulci else."""
    basal = generator.random() < 0.5
    wanted = tissue.FLUID if basal else tissue.SULCUS
    seeds = np.flatnonzero(around.labels == wanted)
    seeds = seeds if seeds.size else np.flatnonzero(_FLUID[around.labels])
    fluid = np.flatnonzero(_FLUID[around.labels])
    points = _coordinates(around, fluid)
    order = np.full(fluid.size, np.inf, np.float32)
    middle = _coordinates(around, seeds[generator.integers(seeds.size)][None])
    for _ in range(int(generator.integers(1, 4))):
        stretch = generator.uniform(0.6, 1.6, (3, 1)).astype(np.float32)
        order = np.minimum(order, np.sqrt((((points - middle) / stretch) ** 2).sum(axis=0)))
        other = seeds[generator.integers(seeds.size)][None]
        middle = _coordinates(around, other)
    return _Growth(fluid, order * _wobble(points, generator, 8.0, 0.25))


def _intraparenchymal(around: Surroundings, generator: np.random.Generator) -> _Growth:
    seeds = _seat(around, generator)
    middle = _coordinates(around, seeds[generator.integers(seeds.size)][None])
    box = _box(around, middle[:, 0], 45)
    soft = _FIRM[around.labels[box]]
    points = _box_points(box, soft)
    offset = points - middle
    turned = np.linalg.qr(generator.normal(size=(3, 3)))[0].astype(np.float32) @ offset
    axes = generator.uniform(0.65, 1.5, (3, 1)).astype(np.float32)
    axes /= np.float32(np.prod(axes) ** (1 / 3))
    radius = np.sqrt(((turned / axes) ** 2).sum(axis=0))
    uneven = _wobble(points, generator, generator.uniform(5, 12), generator.uniform(0.05, 0.3))
    voxels = _flat(around, points)
    strength = generator.uniform(0.3, 0.9)

    def push(labels: Labels, size: float) -> Labels:
        plain = np.sqrt((offset**2).sum(axis=0))
        reach = 3 * size
        fade = np.clip(1 - plain / reach, 0, 1)
        ring = (plain > 1) & (plain < reach)
        shrink = np.cbrt(np.maximum(plain**3 - strength * fade * size**3, (0.2 * plain) ** 3)) / np.maximum(plain, 1)
        return _moved(labels, voxels[ring], (middle + offset * shrink)[:, ring])

    return _Growth(voxels, (radius * uneven).astype(np.float32), push)


def _seat(around: Surroundings, generator: np.random.Generator) -> Indices:
    """Where an intraparenchymal bleed starts: deep nuclei, a lobe, cerebellum or brain stem."""
    seats: tuple[tuple[int, ...], ...] = (
        tissue.DEEP_GREY,
        tissue.WHITE_MATTER,
        tissue.CORTEX,
        tissue.CEREBELLUM,
        (tissue.BRAIN_STEM,),
    )
    which = int(generator.choice(len(seats), p=[0.35, 0.33, 0.15, 0.11, 0.06]))
    seeds = np.flatnonzero(tissue.table(*seats[which])[around.labels])
    return seeds if seeds.size else np.flatnonzero(_BRAIN[around.labels])


def _intraventricular(around: Surroundings, generator: np.random.Generator) -> _Growth:
    """Low ventricular fluid first (a level, seen from a patient on the back), or a cast about one place."""
    voxels = np.flatnonzero(_VENTRICLES[around.labels])
    points = _coordinates(around, voxels)
    middle = _coordinates(around, voxels[generator.integers(voxels.size)][None])
    away = np.sqrt(((points - middle) ** 2).sum(axis=0))
    lowness = points[1].max() - points[1]
    cast = generator.random() < 0.35
    one_side = np.where(np.sign(points[2] - around.midline) == np.sign(middle[2] - around.midline), 0.0, 1.0)
    order = away if cast else lowness + generator.uniform(0, 40) * one_side
    return _Growth(voxels, (order + 2 * _wobble(points, generator, 6.0, 0.3)).astype(np.float32))


_GROWTHS: dict[Kind, Callable[[Surroundings, np.random.Generator], _Growth]] = {
    "epidural": _epidural,
    "subdural": _subdural,
    "subarachnoid": _subarachnoid,
    "intraparenchymal": _intraparenchymal,
    "intraventricular": _intraventricular,
}

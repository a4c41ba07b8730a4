"""Real nodules, cut from annotated scans, set into another lung: turned, mirrored and scaled, their edges blended.

They are tight: beyond their first and last slice the nearest slice goes on while it fades. Pieces of a picture that
hold no nodule are set in the same way, so that nothing can be learnt from the seam.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from pipelines.geometry import Floats
from pipelines.nodule import patches
from pipelines.phantom.chest.nodules import (
    Box,
    Canvas,
    Kind,
    PaintedNodule,
    Position,
    box_around,
    painted,
)

Numbers = NDArray[np.float32]

SIZES_MM = (6.0, 10.0, 15.0)
_PADDED_MM = 7.0
_SOFT_HU = -400
_SOFT_PIECE_HU, _MOST_SOFT = -550, 0.15
_LUNG_HU, _MOST_SHIFT_HU = -600, 150.0
_WALL_SHARE = 0.33
_NOT_CALCIFIED = 6


@dataclass(frozen=True, slots=True, eq=False)
class Patch:
    """A nodule with its surroundings `[z, y, x]` at its own `spacing` (mm), z towards head, y to back, x to left.

    `outside_mm` is the distance to the nodule (union of the readers), `border_mm` that from the picture's in-plane
    border; `consensus` is what at least half of the readers marked. `wall` points, in (y, x), to the chest wall or
    vessel that the nodule touches; None for one that lies free. `noise_hu` is the SD of its noise.
    """

    nodule_id: str
    patient_id: str
    hu: NDArray[np.int16]
    consensus: NDArray[np.bool_]
    outside_mm: NDArray[np.float32]
    border_mm: NDArray[np.float32]
    spacing: Floats
    diameter_mm: float
    kind: Kind
    wall: Floats | None
    noise_hu: float

    @property
    def center(self) -> Floats:
        """Centre of gravity of the consensus, as index."""
        return np.asarray(np.mean(np.nonzero(self.consensus), axis=1))


def fold_of(patient_id: str, folds: int) -> int:
    """The fold that a patient belongs to, by the hash of the identifier."""
    return int(hashlib.sha256(patient_id.encode()).hexdigest(), 16) % folds


def load_patches(folder: Path) -> tuple[Patch, ...]:
    """All usable patches of a folder; those whose readers' marks do not fit are passed over."""
    return tuple(_ready(patches.read_patch(folder, row)) for row in patches.read_index(folder))


def _ready(real: patches.Patch) -> Patch:
    """A patch turned into the grid's directions, and continued along z."""
    volume = real.volume
    plane = volume.plane[0]
    marks = np.stack([volume.hu, real.consensus, np.any(real.marks, axis=0)])
    directions = {1: plane.normal[2], 2: plane.column_direction[1], 3: plane.row_direction[0]}
    flips = [axis for axis, direction in directions.items() if direction < 0]
    hu, consensus, union = np.flip(marks, tuple(flips))
    spacing = np.array([plane.thickness_mm, plane.row_spacing_mm, plane.column_spacing_mm])
    pad = int(np.ceil(_PADDED_MM / spacing[0]))
    deep = ((pad, pad), (0, 0), (0, 0))
    hu = np.clip(np.pad(hu, deep, mode="edge"), -1024, 3000).astype(np.int16)
    outside = ndimage.distance_transform_edt(np.pad(union, deep) == 0, sampling=spacing).astype(np.float32)
    rows, columns = np.ogrid[: hu.shape[1], : hu.shape[2]]
    down = np.minimum(rows, hu.shape[1] - 1 - rows) * spacing[1]
    along = np.minimum(columns, hu.shape[2] - 1 - columns) * spacing[2]
    return Patch(
        real.row.nodule_id,
        real.row.patient_id,
        hu,
        np.pad(consensus, deep) > 0,
        outside,
        np.asarray(np.minimum(down, along), np.float32),
        spacing,
        float(np.cbrt(6 * consensus.sum() * np.prod(spacing) / np.pi)),
        _kind(real.row),
        _wall(hu, outside, spacing),
        _noise(hu, outside),
    )


def _kind(row: patches.Row) -> Kind:
    """By the readers' mean texture (1 non-solid to 5 solid) and their vote on calcification."""
    texture = float(np.mean(row.texture))
    if texture < 2.5:
        return "ground_glass"
    if texture < 4:
        return "part_solid"
    [(vote, _)] = Counter(row.calcification).most_common(1)
    return "solid" if vote == _NOT_CALCIFIED else "calcified"


def _wall(hu: NDArray[np.int16], outside: NDArray[np.float32], spacing: Floats) -> Floats | None:
    """The in-plane direction to the soft tissue round about, where there is much of it."""
    ring = (outside > 1.5) & (outside < 4)
    soft = ring & (hu > _SOFT_HU)
    if soft.sum() < _WALL_SHARE * max(1, ring.sum()):
        return None
    middle = np.mean(np.nonzero(outside == 0), axis=1)
    towards = (np.mean(np.nonzero(soft), axis=1) - middle)[1:] * spacing[1:]
    length = float(np.linalg.norm(towards))
    return towards / length if length > 0.5 else None


def _noise(hu: NDArray[np.int16], outside: NDArray[np.float32]) -> float:
    """SD of the noise in lung: from second differences along rows, by their median."""
    values = hu.astype(np.float32)
    second = values[..., 2:] - 2 * values[..., 1:-1] + values[..., :-2]
    lung = (values[..., 1:-1] < -650) & (outside[..., 1:-1] > 2)
    if lung.sum() < 200:
        return 20.0
    return float(min(60.0, np.median(np.abs(second[lung])) * 1.4826 / np.sqrt(6)))


def implant(
    canvas: Canvas,
    patch: Patch,
    center: Floats,
    position: Position,
    generator: np.random.Generator,
    *,
    scale: float = 1.0,
    outward: Floats | None = None,
    fade_mm: float = 3.0,
) -> PaintedNodule | None:
    """Set a nodule with its middle at `center` (index z, y, x). None, and nothing changed, where too little of it would
    lie in the lung. `outward` is the direction (y, x) to the pleura, to which the patch's wall side is turned.
    """
    turn = _turn(patch, outward, generator)
    box = box_around(center, scale * patch.diameter_mm * 0.9 + fade_mm + 4, canvas.hu.shape)
    mapping = _Mapping.onto(patch, patch.center, box, center, turn).scaled(scale, center)
    truth = mapping.read(patch.consensus.astype(np.float32), 0.0) >= 0.5
    lung = canvas.lungs[box] > 0
    if truth.sum() < 6 or (truth & lung).sum() < 0.5 * truth.sum():
        return None
    outside = scale * mapping.read(patch.outside_mm, 99.0)
    weight = np.clip((fade_mm - outside) / max(0.5, fade_mm - 0.7), 0, 1)
    _blend(canvas, patch, mapping, weight.astype(np.float32))
    return painted(patch.kind, position, truth, box, patch.patient_id)


def set_piece(canvas: Canvas, patch: Patch, center: Floats, generator: np.random.Generator) -> None:
    """Set a piece of a patch that holds no nodule, as round and as blended as a nodule would be.

    It is mostly lung: a ball cut out of a chest wall or a large vessel would be just what a nodule is.
    """
    radius = float(generator.uniform(1.5, 4.0))
    far = patch.outside_mm[:, 6:-6, 6:-6] > 8.0
    share = ndimage.uniform_filter((patch.hu > _SOFT_PIECE_HU).astype(np.float32), 2 * radius / patch.spacing)
    held = np.argwhere(far & (share[:, 6:-6, 6:-6] < _MOST_SOFT))
    if not len(held):
        return
    middle = held[generator.integers(len(held))] + np.array([0, 6, 6])
    box = box_around(center, radius + 4, canvas.hu.shape)
    mapping = _Mapping.onto(patch, middle, box, center, _turn(patch, None, generator))
    axes = np.ogrid[tuple(box)]
    away = np.sqrt(sum((axis - middle) ** 2 for axis, middle in zip(axes, center, strict=True)))
    _blend(canvas, patch, mapping, np.clip((radius + 2.3 - away) / 2.3, 0, 1).astype(np.float32))


def _turn(patch: Patch, outward: Floats | None, generator: np.random.Generator) -> Floats:
    """A random turn about the z axis, maybe mirrored, `[2, 2]` on (y, x); with both known, the wall side outwards."""
    angle = generator.uniform(0, 2 * np.pi)
    if outward is not None and patch.wall is not None:
        wanted, present = np.arctan2(*outward), np.arctan2(*patch.wall)
        return _rotation(float(wanted - present + generator.normal(0, 0.25)))
    flip = np.diag([1.0, generator.choice([-1.0, 1.0])])
    return _rotation(float(angle)) @ flip


def _rotation(angle: float) -> Floats:
    """Turns the direction (y, x) = (sin a, cos a) by `angle`."""
    return np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])


@dataclass(frozen=True, slots=True, eq=False)
class _Mapping:
    """From the indices of a canvas's box to those of a patch: index = matrix @ index in the box + offset."""

    box: Box
    matrix: Floats
    offset: Floats

    @staticmethod
    def onto(patch: Patch, middle: Floats, box: Box, center: Floats, turn: Floats) -> _Mapping:
        """The canvas's `center` comes to lie on the patch's `middle`; `turn` `[2, 2]` acts on (y, x)."""
        matrix = np.eye(3)
        matrix[1:, 1:] = turn.T
        matrix = np.diag(1 / patch.spacing) @ matrix
        start = np.array([part.start for part in box], float)
        return _Mapping(box, matrix, np.asarray(middle + matrix @ (start - center)))

    def scaled(self, scale: float, center: Floats) -> _Mapping:
        """The same with the patch enlarged about the canvas's `center`."""
        start = np.array([part.start for part in self.box], float)
        middle = self.offset - self.matrix @ (start - center)
        return _Mapping(self.box, self.matrix / scale, np.asarray(middle + self.matrix @ (start - center) / scale))

    def read(self, values: NDArray[np.float32], beyond: float) -> NDArray[np.float32]:
        """The patch's values in the box, read linearly; `beyond` outside of the patch."""
        shape = tuple(part.stop - part.start for part in self.box)
        made: NDArray[np.float32] = ndimage.affine_transform(
            values, self.matrix, self.offset, shape, order=1, mode="constant", cval=beyond
        )
        return made


def _blend(canvas: Canvas, patch: Patch, mapping: _Mapping, weight: NDArray[np.float32]) -> None:
    border = mapping.read(np.broadcast_to(patch.border_mm, patch.hu.shape), 0.0)
    weight = weight * np.clip((border - 0.8) / 2, 0, 1)
    region = canvas.hu[mapping.box]
    numbers = _leveled(mapping.read(patch.hu.astype(np.float32), -1000.0), region, border > 0)
    region += weight * (numbers - region)
    canvas.noise[mapping.box] = np.maximum(canvas.noise[mapping.box], (weight * patch.noise_hu) ** 2)


def _leveled(numbers: Numbers, host: Numbers, is_inside: NDArray[np.bool_]) -> Numbers:
    """A patch's numbers with its lung as dense as the host's; what is not lung stays as it is."""
    own, other = numbers[is_inside & (numbers < _LUNG_HU)], host[host < _LUNG_HU]
    if not len(own) or not len(other):
        return numbers
    shift = np.clip(np.median(other) - np.median(own), -_MOST_SHIFT_HU, _MOST_SHIFT_HU)
    return np.asarray(numbers + shift * np.clip((_LUNG_HU + 300 - numbers) / 300, 0, 1), np.float32)


def outward_at(lungs: NDArray[np.uint8], center: Floats) -> Floats | None:
    """The in-plane direction (y, x) in which the lung ends first, within 40 mm; None deep inside."""
    angles = np.linspace(0, 2 * np.pi, 16, endpoint=False)
    directions = np.stack([np.sin(angles), np.cos(angles)], axis=1)
    best: tuple[float, Floats] | None = None
    for direction in directions:
        steps = center[1:] + direction * np.arange(1, 40)[:, None]
        index = np.rint(steps).astype(int)
        within = np.all((index >= 0) & (index < lungs.shape[1:]), axis=1)
        index = index[within]
        out = np.flatnonzero(lungs[round(center[0]), index[:, 0], index[:, 1]] == 0)
        if len(out) and (best is None or out[0] < best[0]):
            best = (float(out[0]), direction)
    return None if best is None else best[1]


def choose(known: Sequence[Patch], generator: np.random.Generator, *, evenly: bool = True) -> Patch:
    """A patch: now one of each kind alike, now one of each size alike, so that rare ones are met, now any.

    Not `evenly`: any, as they come.
    """
    alike = generator.random()
    if evenly and alike < 0.7:
        groups: dict[object, list[Patch]] = {}
        for patch in known:
            by_size = int(np.searchsorted(SIZES_MM, patch.diameter_mm))
            groups.setdefault(patch.kind if alike < 0.35 else by_size, []).append(patch)
        names = sorted(groups, key=str)
        known = groups[names[int(generator.integers(len(names)))]]
    return known[int(generator.integers(len(known)))]

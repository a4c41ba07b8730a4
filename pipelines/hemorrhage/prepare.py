"""`Volume` to the stack that the network reads, and the network's maps back to the volume's own slices.

The working stack lies upright and centred on the skull: rows run towards posterior, columns towards the patient's left,
1 mm apart, whatever way the source's rows and columns run; slices lie along the normal of the source, so a tilted stack
stays tilted. Thick slices are kept as they are, thin ones are averaged to about 5 mm. CT numbers are clipped before
anything is averaged, to a range that survives every brain window, so that windowed and whole series look alike; then
the stack is shifted until the brain's median is 33 HU.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from pipelines.geometry import Floats
from pipelines.reasons import refuse
from pipelines.volume import Volume

Stack = NDArray[np.float32]

ROWS, COLUMNS = 224, 192
WORKING_MM = 1.0
CLIP_HU = (-10.0, 90.0)
BRAIN_HU = 33.0
SHOWN_HU = (0.0, 90.0)
NEIGHBOR_MM = 5.0
_THICK_MM = 3.5
_BONE_HU = 85.0
_COARSE_MM = 2.0
_VAULT_MM = (15.0, 95.0)
_SMALLEST_SKULL_ML = 40.0


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """Where the working grid lies: `left` and `back` are its column and row directions, `center` the patient point
    (LPS, mm) of its middle on the plane through `position` 0, `normal` what its slices follow each other along.
    """

    center: Floats
    left: Floats
    back: Floats
    normal: Floats

    def points(self, position: float, rows: Floats, columns: Floats) -> Floats:
        """Patient points of working (row, column) on the plane at a position along the normal."""
        return (
            self.center
            + position * self.normal
            + ((rows - (ROWS - 1) / 2) * WORKING_MM)[..., None] * self.back
            + ((columns - (COLUMNS - 1) / 2) * WORKING_MM)[..., None] * self.left
        )

    def pixels(self, points: Floats) -> tuple[Floats, Floats]:
        """Working (row, column) of patient points."""
        offset = points - self.center
        rows = offset @ self.back / WORKING_MM + (ROWS - 1) / 2
        return rows, offset @ self.left / WORKING_MM + (COLUMNS - 1) / 2


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """`stack` is float32 `[working slice, row, column]`, levelled and clipped to 0 to 90 HU.

    `position_mm` says where the working slices lie along the normal, `members[w]` which source slices are in w.
    """

    stack: Stack
    position_mm: Floats
    members: tuple[tuple[int, ...], ...]
    frame: Frame
    volume: Volume


def prepare(volume: Volume) -> Prepared:
    """The working stack of a volume. Refuses (`body_part.unexpected`) where there is no skull with a brain in it."""
    frame = find_frame(volume)
    members = group_slices(volume)
    position = volume.position_mm
    centers = np.array([position[list(group)].mean() for group in members])
    made = np.stack([_working_slice(volume, frame, group) for group in members])
    leveled = level(made)
    if leveled is None:
        raise refuse("body_part.unexpected", detail="there is no brain inside the skull")
    return Prepared(leveled, centers, members, frame, volume)


def group_slices(volume: Volume) -> tuple[tuple[int, ...], ...]:
    """Source slices by working slice: a thick one alone, thin ones together until they span about 5 mm."""
    groups: list[list[int]] = []
    spanned = np.inf
    for index, extent in enumerate(volume.local_thickness_mm):
        if spanned + extent / 2 > NEIGHBOR_MM or extent >= _THICK_MM:
            groups.append([])
            spanned = np.inf if extent >= _THICK_MM else 0.0
        groups[-1].append(index)
        spanned += extent
    return tuple(tuple(group) for group in groups)


def level(stack: Stack) -> Stack | None:
    """The stack (clipped) shifted so that its brain's median is 33 HU, shown in 0 to 90; None where no brain is seen.

    The median is that of the middle of those slices whose middle is mostly soft: not neck, base, or over the vertex.
    """
    middle = _middle(stack.shape[1:])
    medians = []
    for picture in stack:
        inner = picture[middle]
        soft = inner[(inner > 5) & (inner < 65)]
        if soft.size > 0.75 * inner.size:
            medians.append(float(np.median(soft)))
    if len(medians) < 2:
        return None
    shift = BRAIN_HU - float(np.median(medians))
    return np.asarray(np.clip(stack + np.float32(shift), *SHOWN_HU), np.float32)


def _middle(shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """An ellipse of 80 by 64 mm about the grid's middle."""
    row, column = np.ogrid[: shape[0], : shape[1]]
    inner = ((row - (shape[0] - 1) / 2) / 40) ** 2 + ((column - (shape[1] - 1) / 2) / 32) ** 2 < 1
    return np.asarray(inner, np.bool_)


def inputs(stack: Stack, position_mm: Floats, chosen: NDArray[np.intp]) -> Stack:
    """The network's input `[slice, channel, row, column]`: slice, 5 mm below, 5 mm above, the slice mirrored."""
    below = np.array([neighbor(position_mm, k, -NEIGHBOR_MM) for k in chosen])
    above = np.array([neighbor(position_mm, k, NEIGHBOR_MM) for k in chosen])
    pictures = np.stack([stack[chosen], stack[below], stack[above], stack[chosen][..., ::-1]], axis=1)
    return ((pictures - np.float32(BRAIN_HU)) / np.float32(12)).astype(np.float32)


def neighbor(position_mm: Floats, index: int, away_mm: float) -> int:
    """The slice nearest to `away_mm` from slice `index`, itself where there is none within 4 mm of that."""
    distance = np.abs(position_mm - (position_mm[index] + away_mm))
    found = int(np.argmin(distance))
    return found if distance[found] <= 4.0 else index


def _working_slice(volume: Volume, frame: Frame, group: tuple[int, ...]) -> Stack:
    """The mean of a group's slices on the working grid: four points a pixel for one slice, one each for many."""
    offsets = ((-0.25, -0.25), (0.25, 0.25), (-0.25, 0.25), (0.25, -0.25))
    total = np.zeros((ROWS, COLUMNS), np.float32)
    row, column = np.meshgrid(np.arange(ROWS, dtype=float), np.arange(COLUMNS, dtype=float), indexing="ij")
    reads = [(k, offset) for k in group for offset in offsets] if len(group) < 4 else [
        (k, offsets[turn % 4]) for turn, k in enumerate(group)
    ]  # fmt: skip
    for k, (down, across) in reads:
        plane = volume.plane[k]
        points = frame.points(plane_position(volume, k), row + down, column + across)
        source = np.stack(plane.pixel_from_patient(points)).astype(np.float32)
        clipped = np.clip(volume.hu[k], *CLIP_HU).astype(np.float32)
        total += ndimage.map_coordinates(clipped, source, order=1, cval=CLIP_HU[0])
    return total / np.float32(len(reads))


def plane_position(volume: Volume, index: int) -> float:
    """Position of a source slice along the common normal, mm."""
    return float(np.dot(volume.plane[index].origin, volume.plane[0].normal))


def to_source(prepared: Prepared, working: Stack) -> NDArray[np.uint8]:
    """Maps of 0 to 1 on the working stack, as 0 to 255 on every source slice: in its own plane, read linearly.

    A slice that is alone in its working slice takes that one's map; thin slices read between the nearest two.
    """
    volume = prepared.volume
    found = np.zeros(volume.hu.shape, np.uint8)
    for k, plane in enumerate(volume.plane):
        map_ = _map_at(prepared, working, k)
        marked = map_ >= 0.5 / 255
        if not marked.any():
            continue
        rows, columns = _source_window(prepared, k, marked)
        row, column = np.meshgrid(np.arange(*rows), np.arange(*columns), indexing="ij")
        place = np.stack(prepared.frame.pixels(plane.patient_from_pixel(row, column))).astype(np.float32)
        values = ndimage.map_coordinates(map_, place, order=1)
        found[k, slice(*rows), slice(*columns)] = np.rint(np.clip(values, 0, 1) * 255)
    return found


def _map_at(prepared: Prepared, working: Stack, index: int) -> Stack:
    """The working map on the plane of a source slice."""
    own = next(w for w, group in enumerate(prepared.members) if index in group)
    if len(prepared.members[own]) == 1:
        return np.asarray(working[own])
    position, centers = plane_position(prepared.volume, index), prepared.position_mm
    other = own + (1 if position > centers[own] else -1)
    if not 0 <= other < len(working):
        return np.asarray(working[own])
    part = np.float32(np.clip((position - centers[own]) / (centers[other] - centers[own]), 0, 1))
    between: Stack = working[own] * (1 - part) + working[other] * part
    return between


def _source_window(
    prepared: Prepared, index: int, marked: NDArray[np.bool_]
) -> tuple[tuple[int, int], tuple[int, int]]:
    """First and past-the-last source row and column that can see a marked working pixel."""
    at_rows, at_columns = np.nonzero(marked)
    row, column = np.meshgrid(
        [at_rows.min() - 1.0, at_rows.max() + 1.0], [at_columns.min() - 1.0, at_columns.max() + 1.0], indexing="ij"
    )
    points = prepared.frame.points(plane_position(prepared.volume, index), row, column)
    shape = prepared.volume.hu.shape[1:]
    sides = zip(prepared.volume.plane[index].pixel_from_patient(points), shape, strict=True)
    rows, columns = (
        (int(np.clip(np.floor(side.min()), 0, size)), int(np.clip(np.ceil(side.max()) + 1, 0, size)))
        for side, size in sides
    )
    return rows, columns


def find_frame(volume: Volume) -> Frame:
    """Where the skull's vault lies and which way it faces. Refuses (`body_part.unexpected`) where there is none."""
    normal = np.asarray(volume.plane[0].normal)
    left, back = _axes(normal)
    vault = _vault_points(volume, left, back)
    if vault is None:
        raise refuse("body_part.unexpected", detail="no skull was found")
    turn, across = _symmetry(vault)
    turned_left = np.cos(turn) * left + np.sin(turn) * back
    turned_back = np.cos(turn) * back - np.sin(turn) * left
    depth = vault @ np.array([-np.sin(turn), np.cos(turn)])
    along = (float(np.percentile(depth, 1)) + float(np.percentile(depth, 99))) / 2
    return Frame(across * turned_left + along * turned_back, turned_left, turned_back, normal)


def _axes(normal: Floats) -> tuple[Floats, Floats]:
    """In-plane directions nearest to the patient's left and back (LPS x and y)."""
    left = np.array([1.0, 0.0, 0.0]) - normal[0] * normal
    left /= np.linalg.norm(left)
    back = np.cross(normal, left)
    return left, back if back[1] > 0 else -back


def _vault_points(volume: Volume, left: Floats, back: Floats) -> Floats | None:
    """(left, back) coordinates in mm of bone in the upper part of the skull, a point a cell of 2 mm; None without."""
    chosen = np.unique(np.linspace(0, len(volume.plane) - 1, 48).round().astype(int))
    cells, extents = _bone_cells(volume, chosen, left, back)
    if not len(cells):
        return None
    low = cells[:, 1:].min(axis=0)
    grid = np.zeros((len(chosen), *(cells[:, 1:].max(axis=0) - low + 1)), np.bool_)
    grid[cells[:, 0], cells[:, 1] - low[0], cells[:, 2] - low[1]] = True
    pieces, _ = ndimage.label(ndimage.binary_dilation(grid, np.ones((1, 3, 3))))
    sizes = np.bincount(pieces.ravel())
    sizes[0] = 0
    skull = grid & (sizes >= 0.2 * sizes.max())[pieces]
    if float((skull.sum(axis=(1, 2)) * extents).sum()) * _COARSE_MM**2 / 1000 < _SMALLEST_SKULL_ML:
        return None
    position = volume.position_mm[chosen] * (1 if volume.plane[0].normal[2] > 0 else -1)
    top = position[skull.any(axis=(1, 2))].max()
    upper = (position <= top - _VAULT_MM[0]) & (position >= top - _VAULT_MM[1])
    skull[~(upper if skull[upper].any() else np.ones_like(upper))] = False
    _, back_cells, left_cells = np.nonzero(skull)
    return np.stack([left_cells + low[1], back_cells + low[0]], axis=1) * _COARSE_MM


def _bone_cells(
    volume: Volume, chosen: NDArray[np.intp], left: Floats, back: Floats
) -> tuple[NDArray[np.intp], Floats]:
    """Cells (index in `chosen`, back, left) of 2 mm that hold bone, and what each chosen slice stands for in mm."""
    found = []
    for turn, k in enumerate(chosen):
        plane = volume.plane[k]
        step = max(1, round(0.75 * _COARSE_MM / max(plane.row_spacing_mm, plane.column_spacing_mm)))
        rows, columns = np.nonzero(volume.hu[k, ::step, ::step] > _BONE_HU)
        points = plane.patient_from_pixel(rows * step, columns * step)
        cell = np.stack([points @ back, points @ left], axis=1) / _COARSE_MM
        found.append(np.column_stack([np.full(len(cell), turn), np.rint(cell).astype(np.intp)]))
    cells = np.unique(np.concatenate(found), axis=0)
    extents = np.gradient(volume.position_mm[chosen]) if len(chosen) > 1 else np.array([volume.plane[0].thickness_mm])
    return cells, np.abs(extents)


def _symmetry(points: Floats) -> tuple[float, float]:
    """Turn (rad) and place across (mm) of the line about which the points mirror best, within 24 degrees."""
    center = points.mean(axis=0)
    best = (-np.inf, 0.0, 0.0)
    for degrees in np.arange(-24, 25, 2):
        turn = np.deg2rad(degrees)
        across = (points - center) @ np.array([np.cos(turn), np.sin(turn)])
        along = (points - center) @ np.array([-np.sin(turn), np.cos(turn)])
        cells, _, _ = np.histogram2d(along, across, bins=(64, 128), range=((-128, 128), (-128, 128)))
        spectrum = np.fft.rfft(np.sqrt(cells), 256, axis=1)
        match = np.fft.irfft((spectrum**2).sum(axis=0), 256)
        place = int(np.argmax(match))
        score = float(match[place]) - 1e-3 * abs(degrees) * float(match[place])
        if score > best[0]:
            best = (score, turn, (place + 1) - 128 + float(center @ np.array([np.cos(turn), np.sin(turn)])))
    return best[1], best[2]

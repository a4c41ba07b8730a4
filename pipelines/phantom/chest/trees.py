"""Branching trees that fill a lung, and how they are drawn.

A tree is grown into points that are to be supplied: each branch runs a part of the way to the centre of its points,
which are then split by a plane along the branch, and so on until one point is left (Tawhai et al., Ann Biomed Eng
28:793-802, 2000). All branches of a generation grow at once. Points are (x, y, z), mm.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float32]
Counts = NDArray[np.int64]
Field = NDArray[np.float32]

PART_OF_WAY = 0.4
MURRAY_EXPONENT = 2.7


@dataclass(frozen=True, slots=True, eq=False)
class Tree:
    """Branches, parents before children: `start`, `end` `[n, 3]` mm, `parent` `[n]` (-1 at a root), the number of
    terminals each supplies, and the root (0, 1, ...) each belongs to."""

    start: Points
    end: Points
    parent: Counts
    terminals: Counts
    root: Counts

    def radius(self, terminal_mm: float) -> Points:
        """Radius of each branch by Murray's law, with the radius at the terminals, mm."""
        return (terminal_mm * self.terminals ** (1 / MURRAY_EXPONENT)).astype(np.float32)

    def direction(self) -> Points:
        """Unit directions `[n, 3]`."""
        along = self.end - self.start
        return np.asarray(along / np.maximum(np.linalg.norm(along, axis=1, keepdims=True), 1e-3), np.float32)


def grow(roots: Points, points: Points, root: Counts, generator: np.random.Generator) -> Tree:
    """Trees from `roots` `[m, 3]` to every one of `points` `[n, 3]`, of which point k belongs to root `root[k]`."""
    group = root.copy()
    start, parent, owner = roots.astype(np.float32), np.full(len(roots), -1), np.arange(len(roots))
    found: list[tuple[Points, Points, Counts, Counts, Counts]] = []
    offset = 0
    while len(start):
        count = np.bincount(group, minlength=len(start))
        center = np.stack([np.bincount(group, points[:, k], len(start)) for k in range(3)], 1) / np.maximum(count, 1)[:, None]
        way = np.where(count == 1, 0.97, generator.uniform(PART_OF_WAY - 0.08, PART_OF_WAY + 0.08, len(start)))
        reach = center - start
        end = start + way[:, None] * reach
        end += np.where(count > 1, 0.07, 0.0)[:, None] * np.linalg.norm(reach, axis=1, keepdims=True) * generator.normal(size=end.shape)
        found.append((start, end.astype(np.float32), parent, count, owner))
        side = _sides(points - center[group], group, reach, generator)
        splits = count[group] > 1
        points, group, side = points[splits], group[splits], side[splits]
        child = 2 * group + side
        kept, group = np.unique(child, return_inverse=True)
        start, parent, owner = end[kept // 2].astype(np.float32), kept // 2 + offset, owner[kept // 2]
        offset += len(found[-1][0])
    parts = [np.concatenate([level[k] for level in found]) for k in range(5)]
    return Tree(*parts)


def _sides(from_center: Points, group: Counts, reach: Points, generator: np.random.Generator) -> Counts:
    """Which half (0 or 1) each point falls in: across the longest extent that is across the branch."""
    groups = len(reach)
    along = reach / np.maximum(np.linalg.norm(reach, axis=1, keepdims=True), 1e-6)
    across = from_center - (from_center * along[group]).sum(1, keepdims=True) * along[group] * 0.7
    moments = np.zeros((groups, 3, 3))
    for i in range(3):
        for j in range(i, 3):
            moments[:, i, j] = moments[:, j, i] = np.bincount(group, across[:, i] * across[:, j], groups)
    axis = np.linalg.eigh(moments)[1][:, :, 2] + generator.normal(0, 0.25, (groups, 3))
    place = (across * axis[group]).sum(1)
    spread = np.sqrt(np.bincount(group, place**2, groups) / np.maximum(np.bincount(group, minlength=groups), 1))
    cut = generator.normal(0, 0.4, groups) * spread
    side = (place > cut[group]).astype(np.int64)
    # a cut beside all points would grow for ever: cut at the middle instead
    ones, total = np.bincount(group, side, groups), np.bincount(group, minlength=groups)
    empty = (ones == 0) | (ones == total)
    if empty.any():
        order = np.lexsort((place, group))
        rank = np.empty(len(group), np.int64)
        rank[order] = np.arange(len(group)) - np.concatenate([[0], np.cumsum(total)])[group[order]]
        half = (rank >= (total[group] + 1) // 2).astype(np.int64)
        side = np.where(empty[group], half, side)
    return side


def curve(tree: Tree, steps: int, bend: float, generator: np.random.Generator) -> Points:
    """Each branch as `steps` straight pieces, `[n, steps + 1, 3]`: leaving along its parent, and a little wavy."""
    chord = tree.end - tree.start
    length = np.linalg.norm(chord, axis=1, keepdims=True)
    before = np.where(tree.parent[:, None] >= 0, tree.direction()[tree.parent], tree.direction())
    t = np.linspace(0, 1, steps + 1, dtype=np.float32)[None, :, None]
    first = (0.6 * before + 0.4 * tree.direction()) * length
    sway = generator.normal(0, bend, chord.shape).astype(np.float32) * length
    bow = generator.normal(0, bend * 0.5, chord.shape).astype(np.float32) * length
    line = tree.start[:, None] + chord[:, None] * (3 * t**2 - 2 * t**3)
    line = line + first[:, None] * (t**3 - 2 * t**2 + t) + chord[:, None] * (t**3 - t**2)
    return np.asarray(line + sway[:, None] * np.sin(np.pi * t) + bow[:, None] * np.sin(2 * np.pi * t), np.float32)


def draw_thin(field: Field, start: Points, end: Points, radius: Points) -> None:
    """Add the part of each voxel that thin tubes fill. Points are indices (z, y, x) of `field`, radii in voxels."""
    along = end - start
    length = np.linalg.norm(along, axis=1)
    steps = np.maximum(1, np.ceil(length / 0.5)).astype(np.int64)
    piece = np.repeat(np.arange(len(start)), steps)
    within = np.arange(len(piece)) - np.repeat(np.cumsum(steps) - steps, steps)
    place = start[piece] + along[piece] * ((within + 0.5) / steps[piece])[:, None].astype(np.float32)
    amount = (np.pi * radius**2 * length / steps)[piece]
    low = np.floor(place).astype(np.int64)
    part = place - low
    keep = ((low >= 0) & (low < np.array(field.shape) - 1)).all(1)
    low, part, amount = low[keep], part[keep], amount[keep]
    flat = field.reshape(-1)
    base = (low[:, 0] * field.shape[1] + low[:, 1]) * field.shape[2] + low[:, 2]
    for corner in np.ndindex(2, 2, 2):
        weight = np.prod(np.where(np.array(corner) == 1, part, 1 - part), axis=1) * amount
        shift = (corner[0] * field.shape[1] + corner[1]) * field.shape[2] + corner[2]
        np.add.at(flat, base + shift, weight.astype(np.float32))


def draw_thick(field: Field, start: Points, end: Points, radius: Points) -> None:
    """Raise `field` to the part of each voxel that tubes with round ends fill (index points and radii as above)."""
    for first, last, reach in zip(start, end, radius, strict=True):
        found = distance_to_piece(field.shape, first, last, float(reach) + 1.0)
        if found is not None:
            box, distance = found
            np.maximum(field[box], np.clip(reach + 0.5 - distance, 0, 1), out=field[box])


def distance_to_piece(
    shape: tuple[int, ...], first: Points, last: Points, reach: float
) -> tuple[tuple[slice, slice, slice], Field] | None:
    """The distance to a straight piece, in the box that `reach` around it fills; None outside the array."""
    low = np.maximum(np.floor(np.minimum(first, last) - reach).astype(int), 0)
    high = np.minimum(np.ceil(np.maximum(first, last) + reach).astype(int) + 1, shape)
    if (low >= high).any():
        return None
    offset = [
        np.arange(a, b, dtype=np.float32).reshape([-1 if k == axis else 1 for k in range(3)]) - first[axis]
        for axis, (a, b) in enumerate(zip(low, high, strict=True))
    ]
    along = (last - first).astype(np.float32)
    square = max(float(along @ along), 1e-6)
    part = np.clip((offset[0] * along[0] + offset[1] * along[1] + offset[2] * along[2]) / square, 0, 1)
    distance = np.sqrt(
        (offset[0] - part * along[0]) ** 2 + (offset[1] - part * along[1]) ** 2 + (offset[2] - part * along[2]) ** 2
    )
    return (slice(low[0], high[0]), slice(low[1], high[1]), slice(low[2], high[2])), distance

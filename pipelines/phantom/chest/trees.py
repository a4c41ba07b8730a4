"""Branching trees that fill a lung, and how they are drawn. Points are (x, y, z), mm."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float32]
Counts = NDArray[np.int64]
Field = NDArray[np.float32]

BALANCE, BEND = 0.5, 0.35
MURRAY_EXPONENT = 2.6
THICKEST_MM = 4.5


@dataclass(frozen=True, slots=True, eq=False)
class Tree:
    """Branches, parents before children.

    `start`, `end` `[n, 3]` mm; `parent` `[n]` (-1 at a root); the number of terminals that each supplies; the unit
    directions in which it leaves and arrives.
    """

    start: Points
    end: Points
    parent: Counts
    terminals: Counts
    leaving: Points
    arriving: Points

    def radius(self, terminal_mm: float) -> Points:
        """Radius of each branch by Murray's law, with the radius at the terminals, mm."""
        radius = terminal_mm * self.terminals ** (1 / MURRAY_EXPONENT)
        return np.asarray(np.minimum(radius, THICKEST_MM), np.float32)

    def direction(self) -> Points:
        """Unit directions `[n, 3]`."""
        along = self.end - self.start
        return np.asarray(along / np.maximum(np.linalg.norm(along, axis=1, keepdims=True), 1e-3), np.float32)


def grow(root: Points, points: Points, generator: np.random.Generator) -> Tree:
    """A tree from `root` `[3]` through all of `points` `[n, 3]`.

    Points join one after the other, each to the branch where the new length, the whole way to the root and the bend
    cost the least (Cuntz et al., PLoS Comput Biol 6:e1000877, 2010, and a cost for bends, which vessels avoid).
    """
    count = len(points) + 1
    place = np.vstack([root[None], points]).astype(np.float32)
    way, best = np.zeros(count, np.float32), np.full(count, np.inf, np.float32)
    parent, direction = np.full(count, -1), np.zeros((count, 3), np.float32)
    order = np.empty(count, np.int64)
    free = np.ones(count, np.bool_)
    middle = points.mean(0) - root
    direction[0] = middle / max(float(np.linalg.norm(middle)), 1e-3)
    haste = generator.uniform(0.9, 1.1, count).astype(np.float32)
    now = 0
    for step in range(count):
        order[step], free[now], best[now] = now, False, np.inf
        offset = place - place[now]
        distance = np.sqrt(np.einsum("ij,ij->i", offset, offset)) + np.float32(1e-3)
        bend = 1 - (offset @ direction[now]) / distance
        cost = (distance * (1 + BALANCE + BEND * bend) + BALANCE * way[now]) * haste
        better = free & (cost < best)
        best[better], parent[better] = cost[better], now
        if step < count - 1:
            now = int(best.argmin())
            along = place[now] - place[parent[now]]
            length = float(np.linalg.norm(along))
            way[now] = way[parent[now]] + length
            straight = along / max(length, 1e-3) + 0.5 * direction[parent[now]]
            direction[now] = straight / max(float(np.linalg.norm(straight)), 1e-3)
    return _tree(place[order], _renumbered(parent, order))


def _renumbered(parent: Counts, order: Counts) -> Counts:
    """Parents in the order of joining, so that each stands before its children."""
    number = np.empty(len(order), np.int64)
    number[order] = np.arange(len(order))
    found = parent[order]
    return np.where(found >= 0, number[found], -1)


def _tree(place: Points, parent: Counts) -> Tree:
    """The tree of nodes; the path to the most terminals through each node is made straighter."""
    terminals = np.zeros(len(parent), np.int64)
    heavy, most = np.full(len(parent), -1), np.zeros(len(parent), np.int64)
    for k in range(len(parent) - 1, 0, -1):
        terminals[k] = max(terminals[k], 1)
        above = parent[k]
        terminals[above] += terminals[k]
        if terminals[k] > most[above]:
            most[above], heavy[above] = terminals[k], k
    inner = np.flatnonzero((heavy >= 0) & (parent >= 0))
    for _ in range(3):
        place[inner] = 0.4 * place[inner] + 0.3 * place[parent[inner]] + 0.3 * place[heavy[inner]]
    tangent = place - place[np.maximum(parent, 0)]
    onward = np.where(heavy[:, None] >= 0, place[heavy] - place, 0)
    tangent = tangent + onward
    tangent /= np.maximum(np.linalg.norm(tangent, axis=1, keepdims=True), 1e-3)
    above = parent[1:]
    own = place[1:] - place[above]
    own /= np.maximum(np.linalg.norm(own, axis=1, keepdims=True), 1e-3)
    leads = (heavy[above] == np.arange(1, len(parent)))[:, None]
    leaving = np.where(leads, tangent[above], 0.35 * tangent[above] + 0.65 * own)
    return Tree(
        place[above], place[1:], above - 1, terminals[1:], leaving.astype(np.float32), tangent[1:].astype(np.float32)
    )


def joined(trees: Sequence[Tree]) -> Tree:
    """Several trees as one."""
    offsets = np.cumsum([0, *(len(tree.start) for tree in trees[:-1])])
    parent = [np.where(tree.parent >= 0, tree.parent + offset, -1) for tree, offset in zip(trees, offsets, strict=True)]
    return Tree(
        np.concatenate([tree.start for tree in trees]),
        np.concatenate([tree.end for tree in trees]),
        np.concatenate(parent),
        np.concatenate([tree.terminals for tree in trees]),
        np.concatenate([tree.leaving for tree in trees]),
        np.concatenate([tree.arriving for tree in trees]),
    )


def curve(tree: Tree, steps: int, bend: float, generator: np.random.Generator) -> Points:
    """Each branch as `steps` straight pieces, `[n, steps + 1, 3]`: smooth from parent to child, and a little wavy."""
    chord = tree.end - tree.start
    length = np.linalg.norm(chord, axis=1, keepdims=True)
    t = np.linspace(0, 1, steps + 1, dtype=np.float32)[None, :, None]
    sway = generator.normal(0, bend, chord.shape).astype(np.float32) * length
    line = tree.start[:, None] + chord[:, None] * (3 * t**2 - 2 * t**3)
    line = (
        line
        + (tree.leaving * length)[:, None] * (t**3 - 2 * t**2 + t)
        + (tree.arriving * length)[:, None] * (t**3 - t**2)
    )
    return np.asarray(line + sway[:, None] * np.sin(np.pi * t), np.float32)


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

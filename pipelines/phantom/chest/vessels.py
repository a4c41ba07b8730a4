"""Arteries, veins and airways of a made chest, from the heart and the windpipe to the edge of the lungs."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from pipelines.phantom.chest.frame import Drawing
from pipelines.phantom.chest.lungs import lung_voxels
from pipelines.phantom.chest.trees import Points, Tree, curve, distance_to_piece, draw_thick, draw_thin, grow, joined
from pipelines.phantom.head.shapes import Field


def draw_trees(d: Drawing) -> None:
    """Fill `occupied` with vessels, `lumen` and `wall` with airways."""
    o = d.options
    vessel = np.zeros(d.shape, np.float32)
    d.lumen = np.zeros(d.shape, np.float32)
    d.wall = np.zeros(d.shape, np.float32)
    roots = _artery_roots(d)
    tree = _grown(d, roots, 6.0)
    _draw_tree(d, vessel, tree, o.terminal_radius)
    _draw_airways(d, tree)
    veins = _grown(d, _vein_roots(d), 7.0)
    _draw_tree(d, vessel, veins, o.terminal_radius * 0.97)
    _note_crossings(d, tree, veins)
    np.clip(vessel, 0, 1, out=vessel)
    _draw_roots(d, vessel, roots, _vein_roots(d))
    d.occupied = vessel


def _artery_roots(d: Drawing) -> Points:
    """Where the arteries of the five lobes begin."""
    s = d.scale
    right, left = d.hilum_right, d.hilum_left
    return np.array(
        [
            right + np.array([-4, -4, 16]) * s,
            right + np.array([-8, -12, -12]) * s,
            right + np.array([-6, 4, -18]) * s,
            left + np.array([4, -8, 8]) * s,
            left + np.array([4, 4, -18]) * s,
        ],
        np.float32,
    )


def _vein_roots(d: Drawing) -> Points:
    s = d.scale
    right, left = d.hilum_right, d.hilum_left
    return np.array(
        [
            right + np.array([-2, -16, 2]) * s,
            right + np.array([-4, -18, -20]) * s,
            right + np.array([2, 2, -38]) * s,
            left + np.array([0, -18, -4]) * s,
            left + np.array([-4, -4, -38]) * s,
        ],
        np.float32,
    )


def _grown(d: Drawing, roots: Points, depth_mm: float) -> Tree:
    litres = float((d.lungs[::4, ::4, ::4] > 0).sum()) * 64 / 1000
    zyx = lung_voxels(d, int(d.options.terminals * litres), depth_mm=float(depth_mm) * 0.6)
    lobe = d.lobes[tuple(zyx.T)]
    points = (zyx[:, ::-1] + np.asarray(d.origin) + d.generator.random(zyx.shape)).astype(np.float32)
    return joined([grow(roots[k - 1], points[lobe == k], d.generator) for k in np.unique(lobe) if k])


def _draw_tree(d: Drawing, field: Field, tree: Tree, terminal_mm: float) -> None:
    radius = tree.radius(terminal_mm) * d.generator.normal(1, 0.08, len(tree.start)).clip(0.8, 1.2).astype(np.float32)
    line = d.index(curve(tree, 4, 0.05, d.generator))
    thin = radius < 1.1
    first, last = line[:, :-1], line[:, 1:]
    each = np.repeat(radius, 4)
    is_thin = np.repeat(thin, 4)
    draw_thin(field, first.reshape(-1, 3)[is_thin], last.reshape(-1, 3)[is_thin], each[is_thin])
    draw_thick(field, first.reshape(-1, 3)[~is_thin], last.reshape(-1, 3)[~is_thin], each[~is_thin])
    # single vessels of the smallest size that shine end on, and forks: places that look like nodules
    big = np.flatnonzero((radius > 0.9) & (radius < 3.5) & (tree.terminals > 1))
    for k in d.generator.permutation(big)[:60]:
        d.note("bifurcation", tree.end[k], float(radius[k]) * 2)
    along = np.abs(tree.direction()[:, 2])
    for k in d.generator.permutation(np.flatnonzero((radius > 1.0) & (along > 0.85)))[:60]:
        d.note("vessel_end_on", (tree.start[k] + tree.end[k]) / 2, float(radius[k]) * 1.5)


def _note_crossings(d: Drawing, arteries: Tree, veins: Tree) -> None:
    """Where an artery touches a vein."""
    thick = d.options.terminal_radius * 2.2
    first, second = (np.flatnonzero(tree.radius(d.options.terminal_radius) > thick) for tree in (arteries, veins))
    middle = (veins.start[second] + veins.end[second]) / 2
    near, which = cKDTree(middle).query((arteries.start[first] + arteries.end[first]) / 2)
    for k in d.generator.permutation(np.flatnonzero(near < 4.0))[:60]:
        d.note("vessel_crossing", middle[which[k]], 3.0)


def _draw_airways(d: Drawing, tree: Tree) -> None:
    """Bronchi run beside the arteries, about as wide, and can be seen down to about 1.5 mm."""
    o, draw = d.options, d.generator.uniform
    s, (cx, cy, cz) = d.scale, d.carina
    roots = _artery_roots(d) + np.array([0, 3, -2], np.float32) * s
    split_right = np.array([-26 * s + cx, cy + 2, cz - 18 * s])
    middle_right = np.array([-34 * s + cx, cy + 1, cz - 38 * s])
    split_left = np.array([38 * s + cx, cy + 8 * s, cz - 30 * s])
    main = [
        ([d.carina, split_right], 6.8),
        ([split_right, roots[0]], 4.5),
        ([split_right, middle_right], 5.2),
        ([middle_right, roots[1]], 3.6),
        ([middle_right, roots[2]], 4.6),
        ([d.carina, split_left], 6.2),
        ([split_left, roots[3]], 4.6),
        ([split_left, roots[4]], 4.6),
        ([(0, d.spine_y(d.top) - 42 * s, d.shape[0] + 8), d.carina], 8.5),
    ]
    for points, reach in main:
        _tube(d, np.asarray(points, np.float32), reach * s, 1.4)
    radius = tree.radius(o.terminal_radius) * (0.85 + 0.8 * o.bronchiectasis * d.generator.random())
    side = np.cross(tree.direction(), [0.3, 0.9, 0.3])
    side /= np.maximum(np.linalg.norm(side, axis=1, keepdims=True), 1e-3)
    shown = np.flatnonzero(radius > 1.15)
    shift = (side * (radius * 2.2 + 0.6)[:, None]).astype(np.float32)
    joint: dict[int, NDArray[np.floating[Any]]] = {}
    for k in shown:
        parent = int(tree.parent[k])
        start = joint.get(parent, tree.start[k] + (np.array([0, 3, -2]) * s if parent < 0 else shift[k]))
        end = tree.end[k] + shift[k]
        joint[int(k)] = end
        bronchus = float(radius[k]) * 0.85
        _tube(
            d,
            np.stack([start, (start + end) / 2 + d.generator.normal(0, 0.6, 3), end]).astype(np.float32),
            bronchus,
            0.3 + 0.12 * bronchus,
        )
        if radius[k] > 1.2 and d.generator.random() < 0.05:
            d.note("airway", (start + end) / 2, float(radius[k]) + 1)
    candidates = shown[radius[shown] < 2.2]
    for k in d.generator.permutation(candidates)[: o.mucus]:
        if int(k) not in joint:
            continue
        end, start = joint[int(k)], tree.start[k] + shift[k]
        _plug(d, np.stack([start, end]), min(float(radius[k]) * draw(1.0, 1.6) + 0.5, 3.5))


def _tube(d: Drawing, points: Points, radius: float, wall: float) -> None:
    line = d.index(points)
    for first, last in pairwise(line):
        found = distance_to_piece(d.shape, first, last, radius + wall + 1)
        if found is None:
            continue
        box, distance = found
        np.maximum(d.lumen[box], np.clip(radius + 0.5 - distance, 0, 1), out=d.lumen[box])
        np.maximum(d.wall[box], np.clip(radius + wall + 0.5 - distance, 0, 1), out=d.wall[box])


def _plug(d: Drawing, points: Points, radius: float) -> None:
    line = d.index(points.astype(np.float32))
    found = distance_to_piece(d.shape, line[0], line[1], radius + 1)
    if found is not None:
        box, distance = found
        d.lumen[box] *= 1 - np.clip(radius + 0.5 - distance, 0, 1)
        np.maximum(d.wall[box], np.clip(radius + 0.5 - distance, 0, 1), out=d.wall[box])
    d.note("mucus", points.mean(0), radius + 2)


def _draw_roots(d: Drawing, vessel: Field, arteries: Points, veins: Points) -> None:
    """The large vessels between the heart and the lobes' roots."""
    s, (_, cy, cz) = d.scale, d.carina
    right, left = d.hilum_right, d.hilum_left
    interlobar, trunk = right + np.array([3, -1, 0]) * s, left + np.array([-2, 2, 6]) * s
    begin = np.array([-34 * s, cy - 8 * s, cz - 20 * s])
    begin_left = np.array([40 * s, cy + 10 * s, cz - 11 * s])
    atrium_right, atrium_left = np.array([-22 * s, cy + 2, cz - 50 * s]), np.array([30 * s, cy + 4, cz - 48 * s])
    pieces = [
        (begin, interlobar, 7.5),
        (begin, arteries[0], 5.5),
        (interlobar, arteries[1], 4.0),
        (interlobar, arteries[2], 6.5),
        (begin_left, trunk, 7.5),
        (trunk, arteries[3], 5.2),
        (trunk, arteries[4], 6.0),
        (atrium_right, veins[0], 6.0),
        (atrium_right, veins[1], 4.0),
        (atrium_right, veins[2], 6.0),
        (atrium_left, veins[3], 6.0),
        (atrium_left, veins[4], 6.0),
    ]
    for first, last, reach in pieces:
        draw_thick(vessel, d.index([first]), d.index([last]), np.array([reach * s], np.float32))

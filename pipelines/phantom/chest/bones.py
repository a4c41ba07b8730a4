"""Ribs, spine, breastbone, collar bones and shoulder blades of a made chest, drawn at 1 mm."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from pipelines.phantom.chest.frame import STEP_MM, Drawing
from pipelines.phantom.chest.trees import Points, distance_to_piece
from pipelines.phantom.head.shapes import Field


def draw_bones(d: Drawing) -> None:
    """All bones and the ribs' cartilage, with a hard shell; the ribs dent the lungs."""
    d.bone = np.full(d.shape, 9.0, np.float32)
    d.gristle = np.full(d.shape, 9.0, np.float32)
    _draw_spine(d)
    for number in range(12):
        for side in (-1, 1):
            _draw_rib(d, number, side)
    _draw_sternum(d)
    _draw_girdle(d)
    # ribs stand a little into the lung
    near = d.bone < 5
    d.distance[near] = np.maximum(d.distance[near], 2.4 - d.bone[near])
    marrow = d.generator.uniform(120, 260)
    cortex = d.generator.uniform(500, 850)
    for field, inner, outer in (
        (d.gristle, d.generator.uniform(70, 110), 100 + 500 * d.options.age * d.generator.random()),
        (d.bone, marrow, cortex),
    ):
        touched = field < 0.5
        depth = field[touched]
        value = np.where(depth < -1.6, inner, outer)
        part = np.clip(0.5 - depth, 0, 1)
        d.hu[touched] = d.hu[touched] * (1 - part) + value * part


def _bar(
    d: Drawing,
    field: Field,
    points: Sequence[Sequence[float]] | Points,
    radius: Sequence[float],
) -> None:
    """Lower `field` to the distance from a bent bar."""
    line = d.index(points)
    for first, last, reach in zip(line[:-1], line[1:], radius, strict=False):
        found = distance_to_piece(d.shape, first, last, float(reach) + 3)
        if found is not None:
            box, distance = found
            np.minimum(field[box], distance - np.float32(reach), out=field[box])


def _draw_spine(d: Drawing) -> None:
    draw, s = d.generator.uniform, d.scale
    pitch = d.options.height / 11.5
    for z in np.arange(d.floor - pitch, d.shape[0] + pitch, pitch):
        y, r = d.spine_y(z), float(16.5 - 4.5 * np.clip(d.rise(z), 0, 1)) * s
        tall = pitch / 2 - 2.5
        box = d.around((0, y, z), (r + 9, r + 42, pitch))
        if box is None:
            continue
        x_, y_, z_ = d.axes(box)
        waist = 1 - 0.08 * np.cos(np.clip((z_ - z) / tall, -1, 1) * np.pi / 2)
        round_ = np.sqrt((x_ / 1.12) ** 2 + (y_ - y) ** 2) - r * waist
        body = np.maximum(round_, np.abs(z_ - z) - tall)
        np.minimum(d.bone[box], body, out=d.bone[box])
        disc = np.maximum(np.sqrt((x_ / 1.12) ** 2 + (y_ - y) ** 2) - r, np.abs(z_ - z) - pitch / 2)
        d.hu[box][(disc < 0)] = 75
        canal = 0 * z_ + np.sqrt((x_ / 1.2) ** 2 + (y_ - y - r - 9) ** 2) - 8.5
        d.hu[box][canal < 0] = 15
        d.hu[box][canal < -4] = 38
        for side in (-1, 1):
            arch = [(side * 9, y + r - 2, z + 3), (side * 13, y + r + 9, z + 2), (0, y + r + 22, z - 4)]
            _bar(d, d.bone, arch, [3.6, 3.2])
            _bar(d, d.bone, [(side * 12, y + r + 6, z + 3), (side * 34 * s, y + r + 16, z + 5)], [4.2])
        _bar(d, d.bone, [(0, y + r + 20, z - 4), (0, y + r + 36, z - 16)], [3.0])
        if d.generator.random() < 0.35 * d.options.age:
            angle = draw(-2.8, -0.3)
            at = (float(np.cos(angle)) * r * 1.15, y + float(np.sin(angle)) * r, z + tall)
            _bar(d, d.bone, [at, (at[0] * 1.12, at[1] - 1, z + pitch / 2)], [draw(2, 4.5)])
            d.note("osteophyte", at, 6)


def _wall_point(d: Drawing, angle: float, z: float, out: float) -> tuple[float, float, float]:
    """A point on the ribs' cage: `angle` 0 at the back, pi / 2 at the side, pi in front; positive x."""
    back, front = float(d.back_y(z)), float(d.front_y(z))
    middle, deep, wide = (back + front) / 2, (back - front) / 2, float(d.half_width(z))
    n = d.square
    c, s_ = np.cos(angle), np.sin(angle)
    lift = 0.25 * np.clip(-c, 0, 1)
    w = wide * (1 - 0.35 * lift)
    radius = (np.abs(s_ / w) ** n + np.abs(c / deep) ** n) ** (-1 / n)
    return (float(s_ * (radius + out)), float(middle + c * (radius + out)), z)


def _draw_rib(d: Drawing, number: int, side: int) -> None:
    """Ribs 1 (at the top) to 12: from the spine around and down to the cartilage in front."""
    o, draw = d.options, d.generator.uniform
    start = d.top - 6 - number * o.height / 11.5 + draw(-1, 1)
    drop = (22, 40, 52, 60, 66, 70, 74, 74, 70, 62, 48, 30)[number] * o.height / 260
    last = (2.55, 2.6, 2.6, 2.6, 2.6, 2.55, 2.45, 2.35, 2.2, 2.0, 1.5, 1.0)[number]
    angles = np.linspace(0.24, last, 30)
    shrink = 0.55 if number == 0 else 0.86 if number == 1 else 1.0
    points = []
    for angle in angles:
        part = (angle - 0.24) / 2.4
        z = start + 4 - drop * (part**0.9)
        x, y, _ = _wall_point(d, float(angle), min(z, d.top - 30), 5.0)
        pull = shrink + (1 - shrink) * 0.2
        points.append((side * x * pull, y, z))
    head = [(side * 14 * d.scale, d.spine_y(start) + 10, start + 2)]
    line = np.vstack([head, _pushed(d, np.array(points, np.float32))]).astype(np.float32)
    tall = draw(2.6, 3.8)
    for shift in (-tall, -tall / 2, 0, tall / 2, tall):
        _bar(d, d.bone, line + np.array([0, 0, shift], np.float32), [3.3] * len(line))
    if number < 10:
        end = line[-1]
        target_z = float(
            np.clip(end[2] + (18 if number > 2 else 2) + (number - 4) * 3, _sternum(d)[1] - 6, _sternum(d)[0])
        )
        goal = (side * 16 * d.scale, float(d.front_y(target_z)) - 2, target_z)
        middle = (
            (end[0] + goal[0]) / 2 + side * 6,
            min(float(end[1]), goal[1]) - 2,
            (float(end[2]) + target_z) / 2 - 8,
        )
        _bar(d, d.gristle, [tuple(end), middle, goal], [6.0, 5.5])
    if number < 11:
        d.note("rib_end", line[-1], 9)


def _pushed(d: Drawing, points: Points) -> Points:
    """Points moved to 5 mm outside of the lungs' space."""
    gradient = np.gradient(d.shell[::2, ::2, ::2], 2 * STEP_MM)
    for turn in range(14):
        at = d.index(points).T / (2 * STEP_MM)
        depth = ndimage.map_coordinates(d.shell[::2, ::2, ::2], at, order=1, mode="nearest")
        slope = np.stack([ndimage.map_coordinates(part, at, order=1, mode="nearest") for part in gradient[::-1]], 1)
        slope[:, 2] *= 0.3
        move = np.clip(5.5 - depth, -6, 6)[:, None] * slope / np.maximum((slope**2).sum(1, keepdims=True), 0.2)
        points = points + 0.8 * move
        if turn == 9:  # smooth the arc, then mend what that took off it
            points = ndimage.gaussian_filter1d(points, 1.2, axis=0, mode="nearest")
    return np.asarray(points, np.float32)


def _sternum(d: Drawing) -> tuple[float, float]:
    """Heights of its top and its lower end."""
    return d.top - 0.18 * d.options.height, d.top - 0.70 * d.options.height


def _draw_sternum(d: Drawing) -> None:
    high, low = _sternum(d)
    for z in np.arange(low, high, 2.0):
        y, wide = float(d.front_y(z)) - 7, 12 + 10 * np.clip((z - high + 45) / 45, 0, 1) ** 2
        _bar(d, d.bone, [(-wide, y, z), (wide, y, z)], [5.0])


def _draw_girdle(d: Drawing) -> None:
    """Collar bones and shoulder blades."""
    draw, o, s = d.generator.uniform, d.options, d.scale
    high = _sternum(d)[0]
    for side in (-1, 1):
        y = float(d.front_y(high))
        _bar(
            d,
            d.bone,
            [
                (side * 18, y - 6, high + 4),
                (side * 55 * s, y - 4, high + 14),
                (side * 95 * s, y + 22, high + 26),
                (side * 135 * s, y + 40, high + 34),
            ],
            [6.5, 5.5, 5.5],
        )
        turn = draw(-0.1, 0.1)
        for z in np.arange(d.top - 0.55 * o.height, min(d.top - 5, d.shape[0]), 2.0):
            part = (z - d.top + 0.55 * o.height) / (0.5 * o.height)
            inner, outer = 0.62 - 0.1 * part + turn, 0.75 + 0.75 * min(part, 1) + turn
            blade = [
                _wall_point(d, float(a), min(z, d.top - 25), 20 + 6 * float(a - inner))
                for a in np.linspace(inner, outer, 8)
            ]
            line = [(side * p[0], p[1], z) for p in blade]
            _bar(d, d.bone, line, [1.9] * 6 + [4.0])

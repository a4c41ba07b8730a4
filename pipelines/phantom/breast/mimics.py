"""What looks like calcification and is none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy import ndimage

from pipelines.phantom.breast.imaging import Medium
from pipelines.phantom.breast.scene import Scene
from pipelines.phantom.breast.texture import Field, Points, drawn, winding
from pipelines.phantom.breast.truth import Mimic, MimicKind

Generator = np.random.Generator

_ON_FILM: tuple[tuple[MimicKind, float], ...] = (("dust", 0.6), ("scratch", 0.3), ("fingerprint", 0.06))
_ON_DIGITAL: tuple[tuple[MimicKind, float], ...] = (("dead_pixel", 0.2), ("grid_lines", 0.08))
_IN_BREAST: tuple[tuple[MimicKind, float], ...] = (
    ("noise_clump", 0.25),
    ("crossing", 0.4),
    ("cyst", 0.12),
    ("mass", 0.12),
    ("lymph_node", 0.05),
    ("skin_marker", 0.05),
    ("clip", 0.06),
    ("wire", 0.04),
    ("letter", 0.03),
    ("deodorant", 0.04),
)


@dataclass(frozen=True, slots=True, eq=False)
class _Place:
    """Where to add one, with what randomness, and in which direction the tissue runs there."""

    generator: Generator
    scene: Scene
    at: Points
    angle: float


def add_mimics(generator: Generator, scene: Scene, medium: Medium, angle: float) -> None:
    """Add some, as chance has it; `angle` is that in which the tissue runs."""
    for kind, odds in (*_IN_BREAST, *(_ON_FILM if medium == "film" else _ON_DIGITAL)):
        if generator.random() < odds:
            add_mimic(generator, scene, kind, generator.random(2) * scene.shape[::-1], angle)


def add_mimic(generator: Generator, scene: Scene, kind: MimicKind, at: Points, angle: float = 0.0) -> None:
    """Add one at (column, row)."""
    radius = _ADD[kind](_Place(generator, scene, at, angle))
    scene.mimics.append(Mimic(kind, (float(at[0]), float(at[1])), float(radius)))


def _within(scene: Scene, at: Points) -> bool:
    return bool(0 <= at[0] < scene.shape[1] and 0 <= at[1] < scene.shape[0])


def _spot(canvas: Field, at: Points, amount: float, sigma: float) -> None:
    """Add a Gaussian spot."""
    reach = int(4 * sigma) + 2
    column, row = int(at[0]), int(at[1])
    box = (
        slice(max(0, row - reach), max(0, min(canvas.shape[0], row + reach + 1))),
        slice(max(0, column - reach), max(0, min(canvas.shape[1], column + reach + 1))),
    )
    rows = np.arange(box[0].start, box[0].stop, dtype=np.float32)[:, None] + np.float32(0.5 - at[1])
    columns = np.arange(box[1].start, box[1].stop, dtype=np.float32)[None, :] + np.float32(0.5 - at[0])
    canvas[box] += np.exp((rows**2 + columns**2) * np.float32(-0.5 / sigma**2)) * np.float32(amount)


def _dust(o: _Place) -> float:
    """Dust on the screen keeps light from the film (bright), on the film keeps it from the digitiser (bright too)."""
    canvas = o.scene.mark()
    spread = o.generator.uniform(1, 60)
    for _ in range(int(o.generator.integers(1, 12))):
        place = o.at + o.generator.normal(0, spread, 2)
        amount = -o.generator.uniform(0.15, 1.5)
        if o.generator.random() < 0.2:  # a fibre
            line = winding(o.generator, place, o.generator.uniform(0, 6.3), o.generator.uniform(5, 40), 0.7, 0.5, 8.0)
            canvas += drawn([(line, np.full(len(line), amount * 0.5))], o.scene.shape, o.generator.uniform(0.5, 0.9))
        else:
            _spot(canvas, place, amount, float(np.exp(o.generator.normal(-0.4, 0.4))))
    return float(2 * spread + 5)


def _scratch(o: _Place) -> float:
    """Emulsion scraped off (bright) or pressed (dark), thin and nearly straight."""
    canvas = o.scene.mark()
    length = float(np.exp(o.generator.normal(np.log(80), 0.9)))
    line = winding(o.generator, o.at, o.generator.uniform(0, 6.3), length, 0.7, 0.08, 60.0)
    amounts = np.clip(
        o.generator.normal(1, 0.5) + ndimage.gaussian_filter1d(o.generator.normal(0, 3, len(line)), 4), 0, 2
    )
    sign = -1.0 if o.generator.random() < 0.7 else 1.0
    canvas += drawn(
        [(line, sign * amounts * o.generator.uniform(0.05, 0.5))], o.scene.shape, o.generator.uniform(0.4, 0.8)
    )
    return length


def _fingerprint(o: _Place) -> float:
    """Ridges half a millimetre apart, in an oval of 15 mm."""
    canvas = o.scene.mark()
    rows, columns = (np.arange(side, dtype=np.float32) * np.float32(o.scene.pitch_mm) for side in o.scene.shape)
    x, y = (
        columns[None, :] - np.float32(o.at[0] * o.scene.pitch_mm),
        rows[:, None] - np.float32(o.at[1] * o.scene.pitch_mm),
    )
    turn = o.generator.uniform(0, 2 * np.pi)
    u, v = (
        x * np.float32(np.cos(turn)) + y * np.float32(np.sin(turn)),
        y * np.float32(np.cos(turn)) - x * np.float32(np.sin(turn)),
    )
    away = np.sqrt((u * np.float32(0.8)) ** 2 + (v + np.float32(2)) ** 2) + np.float32(0.6) * np.sin(
        u * np.float32(0.4)
    )
    oval = np.exp(-(((u / 8) ** 2 + (v / 10) ** 2) ** 2))
    canvas += np.sin(away * np.float32(2 * np.pi / 0.5)) * oval * np.float32(o.generator.uniform(0.02, 0.08))
    return 10 / o.scene.pitch_mm


def _dead_pixels(o: _Place) -> float:
    """Pixels, or parts of a line, that the detector's correction missed."""
    canvas = o.scene.mark()
    if not _within(o.scene, o.at):
        return 1.0
    column, row = int(o.at[0]), int(o.at[1])
    if o.generator.random() < 0.25:
        canvas[:, column] += np.float32(o.generator.normal(0, 0.03))
        return 1.0
    for _ in range(int(o.generator.integers(1, 5))):
        high, wide = o.generator.integers(1, 3, 2)
        place = (slice(row, row + high), slice(column, column + wide))
        canvas[place] += np.float32(o.generator.choice((-1, 1)) * o.generator.uniform(0.1, 0.6))
        column, row = (int(v) for v in o.generator.integers(0, np.array(o.scene.shape[::-1])))
    return 2.0


def _grid_lines(o: _Place) -> float:
    """The grid's lamellae, when it did not move enough."""
    period = o.generator.uniform(0.23, 0.45) / o.scene.pitch_mm
    shape = (1, o.scene.shape[1]) if o.generator.random() < 0.5 else (o.scene.shape[0], 1)
    phase = np.arange(max(shape), dtype=np.float32).reshape(shape) * np.float32(2 * np.pi / max(period, 2.1))
    o.scene.mark()[...] += np.sin(phase) * np.float32(o.generator.uniform(0.002, 0.012))
    return float(max(o.scene.shape))


def _noise_clump(o: _Place) -> float:
    """Some blobs of tissue denser than their surroundings, as chance makes them."""
    for _ in range(int(o.generator.integers(2, 9))):
        place = o.at + o.generator.normal(0, 2.0 / o.scene.pitch_mm, 2)
        _spot(o.scene.gland, place, o.generator.uniform(0.5, 3.0), o.generator.uniform(0.12, 0.5) / o.scene.pitch_mm)
    np.minimum(o.scene.gland, o.scene.thickness, out=o.scene.gland)
    return 4 / o.scene.pitch_mm


def _crossing(o: _Place) -> float:
    """Ligaments that cross: a bright dot where they do."""
    lines = []
    for _ in range(int(o.generator.integers(2, 6))):
        length = o.generator.uniform(6, 25) / o.scene.pitch_mm
        line = winding(o.generator, np.zeros(2), o.angle + o.generator.normal(0, 0.7), length, 0.8, 0.15, 60.0)
        line += (
            o.at
            + o.generator.normal(0, 1.0 / o.scene.pitch_mm, 2)
            - line[int(len(line) * o.generator.uniform(0.2, 0.8))]
        )
        fade = np.sin(np.linspace(0, np.pi, len(line))) ** 0.5
        lines.append((line, fade * o.generator.uniform(0.5, 2.0)))
    o.scene.gland += drawn(lines, o.scene.shape, o.generator.uniform(0.08, 0.3) / o.scene.pitch_mm)
    np.minimum(o.scene.gland, o.scene.thickness, out=o.scene.gland)
    return 2 / o.scene.pitch_mm


def _ball(generator: Generator, scene: Scene, at: Points, radius_mm: float, rough: float) -> Field:
    """Chord (mm) through an uneven ball."""
    rows, columns = (np.arange(side, dtype=np.float32) for side in scene.shape)
    x, y = columns[None, :] - np.float32(at[0]), rows[:, None] - np.float32(at[1])
    turn, slender = generator.uniform(0, np.pi), generator.uniform(0.65, 1.0)
    u = x * np.float32(np.cos(turn)) + y * np.float32(np.sin(turn))
    v = (y * np.float32(np.cos(turn)) - x * np.float32(np.sin(turn))) / np.float32(slender)
    around = np.arctan2(v, u)
    edge = np.ones(scene.shape, np.float32)
    for wave in (2, 3, 5, 8):
        edge += np.float32(rough * generator.normal() / wave) * np.cos(
            around * wave + np.float32(generator.uniform(0, 6.3))
        )
    radius = np.hypot(u, v) * np.float32(scene.pitch_mm / radius_mm) / edge
    return np.asarray(np.sqrt(np.clip(1 - radius**2, 0, None)) * np.float32(2 * radius_mm * slender), np.float32)


def _into(scene: Scene, chord: Field, part: float) -> None:
    """Put water or tissue in the place of what was there, as far as there is fat to displace."""
    room = np.clip(1 - scene.gland / np.maximum(scene.thickness, np.float32(1e-3)), 0, 1)
    scene.gland += chord * room * np.float32(part)
    np.minimum(scene.gland, scene.thickness, out=scene.gland)


def _cyst(o: _Place) -> float:
    radius = float(np.clip(np.exp(o.generator.normal(np.log(5), 0.5)), 1.5, 18))
    _into(o.scene, _ball(o.generator, o.scene, o.at, radius, 0.03), 0.9)
    return radius / o.scene.pitch_mm


def _mass(o: _Place) -> float:
    radius = float(np.clip(np.exp(o.generator.normal(np.log(5), 0.5)), 2, 18))
    _into(o.scene, _ball(o.generator, o.scene, o.at, radius, 0.25), 1.0)
    if o.generator.random() < 0.5:  # spicules
        lines = []
        for turn in o.generator.uniform(0, 2 * np.pi, int(o.generator.integers(8, 25))):
            length = radius * o.generator.uniform(1.5, 3.0) / o.scene.pitch_mm
            line = winding(o.generator, o.at.copy(), turn, length, 0.8, 0.2, 60.0)
            lines.append((line, np.linspace(1, 0, len(line)) * o.generator.uniform(0.5, 1.5)))
        o.scene.gland += drawn(lines, o.scene.shape, 0.2 / o.scene.pitch_mm)
        np.minimum(o.scene.gland, o.scene.thickness, out=o.scene.gland)
    return radius / o.scene.pitch_mm


def _lymph_node(o: _Place) -> float:
    """Oval, with a notch of fat."""
    radius = float(o.generator.uniform(3, 9))
    whole = _ball(o.generator, o.scene, o.at, radius, 0.08)
    notch = _ball(
        o.generator, o.scene, o.at + o.generator.normal(0, radius * 0.3, 2) / o.scene.pitch_mm, radius * 0.5, 0.08
    )
    _into(o.scene, np.clip(whole - notch, 0, None), 0.8)
    return radius / o.scene.pitch_mm


def _skin_marker(o: _Place) -> float:
    """A ball of lead on the skin, or a ring round a mole."""
    radius = o.generator.uniform(0.6, 1.6)
    chord = (
        _ball(o.generator, o.scene, o.at, radius, 0.0)
        if o.generator.random() < 0.7
        else _ring(o.scene, o.at, radius * 5)
    )
    o.scene.metal += chord
    return radius * 5 / o.scene.pitch_mm


def _ring(scene: Scene, at: Points, radius_mm: float) -> Field:
    turns = np.linspace(0, 2 * np.pi, int(2 * np.pi * radius_mm / scene.pitch_mm) + 8)
    line = at + np.stack([np.cos(turns), np.sin(turns)], -1) * radius_mm / scene.pitch_mm
    return drawn([(line, np.full(len(line), 0.15))], scene.shape, 0.25 / scene.pitch_mm)


def _clip(o: _Place) -> float:
    """A surgical or biopsy clip: bent wire of titanium, 2 to 4 mm."""
    size = o.generator.uniform(0.8, 2.0) / o.scene.pitch_mm
    turn = o.generator.uniform(0, 2 * np.pi)
    corners = np.array(
        [[[-1, 0.15], [1, 0.15], [1, -0.15], [-1, -0.15]], [[-0.7, -1], [0, 0.2], [0.7, -1], [0, 0]]][
            int(o.generator.integers(2))
        ]
    )
    way = corners[: 4 if o.generator.random() < 0.5 else 3] * size
    rotated = way @ np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]]) + o.at
    pieces = [_straight(a, b) for a, b in pairwise(rotated)]
    sigma = o.generator.uniform(0.1, 0.18)
    o.scene.metal += drawn(
        [(line, np.full(len(line), 0.3)) for line in pieces], o.scene.shape, sigma / o.scene.pitch_mm
    )
    return float(size * 1.5)


def _straight(first: Points, last: Points) -> Points:
    count = max(2, int(np.linalg.norm(last - first) * 1.5))
    return first + np.linspace(0, 1, count)[:, None] * (last - first)


def _wire(o: _Place) -> float:
    """A localising wire with its hook, or a stitch."""
    length = o.generator.uniform(5, 80) / o.scene.pitch_mm
    line = winding(o.generator, o.at, o.generator.uniform(0, 6.3), length, 0.8, 0.15, 20 / o.scene.pitch_mm)
    o.scene.metal += drawn([(line, np.full(len(line), 0.25))], o.scene.shape, 0.1 / o.scene.pitch_mm)
    return float(length)


def _letter(o: _Place) -> float:
    """Letters of lead: R, L, CC, MLO, as strokes."""
    strokes: dict[str, list[list[tuple[float, float]]]] = {
        "L": [[(0, 0), (0, 1)], [(0, 1), (0.6, 1)]],
        "R": [
            [(0, 0), (0, 1)],
            [(0, 0), (0.5, 0.05)],
            [(0.5, 0.05), (0.5, 0.45)],
            [(0.5, 0.45), (0, 0.5)],
            [(0.1, 0.5), (0.6, 1)],
        ],
        "C": [[(0.6, 0.1), (0.1, 0.1)], [(0.1, 0.1), (0, 0.9)], [(0, 0.9), (0.6, 0.95)]],
        "M": [[(0, 1), (0, 0)], [(0, 0), (0.4, 0.6)], [(0.4, 0.6), (0.8, 0)], [(0.8, 0), (0.8, 1)]],
        "O": [[(0, 0), (0.6, 0)], [(0.6, 0), (0.6, 1)], [(0.6, 1), (0, 1)], [(0, 1), (0, 0)]],
    }
    size = o.generator.uniform(4, 9) / o.scene.pitch_mm
    lines = []
    start = o.at.copy()
    for sign in str(o.generator.choice(("R", "L", "RCC", "LCC", "RMLO", "LMLO"))):
        for first, last in strokes[sign]:
            line = _straight(start + np.array(first) * size, start + np.array(last) * size)
            lines.append((line, np.full(len(line), 0.4)))
        start = start + np.array([size, 0.0])
    o.scene.metal += drawn(lines, o.scene.shape, 0.35 / o.scene.pitch_mm)
    return float(size * 4)


def _deodorant(o: _Place) -> float:
    """Aluminium salts in the folds of the armpit: many faint, fine specks in streaks."""
    for _ in range(int(o.generator.integers(3, 7))):
        start = o.at + o.generator.normal(0, 3 / o.scene.pitch_mm, 2)
        line = winding(
            o.generator,
            start,
            o.angle + o.generator.normal(0, 0.2),
            o.generator.uniform(4, 15) / o.scene.pitch_mm,
            1.0,
            0.2,
            5 / o.scene.pitch_mm,
        )
        for k in o.generator.integers(0, len(line), int(o.generator.integers(3, 15))):
            place = line[k] + o.generator.normal(0, 0.4 / o.scene.pitch_mm, 2)
            amount = o.generator.uniform(0.002, 0.012)
            _spot(o.scene.metal, place, amount, max(0.45, o.generator.uniform(0.05, 0.15) / o.scene.pitch_mm))
    return 8 / o.scene.pitch_mm


_ADD: dict[MimicKind, Callable[[_Place], float]] = {
    "noise_clump": _noise_clump,
    "crossing": _crossing,
    "dust": _dust,
    "scratch": _scratch,
    "fingerprint": _fingerprint,
    "dead_pixel": _dead_pixels,
    "grid_lines": _grid_lines,
    "letter": _letter,
    "skin_marker": _skin_marker,
    "clip": _clip,
    "wire": _wire,
    "deodorant": _deodorant,
    "cyst": _cyst,
    "mass": _mass,
    "lymph_node": _lymph_node,
}

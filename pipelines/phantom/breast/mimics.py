"""What looks like calcification and is none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy import ndimage

from pipelines.phantom.breast.imaging import Medium
from pipelines.phantom.breast.scene import Scene
from pipelines.phantom.breast.texture import Field, Points, draw, winding
from pipelines.phantom.breast.truth import Mimic, MimicKind

Generator = np.random.Generator
Box = tuple[slice, slice]

ON_FILM: tuple[tuple[MimicKind, float], ...] = (("dust", 0.6), ("scratch", 0.3), ("fingerprint", 0.06))
ON_DETECTOR: tuple[tuple[MimicKind, float], ...] = (("dead_pixel", 0.2), ("grid_lines", 0.08))
IN_BREAST: tuple[tuple[MimicKind, float], ...] = (
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


LOOKALIKES: tuple[MimicKind, ...] = tuple(kind for kind, _ in (*IN_BREAST, *ON_DETECTOR))
"""What an image of a digital detector may show."""


@dataclass(frozen=True, slots=True, eq=False)
class _Place:
    """Where to add one, with what randomness, and in which direction the tissue runs there."""

    generator: Generator
    scene: Scene
    at: Points
    angle: float


def add_mimics(generator: Generator, scene: Scene, medium: Medium, angle: float) -> None:
    """Add some, as chance has it; `angle` is that in which the tissue runs."""
    for kind, odds in (*IN_BREAST, *(ON_FILM if medium == "film" else ON_DETECTOR)):
        if generator.random() < odds:
            add_mimic(generator, scene, kind, generator.random(2) * scene.shape[::-1], angle)


def add_mimic(generator: Generator, scene: Scene, kind: MimicKind, at: Points, angle: float = 0.0) -> None:
    """Add one at (column, row)."""
    radius = _ADD[kind](_Place(generator, scene, at, angle))
    scene.mimics.append(Mimic(kind, (float(at[0]), float(at[1])), float(radius)))


# ---- on film and detector


def _dust(o: _Place) -> float:
    """Dust on the screen keeps light from the film (bright), on the film keeps it from the digitiser (bright too)."""
    canvas = o.scene.mark()
    spread = o.generator.uniform(1, 60)
    for _ in range(int(o.generator.integers(1, 12))):
        place = o.at + o.generator.normal(0, spread, 2)
        amount = -o.generator.uniform(0.15, 1.5)
        if o.generator.random() < 0.2:  # a fibre
            length = o.generator.uniform(5, 40)
            line = winding(o.generator, place, o.generator.uniform(0, 6.3), length, 0.7, 0.5, 8.0)
            draw(canvas, [(line, np.full(len(line), amount * 0.5))], o.generator.uniform(0.5, 0.9))
        else:
            _spot(canvas, place, amount, float(np.exp(o.generator.normal(-0.4, 0.4))))
    return float(2 * spread + 5)


def _scratch(o: _Place) -> float:
    """Emulsion scraped off (bright) or pressed (dark), thin and nearly straight."""
    length = float(np.exp(o.generator.normal(np.log(80), 0.9)))
    line = winding(o.generator, o.at, o.generator.uniform(0, 6.3), length, 0.7, 0.08, 60.0)
    uneven = ndimage.gaussian_filter1d(o.generator.normal(0, 3, len(line)), 4)
    amounts = np.clip(o.generator.normal(1, 0.5) + uneven, 0, 2) * o.generator.uniform(0.05, 0.5)
    sign = -1.0 if o.generator.random() < 0.7 else 1.0
    draw(o.scene.mark(), [(line, sign * amounts)], o.generator.uniform(0.4, 0.8))
    return length


def _fingerprint(o: _Place) -> float:
    """Ridges half a millimetre apart, in an oval of 15 mm."""
    box, x, y = _around(o.scene, o.at, 22.0)
    turn = o.generator.uniform(0, 2 * np.pi)
    u, v = _turned(x, y, turn)
    bow = np.float32(0.6) * np.sin(u * np.float32(0.4))
    away = np.sqrt((u * np.float32(0.8)) ** 2 + (v + np.float32(2)) ** 2) + bow
    oval = np.exp(-(((u / 8) ** 2 + (v / 10) ** 2) ** 2))
    strength = np.float32(o.generator.uniform(0.02, 0.08))
    o.scene.mark()[box] += np.sin(away * np.float32(2 * np.pi / 0.5)) * oval * strength
    return 10 / o.scene.pitch_mm


def _dead_pixels(o: _Place) -> float:
    """Pixels, or a line of them, that the detector's correction missed."""
    canvas = o.scene.mark()
    column, row = int(o.at[0]), int(o.at[1])
    if o.generator.random() < 0.25:
        canvas[:, column : column + 1] += np.float32(o.generator.normal(0, 0.03))
        return 1.0
    for _ in range(int(o.generator.integers(1, 5))):
        high, wide = o.generator.integers(1, 3, 2)
        amount = o.generator.choice((-1, 1)) * o.generator.uniform(0.1, 0.6)
        canvas[row : row + high, column : column + wide] += np.float32(amount)
        column, row = (int(value) for value in o.generator.integers(0, np.array(o.scene.shape[::-1])))
    return 2.0


def _grid_lines(o: _Place) -> float:
    """The grid's lamellae, when it did not move enough."""
    period = max(o.generator.uniform(0.23, 0.45) / o.scene.pitch_mm, 2.1)
    side = o.scene.shape[1] if o.generator.random() < 0.5 else o.scene.shape[0]
    wave = np.sin(np.arange(side, dtype=np.float32) * np.float32(2 * np.pi / period))
    wave *= np.float32(o.generator.uniform(0.002, 0.012))
    o.scene.mark()[...] += wave[None, :] if side == o.scene.shape[1] else wave[:, None]
    return float(max(o.scene.shape))


# ---- in the breast


def _noise_clump(o: _Place) -> float:
    """Some blobs of tissue denser than their surroundings, as chance makes them."""
    for _ in range(int(o.generator.integers(2, 9))):
        place = o.at + o.generator.normal(0, 2.0 / o.scene.pitch_mm, 2)
        sigma = o.generator.uniform(0.12, 0.5) / o.scene.pitch_mm
        _spot(o.scene.gland, place, o.generator.uniform(0.5, 3.0), sigma)
    np.minimum(o.scene.gland, o.scene.thickness, out=o.scene.gland)
    return 4 / o.scene.pitch_mm


def _crossing(o: _Place) -> float:
    """Ligaments that cross: a bright dot where they do."""
    lines = []
    for _ in range(int(o.generator.integers(2, 6))):
        length = o.generator.uniform(6, 25) / o.scene.pitch_mm
        line = winding(o.generator, np.zeros(2), o.angle + o.generator.normal(0, 0.7), length, 0.8, 0.15, 60.0)
        through = line[int(len(line) * o.generator.uniform(0.2, 0.8))]
        line += o.at + o.generator.normal(0, 1.0 / o.scene.pitch_mm, 2) - through
        lines.append((line, np.sin(np.linspace(0, np.pi, len(line))) ** 0.5 * o.generator.uniform(0.5, 2.0)))
    draw(o.scene.gland, lines, o.generator.uniform(0.08, 0.3) / o.scene.pitch_mm)
    np.minimum(o.scene.gland, o.scene.thickness, out=o.scene.gland)
    return 2 / o.scene.pitch_mm


def _cyst(o: _Place) -> float:
    radius = float(np.clip(np.exp(o.generator.normal(np.log(5), 0.5)), 1.5, 18))
    lesion(o.generator, o.scene, o.at, radius, 0.03, o.generator.uniform(0.3, 0.8))
    return radius / o.scene.pitch_mm


def _mass(o: _Place) -> float:
    radius = float(np.clip(np.exp(o.generator.normal(np.log(5), 0.5)), 2, 18))
    lesion(o.generator, o.scene, o.at, radius, 0.25, o.generator.uniform(0.4, 1.0))
    if o.generator.random() < 0.5:
        spicules(o.generator, o.scene, o.at, radius)
    return radius / o.scene.pitch_mm


def _lymph_node(o: _Place) -> float:
    radius = float(o.generator.uniform(3, 9))
    lymph_node(o.generator, o.scene, o.at, radius)
    return radius / o.scene.pitch_mm


def lesion(  # noqa: PLR0917  where, how large, of what
    generator: Generator, scene: Scene, at: Points, radius_mm: float, rough: float, part: float = 1.0
) -> None:
    """Put water or tissue in the place of what was there, as far as there is fat to displace."""
    box, chord = ball(generator, scene, at, radius_mm, rough)
    _displace(scene, box, chord * np.float32(part))


def lymph_node(generator: Generator, scene: Scene, at: Points, radius_mm: float) -> None:
    """Oval, with a notch of fat."""
    box, chord = ball(generator, scene, at, radius_mm, 0.08)
    hilum = generator.normal(0, radius_mm * 0.4, 2).astype(np.float32)
    columns = np.arange(box[1].start, box[1].stop, dtype=np.float32)[None, :] + np.float32(0.5 - at[0])
    rows = np.arange(box[0].start, box[0].stop, dtype=np.float32)[:, None] + np.float32(0.5 - at[1])
    pitch = np.float32(scene.pitch_mm)
    away = np.hypot(columns * pitch - hilum[0], rows * pitch - hilum[1]) / np.float32(radius_mm * 0.45)
    chord *= 1 - np.float32(0.8) * np.exp(-(away**2))
    _displace(scene, box, chord * np.float32(generator.uniform(0.35, 0.8)))


def spicules(generator: Generator, scene: Scene, at: Points, radius_mm: float) -> None:
    """Strands that run into a mass from all sides."""
    lines = []
    for turn in generator.uniform(0, 2 * np.pi, int(generator.integers(8, 25))):
        length = radius_mm * generator.uniform(1.5, 3.0) / scene.pitch_mm
        line = winding(generator, at, turn, length, 0.8, 0.2, 60.0)
        lines.append((line, np.linspace(1, 0, len(line)) * generator.uniform(0.5, 1.5)))
    draw(scene.gland, lines, 0.2 / scene.pitch_mm)
    np.minimum(scene.gland, scene.thickness, out=scene.gland)


def ball(generator: Generator, scene: Scene, at: Points, radius_mm: float, rough: float) -> tuple[Box, Field]:
    """Which part of the image an uneven ball covers, and how long the beam's way (mm) through it is there."""
    box, x, y = _around(scene, at, radius_mm * (1 + 2 * rough))
    u, v = _turned(x, y, generator.uniform(0, np.pi))
    slender = np.float32(generator.uniform(0.65, 1.0))
    v = v / slender
    around = np.arctan2(v, u)
    edge = np.ones_like(around)
    for wave in (2, 3, 5, 8):
        size = np.float32(rough * generator.normal() / wave)
        edge += size * np.cos(around * wave + np.float32(generator.uniform(0, 6.3)))
    radius = np.hypot(u, v) / (edge * np.float32(radius_mm))
    chord = np.sqrt(np.clip(1 - radius**2, 0, None)) * (np.float32(2 * radius_mm) * slender)
    return box, np.asarray(chord, np.float32)


# ---- metal


def _skin_marker(o: _Place) -> float:
    """A ball of lead on the skin, or a ring round a mole."""
    radius = float(o.generator.uniform(0.6, 1.6))
    if o.generator.random() < 0.3:
        turns = np.linspace(0, 2 * np.pi, int(10 * np.pi * radius / o.scene.pitch_mm) + 8)
        line = o.at + np.stack([np.cos(turns), np.sin(turns)], -1) * radius * 5 / o.scene.pitch_mm
        draw(o.scene.metal, [(line, np.full(len(line), 0.15))], 0.25 / o.scene.pitch_mm)
        return radius * 5 / o.scene.pitch_mm
    lead_ball(o.generator, o.scene, o.at, radius)
    return radius / o.scene.pitch_mm


def lead_ball(generator: Generator, scene: Scene, at: Points, radius_mm: float) -> None:
    """A ball of metal, such as those stuck to the nipple."""
    box, chord = ball(generator, scene, at, radius_mm, 0.0)
    scene.metal[box] += chord


_CLIPS = (
    np.array([[-1, 0.15], [1, 0.15], [1, -0.15], [-1, -0.15]]),
    np.array([[-0.7, -1], [0, 0.2], [0.7, -1]]),
    np.array([[-1, 0.0], [1, 0.0]]),
)


def _clip(o: _Place) -> float:
    """A surgical or biopsy clip: bent wire of titanium, 2 to 4 mm."""
    size = o.generator.uniform(0.8, 2.0) / o.scene.pitch_mm
    turn = o.generator.uniform(0, 2 * np.pi)
    way = _CLIPS[int(o.generator.integers(len(_CLIPS)))] * size
    corners = way @ np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]]) + o.at
    pieces = [_straight(first, last) for first, last in pairwise(corners)]
    sigma = o.generator.uniform(0.1, 0.18) / o.scene.pitch_mm
    draw(o.scene.metal, [(piece, np.full(len(piece), 0.3)) for piece in pieces], sigma)
    return float(size * 1.5)


def _wire(o: _Place) -> float:
    """A localising wire, or a stitch."""
    length = o.generator.uniform(5, 80) / o.scene.pitch_mm
    line = winding(o.generator, o.at, o.generator.uniform(0, 6.3), length, 0.8, 0.15, 20 / o.scene.pitch_mm)
    draw(o.scene.metal, [(line, np.full(len(line), 0.25))], 0.1 / o.scene.pitch_mm)
    return float(length)


_STROKES: dict[str, tuple[tuple[float, float, float, float], ...]] = {
    "L": ((0, 0, 0, 1), (0, 1, 0.6, 1)),
    "R": ((0, 0, 0, 1), (0, 0, 0.5, 0.05), (0.5, 0.05, 0.5, 0.45), (0.5, 0.45, 0, 0.5), (0.1, 0.5, 0.6, 1)),
    "C": ((0.6, 0.1, 0.1, 0.1), (0.1, 0.1, 0, 0.9), (0, 0.9, 0.6, 0.95)),
    "M": ((0, 1, 0, 0), (0, 0, 0.4, 0.6), (0.4, 0.6, 0.8, 0), (0.8, 0, 0.8, 1)),
    "O": ((0, 0, 0.6, 0), (0.6, 0, 0.6, 1), (0.6, 1, 0, 1), (0, 1, 0, 0)),
}


def letters(scene: Scene, text: str, at: Points, size_mm: float) -> None:
    """Letters of lead (R, L, C, M, O; others are left blank), `at` the upper left corner of the first."""
    size = size_mm / scene.pitch_mm
    lines = []
    for k, sign in enumerate(text):
        start = at + np.array([k * size, 0.0])
        for first_x, first_y, last_x, last_y in _STROKES.get(sign, ()):
            line = _straight(start + np.array([first_x, first_y]) * size, start + np.array([last_x, last_y]) * size)
            lines.append((line, np.full(len(line), 0.4)))
    draw(scene.metal, lines, size_mm * 0.05 / scene.pitch_mm)


def _letter(o: _Place) -> float:
    size = o.generator.uniform(4, 9)
    letters(o.scene, str(o.generator.choice(("R", "L", "RCC", "LCC", "RMLO", "LMLO"))), o.at, size)
    return float(4 * size / o.scene.pitch_mm)


def _deodorant(o: _Place) -> float:
    """Aluminium salts in the folds of the armpit: many faint, fine specks in streaks."""
    pitch = o.scene.pitch_mm
    for _ in range(int(o.generator.integers(3, 7))):
        start = o.at + o.generator.normal(0, 3 / pitch, 2)
        length = o.generator.uniform(4, 15) / pitch
        line = winding(o.generator, start, o.angle + o.generator.normal(0, 0.2), length, 1.0, 0.2, 5 / pitch)
        for k in o.generator.integers(0, len(line), int(o.generator.integers(3, 15))):
            place = line[k] + o.generator.normal(0, 0.4 / pitch, 2)
            sigma = max(0.45, o.generator.uniform(0.05, 0.15) / pitch)
            _spot(o.scene.metal, place, o.generator.uniform(0.002, 0.012), sigma)
    return 8 / pitch


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


# ---- means


def _around(scene: Scene, at: Points, reach_mm: float) -> tuple[Box, Field, Field]:
    """The part of an image about a place, and how far (mm) its pixels lie from there: to the right, downwards."""
    reach = reach_mm / scene.pitch_mm + 1
    limits = np.array(scene.shape[::-1])
    low = np.clip(np.floor(at - reach), 0, limits).astype(int)
    high = np.clip(np.ceil(at + reach), 0, limits).astype(int)
    x = (np.arange(low[0], high[0], dtype=np.float32) + np.float32(0.5 - at[0])) * np.float32(scene.pitch_mm)
    y = (np.arange(low[1], high[1], dtype=np.float32) + np.float32(0.5 - at[1])) * np.float32(scene.pitch_mm)
    box = (slice(int(low[1]), int(high[1])), slice(int(low[0]), int(high[0])))
    return box, x[None, :], y[:, None]


def _turned(x: Field, y: Field, angle: float) -> tuple[Field, Field]:
    cosine, sine = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    return x * cosine + y * sine, y * cosine - x * sine


def _displace(scene: Scene, box: Box, chord: Field) -> None:
    gland, thickness = scene.gland[box], scene.thickness[box]
    gland += chord * np.clip(1 - gland / np.maximum(thickness, np.float32(1e-3)), 0, 1)
    np.minimum(gland, thickness, out=gland)


def _spot(canvas: Field, at: Points, amount: float, sigma: float) -> None:
    """Add a Gaussian spot."""
    reach = int(4 * sigma) + 2
    low = np.maximum(np.floor(at).astype(int) - reach, 0)
    high = np.clip(np.floor(at).astype(int) + reach + 1, low, canvas.shape[::-1])
    x = np.arange(low[0], high[0], dtype=np.float32)[None, :] + np.float32(0.5 - at[0])
    y = np.arange(low[1], high[1], dtype=np.float32)[:, None] + np.float32(0.5 - at[1])
    canvas[low[1] : high[1], low[0] : high[0]] += np.exp((x**2 + y**2) * np.float32(-0.5 / sigma**2)) * np.float32(
        amount
    )


def _straight(first: Points, last: Points) -> Points:
    count = max(2, int(np.linalg.norm(last - first) * 1.5))
    found: Points = first + np.linspace(0, 1, count)[:, None] * (last - first)
    return found

"""Calcifications: how thick each is where, and how those of a group lie to each other.

Sizes and forms after BI-RADS (5th edition, 2013) and Lanyi (1988). A `Particle` is a map of thickness in mm of full
hydroxyapatite in the direction of the beam on a fine grid; a `Layout` says where the particles of a group lie in the
breast, in three directions, so that every view shows the same group.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from pipelines.phantom.breast.texture import Field, Points, splat, winding
from pipelines.phantom.breast.truth import DISTRIBUTIONS, SUSPICIOUS, Distribution, Morphology, Shape

Generator = np.random.Generator

FINEST_MM = 0.02
"""Step of a particle's map: a fifth of the smallest grain. Large particles are drawn on `STEPS` steps."""
STEPS = 100

_LENGTHS: dict[Shape, tuple[float, float, float, float]] = {
    # median, sigma of the logarithm, least, most
    "punctate": (0.26, 0.32, 0.10, 0.5),
    "round": (0.50, 0.35, 0.20, 1.0),
    "amorphous": (0.22, 0.35, 0.10, 0.5),
    "coarse_heterogeneous": (0.65, 0.30, 0.35, 1.3),
    "fine_pleomorphic": (0.32, 0.42, 0.10, 0.7),
    "fine_linear": (0.95, 0.50, 0.25, 3.0),
    "vascular": (0.45, 0.50, 0.15, 1.6),
    "skin": (1.00, 0.30, 0.50, 1.8),
    "rim": (3.50, 0.60, 1.20, 14.0),
    "popcorn": (6.00, 0.45, 2.50, 16.0),
    "milk_of_calcium": (0.70, 0.40, 0.30, 1.8),
    "rod": (4.00, 0.50, 1.50, 10.0),
    "dystrophic": (2.50, 0.50, 1.00, 7.0),
}
_FILLING: dict[Shape, tuple[float, float]] = {
    "amorphous": (0.08, 0.3),
    "milk_of_calcium": (0.1, 0.4),
    "vascular": (0.2, 0.7),
    "skin": (0.25, 0.6),
    "popcorn": (0.3, 0.7),
    "dystrophic": (0.3, 0.7),
}
"""Part of the particle's volume that is apatite. Of those not named: 0.35 to 0.9."""


@dataclass(frozen=True, slots=True, eq=False)
class Particle:
    """Thickness of apatite in mm, float32 `[row, column]`, `step_mm` apart, its middle that of the array."""

    shape: Shape
    thickness: Field
    step_mm: float
    diameter_mm: float
    length_mm: float


def random_length(generator: Generator, shape: Shape, factor: float = 1.0) -> float:
    """How long a calcification of this kind is, in mm."""
    median, spread, least, most = _LENGTHS[shape]
    return float(np.clip(median * factor * np.exp(generator.normal(0, spread)), least, most))


def particle(
    generator: Generator, shape: Shape, length_mm: float, angle: float | None = None, from_side: bool = False
) -> Particle:
    """A calcification of a length. `angle` (radians, from the columns' axis towards the rows') is that of long ones.

    `from_side`: the beam is horizontal or oblique, so that what settles in a cyst lies at its bottom.
    """
    angle = generator.uniform(0, np.pi) if angle is None else angle
    step = max(FINEST_MM, length_mm / STEPS)
    draw = _teacup if shape == "milk_of_calcium" and from_side else _DRAWN[shape]
    thickness = draw(_Draft(generator, length_mm / step, angle, step))
    thickness *= np.float32(step * generator.uniform(*_FILLING.get(shape, (0.35, 0.9))))
    covered = thickness > 0.15 * float(thickness.max())
    diameter = 2 * np.sqrt(float(covered.sum()) / np.pi) * step
    return Particle(shape, thickness, step, float(diameter), length_mm)


@dataclass(frozen=True, slots=True, eq=False)
class _Draft:
    """What to draw: length in steps, direction, mm a step."""

    generator: Generator
    length: float
    angle: float
    step: float


def _axes(half: int) -> tuple[Field, Field]:
    line = np.arange(-half, half + 1, dtype=np.float32)
    return line[None, :], line[:, None]


def _lump(  # noqa: PLR0917  how long, how it lies, of what form
    generator: Generator, length: float, angle: float, slender: float, rough: float, room: float = 0.75
) -> Field:
    """An ellipsoid with an uneven outline; `rough` from 0 (smooth) to about 0.3 (jagged).

    The map reaches `room` lengths from its middle: more where other pieces are to be joined to it.
    """
    half = int(length * room) + 2
    x, y = _axes(half)
    cosine, sine = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    along, across = x * cosine + y * sine, y * cosine - x * sine
    across = across * np.float32(1 / slender)
    radius = np.sqrt(along**2 + across**2)
    edge = np.float32(length / 2)
    if rough:
        around = np.arctan2(across, along)
        outline = np.ones_like(radius)
        for wave in (2, 3, 4, 5, 7):
            size = rough * generator.normal() / np.sqrt(wave - 1)
            outline += np.float32(size) * np.cos(wave * around + np.float32(generator.uniform(0, 2 * np.pi)))
        edge = edge * np.clip(outline, 0.4, 1.45)
    depth = np.sqrt(np.clip(1 - (radius / edge) ** 2, 0, None))
    return np.asarray(depth * np.float32(length * slender), np.float32)


def _round(o: _Draft) -> Field:
    return _lump(o.generator, o.length, o.angle, o.generator.uniform(0.82, 1.0), o.generator.uniform(0, 0.05))


def _pleomorphic(o: _Draft) -> Field:
    """Like broken glass: jagged, often two or three pieces in one."""
    made = _lump(o.generator, o.length, o.angle, o.generator.uniform(0.35, 0.85), o.generator.uniform(0.1, 0.28), 1.2)
    for _ in range(o.generator.integers(0, 3)):
        piece = _lump(o.generator, o.length * o.generator.uniform(0.35, 0.65), o.generator.uniform(0, np.pi), 0.7, 0.2)
        _put(made, piece, o.generator.normal(0, o.length * 0.2, 2), np.maximum)
    return made


def _amorphous(o: _Draft) -> Field:
    """Too small or hazy for a form: a cloud of dust."""
    half = int(o.length) + 3
    x, y = _axes(half)
    sigma = np.float32(o.length / 2.6)
    cloud = np.exp(-(x**2 + y**2) / (2 * sigma**2))
    speckle = ndimage.gaussian_filter(
        o.generator.standard_normal(cloud.shape).astype(np.float32), max(1.0, o.length / 8)
    )
    speckle /= np.float32(float(speckle.std()) + 1e-6)
    made: Field = cloud * np.clip(1 + 0.5 * speckle, 0, None) * np.float32(o.length * 0.8)
    return made


def _coarse(o: _Draft) -> Field:
    made = _lump(o.generator, o.length, o.angle, o.generator.uniform(0.55, 0.95), o.generator.uniform(0.08, 0.2), 1.5)
    for _ in range(o.generator.integers(1, 4)):
        piece = _lump(o.generator, o.length * o.generator.uniform(0.4, 0.8), o.generator.uniform(0, np.pi), 0.8, 0.15)
        _put(made, piece, o.generator.normal(0, o.length * 0.25, 2), np.maximum)
    hollow = _lump(o.generator, o.length * o.generator.uniform(0.2, 0.4), 0, 0.9, 0.1)
    _put(made, -0.6 * hollow, o.generator.normal(0, o.length * 0.15, 2), np.add)
    return np.clip(made, 0, None)


def _rod(o: _Draft, width: float, bend: float, uneven: float) -> Field:
    """A cast of a duct: a winding line as thick as it is wide, beaded where `uneven` (0 to 1) says so."""
    half = int(o.length * 0.6 + width) + 3
    line = winding(o.generator, np.zeros(2), o.angle, o.length, 1.0, bend, max(o.length / 2, 1.0))
    line = line - line.mean(axis=0) + half + 0.5
    beads = ndimage.gaussian_filter1d(o.generator.standard_normal(len(line)), max(1.0, width * 0.6), mode="nearest")
    beads /= beads.std() + 1e-6
    end = np.minimum(np.arange(len(line)), np.arange(len(line))[::-1]) / max(1.0, width * 0.5)
    amounts = np.clip(1 + uneven * beads, 0.0, 2.0) * np.sqrt(np.clip(end, 0, 1))
    canvas = np.zeros((2 * half + 1,) * 2, np.float32)
    splat(canvas, line, amounts * width)
    sigma = width * 0.3
    made: Field = ndimage.gaussian_filter(canvas, sigma) * np.float32(sigma * np.sqrt(2 * np.pi))
    return made


def _fine_linear(o: _Draft) -> Field:
    """Thin casts of ducts, some of them branching."""
    width = o.generator.uniform(0.10, 0.26) / o.step
    made = _rod(o, min(width, o.length / 2), 0.3, o.generator.uniform(0.15, 0.6))
    if o.length > 0.9 / o.step and o.generator.random() < 0.4:
        turn = o.generator.choice((-1, 1)) * o.generator.uniform(0.5, 1.0)
        part = o.length * o.generator.uniform(0.4, 0.6)
        branch = _rod(replace(o, length=part, angle=o.angle + turn), width * 0.85, 0.3, 0.4)
        tip = np.array([np.cos(o.angle + turn), np.sin(o.angle + turn)]) * part / 2
        _put(made, branch, tip + o.generator.normal(0, width * 0.3, 2), np.maximum)
    return made


def _vascular(o: _Draft) -> Field:
    """A plaque in the wall of an artery, seen from its side: a thin, uneven streak."""
    width = min(o.generator.uniform(0.12, 0.3) / o.step, o.length * 0.7)
    return _rod(o, width, 0.15, 0.5)


def _shell(generator: Generator, length: float, part: float, rough: float, room: float = 0.75) -> Field:
    """A hollow ball; `part` of its radius is wall."""
    angle, slender = generator.uniform(0, np.pi), generator.uniform(0.8, 1.0)
    state = generator.bit_generator.state
    outer = _lump(generator, length, angle, slender, rough, room)
    generator.bit_generator.state = state  # the same unevenness, so that the wall is even
    inner = _lump(generator, length * (1 - part), angle, slender, rough)
    _put(outer, -inner, np.zeros(2), np.add)
    return np.clip(outer, 0, None)


def _skin(o: _Draft) -> Field:
    return _shell(o.generator, o.length, o.generator.uniform(0.35, 0.6), 0.06)


def _rim(o: _Draft) -> Field:
    """An eggshell: less than 1 mm of wall about a cyst or fat necrosis, with gaps."""
    wall = o.generator.uniform(0.08, 0.3) / o.step
    made = _shell(o.generator, o.length, min(0.6, 2 * wall / o.length), 0.03)
    gaps = ndimage.gaussian_filter(o.generator.standard_normal((12, 12)), 1.2, mode="wrap")
    gaps = ndimage.zoom(gaps / gaps.std(), np.array(made.shape) / 12, order=1)
    broken: Field = made * np.clip(0.9 + o.generator.uniform(0, 0.5) * gaps, 0.05, 1.6).astype(np.float32)
    return broken


def _popcorn(o: _Draft) -> Field:
    """An old fibroadenoma: large lobes run together, denser in places."""
    made = np.zeros((2 * int(o.length * 1.3) + 5,) * 2, np.float32)
    for _ in range(o.generator.integers(6, 16)):
        size = o.length * o.generator.uniform(0.15, 0.45)
        lobe = _lump(o.generator, size, o.generator.uniform(0, np.pi), o.generator.uniform(0.6, 1), 0.14)
        _put(
            made, lobe * np.float32(o.generator.uniform(0.3, 1)), o.generator.normal(0, o.length * 0.17, 2), np.maximum
        )
    return made * np.float32(min(1.0, 1.6 / (float(made.max()) * o.step)))


def _milk(o: _Draft) -> Field:
    """Sediment in small cysts, seen from above: a smudge."""
    made = _lump(o.generator, o.length, o.angle, o.generator.uniform(0.75, 1), 0.08) * np.float32(0.5)
    blurred: Field = ndimage.gaussian_filter(made, o.length * 0.1)
    return blurred


def _teacup(o: _Draft) -> Field:
    """The same sediment from the side: it fills the bottom of the cyst up to a level."""
    made = _lump(o.generator, o.length, 0.0, o.generator.uniform(0.8, 1), 0.05)
    rows = np.arange(len(made), dtype=np.float32) - len(made) // 2
    level = np.float32(o.length * o.generator.uniform(0.0, 0.25))
    made *= np.clip((rows - level) / np.float32(max(1.0, o.length * 0.06)), 0, 1)[:, None]
    return made


def _large_rod(o: _Draft) -> Field:
    """Secretory disease: a smooth, solid rod of 0.5 to 1.5 mm, some of them hollow."""
    width = o.generator.uniform(0.4, 1.0) / o.step
    made = _rod(o, min(width, o.length / 2.5), 0.1, 0.1)
    return np.asarray(made, np.float32)


def _dystrophic(o: _Draft) -> Field:
    made = _shell(o.generator, o.length, o.generator.uniform(0.3, 0.7), 0.12, 1.5)
    for _ in range(o.generator.integers(1, 5)):
        piece = _lump(o.generator, o.length * o.generator.uniform(0.15, 0.5), o.generator.uniform(0, np.pi), 0.6, 0.2)
        _put(made, piece, o.generator.normal(0, o.length * 0.3, 2), np.maximum)
    return made * np.float32(min(1.0, 1.5 / (float(made.max()) * o.step)))


_DRAWN: dict[Shape, Callable[[_Draft], Field]] = {
    "round": _round,
    "punctate": _round,
    "amorphous": _amorphous,
    "coarse_heterogeneous": _coarse,
    "fine_pleomorphic": _pleomorphic,
    "fine_linear": _fine_linear,
    "vascular": _vascular,
    "skin": _skin,
    "rim": _rim,
    "popcorn": _popcorn,
    "milk_of_calcium": _milk,
    "rod": _large_rod,
    "dystrophic": _dystrophic,
}


def _put(canvas: Field, piece: Field, offset: NDArray[np.float64], how: np.ufunc) -> None:
    """Join a piece to a canvas, its middle `offset` (column, row) off the canvas's; what lies beyond is lost."""
    corner = [
        (whole - part) // 2 + round(float(away))
        for whole, part, away in zip(canvas.shape, piece.shape, offset[::-1], strict=True)
    ]
    to = tuple(
        slice(max(0, first), max(0, min(whole, first + part)))
        for whole, first, part in zip(canvas.shape, corner, piece.shape, strict=True)
    )
    of = tuple(slice(span.start - first, span.stop - first) for span, first in zip(to, corner, strict=True))
    canvas[to] = how(canvas[to], piece[of])


# ---- groups


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """A group in the breast: its particles' offsets `[particle, (along, across, deep)]` in mm from the group's middle.

    `along` is towards the nipple. `angles` are the directions of long particles in the plane of along and across.
    """

    morphology: Morphology
    distribution: Distribution
    is_suspicious: bool
    offsets_mm: Points
    shapes: tuple[Shape, ...]
    lengths_mm: tuple[float, ...]
    angles: tuple[float | None, ...]


GROUPED: dict[Morphology, float] = {
    "punctate": 0.2,
    "round": 0.12,
    "amorphous": 0.17,
    "coarse_heterogeneous": 0.1,
    "fine_pleomorphic": 0.23,
    "fine_linear": 0.1,
    "milk_of_calcium": 0.05,
    "rod": 0.03,
}
"""What the grains of groups are, and how often."""


def random_group(
    generator: Generator,
    morphology: Morphology | None = None,
    distribution: Distribution | None = None,
    most_mm: float = 40.0,
) -> Layout:
    """A group as they come: what its grains are, how many, how far apart; `most_mm` limits its size."""
    kinds, odds = tuple(GROUPED), np.array(tuple(GROUPED.values()))
    kind: Morphology = morphology or kinds[int(generator.choice(len(kinds), p=odds / odds.sum()))]
    how = distribution or _random_distribution(generator, kind)
    count = int(np.clip(np.exp(generator.normal(2.4, 0.65)), 3, 60))
    if how in {"segmental", "regional", "diffuse"}:
        count = int(np.clip(count * 2, 12, 60))
    if kind == "rod":
        count = min(count, 12)
    factor = float(np.exp(generator.normal(0, 0.22)))
    mixed = generator.random() < 0.5
    shapes = [_shape(generator, kind, mixed) for _ in range(count)]
    lengths = [random_length(generator, shape, factor) for shape in shapes]
    room = 1.6 * float(np.sqrt(np.square(lengths).sum()))
    offsets, line_angle = _offsets(generator, how, count, (min(room, most_mm), most_mm))
    turn = {"fine_linear": 0.45, "rod": 0.25}
    angles = [float(line_angle + generator.normal(0, turn[shape])) if shape in turn else None for shape in shapes]
    suspicious = kind in SUSPICIOUS or (kind == "punctate" and how in {"linear", "segmental"})
    return Layout(kind, how, suspicious, offsets, tuple(shapes), tuple(lengths), tuple(angles))


@dataclass(frozen=True, slots=True)
class Plaque:
    """Calcium in an artery's wall: how far along it (mm), in which wall (-1 or 1), how long (mm)."""

    along_mm: float
    wall: int
    length_mm: float


def random_plaques(generator: Generator, length_mm: float) -> tuple[Plaque, ...]:
    """Plaques in both walls of a part of an artery of a length: the tram track."""
    first = generator.uniform(0, 0.4) * length_mm
    last = first + generator.uniform(0.3, 0.7) * length_mm
    cover = generator.uniform(0.3, 0.9)
    found = []
    for wall in (-1, 1):
        at = first
        while at < min(last, length_mm):
            length = random_length(generator, "vascular")
            found.append(Plaque(float(at), wall, length))
            at += length * generator.uniform(0.5, 1.5) / cover
    return tuple(found)


def _random_distribution(generator: Generator, kind: Morphology) -> Distribution:
    odds = {
        "fine_linear": (0.35, 0.35, 0.28, 0.02, 0),
        "milk_of_calcium": (0.5, 0, 0, 0.3, 0.2),
        "rod": (0, 0, 0.4, 0.4, 0.2),
    }
    chosen = odds.get(kind, (0.74, 0.08, 0.08, 0.07, 0.03))
    return DISTRIBUTIONS[int(generator.choice(len(DISTRIBUTIONS), p=chosen))]


def _shape(generator: Generator, kind: Morphology, mixed: bool) -> Shape:
    """Most grains of a group are of the kind that names it; some groups are mixed."""
    other: dict[Morphology, tuple[Shape, ...]] = {
        "fine_pleomorphic": ("punctate", "amorphous", "fine_linear"),
        "fine_linear": ("fine_pleomorphic", "punctate"),
        "amorphous": ("punctate",),
        "round": ("punctate",),
        "punctate": ("round", "amorphous"),
        "coarse_heterogeneous": ("punctate", "fine_pleomorphic"),
    }
    others = other.get(kind, ())
    if others and generator.random() < (0.35 if mixed else 0.1):
        return others[int(generator.integers(len(others)))]
    return kind


def _offsets(
    generator: Generator, how: Distribution, count: int, range_mm: tuple[float, float]
) -> tuple[Points, float]:
    """Where the particles lie, and in which direction the group runs; `range_mm` is of the group's size."""
    least_mm, most_mm = range_mm
    angle = float(generator.normal(0, 0.35))
    if how == "grouped":
        size = float(np.clip(np.exp(generator.normal(np.log(7.5), 0.5)), 2, min(20.0, most_mm)))
        size = max(size, least_mm)
        pull = generator.uniform(0.5, 1.4)
        away = generator.standard_normal((count, 3))
        away *= (generator.random(count) ** pull / np.linalg.norm(away, axis=1))[:, None] * size / 2
        away *= [1.0, generator.uniform(0.45, 1.0), generator.uniform(0.45, 1.0)]
        angle = float(generator.uniform(0, np.pi))
        return _turned(away, angle), angle
    if how == "linear":
        size = float(np.clip(np.exp(generator.normal(np.log(14), 0.45)), 5, most_mm))
        along = (generator.random(count) - 0.5) * size
        bow = generator.normal(0, 0.012) * along**2
        away = np.stack([along, bow, bow], -1) + generator.normal(0, 0.35, (count, 3))
        return _turned(away, angle), angle
    if how == "segmental":  # a fan that opens away from the nipple
        size = float(np.clip(np.exp(generator.normal(np.log(28), 0.35)), 12, most_mm))
        size = max(size, least_mm)
        along = (np.sqrt(generator.random(count)) - 0.6) * size
        spread = (0.6 * size - along) * generator.uniform(0.12, 0.22)
        away = np.stack([along, spread * generator.normal(0, 0.6, count), spread * generator.normal(0, 0.6, count)], -1)
        return _turned(away, angle), angle
    size = most_mm * (generator.uniform(0.6, 0.9) if how == "regional" else 1.0)
    away = (generator.random((count, 3)) - 0.5) * np.array([size, size, min(size, 25.0)])
    return away, angle


def _turned(away: Points, angle: float) -> Points:
    cosine, sine = np.cos(angle), np.sin(angle)
    return np.stack([away[:, 0] * cosine - away[:, 1] * sine, away[:, 0] * sine + away[:, 1] * cosine, away[:, 2]], -1)

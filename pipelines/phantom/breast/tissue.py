"""Fat, gland and what runs through them, seen along the beam."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from pipelines.phantom.breast.texture import (
    Field,
    Grain,
    Points,
    Spectrum,
    band,
    cut,
    draw,
    enlarged,
    fields,
    power_law,
    walls,
    windings,
)

Generator = np.random.Generator

COARSE_MM = 0.2
"""Step of fields that hold no finer detail."""
STRANDS_MM = ((0.09, 0.6), (0.2, 0.32), (0.45, 0.08))
"""Gaussian sigma of strands, and what part of them is so wide."""


@dataclass(frozen=True, slots=True)
class Tissue:
    """How tissue looks.

    `base` is the usual part of gland, `swing` the standard deviation of its logarithm: where there is more gland, more
    changes. `activity` (the same) says how much that itself differs from place to place. `beta` is the exponent of the
    cloud's spectrum, which is flat beyond `outer_mm`; the weights are those of cloud, ridges and overlapping lobules.
    `walls_mm` is how much fibre a wall holds, `strands` how many threads begin in a square centimetre, `strand_mm` how
    much fibre they hold.
    """

    base: float
    swing: float
    activity: float
    beta: float
    outer_mm: float
    cloud: float
    ridges: float
    lobules: float
    walls_mm: float
    strands: float
    strand_mm: float

    @staticmethod
    def random(generator: Generator, density: str) -> Tissue:
        """Tissue of a breast of a density category (BI-RADS A to D)."""
        uniform = generator.uniform
        low, high = {"A": (0.05, 0.13), "B": (0.09, 0.26), "C": (0.2, 0.42), "D": (0.35, 0.65)}[density]
        base = uniform(low, high)
        return Tissue(
            base=base,
            swing=uniform(0.18, 0.5) * (1.15 - base),
            activity=uniform(0.0, 0.3),
            beta=uniform(2.7, 3.2),
            outer_mm=uniform(40, 120),
            cloud=uniform(0.35, 0.8),
            ridges=uniform(0.2, 0.9),
            lobules=uniform(0.2, 0.9),
            walls_mm=uniform(0.5, 2.2),
            strands=float(np.exp(uniform(np.log(2), np.log(20)))),
            strand_mm=float(np.exp(uniform(np.log(0.25), np.log(1.1)))),
        )


@dataclass(frozen=True, slots=True, eq=False)
class Course:
    """How tissue runs over an image of a shape and pitch.

    `grain` is its usual direction. In a whole breast it runs to the nipple: `heading` gives the direction at points
    (column, row in mm), and `warp` the place in the pattern, `[2, row, column]` in mm (down, across), of each
    `coarse_mm` of the image.
    """

    shape: tuple[int, int]
    pitch: float
    grain: Grain
    heading: Callable[[Points], Points] | None = None
    warp: Field | None = None

    @property
    def step(self) -> int:
        """Pixels a step of the coarser fields."""
        return max(1, round(COARSE_MM / self.pitch))

    @property
    def coarse_shape(self) -> tuple[int, int]:
        return (-(-self.shape[0] // self.step), -(-self.shape[1] // self.step))

    def coarse(self, generator: Generator, spectra: Sequence[Spectrum], turn: float) -> list[Field]:
        """Fields without finest detail, made on a coarser grid and along the course."""
        pitch = self.pitch * self.step
        grain = Grain(
            self.grain.angle + generator.normal(0, turn), 1 + (self.grain.stretch - 1) * generator.uniform(0.5, 1.2)
        )
        if self.warp is None:
            return fields(generator, self.coarse_shape, pitch, spectra, grain)
        low = self.warp.min(axis=(1, 2)).astype(float)
        size = self.warp.max(axis=(1, 2)) - low
        rows, columns = (int(side / pitch) + 2 for side in size)
        at = (self.warp - low[:, None, None].astype(np.float32)) * np.float32(1 / pitch)
        made = fields(generator, (rows, columns), pitch, spectra, grain)
        return [ndimage.map_coordinates(field, at, np.float32, order=1, mode="nearest") for field in made]

    def full(self, coarse: Field) -> Field:
        """A coarse field at every pixel."""
        wide = (coarse.shape[0] * self.step, coarse.shape[1] * self.step)
        return np.ascontiguousarray(enlarged(coarse, wide)[: self.shape[0], : self.shape[1]])

    def headings(self, points: Points) -> Points:
        """Direction of the tissue (radians) at points."""
        if self.heading is None:
            return np.full(len(points), self.grain.angle)
        return self.heading(points)


def tissue_parts(
    generator: Generator, course: Course, tissue: Tissue, base: Field | float | None = None
) -> tuple[Field, Field]:
    """The part of the beam's way that is gland (0 to 1), and the walls of lobules (1 in the middle of a plain one).

    `base` is the usual part of gland, where it is not the same everywhere.
    """
    uniform, o = generator.uniform, tissue
    (cloud,) = fields(
        generator, course.shape, course.pitch, [power_law(o.beta, o.outer_mm, 0.08)], Grain(course.grain.angle, 1.2)
    )
    (activity,) = course.coarse(generator, [power_law(3.6, uniform(20, 40), 0.5)], 0.15)
    spectra = [band(float(np.exp(uniform(np.log(8), np.log(40)))), 0.9) for _ in range(2)]
    spectra += [power_law(uniform(3.2, 4.2), uniform(12, 40), 0.2) for _ in range(2)]
    ridges = np.zeros(course.coarse_shape, np.float32)
    for field in course.coarse(generator, spectra, 0.4):
        ridges -= np.sqrt(field * field + np.float32(0.003))
    spectra = [power_law(uniform(4.0, 4.8), uniform(15, 30), 0.2) for _ in range(3)]
    lobules = np.zeros(course.coarse_shape, np.float32)
    for field in course.coarse(generator, spectra, 0.4):
        lobules += cut(field, uniform(-0.4, 0.8), uniform(0.15, 0.7))
    mixed = (ridges + np.float32(3.2)) * np.float32(o.ridges * 0.8)
    mixed += (lobules - np.float32(1.3)) * np.float32(o.lobules)
    mixed = course.full(mixed)
    mixed += cloud * np.float32(o.cloud)
    mixed *= course.full(np.exp(activity * np.float32(o.activity)))
    mixed *= np.exp(cloud * np.float32(0.12))
    mixed *= np.float32(o.swing)
    np.exp(mixed, out=mixed)
    mixed *= np.float32(o.base) if base is None else base
    mixed /= np.sqrt(np.sqrt(1 + np.square(np.square(mixed))))  # the way holds no more gland than it is long
    return mixed, _net(generator, course)


def _net(generator: Generator, course: Course) -> Field:
    """Walls of lobules: thin, closed lines, here plain and there lost."""
    uniform = generator.uniform
    pattern = [band(float(np.exp(uniform(np.log(4), np.log(20)))), 0.7) for _ in range(3)] + [
        power_law(3, 12, 0.5) for _ in range(3)
    ]
    made = course.coarse(generator, pattern, 0.3)
    net = np.zeros(course.shape, np.float32)
    for smooth, amount in zip(made[:3], made[3:], strict=True):
        part = walls(course.full(smooth), uniform(0.08, 0.3) / course.pitch)
        part *= course.full(np.clip(amount * np.float32(0.6), 0, 1.5))
        net += part
    return net


def fibre_mm(generator: Generator, course: Course, tissue: Tissue, net: Field) -> Field:
    """Thickness (mm) of walls, ligaments and small vessels."""
    found = net * np.float32(tissue.walls_mm)
    pitch = course.pitch
    size = np.array(course.shape[::-1]) * pitch
    for sigma, share in STRANDS_MM:
        count = int(generator.poisson(tissue.strands * share * float(size.prod()) / 100))
        if not count:
            continue
        lengths = np.clip(np.exp(generator.normal(np.log(18), 0.7, count)), 2, 90)
        starts = (generator.random((count, 2)) * 1.4 - 0.2) * size
        angles = course.headings(starts) + generator.normal(0, 0.5, count) + np.pi * generator.integers(0, 2, count)
        ways = windings(generator, starts, angles, lengths, pitch * 0.9, generator.uniform(0.12, 0.35), 5.0)
        most = tissue.strand_mm * np.exp(generator.normal(0, 0.6, count)) * np.sqrt(sigma / 0.2)
        lines = [
            (way / pitch, amount * np.sin(np.linspace(0, np.pi, len(way))))
            for way, amount in zip(ways, most, strict=True)
        ]
        draw(found, lines, sigma / pitch)
    return found


def rolled_off(depth: Field, usual_mm: float) -> Field:
    """Thickness (mm) at a distance (mm) from the skin line: the free edge of a compressed breast is round."""
    inward = np.clip(depth * np.float32(2 / usual_mm), 0, 1)
    found: Field = np.float32(usual_mm) * np.sqrt(inward * (2 - inward))
    return found


def skin_mm(depth: Field, thickness: Field, each_mm: float) -> Field:
    """Skin in the beam: two layers, and more where it is seen edge on."""
    inner = rolled_off(np.clip(depth - np.float32(each_mm), 0, None), float(thickness.max()))
    found: Field = np.minimum(np.maximum(thickness - inner, np.float32(2 * each_mm)), thickness)
    return found

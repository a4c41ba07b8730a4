"""Fat, gland and what runs through them, seen along the beam."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipelines.phantom.breast.texture import (
    Field,
    Grain,
    band,
    cut,
    drawn,
    fields,
    power_law,
    walls,
    windings,
)

Generator = np.random.Generator

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
        draw = generator.uniform
        low, high = {"A": (0.05, 0.13), "B": (0.09, 0.26), "C": (0.2, 0.42), "D": (0.35, 0.65)}[density]
        base = draw(low, high)
        return Tissue(
            base=base,
            swing=draw(0.18, 0.5) * (1.15 - base),
            activity=draw(0.0, 0.3),
            beta=draw(2.7, 3.2),
            outer_mm=draw(40, 120),
            cloud=draw(0.6, 1.0),
            ridges=draw(0.2, 1.0),
            lobules=draw(0.2, 1.0),
            walls_mm=draw(0.4, 1.6),
            strands=float(np.exp(draw(np.log(2), np.log(20)))),
            strand_mm=float(np.exp(draw(np.log(0.25), np.log(1.1)))),
        )


def tissue_parts(
    generator: Generator, shape: tuple[int, int], pitch: float, grain: Grain, tissue: Tissue
) -> tuple[Field, Field]:
    """The part of the beam's way that is gland (0 to 1), and the walls of lobules (1 in the middle of a plain one)."""
    draw, o = generator.uniform, tissue

    def about(turn: float) -> Grain:
        return Grain(grain.angle + generator.normal(0, turn), 1 + (grain.stretch - 1) * draw(0.5, 1.2))

    spectra = [power_law(o.beta, o.outer_mm, 0.08), power_law(3.6, draw(20, 40), 0.5)]
    cloud, activity = fields(generator, shape, pitch, spectra, about(0.15))
    spectra = [power_law(draw(3.0, 3.8), draw(10, 25), 0.12) for _ in range(3)]
    ridges = np.zeros(shape, np.float32)
    for field in fields(generator, shape, pitch, spectra, about(0.4)):
        ridges -= np.sqrt(field * field + np.float32(0.002))
    spectra = [power_law(draw(4.0, 4.8), draw(15, 30), 0.2) for _ in range(3)]
    lobules = np.zeros(shape, np.float32)
    for field in fields(generator, shape, pitch, spectra, about(0.4)):
        lobules += cut(field, draw(-0.4, 0.8), draw(0.15, 0.7))
    mixed = cloud * np.float32(o.cloud)
    mixed += (ridges + np.float32(2.4)) * np.float32(o.ridges * 0.7)
    mixed += (lobules - np.float32(1.3)) * np.float32(o.lobules)
    mixed *= np.exp(activity * np.float32(o.activity) + cloud * np.float32(0.12))
    mixed *= np.float32(o.swing)
    np.exp(mixed, out=mixed)
    mixed *= np.float32(o.base)
    part = mixed / (1 + mixed**4) ** np.float32(0.25)  # however much there is, the way holds no more than gland
    pattern = [band(draw(5, 14), 0.7) for _ in range(3)] + [power_law(3, 12, 0.5) for _ in range(3)]
    made = fields(generator, shape, pitch, pattern, about(0.3))
    net = np.zeros(shape, np.float32)
    for smooth, amount in zip(made[:3], made[3:], strict=True):
        net += walls(smooth, draw(0.08, 0.3) / pitch) * np.clip(amount * np.float32(0.6), 0, 1.5)
    return part, net


def fibre_mm(  # noqa: PLR0917  where, how fine, how it runs, what and how much
    generator: Generator, shape: tuple[int, int], pitch: float, grain: Grain, tissue: Tissue, net: Field
) -> Field:
    """Thickness (mm) of walls, ligaments and small vessels."""
    found = net * np.float32(tissue.walls_mm)
    size = np.array(shape[::-1]) * pitch
    for sigma, share in STRANDS_MM:
        count = int(generator.poisson(tissue.strands * share * float(size.prod()) / 100))
        if not count:
            continue
        lengths = np.clip(np.exp(generator.normal(np.log(18), 0.7, count)), 2, 90)
        angles = grain.angle + generator.normal(0, 0.5, count) + np.pi * generator.integers(0, 2, count)
        starts = (generator.random((count, 2)) * 1.4 - 0.2) * size
        ways = windings(generator, starts, angles, lengths, pitch * 0.9, generator.uniform(0.12, 0.35), 5.0)
        most = tissue.strand_mm * np.exp(generator.normal(0, 0.6, count)) * np.sqrt(sigma / 0.2)
        lines = [
            (way / pitch, amount * np.sin(np.linspace(0, np.pi, len(way))))
            for way, amount in zip(ways, most, strict=True)
        ]
        found += drawn(lines, shape, sigma / pitch)
    return found

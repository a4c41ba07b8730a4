"""Fat, gland and what runs through them, seen along the beam."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipelines.phantom.breast.texture import (
    Field,
    Grain,
    Points,
    band,
    cut,
    drawn,
    fields,
    power_law,
    walls,
    winding,
)

Generator = np.random.Generator


@dataclass(frozen=True, slots=True)
class Tissue:
    """How tissue looks. `base` is the mean part of gland, `swing` how far it goes up and down (standard deviation).

    The weights are of: power-law cloud, ridges, overlapping lobules; `walls_mm` is how much fibre a wall holds,
    `strands` how many threads run through a square centimetre and `strand_mm` how much fibre they hold.
    """

    base: float
    swing: float
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
        low, high = {"A": (0.04, 0.16), "B": (0.10, 0.35), "C": (0.25, 0.55), "D": (0.45, 0.75)}[density]
        base = draw(low, high)
        return Tissue(
            base=base,
            swing=draw(0.25, 0.6) * min(base, 1.1 - base) + 0.02,
            beta=draw(2.7, 3.3),
            outer_mm=draw(15, 40),
            cloud=draw(0.4, 1.0),
            ridges=draw(0.3, 1.0),
            lobules=draw(0.2, 1.0),
            walls_mm=draw(0.2, 0.9),
            strands=draw(0.2, 2.0),
            strand_mm=draw(0.3, 1.2),
        )


def tissue_parts(
    generator: Generator, shape: tuple[int, int], pitch: float, grain: Grain, tissue: Tissue
) -> tuple[Field, Field]:
    """The part of the beam's way that is gland (0 to 1), and the walls of lobules (1 in the middle of a plain one)."""
    draw, o = generator.uniform, tissue
    spectra = [power_law(o.beta, o.outer_mm, 0.08)]
    spectra += [power_law(draw(3.4, 4.2), draw(8, 15), 0.2) for _ in range(3)]
    spectra += [power_law(4.5, draw(10, 20), 0.2) for _ in range(3)]
    cloud, *rest = fields(generator, shape, pitch, spectra, grain)
    ridges = sum((np.sqrt(f * f + np.float32(0.004)) for f in rest[:3]), np.zeros(shape, np.float32))
    lobules = sum((cut(f, draw(-0.4, 0.8), draw(0.2, 0.8)) for f in rest[3:]), np.zeros(shape, np.float32))
    mixed = cloud * np.float32(o.cloud * 0.5)
    mixed += (np.float32(2.4) - ridges) * np.float32(o.ridges * 0.5)
    mixed += (lobules - np.float32(1.3)) * np.float32(o.lobules * 0.8)
    mixed *= np.float32(o.swing * 1.4)
    mixed += np.float32(o.base)
    part = _softly_limited(mixed)
    pattern = [band(draw(5, 14), 0.7) for _ in range(3)] + [power_law(3, 12, 0.5) for _ in range(3)]
    made = fields(generator, shape, pitch, pattern, grain)
    net = np.zeros(shape, np.float32)
    for smooth, amount in zip(made[:3], made[3:], strict=True):
        net += walls(smooth, draw(0.1, 0.3) / pitch) * np.clip(amount * np.float32(0.6), 0, 1.5)
    return part, net


def _softly_limited(part: Field) -> Field:
    """Kept within 0 to 1 without a hard edge at 0: some fat is never wholly without fibre."""
    low = np.float32(0.05)
    found = np.where(part < low, low * np.exp(np.clip(part / low - 1, -20, 0)), part)
    return np.minimum(found, np.float32(1)).astype(np.float32)


def fibre_mm(  # noqa: PLR0917  where, how fine, how it runs, what and how much
    generator: Generator, shape: tuple[int, int], pitch: float, grain: Grain, tissue: Tissue, net: Field
) -> Field:
    """Thickness (mm) of walls, ligaments and small vessels."""
    found = net * np.float32(tissue.walls_mm)
    size = np.array(shape[::-1]) * pitch
    count = generator.poisson(tissue.strands * float(size.prod()) / 100)
    kinds: dict[float, list[tuple[Points, Points]]] = {0.1: [], 0.22: [], 0.5: []}
    for _ in range(count):
        sigma = float(generator.choice((0.1, 0.22, 0.5), p=(0.5, 0.38, 0.12)))
        length = float(np.exp(generator.normal(np.log(14), 0.7)))
        angle = grain.angle + generator.normal(0, 0.55) + np.pi * generator.integers(0, 2)
        line = winding(generator, generator.random(2) * size, angle, length, pitch * 0.8, generator.uniform(0.04, 0.2))
        fade = np.sin(np.linspace(0, np.pi, len(line))) ** 0.7
        amount = fade * tissue.strand_mm * np.exp(generator.normal(0, 0.5)) * np.sqrt(sigma / 0.2)
        kinds[sigma].append((line / pitch, amount))
    for sigma, lines in kinds.items():
        if lines:
            found += drawn(lines, shape, max(sigma / pitch, 0.5))
    return found

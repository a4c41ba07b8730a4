"""What is true of a made mammogram: every calcification, every group, everything that only looks like one.

Places are (column, row) in pixels, origin at the first pixel's outer corner. Lengths are mm in the breast.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Shape = Literal[
    "round",
    "punctate",
    "amorphous",
    "coarse_heterogeneous",
    "fine_pleomorphic",
    "fine_linear",
    "vascular",
    "skin",
    "rim",
    "popcorn",
    "milk_of_calcium",
    "rod",
    "dystrophic",
]
"""Of one calcification (BI-RADS 5th edition)."""

Morphology = Shape
"""What names a group: the shape of its calcifications."""
Distribution = Literal["grouped", "linear", "segmental", "regional", "diffuse"]
DISTRIBUTIONS: tuple[Distribution, ...] = ("grouped", "linear", "segmental", "regional", "diffuse")
MimicKind = Literal[
    "noise_clump",
    "crossing",
    "dust",
    "scratch",
    "fingerprint",
    "dead_pixel",
    "grid_lines",
    "letter",
    "skin_marker",
    "clip",
    "wire",
    "deodorant",
    "cyst",
    "mass",
    "lymph_node",
]

SUSPICIOUS: frozenset[Morphology] = frozenset({"amorphous", "coarse_heterogeneous", "fine_pleomorphic", "fine_linear"})
"""Morphologies that call for more than routine (BI-RADS 5th edition, 2013). Groups of others are benign."""


@dataclass(frozen=True, slots=True)
class MadeGrain:
    """One calcification on one image.

    `diameter_mm` is that of the disc of its area, `length_mm` its longest side. `contrast` is by how much the logarithm
    of the exposure falls where it is deepest, after the detector's blur and with scatter, before noise. `snr` is that
    of an ideal observer who knows its shape against quantum and electronic noise alone (above 5 a grain can be seen on
    an even ground). `group` is an index into the groups, or None for one that lies alone; `number` names the same
    calcification on every view.
    """

    center_px: tuple[float, float]
    center_mm: tuple[float, float]
    diameter_mm: float
    length_mm: float
    contrast: float
    snr: float
    shape: Shape
    group: int | None
    number: int = 0


@dataclass(frozen=True, slots=True)
class MadeGroup:
    """A group of calcifications on one image: `count` is of grains that lie on it, `outline_px` a closed polygon."""

    outline_px: tuple[tuple[float, float], ...]
    center_px: tuple[float, float]
    count: int
    long_axis_mm: float
    morphology: Morphology
    distribution: Distribution
    is_suspicious: bool
    number: int = 0


@dataclass(frozen=True, slots=True)
class Mimic:
    """What looks like a calcification and is none: where it is and how far it reaches."""

    kind: MimicKind
    center_px: tuple[float, float]
    radius_px: float

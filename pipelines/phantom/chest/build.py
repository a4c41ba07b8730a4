"""What makes one chest differ from another, and the places in it that look like nodules and are none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

HardKind = Literal[
    "vessel_crossing",
    "bifurcation",
    "vessel_end_on",
    "pleural_tag",
    "pleural_plaque",
    "fissure",
    "rib_end",
    "mucus",
    "scar",
    "atelectasis",
    "airway",
    "osteophyte",
    "haze",
]


@dataclass(frozen=True, slots=True)
class ChestOptions:
    """What makes one chest differ from another. Lengths in mm.

    `height`, `half_width` and `half_depth` are of the lungs' space; `contrast_hu` is what the vessels hold (40: none);
    `lung_hu` the parenchyma's mean; `terminals` the vessels' ends per mL of lung; `terminal_radius` theirs;
    `emphysema` and `dependent` go from 0 to 1; counts are of findings; `effusion_mm` is the depth of fluid,
    `cardiac_blur` the sigma of the heart's motion.
    """

    height: float = 260.0
    half_width: float = 132.0
    half_depth: float = 98.0
    fat: float = 16.0
    muscle: float = 14.0
    contrast_hu: float = 40.0
    lung_hu: float = -860.0
    terminals: float = 2.0
    terminal_radius: float = 0.4
    emphysema: float = 0.0
    dependent: float = 0.5
    is_prone: bool = False
    scars: int = 1
    plates: int = 1
    tags: int = 3
    plaques: int = 0
    mucus: int = 1
    hazes: int = 0
    bronchiectasis: float = 0.0
    effusion_mm: float = 0.0
    cardiac_blur: float = 0.0
    age: float = 0.5

    @staticmethod
    def random(generator: np.random.Generator) -> ChestOptions:
        """Options as they come in patients of a chest clinic."""
        draw = generator.uniform
        size = draw(0.9, 1.08)
        return ChestOptions(
            height=float(np.clip(260 * size * draw(0.93, 1.07), 232, 298)),
            half_width=132 * size * draw(0.95, 1.04),
            half_depth=min(96 * size * draw(0.92, 1.1), 112),
            fat=6 + 24 * draw() ** 1.5,
            muscle=draw(9, 20),
            contrast_hu=40.0 if generator.random() < 0.5 else draw(120, 350),
            lung_hu=draw(-880, -790),
            terminals=draw(1.4, 2.6),
            terminal_radius=draw(0.34, 0.46),
            emphysema=draw() if generator.random() < 0.25 else 0.0,
            dependent=draw(),
            is_prone=bool(generator.random() < 0.06),
            scars=int(generator.poisson(1.0)),
            plates=int(generator.poisson(0.7)),
            tags=int(generator.poisson(4)),
            plaques=int(generator.poisson(4)) if generator.random() < 0.12 else 0,
            mucus=int(generator.poisson(1.0)),
            hazes=int(generator.poisson(0.5)),
            bronchiectasis=draw() if generator.random() < 0.15 else 0.0,
            effusion_mm=draw(8, 35) if generator.random() < 0.06 else 0.0,
            cardiac_blur=draw(0.8, 2.5) if generator.random() < 0.5 else 0.0,
            age=draw(),
        )


@dataclass(frozen=True, slots=True)
class HardNegative:
    """A place known to look like a nodule: what it is, its index (z, y, x) and about how far it reaches."""

    kind: HardKind
    center: tuple[int, int, int]
    radius_mm: float

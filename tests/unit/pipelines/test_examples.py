"""What is learnt from looks like what is read: a made stack and the prepared pictures of the same head are one."""

from __future__ import annotations

import numpy as np

from pipelines.geometry import Plane
from pipelines.hemorrhage import prepare
from pipelines.phantom.head import ct
from pipelines.phantom.head import labels as tissue
from pipelines.volume import Volume

SIDE = 180
MIDDLE = (SIDE - 1) / 2
POSITIONS = np.arange(-60.0, 75.0, 5.0)
QUIET = ct.Scanner(point_spread_mm=0.5, noise_hu=0.0, streak_hu=0.0, points=8)


def egg() -> np.ndarray:
    z, y, x = np.ogrid[:SIDE, :SIDE, :SIDE]
    labels = np.zeros((SIDE, SIDE, SIDE), np.uint8)
    sizes = ((85, tissue.HARD_BONE), (79, tissue.FLUID), (76, tissue.CORTEX[0]), (60, tissue.WHITE_MATTER[0]))
    for radius, number in sizes:
        within = ((z - MIDDLE) / 0.9) ** 2 + (y - MIDDLE) ** 2 + ((x - MIDDLE) / 0.85) ** 2 < radius**2
        labels[within] = number
    labels[80:100, 60:80, 105:125] = tissue.BLOOD
    return labels


def scanned(shape: tuple[int, int], pixel_mm: float) -> tuple[ct.Scan, list[Plane]]:
    corner = [-(side - 1) / 2 * pixel_mm for side in shape]
    planes = [
        Plane((corner[1], corner[0], z), (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), pixel_mm, pixel_mm, 5.0) for z in POSITIONS
    ]
    scan = ct.scan(
        egg(),
        lambda points: points[..., ::-1] + MIDDLE,
        planes,
        shape,
        ct.typical_appearance(),
        QUIET,
        np.random.default_rng(2),
    )
    return scan, planes


def test_made_and_prepared_stacks_are_the_same() -> None:
    made = prepare.level(np.clip(scanned((prepare.ROWS, prepare.COLUMNS), prepare.WORKING_MM)[0].hu, *prepare.CLIP_HU))
    fine, planes = scanned((448, 384), 0.5)
    volume = Volume(fine.hu, tuple(planes), tuple(str(k) for k in range(len(planes))), (1,) * len(planes))
    prepared = prepare.prepare(volume)
    assert made is not None
    apart = np.abs(made - prepared.stack)
    brain = (made > 5) & (made < 60)
    assert float(np.median(apart[brain])) < 2.5
    assert float(apart.mean()) < 2.0
    assert np.corrcoef(made.ravel(), prepared.stack.ravel())[0, 1] > 0.95  # the frame is found to a millimetre or so

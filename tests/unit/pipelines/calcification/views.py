"""Made views: even tissue with grains painted on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from pipelines.geometry import Floats
from pipelines.mammogram import Border, Laterality, Mammogram, Projection, Spacing


@dataclass(frozen=True)
class Spot:
    """A painted grain: centre (column, row) px, diameter of a disc of its area in mm, long to short axis, direction."""

    column: float
    row: float
    size_mm: float = 0.4
    elongation: float = 1.0
    angle: float = 0.0
    contrast: float = 0.2
    hollow: float = 0.0
    """Inner radius of a ring, as a part of the outer one."""


def view_of(
    spots: Sequence[Spot] = (),
    *,
    shape: tuple[int, int] = (600, 400),
    spacing_mm: float = 0.07,
    noise: float = 0.005,
    slope: tuple[float, float] = (0.0, 0.0),
    laterality: Laterality = "R",
    projection: Projection = "CC",
    uid: str = "1.2.3",
    seed: int = 0,
) -> Mammogram:
    """A view of tissue of grey 0.4, which may slope (grey per pixel along columns and rows), with spots on it."""
    rows, columns = np.indices(shape, dtype=np.float64)
    pixels = 0.4 + slope[0] * columns + slope[1] * rows + np.random.default_rng(seed).normal(0, noise, shape)
    for spot in spots:
        pixels += spot.contrast * painted(spot, rows, columns, spacing_mm)
    chest_wall: Border = "right" if laterality == "R" else "left"
    return Mammogram(
        instance_uid=uid,
        laterality=laterality,
        projection=projection,
        modifiers=frozenset(),
        pixels=pixels.astype(np.float32),
        outside=np.zeros(shape, np.bool_),
        scale="presented",
        spacing=Spacing(spacing_mm, spacing_mm, "told"),
        chest_wall=chest_wall,
        has_implant=False,
        header=Dataset(),
    )


def painted(spot: Spot, rows: Floats, columns: Floats, spacing_mm: float) -> NDArray[np.float64]:
    """1 within the spot's ellipse, 0 outside, with an edge that passes half at the outline."""
    x, y = (columns + 0.5 - spot.column) * spacing_mm, (rows + 0.5 - spot.row) * spacing_mm
    along = x * np.cos(spot.angle) + y * np.sin(spot.angle)
    across = y * np.cos(spot.angle) - x * np.sin(spot.angle)
    stretch = np.sqrt(spot.elongation)
    radius = np.hypot(along / stretch, across * stretch) / (spot.size_mm / 2)
    disc = 1 / (1 + np.exp(np.clip((radius - 1) * 12, -50, 50)))
    return disc - (1 / (1 + np.exp(np.clip((radius - spot.hollow) * 12, -50, 50))) if spot.hollow else 0.0)

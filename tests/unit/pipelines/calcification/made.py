"""Made grains, breasts and groups, without pixels."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from pipelines.calcification.breast import Breast
from pipelines.calcification.grains import Grains
from pipelines.calcification.group import FEATURES, Group, GroupModel, Setting
from pipelines.calcification.layout import layout_of
from pipelines.calcification.place import frame_of
from pipelines.mammogram import Laterality, Mammogram, Projection
from tests.unit.pipelines.calcification.views import view_of

SPACING_MM = 0.1
SHAPE = (1200, 900)
NIPPLE_R, NIPPLE_L = (100.0, 600.0), (800.0, 600.0)


def grains_at(places_px: ArrayLike, **measured: ArrayLike) -> Grains:
    """Grains of 0.4 mm, round and clear, at places (column, row); `measured` says what is otherwise."""
    center = np.asarray(places_px, np.float64).reshape(-1, 2)
    usual = {
        "score": 0.9,
        "size_mm": 0.4,
        "elongation": 1.1,
        "angle": 0.0,
        "contrast": 0.2,
        "prominence": 12.0,
        "brightness": 0.7,
        "compactness": 0.95,
        "lucency": 0.0,
    }
    arrays = {
        name: np.broadcast_to(np.asarray(measured.get(name, value), np.float64), len(center)).copy()
        for name, value in usual.items()
    }
    corner = np.floor(center).astype(np.intp) - 1
    return Grains(center_px=center, **arrays, corner_px=corner, patch=(np.ones((3, 3), np.bool_),) * len(center))


def mammogram(laterality: Laterality = "R", projection: Projection = "CC") -> Mammogram:
    """An even view of 120 x 90 mm."""
    return view_of(
        shape=SHAPE,
        spacing_mm=SPACING_MM,
        noise=0,
        laterality=laterality,
        projection=projection,
        uid=f"1.2.{'RL'.index(laterality)}.{len(projection)}",
    )


def breast_of(view: Mammogram, *, muscle: bool = False, nipple: bool = True) -> Breast:
    """A half disc on the chest wall, its nipple 80 mm from it; with `muscle` a triangle of 40 mm by 80 mm above."""
    rows, columns = np.indices(view.pixels.shape)
    from_wall = view.pixels.shape[1] - columns if view.chest_wall == "right" else columns
    inside = np.hypot(from_wall / 800, (rows - 600) / 580) < 1
    pectoral = inside & (from_wall < 400 - rows / 2) if muscle else np.zeros_like(inside)
    depth = np.maximum(0, (1 - np.hypot(from_wall / 800, (rows - 600) / 580)) * 60).astype(np.float32)
    at = NIPPLE_R if view.laterality == "R" else NIPPLE_L
    nothing = np.zeros_like(inside)
    return Breast(
        inside & ~pectoral, pectoral, nothing, at if nipple else None, 1.0 if nipple else 0.0, view.chest_wall, 1, depth
    )


def group_of(view: Mammogram, breast: Breast, grains: Grains, certainty: float = 0.7) -> Group:
    """These grains as a group."""
    layout = layout_of(grains.center_px * SPACING_MM)
    setting = Setting(grains, layout, frame_of(view, breast), breast, breast.depth_mm(grains.center_px), 0.0)
    return Group(grains, layout, {name: measured(setting) for name, measured in FEATURES.items()}, certainty)


def cluster(center_px: tuple[float, float], *, number: int = 8, reach_mm: float = 4.0, seed: int = 0) -> np.ndarray:
    """Places in a disc."""
    generator = np.random.default_rng(seed)
    turn, away = generator.uniform(0, 2 * np.pi, number), np.sqrt(generator.random(number)) * reach_mm / SPACING_MM
    return np.stack([center_px[0] + away * np.cos(turn), center_px[1] + away * np.sin(turn)], axis=1)


def plain_model(**weight: float) -> GroupModel:
    """Features as they are, with these weights and no others."""
    zero = dict.fromkeys(FEATURES, 0.0)
    return GroupModel(0.0, zero | weight, zero, dict.fromkeys(FEATURES, 1.0))

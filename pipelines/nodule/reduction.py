"""What the second network learns: places that the first proposes in made scans, each a nodule or not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor, nn
from torch.nn import functional

from models.training.elsewhere import made_elsewhere
from models.training.loop import Batch
from pipelines.geometry import Floats
from pipelines.nodule import examples
from pipelines.nodule.detect import Detector, Proposals
from pipelines.nodule.examples import Library, Recipe, Scene
from pipelines.nodule.learning import Feed
from pipelines.nodule.views import normalized, two_views
from pipelines.phantom.chest.nodules import PaintedNodule

SCENES = Recipe(side=128, masses=0.03, empty=0.1, most=8)
FALSE_A_SCENE = 14
A_BATCH = 16
LEAST_HIT_MM = 2.0
_BESIDE_LUNG = 4
_NUMBERS_FROM = 1_000_000
"""Scenes of this room have other numbers than those that the first network learns from."""


@dataclass(frozen=True, slots=True, eq=False)
class Samples:
    """`views` uint8 `[n, 2, 32, 32, 32]` (0 to 255 for what the network sees), `is_nodule` bool `[n]`."""

    views: NDArray[np.uint8]
    is_nodule: NDArray[np.bool_]

    def save(self, path: Path) -> None:
        np.savez(path, views=self.views, is_nodule=self.is_nodule)

    @staticmethod
    def load(path: Path) -> Samples:
        with np.load(path) as held:
            return Samples(held["views"], held["is_nodule"])

    @staticmethod
    def joined(parts: Sequence[Samples]) -> Samples:
        return Samples(
            np.concatenate([part.views for part in parts]), np.concatenate([part.is_nodule for part in parts])
        )


def mine(detector: Detector, feed: Feed, count: int) -> Samples:
    """What the detector's first network proposes in `count` made scenes, and the nodules that it did not propose."""
    numbers = range(_NUMBERS_FROM, _NUMBERS_FROM + count)
    views: list[NDArray[np.uint8]] = []
    is_nodule: list[bool] = []
    maker = _Maker(feed)
    for number, scene in zip(numbers, made_elsewhere(feed.open, maker.scene, numbers), strict=True):
        generator = np.random.default_rng((feed.seed, 2, number))
        for place, nodule in _places(scene, detector.propose(scene.image), generator):
            shown = normalized(two_views(scene.image, place))
            views.append(np.rint((shown + 1) * 127.5).astype(np.uint8))
            is_nodule.append(nodule)
    return Samples(np.stack(views), np.array(is_nodule))


@dataclass(frozen=True, slots=True)
class _Maker:
    feed: Feed

    def scene(self, library: Library, number: int) -> Scene:
        recipe = Recipe(SCENES.side, self.feed.real, SCENES.masses, SCENES.empty, SCENES.most)
        return examples.make_scene(library, recipe, np.random.default_rng((self.feed.seed, 0, number)))


def _places(scene: Scene, proposals: Proposals, generator: np.random.Generator) -> Iterator[tuple[Floats, bool]]:
    """Proposals that hit a nodule, the likeliest of those that do not, and missed nodules from a little beside."""
    near = ndimage.binary_dilation(scene.lungs, iterations=_BESIDE_LUNG)
    missed = list(scene.nodules)
    false = 0
    for place in proposals.index:
        hit = hit_by(place, scene.nodules)
        if hit is not None:
            missed = [nodule for nodule in missed if nodule is not hit]
            yield place, True
        elif false < FALSE_A_SCENE and near[tuple(np.clip(np.rint(place).astype(int), 0, scene.image.shape[0] - 1))]:
            false += 1
            yield place, False
    for nodule in missed:
        yield np.asarray(nodule.center) + generator.normal(0, 0.7, 3), True


def hit_by(place: Floats, nodules: Sequence[PaintedNodule]) -> PaintedNodule | None:
    """The nodule that a place lies in, on the same grid."""
    for nodule in nodules:
        if np.linalg.norm(place - np.asarray(nodule.center)) < max(LEAST_HIT_MM, nodule.diameter_mm / 2):
            return nodule
    return None


def batches(samples: Samples, seed: int, steps: range) -> Iterator[Batch]:
    """Half nodules, half others, turned, mirrored, a little brighter or darker."""
    nodules, others = np.flatnonzero(samples.is_nodule), np.flatnonzero(~samples.is_nodule)
    for step in steps:
        generator = np.random.default_rng((seed, 3, step))
        chosen = np.concatenate([generator.choice(nodules, A_BATCH // 2), generator.choice(others, A_BATCH // 2)])
        shown = np.stack([_turned(samples.views[k], generator) for k in chosen])
        views = torch.from_numpy(shown).contiguous(memory_format=torch.channels_last_3d)
        yield views, torch.from_numpy(samples.is_nodule[chosen].astype(np.float32))


def _turned(views: NDArray[np.uint8], generator: np.random.Generator) -> NDArray[np.float32]:
    order = (0, 1, 2, 3) if generator.random() < 0.5 else (0, 1, 3, 2)
    flips = tuple(axis for axis in (1, 2, 3) if generator.random() < 0.5)
    turned = np.flip(views.transpose(order), flips).astype(np.float32) / np.float32(127.5) - 1
    return np.asarray(turned * generator.uniform(0.97, 1.03) + generator.uniform(-0.03, 0.03), np.float32)


def loss(network: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, float]]:
    """Cross entropy."""
    views, is_nodule = batch
    odds = network(views).float()
    value = functional.binary_cross_entropy_with_logits(odds, is_nodule)
    right = ((odds > 0) == (is_nodule > 0.5)).float().mean()
    return value, {"right": round(float(right), 3)}

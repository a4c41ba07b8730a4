"""What the training of the candidate network feeds and lowers: batches of made scenes, and the loss over them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from models.training.centers import focal_of_centers
from models.training.elsewhere import made_elsewhere
from models.training.loop import Batch
from pipelines.geometry import Floats
from pipelines.nodule import examples
from pipelines.nodule.examples import Library, Recipe, Scene
from pipelines.nodule.views import normalized

Array = NDArray[np.generic]

STRIDE = 2
SMALL = Recipe(side=64)
LARGE = Recipe(side=80, masses=0.35)
SMALL_A_BATCH, LARGE_A_BATCH = 4, 2
SCENES_A_STEP = 2
LARGE_EVERY = 8
"""Every so many scenes one is large, and every fourth batch is of large ones."""
CORE = 0.12
HELD = {SMALL.side: 128, LARGE.side: 24}


@dataclass(frozen=True, slots=True)
class Feed:
    """Where scenes come from: folder of backgrounds, folder of patches, the seed, and the share of nodules that are
    real ones, of which those of the patients in the fold `held_back` are not used.
    """

    backgrounds: Path
    patches: Path
    seed: int
    real: float
    held_back: int | None
    folds: int

    def open(self) -> Library:
        return examples.open_library(self.backgrounds, self.patches, self.held_back, self.folds, real=self.real)

    def scene(self, library: Library, number: int) -> Scene:
        """The scene of a number."""
        recipe = LARGE if number % LARGE_EVERY == LARGE_EVERY - 2 else SMALL
        return examples.make_scene(
            library, replace(recipe, real=self.real), np.random.default_rng((self.seed, 0, number))
        )


def batches(feed: Feed, steps: range) -> Iterator[Batch]:
    """A batch for each of `steps`; which scenes a step sees follows from seed and step alone.

    A window of scenes slides on by two each step; a process of its own makes them.
    """
    held: dict[int, deque[Scene]] = {side: deque(maxlen=count) for side, count in HELD.items()}
    fewest = LARGE_EVERY * 4
    first = max(0, (steps.start - max(HELD.values())) * SCENES_A_STEP)
    last = steps.stop * SCENES_A_STEP + fewest
    made = made_elsewhere(feed.open, feed.scene, range(first, last))
    count = first
    for step in steps:
        while count < step * SCENES_A_STEP + fewest:
            scene = next(made)
            held[scene.image.shape[0]].append(scene)
            count += 1
        generator = np.random.default_rng((feed.seed, 1, step))
        large = step % 4 == 3
        window = held[LARGE.side if large else SMALL.side]
        chosen = generator.choice(len(window), LARGE_A_BATCH if large else SMALL_A_BATCH, replace=False)
        yield _batch([window[k] for k in chosen], generator)


def _batch(scenes: Sequence[Scene], generator: np.random.Generator) -> Batch:
    """Scenes turned, mirrored, a little brighter or darker: image, heat, offset and log size, and their weight."""
    parts = [_turned(scene, generator) for scene in scenes]
    image, *wanted = (torch.from_numpy(np.stack(part)) for part in zip(*parts, strict=True))
    return image.contiguous(memory_format=torch.channels_last_3d), *wanted


def _turned(scene: Scene, generator: np.random.Generator) -> tuple[Array, ...]:
    side = scene.image.shape[0]
    order = (0, 1, 2) if generator.random() < 0.5 else (0, 2, 1)
    flips = [axis for axis in range(3) if generator.random() < 0.5]
    image = np.flip(scene.image.transpose(order), tuple(flips))
    lungs = np.flip(scene.lungs.transpose(order), tuple(flips))
    places = []
    for nodule in scene.nodules:
        center = [nodule.center[axis] for axis in order]
        place = [side - 1 - value if axis in flips else value for axis, value in enumerate(center)]
        places.append((np.array(place), nodule.diameter_mm))
    shown = normalized(image * generator.uniform(0.97, 1.03) + generator.uniform(-20, 20))
    return np.ascontiguousarray(shown[None]), *targets(places, side), _counted(lungs)


def targets(places: Sequence[tuple[Floats, float]], side: int) -> tuple[Array, Array, Array, Array]:
    """What the network should say of nodules (centre as index, diameter): heat `[n, n, n]`, the `share` `[n, n, n]` of
    a nodule that each of its central voxels stands for (they sum to 1), offset and log size `[4, n, n, n]`, and the
    weight `[n, n, n]` of the latter.

    The broader a nodule, the less sure is where its middle lies: up to `CORE` of its diameter from there is right too.
    """
    count = side // STRIDE
    heat = np.zeros((count,) * 3, np.float32)
    share = np.zeros_like(heat)
    size = np.zeros((4, count, count, count), np.float32)
    weight = np.zeros_like(heat)
    axes = np.ogrid[:count, :count, :count]
    for center, diameter in places:
        middle = (center - (STRIDE - 1) / 2) / STRIDE
        sigma = max(0.7, diameter / STRIDE / 6)
        squared = sum((axis - value) ** 2 for axis, value in zip(axes, middle, strict=True))
        hill = np.exp(-squared / (2 * sigma**2)).astype(np.float32)
        core = squared <= (CORE * diameter / STRIDE) ** 2
        core[tuple(np.clip(np.rint(middle), 0, count - 1).astype(int))] = True
        hill[core] = 1.0
        share[core] = 1 / core.sum()
        near = (hill > heat) & (core | (squared <= 3))
        for axis in range(3):
            size[axis][near] = np.broadcast_to((middle[axis] - axes[axis]) * STRIDE, near.shape)[near]
        size[3][near] = np.log(diameter)
        weight[near] = hill[near]
        heat = np.maximum(heat, hill)
    return heat, share, size, weight


def _counted(lungs: Array) -> Array:
    """How much heat counts, by output voxel: fully in and about the lungs, little where nothing is looked for."""
    coarse = functional.max_pool3d(torch.from_numpy(np.ascontiguousarray(lungs, np.float32))[None, None], STRIDE)
    near = functional.max_pool3d(coarse, 5, 1, 2)[0, 0].numpy()
    return np.asarray(0.15 + 0.85 * near, np.float32)


def loss(network: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, float]]:
    """Focal loss of the centres, and L1 of offset and log size."""
    image, heat, share, size, weight, counted = batch
    made = network(image).float()
    focal = focal_of_centers(made[:, 0], heat, share, counted)
    apart = (made[:, 1:] - size).abs() * weight[:, None]
    offset = apart[:, :3].sum() / weight.sum().clamp(min=1)
    extent = apart[:, 3].sum() / weight.sum().clamp(min=1)
    total = focal + 0.3 * offset + 0.3 * extent
    parts = {"focal": focal, "offset": offset, "extent": extent}
    return total, {name: round(float(value.detach()), 4) for name, value in parts.items()}

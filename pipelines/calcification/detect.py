"""The network at work: a view becomes the places of its single calcifications, each with the chance that it is one.

The network sees the breast in tiles at full resolution. It says of every pixel whether a calcification has its middle
there, and whether the place lies within a group; both together, weighted as was learnt on made pictures, give the
chance.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from pipelines.calcification.look import BLOCK, padded_side, resized, shown, working_size
from pipelines.geometry import Floats
from pipelines.mammogram import Mammogram
from pipelines.networks import UNET, build_unet, placed, weights_of

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

OUTPUTS = 2
"""Maps of the network: middles of calcifications, and groups."""
CORE, OVERLAP = 704, 48
"""Pixels of a tile's side that are kept, and by how much at least it reaches beyond them."""
SAME = 2.5
"""Places nearer to each other than this, in pixels, are one: rounded numbers make several summits of a flat one."""
LEAST_ODDS = -3.0
"""Log odds from which a peak is a place."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """chance = 1 / (1 + exp(-(grain * odds of a centre + group * odds of a group there + offset)))."""

    grain: float
    group: float
    offset: float

    def chance(self, grain: Floats, group: Floats) -> Floats:
        evidence = self.grain * grain + self.group * group + self.offset
        return np.asarray(1 / (1 + np.exp(-np.clip(evidence, -30, 30))))


PLAIN = Calibration(1.0, 0.0, 0.0)


@dataclass(frozen=True, slots=True, eq=False)
class Places:
    """n places of a view: `center_px` `[n, 2]` (column, row), origin at the first pixel's outer corner; the network's
    log odds of a centre and of a group there, `[n]`.
    """

    center_px: Floats
    grain: Floats
    group: Floats


@dataclass(frozen=True, slots=True, eq=False)
class Detector:
    """The network in memory, on its device."""

    network: nn.Module
    calibration: Calibration
    bf16: bool
    device: torch.device

    def find(self, view: Mammogram, wanted: NDArray[np.bool_]) -> tuple[Floats, Floats]:
        """Centres `[n, 2]` (column, row, px) and chances `[n]`; tiles without a `wanted` pixel are passed over."""
        places = self.places(view.pixels, view.spacing.object_mm, wanted)
        return places.center_px, self.calibration.chance(places.grain, places.group)

    def places(self, pixels: NDArray[np.float32], spacing_mm: float, wanted: NDArray[np.bool_]) -> Places:
        """Where the network sees calcifications."""
        import torch  # noqa: PLC0415  heavy: only where a network runs

        rows, columns = working_size(pixels.shape[0], pixels.shape[1], spacing_mm)
        picture = resized(torch.from_numpy(np.ascontiguousarray(pixels))[None, None], (rows, columns))
        step = np.array([pixels.shape[1] / columns, pixels.shape[0] / rows])
        found = [
            self._tile(picture, tile)
            for tile in tiles((rows, columns))
            if wanted[tile.part_of(wanted.shape, (rows, columns))].any()
        ]
        center, grain, group = (np.concatenate(part) for part in zip(*found, strict=True)) if found else _NOTHING
        kept = apart(center, grain)
        return Places((center[kept] + 0.5) * step, grain[kept], group[kept])

    def _tile(self, picture: Tensor, tile: Tile) -> tuple[Floats, Floats, Floats]:
        """Peaks in the kept part of one tile: (column, row) of working pixels, and both log odds."""
        import torch  # noqa: PLC0415  heavy: only where a network runs
        from torch.nn import functional  # noqa: PLC0415  heavy: only where a network runs

        (top, bottom), (left, right) = tile.seen
        piece = picture[:, :, top:bottom, left:right]
        lacking = [padded_side(side) - side for side in piece.shape[-2:]]
        piece = functional.pad(piece, (0, lacking[1], 0, lacking[0]), mode="replicate")
        with torch.inference_mode(), torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            given = shown(piece.to(self.device)).contiguous(memory_format=torch.channels_last)
            grain, group = self.network(given).float()[0]
            summit = (grain > LEAST_ODDS) & (grain == functional.max_pool2d(grain[None], 3, 1, 1)[0])
            at = torch.nonzero(summit)
            odds = torch.stack([grain[summit], group[summit]]).cpu().numpy().astype(np.float64)
        place = at.cpu().numpy() + np.array([top, left])
        (first, last), (start, stop) = tile.kept
        inside = (place[:, 0] >= first) & (place[:, 0] < last) & (place[:, 1] >= start) & (place[:, 1] < stop)
        return place[inside, ::-1].astype(np.float64), odds[0][inside], odds[1][inside]


def apart(places: Floats, odds: Floats) -> NDArray[np.intp]:
    """Which of places `[n, 2]` stay when each takes those within `SAME` of it that are no likelier; likeliest first."""
    order = np.argsort(-odds, kind="stable")
    if not len(order):
        return order
    near = cKDTree(places[order]).query_ball_point(places[order], SAME)
    is_kept = np.ones(len(order), np.bool_)
    for rank, others in enumerate(near):
        if is_kept[rank]:
            is_kept[[other for other in others if other > rank]] = False
    return order[is_kept]


_NOTHING = (np.zeros((0, 2)), np.zeros(0), np.zeros(0))


@dataclass(frozen=True, slots=True)
class Tile:
    """A tile of a picture: what is `kept` and what is `seen`, each as (first, last) of rows and of columns."""

    kept: tuple[tuple[int, int], tuple[int, int]]
    seen: tuple[tuple[int, int], tuple[int, int]]

    def part_of(self, shape: tuple[int, ...], size: tuple[int, int]) -> tuple[slice, slice]:
        """The kept part on an array of `shape` that covers the same picture, which has `size` working pixels."""
        rows, columns = (
            slice(first * count // whole, -(-last * count // whole))
            for (first, last), count, whole in zip(self.kept, shape, size, strict=True)
        )
        return rows, columns


def tiles(size: tuple[int, int]) -> Iterator[Tile]:
    """Tiles that cover a picture of so many rows and columns, each pixel kept once; what is usual about a place is
    taken in the same blocks in all of them.
    """
    bounds = []
    for side in size:
        count = -(-side // CORE)
        cuts = [round(side * k / count) for k in range(count + 1)]
        bounds.append(list(pairwise(cuts)))
    for rows in bounds[0]:
        for columns in bounds[1]:
            seen = [
                (max(0, (first - OVERLAP) // BLOCK * BLOCK), min(side, last + OVERLAP))
                for (first, last), side in zip((rows, columns), size, strict=True)
            ]
            yield Tile((rows, columns), (seen[0], seen[1]))


def ready(network: nn.Module, calibration: Calibration, device: torch.device) -> Detector:
    """A detector of a network in memory: bf16 where the processor multiplies it, else fp32; channels last."""
    from models.runtime import multiplies_bf16  # noqa: PLC0415  heavy: only where a network runs

    return Detector(placed(network, device), calibration, multiplies_bf16(device), device)


def load_detector(weights_path: Path, manifest: Mapping[str, Any], device: torch.device) -> Detector:
    """The detector of a verified weights file and its manifest. Refuses (`model.unverified`) another architecture."""
    held = weights_of(weights_path, manifest, UNET)
    network = build_unet(manifest["architecture"]["arguments"])
    network.load_state_dict(held)
    numbers = manifest["calibration"]
    return ready(network, Calibration(numbers["grain"], numbers["group"], numbers["offset"]), device)

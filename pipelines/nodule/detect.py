"""The networks at work: a prepared volume becomes places, each with what speaks for a nodule there.

The first network looks at the whole box in a few large windows and proposes; the second looks at each proposal again,
near by and from farther off. The sum of what both say, weighted as was learnt on made scans, is the certainty.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipelines.geometry import Floats
from pipelines.networks import placed, weights_of
from pipelines.nodule.views import cut, normalized, two_views

if TYPE_CHECKING:
    import torch
    from torch import nn

    from pipelines.nodule.prepare import Prepared

ARCHITECTURE = "nodule3d"
NETWORKS = ("candidates", "reduction")
STRIDE = 2
LONGEST_CORE = 224
"""Voxels of a window's side that are kept; longer boxes are split evenly."""
OVERLAP = 16
MULTIPLE = 16
LEAST_ODDS = -3.5
"""Log odds from which a peak is a proposal."""
MOST_PROPOSALS = 64
MIRRORS: tuple[tuple[int, ...], ...] = ((), (4,), (3,), (2,))
"""Mirror images over which the second network's odds are averaged."""
BESIDE_LUNG_MM = 4.0
"""So far outside the lung a centre may lie: masks of lungs end at what they hold, nodules at the pleura do too."""


@dataclass(frozen=True, slots=True, eq=False)
class Proposals:
    """Places that the first network proposes, the likeliest first: `index` `[n, 3]` on the box's 1 mm grid,
    `diameter_mm` and log `odds` `[n]`.
    """

    index: Floats
    diameter_mm: Floats
    odds: Floats

    def __len__(self) -> int:
        return len(self.odds)

    def kept(self, chosen: NDArray[np.bool_] | NDArray[np.intp]) -> Proposals:
        """Those chosen, in their order."""
        return Proposals(self.index[chosen], self.diameter_mm[chosen], self.odds[chosen])


@dataclass(frozen=True, slots=True)
class Calibration:
    """certainty = 1 / (1 + exp(-(candidate * odds + reduction * odds of the second + offset)))."""

    candidate: float
    reduction: float
    offset: float

    def certainty(self, first: Floats, second: Floats) -> Floats:
        evidence = self.candidate * first + self.reduction * second + self.offset
        return np.asarray(1 / (1 + np.exp(-np.clip(evidence, -30, 30))))


PLAIN = Calibration(0.5, 0.5, 0.0)
"""Before anything was fitted: the mean of both."""


@dataclass(frozen=True, slots=True, eq=False)
class Detection:
    """Places in the patient (LPS, mm) `[n, 3]`, surest first, with diameter as the network sees it and certainty."""

    center_mm: Floats
    diameter_mm: Floats
    certainty: Floats


@dataclass(frozen=True, slots=True, eq=False)
class Detector:
    """Both networks in memory, on their device."""

    candidates: nn.Module
    reduction: nn.Module
    calibration: Calibration
    bf16: bool
    device: torch.device

    def detect(self, prepared: Prepared) -> Detection:
        """Every place that may be a nodule."""
        proposals = self.propose(prepared.hu, prepared)
        certainty = self.calibration.certainty(proposals.odds, self.look_again(prepared.hu, proposals.index))
        order = np.argsort(-certainty, kind="stable")
        return Detection(
            prepared.grid.points(proposals.index[order]), proposals.diameter_mm[order], np.asarray(certainty[order])
        )

    def propose(self, hu: NDArray[np.int16], prepared: Prepared | None = None) -> Proposals:
        """What the first network proposes in a box; with `prepared` only in and beside its lungs."""
        return self._in_lungs(peaks(self.maps(hu, prepared)), prepared)

    def _in_lungs(self, proposals: Proposals, prepared: Prepared | None) -> Proposals:
        if prepared is not None and len(proposals):
            depth = prepared.lungs.inside_mm(prepared.grid.points(proposals.index))
            proposals = proposals.kept(depth > -BESIDE_LUNG_MM)
        return apart(proposals)

    def maps(self, hu: NDArray[np.int16], prepared: Prepared | None = None) -> NDArray[np.float32]:
        """The first network's five maps `[5, k/2, j/2, i/2]`; with `prepared`, windows without lung are passed over."""
        import torch  # noqa: PLC0415  heavy: only where a network runs

        counts = tuple(-(-side // STRIDE) for side in hu.shape)
        made = np.zeros((5, *counts), np.float32)
        made[0] = -20
        with torch.inference_mode(), torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            for window in windows(hu.shape):
                if prepared is not None and not _holds_lung(window, prepared):
                    continue
                shown = torch.from_numpy(normalized(cut(hu, window.low, window.shape)))[None, None]
                shown = shown.to(self.device, memory_format=torch.channels_last_3d)
                found = self._seen_twice(shown).cpu().numpy()
                into = tuple(slice(first // STRIDE, -(-last // STRIDE)) for first, last in window.core)
                source = tuple(
                    slice(part.start - low // STRIDE, part.stop - low // STRIDE)
                    for part, low in zip(into, window.low, strict=True)
                )
                made[(slice(None), *into)] = found[(slice(None), *source)]
        return made

    def _seen_twice(self, shown: torch.Tensor) -> torch.Tensor:
        """The mean of the maps of a window and of its mirror image, left to right."""
        straight = self.candidates(shown)[0].float()
        mirrored = self.candidates(shown.flip(-1))[0].float().flip(-1)
        mirrored[3] *= -1
        mean: torch.Tensor = (straight + mirrored) / 2
        return mean

    def look_again(self, hu: NDArray[np.int16], index: Floats) -> Floats:
        """Log odds `[n]` of the second network about places on the box's grid."""
        import torch  # noqa: PLC0415  heavy: only where a network runs

        if not len(index):
            return np.zeros(0)
        views = torch.from_numpy(normalized(np.stack([two_views(hu, place) for place in index])))
        views = views.to(self.device, memory_format=torch.channels_last_3d)
        with torch.inference_mode(), torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            odds = [
                torch.stack([self.reduction(part.flip(axes)).float() for axes in MIRRORS]).mean(0).cpu().numpy()
                for part in torch.split(views, 16)
            ]
        return np.concatenate(odds).astype(np.float64)


@dataclass(frozen=True, slots=True)
class Window:
    """A window of the box: its first voxel (may be negative), its shape, and the part (first, last) that is kept."""

    low: tuple[int, ...]
    shape: tuple[int, ...]
    core: tuple[tuple[int, int], ...]


def windows(shape: tuple[int, ...]) -> Iterator[Window]:
    """Windows that cover a box, each as large as may be; they overlap where they meet. All bounds are even."""
    cuts = []
    for side in shape:
        count = -(-side // LONGEST_CORE)
        bounds = [min(side, 2 * round(side * k / count / 2)) for k in range(count)] + [side]
        cuts.append(list(pairwise(bounds)))
    for core in ((a, b, c) for a in cuts[0] for b in cuts[1] for c in cuts[2]):
        low, extent = [], []
        for (first, last), side in zip(core, shape, strict=True):
            start, stop = max(0, first - OVERLAP), min(side, last + OVERLAP)
            low.append(start)
            extent.append(-(-(stop - start) // MULTIPLE) * MULTIPLE)
        yield Window(tuple(low), tuple(extent), core)


def _holds_lung(window: Window, prepared: Prepared) -> bool:
    """Whether the part of a window that is kept holds lung, roughly: by the lungs' own grid, which lies parallel."""
    lungs = prepared.lungs
    corners = prepared.grid.points(np.array(window.core, float).T)
    low, high = np.rint(lungs.grid.indices(corners)).astype(int)
    return bool(lungs.side[tuple(slice(max(0, a), max(0, b) + 1) for a, b in zip(low, high, strict=True))].any())


def peaks(maps: NDArray[np.float32]) -> Proposals:
    """The summits of the heat as places on the box's grid, the highest first."""
    odds = maps[0]
    at = np.argwhere(odds > LEAST_ODDS)
    padded = np.pad(odds, 1, constant_values=-np.inf)
    own = odds[tuple(at.T)]
    is_summit = np.ones(len(at), np.bool_)
    for step in np.ndindex(3, 3, 3):
        is_summit &= padded[tuple((at + step).T)] <= own
    at, values = at[is_summit], own[is_summit]
    order = np.argsort(-values, kind="stable")[: 4 * MOST_PROPOSALS]
    at = at[order]
    offset, size = maps[(slice(1, 4), *at.T)].T, maps[(4, *at.T)]
    index = at * STRIDE + (STRIDE - 1) / 2 + np.clip(offset, -2 * STRIDE, 2 * STRIDE)
    diameter = np.exp(np.clip(size, 0.5, 4.6)).astype(np.float64)
    return Proposals(np.asarray(index, np.float64), diameter, values[order].astype(np.float64))


def apart(proposals: Proposals) -> Proposals:
    """Without those that lie within a likelier one, at most `MOST_PROPOSALS`."""
    kept: list[int] = []
    for k, (place, diameter) in enumerate(zip(proposals.index, proposals.diameter_mm, strict=True)):
        near = (
            np.linalg.norm(place - proposals.index[other]) < max(2.5, proposals.diameter_mm[other] / 2, diameter / 4)
            for other in kept
        )
        if not any(near):
            kept.append(k)
        if len(kept) == MOST_PROPOSALS:
            break
    return proposals.kept(np.array(kept, np.intp))


def build(arguments: Mapping[str, Any]) -> tuple[nn.Module, nn.Module]:
    """Both networks with random weights."""
    from models.architectures.nodule3d import CandidateNet, ReductionNet  # noqa: PLC0415  heavy

    return CandidateNet(tuple(arguments["candidates"])), ReductionNet(tuple(arguments["reduction"]))


def ready(candidates: nn.Module, reduction: nn.Module, calibration: Calibration, device: torch.device) -> Detector:
    """A detector of networks in memory: bf16 where the processor multiplies it, else fp32; channels last."""
    from models.runtime import multiplies_bf16  # noqa: PLC0415  heavy: only where a network runs

    return Detector(placed(candidates, device), placed(reduction, device), calibration, multiplies_bf16(device), device)


def load_detector(weights_path: Path, manifest: Mapping[str, Any], device: torch.device) -> Detector:
    """The detector of a verified weights file and its manifest. Refuses (`model.unverified`) another architecture."""
    held = weights_of(weights_path, manifest, ARCHITECTURE)
    networks = build(manifest["architecture"]["arguments"])
    for name, network in zip(NETWORKS, networks, strict=True):
        own = {key.removeprefix(f"{name}."): value for key, value in held.items() if key.startswith(f"{name}.")}
        network.load_state_dict(own)
    numbers = manifest["calibration"]
    calibration = Calibration(numbers["candidate"], numbers["reduction"], numbers["offset"])
    return ready(*networks, calibration, device)

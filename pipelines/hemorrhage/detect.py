"""The network at work: a prepared stack becomes blood on every source slice and a calibrated score.

What a score is made of, as a trial on patients had shown: blood counts only inside the skull, smoothed, at its most
certain place; half of the score is that place as it is, half is what it has over its mirror image, since most false
alarms come in pairs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from pipelines.hemorrhage import prepare
from pipelines.hemorrhage.prepare import Prepared, Stack
from pipelines.networks import UNET, build_unet, placed, weights_of

if TYPE_CHECKING:
    import torch
    from torch import nn

    from models.runtime import DeviceChoice

_BATCH = 16
_SMOOTHING_MM = 2.5
_LEAST = 1e-4


@dataclass(frozen=True, slots=True, eq=False)
class Maps:
    """What the network says on the working stack `[slice, row, column]`.

    `inside` is bool: the intracranial space in one piece. `blood` is float32, 0 to 1, and 0 outside of it.
    """

    blood: Stack
    inside: NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Detection:
    """`probability` is uint8 `[slice, row, column]` on the source slices, 255 for 1: blood inside the skull.

    `score` is the calibrated probability that the head bleeds, `score_by_slice` that of each source slice by the same
    calibration. `inside_ml` is the intracranial volume seen.
    """

    probability: NDArray[np.uint8]
    score: float
    score_by_slice: tuple[float, ...]
    inside_ml: float


@dataclass(frozen=True, slots=True)
class Calibration:
    """Platt's: score = 1 / (1 + exp(-(slope * evidence + offset))). Thresholds are on the score.

    From `threshold` a head is called bleeding; between `unsure_from` and `threshold` the reader is not sure. Pixels
    count as blood from `pixel_threshold`.
    """

    slope: float
    offset: float
    threshold: float
    unsure_from: float
    pixel_threshold: float

    def score(self, evidence: float) -> float:
        return float(1 / (1 + np.exp(-np.clip(self.slope * evidence + self.offset, -30, 30))))


@dataclass(frozen=True, slots=True, eq=False)
class Detector:
    """The network in memory, on its device, with its calibration."""

    network: nn.Module
    calibration: Calibration
    bf16: bool
    device: torch.device

    def detect(self, prepared: Prepared) -> Detection:
        """Blood on the source slices, and the scores."""
        maps = self.maps(prepared.stack, prepared.position_mm)
        by_slice = evidence_by_slice(maps)
        scores = [self.calibration.score(float(value)) for value in by_slice]
        owner = {k: w for w, group in enumerate(prepared.members) for k in group}
        extents = np.gradient(prepared.position_mm) if len(by_slice) > 1 else np.ones(1)
        seen = maps.inside.sum(axis=(1, 2)) * np.abs(extents) * prepare.WORKING_MM**2 / 1000
        return Detection(
            prepare.to_source(prepared, maps.blood),
            max(scores),
            tuple(scores[owner[k]] for k in range(len(prepared.volume.plane))),
            float(seen.sum()),
        )

    def maps(self, stack: Stack, position_mm: NDArray[np.float64]) -> Maps:
        """Both maps, each the mean over the stack and its mirror image."""
        straight = self._forward(stack, position_mm)
        mirrored = self._forward(np.ascontiguousarray(stack[..., ::-1]), position_mm)[..., ::-1]
        mean = (straight + mirrored) / 2
        inside = _largest_pieces(mean[:, 1] > 0.5)
        return Maps(np.asarray(mean[:, 0] * inside, np.float32), inside)

    def _forward(self, stack: Stack, position_mm: NDArray[np.float64]) -> NDArray[np.float32]:
        import torch  # noqa: PLC0415  heavy: only where a network runs

        made = []
        with torch.inference_mode(), torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            for first in range(0, len(stack), _BATCH):
                chosen = np.arange(first, min(first + _BATCH, len(stack)))
                pictures = torch.from_numpy(prepare.inputs(stack, position_mm, chosen))
                pictures = pictures.to(self.device, memory_format=torch.channels_last)
                made.append(torch.sigmoid(self.network(pictures).float()).cpu().numpy())
        return np.concatenate(made)


def _largest_pieces(inside: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Pieces of at least a fifth of the largest: patches of muscle are not inside the skull."""
    pieces, _ = ndimage.label(inside)
    sizes = np.bincount(pieces.ravel())
    sizes[0] = 0
    return np.asarray((sizes > 0.2 * sizes.max())[pieces])


def evidence_by_slice(maps: Maps) -> NDArray[np.float64]:
    """The log odds of the most certain smoothed place inside the skull of each slice, half of it over its mirror."""
    sigma = _SMOOTHING_MM / prepare.WORKING_MM
    smooth = ndimage.gaussian_filter(maps.blood, (0.4, sigma, sigma))
    over_mirror = smooth - smooth[..., ::-1]
    peak = (smooth.max(axis=(1, 2)) + over_mirror.max(axis=(1, 2))) / 2
    peak = np.clip(peak, _LEAST, 1 - _LEAST).astype(np.float64)
    return np.asarray(np.log(peak / (1 - peak)), np.float64)


def load_detector(weights_path: Path, manifest: Mapping[str, Any], device: DeviceChoice = "cpu") -> Detector:
    """The detector of a weights file and its manifest. Refuses (`model.unverified`) weights that do not match it."""
    held = weights_of(weights_path, manifest, UNET)
    network = build_unet(manifest["architecture"]["arguments"])
    network.load_state_dict(held)
    calibration = Calibration(**{key: float(value) for key, value in manifest["calibration"].items()})
    return ready(network, calibration, device)


def load_manifest(path: Path) -> dict[str, Any]:
    """The manifest of a model as JSON."""
    manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return manifest


def ready(network: nn.Module, calibration: Calibration, device: DeviceChoice = "cpu") -> Detector:
    """A detector of a network in memory: bf16 where the processor multiplies it, else fp32; channels last.

    Raises `models.runtime.NoDeviceError` when a device is asked for that is not there.
    """
    from models.runtime import choose_device, multiplies_bf16  # noqa: PLC0415  heavy: only where a network runs

    chosen = choose_device(device)
    return Detector(placed(network, chosen), calibration, multiplies_bf16(chosen), chosen)

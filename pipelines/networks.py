"""Networks from their weights files into memory: what every pipeline that has one does alike."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.reasons import refuse

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

UNET = "unet25d"


def weights_of(path: Path, manifest: Mapping[str, Any], architecture: str) -> dict[str, Tensor]:
    """The tensors of a weights file, numbers as float32.

    Refuses (`model.unverified`) a file that is not the one the manifest tells of, and another architecture.
    """
    held = path.read_bytes() if path.is_file() else b""
    if hashlib.sha256(held).hexdigest() != manifest["sha256"] or manifest["architecture"]["name"] != architecture:
        raise refuse("model.unverified", model=str(manifest["name"]))
    from safetensors.torch import load  # noqa: PLC0415  heavy: only where a network runs

    return {name: value.float() if value.is_floating_point() else value for name, value in load(held).items()}


def build_unet(arguments: Mapping[str, Any]) -> nn.Module:
    """A U-Net for pictures with random weights."""
    from models.architectures.unet25d import UNet25D  # noqa: PLC0415  heavy: only where a network runs

    return UNet25D(int(arguments["inputs"]), int(arguments["outputs"]), tuple(arguments["widths"]))


def placed(network: nn.Module, device: torch.device) -> nn.Module:
    """The network on its device, ready to compute, with channels last in memory (2D or 3D)."""
    import torch  # noqa: PLC0415  heavy: only where a network runs

    is_3d = any(isinstance(module, torch.nn.Conv3d) for module in network.modules())
    layout = torch.channels_last_3d if is_3d else torch.channels_last
    made: nn.Module = network.eval().to(device, memory_format=layout)  # type: ignore[call-overload]
    return made

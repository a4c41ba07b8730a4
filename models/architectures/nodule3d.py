"""Two compact 3D networks for nodules in the lung: one that proposes places, one that looks again at each of them.

The first is a U-Net whose finest level lies at half the input's resolution, with one output channel for the places, as
in centre-point detection (Zhou et al., "Objects as Points", arXiv 1904.07850, carried over to three dimensions); the
others say how far the centre lies from the voxel and how large the nodule is.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class _Block(nn.Module):
    """Two 3 x 3 x 3 convolutions with batch norm and ReLU around which the input is passed on."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.first = nn.Conv3d(channels_in, channels_out, 3, padding=1, bias=False)
        self.first_norm = nn.BatchNorm3d(channels_out)
        self.second = nn.Conv3d(channels_out, channels_out, 3, padding=1, bias=False)
        self.second_norm = nn.BatchNorm3d(channels_out)
        self.past = nn.Identity() if channels_in == channels_out else nn.Conv3d(channels_in, channels_out, 1)

    def forward(self, features: Tensor) -> Tensor:
        made = functional.relu(self.first_norm(self.first(features)))
        made = self.second_norm(self.second(made))
        return functional.relu(made + self.past(features))


class CandidateNet(nn.Module):
    """`[batch, 1, z, y, x]` to `[batch, 5, z/2, y/2, x/2]`: log odds of a centre, its offset (z, y, x) and log size.

    An output voxel k covers the input voxels 2k and 2k + 1; offsets are in input voxels from the middle between them,
    the size is the natural logarithm of the diameter in input voxels. Sides must be multiples of 2 to the number of
    `widths`.
    """

    def __init__(self, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.stem = nn.Conv3d(1, widths[0], 4, stride=2, padding=1, bias=False)
        self.stem_norm = nn.BatchNorm3d(widths[0])
        self.down = nn.ModuleList(
            _Block(before, width) for before, width in zip((widths[0], *widths[:-1]), widths, strict=True)
        )
        self.up = nn.ModuleList(
            _Block(width + below, width) for width, below in zip(widths[-2::-1], widths[:0:-1], strict=True)
        )
        self.last = nn.Conv3d(widths[0], 5, 1)
        with torch.no_grad():
            for name, bias in self.last.named_parameters():
                if name == "bias":
                    bias.copy_(torch.tensor([-5.0, 0.0, 0.0, 0.0, 2.0]))

    def forward(self, volume: Tensor) -> Tensor:
        features = functional.relu(self.stem_norm(self.stem(volume)))
        skipped: list[Tensor] = []
        for level, block in enumerate(self.down):
            features = block(functional.max_pool3d(features, 2) if level else features)
            skipped.append(features)
        skipped.pop()
        for block in self.up:
            wide = functional.interpolate(features, scale_factor=2.0, mode="nearest")
            features = block(torch.cat([wide, skipped.pop()], dim=1))
        made: Tensor = self.last(features)
        return made


class ReductionNet(nn.Module):
    """`[batch, 2, side, side, side]`, the place near by and from farther off, to the log odds `[batch]` of a nodule."""

    def __init__(self, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            _Block(before, width) for before, width in zip((2, *widths[:-1]), widths, strict=True)
        )
        self.last = nn.Linear(2 * widths[-1], 1)

    def forward(self, places: Tensor) -> Tensor:
        features = places
        for level, block in enumerate(self.blocks):
            features = block(functional.max_pool3d(features, 2) if level else features)
        flat = features.flatten(2)
        made: Tensor = self.last(torch.cat([flat.mean(2), flat.amax(2)], dim=1))
        return made[:, 0]

"""A compact U-Net for stacks of thick slices: one slice with its neighbours in, maps for that slice out.

The picture enters at full resolution, folded 2 x 2 into channels, so that the body works at half of it and thin things
still reach the network; the outputs are unfolded the same way.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class _Block(nn.Sequential):
    """Two 3 x 3 convolutions, each with batch norm and ReLU."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        layers: list[nn.Module] = []
        for first in (channels_in, channels_out):
            layers += [
                nn.Conv2d(first, channels_out, 3, padding=1, bias=False),
                nn.BatchNorm2d(channels_out),
                nn.ReLU(inplace=True),
            ]
        super().__init__(*layers)


class UNet25D(nn.Module):
    """`[batch, inputs, rows, columns]` to logits `[batch, outputs, rows, columns]`.

    The logits start out low, for outputs that are seldom true. Rows and columns must be multiples of 2 to the number
    of `widths`.
    """

    def __init__(self, inputs: int, outputs: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.down = nn.ModuleList(
            _Block(before, width) for before, width in zip((4 * inputs, *widths[:-1]), widths, strict=True)
        )
        self.up = nn.ModuleList(
            _Block(width + below, width) for width, below in zip(widths[-2::-1], widths[:0:-1], strict=True)
        )
        self.last = nn.Conv2d(widths[0], 4 * outputs, 1)
        for bias in (name for key, name in self.last.named_parameters() if key == "bias"):
            nn.init.constant_(bias, -3.0)

    def forward(self, pictures: Tensor) -> Tensor:
        features = functional.pixel_unshuffle(pictures, 2)
        skipped: list[Tensor] = []
        for level, block in enumerate(self.down):
            features = block(functional.max_pool2d(features, 2) if level else features)
            skipped.append(features)
        skipped.pop()
        for block in self.up:
            beside = skipped.pop()
            wide = functional.interpolate(features, scale_factor=2.0, mode="nearest")
            features = block(torch.cat([wide, beside], dim=1))
        return functional.pixel_shuffle(self.last(features), 2)

"""What the network for calcifications sees of a view: pixels of one size, and what stands out from its surroundings.

Every maker's presentation has its own contrast and every detector its own noise. So each place is shown as by how much
it is brighter than the tissue about it, in units of what is usual there; how bright that tissue is is shown beside it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

WORKING_MM = 0.07
"""Side of the pixels that the network sees: that of the finest detectors in wide use. Others are brought to it."""
SAME_SIZE = 0.03
"""Pixels that differ by no more than this part from it are left as they are."""
INPUTS = 2
MULTIPLE = 32
BLOCK = 16
_BLOCKS_ABOUT = 5
_BRIGHTEST = 3.0
_FLOOR = 0.002
_SHOWN_FROM, _SHOWN_TO = -5.0, 15.0


def working_size(rows: int, columns: int, spacing_mm: float) -> tuple[int, int]:
    """Rows and columns of a picture of such pixels once they are `WORKING_MM` wide."""
    ratio = spacing_mm / WORKING_MM
    if abs(ratio - 1) <= SAME_SIZE:
        return rows, columns
    return max(1, round(rows * ratio)), max(1, round(columns * ratio))


def resized(pixels: Tensor, size: tuple[int, int]) -> Tensor:
    """Pictures `[n, 1, row, column]` with that many rows and columns; averaged where pixels become wider."""
    from torch.nn import functional  # noqa: PLC0415  heavy: only where a network runs

    if tuple(pixels.shape[-2:]) == size:
        return pixels
    return functional.interpolate(pixels, size, mode="bilinear", antialias=size[0] < pixels.shape[-2])


def shown(pixels: Tensor) -> Tensor:
    """What the network is given, `[n, INPUTS, row, column]`, of pictures `[n, 1, row, column]` of working pixels.

    The first channel is the brightness over that of the surroundings (about 1 mm) in units of its mean size (about 5
    mm, in which the brightest places, calcifications themselves, are cut), the second that of the surroundings. Rows
    and columns must be multiples of `MULTIPLE`.
    """
    import torch  # noqa: PLC0415  heavy: only where a network runs
    from torch.nn import functional  # noqa: PLC0415  heavy: only where a network runs

    size = pixels.shape[-2:]

    def widened(coarse: Tensor) -> Tensor:
        return functional.interpolate(coarse, size, mode="bilinear")

    def usual(values: Tensor) -> Tensor:
        blocks = functional.avg_pool2d(values, BLOCK)
        reach = _BLOCKS_ABOUT // 2
        return widened(functional.avg_pool2d(blocks, _BLOCKS_ABOUT, 1, reach, count_include_pad=False))

    about = widened(functional.avg_pool2d(pixels, BLOCK))
    over = pixels - about
    departure = over.abs()
    departure = usual(torch.minimum(departure, _BRIGHTEST * usual(departure)))
    contrast = (over / (departure + _FLOOR)).clamp_(_SHOWN_FROM, _SHOWN_TO) / 5
    return torch.cat([contrast, 2 * about - 1], dim=1)


def padded_side(side: int) -> int:
    """The next multiple of `MULTIPLE`."""
    return MULTIPLE * math.ceil(side / MULTIPLE)

"""What the networks for nodules see of a 1 mm grid: CT numbers brought to a small range, and places cut out."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipelines.geometry import Floats

SHOWN_HU = (-1000.0, 400.0)
LOOKED_AT = 32
"""Side of what the second network sees, in voxels: near by of 1 mm, from farther off of 2 mm."""
LARGEST_HU = 4095
"""Metal beyond this counts as this where voxels are averaged."""
_OUTSIDE_HU = -1000


def normalized(hu: NDArray[np.generic]) -> NDArray[np.float32]:
    """CT numbers as the networks take them: -1000 to 400 HU as -1 to 1."""
    low, high = SHOWN_HU
    shown = np.clip(hu, low, high, out=np.empty(hu.shape, np.float32), casting="unsafe")
    shown -= np.float32((low + high) / 2)
    shown *= np.float32(2 / (high - low))
    return shown


def two_views(hu: NDArray[np.int16], place: Floats) -> NDArray[np.float32]:
    """What the second network sees of a place, HU `[2, 32, 32, 32]`: voxels of 1 mm, and of 2 mm."""
    middle = np.rint(place).astype(int)
    far = cut(hu, tuple((middle - LOOKED_AT).tolist()), (2 * LOOKED_AT,) * 3)
    half = LOOKED_AT // 2
    near = far[half:-half, half:-half, half:-half]
    # Pairs are summed along one axis after the other; eight such numbers fit into 16 bits.
    summed = np.clip(far, -LARGEST_HU, LARGEST_HU)
    summed = summed[::2] + summed[1::2]
    summed = summed[:, ::2] + summed[:, 1::2]
    summed = summed[:, :, ::2] + summed[:, :, 1::2]
    return np.stack([near.astype(np.float32), summed * np.float32(1 / 8)])


def cut(hu: NDArray[np.int16], low: tuple[int, ...], shape: tuple[int, ...]) -> NDArray[np.int16]:
    """The part of a box from index `low` on; what lies beyond the box is air."""
    made = np.full(shape, _OUTSIDE_HU, np.int16)
    source, into = [], []
    for first, count, side in zip(low, shape, hu.shape, strict=True):
        start, stop = max(0, first), min(side, first + count)
        if stop <= start:
            return made
        source.append(slice(start, stop))
        into.append(slice(start - first, stop - first))
    made[tuple(into)] = hu[tuple(source)]
    return made

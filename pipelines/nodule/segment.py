"""The outline of each nodule: a 2.5D network on the source's own slices, about centres that something else has found.

The network sees a square of 32 x 32 pixels about the centre at five heights, and how far the slice is from the centre.
It works with pixels of 0.5 mm first and looks again with pixels twice as wide, up to 4 mm, until that shows nothing
larger, so that masses are seen whole. Heights grow with the pixels: a large mass looks like a small nodule.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from pipelines.findings import Region
from pipelines.geometry import Floats, Plane, Point
from pipelines.measuring import connected_parts
from pipelines.networks import UNET, build_unet, placed, weights_of
from pipelines.volume import Volume

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from models.runtime import DeviceChoice

Mask = NDArray[np.bool_]
Stack = NDArray[np.float32]

NAME = "nodule_segmentation"
FIELD = 32
"""Rows and columns of the square that the network sees."""
PIXELS_MM = (0.5, 1.0, 2.0, 4.0)
OFFSETS = (-5.0, -2.5, 0.0, 2.5, 5.0)
"""The heights that the network sees, in pixels from its slice; beyond the stack the last slice stands in."""
HEIGHT_UNIT = 20.0
"""Pixels that count as 1 in the channel of heights."""
LOWEST_HU, HIGHEST_HU = -1000.0, 400.0
SHOWN_WHOLE = 0.7
"""The part of the square that a nodule may fill, to be outlined with pixels of that size."""
_REACH = 0.4
"""Slices are looked at up to this part of the square above and below the centre."""
_MARGIN = 2
"""What comes nearer to the square's border than this, in pixels, may go on beyond it."""
_OFF_CENTER_MM = 3.0
"""How far off a centre may well be."""
_BATCH = 64
_MIRRORS: tuple[tuple[int, ...], ...] = ((), (2, 3))


@dataclass(frozen=True, slots=True, eq=False)
class Look:
    """What is looked at for one nodule.

    `squares` is what the network is given, `[slice, channel, FIELD, FIELD]`, for the `slices` of the volume. `foot[k]`
    is the row and column of the centre on slice `slices[k]`; source pixels from `low` up to `high` are in the squares.
    """

    center: Point
    pixel_mm: float
    slices: NDArray[np.intp]
    foot: Floats
    low: NDArray[np.intp]
    high: NDArray[np.intp]
    squares: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Segmenter:
    """The network in memory, on its device. A voxel belongs to the nodule from `threshold` on."""

    network: nn.Module
    threshold: float
    bf16: bool
    device: torch.device

    def segment(self, volume: Volume, centers_mm: Sequence[Point]) -> tuple[Region, ...]:
        """One region on the volume's slices for each centre (LPS, mm), in their order; never empty.

        Centres may be some millimetres off: the connected part nearest to a centre is its nodule.
        """
        kept: dict[int, Region | None] = dict.fromkeys(range(len(centers_mm)))
        pending = list(kept)
        for pixel_mm in PIXELS_MM:
            looks = [look_at(volume, centers_mm[number], pixel_mm) for number in pending]
            unsettled = []
            for number, look, maps in zip(pending, looks, self.maps(looks), strict=True):
                seen, is_whole = outline(volume, look, maps, self.threshold)
                kept[number], is_settled = settle(volume, kept[number], seen, is_whole, pixel_mm)
                if not is_settled:
                    unsettled.append(number)
            pending = unsettled
        return tuple(region for region in kept.values() if region is not None)

    def maps(self, looks: Sequence[Look]) -> list[Stack]:
        """The probability on the squares of each look, `[slice, FIELD, FIELD]`; all go through the network together."""
        if not looks:
            return []
        import torch  # noqa: PLC0415  heavy: only where a network runs

        squares = torch.cat([look.squares for look in looks])
        made = torch.cat([self._probability(part) for part in torch.split(squares, _BATCH)]).numpy()
        return np.split(made, np.cumsum([len(look.squares) for look in looks])[:-1])

    def _probability(self, squares: Tensor) -> Tensor:
        """The mean over the square and its mirror images, `[n, FIELD, FIELD]`."""
        import torch  # noqa: PLC0415  heavy: only where a network runs

        with torch.inference_mode(), torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            pictures = squares.to(self.device).contiguous(memory_format=torch.channels_last)
            logits = [self.network(pictures.flip(axes)).float().flip(axes)[:, 0] for axes in _MIRRORS]
            return torch.sigmoid(torch.stack(logits).mean(dim=0)).cpu()


def load_segmenter(weights_path: Path, manifest: Mapping[str, Any], device: DeviceChoice = "cpu") -> Segmenter:
    """The segmenter of a weights file and its manifest. Refuses (`model.unverified`) weights that do not match it."""
    held = weights_of(weights_path, manifest, UNET)
    network = build_unet(manifest["architecture"]["arguments"])
    network.load_state_dict(held)
    return ready(network, float(manifest["calibration"]["threshold"]), device)


def ready(network: nn.Module, threshold: float, device: DeviceChoice = "cpu") -> Segmenter:
    """A segmenter of a network in memory: bf16 where the processor multiplies it, else fp32; channels last.

    Raises `models.runtime.NoDeviceError` when a device is asked for that is not there.
    """
    from models.runtime import choose_device, multiplies_bf16  # noqa: PLC0415  heavy: only where a network runs

    chosen = choose_device(device)
    return Segmenter(placed(network, chosen), threshold, multiplies_bf16(chosen), chosen)


def look_at(volume: Volume, center: Point, pixel_mm: float) -> Look:
    """What the network is given for a centre (LPS, mm) with pixels of this size."""
    import torch  # noqa: PLC0415  heavy: only where a network runs

    position = volume.position_mm
    away = position - float(np.dot(center, volume.plane[0].normal))
    slices = np.flatnonzero(np.abs(away) <= _REACH * FIELD * pixel_mm)
    if not slices.size:
        slices = np.array([np.abs(away).argmin()])
    heights = position[slices][:, None] + np.array(OFFSETS) * pixel_mm
    below, above, weight = between(position, heights.ravel())
    needed, place = np.unique(np.concatenate([below, above]), return_inverse=True)
    seen = _squares(volume, needed.tolist(), center, pixel_mm)
    lower, upper = seen[torch.from_numpy(place)].chunk(2)
    blended = lower + torch.from_numpy(weight.astype(np.float32))[:, None, None] * (upper - lower)
    pictures = shown(blended).reshape(len(slices), len(OFFSETS), FIELD, FIELD)
    height = torch.from_numpy((away[slices] / (HEIGHT_UNIT * pixel_mm)).astype(np.float32))
    squares = torch.cat([pictures, height[:, None, None, None].expand(-1, 1, FIELD, FIELD)], dim=1)
    planes = [volume.plane[k] for k in slices.tolist()]
    foot = np.array([plane.pixel_from_patient(center) for plane in planes])
    half = FIELD * pixel_mm / 2 / np.array(_spacing(planes[0]))
    size = np.array(volume.hu.shape[1:])
    low = np.clip(np.floor(foot.min(axis=0) - half), 0, size - 1).astype(np.intp)
    high = np.clip(np.ceil(foot.max(axis=0) + half) + 1, low + 1, size).astype(np.intp)
    return Look(center, pixel_mm, slices, foot, low, high, squares)


def outline(volume: Volume, look: Look, maps: Stack, threshold: float) -> tuple[Region, bool]:
    """The connected part at the centre on the source's voxels; whether it is whole: probable, clear of the border.

    Where no voxel reaches the threshold, the most probable ones near the centre are taken; where none has any
    probability, the ones at the centre.
    """
    planes = [volume.plane[k] for k in look.slices.tolist()]
    probability, away, inner = _on_source(planes, look, maps)
    near = np.exp(-((away - away.min()) ** 2) / (2 * _OFF_CENTER_MM**2))
    evidence = probability if (probability * near).max() > 1e-3 else near
    highest = float(evidence[near > 0.5].max())
    mask = evidence >= min(threshold, 0.75 * highest)
    part = _part_at(mask, near * evidence, planes)
    held = np.flatnonzero(part.any(axis=(1, 2)))
    last = len(volume.plane) - 1
    is_whole = evidence is probability and highest >= threshold and not (part & ~inner).any()
    is_whole = is_whole and all(look.slices[k] in {0, last} for k in {0, len(part) - 1} & set(held.tolist()))
    full = np.zeros((len(held), *volume.hu.shape[1:]), np.bool_)
    full[:, look.low[0] : look.high[0], look.low[1] : look.high[1]] = part[held]
    return Region(tuple(look.slices[held].tolist()), full), is_whole


def _on_source(planes: Sequence[Plane], look: Look, maps: Stack) -> tuple[Stack, Floats, Mask]:
    """On the source's voxels within the squares: the probability, mm from the centre, what is clear of the border."""
    rows, columns = (np.arange(low, high) for low, high in zip(look.low, look.high, strict=True))
    probability, away, inner = [], [], []
    for plane, (row, column), map_ in zip(planes, look.foot, maps, strict=True):
        spacing = _spacing(plane)
        down = _in_square(rows, row, spacing[0], look.pixel_mm)
        along = _in_square(columns, column, spacing[1], look.pixel_mm)
        probability.append(_reading(down) @ map_ @ _reading(along).T)
        height = float(np.dot(np.subtract(look.center, plane.origin), plane.normal))
        off = ((rows - row) * spacing[0])[:, None] ** 2 + ((columns - column) * spacing[1]) ** 2
        away.append(np.sqrt(off + height**2))
        is_inner = [np.abs(place - (FIELD - 1) / 2) < FIELD / 2 - _MARGIN for place in (down, along)]
        inner.append(np.logical_and.outer(*is_inner))
    return np.stack(probability), np.stack(away), np.stack(inner)


def settle(
    volume: Volume, finer: Region | None, seen: Region, is_whole: bool, pixel_mm: float
) -> tuple[Region | None, bool]:
    """What to keep after a look with these pixels, and whether it is settled.

    What was whole in the finer look is right when this one sees nothing much larger: within a large nodule the finer
    one may outline a piece. `finer` is None where the finer look saw nothing whole.
    """
    if finer is not None and extent_mm(volume, seen) <= SHOWN_WHOLE * FIELD * pixel_mm / 2:
        return finer, True
    is_last = pixel_mm == PIXELS_MM[-1]
    return (seen if is_whole or is_last else None), is_last


def extent_mm(volume: Volume, region: Region) -> float:
    """The longest edge of the box about a region, from centre to centre of its voxels."""
    plane = volume.plane[region.slice_index[0]]
    rows, columns = (np.flatnonzero(region.mask.any(axis=axes)) for axes in ((0, 2), (0, 1)))
    heights = volume.position_mm[list(region.slice_index)]
    return max(
        float(np.ptp(rows)) * plane.row_spacing_mm,
        float(np.ptp(columns)) * plane.column_spacing_mm,
        float(np.ptp(heights)),
    )


def between(position_mm: Floats, heights_mm: Floats) -> tuple[NDArray[np.intp], NDArray[np.intp], Floats]:
    """For each height the slice below it, the one above it, and the weight of the latter; clamped to the stack."""
    if len(position_mm) == 1:
        nothing = np.zeros(len(heights_mm), np.intp)
        return nothing, nothing, np.zeros(len(heights_mm))
    below = np.clip(np.searchsorted(position_mm, heights_mm, side="right") - 1, 0, len(position_mm) - 2)
    weight = (heights_mm - position_mm[below]) / (position_mm[below + 1] - position_mm[below])
    return below, below + 1, np.clip(weight, 0, 1)


def squares_of(
    images: Tensor,
    center: tuple[float, float],
    spacing_mm: tuple[float, float],
    pixel_mm: float,
    turn: Floats | None = None,
) -> Tensor:
    """Squares of `FIELD` pixels of `pixel_mm` about a centre (row, column) of images `[n, row, column]`.

    Linear; averaged where the images are finer. Outside of them their border goes on. `turn` (2 x 2) is applied to the
    square's directions (row, column).
    """
    import torch  # noqa: PLC0415  heavy: only where a network runs
    from torch.nn import functional  # noqa: PLC0415  heavy: only where a network runs

    fold = max(1, round(pixel_mm / max(spacing_mm)))
    steps = (np.arange(FIELD * fold) - (FIELD * fold - 1) / 2) * pixel_mm / fold
    offsets = np.stack(np.meshgrid(steps, steps, indexing="ij"), axis=-1) @ (np.eye(2) if turn is None else turn.T)
    size = np.array(images.shape[-2:])
    places = 2 * (np.array(center) + offsets / np.array(spacing_mm)) / (size - 1) - 1
    grid = torch.from_numpy(places[None, ..., ::-1].astype(np.float32))
    seen = functional.grid_sample(images[None], grid, padding_mode="border", align_corners=True)
    return (functional.avg_pool2d(seen, fold) if fold > 1 else seen)[0]


def shown(hu: Tensor) -> Tensor:
    """HU as the network sees them, -1 to 1."""
    middle, half = (HIGHEST_HU + LOWEST_HU) / 2, (HIGHEST_HU - LOWEST_HU) / 2
    return (hu.clamp(LOWEST_HU, HIGHEST_HU) - middle) / half


def _spacing(plane: Plane) -> tuple[float, float]:
    return plane.row_spacing_mm, plane.column_spacing_mm


def _squares(volume: Volume, slices: Sequence[int], center: Point, pixel_mm: float) -> Tensor:
    """The squares about the foot of the centre on some slices; only the part that they need becomes float.

    Slices on which the foot is the same pixel, all of them where nothing is tilted, are read at once.
    """
    import torch  # noqa: PLC0415  heavy: only where a network runs

    made = []
    for (row, column, *spacing), alike in groupby(slices, lambda k: _foot(volume.plane[k], center)):
        foot, half = np.array([row, column]), FIELD * pixel_mm / 2 / np.array(spacing)
        size = np.array(volume.hu.shape[1:])
        low = np.clip(np.floor(foot - half) - 1, 0, size - 2).astype(int)
        high = np.clip(np.ceil(foot + half) + 2, low + 2, size).astype(int)
        part = volume.hu[list(alike), low[0] : high[0], low[1] : high[1]].astype(np.float32)
        made.append(
            squares_of(torch.from_numpy(part), (row - low[0], column - low[1]), (spacing[0], spacing[1]), pixel_mm)
        )
    return torch.cat(made)


def _foot(plane: Plane, center: Point) -> tuple[float, float, float, float]:
    """Row and column of the foot of a centre on a plane, and the plane's spacing."""
    row, column = plane.pixel_from_patient(center)
    return round(float(row), 6), round(float(column), 6), plane.row_spacing_mm, plane.column_spacing_mm


def _in_square(index: NDArray[np.intp], foot: float, spacing_mm: float, pixel_mm: float) -> Floats:
    """Where source rows (or columns) lie in the square."""
    return np.asarray((index - foot) * spacing_mm / pixel_mm + (FIELD - 1) / 2)


def _reading(places: Floats) -> NDArray[np.float32]:
    """The matrix `[place, FIELD]` that reads linearly at places along one side of the square; its border goes on."""
    at = np.clip(places, 0, FIELD - 1)[:, None]
    return np.asarray(np.maximum(1 - np.abs(at - np.arange(FIELD)), 0), np.float32)


def _part_at(mask: Mask, weight: Floats, planes: Sequence[Plane]) -> Mask:
    """The connected part of a mask with the greatest weight, its holes filled."""
    label, count = connected_parts(mask, planes)
    weights = ndimage.sum_labels(weight, label, np.arange(1, count + 1))
    part: Mask = label == 1 + int(np.argmax(weights))
    [box] = ndimage.find_objects(part.view(np.uint8))
    part[box] = [ndimage.binary_fill_holes(plane) for plane in part[box]]
    return part

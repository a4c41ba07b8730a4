"""What the segmentation learns from: slices of real patches, and of patches that go on above and below the nodule.

A patch ends where its nodule does, so a network that saw nothing else would learn that the last slice of a stack is
nodule. So each patch is continued with made slices from which the nodule is gone, what is around it goes on and a
little of the nodule may shine through; and most are cut somewhere, often within the nodule.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

from models.training.loop import Batch
from pipelines.geometry import Floats
from pipelines.measuring import volume_mm3
from pipelines.nodule.patches import Patch
from pipelines.nodule.segment import FIELD, HEIGHT_UNIT, OFFSETS, PIXELS_MM, SHOWN_WHOLE, between, shown, squares_of

Image = NDArray[np.float32]
Mask = NDArray[np.bool_]

SLICES_A_BATCH = 32
CONTINUED_MM = 7.5
_AS_IT_IS = 0.4
_OUTSIDE = 0.3
_FARTHEST_OFF_MM = 3.0
_LARGE_MM = 8.0


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """A continued patch: arrays `[slice, row, column]`.

    `consensus` is 0 or 1, `share` is that of the readers. Slices `patch` are real, slices `nodule` hold consensus.
    `center` is the height (mm), row and column of the consensus.
    """

    hu: Image
    consensus: Image
    share: Image
    position_mm: Floats
    spacing_mm: tuple[float, float]
    center: tuple[float, float, float]
    patch: range
    nodule: range
    diameter_mm: float


def make_case(patch: Patch, generator: np.random.Generator) -> Case:
    """Continue a patch upwards and downwards."""
    volume, consensus, share = patch.volume, patch.consensus, patch.share
    plane, position = volume.plane[0], volume.position_mm
    step = float(np.median(np.diff(position))) if len(position) > 1 else plane.thickness_mm
    hu, marked = volume.hu.astype(np.float32), share > 0
    below = _continued(hu, marked, step, plane.row_spacing_mm, generator)[::-1]
    above = _continued(hu[::-1], marked[::-1], step, plane.row_spacing_mm, generator)
    more = len(above)
    added = step * np.arange(1, more + 1)
    slices, rows, columns = np.nonzero(consensus)
    edges = ((more, more), (0, 0), (0, 0))
    return Case(
        hu=np.concatenate([below, hu, above]),
        consensus=np.pad(consensus.astype(np.float32), edges),
        share=np.pad(share, edges),
        position_mm=np.concatenate([position[0] - added[::-1], position, position[-1] + added]),
        spacing_mm=(plane.row_spacing_mm, plane.column_spacing_mm),
        center=(float(position[slices].mean()), float(rows.mean()), float(columns.mean())),
        patch=range(more, more + len(position)),
        nodule=range(more + int(slices.min()), more + int(slices.max()) + 1),
        diameter_mm=float(np.cbrt(6 * volume_mm3(volume, patch.consensus_region) / np.pi)),
    )


def batches(cases: Sequence[Case], seed: int, first_step: int) -> Iterator[Batch]:
    """Batches from `first_step` on; which slices a step sees follows from seed and step alone.

    Each is squares `[n, channel, FIELD, FIELD]` and truth `[n, 2, FIELD, FIELD]`: consensus and share of the readers.
    """
    step = first_step
    while True:
        generator = np.random.default_rng((seed, step))
        chosen = generator.choice(len(cases), SLICES_A_BATCH, replace=False)
        squares, truth = zip(*[_example(cases[number], generator) for number in chosen], strict=True)
        yield torch.stack(squares).contiguous(memory_format=torch.channels_last), torch.stack(truth)
        step += 1


def _continued(hu: Image, marked: Mask, step_mm: float, pixel_mm: float, generator: np.random.Generator) -> Image:
    """Made slices beyond the first one, going away from it."""
    held = marked[: int(np.ceil(2.0 / step_mm)) + 1].any(axis=0)
    hole = np.asarray(ndimage.binary_dilation(held, iterations=max(1, round(1.5 / pixel_mm))) if held.any() else held)
    edge = hu[0]
    drift = generator.normal(0, 0.35, 2)
    shining = generator.uniform(0, 0.45 if marked[0].any() else 0.5)
    healed = _Healed.of(edge, hole, pixel_mm)
    made = []
    for number in range(1, int(np.ceil(CONTINUED_MM / step_mm)) + 1):
        away = number * step_mm
        slice_ = healed.texture(generator)
        if away < 2.6:
            left = shining * max(0.0, 1 - (away - min(step_mm, 1.0)) / 2) ** 2
            slice_ = slice_ + left * (edge - slice_)
        made.append(ndimage.shift(slice_, drift * away / pixel_mm, order=1, mode="nearest"))
    return np.array(made, np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class _Healed:
    """A slice with a hole: what the surroundings lead one to expect in it, and the fine texture around it."""

    image: Image
    hole: Mask
    expected: Image
    texture_around: Image
    soft: Image

    @staticmethod
    def of(image: Image, hole: Mask, pixel_mm: float) -> _Healed:
        around = (~hole).astype(np.float32)
        expected = np.full_like(image, float(np.median(image[~hole])) if (~hole).any() else -850)
        done = np.zeros(image.shape, np.bool_)
        for sigma_mm in (1.0, 2.0, 4.0, 8.0, 16.0):
            weight = ndimage.gaussian_filter(around, sigma_mm / pixel_mm, mode="nearest")
            value = ndimage.gaussian_filter(image * around, sigma_mm / pixel_mm, mode="nearest")
            now = (weight > 0.15) & ~done
            expected[now] = value[now] / weight[now]
            done |= now
        expected = ndimage.gaussian_filter(np.where(hole, expected, image), 1.0 / pixel_mm, mode="nearest")
        smooth = ndimage.gaussian_filter(np.where(hole, expected, image), 2.0 / pixel_mm, mode="nearest")
        soft = np.maximum(ndimage.gaussian_filter(hole.astype(np.float32), 0.7 / pixel_mm), hole)
        return _Healed(image, hole, expected, np.where(hole, 0, image - smooth), soft)

    def texture(self, generator: np.random.Generator) -> Image:
        """The slice with its hole filled: texture comes from elsewhere in it, noise where there is none."""
        rows, columns = self.image.shape
        moved = (
            rows // 2 + int(generator.integers(-rows // 6, rows // 6 + 1)),
            columns // 2 + int(generator.integers(-columns // 6, columns // 6 + 1)),
        )
        flips = generator.choice([-1, 1]), generator.choice([-1, 1])
        fine = np.roll(self.texture_around, moved, (0, 1))[:: flips[0], :: flips[1]]
        noise = float(np.std(np.clip(fine[~self.hole], -60, 60))) if (~self.hole).any() else 20.0
        fine = fine + np.where(fine == 0, generator.normal(0, noise, fine.shape), 0)
        lowest = np.minimum(self.expected, float(np.quantile(self.image, 0.02)))
        filled = np.maximum(self.expected + np.clip(fine, -80, 300), lowest)
        return np.asarray(self.image * (1 - self.soft) + self.soft * filled, np.float32)


def _example(case: Case, generator: np.random.Generator) -> tuple[Tensor, Tensor]:
    """One slice as the network sees it, turned, mirrored, off its centre and noisy; and its truth."""
    first, last = _extent(case, generator)
    chosen = _choose_slice(case, first, last, generator)
    off_mm = np.clip(generator.normal(0, 0.9, 3), -_FARTHEST_OFF_MM, _FARTHEST_OFF_MM)
    upward = -1 if generator.random() < 0.5 else 1
    pixel_mm = _pixel_mm(case, generator)
    heights = case.position_mm[chosen] + np.array(OFFSETS) * upward * pixel_mm
    below, above, weight = between(case.position_mm[first:last], heights)
    share = weight.astype(np.float32)[:, None, None]
    seen = case.hu[first:last][below] * (1 - share) + case.hu[first:last][above] * share
    angle = generator.uniform(0, 2 * np.pi)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    turn = turn @ np.diag([1, generator.choice([-1, 1])])
    center = case.center[1] + off_mm[1] / case.spacing_mm[0], case.center[2] + off_mm[2] / case.spacing_mm[1]
    stack = np.concatenate([seen, case.consensus[chosen][None], case.share[chosen][None]])
    squares = squares_of(torch.from_numpy(stack), center, case.spacing_mm, pixel_mm, turn)
    pictures = shown(_scanned_otherwise(squares[: len(OFFSETS)], generator))
    height = (case.position_mm[chosen] - case.center[0] - off_mm[0]) * upward / (HEIGHT_UNIT * pixel_mm)
    return torch.cat([pictures, torch.full((1, FIELD, FIELD), float(height))]), squares[len(OFFSETS) :]


def _extent(case: Case, generator: np.random.Generator) -> tuple[int, int]:
    """The first slice that is there and the one after the last: the patch, or more or less of what is around it."""
    first, last = case.patch.start, case.patch.stop
    if generator.random() < _AS_IT_IS:
        return first, last
    more, nodule = case.patch.start, case.nodule
    first, last = first - int(generator.integers(0, more + 1)), last + int(generator.integers(0, more + 1))
    if generator.random() < 0.2:
        middle = nodule.start + nodule.stop
        if generator.random() < 0.5:
            first = int(generator.integers(nodule.start, max(nodule.start + 1, middle // 2)))
        else:
            last = int(generator.integers(max(nodule.start + 1, (middle + 1) // 2), nodule.stop + 1))
    return first, last


def _choose_slice(case: Case, first: int, last: int, generator: np.random.Generator) -> int:
    """A slice of the nodule, or one beside it, most often a near one."""
    outside = np.array([k for k in range(first, last) if k not in case.nodule])
    if len(outside) and generator.random() < _OUTSIDE:
        ends = case.position_mm[[case.nodule.start, case.nodule.stop - 1]]
        away = np.abs(case.position_mm[outside, None] - ends).min(axis=1)
        weight = np.exp(-away / 2.5) + 0.05
        return int(generator.choice(outside, p=weight / weight.sum()))
    return int(generator.choice(np.arange(max(first, case.nodule.start), min(last, case.nodule.stop))))


def _pixel_mm(case: Case, generator: np.random.Generator) -> float:
    """Mostly the finest pixel that shows the nodule whole; sometimes half of it, or twice as much for what is large."""
    fitting = next((pixel for pixel in PIXELS_MM if case.diameter_mm <= SHOWN_WHOLE * FIELD * pixel), PIXELS_MM[-1])
    other = generator.random()
    if other < 0.15:
        fitting = max(PIXELS_MM[0], fitting / 2)
    elif other < 0.3 and case.diameter_mm > _LARGE_MM:
        fitting *= 2
    return float(fitting * np.exp(generator.normal(0, 0.1)))


def _scanned_otherwise(pictures: Tensor, generator: np.random.Generator) -> Tensor:
    """More noise, a softer kernel, a scanner that is a little off."""
    noise_hu = generator.choice([0, 0, generator.uniform(0, 40)])
    if noise_hu:
        noise = torch.from_numpy(generator.normal(0, 1, tuple(pictures.shape)).astype(np.float32))
        if generator.random() < 0.5:
            noise = functional.avg_pool2d(noise[None], 3, 1, 1)[0] * 2
        pictures = pictures + noise_hu * noise
    if generator.random() < 0.15:
        pictures = functional.avg_pool2d(functional.pad(pictures[None], (1, 1, 1, 1), mode="replicate"), 3, 1)[0]
    air_hu = -1000
    return (pictures - air_hu) * float(generator.normal(1, 0.02)) + air_hu + float(generator.normal(0, 10))

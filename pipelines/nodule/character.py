"""What a nodule is made of, whether it is calcified, and how likely readers would call it suspicious.

Composition and malignancy come from small linear models of features measured in the nodule's outline, learnt from the
ratings of the LIDC readers. The likelihood of malignancy is the readers' impression, not pathology.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from pipelines.findings import Region
from pipelines.geometry import Floats
from pipelines.nodule.measure import Measures
from pipelines.reasons import refuse
from pipelines.volume import Volume

Composition = Literal["solid", "part_solid", "ground_glass"]
Calcification = Literal["none", "diffuse", "central", "laminated", "popcorn", "eccentric"]
Mask = NDArray[np.bool_]
Image = NDArray[np.float32]

NAME = "nodule_character"
ARCHITECTURE = "linear"
COMPOSITIONS: tuple[Composition, ...] = ("solid", "part_solid", "ground_glass")
RESOLUTION_MM = 0.8
"""Standard deviation of the smoothing that brings kernels, noise and pixels nearer to one another."""
THIN_MM = 1.5
"""Slices farther apart than this are smoothed in their own plane only."""
CALCIFIED_HU = 200
"""Above what soft tissue and most enhancing vessels reach: from here on a voxel is taken for calcified."""
LEAST_CALCIFIED = 0.1
"""The part of a nodule that must be calcified to be called so (Khan et al., Ann Thorac Med 2010, 5:67)."""
_MARGIN_MM = 6.0
_LEVELS_HU = (-750, -600, -450, -300, -150, 0)
_QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9)

FEATURES = (
    *("size", "slice_step", "mean", "core", "edge", "spread", "top", "top_unsmoothed", "lung", "lung_spread"),
    *(f"quantile_{quantile}" for quantile in _QUANTILES),
    *(f"above_{level}" for level in _LEVELS_HU),
    *("solid_part", "calcified_part", "elongation", "compactness", "roughness", "halo", "attached"),
)


@dataclass(frozen=True, slots=True, eq=False)
class Character:
    """What is said of a nodule. `composition_probability` sums to 1 over the three compositions.

    `malignancy` (0 to 1) is the share of readers who would be expected to rate it 4 or 5 of 5 (suspicious).
    """

    composition: Composition
    composition_probability: Mapping[Composition, float]
    calcification: Calcification
    malignancy: float


@dataclass(frozen=True, slots=True, eq=False)
class Characterizer:
    """The models in memory: `mean` and `spread` bring `FEATURES` to one scale; the last row of each is its offset.

    `composition` is `[features + 1, 3]`, `malignancy` `[features + 1]`.
    """

    mean: Floats
    spread: Floats
    composition: Floats
    malignancy: Floats

    @property
    def arrays(self) -> dict[str, Floats]:
        """As the weights file holds them."""
        return {name: getattr(self, name) for name in ("mean", "spread", "composition", "malignancy")}

    def characterize(self, volume: Volume, region: Region, measures: Measures) -> Character:
        """The character of a nodule from its outline and what was measured in it."""
        cut = _cut(volume, region)
        return self.judge(_features(cut, measures), _calcification(cut, measures))

    def judge(self, features: Floats, calcification: Calcification) -> Character:
        """The character from what was measured."""
        scaled = scaled_features(features, self.mean, self.spread)
        logits = scaled @ self.composition
        odds = np.exp(logits - logits.max())
        probability = dict(zip(COMPOSITIONS, (odds / odds.sum()).tolist(), strict=True))
        suspicion = float(1 / (1 + np.exp(-scaled @ self.malignancy)))
        return Character(COMPOSITIONS[int(logits.argmax())], probability, calcification, suspicion)


def scaled_features(features: Floats, mean: Floats, spread: Floats) -> Floats:
    """Features `[..., n]` on one scale, no outlier beyond 5, with a 1 for the offset: `[..., n + 1]`."""
    scaled = np.clip((features - mean) / spread, -5, 5)
    return np.concatenate([scaled, np.ones((*scaled.shape[:-1], 1))], axis=-1)


def load_characterizer(weights_path: Path, manifest: Mapping[str, Any]) -> Characterizer:
    """The models of a weights file and its manifest. Refuses (`model.unverified`) weights that do not match it."""
    held = weights_path.read_bytes() if weights_path.is_file() else b""
    is_right = (
        hashlib.sha256(held).hexdigest() == manifest["sha256"] and tuple(manifest["inputs"]["features"]) == FEATURES
    )
    if not is_right or manifest["architecture"]["name"] != ARCHITECTURE:
        raise refuse("model.unverified", model=str(manifest["name"]))
    from safetensors.numpy import load  # noqa: PLC0415  heavy: only where a model is loaded

    return Characterizer(**{name: np.asarray(value, np.float64) for name, value in load(held).items()})


def describe(volume: Volume, region: Region, measures: Measures) -> tuple[Floats, Calcification]:
    """What the models are given, in the order of `FEATURES`, and the pattern of calcification."""
    cut = _cut(volume, region)
    return _features(cut, measures), _calcification(cut, measures)


@dataclass(frozen=True, slots=True, eq=False)
class _Cut:
    """A box about a nodule, `[slice, row, column]`: HU as they are and smoothed, the mask, distances from its surface.

    `depth` is that of voxels inside, `away` that of those outside, mm.
    """

    hu: Image
    smooth: Image
    mask: Mask
    spacing_mm: tuple[float, float, float]
    depth: Floats
    away: Floats


def _cut(volume: Volume, region: Region) -> _Cut:
    position, plane = volume.position_mm, volume.plane[region.slice_index[0]]
    low, high = position[[region.slice_index[0], region.slice_index[-1]]]
    slices = np.flatnonzero((position >= low - _MARGIN_MM) & (position <= high + _MARGIN_MM))
    spacing = (
        float(np.median(np.diff(position))) if len(position) > 1 else plane.thickness_mm,
        plane.row_spacing_mm,
        plane.column_spacing_mm,
    )
    box = [slice(int(slices[0]), int(slices[-1]) + 1)]
    for axis, other in ((1, 2), (2, 1)):
        held = np.flatnonzero(region.mask.any(axis=(0, other)))
        margin = int(np.ceil(_MARGIN_MM / spacing[axis]))
        box.append(slice(max(0, int(held[0]) - margin), int(held[-1]) + margin + 1))
    hu = np.clip(volume.hu[tuple(box)].astype(np.float32), -1024, 3000)
    mask = np.zeros(hu.shape, np.bool_)
    mask[np.array(region.slice_index) - box[0].start] = region.mask[:, box[1], box[2]]
    sigma = [0.0 if step > THIN_MM else RESOLUTION_MM / step for step in spacing]
    # a nodule on the first or last slice goes on beyond it, as far as anybody can say
    within = ndimage.distance_transform_edt(np.pad(mask, ((1, 1), (0, 0), (0, 0)), mode="edge"), sampling=spacing)
    outside = ndimage.distance_transform_edt(~mask, sampling=spacing)
    return _Cut(hu, ndimage.gaussian_filter(hu, sigma, mode="nearest"), mask, spacing, within[1:-1], outside)


def _features(cut: _Cut, measures: Measures) -> Floats:
    """The values of `FEATURES`."""
    inside, depth = cut.smooth[cut.mask], cut.depth[cut.mask]
    around = _or_all(cut, (cut.away > 2) & (cut.away < 5))
    near = _or_all(cut, (cut.away > 0) & (cut.away <= 2))
    unsmoothed = cut.hu[cut.mask]
    return np.array(
        [
            np.log(measures.equivalent_diameter_mm),
            cut.spacing_mm[0],
            inside.mean(),
            inside[depth >= np.quantile(depth, 0.6)].mean(),
            inside[depth <= np.quantile(depth, 0.4)].mean(),
            inside.std(),
            np.sort(inside)[-max(1, inside.size // 20) :].mean(),
            np.quantile(unsmoothed, 0.95),
            np.quantile(around, 0.25),
            around.std(),
            *np.quantile(inside, _QUANTILES),
            *((inside > level).mean() for level in _LEVELS_HU),
            measures.solid_long_axis_mm / measures.long_axis_mm,
            (unsmoothed > CALCIFIED_HU).mean(),
            measures.short_axis_mm / measures.long_axis_mm,
            measures.equivalent_diameter_mm / measures.longest_diameter_mm,
            _roughness(cut),
            near.mean() - around.mean(),
            (near > -400).mean(),
        ],
        np.float64,
    )


def _or_all(cut: _Cut, wanted: Mask) -> Image:
    """The smoothed values where wanted, or of the whole box where there are none."""
    return cut.smooth[wanted] if wanted.any() else cut.smooth.ravel()


def _roughness(cut: _Cut) -> float:
    """The length of the outline on the largest slice over that of a circle of the same area."""
    largest = cut.mask[int(cut.mask.sum(axis=(1, 2)).argmax())]
    border = int((largest & ~ndimage.binary_erosion(largest)).sum())
    return border / float(np.sqrt(4 * np.pi * largest.sum()))


def _calcification(cut: _Cut, measures: Measures) -> Calcification:
    """The pattern, by how much of the nodule is calcified, in how many pieces and where.

    The outer millimetre is mixed with lung and says nothing of a pattern: diffuse is what fills the core. What encloses
    a part that is not calcified is laminated, three pieces or more are popcorn, one about the middle is central.
    """
    calcified = cut.mask & (cut.hu > CALCIFIED_HU)
    if calcified.sum() < max(2, LEAST_CALCIFIED * cut.mask.sum()):
        return "none"
    core = cut.mask & (cut.depth >= min(1.0, float(np.quantile(cut.depth[cut.mask], 0.5))))
    if calcified[core].mean() >= 0.6:
        return "diffuse"
    enclosed = np.stack([ndimage.binary_fill_holes(plane) for plane in calcified]) & ~calcified
    if enclosed.sum() >= 0.15 * cut.mask.sum():
        return "laminated"
    label, count = ndimage.label(calcified, np.ones((3, 3, 3)))
    sizes = ndimage.sum_labels(calcified, label, np.arange(1, count + 1))
    if (sizes >= 0.1 * calcified.sum()).sum() >= 3:
        return "popcorn"
    offset = (np.array(ndimage.center_of_mass(calcified)) - ndimage.center_of_mass(cut.mask)) * cut.spacing_mm
    return "central" if np.linalg.norm(offset) < measures.equivalent_diameter_mm / 6 else "eccentric"

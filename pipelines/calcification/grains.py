"""Single calcifications (grains) of one view: what a detector hands on, and how each grain is outlined and measured.

A grain is measured on the pixels as they are stored, in a small square about its centre. The tissue behind it is taken
for a plane through the medians of the four quarters of a ring about it, so that neither a slope nor a neighbouring
grain moves it much. The grain is what hangs together around its brightest pixel above half of its height over that
plane (full width at half maximum), within the ring. What reaches the ring is measured again in the next wider square.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from math import ceil

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from pipelines.geometry import Floats
from pipelines.mammogram import Mammogram

RINGS_MM = (0.8, 2.0, 5.0)
"""Inner radius of the ring in the first, second and third square: no grain is outlined wider than twice the last."""
GRAINS_AT_ONCE = (1024, 256, 64)
"""Grains whose squares are held in memory together, by ring."""
RING_PIXELS = 2
"""Least width of the ring; otherwise a quarter of its radius."""
SHIFT_MM = 0.15
"""How far from the given centre the brightest pixel is looked for, but at least one pixel."""
SHARPEST_MM = 0.05
"""Noise finer than this is smoothed away before the outline is drawn."""
LEAST_PIXELS_AROUND_HOLLOW, LEAST_HOLLOW = 8, 0.05
"""A pixel needs eight about it to be enclosed; smaller parts of an enclosed area than this are noise."""


@dataclass(frozen=True, slots=True, eq=False)
class Grains:
    """n calcifications of one view. All arrays have n rows.

    `center_px` is (column, row), origin at the first pixel's outer corner; `score` 0 to 1 is how sure the detector is.
    `size_mm` is the diameter of a disc of the same area, in the body; `elongation` the ratio of the long to the short
    axis of the ellipse with the same moments, 1 for a disc, and `angle` the direction of that long axis, radians from
    the direction of the columns towards that of the rows. `contrast` is the height over the tissue behind on the
    view's grey scale (0 to 1), `prominence` that height in spreads of the tissue about it, `brightness` the grey at
    the peak. `compactness` is the part of its ellipse (or convex shape) that a grain fills, near 1 for a smooth
    outline; `lucency` how much darker its middle is than its rim, as a part of the contrast.

    Grain k covers the pixels `patch[k]`, a bool square `[row, column]` whose first pixel is (column, row)
    `corner_px[k]` of the view; `pixels_of` gives their indices.
    """

    center_px: Floats
    score: Floats
    size_mm: Floats
    elongation: Floats
    angle: Floats
    contrast: Floats
    prominence: Floats
    brightness: Floats
    compactness: Floats
    lucency: Floats
    corner_px: NDArray[np.intp]
    patch: tuple[NDArray[np.bool_], ...]

    def __len__(self) -> int:
        return len(self.score)

    def pixels_of(self, k: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Rows and columns of the view's pixels that grain k covers."""
        rows, columns = np.nonzero(self.patch[k])
        return rows + self.corner_px[k, 1], columns + self.corner_px[k, 0]

    def taken(self, which: ArrayLike) -> Grains:
        """Some of the grains: indices, or one bool for each."""
        index = np.asarray(which)
        chosen = np.flatnonzero(index) if index.dtype == np.bool_ else index.astype(np.intp)
        arrays = {field.name: getattr(self, field.name)[chosen] for field in fields(self) if field.name != "patch"}
        return Grains(**arrays, patch=tuple(self.patch[k] for k in chosen))


def measure_grains(view: Mammogram, centers: ArrayLike, scores: ArrayLike) -> Grains:
    """Outline and measure a grain at each of `centers` [n, 2], (column, row) px. What lies outside of the image is
    moved to its border. Raises `ValueError` where centres and scores do not belong together.
    """
    given = np.asarray(centers, np.float64).reshape(-1, 2)
    score = np.asarray(scores, np.float64).reshape(-1)
    if len(score) != len(given):
        raise ValueError("every grain needs a centre and a score")
    row, column = (np.clip(given[:, axis].astype(np.intp), 0, view.pixels.shape[1 - axis] - 1) for axis in (1, 0))
    spacing = view.spacing.object_mm
    measured: list[tuple[NDArray[np.intp], Grains]] = []
    left = np.arange(len(given))
    for k, ring_mm in enumerate(RINGS_MM):
        too_wide = [left[:0]]
        for part in np.array_split(left, max(1, ceil(len(left) / GRAINS_AT_ONCE[k]))):
            square = _Square.of(view, row[part], column[part], ring_mm)
            mask = square.outlined()
            done = ~square.reaches_ring(mask) if k + 1 < len(RINGS_MM) else np.ones(len(part), np.bool_)
            measured.append((part[done], square.measured(mask, done, spacing, score[part])))
            too_wide.append(part[~done])
        left = np.concatenate(too_wide)
        if not left.size:
            break
    return _joined(measured)


@dataclass(frozen=True, slots=True, eq=False)
class _Square:
    """n squares of the view about the brightest pixel of n grains, with the tissue behind taken away.

    `height` float32 [n, side, side] is grey over the tissue; `mean` its level at the centre and `spread` its robust
    standard deviation in the ring. `away` [side, side] is the distance from the centre in pixels.
    """

    height: NDArray[np.float32]
    level: Floats
    spread: Floats
    corner_px: NDArray[np.intp]
    away: Floats
    inner: float

    @staticmethod
    def of(view: Mammogram, row: NDArray[np.intp], column: NDArray[np.intp], ring_mm: float) -> _Square:
        spacing = view.spacing.object_mm
        inner = max(ring_mm / spacing, 3.0)
        reach = ceil(inner + max(RING_PIXELS, inner / 4))
        shift = max(1, round(SHIFT_MM / spacing))
        smooth = SHARPEST_MM / spacing / 2
        wide = _cut(view.pixels, row, column, reach + shift)
        wide = ndimage.gaussian_filter(wide, (0, smooth, smooth), mode="nearest", truncate=3.0)
        middle = wide[:, reach : reach + 2 * shift + 1, reach : reach + 2 * shift + 1]
        peak = middle.reshape(len(row), (2 * shift + 1) ** 2).argmax(axis=1)
        down, right = np.divmod(peak, 2 * shift + 1)
        side = np.arange(2 * reach + 1)
        cut = wide[
            np.arange(len(row))[:, None, None],
            (down[:, None] + side)[:, :, None],
            (right[:, None] + side)[:, None, :],
        ]
        offset = np.arange(-reach, reach + 1)
        y, x = np.meshgrid(offset, offset, indexing="ij")
        away = np.hypot(y, x)
        ring = away > inner
        level, slope_x, slope_y, spread = _behind(cut, ring, x, y)
        plane = level[:, None, None] + slope_x[:, None, None] * x + slope_y[:, None, None] * y
        corner = np.stack([column - shift + right - reach, row - shift + down - reach], axis=1)
        return _Square((cut - plane).astype(np.float32), level, spread, corner, away, inner)

    def outlined(self) -> NDArray[np.bool_]:
        """[n, side, side] what hangs together with the centre above half of its height, within the ring."""
        reach = len(self.away) // 2
        half = np.maximum(self.height[:, reach, reach] / 2, np.finfo(np.float32).tiny)
        above = (self.height >= half[:, None, None]) & (self.away <= self.inner)
        above[:, reach, reach] = True
        # One labelling of the whole stack: squares do not touch each other.
        label, _ = ndimage.label(above, ndimage.generate_binary_structure(3, 2) * np.array([0, 1, 0])[:, None, None])
        return np.asarray(label == label[:, reach, reach][:, None, None])

    def reaches_ring(self, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
        return np.asarray((mask & (self.away > self.inner - 1)).any(axis=(1, 2)))

    def measured(self, mask: NDArray[np.bool_], keep: NDArray[np.bool_], spacing: float, score: Floats) -> Grains:
        """The grains that `keep` says."""
        mask, height, corner = mask[keep], self.height[keep], self.corner_px[keep]
        reach = len(self.away) // 2
        offset = np.arange(-reach, reach + 1, dtype=np.float64)
        area = mask.sum(axis=(1, 2)).astype(np.float64)
        weight = np.where(mask, np.maximum(height, 0), 0) + mask * 1e-6
        total = weight.sum(axis=(1, 2))
        at_x, at_y = weight.sum(axis=1) @ offset / total, weight.sum(axis=2) @ offset / total
        long_axis, short_axis, angle = _ellipse(mask, offset, area)
        peak = height[:, reach, reach].astype(np.float64)
        return Grains(
            center_px=corner + reach + 0.5 + np.stack([at_x, at_y], axis=1),
            score=score[keep],
            size_mm=np.sqrt(area / np.pi) * 2 * spacing,
            elongation=long_axis / short_axis,
            angle=angle,
            contrast=peak,
            prominence=peak / self.spread[keep],
            brightness=self.level[keep] + peak,
            compactness=np.minimum(area / (np.pi / 4 * long_axis * short_axis), 1.0),
            lucency=_lucency(height, mask, peak),
            corner_px=corner,
            patch=tuple(mask),
        )


def _cut(
    pixels: NDArray[np.float32], row: NDArray[np.intp], column: NDArray[np.intp], reach: int
) -> NDArray[np.float32]:
    """[n, side, side] the squares about the pixels; beyond the image its border goes on."""
    offset = np.arange(-reach, reach + 1)
    rows = np.clip(row[:, None] + offset, 0, pixels.shape[0] - 1)
    columns = np.clip(column[:, None] + offset, 0, pixels.shape[1] - 1)
    cut: NDArray[np.float32] = pixels[rows[:, :, None], columns[:, None, :]]
    return cut


def _behind(
    cut: NDArray[np.float32], ring: NDArray[np.bool_], x: NDArray[np.intp], y: NDArray[np.intp]
) -> tuple[Floats, Floats, Floats, Floats]:
    """The plane of the tissue: level at the centre, slopes along columns and rows, and robust spread about it."""
    quarters = (x >= np.abs(y), x <= -np.abs(y), y >= np.abs(x), y <= -np.abs(x))
    right, left, down, up = (np.median(cut[:, ring & quarter], axis=1).astype(np.float64) for quarter in quarters)
    arm = 2 * float(np.abs(x[ring & quarters[0]]).mean())
    level = (right + left + down + up) / 4
    slope_x, slope_y = (right - left) / arm, (down - up) / arm
    flat = cut[:, ring] - level[:, None] - slope_x[:, None] * x[ring] - slope_y[:, None] * y[ring]
    spread = 1.4826 * np.median(np.abs(flat), axis=1).astype(np.float64)
    return level, slope_x, slope_y, np.maximum(spread, 1e-4)


def _ellipse(mask: NDArray[np.bool_], offset: Floats, area: Floats) -> tuple[Floats, Floats, Floats]:
    """Axes (px) and direction of the ellipses with the same second moments; a pixel adds its own extent of 1/12."""
    by_column, by_row = mask.sum(axis=1).astype(np.float64), mask.sum(axis=2).astype(np.float64)
    mean_x, mean_y = by_column @ offset / area, by_row @ offset / area
    xx = by_column @ offset**2 / area - mean_x**2 + 1 / 12
    yy = by_row @ offset**2 / area - mean_y**2 + 1 / 12
    xy = np.einsum("nij,i,j->n", mask, offset, offset) / area - mean_x * mean_y
    half, root = (xx + yy) / 2, np.hypot((xx - yy) / 2, xy)
    return 4 * np.sqrt(half + root), 4 * np.sqrt(np.maximum(half - root, 1 / 12)), np.arctan2(2 * xy, xx - yy) / 2


def _lucency(height: NDArray[np.float32], mask: NDArray[np.bool_], peak: Floats) -> Floats:
    """How far the mean of the hollow, which the outline encloses without its being part of it, lies below the peak, as
    a part of the peak; 0 where no hollow takes `LEAST_HOLLOW` of what is enclosed.
    """
    lucent = np.zeros(len(mask))
    for k in np.flatnonzero(mask.sum(axis=(1, 2)) >= LEAST_PIXELS_AROUND_HOLLOW):
        box = ndimage.find_objects(mask[k].astype(np.uint8))[0]
        part = mask[k][box]
        hole = ndimage.binary_fill_holes(part) & ~part
        if hole.sum() > LEAST_HOLLOW * (hole.sum() + part.sum()):
            lucent[k] = np.clip(1 - height[k][box][hole].mean() / max(peak[k], 1e-6), 0, 1)
    return lucent


def _joined(parts: Sequence[tuple[NDArray[np.intp], Grains]]) -> Grains:
    """The parts in one, in the order of the numbers that each grain has."""
    number = np.concatenate([numbers for numbers, _ in parts])
    order = np.argsort(number)
    arrays = {
        field.name: np.concatenate([getattr(grains, field.name) for _, grains in parts])[order]
        for field in fields(Grains)
        if field.name != "patch"
    }
    patches = [patch for _, grains in parts for patch in grains.patch]
    return Grains(**arrays, patch=tuple(patches[k] for k in order))

"""The map of one view: breast, pectoral muscle, nipple, skin, and what is neither tissue nor air.

The map is drawn on cells of about half a millimetre, the mean of `step` x `step` pixels each, and given back on the
pixels of the view: a pixel has the answer of its cell. Within this module cells lie as if the chest wall were to the
left and the head above; lengths are in cells where a name does not say otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from pipelines.attributes import strings
from pipelines.geometry import Floats
from pipelines.mammogram import Border, Mammogram

Mask = NDArray[np.bool_]
Greys = NDArray[np.floating]

CELL_MM = 0.5
SIDEWAYS = frozenset({"MLO", "ML", "LMO", "LM"})
"""Projections that show the pectoral muscle beside the breast."""

SKIN_LEVEL = 0.08
"""The skin line lies where the grey leaves that of air by this part of the way to that of tissue."""
NECK_MM = 3.0
"""What hangs on the breast by a bridge narrower than twice this (a label, a film's tape) is no part of it."""
CUT_MM = 20.0
"""A breast that lies so long along padding is cut off there: no skin."""

# The edge of the muscle: where it meets the upper border and the chest wall, mm from the corner they make.
MUSCLE_TOP_MM, MUSCLE_WALL_MM = (8.0, 110.0, 3.0), (25.0, 220.0, 5.0)
MUSCLE_STEEPNESS = (0.6, 7.0)
MUSCLE_SIDE_MM = 4.0
"""Greys are compared so far to either side of the edge."""
FADE_MM = 4.0
"""So far within the skin line the breast fades out: no edge there is the muscle's."""
LEAST_MUSCLE_STEP = 0.07
"""Mean step of grey across the edge, as a part of the greys of the breast."""
STEEPEST_MUSCLE = 0.7
"""Columns for each row that the edge may lean before it is taken for a fold of skin rather than the muscle's way."""
MUSCLE_BEND_MM = 8.0
"""How far the edge may leave the straight line."""

NIPPLE_REACH_MM = 30.0
"""A nipple in profile is looked for so far along the skin from the foremost place of the breast."""
CURVE_MM, NIPPLE_HEIGHT_MM = 0.5, 1.5
"""A round skin line stands out of its mean by the first; a nipple that does so by the second more is certain."""

AROUND_MM = (8.0, 50.0)
LEAST_METAL_CONTRAST = 0.25
"""Over the mean of a square of such a side, for clips or for devices, as a part of the greys of the image."""
BESIDE_SKIN_MM = 6.0
"""Markers on the skin may show so far beside the breast."""
MOST_CANDIDATES = 100
SHADOW_MARGIN_MM = 1.5
MOST_SHADOW_PIXELS = 300
LEAST_FLAT, LEAST_SHARP, LEAST_FILLED = 0.5, 0.45, 0.75
WIRE_MM, WIRE_WIDTH_MM = 8.0, 1.5
MARKER_MM2, MARKER_DEPTH_MM, CLIP_MM2 = 0.5, 4.0, 1.5
"""Smallest markers, up to so deep within the skin line, and smallest clips anywhere."""


@dataclass(frozen=True, slots=True, eq=False)
class Breast:
    """What a view shows where. Masks are bool `[row, column]` of the whole view.

    `mask` is the breast: tissue within the skin line without the pectoral muscle (`pectoral`, on views from the side)
    and without `artifacts`: labels and other marks beside the breast, markers on the skin, clips, wires and devices.
    `nipple` is (column, row) in px, origin at the first pixel's outer corner, or None; `nipple_certainty` 0 to 1 is
    high where it stands out in profile, and low where it is but the foremost place of the skin line. `chest_wall` is
    the border at which the chest wall lies. `depth_cells_mm` float32 `[row, column]` is the distance from the skin
    line, in the body, of the cells of `step` x `step` pixels: 0 outside; where the image cuts the breast off there is
    no skin.
    """

    mask: Mask
    pectoral: Mask
    artifacts: Mask
    nipple: tuple[float, float] | None
    nipple_certainty: float
    chest_wall: Border
    step: int
    depth_cells_mm: Greys

    def depth_mm(self, places_px: ArrayLike) -> Floats:
        """Distance from the skin of places [n, 2] (column, row), mm; 0 outside the breast."""
        column, row = np.asarray(places_px, np.float64).reshape(-1, 2).T
        at = [row / self.step - 0.5, column / self.step - 0.5]
        return np.asarray(ndimage.map_coordinates(self.depth_cells_mm, at, order=1, mode="nearest"), np.float64)


def map_breast(view: Mammogram) -> Breast:
    """Map a view. One that shows no tissue gets empty masks."""
    step = max(1, round(CELL_MM / view.spacing.object_mm))
    cell_mm = step * view.spacing.object_mm
    turned = _Turned(view)
    grey: Greys = turned(_blocks(view.pixels, step, np.add)) / np.float32(step * step)
    black = grey <= grey.min()
    padded = turned(_middles(view.outside, step)) | black.all(axis=1, keepdims=True) | black.all(axis=0)
    levels = _levels(grey, padded)
    is_bright = ndimage.uniform_filter(grey, 3) > levels.skin
    breast = _breast(is_bright, padded, cell_mm)
    depth = _depth(breast, padded, cell_mm)
    metal = turned(_metal(view, turned(breast), turned(depth), levels, step))
    marks = is_bright & ~breast & ~padded
    pectoral = np.zeros_like(breast)
    if view.projection in SIDEWAYS:
        pectoral = breast & _muscle(grey, breast, depth, cell_mm, levels)
    nipple, certainty = _nipple(breast, pectoral, cell_mm)
    artifacts = marks | metal
    mask, pectoral, artifacts = (
        _on_pixels(turned(cells), step, view.pixels.shape)
        for cells in (breast & ~pectoral & ~artifacts, pectoral, artifacts)
    )
    return Breast(
        mask=mask,
        pectoral=pectoral,
        artifacts=artifacts,
        nipple=None if nipple is None else turned.place_px(nipple, breast.shape, step),
        nipple_certainty=certainty,
        chest_wall=view.chest_wall,
        step=step,
        depth_cells_mm=turned(depth),
    )


# Cells and pixels -------------------------------------------------------------------------------------------------


class _Turned:
    """Brings cells from the view to the map (chest wall left, head above), and back: it is its own inverse."""

    def __init__(self, view: Mammogram) -> None:
        towards_feet = strings(view.header, "PatientOrientation")[1:2]
        is_upside_down = bool(towards_feet) and towards_feet[0].upper().startswith("H")
        self._rows = -1 if is_upside_down else 1
        self._columns = -1 if view.chest_wall == "right" else 1

    def __call__(self, cells: NDArray[Any]) -> NDArray[Any]:
        return np.ascontiguousarray(cells[:: self._rows, :: self._columns])

    def place_px(self, cell: tuple[float, float], shape: tuple[int, ...], step: int) -> tuple[float, float]:
        """(column, row) in px of a place given as (row, column) of the map, each cell's centre a whole number."""
        row, column = (
            at if way == 1 else size - 1 - at
            for at, size, way in zip(cell, shape, (self._rows, self._columns), strict=True)
        )
        return ((column + 0.5) * step, (row + 0.5) * step)


def _blocks(pixels: Greys, step: int, reduce: np.ufunc) -> Greys:
    """Blocks of `step` x `step` pixels brought together by `reduce`; what is left over at the ends is left out."""
    rows, columns = (size // step for size in pixels.shape)
    of_rows = pixels[: rows * step : step].copy()
    for k in range(1, step):
        reduce(of_rows, pixels[k : rows * step : step], out=of_rows)
    of_columns = of_rows[:, : columns * step : step].copy()
    for k in range(1, step):
        reduce(of_columns, of_rows[:, k : columns * step : step], out=of_columns)
    return of_columns


def _middles(mask: Mask, step: int) -> Mask:
    """The mask at the middle pixel of each block."""
    rows, columns = (size // step for size in mask.shape)
    return mask[step // 2 :: step, step // 2 :: step][:rows, :columns]


def _on_pixels(cells: Mask, step: int, shape: tuple[int, ...]) -> Mask:
    """The answer of its cell for every pixel; those left over at the ends belong to the last cells."""
    wide = np.empty((len(cells), shape[1]), np.bool_)
    covered = cells.shape[1] * step
    wide[:, :covered] = np.repeat(cells, step, axis=1)
    wide[:, covered:] = wide[:, covered - 1 : covered]
    full = np.empty(shape, np.bool_)
    covered = len(cells) * step
    full[:covered] = np.repeat(wide, step, axis=0)
    full[covered:] = full[covered - 1]
    return full


# Breast and skin --------------------------------------------------------------------------------------------------


class _Levels(NamedTuple):
    """Greys: of air, of tissue, and that from which on something lies in the beam."""

    air: float
    tissue: float
    skin: float


def _levels(grey: Greys, padded: Mask) -> _Levels:
    """Air and tissue are the medians of what lies below and above the threshold that parts greys best (Otsu 1979)."""
    frame = _frame(padded)
    greys = grey[~frame] if (padded & ~frame).any() else grey[~padded]
    if not greys.size or np.ptp(greys) == 0:
        return _Levels(0.0, 1.0, 1.0)
    counts, edges = np.histogram(greys, 256)
    middles = (edges[:-1] + edges[1:]) / 2
    below = np.cumsum(counts)[:-1]
    above = below[-1] + counts[-1] - below
    sums = np.cumsum(counts * middles)
    between = below * above * (sums[:-1] / below - (sums[-1] - sums[:-1]) / np.maximum(above, 1)) ** 2
    threshold = edges[1 + int(np.argmax(between))]
    air, tissue = float(np.median(greys[greys <= threshold])), float(np.median(greys[greys > threshold]))
    return _Levels(air, tissue, air + SKIN_LEVEL * (tissue - air))


def _frame(padded: Mask) -> Mask:
    """Whole rows and columns of padding, which frame a film. Other padding stands where the air is."""
    return np.asarray(padded.all(axis=1, keepdims=True) | padded.all(axis=0))


def _breast(is_bright: Mask, padded: Mask, cell_mm: float) -> Mask:
    """The largest part that reaches the chest wall, without what hangs on it by a narrow bridge."""
    frame = _frame(padded)
    rows, columns = np.flatnonzero(~frame.all(axis=1)), np.flatnonzero(~frame.all(axis=0))
    breast = np.zeros_like(is_bright)
    if not len(rows):
        return breast
    film = np.ix_(rows, columns)
    at_wall = 2 * NECK_MM / cell_mm
    # Dark places within are tissue: fat, or what processing made black. They may reach any border but that in front.
    enclosed = np.pad(_largest(is_bright[film], at_wall), ((1, 1), (1, 0)), constant_values=True)
    whole = ndimage.binary_fill_holes(enclosed)[1:-1, 1:]
    neck = NECK_MM / cell_mm
    core = _largest(_distance(whole) > neck, at_wall + neck)
    breast[film] = whole & (_distance(~core) <= neck + 1.5) if core.any() else False
    return breast


def _largest(mask: Mask, at_wall: float) -> Mask:
    """The largest part; what begins further from the chest wall than `at_wall` counts a quarter."""
    parts, count = ndimage.label(mask, np.ones((3, 3)))
    if not count:
        return mask
    areas = np.bincount(parts.ravel(), minlength=count + 1)[1:].astype(np.float64)
    areas[np.array([columns.start for _, columns in ndimage.find_objects(parts)]) > at_wall] *= 0.25
    return np.asarray(parts == 1 + int(np.argmax(areas)))


def _depth(breast: Mask, padded: Mask, cell_mm: float) -> Greys:
    """Distance from the skin, mm. Behind the chest wall and beyond the ends of a film there is no air."""
    if not breast.any():
        return np.zeros(breast.shape, np.float32)
    air = ~breast
    rows = np.flatnonzero(breast.any(axis=1))
    first = np.where(breast.any(axis=1), breast.argmax(axis=1), breast.shape[1])
    wall = int(first.min())
    is_at_wall = first <= wall + CUT_MM / 2 / cell_mm
    air &= ~(is_at_wall[:, None] & (np.arange(breast.shape[1]) < first[:, None]))
    for end, beyond in ((rows[0], slice(0, rows[0])), (rows[-1], slice(rows[-1] + 1, None))):
        beside = padded[beyond][-1:] if beyond.start == 0 else padded[beyond][:1]
        if beside.size and (breast[end] & beside[0]).sum() * cell_mm > CUT_MM:
            air[beyond] = False
    depth = _distance(~air) * np.float32(cell_mm)
    return np.asarray(np.where(breast, depth, 0), np.float32)


def _distance(mask: Mask) -> Greys:
    """Distance of each cell of the mask from what is not in it; nothing is known beyond the array."""
    if mask.all():
        return np.full(mask.shape, np.inf, np.float32)
    return np.asarray(ndimage.distance_transform_edt(mask), np.float32)


# The pectoral muscle ----------------------------------------------------------------------------------------------


def _muscle(grey: Greys, breast: Mask, depth: Greys, cell_mm: float, levels: _Levels) -> Mask:
    """What lies above and behind the muscle's edge; nothing where no edge is seen.

    A straight line from the upper border to the chest wall is sought across which the grey falls most, over its whole
    length, and then bent to the edge (after Karssemeijer N, Phys Med Biol 1998, 43:365-378).
    """
    nothing = np.zeros_like(breast)
    rows, columns = np.flatnonzero(breast.any(axis=1)), np.flatnonzero(breast.any(axis=0))
    if not len(rows):
        return nothing
    corner = np.array([rows[0], columns[0]], np.float64)
    smooth = ndimage.gaussian_filter(grey, 1.5 / cell_mm).astype(np.float64)
    line = _muscle_line(smooth / max(levels.tissue - levels.air, 1e-6), depth > FADE_MM, corner, cell_mm)
    if line is None:
        return nothing
    along = _bent(smooth, corner, line, cell_mm)
    edge = np.interp(np.arange(len(breast)), along[:, 0], along[:, 1], right=-1.0)
    edge[: int(corner[0])] = -1.0
    return np.asarray(np.arange(breast.shape[1]) < edge[:, None])


def _muscle_line(smooth: Floats, inner_breast: Mask, corner: Floats, cell_mm: float) -> tuple[float, float] | None:
    """Where the best line meets the upper border and the chest wall, mm from the corner.

    Greys of `smooth` are in those between air and tissue.
    """
    height_mm = float(np.ptp(np.flatnonzero(inner_breast.any(axis=1)))) * cell_mm
    tops, walls = (np.arange(*reach) for reach in (MUSCLE_TOP_MM, MUSCLE_WALL_MM))
    top, wall = (values.ravel() for values in np.meshgrid(tops, walls))
    steep = wall / top
    kept = (steep >= MUSCLE_STEEPNESS[0]) & (steep <= MUSCLE_STEEPNESS[1]) & (wall <= 0.9 * height_mm)
    top, wall = top[kept], wall[kept]
    if not len(top):
        return None
    length = np.hypot(top, wall)
    part = np.linspace(0.06, 0.94, 30)
    places = np.stack([wall[:, None] * part, top[:, None] * (1 - part)], axis=-1)
    normal = np.stack([top, wall], axis=-1)[:, None] / length[:, None, None]
    deep, inner, outer, far = (
        _read(smooth, inner_breast, corner + (places + away * normal) / cell_mm)
        for away in (-3 * MUSCLE_SIDE_MM, -MUSCLE_SIDE_MM, MUSCLE_SIDE_MM, 3 * MUSCLE_SIDE_MM)
    )
    is_held = ~np.isnan(inner) & ~np.isnan(outer)
    # What the grey falls anyway, deeper in the muscle and further in the breast, is no edge.
    slopes = np.stack([deep - inner, outer - far])
    anyway = np.where(np.isnan(slopes), 0, slopes).sum(axis=0) / 4
    # No single bright spot may carry a line.
    fall = np.where(is_held, np.clip(inner - outer - anyway, -0.15, 0.15), 0)
    mean = fall.sum(axis=1) / np.maximum(is_held.sum(axis=1), 1)
    score = mean * np.sqrt(length) * (is_held.mean(axis=1) > 0.7)
    best = int(np.argmax(score))
    if mean[best] < LEAST_MUSCLE_STEP or (fall[best] > 0).mean() < 0.6:
        return None
    return float(top[best]), float(wall[best])


def _read(picture: Floats, breast: Mask, places: Floats) -> Floats:
    """Greys at places (row, column); NaN where they are not in the breast."""
    row, column = np.moveaxis(np.rint(places).astype(np.intp), -1, 0)
    is_inside = (row >= 0) & (row < picture.shape[0]) & (column >= 0) & (column < picture.shape[1])
    row, column = row.clip(0, picture.shape[0] - 1), column.clip(0, picture.shape[1] - 1)
    return np.where(is_inside & breast[row, column], picture[row, column], np.nan)


def _bent(smooth: Floats, corner: Floats, line: tuple[float, float], cell_mm: float) -> Floats:
    """The edge near a straight line as (row, column), rows growing: by dynamic programming over shifts across it."""
    top, wall = line
    length = float(np.hypot(top, wall))
    normal = np.array([top, wall]) / length
    part = np.arange(0, length, 1.0) / length
    shifts = np.arange(-MUSCLE_BEND_MM, MUSCLE_BEND_MM + 0.5, 0.5)
    base = np.stack([wall * part, top * (1 - part)], axis=-1)

    def at(shift: Floats) -> Floats:
        places = (base[:, None] + shift[:, None] * normal) / cell_mm + corner
        return np.asarray(
            ndimage.map_coordinates(smooth, np.moveaxis(places, -1, 0), order=1, mode="nearest"), np.float64
        )

    gain = at(shifts - 2.0) - at(shifts + 2.0)
    gain -= 0.3 * np.abs(gain).max() * (shifts / MUSCLE_BEND_MM) ** 2
    total, came = gain[0], []
    for here in gain[1:]:
        options = np.stack([np.roll(total, 1), total, np.roll(total, -1)])
        options[0, 0] = options[2, -1] = -np.inf
        choice = options.argmax(axis=0)
        came.append(choice)
        total = here + np.take_along_axis(options, choice[None], axis=0)[0]
    k = int(total.argmax())
    path = [k]
    for choice in reversed(came):
        k += int(choice[k]) - 1
        path.append(k)
    edge = (base + shifts[path[::-1]][:, None] * normal) / cell_mm + corner
    order = np.argsort(edge[:, 0], kind="stable")
    end = np.array([[corner[0] + wall / cell_mm, corner[1]]])
    start = np.array([[corner[0] - 1, edge[order[0], 1]]])
    return np.concatenate([start, edge[order], end])


# The nipple -------------------------------------------------------------------------------------------------------


def _nipple(breast: Mask, pectoral: Mask, cell_mm: float) -> tuple[tuple[float, float] | None, float]:
    """Nipple as (row, column) and how certain it is.

    It is looked for where the skin stands out next to the place that lies foremost from the chest wall, or on views
    from the side from the muscle.
    """
    rows = np.flatnonzero(breast.any(axis=1))
    if len(rows) < 3:
        return None, 0.0
    front = breast.shape[1] - 1 - breast[rows][:, ::-1].argmax(axis=1).astype(np.float64)
    ahead = front.copy()
    held = np.flatnonzero(pectoral.any(axis=1))
    if len(held) * cell_mm > CUT_MM:
        edge = pectoral.shape[1] - pectoral[held][:, ::-1].argmax(axis=1)
        slope = float(np.clip(np.polyfit(held, edge, 1)[0], -STEEPEST_MUSCLE, 0.0))
        ahead = (front - slope * rows) / np.hypot(1, slope)
    ahead = ndimage.gaussian_filter1d(ahead, 1.5 / cell_mm, mode="nearest")
    foremost = int(np.argmax(ahead))
    height = (ahead - ndimage.gaussian_filter1d(ahead, 8 / cell_mm, mode="nearest")) * cell_mm
    away = (np.arange(len(rows)) - foremost) * cell_mm
    standing = (
        (height - CURVE_MM) * np.exp(-0.5 * (away / (NIPPLE_REACH_MM / 2)) ** 2) * (np.abs(away) <= NIPPLE_REACH_MM)
    )
    best = int(np.argmax(standing))
    is_at_end = foremost in (0, len(rows) - 1)
    certainty = float(np.clip((height[best] - CURVE_MM) / NIPPLE_HEIGHT_MM, 0.2, 0.9)) * (0.5 if is_at_end else 1.0)
    return (float(rows[best]), float(front[best] - 1.0 / cell_mm)), certainty


# Metal and markers ------------------------------------------------------------------------------------------------


def _metal(view: Mammogram, breast: Mask, depth: Greys, levels: _Levels, step: int) -> Mask:
    """Cells with markers, clips, wires and devices; the cells lie as the view does.

    They are as bright as anything in the image, evenly so to a sharp edge, and larger or longer than a calcification
    of that kind: see `_is_metal`.
    """
    metal = np.zeros_like(breast)
    if not breast.any():
        return metal
    peak = _blocks(view.pixels, step, np.maximum)
    cell_mm = step * view.spacing.object_mm
    around = np.minimum(*(ndimage.uniform_filter(peak, max(3, round(mm / cell_mm))) for mm in AROUND_MM))
    brightest = float(peak.max())
    range_ = brightest - levels.air
    candidates = (peak >= brightest - 0.1 * range_) & (peak - around > LEAST_METAL_CONTRAST * range_)
    candidates &= ndimage.binary_dilation(breast, iterations=round(BESIDE_SKIN_MM / cell_mm))
    parts, count = ndimage.label(candidates, np.ones((3, 3)))
    if not count:
        return metal
    sizes = np.bincount(parts.ravel())[1:]
    boxes = ndimage.find_objects(parts)
    for k in np.argsort(-sizes)[:MOST_CANDIDATES]:
        here = boxes[k]
        shadow = _shadow(view, here, float(around[here].min()), brightest, step)
        if shadow is not None and _is_metal(shadow, float(depth[here].min())):
            cells = (shadow.pixels // step).clip(0, np.array(metal.shape) - 1)
            metal[cells[:, 0], cells[:, 1]] = True
    return np.asarray(ndimage.binary_dilation(metal, np.ones((3, 3))))


class _Shadow(NamedTuple):
    """Something bright: its pixels [n, 2] (row, column); size; and how it is bright.

    `flat` is the part of it that is as bright as anything, `sharp` the ratio of its core to all that it brightens,
    `filled` the part that it fills of the ellipse with its moments.
    """

    pixels: NDArray[np.intp]
    area_mm2: float
    long_mm: float
    short_mm: float
    flat: float
    sharp: float
    filled: float


def _shadow(view: Mammogram, box: tuple[slice, slice], local: float, brightest: float, step: int) -> _Shadow | None:
    """What is bright in a box of cells, at full resolution."""
    margin = max(2, round(SHADOW_MARGIN_MM / view.spacing.object_mm))
    start = [max(0, side.start * step - margin) for side in box]
    # Something large need not be looked at in every pixel.
    stride = max(1, max(side.stop - side.start for side in box) * step // MOST_SHADOW_PIXELS)
    crop = view.pixels[tuple(slice(at, side.stop * step + margin, stride) for at, side in zip(start, box, strict=True))]
    height = (crop - local) / max(brightest - local, 1e-6)
    parts, _ = ndimage.label(height > 0.5, np.ones((3, 3)))
    peak = np.unravel_index(int(np.argmax(height)), height.shape)
    part = parts == parts[peak]
    place = np.argwhere(part)
    if len(place) < 2:
        return None
    if part[[0, -1]].any() or part[:, [0, -1]].any():
        return None  # a part of something larger: the muscle, dense tissue
    spread = np.linalg.eigvalsh(np.cov(place.T) + np.eye(2) / 12)
    pixel_mm = stride * view.spacing.object_mm
    short_mm, long_mm = (4 * np.sqrt(spread) * pixel_mm).tolist()
    area_mm2 = len(place) * pixel_mm**2
    wide, _ = ndimage.label(height > 0.25, np.ones((3, 3)))
    return _Shadow(
        pixels=place * stride + np.array(start),
        area_mm2=area_mm2,
        long_mm=long_mm,
        short_mm=short_mm,
        flat=float((height[part] > 0.9).mean()),
        sharp=float((height[part] > 0.75).sum() / (wide == wide[peak]).sum()),
        filled=area_mm2 / (np.pi / 4 * long_mm * short_mm),
    )


def _is_metal(shadow: _Shadow, depth_mm: float) -> bool:
    """Whether it is too evenly bright, too sharp and too large for a calcification.

    A calcification is a heap of salt: its shadow fades to its edge, and one as large as this has gaps or a pale middle.
    """
    if shadow.flat < LEAST_FLAT or shadow.sharp < LEAST_SHARP or shadow.filled < LEAST_FILLED:
        return False
    if shadow.long_mm >= WIRE_MM and shadow.short_mm <= WIRE_WIDTH_MM:
        return True
    return shadow.area_mm2 >= (MARKER_MM2 if depth_mm <= MARKER_DEPTH_MM else CLIP_MM2)

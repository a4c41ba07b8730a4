"""The lungs of a made chest: parenchyma, lobes and the fissures between them, haze and emphysema."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from pipelines.phantom.chest.build import HardNegative
from pipelines.phantom.chest.frame import LEFT, LLL, LUL, RIGHT, RLL, RML, RUL, STEP_MM, Drawing, doubled
from pipelines.phantom.chest.trees import distance_to_piece
from pipelines.phantom.head.shapes import Field, Grid, smooth_noise


def crop(d: Drawing) -> None:
    """From here on only the box about the lungs is worked on; `whole` keeps the rest."""
    inner = np.any(d.lung < 6, axis=0)
    rows, columns = np.flatnonzero(inner.any(axis=1)), np.flatnonzero(inner.any(axis=0))
    y, x = (slice(int(max(found[0] - 2, 0)), int(found[-1] + 4)) for found in (rows, columns))
    _, depth, width = d.shape
    fine = (slice(None), slice(2 * y.start, min(2 * y.stop - 2, depth)), slice(2 * x.start, min(2 * x.stop - 2, width)))
    d.whole, d.whole_origin, d.corner = d.hu, d.origin, (0, 2 * y.start, 2 * x.start)
    d.window = fine
    d.hu, d.distance = d.hu[fine], np.ascontiguousarray(d.distance[fine])
    d.shape = d.hu.shape
    d.origin = (d.origin[0] + 2 * x.start, d.origin[1] + 2 * y.start, d.origin[2])
    d.lung = d.lung[:, y, x]
    d.coarse = Grid(d.origin, d.lung.shape, STEP_MM)
    d.x, d.y, d.z = d.coarse.axes()
    d.hard = [
        HardNegative(h.kind, (h.center[0], h.center[1] - 2 * y.start, h.center[2] - 2 * x.start), h.radius_mm)
        for h in d.hard
    ]


def draw_lungs(d: Drawing) -> None:
    """Parenchyma, fissures and what is wrong with it."""
    o = d.options
    _cut_hilum(d)
    x = Grid(d.origin, d.shape).axes()[0]
    d.lungs = np.where(d.distance < 0, np.where(x < d.plate_x, RIGHT, LEFT), 0).astype(np.uint8)
    _drop_crumbs(d)
    _draw_lobes(d)
    mottle = 9 * d.noise(40) + 7 * d.noise(14) + 6 * d.noise(6)
    back, front = d.back_y(d.z), d.front_y(d.z)
    down = (d.y - front) / (back - front)
    down = 1 - down if o.is_prone else down
    gradient = 45 * (down - 0.45) - 12 * (d.rise(d.z) - 0.4)
    dependent = 130 * o.dependent * np.exp(-np.clip(-d.lung, 0, 60) / 5) * np.clip((down - 0.72) / 0.2, 0, 1)
    air = o.lung_hu - 25 + mottle + gradient + dependent * (1 + 0.5 * d.noise(16))
    air += _haze(d)
    parenchyma = doubled(np.asarray(air, np.float32), d.shape)
    parenchyma += _grain(d, 6.0)
    _bore_emphysema(d, parenchyma)
    d.part = np.clip(0.5 - d.distance, 0, 1)
    d.part[d.lungs == 0] = 0
    d.part = np.where((d.lungs == 0) & (d.distance < 0), 0, d.part)
    sheet = d.sheet
    np.maximum(parenchyma, -1000, out=parenchyma)
    parenchyma += sheet * (d.sheet_hu - parenchyma)
    d.parenchyma = parenchyma


def _grain(d: Drawing, sd: float) -> Field:
    """Texture of the size of the secondary lobules' walls, repeated from one block."""
    block = ndimage.gaussian_filter(d.generator.standard_normal((96, 96, 96)).astype(np.float32), 1.0, mode="wrap")
    block *= sd / block.std()
    times = [-(-side // 96) for side in d.shape]
    return np.tile(block, times)[: d.shape[0], : d.shape[1], : d.shape[2]]


def _cut_hilum(d: Drawing) -> None:
    """The roots of the lungs are no lung."""
    s = d.scale
    for center, way in ((d.hilum_right, -1), (d.hilum_left, 1)):
        box = d.around(center, (40, 40, 50))
        if box is None:
            continue
        x, y, z = d.axes(box)
        blob = np.sqrt(
            ((x - center[0] + way * 4) / 11) ** 2 + ((y - center[1]) / 10) ** 2 + ((z - center[2]) / 18) ** 2
        )
        d.distance[box] = np.maximum(d.distance[box], (1 - blob) * 10 * s)


def _drop_crumbs(d: Drawing) -> None:
    """Only the two large pieces are lungs."""
    small = d.lungs[::3, ::3, ::3]
    for side in (RIGHT, LEFT):
        pieces, count = ndimage.label(small == side)
        if count > 1:
            largest = np.bincount(pieces.ravel())[1:].argmax() + 1
            other = np.repeat(np.repeat(np.repeat((pieces > 0) & (pieces != largest), 3, 0), 3, 1), 3, 2)
            other = other[: d.shape[0], : d.shape[1], : d.shape[2]]
            d.lungs[(d.lungs == side) & other] = 0


def _draw_lobes(d: Drawing) -> None:
    """Fissures are sheets over (y, x): the oblique ones fall from back to front, the horizontal one is flat."""
    draw = d.generator.uniform
    x, y, z = Grid(d.origin, d.shape).axes()
    d.lobes = np.zeros(d.shape, np.uint8)
    d.sheet = np.zeros(d.shape, np.float32)
    d.sheet_hu = draw(-640, -480)
    right = d.lungs == RIGHT
    oblique = [_sheet_height(d, side) for side in (-1, 1)]
    level = d.hilum_right[2] + draw(-2, 8)
    flat = (
        level
        + 0.04 * (y[0] + 40)
        + 0.0016 * (x[0] + 70) ** 2
        + 4 * smooth_noise(d.generator, (d.shape[1], d.shape[2]), 60)
    )
    d.lobes[right] = RLL
    above = z > oblique[0]
    upper = right & above
    d.lobes[upper] = RML
    d.lobes[upper & (z > flat)] = RUL
    left = d.lungs == LEFT
    d.lobes[left] = LLL
    d.lobes[left & (z > oblique[1])] = LUL
    width = draw(0.3, 0.55)
    for height, where in ((oblique[0], right), (oblique[1], left), (flat, upper)):
        steep = np.sqrt(1 + sum(g**2 for g in np.gradient(height)))
        hole = smooth_noise(d.generator, height.shape, 40)
        strength = np.clip(1.4 + hole, 0, 1) * width
        flat_distance = np.abs(z - height) / steep
        sheet = np.clip(strength + 0.5 - flat_distance, 0, 1) * np.minimum(strength * 2, 1)
        d.sheet = np.where(where, np.maximum(d.sheet, sheet), d.sheet)


def _sheet_height(d: Drawing, side: int) -> Field:
    o, draw = d.options, d.generator.uniform
    _, y, _ = Grid(d.origin, d.shape).axes()
    x = Grid(d.origin, d.shape).axes()[0][0]
    rear = d.top - o.height * draw(0.18, 0.28)
    slope = draw(0.85, 1.15) * o.height / 260
    back = float(d.back_y(rear))
    far = back - 5 - y[0]
    height = rear - slope * far + 0.0008 * far**2 - 0.22 * np.abs(x - side * 40)
    wave = smooth_noise(d.generator, (d.shape[1], d.shape[2]), 70) * 5
    return np.asarray(height + wave, np.float32)


def _haze(d: Drawing) -> Field:
    field = np.zeros(d.coarse.shape, np.float32)
    for _ in range(d.options.hazes):
        at = somewhere(d, 10)
        size = d.generator.uniform(8, 22)
        field += (
            d.generator.uniform(40, 140)
            * np.exp(-((d.blob(at, (size,) * 3) / size + 1) ** 2) * 1.5)
            * (1 + 0.5 * d.noise(7))
        )
        if size < 14:
            d.note("haze", at, size)
    return field


def _bore_emphysema(d: Drawing, parenchyma: Field) -> None:
    """Holes of 2 to 10 mm, more in the upper lobes, and now and then bullae of 12 to 32 mm."""
    amount = d.options.emphysema
    if not amount:
        return
    holes, bullae = int(amount * 2500), int(d.generator.poisson(5 * amount))
    places = np.concatenate([lung_voxels(d, holes, upper=0.7), lung_voxels(d, bullae, upper=0.95, depth_mm=1.0)])
    radius = np.concatenate([d.generator.gamma(3, 0.9, holes) + 0.8, d.generator.uniform(6, 16, bullae)])
    for place, reach in zip(places.astype(np.float32), radius, strict=True):
        end = place + np.array([0, 0, 0.8 * reach], np.float32)
        found = distance_to_piece(d.shape, place, end, float(reach) + 2)
        if found is not None:
            box, distance = found
            part = np.clip((reach - distance) / 2 + 0.5, 0, 1) * (0.5 + 0.5 * amount)
            parenchyma[box] += part * (-985 - parenchyma[box])


def lung_voxels(d: Drawing, count: int, upper: float = 0.0, depth_mm: float = 2.0) -> NDArray[np.int64]:
    """Random voxels (z, y, x) in the lungs at least `depth_mm` under their surface."""
    found: list[NDArray[np.int64]] = []
    total = 0
    low = int(d.floor)
    for _ in range(200):
        tried = (d.generator.random((4 * count + 64, 3)) * np.array(d.shape)).astype(np.int64)
        keep = (d.distance[tuple(tried.T)] < -depth_mm) & (d.lungs[tuple(tried.T)] > 0)
        chance = 1 - upper * (1 - np.clip((tried[:, 0] - low) / d.options.height, 0, 1))
        keep &= d.generator.random(len(tried)) < chance
        found.append(tried[keep])
        total += len(found[-1])
        if total >= count:
            break
    return np.concatenate(found)[:count]


def somewhere(d: Drawing, depth_mm: float) -> tuple[float, float, float]:
    """A random point in the lungs."""
    k, j, i = (lung_voxels(d, 1, depth_mm=depth_mm)[0]).tolist()
    return (i + d.origin[0], j + d.origin[1], k + d.origin[2])

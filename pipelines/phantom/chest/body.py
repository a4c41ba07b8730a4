"""The soft parts of a made chest, drawn on the lattice: mediastinum, the shape of the lungs, wall and abdomen."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from pipelines.phantom.chest.frame import FAR_MM, STEP_MM, Drawing, doubled
from pipelines.phantom.head.shapes import Field, Mask, Point, smooth_noise, smooth_union

_AIR, _FAT, _SKIN = -1000.0, -105.0, 20.0


def shape_mediastinum(d: Drawing) -> None:
    """Heart, great vessels, gullet, windpipe and spine with the fat about them: what the lungs leave free."""
    draw, s = d.generator.uniform, d.scale
    _, cy, cz = d.carina
    sy = d.spine_y
    grow_ = draw(0.9, 1.2)
    d.parts = []
    blood = d.options.contrast_hu
    zs = np.linspace(-20, d.shape[0] + 10, 14)
    spine = d.pipe([(0, sy(z), z) for z in zs], [float(20 - 5 * np.clip(d.rise(z), 0, 1)) * s for z in zs])
    heart_z = d.dome + draw(20, 34) * s
    front = float(d.front_y(heart_z))
    gap = d.spine_y(heart_z) - 20 * s - front
    hy = front + 0.40 * gap
    heart = _turned_heart(d, (draw(16, 26) * s, hy, heart_z), (70 * s * grow_, 0.42 * gap * grow_, 50 * s * grow_))
    atrium = d.blob((4, front + 0.80 * gap, heart_z + 18 * s), (38 * s, 0.17 * gap, 28 * s))
    behind = d.pipe([(8 * s, front + 0.84 * gap, -10), (4 * s, front + 0.82 * gap, cz - 20)], [20 * s, 15 * s])
    arch_z = cz + draw(16, 26) * s
    calibre = draw(11.5, 15.5) * s
    aorta = d.pipe(
        [
            (4, hy + 6, heart_z + 26 * s),
            (-18 * s, cy - 28 * s, cz - 22 * s),
            (-14 * s, cy - 26 * s, arch_z - 12),
            (-2, cy - 18 * s, arch_z + 2),
            (14 * s, cy - 2, arch_z + 2),
            (23 * s, cy + 18 * s, arch_z - 10),
            (25 * s, sy(cz) - 14 * s, cz - 8 * s),
            (22 * s, sy(cz - 70) - 20 * s, cz - 70),
            (12 * s, sy(d.floor) - 26 * s, d.floor),
            (4, sy(0) - 30 * s, -14),
        ],
        [calibre * k for k in (1.2, 1.25, 1.2, 1.05, 1.0, 0.95, 0.92, 0.88, 0.82, 0.8)],
    )
    cava = d.pipe(
        [
            (-30 * s, hy + 14 * s, heart_z + 20),
            (-27 * s, cy - 24 * s, cz - 25),
            (-25 * s, cy - 22 * s, cz + 22),
            (-10, cy - 26 * s, cz + 48),
        ],
        [11 * s, 9.5 * s, 8.5 * s, 7 * s],
    )
    trunk = d.pipe(
        [(22 * s, hy + 2, heart_z + 30), (24 * s, cy - 34 * s, cz - 34), (20 * s, cy - 18 * s, cz - 18)],
        [15 * s, 14 * s, 12.5 * s],
    )
    d.hilum_right = np.array([-46 * s + d.lean[0], cy + 2 * s, cz - 30 * s])
    d.hilum_left = np.array([47 * s + d.lean[0], cy + 10 * s, cz - 20 * s])
    right_artery = d.pipe(
        [(20 * s, cy - 20 * s, cz - 20), (-14 * s, cy - 13 * s, cz - 21 * s), (-36 * s, cy - 8 * s, cz - 20 * s)],
        [12 * s, 10.5 * s, 9 * s],
    )
    left_artery = d.pipe(
        [(20 * s, cy - 18 * s, cz - 18), (34 * s, cy - 2 * s, cz - 6 * s), (42 * s, cy + 12 * s, cz - 12 * s)],
        [12 * s, 10 * s, 8.5 * s],
    )
    upper_vessels, upper_fat = _upper_vessels(d, cy, cz, arch_z)
    gullet = d.pipe(
        [(2 * s, sy(z) - 25 * s + (4 if z < cz - 60 else 0), z) for z in (0, cz - 70, cz, d.shape[0] + 4)],
        [8 * s] * 4,
    )
    windpipe = d.pipe([(0, d.spine_y(d.top) - 42 * s, d.shape[0] + 8), d.carina], [9.5 * s, 9.5 * s])
    azygos = d.pipe([(-7 * s, sy(z) - 21 * s, z) for z in (0, cz - 40, cz + 10)], [3.5, 4, 4.5])
    plate_x = draw(-4, 6) + 0 * d.y
    front_y = d.front_y(d.z)
    plate = np.abs(d.x - plate_x) - draw(1, 4) - draw(8, 22) * np.clip(1 - (d.y - front_y) / draw(18, 40), 0, 1) ** 2
    plate = plate + 1.5 * d.noise(30)
    plate = np.maximum(plate, d.y - (cy - 20 * s))
    inlet = d.blob((0, d.spine_y(d.top) - 44 * s, d.top + 8), (38 * s, 36 * s, 46 * s))
    d.plate_x = float(np.asarray(plate_x).flat[0])
    fat_heart = heart - draw(2, 7)
    pad = np.minimum(
        d.blob((-34 * s, front + 22, d.dome + 6), (22, 20, 20)),
        d.blob((62 * s, front + 26, d.dome - 4), (24, 20, 20)),
    )
    canal = d.pipe([(0, sy(z) + 24 * s, z) for z in zs], [19 * s] * len(zs))
    d.mediastinum = smooth_union(spine - 3, canal, 6)
    for shape, width in (
        (fat_heart, 8),
        (behind, 14),
        (atrium - 2, 10),
        (aorta - 2, 6),
        (cava - 2, 6),
        (trunk - 2, 8),
        (right_artery - 1.5, 6),
        (left_artery - 1.5, 6),
        (gullet - 2, 8),
        (windpipe - 4, 8),
        (azygos - 1, 6),
        (plate, 10),
        (inlet, 10),
        (pad, 12),
        *((vessel - 3, 8) for vessel in upper_vessels),
        *((fat, 12) for fat in upper_fat),
    ):
        d.mediastinum = smooth_union(d.mediastinum, shape, width)
    noisy = d.noise(14)
    d.parts += [(gullet + 0.4 * noisy, 35.0), (azygos, 0.8 * blood + 8)]
    d.parts += [(heart + 2, 55.0 + 0.25 * (blood - 40)), (atrium, blood)]
    d.parts += [(np.maximum(heart + 12, -(np.abs(d.x - 0.4 * (d.z - heart_z) - 16) - 4.0)), blood)]
    d.parts += [(shape, blood) for shape in (cava, trunk, right_artery, left_artery, aorta, *upper_vessels)]
    _add_nodes(d)
    _add_thyroid(d)
    d.heart_middle = (18 * s, hy, heart_z)


def _upper_vessels(d: Drawing, cy: float, cz: float, arch_z: float) -> tuple[list[Field], list[Field]]:
    """Arteries from the arch and veins to the cava, and the fat that joins them to the middle: no lung lies between."""
    s = d.scale
    ascending: list[tuple[list[Point], list[float]]] = [
        *(
            (
                [
                    (x0 * s, cy - 18 * s + dy, arch_z + 6),
                    (x1 * s, cy - 22 * s + dy, arch_z + 34 * s),
                    (x2 * s, cy - 16 * s, arch_z + 80 * s),
                ],
                [6 * s, 5 * s, 4.5 * s],
            )
            for x0, x1, x2, dy in ((-8, -16, -22, -4), (6, 10, 14, 2), (14, 20, 27, 10))
        ),
        (
            [
                (-22 * s, cy - 26 * s, cz + 24),
                (22 * s, cy - 30 * s, cz + 52 * s),
                (30 * s, cy - 32 * s, cz + 76 * s),
            ],
            [6.5 * s, 6 * s, 5 * s],
        ),
        (
            [
                (-24 * s, cy - 24 * s, cz + 24),
                (-28 * s, cy - 28 * s, cz + 58 * s),
                (-32 * s, cy - 32 * s, cz + 78 * s),
            ],
            [7.5 * s, 6.5 * s, 5.5 * s],
        ),
    ]
    vessels = [d.pipe(points, radii) for points, radii in ascending]
    fat = [
        d.pipe([(part * x, y, z) for x, y, z in points], [1.5 * radius for radius in radii])
        for points, radii in ascending
        for part in (0.2, 0.6)
    ]
    return vessels, fat


def _turned_heart(d: Drawing, center: Sequence[float], radii: Sequence[float]) -> Field:
    """An egg whose long axis points left, down and forward."""
    axis = np.array([0.82, -0.42, -0.39])
    side = np.cross(axis, [0, 0, 1.0])
    side /= np.linalg.norm(side)
    frame = np.stack([axis, side, np.cross(axis, side)])
    offset = (d.x - np.float32(center[0]), d.y - np.float32(center[1]), d.z - np.float32(center[2]))
    u, v, w = (sum(np.float32(f) * o for f, o in zip(row, offset, strict=True)) for row in frame)
    taper = 1 - 0.25 * np.clip(u / radii[0], -1, 1)
    ratio = np.sqrt((u / radii[0]) ** 2 + (v / (radii[1] * taper)) ** 2 + (w / (radii[2] * taper)) ** 2)
    return np.asarray((ratio - 1) * min(radii), np.float32)


def _add_nodes(d: Drawing) -> None:
    draw, s = d.generator.uniform, d.scale
    for _ in range(int(d.generator.integers(4, 12))):
        cx, cy, cz = d.carina
        at = (cx + draw(-26, 26) * s, cy + draw(-22, 14) * s, cz + draw(-25, 40) * s)
        d.parts.insert(0, (d.blob(at, draw(2.5, 6, 3)), draw(30, 60)))


def _add_thyroid(d: Drawing) -> None:
    s, y, z = d.scale, d.spine_y(d.top) - 46 * d.scale, d.shape[0] - d.generator.uniform(0, 14)
    hu = d.generator.uniform(80, 115) + 0.2 * (d.options.contrast_hu - 40)
    d.parts += [(d.blob((side * 17 * s, y, z), (8 * s, 9 * s, 20 * s)), hu) for side in (-1, 1)]


def _cavity(d: Drawing) -> Field:
    """The space within the ribs, open below and above."""
    back, front = d.back_y(d.z), d.front_y(d.z)
    middle, deep = (back + front) / 2, (back - front) / 2
    n = d.square
    lift = 0.25 * np.clip(-(d.y - middle) / deep, 0, 1)  # narrower in front
    wide = d.half_width(d.z) * (1 - 0.35 * lift)
    ratio = (np.abs(d.x / wide) ** n + np.abs((d.y - middle) / deep) ** n) ** (1 / n)
    return np.asarray((ratio - 1) * np.minimum(wide, deep) * 1.05, np.float32)


def shape_lungs(d: Drawing) -> None:
    """The lungs fill the cage of the ribs but for diaphragm and mediastinum."""
    o, draw = d.options, d.generator.uniform
    d.cavity = _cavity(d)
    apex_y = (float(d.back_y(d.top)) + float(d.front_y(d.top))) / 2 + 2
    tall = 0.46 * o.height
    start = d.top - tall
    wide = float(d.half_width(start))
    deep = (float(d.back_y(start)) - float(d.front_y(start))) / 2
    up = np.clip((d.z - start) / tall, 0, 1.5)
    middle = apex_y + (d.back_y(d.z) + d.front_y(d.z)) / 4 - apex_y / 2
    domes = [
        (
            np.abs((d.x - side * 0.47 * wide) / (0.62 * wide)) ** 2.1
            + np.abs((d.y - middle) / (1.2 * deep)) ** 2.1
            + up ** draw(1.9, 2.3)
        )
        ** (1 / 2.1)
        for side in (-1, 1)
    ]
    roof = np.where(up > 0, (np.minimum(*domes) - 1) * 0.8 * tall, -FAR_MM).astype(np.float32)
    d.shell = np.maximum(d.cavity, roof)
    d.floor_map = _diaphragm(d)
    below = (d.floor_map[None] - d.z) / np.sqrt(
        1 + np.minimum(sum(g**2 for g in np.gradient(d.floor_map, STEP_MM)), 6)
    )[None]
    d.below = np.asarray(below, np.float32)
    lung = np.maximum(d.shell, below)
    lung = np.maximum(lung, -d.mediastinum)
    lung = lung + 0.6 * d.noise(18)
    d.lung = np.asarray(lung, np.float32)


def _diaphragm(d: Drawing) -> Field:
    """Height of the diaphragm over (y, x)."""
    o, draw = d.options, d.generator.uniform
    y, x = d.y[0], d.x[0]
    floor = np.full((y.shape[0], x.shape[1]), -20.0, np.float32)
    middle = (float(d.back_y(d.dome)) + float(d.front_y(d.dome))) / 2
    for side, lower in ((-1, 0.0), (1, draw(6, 18))):
        wide, deep = 0.60 * o.half_width, o.half_depth * 0.98
        rho = np.abs((x - side * 0.42 * o.half_width) / wide) ** 2.3 + np.abs((y - middle + 4) / deep) ** 2.3
        rise = d.dome - lower - d.floor + 18
        floor = np.maximum(floor, d.floor - 18 + rise * np.clip(1 - rho, 0, 1) ** 0.42)
    front = np.clip((middle - y) / o.half_depth, -0.2, 1)
    recess = d.floor + 0.30 * o.height * 0.8 * np.clip(front + 0.2, 0, 1) ** 1.3 + 4
    center = np.clip(1 - np.abs(x) / (0.5 * o.half_width), 0, 1) * (d.dome - 26 - d.floor) + d.floor
    center = np.where(y < middle + 30, center, d.floor)
    floor = np.maximum(np.maximum(floor, recess), center)
    bumps = smooth_noise(d.generator, floor.shape, 30 / STEP_MM) * 2.0
    return np.asarray(ndimage.gaussian_filter(floor + bumps, 1.6), np.float32)


def draw_soft_tissue(d: Drawing) -> None:
    """The body on the lattice: HU of everything but lungs, airways and bones."""
    o = d.options
    noise, fine = d.noise(22), d.noise(7)
    wall = d.cavity
    swell = np.clip(d.rise(d.z) - 0.72, 0, 1) * 75  # shoulders
    flank = np.abs(d.x) / (np.abs(d.x) + np.abs(d.y) + 20)
    thick = o.muscle * (0.75 + 0.5 * flank) + 13 + swell * flank
    fat = o.fat * (0.8 + 0.3 * d.noise(70)) * np.where(d.y < 0, 1.15, 0.9)
    breasts = _breasts(d)
    body = wall - np.maximum(thick + fat, 16)
    body = smooth_union(body, breasts, 12)
    back = d.back_y(d.z)
    body = np.maximum(body, d.y - (back + 30 + 0.5 * o.fat))  # the back lies flat on the table
    hu = np.full(d.coarse.shape, _AIR, np.float32)
    hu[body < 0] = _FAT
    muscle = (wall < thick + 2.5 * noise) & (body < -4)
    hu[muscle] = 55
    planes = (np.abs(np.mod(wall + 4 * noise, 11.0) - 5.5) < 0.9) & (fine + d.noise(30) > 0.2)
    hu[muscle & planes & (wall > 11)] = -60
    hu[(body < 0) & (body > -2.0)] = _SKIN
    hu[muscle & (fine > 1.9)] = -20
    between = (wall > 1.5) & (wall < 12) & (body < 0)
    hu[between] = np.where(np.abs(wall[between] - 2.2) < 1.0, -70, 45)
    inside = (wall <= 1.5) & (body < 0)
    hu[inside] = -95 + 6 * fine[inside]
    _draw_abdomen(d, hu, inside)
    for shape, value in d.parts:
        near = (shape < 1) & (inside | (wall < 14))
        hu[near] += np.clip(0.5 - shape[near] / 2, 0, 1) * (value - hu[near])
    hu = ndimage.gaussian_filter(hu, 0.45)
    d.soft = hu + 2.0 * noise * (hu > -500)


def _breasts(d: Drawing) -> Field:
    o, draw = d.options, d.generator.uniform
    size = draw(0, 1) if d.generator.random() < 0.5 else 0.0
    z = d.floor + 0.42 * o.height
    both = [
        d.blob((side * 0.6 * o.half_width, float(d.front_y(z)) + 8, z), (64, 40 + 30 * size + 0.8 * o.fat, 66))
        for side in (-1, 1)
    ]
    return np.asarray(np.minimum(*both) if size else np.full(d.coarse.shape, FAR_MM), np.float32)


def _draw_abdomen(d: Drawing, hu: Field, inside: Mask) -> None:
    o, draw = d.options, d.generator.uniform
    enhanced = 0.25 * max(0.0, o.contrast_hu - 40)
    below = inside & (d.below > 1.5)
    hu[below & (d.below < 4)] = 45
    noise = d.noise(25)
    liver = below & (d.below > 3) & (d.x < 30 + 12 * noise - 0.2 * d.y) & (d.y < d.back_y(d.z) - 12)
    hu[liver] = draw(45, 65) + enhanced
    spleen = d.blob((0.66 * o.half_width, 0.4 * o.half_depth, d.dome - 44), (32, 46, 42))
    hu[below & (d.below > 3) & (spleen < 0)] = 48 + enhanced
    place = (0.40 * o.half_width, -0.2 * o.half_depth, d.dome - 38)
    stomach = below & (d.below > 4) & (d.blob(place, (40, 46, 32)) < 2 * noise)
    hu[stomach] = 20
    level = place[1] + (draw(-18, 12) if not o.is_prone else -draw(-18, 12))
    hu[stomach & ((d.y > level) if o.is_prone else (d.y < level)) & (d.blob(place, (37, 43, 29)) < 2 * noise)] = -980
    colon = d.blob((0.72 * o.half_width, -0.45 * o.half_depth, d.dome - 58), (24, 24, 24))
    hu[below & (colon < 0) & (d.below > 4)] = 30
    hu[below & (colon < -3) & (d.below > 4)] = -960


def enlarge(d: Drawing) -> None:
    """From the lattice to voxels of 1 mm."""
    d.hu = doubled(d.soft, d.shape)
    d.distance = doubled(d.lung, d.shape)
    del d.soft

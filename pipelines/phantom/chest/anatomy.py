"""A made chest: clean Hounsfield units at 1 mm out of shapes, tubes and branching trees, with no data of anybody.

Arrays are `[z, y, x]` with z towards the head, y towards the back and x towards the patient's left, so that indices
grow along the axes of the patient (LPS). Within the drawing a point is (x, y, z) in mm from the middle of the grid's
floor. Smooth shapes are signed distances (negative inside) on a lattice of 2 mm, read linearly at 1 mm; ribs and
vessels are drawn at 1 mm within their boxes. Nodules are painted by `pipelines.phantom.chest.nodules`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

from pipelines.phantom.chest.trees import (
    Points,
    Tree,
    curve,
    distance_to_piece,
    draw_thick,
    draw_thin,
    grow,
    joined,
)
from pipelines.phantom.head.shapes import Field, Grid, Mask, Point, smooth_noise, smooth_union, tube

Labels = NDArray[np.uint8]
HardKind = Literal[
    "vessel_crossing",
    "bifurcation",
    "vessel_end_on",
    "pleural_tag",
    "pleural_plaque",
    "fissure",
    "fissure_thickening",
    "rib_end",
    "mucus",
    "scar",
    "atelectasis",
    "airway",
    "osteophyte",
    "lymph_node",
    "azygos",
    "diaphragm",
    "haze",
]

RIGHT, LEFT = 1, 2
RUL, RML, RLL, LUL, LLL = 1, 2, 3, 4, 5
_STEP = 2.0
_FAR = 60.0
_AIR, _FAT, _SKIN = -1000.0, -105.0, 20.0


@dataclass(frozen=True, slots=True)
class ChestOptions:
    """What makes one chest differ from another. Lengths in mm.

    `height`, `half_width` and `half_depth` are of the lungs' space; `contrast_hu` is what the vessels hold (40: none);
    `lung_hu` the parenchyma's mean; `terminals` the vessels' ends per mL of lung; `terminal_radius` theirs;
    `emphysema` and `dependent` go from 0 to 1; counts are of findings; `effusion_mm` is the depth of fluid,
    `cardiac_blur` the sigma of the heart's motion.
    """

    height: float = 260.0
    half_width: float = 132.0
    half_depth: float = 98.0
    fat: float = 16.0
    muscle: float = 14.0
    contrast_hu: float = 40.0
    lung_hu: float = -860.0
    terminals: float = 2.0
    terminal_radius: float = 0.4
    emphysema: float = 0.0
    dependent: float = 0.5
    is_prone: bool = False
    scars: int = 1
    plates: int = 1
    tags: int = 3
    plaques: int = 0
    mucus: int = 1
    hazes: int = 0
    bronchiectasis: float = 0.0
    effusion_mm: float = 0.0
    cardiac_blur: float = 0.0
    age: float = 0.5

    @staticmethod
    def random(generator: np.random.Generator) -> ChestOptions:
        """Options as they come in patients of a chest clinic."""
        draw = generator.uniform
        size = draw(0.9, 1.08)
        return ChestOptions(
            height=float(np.clip(260 * size * draw(0.93, 1.07), 232, 298)),
            half_width=132 * size * draw(0.95, 1.04),
            half_depth=min(96 * size * draw(0.92, 1.1), 112),
            fat=6 + 24 * draw() ** 1.5,
            muscle=draw(9, 20),
            contrast_hu=40.0 if generator.random() < 0.5 else draw(120, 350),
            lung_hu=draw(-880, -790),
            terminals=draw(1.4, 2.6),
            terminal_radius=draw(0.34, 0.46),
            emphysema=draw() if generator.random() < 0.25 else 0.0,
            dependent=draw(),
            is_prone=bool(generator.random() < 0.06),
            scars=int(generator.poisson(1.0)),
            plates=int(generator.poisson(0.7)),
            tags=int(generator.poisson(4)),
            plaques=int(generator.poisson(4)) if generator.random() < 0.12 else 0,
            mucus=int(generator.poisson(1.0)),
            hazes=int(generator.poisson(0.5)),
            bronchiectasis=draw() if generator.random() < 0.15 else 0.0,
            effusion_mm=draw(8, 35) if generator.random() < 0.06 else 0.0,
            cardiac_blur=draw(0.8, 2.5) if generator.random() < 0.5 else 0.0,
            age=draw(),
        )


@dataclass(frozen=True, slots=True)
class HardNegative:
    """A place known to look like a nodule: what it is, its index (z, y, x) and about how far it reaches."""

    kind: HardKind
    center: tuple[int, int, int]
    radius_mm: float


@dataclass(frozen=True, slots=True, eq=False)
class Chest:
    """A made chest on voxels of 1 mm, all arrays `[z, y, x]`.

    `hu` is int16 without noise or blur. `lungs` is 0 outside, 1 in the right and 2 in the left lung (vessels included,
    the large ones of the hilum excluded); `lobes` 0 or 1 to 5 (RUL, RML, RLL, LUL, LLL); `vessel` 1 where most of a
    voxel in the lung is vessel; `fissure` marks the fissures' sheets. `origin_mm` is the patient point (LPS) of voxel
    (0, 0, 0).
    """

    hu: NDArray[np.int16]
    lungs: Labels
    lobes: Labels
    vessel: Labels
    fissure: Mask
    origin_mm: Point
    hard: tuple[HardNegative, ...]
    options: ChestOptions


def make_chest(generator: np.random.Generator, *, options: ChestOptions | None = None) -> Chest:
    """A chest of random build, or with the given `options`."""
    return _Drawing(options or ChestOptions.random(generator), generator).drawn()


def _norm(field: Field, step: float = _STEP) -> Field:
    """A field made to grow by about 1 each mm, so that it is a distance near its zero."""
    slope = np.sqrt(sum(part**2 for part in np.gradient(field, step)))
    scaled: Field = field / np.maximum(slope, 1e-3)
    return scaled


def _doubled(values: Field, shape: tuple[int, ...]) -> Field:
    """Values of the lattice read linearly at every voxel of 1 mm: each second one lies between two of them."""
    for axis, side in enumerate(shape):
        low, high = (values.take(range(first, (side + 1) // 2 + first), axis) for first in (0, 1))
        wide = np.empty((*values.shape[:axis], 2 * low.shape[axis], *values.shape[axis + 1 :]), np.float32)
        before = (slice(None),) * axis
        wide[*before, ::2] = low
        np.add(low, high, out=low)
        low *= np.float32(0.5)
        wide[*before, 1::2] = low
        values = wide[*before, :side]
    return np.ascontiguousarray(values)


class _Drawing:
    """The drawing of one chest; each method draws one thing."""

    def __init__(self, options: ChestOptions, generator: np.random.Generator) -> None:
        self.options, self.generator = options, generator
        o = options
        width = int(np.clip(2 * (o.half_width + o.muscle + o.fat + 26), 320, 390)) // 2 * 2
        depth = int(np.clip(2 * (o.half_depth + 22 + o.fat * 0.8) + 24, 240, 290)) // 2 * 2
        tall = int(np.clip(o.height + 36, 280, 330)) // 2 * 2
        self.origin: Point = (-width / 2, -depth / 2 - 2, 0.0)
        self.shape = (tall, depth, width)
        self.coarse = Grid(self.origin, (tall // 2 + 2, depth // 2 + 2, width // 2 + 2), _STEP)
        self.x, self.y, self.z = self.coarse.axes()
        self.floor = 14.0
        self.top = self.floor + o.height
        self.hard: list[HardNegative] = []
        self._place()

    # ---- where things are

    def _place(self) -> None:
        """The landmarks that everything else follows."""
        draw, o = self.generator.uniform, self.options
        self.scale = o.half_width / 132
        self.kyphosis = draw(12, 30)
        self.lean = draw(-4, 4, 2)
        self.carina_z = self.floor + o.height * draw(0.63, 0.69)
        self.dome = self.floor + o.height * draw(0.24, 0.32)
        self.spine_gap = draw(28, 34) * self.scale
        self.square = draw(2.0, 2.4)
        self.carina: Point = (draw(-2, 6), self._spine_y(self.carina_z) - draw(36, 44) * self.scale, self.carina_z)

    def _part(self, z: Field | float) -> Field:
        return np.asarray((np.asarray(z, np.float32) - self.floor) / self.options.height, np.float32)

    def _back_y(self, z: Field | float) -> Field:
        """The rearmost of the lungs' space at a height."""
        t = self._part(z)
        return np.asarray(self.options.half_depth - self.kyphosis * ((t - 0.42) / 0.58) ** 2, np.float32)

    def _front_y(self, z: Field | float) -> Field:
        t = np.clip((self._part(z) - 0.42) / 0.58, 0, 1.2)
        low = np.clip(0.3 - self._part(z), 0, 0.3)
        depth = 2 * self.options.half_depth
        return np.asarray(-self.options.half_depth + 0.30 * depth * t**1.4 + 20 * low, np.float32)

    def _half_width(self, z: Field | float) -> Field:
        t = np.clip(self._part(z), -0.2, 1)
        o = self.options
        return np.asarray(
            o.half_width * (1 - 0.34 * np.clip(t - 0.25, 0, 1) ** 2.2 / 0.75**2.2 - 0.02 * (1 - t)), np.float32
        )

    def _spine_y(self, z: Field | float) -> float:
        return float(self._back_y(z)) - self.spine_gap

    def _cavity(self) -> Field:
        """The space within the ribs, open below and above."""
        back, front = self._back_y(self.z), self._front_y(self.z)
        middle, deep = (back + front) / 2, (back - front) / 2
        n = self.square
        lift = 0.25 * np.clip(-(self.y - middle) / deep, 0, 1)  # narrower in front
        wide = self._half_width(self.z) * (1 - 0.35 * lift)
        ratio = (np.abs(self.x / wide) ** n + np.abs((self.y - middle) / deep) ** n) ** (1 / n)
        return np.asarray((ratio - 1) * np.minimum(wide, deep) * 1.05, np.float32)

    def _noise(self, length_mm: float) -> Field:
        return smooth_noise(self.generator, self.coarse.shape, length_mm / _STEP)

    def _blob(self, center: Sequence[float], radii: Sequence[float]) -> Field:
        scaled = [
            (axis - np.float32(c)) / np.float32(r)
            for axis, c, r in zip((self.x, self.y, self.z), center, radii, strict=True)
        ]
        k0 = np.sqrt(scaled[0] ** 2 + scaled[1] ** 2 + scaled[2] ** 2)
        return np.asarray((k0 - 1) * np.float32(min(radii)), np.float32)

    def _pipe(self, points: Sequence[Sequence[float]], radii: Sequence[float], margin: float = 24.0) -> Field:
        line = [(float(p[0]), float(p[1]), float(p[2])) for p in points]
        return tube(self.coarse, line, radii, margin).on(self.coarse, _FAR)

    # ---- the drawing

    def drawn(self) -> Chest:
        self._shape_mediastinum()
        self._shape_lungs()
        self._draw_soft_tissue()
        self._enlarge()
        self._draw_bones()
        self._crop()
        self._draw_lungs()
        self._draw_trees()
        self._finish()
        return self._chest()

    def _shape_mediastinum(self) -> None:
        draw, s = self.generator.uniform, self.scale
        _, cy, cz = self.carina
        sy = self._spine_y
        grow_ = draw(0.9, 1.2)
        self.parts: list[tuple[Field, float]] = []
        blood = self.options.contrast_hu
        zs = np.linspace(-20, self.shape[0] + 10, 14)
        spine = self._pipe([(0, sy(z), z) for z in zs], [float(20 - 5 * np.clip(self._part(z), 0, 1)) * s for z in zs])
        heart_z = self.dome + draw(20, 34) * s
        front = float(self._front_y(heart_z))
        gap = self._spine_y(heart_z) - 20 * s - front
        hy = front + 0.40 * gap
        heart = self._turned_heart(
            (draw(16, 26) * s, hy, heart_z), (70 * s * grow_, 0.42 * gap * grow_, 50 * s * grow_)
        )
        atrium = self._blob((4, front + 0.80 * gap, heart_z + 18 * s), (38 * s, 0.17 * gap, 28 * s))
        behind = self._pipe([(8 * s, front + 0.84 * gap, -10), (4 * s, front + 0.82 * gap, cz - 20)], [20 * s, 15 * s])
        arch_z = cz + draw(16, 26) * s
        calibre = draw(11.5, 15.5) * s
        aorta = self._pipe(
            [
                (4, hy + 6, heart_z + 26 * s),
                (-18 * s, cy - 28 * s, cz - 22 * s),
                (-14 * s, cy - 26 * s, arch_z - 12),
                (-2, cy - 18 * s, arch_z + 2),
                (14 * s, cy - 2, arch_z + 2),
                (23 * s, cy + 18 * s, arch_z - 10),
                (25 * s, sy(cz) - 14 * s, cz - 8 * s),
                (22 * s, sy(cz - 70) - 20 * s, cz - 70),
                (12 * s, sy(self.floor) - 26 * s, self.floor),
                (4, sy(0) - 30 * s, -14),
            ],
            [calibre * k for k in (1.2, 1.25, 1.2, 1.05, 1.0, 0.95, 0.92, 0.88, 0.82, 0.8)],
        )
        cava = self._pipe(
            [
                (-30 * s, hy + 14 * s, heart_z + 20),
                (-27 * s, cy - 24 * s, cz - 25),
                (-25 * s, cy - 22 * s, cz + 22),
                (-10, cy - 26 * s, cz + 48),
            ],
            [11 * s, 9.5 * s, 8.5 * s, 7 * s],
        )
        trunk = self._pipe(
            [(22 * s, hy + 2, heart_z + 30), (24 * s, cy - 34 * s, cz - 34), (20 * s, cy - 18 * s, cz - 18)],
            [15 * s, 14 * s, 12.5 * s],
        )
        self.hilum_right = np.array([-46 * s + self.lean[0], cy + 2 * s, cz - 30 * s])
        self.hilum_left = np.array([47 * s + self.lean[0], cy + 10 * s, cz - 20 * s])
        right_artery = self._pipe(
            [(20 * s, cy - 20 * s, cz - 20), (-14 * s, cy - 13 * s, cz - 21 * s), (-36 * s, cy - 8 * s, cz - 20 * s)],
            [12 * s, 10.5 * s, 9 * s],
        )
        left_artery = self._pipe(
            [(20 * s, cy - 18 * s, cz - 18), (34 * s, cy - 2 * s, cz - 6 * s), (42 * s, cy + 12 * s, cz - 12 * s)],
            [12 * s, 10 * s, 8.5 * s],
        )
        branches = [
            self._pipe(
                [
                    (x0 * s, cy - 18 * s + dy, arch_z + 6),
                    (x1 * s, cy - 22 * s + dy, arch_z + 34 * s),
                    (x2 * s, cy - 16 * s, arch_z + 80 * s),
                ],
                [6 * s, 5 * s, 4.5 * s],
            )
            for x0, x1, x2, dy in ((-8, -18, -30, -4), (6, 12, 18, 2), (14, 22, 36, 10))
        ]
        veins_up = [
            self._pipe(
                [
                    (-22 * s, cy - 26 * s, cz + 24),
                    (30 * s, cy - 30 * s, cz + 52 * s),
                    (42 * s, cy - 32 * s, cz + 76 * s),
                ],
                [6.5 * s, 6 * s, 5 * s],
            ),
            self._pipe(
                [
                    (-24 * s, cy - 24 * s, cz + 24),
                    (-32 * s, cy - 28 * s, cz + 58 * s),
                    (-44 * s, cy - 32 * s, cz + 78 * s),
                ],
                [7.5 * s, 6.5 * s, 5.5 * s],
            ),
        ]
        gullet = self._pipe(
            [(2 * s, sy(z) - 25 * s + (4 if z < cz - 60 else 0), z) for z in (0, cz - 70, cz, self.shape[0] + 4)],
            [8 * s] * 4,
        )
        windpipe = self._pipe(
            [(0, self._spine_y(self.top) - 42 * s, self.shape[0] + 8), self.carina], [9.5 * s, 9.5 * s]
        )
        azygos = self._pipe([(-7 * s, sy(z) - 21 * s, z) for z in (0, cz - 40, cz + 10)], [3.5, 4, 4.5])
        plate_x = draw(-4, 6) + 0 * self.y
        front_y = self._front_y(self.z)
        plate = (
            np.abs(self.x - plate_x)
            - draw(1, 4)
            - draw(8, 22) * np.clip(1 - (self.y - front_y) / draw(18, 40), 0, 1) ** 2
        )
        plate = plate + 1.5 * self._noise(30)
        plate = np.maximum(plate, self.y - (cy - 20 * s))
        inlet = self._blob((0, self._spine_y(self.top) - 44 * s, self.top + 8), (38 * s, 36 * s, 46 * s))
        self.plate_x = float(np.asarray(plate_x).flat[0])
        fat_heart = heart - draw(2, 7)
        pad = np.minimum(
            self._blob((-34 * s, front + 22, self.dome + 6), (22, 20, 20)),
            self._blob((62 * s, front + 26, self.dome - 4), (24, 20, 20)),
        )
        canal = self._pipe([(0, sy(z) + 24 * s, z) for z in zs], [19 * s] * len(zs))
        self.mediastinum = smooth_union(spine - 3, canal, 6)
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
            *((b - 3, 8) for b in branches),
            *((b - 3, 8) for b in veins_up),
        ):
            self.mediastinum = smooth_union(self.mediastinum, shape, width)
        noisy = self._noise(14)
        self.parts += [(gullet + 0.4 * noisy, 35.0), (azygos, 0.8 * blood + 8)]
        self.parts += [(heart + 2, 55.0 + 0.25 * (blood - 40)), (atrium, blood)]
        self.parts += [(np.maximum(heart + 12, -(np.abs(self.x - 0.4 * (self.z - heart_z) - 16) - 4.0)), blood)]
        self.parts += [
            (shape, blood) for shape in (cava, trunk, right_artery, left_artery, aorta, *branches, *veins_up)
        ]
        self._add_nodes()
        self._add_thyroid()
        self.windpipe = windpipe
        self.heart_middle = (18 * s, hy, heart_z)

    def _turned_heart(self, center: Sequence[float], radii: Sequence[float]) -> Field:
        """An egg whose long axis points left, down and forward."""
        axis = np.array([0.82, -0.42, -0.39])
        side = np.cross(axis, [0, 0, 1.0])
        side /= np.linalg.norm(side)
        frame = np.stack([axis, side, np.cross(axis, side)])
        offset = (self.x - np.float32(center[0]), self.y - np.float32(center[1]), self.z - np.float32(center[2]))
        u, v, w = (sum(np.float32(f) * o for f, o in zip(row, offset, strict=True)) for row in frame)
        taper = 1 - 0.25 * np.clip(u / radii[0], -1, 1)
        ratio = np.sqrt((u / radii[0]) ** 2 + (v / (radii[1] * taper)) ** 2 + (w / (radii[2] * taper)) ** 2)
        return np.asarray((ratio - 1) * min(radii), np.float32)

    def _add_nodes(self) -> None:
        draw, s = self.generator.uniform, self.scale
        for _ in range(int(self.generator.integers(4, 12))):
            cx, cy, cz = self.carina
            at = (cx + draw(-26, 26) * s, cy + draw(-22, 14) * s, cz + draw(-25, 40) * s)
            self.parts.insert(0, (self._blob(at, draw(2.5, 6, 3)), draw(30, 60)))

    def _add_thyroid(self) -> None:
        s, y, z = self.scale, self._spine_y(self.top) - 46 * self.scale, self.shape[0] - self.generator.uniform(0, 14)
        hu = self.generator.uniform(80, 115) + 0.2 * (self.options.contrast_hu - 40)
        self.parts += [(self._blob((side * 17 * s, y, z), (8 * s, 9 * s, 20 * s)), hu) for side in (-1, 1)]

    def _shape_lungs(self) -> None:
        o, draw = self.options, self.generator.uniform
        self.cavity = self._cavity()
        apex_y = (float(self._back_y(self.top)) + float(self._front_y(self.top))) / 2 + 2
        tall = 0.46 * o.height
        start = self.top - tall
        wide = float(self._half_width(start))
        deep = (float(self._back_y(start)) - float(self._front_y(start))) / 2
        up = np.clip((self.z - start) / tall, 0, 1.5)
        middle = apex_y + (self._back_y(self.z) + self._front_y(self.z)) / 4 - apex_y / 2
        domes = [
            (
                np.abs((self.x - side * 0.47 * wide) / (0.62 * wide)) ** 2.1
                + np.abs((self.y - middle) / (1.2 * deep)) ** 2.1
                + up ** draw(1.9, 2.3)
            )
            ** (1 / 2.1)
            for side in (-1, 1)
        ]
        roof = np.where(up > 0, (np.minimum(*domes) - 1) * 0.8 * tall, -_FAR).astype(np.float32)
        self.shell = np.maximum(self.cavity, roof)
        self.floor_map = self._diaphragm()
        below = (self.floor_map[None] - self.z) / np.sqrt(
            1 + np.minimum(sum(g**2 for g in np.gradient(self.floor_map, _STEP)), 6)
        )[None]
        self.below = np.asarray(below, np.float32)
        lung = np.maximum(self.shell, below)
        lung = np.maximum(lung, -self.mediastinum)
        lung = lung + 0.6 * self._noise(18)
        self.lung = np.asarray(lung, np.float32)

    def _diaphragm(self) -> Field:
        """Height of the diaphragm over (y, x)."""
        o, draw = self.options, self.generator.uniform
        y, x = self.y[0], self.x[0]
        floor = np.full((y.shape[0], x.shape[1]), -20.0, np.float32)
        middle = (float(self._back_y(self.dome)) + float(self._front_y(self.dome))) / 2
        for side, lower in ((-1, 0.0), (1, draw(6, 18))):
            wide, deep = 0.60 * o.half_width, o.half_depth * 0.98
            rho = np.abs((x - side * 0.42 * o.half_width) / wide) ** 2.3 + np.abs((y - middle + 4) / deep) ** 2.3
            rise = self.dome - lower - self.floor + 18
            floor = np.maximum(floor, self.floor - 18 + rise * np.clip(1 - rho, 0, 1) ** 0.42)
        front = np.clip((middle - y) / o.half_depth, -0.2, 1)
        recess = self.floor + 0.30 * o.height * 0.8 * np.clip(front + 0.2, 0, 1) ** 1.3 + 4
        center = np.clip(1 - np.abs(x) / (0.5 * o.half_width), 0, 1) * (self.dome - 26 - self.floor) + self.floor
        center = np.where(y < middle + 30, center, self.floor)
        floor = np.maximum(np.maximum(floor, recess), center)
        bumps = smooth_noise(self.generator, floor.shape, 30 / _STEP) * 2.0
        return np.asarray(ndimage.gaussian_filter(floor + bumps, 1.6), np.float32)

    def _draw_soft_tissue(self) -> None:
        """The body on the lattice: HU of everything but lungs, airways and bones."""
        o = self.options
        noise, fine = self._noise(22), self._noise(7)
        wall = self.cavity
        swell = np.clip(self._part(self.z) - 0.72, 0, 1) * 75  # shoulders
        flank = np.abs(self.x) / (np.abs(self.x) + np.abs(self.y) + 20)
        thick = o.muscle * (0.75 + 0.5 * flank) + 13 + swell * flank
        fat = o.fat * (0.8 + 0.3 * self._noise(70)) * np.where(self.y < 0, 1.15, 0.9)
        breasts = self._breasts()
        body = wall - np.maximum(thick + fat, 16)
        body = smooth_union(body, breasts, 12)
        back = self._back_y(self.z)
        body = np.maximum(body, self.y - (back + 30 + 0.5 * o.fat))  # the back lies flat on the table
        hu = np.full(self.coarse.shape, _AIR, np.float32)
        hu[body < 0] = _FAT
        muscle = (wall < thick + 2.5 * noise) & (body < -4)
        hu[muscle] = 55
        planes = (np.abs(np.mod(wall + 4 * noise, 11.0) - 5.5) < 0.9) & (fine + self._noise(30) > 0.2)
        hu[muscle & planes & (wall > 11)] = -60
        hu[(body < 0) & (body > -2.0)] = _SKIN
        hu[muscle & (fine > 1.9)] = -20
        between = (wall > 1.5) & (wall < 12) & (body < 0)
        hu[between] = np.where(np.abs(wall[between] - 2.2) < 1.0, -70, 45)
        inside = (wall <= 1.5) & (body < 0)
        hu[inside] = -95 + 6 * fine[inside]
        self._draw_abdomen(hu, inside)
        for shape, value in self.parts:
            near = (shape < 1) & (inside | (wall < 14))
            hu[near] += np.clip(0.5 - shape[near] / 2, 0, 1) * (value - hu[near])
        self.body = body
        hu = ndimage.gaussian_filter(hu, 0.45)
        self.soft = hu + 2.0 * noise * (hu > -500)

    def _breasts(self) -> Field:
        o, draw = self.options, self.generator.uniform
        size = draw(0, 1) if self.generator.random() < 0.5 else 0.0
        z = self.floor + 0.42 * o.height
        both = [
            self._blob(
                (side * 0.6 * o.half_width, float(self._front_y(z)) + 8, z), (64, 40 + 30 * size + 0.8 * o.fat, 66)
            )
            for side in (-1, 1)
        ]
        return np.asarray(np.minimum(*both) if size else np.full(self.coarse.shape, _FAR), np.float32)

    def _draw_abdomen(self, hu: Field, inside: Mask) -> None:
        o, draw = self.options, self.generator.uniform
        enhanced = 0.25 * max(0.0, o.contrast_hu - 40)
        below = inside & (self.below > 1.5)
        hu[below & (self.below < 4)] = 45
        noise = self._noise(25)
        liver = (
            below & (self.below > 3) & (self.x < 30 + 12 * noise - 0.2 * self.y) & (self.y < self._back_y(self.z) - 12)
        )
        hu[liver] = draw(45, 65) + enhanced
        spleen = self._blob((0.66 * o.half_width, 0.4 * o.half_depth, self.dome - 44), (32, 46, 42))
        hu[below & (self.below > 3) & (spleen < 0)] = 48 + enhanced
        place = (0.40 * o.half_width, -0.2 * o.half_depth, self.dome - 38)
        stomach = below & (self.below > 4) & (self._blob(place, (40, 46, 32)) < 2 * noise)
        hu[stomach] = 20
        level = place[1] + (draw(-18, 12) if not o.is_prone else -draw(-18, 12))
        hu[
            stomach
            & ((self.y > level) if o.is_prone else (self.y < level))
            & (self._blob(place, (37, 43, 29)) < 2 * noise)
        ] = -980
        colon = self._blob((0.72 * o.half_width, -0.45 * o.half_depth, self.dome - 58), (24, 24, 24))
        hu[below & (colon < 0) & (self.below > 4)] = 30
        hu[below & (colon < -3) & (self.below > 4)] = -960

    def _enlarge(self) -> None:
        """From the lattice to voxels of 1 mm."""
        self.hu = _doubled(self.soft, self.shape)
        self.distance = _doubled(self.lung, self.shape)
        del self.soft

    def _index(self, points: Sequence[Sequence[float]] | Points) -> Points:
        """Points (x, y, z) as fractional indices (z, y, x) of the voxels."""
        return (np.asarray(points, np.float32) - np.asarray(self.origin, np.float32))[..., ::-1]

    # ---- bones

    def _draw_bones(self) -> None:
        self.bone = np.full(self.shape, 9.0, np.float32)
        self.gristle = np.full(self.shape, 9.0, np.float32)
        self._draw_spine()
        for number in range(12):
            for side in (-1, 1):
                self._draw_rib(number, side)
        self._draw_sternum()
        self._draw_girdle()
        # ribs stand a little into the lung
        near = self.bone < 5
        self.distance[near] = np.maximum(self.distance[near], 2.4 - self.bone[near])
        marrow = self.generator.uniform(120, 260)
        cortex = self.generator.uniform(500, 850)
        for field, inner, outer in (
            (self.gristle, self.generator.uniform(70, 110), 100 + 500 * self.options.age * self.generator.random()),
            (self.bone, marrow, cortex),
        ):
            touched = field < 0.5
            depth = field[touched]
            value = np.where(depth < -1.6, inner, outer)
            part = np.clip(0.5 - depth, 0, 1)
            self.hu[touched] = self.hu[touched] * (1 - part) + value * part

    def _bar(
        self,
        field: Field,
        points: Sequence[Sequence[float]] | Points,
        radius: Sequence[float],
    ) -> None:
        """Lower `field` to the distance from a bent bar."""
        line = self._index(points)
        for first, last, reach in zip(line[:-1], line[1:], radius, strict=False):
            found = distance_to_piece(self.shape, first, last, float(reach) + 3)
            if found is not None:
                box, distance = found
                np.minimum(field[box], distance - np.float32(reach), out=field[box])

    def _draw_spine(self) -> None:
        draw, s = self.generator.uniform, self.scale
        pitch = self.options.height / 11.5
        for z in np.arange(self.floor - pitch, self.shape[0] + pitch, pitch):
            y, r = self._spine_y(z), float(16.5 - 4.5 * np.clip(self._part(z), 0, 1)) * s
            tall = pitch / 2 - 2.5
            box = self._around((0, y, z), (r + 9, r + 42, pitch))
            if box is None:
                continue
            x_, y_, z_ = self._axes(box)
            waist = 1 - 0.08 * np.cos(np.clip((z_ - z) / tall, -1, 1) * np.pi / 2)
            round_ = np.sqrt((x_ / 1.12) ** 2 + (y_ - y) ** 2) - r * waist
            body = np.maximum(round_, np.abs(z_ - z) - tall)
            np.minimum(self.bone[box], body, out=self.bone[box])
            disc = np.maximum(np.sqrt((x_ / 1.12) ** 2 + (y_ - y) ** 2) - r, np.abs(z_ - z) - pitch / 2)
            self.hu[box][(disc < 0)] = 75
            canal = 0 * z_ + np.sqrt((x_ / 1.2) ** 2 + (y_ - y - r - 9) ** 2) - 8.5
            self.hu[box][canal < 0] = 15
            self.hu[box][canal < -4] = 38
            for side in (-1, 1):
                arch = [(side * 9, y + r - 2, z + 3), (side * 13, y + r + 9, z + 2), (0, y + r + 22, z - 4)]
                self._bar(self.bone, arch, [3.6, 3.2])
                self._bar(self.bone, [(side * 12, y + r + 6, z + 3), (side * 34 * s, y + r + 16, z + 5)], [4.2])
            self._bar(self.bone, [(0, y + r + 20, z - 4), (0, y + r + 36, z - 16)], [3.0])
            if self.generator.random() < 0.35 * self.options.age:
                angle = draw(-2.8, -0.3)
                at = (float(np.cos(angle)) * r * 1.15, y + float(np.sin(angle)) * r, z + tall)
                self._bar(self.bone, [at, (at[0] * 1.12, at[1] - 1, z + pitch / 2)], [draw(2, 4.5)])
                self._note("osteophyte", at, 6)

    def _around(self, center: Sequence[float], reach: Sequence[float]) -> tuple[slice, slice, slice] | None:
        at, wide = self._index([center])[0], np.array(reach)[::-1]
        low = np.maximum(np.floor(at - wide).astype(int), 0)
        high = np.minimum(np.ceil(at + wide).astype(int) + 1, self.shape)
        if (low >= high).any():
            return None
        return slice(low[0], high[0]), slice(low[1], high[1]), slice(low[2], high[2])

    def _axes(self, box: tuple[slice, slice, slice]) -> tuple[Field, Field, Field]:
        return Grid(self.origin, self.shape).axes(box)

    def _wall_point(self, angle: float, z: float, out: float) -> tuple[float, float, float]:
        """A point on the ribs' cage: `angle` 0 at the back, pi / 2 at the side, pi in front; positive x."""
        back, front = float(self._back_y(z)), float(self._front_y(z))
        middle, deep, wide = (back + front) / 2, (back - front) / 2, float(self._half_width(z))
        n = self.square
        c, s_ = np.cos(angle), np.sin(angle)
        lift = 0.25 * np.clip(-c, 0, 1)
        w = wide * (1 - 0.35 * lift)
        radius = (np.abs(s_ / w) ** n + np.abs(c / deep) ** n) ** (-1 / n)
        return (float(s_ * (radius + out)), float(middle + c * (radius + out)), z)

    def _draw_rib(self, number: int, side: int) -> None:
        """Ribs 1 (at the top) to 12: from the spine around and down to the cartilage in front."""
        o, draw = self.options, self.generator.uniform
        start = self.top - 6 - number * o.height / 11.5 + draw(-1, 1)
        drop = (22, 40, 52, 60, 66, 70, 74, 74, 70, 62, 48, 30)[number] * o.height / 260
        last = (2.55, 2.6, 2.6, 2.6, 2.6, 2.55, 2.45, 2.35, 2.2, 2.0, 1.5, 1.0)[number]
        angles = np.linspace(0.24, last, 30)
        shrink = 0.55 if number == 0 else 0.86 if number == 1 else 1.0
        points = []
        for angle in angles:
            part = (angle - 0.24) / 2.4
            z = start + 4 - drop * (part**0.9)
            x, y, _ = self._wall_point(float(angle), min(z, self.top - 30), 5.0)
            pull = shrink + (1 - shrink) * 0.2
            points.append((side * x * pull, y, z))
        head = [(side * 14 * self.scale, self._spine_y(start) + 10, start + 2)]
        line = np.vstack([head, self._pushed(np.array(points, np.float32))]).astype(np.float32)
        tall = draw(2.6, 3.8)
        for shift in (-tall, -tall / 2, 0, tall / 2, tall):
            self._bar(self.bone, line + np.array([0, 0, shift], np.float32), [3.3] * len(line))
        if number < 10:
            end = line[-1]
            target_z = float(
                np.clip(
                    end[2] + (18 if number > 2 else 2) + (number - 4) * 3, self._sternum()[1] - 6, self._sternum()[0]
                )
            )
            goal = (side * 16 * self.scale, float(self._front_y(target_z)) - 2, target_z)
            middle = (
                (end[0] + goal[0]) / 2 + side * 6,
                min(float(end[1]), goal[1]) - 2,
                (float(end[2]) + target_z) / 2 - 8,
            )
            self._bar(self.gristle, [tuple(end), middle, goal], [6.0, 5.5])
        if number < 11:
            self._note("rib_end", line[-1], 9)

    def _pushed(self, points: Points) -> Points:
        """Points moved to 5 mm outside of the lungs' space."""
        gradient = np.gradient(self.shell[::2, ::2, ::2], 2 * _STEP)
        for turn in range(14):
            at = self._index(points).T / (2 * _STEP)
            depth = ndimage.map_coordinates(self.shell[::2, ::2, ::2], at, order=1, mode="nearest")
            slope = np.stack([ndimage.map_coordinates(part, at, order=1, mode="nearest") for part in gradient[::-1]], 1)
            slope[:, 2] *= 0.3
            move = np.clip(5.5 - depth, -6, 6)[:, None] * slope / np.maximum((slope**2).sum(1, keepdims=True), 0.2)
            points = points + 0.8 * move
            if turn == 9:  # smooth the arc, then mend what that took off it
                points = ndimage.gaussian_filter1d(points, 1.2, axis=0, mode="nearest")
        return np.asarray(points, np.float32)

    def _sternum(self) -> tuple[float, float]:
        """Heights of its top and its lower end."""
        return self.top - 0.18 * self.options.height, self.top - 0.70 * self.options.height

    def _draw_sternum(self) -> None:
        high, low = self._sternum()
        for z in np.arange(low, high, 2.0):
            y, wide = float(self._front_y(z)) - 7, 12 + 10 * np.clip((z - high + 45) / 45, 0, 1) ** 2
            self._bar(self.bone, [(-wide, y, z), (wide, y, z)], [5.0])

    def _draw_girdle(self) -> None:
        """Collar bones and shoulder blades."""
        draw, o, s = self.generator.uniform, self.options, self.scale
        high = self._sternum()[0]
        for side in (-1, 1):
            y = float(self._front_y(high))
            self._bar(
                self.bone,
                [
                    (side * 18, y - 6, high + 4),
                    (side * 55 * s, y - 4, high + 14),
                    (side * 95 * s, y + 22, high + 26),
                    (side * 135 * s, y + 40, high + 34),
                ],
                [6.5, 5.5, 5.5],
            )
            turn = draw(-0.1, 0.1)
            for z in np.arange(self.top - 0.55 * o.height, min(self.top - 5, self.shape[0]), 2.0):
                part = (z - self.top + 0.55 * o.height) / (0.5 * o.height)
                inner, outer = 0.62 - 0.1 * part + turn, 0.75 + 0.75 * min(part, 1) + turn
                blade = [
                    self._wall_point(float(a), min(z, self.top - 25), 20 + 6 * float(a - inner))
                    for a in np.linspace(inner, outer, 8)
                ]
                line = [(side * p[0], p[1], z) for p in blade]
                self._bar(self.bone, line, [1.9] * 6 + [4.0])

    # ---- lungs

    def _crop(self) -> None:
        """From here on only the box about the lungs is worked on; `whole` keeps the rest."""
        inner = (self.lung < 6).any(axis=0)
        rows, columns = np.flatnonzero(inner.any(axis=1)), np.flatnonzero(inner.any(axis=0))
        y, x = (slice(int(max(found[0] - 2, 0)), int(found[-1] + 4)) for found in (rows, columns))
        fine = (
            slice(None),
            *(
                slice(2 * part.start, min(2 * part.stop - 2, side))
                for part, side in ((y, self.shape[1]), (x, self.shape[2]))
            ),
        )
        self.whole, self.whole_origin, self.corner = self.hu, self.origin, (0, 2 * y.start, 2 * x.start)
        self.window = fine
        self.hu, self.distance = self.hu[fine], np.ascontiguousarray(self.distance[fine])
        self.shape = self.hu.shape
        self.origin = (self.origin[0] + 2 * x.start, self.origin[1] + 2 * y.start, self.origin[2])
        self.lung = self.lung[:, y, x]
        self.coarse = Grid(self.origin, self.lung.shape, _STEP)
        self.x, self.y, self.z = self.coarse.axes()
        self.hard = [
            HardNegative(h.kind, (h.center[0], h.center[1] - 2 * y.start, h.center[2] - 2 * x.start), h.radius_mm)
            for h in self.hard
        ]

    def _draw_lungs(self) -> None:
        """Parenchyma, fissures and what is wrong with it."""
        o = self.options
        self._cut_hilum()
        x = Grid(self.origin, self.shape).axes()[0]
        self.lungs = np.where(self.distance < 0, np.where(x < self.plate_x, RIGHT, LEFT), 0).astype(np.uint8)
        self._drop_crumbs()
        self._draw_lobes()
        mottle = 9 * self._noise(40) + 7 * self._noise(14) + 6 * self._noise(6)
        back, front = self._back_y(self.z), self._front_y(self.z)
        down = (self.y - front) / (back - front)
        down = 1 - down if o.is_prone else down
        gradient = 45 * (down - 0.45) - 12 * (self._part(self.z) - 0.4)
        dependent = 130 * o.dependent * np.exp(-np.clip(-self.lung, 0, 60) / 5) * np.clip((down - 0.72) / 0.2, 0, 1)
        air = o.lung_hu - 25 + mottle + gradient + dependent * (1 + 0.5 * self._noise(16))
        air += self._haze()
        parenchyma = _doubled(np.asarray(air, np.float32), self.shape)
        parenchyma += self._grain(6.0)
        self._bore_emphysema(parenchyma)
        self.part = np.clip(0.5 - self.distance, 0, 1)
        self.part[self.lungs == 0] = 0
        self.part = np.where((self.lungs == 0) & (self.distance < 0), 0, self.part)
        sheet = self.sheet
        np.maximum(parenchyma, -1000, out=parenchyma)
        parenchyma += sheet * (self.sheet_hu - parenchyma)
        self.parenchyma = parenchyma

    def _grain(self, sd: float) -> Field:
        """Texture of the size of the secondary lobules' walls, repeated from one block."""
        block = ndimage.gaussian_filter(
            self.generator.standard_normal((96, 96, 96)).astype(np.float32), 1.0, mode="wrap"
        )
        block *= sd / block.std()
        times = [-(-side // 96) for side in self.shape]
        return np.tile(block, times)[: self.shape[0], : self.shape[1], : self.shape[2]]

    def _cut_hilum(self) -> None:
        """The roots of the lungs are no lung."""
        s = self.scale
        for center, way in ((self.hilum_right, -1), (self.hilum_left, 1)):
            box = self._around(center, (40, 40, 50))
            if box is None:
                continue
            x, y, z = self._axes(box)
            blob = np.sqrt(
                ((x - center[0] + way * 4) / 11) ** 2 + ((y - center[1]) / 10) ** 2 + ((z - center[2]) / 18) ** 2
            )
            self.distance[box] = np.maximum(self.distance[box], (1 - blob) * 10 * s)

    def _drop_crumbs(self) -> None:
        """Only the two large pieces are lungs."""
        small = self.lungs[::3, ::3, ::3]
        for side in (RIGHT, LEFT):
            pieces, count = ndimage.label(small == side)
            if count > 1:
                largest = np.bincount(pieces.ravel())[1:].argmax() + 1
                other = np.repeat(np.repeat(np.repeat((pieces > 0) & (pieces != largest), 3, 0), 3, 1), 3, 2)
                other = other[: self.shape[0], : self.shape[1], : self.shape[2]]
                self.lungs[(self.lungs == side) & other] = 0

    def _draw_lobes(self) -> None:
        """Fissures are sheets over (y, x): the oblique ones fall from back to front, the horizontal one is flat."""
        draw = self.generator.uniform
        x, y, z = Grid(self.origin, self.shape).axes()
        self.lobes = np.zeros(self.shape, np.uint8)
        self.sheet = np.zeros(self.shape, np.float32)
        self.sheet_hu = draw(-640, -480)
        right = self.lungs == RIGHT
        oblique = [self._sheet_height(side) for side in (-1, 1)]
        level = self.hilum_right[2] + draw(-2, 8)
        flat = (
            level
            + 0.04 * (y[0] + 40)
            + 0.0016 * (x[0] + 70) ** 2
            + 4 * smooth_noise(self.generator, (self.shape[1], self.shape[2]), 60)
        )
        self.lobes[right] = RLL
        above = z > oblique[0]
        upper = right & above
        self.lobes[upper] = RML
        self.lobes[upper & (z > flat)] = RUL
        left = self.lungs == LEFT
        self.lobes[left] = LLL
        self.lobes[left & (z > oblique[1])] = LUL
        width = draw(0.3, 0.55)
        for height, where in ((oblique[0], right), (oblique[1], left), (flat, upper)):
            steep = np.sqrt(1 + sum(g**2 for g in np.gradient(height)))
            hole = smooth_noise(self.generator, height.shape, 40)
            strength = np.clip(1.4 + hole, 0, 1) * width
            flat_distance = np.abs(z - height) / steep
            sheet = np.clip(strength + 0.5 - flat_distance, 0, 1) * np.minimum(strength * 2, 1)
            self.sheet = np.where(where, np.maximum(self.sheet, sheet), self.sheet)

    def _sheet_height(self, side: int) -> Field:
        o, draw = self.options, self.generator.uniform
        _, y, _ = Grid(self.origin, self.shape).axes()
        x = Grid(self.origin, self.shape).axes()[0][0]
        rear = self.top - o.height * draw(0.18, 0.28)
        slope = draw(0.85, 1.15) * o.height / 260
        back = float(self._back_y(rear))
        far = back - 5 - y[0]
        height = rear - slope * far + 0.0008 * far**2 - 0.22 * np.abs(x - side * 40)
        wave = smooth_noise(self.generator, (self.shape[1], self.shape[2]), 70) * 5
        return np.asarray(height + wave, np.float32)

    def _haze(self) -> Field:
        field = np.zeros(self.coarse.shape, np.float32)
        for _ in range(self.options.hazes):
            at = self._somewhere(10)
            size = self.generator.uniform(8, 22)
            field += (
                self.generator.uniform(40, 140)
                * np.exp(-((self._blob(at, (size,) * 3) / size + 1) ** 2) * 1.5)
                * (1 + 0.5 * self._noise(7))
            )
            if size < 14:
                self._note("haze", at, size)
        return field

    def _bore_emphysema(self, parenchyma: Field) -> None:
        """Holes of 2 to 10 mm, more in the upper lobes, and now and then bullae under the pleura."""
        amount = self.options.emphysema
        if not amount:
            return
        count = int(amount * 2500)
        zyx = self._lung_voxels(count, upper=0.7)
        radius = self.generator.gamma(3, 0.9, count) + 0.8
        for (k, j, i), reach in zip(zyx.astype(np.float32), radius, strict=True):
            found = distance_to_piece(
                self.shape,
                np.array([k, j, i], np.float32),
                np.array([k, j, i + 0.8 * reach], np.float32),
                float(reach) + 2,
            )
            if found is not None:
                box, distance = found
                part = np.clip((reach - distance) / 2 + 0.5, 0, 1) * (0.5 + 0.5 * amount)
                parenchyma[box] += part * (-985 - parenchyma[box])

    def _lung_voxels(self, count: int, upper: float = 0.0, depth_mm: float = 2.0) -> NDArray[np.int64]:
        """Random voxels (z, y, x) in the lungs at least `depth_mm` under their surface."""
        found: list[NDArray[np.int64]] = []
        total = 0
        low = int(self.floor)
        for _ in range(200):
            tried = (self.generator.random((4 * count + 64, 3)) * np.array(self.shape)).astype(np.int64)
            keep = (self.distance[tuple(tried.T)] < -depth_mm) & (self.lungs[tuple(tried.T)] > 0)
            chance = 1 - upper * (1 - np.clip((tried[:, 0] - low) / self.options.height, 0, 1))
            keep &= self.generator.random(len(tried)) < chance
            found.append(tried[keep])
            total += len(found[-1])
            if total >= count:
                break
        return np.concatenate(found)[:count]

    def _somewhere(self, depth_mm: float) -> tuple[float, float, float]:
        k, j, i = (self._lung_voxels(1, depth_mm=depth_mm)[0]).tolist()
        return (i + self.origin[0], j + self.origin[1], k + self.origin[2])

    # ---- vessels and airways

    def _draw_trees(self) -> None:
        o = self.options
        vessel = np.zeros(self.shape, np.float32)
        self.lumen = np.zeros(self.shape, np.float32)
        self.wall = np.zeros(self.shape, np.float32)
        roots = self._artery_roots()
        tree = self._grown(roots, 6.0)
        self._draw_tree(vessel, tree, o.terminal_radius)
        self._draw_airways(tree)
        veins = self._grown(self._vein_roots(), 7.0)
        self._draw_tree(vessel, veins, o.terminal_radius * 0.97)
        self._note_crossings(tree, veins)
        np.clip(vessel, 0, 1, out=vessel)
        self._draw_roots(vessel, roots, self._vein_roots())
        self.occupied = vessel

    def _artery_roots(self) -> Points:
        """Where the arteries of the five lobes begin."""
        s = self.scale
        right, left = self.hilum_right, self.hilum_left
        return np.array(
            [
                right + np.array([-4, -4, 16]) * s,
                right + np.array([-8, -12, -12]) * s,
                right + np.array([-6, 4, -18]) * s,
                left + np.array([4, -8, 8]) * s,
                left + np.array([4, 4, -18]) * s,
            ],
            np.float32,
        )

    def _vein_roots(self) -> Points:
        s = self.scale
        right, left = self.hilum_right, self.hilum_left
        return np.array(
            [
                right + np.array([-2, -16, 2]) * s,
                right + np.array([-4, -18, -20]) * s,
                right + np.array([2, 2, -38]) * s,
                left + np.array([0, -18, -4]) * s,
                left + np.array([-4, -4, -38]) * s,
            ],
            np.float32,
        )

    def _grown(self, roots: Points, depth_mm: float) -> Tree:
        litres = float((self.lungs[::4, ::4, ::4] > 0).sum()) * 64 / 1000
        zyx = self._lung_voxels(int(self.options.terminals * litres), depth_mm=float(depth_mm) * 0.6)
        lobe = self.lobes[tuple(zyx.T)]
        points = (zyx[:, ::-1] + np.asarray(self.origin) + self.generator.random(zyx.shape)).astype(np.float32)
        return joined([grow(roots[k - 1], points[lobe == k], self.generator) for k in np.unique(lobe) if k])

    def _draw_tree(self, field: Field, tree: Tree, terminal_mm: float) -> None:
        radius = tree.radius(terminal_mm) * self.generator.normal(1, 0.08, len(tree.start)).clip(0.8, 1.2).astype(
            np.float32
        )
        line = self._index(curve(tree, 4, 0.05, self.generator))
        thin = radius < 1.1
        first, last = line[:, :-1], line[:, 1:]
        each = np.repeat(radius, 4)
        is_thin = np.repeat(thin, 4)
        draw_thin(field, first.reshape(-1, 3)[is_thin], last.reshape(-1, 3)[is_thin], each[is_thin])
        draw_thick(field, first.reshape(-1, 3)[~is_thin], last.reshape(-1, 3)[~is_thin], each[~is_thin])
        # single vessels of the smallest size that shine end on, and forks: places that look like nodules
        big = np.flatnonzero((radius > 0.9) & (radius < 3.5) & (tree.terminals > 1))
        for k in self.generator.permutation(big)[:60]:
            self._note("bifurcation", tree.end[k], float(radius[k]) * 2)
        along = np.abs(tree.direction()[:, 2])
        for k in self.generator.permutation(np.flatnonzero((radius > 1.0) & (along > 0.85)))[:60]:
            self._note("vessel_end_on", (tree.start[k] + tree.end[k]) / 2, float(radius[k]) * 1.5)

    def _note_crossings(self, arteries: Tree, veins: Tree) -> None:
        """Where an artery touches a vein."""
        thick = self.options.terminal_radius * 2.2
        first, second = (
            np.flatnonzero(tree.radius(self.options.terminal_radius) > thick) for tree in (arteries, veins)
        )
        middle = (veins.start[second] + veins.end[second]) / 2
        near, which = cKDTree(middle).query((arteries.start[first] + arteries.end[first]) / 2)
        for k in self.generator.permutation(np.flatnonzero(near < 4.0))[:60]:
            self._note("vessel_crossing", middle[which[k]], 3.0)

    def _draw_airways(self, tree: Tree) -> None:
        """Bronchi run beside the arteries, about as wide, and can be seen down to about 1.5 mm."""
        o, draw = self.options, self.generator.uniform
        s, (cx, cy, cz) = self.scale, self.carina
        roots = self._artery_roots() + np.array([0, 3, -2], np.float32) * s
        split_right = np.array([-26 * s + cx, cy + 2, cz - 18 * s])
        middle_right = np.array([-34 * s + cx, cy + 1, cz - 38 * s])
        split_left = np.array([38 * s + cx, cy + 8 * s, cz - 30 * s])
        main = [
            ([self.carina, split_right], 6.8),
            ([split_right, roots[0]], 4.5),
            ([split_right, middle_right], 5.2),
            ([middle_right, roots[1]], 3.6),
            ([middle_right, roots[2]], 4.6),
            ([self.carina, split_left], 6.2),
            ([split_left, roots[3]], 4.6),
            ([split_left, roots[4]], 4.6),
            ([(0, self._spine_y(self.top) - 42 * s, self.shape[0] + 8), self.carina], 8.5),
        ]
        for points, reach in main:
            self._tube(np.asarray(points, np.float32), reach * s, 1.4)
        radius = tree.radius(o.terminal_radius) * (0.85 + 0.8 * o.bronchiectasis * self.generator.random())
        side = np.cross(tree.direction(), [0.3, 0.9, 0.3])
        side /= np.maximum(np.linalg.norm(side, axis=1, keepdims=True), 1e-3)
        shown = np.flatnonzero(radius > 1.15)
        shift = (side * (radius * 2.2 + 0.6)[:, None]).astype(np.float32)
        joint: dict[int, NDArray[np.floating[Any]]] = {}
        for k in shown:
            parent = int(tree.parent[k])
            start = joint.get(parent, tree.start[k] + (np.array([0, 3, -2]) * s if parent < 0 else shift[k]))
            end = tree.end[k] + shift[k]
            joint[int(k)] = end
            bronchus = float(radius[k]) * 0.85
            self._tube(
                np.stack([start, (start + end) / 2 + self.generator.normal(0, 0.6, 3), end]).astype(np.float32),
                bronchus,
                0.3 + 0.12 * bronchus,
            )
            if radius[k] > 1.2 and self.generator.random() < 0.05:
                self._note("airway", (start + end) / 2, float(radius[k]) + 1)
        candidates = shown[radius[shown] < 2.2]
        for k in self.generator.permutation(candidates)[: o.mucus]:
            if int(k) not in joint:
                continue
            end, start = joint[int(k)], tree.start[k] + shift[k]
            self._plug(np.stack([start, end]), float(radius[k]) * draw(1.0, 1.6) + 0.5)

    def _tube(self, points: Points, radius: float, wall: float) -> None:
        line = self._index(points)
        for first, last in pairwise(line):
            found = distance_to_piece(self.shape, first, last, radius + wall + 1)
            if found is None:
                continue
            box, distance = found
            np.maximum(self.lumen[box], np.clip(radius + 0.5 - distance, 0, 1), out=self.lumen[box])
            np.maximum(self.wall[box], np.clip(radius + wall + 0.5 - distance, 0, 1), out=self.wall[box])

    def _plug(self, points: Points, radius: float) -> None:
        line = self._index(points.astype(np.float32))
        found = distance_to_piece(self.shape, line[0], line[1], radius + 1)
        if found is not None:
            box, distance = found
            self.lumen[box] *= 1 - np.clip(radius + 0.5 - distance, 0, 1)
            np.maximum(self.wall[box], np.clip(radius + 0.5 - distance, 0, 1), out=self.wall[box])
        self._note("mucus", points.mean(0), radius + 2)

    def _draw_roots(self, vessel: Field, arteries: Points, veins: Points) -> None:
        """The large vessels between the heart and the lobes' roots."""
        s, (_, cy, cz) = self.scale, self.carina
        right, left = self.hilum_right, self.hilum_left
        interlobar, trunk = right + np.array([3, -1, 0]) * s, left + np.array([-2, 2, 6]) * s
        begin = np.array([-34 * s, cy - 8 * s, cz - 20 * s])
        begin_left = np.array([40 * s, cy + 10 * s, cz - 11 * s])
        atrium_right, atrium_left = np.array([-22 * s, cy + 2, cz - 50 * s]), np.array([30 * s, cy + 4, cz - 48 * s])
        pieces = [
            (begin, interlobar, 7.5),
            (begin, arteries[0], 5.5),
            (interlobar, arteries[1], 4.0),
            (interlobar, arteries[2], 6.5),
            (begin_left, trunk, 7.5),
            (trunk, arteries[3], 5.2),
            (trunk, arteries[4], 6.0),
            (atrium_right, veins[0], 6.0),
            (atrium_right, veins[1], 4.0),
            (atrium_right, veins[2], 6.0),
            (atrium_left, veins[3], 6.0),
            (atrium_left, veins[4], 6.0),
        ]
        for first, last, reach in pieces:
            draw_thick(vessel, self._index([first]), self._index([last]), np.array([reach * s], np.float32))

    # ---- the whole

    def _finish(self) -> None:
        o = self.options
        hu, part = self.hu, self.part
        hu += part * (self.parenchyma - hu)
        self._draw_findings(hu)
        blood = o.contrast_hu if o.contrast_hu > 60 else 35.0
        near = self.lungs > 0
        near |= self._hilar()
        vessel = np.where(near, self.occupied, 0)
        hu += vessel * (blood - hu)
        wall = np.where(near | (self.lumen > 0), self.wall, 0)
        hu += wall * (20 - hu)
        hu += self.lumen * (-990 - hu)
        self._move_heart(hu)
        large = (self.lumen > 0.5) | (self.occupied > 0.5) & ~(self.distance < -1)
        self.lungs[large & (self.distance > -6)] = 0
        self.lobes[self.lungs == 0] = 0

    def _move_heart(self, hu: Field) -> None:
        """The heart's edge is blurred by its motion, and so is the lung beside it."""
        if not self.options.cardiac_blur:
            return
        box = self._around(self.heart_middle, (85, 75, 70))
        if box is None:
            return
        x, y, z = self._axes(box)
        a, b, c = self.heart_middle
        far = np.sqrt(((x - a) / 75) ** 2 + ((y - b) / 62) ** 2 + ((z - c) / 58) ** 2)
        weight = np.clip((1.15 - far) / 0.3, 0, 1)
        blurred = ndimage.gaussian_filter(
            hu[box], (0.5 * self.options.cardiac_blur,) + (self.options.cardiac_blur,) * 2, truncate=2.5
        )
        hu[box] += weight * (blurred - hu[box])

    def _hilar(self) -> Mask:
        mask = np.zeros(self.shape, np.bool_)
        for center in (self.hilum_right, self.hilum_left):
            box = self._around(center, (42, 40, 55))
            if box is not None:
                mask[box] = True
        return mask

    def _draw_findings(self, hu: Field) -> None:
        draw = self.generator.uniform
        for _ in range(self.options.scars):
            self._band(hu, draw(8, 30), draw(0.8, 2.0), "scar", draw(-300, 0), 3.0)
        for _ in range(self.options.plates):
            self._plate(hu)
        for _ in range(self.options.tags):
            self._tag(hu)
        for _ in range(self.options.plaques):
            self._plaque(hu)
        if self.options.effusion_mm:
            self._fluid(hu)

    def _surface(self) -> tuple[NDArray[np.float32], NDArray[np.float32]] | None:
        """A voxel under the pleura, and the unit direction from it into the lung (both z, y, x)."""
        for _ in range(30):
            k, j, i = self._lung_voxels(1, depth_mm=0.5)[0].tolist()
            if not (6 < k < self.shape[0] - 6 and 6 < j < self.shape[1] - 6 and 6 < i < self.shape[2] - 6):
                continue
            spot = np.array([k, j, i], np.float32)
            for _step in range(12):
                a, b, c = np.clip(np.rint(spot).astype(int), 3, np.array(self.shape) - 4)
                slope = (
                    np.array(
                        [
                            self.distance[a + 2, b, c] - self.distance[a - 2, b, c],
                            self.distance[a, b + 2, c] - self.distance[a, b - 2, c],
                            self.distance[a, b, c + 2] - self.distance[a, b, c - 2],
                        ]
                    )
                    / 4
                )
                spot = spot - float(self.distance[a, b, c]) * slope / max(float(slope @ slope), 0.1) * 0.7
                spot = np.clip(spot, 3, np.array(self.shape) - 4)
            a, b, c = np.rint(spot).astype(int)
            if abs(self.distance[a, b, c]) < 1.5:
                return spot.astype(np.float32), np.asarray(-slope / max(np.linalg.norm(slope), 1e-3), np.float32)
        return None

    def _paint(self, hu: Field, first: Points, last: Points, radius: float, value: float) -> None:
        found = distance_to_piece(self.shape, first, last, radius + 1)
        if found is not None:
            box, distance = found
            part = np.clip(radius + 0.5 - distance, 0, 1) * (self.lungs[box] > 0)
            hu[box] += part * np.maximum(value - hu[box], 0)

    def _band(self, hu: Field, length: float, radius: float, kind: HardKind, value: float, wobble: float) -> None:
        found = self._surface()
        if found is None:
            return
        at, inward = found
        way = inward + self.generator.normal(0, 0.5, 3)
        way /= np.linalg.norm(way)
        line = at + np.linspace(0, length, 6)[:, None] * way + self.generator.normal(0, wobble * 0.3, (6, 3))
        for first, last, reach in zip(line[:-1], line[1:], np.linspace(radius * 1.5, radius * 0.6, 5), strict=True):
            self._paint(hu, first.astype(np.float32), last.astype(np.float32), float(reach), value)
        self._note_index(kind, line[1], 5)

    def _tag(self, hu: Field) -> None:
        """A small thickening of the pleura with a thread into the lung."""
        draw = self.generator.uniform
        found = self._surface()
        if found is None:
            return
        at, inward = found
        size = draw(0.8, 2.2)
        self._paint(hu, at, at, size, 20)
        self._paint(hu, at, (at + inward * draw(3, 10)).astype(np.float32), draw(0.4, 0.8), -200)
        self._note_index("pleural_tag", at, 4)

    def _plate(self, hu: Field) -> None:
        """A thin plate of collapsed lung, mostly low and level."""
        draw = self.generator.uniform
        at = self._index([self._somewhere(6)])[0]
        at[0] = self.floor + draw(0.15, 0.4) * self.options.height
        box = self._around_index(at, 26)
        z, y, x = np.ogrid[box]
        normal = np.array([1, *self.generator.normal(0, 0.3, 2)])
        normal /= np.linalg.norm(normal)
        high = (z - at[0]) * normal[0] + (y - at[1]) * normal[1] + (x - at[2]) * normal[2]
        out = np.sqrt((y - at[1]) ** 2 + (x - at[2]) ** 2 / draw(0.3, 1))
        part = (
            np.clip(draw(0.5, 1.6) + 0.5 - np.abs(high), 0, 1)
            * np.clip(draw(10, 20) - out, 0, 1)
            * (self.lungs[box] > 0)
        )
        hu[box] += part * np.maximum(draw(-300, 0) - hu[box], 0)
        self._note_index("atelectasis", at, 10)

    def _around_index(self, at: Points, reach: float) -> tuple[slice, slice, slice]:
        low = np.clip(np.floor(at - reach).astype(int), 0, np.array(self.shape) - 1)
        high = np.clip(np.ceil(at + reach).astype(int) + 1, 1, self.shape)
        return slice(low[0], high[0]), slice(low[1], high[1]), slice(low[2], high[2])

    def _plaque(self, hu: Field) -> None:
        """A flat thickening of the pleura, calcified in some."""
        draw = self.generator.uniform
        found = self._surface()
        if found is None:
            return
        at, _ = found
        wide, thick = draw(6, 18), draw(1.5, 4)
        box = self._around_index(at, wide)
        z, y, x = np.ogrid[box]
        out = np.sqrt((z - at[0]) ** 2 + (y - at[1]) ** 2 + (x - at[2]) ** 2) / wide
        depth = -self.distance[box]
        part = np.clip(thick * np.clip(1 - out**2, 0, 1) ** 0.5 - depth + 0.5, 0, 1) * (depth > -1)
        hu[box] += part * (draw(20, 60) - hu[box])
        if draw() < 0.5:
            core = np.clip(0.7 * thick * np.clip(1 - (out * 1.3) ** 2, 0, 1) ** 0.5 - depth + 0.5, 0, 1) * (depth > 0.5)
            hu[box] += core * (draw(200, 700) - hu[box])
        self._note_index("pleural_plaque", at, wide)

    def _fluid(self, hu: Field) -> None:
        side = RIGHT if self.generator.random() < 0.6 else LEFT
        _, y, z = Grid(self.origin, self.shape).axes()
        deep = self.options.effusion_mm * np.clip(1.3 - self._part(z), 0, 1)
        level = np.asarray(self._back_y(z)) - deep if not self.options.is_prone else np.asarray(self._front_y(z)) + deep
        wet = (self.lungs == side) & ((y > level) if not self.options.is_prone else (y < level))
        hu[wet] = 8
        self.lungs[wet] = 0

    def _note(self, kind: HardKind, point: Sequence[float] | Points, radius_mm: float) -> None:
        self._note_index(kind, self._index([point])[0], radius_mm)

    def _note_index(self, kind: HardKind, at: Sequence[float] | Points, radius_mm: float) -> None:
        k, j, i = (round(float(value)) for value in at)
        if 0 <= k < self.shape[0] and 0 <= j < self.shape[1] and 0 <= i < self.shape[2]:
            self.hard.append(HardNegative(kind, (k, j, i), float(radius_mm)))

    def _chest(self) -> Chest:
        def whole(values: NDArray[np.generic], dtype: type) -> NDArray[Any]:
            full: NDArray[Any] = np.zeros(self.whole.shape, dtype)
            full[self.window] = values
            return full

        inside = self.lungs > 0
        hu = np.rint(np.clip(self.whole, -1024, 3000)).astype(np.int16)
        hard = []
        for place in self.hard:
            k, j, i = (value + shift for value, shift in zip(place.center, self.corner, strict=True))
            hard.append(HardNegative(place.kind, (k, j, i), place.radius_mm))
        vessel = (self.occupied > 0.5) & inside
        fissure = (self.sheet > 0.3) & inside

        return Chest(
            hu,
            whole(self.lungs, np.uint8),
            whole(self.lobes, np.uint8),
            whole(vessel, np.uint8),
            whole(fissure, np.bool_),
            self.whole_origin,
            tuple(hard),
            self.options,
        )

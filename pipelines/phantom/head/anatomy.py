"""A made head: a label map at 1 mm out of ellipsoids, tubes and noise, with no data of anybody.

The frame is the patient's (LPS, mm) about the middle of the skull at the height of the thalamus: x towards left, y
posterior, z superior. Sizes are those of an adult: the cranial cavity is about 136 x 170 x 135 mm. Regions are drawn
from outside to inside, later ones over earlier ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from pipelines.phantom.head import labels as tissue
from pipelines.phantom.head.bleeds import Labels
from pipelines.phantom.head.shapes import (
    Field,
    Grid,
    Mask,
    Part,
    Point,
    ellipsoid,
    ellipsoid_distance,
    enlarged,
    smooth_noise,
    smooth_union,
    tube,
)

GRID = Grid(origin=(-95.0, -118.0, -98.0), shape=(196, 240, 190))
_STEP = 2.0
_COARSE = Grid(GRID.origin, (99, 121, 96), _STEP)


@dataclass(frozen=True, slots=True)
class Build:
    """What makes one head differ from another.

    `size` scales width, length and height. `bone_mm` is the thickness of the vault, `fluid_mm` the width of the space
    between brain and skull, `sulcus_mm` half that of the sulci, `ventricles` a factor on the ventricles' width (these
    three grow with age), `gyrus_mm` the length over which the pattern of gyri changes.
    """

    size: Point
    bone_mm: float
    fluid_mm: float
    sulcus_mm: float
    ventricles: float
    gyrus_mm: float
    has_calcified_plexus: bool


@dataclass(frozen=True, slots=True, eq=False)
class Anatomy:
    """A label map `[z, y, x]` (`labels` says what the numbers mean) and where its first voxel lies (LPS, mm)."""

    labels: Labels
    origin: Point


def make_head(generator: np.random.Generator) -> Anatomy:
    """A head of random build."""
    age = generator.random()
    build = Build(
        size=(generator.uniform(0.96, 1.05), generator.uniform(0.95, 1.04), generator.uniform(0.97, 1.04)),
        bone_mm=generator.uniform(5.5, 7.5),
        fluid_mm=0.8 + 1.6 * age,
        sulcus_mm=0.55 + 0.6 * age,
        ventricles=0.8 + 0.5 * age,
        gyrus_mm=generator.uniform(7, 8.5),
        has_calcified_plexus=bool(generator.random() < 0.5),
    )
    return Anatomy(_Drawing(build, generator).drawn(), GRID.origin)


class _Drawing:
    """The drawing of one head; each method draws one region into `labels`."""

    def __init__(self, build: Build, generator: np.random.Generator) -> None:
        self.build = build
        self.generator = generator
        self.labels: Labels = np.zeros(GRID.shape, np.uint8)
        self.x, self.y, self.z = GRID.axes()
        self.coarse_cavity = self._cavity()
        self.cavity = enlarged(self.coarse_cavity, GRID.shape, _STEP)
        self.tent = 1 - 0.45 * np.abs(self.x) - 0.28 * np.maximum(0, self.y - 32)

    def drawn(self) -> Labels:
        self._draw_soft_tissue()
        self._draw_skull()
        self._draw_skull_base()
        self._draw_orbits()
        self._draw_hemispheres()
        self._draw_midline()
        self._draw_fissures()
        self._draw_deep_nuclei()
        self._draw_hindbrain()
        self._draw_ventricles()
        self._draw_vessels()
        return self.labels

    def _noise(self, length_mm: float) -> Field:
        coarse = smooth_noise(self.generator, _COARSE.shape, length_mm / _STEP)
        return enlarged(coarse, GRID.shape, _STEP)

    def _scaled(self, point: Point) -> Point:
        x, y, z = (value * factor for value, factor in zip(point, self.build.size, strict=True))
        return (x, y, z)

    def _ball(self, center: Point, radii: Point, margin: float = 0.0) -> Part:
        return ellipsoid(GRID, self._scaled(center), self._scaled(radii), margin)

    def _balls(self, center: Point, radii: Point, margin: float = 0.0) -> tuple[Part, Part]:
        """The same ellipsoid on the left and on the right."""
        x, y, z = center
        return self._ball((x, y, z), radii, margin), self._ball((-x, y, z), radii, margin)

    def _tube(self, points: Sequence[Point], radii: Sequence[float], margin: float = 0.0) -> Part:
        return tube(GRID, [self._scaled(point) for point in points], radii, margin)

    def _tubes(self, points: Sequence[Point], radii: Sequence[float], margin: float = 0.0) -> tuple[Part, Part]:
        """The same tube on the left and on the right."""
        mirrored = [(-x, y, z) for x, y, z in points]
        return self._tube(points, radii, margin), self._tube(mirrored, radii, margin)

    def _put(self, part: Part, label: int, where: Mask | None = None) -> None:
        mask = part.mask if where is None else part.mask & where[part.box]
        self.labels[part.box][mask] = label

    def _put_walled(self, part: Part, inner: int, wall_mm: float, where: Mask) -> None:
        """A hollow with a wall of hard bone. The part needs a margin of the wall's thickness."""
        region = self.labels[part.box]
        outside = where[part.box]
        region[(part.distance < wall_mm) & outside] = tissue.HARD_BONE
        region[part.mask & outside] = inner

    def _cavity(self) -> Field:
        """Signed distance to the inner table on the coarse grid: a vault, three steps of floor, the spinal canal."""
        x, y, z = _COARSE.axes()
        width, length, height = self.build.size
        wider_behind = np.float32(1) + np.float32(0.07) * np.tanh((y - 5) / 40)
        shell = ellipsoid_distance(
            ((x / wider_behind).astype(np.float32), y, z), (0, 2, 2), (67 * width, 84 * length, 75 * height)
        )
        front = 1 / (1 + np.exp((y / length + 26) / 3))
        back = 1 / (1 + np.exp(-(y / length + 10 - 0.7 * np.abs(x)) / 2.5))
        lateral = 1 / (1 + np.exp(-(np.abs(x) / width - 13) / 2))
        brow = 13 * np.exp(-(((np.abs(x) - 32) / 16) ** 2) - ((y + 58) / 22) ** 2)
        floor = front * (brow - 23) + (1 - front) * ((1 - back) * (-14 - 20 * lateral) - 57 * back)
        cavity = -smooth_union(-shell, z / height - floor, 7)
        canal = np.maximum(np.hypot(x / 1.15, y - 30 + 0.12 * (z + 60)) - 12, z + 45)
        petrous = [part.on(_COARSE, 40.0) for part in self._petrous()]
        cavity = smooth_union(cavity, canal, 5)
        cavity = -smooth_union(-cavity, np.minimum(*petrous), 2)
        return (cavity + 0.7 * smooth_noise(self.generator, cavity.shape, 12)).astype(np.float32)

    def _petrous(self) -> tuple[Part, Part]:
        ridge: list[Point] = [(60, 30, -38), (38, 14, -36), (15, -4, -40)]
        points = [self._scaled(point) for point in ridge]
        mirrored = [(-x, y, z) for x, y, z in points]
        return tube(_COARSE, points, [11, 8, 4], 30), tube(_COARSE, mirrored, [11, 8, 4], 30)

    def _draw_soft_tissue(self) -> None:
        """Scalp, face and neck in one outline (skin, fat, muscle), ears, and the head holder behind it."""
        x, y, z = _COARSE.axes()
        scalp = self.coarse_cavity - self.build.bone_mm - 6
        face = ellipsoid_distance((x, y, z), (0, -32, -52), (67, 66, 62))
        neck = np.maximum(np.hypot(x / 1.1, (y - 22) / 1.15) - 56, z + 30)
        outline = enlarged(smooth_union(smooth_union(scalp, face, 16), neck, 24), GRID.shape, _STEP)
        inside = outline < 0
        patches = self._noise(9) + 0.5 * self._noise(4)
        self.labels[inside] = tissue.MUSCLE
        is_face = (self.z < -30) & (self.y < -20)
        fatty = (outline > -4.5) | (patches > np.where(is_face, 0.3, 1.0))
        self.labels[inside & fatty] = tissue.FAT
        self.labels[inside & (outline > -2)] = tissue.SKIN
        for ear in self._balls((75, 22, -34), (6, 13, 20)):
            self._put(ear, tissue.SKIN, ~inside)
        for muscle in self._tubes([(70, -22, 12), (66, -26, -20), (60, -30, -50)], [5, 8, 7]):
            self._put(muscle, tissue.MUSCLE, inside)
        rest = np.abs(np.hypot(self.x / 0.92, self.y - 4) - 106) < 1.5
        self.labels[rest & (self.y > 40) & ~inside] = tissue.TABLE

    def _draw_skull(self) -> None:
        """Outer and inner table with the diploe between them; thin at the temples and under the frontal lobes."""
        x, y, z = self.x, self.y, self.z
        temple = np.exp(-(((z + 8) / 22) ** 2) - ((y + 14) / 32) ** 2) * (np.abs(x) > 45)
        thickness = self.build.bone_mm + 0.6 * self._noise(30) - 3.2 * temple + 1.5 * np.exp(-(((y - 85) / 20) ** 2))
        thickness = np.where((z < -8) & (y < -24), np.minimum(thickness, 3.0), thickness)
        spine = (z < -66) & ~(((z > -84) & (z < -72)) | (z < -91))
        bone = (self.cavity >= 0) & (self.cavity < thickness) & ~spine & (self.labels != tissue.OUTSIDE)
        self.labels[bone] = tissue.HARD_BONE
        trabecular = (self.cavity > 1.7) & (self.cavity < thickness - 1.7)
        self.labels[bone & trabecular] = tissue.SPONGY_BONE
        self.labels[self.cavity < 0] = tissue.FLUID

    def _draw_skull_base(self) -> None:
        """Petrous bones with mastoid cells and ear canals, sinuses, jaw, zygoma, the dens."""
        outside = (self.cavity > 0.5) & (self.labels != tissue.OUTSIDE)
        fine = self._noise(5)
        for ridge in self._tubes([(60, 30, -38), (38, 14, -36), (15, -4, -40)], [11, 8, 4]):
            self._put(ridge, tissue.HARD_BONE, outside)
        for mastoid in self._balls((57, 34, -44), (12, 16, 17)):
            self._put(mastoid, tissue.HARD_BONE, outside)
            self._put(mastoid, tissue.AIR_CELL, outside & (fine > -0.2) & (self.cavity > 2.5))
        for canal in self._tubes([(80, 14, -38), (46, 12, -38)], [3.5, 3]):
            self._put(canal, tissue.AIR_CELL)
        self._put(self._tube([(0, -24, -28), (0, 4, -48)], [10, 9]), tissue.SPONGY_BONE, outside & (self.cavity < 14))
        self._put_walled(self._ball((0, -25, -32), (13, 10, 9), 2), tissue.AIR_CELL, 1.5, outside)
        for sinus in self._balls((27, -62, -64), (14, 16, 15), 2):
            self._put_walled(sinus, tissue.AIR_CELL, 1.2, outside)
        nose = self._ball((0, -62, -46), (12, 26, 26), 2)
        self._put_walled(nose, tissue.AIR_CELL, 1.2, outside)
        self._put(nose, tissue.MUCOSA, outside & (np.abs(fine) < 0.35))
        for sinus in self._balls((11, -88, -4), (13, 10, 10)):
            self._put(sinus, tissue.AIR_CELL, outside & (self.cavity > 1.5) & (self.cavity < self.build.bone_mm - 1.2))
        for jaw in self._tubes([(50, 0, -46), (45, -8, -98)], [5, 6]):
            self._put(jaw, tissue.HARD_BONE)
        for arch in self._tubes([(67, 0, -42), (66, -25, -44), (52, -58, -46)], [2.5, 2.5, 5]):
            self._put(arch, tissue.HARD_BONE)
        self._put(self._tube([(0, 14, -70), (0, 18, -98)], [5, 7]), tissue.HARD_BONE, outside)

    def _draw_orbits(self) -> None:
        outside = (self.cavity > 1.2) & (self.labels != tissue.OUTSIDE)
        for cone in self._tubes([(31, -76, -34), (13, -36, -27)], [15, 4], 2):
            self._put_walled(cone, tissue.FAT, 1.2, outside)
        for dx, dz in ((9, 0), (-9, 0), (0, 8), (0, -8)):
            path: list[Point] = [(31 + dx, -76, -34 + dz), (24 + dx * 0.8, -58, -31 + dz * 0.8), (13, -38, -27)]
            for muscle in self._tubes(path, [1.2, 2.2, 1.2]):
                self._put(muscle, tissue.EYE_MUSCLE, outside)
        for nerve in self._tubes([(31, -72, -34), (12, -36, -27), (5, -22, -20)], [2.2, 2.0, 2.0]):
            self._put(nerve, tissue.OPTIC_NERVE)
        for eye in self._balls((31, -81, -34), (12, 12, 12)):
            self._put(eye, tissue.EYE)
        for lens in self._balls((31, -90, -34), (4.5, 2.2, 4.5)):
            self._put(lens, tissue.EYE_LENS)

    def _sulcus_distance(self) -> tuple[Field, Field]:
        """Distance to the nearest sulcus sheet and the depth of sulci there, mm.

        Sheets are the zeros of smooth noise that does not change along the radius, so they stand on the brain's
        surface; dividing by the gradient makes a distance of the value.
        """
        x, y, z = _COARSE.axes()
        radius = np.sqrt((x / 67) ** 2 + (y / 84) ** 2 + (z / 74) ** 2)
        factor = 0.45 + 0.55 / np.maximum(radius, 0.35)
        places = [(axis * factor - start) / _STEP for axis, start in zip((z, y, x), GRID.origin[::-1], strict=True)]
        noise = smooth_noise(self.generator, _COARSE.shape, self.build.gyrus_mm / _STEP)
        folded: Field = ndimage.map_coordinates(noise, places, order=1, mode="reflect")
        steepness = np.sqrt(sum(part**2 for part in np.gradient(folded, _STEP)))
        steepness = np.maximum(steepness, 0.5 * float(steepness.mean())).astype(np.float32)
        depth = np.float32(16) + np.float32(5) * smooth_noise(self.generator, _COARSE.shape, 10)
        distance = np.abs(enlarged(folded, GRID.shape, _STEP)) / enlarged(steepness, GRID.shape, _STEP)
        return distance.astype(np.float32, copy=False), enlarged(depth, GRID.shape, _STEP)

    def _draw_hemispheres(self) -> None:
        """White matter under a ribbon of cortex that follows the brain's surface into its sulci."""
        surface = self.cavity + self.build.fluid_mm
        sulcus, depth = self._sulcus_distance()
        cerebrum = (surface < 0) & ~self._below_tentorium()
        half_width = self.build.sulcus_mm * (1 + np.exp(np.minimum(surface, 0) / 4))
        in_sulcus = cerebrum & (sulcus < half_width) & (surface > -depth)
        cortex = (surface > -3) | ((sulcus < half_width + 2.8) & (surface > -depth - 2.8))
        left = self.x > 0
        for index, side in enumerate((left, ~left)):
            self.labels[cerebrum & side] = tissue.WHITE_MATTER[index]
            self.labels[cerebrum & side & cortex] = tissue.CORTEX[index]
        self.labels[in_sulcus] = tissue.SULCUS

    def _below_tentorium(self) -> Mask:
        """The posterior fossa, and the cisterns and brain stem in front of it."""
        behind = (self.z < self.tent) & (self.y > 0.7 * np.abs(self.x) - 10)
        column = (np.hypot(self.x / 18, (self.y + 1) / 20) < 1) & (self.z < -12)
        return behind | column | (self.z < -62)

    def _draw_midline(self) -> None:
        """Falx in the fissure between the hemispheres, above and in front of the corpus callosum."""
        bend = np.hypot((self.y - 3) / 46, (self.z - 2) / 27)
        inside = (self.cavity < -1) & (bend > 1) & (self.z > np.where(self.y < 0, -22, self.tent))
        across = np.abs(self.x + 0.8 * np.sin(self.y / 25))
        left = np.broadcast_to(self.x > 0, GRID.shape)
        brain = tissue.table(*tissue.WHITE_MATTER)[self.labels]
        for index, side in enumerate((left, ~left)):
            self.labels[inside & brain & side & (across < 4.5)] = tissue.CORTEX[index]
        self.labels[inside & (across < 1.0 + 1.2 * self.build.sulcus_mm)] = tissue.FLUID
        self.labels[inside & (across < 0.75)] = tissue.FALX

    def _draw_fissures(self) -> None:
        """The lateral fissures with the insula, lined with cortex."""
        cerebrum = tissue.table(*tissue.WHITE_MATTER, *tissue.CORTEX)[self.labels]
        lateral = np.abs(self.x)
        level = -10 + 0.36 * (self.y + 30)
        in_reach = (self.y > -34) & (self.y < 30)
        sheet = np.where(lateral > 38, np.abs(self.z - level + self._noise(10)), np.hypot(self.z - level, lateral - 38))
        insula = np.hypot(np.maximum(0, np.abs(self.y + 4) - 20), np.maximum(0, np.abs(self.z - 2) - 11))
        bulge = 41 - 5 * ((self.y + 6) / 20) ** 2 - 3 * ((self.z - 2) / 12) ** 2 + 0.8 * self._noise(8)
        distance = np.where(in_reach, sheet, 99.0)
        distance = np.minimum(distance, np.hypot(lateral - bulge, insula))
        width = 0.8 + 1.3 * self.build.sulcus_mm
        left = np.broadcast_to(self.x > 0, GRID.shape)
        for index, side in enumerate((left, ~left)):
            self.labels[cerebrum & side & (distance < width + 3)] = tissue.CORTEX[index]
        self.labels[cerebrum & (distance < width)] = tissue.SULCUS

    def _draw_deep_nuclei(self) -> None:
        pairs = (
            (tissue.THALAMUS, (10.5, 9, 2), (7.5, 14, 9)),
            (tissue.CAUDATE, (12, -21, 9), (5, 9, 9)),
            (tissue.PUTAMEN, (27, -4, 3), (5, 15, 10)),
            (tissue.PALLIDUM, (21, -1, 1), (3.5, 9, 6)),
            (tissue.HIPPOCAMPUS, (26, 10, -16), (6, 15, 5)),
            (tissue.AMYGDALA, (23, -8, -18), (6, 6, 6)),
            (tissue.VENTRAL_DIENCEPHALON, (7, 2, -8), (6, 9, 5)),
        )
        for numbers, center, radii in pairs:
            for number, part in zip(numbers, self._balls(center, radii), strict=True):
                self._put(part, number)
        path: list[Point] = [(13, -20, 14), (17, 0, 20), (20, 18, 19), (24, 28, 12)]
        for number, part in zip(tissue.CAUDATE, self._tubes(path, [4, 3, 2.5, 2]), strict=True):
            self._put(part, number)

    def _draw_hindbrain(self) -> None:
        """Cerebellum under the tentorium, brain stem and cord in their cisterns."""
        behind = self._below_tentorium() & (self.y > 0.7 * np.abs(self.x) - 10)
        ring = np.hypot(self.x / 18, (self.y - 12) / 17) > 1
        cerebellum = behind & ring & (self.cavity < -self.build.fluid_mm) & (self.z > -60) & (self.z < self.tent - 1.5)
        leaf = np.sin((np.hypot(np.hypot(self.x, self.y - 40), 1.4 * (self.z + 32))) * np.float32(2 * np.pi / 6))
        self.labels[cerebellum] = np.where(np.broadcast_to(self.x > 0, GRID.shape), *tissue.CEREBELLAR_CORTEX)[
            cerebellum
        ]
        self.labels[cerebellum & (leaf > 0.96) & (self.cavity > -14)] = tissue.FLUID
        for number, part in zip(tissue.CEREBELLAR_WHITE_MATTER, self._balls((21, 47, -37), (14, 13, 9)), strict=True):
            self._put(part, number)
        dura = (np.abs(self.z - self.tent) < 0.8) & (self.y > 0.7 * np.abs(self.x) - 10) & (self.cavity < -0.5)
        self.labels[dura & (np.hypot(self.x / 19, (self.y - 12) / 28) > 1)] = tissue.TENTORIUM
        self._put(self._ball((0, 66, -54), (13, 9, 7)), tissue.FLUID, self.cavity < 0)
        self._put(self._ball((0, 29, -5), (9, 5, 6)), tissue.FLUID)
        for stem in (
            self._ball((0, 11, -12), (15, 10, 10)),
            self._ball((0, 13, -29), (16, 12, 13)),
            self._tube([(0, 20, -40), (0, 30, -62)], [8, 6.5]),
        ):
            self._put(stem, tissue.BRAIN_STEM)
        for arm in self._tubes([(8, 18, -30), (18, 40, -36)], [6, 6]):
            self._put(arm, tissue.BRAIN_STEM)
        self._put(self._tube([(0, 30, -62), (0, 34, -98)], [6, 5.5]), tissue.SPINAL_CORD)
        self._put(self._ball((0, 1.5, -14), (4, 3, 5)), tissue.FLUID)

    def _draw_ventricles(self) -> None:
        factor = self.build.ventricles
        horn: list[Point] = [(7, -30, 7), (8, -14, 14), (10, 0, 19), (14, 18, 19), (24, 34, 9), (25, 50, 6)]
        lower: list[Point] = [(25, 34, 8), (33, 22, -8), (33, 4, -15), (28, -7, -17)]
        for index in (0, 1):
            body = self._tubes(horn, [factor * r for r in (4.5, 5, 4.5, 5, 6.5, 3.5)])[index]
            self._put(body, tissue.LATERAL_VENTRICLE[index], np.broadcast_to(np.abs(self.x) > 1.2, GRID.shape))
            self._put(self._tubes(lower, [factor * r for r in (4.5, 2.5, 2.2, 1.8)])[index], tissue.LOWER_HORN[index])
            plexus = self._tubes([(20, 26, 14), (24, 33, 8), (27, 31, 0)], [1.8, 3, 2])[index]
            self._put(plexus, tissue.CHOROID_PLEXUS[index])
            if self.build.has_calcified_plexus:
                self._put(self._balls((24, 35, 8), (2.5, 2.5, 3))[index], tissue.CALCIFICATION)
        third = self._ball((0, 2, 0), (1.8 * factor, 15, 9))
        self._put(third, tissue.THIRD_VENTRICLE)
        self._put(self._tube([(0, 15, -6), (0, 30, -26)], [1.2, 2]), tissue.FOURTH_VENTRICLE)
        self._put(self._ball((0, 32, -32), (6.5, 5, 9)), tissue.FOURTH_VENTRICLE)
        self._put(self._ball((0, 24, 1), (3, 3.5, 3)), tissue.DEEP_GREY[0])
        self._put(self._ball((0, 24.5, 1), (1.5, 1.8, 1.5)), tissue.CALCIFICATION)

    def _draw_vessels(self) -> None:
        """Arteries at the base; the dural sinuses along falx and tentorium."""
        for artery in (
            self._tube([(0, -1, -44), (0, -1, -20)], [1.7, 1.7]),
            *self._tubes([(6, -12, -16), (16, -11, -15), (34, -12, -12)], [1.8, 1.6, 1.3]),
            *self._tubes([(7, -10, -30), (6, -12, -16)], [2.0, 2.0]),
        ):
            self._put(artery, tissue.ARTERY, self.cavity < 0)
        edge = (self.cavity < 0) & (self.cavity > -7) & (np.abs(self.x) < 4.5 + 0.6 * self.cavity)
        self.labels[edge & ((self.z > 20) | (self.y > 50)) & (self.z > -18) & (self.y > -60)] = tissue.DENSE_SINUS
        rim = (self.cavity < 0) & (self.cavity > -7)
        path: list[Point] = [(0, 82, -17), (30, 73, -19), (52, 50, -26), (56, 34, -36)]
        for sinus in self._tubes(path, [4.5, 4, 4.5, 4]):
            self._put(sinus, tissue.DENSE_SINUS, rim)

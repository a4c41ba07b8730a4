"""Views of a made breast: what lies in the beam, and the picture of it with its truth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from pipelines.phantom.breast.anatomy import MadeBreast, Vessel
from pipelines.phantom.breast.calcifications import particle
from pipelines.phantom.breast.imaging import Receptor
from pipelines.phantom.breast.mimics import add_mimic, lead_ball, lesion, letters, lymph_node, spicules
from pipelines.phantom.breast.presentation import Processing
from pipelines.phantom.breast.projection import Projection, View, gland_seen
from pipelines.phantom.breast.scene import Picture, Scene, picture
from pipelines.phantom.breast.texture import Field, Grain, Points, draw
from pipelines.phantom.breast.tissue import Course, fibre_mm, rolled_off, skin_mm, tissue_parts
from pipelines.phantom.breast.truth import Mimic, MimicKind

Generator = np.random.Generator


@dataclass(frozen=True, slots=True)
class ViewOptions:
    """How to take a view. `field_mm` is the detector's (height, width). Without processing: for processing."""

    view: View
    receptor: Receptor
    processing: Processing | None
    kvp: float = 29.0
    field_mm: tuple[float, float] = (232.96, 179.2)
    mimics: tuple[MimicKind, ...] = ()
    has_letters: bool = True
    has_nipple_marker: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class MadeView:
    """A view as stored: the chest wall of a left breast lies at the left border, of a right one at the right.

    `picture` holds pixels and calcifications. `nipple_px` and the points of `muscle_px` (the muscle's edge, from above
    down; empty where there is none) are (column, row). `breast` bool `[row, column]`;
    `thickness_mm` between the plates.
    """

    picture: Picture
    nipple_px: tuple[float, float]
    muscle_px: tuple[tuple[float, float], ...]
    breast: NDArray[np.bool_]
    mimics: tuple[Mimic, ...]
    projection: Projection
    thickness_mm: float


def make_view(generator: Generator, breast: MadeBreast, options: ViewOptions) -> MadeView:
    """Take a view of a breast. Each call places it anew, as a radiographer would."""
    pitch = options.receptor.pitch_mm
    shape = (round(options.field_mm[0] / pitch), round(options.field_mm[1] / pitch))
    projection = Projection.random(generator, breast, options.view, options.field_mm)
    scene = _anatomy(generator, breast, projection, shape, pitch)
    view = _Drawing(generator, breast, projection, scene)
    view.lesions()
    view.vessels()
    view.calcifications()
    view.extras(options)
    covered = scene.thickness > 0.5
    aim = float(np.median((scene.gland / np.maximum(scene.thickness, 1))[::16, ::16][covered[::16, ::16]]))
    made = picture(generator, scene, options.receptor, options.kvp, options.processing, min(aim * 1.3, 0.9), True)
    return MadeView(
        made,
        view.px(np.array([projection.nipple]))[0],
        view.muscle_edge(),
        covered,
        tuple(scene.mimics),
        projection,
        scene.usual_mm,
    )


def _anatomy(
    generator: Generator, breast: MadeBreast, projection: Projection, shape: tuple[int, int], pitch: float
) -> Scene:
    """Tissue of a view, mirrored for a right breast."""
    o, uniform = breast.options, generator.uniform
    usual = o.thickness_mm * float(uniform(0.95, 1.05)) * (1.06 if projection.view == "MLO" else 1.0)
    depth = projection.skin_depth(generator, shape, pitch)
    box = _box_of(depth > -3, pitch)
    inner = (box[0].stop - box[0].start, box[1].stop - box[1].start)
    depth_in = depth[box]
    gland_part = gland_seen(breast, projection, shape, pitch)[box]
    thickness = rolled_off(depth_in, usual)
    course = _course(projection, inner, pitch, box)
    base = np.float32(0.035) + gland_part * np.float32(min(o.tissue.base * 1.9, 0.85))
    part, net = tissue_parts(generator, course, o.tissue, base)
    deep = np.clip((depth_in - np.float32(1.5)) / np.float32(6), 0, 1)
    part *= np.float32(0.3) + np.float32(0.7) * deep
    gland = part * thickness
    fibres = fibre_mm(generator, course, o.tissue, net)
    fibres *= deep * (np.float32(0.5) + np.minimum(gland_part * np.float32(3), 1))
    gland += fibres
    muscle = projection.muscle_depth(shape, pitch)
    if muscle is not None:
        _add_muscle(generator, gland, thickness, muscle[box])
    gland += skin_mm(depth_in, thickness, float(uniform(1.3, 2.2)))
    whole_thickness, whole_gland = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    whole_thickness[box], whole_gland[box] = thickness, gland
    _add_nipple(generator, projection, whole_thickness, whole_gland, pitch)
    np.minimum(whole_gland, whole_thickness, out=whole_gland)
    if o.laterality == "R":
        whole_thickness, whole_gland = (
            np.ascontiguousarray(field[:, ::-1]) for field in (whole_thickness, whole_gland)
        )
    return Scene(pitch, usual, whole_thickness, whole_gland)


def _box_of(mask: NDArray[np.bool_], pitch: float) -> tuple[slice, slice]:
    """The part of an image that holds a mask, and some millimetres about it."""
    margin = int(4 / pitch)
    spans = []
    for axis, side in enumerate(mask.shape):
        held = np.flatnonzero(mask.any(axis=1 - axis))
        spans.append(slice(max(0, int(held[0]) - margin), min(side, int(held[-1]) + 1 + margin)))
    return spans[0], spans[1]


def _course(projection: Projection, shape: tuple[int, int], pitch: float, box: tuple[slice, slice]) -> Course:
    """Tissue that runs to the nipple: the pattern is read at depth and place across, not at column and row."""
    top, left = box[0].start * pitch, box[1].start * pitch
    course = Course(shape, pitch, Grain(0.0, 1.7))
    step = pitch * course.step
    rows, columns = (
        (np.arange(side, dtype=np.float32) + np.float32(0.5)) * np.float32(step) + np.float32(first)
        for side, first in zip(course.coarse_shape, (top, left), strict=True)
    )
    anterior, across = projection.inward(columns[None, :], rows[:, None])
    half = np.float32((projection.above + projection.below) / 2)
    down = _held(-across, 2.5) * half * np.float32(0.8) + rows[:, None] * np.float32(0.2)
    warp = np.stack([down, anterior * np.float32(projection.depth)])

    def heading(points: Points) -> Points:
        return projection.heading(points + np.array([left, top]))

    return Course(shape, pitch, Grain(projection.tilt, 1.5), heading, warp)


def _held(values: Field, most: float) -> Field:
    """Values held softly within limits."""
    return np.asarray(np.tanh(values / np.float32(most)) * np.float32(most), np.float32)


def _add_muscle(generator: Generator, gland: Field, thickness: Field, depth: Field) -> None:
    """The pectoral muscle, thicker the deeper, of bundles that run along its edge."""
    edge = (1 + np.tanh(depth / np.float32(generator.uniform(0.5, 2.0)))) * np.float32(0.5)
    rise = np.clip(depth / np.float32(generator.uniform(25, 55)), 0, 1)
    part = np.float32(generator.uniform(0.2, 0.35)) + rise * np.float32(generator.uniform(0.25, 0.45))
    bundles = ndimage.gaussian_filter1d(generator.standard_normal(400), 4) * 3.5
    shade = np.interp((depth * np.float32(2) + 100).ravel(), np.arange(400), bundles).reshape(depth.shape)
    part *= 1 + np.float32(0.03) * shade.astype(np.float32)
    gland += edge * part * (thickness - gland)


def _add_nipple(generator: Generator, projection: Projection, thickness: Field, gland: Field, pitch: float) -> None:
    """The nipple in profile, as a knob on the skin, and the thicker skin of the areola behind it."""
    column, row = projection.nipple
    out = np.array([np.cos(projection.tilt), np.sin(projection.tilt)])
    half_wide, long = generator.uniform(3.5, 6), generator.uniform(1.5, 7)
    high = generator.uniform(7, 11)
    reach = int((half_wide + long + 22) / pitch)
    middle = (int(row / pitch), int(column / pitch))
    box = tuple(
        slice(max(0, at - reach), min(side, at + reach)) for at, side in zip(middle, thickness.shape, strict=True)
    )
    y, x = (
        (np.arange(span.start, span.stop, dtype=np.float32) + np.float32(0.5)) * np.float32(pitch) - np.float32(at)
        for span, at in zip(box, (row, column), strict=True)
    )
    along = x[None, :] * np.float32(out[0]) + y[:, None] * np.float32(out[1])
    across = y[:, None] * np.float32(out[0]) - x[None, :] * np.float32(out[1])
    forward = np.clip(along + 3, 0, None) / np.float32(long + 3)
    knob = np.sqrt(np.clip(1 - forward**4 - (across / np.float32(half_wide)) ** 2, 0, None)) * np.float32(high)
    knob *= along > -3
    outside = thickness[box] < knob
    areola = np.exp(-((across / np.float32(9)) ** 2)) * np.exp(-((np.clip(-along, 0, None) / np.float32(6)) ** 2))
    inside = thickness[box] > 0
    gland[box] += areola * inside * np.float32(generator.uniform(1.0, 3.5))
    gland[box][...] = np.where(outside, knob * np.float32(0.9), gland[box] + knob * np.float32(0.25) * inside)
    thickness[box][...] = np.where(outside, knob, thickness[box])


class _Drawing:
    """Findings drawn into one view."""

    def __init__(self, generator: Generator, breast: MadeBreast, projection: Projection, scene: Scene) -> None:
        self.generator, self.breast, self.projection, self.scene = generator, breast, projection, scene
        self.is_mirrored = breast.options.laterality == "R"

    def px(self, points_mm: Points) -> tuple[tuple[float, float], ...]:
        return tuple((float(x), float(y)) for x, y in self.place(points_mm))

    def place(self, points_mm: Points) -> Points:
        """Image points in mm as pixels of the stored image."""
        found = points_mm / self.scene.pitch_mm
        if self.is_mirrored:
            found = np.stack([self.scene.shape[1] - found[:, 0], found[:, 1]], -1)
        return found

    def of(self, place: Points) -> Points:
        """A place of the breast as (column, row) of the stored image."""
        found: Points = self.place(self.projection.on_image(place[None]))[0]
        return found

    @property
    def turn(self) -> float:
        """The direction to the nipple on the stored image."""
        return float(np.pi - self.projection.tilt if self.is_mirrored else self.projection.tilt)

    def lesions(self) -> None:
        for made in self.breast.lesions:
            at = self.of(made.place)
            if made.kind == "cyst":
                lesion(self.generator, self.scene, at, made.radius_mm, 0.03, 0.6)
            elif made.kind == "mass":
                lesion(self.generator, self.scene, at, made.radius_mm, 0.22, 0.8)
                spicules(self.generator, self.scene, at, made.radius_mm)
            else:
                lymph_node(self.generator, self.scene, at, made.radius_mm)
            self.scene.mimics.append(
                Mimic(made.kind, (float(at[0]), float(at[1])), made.radius_mm / self.scene.pitch_mm)
            )
        if self.projection.view == "MLO":
            self._armpit_nodes()

    def _armpit_nodes(self) -> None:
        generator, projection = self.generator, self.projection
        for _ in range(int(generator.poisson(1.0))):
            spot = np.array([[generator.uniform(0.1, 0.8) * projection.armpit, generator.uniform(5, 45)]])
            at = self.place(spot)[0]
            radius = float(generator.uniform(3, 9))
            if self.scene.holds(at, 15):
                lymph_node(generator, self.scene, at, radius)
                self.scene.mimics.append(
                    Mimic("lymph_node", (float(at[0]), float(at[1])), radius / self.scene.pitch_mm)
                )

    def vessels(self) -> None:
        for vessel in (*self.breast.vessels, *self.breast.ducts):
            line = self._line(vessel)
            amounts = vessel.radius_mm * 1.5 * np.linspace(1, 0.6, len(line))
            draw(self.scene.gland, [(line, amounts)], vessel.radius_mm * 0.55 / self.scene.pitch_mm)
        np.minimum(self.scene.gland, self.scene.thickness, out=self.scene.gland)
        for vessel in self.breast.vessels:
            if vessel.plaques:
                line = self._line(vessel)
                self.scene.lay_plaques(self.generator, line, vessel.radius_mm, vessel.plaques, vessel.number)

    def _line(self, vessel: Vessel) -> Points:
        """A vessel on the image, its points at most a pixel apart."""
        line = self.place(self.projection.on_image(vessel.way))
        way = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(line, axis=0), axis=1))])
        even = np.linspace(0, way[-1], max(2, int(way[-1] * 1.2)))
        return np.stack([np.interp(even, way, line[:, axis]) for axis in (0, 1)], -1)

    def calcifications(self) -> None:
        from_side = self.projection.view == "MLO"
        for group in self.breast.groups:
            offsets = self.projection.seen(group.layout.offsets_mm)
            middle = self.projection.on_image(group.place[None])
            self.scene.lay_group(
                self.generator, group.layout, self.place(middle + offsets), self.turn, from_side, group.number
            )
        for grain in self.breast.grains:
            at = self.of(grain.place)
            angle = self.turn + self.generator.normal(0, 0.3)
            made = particle(self.generator, grain.shape, grain.length_mm, angle, from_side)
            if self.scene.holds(at):
                self.scene.lay(made, (float(at[0]), float(at[1])), None, grain.number)

    def extras(self, options: ViewOptions) -> None:
        """Letters beside the breast, a ball at the nipple, and what only looks like calcification."""
        generator, projection = self.generator, self.projection
        rows, columns = self.scene.shape
        if options.has_letters:
            text = f"{self.breast.options.laterality}{projection.view}"
            size = 5.0
            width = len(text) * size / self.scene.pitch_mm
            column = 0.06 * columns if self.is_mirrored else 0.94 * columns - width
            at = np.array([column, 0.08 * rows])
            letters(self.scene, text, at, size)
            self.scene.mimics.append(Mimic("letter", (float(at[0] + width / 2), float(at[1])), width / 2))
        if options.has_nipple_marker:
            at = self.place(np.array([projection.nipple]))[0]
            lead_ball(generator, self.scene, at, 0.8)
            self.scene.mimics.append(Mimic("skin_marker", (float(at[0]), float(at[1])), 0.8 / self.scene.pitch_mm))
        for kind in options.mimics:
            place = np.array([generator.uniform(0.1, 0.8), *generator.uniform(-0.5, 0.5, 2)])
            add_mimic(generator, self.scene, kind, self.of(place), self.turn)

    def muscle_edge(self) -> tuple[tuple[float, float], ...]:
        """The muscle's edge from above down."""
        pitch = self.scene.pitch_mm
        depth = self.projection.muscle_depth((self.scene.shape[0], self.scene.shape[1]), pitch)
        if depth is None:
            return ()
        rows = np.arange(0, depth.shape[0], max(1, int(5 / pitch)))
        widths = (depth[rows] > 0).sum(axis=1)
        points = [(float(width * pitch), float((row + 0.5) * pitch)) for row, width in zip(rows, widths, strict=True)]
        held = np.array([point for point in points if point[0] > 0])
        return self.px(held) if len(held) else ()

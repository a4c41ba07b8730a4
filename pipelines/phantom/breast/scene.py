"""What lies in the beam, pixel by pixel, and the picture taken of it.

Crops and whole views are filled differently and pictured alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from scipy.spatial import ConvexHull, QhullError

from pipelines.phantom.breast.calcifications import Layout, Particle, Plaque, particle
from pipelines.phantom.breast.imaging import BORDER, Receptor, blurred, density_of, digitised, exposed, quantised
from pipelines.phantom.breast.physics import Beam
from pipelines.phantom.breast.presentation import Processing, curved, enhanced, evened
from pipelines.phantom.breast.texture import Field, Points
from pipelines.phantom.breast.truth import MadeGrain, MadeGroup, Mimic

Generator = np.random.Generator


@dataclass(slots=True, eq=False)
class _Laid:
    """A particle where it was laid: its part of the image and how thick it is there."""

    particle: Particle
    center: tuple[float, float]
    group: int | None
    number: int
    box: tuple[slice, slice]
    thickness: Field


@dataclass(slots=True, eq=False)
class Scene:
    """Thickness of the breast and what it holds, in mm, float32 `[row, column]`; the rest of it is fat.

    `usual_mm` is the thickness between the plates, `shift` that of the first pixel's outer corner (mm, column and row)
    from where `center_mm` of the truth is counted. `marks` is what lies on the film or detector, added to density or,
    on digital ones, taken from brightness; it is not blurred.
    """

    pitch_mm: float
    usual_mm: float
    thickness: Field
    gland: Field
    apatite: Field = field(init=False)
    metal: Field = field(init=False)
    marks: Field | None = None
    laid: list[_Laid] = field(default_factory=list)
    groups: list[tuple[int, Layout]] = field(default_factory=list)
    mimics: list[Mimic] = field(default_factory=list)
    shift_mm: tuple[float, float] = (0.0, 0.0)

    def __post_init__(self) -> None:
        self.apatite = np.zeros_like(self.thickness)
        self.metal = np.zeros_like(self.thickness)

    @property
    def shape(self) -> tuple[int, int]:
        rows, columns = self.thickness.shape
        return rows, columns

    def lay(self, particle: Particle, center: tuple[float, float], group: int | None = None, number: int = 0) -> bool:
        """Lay a calcification at (column, row); one whose middle lies outside of the image is left out."""
        if not (0 <= center[0] < self.shape[1] and 0 <= center[1] < self.shape[0]):
            return False
        box, thickness = stamped(particle.thickness, particle.step_mm / self.pitch_mm, center, self.shape)
        self.apatite[box] += thickness
        self.laid.append(_Laid(particle, center, group, number, box, thickness))
        return True

    def lay_group(  # noqa: PLR0917  what, where, how it lies
        self, generator: Generator, layout: Layout, places: Points, turn: float, from_side: bool, number: int = 0
    ) -> None:
        """Lay a group's particles at places `[particle, (column, row)]`; `turn` is the direction to the nipple.

        Those outside of the breast are left out. The particles are numbered from `number` on.
        """
        index = len(self.groups)
        self.groups.append((number, layout))
        for k, (place, shape, length, angle) in enumerate(
            zip(places, layout.shapes, layout.lengths_mm, layout.angles, strict=True)
        ):
            turned = None if angle is None else angle + turn
            made = particle(generator, shape, length, turned, from_side)
            if self.holds(place):
                self.lay(made, (float(place[0]), float(place[1])), index, number + k)

    def lay_plaques(
        self, generator: Generator, line: Points, radius_mm: float, plaques: Sequence[Plaque], number: int = 0
    ) -> None:
        """Lay plaques into the walls of an artery that runs along a line (px, points at most a pixel apart)."""
        index = len(self.groups)
        self.groups.append((number, Layout("vascular", "linear", False, np.zeros((0, 3)), (), (), ())))
        tangent = np.gradient(line, axis=0)
        tangent /= np.maximum(np.linalg.norm(tangent, axis=1, keepdims=True), 1e-9)
        way = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(line, axis=0), axis=1))]) * self.pitch_mm
        for n, plaque in enumerate(plaques):
            k = min(int(np.searchsorted(way, plaque.along_mm)), len(line) - 1)
            normal = np.array([-tangent[k, 1], tangent[k, 0]])
            out = radius_mm / self.pitch_mm * generator.uniform(0.8, 1.05)
            place = line[k] + normal * plaque.wall * out
            angle = float(np.arctan2(tangent[k, 1], tangent[k, 0]))
            made = particle(generator, "vascular", plaque.length_mm, angle)
            if self.holds(place):
                self.lay(made, (float(place[0]), float(place[1])), index, number + n)

    def holds(self, place: Points, least_mm: float = 4.0) -> bool:
        """Whether a place (column, row) is on the image and within the breast, where that is so thick."""
        column, row = int(np.floor(place[0])), int(np.floor(place[1]))
        inside = 0 <= column < self.shape[1] and 0 <= row < self.shape[0]
        return bool(inside and self.thickness[row, column] >= least_mm)

    def mark(self) -> Field:
        """The canvas of marks on film or detector."""
        if self.marks is None:
            self.marks = np.zeros_like(self.thickness)
        return self.marks


def stamped(
    fine: Field, scale: float, center: tuple[float, float], shape: tuple[int, int]
) -> tuple[tuple[slice, slice], Field]:
    """A fine map as pixels see it, each the mean over its area: which part of the image, and the values there.

    `scale` is a fine step in pixels; the map's middle comes to `center` (column, row).
    """
    weights, box = [], []
    for steps, at, side in zip(fine.shape, center[::-1], shape, strict=True):
        edges = at + (np.arange(steps + 1) - steps / 2) * scale
        first, last = max(0, int(np.floor(edges[0]))), min(side, int(np.ceil(edges[-1])))
        pixels = np.arange(first, max(first + 1, last))[:, None]
        share = np.minimum(edges[1:], pixels + 1) - np.maximum(edges[:-1], pixels)
        weights.append(np.clip(share, 0, None).astype(np.float32))
        box.append(slice(first, first + len(pixels)))
    return (box[0], box[1]), weights[0] @ fine @ weights[1].T


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """A picture and what is true of it. `pixels` float32 0 to 1, dense bright, in steps of the stored bits.

    `exposure` is what the detector got (1 at the reference): what a digital unit stores for processing.
    """

    pixels: Field
    exposure: Field
    reference: float
    grains: tuple[MadeGrain, ...]
    groups: tuple[MadeGroup, ...]


def picture(  # noqa: PLR0917  what, by which unit, how shown
    generator: Generator,
    scene: Scene,
    receptor: Receptor,
    kvp: float,
    processing: Processing | None,
    reference_gland: float,
    is_whole: bool = False,
) -> Picture:
    """Take a picture. Without processing a digital one is the negated logarithm, stretched from air to the densest.

    `reference_gland` (0 to 1) is the part of gland at which the exposure was aimed. Brightness of a whole view follows
    what it shows, that of a piece what the breast's thickness makes likely.
    """
    beam = Beam.of(kvp, scene.usual_mm)
    through = beam.attenuation(scene.thickness, scene.gland)
    reference = scene.usual_mm * (beam.fat + reference_gland * (beam.gland - beam.fat))
    without = np.exp(np.float32(reference) - through)
    np.minimum(without, np.float32(200), out=without)
    scattered = np.float32(beam.scatter) * _haze(without)
    obstacle = scene.apatite * np.float32(beam.apatite) + scene.metal * np.float32(beam.metal)
    exposure = exposed(generator, receptor, without * np.exp(-obstacle), scattered)
    truths = _truths(scene, receptor, beam, without, scattered)
    if receptor.medium == "film":
        density = density_of(generator, receptor, exposure)
        if scene.marks is not None:
            density += scene.marks
        return Picture(digitised(generator, receptor, density), exposure, reference, *truths)
    if scene.marks is not None:
        exposure *= np.exp(scene.marks)
    log = np.log(exposure)
    np.subtract(np.float32(reference), log, out=log)
    fat, dense = scene.usual_mm * beam.fat, scene.usual_mm * (beam.gland - beam.fat)
    scattered_away = float(np.log(1 + beam.scatter))
    if processing is None:
        span = fat + dense + 1.5
        return Picture(
            quantised(np.asarray(log / np.float32(span) + np.float32(0.03), np.float32), 14),
            exposure,
            reference,
            *truths,
        )
    most = np.float32(processing.most * scene.usual_mm)
    missing = np.tanh((np.float32(scene.usual_mm) - scene.thickness) / most) * most
    log += missing * np.float32(processing.equalise * (beam.fat + 0.05 * (beam.gland - beam.fat)))
    log = enhanced(log, processing)
    if processing.local:
        log = evened(log, scene.pitch_mm, processing.local)
    fat -= scattered_away
    levels = (fat, fat + dense * processing.dense)
    if is_whole:
        full = log[::8, ::8][scene.thickness[::8, ::8] > 0.9 * scene.usual_mm]
        levels = (float(np.percentile(full, 4)), float(np.percentile(full, 96)) + 0.05)
    value = curved(log, *levels, processing)
    value *= np.clip(scene.thickness * np.float32(1.2) + scene.metal * np.float32(20) - np.float32(0.05), 0, 1)
    return Picture(quantised(value, receptor.bits), exposure, reference, *truths)


def _haze(primary: Field) -> Field:
    """Where scatter goes: it spreads so far that little of the anatomy is left in it."""
    small = primary[::8, ::8]
    return np.minimum(primary, np.float32(float(np.median(small))) * 2) * np.float32(0.15) + np.float32(
        0.85 * float(np.minimum(small, 3).mean())
    )


def _truths(
    scene: Scene, receptor: Receptor, beam: Beam, primary: Field, scattered: Field
) -> tuple[tuple[MadeGrain, ...], tuple[MadeGroup, ...]]:
    grains = [_grain(scene, receptor, laid, beam, (primary, scattered)) for laid in scene.laid]
    groups = [_group(scene, index, grains) for index in range(len(scene.groups))]
    kept = {index: k for k, index in enumerate(i for i, group in enumerate(groups) if group is not None)}
    return (
        tuple(_renamed(grain, kept) for grain in grains),
        tuple(group for group in groups if group is not None),
    )


def _renamed(grain: MadeGrain, kept: dict[int, int]) -> MadeGrain:
    return replace(grain, group=kept.get(grain.group)) if grain.group is not None else grain


def _grain(scene: Scene, receptor: Receptor, laid: _Laid, beam: Beam, light: tuple[Field, Field]) -> MadeGrain:
    """What is seen of a grain: the image about it with all apatite there, against the same without."""
    rows, columns = (
        slice(max(0, span.start - BORDER), min(side, span.stop + BORDER))
        for span, side in zip(laid.box, scene.shape, strict=True)
    )
    primary, scattered = (part[rows, columns] for part in light)
    own = np.zeros_like(primary)
    top, left = laid.box[0].start - rows.start, laid.box[1].start - columns.start
    own[top : top + laid.thickness.shape[0], left : left + laid.thickness.shape[1]] = laid.thickness
    seen = blurred(receptor, primary * -np.expm1(own * np.float32(-beam.apatite))) / (primary + scattered)
    noise = receptor.relative_noise(float((primary + scattered).mean()))
    deepest = float(np.clip(seen, 0, 0.999).max())
    column, row = laid.center
    return MadeGrain(
        center_px=(float(column), float(row)),
        center_mm=(
            float(column * scene.pitch_mm + scene.shift_mm[0]),
            float(row * scene.pitch_mm + scene.shift_mm[1]),
        ),
        diameter_mm=laid.particle.diameter_mm,
        length_mm=laid.particle.length_mm,
        contrast=float(-np.log1p(-deepest)),
        snr=float(np.sqrt((seen**2).sum()) / noise),
        shape=laid.particle.shape,
        group=laid.group,
        number=laid.number,
    )


def _group(scene: Scene, index: int, grains: Sequence[MadeGrain]) -> MadeGroup | None:
    """What lies of a group on the image; None where that is less than two grains."""
    number, layout = scene.groups[index]
    members = [grain for grain in grains if grain.group == index]
    if len(members) < 2:
        return None
    points = np.array([grain.center_px for grain in members])
    radii = np.array([grain.length_mm / 2 / scene.pitch_mm for grain in members])
    reach = np.hypot(*(points[:, None] - points[None]).transpose(2, 0, 1)) + radii[:, None] + radii[None]
    middle = points.mean(axis=0)
    return MadeGroup(
        outline_px=outline_about(points, radii + 0.5 / scene.pitch_mm),
        center_px=(float(middle[0]), float(middle[1])),
        count=len(members),
        long_axis_mm=float(reach.max() * scene.pitch_mm),
        morphology=layout.morphology,
        distribution=layout.distribution,
        is_suspicious=layout.is_suspicious,
        number=number,
    )


def outline_about(points: Points, radii: Points) -> tuple[tuple[float, float], ...]:
    """The convex polygon about discs."""
    turns = np.linspace(0, 2 * np.pi, 12, endpoint=False)
    rims = points[:, None] + radii[:, None, None] * np.stack([np.cos(turns), np.sin(turns)], -1)[None]
    rims = rims.reshape(-1, 2)
    try:
        rims = rims[ConvexHull(rims).vertices]
    except QhullError as error:  # cannot happen: discs have an area
        raise ValueError("an outline needs discs of some size") from error
    return tuple((round(float(x), 2), round(float(y), 2)) for x, y in rims)

"""Heads from real label maps, dressed and varied: what the network learns from.

A dressed head has what the maps lack: falx, tentorium, dural sinuses, fluid over the hemispheres told from cisterns,
scalp split into fat and muscle, a crude face, and a neck. A varied head is one drawn from it: wider or smaller, bent,
tilted, mirrored, with thin bone, with calcifications, scalp swellings, old strokes, gaps in the skull.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import SimpleITK
from numpy.typing import NDArray
from scipy import ndimage

from pipelines.geometry import Floats, Plane
from pipelines.phantom.head import bleeds
from pipelines.phantom.head import labels as tissue
from pipelines.phantom.head.bleeds import Labels, Surroundings
from pipelines.phantom.head.ct import MEAN_HU, Appearance, Scanner

_MARGIN = 6
_NECK_MM = 34
_SKULL = tissue.table(*tissue.BONE)
_SCALP = tissue.table(tissue.SOFT_TISSUE, tissue.SKIN, tissue.FAT, tissue.MUSCLE, tissue.EYE_MUSCLE)


@dataclass(frozen=True, slots=True, eq=False)
class Head:
    """A dressed head: its surroundings, and `height`, the distance from the intracranial space in mm (0 inside it)."""

    name: str
    around: Surroundings
    height: NDArray[np.uint8]


@dataclass(frozen=True, slots=True, eq=False)
class Warp:
    """Patient points (LPS, mm, the head's middle at the origin) to indices of the label map."""

    middle: Floats
    matrix: Floats
    bend: NDArray[np.float32]
    bend_cell_mm: float

    def __call__(self, points: Floats) -> Floats:
        bent = points[..., ::-1]
        cells = (
            np.moveaxis(bent / self.bend_cell_mm, -1, 0)
            + (np.array(self.bend.shape[1:]) - 1)[(slice(None),) + (None,) * (points.ndim - 1)] / 2
        )
        shift = [ndimage.map_coordinates(axis, cells, order=1, mode="nearest") for axis in self.bend]
        moved: Floats = bent @ self.matrix.T + np.stack(shift, axis=-1) + self.middle
        return moved


def load(path: Path) -> Head:
    """A label map from disk, dressed."""
    image = SimpleITK.DICOMOrient(SimpleITK.ReadImage(str(path)), "LPS")  # type: ignore[no-untyped-call]
    raw = SimpleITK.GetArrayFromImage(image).astype(np.uint8)
    return dress(path.name.split(".")[0], raw)


def dress(name: str, raw: Labels) -> Head:
    """What the maps lack is added; the same name always gives the same head."""
    generator = np.random.default_rng(int.from_bytes(name.encode()[-4:], "little"))
    filled = (raw > 0).sum(axis=(1, 2))
    lowest = np.nonzero(tissue.table(*tissue.CEREBELLUM)[raw])[0].min(initial=raw.shape[0])
    whole = max(0, min(int(np.argmax(filled > 0.5 * filled.max())), int(lowest) - 3))
    raw[:whole] = raw[whole]
    neck = np.repeat(raw[:1], _NECK_MM, axis=0)
    labels = np.pad(np.concatenate([neck, raw]), ((0, _MARGIN), (_MARGIN, _MARGIN), (_MARGIN, _MARGIN)))
    _strip_neck(labels)
    _add_face(labels, generator)
    _split_scalp(labels, generator)
    _name_sinuses(labels)
    _name_sulci(labels)
    _draw_dura(labels)
    around = bleeds.survey(labels)
    height = np.minimum(ndimage.distance_transform_edt(around.depth == 0), 255).astype(np.uint8)
    return Head(name, around, height)


def _distance(labels: Labels, *numbers: int) -> NDArray[np.float32]:
    """Distance to the nearest voxel of these labels, mm, from a 2 mm lattice (exact to about 1 mm)."""
    coarse = tissue.table(*numbers)[labels[::2, ::2, ::2]]
    near = 2 * ndimage.distance_transform_edt(~coarse).astype(np.float32)
    fine = near.repeat(2, 0).repeat(2, 1).repeat(2, 2)
    return np.asarray(ndimage.uniform_filter(fine, 3)[tuple(slice(0, side) for side in labels.shape)])


def _strip_neck(labels: Labels) -> None:
    """Below the cerebellum there is a canal with cord, and no intracranial space."""
    hindbrain = np.nonzero(tissue.table(*tissue.CEREBELLUM)[labels])[0]
    bottom = int(hindbrain.min()) if hindbrain.size else 0
    lower = labels[:bottom]
    lower[tissue.table(tissue.BRAIN_STEM, *tissue.CEREBRUM)[lower]] = tissue.SPINAL_CORD
    lower[lower == tissue.FLUID] = tissue.EYE


def _smooth_noise(generator: np.random.Generator, shape: tuple[int, ...], sigma: float) -> NDArray[np.float32]:
    coarse = generator.normal(size=tuple(side // 3 + 2 for side in shape)).astype(np.float32)
    coarse = ndimage.gaussian_filter(coarse, sigma / 3)
    fine = (coarse / coarse.std()).repeat(3, 0).repeat(3, 1).repeat(3, 2)
    return np.asarray(fine[tuple(slice(0, side) for side in shape)])


def _add_face(labels: Labels, generator: np.random.Generator) -> None:
    """Flesh, fat, bone and air in front of and under the eyes, where the maps were cut."""
    eyes = np.nonzero(labels == tissue.EYE)
    top = int(np.percentile(eyes[0], 95)) if eyes[0].size else labels.shape[0] // 3
    filled = np.nonzero(labels[top // 2])
    depth, rows, columns = labels.shape
    middle_x, half_x = columns / 2, 0.4 * columns
    back = np.percentile(filled[0], 35) if filled[0].size else rows / 3
    z, y, x = np.ogrid[:top, :rows, :columns]
    outline = ((x - middle_x) / half_x) ** 2 + ((y - back) / max(back - 2, 1)) ** 2 < 1
    face = (outline & (y < back) & (z >= 0) & (labels[:top] == tissue.OUTSIDE)) & (depth > 0)
    flesh = _smooth_noise(generator, face.shape, 6)
    hard = _smooth_noise(generator, face.shape, 5)
    made = np.where(flesh > 0.1, tissue.MUSCLE, tissue.FAT).astype(np.uint8)
    made[hard > 1.3] = tissue.HARD_BONE
    made[hard < -1.3] = tissue.OUTSIDE
    labels[:top][face] = made[face]


def _split_scalp(labels: Labels, generator: np.random.Generator) -> None:
    """Soft tissue becomes fat or muscle in patches; more of it muscle low down."""
    soft = labels == tissue.SOFT_TISSUE
    noise = _smooth_noise(generator, labels.shape, 4)
    low = np.linspace(1.0, -1.0, labels.shape[0], dtype=np.float32)[:, None, None]
    labels[soft] = np.where(noise + low > 0.2, tissue.MUSCLE, tissue.FAT)[soft]


def _name_sinuses(labels: Labels) -> None:
    """Veins near the brain are dural sinuses and lie inside the skull."""
    near = _distance(labels, *tissue.CEREBRUM, *tissue.CEREBELLUM) < 5
    labels[(labels == tissue.VEIN) & near] = tissue.DENSE_SINUS


def _name_sulci(labels: Labels) -> None:
    """Fluid away from the brain's base: tight brains show little of it."""
    base = (tissue.BRAIN_STEM, *tissue.VENTRAL_DIENCEPHALON, tissue.OPTIC_CHIASM)
    labels[(labels == tissue.FLUID) & (_distance(labels, *base) > 14)] = tissue.SULCUS


def _draw_dura(labels: Labels) -> None:
    """Falx between the hemispheres, tentorium between cerebrum and cerebellum, one to two voxels thick."""
    soft = tissue.table(tissue.FLUID, tissue.SULCUS, tissue.VEIN, *tissue.CORTEX, *tissue.CEREBELLAR_CORTEX)[labels]
    left, right = _distance(labels, *tissue.CEREBRUM_LEFT), _distance(labels, *tissue.CEREBRUM_RIGHT)
    deep = np.nonzero(tissue.table(*tissue.THALAMUS)[labels])[0]
    above = np.arange(labels.shape[0])[:, None, None] > (deep.min() if deep.size else 0)
    labels[soft & above & (np.abs(left - right) < 1.0) & (left < 9)] = tissue.FALX
    cerebrum, cerebellum = np.minimum(left, right), _distance(labels, *tissue.CEREBELLUM)
    soft &= labels != tissue.FALX
    labels[soft & (np.abs(cerebrum - cerebellum) < 1.0) & (cerebrum < 6)] = tissue.TENTORIUM


def draw_warp(head: Head, generator: np.random.Generator, infant: bool) -> Warp:
    """Wider, bent, mirrored, turned a little out of true: what of it is left after a reader has righted the head."""
    labels = head.around.labels
    middle = _vault_middle(labels)
    scale = generator.uniform([0.92, 0.9, 1.0], [1.1, 1.06, 1.2])
    if infant:
        scale *= generator.uniform(0.68, 0.92)
    turn = _rotation(np.deg2rad(generator.normal(0, [6, 3, 3])))
    matrix = np.diag(1 / scale) @ turn
    matrix[:, 2] *= generator.choice([-1.0, 1.0])
    bend = generator.normal(0, generator.uniform(0, 3.2), (3, 8, 9, 8)).astype(np.float32)
    return Warp(middle, matrix, bend, 32.0)


def _vault_middle(labels: Labels) -> Floats:
    """Where a reader would see the middle of the head: that of the bone 15 to 95 mm under the vertex."""
    where = np.stack(np.nonzero(_SKULL[labels[::3, ::3, ::3]])) * 3.0
    below = where[0].max() - where[0]
    vault = where[:, (below >= 15) & (below <= 95)]
    return np.asarray((vault.min(axis=1) + vault.max(axis=1)) / 2, np.float64)


def _rotation(angles: Floats) -> Floats:
    """Rotation of (z, y, x) vectors by angles (rad): about x (nod), about y (roll), about z (turn)."""
    (cx, cy, cz), (sx, sy, sz) = np.cos(angles), np.sin(angles)
    nod = np.array([[cx, -sx, 0], [sx, cx, 0], [0, 0, 1]])
    roll = np.array([[cy, 0, -sy], [0, 1, 0], [sy, 0, cy]])
    turn = np.array([[1, 0, 0], [0, cz, -sz], [0, sz, cz]])
    whole: Floats = nod @ roll @ turn
    return whole


def planes_through(head: Head, warp: Warp, generator: np.random.Generator, shape: tuple[int, int]) -> list[Plane]:
    """A tilted axial stack of 1 mm pixels from neck to over the vertex, off centre by a few mm."""
    tilt = np.deg2rad(generator.uniform(-22, 22) if generator.random() < 0.75 else 0.0)
    down = np.array([0.0, np.cos(tilt), -np.sin(tilt)])
    normal = np.array([0.0, np.sin(tilt), np.cos(tilt)])
    inside = np.stack(np.nonzero(head.around.depth[::6, ::6, ::6]), -1) * 6.0 - warp.middle
    along = (inside @ np.linalg.inv(warp.matrix).T)[:, ::-1] @ normal
    spacing = generator.uniform(4.0, 6.0) if generator.random() < 0.75 else generator.uniform(5.0, 7.6)
    thickness = spacing * generator.uniform(0.85, 1.05)
    start = along.min() - generator.uniform(0, 25)
    positions = np.arange(start, along.max() + generator.uniform(0, 12), spacing)
    off = generator.normal(0, 4, 2)
    corner = down * (off[0] - (shape[0] - 1) / 2) + np.array([off[1] - (shape[1] - 1) / 2, 0.0, 0.0])
    return [Plane(_point(corner + normal * at), (1.0, 0.0, 0.0), _point(down), 1.0, 1.0, thickness) for at in positions]


def _point(vector: Floats) -> tuple[float, float, float]:
    return (float(vector[0]), float(vector[1]), float(vector[2]))


def vary(head: Head, generator: np.random.Generator, infant: bool) -> Surroundings:
    """The head with what real heads have besides bleeds: look-alikes and oddities, each now and then."""
    labels = head.around.labels.copy()
    _thin_bone(labels, head, generator, infant)
    for chance, change in _ODDITIES:
        if generator.random() < chance:
            change(labels, head, generator)
    return bleeds.relabelled(head.around, labels)


def _thin_bone(labels: Labels, head: Head, generator: np.random.Generator, infant: bool) -> None:
    """Bone further out than a drawn thickness becomes scalp; in infants sutures stand open."""
    if not infant and generator.random() < 0.5:
        return
    thick = generator.uniform(1.5, 3.5) if infant else generator.uniform(2.5, 7.0)
    stem = np.nonzero(labels == tissue.BRAIN_STEM)[0]
    base = int(np.percentile(stem, 50))
    bone = _SKULL[labels]
    bone[:base] = False
    labels[bone & (head.height > thick)] = tissue.SKIN
    if infant:
        z, y, x = np.ogrid[: labels.shape[0], : labels.shape[1], : labels.shape[2]]
        for _ in range(int(generator.integers(1, 4))):
            a, b, c = generator.normal(0, [0.3, 1, 1])
            middle = np.array(labels.shape) * generator.uniform(0.35, 0.65, 3)
            apart = np.abs(a * (z - middle[0]) + b * (y - middle[1]) + c * (x - middle[2])) / np.hypot(b, c)
            labels[bone & (apart < generator.uniform(0.5, 4)) & _SKULL[labels]] = tissue.SKIN


def _blob(labels: Labels, at: NDArray[np.intp], radius: float, allowed: NDArray[np.bool_], number: int) -> None:
    """A ball of `number` about a voxel, where `allowed` (a table) lets it."""
    reach = int(np.ceil(radius))
    box = tuple(slice(max(int(c) - reach, 0), int(c) + reach + 1) for c in at)
    part = labels[box]
    grid = np.ogrid[tuple(slice(0, side) for side in part.shape)]
    squared = sum((axis + span.start - c) ** 2 for axis, span, c in zip(grid, box, at, strict=True))
    part[(squared < radius**2) & allowed[part]] = number


def _somewhere(labels: Labels, generator: np.random.Generator, *numbers: int) -> NDArray[np.intp] | None:
    """A random voxel of one of these labels."""
    found = np.flatnonzero(tissue.table(*numbers)[labels])
    return np.array(np.unravel_index(found[generator.integers(found.size)], labels.shape)) if found.size else None


_ANY_INSIDE = tissue.table(*tissue.INTRACRANIAL)


def _calcify_plexus(labels: Labels, _head: Head, generator: np.random.Generator) -> None:
    for side in (tissue.CHOROID_PLEXUS[0], tissue.CHOROID_PLEXUS[1]):
        at = _somewhere(labels, generator, side)
        if at is not None and generator.random() < 0.85:
            _blob(labels, at, generator.uniform(2, 5), tissue.table(*tissue.VENTRICLES), tissue.CALCIFICATION)


def _calcify_pineal(labels: Labels, _head: Head, generator: np.random.Generator) -> None:
    third = np.stack(np.nonzero(labels == tissue.THIRD_VENTRICLE))
    if third.size:
        at = third[:, np.argmax(third[1])] + np.array([0, 3, 0])
        _blob(labels, at, generator.uniform(1.5, 4), _ANY_INSIDE, tissue.CALCIFICATION)


def _calcify_falx(labels: Labels, _head: Head, generator: np.random.Generator) -> None:
    for _ in range(int(generator.integers(1, 4))):
        at = _somewhere(labels, generator, tissue.FALX, tissue.TENTORIUM)
        if at is not None:
            _blob(
                labels, at, generator.uniform(1.5, 5), tissue.table(tissue.FALX, tissue.TENTORIUM), tissue.CALCIFICATION
            )


def _calcify_nuclei(labels: Labels, _head: Head, generator: np.random.Generator) -> None:
    for number in tissue.PALLIDUM:
        at = _somewhere(labels, generator, number)
        if at is not None:
            _blob(labels, at, generator.uniform(1.5, 4), _ANY_INSIDE, tissue.DENSE_ARTERY)


def _dense_arteries(labels: Labels, _head: Head, generator: np.random.Generator) -> None:
    """Basal arteries: short rods in the cisterns."""
    for _ in range(int(generator.integers(1, 5))):
        at = _somewhere(labels, generator, tissue.FLUID)
        if at is None:
            return
        along = generator.normal(size=3)
        along /= np.linalg.norm(along)
        for step in range(int(generator.integers(6, 16))):
            place = np.rint(at + along * step).astype(np.intp)
            _blob(labels, place, generator.uniform(1.0, 2.2), _FLUID, tissue.DENSE_ARTERY)


_FLUID = tissue.table(tissue.FLUID)


def _swell_scalp(labels: Labels, head: Head, generator: np.random.Generator) -> None:
    """Blood and swelling under the scalp, which is no intracranial bleed."""
    upper = np.flatnonzero(_SCALP[labels] & (head.height > 5) & (head.height < 14))
    at = np.array(np.unravel_index(upper[generator.integers(upper.size)], labels.shape))
    _blob(labels, at, generator.uniform(10, 35), _SCALP, tissue.SCALP_BLOOD)


def _old_stroke(labels: Labels, _head: Head, generator: np.random.Generator) -> None:
    at = _somewhere(labels, generator, *tissue.WHITE_MATTER, *tissue.CORTEX, *tissue.CEREBELLUM)
    if at is not None:
        for _ in range(int(generator.integers(1, 5))):
            place = at + np.rint(generator.normal(0, 8, 3)).astype(np.intp)
            _blob(labels, place, generator.uniform(4, 20), tissue.table(*tissue.BRAIN), tissue.DARK_STROKE)


def _open_skull(labels: Labels, head: Head, generator: np.random.Generator) -> None:
    """A craniotomy: a round gap in the vault, sometimes with air under it."""
    rim = head.around.rim
    at = np.array(np.unravel_index(rim[generator.integers(rim.size)], labels.shape))
    _blob(labels, at, generator.uniform(10, 35), _SKULL, tissue.SKIN)
    if generator.random() < 0.5:
        _blob(labels, at, generator.uniform(3, 9), _ANY_INSIDE, tissue.AIR_INSIDE)


def _mass(labels: Labels, head: Head, generator: np.random.Generator) -> None:
    """A dark cyst or hygroma against the inner table."""
    rim = head.around.rim
    at = np.array(np.unravel_index(rim[generator.integers(rim.size)], labels.shape))
    _blob(labels, at, generator.uniform(6, 18), tissue.table(*tissue.BRAIN), tissue.FLUID)


_ODDITIES = (
    (0.75, _calcify_plexus),
    (0.6, _calcify_pineal),
    (0.25, _calcify_falx),
    (0.12, _calcify_nuclei),
    (0.4, _dense_arteries),
    (0.3, _swell_scalp),
    (0.2, _old_stroke),
    (0.05, _open_skull),
    (0.06, _mass),
)


def draw_appearance(generator: np.random.Generator, infant: bool, least_contrast_hu: float) -> Appearance:
    """CT numbers drawn about the usual ones. Blood is at least `least_contrast_hu` over grey matter."""
    hu = np.zeros(256, np.float32)
    hu[list(MEAN_HU)] = list(MEAN_HU.values())
    level = generator.normal(0, 3)
    brain = np.array([*tissue.BRAIN, tissue.SPINAL_CORD])
    grey_over_white = generator.uniform(1, 6) if infant else generator.uniform(4, 11)
    hu[brain] = 27 + (hu[brain] - 27) * grey_over_white / 9 + level + generator.normal(0, 1.0, brain.size)
    grey = float(hu[list(tissue.CORTEX)].mean())
    hu[tissue.SULCUS] = generator.uniform(6, 14)
    if generator.random() < 0.5:
        hu[tissue.SULCUS] = grey - generator.uniform(0, 12)
    hu[list(tissue.VENTRICLES)] = generator.uniform(2, 14)
    hu[tissue.FLUID] = generator.uniform(3, 16)
    hu[list(tissue.CHOROID_PLEXUS)] = generator.uniform(15, 60, 4) if generator.random() < 0.6 else 90
    hu[tissue.CALCIFICATION] = generator.uniform(60, 400)
    hu[tissue.FALX], hu[tissue.TENTORIUM] = generator.uniform(35, 75, 2)
    hu[tissue.DENSE_SINUS] = generator.uniform(38, 75)
    hu[tissue.VEIN] = generator.uniform(35, 70)
    hu[[tissue.ARTERY, *tissue.VESSEL]] = generator.uniform(30, 60)
    hu[tissue.DENSE_ARTERY] = generator.uniform(40, 75)
    hu[tissue.FAT] = generator.uniform(-110, -40)
    hu[tissue.MUSCLE] = generator.uniform(35, 75)
    hu[tissue.SKIN] = generator.uniform(-60, 70)
    hu[tissue.SCALP_BLOOD] = generator.uniform(25, 80)
    hu[tissue.DARK_STROKE] = grey - generator.uniform(6, 26)
    hu[tissue.OEDEMA] = grey - generator.uniform(5, 20)
    hu[tissue.HARD_BONE] = generator.uniform(250, 700) if infant else generator.uniform(700, 1500)
    hu[tissue.SPONGY_BONE] = generator.uniform(200, 400) if infant else generator.uniform(250, 800)
    hu[tissue.BLOOD] = grey + max(least_contrast_hu, generator.gamma(5.0, 5.2))
    return Appearance(hu, generator.uniform(0, 2.2), generator.uniform(0, 6))


def draw_scanner(generator: np.random.Generator) -> Scanner:
    """A scanner: how far its numbers rise near bone, its point spread, its noise, its window."""
    noise = float(np.exp(generator.uniform(np.log(0.7), np.log(5.0))))
    scanner = Scanner(
        point_spread_mm=generator.uniform(0.3, 1.1),
        sharpening=generator.uniform(0, 0.6) if generator.random() < 0.35 else 0.0,
        noise_hu=noise,
        noise_grain_mm=generator.uniform(0.3, 1.3),
        narrow=(generator.uniform(0, 32), generator.uniform(2, 6)),
        wide=(generator.uniform(0, 85), generator.uniform(8, 18)),
        vertex_gain=generator.uniform(0, 0.9),
        streak_hu=generator.gamma(1.2, 1.0),
        slope_hu=tuple(generator.normal(0, 2.0, 2)),
        thin_slices=bool(generator.random() < 0.35),
        points=4,
    )
    windowed = generator.random() < 0.5
    return replace(scanner, window=(-20.0, 100.0)) if windowed else scanner


def add_holder(hu: NDArray[np.float32], generator: np.random.Generator) -> None:
    """A head holder under and beside the head: a thin bright arc, drawn where there is air."""
    _, rows, columns = hu.shape
    row, column = np.ogrid[:rows, :columns]
    middle = (rows / 2 + generator.normal(0, 8), columns / 2 + generator.normal(0, 8))
    away = np.hypot(row - middle[0], column - middle[1])
    radius, half_width = generator.uniform(92, 130), generator.uniform(0.8, 2.5)
    arc = (np.abs(away - radius) < half_width) & (row > middle[0] - generator.uniform(-40, 60))
    number = generator.uniform(20, 150)
    hu[(hu < -15) & arc] = number

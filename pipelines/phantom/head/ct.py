"""The physics: a label map of a head becomes CT numbers on any planes.

Each pixel is the mean of a few points spread over its own box (pixel by slice thickness), which is partial volume; then
come what raises CT numbers near bone, point spread, sharpening, texture, streaks and noise with a grain. A scan may
leave the scanner windowed and rounded to 8 bits, as many archives hold it.

HU near bone: real clean heads read 10 HU higher 2-3 mm from the inner table than in mid-brain, and more at the vertex;
the fraction of bone blurred in 3D and added gives that, with a narrow part (scatter, kernel) and a wide one (beam
hardening).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from pipelines.geometry import Floats, Plane
from pipelines.phantom.head import labels as tissue
from pipelines.phantom.head.bleeds import Labels

Images = NDArray[np.float32]
IndexFromPatient = Callable[[Floats], Floats]
"""Patient points `[..., 3]` (LPS, mm) to fractional indices `[..., 3]` (z, y, x) of a label map."""

_BONE = tissue.table(*tissue.BONE)
_BLOOD = tissue.table(tissue.BLOOD)
_INSIDE = tissue.table(*tissue.INTRACRANIAL)
_LATTICE_MM = 8.0
_COARSE = 2

MEAN_HU: dict[int, float] = {
    tissue.OUTSIDE: -1000,
    **dict.fromkeys(tissue.WHITE_MATTER, 27),
    **dict.fromkeys(tissue.CORTEX, 36),
    **dict.fromkeys(tissue.VENTRICLES, 6),
    **dict.fromkeys(tissue.CEREBELLAR_WHITE_MATTER, 29),
    **dict.fromkeys(tissue.CEREBELLAR_CORTEX, 36),
    **dict.fromkeys(tissue.DEEP_GREY, 36),
    **dict.fromkeys(tissue.PALLIDUM, 38),
    **dict.fromkeys(tissue.HIPPOCAMPUS + tissue.AMYGDALA, 35),
    **dict.fromkeys(tissue.WHITE_MATTER_LESION, 18),
    **dict.fromkeys(tissue.VESSEL, 42),
    **dict.fromkeys(tissue.CHOROID_PLEXUS, 26),
    tissue.BRAIN_STEM: 31,
    tissue.OPTIC_CHIASM: 33,
    tissue.FLUID: 8,
    tissue.SULCUS: 10,
    tissue.ARTERY: 43,
    tissue.EYE: 12,
    tissue.EYE_LENS: 70,
    tissue.SOFT_TISSUE: 20,
    tissue.EYE_MUSCLE: 45,
    tissue.MUCOSA: 38,
    tissue.SKIN: 20,
    tissue.SPINAL_CORD: 32,
    tissue.VEIN: 48,
    tissue.HARD_BONE: 1100,
    tissue.SPONGY_BONE: 450,
    tissue.OPTIC_NERVE: 30,
    tissue.FALX: 48,
    tissue.TENTORIUM: 46,
    tissue.AIR_CELL: -950,
    tissue.CALCIFICATION: 150,
    tissue.DENSE_SINUS: 52,
    tissue.FAT: -90,
    tissue.MUSCLE: 52,
    tissue.TABLE: 60,
    tissue.DARK_STROKE: 16,
    tissue.BLOOD: 62,
    tissue.OEDEMA: 19,
    tissue.AIR_INSIDE: -950,
    tissue.DENSE_ARTERY: 58,
    tissue.SCALP_BLOOD: 58,
}


@dataclass(frozen=True, slots=True, eq=False)
class Appearance:
    """CT numbers by label `[256]`, the SD of a smooth texture (HU) and of the texture inside blood (HU)."""

    hu: Images
    texture_hu: float = 1.5
    blood_texture_hu: float = 4.0


@dataclass(frozen=True, slots=True)
class Scanner:
    """How a scanner turns tissue into pictures. Lengths in mm, CT numbers in HU.

    `narrow` and `wide` are (HU, sigma) of what blurred bone adds near the skull. `noise_grain_mm` is the sigma of the
    noise's correlation in a slice. `slope_hu` is the change from side to side and front to back across the head.
    `thin_slices` averages slices that were clipped when they were thin. `window` is the range kept in 8 bits.
    """

    point_spread_mm: float = 0.6
    sharpening: float = 0.0
    noise_hu: float = 3.0
    noise_grain_mm: float = 0.5
    narrow: tuple[float, float] = (8.0, 4.0)
    wide: tuple[float, float] = (20.0, 12.0)
    vertex_gain: float = 0.0
    streak_hu: float = 1.0
    slope_hu: tuple[float, float] = (0.0, 0.0)
    thin_slices: bool = False
    window: tuple[float, float] | None = None
    points: int = 5


@dataclass(frozen=True, slots=True, eq=False)
class Scan:
    """Float32 `[slice, row, column]`: CT numbers; how much of a pixel's box is blood, and lies inside the skull."""

    hu: Images
    blood: Images
    inside: Images


def typical_appearance() -> Appearance:
    """The middle of every range: white matter 27, grey 36, fluid 8, blood 62 HU."""
    hu = np.zeros(256, np.float32)
    hu[list(MEAN_HU)] = list(MEAN_HU.values())
    return Appearance(hu)


def scan(  # noqa: PLR0917  what, where, how, in this order
    labels: Labels,
    index_from_patient: IndexFromPatient,
    planes: Sequence[Plane],
    shape: tuple[int, int],
    appearance: Appearance,
    scanner: Scanner,
    generator: np.random.Generator,
) -> Scan:
    """Pictures of a label map on `planes`, each of `shape` (rows, columns)."""
    shine = _Shine.around(labels, scanner)
    texture = _smooth(generator, labels.shape, 10) + _smooth(generator, labels.shape, 16)
    look = (appearance, scanner, shine, texture)
    made = [_slice(labels, _Lattice.over(plane, shape, index_from_patient), shape, look, generator) for plane in planes]
    hu, blood, inside = (np.stack(part) for part in zip(*made, strict=True))
    return Scan(hu, blood, inside)


def _smooth(generator: np.random.Generator, shape: tuple[int, ...], cell: int) -> Images:
    """White noise of unit SD on the 2 mm lattice of `_Shine`, one value a cell of `cell` mm, read linearly."""
    small = tuple(max(2, side // cell + 2) for side in shape)
    field = generator.normal(size=small).astype(np.float32)
    for axis, side in enumerate(shape):
        field = np.moveaxis(np.tensordot(_linear(-(-side // _COARSE), small[axis]), field, (1, axis)), 0, axis)
    return np.ascontiguousarray(field, np.float32)


def _linear(fine: int, coarse: int) -> Images:
    """The matrix `[fine, coarse]` that reads `coarse` values linearly at `fine` evenly spaced places, ends included."""
    place = np.linspace(0, coarse - 1, fine)
    low = np.clip(np.floor(place).astype(int), 0, max(coarse - 2, 0))
    part = (place - low).astype(np.float32)
    matrix = np.zeros((fine, coarse), np.float32)
    matrix[np.arange(fine), low] = 1 - part
    matrix[np.arange(fine), np.minimum(low + 1, coarse - 1)] += part
    return matrix


@dataclass(frozen=True, slots=True, eq=False)
class _Shine:
    """What bone adds about itself, on a lattice of 2 mm: HU, and the weight of streaks (wide blurred bone, 0 to 1)."""

    hu: Images
    streaks: Images

    @staticmethod
    def around(labels: Labels, scanner: Scanner) -> _Shine:
        bone = _BONE[labels[::_COARSE, ::_COARSE, ::_COARSE]].astype(np.float32)
        narrow = ndimage.gaussian_filter(bone, scanner.narrow[1] / _COARSE, truncate=3)
        wide = _blurred_coarsely(bone, scanner.wide[1])
        height = np.linspace(0, 1, len(bone), dtype=np.float32)[:, None, None]
        gain = 1 + scanner.vertex_gain * np.clip((height - 0.65) / 0.3, 0, 1)
        return _Shine(scanner.narrow[0] * narrow + scanner.wide[0] * gain * wide, wide)


def _blurred_coarsely(bone: Images, sigma_mm: float) -> Images:
    """A wide blur of a 2 mm lattice by way of an 4 mm one."""
    half = ndimage.gaussian_filter(bone[::2, ::2, ::2], sigma_mm / (2 * _COARSE), truncate=2.5)
    for axis, side in enumerate(bone.shape):
        half = np.moveaxis(np.tensordot(_linear(side, half.shape[axis]), half, (1, axis)), 0, axis)
    return np.ascontiguousarray(half, np.float32)


_Look = tuple[Appearance, Scanner, _Shine, Images]


def _slice(
    labels: Labels, lattice: _Lattice, shape: tuple[int, int], look: _Look, generator: np.random.Generator
) -> tuple[Images, Images, Images]:
    appearance, scanner, shine, texture = look
    plane = lattice.plane
    hu, blood, inside = np.zeros(shape, np.float32), np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    for point in range(scanner.points):
        within = (point + generator.random()) / scanner.points - 0.5
        across = generator.random(2) - 0.5
        found = _read(labels, lattice.indices((within * plane.thickness_mm, across[0], across[1])))
        numbers = appearance.hu[found]
        hu += np.clip(numbers, -30, 120) if scanner.thin_slices else numbers
        blood += _BLOOD[found]
        inside += _INSIDE[found]
    count = np.float32(scanner.points)
    hu, blood, inside = hu / count, blood / count, inside / count
    middle = lattice.coarse
    hu += lattice.spread(_linear_read(shine.hu, middle))
    rough = appearance.texture_hu + appearance.blood_texture_hu * blood
    hu += rough * lattice.spread(_linear_read(texture, middle))
    streaks = lattice.spread(_linear_read(shine.streaks, middle))
    return _imaged(hu, streaks, plane, scanner, generator), blood, inside


@dataclass(frozen=True, slots=True, eq=False)
class _Lattice:
    """Indices of the label map on a lattice of about 8 mm over a slice, from which each pixel's are read linearly."""

    plane: Plane
    rows: Images
    columns: Images
    places: tuple[Floats, Floats]
    index_from_patient: IndexFromPatient
    coarse: Images

    @staticmethod
    def over(plane: Plane, shape: tuple[int, int], index_from_patient: IndexFromPatient) -> _Lattice:
        sides = zip(shape, (plane.row_spacing_mm, plane.column_spacing_mm), strict=True)
        counts = [max(2, round(side * spacing / _LATTICE_MM) + 1) for side, spacing in sides]
        places = (np.linspace(0, shape[0] - 1, counts[0]), np.linspace(0, shape[1] - 1, counts[1]))
        row, column = np.meshgrid(*places, indexing="ij")
        rows, columns = _linear(shape[0], counts[0]), _linear(shape[1], counts[1])
        middle = index_from_patient(plane.patient_from_pixel(row, column))
        fine = _linear(3 * counts[0], counts[0]), _linear(3 * counts[1], counts[1])
        coarse = [fine[0] @ axis @ fine[1].T for axis in np.moveaxis(middle.astype(np.float32), -1, 0)]
        return _Lattice(plane, rows, columns, places, index_from_patient, np.stack(coarse))

    def indices(self, offset: tuple[float, float, float]) -> Images:
        """Indices `[3, row, column]` of points off the pixels' centres by (mm along the normal, rows, columns)."""
        row, column = np.meshgrid(self.places[0] + offset[1], self.places[1] + offset[2], indexing="ij")
        points = self.plane.patient_from_pixel(row, column) + offset[0] * np.asarray(self.plane.normal)
        found = self.index_from_patient(points).astype(np.float32)
        return np.stack([self.rows @ found[..., axis] @ self.columns.T for axis in range(3)])

    def spread(self, values: Images) -> Images:
        """Values on the lattice made three times finer, read linearly at every pixel."""
        rows, columns = _linear(len(self.rows), values.shape[0]), _linear(len(self.columns), values.shape[1])
        read: Images = np.asarray(rows @ values @ columns.T, np.float32)
        return read


def _read(labels: Labels, indices: Images) -> Labels:
    """The label at each index; outside of the map it is outside of the head."""
    z, y, x = (np.rint(axis).astype(np.int32) for axis in indices)
    depth, rows, columns = labels.shape
    within = (z >= 0) & (z < depth) & (y >= 0) & (y < rows) & (x >= 0) & (x < columns)
    flat = np.where(within, (z * rows + y) * columns + x, 0)
    return np.where(within, labels.ravel()[flat], np.uint8(tissue.OUTSIDE))


def _linear_read(values: Images, indices: Images) -> Images:
    """Values of the 2 mm lattice at indices of the 1 mm map."""
    read: Images = ndimage.map_coordinates(values, indices / _COARSE, order=1, mode="nearest")
    return read


def _imaged(hu: Images, streaks: Images, plane: Plane, scanner: Scanner, generator: np.random.Generator) -> Images:
    """Point spread, sharpening, slope, streaks, noise, and the window."""
    spacing = np.array([plane.row_spacing_mm, plane.column_spacing_mm])
    seen: Images = ndimage.gaussian_filter(hu, scanner.point_spread_mm / spacing, truncate=3)
    if scanner.sharpening:
        bounded = np.clip(seen, -150, 250)
        seen = seen + scanner.sharpening * (bounded - ndimage.gaussian_filter(bounded, 1.6 / spacing, truncate=2.5))
    rows, columns = hu.shape
    seen += scanner.slope_hu[0] * np.linspace(-0.5, 0.5, columns, dtype=np.float32)
    seen += scanner.slope_hu[1] * np.linspace(-0.5, 0.5, rows, dtype=np.float32)[:, None]
    noise = _grain(generator, hu.shape, scanner.noise_grain_mm / spacing)
    if scanner.streak_hu:
        noise_of_streaks = _grain(generator, hu.shape, np.array([1.2, 16.0]) / spacing)
        seen += scanner.streak_hu * 2.5 * streaks * noise_of_streaks
    seen += scanner.noise_hu * (1 + streaks) * noise
    if scanner.window:
        seen = rounded_to_window(seen, scanner.window)
    return seen


def _grain(generator: np.random.Generator, shape: tuple[int, ...], sigma: Floats) -> Images:
    """Noise of unit SD that is correlated over `sigma` pixels."""
    noise = generator.standard_normal(shape, np.float32)
    noise = ndimage.gaussian_filter(noise, sigma, truncate=3, mode="wrap")
    grain: Images = noise / np.float32(max(float(noise.std()), 1e-6))
    return grain


def rounded_to_window(hu: Images, window: tuple[float, float]) -> Images:
    """CT numbers clipped to a window and rounded to the 256 steps of it."""
    low, high = window
    step = (high - low) / 255
    return np.asarray(np.rint((np.clip(hu, low, high) - low) / step) * step + low, np.float32)

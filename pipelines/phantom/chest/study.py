"""A made chest CT study: one series of valid CT images of a made chest with nodules, and its truth.

For demonstration and for tests. Everything follows from the options: the same options give the same bytes, UIDs
included. With `growth` the same chest comes again some months later: other pose, breath and noise, and nodules whose
volumes are `growth` times those of the study without it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from scipy import ndimage

from pipelines.geometry import Floats, Plane, Point
from pipelines.phantom.chest.anatomy import Chest, make_chest
from pipelines.phantom.chest.build import ChestOptions
from pipelines.phantom.chest.frame import LEFT
from pipelines.phantom.chest.nodules import (
    Canvas,
    NoduleRecipe,
    paint,
    painted,
    parenchyma_about,
    place,
    random_recipe,
)
from pipelines.phantom.images import (
    PADDING,
    Kernel,
    MadeSeries,
    PatientPosition,
    Progress,
    key_of,
    write_images,
)

HU = NDArray[np.float32]
MARGIN_MM = 12.0
LOBES = {1: "right upper", 2: "right middle", 3: "right lower", 4: "left upper", 5: "left lower"}
_NOTHING, _SOFT = -900.0, 0.0


@dataclass(frozen=True, slots=True)
class Scanner:
    """Point spread and grain of the noise in a slice (sigma, mm), edge enhancement (a part of what a blur of 1.6 mm
    takes away), and the SD of the noise (HU) in a 1 mm slice at dose 1.
    """

    point_spread_mm: float
    sharpening: float
    noise_hu: float
    grain_mm: float


SCANNERS: dict[Kernel, Scanner] = {
    "soft": Scanner(point_spread_mm=0.7, sharpening=0.0, noise_hu=14.0, grain_mm=0.8),
    "standard": Scanner(point_spread_mm=0.5, sharpening=0.2, noise_hu=28.0, grain_mm=0.5),
    "sharp": Scanner(point_spread_mm=0.3, sharpening=0.7, noise_hu=85.0, grain_mm=0.35),
}


@dataclass(frozen=True, slots=True)
class ChestStudyOptions:
    """What study to make.

    `nodules` random nodules are painted besides the `recipes`. `dose` is relative: noise goes with 1 / sqrt(dose).
    `growth` makes the later study of a pair. `field_mm` is the side of the images, 0 for one that holds the body.
    With `has_padding` all outside of the round field of view is -2000. `study_date` is YYYYMMDD.
    """

    seed: int = 0
    nodules: int = 3
    recipes: tuple[NoduleRecipe, ...] = ()
    growth: float | None = None
    slice_mm: float = 1.0
    pixels: int = 512
    kernel: Kernel = "standard"
    dose: float = 1.0
    position: PatientPosition = "HFS"
    has_contrast: bool = False
    has_padding: bool = False
    field_mm: float = 0.0
    study_date: str = ""

    @property
    def date(self) -> str:
        return self.study_date or ("20250101" if self.growth is None else "20250701")


@dataclass(frozen=True, slots=True, eq=False)
class MadeStudy:
    """What was written: the files in ascending order of slices, `truth` as in `truth.json`, and where the nodules are.

    `nodules` is uint8 `[slice, row, column]`: 1 in the pixels of the first nodule of the truth, and so on.
    """

    files: tuple[Path, ...]
    truth: dict[str, object]
    nodules: NDArray[np.uint8]


@dataclass(frozen=True, slots=True, eq=False)
class _Pose:
    """How the chest lies and breathes: patient = matrix @ (x, y, z) + shift for a voxel of indices (z, y, x)."""

    matrix: Floats
    shift: Floats

    @staticmethod
    def random(chest: Chest, generator: np.random.Generator) -> _Pose:
        a, b, c = np.radians(generator.uniform(-3.5, 3.5, 3))
        about_x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
        about_y = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
        about_z = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
        breath = np.diag([*(1 + generator.uniform(-0.01, 0.01, 2)), 1 + generator.uniform(-0.04, 0.04)])
        matrix = about_z @ about_y @ about_x @ breath
        middle = np.array(chest.hu.shape[::-1]) / 2
        shift = np.array(chest.origin_mm) + middle - matrix @ middle + generator.uniform(-8, 8, 3)
        return _Pose(matrix, shift)

    @property
    def swelling(self) -> float:
        """How many times larger than in the map a volume is in the patient."""
        return float(np.linalg.det(self.matrix))

    def patient(self, index: Floats) -> Floats:
        found: Floats = index[..., ::-1] @ self.matrix.T + self.shift
        return found

    def index(self, points: Floats) -> Floats:
        found: Floats = ((points - self.shift) @ np.linalg.inv(self.matrix).T)[..., ::-1]
        return found


@dataclass(frozen=True, slots=True, eq=False)
class _Nodule:
    """A nodule in the chest: what it was made from, its centre of gravity as index (z, y, x) and its volume in mm3."""

    recipe: NoduleRecipe
    center: Floats
    volume_mm3: float
    lobe: int
    is_left: bool


def make_study(out: Path, options: ChestStudyOptions, progress: Progress = lambda _done, _total: None) -> MadeStudy:
    """Write a study into the folder `out`: `IM0001.dcm` and so on, and `truth.json`.

    `progress` hears of each step as (steps done, steps in all). Raises `ValueError` for what no scanner makes and for
    nodules that cannot be.
    """
    _check(options)
    chest = _chest(options)
    progress(1, 3)
    visit = 0 if options.growth is None else 1
    pose = _Pose.random(chest, np.random.default_rng((options.seed, 2, visit)))
    hu, marks, nodules = _with_nodules(chest, options, pose)
    progress(2, 3)
    planes = slice_planes(options, hu, pose)
    steps = 2 * len(planes) + 2
    view = _View(options, pose, hu, marks, np.random.default_rng((options.seed, 3, visit)))
    images: list[HU] = []
    labels: list[NDArray[np.uint8]] = []
    for k, plane in enumerate(planes):
        image, label = view.slice(plane)
        images.append(image)
        labels.append(label)
        progress(2 + k + 1, steps)
    series = _series(options)
    datasets = [series.image(k, plane, image) for k, (plane, image) in enumerate(zip(planes, images, strict=True))]
    truth = _truth(options, chest, pose, nodules, planes, datasets)
    paths = write_images(out, datasets, truth, lambda number: progress(2 + len(planes) + number, steps))
    return MadeStudy(paths, truth, np.stack(labels))


def _check(options: ChestStudyOptions) -> None:
    if not 0.5 <= options.slice_mm <= 10:
        raise ValueError("slices must be 0.5 to 10 mm apart")
    if not 0.05 <= options.dose <= 20:
        raise ValueError("the dose must be 0.05 to 20 times the usual one")
    if options.growth is not None and not 0.05 <= options.growth <= 20:
        raise ValueError("nodules grow by a factor of 0.05 to 20")
    if not 0 <= options.nodules + len(options.recipes) <= 50:
        raise ValueError("a chest holds at most 50 nodules")
    if any(not 2 <= recipe.diameter_mm <= 80 for recipe in options.recipes):
        raise ValueError("nodules and masses are 2 to 80 mm wide")
    if options.field_mm and not 200 <= options.field_mm <= 500:
        raise ValueError("the field of view must be 200 to 500 mm")
    date.fromisoformat(options.date)


def _chest(options: ChestStudyOptions) -> Chest:
    """The chest of a seed: the same for every scan of it, but for contrast medium and the pull of gravity."""
    generator = np.random.default_rng((options.seed, 0))
    build = ChestOptions.random(generator)
    contrast = generator.uniform(150, 330) if options.has_contrast else 40.0
    build = replace(build, contrast_hu=float(contrast), is_prone=options.position in {"HFP", "FFP"}, effusion_mm=0.0)
    return make_chest(generator, options=build)


# ---- nodules


@dataclass(frozen=True, slots=True, eq=False)
class _Stamp:
    """A nodule on its own: how much of a voxel it fills, its HU, and its centre as index, `[z, y, x]` of 1 mm."""

    weight: HU
    hu: HU
    center: Floats

    @staticmethod
    def made(recipe: NoduleRecipe, parenchyma: float, seed: tuple[int, ...]) -> _Stamp:
        """What `paint` adds to two even backgrounds tells how much it fills and with what."""
        side = int(recipe.diameter_mm * 2.4) + 16
        center = np.full(3, side / 2)
        seen = []
        for level in (_NOTHING, _NOTHING - 100):
            hu = np.full((side,) * 3, level, np.float32)
            nothing = np.zeros(hu.shape, np.bool_)
            canvas = Canvas(hu, np.ones(hu.shape, np.uint8), nothing, nothing, np.zeros_like(hu))
            paint(canvas, recipe, center, np.random.default_rng(seed), parenchyma=parenchyma)
            seen.append(hu)
        weight = 1 - (seen[0] - seen[1]) / 100
        numbers = np.where(weight > 0.01, _NOTHING + (seen[0] - _NOTHING) / np.maximum(weight, 0.01), _SOFT)
        return _Stamp(np.clip(weight, 0, 1).astype(np.float32), numbers.astype(np.float32), center)

    def scaled(self, scale: float, offset: Floats) -> _Stamp:
        """The stamp magnified, its centre `offset` (part of a voxel) off a voxel."""
        side = int(np.ceil(len(self.weight) * scale)) + 2
        center = np.floor(np.full(3, side / 2)) + offset
        start = self.center - center / scale
        weight, numbers = (
            ndimage.affine_transform(values, np.full(3, 1 / scale), start, (side,) * 3, np.float32, order=1, cval=fill)
            for values, fill in ((self.weight, 0.0), (self.hu, _SOFT))
        )
        return _Stamp(weight, numbers, center)


def _with_nodules(
    chest: Chest, options: ChestStudyOptions, pose: _Pose
) -> tuple[HU, NDArray[np.uint8], tuple[_Nodule, ...]]:
    """The chest's HU with nodules, where each is (1, 2, ...), and what they are."""
    generator = np.random.default_rng((options.seed, 1))
    hu = chest.hu.astype(np.float32)
    marks = np.zeros(hu.shape, np.uint8)
    still = Canvas(hu, chest.lungs, chest.vessel > 0, chest.fissure, np.zeros((1, 1, 1), np.float32))
    recipes = [*options.recipes, *(random_recipe(generator, masses=0.0) for _ in range(options.nodules))]
    scale = float(((options.growth or 1.0) / pose.swelling) ** (1 / 3))
    taken: list[tuple[Floats, float]] = []
    made: list[_Nodule] = []
    for number, recipe in enumerate(recipes):
        radius = recipe.diameter_mm / 2
        center = place(still, recipe.position, radius, generator, margin=int(radius) + 8, taken=taken)
        if center is None:
            raise ValueError(f"this chest has no place for a nodule of {recipe.diameter_mm} mm")
        taken.append((center, radius))
        parenchyma = parenchyma_about(still, center, radius)
        stamp = _Stamp.made(recipe, parenchyma, (options.seed, 4, number)).scaled(scale, center - np.floor(center))
        nodule = _stamped(stamp, recipe, center, chest, (hu, marks), len(made) + 1)
        if nodule is not None:
            made.append(replace(nodule, volume_mm3=nodule.volume_mm3 * pose.swelling))
    return hu, marks, tuple(made)


def _stamped(  # noqa: PLR0917  what, where, how, in this order
    stamp: _Stamp, recipe: NoduleRecipe, center: Floats, chest: Chest, canvas: tuple[HU, NDArray[np.uint8]], number: int
) -> _Nodule | None:
    corner = np.rint(np.floor(center) - np.floor(stamp.center)).astype(int)
    low = np.maximum(corner, 0)
    high = np.minimum(corner + stamp.weight.shape, chest.hu.shape)
    box = (slice(low[0], high[0]), slice(low[1], high[1]), slice(low[2], high[2]))
    z, y, x = (slice(int(a - c), int(b - c)) for a, b, c in zip(low, high, corner, strict=True))
    weight = stamp.weight[z, y, x] * (chest.lungs[box] > 0)
    if weight.sum() < 0.25 * stamp.weight.sum():
        return None
    region = canvas[0][box]
    numbers = stamp.hu[z, y, x]
    if recipe.kind in {"ground_glass", "part_solid"}:
        numbers = np.maximum(numbers, region)
    region += weight * (numbers - region)
    canvas[1][box][weight >= 0.5] = number
    record = painted(recipe.kind, recipe.position, weight >= 0.5, box)
    k, j, i = (int(value) for value in np.rint(record.center))
    lobe = int(chest.lobes[k, j, i])
    is_left = bool(chest.lungs[box][weight >= 0.5].mean() > (1 + LEFT) / 2)
    return _Nodule(recipe, np.array(record.center), float(weight.sum()), lobe, is_left)


# ---- images


def slice_planes(options: ChestStudyOptions, hu: HU, pose: _Pose) -> tuple[Plane, ...]:
    """The planes of a study, feet to head. Prone patients are shown as they lie: rows and columns run the other way."""
    corners = pose.patient(np.array([[k, j, i] for k in (0, 1) for j in (0, 1) for i in (0, 1)]) * np.array(hu.shape))
    low, high = corners.min(0), corners.max(0)
    middle = (low + high) / 2
    field = options.field_mm or float(min((high - low)[:2].max() + 10, 500))
    spacing = field / options.pixels
    sign = -1.0 if options.position in {"HFP", "FFP"} else 1.0
    half = sign * (options.pixels - 1) / 2 * spacing
    count = int((high[2] - low[2] - 2 * MARGIN_MM) / options.slice_mm)
    return tuple(
        Plane(
            (float(middle[0] - half), float(middle[1] - half), float(low[2] + MARGIN_MM + k * options.slice_mm)),
            (sign, 0.0, 0.0),
            (0.0, sign, 0.0),
            spacing,
            spacing,
            options.slice_mm,
        )
        for k in range(count)
    )


class _View:
    """The scanner's view of one chest: slice after slice, each with new noise."""

    def __init__(
        self, options: ChestStudyOptions, pose: _Pose, hu: HU, marks: NDArray[np.uint8], generator: np.random.Generator
    ) -> None:
        self.options, self.pose, self.hu, self.marks, self.generator = options, pose, hu, marks, generator
        self.scanner = SCANNERS[options.kernel]
        self.is_prone = options.position in {"HFP", "FFP"}
        self.table_y = self._lowest()

    def slice(self, plane: Plane) -> tuple[HU, NDArray[np.uint8]]:
        """HU `[row, column]` of a slice, and the number of the nodule (0: none) in each pixel."""
        rows, columns = np.meshgrid(*(np.arange(self.options.pixels, dtype=float),) * 2, indexing="ij")
        points = plane.patient_from_pixel(rows, columns)
        index = np.moveaxis(self.pose.index(points), -1, 0).astype(np.float32)
        rise = np.moveaxis(self.pose.index(points[:1, :1] + [0, 0, 1.0]), -1, 0) - index[:, :1, :1]
        count = max(1, round(plane.thickness_mm))
        found = np.zeros(rows.shape, np.float32)
        for step in range(count):
            within = np.float32(((step + 0.5) / count - 0.5) * plane.thickness_mm)
            found += self._read(index + rise.astype(np.float32) * within)
        found /= count
        nearest = np.rint(index).astype(np.int32)
        inside = ((nearest >= 0) & (nearest < np.array(self.hu.shape)[:, None, None])).all(axis=0)
        label = np.where(inside, self.marks[tuple(np.where(inside, nearest, 0))], 0).astype(np.uint8)
        found = np.maximum(found, self._table(points))
        found = self._imaged(found, plane.row_spacing_mm)
        if self.options.has_padding:
            half = (self.options.pixels - 1) / 2
            found[(rows - half) ** 2 + (columns - half) ** 2 > (half + 0.5) ** 2] = PADDING
        return found, label

    def _read(self, index: HU) -> HU:
        """HU at indices, linear; the body goes on beyond the map's first and last slice."""
        index[0] = np.clip(index[0], 0, len(self.hu) - 1)
        read: HU = ndimage.map_coordinates(self.hu, index, np.float32, order=1, mode="constant", cval=-1000)
        return read

    def _lowest(self) -> float:
        """Where the body touches the table (y of the patient, mm)."""
        body = self.hu[:, ::2, ::2].max(axis=2) > -300
        k, j = np.nonzero(body)
        y = self.pose.patient(np.stack([k, 2 * j, np.full(len(k), self.hu.shape[2] / 2)], -1).astype(float))[:, 1]
        return float(y.min() if self.is_prone else y.max())

    def _table(self, points: Floats) -> HU:
        """The table: a shell of carbon about foam, bent like a trough."""
        down = (points[..., 1] - self.table_y) * (-1 if self.is_prone else 1)
        depth = down - 4 + points[..., 0] ** 2 / 1400
        foam = np.where((depth > 0) & (depth < 40), -940.0, -1000.0)
        shell = np.clip(1.2 - np.minimum(np.abs(depth), np.abs(depth - 40)), 0, 1)
        return np.asarray(foam + shell * 850, np.float32)

    def _imaged(self, hu: HU, spacing: float) -> HU:
        scanner = self.scanner
        seen: HU = ndimage.gaussian_filter(hu, scanner.point_spread_mm / spacing, truncate=3)
        if scanner.sharpening:
            bounded = np.clip(seen, -1000, 400)
            seen = seen + scanner.sharpening * (bounded - ndimage.gaussian_filter(bounded, 1.6 / spacing, truncate=2.5))
        weak = self._dimming(hu)
        seen += self._noise(hu.shape, spacing) * weak
        return seen

    def _dimming(self, hu: HU) -> HU:
        """More tissue about a place lets fewer photons through: more noise in the middle of the body."""
        small = np.clip((hu[::8, ::8] + 1000) / 1050, 0, 1.6)
        wide = ndimage.gaussian_filter(small, (5, 9))
        dimming: HU = np.clip(ndimage.zoom(0.5 + 0.9 * wide, np.array(hu.shape) / small.shape, order=1), 0.3, 2.5)
        return dimming

    def _noise(self, shape: tuple[int, ...], spacing: float) -> HU:
        scanner = self.scanner
        noise = self.generator.standard_normal(shape, np.float32)
        grain = ndimage.gaussian_filter(noise, scanner.grain_mm / spacing, truncate=3, mode="wrap")
        if scanner.sharpening:  # a kernel that lifts edges lifts the noise of that size
            grain -= 0.8 * ndimage.gaussian_filter(grain, 1.2 / spacing, truncate=2.5, mode="wrap")
        amount = scanner.noise_hu / np.sqrt(self.options.dose * self.options.slice_mm)
        made: HU = grain * np.float32(amount / max(float(grain.std()), 1e-6))
        return made


def _series(options: ChestStudyOptions) -> MadeSeries:
    return MadeSeries(
        part="chest",
        key=key_of(asdict(options)),
        seed=options.seed,
        description=f"Chest {options.kernel} {options.slice_mm} mm",
        kernel=options.kernel,
        window=(-600, 1500),
        patient_position=options.position,
        study_date=options.date,
        has_contrast=options.has_contrast,
        has_padding=options.has_padding,
    )


def _truth(  # noqa: PLR0917  what, where, how, in this order
    options: ChestStudyOptions,
    chest: Chest,
    pose: _Pose,
    nodules: tuple[_Nodule, ...],
    planes: Sequence[Plane],
    datasets: Sequence[Dataset],
) -> dict[str, object]:
    """What is in the study. Points in mm of the patient (LPS); slices count from 0 in ascending order."""
    heights = np.array([plane.position_mm for plane in planes])
    entries = []
    for nodule in nodules:
        center: Point = tuple(pose.patient(nodule.center).tolist())
        k = int(np.abs(heights - center[2]).argmin())
        entries.append(
            {
                "kind": nodule.recipe.kind,
                "position": nodule.recipe.position,
                "center_mm": [round(value, 2) for value in center],
                "diameter_mm": round(float((6 * nodule.volume_mm3 / np.pi) ** (1 / 3)), 2),
                "volume_mm3": round(nodule.volume_mm3, 1),
                "side": "left" if nodule.is_left else "right",
                "lobe": LOBES.get(nodule.lobe),
                "slice": k,
                "sop_instance_uid": datasets[k].SOPInstanceUID,
            }
        )
    volumes = [float((chest.lungs == side).sum()) * pose.swelling / 1000 for side in (1, 2)]
    return {
        "schema": 1,
        "options": asdict(options),
        "study_instance_uid": datasets[0].StudyInstanceUID,
        "series_instance_uid": datasets[0].SeriesInstanceUID,
        "lungs_ml": [round(volume) for volume in volumes],
        "nodules": entries,
    }

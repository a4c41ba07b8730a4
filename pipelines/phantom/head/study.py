"""A made head CT study: one series of valid CT images of a made head, with or without a bleed, and its truth.

For demonstration, for the canary and for tests. Everything follows from the options: the same options give the same
bytes, UIDs included.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from pipelines.geometry import Floats, Plane, Point, local_thicknesses_mm
from pipelines.phantom.head.anatomy import Anatomy, make_head
from pipelines.phantom.head.bleeds import Bleed, Kind, paint, survey
from pipelines.phantom.head.ct import Scanner, scan, typical_appearance
from pipelines.phantom.images import Kernel, MadeSeries, Progress, key_of, write_images

SCANNERS: dict[Kernel, Scanner] = {
    "soft": Scanner(point_spread_mm=0.8, noise_hu=2.2, noise_grain_mm=0.7),
    "standard": Scanner(point_spread_mm=0.6, noise_hu=3.0, noise_grain_mm=0.5),
    "sharp": Scanner(point_spread_mm=0.4, sharpening=0.6, noise_hu=6.0, noise_grain_mm=0.3),
}
FIELD_OF_VIEW_MM = 230.0
LOWEST_MM, HIGHEST_MM = -80.0, 85.0
BASE_TOP_MM = -20.0
"""Up to this height a study of variable spacing has slices of 4 mm, above it of 7 mm, as some scanners do."""


@dataclass(frozen=True, slots=True)
class PhantomOptions:
    """What study to make. `volume_ml` is that of the bleed; `slice_mm` the thickness and spacing of the slices."""

    seed: int = 0
    bleed: Kind | Literal["none"] = "none"
    volume_ml: float = 30.0
    tilt_degrees: float = 0.0
    has_variable_spacing: bool = False
    slice_mm: float = 5.0
    kernel: Kernel = "standard"
    pixels: int = 512


@dataclass(frozen=True, slots=True, eq=False)
class MadeStudy:
    """What was written: the files in ascending order of slices, `truth` as in `truth.json`, and where the blood is.

    `blood` is float32 `[slice, row, column]`: the part of each pixel's box that is blood.
    """

    files: tuple[Path, ...]
    truth: dict[str, object]
    blood: NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class _Pose:
    """How the head lies on the table: patient = turn @ (index + origin) + shift, index as (x, y, z)."""

    turn: Floats
    shift: Floats
    origin: Floats

    @staticmethod
    def random(anatomy: Anatomy, generator: np.random.Generator) -> _Pose:
        roll, yaw = np.radians(generator.uniform(-4, 4, 2))
        about_y = np.array([[np.cos(roll), 0, np.sin(roll)], [0, 1, 0], [-np.sin(roll), 0, np.cos(roll)]])
        about_z = np.array([[np.cos(yaw), -np.sin(yaw), 0], [np.sin(yaw), np.cos(yaw), 0], [0, 0, 1]])
        shift = np.array([*generator.uniform(-4, 4, 2), 0.0])
        return _Pose(about_z @ about_y, shift, np.asarray(anatomy.origin))

    def index_from_patient(self, points: Floats) -> Floats:
        found: Floats = ((points - self.shift) @ self.turn - self.origin)[..., ::-1]
        return found

    def patient_from_index(self, index: Floats) -> Floats:
        found: Floats = (index[..., ::-1] + self.origin) @ self.turn.T + self.shift
        return found


def make_study(out: Path, options: PhantomOptions, progress: Progress = lambda _done, _total: None) -> MadeStudy:
    """Write a study into the folder `out`: `IM0001.dcm` and so on, and `truth.json`.

    `progress` hears of each step as (steps done, steps in all). Raises `ValueError` for a bleed without volume and for
    a spacing or tilt that no scanner has.
    """
    _check(options)
    generator = np.random.default_rng(options.seed)
    planes = slice_planes(options)
    steps = len(planes) + 2
    anatomy = make_head(generator)
    progress(1, steps)
    labels, bleed = anatomy.labels, None
    if options.bleed != "none":
        labels, bleed = paint(survey(labels), options.bleed, options.volume_ml, generator)
    pose = _Pose.random(anatomy, generator)
    progress(2, steps)
    shape = (options.pixels, options.pixels)
    images = scan(
        labels, pose.index_from_patient, planes, shape, typical_appearance(), SCANNERS[options.kernel], generator
    )
    series = _series(options)
    datasets = [series.image(k, planes[k], images.hu[k]) for k in range(len(planes))]
    truth = _truth(options, pose, bleed, images.blood, datasets)
    paths = write_images(out, datasets, truth, lambda number: progress(2 + number, steps))
    return MadeStudy(paths, truth, images.blood)


def slice_planes(options: PhantomOptions) -> tuple[Plane, ...]:
    """The planes of a study, feet to head. The table moves along z, so a tilted stack is sheared."""
    tilt = np.radians(options.tilt_degrees)
    column_direction: Point = (0.0, float(np.cos(tilt)), -float(np.sin(tilt)))
    spacing = FIELD_OF_VIEW_MM / options.pixels
    corner = -(options.pixels - 1) / 2 * spacing * np.array([1.0, column_direction[1], 0.0])
    rise = -(options.pixels - 1) / 2 * spacing * column_direction[2]
    planes = []
    for height, thickness in _heights(options):
        origin = (float(corner[0]), float(corner[1]), float(height / np.cos(tilt) + rise))
        planes.append(Plane(origin, (1.0, 0.0, 0.0), column_direction, spacing, spacing, thickness))
    return tuple(planes)


def _check(options: PhantomOptions) -> None:
    if options.bleed != "none" and not 0 < options.volume_ml <= 200:
        raise ValueError("the volume of a bleed must be more than 0 and at most 200 mL")
    if not 0.5 <= options.slice_mm <= 10:
        raise ValueError("slices must be 0.5 to 10 mm apart")
    if abs(options.tilt_degrees) > 30:
        raise ValueError("a gantry tilts by at most 30 degrees")


def _heights(options: PhantomOptions) -> list[tuple[float, float]]:
    """Position along the normal and thickness of each slice, mm."""
    if not options.has_variable_spacing:
        count = int((HIGHEST_MM - LOWEST_MM) / options.slice_mm) + 1
        return [(LOWEST_MM + k * options.slice_mm, options.slice_mm) for k in range(count)]
    base = [(height, 4.0) for height in np.arange(LOWEST_MM, BASE_TOP_MM + 0.1, 4.0).tolist()]
    return base + [(height, 7.0) for height in np.arange(base[-1][0] + 1.0, HIGHEST_MM + 0.1, 7.0).tolist()]


def _series(options: PhantomOptions) -> MadeSeries:
    spacing = "4/7" if options.has_variable_spacing else options.slice_mm
    return MadeSeries(
        part="head",
        key=key_of(asdict(options)),
        seed=options.seed,
        description=f"Head {options.kernel} {spacing} mm",
        kernel=options.kernel,
        window=(40, 80),
        tilt_degrees=options.tilt_degrees,
    )


def _truth(
    options: PhantomOptions, pose: _Pose, bleed: Bleed | None, blood: NDArray[np.float32], datasets: list[Dataset]
) -> dict[str, object]:
    """What is in the study. Areas count pixels at least half of whose box is blood."""
    planes = slice_planes(options)
    areas = (blood >= 0.5).sum(axis=(1, 2)) * planes[0].pixel_area_mm2
    truth: dict[str, object] = {
        "schema": 1,
        "options": asdict(replace(options, volume_ml=options.volume_ml if bleed else 0.0)),
        "study_instance_uid": datasets[0].StudyInstanceUID,
        "series_instance_uid": datasets[0].SeriesInstanceUID,
        "kind": bleed.kind if bleed else None,
        "volume_ml": bleed.volume_ml if bleed else 0.0,
        "mask_volume_ml": round(float((areas * local_thicknesses_mm(planes)).sum()) / 1000, 3),
        "center_mm": None,
        "side": None,
        "slices": [
            {"sop_instance_uid": dataset.SOPInstanceUID, "bleed_area_mm2": round(float(area), 2)}
            for dataset, area in zip(datasets, areas, strict=True)
        ],
    }
    if bleed is not None and bleed.volume_ml > 0:
        truth["center_mm"] = [round(value, 2) for value in pose.patient_from_index(np.array(bleed.center)).tolist()]
        x = np.nonzero(bleed.mask)[2] + pose.origin[0]
        left = float((x > 0).mean())
        truth["side"] = "left" if left >= 0.85 else "right" if left <= 0.15 else "bilateral"
    return truth

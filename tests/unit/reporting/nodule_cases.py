"""Made report cases of chests with nodules, in the shapes that such series come in."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from pipelines import codes
from pipelines.codes import Code
from pipelines.findings import Finding, Measurement, ModelIdentity, Outcome, Region, Status
from pipelines.geometry import Plane, Point
from pipelines.reasons import Reason
from pipelines.uids import derived_uid
from reporting.source import ReportCase
from tests.unit.reporting.cases import EQUIPMENT, MADE_AT, Shape, made_header

MODEL = ModelIdentity("ct-nodule", "1.0.0", "cd" * 32)


@dataclass(frozen=True)
class Chest:
    """What kind of series to make. `prone` is stored as scanners do: the first pixel left and posterior."""

    slices: int = 40
    size: int = 96
    step_mm: float = 6.0
    prone: bool = False
    feet_first: bool = False


@dataclass(frozen=True)
class Nodule:
    """What is found: a ball, and what is said of it."""

    center: Point
    long_mm: float
    composition: Code = codes.SOLID
    category: Code | None = codes.LUNG_RADS_4A
    change: Code | None = None


NODULES = (
    Nodule((-60.0, -20.0, 40.0), 22.4, codes.PART_SOLID, codes.LUNG_RADS_4X, codes.GROWING),
    Nodule((70.0, 30.0, -40.0), 17.0, category=codes.LUNG_RADS_4B, change=codes.NEW),
    Nodule((-80.0, 40.0, -60.0), 14.2, category=codes.LUNG_RADS_4A, change=codes.STABLE),
    Nodule((60.0, -20.0, 60.0), 12.0, codes.GROUND_GLASS, codes.LUNG_RADS_2),
    Nodule((-60.0, 10.0, 0.0), 12.0, category=codes.LUNG_RADS_3),
    Nodule((90.0, 10.0, 10.0), 12.0, category=codes.LUNG_RADS_2),
    Nodule((-96.0, 0.0, 2.0), 12.0, category=codes.LUNG_RADS_2),
    Nodule((-62.0, 40.0, 6.0), 12.0, category=codes.LUNG_RADS_2),
    Nodule((80.0, 60.0, 12.0), 12.0, category=codes.LUNG_RADS_2),
    Nodule((66.0, 0.0, -80.0), 12.0, category=codes.LUNG_RADS_2),
    Nodule((-70.0, 60.0, -30.0), 12.0, category=codes.LUNG_RADS_1),
    Nodule((-50.0, -30.0, 78.0), 12.0, category=codes.LUNG_RADS_2),
)


def nodule_case(
    chest: Chest = Chest(),
    nodules: tuple[Nodule, ...] = NODULES[:1],
    *,
    status: Status = "finding",
    warnings: tuple[Reason, ...] = (),
    pixels: NDArray[np.int16] | None = None,
    planes: tuple[Plane, ...] | None = None,
) -> ReportCase:
    planes = chest_planes(chest) if planes is None else planes
    hu = chest_pixels(planes, chest.size, nodules) if pixels is None else pixels
    headers = tuple(chest_header(plane, k, hu.shape[1]) for k, plane in enumerate(planes))
    findings = tuple(found(headers, planes, nodule, n, hu.shape[1:]) for n, nodule in enumerate(nodules))
    compared = date(2025, 3, 1) if any(nodule.change for nodule in nodules) else None
    score = {"finding": 0.97, "clean": 0.03, "unsure": 0.44, "not_read": None}[status]
    outcome = Outcome(status, score, findings, None, warnings, MODEL, {"read": 1.0}, (), compared)
    return ReportCase(
        headers=headers,
        planes=planes,
        frames=(1,) * len(planes),
        pixels=hu,
        outcome=outcome,
        pipeline="nodule",
        looked_for=codes.NODULE,
        site=codes.LUNG,
        window=(-600.0, 1500.0),
        revision_digest="cd" * 32,
        configuration_hash="ef" * 8,
        made_at=MADE_AT,
        equipment=EQUIPMENT,
    )


def chest_planes(chest: Chest) -> tuple[Plane, ...]:
    spacing = 360.0 / chest.size
    sign = -1.0 if chest.prone else 1.0
    heights = (np.arange(chest.slices) - (chest.slices - 1) / 2) * chest.step_mm
    heights = -heights if chest.feet_first else heights
    return tuple(
        Plane(
            origin=(sign * -(180.0 - spacing / 2), sign * -(180.0 - spacing / 2), float(z)),
            row_direction=(sign, 0.0, 0.0),
            column_direction=(0.0, sign, 0.0),
            row_spacing_mm=spacing,
            column_spacing_mm=spacing,
            thickness_mm=chest.step_mm,
        )
        for z in heights
    )


def chest_pixels(planes: tuple[Plane, ...], size: int, nodules: tuple[Nodule, ...]) -> NDArray[np.int16]:
    """An elliptic trunk with two lungs, a heart on the left, a spine, a few vessels, and the nodules."""
    rows, columns = np.mgrid[:size, :size]
    hu = np.full((len(planes), size, size), -1000, np.int16)
    noise = np.random.default_rng(3).normal(0, 15, (size, size))
    for k, plane in enumerate(planes):
        x, y, z = np.moveaxis(plane.patient_from_pixel(rows, columns), -1, 0)
        hu[k][(x / 165) ** 2 + (y / 115) ** 2 < 1] = 40
        narrowing = np.sqrt(np.clip(1 - (z / 135) ** 2, 0, 1))
        for side in (-1, 1):
            lung = ((x - side * 72) / (58 * narrowing + 1e-3)) ** 2 + (y / (92 * narrowing + 1e-3)) ** 2 < 1
            hu[k][lung] = -860
            for at in range(-70, 80, 18):
                hu[k][lung & (np.hypot(x - side * (40 + at % 50), (y - at) + 0.2 * z) < 2.5)] = 20
        hu[k][((x - 22) / 55) ** 2 + ((y + 30) / 48) ** 2 + ((z + 40) / 60) ** 2 < 1] = 50
        hu[k][np.hypot(x / 18, (y - 82) / 16) < 1] = 400
        for nodule in nodules:
            hu[k][_ball(nodule, x, y, z)] = -550 if nodule.composition is codes.GROUND_GLASS else 30
    return (hu + noise).astype(np.int16)


def _ball(nodule: Nodule, x: NDArray[np.float64], y: NDArray[np.float64], z: NDArray[np.float64]) -> NDArray[np.bool_]:
    """An ellipsoid of the long axis given, and four fifths of it in the other directions."""
    a, b, c = nodule.center
    return ((x - a) / 0.5) ** 2 + ((y - b) / 0.4) ** 2 + ((z - c) / 0.4) ** 2 < nodule.long_mm**2


def found(
    headers: tuple[Dataset, ...], planes: tuple[Plane, ...], nodule: Nodule, n: int, shape: tuple[int, ...]
) -> Finding:
    center = np.asarray(nodule.center)
    near = [k for k, plane in enumerate(planes) if abs(float((center - plane.origin) @ plane.normal)) < nodule.long_mm]
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    masks = [_ball(nodule, *np.moveaxis(planes[k].patient_from_pixel(rows, columns), -1, 0)) for k in near]
    held = [i for i, mask in enumerate(masks) if mask.any()]
    key = near[max(held, key=lambda i: masks[i].sum())]
    return Finding(
        kind=codes.NODULE,
        label="Nodule",
        certainty=0.97 - 0.04 * n,
        region=Region(tuple(near[i] for i in held), np.stack([masks[i] for i in held])),
        center_mm=nodule.center,
        measurements=measurements(nodule),
        key_instance_uid=str(headers[key].SOPInstanceUID),
        tracking_uid=derived_uid("test", "nodule", str(n)),
        side="left" if nodule.center[0] > 0 else "right",
        attributes=attributes(nodule),
    )


def measurements(nodule: Nodule) -> tuple[Measurement, ...]:
    long_mm, short_mm = nodule.long_mm, 0.8 * nodule.long_mm
    volume_ml = np.pi / 6 * long_mm * short_mm**2 / 1000
    held = [
        Measurement("long_axis_mm", codes.LONG_AXIS, long_mm, codes.MILLIMETER),
        Measurement("short_axis_mm", codes.SHORT_AXIS, short_mm, codes.MILLIMETER),
        Measurement("volume_ml", codes.VOLUME, volume_ml, codes.CUBIC_CENTIMETER),
        Measurement("mean_hu", codes.MEAN_ATTENUATION, 12.5, codes.HOUNSFIELD),
        Measurement("longest_diameter_mm", codes.LONGEST_DIAMETER, 1.1 * long_mm, codes.MILLIMETER),
        Measurement("mass_mg", codes.MASS_OF_NODULE, 1012.5 * volume_ml, codes.MILLIGRAM),
    ]
    if nodule.composition is codes.PART_SOLID:
        held.append(Measurement("solid_long_axis_mm", codes.SOLID_LONG_AXIS, 0.4 * long_mm, codes.MILLIMETER))
    held.append(Measurement("malignancy", codes.MALIGNANCY_IMPRESSION, 62.0, codes.PERCENT))
    if nodule.change is codes.GROWING:
        held += [
            Measurement("volume_change_percent", codes.VOLUME_CHANGE, 85.2, codes.PERCENT),
            Measurement("doubling_time_d", codes.DOUBLING_TIME, 210.4, codes.DAY),
            Measurement("doubling_time_lowest_d", codes.DOUBLING_TIME_LOWEST, 150.0, codes.DAY),
            Measurement("doubling_time_highest_d", codes.DOUBLING_TIME_HIGHEST, 320.0, codes.DAY),
        ]
    if nodule.change is codes.STABLE:
        held.append(Measurement("volume_change_percent", codes.VOLUME_CHANGE, -3.0, codes.PERCENT))
    return tuple(held)


def attributes(nodule: Nodule) -> dict[Code, Code]:
    z = nodule.center[2]
    held = {
        codes.COMPOSITION: nodule.composition,
        codes.CALCIFICATION_PATTERN: codes.NON_CALCIFIED,
        codes.NODULE_POSITION: codes.JUXTAPLEURAL if abs(nodule.center[0]) > 85 else codes.INTRAPULMONARY,
        codes.LUNG_THIRD: codes.UPPER_THIRD if z > 35 else codes.MIDDLE_THIRD if z > -35 else codes.LOWER_THIRD,
    }
    if nodule.category is not None:
        held[codes.LUNG_RADS] = nodule.category
    if nodule.change is not None:
        held[codes.CHANGE] = nodule.change
    return held


def chest_header(plane: Plane, k: int, size: int) -> Dataset:
    ds = made_header(Shape(size=size, patient_name="Meier^Anna"), plane, k)
    ds.BodyPartExamined = "CHEST"
    ds.StudyDescription = "CT Thorax"
    return ds

"""Every kind of bad input: read rightly, read with a warning, or refused with its reason."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.uid import generate_uid

from pipelines.geometry import Plane
from pipelines.nodule.lungs import find_lungs
from pipelines.nodule.suitability import check_series, warnings_about
from pipelines.reasons import Refusal
from pipelines.volume import load
from tests.unit.pipelines.series import ct_dataset, write

PIXEL_MM, SLICE_MM = 1.2, 3.0
SHAPE = (60, 116, 150)
Z, Y, X = np.meshgrid(
    *(
        (np.arange(size) - (size - 1) / 2) * step
        for size, step in zip(SHAPE, (SLICE_MM, PIXEL_MM, PIXEL_MM), strict=True)
    ),
    indexing="ij",
)
Field = NDArray[np.float64]


def ellipsoid(center: tuple[float, float, float], radii: tuple[float, float, float]) -> NDArray[np.bool_]:
    return np.asarray(sum(((axis - c) / r) ** 2 for axis, c, r in zip((X, Y, Z), center, radii, strict=True)) < 1)


BODY = (X / 86) ** 2 + (Y / 67) ** 2 < 1
SPINE = np.hypot(X, Y - 44) < 10
LUNGS = {side: ellipsoid((40.0 * side, 0, 0), (30, 46, 82)) for side in (-1, 1)}


def chest() -> Field:
    """A small person of 60 years."""
    hu = np.where(BODY, 30.0, -1000.0)
    hu[SPINE] = 500
    for lung in LUNGS.values():
        hu[lung] = -850
    hu[(np.hypot(X, Y - 10) < 6) & (Z > 0)] = -1000
    return hu


def painted(where: NDArray[np.bool_], value: float) -> Callable[[], Field]:
    return lambda: np.where(where, value, chest())


def noisy() -> Field:
    return np.asarray(chest() + np.random.default_rng(1).normal(0, 90, SHAPE))


def streaky() -> Field:
    """A prosthesis of the spine, with what it does to its slices."""
    hu = chest()
    hu[np.abs(Z) < 20] += 120 * np.sin(np.arctan2(Y - 44, X) * 24)[np.abs(Z) < 20]
    hu[(np.hypot(X, Y - 44) < 7) & (np.abs(Z) < 20)] = 3071
    return hu


def abdomen() -> Field:
    hu = np.where(BODY, 40.0, -1000.0)
    hu[SPINE] = 500
    hu[ellipsoid((20, -20, 0), (40, 25, 60))] = -1000
    return hu


def tips_of_lungs() -> Field:
    hu = np.where(BODY, 40.0, -1000.0)
    hu[SPINE] = 500
    for side in (-1, 1):
        hu[ellipsoid((38.0 * side, 20, 90), (25, 28, 45))] = -850
    return hu


def shown(numbers: slice, rows: slice = slice(None), columns: slice = slice(None)) -> Callable[[], Field]:
    def cut() -> Field:
        return chest()[numbers, rows, columns]

    return cut


@dataclass(frozen=True)
class Case:
    """A series and what becomes of it: the refusal's code, or the warnings' codes and which sides are found."""

    hu: Callable[[], Field] = chest
    header: dict[str, Any] = field(default_factory=dict)
    spacing_mm: float = SLICE_MM
    pixel_mm: float = PIXEL_MM
    change: Callable[[list[Dataset]], list[Dataset]] = lambda datasets: datasets
    refused: str = ""
    warned: frozenset[str] = frozenset()


def warned(*codes: str, **options: Any) -> Case:
    return Case(warned=frozenset(codes), **options)


def without(*numbers: int) -> Callable[[list[Dataset]], list[Dataset]]:
    return lambda datasets: [dataset for k, dataset in enumerate(datasets) if k not in numbers]


def again(shift_mm: float, slices: int, **second: Any) -> Callable[[list[Dataset]], list[Dataset]]:
    """The first slices once more, as a second acquisition."""

    def double(datasets: list[Dataset]) -> list[Dataset]:
        more = []
        for dataset in datasets:
            dataset.AcquisitionNumber = 1
            dataset.AcquisitionTime = "100000"
        for dataset in datasets[:slices]:
            copy = deepcopy(dataset)
            copy.SOPInstanceUID = generate_uid(entropy_srcs=[str(dataset.SOPInstanceUID)])
            x, y, z = dataset.ImagePositionPatient
            copy.ImagePositionPatient = [x, y, z + shift_mm]
            for keyword, value in second.items():
                setattr(copy, keyword, value)
            more.append(copy)
        return datasets + more

    return double


def prone(datasets: list[Dataset]) -> list[Dataset]:
    """Lying on the belly, feet first: rows and columns run the other way in the patient."""
    for dataset in datasets:
        x, y, z = dataset.ImagePositionPatient
        dataset.ImageOrientationPatient = [-1, 0, 0, 0, -1, 0]
        dataset.ImagePositionPatient = [-x, -y, z]
    return datasets


CASES = {
    "plain": warned(),
    "prone": warned(change=prone),
    "sharp kernel": warned(hu=noisy, header={"ConvolutionKernel": "B80f"}),
    "soft kernel": warned(header={"ConvolutionKernel": "B20f"}),
    "contrast": warned("contrast.in_nodules", header={"ContrastBolusAgent": "Iodine"}),
    "slices of 5 mm": warned("geometry.thick_slices", hu=lambda: chest()[::2], spacing_mm=5.0),
    "slices of 8 mm": Case(hu=lambda: chest()[::3], spacing_mm=8.0, refused="geometry.too_thick_slices"),
    "MIP by its type": Case(
        header={"ImageType": ["DERIVED", "SECONDARY", "AXIAL", "MIP"]}, refused="input.not_an_image_to_read"
    ),
    "MIP by its name": Case(header={"SeriesDescription": "Lung MIP 8/2"}, refused="input.projected_slabs"),
    "averaged slabs": Case(
        header={"ImageType": ["DERIVED", "SECONDARY", "MPR"], "SliceThickness": 10.0}, refused="input.projected_slabs"
    ),
    "overlapping slices": warned(header={"SliceThickness": 3.0}, hu=chest, spacing_mm=2.6),
    "localizer": Case(header={"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, refused="input.not_an_image_to_read"),
    "a slice missing": warned("series.incomplete", "geometry.variable_spacing", change=without(30)),
    "a third missing": Case(change=without(*range(20, 40)), refused="series.incomplete"),
    "two acquisitions at the same places": warned(
        "series.overlapping_acquisitions", change=again(0.0, 40, AcquisitionNumber=2)
    ),
    "two acquisitions between each other": warned(
        "series.overlapping_acquisitions", change=again(1.3, 40, AcquisitionNumber=2)
    ),
    "two acquisitions by time only": warned(
        "series.overlapping_acquisitions", change=again(0.0, 40, AcquisitionTime="100500")
    ),
    "two acquisitions not told apart": Case(change=again(0.0, 40), refused="geometry.duplicate_position"),
    "abdomen": Case(hu=abdomen, refused="body_part.unexpected"),
    "abdomen with the tips of lungs": Case(hu=tips_of_lungs, refused="body_part.unexpected"),
    "a child by age": warned("body_part.child", header={"PatientAge": "009Y"}),
    "an infant by age": warned("body_part.child", header={"PatientAge": "030W"}),
    "a child by dates": warned(
        "body_part.child", header={"PatientAge": None, "PatientBirthDate": "20150601", "StudyDate": "20250101"}
    ),
    "a child by its lungs": warned("body_part.child", header={"PatientAge": ""}),
    "an arm beside the chest": warned(hu=painted((np.hypot(X - 78, Y) < 12) & ~BODY, 40)),
    "metal": warned("input.metal", hu=streaky),
    "lungs without their tops": warned("body_part.partial", hu=shown(slice(0, 42))),
    "lungs cut at the side": warned("body_part.partial", hu=shown(slice(None), columns=slice(30, None))),
    "one lung": warned("body_part.partial", hu=painted(LUNGS[1], 30)),
    "wide pixels": warned("geometry.coarse_pixels", pixel_mm=1.3),
}


def series(case: Case) -> list[Dataset]:
    hu = case.hu()
    stored = np.clip(np.rint(hu + 1024), 0, 4095).astype(np.uint16)
    x, y = (-(size - 1) / 2 * case.pixel_mm for size in (hu.shape[2], hu.shape[1]))
    datasets = []
    for k, pixels in enumerate(stored):
        plane = Plane(
            (x, y, k * case.spacing_mm), (1.0, 0.0, 0.0), (0.0, 1.0, 0.0),
            case.pixel_mm, case.pixel_mm, case.spacing_mm,
        )  # fmt: skip
        dataset = ct_dataset(plane, pixels)
        dataset.PatientAge = "060Y"
        for keyword, value in case.header.items():
            setattr(dataset, keyword, value)
        datasets.append(dataset)
    return case.change(datasets)


def read(paths: list[Path]) -> set[str]:
    loaded = load(paths)
    check_series(loaded)
    warnings = loaded.warnings + warnings_about(loaded, find_lungs(loaded.volume))
    return {reason.code for reason in warnings}


@pytest.mark.parametrize("name", CASES)
def test_bad_input(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    paths = write(tmp_path, series(case))
    if case.refused:
        with pytest.raises(Refusal) as refusal:
            read(paths)
        assert refusal.value.reason.code == case.refused
    else:
        assert read(paths) == case.warned


def test_the_most_complete_acquisition_is_read(tmp_path: Path) -> None:
    case = replace(CASES["plain"], change=again(1.3, 40, AcquisitionNumber=2))
    loaded = load(write(tmp_path, series(case)))
    assert len(loaded.volume.plane) == SHAPE[0]
    assert {int(header.AcquisitionNumber) for header in loaded.headers} == {1}
    assert loaded.warnings[0].facts == {"left_out": 40, "instances": 100}

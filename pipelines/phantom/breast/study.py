"""A made mammography study: up to four valid views of a woman's breasts with every calcification known.

For demonstration and for tests. Everything follows from the options: the same options give the same bytes, UIDs
included.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import (
    DigitalMammographyXRayImageStorageForPresentation,
    DigitalMammographyXRayImageStorageForProcessing,
    ExplicitVRLittleEndian,
)

from pipelines import codes
from pipelines.codes import Code
from pipelines.phantom.breast.anatomy import (
    Benign,
    BreastOptions,
    Density,
    GroupRecipe,
    Laterality,
    MadeBreast,
    make_breast,
)
from pipelines.phantom.breast.imaging import Receptor
from pipelines.phantom.breast.presentation import Processing
from pipelines.phantom.breast.projection import View
from pipelines.phantom.breast.truth import MadeGrain, MadeGroup, Mimic, MimicKind
from pipelines.phantom.breast.views import MadeView, ViewOptions, make_view
from pipelines.phantom.images import Progress, key_of, write_images
from pipelines.uids import derived_uid

ViewName = Literal["R CC", "L CC", "R MLO", "L MLO"]
Detector = Literal["selenium", "scintillator"]
Voi = Literal["window", "sigmoid", "lut"]

VIEWS: tuple[ViewName, ...] = ("R CC", "L CC", "R MLO", "L MLO")
"""In hanging order."""
SIDES: tuple[Laterality, ...] = ("R", "L")
PITCH_MM: dict[Detector, float] = {"selenium": 0.07, "scintillator": 0.1}
FRAMES = {0.05: (4728, 3540), 0.07: (3328, 2560), 0.085: (3518, 2800), 0.0941: (3062, 2394), 0.1: (2850, 2394)}
"""Rows and columns of detectors by their pitch; one of another pitch has the size of that of 0.07 mm."""
FIELD_MM = (232.96, 179.2)
RAW_BITS = 14


@dataclass(frozen=True, slots=True)
class SidedRecipe:
    """A group to make, and in which breast."""

    laterality: Laterality
    recipe: GroupRecipe


@dataclass(frozen=True, slots=True)
class BreastStudyOptions:
    """What study to make.

    `groups` are random groups of calcifications, each in either breast, besides those of `recipes`; `benign` what else
    is calcified in both breasts; `lesions` cysts, masses and lymph nodes in each breast; `lookalikes` what each view
    shows besides. `pitch_mm` 0 is that of the detector. `dose` is times the usual one. `voi` says how the images for
    presentation are to be shown: as they are, by a sigmoid function, or by a look-up table.
    """

    seed: int = 0
    groups: int = 1
    recipes: tuple[SidedRecipe, ...] = ()
    density: Density | None = None
    benign: tuple[Benign, ...] = ()
    lesions: int = 0
    lookalikes: tuple[MimicKind, ...] = ()
    views: tuple[ViewName, ...] = VIEWS
    detector: Detector = "selenium"
    pitch_mm: float = 0.0
    dose: float = 1.0
    is_for_processing: bool = False
    voi: Voi = "window"
    has_nipple_markers: bool = False
    study_date: str = "20250101"


@dataclass(frozen=True, slots=True, eq=False)
class MadeBreastStudy:
    """What was written: the files in the order of their views, `truth` as in `truth.json`, and the views."""

    files: tuple[Path, ...]
    truth: dict[str, object]
    views: tuple[MadeView, ...]


def make_study(
    out: Path, options: BreastStudyOptions, progress: Progress = lambda _done, _total: None
) -> MadeBreastStudy:
    """Write a study into the folder `out`: `IM0001.dcm` and so on, and `truth.json`.

    `progress` hears of each step as (steps done, steps in all). Raises `ValueError` for what no unit makes.
    """
    _check(options)
    steps = 2 * len(options.views) + 1
    breasts = _breasts(options)
    progress(1, steps)
    generator = np.random.default_rng((options.seed, 1))
    receptor = _receptor(options, generator)
    processing = replace(Processing.random(generator), bend=0.0 if options.voi != "window" else 0.4)
    made: list[MadeView] = []
    datasets: list[Dataset] = []
    for k, name in enumerate(options.views):
        breast = breasts["R" if name[0] == "R" else "L"]
        view: View = "CC" if name.endswith("CC") else "MLO"
        kvp = round(25 + breast.options.thickness_mm * 0.08)
        taken = ViewOptions(
            view, receptor, None if options.is_for_processing else processing, kvp, _field_mm(receptor.pitch_mm),
            options.lookalikes, has_nipple_marker=options.has_nipple_markers,
        )  # fmt: skip
        made.append(make_view(np.random.default_rng((options.seed, 2, VIEWS.index(name))), breast, taken))
        datasets.append(_Image(options, breast, taken, k).dataset(made[-1]))
        progress(2 + k, steps)
    truth = _truth(options, breasts, made, datasets)
    files = write_images(out, datasets, truth, lambda number: progress(1 + len(options.views) + number, steps))
    return MadeBreastStudy(files, truth, tuple(made))


def _check(options: BreastStudyOptions) -> None:
    if not 0 <= options.groups + len(options.recipes) <= 20:
        raise ValueError("a study holds at most 20 groups of calcifications")
    if not 0 <= options.lesions <= 10:
        raise ValueError("a breast holds at most 10 lesions")
    if options.pitch_mm and not 0.04 <= options.pitch_mm <= 0.25:
        raise ValueError("the pitch must be 0.04 to 0.25 mm")
    if not 0.05 <= options.dose <= 20:
        raise ValueError("the dose must be 0.05 to 20 times the usual one")
    if not options.views or len(set(options.views)) != len(options.views):
        raise ValueError("a study has at least one view, and each only once")
    date.fromisoformat(options.study_date)


def _receptor(options: BreastStudyOptions, generator: np.random.Generator) -> Receptor:
    pitch = options.pitch_mm or PITCH_MM[options.detector]
    receptor = Receptor.random(generator, options.detector, pitch)
    return replace(receptor, quanta=1.5e5 * options.dose, bits=12)


def _field_mm(pitch: float) -> tuple[float, float]:
    rows, columns = FRAMES.get(pitch, (FIELD_MM[0] / pitch, FIELD_MM[1] / pitch))
    return rows * pitch, columns * pitch


def _breasts(options: BreastStudyOptions) -> dict[Laterality, MadeBreast]:
    """Both breasts of a woman: alike in size, density and tissue."""
    generator = np.random.default_rng((options.seed, 0))
    common = BreastOptions.random(generator, "R", options.density)
    sided: dict[Laterality, list[GroupRecipe]] = {"R": [], "L": []}
    for recipe in options.recipes:
        sided[recipe.laterality].append(recipe.recipe)
    for _ in range(options.groups):
        sided["R" if generator.random() < 0.5 else "L"].append(GroupRecipe())
    return {
        side: make_breast(
            np.random.default_rng((options.seed, 3, k)),
            replace(
                common,
                laterality=side,
                depth_mm=common.depth_mm * float(generator.uniform(0.97, 1.03)),
                groups=tuple(sided[side]),
                benign=options.benign,
                lesions=options.lesions,
            ),
        )
        for k, side in enumerate(SIDES)
    }


# ---- DICOM


@dataclass(frozen=True, slots=True, eq=False)
class _Image:
    """One Digital Mammography X-Ray Image (PS3.3, A.26), as a unit writes it."""

    options: BreastStudyOptions
    breast: MadeBreast
    view: ViewOptions
    index: int

    def uid(self, *parts: str) -> str:
        return derived_uid("phantom.breast", key_of(asdict(self.options)), *parts)

    def dataset(self, made: MadeView) -> Dataset:
        dataset = Dataset()
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        self._identity(dataset)
        self._series(dataset)
        self._acquisition(dataset, made)
        self._anatomy(dataset)
        self._detector(dataset)
        dataset.SamplesPerPixel = 1
        dataset.PixelRepresentation = 0
        dataset.BitsAllocated = 16
        dataset.QualityControlImage = "NO"
        dataset.BurnedInAnnotation = "NO"
        dataset.BreastImplantPresent = "NO"
        dataset.PartialView = "NO"
        dataset.LossyImageCompression = "00"
        dataset.RescaleIntercept, dataset.RescaleSlope, dataset.RescaleType = 0, 1, "US"
        if self.options.is_for_processing:
            self._raw(dataset, made)
        else:
            self._presented(dataset, made)
        return dataset

    def _identity(self, dataset: Dataset) -> None:
        o = self.options
        dataset.SpecificCharacterSet = "ISO_IR 100"
        dataset.ImageType = ["ORIGINAL", "PRIMARY", ""]
        dataset.SOPClassUID = (
            DigitalMammographyXRayImageStorageForProcessing
            if o.is_for_processing
            else DigitalMammographyXRayImageStorageForPresentation
        )
        dataset.SOPInstanceUID = self.uid("instance", str(self.index))
        dataset.StudyDate = dataset.SeriesDate = dataset.AcquisitionDate = dataset.ContentDate = o.study_date
        dataset.StudyTime = dataset.SeriesTime = "120000"
        dataset.AcquisitionTime = dataset.ContentTime = f"1201{10 * self.index:02d}"
        dataset.AccessionNumber = ""
        dataset.ReferringPhysicianName = ""
        dataset.StudyDescription = "Breast phantom"
        dataset.PatientName = "Phantom^Breast"
        dataset.PatientID = f"PHANTOM-BREAST-{o.seed}"
        dataset.PatientBirthDate = ""
        dataset.PatientSex = "F"
        dataset.StudyInstanceUID = self.uid("study")
        dataset.SeriesInstanceUID = self.uid("series")
        dataset.StudyID = str(o.seed)
        dataset.ImageComments = "Made by a program; no patient."

    def _series(self, dataset: Dataset) -> None:
        o = self.options
        dataset.Modality = "MG"
        dataset.PresentationIntentType = "FOR PROCESSING" if o.is_for_processing else "FOR PRESENTATION"
        dataset.SeriesDescription = "Screening, four views" if len(o.views) == 4 else "Screening"
        dataset.SeriesNumber = 1
        dataset.InstanceNumber = self.index + 1
        dataset.AcquisitionNumber = self.index + 1
        dataset.Manufacturer = "triage-node phantom"
        dataset.InstitutionName = ""
        dataset.ManufacturerModelName = "breast"
        dataset.DeviceSerialNumber = "1"
        dataset.SoftwareVersions = "1"

    def _acquisition(self, dataset: Dataset, made: MadeView) -> None:
        pitch = self.view.receptor.pitch_mm
        spacing = round(pitch, 8)
        dataset.KVP = self.view.kvp
        dataset.ExposureTime = 900
        dataset.XRayTubeCurrent = 100
        dataset.Exposure = round(90 * self.options.dose)
        dataset.ExposureInuAs = round(90000 * self.options.dose)
        dataset.AnodeTargetMaterial = "TUNGSTEN"
        dataset.FilterMaterial = "RHODIUM"
        dataset.FocalSpots = 0.3
        dataset.Grid = ["FOCUSED", "RECIPROCATING"]
        dataset.BodyPartThickness = round(made.thickness_mm)
        dataset.CompressionForce = 110
        dataset.DistanceSourceToDetector = 660
        dataset.DistanceSourceToPatient = 660
        dataset.EstimatedRadiographicMagnificationFactor = 1
        dataset.PositionerType = "MAMMOGRAPHIC"
        oblique = -45 if self.breast.options.laterality == "L" else 45
        dataset.PositionerPrimaryAngle = oblique if self.view.view == "MLO" else 0
        dataset.ImagerPixelSpacing = [spacing, spacing]
        dataset.OrganExposed = "BREAST"
        dataset.AcquisitionContextSequence = []

    def _anatomy(self, dataset: Dataset) -> None:
        laterality = self.breast.options.laterality
        dataset.BodyPartExamined = "BREAST"
        dataset.AnatomicRegionSequence = [_item(codes.BREAST)]
        dataset.ImageLaterality = laterality
        dataset.ViewPosition = self.view.view
        view = _item(codes.CRANIO_CAUDAL if self.view.view == "CC" else codes.MEDIO_LATERAL_OBLIQUE)
        view.ViewModifierCodeSequence = []
        dataset.ViewCodeSequence = [view]
        towards_medial = "L" if laterality == "R" else "R"
        along = "P" if laterality == "R" else "A"
        dataset.PatientOrientation = [along, towards_medial if self.view.view == "CC" else f"F{towards_medial}"]

    def _detector(self, dataset: Dataset) -> None:
        pitch = round(self.view.receptor.pitch_mm, 8)
        dataset.DetectorType = "DIRECT" if self.options.detector == "selenium" else "SCINTILLATOR"
        dataset.DetectorConfiguration = "AREA"
        dataset.DetectorID = "1"
        dataset.DateOfLastDetectorCalibration = self.options.study_date
        dataset.DetectorElementPhysicalSize = [pitch, pitch]
        dataset.DetectorElementSpacing = [pitch, pitch]
        dataset.DetectorActiveShape = "RECTANGLE"
        dataset.FieldOfViewShape = "RECTANGLE"
        dataset.FieldOfViewDimensions = [round(side) for side in self.view.field_mm]

    def _presented(self, dataset: Dataset, made: MadeView) -> None:
        bits = self.view.receptor.bits
        most = 2**bits - 1
        values = np.rint(made.picture.pixels * np.float32(most)).astype("<u2")
        values[made.breast & (values == 0)] = 1  # 0 is padding
        dataset.PhotometricInterpretation = "MONOCHROME2"
        dataset.PresentationLUTShape = "IDENTITY"
        dataset.PixelIntensityRelationship, dataset.PixelIntensityRelationshipSign = "LOG", -1
        dataset.PixelPaddingValue = 0
        if self.options.voi == "lut":
            dataset.VOILUTSequence = [_voi_lut(most)]
        else:
            dataset.WindowCenter, dataset.WindowWidth = (most + 1) / 2, most + 1
            dataset.WindowCenterWidthExplanation = "NORMAL"
            dataset.VOILUTFunction = "LINEAR"
        if self.options.voi == "sigmoid":
            dataset.VOILUTFunction, dataset.WindowWidth = "SIGMOID", round(0.8 * most)
        dataset.AcquisitionDeviceProcessingDescription = "phantom"
        self._store(dataset, values, bits)

    def _raw(self, dataset: Dataset, made: MadeView) -> None:
        """Linear in exposure, as the detector gave it; what it got beside the breast is beyond its range."""
        most = 2**RAW_BITS - 1
        values = np.rint(np.clip(made.picture.exposure * np.float32(400) + np.float32(50), 0, most)).astype("<u2")
        dataset.PhotometricInterpretation = "MONOCHROME1"
        dataset.PresentationLUTShape = "INVERSE"
        dataset.PixelIntensityRelationship, dataset.PixelIntensityRelationshipSign = "LIN", 1
        self._store(dataset, values, RAW_BITS)

    def _store(self, dataset: Dataset, values: NDArray[np.uint16], bits: int) -> None:
        dataset.Rows, dataset.Columns = values.shape
        dataset.BitsStored, dataset.HighBit = bits, bits - 1
        dataset.PixelData = values.tobytes()


def _item(code: Code) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = code.value, code.scheme, code.meaning
    return item


def _voi_lut(most: int) -> Dataset:
    """A look-up table of sigmoid form over all stored values."""
    x = np.linspace(-1, 1, most + 1)
    table = np.rint((np.tanh(1.6 * x) / np.tanh(1.6) + 1) / 2 * most).astype("<u2")
    item = Dataset()
    item.LUTDescriptor = [len(table), 0, int(most).bit_length()]
    item.LUTExplanation = "NORMAL"
    item.LUTData = table.tobytes()
    return item


# ---- truth


def _truth(
    options: BreastStudyOptions,
    breasts: dict[Laterality, MadeBreast],
    views: Sequence[MadeView],
    datasets: Sequence[Dataset],
) -> dict[str, object]:
    """What is in the study. Places on images are (column, row) in pixels from the first one's outer corner; group and
    grain numbers name the same things in both views of a breast.
    """
    return {
        "schema": 1,
        "options": asdict(options),
        "study_instance_uid": datasets[0].StudyInstanceUID,
        "series_instance_uid": datasets[0].SeriesInstanceUID,
        "density": breasts["R"].options.density,
        "groups": [
            _whole_group(side, breast, k) for side, breast in breasts.items() for k in range(len(breast.groups))
        ],
        "views": [
            _view_truth(name, view, dataset) for name, view, dataset in zip(options.views, views, datasets, strict=True)
        ],
    }


def _whole_group(side: Laterality, breast: MadeBreast, k: int) -> dict[str, object]:
    """A group in the breast: its quadrant, and its depth as a part of the way from chest wall to nipple."""
    group = breast.groups[k]
    anterior, outer, up = (float(value) for value in group.place)
    return {
        "laterality": side,
        "number": group.number,
        "count": len(group.layout.shapes),
        "morphology": group.layout.morphology,
        "distribution": group.layout.distribution,
        "is_suspicious": group.layout.is_suspicious,
        "quadrant": f"{'upper' if up > 0 else 'lower'} {'outer' if outer > 0 else 'inner'}",
        "depth": ("posterior", "middle", "anterior")[min(int(anterior * 3), 2)],
        "place": [round(anterior, 3), round(outer, 3), round(up, 3)],
    }


def _view_truth(name: ViewName, view: MadeView, dataset: Dataset) -> dict[str, object]:
    return {
        "view": name,
        "sop_instance_uid": dataset.SOPInstanceUID,
        "rows": dataset.Rows,
        "columns": dataset.Columns,
        "pitch_mm": float(dataset.ImagerPixelSpacing[0]),
        "thickness_mm": round(view.thickness_mm, 1),
        "nipple_px": _rounded(view.nipple_px),
        "muscle_px": [_rounded(point) for point in view.muscle_px],
        "groups": [_group_truth(group) for group in view.picture.groups],
        "grains": [_grain_truth(grain, view.picture.groups) for grain in view.picture.grains],
        "lookalikes": [_mimic_truth(mimic) for mimic in view.mimics],
    }


def _group_truth(group: MadeGroup) -> dict[str, object]:
    return {
        "number": group.number,
        "center_px": _rounded(group.center_px),
        "outline_px": [list(point) for point in group.outline_px],
        "count": group.count,
        "long_axis_mm": round(group.long_axis_mm, 2),
        "morphology": group.morphology,
        "distribution": group.distribution,
        "is_suspicious": group.is_suspicious,
    }


def _grain_truth(grain: MadeGrain, groups: Sequence[MadeGroup]) -> dict[str, object]:
    return {
        "number": grain.number,
        "group": None if grain.group is None else groups[grain.group].number,
        "center_px": _rounded(grain.center_px),
        "center_mm": _rounded(grain.center_mm),
        "shape": grain.shape,
        "diameter_mm": round(grain.diameter_mm, 3),
        "length_mm": round(grain.length_mm, 3),
        "contrast": round(grain.contrast, 4),
        "snr": round(grain.snr, 2),
    }


def _mimic_truth(mimic: Mimic) -> dict[str, object]:
    return {"kind": mimic.kind, "center_px": _rounded(mimic.center_px), "radius_px": round(mimic.radius_px, 1)}


def _rounded(point: tuple[float, float]) -> list[float]:
    return [round(point[0], 2), round(point[1], 2)]

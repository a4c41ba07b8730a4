"""Made report cases of mammography studies: whole, of one view, with groups of calcifications, with refused views."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import DigitalMammographyXRayImageStorageForPresentation, ExplicitVRLittleEndian
from scipy import ndimage

from pipelines import codes
from pipelines.codes import Code
from pipelines.findings import Finding, Measurement, ModelIdentity, Outcome, Outline, Status
from pipelines.mammogram import Laterality, Mammogram, MammogramStudy, Projection, RefusedView, Spacing
from pipelines.reasons import Reason
from pipelines.uids import derived_uid
from reporting.projections import VIEWS
from reporting.source import ReportCase
from tests.unit.reporting.cases import EQUIPMENT, MADE_AT

MODEL = ModelIdentity("mg-calcification", "1.0.0", "ef" * 32)
FOUR = ("R CC", "L CC", "R MLO", "L MLO")
ORIENTATIONS = {"R CC": ["P", "L"], "L CC": ["A", "R"], "R MLO": ["P", "FL"], "L MLO": ["A", "FR"]}


@dataclass(frozen=True)
class Look:
    """How the images are stored. `pixel_mm` is the detector's."""

    rows: int = 220
    columns: int = 170
    pixel_mm: float = 1.05
    inverted: bool = False
    voi_lut: bool = False
    mirrored: bool = False
    snomed_rt: bool = False


@dataclass(frozen=True)
class Group:
    """What is found on one view: grains about `center` (share of the columns, measured from the chest wall; of the
    rows), within `radius_mm`. `pair` names the group on the other view that is taken for the same."""

    name: str
    view: str
    center: tuple[float, float] = (0.45, 0.5)
    radius_mm: float = 12.0
    count: int = 9
    certainty: float = 0.91
    type: Code | None = codes.FINE_PLEOMORPHIC
    distribution: Code | None = codes.GROUPED
    category: Code | None = codes.BI_RADS_4B
    pair: str | None = None


PAIR = (
    Group("a cc", "R CC", (0.5, 0.4), pair="a mlo"),
    Group("a mlo", "R MLO", (0.5, 0.45), pair="a cc", certainty=0.84, count=12),
)
ALONE = Group("alone", "R MLO", radius_mm=20.0)
GROUPS = (
    *PAIR,
    Group("b", "L CC", (0.3, 0.6), 8.0, 6, 0.55, codes.ROUND, codes.GROUPED, codes.BI_RADS_3),
    Group("c", "L MLO", (0.55, 0.5), 26.0, 14, 0.40, codes.VASCULAR, codes.LINEAR, codes.BI_RADS_2),
)


def mammography_case(
    views: tuple[str, ...] = FOUR,
    groups: tuple[Group, ...] = PAIR,
    *,
    look: Look = Look(),
    status: Status = "finding",
    refused: tuple[RefusedView, ...] = (),
    warnings: tuple[Reason, ...] = (),
) -> ReportCase:
    made = tuple(mammogram(name, look, [group for group in groups if group.view == name]) for name in views)
    by_name = {view.name: view for view in made}
    findings = tuple(found(by_name[group.view], group, groups) for group in groups)
    score = {"finding": 0.91, "clean": 0.03, "unsure": 0.44, "not_read": None}[status]
    return ReportCase(
        headers=tuple(view.header for view in made),
        planes=(),
        frames=(1,) * len(made),
        pixels=np.zeros((0, 0, 0), np.float32),
        outcome=Outcome(status, score, findings, None, warnings, MODEL, {"read": 1.0}),
        pipeline="calcification",
        looked_for=codes.CALCIFICATION_CLUSTER,
        site=codes.BREAST,
        window=(0.5, 1.0),
        revision_digest="cd" * 32,
        configuration_hash="ef" * 8,
        made_at=MADE_AT,
        equipment=EQUIPMENT,
        study=MammogramStudy(made, refused),
    )


def mammogram(name: str, look: Look = Look(), groups: list[Group] | None = None) -> Mammogram:
    laterality, projection = cast("tuple[Laterality, Projection]", tuple(name.split()))
    at_right = (laterality == "R") != look.mirrored
    pixels = breast(look, projection)
    spacing = Spacing(look.pixel_mm, look.pixel_mm / 1.05, "magnification factor")
    for group in groups or []:
        for x, y in marks(group, look):
            pixels[int(y), int(x)] = 1.0
    header = mammogram_header(name, look)
    return Mammogram(
        instance_uid=str(header.SOPInstanceUID),
        laterality=laterality,
        projection=projection,
        modifiers=frozenset(),
        pixels=np.ascontiguousarray(pixels[:, ::-1] if at_right else pixels),
        outside=np.zeros(pixels.shape, bool),
        scale="presented",
        spacing=spacing,
        chest_wall="right" if at_right else "left",
        has_implant=False,
        header=header,
    )


def breast(look: Look, projection: str) -> NDArray[np.float32]:
    """Half an ellipse of soft noise with the chest wall at the left; on oblique views a pectoral muscle above."""
    rows, columns = np.mgrid[: look.rows, : look.columns].astype(np.float32)
    x, y = columns / look.columns, rows / look.rows
    depth = 1 - (x / 0.82) ** 2 - ((y - 0.5) / 0.42) ** 2
    noise = np.random.default_rng(5).normal(0, 1, (look.rows, look.columns))
    texture = ndimage.gaussian_filter(noise, look.rows / 30) * look.rows / 30 + 0.3 * ndimage.gaussian_filter(noise, 1)
    pixels = np.where(depth > 0, 0.25 + 0.25 * np.sqrt(np.clip(depth, 0, 1)) + 0.05 * texture, 0.0)
    if projection == "MLO":
        pixels = np.where((x < 0.35 - 0.6 * y) & (depth > -0.6), 0.75, pixels)
    return np.clip(pixels, 0, 0.95).astype(np.float32)


def marks(group: Group, look: Look) -> list[tuple[float, float]]:
    """The grains' places with the chest wall at the left, spread like a sunflower's seeds."""
    radius = group.radius_mm / (look.pixel_mm / 1.05)
    n = np.arange(group.count)
    away, turn = radius * np.sqrt((n + 0.5) / group.count), n * 2.39996
    x = group.center[0] * look.columns + away * np.cos(turn)
    y = group.center[1] * look.rows + away * np.sin(turn)
    return [(float(a), float(b)) for a, b in zip(np.floor(x) + 0.5, np.floor(y) + 0.5, strict=True)]


def found(view: Mammogram, group: Group, groups: tuple[Group, ...]) -> Finding:
    width = view.pixels.shape[1]
    look = Look(*view.pixels.shape, pixel_mm=view.spacing.detector_mm)
    grains = np.array(marks(group, look))
    if view.chest_wall == "right":
        grains[:, 0] = width - grains[:, 0]
    turns = np.linspace(0, 2 * np.pi, 12, endpoint=False)
    center = grains.mean(axis=0)
    reach = np.hypot(*(grains - center).T).max() + 2
    ring = center + reach * np.stack([np.cos(turns), np.sin(turns)], axis=1)
    axis = 2 * reach * view.spacing.object_mm
    other = next((one for one in groups if one.name == group.pair), None)
    told = {
        codes.CALCIFICATION_TYPE: group.type,
        codes.CALCIFICATION_DISTRIBUTION: group.distribution,
        codes.BREAST_REGION: codes.UPPER_OUTER_QUADRANT if group.pair else codes.OUTER_HALF,
        codes.BREAST_DEPTH: codes.MIDDLE_THIRD_OF_BREAST,
        codes.BI_RADS: group.category,
    }
    return Finding(
        kind=codes.CALCIFICATION_CLUSTER,
        label=codes.CALCIFICATION_CLUSTER.meaning,
        certainty=group.certainty,
        region=Outline(
            view.instance_uid,
            tuple((float(x), float(y)) for x, y in ring),
            tuple((float(x), float(y)) for x, y in grains),
        ),
        center_mm=None,
        measurements=(
            Measurement("count", codes.NUMBER_OF_CALCIFICATIONS, float(group.count), codes.NO_UNITS),
            Measurement("long_axis_mm", codes.LONG_AXIS, axis, codes.MILLIMETER),
            Measurement("short_axis_mm", codes.SHORT_AXIS, 0.7 * axis, codes.MILLIMETER),
            Measurement("area_mm2", codes.AREA, 0.55 * axis**2, codes.SQUARE_MILLIMETER),
        ),
        key_instance_uid=view.instance_uid,
        tracking_uid=tracking(group),
        side="right" if view.laterality == "R" else "left",
        attributes={question: answer for question, answer in told.items() if answer is not None},
        view=view.name,
        center_px=(float(center[0]), float(center[1])),
        partner_uid=None if other is None else tracking(other),
    )


def tracking(group: Group) -> str:
    return derived_uid("test", "calcification", group.name)


def mammogram_header(name: str, look: Look = Look()) -> Dataset:
    laterality, projection = name.split()
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.ImageType = ["ORIGINAL", "PRIMARY", ""]
    ds.SOPClassUID = DigitalMammographyXRayImageStorageForPresentation
    ds.SOPInstanceUID = derived_uid("test", "mammogram", name)
    ds.StudyDate, ds.ContentDate, ds.AcquisitionDate = "20261121", "20261121", "20261121"
    ds.StudyTime, ds.ContentTime, ds.AcquisitionTime = "101500", "101730", "101730"
    ds.AccessionNumber = "A0012346"
    ds.Modality = "MG"
    ds.PresentationIntentType = "FOR PRESENTATION"
    ds.Manufacturer = "Maker"
    ds.ReferringPhysicianName = "Doktor^Uwe"
    ds.StudyDescription = "Mammographie"
    ds.PatientName = "Meier^Anna"
    ds.PatientID = "4712"
    ds.PatientBirthDate = "19600101"
    ds.PatientSex = "F"
    ds.AnatomicRegionSequence = [_coded(codes.BREAST)]
    ds.BodyPartExamined = "BREAST"
    ds.ImagerPixelSpacing = [look.pixel_mm, look.pixel_mm]
    ds.EstimatedRadiographicMagnificationFactor = "1.05"
    ds.PositionerType = "MAMMOGRAPHIC"
    ds.PositionerPrimaryAngle = "0" if projection == "CC" else "45"
    ds.ViewPosition = projection
    ds.DetectorType = "DIRECT"
    ds.StudyInstanceUID = derived_uid("test", "mammography")
    ds.SeriesInstanceUID = derived_uid("test", "mammography", name)
    ds.StudyID = "1"
    ds.SeriesNumber = 1 + FOUR.index(name) if name in FOUR else 9
    ds.InstanceNumber = 1
    ds.PatientOrientation = ORIENTATIONS.get(name, ["A", "F"])
    ds.ImageLaterality = laterality
    ds.SamplesPerPixel = 1
    ds.PhotometricInterpretation = "MONOCHROME1" if look.inverted else "MONOCHROME2"
    ds.Rows, ds.Columns = look.rows, look.columns
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
    ds.BurnedInAnnotation = "NO"
    ds.PixelIntensityRelationship, ds.PixelIntensityRelationshipSign = "LOG", 1 if look.inverted else -1
    if look.voi_lut:
        ds.VOILUTSequence = [_voi_lut("NORMAL"), _voi_lut("HARDER")]
    else:
        ds.WindowCenter, ds.WindowWidth = ["2048", "1500"], ["4096", "2000"]
        ds.WindowCenterWidthExplanation = ["NORMAL", "HARDER"]
        ds.VOILUTFunction = "SIGMOID"
    ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType = "0", "1", "US"
    ds.LossyImageCompression = "00"
    ds.BreastImplantPresent = "NO"
    ds.PartialView = "NO"
    ds.OrganExposed = "BREAST"
    ds.AcquisitionContextSequence = []
    view = _coded(VIEWS[cast("Projection", projection)])
    if look.snomed_rt:
        view.CodeValue, view.CodingSchemeDesignator = {"CC": "R-10242", "MLO": "R-10226"}[projection], "SNM3"
    view.ViewModifierCodeSequence = []
    ds.ViewCodeSequence = [view]
    ds.PresentationLUTShape = "INVERSE" if look.inverted else "IDENTITY"
    return ds


def refused_view(name: str, code: str = "input.truncated") -> RefusedView:
    header = mammogram_header(name)
    return RefusedView(str(header.SOPInstanceUID), Reason(code), header)


def of_view(case: ReportCase, name: str, **changed: object) -> ReportCase:
    """The case with one view changed."""
    assert case.study is not None
    views = tuple(replace(view, **changed) if view.name == name else view for view in case.study.views)  # type: ignore[arg-type]
    return replace(case, study=replace(case.study, views=views))


def write_mammograms(case: ReportCase, folder: Path) -> list[Path]:
    """The views, and what was refused, as files."""
    folder.mkdir(parents=True, exist_ok=True)
    assert case.study is not None
    pixels = {view.instance_uid: view.pixels for view in case.study.views}
    paths = []
    for k, header in enumerate((*case.headers, *case.refused_headers)):
        ds = Dataset(header)
        stored = pixels.get(str(header.SOPInstanceUID), np.zeros((header.Rows, header.Columns), np.float32))
        ds.PixelData = (4095 * stored).astype("<u2").tobytes()
        ds.file_meta = FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
        ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
        path = folder / f"{k:04}.dcm"
        ds.save_as(path, enforce_file_format=True)
        paths.append(path)
    return paths


def _coded(code: Code) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = code
    return item


def _voi_lut(explanation: str) -> Dataset:
    item = Dataset()
    item.add_new(0x00283002, "US", [4096, 0, 12])
    item.LUTExplanation = explanation
    item.add_new(0x00283006, "OW", np.arange(4096, dtype="<u2").tobytes())
    return item

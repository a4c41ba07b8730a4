"""Made report cases: small CT series with a made finding, in the shapes that real series come in."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import CTImageStorage, EnhancedCTImageStorage, ExplicitVRLittleEndian

from pipelines import codes
from pipelines.findings import Finding, Measurement, ModelIdentity, Outcome, Region, Side, Status
from pipelines.geometry import Plane, local_thicknesses_mm
from pipelines.reasons import Reason
from pipelines.uids import derived_uid
from reporting.source import Equipment, ReportCase

MODEL = ModelIdentity("ct-hemorrhage", "1.2.0", "ab" * 32)
EQUIPMENT = Equipment("Triage Node Project", "triage-node", "0.1.0", "TN-0001", "Testklinik Süd")
MADE_AT = datetime(2026, 11, 21, 12, 34, 56, 789000, tzinfo=UTC)


@dataclass(frozen=True)
class Shape:
    """What kind of series to make."""

    slices: int = 12
    size: int = 64
    tilt_degrees: float = 0.0
    variable: bool = False
    flipped: bool = False
    frame_of_reference: bool = True
    character_set: str | tuple[str, ...] = "ISO_IR 192"
    patient_name: str = "Müller^Jörg"
    anisotropic: bool = False
    multi_frame: bool = False


def made_case(
    shape: Shape = Shape(),
    status: Status = "finding",
    findings: int = 1,
    warnings: tuple[Reason, ...] = (),
    pixels: NDArray[np.int16] | None = None,
) -> ReportCase:
    planes = made_planes(shape)
    hu = made_pixels(planes, shape.size) if pixels is None else pixels
    if shape.multi_frame:
        headers, frames = (made_enhanced(shape, planes),) * shape.slices, tuple(range(shape.slices, 0, -1))
    else:
        headers, frames = tuple(made_header(shape, planes[k], k) for k in range(shape.slices)), (1,) * shape.slices
    found = tuple(made_finding(headers, planes, frames, hu, n) for n in range(findings)) if status == "finding" else ()
    by_slice = tuple(
        float(np.clip(0.04 + sum(k in f.region.slice_index for f in found) * 0.8, 0, 0.97)) for k in range(shape.slices)
    )
    score = {"finding": 0.93, "clean": 0.03, "unsure": 0.44, "not_read": None}[status]
    outcome = Outcome(status, score, found, None, warnings, MODEL, {"read": 1.0}, by_slice)
    return case_of(headers, planes, frames, hu, outcome)


def case_of(
    headers: tuple[Dataset, ...],
    planes: tuple[Plane, ...],
    frames: tuple[int, ...],
    hu: NDArray[np.int16],
    outcome: Outcome,
) -> ReportCase:
    return ReportCase(
        headers=headers,
        planes=planes,
        frames=frames,
        pixels=hu,
        outcome=outcome,
        pipeline="hemorrhage",
        looked_for=codes.INTRACRANIAL_HEMORRHAGE,
        site=codes.BRAIN,
        window=(40.0, 80.0),
        revision_digest="cd" * 32,
        configuration_hash="ef" * 8,
        made_at=MADE_AT,
        equipment=EQUIPMENT,
    )


def made_planes(shape: Shape) -> tuple[Plane, ...]:
    angle = np.radians(shape.tilt_degrees)
    sign = -1.0 if shape.flipped else 1.0
    column = (0.0, float(np.cos(angle)), float(-np.sin(angle)))
    gaps = [4.0 if shape.variable and k < shape.slices // 2 else 5.0 for k in range(shape.slices)]
    spacing = 220.0 / shape.size
    heights = np.concatenate([[0.0], np.cumsum(gaps[:-1])])
    start = np.array([sign * -110.0, -120.3, -30.7 + 120.3 * np.sin(angle)])
    return tuple(
        Plane(
            origin=(float(start[0]), float(start[1]), float(start[2] + heights[k] / np.cos(angle))),
            row_direction=(sign, 0.0, 0.0),
            column_direction=column,
            row_spacing_mm=spacing * (1.5 if shape.anisotropic else 1.0),
            column_spacing_mm=spacing,
            thickness_mm=gaps[k],
        )
        for k in range(shape.slices)
    )


def made_pixels(planes: tuple[Plane, ...], size: int) -> NDArray[np.int16]:
    """An ellipsoid head: skull, brain, two dark ventricles, a bright ball on the patient's left."""
    rows, columns = np.mgrid[:size, :size]
    hu = np.full((len(planes), size, size), -1000, np.int16)
    noise = np.random.default_rng(7).normal(0, 4, hu.shape)
    for k, plane in enumerate(planes):
        x, y, z = np.moveaxis(plane.patient_from_pixel(rows, columns), -1, 0)
        radius = np.sqrt((x / 75) ** 2 + ((y + 10) / 92) ** 2 + ((z - 5) / 75) ** 2)
        hu[k][radius < 1.0] = 900
        hu[k][radius < 0.92] = 32
        hu[k][np.hypot((np.abs(x) - 12) / 7, (y + 10) / 22) < 1] = 6
        hu[k][ball(x, y, z)] = 66
    return (hu + noise * (hu > -900)).astype(np.int16)


def ball(x: NDArray[np.float64], y: NDArray[np.float64], z: NDArray[np.float64], n: int = 0) -> NDArray[np.bool_]:
    center = ((38.0, -20.0, 2.0), (-36.0, 20.0, 12.0), (-40.0, -38.0, -8.0))[n]
    return ((x - center[0]) / 18) ** 2 + ((y - center[1]) / 26) ** 2 + ((z - center[2]) / 12) ** 2 < 1


def made_finding(
    headers: tuple[Dataset, ...],
    planes: tuple[Plane, ...],
    frames: tuple[int, ...],
    hu: NDArray[np.int16],
    n: int = 0,
) -> Finding:
    rows, columns = np.mgrid[: hu.shape[1], : hu.shape[2]]
    mask = np.stack([ball(*np.moveaxis(plane.patient_from_pixel(rows, columns), -1, 0), n) for plane in planes])
    return finding_of(headers, planes, frames, hu, mask, n=n)


def finding_of(
    headers: tuple[Dataset, ...],
    planes: tuple[Plane, ...],
    frames: tuple[int, ...],
    hu: NDArray[np.int16],
    mask: NDArray[np.bool_],
    *,
    n: int = 0,
) -> Finding:
    thickness = local_thicknesses_mm(planes)
    areas = mask.sum(axis=(1, 2))
    volume_ml = float(sum(a * p.pixel_area_mm2 * t for a, p, t in zip(areas, planes, thickness, strict=True))) / 1000
    key = int(areas.argmax())
    points = np.concatenate([plane.patient_from_pixel(*np.nonzero(mask[k])) for k, plane in enumerate(planes)])
    x, y, z = (float(v) for v in points.mean(axis=0))
    side: Side = "left" if x > 0 else "right"
    return Finding(
        kind=codes.INTRACRANIAL_HEMORRHAGE,
        label=codes.INTRACRANIAL_HEMORRHAGE.meaning,
        certainty=0.93 - 0.2 * n,
        region=Region.from_volume(mask),
        center_mm=(x, y, z),
        measurements=(
            Measurement("volume_ml", codes.VOLUME, volume_ml, codes.CUBIC_CENTIMETER),
            Measurement("long_axis_mm", codes.LONG_AXIS, 52.0, codes.MILLIMETER),
            Measurement("short_axis_mm", codes.SHORT_AXIS, 36.0, codes.MILLIMETER),
            Measurement("mean_hu", codes.MEAN_ATTENUATION, float(hu[mask].mean()), codes.HOUNSFIELD),
        ),
        key_instance_uid=str(headers[key].SOPInstanceUID),
        key_frame=frames[key],
        tracking_uid=derived_uid("test", "tracking", str(n)),
        side=side,
    )


def made_header(shape: Shape, plane: Plane, k: int) -> Dataset:
    ds = Dataset()
    ds.SpecificCharacterSet = shape.character_set if isinstance(shape.character_set, str) else [*shape.character_set]
    ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    ds.SOPClassUID = CTImageStorage
    ds.SOPInstanceUID = derived_uid("test", "image", str(k))
    ds.StudyDate, ds.SeriesDate, ds.ContentDate = "20261121", "20261121", "20261121"
    ds.StudyTime, ds.SeriesTime, ds.ContentTime = "101500", "101730", "101730"
    ds.AcquisitionDate, ds.AcquisitionTime = "20261121", "101730"
    ds.AccessionNumber = "A0012345"
    ds.Modality = "CT"
    ds.Manufacturer = "Maker"
    ds.InstitutionName = "Testklinik"
    ds.ReferringPhysicianName = "Doktor^Uwe"
    ds.StudyDescription = "CT Kopf nativ"
    ds.ManufacturerModelName = "Scanner"
    ds.PatientName = shape.patient_name
    ds.PatientID = "4711"
    ds.IssuerOfPatientID = "KIS"
    ds.PatientBirthDate = "19500101"
    ds.PatientSex = "M"
    ds.PatientAge = "076Y"
    ds.BodyPartExamined = "HEAD"
    ds.SliceThickness = plane.thickness_mm
    ds.KVP = "120"
    ds.PatientPosition = "HFS"
    ds.StudyInstanceUID = derived_uid("test", "study")
    ds.SeriesInstanceUID = derived_uid("test", "series")
    ds.StudyID = "1"
    ds.SeriesNumber = 2
    ds.AcquisitionNumber = 1
    ds.InstanceNumber = k + 1
    ds.ImagePositionPatient = [f"{v:.10g}" for v in plane.origin]
    ds.ImageOrientationPatient = [f"{v:.10g}" for v in (*plane.row_direction, *plane.column_direction)]
    if shape.frame_of_reference:
        ds.FrameOfReferenceUID = derived_uid("test", "frame of reference")
    ds.PositionReferenceIndicator = ""
    ds.SamplesPerPixel = 1
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.Rows = ds.Columns = shape.size
    ds.PixelSpacing = [f"{plane.row_spacing_mm:.10g}", f"{plane.column_spacing_mm:.10g}"]
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 1
    ds.RescaleIntercept, ds.RescaleSlope = "0", "1"
    return ds


def made_enhanced(shape: Shape, planes: tuple[Plane, ...]) -> Dataset:
    """An Enhanced CT header whose frames run the other way round than the slices."""
    ds = made_header(shape, planes[0], 0)
    ds.SOPClassUID = EnhancedCTImageStorage
    ds.NumberOfFrames = len(planes)
    return ds


def write_sources(case: ReportCase, folder: Path) -> list[Path]:
    """The case's source images as files."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for k, header in enumerate(case.headers):
        ds = Dataset(header)
        ds.PixelData = case.pixels[k].astype("<i2").tobytes()
        ds.file_meta = FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
        ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
        path = folder / f"{k:04}.dcm"
        ds.save_as(path, enforce_file_format=True)
        paths.append(path)
    return paths

"""What the made studies of every part of the body share: valid CT images (PS3.3, A.3), named after their options."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from pipelines.geometry import Plane
from pipelines.uids import derived_uid

Kernel = Literal["soft", "standard", "sharp"]
PatientPosition = Literal["HFS", "FFS", "HFP", "FFP"]
Progress = Callable[[int, int], None]

PADDING = -2000
"""What scanners commonly store outside of their round field of view."""


@dataclass(frozen=True, slots=True)
class MadeSeries:
    """What every image of a made series says.

    `part` is that of the body; `key` stands for all options: with `part` it names the UIDs. `window` is centre and
    width. A series with padding is stored signed, with `PADDING` as the value outside of the field of view.
    """

    part: Literal["head", "chest"]
    key: str
    seed: int
    description: str
    kernel: Kernel
    window: tuple[int, int]
    tilt_degrees: float = 0.0
    patient_position: PatientPosition = "HFS"
    study_date: str = "20250101"
    has_contrast: bool = False
    has_padding: bool = False

    def uid(self, *parts: str) -> str:
        """A UID that follows from the options."""
        return derived_uid(f"phantom.{self.part}", self.key, *parts)

    def image(self, k: int, plane: Plane, hu: NDArray[np.float32]) -> Dataset:
        """Image k (from 0) of the series: Hounsfield units `[row, column]` on `plane`."""
        dataset = self._dataset(k, plane)
        if self.has_contrast:
            dataset.ContrastBolusAgent = "Iodine"
        if self.has_padding:
            dataset.PixelPaddingValue = np.int16(PADDING).item()
        dataset.SamplesPerPixel = 1
        dataset.PhotometricInterpretation = "MONOCHROME2"
        dataset.Rows, dataset.Columns = hu.shape
        dataset.PixelSpacing = [round(plane.row_spacing_mm, 8), round(plane.column_spacing_mm, 8)]
        dataset.BitsAllocated = 16
        dataset.WindowCenter, dataset.WindowWidth = self.window
        dataset.RescaleSlope, dataset.RescaleType = 1, "HU"
        self._store(dataset, hu)
        return dataset

    def _store(self, dataset: Dataset, hu: NDArray[np.float32]) -> None:
        if self.has_padding:
            dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 15, 1
            dataset.RescaleIntercept = 0
            dataset.PixelData = np.clip(np.rint(hu), PADDING, 3071).astype("<i2").tobytes()
        else:
            dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 12, 11, 0
            dataset.RescaleIntercept = -1024
            dataset.PixelData = np.clip(np.rint(hu) + 1024, 0, 4095).astype("<u2").tobytes()

    def _dataset(self, k: int, plane: Plane) -> Dataset:
        dataset = Dataset()
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.SpecificCharacterSet = "ISO_IR 100"
        dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        dataset.SOPClassUID = CTImageStorage
        dataset.SOPInstanceUID = self.uid("instance", str(k))
        dataset.StudyDate = dataset.SeriesDate = dataset.AcquisitionDate = dataset.ContentDate = self.study_date
        dataset.StudyTime = dataset.SeriesTime = dataset.AcquisitionTime = dataset.ContentTime = "120000"
        dataset.AccessionNumber = ""
        dataset.Modality = "CT"
        dataset.Manufacturer = "triage-node phantom"
        dataset.ReferringPhysicianName = ""
        dataset.StudyDescription = f"{self.part.capitalize()} phantom"
        dataset.SeriesDescription = self.description
        dataset.PatientName = f"Phantom^{self.part.capitalize()}"
        dataset.PatientID = f"PHANTOM-{self.part.upper()}-{self.seed}"
        dataset.PatientBirthDate = ""
        dataset.PatientSex = "O"
        dataset.BodyPartExamined = self.part.upper()
        dataset.SliceThickness = plane.thickness_mm
        dataset.KVP = 120
        dataset.GantryDetectorTilt = self.tilt_degrees
        dataset.ConvolutionKernel = self.kernel.upper()
        dataset.PatientPosition = self.patient_position
        dataset.StudyInstanceUID = self.uid("study")
        dataset.SeriesInstanceUID = self.uid("series")
        dataset.StudyID = str(self.seed)
        dataset.SeriesNumber = 2
        dataset.AcquisitionNumber = 1
        dataset.InstanceNumber = k + 1
        dataset.ImagePositionPatient = [round(value, 6) for value in plane.origin]
        dataset.ImageOrientationPatient = [round(value, 8) for value in (*plane.row_direction, *plane.column_direction)]
        dataset.FrameOfReferenceUID = self.uid("frame of reference")
        dataset.PositionReferenceIndicator = ""
        dataset.SliceLocation = round(plane.position_mm, 3)
        dataset.ImageComments = "Made by a program; no patient."
        return dataset


def key_of(options: dict[str, Any]) -> str:
    """Options as one text, the same for the same options."""
    return json.dumps(options, sort_keys=True)


def write_images(
    out: Path, datasets: Sequence[Dataset], truth: dict[str, object], progress: Callable[[int], None]
) -> tuple[Path, ...]:
    """Write `IM0001.dcm` and so on, and `truth.json`, into a folder. `progress` hears how many images are written."""
    out.mkdir(parents=True, exist_ok=True)
    paths = []
    for number, dataset in enumerate(datasets, start=1):
        paths.append(out / f"IM{number:04d}.dcm")
        dataset.save_as(paths[-1], enforce_file_format=True)
        progress(number)
    (out / "truth.json").write_text(json.dumps(truth, indent=1) + "\n", encoding="utf-8")
    return tuple(paths)

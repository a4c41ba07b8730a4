"""Small CT series for tests, written as files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import CTImageStorage, EnhancedCTImageStorage, ExplicitVRLittleEndian, generate_uid

from pipelines.geometry import Plane

SHAPE = (16, 20)


def axial_plane(position: float, tilt_degrees: float = 0.0, thickness: float = 5.0) -> Plane:
    """A plane at a height z of a stack whose table moves along z under a tilted gantry."""
    tilt = np.radians(tilt_degrees)
    return Plane(
        (-10.0, -8.0, position), (1.0, 0.0, 0.0), (0.0, float(np.cos(tilt)), -float(np.sin(tilt))), 0.8, 0.6, thickness
    )


def ct_dataset(plane: Plane, stored: NDArray[np.integer] | None = None) -> Dataset:
    """A CT image with the stored values given (unsigned 16 bits), intercept -1024."""
    pixels = np.full(SHAPE, 1064, np.uint16) if stored is None else stored
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID = CTImageStorage
    dataset.SOPInstanceUID = generate_uid(entropy_srcs=[repr(plane)])
    dataset.SeriesInstanceUID = "2.25.1"
    dataset.FrameOfReferenceUID = "2.25.2"
    dataset.Modality = "CT"
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    dataset.ImagePositionPatient = [round(value, 6) for value in plane.origin]
    dataset.ImageOrientationPatient = [round(value, 8) for value in (*plane.row_direction, *plane.column_direction)]
    dataset.PixelSpacing = [plane.row_spacing_mm, plane.column_spacing_mm]
    dataset.SliceThickness = plane.thickness_mm
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 16, 15
    dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
    dataset.RescaleIntercept, dataset.RescaleSlope = -1024, 1
    dataset.PixelData = pixels.astype(pixels.dtype.newbyteorder("<")).tobytes()
    return dataset


def write(folder: Path, datasets: Sequence[Dataset]) -> list[Path]:
    """The files of data sets, in their order."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{number:03d}.dcm" for number in range(len(datasets))]
    for path, dataset in zip(paths, datasets, strict=True):
        dataset.save_as(path, enforce_file_format=True)
    return paths


def write_stack(
    folder: Path, positions: Sequence[float], change: Callable[[int, Dataset], None] = lambda _k, _dataset: None
) -> list[Path]:
    """An untilted stack at heights `positions`; `change` may spoil slice k."""
    datasets = [ct_dataset(axial_plane(position)) for position in positions]
    for k, dataset in enumerate(datasets):
        change(k, dataset)
    return write(folder, datasets)


def enhanced_ct(planes: Sequence[Plane], stored: NDArray[np.uint16]) -> Dataset:
    """The same as one Enhanced CT object; `stored` is `[frame, row, column]`."""
    dataset = ct_dataset(planes[0], stored[0])
    dataset.SOPClassUID = EnhancedCTImageStorage
    dataset.NumberOfFrames = len(planes)
    dataset.PixelData = stored.astype("<u2").tobytes()
    shared = Dataset()
    shared.PixelMeasuresSequence = [_only(dataset, "PixelSpacing", "SliceThickness")]
    shared.PlaneOrientationSequence = [_only(dataset, "ImageOrientationPatient")]
    shared.PixelValueTransformationSequence = [_only(dataset, "RescaleIntercept", "RescaleSlope")]
    shared.PixelValueTransformationSequence[0].RescaleType = "HU"
    dataset.SharedFunctionalGroupsSequence = [shared]
    dataset.PerFrameFunctionalGroupsSequence = [_frame_groups(plane) for plane in planes]
    for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness"):
        delattr(dataset, keyword)
    del dataset.RescaleIntercept, dataset.RescaleSlope
    return dataset


def _only(dataset: Dataset, *keywords: str) -> Dataset:
    item = Dataset()
    for keyword in keywords:
        item.add(dataset[keyword])
    return item


def _frame_groups(plane: Plane) -> Dataset:
    groups, position, kind = Dataset(), Dataset(), Dataset()
    position.ImagePositionPatient = list(plane.origin)
    kind.FrameType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    groups.PlanePositionSequence = [position]
    groups.CTImageFrameTypeSequence = [kind]
    return groups

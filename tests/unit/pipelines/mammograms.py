"""Small mammograms for tests, as data sets."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import (
    DigitalMammographyXRayImageStorageForPresentation,
    DigitalMammographyXRayImageStorageForProcessing,
    ExplicitVRLittleEndian,
    generate_uid,
)

SHAPE = (520, 400)
AIR, TISSUE = 20, 1500
VIEW_CODES = {"CC": ("399162004", "cranio-caudal"), "MLO": ("399368009", "medio-lateral oblique")}
ORIENTATION = {
    ("R", "CC"): ["P", "L"], ("L", "CC"): ["A", "R"], ("R", "MLO"): ["P", "FL"], ("L", "MLO"): ["A", "FR"],
}  # fmt: skip


def picture(side: str = "R", shape: tuple[int, int] = SHAPE) -> NDArray[np.uint16]:
    """Stored values of 12 bits, the caller's own: a breast that fades to its skin line, the chest wall as usual."""
    return _picture(side, shape).copy()


@cache
def _picture(side: str, shape: tuple[int, int]) -> NDArray[np.uint16]:
    rows, columns = np.indices(shape, dtype=np.float64)
    generator = np.random.default_rng(7)
    away = np.hypot((rows - shape[0] / 2) / (0.42 * shape[0]), columns / (0.65 * shape[1]))
    thickness = np.clip((1 - away) * 6, 0, 1)
    tissue = TISSUE + 250 * np.sin(rows / 17) * np.cos(columns / 23) + generator.normal(0, 20, shape)
    values = AIR + generator.normal(0, 3, shape) + thickness * (tissue - AIR)
    stored = np.clip(np.rint(values), 0, 4095).astype(np.uint16)
    return np.ascontiguousarray(stored[:, ::-1]) if side == "R" else stored


def mammogram(
    side: str = "R", view: str = "CC", stored: NDArray[Any] | None = None, *, raw: bool = False, **attributes: object
) -> Dataset:
    """A view as a data set; `attributes` replace those of their keywords, None takes them away."""
    stored = picture(side) if stored is None else stored
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID = (
        DigitalMammographyXRayImageStorageForProcessing if raw else DigitalMammographyXRayImageStorageForPresentation
    )
    dataset.SOPInstanceUID = generate_uid(entropy_srcs=[side, view, str(raw), repr(sorted(attributes))])
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = "2.25.1", "2.25.2"
    dataset.Modality = "MG"
    dataset.PresentationIntentType = "FOR PROCESSING" if raw else "FOR PRESENTATION"
    dataset.ImageType = ["ORIGINAL", "PRIMARY"]
    dataset.PatientID = "P1"
    dataset.StudyDate = dataset.AcquisitionDate = "20260301"
    dataset.BodyPartExamined = "BREAST"
    dataset.ImageLaterality = side
    dataset.ViewPosition = view
    dataset.ViewCodeSequence = [coded(VIEW_CODES[view][0])]
    dataset.PatientOrientation = ORIENTATION[side, view]
    dataset.ImagerPixelSpacing = [0.2, 0.2]
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.PresentationLUTShape = "IDENTITY"
    dataset.Rows, dataset.Columns = stored.shape
    dataset.BitsAllocated = 8 * stored.dtype.itemsize
    dataset.BitsStored = 12 if stored.dtype.itemsize == 2 else 8
    dataset.HighBit = dataset.BitsStored - 1
    dataset.PixelRepresentation = int(stored.dtype.kind == "i")
    dataset.WindowCenter, dataset.WindowWidth = 1024, 2048
    for keyword, value in attributes.items():
        if value is None:
            delattr(dataset, keyword)
        else:
            setattr(dataset, keyword, value)
    dataset.PixelData = stored.astype(stored.dtype.newbyteorder("<")).tobytes()
    return dataset


def coded(value: str, scheme: str = "SCT", modifiers: Sequence[Dataset] = ()) -> Dataset:
    """A view code with its modifiers."""
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, "as the value says"
    if modifiers:
        item.ViewModifierCodeSequence = list(modifiers)
    return item


def four_views() -> list[Dataset]:
    """A whole screening study."""
    return [mammogram(side, view) for view in ("CC", "MLO") for side in ("R", "L")]


def save(folder: Path, datasets: Sequence[Dataset]) -> list[Path]:
    """The files of data sets, in their order."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{number:03d}.dcm" for number in range(len(datasets))]
    for path, dataset in zip(paths, datasets, strict=True):
        dataset.save_as(path, enforce_file_format=True)
    return paths

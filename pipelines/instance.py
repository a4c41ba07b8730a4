"""One CT file to its frames: where each lies in the patient, and where its pixels lie in the file.

Files come from the network and may be hostile: whatever a parser raises leaves this module as a `Refusal`. Pixel data
is not read here; see `pipelines.pixels`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.uid import (
    UID,
    CTImageStorage,
    EnhancedCTImageStorage,
    LegacyConvertedEnhancedCTImageStorage,
)

from pipelines.attributes import items, numbers, strings, text, uid
from pipelines.foreign import refusing
from pipelines.geometry import Plane, Point
from pipelines.part10 import PixelData, check_syntax, encoding, is_lossy, padding, parse, shape
from pipelines.pixels import Pixels
from pipelines.reasons import refuse

LARGEST_SIDE = 4096
MULTI_FRAME = frozenset({EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage})
# Values 3 and later of Image Type (or Frame Type) that say a CT object is no stack of CT numbers to read.
NOT_READ_IMAGE_TYPES = frozenset({
    "LOCALIZER", "PERFUSION", "RCBF", "RCBV", "CBF", "CBV", "MTT", "TTP", "TMAX", "PARAMETRIC", "MAP", "MIP", "MAX_IP",
    "MIN_IP", "PROJECTION", "VRT", "SSD", "3D", "VOLUME_RENDERED", "DOSE_INFO", "PATIENT_INFO", "RESULTS",
    "REF_SURVIEW", "SCREENSHOT", "MATERIAL_MAP", "Z_EFF", "ELECTRON_DENSITY",
})  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One slice of a file, its pixels still encoded; `dataset` holds all but these.

    `number` counts from 1. `plane.thickness_mm` is 0 where the file does not say it.
    """

    dataset: Dataset
    instance_uid: str
    number: int
    plane: Plane
    pixels: Pixels
    frame_of_reference_uid: str
    is_lossy: bool

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.pixels.shape


def read_frames(path: Path) -> list[Frame]:
    """The frames of one file, pixels not yet decoded.

    Raises `Refusal` for what is no DICOM, no CT object with Hounsfield units (PS3.3, C.8.2.1 and C.8.15.3), lacks an
    attribute that a position or a CT number is computed from, or declares more than can be read.
    """
    dataset, data = parse(path)
    with refusing("input.malformed"):
        source = _Source(path, dataset, _check_kind(dataset, data), shape(dataset, LARGEST_SIDE))
        if text(dataset, "SOPClassUID") in MULTI_FRAME:
            return _frames_of_enhanced(source)
        _check_image_type(dataset)
        return [_frame(source, dataset, 1)]


@dataclass(frozen=True, slots=True, eq=False)
class _Source:
    """A file that holds frames of CT numbers."""

    path: Path
    dataset: Dataset
    data: PixelData
    shape: tuple[int, int]


def _check_kind(dataset: Dataset, data: PixelData | None) -> PixelData:
    """The pixel data, if they are such as can be CT numbers."""
    sop_class = text(dataset, "SOPClassUID")
    if sop_class not in MULTI_FRAME and sop_class != CTImageStorage:
        name = UID(sop_class).name
        raise refuse("input.not_an_image_to_read", detail="an unknown class" if name == sop_class else name)
    if text(dataset, "Modality") != "CT":
        raise refuse("input.not_an_image_to_read", detail="its modality is not CT")
    if data is None:
        raise refuse("input.pixel_data_missing")
    if data.keyword != "PixelData" or strings(dataset, "SamplesPerPixel") != ["1"]:
        raise refuse("input.not_ct_values", detail="not one whole number for each pixel")
    check_syntax(dataset)
    return data


def _check_image_type(attributes: Dataset, keyword: str = "ImageType") -> None:
    kinds = {value.upper().replace(" ", "_") for value in strings(attributes, keyword)[2:]}
    if unread := sorted(kinds & NOT_READ_IMAGE_TYPES):
        raise refuse("input.not_an_image_to_read", detail=f"image type {unread[0]}")


def _frames_of_enhanced(source: _Source) -> list[Frame]:
    """Frames of an Enhanced CT object: attributes from the shared and per-frame functional groups (PS3.3, C.7.6.16)."""
    dataset = source.dataset
    _check_image_type(dataset)
    shared = items(dataset, "SharedFunctionalGroupsSequence")
    each = items(dataset, "PerFrameFunctionalGroupsSequence")
    if len(each) != int(numbers(dataset, "NumberOfFrames", 1)[0]):
        raise refuse("input.invalid_attribute", keyword="NumberOfFrames")
    frames = []
    for number, groups in enumerate(each, start=1):
        attributes = Dataset()
        for item_of_groups in (*shared, groups):
            for keyword in (
                "PixelMeasuresSequence", "PlanePositionSequence", "PlaneOrientationSequence",
                "PixelValueTransformationSequence", "CTImageFrameTypeSequence",
            ):  # fmt: skip
                for item in items(item_of_groups, keyword):
                    attributes.update(item)
        _check_image_type(attributes, "FrameType")
        frames.append(_frame(source, attributes, number))
    return frames


def _frame(source: _Source, attributes: Dataset, number: int) -> Frame:
    # Absent means HU: the attribute is required only where it says something else (PS3.3, C.8.2.1).
    rescale_type = "".join(strings(attributes, "RescaleType")).upper() or "HU"
    if not rescale_type.startswith(("HU", "HOUNSFIELD")):
        raise refuse("input.not_ct_values", detail=f"rescale type {rescale_type[:16]}")
    slope, intercept = (numbers(attributes, keyword, 1)[0] for keyword in ("RescaleSlope", "RescaleIntercept"))
    if slope <= 0:
        raise refuse("input.invalid_attribute", keyword="RescaleSlope")
    dataset = source.dataset
    return Frame(
        dataset=dataset,
        instance_uid=uid(dataset, "SOPInstanceUID"),
        number=number,
        plane=_plane(attributes),
        pixels=Pixels(
            **encoding(source.path, dataset, source.data, source.shape, number),
            slope=slope,
            intercept=intercept,
            padding=padding(dataset),
        ),
        frame_of_reference_uid="".join(strings(dataset, "FrameOfReferenceUID")),
        is_lossy=is_lossy(dataset),
    )


def _plane(attributes: Dataset) -> Plane:
    x, y, z = numbers(attributes, "ImagePositionPatient", 3)
    row, column = _directions(*numbers(attributes, "ImageOrientationPatient", 6))
    row_spacing, column_spacing = numbers(attributes, "PixelSpacing", 2)
    if not (0.01 <= row_spacing <= 10 and 0.01 <= column_spacing <= 10):
        raise refuse("input.invalid_attribute", keyword="PixelSpacing")
    thickness = numbers(attributes, "SliceThickness", 1)[0] if strings(attributes, "SliceThickness") else 0.0
    return Plane((x, y, z), row, column, row_spacing, column_spacing, max(0.0, thickness))


@lru_cache(maxsize=16)
def _directions(*orientation: float) -> tuple[Point, Point]:
    """Unit vectors along rows and columns; the slices of a series share them."""
    directions = np.array(orientation).reshape(2, 3)
    lengths = np.linalg.norm(directions, axis=1)
    if np.abs(lengths - 1).max() > 0.01 or abs(float(directions[0] @ directions[1])) > 0.01:
        raise refuse("input.invalid_attribute", keyword="ImageOrientationPatient")
    row, column = directions / lengths[:, None]
    return _point(row), _point(column)


def _point(values: NDArray[np.float64]) -> Point:
    x, y, z = values.tolist()
    return (x, y, z)

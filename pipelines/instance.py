"""One CT file to its frames: where each lies in the patient, and where its pixels lie in the file.

Files come from the network and may be hostile: sizes are checked before anything is allocated, and whatever a parser
raises leaves this module as a `Refusal`. Pixel data is not read here; see `pipelines.pixels`.
"""

from __future__ import annotations

import os
import re
import struct
from dataclasses import dataclass
from functools import cache, lru_cache
from math import isfinite
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.errors import InvalidDicomError
from pydicom.multival import MultiValue
from pydicom.tag import BaseTag
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    UID,
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    EnhancedCTImageStorage,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLSNearLossless,
    LegacyConvertedEnhancedCTImageStorage,
)

from pipelines.foreign import FOREIGN_ERRORS, refusing
from pipelines.geometry import Plane, Point
from pipelines.pixels import Pixels
from pipelines.reasons import Refusal, refuse

LARGEST_FILE_BYTES = 2 << 30
LARGEST_DEFLATED_BYTES = 2 << 20  # inflating makes a thousand times as much of it at most
META_BYTES = 4096
LARGEST_SIDE = 4096
MULTI_FRAME = frozenset({EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage})
LOSSY = frozenset({JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLSNearLossless, JPEG2000, HTJ2K})
# Values 3 and later of Image Type (or Frame Type) that say a CT object is no stack of CT numbers to read.
NOT_READ_IMAGE_TYPES = frozenset({
    "LOCALIZER", "PERFUSION", "RCBF", "RCBV", "CBF", "CBV", "MTT", "TTP", "TMAX", "PARAMETRIC", "MAP", "MIP", "MAX_IP",
    "MIN_IP", "PROJECTION", "VRT", "SSD", "3D", "VOLUME_RENDERED", "DOSE_INFO", "PATIENT_INFO", "RESULTS",
    "REF_SURVIEW", "SCREENSHOT", "MATERIAL_MAP", "Z_EFF", "ELECTRON_DENSITY",
})  # fmt: skip
PIXEL_KEYWORDS = {0x7FE00008: "FloatPixelData", 0x7FE00009: "DoubleFloatPixelData", 0x7FE00010: "PixelData"}
PIXEL_VRS = frozenset({b"OB", b"OW", b"OF", b"OD", b"UN"})
UNDEFINED_LENGTH = 0xFFFFFFFF
ITEM, SEQUENCE_DELIMITER = 0xFFFEE000, 0xFFFEE0DD
# Value representations whose value is its text; the others need the parser's knowledge.
PLAIN_TEXT = frozenset({"CS", "DS", "IS", "LO", "UI"})


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


class _PixelData(NamedTuple):
    """Where the value of the pixel data begins in the file, and its length; None where it is undefined."""

    keyword: str
    offset: int
    length: int | None


def read_frames(path: Path) -> list[Frame]:
    """The frames of one file, pixels not yet decoded.

    Raises `Refusal` for what is no DICOM, no CT object with Hounsfield units (PS3.3, C.8.2.1 and C.8.15.3), lacks an
    attribute that a position or a CT number is computed from, or declares more than can be read.
    """
    dataset, data = _parse(path)
    with refusing("input.malformed"):
        source = _Source(path, dataset, _check_kind(dataset, data), _shape(dataset))
        if _text(dataset, "SOPClassUID") in MULTI_FRAME:
            return _frames_of_enhanced(source)
        _check_image_type(dataset)
        return [_frame(source, dataset, 1)]


@dataclass(frozen=True, slots=True, eq=False)
class _Source:
    """A file that holds frames of CT numbers."""

    path: Path
    dataset: Dataset
    data: _PixelData
    shape: tuple[int, int]


def _parse(path: Path) -> tuple[Dataset, _PixelData | None]:
    """The data set without its pixel data, and where that is."""
    try:
        with path.open("rb") as file:
            start = file.read(META_BYTES)
            size = os.fstat(file.fileno()).st_size
            limit = LARGEST_DEFLATED_BYTES if DeflatedExplicitVRLittleEndian.encode() in start else LARGEST_FILE_BYTES
            if size > limit:
                raise refuse("input.too_large", detail=f"a file of more than {limit >> 20} MiB")
            file.seek(0)
            dataset = dcmread(file, stop_before_pixels=True)
            if dataset.file_meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian:
                return _parse_deflated(file)
            return dataset, _locate_pixel_data(file, dataset)
    except Refusal:
        raise
    except InvalidDicomError as error:
        raise refuse("input.not_dicom") from error
    except EOFError as error:
        raise refuse("input.truncated") from error
    except FileNotFoundError as error:
        raise refuse("input.file_unreadable", detail=type(error).__name__) from error
    except FOREIGN_ERRORS as error:
        raise refuse("input.malformed", detail=type(error).__name__) from error


def _parse_deflated(file: BinaryIO) -> tuple[Dataset, _PixelData | None]:
    file.seek(0)
    dataset = dcmread(file)
    held = next((keyword for keyword in PIXEL_KEYWORDS.values() if dataset.pop(keyword, None) is not None), None)
    return dataset, None if held is None else _PixelData(held, 0, None)


def _locate_pixel_data(file: BinaryIO, dataset: Dataset) -> _PixelData | None:
    """What comes where the parser stopped (PS3.5, 7.1.2 and 7.1.3); compressed data is followed to its end."""
    _, is_little = dataset.original_encoding
    short, long = (struct.Struct(("<" if is_little else ">") + fields) for fields in ("HHI", "HH4xI"))
    begin = file.tell()
    header = file.read(long.size)
    if len(header) < long.size:
        return None
    # The encoding of the element itself counts, not what the file promises. No even length looks like these letters.
    layout = long if header[4:6] in PIXEL_VRS else short
    group, element, length = layout.unpack_from(header)
    keyword, offset = PIXEL_KEYWORDS[group << 16 | element], begin + layout.size
    if length != UNDEFINED_LENGTH:
        return _PixelData(keyword, offset, length)
    file.seek(offset)
    _follow_items(file, short)
    return _PixelData(keyword, offset, None)


def _follow_items(file: BinaryIO, layout: struct.Struct) -> None:
    """Refuse compressed pixel data that does not come to its end: a decoder may take half a frame for a whole one."""
    while len(header := file.read(layout.size)) == layout.size:
        group, element, length = layout.unpack(header)
        if group << 16 | element == SEQUENCE_DELIMITER:
            return
        if group << 16 | element != ITEM:
            raise refuse("input.malformed", detail="no item of pixel data")
        file.seek(length, os.SEEK_CUR)
    raise refuse("input.truncated")


def _check_kind(dataset: Dataset, data: _PixelData | None) -> _PixelData:
    """The pixel data, if they are such as can be CT numbers."""
    sop_class = _text(dataset, "SOPClassUID")
    if sop_class not in MULTI_FRAME and sop_class != CTImageStorage:
        name = UID(sop_class).name
        raise refuse("input.not_an_image_to_read", detail="an unknown class" if name == sop_class else name)
    if _text(dataset, "Modality") != "CT":
        raise refuse("input.not_an_image_to_read", detail="its modality is not CT")
    if data is None:
        raise refuse("input.pixel_data_missing")
    if data.keyword != "PixelData" or _strings(dataset, "SamplesPerPixel") != ["1"]:
        raise refuse("input.not_ct_values", detail="not one whole number for each pixel")
    if getattr(dataset, "file_meta", Dataset()).get("TransferSyntaxUID") is None:
        raise refuse("input.missing_attribute", keyword="TransferSyntaxUID")
    return data


def _check_image_type(attributes: Dataset, keyword: str = "ImageType") -> None:
    kinds = {value.upper().replace(" ", "_") for value in _strings(attributes, keyword)[2:]}
    if unread := sorted(kinds & NOT_READ_IMAGE_TYPES):
        raise refuse("input.not_an_image_to_read", detail=f"image type {unread[0]}")


def _shape(dataset: Dataset) -> tuple[int, int]:
    rows, columns = (int(_numbers(dataset, keyword, 1)[0]) for keyword in ("Rows", "Columns"))
    if rows < 1 or columns < 1:
        raise refuse("input.invalid_attribute", keyword="Rows")
    if max(rows, columns) > LARGEST_SIDE:
        raise refuse("input.too_large", detail=f"{rows} x {columns} pixels")
    return rows, columns


def _frames_of_enhanced(source: _Source) -> list[Frame]:
    """Frames of an Enhanced CT object: attributes from the shared and per-frame functional groups (PS3.3, C.7.6.16)."""
    dataset = source.dataset
    _check_image_type(dataset)
    shared = _items(dataset, "SharedFunctionalGroupsSequence")
    each = _items(dataset, "PerFrameFunctionalGroupsSequence")
    if len(each) != int(_numbers(dataset, "NumberOfFrames", 1)[0]):
        raise refuse("input.invalid_attribute", keyword="NumberOfFrames")
    frames = []
    for number, groups in enumerate(each, start=1):
        attributes = Dataset()
        for item_of_groups in (*shared, groups):
            for keyword in (
                "PixelMeasuresSequence", "PlanePositionSequence", "PlaneOrientationSequence",
                "PixelValueTransformationSequence", "CTImageFrameTypeSequence",
            ):  # fmt: skip
                for item in _items(item_of_groups, keyword):
                    attributes.update(item)
        _check_image_type(attributes, "FrameType")
        frames.append(_frame(source, attributes, number))
    return frames


def _frame(source: _Source, attributes: Dataset, number: int) -> Frame:
    # Absent means HU: the attribute is required only where it says something else (PS3.3, C.8.2.1).
    rescale_type = "".join(_strings(attributes, "RescaleType")).upper() or "HU"
    if not rescale_type.startswith(("HU", "HOUNSFIELD")):
        raise refuse("input.not_ct_values", detail=f"rescale type {rescale_type[:16]}")
    slope, intercept = (_numbers(attributes, keyword, 1)[0] for keyword in ("RescaleSlope", "RescaleIntercept"))
    if slope <= 0:
        raise refuse("input.invalid_attribute", keyword="RescaleSlope")
    dataset = source.dataset
    return Frame(
        dataset=dataset,
        instance_uid=_uid(dataset, "SOPInstanceUID"),
        number=number,
        plane=_plane(attributes),
        pixels=_pixels(source, number, slope, intercept),
        frame_of_reference_uid="".join(_strings(dataset, "FrameOfReferenceUID")),
        is_lossy=_strings(dataset, "LossyImageCompression") == ["01"] or dataset.file_meta.TransferSyntaxUID in LOSSY,
    )


def _pixels(source: _Source, number: int, slope: float, intercept: float) -> Pixels:
    dataset = source.dataset
    padding = _padding(dataset)
    with refusing("input.pixel_data_unreadable"):
        offsets = None
        if "ExtendedOffsetTable" in dataset:
            offsets = (dataset.ExtendedOffsetTable, dataset.ExtendedOffsetTableLengths)
        return Pixels(
            path=source.path,
            offset=source.data.offset,
            length=source.data.length,
            syntax=dataset.file_meta.TransferSyntaxUID,
            number=number,
            number_of_frames=_whole(dataset, "NumberOfFrames", 1),
            extended_offsets=offsets,
            shape=source.shape,
            bits_allocated=_whole(dataset, "BitsAllocated"),
            bits_stored=_whole(dataset, "BitsStored"),
            high_bit=_whole(dataset, "HighBit", _whole(dataset, "BitsStored") - 1),
            pixel_representation=_whole(dataset, "PixelRepresentation"),
            photometric_interpretation="".join(_strings(dataset, "PhotometricInterpretation")),
            slope=slope,
            intercept=intercept,
            padding=padding,
        )


def _plane(attributes: Dataset) -> Plane:
    x, y, z = _numbers(attributes, "ImagePositionPatient", 3)
    row, column = _directions(*_numbers(attributes, "ImageOrientationPatient", 6))
    row_spacing, column_spacing = _numbers(attributes, "PixelSpacing", 2)
    if not (0.01 <= row_spacing <= 10 and 0.01 <= column_spacing <= 10):
        raise refuse("input.invalid_attribute", keyword="PixelSpacing")
    thickness = _numbers(attributes, "SliceThickness", 1)[0] if _strings(attributes, "SliceThickness") else 0.0
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


def _padding(dataset: Dataset) -> tuple[int, int] | None:
    """Range of stored values outside the field of view (PS3.3, C.7.5.1.1.2), brought to the pixels' own signedness."""
    bits = int(_numbers(dataset, "BitsAllocated", 1)[0])
    is_signed = _strings(dataset, "PixelRepresentation") not in ([], ["0"])
    values = []
    for keyword in ("PixelPaddingValue", "PixelPaddingRangeLimit"):
        if _strings(dataset, keyword):
            value = int(_numbers(dataset, keyword, 1)[0]) % (1 << bits)
            values.append(value - (1 << bits) if is_signed and value >= 1 << (bits - 1) else value)
    return (min(values), max(values)) if values and "PixelPaddingValue" in dataset else None


def _items(dataset: Dataset, keyword: str) -> list[Dataset]:
    return list(dataset.get(keyword) or [])


def _text(dataset: Dataset, keyword: str) -> str:
    value = "\\".join(_strings(dataset, keyword))
    if not value:
        raise refuse("input.missing_attribute", keyword=keyword)
    return value


def _uid(dataset: Dataset, keyword: str) -> str:
    """A UID that can be handed on. Letters are let through (some anonymizers write them), paths are not."""
    value = _text(dataset, keyword)
    if re.fullmatch(r"[0-9A-Za-z][0-9A-Za-z.]{0,63}", value) is None:
        raise refuse("input.invalid_attribute", keyword=keyword)
    return value


def _whole(dataset: Dataset, keyword: str, absent: int | None = None) -> int:
    """A whole number; without a value for when it is absent, that raises `ValueError`."""
    values = _strings(dataset, keyword)
    if not values and absent is not None:
        return absent
    (value,) = values
    return int(value)


def _numbers(dataset: Dataset, keyword: str, count: int) -> list[float]:
    with refusing("input.invalid_attribute", keyword=keyword):
        numbers = [float(value) for value in _strings(dataset, keyword)]
        if not numbers:
            raise refuse("input.missing_attribute", keyword=keyword)
        if len(numbers) != count or not all(isfinite(number) and abs(number) < 1e7 for number in numbers):
            raise refuse("input.invalid_attribute", keyword=keyword)
        return numbers


def _strings(dataset: Dataset, keyword: str) -> list[str]:
    """The values of an attribute as text, none where it is absent or empty.

    Plain text and numbers of 16 bits are taken from the encoded element. To have the parser convert each of them costs
    as much as reading the pixels.
    """
    tag, usual_vr = _tag_and_vr(keyword)
    element = dataset.get_item(tag)
    if isinstance(element, RawDataElement) and element.value:
        vr = element.VR or usual_vr
        if vr in PLAIN_TEXT and element.value.isascii() and b"\x1b" not in element.value:
            return _split(element.value.decode("ascii"))
        if vr == "US" and len(element.value) == 2:
            return [str(int.from_bytes(element.value, "little" if element.is_little_endian else "big"))]
    value = dataset.get(tag)
    value = value.value if isinstance(value, DataElement) else value
    if value is None:
        return []
    return [str(item).strip() for item in value] if isinstance(value, MultiValue) else _split(str(value))


def _split(text: str) -> list[str]:
    stripped = text.rstrip("\0 ")
    return [value.strip() for value in stripped.split("\\")] if stripped.strip() else []


@cache
def _tag_and_vr(keyword: str) -> tuple[BaseTag, str]:
    tag = tag_for_keyword(keyword)
    assert tag is not None
    return BaseTag(tag), dictionary_VR(tag)

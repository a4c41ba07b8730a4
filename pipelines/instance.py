"""One CT file to its frames: where each lies, how its numbers become Hounsfield units, and those units on demand.

Files come from the network and may be hostile: sizes are checked before anything is allocated, and whatever a parser or
a decoder raises leaves this module as a `Refusal`.
"""

from __future__ import annotations

import os
import re
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import isfinite
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, config, dcmread
from pydicom.encaps import get_frame
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.multival import MultiValue
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    UID,
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    EnhancedCTImageStorage,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    LegacyConvertedEnhancedCTImageStorage,
)

from pipelines.codestream import declared
from pipelines.geometry import Plane, Point
from pipelines.reasons import Fact, refuse

# Warnings of the parser print the values they complain about, which may be a patient's: it is told to keep quiet.
config.settings.reading_validation_mode = config.IGNORE

OUTSIDE_HU = -1024
LARGEST_FILE_BYTES = 2 << 30
LARGEST_DEFLATED_BYTES = 2 << 20  # inflating makes a thousand times as much of it at most
META_BYTES = 4096
LARGEST_SIDE = 4096
MULTI_FRAME = frozenset({EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage})
LOSSY = frozenset({JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLSNearLossless, JPEG2000, HTJ2K})
# One decoder for each syntax. GDCM ends the process on some damaged streams, so it is left what no other one decodes.
PLUGINS = {
    **dict.fromkeys((JPEG2000Lossless, JPEG2000, HTJ2KLossless, HTJ2KLosslessRPCL, HTJ2K), "pylibjpeg"),
    **dict.fromkeys((JPEGLSLossless, JPEGLSNearLossless), "pyjpegls"),
    JPEGBaseline8Bit: "pillow",
    **dict.fromkeys((JPEGExtended12Bit, JPEGLossless, JPEGLosslessSV1), "gdcm"),
}
# Values 3 and later of Image Type (or Frame Type) that say a CT object is no stack of CT numbers to read.
NOT_READ_IMAGE_TYPES = frozenset({
    "LOCALIZER", "PERFUSION", "RCBF", "RCBV", "CBF", "CBV", "MTT", "TTP", "TMAX", "PARAMETRIC", "MAP", "MIP", "MAX_IP",
    "MIN_IP", "PROJECTION", "VRT", "SSD", "3D", "VOLUME_RENDERED", "DOSE_INFO", "PATIENT_INFO", "RESULTS",
    "REF_SURVIEW", "SCREENSHOT", "MATERIAL_MAP", "Z_EFF", "ELECTRON_DENSITY",
})  # fmt: skip
# What parsers and decoders were seen to raise on damaged input.
FOREIGN_ERRORS = (
    ArithmeticError, AssertionError, AttributeError, EOFError, LookupError, MemoryError, OSError, RuntimeError,
    TypeError, ValueError, struct.error, zlib.error, BytesLengthException,
)  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One slice of a file, its pixels still encoded in `dataset`.

    `number` counts from 1. `plane.thickness_mm` is 0 where the file does not say it. `padding` is the range of stored
    values that mean "outside the field of view".
    """

    dataset: Dataset
    instance_uid: str
    number: int
    plane: Plane
    shape: tuple[int, int]
    slope: float
    intercept: float
    padding: tuple[int, int] | None
    frame_of_reference_uid: str
    is_lossy: bool

    @property
    def gives_whole_hu(self) -> bool:
        """Whether its Hounsfield units are whole numbers."""
        return self.slope.is_integer() and self.intercept.is_integer()


@contextmanager
def refusing(code: str, **facts: Fact) -> Iterator[None]:
    """Turn what foreign code raises on damaged input into the refusal `code`; its `detail` is the error's kind only."""
    try:
        yield
    except FOREIGN_ERRORS as error:
        raise refuse(code, **{"detail": type(error).__name__, **facts}) from error


def read_frames(path: Path) -> list[Frame]:
    """The frames of one file, pixels not yet decoded.

    Raises `Refusal` for what is no DICOM, no CT object with Hounsfield units (PS3.3, C.8.2.1 and C.8.15.3), lacks an
    attribute that a position or a CT number is computed from, or declares more than can be read.
    """
    dataset = _parse(path)
    with refusing("input.malformed"):
        _check_kind(dataset)
        shape = _shape(dataset)
        if dataset["SOPClassUID"].value in MULTI_FRAME:
            return _frames_of_enhanced(dataset, shape)
        _check_image_type(dataset.get("ImageType"))
        return [_frame(dataset, dataset, 1, shape)]


def hounsfield(frame: Frame) -> NDArray[np.int16] | NDArray[np.float32]:
    """Decode a frame: int16 where slope and intercept are whole numbers, float32 elsewhere; never below -1024.

    The arithmetic is done in 32 bits, so that no stored value wraps. Raises `Refusal` when decoding fails.
    """
    raw = _stored_values(frame)
    if frame.gives_whole_hu:
        hu = raw.astype(np.int32)
        if frame.slope != 1:
            hu *= int(frame.slope)
        hu += int(frame.intercept)
        np.clip(hu, OUTSIDE_HU, np.iinfo(np.int16).max, out=hu)
        result: NDArray[np.int16] | NDArray[np.float32] = hu.astype(np.int16)
    else:
        result = np.maximum(raw.astype(np.float32) * np.float32(frame.slope) + np.float32(frame.intercept), OUTSIDE_HU)
    if frame.padding is not None:
        low, high = frame.padding
        result[(raw >= low) & (raw <= high)] = OUTSIDE_HU
    return result


def _parse(path: Path) -> Dataset:
    try:
        with path.open("rb") as file:
            start = file.read(META_BYTES)
            size = os.fstat(file.fileno()).st_size
            limit = LARGEST_DEFLATED_BYTES if DeflatedExplicitVRLittleEndian.encode() in start else LARGEST_FILE_BYTES
            if size > limit:
                raise refuse("input.too_large", detail=f"a file of more than {limit >> 20} MiB")
            file.seek(0)
            return dcmread(file)
    except InvalidDicomError as error:
        raise refuse("input.not_dicom") from error
    except EOFError as error:
        raise refuse("input.truncated") from error
    except FileNotFoundError as error:
        raise refuse("input.file_unreadable", detail=type(error).__name__) from error
    except FOREIGN_ERRORS as error:
        raise refuse("input.malformed", detail=type(error).__name__) from error


def _check_kind(dataset: Dataset) -> None:
    sop_class = _text(dataset, "SOPClassUID")
    if sop_class not in MULTI_FRAME and sop_class != CTImageStorage:
        name = UID(sop_class).name
        raise refuse("input.not_an_image_to_read", detail="an unknown class" if name == sop_class else name)
    if _text(dataset, "Modality") != "CT":
        raise refuse("input.not_an_image_to_read", detail="its modality is not CT")
    if not any(keyword in dataset for keyword in ("PixelData", "FloatPixelData", "DoubleFloatPixelData")):
        raise refuse("input.pixel_data_missing")
    if "PixelData" not in dataset or dataset.get("SamplesPerPixel") != 1:
        raise refuse("input.not_ct_values", detail="not one whole number for each pixel")
    if getattr(dataset, "file_meta", Dataset()).get("TransferSyntaxUID") is None:
        raise refuse("input.missing_attribute", keyword="TransferSyntaxUID")


def _check_image_type(image_type: object) -> None:
    values = image_type if isinstance(image_type, MultiValue) else ()
    kinds = {str(value).strip().upper().replace(" ", "_") for value in values[2:]}
    if unread := sorted(kinds & NOT_READ_IMAGE_TYPES):
        raise refuse("input.not_an_image_to_read", detail=f"image type {unread[0]}")


def _shape(dataset: Dataset) -> tuple[int, int]:
    rows, columns = (int(_numbers(dataset, keyword, 1)[0]) for keyword in ("Rows", "Columns"))
    if rows < 1 or columns < 1:
        raise refuse("input.invalid_attribute", keyword="Rows")
    if max(rows, columns) > LARGEST_SIDE:
        raise refuse("input.too_large", detail=f"{rows} x {columns} pixels")
    return rows, columns


def _frames_of_enhanced(dataset: Dataset, shape: tuple[int, int]) -> list[Frame]:
    """Frames of an Enhanced CT object: attributes from the shared and per-frame functional groups (PS3.3, C.7.6.16)."""
    _check_image_type(dataset.get("ImageType"))
    shared = _items(dataset, "SharedFunctionalGroupsSequence")
    each = _items(dataset, "PerFrameFunctionalGroupsSequence")
    if len(each) != int(_numbers(dataset, "NumberOfFrames", 1)[0]):
        raise refuse("input.invalid_attribute", keyword="NumberOfFrames")
    frames = []
    for number, groups in enumerate(each, start=1):
        attributes = Dataset()
        for source in (*shared, groups):
            for keyword in (
                "PixelMeasuresSequence", "PlanePositionSequence", "PlaneOrientationSequence",
                "PixelValueTransformationSequence", "CTImageFrameTypeSequence",
            ):  # fmt: skip
                for item in _items(source, keyword):
                    attributes.update(item)
        _check_image_type(attributes.get("FrameType"))
        frames.append(_frame(dataset, attributes, number, shape))
    return frames


def _frame(dataset: Dataset, attributes: Dataset, number: int, shape: tuple[int, int]) -> Frame:
    # Absent means HU: the attribute is required only where it says something else (PS3.3, C.8.2.1).
    rescale_type = str(attributes.get("RescaleType") or "HU").strip().upper()
    if not rescale_type.startswith(("HU", "HOUNSFIELD")):
        raise refuse("input.not_ct_values", detail=f"rescale type {rescale_type[:16]}")
    slope, intercept = (_numbers(attributes, keyword, 1)[0] for keyword in ("RescaleSlope", "RescaleIntercept"))
    if slope <= 0:
        raise refuse("input.invalid_attribute", keyword="RescaleSlope")
    lossy = dataset.get("LossyImageCompression") == "01" or dataset.file_meta.TransferSyntaxUID in LOSSY
    return Frame(
        dataset=dataset,
        instance_uid=_uid(dataset, "SOPInstanceUID"),
        number=number,
        plane=_plane(attributes),
        shape=shape,
        slope=slope,
        intercept=intercept,
        padding=_padding(dataset),
        frame_of_reference_uid=str(dataset.get("FrameOfReferenceUID") or ""),
        is_lossy=lossy,
    )


def _plane(attributes: Dataset) -> Plane:
    x, y, z = _numbers(attributes, "ImagePositionPatient", 3)
    orientation = np.array(_numbers(attributes, "ImageOrientationPatient", 6)).reshape(2, 3)
    lengths = np.linalg.norm(orientation, axis=1)
    if np.abs(lengths - 1).max() > 0.01 or abs(float(orientation[0] @ orientation[1])) > 0.01:
        raise refuse("input.invalid_attribute", keyword="ImageOrientationPatient")
    row, column = orientation / lengths[:, None]
    row_spacing, column_spacing = _numbers(attributes, "PixelSpacing", 2)
    if not (0.01 <= row_spacing <= 10 and 0.01 <= column_spacing <= 10):
        raise refuse("input.invalid_attribute", keyword="PixelSpacing")
    thickness = _numbers(attributes, "SliceThickness", 1)[0] if attributes.get("SliceThickness") else 0.0
    return Plane((x, y, z), _point(row), _point(column), row_spacing, column_spacing, max(0.0, thickness))


def _point(values: NDArray[np.float64]) -> Point:
    x, y, z = values.tolist()
    return (x, y, z)


def _padding(dataset: Dataset) -> tuple[int, int] | None:
    """Range of stored values outside the field of view (PS3.3, C.7.5.1.1.2), brought to the pixels' own signedness."""
    bits = int(_numbers(dataset, "BitsAllocated", 1)[0])
    is_signed = bool(dataset.get("PixelRepresentation", 0))
    values = []
    for keyword in ("PixelPaddingValue", "PixelPaddingRangeLimit"):
        if dataset.get(keyword) is not None and dataset.get(keyword) != "":
            value = int(_numbers(dataset, keyword, 1)[0]) % (1 << bits)
            values.append(value - (1 << bits) if is_signed and value >= 1 << (bits - 1) else value)
    return (min(values), max(values)) if values and "PixelPaddingValue" in dataset else None


def _stored_values(frame: Frame) -> NDArray[np.signedinteger | np.unsignedinteger]:
    dataset, (rows, columns) = frame.dataset, frame.shape
    syntax = dataset.file_meta.TransferSyntaxUID
    with refusing("input.pixel_data_unreadable"):
        bits = int(dataset.BitsAllocated)
        if not syntax.is_encapsulated and len(dataset.PixelData) < frame.number * rows * columns * bits // 8:
            raise refuse("input.truncated")
        if syntax in PLUGINS:
            _check_codestream(frame)
        plugin = PLUGINS.get(syntax, "")
        raw, _ = get_decoder(syntax).as_array(dataset, index=frame.number - 1, raw=True, decoding_plugin=plugin)
        if raw.shape != frame.shape:
            raise refuse("input.pixel_data_unreadable", detail="another size than declared")
        if not syntax.is_encapsulated and int(dataset.BitsStored) < bits:
            # Bits above the high bit are to be ignored (PS3.5, 8.1.1): old files keep overlays there.
            raw = (raw << (bits - 1 - int(dataset.HighBit))) >> (bits - int(dataset.BitsStored))
    return raw


def _check_codestream(frame: Frame) -> None:
    """Refuse a compressed frame that does not declare what the data set does, before a decoder is let at it."""
    count = int(frame.dataset.get("NumberOfFrames") or 1)
    encoded = get_frame(
        frame.dataset.PixelData,
        frame.number - 1,
        number_of_frames=count,
        extended_offsets=None
        if "ExtendedOffsetTable" not in frame.dataset
        else (frame.dataset.ExtendedOffsetTable, frame.dataset.ExtendedOffsetTableLengths),
    )
    if declared(encoded) != (*frame.shape, 1):
        raise refuse("input.pixel_data_unreadable", detail="another size than declared")


def _items(dataset: Dataset, keyword: str) -> list[Dataset]:
    return list(dataset.get(keyword) or [])


def _text(dataset: Dataset, keyword: str) -> str:
    value = str(dataset.get(keyword) or "").strip()
    if not value:
        raise refuse("input.missing_attribute", keyword=keyword)
    return value


def _uid(dataset: Dataset, keyword: str) -> str:
    """A UID that can be handed on. Letters are let through (some anonymizers write them), paths are not."""
    value = _text(dataset, keyword)
    if re.fullmatch(r"[0-9A-Za-z][0-9A-Za-z.]{0,63}", value) is None:
        raise refuse("input.invalid_attribute", keyword=keyword)
    return value


def _numbers(dataset: Dataset, keyword: str, count: int) -> list[float]:
    with refusing("input.invalid_attribute", keyword=keyword):
        value = dataset.get(keyword)
        if value is None or value in ("", []):
            raise refuse("input.missing_attribute", keyword=keyword)
        numbers = [float(value)] if count == 1 else [float(item) for item in value]
        if len(numbers) != count or not all(isfinite(number) and abs(number) < 1e7 for number in numbers):
            raise refuse("input.invalid_attribute", keyword=keyword)
        return numbers

"""One DICOM file to its data set, and where its pixels lie in it (PS3.10; PS3.5, section 7 and annex A).

Files come from the network and may be hostile: sizes are checked before anything is allocated, and whatever a parser
raises leaves this module as a `Refusal`. Pixel data is not read here; see `pipelines.pixels`.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from pydicom import Dataset, dcmread
from pydicom.errors import InvalidDicomError
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    DeflatedExplicitVRLittleEndian,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLSNearLossless,
)

from pipelines.attributes import numbers, strings, whole
from pipelines.foreign import FOREIGN_ERRORS, refusing
from pipelines.reasons import Refusal, refuse

LARGEST_FILE_BYTES = 2 << 30
LARGEST_DEFLATED_BYTES = 2 << 20  # inflating makes a thousand times as much of it at most
META_BYTES = 4096
LOSSY = frozenset({JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLSNearLossless, JPEG2000, HTJ2K})
PIXEL_KEYWORDS = {0x7FE00008: "FloatPixelData", 0x7FE00009: "DoubleFloatPixelData", 0x7FE00010: "PixelData"}
PIXEL_VRS = frozenset({b"OB", b"OW", b"OF", b"OD", b"UN"})
UNDEFINED_LENGTH = 0xFFFFFFFF
ITEM, SEQUENCE_DELIMITER = 0xFFFEE000, 0xFFFEE0DD


class PixelData(NamedTuple):
    """Where the value of the pixel data begins in the file, and its length; None where it is undefined."""

    keyword: str
    offset: int
    length: int | None


def parse(path: Path) -> tuple[Dataset, PixelData | None]:
    """The data set without its pixel data, and where that is (None where there is none).

    Raises `Refusal` for what is no DICOM, damaged, cut off or too large.
    """
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


def _parse_deflated(file: BinaryIO) -> tuple[Dataset, PixelData | None]:
    file.seek(0)
    dataset = dcmread(file)
    held = next((keyword for keyword in PIXEL_KEYWORDS.values() if dataset.pop(keyword, None) is not None), None)
    return dataset, None if held is None else PixelData(held, 0, None)


def _locate_pixel_data(file: BinaryIO, dataset: Dataset) -> PixelData | None:
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
        return PixelData(keyword, offset, length)
    file.seek(offset)
    _follow_items(file, short)
    return PixelData(keyword, offset, None)


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


def check_syntax(dataset: Dataset) -> None:
    """Refuse a file that does not say how it is encoded."""
    if getattr(dataset, "file_meta", Dataset()).get("TransferSyntaxUID") is None:
        raise refuse("input.missing_attribute", keyword="TransferSyntaxUID")


def shape(dataset: Dataset, largest_side: int) -> tuple[int, int]:
    """Rows and columns. Raises `Refusal` for those that are missing, none or too many."""
    rows, columns = (int(numbers(dataset, keyword, 1)[0]) for keyword in ("Rows", "Columns"))
    if rows < 1 or columns < 1:
        raise refuse("input.invalid_attribute", keyword="Rows")
    if max(rows, columns) > largest_side:
        raise refuse("input.too_large", detail=f"{rows} x {columns} pixels")
    return rows, columns


def padding(dataset: Dataset) -> tuple[int, int] | None:
    """Range of stored values outside the field of view (PS3.3, C.7.5.1.1.2), brought to the pixels' own signedness."""
    bits = int(numbers(dataset, "BitsAllocated", 1)[0])
    is_signed = strings(dataset, "PixelRepresentation") not in ([], ["0"])
    values = []
    for keyword in ("PixelPaddingValue", "PixelPaddingRangeLimit"):
        if strings(dataset, keyword):
            value = int(numbers(dataset, keyword, 1)[0]) % (1 << bits)
            values.append(value - (1 << bits) if is_signed and value >= 1 << (bits - 1) else value)
    return (min(values), max(values)) if values and "PixelPaddingValue" in dataset else None


def is_lossy(dataset: Dataset) -> bool:
    """Whether the pixels were ever compressed with loss."""
    return strings(dataset, "LossyImageCompression") == ["01"] or dataset.file_meta.TransferSyntaxUID in LOSSY


def encoding(path: Path, dataset: Dataset, data: PixelData, shape: tuple[int, int], number: int = 1) -> dict[str, Any]:
    """What `pipelines.pixels.StoredPixels` takes of the file for frame `number`."""
    with refusing("input.pixel_data_unreadable"):
        offsets = None
        if "ExtendedOffsetTable" in dataset:
            offsets = (dataset.ExtendedOffsetTable, dataset.ExtendedOffsetTableLengths)
        return {
            "path": path,
            "offset": data.offset,
            "length": data.length,
            "syntax": dataset.file_meta.TransferSyntaxUID,
            "number": number,
            "number_of_frames": whole(dataset, "NumberOfFrames", 1),
            "extended_offsets": offsets,
            "shape": shape,
            "bits_allocated": whole(dataset, "BitsAllocated"),
            "bits_stored": whole(dataset, "BitsStored"),
            "high_bit": whole(dataset, "HighBit", whole(dataset, "BitsStored") - 1),
            "pixel_representation": whole(dataset, "PixelRepresentation"),
            "photometric_interpretation": "".join(strings(dataset, "PhotometricInterpretation")),
        }

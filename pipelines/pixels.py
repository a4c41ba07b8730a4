"""The pixels of one frame: where they lie in their file, how they are decoded, and how they become Hounsfield units.

A frame is small and can be sent to another process, so that a frame is decoded wherever there is a core for it.
Nothing is trusted: sizes are checked before a decoder is let at the data, and what it raises leaves as a `Refusal`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.encaps import encapsulate, get_frame
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    UID,
    DeflatedExplicitVRLittleEndian,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
)

from pipelines.codestream import declared
from pipelines.foreign import refusing
from pipelines.reasons import refuse

OUTSIDE_HU = -1024
# One decoder for each syntax. GDCM ends the process on some damaged streams, so it is left what no other one decodes.
PLUGINS = {
    **dict.fromkeys((JPEG2000Lossless, JPEG2000, HTJ2KLossless, HTJ2KLosslessRPCL, HTJ2K), "pylibjpeg"),
    **dict.fromkeys((JPEGLSLossless, JPEGLSNearLossless), "pyjpegls"),
    JPEGBaseline8Bit: "pillow",
    **dict.fromkeys((JPEGExtended12Bit, JPEGLossless, JPEGLosslessSV1), "gdcm"),
}
HounsfieldUnits = NDArray[np.int16] | NDArray[np.float32]
StoredValues = NDArray[np.signedinteger | np.unsignedinteger]


@dataclass(frozen=True, slots=True)
class StoredPixels:
    """One frame of a file, still encoded.

    `offset` is the place in the file of the value of Pixel Data (0 where the data set is deflated), `length` its length
    in bytes, None where it is undefined. `number` counts the frames from 1. The others are the attributes of their
    names (PS3.3, C.7.6.3).
    """

    path: Path
    offset: int
    length: int | None
    syntax: UID
    number: int
    number_of_frames: int
    extended_offsets: tuple[bytes, bytes] | None
    shape: tuple[int, int]
    bits_allocated: int
    bits_stored: int
    high_bit: int
    pixel_representation: int
    photometric_interpretation: str

    @property
    def is_compressed(self) -> bool:
        return self.syntax.is_encapsulated

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the numbers that `decode` gives."""
        return np.dtype(f"{'ui'[self.pixel_representation]}{self.bits_allocated // 8}")

    def decode(self) -> NDArray[Any]:
        """The stored values `[row, column]`. Raises `Refusal` when decoding fails."""
        return stored_values(self)


@dataclass(frozen=True, slots=True)
class Pixels(StoredPixels):
    """One frame of CT numbers.

    `padding` is the range of stored values that mean "outside the field of view", `slope` and `intercept` those of the
    rescaling to Hounsfield units.
    """

    slope: float
    intercept: float
    padding: tuple[int, int] | None

    @property
    def gives_whole_hu(self) -> bool:
        """Whether its Hounsfield units are whole numbers."""
        return self.slope.is_integer() and self.intercept.is_integer()

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(np.int16 if self.gives_whole_hu else np.float32)

    def decode(self) -> NDArray[Any]:
        return hounsfield(self)


def stored_values(pixels: StoredPixels) -> StoredValues:
    """Decode a frame, bits above the high bit cleared. Raises `Refusal` when decoding fails."""
    with refusing("input.pixel_data_unreadable"), pixels.path.open("rb", buffering=0) as file:
        return _decoded(pixels, file) if pixels.is_compressed else _native(pixels, file)


def hounsfield(pixels: Pixels) -> HounsfieldUnits:
    """Decode a frame: int16 where slope and intercept are whole numbers, float32 elsewhere; never below -1024.

    No stored value wraps. Raises `Refusal` when decoding fails.
    """
    raw = stored_values(pixels)
    with refusing("input.pixel_data_unreadable"):
        outside = _outside(raw, pixels)
        fits = pixels.slope == 1 and abs(pixels.intercept) < 1 << 15 and raw.dtype.itemsize == 2
        hu = _shifted(raw, int(pixels.intercept)) if fits and pixels.gives_whole_hu else _scaled(raw, pixels)
        if outside is not None:
            hu[outside] = OUTSIDE_HU
    return hu


def _native(pixels: StoredPixels, file: BinaryIO) -> StoredValues:
    rows, columns = pixels.shape
    size = rows * columns * pixels.bits_allocated // 8
    encoded = _native_bytes(pixels, file, size)
    if len(encoded) < size:
        raise refuse("input.truncated")
    if pixels.bits_allocated == 16 and _has_plain_values(pixels):
        order, kind = "<" if pixels.syntax.is_little_endian else ">", "ui"[pixels.pixel_representation]
        stored = np.frombuffer(encoded, f"{order}{kind}2").reshape(pixels.shape)
        raw: StoredValues = stored.astype(stored.dtype.newbyteorder("="), copy=False)
    else:
        raw = _by_pydicom(pixels, bytes(encoded))
    if pixels.bits_stored < pixels.bits_allocated:
        # Bits above the high bit are to be ignored (PS3.5, 8.1.1): old files keep overlays there.
        raw <<= pixels.bits_allocated - 1 - pixels.high_bit
        raw >>= pixels.bits_allocated - pixels.bits_stored
    return raw


def _has_plain_values(pixels: StoredPixels) -> bool:
    return 1 <= pixels.bits_stored <= 16 and pixels.photometric_interpretation in {"MONOCHROME1", "MONOCHROME2"}


def _native_bytes(pixels: StoredPixels, file: BinaryIO, size: int) -> bytearray:
    """The bytes of the frame, as many of them as there are; they are the caller's to change."""
    start = (pixels.number - 1) * size
    if pixels.syntax == DeflatedExplicitVRLittleEndian:
        return bytearray(dcmread(file).PixelData[start : start + size])
    if pixels.length is None:
        raise refuse("input.pixel_data_unreadable", detail="its length is not said")
    encoded = bytearray(max(0, min(size, pixels.length - start)))
    file.seek(pixels.offset + start)
    return encoded[: file.readinto(encoded)]  # type: ignore[attr-defined]  # an unbuffered file reads into a buffer


def _decoded(pixels: StoredPixels, file: BinaryIO) -> StoredValues:
    file.seek(pixels.offset)
    encoded = get_frame(
        file,
        pixels.number - 1,
        number_of_frames=pixels.number_of_frames,
        extended_offsets=pixels.extended_offsets,
    )
    if pixels.syntax in PLUGINS and declared(encoded) != (*pixels.shape, 1):
        raise refuse("input.pixel_data_unreadable", detail="another size than declared")
    return _by_pydicom(pixels, encapsulate([encoded], has_bot=False))


def _by_pydicom(pixels: StoredPixels, encoded: bytes) -> StoredValues:
    rows, columns = pixels.shape
    options: dict[str, Any] = {
        "rows": rows,
        "columns": columns,
        "number_of_frames": 1,
        "samples_per_pixel": 1,
        "bits_allocated": pixels.bits_allocated,
        "bits_stored": pixels.bits_stored,
        "pixel_representation": pixels.pixel_representation,
        "photometric_interpretation": pixels.photometric_interpretation,
        "pixel_keyword": "PixelData",
    }
    plugin = PLUGINS.get(pixels.syntax, "")
    raw, _ = get_decoder(pixels.syntax).as_array(encoded, index=0, raw=True, decoding_plugin=plugin, **options)
    if raw.shape != pixels.shape:
        raise refuse("input.pixel_data_unreadable", detail="another size than declared")
    return np.require(raw, raw.dtype.newbyteorder("="), ["C", "W"])


def _outside(raw: StoredValues, pixels: Pixels) -> NDArray[np.bool_] | None:
    """Where the padding is, if it does not end up outside by its value already."""
    if pixels.padding is None:
        return None
    low, high = pixels.padding
    if high * pixels.slope + pixels.intercept <= OUTSIDE_HU:
        return None
    return (raw >= low) & (raw <= high)


def _shifted(raw: StoredValues, intercept: int) -> NDArray[np.int16]:
    """Add the intercept to 16-bit values in place, after what would leave the range is brought to its edge."""
    limits = np.iinfo(raw.dtype)
    lowest, highest = OUTSIDE_HU - intercept, np.iinfo(np.int16).max - intercept
    np.clip(raw, max(lowest, limits.min), min(highest, limits.max), out=raw)
    hu = raw.view(np.int16)
    hu += np.int16(intercept)  # an unsigned value above 32767 comes back from its wrapping here
    return hu


def _scaled(raw: StoredValues, pixels: Pixels) -> HounsfieldUnits:
    """The general way; whole numbers are reckoned with in 64 bits."""
    if not pixels.gives_whole_hu:
        hu: NDArray[np.float32] = raw.astype(np.float32) * np.float32(pixels.slope) + np.float32(pixels.intercept)
        np.maximum(hu, OUTSIDE_HU, out=hu)
        return hu
    whole = raw.astype(np.int64) * int(pixels.slope) + int(pixels.intercept)
    return np.clip(whole, OUTSIDE_HU, np.iinfo(np.int16).max).astype(np.int16)

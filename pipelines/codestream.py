"""What the head of a compressed frame says it holds, read before a decoder is let at it.

Decoders trust these few bytes: one that declares more pixels or components than the data set costs memory, or the
process. Marker segments: JPEG and JPEG-LS in ITU-T T.81 B.2.2 and T.87 C.2.2, JPEG 2000 in ISO/IEC 15444-1 A.5.1.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

JPEG_START, J2K_START = b"\xff\xd8", b"\xff\x4f\xff\x51"
J2K_BOX_START = b"\x00\x00\x00\x0cjP  "
START_OF_FRAME = frozenset({0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF, 0xF7})


class Declared(NamedTuple):
    """Size and number of components that a codestream declares."""

    rows: int
    columns: int
    components: int


def declared(frame: bytes) -> Declared:
    """What a JPEG, JPEG-LS or JPEG 2000 frame declares. Raises `ValueError` when it is none of these or is cut."""
    try:
        if frame.startswith(JPEG_START):
            return _jpeg(frame)
        if frame.startswith(J2K_BOX_START):
            frame = frame[frame.index(J2K_START) :]
        if frame.startswith(J2K_START):
            _, _, right, bottom, left, top = struct.unpack_from(">HHIIII", frame, 4)
            (components,) = struct.unpack_from(">H", frame, 40)
            return Declared(bottom - top, right - left, components)
    except struct.error as error:
        raise ValueError("the codestream is cut") from error
    raise ValueError("the codestream is of no known kind")


def _jpeg(frame: bytes) -> Declared:
    at = 2
    while True:
        mark, marker, length = struct.unpack_from(">BBH", frame, at)
        if mark != 0xFF:
            raise ValueError("the codestream has no start of frame")
        if marker == 0xFF:  # fill byte
            at += 1
        elif marker in START_OF_FRAME:
            _, rows, columns, components = struct.unpack_from(">BHHB", frame, at + 4)
            return Declared(rows, columns, components)
        else:
            at += 2 + length

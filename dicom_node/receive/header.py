"""The few attributes of a data set that the ledger wants, read without decoding the rest and within stated limits.

Nothing a sender writes makes this recurse, allocate by a declared length or run on: nested content is walked with a
counter, lengths are checked against what is there, and the number of elements is bounded.
"""

from __future__ import annotations

import re
import warnings
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from struct import Struct
from typing import TypeAlias

from pydicom.charset import convert_encodings, decode_bytes

from dicom_node.receive.transfer_syntaxes import DEFLATED, IMPLICIT_LITTLE_ENDIAN
from pipelines.reasons import Reason, TriageError

Buffer: TypeAlias = "bytes | memoryview"

MAXIMUM_ELEMENTS = 1_000_000
MAXIMUM_INFLATED_BYTES = 16 * 2**20
LONGEST_VALUE = 1024
LONGEST_UID = 64

SPECIFIC_CHARACTER_SET = 0x0008_0005
SOP_CLASS_UID, SOP_INSTANCE_UID = 0x0008_0016, 0x0008_0018
STUDY_INSTANCE_UID, SERIES_INSTANCE_UID = 0x0020_000D, 0x0020_000E
STUDY_DATE, ACCESSION_NUMBER, MODALITY = 0x0008_0020, 0x0008_0050, 0x0008_0060
STUDY_DESCRIPTION, SERIES_DESCRIPTION = 0x0008_1030, 0x0008_103E
PATIENT_NAME, PATIENT_ID = 0x0010_0010, 0x0010_0020

_UIDS = {
    SOP_CLASS_UID: "SOPClassUID",
    SOP_INSTANCE_UID: "SOPInstanceUID",
    STUDY_INSTANCE_UID: "StudyInstanceUID",
    SERIES_INSTANCE_UID: "SeriesInstanceUID",
}
_TEXTS = (PATIENT_ID, PATIENT_NAME, ACCESSION_NUMBER, STUDY_DATE, STUDY_DESCRIPTION, MODALITY, SERIES_DESCRIPTION)
_WANTED = frozenset((SPECIFIC_CHARACTER_SET, *_UIDS, *_TEXTS))
_LAST_WANTED = max(_WANTED)

_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFE_E000, 0xFFFE_E00D, 0xFFFE_E0DD
_UNDEFINED = 0xFFFF_FFFF
_LONG_FORM = frozenset((b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"))
_DELIMITERS = {ord(character) for character in "\\^="}
_TAG, _SHORT, _LONG = Struct("<HH"), Struct("<H"), Struct("<I")


class HeaderError(TriageError):
    """The attributes that every instance must have cannot be read."""

    def __init__(self, detail: str) -> None:
        super().__init__(Reason("receive.data_set_unreadable", {"detail": detail}))


@dataclass(frozen=True, slots=True)
class Header:
    """Who and what an instance is. UIDs are checked; texts are decoded, and empty where the data set says nothing."""

    sop_class_uid: str
    sop_instance_uid: str
    study_instance_uid: str
    series_instance_uid: str
    patient_id: str
    patient_name: str
    accession_number: str
    study_date: str
    study_description: str
    modality: str
    series_description: str


def is_uid(value: str) -> bool:
    """PS3.5, 9.1: digits and periods, at most 64. Leading zeros of a component are let pass, for senders write them."""
    return len(value) <= LONGEST_UID and re.fullmatch(r"[0-9]+(\.[0-9]+)*", value) is not None


def read_header(data_set: Buffer, transfer_syntax_uid: str) -> Header:
    """The header of an encoded data set. Raises `HeaderError`, whose text names no value of the data set."""
    if transfer_syntax_uid == DEFLATED:
        data_set = _inflate(data_set)
    values = _Walk(data_set, explicit=transfer_syntax_uid != IMPLICIT_LITTLE_ENDIAN).wanted_values()
    uids = [_uid(values, tag) for tag in _UIDS]
    encodings = _encodings(values.get(SPECIFIC_CHARACTER_SET, b""))
    return Header(*uids, *(_text(values.get(tag, b""), encodings) for tag in _TEXTS))


def _inflate(data_set: Buffer) -> bytes:
    try:
        return zlib.decompressobj(-zlib.MAX_WBITS).decompress(data_set, MAXIMUM_INFLATED_BYTES)
    except zlib.error as error:
        raise HeaderError("it cannot be inflated") from error


def _uid(values: Mapping[int, bytes], tag: int) -> str:
    value = values.get(tag, b"").rstrip(b"\0 ").decode("ascii", "replace")
    if not value:
        raise HeaderError(f"{_UIDS[tag]} is missing")
    if not is_uid(value):
        raise HeaderError(f"{_UIDS[tag]} is invalid")
    return value


def _encodings(value: bytes) -> list[str]:
    terms = [term.strip() for term in value.decode("ascii", "replace").split("\\")]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an unknown character set falls back to the default one
        return list(convert_encodings(terms)) if any(terms) else ["iso8859"]


def _text(value: bytes, encodings: list[str]) -> str:
    """One line of printable text; what cannot be decoded becomes a replacement character."""
    if value.isascii() and b"\x1b" not in value:
        decoded = value.decode("ascii")
    else:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            decoded = decode_bytes(value, encodings, _DELIMITERS)
    if not decoded.isprintable():
        decoded = "".join(character for character in decoded if character.isprintable())
    return decoded.strip()


class _Walk:
    """A walk over the top level of a data set, element after element."""

    def __init__(self, data_set: Buffer, *, explicit: bool) -> None:
        self._data = data_set
        self._end = len(data_set)
        self._explicit = explicit
        self._at = 0
        self._elements = 0

    def wanted_values(self) -> dict[int, bytes]:
        """What is wanted, up to the point where all of it has been passed and every UID was found.

        A data set whose elements are out of order is walked to its end.
        """
        values: dict[int, bytes] = {}
        while self._at < self._end:
            tag, length, implicit_inside = self._element(explicit=self._explicit)
            if tag > _LAST_WANTED and _UIDS.keys() <= values.keys():
                break
            if length == _UNDEFINED:
                self._skip_undefined(explicit=self._explicit and not implicit_inside)
                continue
            start = self._at
            self._skip(length)
            if tag in _WANTED and tag not in values:
                values[tag] = bytes(self._data[start : start + min(length, LONGEST_VALUE)])
        return values

    def _element(self, *, explicit: bool) -> tuple[int, int, bool]:
        """Tag, length, and whether the content is implicit in any case (PS3.5, 6.2.2: UN of undefined length)."""
        self._elements += 1
        if self._elements > MAXIMUM_ELEMENTS:
            raise HeaderError("too many elements")
        at, data = self._at, self._data
        if at + 8 > self._end:
            raise HeaderError("it is cut short")
        group, element = _TAG.unpack_from(data, at)
        representation = bytes(data[at + 4 : at + 6])
        self._at = at + 8
        tag = group << 16 | element
        if not explicit or group == 0xFFFE or not representation.isalpha():
            return tag, _LONG.unpack_from(data, at + 4)[0], False
        if representation not in _LONG_FORM:
            return tag, _SHORT.unpack_from(data, at + 6)[0], False
        if at + 12 > self._end:
            raise HeaderError("it is cut short")
        self._at = at + 12
        return tag, _LONG.unpack_from(data, at + 8)[0], representation == b"UN"

    def _skip(self, length: int) -> None:
        if length > self._end - self._at:
            raise HeaderError("it is cut short")
        self._at += length

    def _skip_undefined(self, *, explicit: bool) -> None:
        """Pass over a sequence, or encapsulated fragments, of undefined length, however deeply nested."""
        implicit_since = 0  # the depth from which on content is implicit; 0 for none
        depth = 1
        while depth:
            tag, length, implicit_inside = self._element(explicit=explicit and not implicit_since)
            if tag in (_ITEM_END, _SEQUENCE_END):
                depth -= 1
                implicit_since = 0 if depth < implicit_since else implicit_since
            elif length == _UNDEFINED:
                depth += 1
                if implicit_inside and not implicit_since:
                    implicit_since = depth
            else:
                self._skip(length)

"""The head of a DICOM file: preamble, prefix and file meta information (PS3.10, 7.1)."""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct

from dicom_node.receive.policy import Announced
from dicom_node.receive.transfer_syntaxes import EXPLICIT_LITTLE_ENDIAN, IMPLICIT_LITTLE_ENDIAN
from pipelines.reasons import refuse
from reporting.uids import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME

_PREAMBLE = bytes(128) + b"DICM"
_SHORT_FORM, _LONG_FORM = Struct("<HH2sH"), Struct("<HH2sHI")
_LONG_REPRESENTATIONS = (b"OB", b"UN", b"OW", b"SQ", b"UT")
_SOP_CLASS, _SOP_INSTANCE, _TRANSFER_SYNTAX = 0x02, 0x03, 0x10


@dataclass(frozen=True, slots=True)
class Opened:
    """What a file says of its data set, and the byte at which that starts."""

    announced: Announced
    data_set_offset: int


def encode_meta(announced: Announced) -> bytes:
    """Everything that stands before the data set."""
    elements = b"".join(
        (
            _LONG_FORM.pack(2, 0x01, b"OB", 0, 2) + b"\0\1",
            _text(_SOP_CLASS, b"UI", announced.sop_class_uid),
            _text(_SOP_INSTANCE, b"UI", announced.sop_instance_uid),
            _text(_TRANSFER_SYNTAX, b"UI", announced.transfer_syntax_uid),
            _text(0x12, b"UI", IMPLEMENTATION_CLASS_UID),
            _text(0x13, b"SH", IMPLEMENTATION_VERSION_NAME),
        )
    )
    return _PREAMBLE + _SHORT_FORM.pack(2, 0, b"UL", 4) + len(elements).to_bytes(4, "little") + elements


def open_file(head: bytes) -> Opened:
    """Read the first bytes of a file. Raises `Refusal` (`input.not_dicom`).

    A file without file meta information is taken for one when it starts with an element of group 0008, as files of
    old programs do; its data set then has to say itself what it is.
    """
    if head[128:132] != b"DICM":
        return _open_bare(head)
    values, at = _group_two(head)
    uids = [
        values.get(element, b"").rstrip(b"\0 ").decode("ascii", "replace")
        for element in (_SOP_CLASS, _SOP_INSTANCE, _TRANSFER_SYNTAX)
    ]
    return Opened(Announced(*uids), at)


def _open_bare(head: bytes) -> Opened:
    if len(head) < 8 or head[:2] != b"\x08\x00":
        raise refuse("input.not_dicom")
    explicit = head[4:6].isalpha() and head[4:6].isupper()
    return Opened(Announced("", "", EXPLICIT_LITTLE_ENDIAN if explicit else IMPLICIT_LITTLE_ENDIAN), 0)


def _group_two(head: bytes) -> tuple[dict[int, bytes], int]:
    values: dict[int, bytes] = {}
    at = len(_PREAMBLE)
    while head[at : at + 2] == b"\x02\x00" and at + 12 <= len(head):
        _, element, representation, length = _SHORT_FORM.unpack_from(head, at)
        at += 8
        if representation in _LONG_REPRESENTATIONS:
            length = int.from_bytes(head[at : at + 4], "little")
            at += 4
        values[element] = head[at : at + length]
        at += length
    return values, at


def _text(element: int, representation: bytes, value: str) -> bytes:
    encoded = value.encode("ascii", "replace")
    if len(encoded) % 2:
        encoded += b"\0" if representation == b"UI" else b" "
    return _SHORT_FORM.pack(2, element, representation, len(encoded)) + encoded

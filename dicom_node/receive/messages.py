"""C-STORE and C-ECHO on the wire: command sets in Implicit VR Little Endian (PS3.7, 6.3.1 and 9.3)."""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct, error

from dicom_node.receive.access import Service
from dicom_node.receive.wire import INVALID_PARAMETER, ProtocolError

C_STORE_RQ, C_ECHO_RQ, C_CANCEL_RQ = 0x0001, 0x0030, 0x0FFF
SERVICES: dict[int, Service] = {C_STORE_RQ: "store", C_ECHO_RQ: "echo"}
UNRECOGNIZED_OPERATION = 0x0211

_AFFECTED_SOP_CLASS_UID, _COMMAND_FIELD, _MESSAGE_ID = 0x0002, 0x0100, 0x0110
_REQUESTED_SOP_CLASS_UID = 0x0003
_MESSAGE_ID_RESPONDED_TO, _DATA_SET_TYPE, _STATUS, _ERROR_COMMENT = 0x0120, 0x0800, 0x0900, 0x0902
_AFFECTED_SOP_INSTANCE_UID, _REQUESTED_SOP_INSTANCE_UID = 0x1000, 0x1001
_NO_DATA_SET = 0x0101
_RESPONSE = 0x8000

_ELEMENT, _US = Struct("<HHI"), Struct("<H")
_PDV = Struct(">IBB")
_PDU = Struct(">BBI")


@dataclass(frozen=True, slots=True)
class Command:
    """A request of the peer. UIDs are as they came, padding taken off."""

    field: int
    message_id: int
    sop_class_uid: bytes
    sop_instance_uid: bytes
    has_data_set: bool


def decode_command(encoded: bytes | bytearray) -> Command:
    """Read a command set. Raises `ProtocolError`."""
    values: dict[int, bytes] = {}
    at = 0
    try:
        while at < len(encoded):
            group, element, length = _ELEMENT.unpack_from(encoded, at)
            at += _ELEMENT.size + length
            if group != 0 or at > len(encoded):
                raise ProtocolError(INVALID_PARAMETER)
            values[element] = bytes(encoded[at - length : at])
        return Command(
            field=_US.unpack(values[_COMMAND_FIELD])[0],
            message_id=_US.unpack(values.get(_MESSAGE_ID, b"\0\0"))[0],
            sop_class_uid=_uid(values, _AFFECTED_SOP_CLASS_UID, _REQUESTED_SOP_CLASS_UID),
            sop_instance_uid=_uid(values, _AFFECTED_SOP_INSTANCE_UID, _REQUESTED_SOP_INSTANCE_UID),
            has_data_set=_US.unpack(values[_DATA_SET_TYPE])[0] != _NO_DATA_SET,
        )
    except (error, KeyError) as problem:
        raise ProtocolError(INVALID_PARAMETER) from problem


def encode_response(context_id: int, command: Command, status: int, comment: str = "") -> bytes:
    """The P-DATA-TF PDU that answers `command`; `comment` goes out as Error Comment."""
    elements = b"".join(
        (
            _element(_AFFECTED_SOP_CLASS_UID, command.sop_class_uid) if command.sop_class_uid else b"",
            _element(_COMMAND_FIELD, _US.pack(command.field | _RESPONSE)),
            _element(_MESSAGE_ID_RESPONDED_TO, _US.pack(command.message_id)),
            _element(_DATA_SET_TYPE, _US.pack(_NO_DATA_SET)),
            _element(_STATUS, _US.pack(status)),
            _element(_ERROR_COMMENT, comment.encode("ascii"), padding=b" ") if comment else b"",
            _element(_AFFECTED_SOP_INSTANCE_UID, command.sop_instance_uid) if command.sop_instance_uid else b"",
        )
    )
    command_set = _element(0, len(elements).to_bytes(4, "little")) + elements
    pdv = _PDV.pack(len(command_set) + 2, context_id, 0b11) + command_set
    return _PDU.pack(4, 0, len(pdv)) + pdv


def _uid(values: dict[int, bytes], affected: int, requested: int) -> bytes:
    return values.get(affected, values.get(requested, b"")).rstrip(b"\0 ")


def _element(element: int, value: bytes, padding: bytes = b"\0") -> bytes:
    if len(value) % 2:
        value += padding
    return _ELEMENT.pack(0, element, len(value)) + value

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pynetdicom.dimse_messages import C_ECHO_RQ, C_STORE_RQ, DIMSEMessage
from pynetdicom.dimse_primitives import C_ECHO, C_STORE
from pynetdicom.pdu import P_DATA_TF

from dicom_node.receive import messages
from dicom_node.receive.messages import Command, decode_command, encode_response
from dicom_node.receive.wire import ProtocolError

CT = "1.2.840.10008.5.1.4.1.1.2"
STORE = Command(messages.C_STORE_RQ, 7, CT.encode(), b"1.2.3", has_data_set=True)


def encoded_by_pynetdicom(primitive: C_STORE | C_ECHO, message: DIMSEMessage) -> bytes:
    message.primitive_to_message(primitive)
    fragments = list(message.encode_msg(1, 0))
    return bytes(fragments[0].presentation_data_value_list[0][1][1:])


def test_a_store_request_is_read() -> None:
    request = C_STORE()
    request.MessageID, request.Priority = 7, 0
    request.AffectedSOPClassUID, request.AffectedSOPInstanceUID = CT, "1.2.3"
    message = C_STORE_RQ()
    message.primitive_to_message(request)
    message.command_set.CommandDataSetType = 1
    encoded = next(message.encode_msg(1, 0)).presentation_data_value_list[0][1][1:]
    assert decode_command(encoded) == STORE


def test_an_echo_request_is_read() -> None:
    request = C_ECHO()
    request.MessageID, request.AffectedSOPClassUID = 3, "1.2.840.10008.1.1"
    command = decode_command(encoded_by_pynetdicom(request, C_ECHO_RQ()))
    assert (command.field, command.message_id, command.has_data_set) == (messages.C_ECHO_RQ, 3, False)


def test_pynetdicom_reads_the_response() -> None:
    pdu = P_DATA_TF()
    pdu.decode(encode_response(5, STORE, 0xA700, "The disk of the spool is full."))
    message = DIMSEMessage()
    assert message.decode_msg(pdu.to_primitive())
    response = message.message_to_primitive()
    assert message.context_id == 5
    assert (response.Status, response.MessageIDBeingRespondedTo) == (0xA700, 7)
    assert response.ErrorComment == "The disk of the spool is full."
    assert response.AffectedSOPInstanceUID == "1.2.3"


@given(st.binary(max_size=200))
def test_any_bytes_are_a_command_or_a_protocol_error(content: bytes) -> None:
    try:
        command = decode_command(content)
    except ProtocolError:
        return
    assert 0 <= command.field <= 0xFFFF


@pytest.mark.parametrize("content", [b"", b"\0\0\0\1\2\0\0\0\1\0", b"\x08\0\0\0\0\0\0\0"])
def test_a_command_without_its_field_or_of_another_group_is_a_protocol_error(content: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode_command(content)

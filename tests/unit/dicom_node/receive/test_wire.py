from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dicom_node.receive import wire
from dicom_node.receive.wire import ProtocolError, Wire

LONGEST = 70_000


def connected() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        ours = socket.create_connection(server.getsockname())
        theirs, _ = server.accept()
    return ours, theirs


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, Wire]]:
    ours, theirs = connected()
    with ours, theirs:
        yield ours, Wire(theirs, LONGEST)


def pdu(kind: int, content: bytes) -> bytes:
    return struct.pack(">BxI", kind, len(content)) + content


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.sampled_from([4, 5, 7]), st.integers(0, LONGEST)), max_size=6), st.integers(1, 100_000))
def test_pdus_come_out_as_they_went_in_however_they_are_cut(sizes: list[tuple[int, int]], piece: int) -> None:
    sent = [(kind, bytes([number + 1]) * size) for number, (kind, size) in enumerate(sizes)]
    stream = b"".join(pdu(kind, content) for kind, content in sent)
    ours, theirs = connected()

    def send() -> None:
        with ours:
            for at in range(0, len(stream), piece):
                ours.sendall(stream[at : at + piece])

    sender = threading.Thread(target=send)
    sender.start()
    with theirs:
        reader = Wire(theirs, LONGEST)
        for kind, content in sent:
            received = reader.receive(10, 10)
            assert received is not None
            assert (received[0], bytes(received[1])) == (kind, content)
        assert reader.receive(10, 10) is None
    sender.join()


def test_a_pdu_longer_than_agreed_is_a_protocol_error(pair: tuple[socket.socket, Wire]) -> None:
    pair[0].sendall(struct.pack(">BxI", wire.P_DATA, LONGEST + 1))
    with pytest.raises(ProtocolError):
        pair[1].receive(10, 10)


def test_a_request_of_any_declared_length_takes_bounded_memory(pair: tuple[socket.socket, Wire]) -> None:
    pair[0].sendall(struct.pack(">BxI", wire.ASSOCIATE_RQ, 0xFFFFFFFF))
    with pytest.raises(ProtocolError):
        pair[1].receive(10, 10)


def test_a_connection_that_ends_inside_a_pdu_has_ended(pair: tuple[socket.socket, Wire]) -> None:
    pair[0].sendall(pdu(wire.P_DATA, b"abc")[:-1])
    pair[0].shutdown(socket.SHUT_WR)
    assert pair[1].receive(10, 10) is None


def test_a_silent_peer_is_given_up(pair: tuple[socket.socket, Wire]) -> None:
    with pytest.raises(TimeoutError):
        pair[1].receive(0.01, 10)
    pair[0].sendall(b"\4")
    with pytest.raises(TimeoutError):
        pair[1].receive(10, 0.01)

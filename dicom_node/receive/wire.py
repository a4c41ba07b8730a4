"""PDUs from and to a socket (PS3.8, 9.3.1): whole ones, in one buffer that is used again."""

from __future__ import annotations

import socket
from struct import Struct

_HEADER = Struct(">BxI")
HEADER_BYTES = _HEADER.size
LONGEST_REQUEST = 2**20
"""No association request needs more: 128 contexts with every transfer syntax there is take half of it."""

ASSOCIATE_RQ, P_DATA, RELEASE_RQ, ABORT = 0x01, 0x04, 0x05, 0x07
RELEASE_RP = bytes((6, 0, 0, 0, 0, 4, 0, 0, 0, 0))

NOT_SPECIFIED, UNRECOGNIZED_PDU, UNEXPECTED_PDU, INVALID_PARAMETER = 0, 1, 2, 6
"""Why a service provider aborts (PS3.8, table 9-26)."""


def abort_pdu(reason: int) -> bytes:
    """The A-ABORT that this node sends as service provider."""
    return bytes((7, 0, 0, 0, 0, 4, 0, 0, 2, reason))


def reject_pdu(result: int, source: int, diagnostic: int) -> bytes:
    """An A-ASSOCIATE-RJ (PS3.8, 9.3.4)."""
    return bytes((3, 0, 0, 0, 0, 4, 0, result, source, diagnostic))


class ProtocolError(Exception):
    """The peer does not keep to the protocol; `reason` goes into the A-ABORT."""

    def __init__(self, reason: int) -> None:
        super().__init__(reason)
        self.reason = reason


class Wire:
    """One connection. A view that `receive` gives is good until the next call."""

    def __init__(self, connection: socket.socket, longest_pdu: int) -> None:
        self._socket = connection
        self._longest_pdu = longest_pdu
        self._buffer = bytearray(2**16)
        self._start = self._stop = 0

    def receive(self, timeout_s: float, pdu_timeout_s: float) -> tuple[int, memoryview] | None:
        """The next PDU's type and content; None when the peer has closed the connection.

        Waits up to `timeout_s` for it to begin and up to `pdu_timeout_s` for each of its parts. Raises `TimeoutError`,
        `OSError`, `ProtocolError`.
        """
        self._socket.settimeout(timeout_s)
        if not self._fill(1):
            return None
        self._socket.settimeout(pdu_timeout_s)
        if not self._fill(HEADER_BYTES):
            return None
        kind, length = _HEADER.unpack_from(self._buffer, self._start)
        if length > (LONGEST_REQUEST if kind == ASSOCIATE_RQ else self._longest_pdu):
            raise ProtocolError(INVALID_PARAMETER)
        if not self._fill(HEADER_BYTES + length):
            return None
        begin = self._start + HEADER_BYTES
        self._start = begin + length
        return kind, memoryview(self._buffer)[begin : self._start]

    def send(self, pdu: bytes) -> None:
        """Raises `OSError`."""
        self._socket.sendall(pdu)

    def _fill(self, wanted: int) -> bool:
        """Have `wanted` bytes in the buffer; False when the connection ends before."""
        if self._stop - self._start < wanted:
            self._make_room(wanted)
        while self._stop - self._start < wanted:
            # The kernel leaves this mode by itself, and a late acknowledgement holds up a sender without TCP_NODELAY.
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
            count = self._socket.recv_into(memoryview(self._buffer)[self._stop :])
            if not count:
                return False
            self._stop += count
        return True

    def _make_room(self, wanted: int) -> None:
        if wanted > len(self._buffer):  # a view of the old buffer may still be held, so it is left as it is
            grown = bytearray(2 * wanted)
            grown[: self._stop - self._start] = self._buffer[self._start : self._stop]
            self._buffer, self._stop, self._start = grown, self._stop - self._start, 0
        elif self._start + wanted > len(self._buffer):
            self._buffer[: self._stop - self._start] = self._buffer[self._start : self._stop]
            self._stop, self._start = self._stop - self._start, 0

"""One association from its first byte to its last, in one thread (PS3.8, 9.2; PS3.7, 9.3).

pynetdicom decodes the request and encodes the acceptance. Its threads and queues are left out: they poll, and pass
each fragment through several objects, where a scanner's push needs nothing but to get to the disk.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from dataclasses import dataclass

import structlog
from pynetdicom.pdu import A_ASSOCIATE_RQ
from pynetdicom.pdu_primitives import A_ASSOCIATE

from db.associations import End
from dicom_node.receive import messages, negotiation, policy, wire
from dicom_node.receive.access import Admission, Call, Rejection, admit, parse_address
from dicom_node.receive.messages import Command
from dicom_node.receive.negotiation import Answer
from dicom_node.receive.policy import Announced
from dicom_node.receive.stage import Arrival, Intake, Sender
from dicom_node.receive.wire import ProtocolError, Wire
from dicom_node.settings import Settings
from pipelines.reasons import Reason

log = structlog.get_logger()

LONGEST_COMMAND = 2**16
_PDV = struct.Struct(">IBB")
_MALFORMED = (ValueError, TypeError, KeyError, IndexError, AttributeError, struct.error)
"""What the library's decoder raises over a request that is none."""


class Seats:
    """Counts the associations that one process holds."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._taken = 0

    def admit(self, call: Call, settings: Settings) -> Admission | Rejection:
        """Decide on a call; whoever is let in has a seat until `leave`."""
        with self._mutex:
            decision = admit(call, settings, self._taken)
            self._taken += isinstance(decision, Admission)
            return decision

    def leave(self) -> None:
        with self._mutex:
            self._taken -= 1


@dataclass(slots=True)
class _Request:
    """A command that waits for its data set. `refusal` is what it will be answered with in any case."""

    context: Answer
    command: Command
    arrival: Arrival | None = None
    refusal: Reason | None = None


class Conversation:
    """Serves one connection."""

    def __init__(self, connection: socket.socket, host: str, settings: Settings, intake: Intake, seats: Seats) -> None:
        self._socket = connection
        self._address = parse_address(host)
        self._settings = settings
        self._intake = intake
        self._seats = seats
        self._wire = Wire(connection, settings.receive.maximum_pdu_bytes)
        self._stopping = False
        self._admission = Admission(frozenset())
        self._contexts: dict[int, Answer] = {}
        self._encoded_command = bytearray()
        self._request: _Request | None = None
        self._answered = {"stored": 0, "refused": 0}

    def stop(self) -> None:
        """Take nothing more from the peer, answer what is whole, and abort. May be called from another thread."""
        self._stopping = True
        with contextlib.suppress(OSError):  # the peer may have gone by itself
            self._socket.shutdown(socket.SHUT_RD)

    def run(self) -> None:
        """Serve until the peer or `stop` ends the association."""
        with self._socket:
            try:
                sender = self._associate()
            except ProtocolError as error:
                self._abort(error.reason)
                return
            except OSError:
                return
            if sender is not None:
                self._serve(sender)

    def _associate(self) -> Sender | None:
        timeout = self._settings.receive.network_timeout_s
        pdu = self._wire.receive(timeout, timeout)
        if pdu is None:
            return None
        kind, content = pdu
        if kind != wire.ASSOCIATE_RQ:
            raise ProtocolError(wire.UNEXPECTED_PDU)
        request, call = self._decode_request(bytes(content))
        decision = self._seats.admit(call, self._settings)
        if isinstance(decision, Rejection):
            self._intake.refusals.rejected(call.calling_ae_title, str(self._address), decision.reason)
            self._wire.send(wire.reject_pdu(decision.result, decision.source, decision.diagnostic))
            return None
        self._admission = decision
        try:
            self._accept(request)
        except BaseException:
            self._seats.leave()
            raise
        return self._intake.open(call.calling_ae_title, call.called_ae_title, str(self._address))

    def _decode_request(self, content: bytes) -> tuple[A_ASSOCIATE, Call]:
        pdu = A_ASSOCIATE_RQ()
        try:
            pdu.decode(bytes((1, 0)) + len(content).to_bytes(4, "big") + content)
            request = pdu.to_primitive()
            call = Call(
                calling_ae_title=_printable(request.calling_ae_title),
                called_ae_title=_printable(request.called_ae_title),
                address=self._address,
                protocol_version=pdu.protocol_version,
                application_context=str(request.application_context_name),
            )
        except _MALFORMED as error:
            raise ProtocolError(wire.INVALID_PARAMETER) from error
        return request, call

    def _accept(self, request: A_ASSOCIATE) -> None:
        answers = [negotiation.answer(proposal) for proposal in negotiation.proposals(request)]
        self._contexts = {one.context_id: one for one in answers if one.result == negotiation.ACCEPTED}
        if not self._contexts:
            log.warning("association.without_contexts", calling_ae_title=_printable(request.calling_ae_title))
        self._wire.send(negotiation.encode_acceptance(request, answers, self._settings.receive.maximum_pdu_bytes))

    def _serve(self, sender: Sender) -> None:
        how: End = "lost"
        try:
            how = self._take_pdus(sender)
        except ProtocolError as error:
            how = "aborted"
            log.warning("association.failed", error="protocol", abort_reason=error.reason)
            self._abort(error.reason)
        except OSError as error:
            log.warning("association.failed", error=type(error).__name__)
            self._abort(wire.NOT_SPECIFIED)
        finally:
            if self._request and self._request.arrival:
                self._request.arrival.close()
            self._intake.end(sender, how)
            self._seats.leave()
            log.info(
                "association.ended",
                how=how,
                calling_ae_title=sender.association.calling_ae_title,
                association_id=sender.association.association_id,
                **self._answered,
            )
        if how == "released":
            self._say_goodbye()

    def _take_pdus(self, sender: Sender) -> End:
        limits = self._settings.receive
        while True:
            waits_for_data = self._request is not None or self._encoded_command
            pdu = self._wire.receive(
                limits.network_timeout_s if waits_for_data else limits.idle_timeout_s, limits.network_timeout_s
            )
            if pdu is None:
                if self._stopping:
                    raise ProtocolError(wire.NOT_SPECIFIED)
                return "lost"
            kind, content = pdu
            if kind == wire.P_DATA:
                self._take_values(sender, content)
            elif kind == wire.RELEASE_RQ:
                return "released"
            elif kind == wire.ABORT:
                return "aborted"
            else:
                raise ProtocolError(wire.UNEXPECTED_PDU if 0 < kind < 8 else wire.UNRECOGNIZED_PDU)

    def _take_values(self, sender: Sender, content: memoryview) -> None:
        """The presentation data values of one P-DATA-TF (PS3.8, 9.3.5 and Annex E)."""
        at = 0
        while at < len(content):
            if len(content) - at < _PDV.size:
                raise ProtocolError(wire.INVALID_PARAMETER)
            length, context_id, control = _PDV.unpack_from(content, at)
            end = at + 4 + length
            context = self._contexts.get(context_id)
            if length < 2 or end > len(content) or context is None:
                raise ProtocolError(wire.INVALID_PARAMETER)
            fragment, last = content[at + _PDV.size : end], bool(control & 2)
            if control & 1:
                self._take_command(sender, context, fragment, last=last)
            else:
                self._take_data(fragment, last=last)
            at = end

    def _take_command(self, sender: Sender, context: Answer, fragment: memoryview, *, last: bool) -> None:
        self._encoded_command += fragment
        if self._request is not None or len(self._encoded_command) > LONGEST_COMMAND:
            raise ProtocolError(wire.INVALID_PARAMETER)
        if not last:
            return
        command = messages.decode_command(self._encoded_command)
        self._encoded_command = bytearray()
        if command.field == messages.C_CANCEL_RQ:
            return
        self._request = self._begin(sender, context, command)
        if not command.has_data_set:
            self._answer()

    def _take_data(self, fragment: memoryview, *, last: bool) -> None:
        if self._request is None:
            raise ProtocolError(wire.INVALID_PARAMETER)
        if self._request.arrival is not None:
            self._request.arrival.take(fragment)
        if last:
            self._answer()

    def _begin(self, sender: Sender, context: Answer, command: Command) -> _Request:
        service = messages.SERVICES.get(command.field)
        if service is not None and service not in self._admission.services:
            refusal = Reason("access.service_not_allowed")
            self._intake.refusals.refused(sender.association, refusal)
            return _Request(context, command, refusal=refusal)
        if service != "store":
            return _Request(context, command)
        if not command.has_data_set:
            return _Request(
                context, command, refusal=Reason("receive.data_set_unreadable", {"detail": "there is none"})
            )
        announced = Announced(_uid(command.sop_class_uid), _uid(command.sop_instance_uid), context.transfer_syntax)
        return _Request(context, command, arrival=Arrival(self._intake, sender, announced))

    def _answer(self) -> None:
        request = self._request
        assert request is not None
        reason = request.arrival.finish() if request.arrival else request.refusal
        self._request = None
        status, comment = (reason.row.dimse_status, policy.comment(reason)) if reason else (0, "")
        if request.command.field not in messages.SERVICES:
            status, comment = messages.UNRECOGNIZED_OPERATION, "This node offers C-STORE and C-ECHO."
        if request.command.field == messages.C_STORE_RQ:
            self._answered["refused" if status else "stored"] += 1
        self._wire.send(messages.encode_response(request.context.context_id, request.command, status, comment))

    def _say_goodbye(self) -> None:
        """Answer the release, and let the peer close the connection (PS3.8, 9.2, state 13)."""
        timeout = self._settings.receive.network_timeout_s
        with contextlib.suppress(OSError, ProtocolError):
            self._wire.send(wire.RELEASE_RP)
            self._wire.receive(timeout, timeout)

    def _abort(self, reason: int) -> None:
        with contextlib.suppress(OSError):  # a peer that has gone needs no word
            self._wire.send(wire.abort_pdu(reason))


def _uid(value: bytes) -> str:
    return value.decode("ascii", "replace")[:64]


def _printable(text: str) -> str:
    return "".join(character for character in text if " " <= character <= "~").strip()

"""Delivers by C-STORE to a PACS and asks it by C-FIND what it has (PS3.4, annexes B and C)."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Literal

from pydicom import Dataset, dcmread
from pydicom.filereader import read_file_meta_info
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, _config, build_context, evt
from pynetdicom.association import Association
from pynetdicom.presentation import PresentationContext
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelFind, Verification

from dicom_node.deliver.catalogue import Answer, Parcel, Presence, Session, UnreachableError
from dicom_node.deliver.policy import is_offered, judge
from dicom_node.reactor import stand_still_while_asking
from dicom_node.settings import AeTitle, Destination, Port
from pipelines.reasons import Reason
from reporting.catalogue import objects

_config.STORE_SEND_CHUNKED_DATASET = True  # a file given by its path goes out as it is

SLOWEST_LINE_BYTES_PER_S = 250_000
"""The time limit for an answer runs from before the object is sent: large objects are given as much more."""

DIAGNOSIS_S = 5.0
MAXIMUM_PDU_BYTES = 131072
CALLING_AE_TITLE_UNKNOWN, CALLED_AE_TITLE_UNKNOWN = 3, 7


class DimseSettings(Destination):
    """A PACS (or another AE)."""

    kind: Literal["dimse"] = "dimse"
    ae_title: AeTitle
    host: str
    port: Port


class Dimse:
    """A storage SCP, one association for all objects of a result."""

    name = "dimse"
    settings = DimseSettings

    @contextmanager
    def connect(
        self, name: str, settings: DimseSettings, ae_title: str, parcels: Sequence[Parcel]
    ) -> Iterator[Session]:
        contexts = _storage_contexts(parcels)
        if settings.confirm == "find":
            contexts.append(build_context(StudyRootQueryRetrieveInformationModelFind))
        with _association(name, settings, ae_title, contexts) as association:
            yield DimseSession(name, settings, association)

    def check(self, name: str, settings: DimseSettings, ae_title: str) -> str:
        contexts = [] if settings.confirm == "none" else [build_context(StudyRootQueryRetrieveInformationModelFind)]
        offered = {kind: one.sop_class_uid for kind, one in objects().items() if is_offered(settings.accepts, kind)}
        storage = [build_context(uid, [ExplicitVRLittleEndian, ImplicitVRLittleEndian]) for uid in offered.values()]
        with _association(name, settings, ae_title, [*contexts, *storage]) as association:
            answer = association.send_c_echo()
            if "Status" not in answer:
                raise _unreachable(name, "it does not answer a C-ECHO")
            words = f"{settings.ae_title} at {settings.host}:{settings.port} answers a C-ECHO"
            if answer.Status != 0:
                words += f" with status {answer.Status:04X}"
            missing = [kind for kind, uid in offered.items() if not _accepted(association, uid)]
            if missing:
                words += f"; it does not take {', '.join(missing)}"
            if contexts and not _accepted(association, StudyRootQueryRetrieveInformationModelFind):
                words += "; it takes no queries, so that results stay `stored`, never `confirmed`"
            return words


class DimseSession:
    """An association that is open for storing and, where the PACS allows it, for asking."""

    def __init__(self, name: str, settings: DimseSettings, association: Association) -> None:
        self._name = name
        self._settings = settings
        self._association = association

    def store(self, parcel: Parcel) -> Answer:
        accepted = _accepted(self._association, parcel.sop_class_uid)
        if not accepted:
            return Answer("declined", None, "no presentation context accepted for the SOP class")
        limit_s = self._settings.timeout_s + parcel.path.stat().st_size / SLOWEST_LINE_BYTES_PER_S
        as_it_is = read_file_meta_info(parcel.path).TransferSyntaxUID in accepted
        self._association.dimse_timeout = limit_s
        began = time.monotonic()
        try:
            answer = self._association.send_c_store(parcel.path if as_it_is else dcmread(parcel.path))
        except RuntimeError as error:  # the association has ended meanwhile
            raise _unreachable(self._name, "it ended the association") from error
        except ValueError as error:  # no accepted transfer syntax that the object can be re-encoded to
            return Answer("refused", None, str(error))
        if "Status" not in answer:
            raise self._no_answer("the object", time.monotonic() - began, limit_s)
        return Answer(judge(answer.Status), answer.Status, str(answer.get("ErrorComment", "")))

    def find(self, parcel: Parcel) -> Presence:
        if not _accepted(self._association, StudyRootQueryRetrieveInformationModelFind):
            return "cannot_tell"
        self._association.dimse_timeout = self._settings.timeout_s
        began = time.monotonic()
        found = False
        try:
            answers = self._association.send_c_find(_asked(parcel), StudyRootQueryRetrieveInformationModelFind)
        except RuntimeError as error:
            raise _unreachable(self._name, "it ended the association") from error
        for status, identifier in answers:
            if "Status" not in status:
                raise self._no_answer("the query", time.monotonic() - began, self._settings.timeout_s)
            if status.Status in (0xFF00, 0xFF01):
                found |= identifier is not None and identifier.get("SOPInstanceUID") == parcel.sop_instance_uid
            elif status.Status != 0x0000:
                return "cannot_tell"
        return "found" if found else "absent"

    def _no_answer(self, what: str, waited_s: float, limit_s: float) -> UnreachableError:
        if waited_s < limit_s:
            return _unreachable(self._name, f"it ended the association instead of answering to {what}")
        return _unreachable(self._name, f"it gave no answer to {what} within {limit_s:.1f} s")


def _asked(parcel: Parcel) -> Dataset:
    """The identifier for one instance in the Study Root model (PS3.4, C.4.1.2)."""
    identifier = Dataset()
    identifier.QueryRetrieveLevel = "IMAGE"
    identifier.StudyInstanceUID = parcel.study_instance_uid
    identifier.SeriesInstanceUID = parcel.series_instance_uid
    identifier.SOPInstanceUID = parcel.sop_instance_uid
    return identifier


def _storage_contexts(parcels: Sequence[Parcel]) -> list[PresentationContext]:
    """One context for each class and syntax: in a shared one the peer would pick one syntax for all of a class."""
    wanted = {
        (parcel.sop_class_uid, syntax): None
        for parcel in parcels
        for syntax in (
            read_file_meta_info(parcel.path).TransferSyntaxUID,
            ExplicitVRLittleEndian,
            ImplicitVRLittleEndian,
        )
    }
    return [build_context(sop_class_uid, syntax) for sop_class_uid, syntax in wanted]


def _accepted(association: Association, abstract_syntax: str) -> frozenset[str]:
    """The transfer syntaxes that the peer took for a class."""
    contexts = association.accepted_contexts
    return frozenset(context.transfer_syntax[0] for context in contexts if context.abstract_syntax == abstract_syntax)


@contextmanager
def _association(
    name: str, settings: DimseSettings, ae_title: str, contexts: Sequence[PresentationContext]
) -> Iterator[Association]:
    """An established association, released at the end. Verification is offered too, so that it comes to stand even
    where no class of ours is taken, and each object can be told why. Raises `UnreachableError`."""
    ae = AE(ae_title=ae_title)
    ae.connection_timeout = ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = settings.timeout_s
    connected: list[evt.Event] = []
    try:
        association = ae.associate(
            settings.host,
            settings.port,
            [build_context(Verification), *contexts],
            ae_title=settings.ae_title,
            max_pdu=MAXIMUM_PDU_BYTES,
            evt_handlers=[
                (evt.EVT_CONN_OPEN, connected.append),
                (evt.EVT_CONN_OPEN, _send_at_once),
                (evt.EVT_DATA_SENT, _acknowledge_at_once),
            ],
        )
    except socket.gaierror as error:
        raise _unreachable(name, f"the host name {settings.host} is not known") from error
    if not association.is_established:
        raise _why_not(name, settings, ae_title, association) if connected else _why_no_connection(name, settings)
    stand_still_while_asking(association)
    try:
        yield association
    finally:
        association.release()


def _send_at_once(event: evt.Event) -> None:
    _socket_of(event).setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _acknowledge_at_once(event: evt.Event) -> None:
    """The peer may hold back the rest of its answer until the first part is acknowledged, which the kernel would put
    off by 40 ms. It forgets this wish, so that it is told again with everything that is sent."""
    _socket_of(event).setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)


def _socket_of(event: evt.Event) -> socket.socket:
    transport = event.assoc.dul.socket
    assert transport is not None and transport.socket is not None  # the event is raised while it is connected
    return transport.socket


def _why_not(name: str, settings: DimseSettings, ae_title: str, association: Association) -> UnreachableError:
    """In words, from the peer's answer to the association request (PS3.8, 9.3.4)."""
    answer = association.acceptor.primitive
    if answer is None or not association.is_rejected:
        detail = "accepts none of the offered SOP classes" if answer else "does not answer the association request"
        return _unreachable(name, f"it {detail}")
    if answer.result_source == 1 and answer.diagnostic in (CALLING_AE_TITLE_UNKNOWN, CALLED_AE_TITLE_UNKNOWN):
        ours = answer.diagnostic == CALLING_AE_TITLE_UNKNOWN
        detail = f"it does not know the AE title {ae_title}" if ours else f"it is not called {settings.ae_title}"
        return UnreachableError(Reason("deliver.ae_title_rejected", {"destination": name, "detail": detail}))
    return _unreachable(name, f"it rejects the association: {answer.reason_str}")


def _why_no_connection(name: str, settings: DimseSettings) -> UnreachableError:
    """Connects once more: the library tells nobody why the first time failed."""
    where = f"{settings.host}:{settings.port}"
    try:
        with socket.create_connection((settings.host, settings.port), min(settings.timeout_s, DIAGNOSIS_S)):
            return _unreachable(name, f"{where} did not answer at first, and does now")
    except ConnectionRefusedError:
        return _unreachable(name, f"nothing listens at {where}")
    except TimeoutError:
        return _unreachable(name, f"{where} gives no answer")
    except OSError as error:
        return _unreachable(name, f"{where}: {error.strerror}")


def _unreachable(name: str, detail: str) -> UnreachableError:
    return UnreachableError(Reason("deliver.unreachable", {"destination": name, "detail": detail}))


KIND = Dimse()

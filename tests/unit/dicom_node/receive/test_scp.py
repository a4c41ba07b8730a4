"""The receiver on a real port of the loopback, called by pynetdicom's SCU and by peers that break the rules."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pynetdicom import AE, build_context
from pynetdicom.association import Association
from pynetdicom.sop_class import CTImageStorage, StudyRootQueryRetrieveInformationModelFind, Verification
from sqlalchemy import select

from db import audit
from db.connect import Ledger
from db.instances import of_study
from db.schema import associations
from dicom_node.clock import utc_now
from dicom_node.process import published
from dicom_node.receive import wire
from dicom_node.receive.scp import PortBusyError, serve_receiver
from dicom_node.receive.transfer_syntaxes import EXPLICIT_LITTLE_ENDIAN
from dicom_node.settings import Settings
from dicom_node.spool import Spool
from tests.unit.dicom_node.receive.made import HEADER, dataset

Start = Callable[..., "Receiver"]


class Receiver:
    """`serve_receiver` in a thread."""

    def __init__(self, ledger: Ledger, spool: Spool, tables: dict[str, Any], slot: int) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = tables.get("port") or free.getsockname()[1]
        node = {"host": "127.0.0.1", "port": self.port, "spool": spool.root}
        receive = {"network_timeout_s": 5.0, "free_disk_mb": 0, **tables.get("receive", {})}
        self._settings = Settings.model_validate({"node": node, "receive": receive, "peers": tables.get("peers", {})})
        self._ledger, self._spool, self._slot = ledger, spool, slot
        self._stop = threading.Event()
        self.failure: Exception | None = None
        self._thread = threading.Thread(target=self._serve)

    def _serve(self) -> None:
        try:
            serve_receiver(
                self._settings,
                self._ledger,
                self._spool,
                self._slot,
                notify=lambda: None,
                clock=utc_now,
                stop=self._stop,
            )
        except PortBusyError as error:
            self.failure = error

    def start(self) -> None:
        """Start it, and wait until it listens or has failed."""
        self._thread.start()
        while self._thread.is_alive() and f"receive-{self._slot}" not in published(self._spool.root):
            threading.Event().wait(0.01)

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(20)
        assert not self._thread.is_alive()


@pytest.fixture
def start(ledger: Ledger, spool: Spool) -> Iterator[Start]:
    started = []

    def begin(*, slot: int = 0, at: Spool = spool, **tables: Any) -> Receiver:
        receiver = Receiver(ledger, at, tables, slot)
        started.append(receiver)
        receiver.start()
        return receiver

    yield begin
    for receiver in started:
        receiver.stop()


@contextmanager
def associated(port: int, *, calling: str = "CT1", called: str = "TRIAGE") -> Iterator[Association]:
    entity = AE(calling)
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = 10
    contexts = [
        build_context(CTImageStorage, EXPLICIT_LITTLE_ENDIAN),
        build_context(Verification),
        build_context(StudyRootQueryRetrieveInformationModelFind),
    ]
    association = entity.associate("127.0.0.1", port, contexts, ae_title=called)
    try:
        yield association
    finally:
        if association.is_established:
            association.release()


def instance(number: int = 1) -> Dataset:
    made = dataset()
    made.SOPInstanceUID = f"1.2.3.4.{number}"
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = EXPLICIT_LITTLE_ENDIAN
    return made


def test_echo_and_store_are_answered_and_the_end_is_in_the_ledger_before_the_release_is(
    start: Start, ledger: Ledger
) -> None:
    with associated(start().port) as association:
        assert association.send_c_echo().Status == 0
        assert [association.send_c_store(instance(number)).Status for number in (1, 2)] == [0, 0]
        association.release()
        with ledger.read() as connection:
            [row] = connection.execute(select(associations)).all()
            assert len(of_study(connection, HEADER.study_instance_uid)) == 2
    assert (row.ended_by, row.calling_ae_title, row.peer_address) == ("released", "CT1", "127.0.0.1")


def test_a_refusal_carries_an_error_comment(start: Start) -> None:
    with associated(start().port) as association:
        assert association.send_c_store(instance()).Status == 0
        changed = instance()
        changed.PatientName = "Other"
        response = association.send_c_store(changed)
        assert response.Status == 0x0111
        assert response.ErrorComment == "Other content is held under this SOP Instance UID."
        assert association.send_c_store(instance(2)).Status == 0


def test_a_query_is_not_offered_but_does_not_end_the_association(start: Start) -> None:
    with associated(start().port) as association:
        assert len(association.accepted_contexts) == 2
        assert association.send_c_echo().Status == 0


def test_a_wrong_called_ae_title_is_rejected_and_audited(start: Start, ledger: Ledger) -> None:
    port = start().port
    for _ in range(2):
        with associated(port, called="OTHER") as association:
            assert association.is_rejected
            answer = association.acceptor.primitive
            assert (answer.result, answer.result_source, answer.diagnostic) == (1, 1, 7)
    with ledger.read() as connection:
        events = [(row.event, row.outcome) for row in audit.rows(connection)]
    assert events == [("association.rejected", 4)]  # once a minute


def test_a_peer_that_may_only_echo_cannot_store(start: Start) -> None:
    with associated(start(peers={"ct1": {"ae_title": "CT1", "may": ["echo"]}}).port) as association:
        assert association.send_c_echo().Status == 0
        response = association.send_c_store(instance())
        assert (response.Status, response.ErrorComment) == (0x0124, "The caller may not use this service.")


def test_more_associations_than_allowed_are_told_to_come_back(start: Start) -> None:
    port = start(receive={"maximum_associations": 1}).port
    with associated(port) as first:
        assert first.is_established
        with associated(port) as second:
            assert second.is_rejected
            assert (second.acceptor.primitive.result, second.acceptor.primitive.result_source) == (2, 3)
    with associated(port) as third:
        assert third.is_established


HOSTILE = {
    "not DICOM": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "unknown PDU": b"\x99\0\0\0\0\4abcd",
    "data first": b"\4\0\0\0\0\4abcd",
    "empty request": b"\1\0\0\0\0\0",
    "endless request": b"\1\0\xff\xff\xff\xff",
    "garbled request": b"\1\0" + struct.pack(">I", 100) + b"\0\1" + bytes(range(98)),
    "nothing": b"",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_peer_that_breaks_the_protocol_harms_nobody(start: Start, name: str) -> None:
    port = start().port
    with socket.create_connection(("127.0.0.1", port), timeout=20) as peer:
        peer.sendall(HOSTILE[name])
        peer.shutdown(socket.SHUT_WR)
        answer = b""
        while part := peer.recv(4096):
            answer += part
    assert answer == b"" or answer[0] == wire.ABORT
    with associated(port) as association:
        assert association.send_c_store(instance()).Status == 0


PDVS = {
    "unknown context": struct.pack(">IBB", 2, 99, 3),
    "too long": struct.pack(">IBB", 1000, 1, 3),
    "too short": struct.pack(">IBB", 1, 1, 3),
    "data without command": struct.pack(">IBB", 6, 1, 2) + b"data",
    "no command": struct.pack(">IBB", 6, 1, 3) + b"none",
    "cut": b"\0\0",
}


@pytest.mark.parametrize("name", PDVS)
def test_a_broken_message_aborts_its_own_association_only(start: Start, name: str) -> None:
    port = start().port
    with associated(port) as broken, associated(port) as sound:
        connection = broken.dul.socket.socket
        connection.sendall(struct.pack(">BxI", wire.P_DATA, len(PDVS[name])) + PDVS[name])
        broken.join(10)
        assert broken.is_aborted
        assert sound.send_c_store(instance()).Status == 0


def test_a_sender_that_vanishes_leaves_its_whole_instances(start: Start, ledger: Ledger) -> None:
    receiver = start()
    with associated(receiver.port) as association:
        assert association.send_c_store(instance()).Status == 0
        association.dul.socket.socket.shutdown(socket.SHUT_RDWR)
        association.join(10)
    receiver.stop()
    with ledger.read() as connection:
        [row] = connection.execute(select(associations)).all()
        assert len(of_study(connection, HEADER.study_instance_uid)) == 1
    assert row.ended_by == "lost"


def test_stopping_aborts_what_is_open(start: Start, ledger: Ledger) -> None:
    receiver = start()
    with associated(receiver.port) as association:
        assert association.send_c_store(instance()).Status == 0
        receiver.stop()
        association.join(10)
        assert association.is_aborted
    with ledger.read() as connection:
        assert connection.execute(select(associations.c.ended_by)).scalar() == "aborted"


@pytest.mark.parametrize("shares", [False, True])
def test_a_port_that_another_program_holds_is_named(start: Start, shares: bool) -> None:
    with socket.socket() as other:
        if shares:
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        receiver = start(port=port)
        receiver.stop()
    assert isinstance(receiver.failure, PortBusyError)
    assert str(port) in receiver.failure.reason.text


def test_siblings_share_a_port_and_another_node_does_not(start: Start, tmp_path: Path) -> None:
    first = start()
    sibling = start(slot=1, port=first.port)
    stranger = start(port=first.port, at=Spool(tmp_path / "another"))
    stranger.stop()
    assert first.failure is None
    assert sibling.failure is None
    assert isinstance(stranger.failure, PortBusyError)
    for _ in range(8):
        with associated(first.port) as association:
            assert association.send_c_echo().Status == 0

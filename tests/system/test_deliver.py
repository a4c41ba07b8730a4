"""Delivering to a real Orthanc, and to peers that misbehave."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO

import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import (
    ComprehensiveSRStorage,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    SecondaryCaptureImageStorage,
)
from pynetdicom import AE, build_context, evt
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelFind, Verification

from db import deliveries
from db.connect import Ledger
from db.deliveries import Delivery
from dicom_node.clock import utc_now
from dicom_node.deliver.catalogue import UnreachableError
from dicom_node.deliver.destinations.dimse import DimseSettings
from dicom_node.deliver.stage import DeliverStage
from dicom_node.deliver.verbs import check_destination
from dicom_node.settings import Settings
from dicom_node.spool import Spool
from tests.ledger_rows import Rows, encoded, made_object
from tests.system.conftest import Orthanc, free_port


@pytest.fixture
def rows(ledger: Ledger, spool: Spool) -> Rows:
    return Rows(ledger, spool)


def table(port: int, ae_title: str = "PACS", **keys: object) -> DimseSettings:
    values = {"ae_title": ae_title, "host": "127.0.0.1", "port": port, "timeout_s": 2, "retry_s": 0.01, **keys}
    return DimseSettings.model_validate(values)


def stage_of(rows: Rows, destination: DimseSettings) -> DeliverStage:
    settings = Settings.model_validate({"destinations": {"pacs": destination.model_dump()}})
    return DeliverStage("pacs", settings, rows.ledger, rows.spool, utc_now)


def attempt(stage: DeliverStage) -> None:
    """The next piece of work, as the loop takes it; it must be due within a few seconds."""
    deadline = time.monotonic() + 10
    while (work := stage.claim(utc_now())) is None:
        assert time.monotonic() < deadline, "nothing came due"
        time.sleep(0.005)
    stage.carry_out(work, utc_now())


def add(rows: Rows, study: str, *numbers: int) -> list[Dataset]:
    made = [made_object(number, study=study) for number in numbers]
    now = utc_now()
    rows.add_deliveries(rows.add_result(at=now, study=study), made, ["pacs"], now)
    return made


def all_of(rows: Rows) -> list[Delivery]:
    with rows.ledger.read() as connection:
        return sorted(deliveries.list_deliveries(connection), key=lambda one: one.delivery_id)


def only(rows: Rows) -> Delivery:
    [one] = all_of(rows)
    return one


@pytest.mark.orthanc
def test_orthanc_stores_and_confirms_each_object_once(rows: Rows, orthanc: Orthanc) -> None:
    study = "2.25.201"
    made = add(rows, study, 1, 2, 3)
    stage = stage_of(rows, table(orthanc.port, orthanc.ae_title))
    began = time.monotonic()
    attempt(stage)
    print(f"3 objects stored and confirmed in {time.monotonic() - began:.3f} s")
    assert [(one.state, one.status) for one in all_of(rows)] == [("confirmed", 0)] * 3
    assert all(one.stored_at and one.confirmed_at and one.stored_at <= one.confirmed_at for one in all_of(rows))
    assert orthanc.sop_instance_uids(study) == sorted(one.SOPInstanceUID for one in made)
    with rows.ledger.write() as connection:  # as after a crash between sending and recording
        for one in all_of(rows):
            deliveries.change(connection, one.delivery_id, state="sent", next_attempt_at=utc_now())
    attempt(stage)
    assert {one.state for one in all_of(rows)} == {"confirmed"}
    assert orthanc.sop_instance_uids(study) == sorted(one.SOPInstanceUID for one in made)


@pytest.mark.orthanc
def test_orthanc_holds_it_once_even_if_it_cannot_be_asked(rows: Rows, orthanc: Orthanc) -> None:
    study = "2.25.202"
    [made] = add(rows, study, 1)
    stage = stage_of(rows, table(orthanc.port, orthanc.ae_title, confirm="none"))
    attempt(stage)
    with rows.ledger.write() as connection:
        deliveries.change(connection, only(rows).delivery_id, state="sent", next_attempt_at=utc_now())
    attempt(stage)
    assert only(rows).state == "stored"
    assert orthanc.sop_instance_uids(study) == [made.SOPInstanceUID]


@pytest.mark.orthanc
def test_a_report_is_what_was_sent_to_the_byte(rows: Rows, orthanc: Orthanc) -> None:
    study = "2.25.203"
    [made] = add(rows, study, 1)
    attempt(stage_of(rows, table(orthanc.port, orthanc.ae_title)))
    [found] = [
        one
        for one in orthanc.get("/instances")
        if orthanc.get(f"/instances/{one}/simplified-tags")["StudyInstanceUID"] == study
    ]
    sent, held = dcmread(BytesIO(encoded(made))), dcmread(BytesIO(orthanc.content(f"/instances/{found}/file")))
    assert held.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    assert sent == held


@pytest.mark.orthanc
def test_a_killed_pacs_gets_everything_when_it_is_back(rows: Rows, own_orthanc: Orthanc) -> None:
    study = "2.25.204"
    stage = stage_of(rows, table(own_orthanc.port, own_orthanc.ae_title))
    first = add(rows, study, 1)
    attempt(stage)
    own_orthanc.kill()
    second = add(rows, study, 2, 3)
    attempt(stage)
    waiting = all_of(rows)[1:]
    assert [one.state for one in waiting] == ["pending", "pending"]
    assert all("nothing listens" in one.comment for one in waiting)
    own_orthanc.start()
    attempt(stage)
    assert [one.state for one in all_of(rows)] == ["confirmed"] * 3
    assert own_orthanc.sop_instance_uids(study) == sorted(one.SOPInstanceUID for one in (*first, *second))


@pytest.mark.orthanc
def test_checking_orthanc(orthanc: Orthanc) -> None:
    assert "answers a C-ECHO" in check_destination("pacs", table(orthanc.port, orthanc.ae_title), "TRIAGE")


Handler = Callable[[evt.Event], object]


@contextmanager
def peer(
    on_store: Handler,
    *,
    syntaxes: tuple[str, ...] = (ExplicitVRLittleEndian, ImplicitVRLittleEndian),
    on_find: Handler | None = None,
    ae_title: str = "PACS",
    knows: tuple[str, ...] = (),
    classes: tuple[str, ...] = (SecondaryCaptureImageStorage,),
) -> Iterator[int]:
    """A storage SCP that answers as it is told to. Gives its port."""
    ae = AE(ae_title=ae_title)
    ae.require_called_aet = True
    ae.require_calling_aet = list(knows)
    ae.add_supported_context(Verification)
    for uid in classes:
        ae.add_supported_context(uid, list(syntaxes))
    handlers: list[tuple[evt.EventType, Handler]] = [(evt.EVT_C_STORE, on_store)]
    if on_find is not None:
        ae.supported_contexts = [*ae.supported_contexts, build_context(StudyRootQueryRetrieveInformationModelFind)]
        handlers.append((evt.EVT_C_FIND, on_find))
    port = free_port()
    server = ae.start_server(("127.0.0.1", port), block=False, evt_handlers=handlers)
    try:
        yield port
    finally:
        server.shutdown()


def said(status: int, comment: str) -> Dataset:
    answer = Dataset()
    answer.Status = status
    answer.ErrorComment = comment
    return answer


def values_of(dataset: Dataset) -> dict[int, object]:
    """Without the value representations, which Implicit VR does not carry."""
    return {int(element.tag): element.value for element in dataset}


def takes_it(event: evt.Event) -> int:
    return 0x0000


@pytest.mark.parametrize(
    ("status", "comment", "state", "reason"),
    [
        (0xA700, "archive is full", "pending", "deliver.busy"),
        (0x0213, "too many", "pending", "deliver.busy"),
        (0xC000, "cannot understand", "refused", "deliver.refused"),
        (0xA900, "wrong class", "refused", "deliver.refused"),
        (0x0122, "class not supported", "refused", "deliver.refused"),
        (0x0124, "not authorized", "refused", "deliver.refused"),
        (0xB000, "patient id coerced", "stored", None),
    ],
)
def test_each_status_and_comment_is_kept(rows: Rows, status: int, comment: str, state: str, reason: str | None) -> None:
    add(rows, "2.25.301", 1)
    with peer(lambda event: said(status, comment)) as port:
        attempt(stage_of(rows, table(port)))
    one = only(rows)
    assert (one.state, one.status, one.comment) == (state, status, comment)
    assert (None if one.reason is None else one.reason["code"]) == reason


def test_an_aborted_association_is_tried_again(rows: Rows) -> None:
    add(rows, "2.25.302", 1, 2)
    seen: list[str] = []

    def aborts_once(event: evt.Event) -> int:
        seen.append(str(event.request.AffectedSOPInstanceUID))
        if len(seen) == 2:
            event.assoc.abort()
        return 0x0000

    with peer(aborts_once) as port:
        stage = stage_of(rows, table(port))
        attempt(stage)
        first, second = all_of(rows)
        assert (first.state, second.state) == ("stored", "sent")
        assert "ended the association" in second.comment
        attempt(stage)
    assert [one.state for one in all_of(rows)] == ["stored", "stored"]
    assert seen.count(first.sop_instance_uid) == 1


def test_a_peer_that_hangs_costs_its_timeout(rows: Rows) -> None:
    add(rows, "2.25.303", 1)

    def hangs(event: evt.Event) -> int:
        time.sleep(1.5)
        return 0x0000

    with peer(hangs) as port:
        attempt(stage_of(rows, table(port, timeout_s=0.5)))
    one = only(rows)
    assert (one.state, one.status) == ("sent", None)
    assert "no answer to the object within 0.5 s" in one.comment


def test_a_title_that_the_peer_does_not_know_is_told(rows: Rows) -> None:
    add(rows, "2.25.304", 1)
    with peer(takes_it, knows=("OTHER",)) as port:
        attempt(stage_of(rows, table(port)))
        one = only(rows)
        assert one.state == "pending"
        assert one.reason is not None and one.reason["code"] == "deliver.ae_title_rejected"
        assert "does not know the AE title TRIAGE" in one.comment
        with pytest.raises(UnreachableError, match="does not know the AE title TRIAGE"):
            check_destination("pacs", table(port), "TRIAGE")


def test_a_wrong_title_of_the_peer_is_told(rows: Rows) -> None:
    add(rows, "2.25.305", 1)
    with peer(takes_it) as port:
        attempt(stage_of(rows, table(port, ae_title="WRONG")))
        assert "it is not called WRONG" in only(rows).comment


def test_a_transient_rejection_is_told_and_tried_again(rows: Rows) -> None:
    add(rows, "2.25.306", 1)
    rejection = struct.pack(">BBIBBBB", 0x03, 0, 4, 0, 2, 3, 2)  # transient, presentation, local limit exceeded
    with socket.create_server(("127.0.0.1", 0)) as server:

        def reject() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(rejection)
                connection.recv(65536)

        thread = threading.Thread(target=reject)
        thread.start()
        attempt(stage_of(rows, table(server.getsockname()[1])))
        thread.join(10)
    one = only(rows)
    assert one.state == "pending"
    assert "rejects the association: Local limit exceeded" in one.comment


def test_only_implicit_vr_is_served_by_encoding_anew(rows: Rows) -> None:
    [made] = add(rows, "2.25.307", 1)
    got: list[Dataset] = []

    def keeps(event: evt.Event) -> int:
        got.append(event.dataset)
        assert event.context.transfer_syntax == ImplicitVRLittleEndian
        return 0x0000

    with peer(keeps, syntaxes=(ImplicitVRLittleEndian,)) as port:
        attempt(stage_of(rows, table(port)))
    assert only(rows).state == "stored"
    assert [values_of(one) for one in got] == [values_of(made)]


def test_the_file_goes_out_as_it_is(rows: Rows) -> None:
    [made] = add(rows, "2.25.308", 1)
    got: list[bytes] = []

    def keeps(event: evt.Event) -> int:
        got.append(event.request.DataSet.getvalue())
        return 0x0000

    with peer(keeps) as port:
        attempt(stage_of(rows, table(port)))
    assert encoded(made).endswith(got[0]) and len(got[0]) > 200


def test_a_class_that_is_not_accepted_refuses_only_its_objects(rows: Rows) -> None:
    made = [made_object(1, study="2.25.309"), made_object(2, study="2.25.309", sop_class_uid=ComprehensiveSRStorage)]
    rows.add_deliveries(rows.add_result(at=utc_now(), study="2.25.309"), made, ["pacs"], utc_now())
    with peer(takes_it) as port:
        attempt(stage_of(rows, table(port)))
    taken, refused = all_of(rows)
    assert (taken.state, refused.state, refused.status) == ("stored", "refused", None)
    assert refused.reason is not None and refused.reason["code"] == "deliver.class_not_accepted"


def test_a_peer_without_queries_leaves_it_stored(rows: Rows) -> None:
    add(rows, "2.25.310", 1)
    with peer(takes_it) as port:
        stage = stage_of(rows, table(port))
        attempt(stage)
        one = only(rows)
        assert (one.state, one.next_attempt_at) == ("stored", None)
        assert stage.next_due(utc_now()) is None
        assert "never `confirmed`" in check_destination("pacs", table(port), "TRIAGE")


def test_a_failing_query_leaves_it_stored(rows: Rows) -> None:
    add(rows, "2.25.311", 1)

    def fails(event: evt.Event) -> Iterator[tuple[int, None]]:
        yield 0xC000, None

    with peer(takes_it, on_find=fails) as port:
        attempt(stage_of(rows, table(port)))
    assert (only(rows).state, only(rows).next_attempt_at) == ("stored", None)


def test_an_object_that_got_lost_at_the_peer_is_noticed(rows: Rows) -> None:
    add(rows, "2.25.312", 1)

    def finds_nothing(event: evt.Event) -> Iterator[tuple[int, None]]:
        yield from ()

    with peer(takes_it, on_find=finds_nothing) as port:
        attempt(stage_of(rows, table(port)))
    one = only(rows)
    assert one.state == "stored" and one.next_attempt_at is not None
    assert "not found" in one.comment


@pytest.mark.parametrize(
    ("host", "words"),
    [("127.0.0.1", "nothing listens at 127.0.0.1"), ("no-such-host.invalid", "the host name no-such-host.invalid")],
)
def test_what_keeps_it_from_connecting_is_told(host: str, words: str) -> None:
    with pytest.raises(UnreachableError, match=words):
        check_destination("pacs", table(free_port(), host=host), "TRIAGE")


def test_a_peer_that_never_answers_the_request_is_told(rows: Rows) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        pytest.raises(UnreachableError, match="does not answer the association request"),
    ):
        check_destination("pacs", table(silent.getsockname()[1], timeout_s=0.3), "TRIAGE")

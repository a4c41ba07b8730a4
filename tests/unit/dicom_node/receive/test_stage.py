from __future__ import annotations

import hashlib
import json
import os
from dataclasses import replace
from pathlib import Path

import pydicom
import pytest
from sqlalchemy import select, text

from db import audit
from db.connect import Ledger
from db.instances import of_study
from db.quarantine import list_quarantined
from db.schema import associations, instances, revisions, series
from dicom_node.receive.policy import Announced
from dicom_node.receive.stage import Arrival, Intake, Sender
from dicom_node.receive.transfer_syntaxes import EXPLICIT_LITTLE_ENDIAN, IMPLICIT_LITTLE_ENDIAN
from dicom_node.spool import GrowingFile, Spool
from pipelines.reasons import Reason
from tests.conftest import MovableClock
from tests.unit.dicom_node.receive.made import HEADER, dataset, encoded


class Wakes:
    count = 0

    def __call__(self) -> None:
        self.count += 1


@pytest.fixture
def wakes() -> Wakes:
    return Wakes()


@pytest.fixture
def intake(ledger: Ledger, spool: Spool, clock: MovableClock, wakes: Wakes) -> Intake:
    return Intake(ledger, spool, "receive-0", notify=wakes, clock=clock, free_bytes=0)


@pytest.fixture
def sender(intake: Intake) -> Sender:
    return intake.open("CT1", "TRIAGE", "10.0.0.1")


def send(
    intake: Intake,
    sender: Sender,
    content: bytes,
    uid: str = HEADER.sop_instance_uid,
    syntax: str = EXPLICIT_LITTLE_ENDIAN,
) -> Reason | None:
    arrival = Arrival(intake, sender, Announced(HEADER.sop_class_uid, uid, syntax))
    for at in range(0, len(content), 100):
        arrival.take(memoryview(content)[at : at + 100])
    return arrival.finish()


def made(number: int = 1, series_uid: str = HEADER.series_instance_uid, **changes: str) -> tuple[bytes, str]:
    header = replace(HEADER, sop_instance_uid=f"1.2.3.4.{number}", series_instance_uid=series_uid, **changes)
    return encoded(dataset(header), EXPLICIT_LITTLE_ENDIAN), header.sop_instance_uid


def left_in(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


@pytest.mark.parametrize("syntax", [EXPLICIT_LITTLE_ENDIAN, IMPLICIT_LITTLE_ENDIAN])
def test_an_instance_is_stored_byte_for_byte_with_its_row(
    ledger: Ledger, spool: Spool, intake: Intake, sender: Sender, *, wakes: Wakes, syntax: str
) -> None:
    content = encoded(dataset(), syntax)
    assert send(intake, sender, content, syntax=syntax) is None
    with ledger.read() as connection:
        [row] = of_study(connection, HEADER.study_instance_uid)
        [study] = connection.execute(text("SELECT patient_id, patient_name, study_description FROM studies")).all()
    stored = spool.path(row.file)
    assert stored.read_bytes().endswith(content)
    assert (row.sha256, row.size_bytes) == (hashlib.sha256(content).hexdigest(), len(content))
    assert row.transfer_syntax_uid == syntax == pydicom.dcmread(stored).file_meta.TransferSyntaxUID
    assert tuple(study) == ("P1", "Made^Up", "HEAD")
    assert wakes.count == 1
    assert left_in(spool.root / "tmp") == []


def test_identical_content_is_acknowledged_again_without_a_second_row(
    ledger: Ledger, intake: Intake, sender: Sender
) -> None:
    content, uid = made()
    assert send(intake, sender, content, uid) is None
    assert send(intake, intake.open("CT2", "TRIAGE", "10.0.0.2"), content, uid) is None
    with ledger.read() as connection:
        assert len(connection.execute(select(instances)).all()) == 1


def test_other_content_under_a_held_uid_is_refused_and_kept_once(
    ledger: Ledger, spool: Spool, intake: Intake, sender: Sender
) -> None:
    content, uid = made()
    other, _ = made(patient_name="Other")
    assert send(intake, sender, content, uid) is None
    for _ in range(2):
        reason = send(intake, sender, other, uid)
        assert reason is not None
        assert reason.row.dimse_status == 0x0111
    with ledger.read() as connection:
        [row] = of_study(connection, HEADER.study_instance_uid)
        [kept] = list_quarantined(connection)
        [event] = audit.rows(connection)
    assert row.sha256 == hashlib.sha256(content).hexdigest()
    assert spool.path(kept.file).read_bytes().endswith(other)
    assert kept.reason["code"] == json.loads(event.facts)["reason"] == "receive.duplicate_differs"


def test_a_series_under_a_second_study_is_kept_apart(ledger: Ledger, intake: Intake, sender: Sender) -> None:
    assert send(intake, sender, *made(1)) is None
    reason = send(intake, sender, *made(2, study_instance_uid="1.2.99"))
    assert reason == Reason("receive.series_in_other_study")
    with ledger.read() as connection:
        assert of_study(connection, "1.2.99") == []


@pytest.mark.parametrize(
    ("content", "uid", "code", "status"),
    [
        (b"", "1.2.3.4", "receive.data_set_unreadable", 0xC000),
        (b"no data set at all", "1.2.3.4", "receive.data_set_unreadable", 0xC000),
        (encoded(dataset(), EXPLICIT_LITTLE_ENDIAN), "1.2.3.5", "receive.class_mismatch", 0xA900),
        (encoded(dataset(), EXPLICIT_LITTLE_ENDIAN), "../../etc/passwd", "receive.class_mismatch", 0xA900),
    ],
)
def test_what_cannot_be_entered_is_refused_and_its_bytes_are_kept(
    ledger: Ledger, spool: Spool, intake: Intake, sender: Sender, *, content: bytes, uid: str, code: str, status: int
) -> None:
    reason = send(intake, sender, content, uid)
    assert reason is not None
    assert (reason.code, reason.row.dimse_status) == (code, status)
    with ledger.read() as connection:
        [kept] = list_quarantined(connection)
        assert connection.execute(select(instances)).first() is None
    assert kept.file.startswith("quarantine/")
    assert spool.path(kept.file).read_bytes().endswith(content)
    assert kept.sop_instance_uid == uid


class FullSpool(Spool):
    """A spool whose files take nothing: the kernel's full device stands behind them."""

    def begin(self) -> GrowingFile:
        file = super().begin()
        full = os.open("/dev/full", os.O_RDWR)
        os.dup2(full, file.descriptor)
        os.close(full)
        return file


def test_a_full_disk_is_answered_with_out_of_resources_and_said_once_a_minute(
    ledger: Ledger, tmp_path: Path, clock: MovableClock, wakes: Wakes
) -> None:
    full = FullSpool(tmp_path / "full")
    intake = Intake(ledger, full, "receive-0", notify=wakes, clock=clock, free_bytes=0)
    sender = intake.open("CT1", "TRIAGE", "10.0.0.1")
    for seconds in (0, 1, 61):
        clock.advance(seconds)
        reason = send(intake, sender, *made())
        assert reason == Reason("receive.disk_full")
        assert reason.row.dimse_status == 0xA700
    with ledger.read() as connection:
        assert [row.event for row in audit.rows(connection)] == ["instance.refused"] * 2
        assert connection.execute(select(instances)).first() is None
    assert left_in(full.root) == []


def test_the_space_that_must_stay_free_is_not_used(
    ledger: Ledger, spool: Spool, clock: MovableClock, wakes: Wakes
) -> None:
    intake = Intake(ledger, spool, "receive-0", notify=wakes, clock=clock, free_bytes=2**62)
    assert send(intake, intake.open("CT1", "TRIAGE", "10.0.0.1"), *made()) == Reason("receive.disk_full")
    assert left_in(spool.root) == []


def test_a_ledger_that_cannot_be_written_refuses_and_a_later_try_succeeds(
    ledger: Ledger, spool: Spool, intake: Intake, sender: Sender
) -> None:
    with ledger.write() as connection:
        connection.execute(text("ALTER TABLE instances RENAME TO away"))
    reason = send(intake, sender, *made())
    assert reason is not None
    assert reason.row.dimse_status == 0xA700
    with ledger.write() as connection:
        connection.execute(text("ALTER TABLE away RENAME TO instances"))
    assert send(intake, sender, *made()) is None
    with ledger.read() as connection:
        assert len(of_study(connection, HEADER.study_instance_uid)) == 1
        assert len(connection.execute(select(associations)).all()) == 1


def test_a_new_instance_of_a_series_that_is_complete_opens_the_next_revision(
    ledger: Ledger, intake: Intake, sender: Sender, wakes: Wakes
) -> None:
    assert send(intake, sender, *made(1)) is None
    assert send(intake, sender, *made(2)) is None
    assert wakes.count == 1
    with ledger.write() as connection:
        connection.execute(revisions.update().values(state="complete"))
    assert send(intake, sender, *made(1)) is None
    assert wakes.count == 1  # one that is held already is no news
    assert send(intake, sender, *made(3)) is None
    assert wakes.count == 2
    with ledger.read() as connection:
        numbers = [row.revision_number for row in of_study(connection, HEADER.study_instance_uid)]
        states = connection.execute(select(revisions.c.number, revisions.c.state)).all()
    assert numbers == [1, 1, 2]
    assert [tuple(row) for row in states] == [(1, "complete"), (2, "receiving")]


def test_each_series_is_entered_once(ledger: Ledger, intake: Intake, sender: Sender) -> None:
    for number, uid in enumerate(["1.2.3.1", "1.2.3.2", "1.2.3.1"]):
        assert send(intake, sender, *made(number, uid)) is None
    with ledger.read() as connection:
        assert len(connection.execute(select(series)).all()) == 2


def test_the_end_of_an_association_is_noted_and_wakes(
    ledger: Ledger, intake: Intake, sender: Sender, clock: MovableClock, wakes: Wakes
) -> None:
    send(intake, sender, *made())
    clock.advance(5)
    intake.end(sender, "released")
    with ledger.read() as connection:
        [row] = connection.execute(select(associations)).all()
    assert (row.ended_by, row.ended_at, row.calling_ae_title) == ("released", clock.now, "CT1")
    assert wakes.count == 2


def test_an_association_that_brought_nothing_leaves_no_row(ledger: Ledger, intake: Intake, sender: Sender) -> None:
    intake.end(sender, "released")
    with ledger.read() as connection:
        assert connection.execute(select(associations)).first() is None


def test_a_receiver_that_starts_again_ends_its_own_open_associations(
    ledger: Ledger, spool: Spool, intake: Intake, sender: Sender, *, clock: MovableClock, wakes: Wakes
) -> None:
    other = Intake(ledger, spool, "receive-1", notify=wakes, clock=clock, free_bytes=0)
    send(intake, sender, *made(1))
    send(other, other.open("CT2", "TRIAGE", "10.0.0.2"), *made(2))
    Intake(ledger, spool, "receive-0", notify=wakes, clock=clock, free_bytes=0).recover()
    with ledger.read() as connection:
        ends = connection.execute(select(associations.c.receiver, associations.c.ended_by)).all()
    assert sorted(map(tuple, ends), key=str) == [("receive-0", "lost"), ("receive-1", None)]


def test_an_interrupted_arrival_leaves_nothing(spool: Spool, intake: Intake, sender: Sender) -> None:
    arrival = Arrival(intake, sender, Announced(HEADER.sop_class_uid, "1.2", EXPLICIT_LITTLE_ENDIAN))
    arrival.take(b"half of it")
    arrival.close()
    assert left_in(spool.root) == []

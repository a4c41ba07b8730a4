from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import SecondaryCaptureImageStorage
from sqlalchemy import Row, insert, select

from db import audit, decisions, revisions
from db.connect import Ledger
from db.schema import jobs, objects, results
from db.schema import revisions as revision_rows
from dicom_node.assemble.stage import AssembleStage
from dicom_node.route.stage import RouteStage
from dicom_node.settings import Settings
from dicom_node.spool import Spool
from pipelines.reasons import Reason
from reporting.uids import MODEL_NAME
from tests.conftest import MovableClock
from tests.unit.dicom_node.made import SAGITTAL, Sender, header, settle, stack


class Node:
    """The way from receiving to the queue."""

    def __init__(self, ledger: Ledger, spool: Spool) -> None:
        self.ledger = ledger
        self.sender = Sender(ledger, spool)
        self.assemble = AssembleStage(ledger, spool, Settings())
        self.route = RouteStage(ledger, spool, Settings())

    def settle(self, now: datetime) -> None:
        settle(self.assemble, now)
        settle(self.route, now)

    def decided(self) -> dict[str, tuple[str, str | None]]:
        """Action and reason by the last part of the series' UID, for the newest revision of each."""
        found = {}
        with self.ledger.read() as connection:
            for row in connection.execute(select(revision_rows).order_by(revision_rows.c.number)):
                decision = decisions.decision_on(connection, row.revision_id)
                if decision is not None:
                    reason = decision.reason["code"] if decision.reason else None
                    found[row.series_instance_uid.rsplit(".", 1)[-1]] = (decision.action, reason)
        return found

    def queue(self) -> list[Row[Any]]:
        query = select(revision_rows.c.series_instance_uid, jobs.c.pipeline, jobs.c.priority, jobs.c.state).join(
            revision_rows, revision_rows.c.revision_id == jobs.c.revision_id
        )
        with self.ledger.read() as connection:
            return list(connection.execute(query.order_by(jobs.c.job_id)))


@pytest.fixture
def node(ledger: Ledger, spool: Spool) -> Node:
    return Node(ledger, spool)


LOCALIZER = header(1, 1, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"], ImageOrientationPatient=SAGITTAL)


def thin(series: int) -> list[Dataset]:
    return stack(series, slices=41, SliceThickness=2)


def thick(series: int) -> list[Dataset]:
    return stack(series, slices=17)


def test_study_is_decided_and_the_reading_asked_for(node: Node, clock: MovableClock) -> None:
    node.sender.push([LOCALIZER, *thick(2), *thin(3)], clock())
    node.settle(clock())
    assert node.decided() == {
        "1": ("ignored", "selection.localizer"),
        "2": ("ignored", "selection.thicker"),
        "3": ("read", None),
    }
    assert node.queue() == [("2.25.1.3", "hemorrhage", 0, "waiting")]
    assert node.route.claim(clock()) is None


def test_decisions_are_audited_without_text_of_the_header(node: Node, clock: MovableClock) -> None:
    node.sender.push([LOCALIZER, *stack(2, 17, PatientName="Doe^Jane", SeriesDescription="Jane's head")], clock())
    node.settle(clock())
    with node.ledger.read() as connection:
        events = [row for row in audit.rows(connection) if row.event == "decision.made"]
        _, _, broken = audit.verify(connection)
        facts = [
            decisions.decision_on(connection, row.revision_id) for row in connection.execute(select(revision_rows))
        ]
    assert {event.study_instance_uid for event in events} == {"2.25.1"}
    assert broken is None
    told = sorted((json.loads(event.facts) for event in events), key=lambda one: one["series_instance_uid"])
    assert [(one["action"], one["rule"], one["reason"]) for one in told] == [
        ("ignored", "head_bleed", "selection.localizer"),
        ("read", "head_bleed", None),
    ]
    assert "Jane" not in "".join(event.facts for event in events) + str(facts)


def test_waits_for_the_better_series_that_still_arrives(node: Node, clock: MovableClock) -> None:
    node.sender.push(thick(2), clock())
    association = node.sender.open(clock())
    node.sender.send(association, thin(3)[:5], clock())
    node.settle(clock())
    assert node.decided() == {}
    assert node.route.claim(clock()) is None
    node.sender.send(association, thin(3)[5:], clock())
    node.sender.end(association, clock())
    node.settle(clock())
    assert node.decided() == {"2": ("ignored", "selection.thicker"), "3": ("read", None)}


def test_does_not_wait_for_a_worse_series(node: Node, clock: MovableClock) -> None:
    association = node.sender.open(clock())
    node.sender.send(association, thick(2)[:5], clock())
    node.sender.push(thin(3), clock())
    node.settle(clock())
    assert node.decided() == {"3": ("read", None)}
    node.sender.send(association, thick(2)[5:], clock())
    node.sender.end(association, clock())
    node.settle(clock())
    assert node.decided() == {"2": ("ignored", "selection.thicker"), "3": ("read", None)}


def test_better_series_that_comes_later_is_read_too_and_says_so(node: Node, clock: MovableClock) -> None:
    node.sender.push(thick(2), clock())
    node.settle(clock())
    clock.advance(60)
    node.sender.push(thin(3), clock())
    node.settle(clock())
    assert [row.series_instance_uid for row in node.queue()] == ["2.25.1.2", "2.25.1.3"]
    with node.ledger.read() as connection:
        last = [json.loads(row.facts) for row in audit.rows(connection, event="decision.made")][-1]
    assert last["instead_of"] == ["2.25.1.2"]


def test_new_revision_of_a_series_is_decided_anew(node: Node, clock: MovableClock) -> None:
    node.sender.push(thin(3), clock())
    node.settle(clock())
    node.sender.push([header(3, n, SliceThickness=2) for n in (42, 43)], clock())
    node.settle(clock())
    assert [row.series_instance_uid for row in node.queue()] == ["2.25.1.3", "2.25.1.3"]


def test_revision_that_was_superseded_before_it_was_decided_is_passed_over(node: Node, clock: MovableClock) -> None:
    node.sender.push(thin(3), clock())
    settle(node.assemble, clock())
    work = node.route.claim(clock())
    assert work is not None
    node.sender.push([header(3, n, SliceThickness=2) for n in (42, 43)], clock())
    settle(node.assemble, clock())
    node.route.carry_out(work, clock())
    assert node.queue() == []
    settle(node.route, clock())
    assert len(node.queue()) == 1


def test_studies_do_not_compete_with_each_other(node: Node, clock: MovableClock) -> None:
    node.sender.push([*stack(1, 17, study=1), *stack(1, 17, study=2)], clock())
    node.settle(clock())
    assert [row.series_instance_uid for row in node.queue()] == ["2.25.1.1", "2.25.2.1"]


def test_series_without_a_readable_header_is_not_read_and_says_why(node: Node, clock: MovableClock) -> None:
    association = node.sender.open(clock())
    node.sender.send(association, stack(1, slices=3), clock(), content=b"no DICOM")
    node.sender.send(association, thick(2), clock())
    node.sender.end(association, clock())
    node.settle(clock())
    assert node.decided() == {"1": ("not_read", "input.not_dicom"), "2": ("read", None)}


def test_study_that_cannot_be_decided_is_not_read(node: Node, clock: MovableClock) -> None:
    node.sender.push(thick(2), clock())
    settle(node.assemble, clock())
    work = node.route.claim(clock())
    assert work is not None
    node.route.put_off(work, Reason("service.unexpected", {"stage": "route", "error": "KeyError"}), clock())
    assert node.decided() == {"2": ("not_read", "service.unexpected")}
    assert node.route.claim(clock()) is None


def test_own_result_is_known_by_its_equipment(node: Node, clock: MovableClock) -> None:
    capture = header(
        7, 1, SOPClassUID=SecondaryCaptureImageStorage, ManufacturerModelName=MODEL_NAME, ImagePositionPatient=None
    )
    node.sender.push([capture], clock())
    node.settle(clock())
    assert node.decided() == {"7": ("ignored", "route.own_result")}


def test_own_result_is_known_by_the_ledger(node: Node, clock: MovableClock) -> None:
    node.sender.push(thick(2), clock())
    node.settle(clock())
    with node.ledger.write() as connection:
        job = connection.execute(select(jobs)).one()
        values: dict[str, Any] = {
            "job_id": job.job_id, "revision_id": job.revision_id, "study_instance_uid": "2.25.1", "status": "clean",
            "pipeline": "hemorrhage", "outcome": {}, "configuration_hash": "", "recorded_at": clock(),
            "fencing_token": 1,
        }  # fmt: skip
        known = {name: value for name, value in values.items() if name in results.c}
        result_id = connection.execute(insert(results).values(**known).returning(results.c.result_id)).scalar_one()
        connection.execute(
            insert(objects).values(
                result_id=result_id, kind="summary_image", sop_class_uid=SecondaryCaptureImageStorage, file="",
                sop_instance_uid="2.25.1.8.1", series_instance_uid="2.25.1.8", sha256="", size_bytes=0,
            )
        )  # fmt: skip
    node.sender.push(stack(8, slices=3), clock())
    node.settle(clock())
    assert node.decided()["8"] == ("ignored", "route.own_result")


def test_newest_revision_stands_for_its_series(node: Node, clock: MovableClock) -> None:
    node.sender.push(thick(2), clock())
    node.settle(clock())
    with node.ledger.write() as connection:
        (newest,) = revisions.newest(connection, "2.25.1")
        assert (newest.number, newest.state, newest.action, newest.pipeline) == (1, "complete", "read", "hemorrhage")
        revisions.mark_read(connection, newest.revision_id)
        assert revisions.state_of(connection, newest.revision_id) == "read"
        revisions.supersede(connection, newest.revision_id, state="superseded", by=newest.revision_id)
        revisions.mark_read(connection, newest.revision_id)
        assert revisions.state_of(connection, newest.revision_id) == "superseded"


def test_real_study_with_localizer_and_screens(node: Node, clock: MovableClock, triage_data: Path) -> None:
    files = sorted(path for path in (triage_data / "head/philips_phantom_study").glob("S*/*") if path.is_file())
    association = node.sender.open(clock())
    for path in files:
        node.sender.send(association, [dcmread(path, stop_before_pixels=True)], clock(), content=path.read_bytes())
    node.sender.end(association, clock())
    node.settle(clock())
    assert sorted(node.decided().values(), key=str) == [
        ("ignored", "selection.localizer"),
        ("ignored", "selection.secondary_capture"),
        ("read", None),
    ]
    assert [(row.pipeline, row.priority) for row in node.queue()] == [("hemorrhage", 0)]

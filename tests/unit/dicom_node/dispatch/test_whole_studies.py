"""Studies that are read as one: what the worker is given, what is recorded, and what a later view does to it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset
from pydicom.uid import SecondaryCaptureImageStorage

from db import alerts, audit, deliveries, results, revisions, studies
from db import jobs as job_rows
from db.connect import Ledger
from dicom_node.alert.stage import RaiseStage
from dicom_node.assemble.stage import AssembleStage
from dicom_node.dispatch import run
from dicom_node.dispatch.run import ReadRequest, read_series
from dicom_node.dispatch.stage import DispatchStage
from dicom_node.identity import equipment
from dicom_node.route.stage import RouteStage
from dicom_node.settings import Settings, parse
from dicom_node.spool import Spool
from reporting import uids
from reporting.build import BuiltObject
from reporting.source import ReportCase
from tests.conftest import MovableClock
from tests.unit.dicom_node.dispatch.test_stage import HereAndNow
from tests.unit.dicom_node.made import Sender, encoded, settle
from tests.unit.dicom_node.mammograms import VIEWS, four_views, view, with_pixels

TOML = """
[routes.breast]
pipeline = "dummy_study"
when = { Modality = "MG" }
[pipelines.dummy_study]
answer = "finding"
[destinations.pacs]
ae_title = "PACS"
host = "localhost"
port = 11113
[alerts.oncall]
channels = ["json://localhost/x"]
"""
UIDS = [f"2.25.1.{number}" for number in range(1, 6)]


class Bench:
    """All stages from assembling to alerting."""

    def __init__(self, ledger: Ledger, spool: Spool, clock: MovableClock) -> None:
        self.ledger, self.spool, self.clock = ledger, spool, clock
        self.settings = parse(TOML)
        self.sender = Sender(ledger, spool)
        self.engine: Any = HereAndNow()
        self.start()

    def start(self) -> None:
        """As after a crash: only the ledger is left."""
        arguments = (self.ledger, self.spool, self.settings)
        self.before = [AssembleStage(*arguments), RouteStage(*arguments)]
        self.dispatch = DispatchStage(
            ledger=self.ledger, settings=self.settings, spool=self.spool, engine=self.engine, clock=self.clock,
            notify=lambda: None,
        )  # fmt: skip
        self.after = RaiseStage(self.ledger, self.settings)

    def receive(self, *made: Dataset) -> None:
        """Each over an association of its own, up to the queue."""
        for one in made:
            self.sender.push([with_pixels(one)], self.clock())
        self.route()

    def route(self) -> None:
        for stage in self.before:
            settle(stage, self.clock())

    def settle(self) -> None:
        settle(self.dispatch, self.clock())
        settle(self.after, self.clock())

    def results(self) -> list[results.Result]:
        """Of every job that gave one, the first job in front."""
        with self.ledger.read() as connection:
            held = [results.of_job(connection, job.job_id) for job in job_rows.list_jobs(connection)]
        return sorted((one for one in held if one is not None), key=lambda one: one.result_id)

    def jobs(self) -> list[job_rows.Job]:
        with self.ledger.read() as connection:
            return sorted(job_rows.list_jobs(connection), key=lambda job: job.job_id)

    def study(self) -> studies.Study:
        with self.ledger.read() as connection:
            found = studies.find_study(connection, "2.25.1")
        assert found is not None
        return found

    def delivered(self) -> list[int]:
        """The results of which an object is on its way."""
        with self.ledger.read() as connection:
            return sorted({one.result_id for one in deliveries.list_deliveries(connection)})

    def alerts(self) -> int:
        with self.ledger.read() as connection:
            return len(alerts.list_alerts(connection))

    def events(self, kind: str) -> list[dict[str, Any]]:
        with self.ledger.read() as connection:
            return [json.loads(row.facts) for row in audit.rows(connection, event=kind)]


def picture(case: ReportCase) -> tuple[BuiltObject, ...]:
    """In place of the reports, of which the ledger wants to know only what they are called."""
    assert case.study is not None
    assert (case.planes, case.frames, case.pixels.size) == ((), (1,) * len(case.study.views), 0)
    assert [str(one.SOPInstanceUID) for one in case.headers] == [one.instance_uid for one in case.study.views]
    uid = uids.object_uid(case, "summary_image")
    content = uid.encode()
    digest = hashlib.sha256(content).hexdigest()
    series = uids.series_uid(case, "summary_image")
    return (BuiltObject("summary_image", SecondaryCaptureImageStorage, uid, series, content, digest),)


@pytest.fixture(autouse=True)
def no_reports(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "build", picture)


@pytest.fixture
def bench(ledger: Ledger, spool: Spool, clock: MovableClock) -> Bench:
    return Bench(ledger, spool, clock)


def test_the_reader_is_given_every_file_and_every_series_has_the_answer(bench: Bench) -> None:
    bench.receive(*four_views())
    bench.settle()
    [request] = bench.engine.requests
    assert len({path.read_bytes() for path in request.files}) == 4
    [result] = bench.results()
    assert (result.status, [one["view"] for one in result.outcome["findings"]]) == ("finding", ["R CC"])
    study = bench.study()
    assert [(one.state, one.pipeline) for one in study.series] == [("finding", "dummy_study")] * 4
    assert (study.state, bench.delivered(), bench.alerts()) == ("finding", [result.result_id], 1)
    with bench.ledger.read() as connection:
        assert {one.state for one in revisions.newest(connection, "2.25.1")} == {"read"}


def test_the_trail_names_every_series_that_was_read(bench: Bench) -> None:
    bench.receive(*four_views())
    bench.settle()
    [told] = bench.events("reading.done")
    assert [one["series_instance_uid"] for one in told["series"]] == UIDS[:4]
    assert all(one["digest"] and one["revision"] == 1 for one in told["series"])


def test_a_later_view_gives_a_second_answer_in_place_of_the_first(bench: Bench) -> None:
    bench.receive(*four_views())
    bench.settle()
    bench.clock.advance(3600)
    bench.receive(view(5, "R CC"))
    bench.settle()
    first, second = bench.results()
    assert [len(request.files) for request in bench.engine.requests] == [4, 5]
    assert [one.state for one in bench.study().series] == ["finding"] * 5
    assert bench.alerts() == 1, "what the study shows was told"
    assert bench.delivered() == [first.result_id, second.result_id]
    with bench.ledger.read() as connection:
        objects = [results.objects_of(connection, one.result_id)[0] for one in (first, second)]
    assert objects[0].sop_instance_uid != objects[1].sop_instance_uid


def test_a_view_that_comes_before_the_reading_cancels_it(bench: Bench) -> None:
    bench.receive(*four_views())
    bench.receive(view(5, "R CC"))
    bench.settle()
    assert [(job.state, job.reason and job.reason["code"]) for job in bench.jobs()] == [
        ("cancelled", "revision.superseded"),
        ("done", None),
    ]
    [result] = bench.results()
    assert (len(bench.engine.requests), bench.delivered()) == (1, [result.result_id])


@pytest.mark.parametrize("late", [view(5, "R CC"), view(2, "L CC", number=2)])
def test_an_answer_that_was_superseded_meanwhile_is_kept_but_neither_delivered_nor_told(
    bench: Bench, late: Dataset
) -> None:
    bench.receive(*four_views())

    def comes() -> None:
        bench.receive(late)

    bench.engine.events = [comes]
    bench.settle()
    [_, second] = bench.results()
    assert (bench.delivered(), bench.alerts()) == ([second.result_id], 1)
    assert [one["reason"] for one in bench.events("alert.not_raised")] == ["alert.superseded"]


@pytest.mark.parametrize("killed_after", ["two views", "routing", "claiming"])
def test_a_restart_in_between_costs_nothing(bench: Bench, killed_after: str) -> None:
    made = four_views()
    bench.receive(*made[:2])
    if killed_after == "two views":
        bench.start()
    bench.receive(*made[2:])
    if killed_after == "claiming":
        assert bench.dispatch.claim(bench.clock()) is not None
    bench.start()
    with bench.ledger.write() as connection:
        job_rows.release_orphans(connection, now=bench.clock())
    bench.route()
    bench.settle()
    assert [job.state for job in bench.jobs()] == ["done"]
    assert len(bench.results()) == 1


def test_one_bad_view_is_not_read_with_its_reason_and_the_others_are(bench: Bench) -> None:
    bench.receive(*four_views(), view(5, "R CC", ImageLaterality=None))
    bench.settle()
    by_uid = {one.series_instance_uid: one for one in bench.study().series}
    bad = by_uid.pop("2.25.1.5")
    assert (bad.state, bad.score) == ("not_read", None)
    assert bad.reason is not None and bad.reason["code"] == "input.missing_attribute"
    assert [(one.state, one.reason) for one in by_uid.values()] == [("finding", None)] * 4
    assert bench.events("reading.done")[-1]["refused"] == {"2.25.1.5.1": "input.missing_attribute"}


def test_a_view_that_nobody_need_look_at_is_ignored(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """As an image For Processing whose view was read For Presentation."""
    read = run.read_series

    def with_twin(request: ReadRequest) -> run.ReadAnswer:
        answer = read(request)
        refused = [{**one, "action": "ignored"} for one in answer.outcome["refused"]]  # type: ignore[attr-defined]
        return replace(answer, outcome={**answer.outcome, "refused": refused})

    monkeypatch.setattr("tests.unit.dicom_node.dispatch.test_stage.read_series", with_twin)
    bench.receive(*four_views(), view(5, "R CC", ImageLaterality=None))
    bench.settle()
    assert [one.state for one in bench.study().series] == ["finding"] * 4 + ["ignored"]


def test_a_series_of_which_one_image_was_read_is_read(bench: Bench) -> None:
    bench.receive(*four_views(), view(4, "L MLO", number=2, ImageLaterality=None))
    bench.settle()
    assert [one.state for one in bench.study().series] == ["finding"] * 4


def test_a_study_of_bad_views_is_not_read(bench: Bench) -> None:
    bench.receive(*(view(n, name, ImageLaterality=None) for n, name in enumerate(VIEWS, start=1)))
    bench.clock.advance(3600)
    bench.route()
    bench.settle()
    assert [(one.state, one.reason and one.reason["code"]) for one in bench.study().series] == [
        ("not_read", "input.missing_attribute")
    ] * 4
    [told] = bench.events("reading.not_read")
    assert len(told["series"]) == 4


def test_asking_again_names_the_whole_study(bench: Bench) -> None:
    bench.receive(*(view(n, name, ImageLaterality=None) for n, name in enumerate(VIEWS, start=1)))
    bench.clock.advance(3600)
    bench.route()
    bench.settle()
    with bench.ledger.write() as connection:
        assert job_rows.retry(connection, bench.jobs()[0].job_id, now=bench.clock())
    assert len(bench.events("reading.retry_asked")[0]["series"]) == 4
    bench.settle()
    assert [len(request.files) for request in bench.engine.requests] == [4, 4]


@pytest.fixture
def request_of(tmp_path: Path, clock: MovableClock) -> Callable[..., ReadRequest]:
    def make(*made: Dataset, at: datetime | None = None) -> ReadRequest:
        files = []
        for one in made:
            files.append(tmp_path / f"{one.SOPInstanceUID}.dcm")
            files[-1].write_bytes(encoded(with_pixels(one)))
        digest = hashlib.sha256("".join(file.name for file in files).encode()).hexdigest()
        settings = '{"answer": "finding"}'
        return ReadRequest(
            "dummy_study", settings, tuple(files), digest, "cd" * 8, at or clock(), equipment(Settings())
        )

    return make


def test_the_same_study_gives_the_same_objects_and_another_one_others(
    request_of: Callable[..., ReadRequest],
) -> None:
    four, again, three = (read_series(request_of(*made)) for made in (four_views(), four_views(), four_views()[:3]))
    assert four.objects == again.objects
    assert four.objects[0].sop_instance_uid != three.objects[0].sop_instance_uid


def test_refused_views_are_told_with_the_answer(request_of: Callable[..., ReadRequest]) -> None:
    answer = read_series(request_of(*four_views()[:2], view(3, "R MLO", ImageLaterality=None)))
    refused: Any = answer.outcome["refused"]
    assert (answer.status, [one["sop_instance_uid"] for one in refused]) == ("finding", ["2.25.1.3.1"])
    assert refused[0]["reason"]["text"]
    assert read_series(request_of(*four_views())).outcome["refused"] == []

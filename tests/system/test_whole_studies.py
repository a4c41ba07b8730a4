"""Mammography studies through the running node, sent by DCMTK as a machine does: one association for each view."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom import Dataset
from pydicom.uid import BreastTomosynthesisImageStorage, Comprehensive3DSRStorage, SecondaryCaptureImageStorage

from db import alerts as alert_rows
from db import deliveries as delivery_rows
from db import jobs as job_rows
from db import studies
from db.connect import open_ledger
from db.jobs import Job
from dicom_node.demonstration.node import running_node
from dicom_node.demonstration.webhook import listening
from tests.conftest import REPOSITORY
from tests.dummy_room import ROOM, dummy_pipeline
from tests.system.conftest import Orthanc, orthanc_binary
from tests.system.test_deliver import peer, takes_it
from tests.system.test_main_job import Stand, errors_of, service_toml, wait_for
from tests.system.test_receive import dcmsend
from tests.unit.dicom_node.made import encoded
from tests.unit.dicom_node.mammograms import four_views, view, with_pixels

PATIENT, SHORT_S = "study_quiet_s = 600", 3
PLAIN = (Comprehensive3DSRStorage, SecondaryCaptureImageStorage)

pytestmark = [
    pytest.mark.orthanc,
    pytest.mark.dcmtk,
    pytest.mark.skipif(shutil.which("dcmsend") is None, reason="DCMTK's command line tools are not installed"),
]


@dataclass
class Clinic(Stand):
    """A stand with the pipeline of whole studies, and a second destination that takes reports and pictures only."""

    @property
    def marker(self) -> Path:
        """While it exists, reading waits."""
        return self.folder / "hold"

    def send(self, *made: Dataset) -> None:
        """Each over an association of its own, as one process after the other."""
        for one in made:
            path = self.folder / f"{one.SOPInstanceUID}.dcm"
            path.write_bytes(encoded(with_pixels(one)))
            sent = dcmsend(self.node.port, path)
            assert sent.returncode == 0, sent.stdout
            self.pushed.append(path)

    def jobs(self, study: str) -> list[Job]:
        with self.ledger.read() as connection:
            of_study = [job for job in job_rows.list_jobs(connection) if job.study_instance_uid == study]
        return sorted(of_study, key=lambda job: job.job_id)

    def sent(self, study: str, destination: str) -> Counter[tuple[str, str]]:
        """Kind and state of every object for a destination."""
        with self.ledger.read() as connection:
            rows = delivery_rows.list_deliveries(connection, study_instance_uid=study)
        return Counter((one.kind, one.state) for one in rows if one.destination == destination)

    def alerts(self, study: str) -> int:
        with self.ledger.read() as connection:
            return len(alert_rows.list_alerts(connection, study_instance_uid=study))

    def read(self, study: str, readings: int) -> studies.Study:
        """The study when it was read so often and all is delivered."""

        def is_read() -> bool:
            done = [job for job in self.jobs(study) if job.state in ("done", "not_read", "cancelled")]
            return len(done) == readings

        wait_for(is_read, f"the study was not read {readings} times: {self.log[-3000:]}")
        return self.settled(study)


@pytest.fixture(scope="module")
def clinic(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clinic]:
    folder = tmp_path_factory.mktemp("clinic")
    (folder / "orthanc").mkdir()
    (folder / "sitecustomize.py").write_text(f"import pipelines\npipelines.__path__.append({str(ROOM)!r})\n")
    orthanc = Orthanc(orthanc_binary(), folder / "orthanc")
    orthanc.start()
    with pytest.MonkeyPatch.context() as patched, dummy_pipeline():
        patched.setenv("PYTHONPATH", os.pathsep.join([str(folder), str(REPOSITORY)]))
        try:
            with listening() as phone, peer(takes_it, classes=PLAIN) as plain:
                toml = service_toml(folder, orthanc, phone).replace(
                    "hard_limit_s = 20", f"hard_limit_s = 600\n{PATIENT}"
                )
                toml += f"""
[routes.axilla]
pipeline = "never_made"
when = {{ BodyPartExamined = "AXILLA" }}
[routes.breast]
pipeline = "dummy_study"
when = {{ Modality = "MG" }}
[pipelines.dummy_study]
answer = "finding"
marker = "{folder / "hold"}"
[destinations.plain]
ae_title = "PACS"
host = "127.0.0.1"
port = {plain}
confirm = "none"
"""
                with running_node(folder, toml) as node:
                    ledger = open_ledger(node.settings.node.database_url)
                    yield Clinic(node, orthanc, phone, ledger, folder)
                    ledger.close()
        finally:
            orthanc.stop()


def of_study(number: int, made: Sequence[Dataset]) -> list[Dataset]:
    """The same images as another study."""
    for one in made:
        for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
            setattr(one, keyword, str(one[keyword].value).replace("2.25.1", f"2.25.{number}", 1))
    return list(made)


def test_four_views_over_four_associations_are_one_job_and_one_result(clinic: Clinic) -> None:
    clinic.send(*of_study(401, four_views()))
    study = clinic.read("2.25.401", 1)
    [job] = clinic.jobs("2.25.401")
    assert len(job.reads) == 4
    assert [one.state for one in study.series] == ["finding"] * 4
    assert len({json.dumps(one.outcome, sort_keys=True) for one in study.series}) == 1
    kinds = {
        "mammography_cad_report": "confirmed",
        "measurement_report": "confirmed",
        "presentation_state": "confirmed",
        "summary_image": "confirmed",
    }
    sent = dict(clinic.sent("2.25.401", "pacs").keys())
    assert {kind: sent[kind] for kind in kinds} == kinds
    held = clinic.results("2.25.401")
    assert errors_of("dcentvfy", *clinic.pushed[:4], *held) == []
    for file in held:
        assert errors_of("dciodvfy", "-new", file) == [], file.name


def test_a_destination_that_takes_no_cad_report_gets_report_and_summary_and_says_why(clinic: Clinic) -> None:
    clinic.send(*of_study(402, four_views()))
    clinic.read("2.25.402", 1)
    sent = clinic.sent("2.25.402", "plain")
    assert {kind for kind, state in sent if state == "stored"} == {"measurement_report", "summary_image"}
    assert {"mammography_cad_report", "presentation_state"} <= {kind for kind, state in sent if state == "not_sent"}
    told = clinic.cli("story", "2.25.402", "--json")
    reasons = {
        event["facts"]["kind"]: event["facts"]["reason"]
        for event in json.loads(told.stdout)["events"]
        if event["event"] == "delivery.not_sent"
    }
    assert reasons["mammography_cad_report"] == reasons["presentation_state"] == "deliver.kind_not_taken"


def test_a_fifth_view_later_gives_a_second_result_in_place_of_the_first(clinic: Clinic) -> None:
    clinic.send(*of_study(403, four_views()))
    clinic.read("2.25.403", 1)
    clinic.send(*of_study(403, [view(5, "R CC")]))
    study = clinic.read("2.25.403", 2)
    first, second = clinic.jobs("2.25.403")
    assert [(job.is_superseded, job.state, len(job.reads)) for job in (first, second)] == [
        (True, "done", 4),
        (False, "done", 5),
    ]
    assert [one.state for one in study.series] == ["finding"] * 5
    assert clinic.alerts("2.25.403") == 1
    assert clinic.sent("2.25.403", "pacs")["summary_image", "confirmed"] == 2


def test_tomosynthesis_is_not_read_and_the_views_are(clinic: Clinic) -> None:
    tomosynthesis = view(5, "R CC", SOPClassUID=BreastTomosynthesisImageStorage)
    clinic.send(*of_study(405, [tomosynthesis, *four_views()]))
    study = clinic.read("2.25.405", 1)
    states = {one.series_instance_uid: one for one in study.series}
    not_read = states.pop("2.25.405.5")
    assert (not_read.state, not_read.reason and not_read.reason["code"]) == ("not_read", "view.tomosynthesis")
    assert {one.state for one in states.values()} == {"finding"}


@pytest.mark.parametrize(("number", "role"), [(406, "coordinate-0"), (407, "engine"), (408, "supervisor")])
def test_kills_between_views_and_while_reading_cost_only_time(clinic: Clinic, number: int, role: str) -> None:
    """Each role is killed after two views were sent, and again while the study is read."""
    made = of_study(number, four_views())
    clinic.send(*made[:2])
    kill(clinic, role)
    clinic.marker.touch()
    clinic.send(*made[2:])
    waits = clinic.marker.with_suffix(".waits")
    wait_for(waits.exists, f"the study is not being read: {clinic.log[-3000:]}")
    kill(clinic, role)
    waits.unlink()
    clinic.marker.unlink()
    study = clinic.read(f"2.25.{number}", 1)
    assert [one.state for one in study.series] == ["finding"] * 4
    assert clinic.sent(f"2.25.{number}", "pacs")["summary_image", "confirmed"] == 1
    assert clinic.alerts(f"2.25.{number}") == 1
    held = Counter(pydicom.dcmread(path).SOPClassUID for path in clinic.results(f"2.25.{number}"))
    assert held[SecondaryCaptureImageStorage] == 1


def kill(clinic: Clinic, role: str) -> None:
    """SIGKILL; the supervisor starts its roles again, and is itself started as an administrator's system would."""
    before: Any = clinic.node.pids()[role]
    clinic.node.kill(role)
    if role == "supervisor":
        assert clinic.node.process is not None
        clinic.node.process.wait()
        clinic.node.start()
        return
    wait_for(lambda: clinic.node.pids().get(role, before) != before, f"{role} was not started again")
    wait_for(clinic.node.answers, "the node does not answer")


def test_views_for_a_pipeline_that_is_not_installed_are_not_read(clinic: Clinic) -> None:
    clinic.send(*of_study(411, four_views(BodyPartExamined="AXILLA")))
    study = clinic.read("2.25.411", 4)
    assert {(one.state, one.pipeline) for one in study.series} == {("not_read", "never_made")}
    assert clinic.reasons("2.25.411") == {"pipeline.not_configured"}


def test_the_commands_tell_of_the_study(clinic: Clinic) -> None:
    clinic.send(*of_study(409, four_views()))
    clinic.read("2.25.409", 1)
    assert clinic.cli("studies", "show", "2.25.409.3").stdout.count("finding") >= 4
    assert json.loads(clinic.cli("status", "--json").stdout)["counts"]["jobs"]["done"] >= 1
    assert json.loads(clinic.cli("audit", "verify", "--json").stdout)["holds"]
    told = json.loads(clinic.cli("story", "2.25.409", "--json").stdout)["events"]
    [done] = [event["facts"] for event in told if event["event"] == "reading.done"]
    assert [one["series_instance_uid"] for one in done["series"]] == [f"2.25.409.{n}" for n in range(1, 5)]
    decided = [event["facts"] for event in told if event["event"] == "decision.made"]
    assert [len(one["together_with"]) for one in decided] == [3] * 4


def test_two_views_are_read_after_the_quiet_time(clinic: Clinic) -> None:
    """The last test of the file: it shortens the time that the others must not reach, however slow the machine is."""
    before = clinic.node.pids()
    shorter = clinic.node.config.read_text().replace(PATIENT, f"study_quiet_s = {SHORT_S}")
    clinic.node.config.write_text(shorter)
    os.kill(before["supervisor"], signal.SIGHUP)
    for role in ("coordinate-0", "engine"):
        wait_for(lambda role=role: clinic.node.pids().get(role, before[role]) != before[role], f"{role} is not new")
    wait_for(clinic.node.answers, "the node does not answer")
    clinic.send(*of_study(410, four_views()[:2]))
    study = clinic.read("2.25.410", 1)
    [job] = clinic.jobs("2.25.410")
    assert (len(job.reads), len(study.series)) == (2, 2)
    assert (job.created_at - study.last_received_at).total_seconds() >= SHORT_S

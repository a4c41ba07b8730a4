from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import Dataset, dcmread
from sqlalchemy import select

from db import jobs
from db.connect import Ledger
from db.schema import revisions
from dicom_node.assemble.stage import AssembleStage
from dicom_node.dispatch import priors, run
from dicom_node.dispatch.archive import unreachable
from dicom_node.dispatch.policy import Identity, is_earlier
from dicom_node.dispatch.priors import PriorSearch, clear_up, earlier_study
from dicom_node.dispatch.run import ReadAnswer, ReadRequest, read_series
from dicom_node.settings import PriorArchive, Settings
from dicom_node.spool import Spool
from pipelines import codes
from pipelines.catalogue import Prior, catalogue
from pipelines.reasons import Reason
from reporting.build import build
from tests.conftest import MovableClock
from tests.unit.db.queued import slices
from tests.unit.dicom_node.dispatch.test_stage import Bench
from tests.unit.dicom_node.made import encoded, settle

NOW = Identity("T1", "KIS", "19500101", "M", "2.25.1", "20260301")
THEN = replace(NOW, study_instance_uid="2.25.2", study_date="20250301")
ARCHIVE = PriorArchive(ae_title="PACS", host="127.0.0.1", port=11113)


def of_study(study: int, day: str, **changes: Any) -> list[Dataset]:
    made = slices(1)
    for one in made:
        one.StudyInstanceUID, one.SeriesInstanceUID = f"2.25.{study}", f"2.25.{study}.1"
        one.SOPInstanceUID = f"2.25.{study}.1.{one.InstanceNumber}"
        one.StudyDate = day
        for keyword, value in changes.items():
            setattr(one, keyword, value)
    return made


def read(bench: Bench, made: list[Dataset]) -> int:
    """Receive and read a series; gives its job."""
    bench.sender.push(made, bench.clock())
    settle(AssembleStage(bench.ledger, bench.spool, Settings()), bench.clock())
    query = select(revisions.c.revision_id).where(revisions.c.series_instance_uid == made[0].SeriesInstanceUID)
    with bench.ledger.write() as connection:
        revision = int(connection.execute(query.order_by(revisions.c.number.desc())).scalars().first())
        job = jobs.enqueue(connection, revision_id=revision, pipeline="dummy", priority=1, now=bench.clock())
    bench.settle()
    return job


@pytest.fixture
def bench(ledger: Ledger, spool: Spool, clock: MovableClock, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setattr(type(catalogue()["dummy"]), "compares_with_prior", True)
    monkeypatch.setattr(run, "build", lambda case: ())  # objects take their time, and are looked at in one test only
    return Bench(ledger, spool, clock)


def known(bench: Bench) -> list[str]:
    search = bench.engine.requests[-1].search
    assert search is not None
    return [f"{prior.series_instance_uid} {prior.study_date:%Y%m%d} {len(prior.paths)}" for prior in search.known]


def outcome(bench: Bench, job: int) -> dict[str, Any]:
    result = bench.result(job)
    assert result is not None
    return result.outcome


def test_the_newest_earlier_study_of_the_patient_is_compared_with(bench: Bench) -> None:
    for study, day in ((2, "20240101"), (3, "20250601"), (4, "20260401")):
        read(bench, of_study(study, day))
    job = read(bench, of_study(5, "20260301"))
    assert known(bench) == ["2.25.3.1 20250601 4", "2.25.2.1 20240101 4"]
    assert outcome(bench, job)["compared_with"] == "2025-06-01"
    told = outcome(bench, job)["prior"]
    assert (told["study_date"], told["images"], told["source"]) == ("2025-06-01", 4, "ledger")
    assert "2.25.3" not in str(told)
    assert [facts.get("prior") for _, facts in bench.events()][-1] == told


def test_other_patients_days_and_answers_are_not_compared_with(bench: Bench) -> None:
    read(bench, of_study(2, "20250101", PatientID="T2"))
    read(bench, of_study(3, "20260301"))
    read(bench, of_study(4, ""))
    read(bench, of_study(6, "2025.1.1"))
    broken = of_study(7, "20250101")
    for one in broken:
        del one.PixelData
    read(bench, broken)
    job = read(bench, of_study(5, "20260301"))
    assert known(bench) == []
    assert (outcome(bench, job)["compared_with"], outcome(bench, job)["prior"]) == (None, None)


def test_patients_without_an_id_are_not_compared(bench: Bench) -> None:
    read(bench, of_study(2, "20250101", PatientID=""))
    read(bench, of_study(5, "20260301", PatientID=""))
    assert known(bench) == []


def test_the_same_id_of_another_issuer_is_another_patient(bench: Bench) -> None:
    read(bench, of_study(2, "20250101", IssuerOfPatientID="A"))
    job = read(bench, of_study(5, "20260301", IssuerOfPatientID="B"))
    assert len(known(bench)) == 1
    assert outcome(bench, job)["compared_with"] is None


def test_a_study_whose_images_are_gone_is_passed_over(bench: Bench) -> None:
    read(bench, of_study(2, "20240101"))
    gone = read(bench, of_study(3, "20250101"))
    bench.files(gone)[0].unlink()
    read(bench, of_study(5, "20260301"))
    assert known(bench) == ["2.25.2.1 20240101 4"]


def test_a_pipeline_that_does_not_compare_is_given_nothing(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    read(bench, of_study(2, "20250101"))
    monkeypatch.setattr(type(catalogue()["dummy"]), "compares_with_prior", False)
    job = read(bench, of_study(5, "20260301"))
    assert bench.engine.requests[-1].search is None
    assert outcome(bench, job)["compared_with"] is None


def test_the_search_in_a_pacs_has_its_time_on_top(bench: Bench) -> None:
    archive = PriorArchive.model_validate(ARCHIVE.model_dump() | {"time_limit_s": 20})
    searching = Bench(
        bench.ledger, bench.spool, bench.clock, bench.settings.model_copy(update={"priors": {"pacs": archive}})
    )
    read(searching, of_study(5, "20260301"))
    assert searching.engine.limits == [27.0]
    search = searching.engine.requests[0].search
    assert search is not None
    assert (search.archives, search.ae_title) == ((("pacs", archive),), "TRIAGE")


@pytest.fixture
def request_of(bench: Bench) -> ReadRequest:
    read(bench, of_study(5, "20260301"))
    return bench.engine.requests[-1]


def uids(answer: ReadAnswer) -> list[str]:
    return [one.sop_instance_uid for one in answer.objects]


def test_results_have_other_uids_when_they_rest_on_another_study(
    request_of: ReadRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = []
    for one in of_study(2, "20250101"):
        paths.append(tmp_path / f"{one.InstanceNumber}.dcm")
        paths[-1].write_bytes(encoded(one))
    prior = Prior(tuple(paths), ({"kind": "x", "volume_ml": 1.0},), "2.25.2.1", date(2025, 1, 1))
    monkeypatch.setattr(run, "build", build)
    alone = read_series(request_of)
    compared, again, other = (
        read_series(replace(request_of, search=PriorSearch((one,))))
        for one in (prior, prior, replace(prior, findings=({"kind": "x", "volume_ml": 2.0},)))
    )
    assert compared.outcome["compared_with"] == "2025-01-01"
    assert uids(compared) == uids(again)
    assert [one.sha256 for one in compared.objects] == [one.sha256 for one in again.objects]
    assert not set(uids(compared)) & set(uids(alone))
    assert not set(uids(compared)) & set(uids(other))


class Nothing:
    """A PACS that has nothing of the patient."""

    def studies(self, patient_id: str, issuer: str, before: str) -> list[Dataset]:
        assert (patient_id, before) == ("T1", "20260301")
        return []


def archives(monkeypatch: pytest.MonkeyPatch, **answers: object) -> None:
    @contextmanager
    def made(name: str, settings: PriorArchive, ae_title: str) -> Iterator[object]:
        answer = answers[name]
        if isinstance(answer, Exception):
            raise answer
        yield answer

    monkeypatch.setattr(priors, "opened", made)


def test_a_pacs_that_cannot_be_asked_is_a_warning_and_the_next_one_is_asked(
    request_of: ReadRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archives(monkeypatch, first=unreachable("first", "it is off"), second=KeyError("a value"), third=Nothing())
    search = PriorSearch(
        (), tuple((name, ARCHIVE) for name in ("first", "second", "third")), "TRIAGE", tmp_path / "run"
    )
    answer = read_series(replace(request_of, search=search))
    assert answer.status == "clean"
    warnings: Any = answer.outcome["warnings"]
    assert [(one["code"], one["facts"]["detail"]) for one in warnings if one["code"].startswith("prior.")] == [
        ("prior.unreachable", "it is off"),
        ("prior.unreachable", "KeyError"),
    ]
    assert list((tmp_path / "run").iterdir()) == []


def test_a_pacs_is_not_asked_where_the_ledger_knows(
    request_of: ReadRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archives(monkeypatch, pacs=AssertionError())
    path = tmp_path / "1.dcm"
    path.write_bytes(encoded(of_study(2, "20250101")[0]))
    prior = Prior((path,), (), "2.25.2.1", date(2025, 1, 1))
    search = PriorSearch((prior,), (("pacs", ARCHIVE),), "TRIAGE", tmp_path)
    with earlier_study(search, request_of.files, codes.NODULE) as found:
        assert (found.prior, found.source, found.warnings) == (prior, "ledger", ())


def test_a_prior_that_cannot_be_opened_harms_nothing(request_of: ReadRequest, tmp_path: Path) -> None:
    path = tmp_path / "1.dcm"
    path.write_bytes(b"no DICOM")
    prior = Prior((path,), (), "2.25.2.1", date(2025, 1, 1))
    with earlier_study(PriorSearch((prior,)), request_of.files, codes.NODULE) as found:
        assert found.prior is None
        assert [one.code for one in found.warnings] == ["prior.not_comparable"]


def test_what_dead_workers_left_is_removed(tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    for name in (f"prior-{ended.pid}-abc", f"prior-{os.getpid()}-abc", "worker-1"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.dcm").touch()
    clear_up(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"prior-{os.getpid()}-abc", "worker-1"]


@pytest.mark.parametrize(
    ("then", "expected"),
    [
        (THEN, True),
        (replace(THEN, patient_id="T2"), False),
        (replace(THEN, patient_id=""), False),
        (replace(THEN, issuer="other"), False),
        (replace(THEN, issuer="", birth_date="", sex=""), True),
        (replace(THEN, birth_date="19500102"), False),
        (replace(THEN, sex="F"), False),
        (replace(THEN, study_date="20260301"), False),
        (replace(THEN, study_date="20260302"), False),
        (replace(THEN, study_date=""), False),
        (replace(THEN, study_date="2025.3.1"), False),
    ],
)
def test_whose_study_may_be_compared_with(then: Identity, expected: bool) -> None:
    assert is_earlier(then, NOW) is expected


texts = st.sampled_from(["", "1", "2"])
days = st.sampled_from(["", "20250101", "20260101", "2026"])


@given(*[st.builds(Identity, texts, texts, texts, texts, texts, days)] * 3)
def test_earlier_goes_one_way_only(one: Identity, two: Identity, other: Identity) -> None:
    assert not is_earlier(one, one)
    assert not (is_earlier(one, two) and is_earlier(two, one))
    if is_earlier(one, two):
        assert one.patient_id == two.patient_id != ""


def test_identity_is_read_as_it_stands(request_of: ReadRequest) -> None:
    assert priors.identity_of(dcmread(request_of.files[0])) == Identity("T1", "", "", "O", "2.25.5", "20260301")
    assert Reason("prior.time_limit", {"archive": "pacs", "limit_s": 60.0}).row.retry == "later"

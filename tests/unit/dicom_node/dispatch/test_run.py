from __future__ import annotations

import json
import pickle
from collections.abc import Sequence
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import pytest
from pydicom import dcmread
from structlog.testing import capture_logs

from dicom_node.dispatch import run
from dicom_node.dispatch.run import ReadRequest, read_series
from dicom_node.identity import equipment
from dicom_node.settings import Settings
from tests.conftest import MovableClock
from tests.unit.db.queued import slices
from tests.unit.dicom_node.made import encoded


@pytest.fixture
def request_of(tmp_path: Path, clock: MovableClock) -> ReadRequest:
    files = [tmp_path / f"{number}.dcm" for number in range(4)]
    for file, made in zip(files, slices(1), strict=True):
        file.write_bytes(encoded(made))
    return ReadRequest("dummy", "{}", tuple(files), "ab" * 32, "cd" * 8, clock(), equipment(Settings()))


def behaving(request: ReadRequest, behavior: str) -> ReadRequest:
    return replace(request, settings_json=json.dumps({"behavior": behavior}))


def reason_code(outcome: object) -> str:
    assert isinstance(outcome, dict)
    return str(outcome["reason"]["code"])


def test_series_is_read_and_reported(request_of: ReadRequest) -> None:
    answer = read_series(request_of)
    assert (answer.status, answer.score) == ("clean", 0.1)
    assert answer.model is not None
    assert answer.outcome["reason"] is None
    assert {"open", "read", "report", "total", "load"} <= set(answer.outcome["seconds"])  # type: ignore[call-overload]
    assert answer.objects
    for built in answer.objects:
        made = dcmread(BytesIO(built.content))
        assert (made.SOPInstanceUID, made.StudyInstanceUID) == (built.sop_instance_uid, "2.25.1")


def test_same_request_gives_the_same_bytes(request_of: ReadRequest) -> None:
    assert read_series(request_of).objects == read_series(request_of).objects


def test_answer_travels_between_processes(request_of: ReadRequest) -> None:
    answer = read_series(pickle.loads(pickle.dumps(request_of)))
    assert pickle.loads(pickle.dumps(answer)) == answer
    json.dumps(answer.outcome)


def test_lost_file_is_told_before_anything_is_read(request_of: ReadRequest) -> None:
    request_of.files[2].unlink()
    answer = read_series(behaving(request_of, "raise"))
    assert (answer.status, reason_code(answer.outcome), answer.objects) == ("not_read", "engine.source_file_lost", ())


def test_refusal_of_the_pipeline_keeps_its_reason_and_builds_nothing(request_of: ReadRequest) -> None:
    answer = read_series(replace(request_of, files=request_of.files[:2]))
    assert (answer.status, reason_code(answer.outcome), answer.objects) == ("not_read", "series.too_few_slices", ())


def test_unknown_pipeline_and_unverified_model_are_reasons(request_of: ReadRequest) -> None:
    assert reason_code(read_series(replace(request_of, pipeline="never_made")).outcome) == "pipeline.not_configured"
    assert reason_code(read_series(behaving(request_of, "unverified")).outcome) == "model.unverified"


def test_exception_in_reading_names_the_step_and_shows_no_value(request_of: ReadRequest) -> None:
    with capture_logs() as logs:
        answer = read_series(behaving(request_of, "raise"))
    reason = answer.outcome["reason"]
    assert isinstance(reason, dict)
    assert (reason["code"], reason["facts"]) == ("pipeline.failed", {"step": "read", "error": "RuntimeError"})
    assert [log["event"] for log in logs] == ["reading.failed"]
    assert "a value of the data set" not in repr(logs)


def test_exception_in_building_is_an_answer_too(request_of: ReadRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(case: object) -> Sequence[object]:
        raise KeyError("a value of the data set")

    monkeypatch.setattr(run, "build", broken)
    answer = read_series(request_of)
    reason = answer.outcome["reason"]
    assert isinstance(reason, dict)
    assert (answer.status, reason["facts"]) == ("not_read", {"step": "report", "error": "KeyError"})


def test_a_finding_stays_one_though_no_report_can_be_made(
    request_of: ReadRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(case: object) -> Sequence[object]:
        raise KeyError("a value of the data set")

    class Bleeding:
        def read(self, paths: Sequence[object], prior: object = None) -> object:
            reading = opened.read(paths)
            return replace(reading, outcome=replace(reading.outcome, status="finding", score=0.9))

    opened = run._reader(request_of.pipeline, request_of.settings_json)
    monkeypatch.setattr(run, "_reader", lambda *_: Bleeding())
    monkeypatch.setattr(run, "build", broken)
    answer = read_series(request_of)
    assert (answer.status, answer.score, answer.objects) == ("finding", 0.9, ())
    assert [warning["code"] for warning in answer.outcome["warnings"]] == ["pipeline.failed"]


def test_warming_a_model_that_may_not_be_used_is_logged_and_harms_nothing() -> None:
    with capture_logs() as logs:
        run.warm("dummy", json.dumps({"behavior": "unverified"}))
        run.warm("dummy", "{}")
    assert [(log["event"], log["reason"]) for log in logs] == [("model.not_loaded", "model.unverified")]

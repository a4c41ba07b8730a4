"""What a worker does with one series: read it, and build the objects of the answer. It knows no ledger and no clock."""

from __future__ import annotations

import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path

import structlog

import dicom_node.reasons  # noqa: F401  (enters the service's rows)
from pipelines.catalogue import Pipeline, Reader, Reading, catalogue
from pipelines.findings import ModelIdentity, Outcome, Status
from pipelines.reasons import Reason, TriageError, refuse
from reporting.build import BuiltObject, build
from reporting.build import warm as warm_reports
from reporting.source import Equipment, ReportCase

log = structlog.get_logger()

FRAMES_LOGGED = 8


@dataclass(frozen=True, slots=True)
class ReadRequest:
    """What to read, and all that the objects are made from besides: the same request gives the same bytes.

    `settings_json` are the pipeline's settings. `revision_digest` names the instances, `configuration_hash` the
    settings; `made_at` (aware, UTC) is when the last of the instances came.
    """

    pipeline: str
    settings_json: str
    files: tuple[Path, ...]
    revision_digest: str
    configuration_hash: str
    made_at: datetime
    equipment: Equipment
    language: str = "en"


@dataclass(frozen=True, slots=True)
class ReadAnswer:
    """The one answer a request gets. `outcome` is `Outcome.as_json`: the voxels stay behind, the objects hold them."""

    status: Status
    score: float | None
    model: ModelIdentity | None
    outcome: Mapping[str, object]
    objects: tuple[BuiltObject, ...]


def read_series(request: ReadRequest) -> ReadAnswer:
    """Read one series and build its objects. Never raises: what goes wrong is the reason of a `not_read` answer."""
    began = time.perf_counter()
    steps = _Steps()
    try:
        return _read_series(request, steps, began)
    except TriageError as error:
        reason = error.reason
    except Exception as error:  # noqa: BLE001  a pipeline is foreign code; whatever it raises is an answer
        # The message may hold values of the data set: only the places in the program are logged.
        frames = traceback.extract_tb(error.__traceback__)[-FRAMES_LOGGED:]
        where = [f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in frames]
        log.error("reading.failed", pipeline=request.pipeline, step=steps.name, error=type(error).__name__, where=where)
        reason = Reason("pipeline.failed", {"step": steps.name, "error": type(error).__name__})
    return _answer(Outcome("not_read", reason=reason), (), {"total": time.perf_counter() - began})


def warm(pipeline: str, settings_json: str) -> None:
    """Load the model of a pipeline now rather than with the first series. A failure is logged: each series tells it."""
    warm_reports()
    try:
        _reader(pipeline, settings_json)
    except TriageError as error:
        log.error("model.not_loaded", pipeline=pipeline, reason=error.reason.code)
    except Exception as error:  # noqa: BLE001  as in `read_series`
        log.error("model.not_loaded", pipeline=pipeline, error=type(error).__name__)


class _Steps:
    """Which step is being done, for the reason of a failure."""

    name = "open"


def _read_series(request: ReadRequest, steps: _Steps, began: float) -> ReadAnswer:
    if not all(file.is_file() for file in request.files):
        raise refuse("engine.source_file_lost")
    reader = _reader(request.pipeline, request.settings_json)
    steps.name = "read"
    opened = time.perf_counter()
    reading = reader.read(request.files)
    read = time.perf_counter()
    steps.name = "report"
    built: tuple[BuiltObject, ...] = ()
    if reading.outcome.status != "not_read":
        built = build(_case(request, catalogue()[request.pipeline], reading))
    done = time.perf_counter()
    seconds = {"open": opened - began, "read": read - opened, "report": done - read, "total": done - began}
    return _answer(reading.outcome, built, seconds)


@cache
def _reader(pipeline: str, settings_json: str) -> Reader:
    """The pipeline with its model in memory; opened once for each process. A failure is not remembered."""
    found = catalogue().get(pipeline)
    if found is None:
        raise refuse("pipeline.not_configured", pipeline=pipeline)
    return found.open(found.settings.model_validate_json(settings_json))


def _case(request: ReadRequest, pipeline: Pipeline, reading: Reading) -> ReportCase:
    if reading.volume is None:
        raise ValueError("an answer was given without a volume")
    return ReportCase(
        headers=reading.headers,
        planes=reading.volume.plane,
        frames=reading.volume.frame,
        pixels=reading.volume.hu,
        outcome=reading.outcome,
        pipeline=request.pipeline,
        looked_for=pipeline.looks_for,
        site=pipeline.site,
        window=pipeline.window,
        revision_digest=request.revision_digest,
        configuration_hash=request.configuration_hash,
        made_at=request.made_at,
        equipment=request.equipment,
        language=request.language,
    )


def _answer(outcome: Outcome, built: tuple[BuiltObject, ...], seconds: dict[str, float]) -> ReadAnswer:
    rounded = {step: round(value, 4) for step, value in (dict(outcome.timings) | seconds).items()}
    return ReadAnswer(outcome.status, outcome.score, outcome.model, outcome.as_json() | {"seconds": rounded}, built)

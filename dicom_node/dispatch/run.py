"""What a worker does with one series or study: read it, and build the objects. It knows no ledger and no clock."""

from __future__ import annotations

import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cache
from pathlib import Path

import numpy as np
import structlog

import dicom_node.reasons  # noqa: F401  (enters the service's rows)
from dicom_node.dispatch.priors import FoundPrior, PriorSearch, earlier_study
from pipelines.catalogue import Pipeline, Reader, Reading, catalogue
from pipelines.findings import ModelIdentity, Outcome, Status
from pipelines.mammogram import RefusedView
from pipelines.reasons import Reason, TriageError, refuse
from reporting.build import BuiltObject, build
from reporting.build import warm as warm_reports
from reporting.catalogue import narratives
from reporting.source import Equipment, ReportCase, inherit

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
    search: PriorSearch | None = None
    """Where to look for an earlier study, for a pipeline that compares."""


@dataclass(frozen=True, slots=True)
class ReadAnswer:
    """The one answer a request gets. `outcome` is `Outcome.as_json`: the voxels stay behind, the objects hold them."""

    status: Status
    score: float | None
    model: ModelIdentity | None
    outcome: Mapping[str, object]
    objects: tuple[BuiltObject, ...]


def read_series(request: ReadRequest) -> ReadAnswer:
    """Read one series (or study) and build its objects. Never raises: what goes wrong is the reason of `not_read`."""
    began = time.perf_counter()
    steps = _Steps()
    try:
        _read_series(request, steps)
    except Exception as error:  # noqa: BLE001  a pipeline is foreign code; whatever it raises is an answer
        steps.outcome = _outcome_of_failure(request, steps, error)
    assert steps.outcome is not None
    seconds = steps.seconds | {"total": time.perf_counter() - began}
    return _answer(steps, steps.outcome, seconds)


def warm(pipeline: str, settings_json: str) -> None:
    """Load the model of a pipeline now rather than with the first series. A failure is logged: each series tells it."""
    warm_reports()
    try:
        _reader(pipeline, settings_json)
    except TriageError as error:
        log.error("model.not_loaded", pipeline=pipeline, reason=error.reason.code)
    except Exception as error:  # noqa: BLE001  as in `read_series`
        log.error("model.not_loaded", pipeline=pipeline, error=type(error).__name__)


@dataclass(slots=True)
class _Steps:
    """How far a reading has come: the step that is being done, and what those before it gave."""

    name: str = "open"
    seconds: dict[str, float] = field(default_factory=dict)
    outcome: Outcome | None = None
    impression: str = ""
    found: FoundPrior = field(default_factory=FoundPrior)
    built: tuple[BuiltObject, ...] = ()
    repairs: tuple[Reason, ...] = ()
    refused: tuple[RefusedView, ...] = ()

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        self.name = name
        began = time.perf_counter()
        yield
        self.seconds[name] = time.perf_counter() - began


def _read_series(request: ReadRequest, steps: _Steps) -> None:
    if not all(file.is_file() for file in request.files):
        raise refuse("engine.source_file_lost")
    with steps.step("open"):
        reader = _reader(request.pipeline, request.settings_json)
    pipeline = catalogue()[request.pipeline]
    with ExitStack() as stack:
        if pipeline.compares_with_prior:
            with steps.step("prior"):
                steps.found = stack.enter_context(earlier_study(request.search, request.files, pipeline.looks_for))
        with steps.step("read"):
            reading = reader.read(request.files, steps.found.prior)
    steps.refused = () if reading.study is None else reading.study.refused
    steps.outcome = replace(reading.outcome, warnings=(*reading.outcome.warnings, *steps.found.warnings))
    if reading.outcome.status == "not_read":
        return
    steps.impression = narratives()[request.language].impression(steps.outcome, pipeline.looks_for)
    with steps.step("report"):
        steps.repairs = inherit(reading.headers[0]).repairs
        steps.built = build(_case(request, pipeline, replace(reading, outcome=steps.outcome), steps.found))


def _outcome_of_failure(request: ReadRequest, steps: _Steps, error: Exception) -> Outcome:
    """Make an answer of an error. A finding stays one, so that it raises its alert, even if no report can be made."""
    reason = error.reason if isinstance(error, TriageError) else None
    if reason is None:
        # The message may hold values of the data set: only the places in the program are logged.
        frames = traceback.extract_tb(error.__traceback__)[-FRAMES_LOGGED:]
        where = [f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in frames]
        log.error("reading.failed", pipeline=request.pipeline, step=steps.name, error=type(error).__name__, where=where)
        reason = Reason("pipeline.failed", {"step": steps.name, "error": type(error).__name__})
    if steps.outcome is not None and steps.outcome.status == "finding":
        return replace(steps.outcome, warnings=(*steps.outcome.warnings, reason))
    return Outcome("not_read", reason=reason)


@cache
def _reader(pipeline: str, settings_json: str) -> Reader:
    """The pipeline with its model in memory; opened once for each process. A failure is not remembered."""
    found = catalogue().get(pipeline)
    if found is None:
        raise refuse("pipeline.not_configured", pipeline=pipeline)
    return found.open(found.settings.model_validate_json(settings_json))


def _case(request: ReadRequest, pipeline: Pipeline, reading: Reading, found: FoundPrior) -> ReportCase:
    volume = reading.volume
    if volume is None and reading.study is None:
        raise ValueError("an answer was given without what it was read from")
    return ReportCase(
        headers=reading.headers,
        planes=() if volume is None else volume.plane,
        frames=(1,) * len(reading.headers) if volume is None else volume.frame,
        pixels=np.empty((0, 0, 0), np.float32) if volume is None else volume.hu,
        study=reading.study,
        outcome=reading.outcome,
        pipeline=request.pipeline,
        looked_for=pipeline.looks_for,
        site=pipeline.site,
        window=pipeline.window,
        revision_digest=found.digest(request.revision_digest),
        configuration_hash=request.configuration_hash,
        made_at=request.made_at,
        equipment=request.equipment,
        language=request.language,
    )


def _answer(steps: _Steps, outcome: Outcome, seconds: dict[str, float]) -> ReadAnswer:
    rounded = {step: round(value, 4) for step, value in (dict(outcome.timings) | seconds).items()}
    document = outcome.as_json() | {
        "impression": "" if outcome.status == "not_read" else steps.impression,
        "seconds": rounded,
        "repairs": [repair.as_json() for repair in steps.repairs],
        "prior": steps.found.as_json(),
        "refused": [
            {
                "sop_instance_uid": one.instance_uid,
                "action": "ignored" if one.reason.row.severity == "info" else "not_read",
                "reason": one.reason.as_json(),
            }
            for one in steps.refused
        ],
    }
    return ReadAnswer(outcome.status, outcome.score, outcome.model, document, steps.built)

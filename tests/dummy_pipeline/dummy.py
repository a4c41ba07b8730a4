"""A pipeline for tests: it loads the series and finds nothing, or misbehaves as its settings say."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pipelines.catalogue import PipelineSettings, Prior, Reader, Reading
from pipelines.codes import BRAIN, INTRACRANIAL_HEMORRHAGE
from pipelines.findings import ModelIdentity, Outcome
from pipelines.reasons import Refusal, refuse
from pipelines.volume import load

MODEL = ModelIdentity("dummy", "1", "0" * 64)


class DummySettings(PipelineSettings):
    behavior: Literal["read", "die", "die_once", "hang", "hold_on", "raise", "unverified"] = "read"
    marker: Path = Path("unused")


class DummyReader:
    model = MODEL

    def __init__(self, settings: DummySettings) -> None:
        self._settings = settings

    def read(self, paths: Sequence[Path], prior: Prior | None = None) -> Reading:
        match self._settings.behavior:
            case "die":
                os.kill(os.getpid(), signal.SIGKILL)
            case "die_once" if not self._settings.marker.exists():
                self._settings.marker.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            case "hang":
                time.sleep(3600)
            case "hold_on":
                self._settings.marker.write_text(str(os.getpid()))
                while self._settings.marker.exists():
                    time.sleep(0.01)
            case "raise":
                raise RuntimeError("a value of the data set")
        try:
            loaded = load(paths)
        except Refusal as refusal:
            return Reading(Outcome("not_read", reason=refusal.reason, model=MODEL))
        day = None if prior is None else prior.study_date
        outcome = Outcome("clean", 0.1, warnings=loaded.warnings, model=MODEL, timings={"load": 0.0}, compared_with=day)
        return Reading(outcome, loaded.volume, loaded.headers)


class DummyPipeline:
    name = "dummy"
    settings = DummySettings
    looks_for = INTRACRANIAL_HEMORRHAGE
    site = BRAIN
    window = (40.0, 80.0)
    compares_with_prior = False

    def open(self, settings: DummySettings) -> Reader:
        if settings.behavior == "unverified":
            raise refuse("model.unverified", model="dummy")
        return DummyReader(settings)


PIPELINE = DummyPipeline()

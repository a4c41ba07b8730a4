"""What pipelines share: settings and cuts of a score, opening of models, and how long their stages took."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Self

from pydantic import Field, model_validator

from models import registry
from pipelines.catalogue import PipelineSettings
from pipelines.findings import Status
from pipelines.reasons import Reason, TriageError


class ScoreSettings(PipelineSettings):
    """Settings of a pipeline whose answer follows from a score. What is not set is taken from the model's manifest.

    From `threshold` on the answer is a finding, from `unsure_from` up to it "not sure".
    """

    threshold: float | None = Field(default=None, gt=0, le=1)
    unsure_from: float | None = Field(default=None, ge=0, le=1)
    threads: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.threshold is not None and self.unsure_from is not None and self.unsure_from > self.threshold:
            raise ValueError("unsure_from must not be above threshold")
        return self

    def cuts(self, threshold: float, unsure_from: float) -> tuple[float, float]:
        """Threshold and lower end of doubt in force; those of the model stand where none is set."""
        chosen = threshold if self.threshold is None else self.threshold
        return chosen, min(unsure_from if self.unsure_from is None else self.unsure_from, chosen)


@dataclass(frozen=True, slots=True)
class ScoreCuts:
    """From which score on the answer is a finding, and from which it is "not sure"."""

    threshold: float
    unsure_from: float

    def status(self, score: float) -> Status:
        """The answer that a score means."""
        if score >= self.threshold:
            return "finding"
        return "unsure" if score >= self.unsure_from else "clean"


class ModelError(TriageError):
    """The model cannot, or may not, be used."""


def verified(name: str) -> registry.Model:
    """The model of that name. Raises `ModelError` (`model.unverified`) where weights and manifest do not match."""
    try:
        return registry.verify(name)
    except registry.UnverifiedModelError as error:
        raise ModelError(Reason("model.unverified", {"model": name})) from error


@dataclass(slots=True)
class StageClock:
    """Seconds by stage."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        began = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = round(time.perf_counter() - began, 4)

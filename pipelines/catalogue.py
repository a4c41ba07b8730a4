"""Finds the pipelines by scanning this folder: a module, or a folder with a `pipeline` module, that has a `PIPELINE`.

Nothing heavy is imported for the asking: a pipeline's module must import without torch, which it loads in `open`.
"""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cache
from pathlib import Path
from typing import Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field
from pydicom import Dataset

import pipelines
from pipelines.codes import Code
from pipelines.findings import ModelIdentity, Outcome
from pipelines.mammogram import MammogramStudy
from pipelines.volume import Volume

Scope = Literal["series", "study"]


class PipelineSettings(BaseModel):
    """What every `[pipelines.NAME]` table may say; a pipeline's own settings class adds its keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    device: Literal["auto", "cpu", "cuda"] = "auto"
    time_limit_s: float = Field(default=300.0, gt=0)


@dataclass(frozen=True, slots=True, eq=False)
class Reading:
    """What a reader hands on: the outcome, and what the report needs to speak of it.

    `headers[k]` is the data set of slice k of `volume`, without pixel data. Both are empty when nothing could be read.
    A pipeline of projections gives a `study` instead of a volume, and `headers[k]` is that of its view k.
    """

    outcome: Outcome
    volume: Volume | None = None
    headers: tuple[Dataset, ...] = ()
    study: MammogramStudy | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Prior:
    """An earlier study of the same patient, that the same pipeline has answered.

    `findings` are what it found then, each as `Finding.as_json` gives it. `paths` are the files of the series that it
    read; they may be gone by now, then `paths` is empty and only the findings can be compared with.
    """

    paths: tuple[Path, ...]
    findings: tuple[Mapping[str, object], ...]
    series_instance_uid: str
    study_date: date


class Reader(Protocol):
    """A pipeline with its model in memory, warm."""

    @property
    def model(self) -> ModelIdentity: ...

    def read(self, paths: Sequence[Path], prior: Prior | None = None) -> Reading:
        """Read one series (or study) from its files. Bad input never raises: the outcome says `not_read` and why.

        With a `prior`, what changed since then is told too; a prior that cannot be used is a warning of the outcome.
        Only a pipeline that `compares_with_prior` is given one.
        """
        ...


class Pipeline(Protocol):
    """What a pipeline's module exports as `PIPELINE`."""

    @property
    def name(self) -> str: ...

    @property
    def settings(self) -> type[PipelineSettings]: ...

    @property
    def reads(self) -> Scope:
        """What its reader is given at once: the files of one series, or of all series of a study that are routed to it.

        A pipeline that does not say reads a series.
        """
        ...

    @property
    def looks_for(self) -> Code:
        """What a report says is present or absent."""
        ...

    @property
    def site(self) -> Code:
        """The body part that a report names as finding site."""
        ...

    @property
    def window(self) -> tuple[float, float]:
        """Centre and width in which pictures of the result are shown (HU for CT)."""
        ...

    @property
    def compares_with_prior(self) -> bool:
        """Whether an earlier study of the patient is looked for and handed to its reader."""
        ...

    def open(self, settings: PipelineSettings) -> Reader:
        """Load and warm the model. Raises `TriageError` with the reason `model.unverified` when it must not be used."""
        ...


@cache
def catalogue() -> Mapping[str, Pipeline]:
    """All pipelines by name. Two that claim one name are a programming error (`ValueError`)."""
    found: dict[str, Pipeline] = {}
    for module in pkgutil.iter_modules(pipelines.__path__, "pipelines."):
        name = f"{module.name}.pipeline" if module.ispkg else module.name
        if name == __name__ or importlib.util.find_spec(name) is None:
            continue
        pipeline: Pipeline | None = getattr(importlib.import_module(name), "PIPELINE", None)
        if pipeline is None:
            continue
        if pipeline.name in found:
            raise ValueError(f"two pipelines are named {pipeline.name}")
        found[pipeline.name] = pipeline
    return found


def study_pipelines() -> frozenset[str]:
    """The names of the pipelines that read whole studies."""
    return frozenset(name for name, one in catalogue().items() if getattr(one, "reads", "series") == "study")

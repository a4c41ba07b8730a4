"""Intracranial hemorrhage on head CT without contrast: one series in, one answer out.

Importing this loads no torch; `open` does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from pipelines import codes
from pipelines.catalogue import PipelineSettings, Prior, Reading, Scope
from pipelines.codes import Code
from pipelines.findings import Finding, ModelIdentity, Outcome
from pipelines.hemorrhage.measure import Midplane, find_bleeds
from pipelines.hemorrhage.prepare import COLUMNS, ROWS, Prepared, prepare
from pipelines.hemorrhage.suitability import check_content, warnings_about
from pipelines.opening import ModelError, ScoreCuts, ScoreSettings, StageClock, verified
from pipelines.reasons import Reason, Refusal
from pipelines.suitability import check_geometry
from pipelines.volume import load

if TYPE_CHECKING:
    from pipelines.hemorrhage.detect import Detection, Detector


class HemorrhageSettings(ScoreSettings):
    """`[pipelines.hemorrhage]`. What is not set here is taken from the model's manifest.

    From `threshold` on a study's score means a finding; from `unsure_from` up to it the answer is "not sure".
    """

    model: str = "hemorrhage"
    least_ml: float = Field(default=0.1, ge=0)


@dataclass(frozen=True, slots=True)
class Cuts(ScoreCuts):
    """Cuts on the study's score, and the probability of a blood voxel."""

    voxel: float


@dataclass(frozen=True, slots=True)
class HemorrhageReader:
    """The detector in memory, warm."""

    detector: Detector
    model: ModelIdentity
    cuts: Cuts
    least_ml: float

    def read(self, paths: Sequence[Path], prior: Prior | None = None) -> Reading:  # noqa: ARG002  it compares with none
        """Read one series. Input that cannot be read gives the outcome `not_read` with its reason."""
        clock = StageClock()
        try:
            return self._read(paths, clock)
        except Refusal as refusal:
            return Reading(Outcome("not_read", reason=refusal.reason, model=self.model, timings=clock.seconds))

    def _read(self, paths: Sequence[Path], clock: StageClock) -> Reading:
        with clock.stage("load"):
            series = load(paths)
            check_geometry(series.volume)
        with clock.stage("prepare"):
            prepared = prepare(series.volume)
        with clock.stage("network"):
            detection = self.detector.detect(prepared)
            check_content(detection.inside_ml)
        status = self.cuts.status(detection.score)
        findings: tuple[Finding, ...] = ()
        with clock.stage("measure"):
            if status != "clean":
                findings = self._findings(prepared, detection)
        outcome = Outcome(
            status,
            score=detection.score,
            findings=findings,
            warnings=series.warnings + warnings_about(series, detection.inside_ml),
            model=self.model,
            timings=clock.seconds,
            score_by_slice=detection.score_by_slice,
        )
        return Reading(outcome, series.volume, series.headers)

    def _findings(self, prepared: Prepared, detection: Detection) -> tuple[Finding, ...]:
        return find_bleeds(
            prepared.volume,
            detection.probability,
            Midplane(prepared.frame.center, prepared.frame.left),
            cut=self.cuts.voxel,
            least_ml=self.least_ml,
            score=detection.score,
            model_sha256=self.model.sha256,
        )


class HemorrhagePipeline:
    """See `pipelines.catalogue.Pipeline`."""

    name: str = "hemorrhage"
    settings: type[PipelineSettings] = HemorrhageSettings
    looks_for: Code = codes.INTRACRANIAL_HEMORRHAGE
    site: Code = codes.BRAIN
    window: tuple[float, float] = (40.0, 80.0)
    reads: Scope = "series"
    compares_with_prior: bool = False

    def open(self, settings: PipelineSettings) -> HemorrhageReader:
        """Load, verify and warm the model.

        Raises `ModelError` where weights and manifest do not belong together, or the device is not there.
        """
        from models.runtime import NoDeviceError, use_threads  # noqa: PLC0415  (torch is loaded here and not before)
        from pipelines.hemorrhage.detect import load_detector  # noqa: PLC0415

        chosen = HemorrhageSettings.model_validate(settings.model_dump())
        model = verified(chosen.model)
        use_threads(chosen.threads)
        try:
            detector = load_detector(model.weights, asdict(model.manifest), chosen.device)
        except NoDeviceError as error:
            raise ModelError(Reason("model.no_device", {"device": chosen.device})) from error
        detector.maps(np.zeros((2, ROWS, COLUMNS), np.float32), np.array([0.0, 5.0]))
        manifest = model.manifest
        numbers = detector.calibration
        cuts = Cuts(*chosen.cuts(numbers.threshold, numbers.unsure_from), numbers.pixel_threshold)
        identity = ModelIdentity(manifest.name, manifest.version, manifest.sha256)
        return HemorrhageReader(detector, identity, cuts, chosen.least_ml)


PIPELINE = HemorrhagePipeline()

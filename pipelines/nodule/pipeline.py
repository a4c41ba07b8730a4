"""Lung nodules on chest CT: one series in; every nodule found, measured, categorised and compared with before.

Importing this loads no torch; `open` does.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from pipelines import codes
from pipelines.catalogue import PipelineSettings, Prior, Reading, Scope
from pipelines.codes import Code
from pipelines.findings import Finding, ModelIdentity, Outcome, Status
from pipelines.geometry import Plane
from pipelines.opening import ModelError, ScoreCuts, ScoreSettings, StageClock, verified
from pipelines.reasons import Reason, Refusal
from pipelines.volume import LoadedSeries, Volume, load

if TYPE_CHECKING:
    from pipelines.nodule.character import Characterizer
    from pipelines.nodule.detect import Detection, Detector
    from pipelines.nodule.growth import Comparison
    from pipelines.nodule.prepare import Prepared
    from pipelines.nodule.segment import Segmenter


class NoduleSettings(ScoreSettings):
    """`[pipelines.nodule]`. What is not set here is taken from the model's manifest.

    A nodule is reported from a certainty of `threshold` on; where none reaches it, but one reaches `unsure_from`, the
    answer is "not sure". What is shorter than `least_mm` is left out (LUNA16 and Lung-RADS begin at 3 and 4 mm).
    """

    model: str = "nodule"
    segmentation: str = "nodule_segmentation"
    character: str = "nodule_character"
    least_mm: float = Field(default=3.0, ge=0)
    most_findings: int = Field(default=30, ge=1)


@dataclass(frozen=True, slots=True)
class Cuts(ScoreCuts):
    """Cuts on a nodule's certainty."""

    def least(self, status: Status) -> float:
        """The certainty from which nodules are told of in an answer."""
        return self.threshold if status == "finding" else self.unsure_from


@dataclass(frozen=True, slots=True)
class NoduleReader:
    """The networks in memory, warm."""

    detector: Detector
    segmenter: Segmenter
    characterizer: Characterizer
    model: ModelIdentity
    cuts: Cuts
    settings: NoduleSettings

    def read(self, paths: Sequence[Path], prior: Prior | None = None) -> Reading:
        """Read one series. Input that cannot be read gives the outcome `not_read` with its reason."""
        clock = StageClock()
        try:
            return self._read(paths, prior, clock)
        except Refusal as refusal:
            return Reading(Outcome("not_read", reason=refusal.reason, model=self.model, timings=clock.seconds))

    def _read(self, paths: Sequence[Path], prior: Prior | None, clock: StageClock) -> Reading:
        from pipelines.nodule.growth import Comparison  # noqa: PLC0415  loads torch
        from pipelines.nodule.prepare import prepare  # noqa: PLC0415  loads torch
        from pipelines.nodule.suitability import check_series, warnings_about  # noqa: PLC0415  loads torch

        with clock.stage("load"):
            series = load(paths)
            check_series(series)
        with clock.stage("prepare"):
            prepared = prepare(series.volume)
        with clock.stage("network"):
            detection = self.detector.detect(prepared)
        with clock.stage("measure"):
            findings = self._findings(series.volume, prepared, detection)
        warnings = series.warnings + warnings_about(series, prepared.lungs)
        comparison = Comparison(findings, (None,) * len(findings), 0)
        if prior is not None and (findings or prior.findings):
            with clock.stage("compare"):
                comparison = self._compared(series, prepared, findings, prior)
        score = max((finding.certainty for finding in findings), default=0.0)
        outcome = Outcome(
            self.cuts.status(score),
            score=score,
            findings=_categorized(comparison),
            warnings=warnings + comparison.warnings,
            model=self.model,
            timings=clock.seconds,
            score_by_slice=_score_by_slice(series.volume, detection),
            compared_with=comparison.compared_with,
        )
        return Reading(outcome, series.volume, series.headers)

    def _findings(self, volume: Volume, prepared: Prepared, detection: Detection) -> tuple[Finding, ...]:
        """The nodules that are told of, each once, the surest first."""
        from pipelines.nodule.describe import describe  # noqa: PLC0415  loads torch

        certain = detection.certainty
        least = self.cuts.least(self.cuts.status(float(certain.max(initial=0.0))))
        kept = np.flatnonzero(certain >= least)[: 2 * self.settings.most_findings]
        centers = [(float(x), float(y), float(z)) for x, y, z in detection.center_mm[kept]]
        regions = self.segmenter.segment(volume, centers)
        described = describe(
            volume, prepared.lungs, regions, certain[kept].tolist(), self.characterizer, model_sha256=self.model.sha256
        )
        long_enough = (
            finding for finding in described if (finding.measured("long_axis_mm") or 0.0) >= self.settings.least_mm
        )
        return tuple(long_enough)[: self.settings.most_findings]

    def _compared(
        self, series: LoadedSeries, prepared: Prepared, findings: tuple[Finding, ...], prior: Prior
    ) -> Comparison:
        from pipelines.nodule.growth import Comparison, compare  # noqa: PLC0415  loads SimpleITK and torch

        today = _study_date(series)
        if today is None:
            why = Reason("prior.not_comparable", {"detail": "this study has no date"})
            return Comparison(findings, (None,) * len(findings), 0, (why,))
        return compare(series.volume, prepared.lungs, findings, prior, self.segmenter, study_date=today.date())


def _study_date(series: LoadedSeries) -> datetime | None:
    text = str(series.headers[0].get("StudyDate") or "")
    try:
        return datetime.strptime(text, "%Y%m%d")
    except ValueError:
        return None


def _categorized(comparison: Comparison) -> tuple[Finding, ...]:
    """The findings with their Lung-RADS suggestion, the most suspicious first."""
    from pipelines.nodule.describe import category_of  # noqa: PLC0415  loads torch
    from pipelines.nodule.lung_rads import SUSPICION  # noqa: PLC0415

    graded = [
        (category_of(finding, before, comparison.days), finding)
        for finding, before in zip(comparison.findings, comparison.before, strict=True)
    ]
    graded.sort(key=lambda pair: (-SUSPICION.index(pair[0].name), -pair[1].certainty))
    return tuple(
        replace(finding, attributes={**finding.attributes, codes.LUNG_RADS: category.code})
        for category, finding in graded
    )


def _score_by_slice(volume: Volume, detection: Detection) -> tuple[float, ...]:
    """For each slice the highest certainty of the places that it passes through."""
    normal = np.asarray(volume.plane[0].normal)
    depth = np.abs(volume.position_mm[:, None] - detection.center_mm @ normal)
    reached = depth <= np.maximum(detection.diameter_mm / 2, volume.local_thickness_mm[:, None] / 2)
    scores = np.where(reached, detection.certainty, 0.0).max(axis=1, initial=0.0)
    return tuple(round(float(score), 4) for score in scores)


class NodulePipeline:
    """See `pipelines.catalogue.Pipeline`."""

    name: str = "nodule"
    settings: type[PipelineSettings] = NoduleSettings
    looks_for: Code = codes.NODULE
    site: Code = codes.LUNG
    window: tuple[float, float] = (-600.0, 1500.0)
    reads: Scope = "series"
    compares_with_prior: bool = True

    def open(self, settings: PipelineSettings) -> NoduleReader:
        """Load, verify and warm the networks.

        Raises `ModelError` where weights and manifest do not belong together, or the device is not there.
        """
        from models.runtime import NoDeviceError, choose_device, use_threads  # noqa: PLC0415  loads torch
        from pipelines.nodule.character import load_characterizer  # noqa: PLC0415
        from pipelines.nodule.detect import load_detector  # noqa: PLC0415
        from pipelines.nodule.segment import load_segmenter  # noqa: PLC0415

        chosen = NoduleSettings.model_validate(settings.model_dump())
        models = [verified(name) for name in (chosen.model, chosen.segmentation, chosen.character)]
        finding, outlining, characterizing = models
        use_threads(chosen.threads)
        try:
            device = choose_device(chosen.device)
        except NoDeviceError as error:
            raise ModelError(Reason("model.no_device", {"device": chosen.device})) from error
        detector = load_detector(finding.weights, asdict(finding.manifest), device)
        segmenter = load_segmenter(outlining.weights, asdict(outlining.manifest), chosen.device)
        characterizer = load_characterizer(characterizing.weights, asdict(characterizing.manifest))
        _warm(detector, segmenter)
        all_three = hashlib.sha256("".join(model.manifest.sha256 for model in models).encode()).hexdigest()
        identity = ModelIdentity(finding.manifest.name, finding.manifest.version, all_three)
        numbers = finding.manifest.calibration
        return NoduleReader(
            detector,
            segmenter,
            characterizer,
            identity,
            Cuts(*chosen.cuts(numbers["threshold"], numbers["unsure_from"])),
            chosen,
        )


def _warm(detector: Detector, segmenter: Segmenter) -> None:
    """Let each network compute once, and load what the first reading would load."""
    from pipelines.nodule import describe, prepare, suitability  # noqa: F401, PLC0415  loaded for the first reading

    box = np.full((64, 64, 64), -850, np.int16)
    detector.maps(box)
    detector.look_again(box, np.full((1, 3), 32.0))
    plane = [Plane((0.0, 0.0, float(z)), (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), 1.0, 1.0, 1.0) for z in range(len(box))]
    volume = Volume(box, tuple(plane), tuple(str(z) for z in range(len(box))), (1,) * len(box))
    segmenter.segment(volume, [(32.0, 32.0, 32.0)])


PIPELINE = NodulePipeline()

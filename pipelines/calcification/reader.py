"""What reads mammograms: every view mapped, its calcifications found and grouped, the groups described and assessed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipelines.calcification.breast import Breast, map_breast
from pipelines.calcification.conclude import Conclusion, conclude
from pipelines.calcification.detect import Detector
from pipelines.calcification.grains import Grains, measure_grains
from pipelines.calcification.group import Group, GroupModel, groups_of
from pipelines.catalogue import Prior, Reading
from pipelines.findings import ModelIdentity, Outcome
from pipelines.mammogram import Mammogram, MammogramStudy
from pipelines.mammogram_loading import load_study
from pipelines.opening import ScoreCuts, StageClock
from pipelines.reasons import Refusal

DOUBTFUL = 0.02
"""Groups from this certainty on are told of where every mark counts, as when the reader is measured."""


@dataclass(frozen=True, slots=True)
class CalcificationReader:
    """The network in memory, warm, and what tells groups from chance."""

    detector: Detector
    groups: GroupModel
    model: ModelIdentity
    cuts: ScoreCuts

    def read(self, paths: Sequence[Path], prior: Prior | None = None) -> Reading:  # noqa: ARG002  no comparison
        """Read one study. Input that cannot be read gives the outcome `not_read` with its reason."""
        clock = StageClock()
        try:
            return self._read(paths, clock)
        except Refusal as refusal:
            return Reading(Outcome("not_read", reason=refusal.reason, model=self.model, timings=clock.seconds))

    def read_study(self, study: MammogramStudy) -> Conclusion:
        """All that is said of a study, doubtful groups too."""
        return self._concluded(self._mapped(study, StageClock()), DOUBTFUL)

    def _read(self, paths: Sequence[Path], clock: StageClock) -> Reading:
        with clock.stage("load"):
            study = load_study(paths)
        views = self._mapped(study, clock)
        with clock.stage("conclude"):
            conclusion = self._concluded(views, self.cuts.threshold)
            status = self.cuts.status(conclusion.score)
            if status == "unsure":
                conclusion = self._concluded(views, self.cuts.unsure_from)
        outcome = Outcome(
            status,
            score=conclusion.score,
            findings=conclusion.findings,
            warnings=study.warnings + tuple(warning for view in study.views for warning in view.warnings),
            model=self.model,
            timings=clock.seconds,
            score_by_slice=tuple(round(conclusion.score_by_view[view.instance_uid], 4) for view in study.views),
        )
        return Reading(outcome, headers=tuple(view.header for view in study.views), study=study)

    def _mapped(self, study: MammogramStudy, clock: StageClock) -> list[tuple[Mammogram, Breast, tuple[Group, ...]]]:
        """Each view with its map and its groups."""
        with clock.stage("prepare"):
            breasts = [map_breast(view) for view in study.views]
        with clock.stage("network"):
            found = [find_grains(self.detector, *pair) for pair in zip(study.views, breasts, strict=True)]
        with clock.stage("measure"):
            return [
                (view, breast, groups_of(view, breast, grains, self.groups))
                for view, breast, grains in zip(study.views, breasts, found, strict=True)
            ]

    def _concluded(self, views: Sequence[tuple[Mammogram, Breast, Sequence[Group]]], least: float) -> Conclusion:
        return conclude(views, least=least, model_sha256=self.model.sha256)


def find_grains(detector: Detector, view: Mammogram, breast: Breast) -> Grains:
    """The calcifications of a view, measured. Groups may lie on the muscle too."""
    return measure_grains(view, *detector.find(view, breast.mask | breast.pectoral))

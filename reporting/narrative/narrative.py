"""The sentences that reports and pictures speak, in one language: filled in here, worded in a file per language."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Literal

from pipelines import codes
from pipelines.codes import Code
from pipelines.findings import Finding, Measurement, ModelIdentity, Outcome, Side
from pipelines.mammogram import MammogramStudy, RefusedView, Spacing, SpacingOrigin
from pipelines.reasons import Reason

DOUBLING = ("doubling_time_d", "doubling_time_lowest_d", "doubling_time_highest_d")
TOLD_APART = (
    "long_axis_mm", "short_axis_mm", "solid_long_axis_mm", "longest_diameter_mm", "volume_ml", "volume_change_percent",
    "area_mm2", *DOUBLING,
)  # fmt: skip
"""Keys of measurements that have methods of their own here, or that only the coded report holds."""
CHARACTER = {codes.NODULE: codes.COMPOSITION, codes.CALCIFICATION_CLUSTER: codes.CALCIFICATION_TYPE}
"""The question whose answer tells best what kind of thing a finding is."""
SCALE = {codes.NODULE: codes.LUNG_RADS, codes.CALCIFICATION_CLUSTER: codes.BI_RADS}
"""The scale of a finding's suggested category."""
ANSWERED_APART = (*CHARACTER.values(), *SCALE.values(), codes.CHANGE)


@dataclass(frozen=True, slots=True)
class Counted:
    """How findings are told of which a study may hold many, each with its size: one of them stands for all."""

    one: str
    many: str
    of_one: str
    """What the one is."""
    of_many: str
    """What the one that stands for all is: the largest, or the first of those that come by concern."""
    segment: str
    category: str
    """A finding's suggested category."""
    assessed: str
    """What the study's suggestion is, and that it is no more."""
    stands_for_all: Literal["largest", "first"] = "largest"
    mean_axis: bool = True
    """Whether the size is told with the mean of both axes."""


@dataclass(frozen=True, slots=True)
class Narrative:
    """One language. Sentences are format strings; `{term}` stands where a word of this language goes."""

    language: str
    """RFC 5646 tag, as settings name it."""
    code: Code
    """The same as a coded concept, for TID 1204."""
    found_one: str
    found_many: str
    clean: str
    unsure: str
    certainty: str
    volume_in_all: str
    disclaimer: str
    method: str
    spacing: Mapping[SpacingOrigin, str]
    """How sizes on a view were measured, by how its spacing is known."""
    not_read: str
    """That a view was not read, and why."""
    not_in_study: str
    view_without_name: str
    placed_singly: str
    on_both_views: str
    more_groups: str
    also_read: str
    model: str
    slice: str
    position: str
    key_slice: str
    from_in_front: str
    highest_slice: str
    score_by_slice: str
    series_description: str
    key_object_description: str
    segment: str
    more: str
    sides: Mapping[Side, str]
    measurements: Mapping[str, str]
    """By the measurement's key; one without a sentence is shown as its code's meaning, value and unit."""
    counted: Mapping[str, Counted]
    """By the meaning of what is looked for. What is not in here is told by its volume in all."""
    axes: str
    mean_axis: str
    solid_part: str
    cubic_mm: str
    since: str
    doubling_time: str
    doubling_interval: str
    compared: str
    terms: Mapping[str, str] = field(default_factory=dict)
    """Words for code meanings that are not said as the standard prints them."""
    reasons: Mapping[str, str] = field(default_factory=dict)
    """Sentences for reasons by code, where the table's own is not in this language."""

    def term(self, meaning: str) -> str:
        return self.terms.get(meaning, meaning)

    def percent(self, probability: float) -> str:
        """A probability as a percentage that never claims to be certain."""
        if probability > 0.99:
            return ">99%"
        return "<1%" if probability < 0.01 else f"{probability:.0%}"

    def impression(self, outcome: Outcome, looked_for: Code) -> str:
        """The answer in one line."""
        term = self.term(looked_for.meaning)
        score = self.percent(outcome.score or 0.0)
        if outcome.status == "clean":
            return self.clean.format(term=term[:1].lower() + term[1:], score=score)
        if outcome.status == "unsure":
            return self.unsure.format(term=term[:1].lower() + term[1:], score=score)
        if looked_for.meaning in self.counted and outcome.findings:
            return self._counted(self.counted[looked_for.meaning], outcome)
        count = len(outcome.findings)
        volumes = [v for finding in outcome.findings if (v := finding.measured("volume_ml")) is not None]
        sides = {finding.side for finding in outcome.findings}
        side = sides.pop() if len(sides) == 1 else None
        sentence = self.found_one if count == 1 else self.found_many
        return sentence.format(
            term=term,
            count=count,
            side="" if side is None else f", {self.sides[side]}",
            volume=self.volume_in_all.format(sum(volumes)) if volumes else "",
            score=score,
        )

    def finding(self, number: int, finding: Finding, compared_with: date | None = None) -> str:
        """One finding in one line, with its number, side, measurements and, where it has them, grade and change."""
        return f"{self.tracking(number, finding)}: " + ", ".join(self.particulars(finding, compared_with))

    def particulars(self, finding: Finding, compared_with: date | None) -> list[str]:
        """All that is told of a finding, and how sure it is."""
        if finding.kind.meaning in self.counted:
            parts = self._parts(finding, compared_with)
        else:
            parts = [self.measurement(m) for m in finding.measurements]
        twice = [self.on_both_views] if finding.partner_uid else []
        return [*parts, *twice, self.certainty.format(self.percent(finding.certainty))]

    def tracking(self, number: int, finding: Finding, *elsewhere: Finding) -> str:
        """The readable Tracking Identifier of a finding, alike in all objects: by its side, or the view it is on.

        `elsewhere` is the same finding on other views.
        """
        views = [one.view for one in (finding, *elsewhere) if one.view is not None]
        told = views or ([] if finding.side is None else [self.sides[finding.side]])
        side = "".join(f", {part}" for part in told)
        counted = self.counted.get(finding.kind.meaning)
        sentence = self.segment if counted is None else counted.segment
        return sentence.format(number=number, term=self.term(finding.label), side=side)

    def answer(self, finding: Finding, question: Code) -> str:
        """The word for a coded answer, or nothing where there is none."""
        answer = finding.attributes.get(question)
        term = "" if answer is None else self.term(answer.meaning)
        return term[:1].lower() + term[1:]

    def character(self, finding: Finding) -> str:
        """What kind of thing a finding is, or nothing where that is not told."""
        question = CHARACTER.get(finding.kind)
        return "" if question is None else self.answer(finding, question)

    def size(self, finding: Finding, *, short: bool = False) -> str:
        """Long by short axis to 0.1 mm with their mean, as Lung-RADS v2022 has them measured, and the solid part's.

        `short` leaves out the mean beside a solid part.
        """
        axes, solid_mm = self.axes_of(finding), finding.measured("solid_long_axis_mm")
        counted = self.counted.get(finding.kind.meaning)
        with_mean = counted is None or counted.mean_axis
        if axes and with_mean and not (short and solid_mm is not None):
            mean = ((finding.measured("long_axis_mm") or 0.0) + (finding.measured("short_axis_mm") or 0.0)) / 2
            axes += self.mean_axis.format(mean)
        return axes + ("" if solid_mm is None else self.solid_part.format(solid_mm))

    def axes_of(self, finding: Finding) -> str:
        """Long by short axis, or nothing where they were not measured."""
        long_mm, short_mm = finding.measured("long_axis_mm"), finding.measured("short_axis_mm")
        return "" if long_mm is None or short_mm is None else self.axes.format(long_mm, short_mm)

    def volume(self, finding: Finding) -> str:
        """In mm3 below 1 mL, or nothing where it was not measured."""
        volume_ml = finding.measured("volume_ml")
        if volume_ml is None:
            return ""
        if volume_ml < 1:
            return self.cubic_mm.format(1000 * volume_ml)
        return self.measurements["volume_ml"].format(volume_ml)

    def category(self, finding: Finding) -> str:
        """The category suggested for the finding as such, or nothing."""
        counted, scale = self.counted.get(finding.kind.meaning), SCALE.get(finding.kind)
        category = None if scale is None else finding.attributes.get(scale)
        return "" if category is None or counted is None else counted.category.format(self.term(category.meaning))

    def change(self, finding: Finding, compared_with: date | None) -> str:
        """What became of the finding since the earlier study, or nothing where there is none."""
        volume = finding.measured("volume_change_percent")
        told = (self.answer(finding, codes.CHANGE), "" if volume is None else f"{volume:+.0f}%")
        change = ", ".join(part for part in told if part)
        return change + self.since.format(compared_with) if change and compared_with else change

    def doubling(self, finding: Finding) -> str:
        """The volume doubling time with its interval, or nothing where it is not known."""
        days, lowest, highest = (finding.measured(key) for key in DOUBLING)
        if days is None:
            return ""
        interval = "" if lowest is None or highest is None else self.doubling_interval.format(lowest, highest)
        return self.doubling_time.format(days) + interval

    def assessed(self, outcome: Outcome, looked_for: Code, suggested: Code | None) -> list[str]:
        """On what the study's suggestion rests and what it was compared with, a sentence each."""
        counted = self.counted.get(looked_for.meaning)
        return [
            *([counted.assessed.format(self.term(suggested.meaning))] if counted and suggested else []),
            *([self.compared.format(outcome.compared_with)] if outcome.compared_with else []),
        ]

    def measured_how(self, outcome: Outcome, study: MammogramStudy | None) -> list[str]:
        """How what is told of findings was measured: of projections, how the spacing on each view is known."""
        if not outcome.findings:
            return []
        if study is None:
            return [self.method]
        by_origin: dict[Spacing, list[str]] = {}
        for view in study.views:
            by_origin.setdefault(view.spacing, []).append(view.name)
        return [
            self.spacing[spacing.origin].format(
                views=", ".join(names), detector=spacing.detector_mm, object=spacing.object_mm
            )
            for spacing, names in by_origin.items()
        ]

    def left_out(self, study: MammogramStudy | None) -> list[str]:
        """Each image of a study of projections that was not read, and why."""
        refused = () if study is None else study.refused
        return [self.not_read.format(view=self.view_of(one), reason=self.reason(one.reason)) for one in refused]

    def view_of(self, refused: RefusedView) -> str:
        """The name of an image that was not read, as far as it tells."""
        header = refused.header
        told = () if header is None else (header.get("ImageLaterality"), header.get("ViewPosition"))
        return " ".join(str(part) for part in told if part) or self.view_without_name

    def _counted(self, counted: Counted, outcome: Outcome) -> str:
        """How many, one that stands for all of them, and the study's suggestion."""
        count = len(set(outcome.numbers))
        shown = outcome.findings[0]
        if counted.stands_for_all == "largest":
            shown = max(outcome.findings, key=lambda finding: finding.measured("long_axis_mm") or 0.0)
        size = f"{self.axes_of(shown)} {self.character(shown)}".strip()
        described = ", ".join(part for part in (size, "" if shown.side is None else self.sides[shown.side]) if part)
        sentence = (counted.one if count == 1 else counted.many).format(count=count)
        if described:
            sentence += (counted.of_one if count == 1 else counted.of_many).format(described)
        category = outcome.lung_rads or outcome.bi_rads
        return sentence if category is None else f"{sentence}; {counted.category.format(self.term(category.meaning))}"

    def _parts(self, finding: Finding, compared_with: date | None) -> list[str]:
        """What is told of a counted finding: kind, size, suggestion, change, and the rest."""
        told = (
            self.character(finding),
            self.size(finding),
            self.volume(finding),
            self.category(finding),
            self.change(finding, compared_with),
            self.doubling(finding),
            *(self.answer(finding, question) for question in finding.attributes if question not in ANSWERED_APART),
            *(self.measurement(m) for m in finding.measurements if m.key not in TOLD_APART),
        )
        return [part for part in told if part]

    def measurement(self, measurement: Measurement) -> str:
        sentence = self.measurements.get(measurement.key)
        if sentence is None:
            return f"{self.term(measurement.name.meaning)} {measurement.value:.4g} {measurement.unit.value}"
        return sentence.format(measurement.value)

    def reason(self, reason: Reason) -> str:
        """A reason's sentence, with its facts."""
        sentence = self.reasons.get(reason.code)
        return reason.text if sentence is None else sentence.format(**reason.facts)

    def provenance(self, model: ModelIdentity, software: str) -> str:
        return self.model.format(name=model.name, version=model.version, software=software)

"""The sentences that reports and pictures speak, in one language: filled in here, worded in a file per language."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pipelines.codes import Code
from pipelines.findings import Finding, Measurement, ModelIdentity, Outcome, Side
from pipelines.reasons import Reason


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
    model: str
    slice: str
    position: str
    key_slice: str
    highest_slice: str
    score_by_slice: str
    series_description: str
    key_object_description: str
    segment: str
    more: str
    sides: Mapping[Side, str]
    measurements: Mapping[str, str]
    """By the measurement's key; one without a sentence is shown as its code's meaning, value and unit."""
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

    def finding(self, number: int, finding: Finding) -> str:
        """One finding in one line, with its number, side and measurements."""
        parts = [self.measurement(m) for m in finding.measurements]
        return f"{self.tracking(number, finding)}: " + ", ".join(
            [*parts, self.certainty.format(self.percent(finding.certainty))]
        )

    def tracking(self, number: int, finding: Finding) -> str:
        """The readable Tracking Identifier of a finding, alike in report and segmentation."""
        side = "" if finding.side is None else f", {self.sides[finding.side]}"
        return self.segment.format(number=number, term=self.term(finding.label), side=side)

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

"""How well a reader does on labelled patients.

A folder holds one sub-folder of DICOM files for each patient and `truth.csv` with the columns `patient, slices,
bleeding_slices, ivh, iph, sah, edh, sdh`: numbers of slices. A patient with a bleeding slice is positive.

A patient that was not read has no score. It is listed with its reason and counted against the reader: score 0.5 (no
opinion) in the areas, a missed bleed or a false alarm in sensitivity and specificity.
"""

from __future__ import annotations

import csv
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from models.evaluation.classification import Interval, Proportion, roc_auc, roc_auc_interval, sensitivity, specificity
from pipelines.catalogue import Reader
from pipelines.findings import Outcome, Status
from pipelines.reasons import Reason, TriageError

SUBTYPES = ("ivh", "iph", "sah", "edh", "sdh")
COLUMNS = ("patient", "slices", "bleeding_slices", *SUBTYPES)
NO_OPINION = 0.5

Progress = Callable[[int, int], None]


class EvaluationError(TriageError):
    """The labelled data are not of the form that is asked for."""


@dataclass(frozen=True, slots=True)
class Truth:
    """One row of `truth.csv`; `subtypes` are the numbers of slices by kind of bleed."""

    patient: str
    slices: int
    bleeding_slices: int
    subtypes: Mapping[str, int]

    @property
    def is_positive(self) -> bool:
        return self.bleeding_slices > 0


@dataclass(frozen=True, slots=True)
class Case:
    """One patient: truth, answer, and the seconds it took. `score` is None when the patient was not read."""

    truth: Truth
    status: Status
    score: float | None
    score_by_slice: tuple[float, ...]
    reason: Reason | None
    volume_ml: float
    seconds: float

    @property
    def counted_score(self) -> float:
        return NO_OPINION if self.score is None else self.score

    @property
    def called(self) -> bool:
        """Whether it counts as called positive: a finding, or a clean patient that was not read."""
        if self.status == "not_read":
            return not self.truth.is_positive
        return self.status == "finding"

    def as_json(self) -> dict[str, object]:
        return {
            "patient": self.truth.patient,
            "bleeding_slices": self.truth.bleeding_slices,
            "status": self.status,
            "score": self.score,
            "reason": None if self.reason is None else self.reason.as_json(),
            "volume_ml": round(self.volume_ml, 2),
            "seconds": round(self.seconds, 3),
        }


@dataclass(frozen=True, slots=True)
class SubtypeFigures:
    """Patients with one kind of bleed (whatever else they have) against the clean ones."""

    patients: int
    auc: float | None
    auc_interval: Interval | None
    sensitivity: Proportion


@dataclass(frozen=True, slots=True)
class EvaluationReport:
    """The figures. `slice_auc` is over the slices of patients whose every slice is labelled by the counts alone: those
    without a bleeding slice and those with nothing else; None when these are not of both kinds.
    """

    cases: tuple[Case, ...]
    patient_auc: float | None
    patient_auc_interval: Interval | None
    sensitivity: Proportion
    specificity: Proportion
    slice_auc: float | None
    subtypes: Mapping[str, SubtypeFigures]

    @property
    def not_read(self) -> tuple[Case, ...]:
        return tuple(case for case in self.cases if case.status == "not_read")

    def as_json(self) -> dict[str, object]:
        seconds = [case.seconds for case in self.cases]
        return {
            "schema": 1,
            "patients": len(self.cases),
            "positives": sum(case.truth.is_positive for case in self.cases),
            "not_read": len(self.not_read),
            "unsure": sum(case.status == "unsure" for case in self.cases),
            "patient_auc": self.patient_auc,
            "patient_auc_interval": self.patient_auc_interval,
            "sensitivity": self.sensitivity.value,
            "sensitivity_interval": self.sensitivity.interval,
            "specificity": self.specificity.value,
            "specificity_interval": self.specificity.interval,
            "slice_auc": self.slice_auc,
            "subtypes": {
                name: {
                    "patients": figures.patients,
                    "auc": figures.auc,
                    "auc_interval": figures.auc_interval,
                    "sensitivity": figures.sensitivity.value,
                    "sensitivity_interval": figures.sensitivity.interval,
                }
                for name, figures in self.subtypes.items()
            },
            "seconds_median": float(np.median(seconds)),
            "seconds_total": sum(seconds),
            "cases": [case.as_json() for case in self.cases],
        }


def evaluate(folder: Path, reader: Reader, progress: Progress = lambda _done, _total: None) -> EvaluationReport:
    """Read every patient of `folder` and compare with its truth. Raises `EvaluationError` before reading anything when
    `truth.csv` is missing or wrong, or a patient's folder is. `progress` hears of (patients done, patients in all).
    """
    truths = read_truth(folder)
    for truth in truths:
        if not files_of(folder / truth.patient):
            raise _wrong(f"the folder of patient {truth.patient} is missing or empty")
    cases = []
    for truth in truths:
        cases.append(_read(folder, truth, reader))
        progress(len(cases), len(truths))
    return report_on(cases)


def read_truth(folder: Path) -> tuple[Truth, ...]:
    """The rows of `truth.csv`. Raises `EvaluationError` with the line that is wrong."""
    try:
        with (folder / "truth.csv").open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file, skipinitialspace=True))
    except FileNotFoundError as error:
        raise _wrong("truth.csv is missing") from error
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise _wrong(f"truth.csv cannot be read ({type(error).__name__})") from error
    if not rows:
        raise _wrong("truth.csv has no rows")
    if missing := [column for column in COLUMNS if column not in rows[0]]:
        raise _wrong(f"truth.csv lacks the columns {', '.join(missing)}")
    truths = tuple(_truth(row, line) for line, row in enumerate(rows, start=2))
    names = [truth.patient for truth in truths]
    if len(set(names)) < len(names):
        raise _wrong("truth.csv names a patient twice")
    return truths


def files_of(folder: Path) -> list[Path]:
    """The files of a patient, in order of their names, sub-folders included."""
    return sorted(path for path in folder.rglob("*") if path.is_file()) if folder.is_dir() else []


def report_on(cases: Sequence[Case]) -> EvaluationReport:
    """The figures of cases that have been read."""
    scores = [case.counted_score for case in cases]
    called = [case.called for case in cases]
    positive = [case.truth.is_positive for case in cases]
    return EvaluationReport(
        cases=tuple(cases),
        patient_auc=roc_auc(scores, positive),
        patient_auc_interval=roc_auc_interval(scores, positive),
        sensitivity=sensitivity(called, positive),
        specificity=specificity(called, positive),
        slice_auc=_slice_auc(cases),
        subtypes={name: _subtype(name, cases) for name in SUBTYPES},
    )


def _wrong(detail: str) -> EvaluationError:
    return EvaluationError(Reason("evaluation.wrong_data", {"detail": detail}))


def _truth(row: Mapping[str, str | None], line: int) -> Truth:
    patient = (row["patient"] or "").strip()
    if not patient or Path(patient).name != patient:
        raise _wrong(f"line {line} of truth.csv names no folder")
    numbers = {}
    for column in COLUMNS[1:]:
        text = (row[column] or "").strip()
        if not text.isdecimal():
            raise _wrong(f"line {line} of truth.csv: {column} must be a whole number, not less than 0")
        numbers[column] = int(text)
    if numbers["bleeding_slices"] > numbers["slices"]:
        raise _wrong(f"line {line} of truth.csv has more bleeding slices than slices")
    subtypes = {name: numbers[name] for name in SUBTYPES}
    return Truth(patient, numbers["slices"], numbers["bleeding_slices"], subtypes)


def _read(folder: Path, truth: Truth, reader: Reader) -> Case:
    began = time.perf_counter()
    outcome: Outcome = reader.read(files_of(folder / truth.patient)).outcome
    return Case(
        truth=truth,
        status=outcome.status,
        score=outcome.score,
        score_by_slice=outcome.score_by_slice,
        reason=outcome.reason,
        volume_ml=sum(finding.measured("volume_ml") or 0.0 for finding in outcome.findings),
        seconds=time.perf_counter() - began,
    )


def _slice_auc(cases: Sequence[Case]) -> float | None:
    scores: list[float] = []
    positive: list[bool] = []
    for case in cases:
        if case.truth.bleeding_slices in {0, len(case.score_by_slice)}:
            scores += case.score_by_slice
            positive += [case.truth.is_positive] * len(case.score_by_slice)
    return roc_auc(scores, positive)


def _subtype(name: str, cases: Sequence[Case]) -> SubtypeFigures:
    chosen = [case for case in cases if case.truth.subtypes[name] or not case.truth.is_positive]
    scores = [case.counted_score for case in chosen]
    positive = [case.truth.is_positive for case in chosen]
    return SubtypeFigures(
        patients=sum(positive),
        auc=roc_auc(scores, positive),
        auc_interval=roc_auc_interval(scores, positive),
        sensitivity=sensitivity([case.called for case in chosen], positive),
    )

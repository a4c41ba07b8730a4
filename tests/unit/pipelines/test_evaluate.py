from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from pipelines.catalogue import Prior, Reading
from pipelines.findings import ModelIdentity, Outcome
from pipelines.hemorrhage.evaluate import EvaluationError, evaluate, read_truth
from pipelines.reasons import Reason

HEADER = "patient,slices,bleeding_slices,ivh,iph,sah,edh,sdh"


@dataclass
class FixedReader:
    """Answers by the name of the patient's folder."""

    answers: dict[str, Outcome]
    asked: list[list[str]] = field(default_factory=list)
    model: ModelIdentity = field(default_factory=lambda: ModelIdentity("fixed", "1", "0" * 64))

    def read(self, paths: Sequence[Path], prior: Prior | None = None) -> Reading:
        self.asked.append([path.name for path in paths])
        return Reading(self.answers[paths[0].parent.name])


def _folder(root: Path, rows: list[str]) -> Path:
    (root / "truth.csv").write_text("\n".join([HEADER, *rows]) + "\n")
    for row in rows:
        patient = root / row.split(",")[0]
        patient.mkdir(exist_ok=True)
        (patient / "b.dcm").write_bytes(b"")
        (patient / "a.dcm").write_bytes(b"")
    return root


def test_figures_of_a_small_folder(tmp_path: Path) -> None:
    folder = _folder(
        tmp_path, ["p1,3,3,0,3,0,0,0", "p2,3,1,0,0,1,0,1", "n1,3,0,0,0,0,0,0", "n2,3,0,0,0,0,0,0", "p3,3,2,0,2,0,0,0"]
    )
    reader = FixedReader(
        {
            "p1": Outcome("finding", 0.9, score_by_slice=(0.9, 0.8, 0.7)),
            "p2": Outcome("unsure", 0.4, score_by_slice=(0.1, 0.4, 0.2)),
            "n1": Outcome("clean", 0.1, score_by_slice=(0.1, 0.1, 0.1)),
            "n2": Outcome("finding", 0.6, score_by_slice=(0.6, 0.75, 0.1)),
            "p3": Outcome("not_read", reason=Reason("input.not_dicom")),
        }
    )
    heard: list[tuple[int, int]] = []
    report = evaluate(folder, reader, lambda done, total: heard.append((done, total)))
    # pairs: p1 beats both; p2 beats n1 only; p3 counts 0.5: beats n1 only
    assert report.patient_auc == pytest.approx(4 / 6)
    assert (report.sensitivity.count, report.sensitivity.total) == (1, 3)
    assert (report.specificity.count, report.specificity.total) == (1, 2)
    # slices: p1's three (all bleed) against the six of n1 and n2: of 18 pairs only 0.7 < 0.75 is out of order
    assert report.slice_auc == pytest.approx(17 / 18)
    assert report.subtypes["iph"].patients == 2
    assert report.subtypes["sdh"].auc == pytest.approx(0.5)
    assert report.subtypes["edh"].auc is None
    assert [case.truth.patient for case in report.not_read] == ["p3"]
    assert heard == [(k, 5) for k in range(1, 6)]
    assert reader.asked == [["a.dcm", "b.dcm"]] * 5
    document = report.as_json()
    assert {"patient_auc", "patient_auc_interval", "sensitivity", "specificity", "slice_auc", "cases"} <= set(document)
    assert document["not_read"] == 1


def test_a_clean_patient_that_is_not_read_is_a_false_alarm(tmp_path: Path) -> None:
    folder = _folder(tmp_path, ["p1,3,3,0,3,0,0,0", "n1,3,0,0,0,0,0,0"])
    answers = {"p1": Outcome("finding", 0.9), "n1": Outcome("not_read", reason=Reason("input.not_dicom"))}
    report = evaluate(folder, FixedReader(answers))
    assert report.specificity.value == 0
    assert report.patient_auc == 1


def test_slice_figures_need_patients_whose_every_slice_is_known(tmp_path: Path) -> None:
    folder = _folder(tmp_path, ["p1,2,1,0,1,0,0,0", "n1,2,0,0,0,0,0,0"])
    answers = {
        "p1": Outcome("finding", 0.9, score_by_slice=(0.9, 0.1)),
        "n1": Outcome("clean", 0.1, score_by_slice=(0.1, 0.0)),
    }
    assert evaluate(folder, FixedReader(answers)).slice_auc is None


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "no rows"),
        (HEADER, "no rows"),
        ("patient,slices\np1,3", "lacks the columns"),
        (f"{HEADER}\np1,3,x,0,0,0,0,0", "line 2"),
        (f"{HEADER}\np1,3,-1,0,0,0,0,0", "line 2"),
        (f"{HEADER}\np1,3,4,0,0,0,0,0", "more bleeding slices"),
        (f"{HEADER}\np1,3", "line 2"),
        (f"{HEADER}\n../p1,3,0,0,0,0,0,0", "names no folder"),
        (f"{HEADER}\np1,3,0,0,0,0,0,0\np1,3,0,0,0,0,0,0", "twice"),
        (f"{HEADER}\np1,3,0,0,0,0,0,0", "missing or empty"),
    ],
)
def test_a_wrong_truth_is_told(tmp_path: Path, text: str, what: str) -> None:
    (tmp_path / "truth.csv").write_text(text)
    with pytest.raises(EvaluationError, match=what):
        evaluate(tmp_path, FixedReader({}))


def test_a_missing_truth_is_told(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="is missing"):
        evaluate(tmp_path, FixedReader({}))


def test_truth_written_by_a_spreadsheet_is_read(tmp_path: Path) -> None:
    (tmp_path / "truth.csv").write_bytes(
        ("\ufeff" + HEADER.replace(",", ", ") + "\r\np1, 3, 1, 0, 1, 0, 0, 0\r\n").encode()
    )
    truth = read_truth(tmp_path)
    assert truth[0].is_positive
    assert truth[0].subtypes == {"ivh": 0, "iph": 1, "sah": 0, "edh": 0, "sdh": 0}

"""The commands that work on files: triage, route, import, phantom, evaluate."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import BreastTomosynthesisImageStorage, SecondaryCaptureImageStorage

from pipelines.catalogue import catalogue
from pipelines.phantom.head.study import PhantomOptions, make_study
from tests.dummy_room import dummy_pipeline
from tests.unit.db.queued import slices
from tests.unit.dicom_node.cli.conftest import Node, invoke, told
from tests.unit.dicom_node.made import encoded, header
from tests.unit.dicom_node.mammograms import four_views, view, with_pixels

ENTRY = {
    "series_instance_uid", "pipeline", "status", "score", "reason", "warnings", "findings", "model", "seconds",
    "objects",
}  # fmt: skip


@pytest.fixture
def dummy(node: Node) -> Iterator[Node]:
    with dummy_pipeline():
        node.add('[routes.head]\npipeline = "dummy"\nwhen = { Modality = "CT" }')
        node.add('[routes.breast]\npipeline = "never_made"\nwhen = { Modality = "MG" }')
        yield node


def write(folder: Path, made: list[Dataset]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number, one in enumerate(made):
        (folder / f"{one.Modality}{one.SeriesNumber}_{number:03d}.dcm").write_bytes(encoded(one))
    return folder


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """A head, its localizer, a mammogram of another study, a text and a half file."""
    localizer = header(2, 1, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    folder = write(tmp_path / "study", [*slices(1), localizer, header(3, 1, study=2, Modality="MG")])
    (folder / "note.txt").write_text("no DICOM")
    (folder / "half.dcm").write_bytes((folder / "CT1_000.dcm").read_bytes()[:400])
    return folder


def document(node: Node, *words: object, code: int = 0) -> Any:
    result = told(node.run(*words, "--json"), code)
    return json.loads(result.stdout)


def test_triage_compares_with_an_earlier_study(dummy: Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(catalogue()["dummy"]), "compares_with_prior", True)
    folders = []
    for day, study in (("20250301", "2.25.8"), ("20260301", "2.25.9")):
        made = slices(1)
        for one in made:
            one.StudyDate, one.StudyInstanceUID, one.SeriesInstanceUID = day, study, f"{study}.1"
            one.SOPInstanceUID = f"{study}.1.{one.InstanceNumber}"
        folders.append(write(tmp_path / day, made))
    then, now = folders
    [entry] = document(dummy, "triage", now, "--prior", then)["series"]
    assert entry["compared_with"] == "2025-03-01"
    assert (entry["prior"]["study_date"], entry["prior"]["images"]) == ("2025-03-01", 4)
    [entry] = document(dummy, "triage", then, "--prior", now)["series"]
    assert (entry["compared_with"], entry["prior"]) == (None, None)
    assert "no earlier study of the same patient" in told(dummy.run("triage", then, "--prior", now)).output


def test_triage_follows_its_schema(dummy: Node, study: Path, tmp_path: Path) -> None:
    said = document(dummy, "triage", study, "--out", tmp_path / "out", code=1)
    assert said.keys() == {"schema", "series", "files"}
    assert said["schema"] == 1
    assert all(one.keys() >= ENTRY for one in said["series"])
    by_uid = {one["series_instance_uid"]: one for one in said["series"]}
    read, ignored, not_read = (by_uid[uid] for uid in ("2.25.1.1", "2.25.1.2", "2.25.2.3"))
    assert (read["status"], read["pipeline"], read["score"], read["reason"]) == ("clean", "dummy", 0.1, None)
    assert read["model"] == {"name": "dummy", "version": "1", "sha256": "0" * 64}
    assert read["seconds"]["total"] >= read["seconds"]["read"]
    assert {Path(one["path"]).is_file() for one in read["objects"]} == {True}
    for one in read["objects"]:
        assert dcmread(one["path"]).SOPClassUID == one["sop_class"]
    assert (ignored["status"], ignored["reason"]["code"]) == ("ignored", "selection.localizer")
    assert (not_read["status"], not_read["reason"]["code"]) == ("not_read", "pipeline.not_configured")
    assert {Path(one["path"]).name for one in said["files"]} == {"note.txt", "half.dcm"}
    assert all(one["reason"]["text"] and one["reason"]["remedy"] for one in said["files"])


@pytest.fixture
def breasts(node: Node, tmp_path: Path) -> Iterator[Path]:
    """Two mammography studies, of four views and of two, one of them without a side, and a tomosynthesis."""
    with dummy_pipeline():
        node.add('[routes.breast]\npipeline = "dummy_study"\nwhen = { Modality = "MG" }')
        node.add('[pipelines.dummy_study]\nanswer = "finding"')
        tomosynthesis = view(5, "R CC", SOPClassUID=BreastTomosynthesisImageStorage)
        two = [view(1, "R CC", study=2), view(2, "L CC", study=2, ImageLaterality=None)]
        yield write(tmp_path / "breasts", [with_pixels(one) for one in (*four_views(), tomosynthesis, *two)])


def test_triage_gives_a_mammography_study_one_entry(node: Node, breasts: Path, tmp_path: Path) -> None:
    said = document(node, "triage", breasts, "--out", tmp_path / "out", code=1)
    four, tomosynthesis, two = said["series"]
    assert (four["status"], four["pipeline"], four["study_instance_uid"]) == ("finding", "dummy_study", "2.25.1")
    assert four["series_instance_uid"] == "2.25.1.1"
    assert four["series_instance_uids"] == [f"2.25.1.{number}" for number in range(1, 5)]
    [finding] = four["findings"]
    assert (finding["view"], finding["center_px"], finding["count"]) == ("R CC", [20.0, 20.0], 3)
    assert {Path(one["path"]).is_file() for one in four["objects"]} == {True}
    assert (tomosynthesis["status"], tomosynthesis["reason"]["code"]) == ("not_read", "view.tomosynthesis")
    assert (two["status"], two["series_instance_uids"]) == ("finding", ["2.25.2.1", "2.25.2.2"])
    [refused] = two["refused"]
    assert (refused["sop_instance_uid"], refused["reason"]["code"]) == ("2.25.2.2.1", "input.missing_attribute")
    words = told(node.run("triage", breasts), 1).stdout
    assert "R CC and 3 more series of the study" in words
    assert "Not read: image 2.25.2.2.1" in words


def test_triage_reads_a_study_together_with_the_pipeline_that_is_asked_for(dummy: Node, tmp_path: Path) -> None:
    capture = view(5, "R CC", SOPClassUID=SecondaryCaptureImageStorage)
    folder = write(tmp_path / "breasts", [with_pixels(one) for one in (*four_views(Modality="OT"), capture)])
    four, other = document(dummy, "triage", folder, "--pipeline", "dummy_study")["series"]
    assert (four["status"], len(four["series_instance_uids"])) == ("clean", 4)
    assert (other["status"], other["reason"]["code"]) == ("ignored", "selection.secondary_capture")


def test_route_explains_what_is_read_together(node: Node, breasts: Path) -> None:
    said = document(node, "route", breasts)
    series = {one["series_instance_uid"]: one for each in said["studies"] for one in each["series"]}
    assert series["2.25.1.1"]["together_with"] == [f"2.25.1.{number}" for number in (2, 3, 4)]
    assert (series["2.25.1.1"]["waits"], series["2.25.2.1"]["waits"]) == (False, True)
    assert (series["2.25.1.5"]["action"], series["2.25.1.5"]["together_with"]) == ("not_read", [])
    words = told(node.run("route", breasts)).stdout
    assert "together with 3 more series, as one study" in words
    assert "read when nothing more came for 120 s" in words
    assert "not read. The object is a tomosynthesis" in words


def test_triage_gives_the_same_objects_twice(dummy: Node, study: Path, tmp_path: Path) -> None:
    for out in ("one", "two"):
        told(dummy.run("triage", study, "--out", tmp_path / out), 1)
    first, second = ({p.name: p.read_bytes() for p in (tmp_path / out).iterdir()} for out in ("one", "two"))
    assert first == second != {}


def test_triage_tells_people_too(dummy: Node, study: Path) -> None:
    said = told(dummy.run("triage", study), 1).stdout
    assert all(word in said for word in ("clean", "ignored", "not read", "note.txt"))


def test_triage_without_out_writes_nothing(dummy: Node, study: Path, tmp_path: Path) -> None:
    before = set(tmp_path.rglob("*"))
    said = document(dummy, "triage", study, code=1)
    assert {one["path"] for series in said["series"] for one in series["objects"]} == {None}
    assert set(tmp_path.rglob("*")) == before


def test_triage_of_what_is_read_exits_0(dummy: Node, tmp_path: Path) -> None:
    assert document(dummy, "triage", write(tmp_path / "head", slices(1)))["series"][0]["status"] == "clean"


def test_triage_of_files_that_are_none_exits_1(dummy: Node, tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("no DICOM")
    said = document(dummy, "triage", tmp_path / "note.txt", code=1)
    assert said["series"] == []
    assert said["files"][0]["reason"]["code"] == "input.not_dicom"


def test_triage_reads_with_the_pipeline_that_is_asked_for(dummy: Node, tmp_path: Path) -> None:
    made = slices(1)
    for one in made:
        one.Modality = "MR"
    folder = write(tmp_path / "mr", made)
    [entry] = document(dummy, "triage", folder)["series"]
    assert (entry["status"], entry["reason"]["code"]) == ("ignored", "route.no_rule")
    [entry] = document(dummy, "triage", folder, "--pipeline", "dummy", code=1)["series"]
    assert (entry["pipeline"], entry["reason"]["code"]) == ("dummy", "input.not_an_image_to_read")
    assert "there are: hemorrhage, nodule, dummy" in told(dummy.run("triage", folder, "--pipeline", "x"), 2).stderr


@pytest.mark.parametrize("command", ["triage", "route", "import"])
def test_a_path_that_is_not_there_is_wrong_usage(node: Node, command: str) -> None:
    assert "does not exist" in told(node.run(command, "/nowhere/at/all"), 2).stderr


def test_route_explains(dummy: Node, study: Path) -> None:
    said = document(dummy, "route", study)
    series = {one["series_instance_uid"]: one for each in said["studies"] for one in each["series"]}
    assert (series["2.25.1.1"]["action"], series["2.25.1.1"]["rule"]) == ("read", "head")
    assert (series["2.25.1.2"]["action"], series["2.25.1.2"]["reason"]["code"]) == ("ignored", "selection.localizer")
    assert {Path(one["path"]).name for one in said["files"]} == {"note.txt", "half.dcm"}
    words = told(dummy.run("route", study)).stdout
    assert "localizer" in words and "by head" in words


def test_import_takes_files_as_if_pushed(dummy: Node, study: Path) -> None:
    said = document(dummy, "import", study, code=1)
    assert said["taken"] == 6
    assert {Path(one["path"]).name for one in said["files"]} == {"note.txt", "half.dcm"}
    assert json.loads(told(dummy.run("studies", "list", "--json")).stdout)
    assert "Took 6 of 8 files" in told(dummy.run("import", study), 1).stdout
    assert document(dummy, "import", study / "CT1_000.dcm") == {"schema": 1, "taken": 1, "files": []}


def test_phantoms_are_made_to_order(tmp_path: Path) -> None:
    options = ["--bleed", "subdural", "--volume-ml", 20, "--tilt", 12, "--pixels", 64, "--slice-mm", 10, "--seed", 3]
    truth = json.loads(told(invoke("phantom", "head", "--out", tmp_path / "a", *options, "--json")).stdout)
    assert truth == json.loads((tmp_path / "a" / "truth.json").read_text())
    assert (truth["kind"], truth["side"] in ("left", "right", "bilateral")) == ("subdural", True)
    assert abs(truth["volume_ml"] - 20) < 4
    image = dcmread(next((tmp_path / "a").glob("*.dcm")))
    assert (image.Rows, image.StudyInstanceUID) == (64, truth["study_instance_uid"])
    assert abs(image.ImageOrientationPatient[5]) > 0.1


@pytest.mark.parametrize(
    "options", [("--bleed", "nose"), ("--bleed", "epidural", "--volume-ml", -5), ("--tilt", 80), ("--pixels", 4)]
)
def test_phantoms_that_cannot_be_are_wrong_usage(tmp_path: Path, options: tuple[object, ...]) -> None:
    assert "Usage:" in told(invoke("phantom", "head", "--out", tmp_path / "x", *options), 2).stderr
    assert "--out" in told(invoke("phantom", "head"), 2).stderr


@pytest.mark.parametrize(
    "options",
    [("--nodule", "nose:5"), ("--nodule", "solid:wide"), ("--nodule", "solid:5:nose"), ("--growth", 99), ("--dose", 0)],
)
def test_chest_phantoms_that_cannot_be_are_wrong_usage(tmp_path: Path, options: tuple[object, ...]) -> None:
    assert "Usage:" in told(invoke("phantom", "chest", "--out", tmp_path / "x", *options), 2).stderr
    assert not (tmp_path / "x").exists()


COLUMNS = ("patient", "slices", "bleeding_slices", "ivh", "iph", "sah", "edh", "sdh")


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("labelled")
    with (folder / "truth.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(COLUMNS)
        for patient, bleed in (("1", "intraparenchymal"), ("2", "none")):
            options = PhantomOptions(seed=5, bleed=bleed, volume_ml=60, pixels=128, slice_mm=10.0)  # type: ignore[arg-type]
            made = make_study(folder / patient, options)
            bleeding = int((made.blood.sum(axis=(1, 2)) > 1).sum())
            table.writerow([patient, len(made.files), bleeding, 0, bleeding, 0, 0, 0])
    return folder


def test_evaluate_prints_its_figures(node: Node, labelled: Path) -> None:
    figures = json.loads(told(node.run("evaluate", "hemorrhage", labelled, "--json")).stdout)
    assert figures.keys() >= {
        "patient_auc", "patient_auc_interval", "sensitivity", "specificity", "slice_auc", "cases", "subtypes",
    }  # fmt: skip
    assert (figures["patients"], figures["positives"]) == (2, 1)
    assert {case["patient"]: case["status"] in ("finding", "clean", "unsure") for case in figures["cases"]} == {
        "1": True,
        "2": True,
    }
    assert figures["seconds_median"] > 0
    assert 0 <= figures["patient_auc"] <= 1


@pytest.mark.parametrize("content", ["a,b\n1,2\n", f"{','.join(COLUMNS)}\n1,x,0,0,0,0,0,0\n"])
def test_wrong_truth_is_told(node: Node, tmp_path: Path, content: str) -> None:
    folder = tmp_path / "labelled"
    folder.mkdir()
    (folder / "truth.csv").write_text(content)
    result = told(node.run("evaluate", "hemorrhage", folder), 1)
    assert "The labelled data cannot be used" in result.stderr
    assert "truth.csv" in result.stderr

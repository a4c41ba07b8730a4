"""`evaluate froc` and `evaluate calcification`: labelled data in, figures and pictures out."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from dicom_node.cli import evaluate
from dicom_node.cli.main import main
from dicom_node.settings import Settings
from pipelines import codes
from pipelines.findings import Finding, Outline
from pipelines.mammogram import MammogramStudy
from tests.unit.dicom_node.cli.conftest import told

FINDINGS = "seriesuid,coordX,coordY,coordZ,diameter_mm\n"
MARKS = "seriesuid,coordX,coordY,coordZ,probability\n"


@pytest.fixture
def tables(tmp_path: Path) -> list[str]:
    texts = {
        "annotations": FINDINGS + "1.2.1,0,0,0,10\n1.2.2,0,0,0,10\n1.2.9,0,0,0,10\n",
        "excluded": FINDINGS + "1.2.1,50,0,0,-1\n",
        "seriesuids": "1.2.1\n1.2.2\n1.2.3\n1.2.4\n",
        "detections": MARKS + "1.2.1,1,0,0,0.9\n1.2.1,50,0,0,0.9\n1.2.3,0,0,0,0.8\n1.2.2,1,0,0,0.7\n1.2.9,0,0,0,1\n",
    }
    words = []
    for name, text in texts.items():
        path = tmp_path / f"{name}.csv"
        path.write_text(text)
        words += [f"--{name}", str(path)]
    return words


def froc(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["evaluate", "froc", *map(str, arguments)])


def test_figures_as_json(tables: list[str]) -> None:
    result = told(froc(*tables, "--bootstrap", "20", "--seed", "3", "--json"))
    figures = json.loads(result.stdout)
    assert figures["false_positives_per_scan"] == [0.125, 0.25, 0.5, 1, 2, 4, 8]
    assert figures["sensitivity"] == [0.5, 1, 1, 1, 1, 1, 1]
    assert figures["cpm"] == pytest.approx(6.5 / 7)
    assert figures["cpm_interval"][0] <= figures["cpm"] <= figures["cpm_interval"][1]
    assert len(figures["sensitivity_intervals"]) == 7
    counted = {"scans": 4, "nodules": 2, "nodules_found": 2, "marks": 4, "false_positives": 1, "on_excluded": 1}
    assert {name: figures[name] for name in counted} == counted
    assert figures["marks_left_out"] == 1
    assert len(figures["curve"]["sensitivity"]) == len(figures["curve"]["low"]) == 97
    assert "1 marks are in series that seriesuids.csv does not name" in result.stderr


def test_figures_as_table_and_picture(tables: list[str], tmp_path: Path) -> None:
    plot = tmp_path / "curve.png"
    result = told(froc(*tables, "--bootstrap", "0", "--plot", plot))
    assert "0.125" in result.stdout
    assert "CPM" in result.stdout
    assert "2 of 2 nodules marked in 4 scans" in result.stdout
    assert "1 false positives; ignored 1 on excluded findings" in result.stdout
    with Image.open(io.BytesIO(plot.read_bytes())) as picture:
        assert picture.format == "PNG"
        assert picture.width > 900
        colours = picture.convert("RGB").getcolors(1 << 20)
    assert colours is not None
    assert (0x0B, 0x6E, 0x99) in {colour for _, colour in colours}, "the curve is drawn"


def test_a_wrong_table_ends_in_words(tables: list[str]) -> None:
    Path(tables[-1]).write_text(MARKS + "1.2.7,0,0,0,1\n")
    result = told(froc(*tables), 1)
    assert "detections.csv, line 2: series 1.2.7 is in none of seriesuids.csv, annotations.csv" in result.stderr


def test_a_picture_that_cannot_be_written_is_told(tables: list[str], tmp_path: Path) -> None:
    result = told(froc(*tables, "--bootstrap", "0", "--plot", tmp_path / "no" / "curve.png"), 1)
    assert "cannot be written" in result.stderr


@dataclass(frozen=True)
class Said:
    findings: tuple[Finding, ...] = ()
    score_by_view: Mapping[str, float] = field(default_factory=dict)


class MarksTheMiddle:
    """A pipeline and its reader: marks the middle of every film whose name begins with a."""

    def open(self, _: object) -> MarksTheMiddle:
        return self

    def read_study(self, study: MammogramStudy) -> Said:
        (view,) = study.views
        if not view.instance_uid.startswith("a"):
            return Said((), {view.instance_uid: 0.1})
        outline = Outline(view.instance_uid, ((40, 40), (60, 40), (60, 60), (40, 60)), ((50, 50),))
        mark = Finding(
            codes.CALCIFICATION_CLUSTER, "", 0.8, outline, None, (), view.instance_uid, "1", center_px=(50.0, 50.0)
        )
        return Said((mark,), {view.instance_uid: 0.8})


@pytest.fixture
def films(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(evaluate, "catalogue", lambda: {"calcification": MarksTheMiddle()})
    monkeypatch.setattr(Settings, "pipeline", lambda _settings, _name: None)
    folder = tmp_path / "films"
    folder.mkdir()
    for name in ("a", "b"):
        grey = np.tile(np.linspace(20, 180, 100), (100, 1)).astype(np.uint8)
        Image.fromarray(grey).save(folder / f"{name}.png")
    (folder / "ground_truth.csv").write_text(
        "image,class,x_px_origin_left,y_px_origin_top,radius_px\na.png,CALC,52,50,8\nb.png,NORM,,,\n"
    )
    return folder


def calcification(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["evaluate", "calcification", *map(str, arguments)])


def test_calcifications_as_json_and_pictures(films: Path, tmp_path: Path) -> None:
    out = tmp_path / "pictures"
    figures = json.loads(told(calcification(films, "--spacing-um", 200, "--out", out, "--json")).stdout)
    assert figures["image_auc"] == 1.0
    assert figures["image_auc_interval"] == [1.0, 1.0]
    assert figures["froc"]["sensitivity"] == [1.0] * 7
    assert {path.name for path in out.iterdir()} == {"froc.png", "hits.png"}


def test_calcifications_as_table(films: Path) -> None:
    shown = told(calcification(films, "--spacing-um", 200)).stdout
    assert "image AUC" in shown
    assert "1 groups on 2 images" in " ".join(shown.split())


def test_films_without_spacing_are_refused(films: Path) -> None:
    result = calcification(films)
    assert result.exit_code != 0
    assert "--spacing-um" in str(result.output) + str(result.exception)


def test_calcifications_without_their_pipeline(films: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluate, "catalogue", dict)
    result = calcification(films, "--spacing-um", 200)
    assert result.exit_code == 1 and "calcification" in result.output

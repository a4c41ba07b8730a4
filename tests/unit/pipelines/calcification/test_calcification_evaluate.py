"""Labelled folders are read in both forms; hits, curves and areas are what they are by hand."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pydicom import Dataset

from pipelines import codes
from pipelines.calcification.evaluate import POINTS, evaluate, froc_plot, hits_of, overlap
from pipelines.calcification.films import load_film
from pipelines.calcification.labelled import Target, read_truth
from pipelines.calcification.sheets import sheets
from pipelines.findings import Finding, Outline
from pipelines.mammogram import MammogramStudy
from pipelines.reasons import Refusal, refuse

COLUMNS = "image,class,severity,x_px_origin_left,y_px_origin_bottom,y_px_origin_top,radius_px,tissue,note\n"


def film(path: Path, *, wall: str = "right", depth: int = 8) -> None:
    """A grey breast of 100 x 80 pixels with its chest wall on one side, in black padding."""
    grey = np.zeros((100, 120))
    rows, columns = np.indices((100, 80))
    breast = ((rows - 50) / 48) ** 2 + ((columns - 79) / 70) ** 2 < 1
    part = np.where(breast, 0.6, 0.05)
    grey[:, 20:100] = part if wall == "right" else part[:, ::-1]
    scale, kind = (255, np.uint8) if depth == 8 else (65535, np.uint16)
    Image.fromarray((grey * scale).astype(kind)).save(path)


def mark(name: str, column: float, row: float, certainty: float, reach: float = 4.0) -> Finding:
    corners = ((-reach, -reach), (reach, -reach), (reach, reach), (-reach, reach))
    return Finding(
        kind=codes.CALCIFICATION_CLUSTER,
        label="",
        certainty=certainty,
        region=Outline(name, tuple((column + dx, row + dy) for dx, dy in corners), ((column, row),)),
        center_mm=None,
        measurements=(),
        key_instance_uid=name,
        tracking_uid=f"{name} {column} {row}",
        center_px=(column, row),
    )


@dataclass(frozen=True)
class Said:
    findings: tuple[Finding, ...] = ()
    score_by_view: Mapping[str, float] = field(default_factory=dict)


class FakeReader:
    """Says of each film what it was told to; those that it was told nothing of score 0."""

    def __init__(self, marks: Sequence[Finding], refused: Sequence[str] = ()) -> None:
        self.marks, self.refused = marks, refused

    def __call__(self, study: MammogramStudy) -> Said:
        (name,) = [view.instance_uid for view in study.views]
        if name in self.refused:
            raise refuse("input.malformed", detail="made so")
        found = tuple(one for one in self.marks if one.key_instance_uid == name)
        return Said(found, {name: max((one.certainty for one in found), default=0.0)})


def never(_: Sequence[Path]) -> MammogramStudy:
    raise AssertionError("films are not loaded as DICOM")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Six films of four women: two located groups on one, one on another, one without place, two normals."""
    for number in (1, 2, 3, 5, 6, 7):
        film(tmp_path / f"mdb{number:03}.png", wall="right" if number % 2 else "left")
    (tmp_path / "ground_truth.csv").write_text(
        COLUMNS + "mdb001.png,CALC,M,70,69,30,4,G,\n"
        "mdb001.png,CALC,B,80,39,60,3,G,\n"
        "mdb002.png,NORM,,,,,,G,\n"
        "mdb003.png,CALC,M,75,49,50,20,G,\n"
        "mdb005.png,CALC,M,,,,,G,\n"
        "mdb006.png,NORM,,,,,,G,\n"
        "mdb007.png,CIRC,B,50,50,50,9,G,\n"
    )
    return tmp_path


def test_truth_of_films(folder: Path) -> None:
    truths = {truth.name: truth for truth in read_truth(folder)}
    assert [truth.is_positive for truth in truths.values()] == [True, False, True, True, False, None]
    assert truths["mdb001.png"].targets == (Target((70, 30), 4), Target((80, 60), 3))
    assert truths["mdb005.png"].targets == ()
    assert not truths["mdb005.png"].is_located
    assert truths["mdb003.png"].is_located
    women = [truth.woman for truth in truths.values()]
    assert women[0] == women[1]
    assert women[3] == women[4]
    assert len(set(women)) == 4


def test_figures(folder: Path) -> None:
    marks = [
        mark("mdb001.png", 71, 31, 0.9),  # hits the first
        mark("mdb001.png", 70, 32, 0.3),  # hits it again: neither hit nor false
        mark("mdb001.png", 80, 90, 0.8),  # false, on a positive
        mark("mdb002.png", 70, 50, 0.6),  # false, on a normal
        mark("mdb003.png", 75, 55, 0.5),  # hits
        mark("mdb005.png", 75, 55, 0.95),  # neither: no place is known
        mark("mdb007.png", 75, 55, 0.99),  # not labelled
    ]
    seen: list[tuple[int, int]] = []
    report = evaluate(folder, FakeReader(marks), never, spacing_um=500, progress=lambda *of: seen.append(of))
    assert seen[-1] == (6, 6)
    figures = report.as_json()
    counts = {"images": 6, "positives": 3, "normals": 2, "unlabelled": 1, "without_place": 1, "targets": 3}
    assert {name: figures[name] for name in counts} == counts
    # Scores of positives 0.9, 0.5, 0.95 against 0.6 and 0 of normals: one of six pairs is wrong.
    assert report.image_auc == pytest.approx(5 / 6)
    low, high = report.image_auc_interval or (1, 0)
    assert low <= 5 / 6 <= high
    # Four images have places or are normal. 1 of 3 found before the first false mark, 2 of 3 after the second.
    assert report.froc is not None
    assert report.froc.false_marks.tolist() == [0, 0, 0.25, 0.5, 0.5]
    curve = dict(zip(POINTS, report.froc.at_points.tolist(), strict=True))
    assert curve[0.1] == pytest.approx(1 / 3)
    assert curve[0.5] == curve[4] == pytest.approx(2 / 3)
    assert report.froc_on_normals is not None
    assert report.froc_on_normals.false_marks.tolist() == [0, 0, 0, 0.5, 0.5]
    assert report.froc_on_positives is not None
    assert report.froc_on_positives.false_marks.tolist() == [0, 0, 0.5, 0.5, 0.5]
    assert report.threshold_at(1) == 0.5
    assert report.threshold_at(0.3) == 0.8
    assert report.threshold_at(0.0) == 0.9


def test_a_woman_scores_as_the_highest_of_her_images(folder: Path) -> None:
    head, *rows = (folder / "ground_truth.csv").read_text().splitlines()
    women = {"mdb001.png": "ann", "mdb003.png": "ann"}
    names = [row.split(",")[0] for row in rows]
    named = [f"{head},woman", *(f"{row},{women.get(name, name)}" for row, name in zip(rows, names, strict=True))]
    (folder / "ground_truth.csv").write_text("\n".join(named))
    marks = [mark("mdb001.png", 70, 30, 0.9), mark("mdb002.png", 70, 50, 0.6), mark("mdb003.png", 75, 50, 0.5)]
    report = evaluate(folder, FakeReader(marks), never, spacing_um=500)
    # Ann 0.9 and the woman of the fifth film 0 are positive; those of the second 0.6 and of the sixth 0 are not.
    assert report.case_auc == pytest.approx((1 + 1 + 0 + 0.5) / 4)
    assert report.image_auc == pytest.approx((1 + 1 + 0 + 1 + 0 + 0.5) / 6)


def test_what_is_not_read_counts_against_the_reader(folder: Path) -> None:
    report = evaluate(
        folder, FakeReader([mark("mdb003.png", 75, 55, 0.4)], refused=["mdb001.png"]), never, spacing_um=500
    )
    figures = report.as_json()
    assert figures["not_read"] == 1
    unread = report.images[0]
    assert unread.score is None
    assert unread.reason is not None
    assert unread.counted_score == 0.5
    assert unread.best_hits == (None, None)
    assert report.froc is not None
    assert report.froc.at_points[-1] == pytest.approx(1 / 3)


def test_without_marks_nothing_is_found(folder: Path) -> None:
    report = evaluate(folder, FakeReader([]), never, spacing_um=500)
    assert report.froc is not None
    assert report.froc.at_points.tolist() == [0] * len(POINTS)
    assert report.threshold_at(1) == float("inf")
    assert report.image_auc == 0.5
    assert set(sheets(report, 1.0)) == {"misses"}


def test_pictures_show_what_was_found_missed_and_false(folder: Path) -> None:
    marks = [mark("mdb001.png", 71, 31, 0.9), mark("mdb002.png", 70, 50, 0.6), mark("mdb003.png", 75, 55, 0.5)]
    report = evaluate(folder, FakeReader(marks), never, spacing_um=500)
    pictures = sheets(report, 1.0)
    assert set(pictures) == {"hits", "misses", "false_marks"}
    with Image.open(io.BytesIO(pictures["hits"])) as sheet:
        colors = {color for _, color in sheet.convert("RGB").getcolors(1 << 20) or []}
    assert {(0x3F, 0xC1, 0xC9), (0xFF, 0xB0, 0x00), (0xFF, 0x5D, 0x5D)} <= colors
    plot = froc_plot(report, "films")
    assert plot is not None
    with Image.open(io.BytesIO(plot)) as picture:
        assert picture.size == (1080, 750)


def test_small_circles_are_hit_within_5_mm() -> None:
    small = [Target((100, 100), 2)]
    assert hits_of(mark("a", 100, 119, 1), small, 0.25) == (0,)
    assert hits_of(mark("a", 100, 121, 1), small, 0.25) == ()
    assert hits_of(mark("a", 100, 121, 1), [Target((100, 100), 30)], 0.25) == (0,)
    assert hits_of(mark("a", 100, 121, 1), [Target((100, 100), None)], 0.2) == (0,)


def test_overlap_hits_but_a_mark_of_the_whole_breast_does_not() -> None:
    target = [Target((100, 100), 20)]
    beside = mark("a", 122, 100, 1, reach=18)
    assert hits_of(beside, target, 0.25) == (0,)
    assert hits_of(mark("a", 222, 100, 1, reach=125), target, 0.25) == ()


@given(radius=st.floats(2, 50), away=st.floats(0, 100), angle=st.floats(0, 6.28))
def test_overlap_is_that_of_two_discs(radius: float, away: float, angle: float) -> None:
    """Against the lens of two equal circles."""
    turn = np.linspace(0, 2 * np.pi, 200, endpoint=False)
    polygon = np.stack([np.cos(turn), np.sin(turn)], axis=1) * radius
    half = min(away / 2 / radius, 1.0)
    lens = 2 * radius**2 * (np.arccos(half) - half * np.sqrt(1 - half**2))
    expected = lens / (2 * np.pi * radius**2 - lens)
    found = overlap(polygon, (away * np.cos(angle), away * np.sin(angle)), radius)
    assert found == pytest.approx(expected, abs=0.04)


@pytest.mark.parametrize("wall", ["left", "right"])
@pytest.mark.parametrize("depth", [8, 16])
def test_a_film_is_a_view(tmp_path: Path, wall: str, depth: int) -> None:
    film(tmp_path / "film.png", wall=wall, depth=depth)
    view = load_film(tmp_path / "film.png", 0.2)
    assert view.chest_wall == wall
    assert view.laterality == ("R" if wall == "right" else "L")
    assert view.pixels.max() == pytest.approx(0.6, abs=0.01)
    assert view.outside[:, :20].all()
    assert view.outside[:, 100:].all()
    assert not view.outside[:, 20:100].any()
    assert view.spacing.object_mm == 0.2
    assert view.header == Dataset()
    assert load_film(tmp_path / "film.png", 0.2, "L").laterality == "L"


def test_a_white_edge_of_the_film_is_no_chest_wall(tmp_path: Path) -> None:
    film(tmp_path / "film.png", wall="right")
    with Image.open(tmp_path / "film.png") as held:
        grey = np.array(held)
    grey[:, 20:30] = 245
    Image.fromarray(grey).save(tmp_path / "film.png")
    view = load_film(tmp_path / "film.png", 0.2)
    assert view.chest_wall == "right"
    assert view.outside[:, :30].all()


def test_truth_of_dicom_files(tmp_path: Path) -> None:
    for name in ("a.dcm", "b.dcm", "c.dcm", "d.dcm"):
        (tmp_path / name).write_bytes(b"no DICOM")
    (tmp_path / "ground_truth.csv").write_text(
        "image,source_label,finding,col_px,row_px,note\n"
        "a.dcm,x,calcification cluster,363,1444,\n"
        "b.dcm,x,none,,,\n"
        "c.dcm,,no label in source,,,\n"
        "d.dcm,x,calcifications somewhere,,,\n"
    )
    truths = read_truth(tmp_path)
    assert [truth.is_positive for truth in truths] == [True, False, None, True]
    assert truths[0].targets == (Target((363, 1444), None),)
    assert [truth.is_located for truth in truths] == [True, True, True, False]


def test_views_of_one_study_are_read_together(triage_data: Path) -> None:
    folder = triage_data / "breast" / "ffdm_4view"
    if not folder.is_dir():
        pytest.skip("the mammograms are not in TRIAGE_DATA")
    truths = read_truth(folder)
    studies = [truth.study for truth in truths]
    assert len(set(studies[:4])) == 1
    assert len(set(studies)) == 3
    assert len({truth.instance_uid for truth in truths}) == len(truths)
    loaded: list[list[str]] = []

    def load(paths: Sequence[Path]) -> MammogramStudy:
        loaded.append(sorted(path.name for path in paths))
        raise refuse("input.malformed", detail="made so")

    report = evaluate(folder, FakeReader([]), load)
    assert sorted(len(names) for names in loaded) == [1, 2, 4]
    assert [image.truth.name for image in report.images] == [truth.name for truth in truths]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "missing"),
        ("", "no rows"),
        ("image,class\nmdb001.png,NORM\n", "lacks the columns"),
        (COLUMNS + "mdb009.png,NORM,,,,,,G,\n", "mdb009.png"),
        (COLUMNS + "../mdb001.png,NORM,,,,,,G,\n", "line 2"),
        (COLUMNS + "mdb001.png,NORM,,,,,,G,\nmdb001.png,CALC,B,7,7,x,3,G,\n", "line 3"),
        (COLUMNS + "mdb001.png,CALC,B,7,7,7,0,G,\n", "radius"),
        (COLUMNS + "mdb001.png,CALC,B,7,7,7,2,G,\nmdb001.png,NORM,,,,,,G,\n", "normal"),
    ],
)
def test_tables_of_another_form_are_refused(folder: Path, text: str | None, words: str) -> None:
    table = folder / "ground_truth.csv"
    if text is None:
        table.unlink()
    else:
        table.write_text(text)
    with pytest.raises(Refusal, match=words):
        evaluate(folder, FakeReader([]), never, spacing_um=200)


def test_films_need_the_side_of_their_pixels(folder: Path) -> None:
    with pytest.raises(Refusal, match="spacing-um"):
        evaluate(folder, FakeReader([]), never)


@pytest.mark.parametrize("held", [b"", b"no PNG", None])
def test_a_picture_that_cannot_be_read_is_told(folder: Path, held: bytes | None) -> None:
    if held is None:
        Image.new("L", (50, 50), 7).save(folder / "mdb003.png")
    else:
        (folder / "mdb003.png").write_bytes(held)
    report = evaluate(folder, FakeReader([]), never, spacing_um=200)
    told = {image.truth.name: image.reason for image in report.images}
    assert told["mdb003.png"] is not None
    assert told["mdb003.png"].code == "input.pixel_data_unreadable"
    assert report.as_json()["not_read"] == 1

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.evaluation.froc import Annotation, Mark
from models.evaluation.luna16 import Luna16, TableError, read, read_findings, read_scans

SERIES = "1.2.1\n1.2.2\n1.2.3\n"
FINDINGS = "seriesuid,coordX,coordY,coordZ,diameter_mm\n"
MARKS = "seriesuid,coordX,coordY,coordZ,probability\n"
ANNOTATIONS = FINDINGS + "1.2.1,-128.6994211,-175.3192718,-298.3875064,5.651470635\n1.2.9,1,2,3,4\n"
EXCLUDED = FINDINGS + "1.2.1,1,2,3,-1\n"
DETECTIONS = MARKS + "1.2.1,1,2,3,0.5\n1.2.2,-1.5,2e1,3,-0.25\n"

ONE_NODULE = Annotation("1.2.1", (-128.6994211, -175.3192718, -298.3875064), 5.651470635)
OTHER_NODULE = Annotation("1.2.9", (1.0, 2.0, 3.0), 4.0)


def files(folder: Path, **texts: str | bytes) -> dict[str, Path]:
    whole = {"annotations": ANNOTATIONS, "excluded": EXCLUDED, "seriesuids": SERIES, "detections": DETECTIONS}
    paths = {}
    for name, text in (whole | texts).items():
        paths[name] = folder / f"{name}.csv"
        paths[name].write_bytes(text.encode() if isinstance(text, str) else text)
    return paths


def read_from(folder: Path, **texts: str | bytes) -> Luna16:
    return read(**files(folder, **texts))


def test_the_four_forms_are_read(tmp_path: Path) -> None:
    tables = read_from(tmp_path)
    assert tables.scans == ("1.2.1", "1.2.2", "1.2.3")
    assert tables.annotations == (ONE_NODULE,)
    assert tables.excluded == (Annotation("1.2.1", (1.0, 2.0, 3.0), -1.0),)
    assert tables.marks == (Mark("1.2.1", (1.0, 2.0, 3.0), 0.5), Mark("1.2.2", (-1.5, 20.0, 3.0), -0.25))
    assert (tables.findings_left_out, tables.marks_left_out) == (1, 0)


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("\n", "\r\n").encode(),
        lambda text: gzip.compress(text.encode()),
        lambda text: b"\xef\xbb\xbf" + text.encode(),
        lambda text: text.partition("\n")[2].encode(),
        lambda text: text.replace("\n", "\n\n").encode() + b" , ,,,\n",
        lambda text: text.replace(",", " , ").encode(),
        lambda text: text.replace("seriesuid", "SeriesUID").encode(),
        lambda text: text.rstrip("\n").encode(),
        lambda text: b"".join(b"x,%s,y\n" % line.encode() for line in text.splitlines()),
    ],
    ids=["CRLF", "gzip", "BOM", "no names", "empty lines", "blanks", "capitals", "no last end", "further columns"],
)
def test_other_writings_read_the_same(tmp_path: Path, change: object) -> None:
    assert callable(change)
    path = tmp_path / "table"
    path.write_bytes(change(ANNOTATIONS))
    assert read_findings(path) == (ONE_NODULE, OTHER_NODULE)


def test_columns_go_by_their_names(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("diameter_mm,mal_bool,coordZ,coordY,coordX,seriesuid\n4,True,3,2,1,1.2.9\n")
    assert read_findings(path) == (OTHER_NODULE,)


def test_the_list_of_series_may_have_a_name_and_further_columns(tmp_path: Path) -> None:
    path = tmp_path / "series.csv"
    path.write_text("seriesuid,fold\n1.2.1,0\n1.2.2,1\n")
    assert read_scans(path) == ("1.2.1", "1.2.2")


def test_marks_in_a_series_that_is_known_but_not_scored_are_left_out(tmp_path: Path) -> None:
    tables = read_from(tmp_path, detections=DETECTIONS + "1.2.9,1,2,3,0.5\n")
    assert (len(tables.marks), tables.marks_left_out) == (2, 1)


@pytest.mark.parametrize(
    ("texts", "told"),
    [
        ({"detections": DETECTIONS + "1.2.7,1,2,3,1\n"},
         "detections.csv, line 4: series 1.2.7 is in none of seriesuids.csv, annotations.csv, excluded.csv"),
        ({"detections": DETECTIONS + "1.2.1,1,x,3,1\n"}, "detections.csv, line 4: coordY is 'x'; it must be a number"),
        ({"detections": MARKS + "1.2.1,1,2,3,nan\n"}, "detections.csv, line 2: probability is 'nan'"),
        ({"detections": MARKS + "1.2.1,1,2,3,inf\n"}, "detections.csv, line 2: probability is 'inf'"),
        ({"detections": MARKS + "1.2.1,1,2,3\n"}, "detections.csv, line 2: there must be at least the columns"),
        ({"detections": MARKS + ",1,2,3,0.5\n"}, "detections.csv, line 2: there must be at least the columns"),
        ({"detections": FINDINGS}, "detections.csv, line 1: the columns probability are missing; there are seriesuid"),
        ({"annotations": FINDINGS + "1.2.1,1,2,3,0\n"}, "annotations.csv, line 2: diameter_mm is 0; it must be above"),
        ({"excluded": FINDINGS + "1.2.1,1,2,3,big\n"}, "excluded.csv, line 2: diameter_mm is 'big'"),
        ({"seriesuids": SERIES + "1.2.2\n"}, "seriesuids.csv, line 4: series 1.2.2 stands on line 2 already"),
        ({"seriesuids": "\n"}, "seriesuids.csv names no series"),
        ({"seriesuids": b"\xff\xfe"}, "seriesuids.csv cannot be read as a table of text (UnicodeDecodeError)"),
        ({"annotations": b"\x1f\x8bnothing at all"}, "annotations.csv cannot be read as a table of text (BadGzipFile)"),
        ({"annotations": gzip.compress(b"")[:10] + b"\xff" * 20}, "annotations.csv cannot be read"),
        ({"annotations": gzip.compress(ANNOTATIONS.encode())[:-20]}, "annotations.csv cannot be read"),
    ],
)  # fmt: skip
def test_a_wrong_table_is_told_by_file_and_line(tmp_path: Path, texts: dict[str, str | bytes], told: str) -> None:
    with pytest.raises(TableError) as error:
        read_from(tmp_path, **texts)
    assert told in str(error.value)


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(TableError, match=r"gone\.csv cannot be read"):
        read_scans(tmp_path / "gone.csv")


@given(st.binary(max_size=200) | st.text(alphabet="seriud,coX\n\r\"'1.-e\x00", max_size=80).map(str.encode))
def test_whatever_the_file_holds_it_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, held: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.csv"
    path.write_bytes(held)
    for reading in (read_scans, read_findings):
        try:
            assert isinstance(reading(path), tuple)
        except TableError as error:
            assert "any.csv" in str(error)

"""The four CSV forms of LUNA16: annotations, excluded findings, series, and a detector's marks.

- annotations and excluded findings: `seriesuid, coordX, coordY, coordZ, diameter_mm` (-1 where the size is unknown);
- series: `seriesuid`;
- marks: `seriesuid, coordX, coordY, coordZ, probability`.

Coordinates are patient coordinates in mm (LPS, "world" in LUNA16's words). A file may be compressed by gzip, may have
further columns and either kind of line end, and may lack the line of names; its columns are then in the order above.
"""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path

from models.evaluation.froc import Annotation, Mark

SERIES = ("seriesuid",)
FINDINGS = ("seriesuid", "coordX", "coordY", "coordZ", "diameter_mm")
MARKS = ("seriesuid", "coordX", "coordY", "coordZ", "probability")
GZIP_MAGIC = b"\x1f\x8b"


class TableError(ValueError):
    """A table is not of its form; the message names the file, the line, and what is allowed."""


@dataclass(frozen=True, slots=True)
class Luna16:
    """What is scored: the scans, and what lies in them. The last two count what lies in other scans and is left out."""

    scans: tuple[str, ...]
    annotations: tuple[Annotation, ...]
    excluded: tuple[Annotation, ...]
    marks: tuple[Mark, ...]
    findings_left_out: int
    marks_left_out: int


@dataclass(frozen=True, slots=True)
class _Row:
    file: str
    line: int
    cells: tuple[str, ...]

    @property
    def scan(self) -> str:
        return self.cells[0]

    def wrong(self, what: str) -> TableError:
        return TableError(f"{self.file}, line {self.line}: {what}")


def read(annotations: Path, excluded: Path, seriesuids: Path, detections: Path) -> Luna16:
    """Read the four tables. Annotations and marks in scans that `seriesuids` does not name are left out, so that a part
    of LUNA16 can be scored with its whole tables.

    Raises `TableError` for a table that cannot be read, and for a mark in a series that none of the tables names.
    """
    scans = read_scans(seriesuids)
    listed = frozenset(scans)
    nodules, others = read_findings(annotations), read_findings(excluded)
    known = listed.union((one.scan for one in nodules), (one.scan for one in others))
    marks = []
    rows = 0
    for row in _rows(detections, MARKS):
        rows += 1
        if row.scan not in known:
            tables = ", ".join(path.name for path in (seriesuids, annotations, excluded))
            raise row.wrong(
                f"series {row.scan} is in none of {tables}; a mark must be in a series that is listed there"
            )
        if row.scan in listed:
            marks.append(Mark(row.scan, _position(row), _number(row, 4, MARKS)))
    inside = tuple(one for one in nodules if one.scan in listed)
    inside_others = tuple(one for one in others if one.scan in listed)
    return Luna16(
        scans=scans,
        annotations=inside,
        excluded=inside_others,
        marks=tuple(marks),
        findings_left_out=len(nodules) + len(others) - len(inside) - len(inside_others),
        marks_left_out=rows - len(marks),
    )


def read_scans(path: Path) -> tuple[str, ...]:
    """The series to score. Raises `TableError` when there is none, or one is named twice."""
    seen: dict[str, int] = {}
    for row in _rows(path, SERIES):
        if row.scan in seen:
            raise row.wrong(f"series {row.scan} stands on line {seen[row.scan]} already; each is named once")
        seen[row.scan] = row.line
    if not seen:
        raise TableError(f"{path.name} names no series; it must name at least one")
    return tuple(seen)


def read_findings(path: Path) -> tuple[Annotation, ...]:
    """Annotations or excluded findings. Raises `TableError`."""
    return tuple(_finding(row) for row in _rows(path, FINDINGS))


def _finding(row: _Row) -> Annotation:
    diameter = _number(row, 4, FINDINGS)
    if diameter == 0:
        raise row.wrong("diameter_mm is 0; it must be above 0, or -1 where the size is unknown")
    return Annotation(row.scan, _position(row), diameter)


def _position(row: _Row) -> tuple[float, float, float]:
    x, y, z = (_number(row, column, FINDINGS) for column in (1, 2, 3))
    return x, y, z


def _number(row: _Row, column: int, names: Sequence[str]) -> float:
    try:
        value = float(row.cells[column])
    except ValueError:
        value = float("nan")
    if not isfinite(value):
        raise row.wrong(f"{names[column]} is {row.cells[column]!r}; it must be a number")
    return value


def _rows(path: Path, names: Sequence[str]) -> Iterator[_Row]:
    """The rows below the names, with the wanted columns in the order of `names`; empty lines are passed over."""
    reader = csv.reader(io.StringIO(_text(path), newline=""))
    places: list[int] | None = None
    try:
        for cells in reader:
            held = [cell.strip() for cell in cells]
            if not any(held):
                continue
            if places is None:
                places = _places(path, held, names)
                if places is not None:
                    continue
                places = list(range(len(names)))
            if len(held) <= max(places) or not held[places[0]]:
                raise TableError(
                    f"{path.name}, line {reader.line_num}: there must be at least the columns {', '.join(names)}"
                )
            yield _Row(path.name, reader.line_num, tuple(held[place] for place in places))
    except csv.Error as error:
        raise TableError(f"{path.name}, line {reader.line_num}: no CSV ({error})") from error


def _places(path: Path, first: Sequence[str], names: Sequence[str]) -> list[int] | None:
    """Where the wanted columns stand by a line of names; None when the first line is no such line."""
    told = [cell.lower() for cell in first]
    if SERIES[0] not in told:
        return None
    if missing := [name for name in names if name.lower() not in told]:
        raise TableError(
            f"{path.name}, line 1: the columns {', '.join(missing)} are missing; there are {', '.join(first)}"
        )
    return [told.index(name.lower()) for name in names]


def _text(path: Path) -> str:
    try:
        held = path.read_bytes()
        return (gzip.decompress(held) if held.startswith(GZIP_MAGIC) else held).decode("utf-8-sig")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise TableError(f"{path.name} cannot be read as a table of text ({type(error).__name__})") from error

"""Labelled mammograms: a folder of films (PNG) or DICOM files with `ground_truth.csv`, one row for each lesion.

The table has one of two forms. That of mini-MIAS has the columns `image, class, x_px_origin_left, y_px_origin_top,
radius_px`: class NORM is normal, CALC are calcifications, and an image whose rows are all of other classes is not
labelled. The other has `image, finding, col_px, row_px` and, if known, `radius_px`: the finding `none` is normal, one
that names a calcification is positive, others are not labelled.

In both, a positive row without a place says that the image is positive, but not where. `woman` may name whose images
belong together; without it DICOM images go by study, and MIAS films by their numbers, of which 2k-1 and 2k are one
woman's.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydicom import dcmread
from pydicom.errors import InvalidDicomError

from pipelines.reasons import Refusal, refuse

TABLE = "ground_truth.csv"
FILM_SUFFIX = ".png"
CLASS_COLUMNS = ("image", "class", "x_px_origin_left", "y_px_origin_top", "radius_px")
FINDING_COLUMNS = ("image", "finding", "col_px", "row_px")
_MIAS = re.compile(r"mdb(\d+)")


@dataclass(frozen=True, slots=True)
class Target:
    """A group to be found: centre (column, row) px and radius px, None where the table tells none."""

    center_px: tuple[float, float]
    radius_px: float | None


@dataclass(frozen=True, slots=True)
class ImageTruth:
    """What the table says of one image. `is_positive` is None where it says nothing that counts here.

    `is_located` is False where calcifications are said to be there, but for some not where. `severity` is the table's.
    Images with the same `study` are read together; for a film that is its own name, and so is its `instance_uid`.
    """

    name: str
    study: str
    instance_uid: str
    is_positive: bool | None
    targets: tuple[Target, ...]
    is_located: bool
    woman: str
    severity: str = ""


def read_truth(folder: Path) -> tuple[ImageTruth, ...]:
    """The images of the table, in its order. Refuses (`evaluation.wrong_data`) other forms, with the line."""
    try:
        with (folder / TABLE).open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file, skipinitialspace=True))
    except FileNotFoundError as error:
        raise _wrong(f"{TABLE} is missing") from error
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise _wrong(f"{TABLE} cannot be read ({type(error).__name__})") from error
    if not rows:
        raise _wrong(f"{TABLE} has no rows")
    has_classes = "class" in rows[0]
    if missing := [column for column in (CLASS_COLUMNS if has_classes else FINDING_COLUMNS) if column not in rows[0]]:
        raise _wrong(f"{TABLE} lacks the columns {', '.join(missing)}")
    by_image: dict[str, list[tuple[int, Mapping[str, str]]]] = {}
    for line, row in enumerate(rows, start=2):
        told = {name: (value or "").strip() for name, value in row.items() if isinstance(name, str)}
        name = told["image"]
        if not name or Path(name).name != name:
            raise _wrong(f"line {line} of {TABLE} names no file")
        if not (folder / name).is_file():
            raise _wrong(f"{name}, which line {line} of {TABLE} names, is missing")
        by_image.setdefault(name, []).append((line, told))
    return tuple(_truth(folder / name, told, has_classes=has_classes) for name, told in by_image.items())


def is_film(path: Path) -> bool:
    """Whether a file is a film, and no DICOM."""
    return path.suffix.lower() == FILM_SUFFIX


def _truth(path: Path, rows: Sequence[tuple[int, Mapping[str, str]]], *, has_classes: bool) -> ImageTruth:
    read = _class_row if has_classes else _finding_row
    said = [read(row, line) for line, row in rows]
    positive = [target for is_positive, target in said if is_positive]
    is_normal = any(is_positive is False for is_positive, _ in said)
    if positive and is_normal:
        raise _wrong(f"{path.name} is said to be normal, and not to be")
    study, instance_uid = (path.name, path.name) if is_film(path) else _identity(path)
    return ImageTruth(
        name=path.name,
        study=study,
        instance_uid=instance_uid,
        is_positive=True if positive else False if is_normal else None,
        targets=tuple(target for target in positive if target is not None),
        is_located=None not in positive,
        woman=rows[0][1].get("woman") or (_woman_of_film(path) if is_film(path) else study),
        severity=rows[0][1].get("severity", ""),
    )


def _class_row(row: Mapping[str, str], line: int) -> tuple[bool | None, Target | None]:
    kind = row["class"].upper()
    if kind == "NORM":
        return False, None
    if kind != "CALC":
        return None, None
    return True, _target(row["x_px_origin_left"], row["y_px_origin_top"], row["radius_px"], line)


def _finding_row(row: Mapping[str, str], line: int) -> tuple[bool | None, Target | None]:
    finding = row["finding"].lower()
    if finding == "none":
        return False, None
    if "calcification" not in finding:
        return None, None
    return True, _target(row["col_px"], row["row_px"], row.get("radius_px", ""), line)


def _target(column: str, row: str, radius: str, line: int) -> Target | None:
    if not column and not row:
        return None
    try:
        found = Target((float(column), float(row)), float(radius) if radius else None)
    except ValueError as error:
        raise _wrong(f"line {line} of {TABLE} holds a place that is no number") from error
    if found.radius_px is not None and not found.radius_px > 0:
        raise _wrong(f"line {line} of {TABLE} holds a radius that is not above 0")
    return found


def _woman_of_film(path: Path) -> str:
    number = _MIAS.fullmatch(path.stem)
    return path.stem if number is None else f"woman {(int(number[1]) + 1) // 2}"


def _identity(path: Path) -> tuple[str, str]:
    """Study and instance UID of a file; the file's name for both where it tells none."""
    try:
        header = dcmread(path, stop_before_pixels=True, specific_tags=["StudyInstanceUID", "SOPInstanceUID"])
        return str(header.StudyInstanceUID), str(header.SOPInstanceUID)
    except (OSError, InvalidDicomError, AttributeError, ValueError):
        return path.name, path.name


def _wrong(detail: str) -> Refusal:
    return refuse("evaluation.wrong_data", detail=detail)

"""Nodules of LIDC-IDRI as patches: `index.csv` and `nodules/*.npz`, each with its CT numbers and its readers' masks.

The truth is the consensus of half of the readers (Armato et al., Med Phys 2011, 38:915, describes the reading). Patches
are tight: along z there is often no slice without the nodule.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from pipelines.findings import Region
from pipelines.geometry import Floats, Plane
from pipelines.reasons import Refusal, refuse
from pipelines.volume import Volume

Mask = NDArray[np.bool_]

MOST_READERS = 4
OUTSIDE_HU = -1024
UNMATCHED = "reader_masks_unmatched"
COLUMNS = ("nodule_id", "patient_id", "file", "n_readers", "flags")
RATINGS = ("texture", "malignancy", "calcification")


@dataclass(frozen=True, slots=True)
class Row:
    """One row of `index.csv`. Ratings are one value for each reader, as LIDC codes them (1 to 5; calcification is
    a category, 6 where there is none)."""

    nodule_id: str
    patient_id: str
    file: str
    readers: int
    texture: tuple[int, ...]
    malignancy: tuple[int, ...]
    calcification: tuple[int, ...]
    is_matched: bool


@dataclass(frozen=True, slots=True, eq=False)
class Patch:
    """A nodule on its own slices. `marks[r]` is bool `[slice, row, column]`: what reader r outlined, where he did."""

    row: Row
    volume: Volume
    marks: tuple[Mask, ...]

    @property
    def consensus(self) -> Mask:
        """What at least half of the readers hold for the nodule."""
        return np.asarray(2 * np.sum(self.marks, axis=0) >= self.row.readers)

    @property
    def consensus_region(self) -> Region:
        return Region.from_volume(self.consensus)

    @property
    def share(self) -> NDArray[np.float32]:
        """The share of the readers that hold a voxel for the nodule, 0 to 1."""
        return np.asarray(np.sum(self.marks, axis=0) / self.row.readers, np.float32)


def read_index(folder: Path) -> tuple[Row, ...]:
    """The rows of `index.csv` whose readers' masks are known. Refuses (`evaluation.wrong_data`) other forms."""
    try:
        with (folder / "index.csv").open(newline="", encoding="utf-8-sig") as file:
            table = list(csv.DictReader(file))
    except FileNotFoundError as error:
        raise _wrong("index.csv is missing") from error
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise _wrong(f"index.csv cannot be read ({type(error).__name__})") from error
    if not table:
        raise _wrong("index.csv has no rows")
    if missing := [column for column in (*COLUMNS, *(f"{name}_ratings" for name in RATINGS)) if column not in table[0]]:
        raise _wrong(f"index.csv lacks the columns {', '.join(missing)}")
    rows = tuple(_row(values, line) for line, values in enumerate(table, start=2))
    return tuple(row for row in rows if row.is_matched)


def read_patch(folder: Path, row: Row) -> Patch:
    """The patch of a row, its slices ascending. Refuses (`evaluation.wrong_data`) what is of no such form."""
    try:
        with np.load(folder / row.file, allow_pickle=False) as held:
            image, masks, affine = held["image"], held["masks"], np.asarray(held["affine"], np.float64)
    except (OSError, KeyError, ValueError, BadZipFile, EOFError) as error:
        raise _wrong(f"{row.file} cannot be read ({type(error).__name__})") from error
    if image.ndim != 3 or image.shape != masks.shape or affine.shape != (4, 4) or masks.dtype != np.uint8:
        raise _wrong(f"{row.file} has not the arrays image, masks and affine of one size")
    hu, masks = np.maximum(image, OUTSIDE_HU).astype(np.int16).transpose(2, 1, 0), masks.transpose(2, 1, 0)
    planes = _planes(affine, len(hu))
    if len(planes) > 1 and planes[1].position_mm < planes[0].position_mm:
        hu, masks, planes = hu[::-1], masks[::-1], planes[::-1]
    bits = [(masks >> reader & 1).astype(np.bool_) for reader in range(MOST_READERS)]
    marks = tuple(np.ascontiguousarray(bit) for bit in bits if bit.any())
    if len(marks) != row.readers:
        raise _wrong(f"{row.file} holds the marks of {len(marks)} readers, index.csv says {row.readers}")
    names = tuple(f"{row.nodule_id}.{k}" for k in range(len(hu)))
    patch = Patch(row, Volume(np.ascontiguousarray(hu), planes, names, (1,) * len(hu)), marks)
    if not patch.consensus.any():
        raise _wrong(f"{row.file} holds no voxel that half of its readers mark")
    return patch


def _row(values: Mapping[str, str | None], line: int) -> Row:
    texts = {column: (values[column] or "").strip() for column in COLUMNS}
    try:
        readers = int(texts["n_readers"] or 0)
        ratings = {name: _ratings(values[f"{name}_ratings"] or "") for name in RATINGS}
    except ValueError as error:
        raise _wrong(f"line {line} of index.csv holds something else than numbers") from error
    is_matched = UNMATCHED not in texts["flags"] and readers > 0
    return Row(texts["nodule_id"], texts["patient_id"], texts["file"], readers, **ratings, is_matched=is_matched)


def _ratings(text: str) -> tuple[int, ...]:
    return tuple(int(value) for value in text.split(";") if value)


def _planes(affine: Floats, count: int) -> tuple[Plane, ...]:
    """The planes of a patch whose `affine` leads from voxel indices to RAS, mm."""
    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    along, down = (tuple((lps[:3, axis] / spacing[axis]).tolist()) for axis in (0, 1))
    origins = [tuple((lps[:3, 3] + k * lps[:3, 2]).tolist()) for k in range(count)]
    return tuple(
        Plane(origin, along, down, float(spacing[1]), float(spacing[0]), float(spacing[2])) for origin in origins
    )


def _wrong(detail: str) -> Refusal:
    return refuse("evaluation.wrong_data", detail=detail)

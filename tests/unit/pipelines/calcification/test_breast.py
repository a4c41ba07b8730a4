"""The map of the breast: on made views whose truth is known, and on the public films and exams."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import Dataset
from scipy import ndimage

from pipelines.calcification.breast import map_breast
from pipelines.calcification.films import load_film
from pipelines.mammogram import Mammogram, Projection, Spacing
from pipelines.mammogram_loading import load_study

SHAPE = (720, 480)
MM = 0.25
ROWS, COLUMNS = np.indices(SHAPE, dtype=np.float64)
# The chest wall is at the left. All lengths in pixels.
CENTRE, HALF, REACH = 384.0, 288.0, 312.0
MUSCLE_TOP, MUSCLE_WALL = 156.0, 420.0
NIPPLE = (REACH, CENTRE)


def made(
    projection: Projection = "MLO", *, muscle: bool = True, nipple: bool = True, add: NDArray[np.floating] | None = None
) -> Mammogram:
    """A breast that fades to its skin line, as a view from the left breast."""
    away = np.hypot((ROWS - CENTRE) / HALF, COLUMNS / REACH)
    thickness = np.clip((1 - away) * 8, 0, 1)
    texture = ndimage.gaussian_filter(np.random.default_rng(5).normal(0, 1, SHAPE), 6)
    pixels = 0.4 * thickness * (1 + 0.06 * texture / texture.std())
    if nipple:
        pixels = np.maximum(pixels, 0.35 * (np.hypot(COLUMNS - NIPPLE[0], ROWS - NIPPLE[1]) < 5 / MM))
    if muscle:
        is_muscle = in_muscle(ROWS, COLUMNS)
        pixels = np.where(is_muscle, 0.62, pixels)
    if add is not None:
        pixels = np.maximum(pixels, add)
    pixels += np.random.default_rng(3).normal(0, 0.004, SHAPE)
    return Mammogram(
        instance_uid="1.2.3",
        laterality="L",
        projection=projection,
        modifiers=frozenset(),
        pixels=np.clip(pixels, 0, 1).astype(np.float32),
        outside=np.zeros(SHAPE, np.bool_),
        scale="presented",
        spacing=Spacing(MM, MM, "told"),
        chest_wall="left",
        has_implant=False,
        header=Dataset(),
    )


def in_muscle(rows: NDArray[np.floating], columns: NDArray[np.floating]) -> NDArray[np.bool_]:
    return columns / MUSCLE_TOP + rows / MUSCLE_WALL < 1


def disc(column: float, row: float, radius_mm: float, grey: float = 1.0) -> NDArray[np.floating]:
    return grey * (np.hypot(COLUMNS - column, ROWS - row) * MM < radius_mm)


def overlap(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    """Jaccard."""
    return float((one & other).sum() / (one | other).sum())


def truth_mask() -> NDArray[np.bool_]:
    inside = np.hypot((ROWS - CENTRE) / HALF, COLUMNS / REACH) < 1
    return inside & ~in_muscle(ROWS, COLUMNS)


def test_breast_muscle_and_nipple_lie_where_they_were_made() -> None:
    view = made()
    found = map_breast(view)
    assert overlap(found.mask, truth_mask()) > 0.95
    assert overlap(found.pectoral, in_muscle(ROWS, COLUMNS)) > 0.9
    assert not (found.mask & found.pectoral).any()
    assert not found.artifacts.any()
    assert found.nipple is not None
    assert np.hypot(found.nipple[0] - NIPPLE[0], found.nipple[1] - NIPPLE[1]) * MM < 8
    assert found.nipple_certainty > 0.6
    assert found.mask.shape == found.pectoral.shape == found.artifacts.shape == SHAPE


def test_without_a_nipple_in_profile_the_foremost_place_is_told_with_little_certainty() -> None:
    found = map_breast(made("CC", muscle=False, nipple=False))
    assert found.nipple is not None
    assert found.nipple[0] == pytest.approx(REACH, abs=5 / MM)
    assert found.nipple[1] == pytest.approx(CENTRE, abs=12 / MM)
    assert found.nipple_certainty <= 0.3


def test_where_no_muscle_is_seen_none_is_told() -> None:
    assert not map_breast(made("MLO", muscle=False)).pectoral.any()
    assert not map_breast(made("CC")).pectoral.any()


def test_depth_is_the_distance_from_the_skin() -> None:
    found = map_breast(made("CC", muscle=False, nipple=False))
    across = np.array([[c, CENTRE] for c in (REACH - 10 / MM, REACH - 30 / MM)])
    assert found.depth_mm(across) == pytest.approx([10, 30], abs=1.5)
    # At the chest wall there is no skin: the nearest is above or below.
    assert found.depth_mm([(2.0, CENTRE)])[0] > 60
    assert found.depth_mm([(420.0, 60.0)])[0] == 0


TURNS: dict[str, Callable[[Mammogram], Mammogram]] = {
    "mirrored": lambda v: replace(v, pixels=v.pixels[:, ::-1].copy(), outside=v.outside[:, ::-1], chest_wall="right"),
    "upside down": lambda v: replace(
        v, pixels=v.pixels[::-1].copy(), outside=v.outside[::-1], header=headed(["A", "HL"])
    ),
}


def headed(orientation: list[str]) -> Dataset:
    header = Dataset()
    header.PatientOrientation = orientation
    return header


@pytest.mark.parametrize("turn", TURNS)
def test_a_turned_view_has_the_same_map_turned(turn: str) -> None:
    axis = 1 if turn == "mirrored" else 0
    straight, turned = map_breast(made()), map_breast(TURNS[turn](made()))
    for name in ("mask", "pectoral"):
        assert overlap(np.flip(getattr(turned, name), axis), getattr(straight, name)) > 0.97
    assert straight.nipple is not None
    assert turned.nipple is not None
    expected = list(straight.nipple)
    expected[1 - axis] = SHAPE[axis] - expected[1 - axis]
    assert turned.nipple == pytest.approx(expected, abs=1.5 / MM)


@pytest.mark.parametrize("spacing_mm", [0.1, 0.2])
def test_maps_do_not_depend_on_the_size_of_the_pixels(spacing_mm: float) -> None:
    ratio = MM / spacing_mm
    rows, columns = (np.minimum((np.arange(round(n * ratio)) / ratio).astype(int), n - 1) for n in SHAPE)
    view = made()
    pixels = view.pixels[np.ix_(rows, columns)]
    other = map_breast(
        replace(
            view,
            pixels=pixels,
            outside=np.zeros(pixels.shape, np.bool_),
            spacing=Spacing(spacing_mm, spacing_mm, "told"),
        )
    )
    assert other.mask.shape == pixels.shape
    assert overlap(other.mask, truth_mask()[np.ix_(rows, columns)]) > 0.94
    assert overlap(other.pectoral, in_muscle(ROWS, COLUMNS)[np.ix_(rows, columns)]) > 0.88


def label() -> NDArray[np.floating]:
    picture = np.zeros(SHAPE)
    picture[36:84, 372:444] = 0.9
    picture[48:72, 384:432:7] = 0
    return picture


def wire() -> NDArray[np.floating]:
    along = (ROWS - 300) * np.cos(0.4) - (COLUMNS - 120) * np.sin(0.4)
    across = (ROWS - 300) * np.sin(0.4) + (COLUMNS - 120) * np.cos(0.4)
    return 1.0 * ((np.abs(along) * MM < 0.4) & (np.abs(across) * MM < 20))


def clip() -> NDArray[np.floating]:
    return 1.0 * ((np.abs(ROWS - 420) * MM < 0.6) & (np.abs(COLUMNS - 150) * MM < 1.6))


ARTIFACTS: dict[str, tuple[NDArray[np.floating], tuple[int, int]]] = {
    "a label": (label(), (60, 378)),
    "a marker on the skin": (disc(REACH - 5, CENTRE + 36, 0.8), (int(CENTRE) + 36, int(REACH) - 5)),
    "a marker just beside the skin": (disc(REACH + 6, CENTRE - 12, 0.8), (int(CENTRE) - 12, int(REACH) + 6)),
    "a clip": (clip(), (420, 150)),
    "a wire": (wire(), (300, 120)),
    "a pacemaker": (disc(60, 80, 9), (80, 60)),
}


@pytest.mark.parametrize("name", ARTIFACTS)
def test_labels_markers_and_metal_are_artifacts(name: str) -> None:
    add, (row, column) = ARTIFACTS[name]
    found = map_breast(made(add=add))
    assert found.artifacts[row, column]
    assert (found.artifacts & (add > 0)).sum() > 0.9 * (add > 0).sum()
    assert not (found.mask & found.artifacts).any()
    assert overlap(found.mask | found.artifacts, truth_mask() | found.artifacts) > 0.93
    # No more than the cells next to it.
    assert found.artifacts.sum() * MM**2 < 4 * (add > 0).sum() * MM**2 + 12


CALCIFICATIONS: dict[str, NDArray[np.floating]] = {
    "a small grain": disc(180, 420, 0.2, 0.9),
    "a round calcification": 0.95 * np.sqrt(np.clip(1 - (np.hypot(COLUMNS - 180, ROWS - 420) * MM / 0.6) ** 2, 0, 1)),
    "a large rim": disc(180, 420, 3.0, 0.95) * (np.hypot(COLUMNS - 180, ROWS - 420) * MM > 2.4),
    "a group": np.max([disc(180 + 8 * k, 420 + 5 * (k % 3), 0.15 + 0.03 * (k % 4), 0.8) for k in range(9)], axis=0),
    "grains by the skin": disc(REACH - 12, CENTRE, 0.3, 0.9),
}


@pytest.mark.parametrize("name", CALCIFICATIONS)
def test_calcifications_are_no_metal(name: str) -> None:
    view = made(nipple=False)
    lit = CALCIFICATIONS[name]
    pixels = np.maximum(view.pixels, np.maximum(lit * 0.98, lit - 0).astype(np.float32) * (lit > 0.3))
    # The image has whiter things than any calcification: a label.
    found = map_breast(replace(view, pixels=np.maximum(pixels, (label() > 0) * np.float32(1.0))))
    assert not found.artifacts[360:480, 120:300].any()
    assert not found.artifacts[int(CENTRE) - 12 : int(CENTRE) + 12, int(REACH) - 36 : int(REACH)].any()


def test_film_in_black_padding_with_tape_in_front_is_mapped_within_its_frame() -> None:
    view = made(nipple=False)
    pixels = view.pixels.copy()
    pixels[:, 462:474] = 0.95
    pixels = np.pad(pixels, ((0, 0), (90, 36)))
    outside = np.zeros(pixels.shape, np.bool_)
    outside[:, :90] = outside[:, -36:] = True
    found = map_breast(replace(view, pixels=pixels, outside=outside))
    assert overlap(found.mask, np.pad(truth_mask(), ((0, 0), (90, 36)))) > 0.94
    assert found.depth_mm([(92.0, CENTRE)])[0] > 60
    assert found.artifacts[360, 90 + 468]


@pytest.mark.parametrize("pixels", [np.zeros(SHAPE), np.full(SHAPE, 0.5)], ids=["black", "grey"])
def test_a_view_without_tissue_has_an_empty_map(pixels: NDArray[np.floating]) -> None:
    found = map_breast(replace(made(), pixels=pixels.astype(np.float32)))
    assert not found.mask.any()
    assert not found.pectoral.any()
    assert found.nipple is None
    assert found.nipple_certainty == 0


def test_the_groups_of_public_films_lie_within_the_breast(triage_data: Path) -> None:
    """And the breast is a breast: no map is lost in tape, labels or padding."""
    folder = triage_data / "breast" / "mias"
    with (folder / "ground_truth.csv").open() as file:
        # Of these two the place that is told lies in the air, whichever border it is counted from.
        misplaced = {"mdb212.png", "mdb214.png"}
        rows = [row for row in csv.DictReader(file) if row["radius_px"] and row["image"] not in misplaced]
    hidden = []
    for image in sorted({row["image"] for row in rows}):
        view = load_film(folder / image, 0.2)
        found = map_breast(view)
        assert 0.1 < found.mask.sum() / (~view.outside).sum() < 0.95
        assert found.pectoral.sum() < 0.6 * found.mask.sum()
        for row in (row for row in rows if row["image"] == image):
            column, line = int(row["x_px_origin_left"]), int(row["y_px_origin_top"])
            if not found.mask[line, column]:
                hidden.append((image, column, line))
    assert not hidden


def test_the_public_exams_have_their_groups_nipples_and_markers_mapped(triage_data: Path) -> None:
    study = load_study(sorted((triage_data / "breast" / "ffdm_4view").glob("exam0*.dcm")))
    groups = {"R CC": (363, 1444), "R MLO": (452, 1816)}
    for view in study.views:
        found = map_breast(view)
        assert (view.projection == "MLO") == bool(found.pectoral.any())
        if view.name in groups:
            column, row = groups[view.name]
            assert found.mask[row - 20 : row + 20, column - 20 : column + 20].all()
        # The white dot beside the skin and the remains of a label are there in each view.
        assert found.artifacts.any()
        assert found.nipple is not None
        marked = np.argwhere(found.artifacts)
        from_nipple = np.hypot(marked[:, 1] - found.nipple[0], marked[:, 0] - found.nipple[1]) * view.spacing.object_mm
        assert from_nipple.min() < 10

"""Sentences and pictures, and that a kind of object or a language is one new file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import reporting.narrative
import reporting.objects
from pipelines import codes
from pipelines.findings import Outcome, Outline
from pipelines.reasons import Reason
from reporting import page, picture
from reporting.catalogue import narratives, objects
from reporting.objects import summary_image
from tests.unit.reporting.cases import Shape, made_case

EN = narratives()["en"]
DISORDER = codes.INTRACRANIAL_HEMORRHAGE


@pytest.mark.parametrize(
    ("outcome", "sentence"),
    [
        (Outcome("clean", 0.034), "No intracranial hemorrhage found (score 3%)"),
        (Outcome("clean", 0.0004), "No intracranial hemorrhage found (score <1%)"),
        (Outcome("unsure", 0.44), "Not sure about intracranial hemorrhage (score 44%): read by eye"),
        (Outcome("finding", 0.999), "Intracranial hemorrhage suspected: 0 findings (score >99%)"),
    ],
)
def test_impressions(outcome: Outcome, sentence: str):
    assert EN.impression(outcome, DISORDER) == sentence


def test_findings_in_words():
    case = made_case(findings=2)
    volumes = [finding.measured("volume_ml") for finding in case.outcome.findings]
    assert EN.impression(case.outcome, DISORDER) == (
        f"Intracranial hemorrhage suspected: 2 findings, {sum(volumes):.1f} mL (score 93%)"
    )
    line = EN.finding(1, case.outcome.findings[0])
    assert line.startswith(f"Finding 1: Intracranial hemorrhage, left: {volumes[0]:.1f} mL, long axis 52 mm")
    assert line.endswith("certainty 93%")


def test_a_language_brings_its_own_words():
    other = replace(EN, terms={DISORDER.meaning: "Blutung"}, reasons={"geometry.tilted": "Um {degrees} Grad gekippt."})
    assert "blutung" in other.impression(Outcome("clean", 0.1), DISORDER)
    assert other.reason(Reason("geometry.tilted", {"degrees": 9})) == "Um 9 Grad gekippt."
    assert other.reason(Reason("contrast.given")) == Reason("contrast.given").text


def test_a_new_file_is_a_new_kind_of_object(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "dummy.py").write_text(
        "class Dummy:\n    kind = 'dummy'\n    sop_class_uid = '1.2'\n\n"
        "    def build(self, case, narrative):\n        return ()\n\n\nOBJECT = Dummy()\n"
    )
    monkeypatch.setattr(reporting.objects, "__path__", [*reporting.objects.__path__, str(tmp_path)])
    assert "dummy" in objects.__wrapped__()


def test_a_new_file_is_a_new_language(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "xx.py").write_text(
        "from dataclasses import replace\nfrom reporting.narrative.en import NARRATIVE as EN\n"
        "NARRATIVE = replace(EN, language='xx')\n"
    )
    monkeypatch.setattr(reporting.narrative, "__path__", [*reporting.narrative.__path__, str(tmp_path)])
    assert set(narratives.__wrapped__()) == {"en", "xx"}


def test_two_of_one_kind_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "zz_twice.py").write_text("from reporting.objects.segmentation import OBJECT\n")
    monkeypatch.setattr(reporting.objects, "__path__", [*reporting.objects.__path__, str(tmp_path)])
    with pytest.raises(ValueError, match="twice"):
        objects.__wrapped__()


@pytest.mark.parametrize(
    ("direction", "letter"),
    [
        ((1, 0, 0), "L"),
        ((-1, 0, 0), "R"),
        ((0, 0.95, -0.3), "P"),
        ((0, -1, 0), "A"),
        ((0, 0, 1), "H"),
        ((0, 0, -1), "F"),
    ],
)
def test_sides_come_from_world_directions(direction: tuple[float, float, float], letter: str):
    assert picture.side_letter(direction) == letter


def test_the_outline_covers_nothing_of_the_lesion():
    mask = np.zeros((20, 20), bool)
    mask[8:12, 5:15] = True
    edge = picture.outer_edge(mask, 2)
    assert not (edge & mask).any()
    assert edge[6:8, 5:15].all() and edge[8:12, 3:5].all()
    assert not edge[:6].any()


def test_the_window_is_that_of_the_standard():
    grey = picture.windowed(np.array([[-1000, 0, 40, 79, 80, 3000]], np.int16), (40.0, 80.0))
    assert grey[0, 0] == 0 and grey[0, 1] == 0 and grey[0, -1] == 255
    assert abs(int(grey[0, 2]) - 128) <= 1


def key_slice_picture(case):
    k = picture.key_slice(case)
    return np.asarray(picture.slice_panel(case, k, picture.body_box(case, (k,)), 768, marked=True))


def amber(image: np.ndarray) -> np.ndarray:
    return (image == np.array(picture.AMBER)).all(axis=-1)


def test_the_finding_is_outlined_on_the_side_where_it_is():
    """The lesion lies on the patient's left: on the right of a picture as radiologists hang it."""
    image = key_slice_picture(made_case(Shape(size=128)))
    columns = np.nonzero(amber(image))[1]
    assert len(columns)
    assert columns.min() > image.shape[1] / 2
    flipped = key_slice_picture(made_case(Shape(size=128, flipped=True)))
    assert np.nonzero(amber(flipped))[1].max() < flipped.shape[1] / 2


def test_pixels_that_are_not_square_are_shown_in_true_proportion():
    def extent(case):
        rows, columns = np.nonzero(amber(key_slice_picture(case)))
        return np.ptp(rows) / np.ptp(columns)

    square, oblong = made_case(Shape(size=256)), made_case(Shape(size=256, anisotropic=True))
    assert extent(oblong) == pytest.approx(extent(square), rel=0.1)


def test_an_outline_on_one_image_is_drawn_there():
    case = made_case()
    finding = case.outcome.findings[0]
    uid = str(case.headers[3].SOPInstanceUID)
    outline = Outline(uid, ((10, 10), (20, 10), (20, 20), (10, 20)))
    case = replace(case, outcome=replace(case.outcome, findings=(replace(finding, region=outline),)))
    assert [k for k in range(12) if picture.masks_on(case, k)] == [3]
    assert 90 <= picture.masks_on(case, 3)[1].sum() <= 121


@pytest.mark.parametrize("status", ["finding", "clean", "unsure"])
def test_the_summary_is_the_same_each_time(status):
    case = made_case(status=status)
    first = np.asarray(summary_image.draw_summary(case, EN))
    assert first.shape == (900, 1200, 3)
    assert (first == np.asarray(summary_image.draw_summary(case, EN))).all()
    assert amber(first).any() == (status == "finding")


def test_the_strip_holds_the_key_slice():
    case = made_case(Shape(slices=40, size=32), findings=2)
    key = picture.key_slice(case)
    chosen = summary_image.strip(case, key)
    assert key in chosen
    assert chosen == sorted(set(chosen))
    assert len(chosen) <= 9


def test_what_has_no_room_is_counted():
    assert page.shortened(["a", "b"], 2, EN) == ["a", "b"]
    assert page.shortened(["a", "b", "c"], 2, EN) == ["a", "and 2 more in the report"]

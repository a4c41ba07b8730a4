"""Regions to findings: once each, placed, measured, and categorised with and without an earlier study."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pipelines import codes
from pipelines.findings import Finding, Region
from pipelines.geometry import Plane
from pipelines.nodule import describe
from pipelines.nodule.character import Character
from pipelines.nodule.growth import Before
from pipelines.nodule.measure import Measures, measure
from pipelines.nodule.pipeline import Cuts, NoduleSettings
from pipelines.volume import Volume

SIDE = 60


class Told:
    """Says the same of every nodule."""

    def __init__(self, character: Character) -> None:
        self.character = character

    def characterize(self, volume: Volume, region: Region, measures: Measures) -> Character:
        return self.character


class OneLung:
    """A left lung that is everywhere, as far as it is asked."""

    side = np.full((2, 2, 2), 2, np.uint8)

    def side_at(self, points: object) -> np.ndarray:
        return np.full(np.shape(points)[:-1], 2, np.uint8)

    def third_at(self, point: object) -> str:
        return "upper"

    def inside_mm(self, points: object) -> np.ndarray:
        """The lung ends at x = 50."""
        return 50 - np.asarray(points)[..., 0]


def ball(diameter: float, center: float = 30.0) -> tuple[Volume, Region]:
    z, y, x = np.ogrid[:SIDE, :SIDE, :SIDE]
    mask = (z - 30) ** 2 + (y - 30) ** 2 + (x - center) ** 2 < (diameter / 2) ** 2
    hu = np.where(mask, 30, -860).astype(np.int16)
    planes = [Plane((0.0, 0.0, float(k)), (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), 1.0, 1.0, 1.0) for k in range(SIDE)]
    names = tuple(f"1.{k}" for k in range(SIDE))
    return Volume(hu, tuple(planes), names, (1,) * SIDE), Region.from_volume(mask)


SOLID = Character("solid", {"solid": 1.0, "part_solid": 0.0, "ground_glass": 0.0}, "none", 0.4)


@pytest.fixture
def everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """No pleura and no fissure is near."""
    place = describe.Place("intrapulmonary", False)
    monkeypatch.setattr(describe, "place_of", lambda *_: place)


def found(diameter: float, character: Character = SOLID) -> Finding:
    volume, region = ball(diameter)
    [finding] = describe.describe(volume, OneLung(), [region], [0.9], Told(character), model_sha256="a")  # type: ignore[arg-type]
    return finding


@pytest.mark.usefixtures("everywhere")
def test_a_ball_is_told_as_it_is() -> None:
    finding = found(12.0)
    assert finding.measured("volume_ml") == pytest.approx(np.pi / 6 * 12**3 / 1000, rel=0.05)
    assert finding.measured("long_axis_mm") == pytest.approx(12, abs=0.6)
    assert finding.center_mm == pytest.approx((30, 30, 30), abs=0.1)
    assert finding.side == "left"
    assert finding.attributes[codes.COMPOSITION] == codes.SOLID
    assert finding.attributes[codes.LUNG_THIRD] == codes.UPPER_THIRD
    assert finding.measured("malignancy") == 40
    assert finding.measured("solid_long_axis_mm") is None
    assert found(12.0).tracking_uid == finding.tracking_uid != found(11.0).tracking_uid


@pytest.mark.usefixtures("everywhere")
def test_a_nodule_that_was_outlined_twice_is_told_once() -> None:
    volume, region = ball(12.0)
    _, beside = ball(12.0, center=48.0)
    findings = describe.describe(
        volume,
        OneLung(),
        [region, region, beside],
        [0.9, 0.8, 0.7],
        Told(SOLID),
        model_sha256="a",  # type: ignore[arg-type]
    )
    assert [finding.certainty for finding in findings] == [0.9, 0.7]


@pytest.mark.usefixtures("everywhere")
@pytest.mark.parametrize(("center", "count"), [(48.0, 1), (52.0, 1), (58.0, 0)])
def test_what_is_mostly_not_lung_is_left_out(center: float, count: int) -> None:
    volume, region = ball(12.0, center=center)
    found = describe.describe(volume, OneLung(), [region], [0.9], Told(SOLID), model_sha256="a")  # type: ignore[arg-type]
    assert len(found) == count


@pytest.mark.usefixtures("everywhere")
@pytest.mark.parametrize(("diameter", "category"), [(5.0, "2"), (7.0, "3"), (12.0, "4A"), (18.0, "4B")])
def test_solid_nodules_are_categorised_by_size_at_baseline(diameter: float, category: str) -> None:
    assert describe.category_of(found(diameter), None, 0).name == category


@pytest.mark.usefixtures("everywhere")
def test_change_changes_the_category() -> None:
    finding = found(7.0)
    volume, region = ball(7.0)
    same = Before(180.0, measure(volume, region), finding.as_json())
    smaller = replace(same, measures=measure(*ball(4.0)))
    assert describe.category_of(finding, same, 200).name == "2"
    assert describe.category_of(finding, smaller, 200).name == "4A"
    new = replace(finding, attributes={**finding.attributes, codes.CHANGE: codes.NEW})
    assert describe.category_of(new, None, 200).name == "4A"


@pytest.mark.usefixtures("everywhere")
def test_what_was_told_before_counts_where_no_image_is_left() -> None:
    finding = found(12.0)
    told = Before(900.0, None, finding.as_json())
    assert (
        describe.category_of(finding, told, 200).name
        == describe.category_of(finding, Before(900.0, measure(*ball(12.0)), finding.as_json()), 200).name
    )
    assert describe.category_of(finding, Before(900.0, None, {"label": "Nodule"}), 200).name == "4A"


def test_answers_change_at_the_cuts() -> None:
    cuts = Cuts(0.5, 0.3)
    assert [cuts.status(score) for score in (0.5, 0.49, 0.3, 0.29)] == ["finding", "unsure", "unsure", "clean"]
    assert cuts.least("finding") == 0.5
    assert cuts.least("unsure") == 0.3


def test_thresholds_out_of_order_are_refused() -> None:
    with pytest.raises(ValueError, match="unsure_from"):
        NoduleSettings(threshold=0.3, unsure_from=0.4)

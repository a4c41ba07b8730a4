"""Type, distribution, outline and place of a group, each rule by a group that was made so."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines import codes
from pipelines.calcification.describe import DISTRIBUTION_RULES, TYPE_RULES, Description, describe, facts_of, first
from pipelines.calcification.describe import finding_of as finding_from
from pipelines.calcification.grains import Grains
from pipelines.calcification.place import frame_of, half_of
from pipelines.codes import Code
from pipelines.findings import Outline
from pipelines.mammogram import Laterality, Projection
from tests.unit.pipelines.calcification.made import (
    NIPPLE_R,
    SPACING_MM,
    breast_of,
    cluster,
    grains_at,
    group_of,
    mammogram,
)

DISC = cluster((500, 600), number=10)
LINE = np.stack([np.linspace(400, 620, 12), np.full(12, 600.0)], axis=1)
TRACK = np.stack([np.linspace(300, 550, 16), 600 + np.where(np.arange(16) % 2, 8.0, -8.0)], axis=1)
FAN = np.stack(
    [np.linspace(300, 560, 14), 600 + np.linspace(5, 45, 14) * np.where(np.arange(14) % 2, 1.0, -1.0)], axis=1
)


VIEW = mammogram()
BREAST = breast_of(VIEW)
FRAME = frame_of(VIEW, BREAST)


def described(grains: Grains) -> Description:
    return describe(VIEW, BREAST, FRAME, group_of(VIEW, BREAST, grains))


@pytest.mark.parametrize(
    ("grains", "rule"),
    [
        (grains_at(cluster((115, 600), reach_mm=1), size_mm=0.8), "skin"),
        (grains_at(DISC, size_mm=[3.0, *[0.4] * 9], lucency=[0.8, *[0.0] * 9]), "rim"),
        (grains_at(DISC, size_mm=[3.0, *[0.4] * 9]), "popcorn"),
        (grains_at(DISC, size_mm=1.8, elongation=4.0), "popcorn"),
        (grains_at(TRACK), "vascular"),
        (grains_at(LINE[:, [1, 0]] + (0, 60), elongation=2.5, angle=np.pi / 2), "vascular"),
        (grains_at(DISC, elongation=[3.0] * 5 + [1.2] * 5), "fine_linear"),
        (grains_at(DISC, size_mm=0.7, elongation=1.5), "coarse_heterogeneous"),
        (grains_at(DISC, size_mm=0.7), "round"),
        (grains_at(DISC, size_mm=0.3), "punctate"),
        (grains_at(DISC, size_mm=0.3, prominence=3.0, compactness=0.8), "amorphous"),
        (grains_at(DISC, size_mm=0.3, elongation=1.7, compactness=0.8), "fine_pleomorphic"),
    ],
)
def test_type(grains: Grains, rule: str) -> None:
    facts = facts_of(BREAST, FRAME, group_of(VIEW, BREAST, grains))
    assert first(TYPE_RULES, facts).id == rule
    assert described(grains).type == first(TYPE_RULES, facts).code


@pytest.mark.parametrize(
    ("places", "rule"),
    [
        (np.random.default_rng(0).uniform((250, 150), (880, 1050), (60, 2)), "diffuse"),
        (LINE, "linear"),
        (FAN, "segmental"),
        (FAN[:, [1, 0]] - (100, -150), "regional"),  # across the way to the nipple
        (DISC, "grouped"),
    ],
)
def test_distribution(places: np.ndarray, rule: str) -> None:
    description = described(grains_at(places))
    assert description.distribution == next(row.code for row in DISTRIBUTION_RULES if row.id == rule)


def test_every_type_and_distribution_of_the_contract_has_a_rule() -> None:
    assert {rule.code for rule in TYPE_RULES} == {
        codes.ROUND,
        codes.PUNCTATE,
        codes.AMORPHOUS,
        codes.COARSE_HETEROGENEOUS,
        codes.FINE_PLEOMORPHIC,
        codes.FINE_LINEAR,
        codes.VASCULAR,
        codes.SKIN_CALCIFICATION,
        codes.RIM,
        codes.POPCORN,
    }
    assert [rule.code for rule in DISTRIBUTION_RULES] == [
        codes.DIFFUSE,
        codes.LINEAR,
        codes.SEGMENTAL,
        codes.REGIONAL,
        codes.GROUPED,
    ]


def test_a_faint_large_outline_makes_no_popcorn() -> None:
    grains = grains_at(DISC, size_mm=[4.0, *[0.3] * 9], contrast=[0.05, *[0.2] * 9])
    assert described(grains).type == codes.PUNCTATE


@settings(max_examples=30)
@given(
    seed=st.integers(0, 100),
    number=st.integers(1, 30),
    reach=st.floats(0.1, 20),
    size=st.floats(0.1, 3),
    angle=st.floats(0, 6.28),
)
def test_outline_and_axes_hold_every_grain(seed: int, number: int, reach: float, size: float, angle: float) -> None:
    places = cluster((500, 600), number=number, reach_mm=reach, seed=seed)
    description = described(grains_at(places, size_mm=size))
    outline = description.outline
    assert np.array_equal(outline[0], outline[-1])
    # Convex, and every grain lies a millimetre and its radius within.
    edges = np.diff(outline, axis=0)
    outwards = np.stack([edges[:, 1], -edges[:, 0]], axis=1) / np.linalg.norm(edges, axis=1)[:, None]
    inside = (outline[:-1, None] - places[None]) @ outwards[:, :, None]
    assert inside.min() * SPACING_MM > 0.9 * (1 + size / 2)
    spread = np.linalg.norm(places[:, None] - places[None], axis=2).max() * SPACING_MM
    assert description.long_axis_mm == pytest.approx(spread + size, abs=0.1 * size)
    assert description.short_axis_mm <= description.long_axis_mm + 1e-9
    assert description.area_mm2 <= np.pi / 4 * description.long_axis_mm**2
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    turned = described(grains_at((places - (500, 600)) @ turn.T + (500, 600), size_mm=size))
    assert turned.long_axis_mm == pytest.approx(description.long_axis_mm, rel=0.05)
    assert turned.area_mm2 == pytest.approx(description.area_mm2, rel=0.1)


def test_the_outline_stays_on_the_image() -> None:
    description = described(grains_at(cluster((899, 1199), reach_mm=1)))
    assert description.outline.max(axis=0) == pytest.approx((900, 1200))


@pytest.mark.parametrize(
    ("laterality", "projection", "down", "above", "below"),
    [
        ("R", "CC", None, codes.OUTER_HALF, codes.INNER_HALF),
        ("L", "CC", None, codes.OUTER_HALF, codes.INNER_HALF),
        ("R", "CC", "L", codes.OUTER_HALF, codes.INNER_HALF),
        ("R", "CC", "R", codes.INNER_HALF, codes.OUTER_HALF),
        ("L", "CC", "L", codes.INNER_HALF, codes.OUTER_HALF),
        ("R", "MLO", None, codes.UPPER_HALF, codes.LOWER_HALF),
        ("L", "ML", "F", codes.UPPER_HALF, codes.LOWER_HALF),
        ("L", "MLO", "FL", codes.UPPER_HALF, codes.LOWER_HALF),
        ("R", "MLO", "H", codes.LOWER_HALF, codes.UPPER_HALF),
    ],
)
def test_half(laterality: Laterality, projection: Projection, down: str | None, above: Code, below: Code) -> None:
    view = mammogram(laterality, projection)
    if down is not None:
        view.header.PatientOrientation = ["P" if laterality == "R" else "A", down]
    frame = frame_of(view, breast_of(view))
    assert half_of(view, frame, (450, 400)) == above
    assert half_of(view, frame, (450, 800)) == below


@pytest.mark.parametrize(
    ("column", "depth"),
    [(200, codes.ANTERIOR_THIRD), (500, codes.MIDDLE_THIRD_OF_BREAST), (800, codes.POSTERIOR_THIRD)],
)
def test_depth(column: float, depth: Code) -> None:
    for view in (mammogram(), mammogram("L")):
        frame = frame_of(view, breast_of(view))
        assert frame.depth((column if view.laterality == "R" else 900 - column, 600)) == depth


def test_behind_the_nipple_is_measured_square_to_the_muscle() -> None:
    view = mammogram(projection="MLO")
    frame = frame_of(view, breast_of(view, muscle=True))
    # The edge runs from 40 mm off the wall at the top to the wall 80 mm below: 1 along for 2 down.
    assert frame.normal == pytest.approx((-2 / np.sqrt(5), 1 / np.sqrt(5)), abs=0.02)
    flat = frame_of(view, breast_of(view))
    assert flat.normal == (-1.0, 0.0)
    assert flat.behind_nipple_mm([(400, 100)])[0] == pytest.approx(30)
    assert frame.behind_nipple_mm([(400, 100)])[0] == pytest.approx(30 * 2 / np.sqrt(5) + 50 / np.sqrt(5), abs=1.5)
    # From the nipple back to the edge of the muscle, which goes on below what is seen of it.
    assert frame.reach_mm == pytest.approx(70 * 2 / np.sqrt(5), abs=1)
    left = frame_of(mammogram("L", "MLO"), breast_of(mammogram("L", "MLO"), muscle=True))
    assert left.normal == pytest.approx((2 / np.sqrt(5), 1 / np.sqrt(5)), abs=0.02)


def test_without_a_nipple_the_foremost_place_counts() -> None:
    view = mammogram()
    frame = frame_of(view, breast_of(view, nipple=False))
    assert not frame.has_nipple
    assert frame.nipple_px == pytest.approx(NIPPLE_R, abs=15)


def test_a_view_without_breast_has_a_frame() -> None:
    view = mammogram()
    breast = breast_of(view)
    breast.mask[:] = False
    assert np.isfinite(frame_of(view, breast).reach_mm)


def test_a_finding_says_all_that_the_contract_asks() -> None:
    view = mammogram("L", "MLO")
    breast = breast_of(view)
    group = group_of(view, breast, grains_at(cluster((400, 400), number=7)))
    description = describe(view, breast, frame_of(view, breast), group)
    made = [
        finding_from(view, group, description, certainty=0.61, region=codes.UPPER_OUTER_QUADRANT, model_sha256=sha)
        for sha in ("a", "a", "b")
    ]
    finding = made[0]
    assert finding.kind == codes.CALCIFICATION_CLUSTER
    assert (finding.view, finding.side, finding.key_instance_uid) == ("L MLO", "left", view.instance_uid)
    assert finding.certainty == 0.61
    assert isinstance(finding.region, Outline)
    assert finding.region.instance_uid == view.instance_uid
    assert len(finding.region.marks) == finding.measured("count") == 7
    assert finding.center_mm is None
    assert finding.center_px == pytest.approx((400, 400), abs=30)
    assert {m.key for m in finding.measurements} == {"count", "long_axis_mm", "short_axis_mm", "area_mm2"}
    assert set(finding.attributes) == {
        codes.CALCIFICATION_TYPE,
        codes.CALCIFICATION_DISTRIBUTION,
        codes.BREAST_REGION,
        codes.BREAST_DEPTH,
    }
    assert finding.attributes[codes.BREAST_REGION] == codes.UPPER_OUTER_QUADRANT
    assert made[1].tracking_uid == finding.tracking_uid != made[2].tracking_uid

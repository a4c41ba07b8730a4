"""Grains are outlined and measured as they were painted, whatever lies behind and beside them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from pipelines.calcification.grains import measure_grains
from tests.unit.pipelines.calcification.views import Spot, view_of


@given(
    size=st.floats(0.25, 3.0),
    elongation=st.floats(1.0, 3.0),
    angle=st.floats(0, np.pi),
    spacing=st.sampled_from([0.05, 0.07, 0.1]),
    slope=st.floats(-4e-4, 4e-4),
)
def test_a_grain_measures_what_was_painted(
    size: float, elongation: float, angle: float, spacing: float, slope: float
) -> None:
    assume(size / np.sqrt(elongation) >= 2.5 * spacing)  # what is thinner has no shape in these pixels
    spot = Spot(100.3, 120.7, size, elongation, angle)
    view = view_of([spot], shape=(240, 200), spacing_mm=spacing, noise=0.003, slope=(slope, -slope))
    grains = measure_grains(view, [(101, 120)], [0.5])
    assert grains.size_mm[0] == pytest.approx(size, rel=0.1, abs=0.05)
    assert grains.elongation[0] == pytest.approx(elongation, rel=0.3)
    assert grains.center_px[0] == pytest.approx((100.3, 120.7), abs=0.6)
    assert grains.contrast[0] == pytest.approx(0.2, rel=0.15)
    assert grains.compactness[0] > 0.8
    if elongation > 1.8:
        assert np.sin(grains.angle[0] - angle) == pytest.approx(0, abs=0.25)


def test_neighbours_do_not_change_a_grain() -> None:
    spot = Spot(200, 300, 0.4)
    near = [replace(spot, column=spot.column + dx, row=spot.row + dy) for dx, dy in ((9, 0), (0, 9), (-12, 4))]
    alone = measure_grains(view_of([spot]), [(200, 300)], [1])
    among = measure_grains(view_of([spot, *near]), [(200, 300)], [1])
    assert among.size_mm[0] == pytest.approx(alone.size_mm[0], rel=0.1)
    assert among.contrast[0] == pytest.approx(alone.contrast[0], rel=0.1)


def test_the_order_and_the_number_of_grains_change_nothing() -> None:
    generator = np.random.default_rng(0)
    spots = [
        Spot(float(x), float(y), float(size))
        for x, y, size in zip(
            generator.uniform(20, 380, 40), generator.uniform(20, 580, 40), generator.uniform(0.2, 2.5, 40), strict=True
        )
    ]
    view = view_of(spots)
    centers = np.array([(spot.column, spot.row) for spot in spots])
    scores = generator.random(40)
    together = measure_grains(view, centers, scores)
    assert together.score.tolist() == scores.tolist()
    order = generator.permutation(40)
    turned = measure_grains(view, centers[order], scores[order])
    for k in (0, 7, 39):
        alone = measure_grains(view, centers[k : k + 1], scores[k : k + 1])
        at = int(np.flatnonzero(order == k)[0])
        for one in (alone.taken([0]), turned.taken([at])):
            assert one.size_mm[0] == together.size_mm[k]
            assert np.array_equal(one.pixels_of(0), together.pixels_of(k))


def test_the_pixels_of_a_grain_are_those_of_the_view() -> None:
    view = view_of([Spot(50, 60, 0.6)], noise=0)
    grains = measure_grains(view, [(50, 60)], [1])
    rows, columns = grains.pixels_of(0)
    assert view.pixels[rows, columns].min() > 0.5
    assert len(rows) * 0.07**2 == pytest.approx(np.pi * 0.3**2, rel=0.1)
    assert (columns.mean() + 0.5, rows.mean() + 0.5) == pytest.approx((50, 60), abs=0.2)


def test_a_rim_is_lucent_and_a_disc_is_not() -> None:
    rim = view_of([Spot(200, 300, 3.0, hollow=0.7)])
    grains = measure_grains(rim, [(200 + 18, 300)], [1])
    assert grains.lucency[0] > 0.6
    assert measure_grains(view_of([Spot(200, 300, 3.0)]), [(200, 300)], [1]).lucency[0] == 0


def test_what_stands_out_more_is_more_prominent() -> None:
    faint = measure_grains(view_of([Spot(200, 300, contrast=0.02)]), [(200, 300)], [1])
    clear = measure_grains(view_of([Spot(200, 300, contrast=0.2)]), [(200, 300)], [1])
    assert clear.prominence[0] > 5 * faint.prominence[0] > 5
    assert clear.brightness[0] == pytest.approx(0.6, abs=0.03)


@pytest.mark.parametrize("center", [(0, 0), (399.9, 599.9), (-5, 700), (1, 300)])
def test_a_grain_at_the_border_is_measured(center: tuple[float, float]) -> None:
    grains = measure_grains(view_of([Spot(*center)]), [center], [1])
    assert len(grains) == 1
    assert np.isfinite(grains.size_mm).all()


def test_no_grain_is_no_error() -> None:
    grains = measure_grains(view_of(), np.empty((0, 2)), [])
    assert len(grains) == 0
    assert grains.center_px.shape == (0, 2)


def test_every_centre_needs_a_score() -> None:
    with pytest.raises(ValueError, match="score"):
        measure_grains(view_of(), [(1, 1), (2, 2)], [1])

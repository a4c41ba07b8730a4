"""Tiles, peaks and chances of the network for calcifications; what it sees, and what it is taught."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.training.centers import focal_of_centers
from pipelines.calcification import detect, learning, look
from pipelines.calcification.detect import PLAIN, Calibration, Detector

CPU = torch.device("cpu")


class PointsAt(torch.nn.Module):
    """Says 4 where its picture is brightest over its surroundings, and that all is a group."""

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        bell = torch.exp(-(torch.arange(-8.0, 9.0) ** 2) / 18)
        smooth = torch.nn.functional.conv2d(given[:, :1], (bell[:, None] * bell)[None, None] / 57, padding=8)
        odds = torch.where(smooth > 0.3, smooth + 2, -9.0)
        return torch.cat([odds, torch.ones_like(odds)], dim=1)


def speckled(rows: int, columns: int, places: list[tuple[int, int]], width: int = 5) -> np.ndarray:
    """Even noise with bright squares about places (row, column)."""
    made = np.random.default_rng(0).normal(0.4, 0.004, (rows, columns)).astype(np.float32)
    for row, column in places:
        made[row - width // 2 : row + width // 2 + 1, column - width // 2 : column + width // 2 + 1] = 0.8
        made[row, column] = 0.85
    return made


@given(rows=st.integers(1, 3000), columns=st.integers(1, 3000))
@settings(max_examples=60, deadline=None)
def test_tiles_keep_every_pixel_once_and_see_beyond(rows: int, columns: int) -> None:
    kept = np.zeros((rows, columns), np.uint8)
    for tile in detect.tiles((rows, columns)):
        kept[tuple(slice(*bounds) for bounds in tile.kept)] += 1
        for (first, last), (low, high), side in zip(tile.kept, tile.seen, (rows, columns), strict=True):
            assert low <= max(0, first - detect.OVERLAP) and high == min(side, last + detect.OVERLAP)
            assert low % look.BLOCK == 0
    assert np.all(kept == 1)


@pytest.mark.parametrize("spacing", [0.05, 0.07, 0.1])
def test_places_are_given_on_the_pixels_of_the_view(spacing: float) -> None:
    rows, columns = 1100, 800
    places = [(100, 120), (705, 400), (1050, 770)]
    detector = Detector(PointsAt(), PLAIN, False, CPU)
    found = detector.places(speckled(rows, columns, places), spacing, np.ones((rows, columns), np.bool_))
    assert len(found.center_px) == len(places)
    wanted = np.array([(column + 0.5, row + 0.5) for row, column in places])
    order = np.argsort(found.center_px[:, 1])
    np.testing.assert_allclose(found.center_px[order], wanted, atol=1.5)


def test_a_flat_summit_is_one_place() -> None:
    places = np.array([[10.0, 10.0], [11.0, 10.0], [12.0, 10.0], [20.0, 10.0]])
    assert detect.apart(places, np.array([2.0, 2.0, 1.0, 3.0])).tolist() == [3, 0]
    assert len(detect.apart(np.zeros((0, 2)), np.zeros(0))) == 0


def test_tiles_without_breast_are_passed_over() -> None:
    detector = Detector(PointsAt(), PLAIN, False, CPU)
    pixels = speckled(1600, 800, [(100, 100), (1500, 100)])
    breast = np.zeros(pixels.shape, np.bool_)
    assert len(detector.places(pixels, 0.07, breast).center_px) == 0
    breast[1400:, :] = True
    assert detector.places(pixels, 0.07, breast).center_px[:, 1] == pytest.approx([1500.5], abs=1)


def test_two_tiles_say_what_one_does(monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = speckled(500, 480, [(100, 100), (250, 241), (260, 470)])
    everywhere = np.ones(pixels.shape, np.bool_)
    detector = Detector(PointsAt(), PLAIN, False, CPU)
    whole = detector.places(pixels, 0.07, everywhere).center_px
    monkeypatch.setattr(detect, "CORE", 256)
    parts = detector.places(pixels, 0.07, everywhere).center_px
    assert len(whole) == len(parts) == 3
    np.testing.assert_allclose(whole[np.argsort(whole[:, 1])], parts[np.argsort(parts[:, 1])], atol=1.5)


def test_chances_grow_with_what_either_map_says() -> None:
    calibration = Calibration(0.8, 0.3, -1.0)
    odds = np.linspace(-6, 6, 13)
    assert np.all(np.diff(calibration.chance(odds, np.zeros(13))) > 0)
    assert np.all(np.diff(calibration.chance(np.zeros(13), odds)) > 0)
    assert calibration.chance(np.array([1e6]), np.array([1e6]))[0] <= 1


@given(gain=st.floats(0.3, 1.0), lift=st.floats(-0.1, 0.1))
@settings(max_examples=20, deadline=None)
def test_contrast_is_the_same_whatever_the_presentation(gain: float, lift: float) -> None:
    picture = torch.from_numpy(
        np.random.default_rng(1).normal(0.4, 0.05, (1, 1, 128, 128)).astype(np.float32).clip(0.1, 0.9)
    )
    plain, changed = look.shown(picture)[0, 0], look.shown(gain * picture + lift)[0, 0]
    assert float((plain - changed).abs().max()) < 0.25
    assert float((plain - changed).abs().mean()) < 0.03


@given(rows=st.integers(1, 4000), spacing=st.floats(0.04, 0.25))
def test_working_pixels_are_as_wide_as_they_should_be(rows: int, spacing: float) -> None:
    made, _ = look.working_size(rows, rows, spacing)
    assert made * look.WORKING_MM == pytest.approx(rows * spacing, rel=look.SAME_SIZE, abs=look.WORKING_MM)
    assert 0 <= look.padded_side(made) - made < look.MULTIPLE


def test_a_piece_follows_from_its_number_alone() -> None:
    one, again = learning.make_piece(3, 5), learning.make_piece(3, 5)
    np.testing.assert_array_equal(one.pixels, again.pixels)
    np.testing.assert_array_equal(one.places, again.places)
    assert one.pixels.shape == one.group.shape == (learning.SIDE, learning.SIDE)
    assert not np.array_equal(one.pixels, learning.make_piece(3, 6).pixels)


def test_calcifications_lie_where_the_piece_says() -> None:
    over = []
    for number in range(12):
        piece = learning.make_piece(1, number)
        contrast = look.shown(torch.from_numpy(piece.pixels)[None, None])[0, 0].numpy()
        for row, column, _, snr in piece.places:
            if snr > 30 and 4 < row < learning.SIDE - 5 and 4 < column < learning.SIDE - 5:
                over.append(contrast[round(row) - 2 : round(row) + 3, round(column) - 2 : round(column) + 3].max())
    assert len(over) > 20
    assert np.median(over) > 3 * np.abs(contrast).mean()


def test_what_nobody_sees_is_not_taught_and_what_is_doubtful_does_not_count() -> None:
    places = np.array([[20.0, 20.0, 4.0, 50.0], [60.0, 60.0, 4.0, 1.0], [100.0, 100.0, 4.0, 3.5]])
    heat, share, counted = learning.targets(places, 128)
    assert heat[20, 20] == 1 and share.sum() == pytest.approx(1)
    assert heat[60, 60] == 0 and counted[60, 60] == 1
    assert heat[100, 100] == 0 and counted[100, 100] == 0


@given(st.integers(0, 2**16))
@settings(max_examples=10, deadline=None)
def test_a_turned_piece_has_its_places_turned(seed: int) -> None:
    place = np.array([[40.0, 90.0, 5.0, 60.0]])
    pixels = np.zeros((learning.SIDE, learning.SIDE), np.float32)
    pixels[40, 90] = 1
    turned, heat, _, _, _ = learning._turned(
        learning.Piece(pixels, place, np.zeros(pixels.shape, np.int8)), np.random.default_rng(seed)
    )
    assert np.unravel_index(turned.argmax(), turned.shape) == np.unravel_index(heat.argmax(), heat.shape)


def test_the_loss_falls_when_centres_are_right() -> None:
    heat, share, counted = (torch.from_numpy(part) for part in learning.targets(np.array([[30, 30, 8.0, 50]]), 64))
    right = torch.where(share > 0, 6.0, -6.0)
    assert focal_of_centers(right, heat, share, counted) < 0.05 < focal_of_centers(-right, heat, share, counted)

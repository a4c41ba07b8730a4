"""Windows and tables of the display pipeline, against the standard's formulas and what must hold for any of them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import Dataset

from pipelines.grey import attenuation, modality_values, presented, quantile, windowed

VALUES = np.arange(4096, dtype=np.float64)
EVEN = np.ones(4096, np.int64)


def lut(entries: list[int] | np.ndarray, first: int = 0, bits: int = 12) -> Dataset:
    item = Dataset()
    item.LUTDescriptor = [len(entries) % 65536, first, bits]
    item.LUTData = [int(entry) for entry in entries]
    return item


@pytest.mark.parametrize(
    ("function", "value", "grey"),
    [
        # PS3.3, C.11.2.1.2.1: with centre 2048 and width 4096 the whole range of 12 bits is shown.
        ("LINEAR", 0, 0.0),
        ("LINEAR", 4095, 1.0),
        ("LINEAR", 2047.5, 0.5),
        ("LINEAR_EXACT", 0, 0.0),
        ("LINEAR_EXACT", 2048, 0.5),
        ("LINEAR_EXACT", 4096, 1.0),
        ("SIGMOID", 2048, 0.5),
        ("SIGMOID", 2048 + 1024, 1 / (1 + np.exp(-1))),
    ],
)
def test_windows_are_those_of_the_standard(function: str, value: float, grey: float) -> None:
    assert windowed(np.array([value]), 2048, 4096, function)[0] == pytest.approx(grey, abs=1e-9)


def test_a_window_one_wide_is_a_step() -> None:
    assert windowed(np.array([99.0, 99.5, 100.0, 101.0]), 100, 1, "LINEAR").tolist() == [0, 0, 1, 1]


@given(
    function=st.sampled_from(["LINEAR", "LINEAR_EXACT", "SIGMOID"]),
    center=st.floats(-1e4, 1e5),
    width=st.floats(1, 1e5),
    values=st.lists(st.floats(-1e5, 1e5), min_size=2, max_size=20),
)
def test_windows_never_leave_their_range_nor_turn_the_order(
    function: str, center: float, width: float, values: list[float]
) -> None:
    greys = windowed(np.sort(np.array(values)), center, width, function)
    assert np.isfinite(greys).all()
    assert greys.min() >= 0
    assert greys.max() <= 1
    assert (np.diff(greys) >= 0).all()


@given(
    entries=st.lists(st.integers(0, 65535), min_size=2, max_size=300).filter(lambda e: max(e) > 0),
    first=st.integers(0, 60000),
    value=st.integers(-10, 65600),
)
def test_a_table_gives_its_entry_and_beyond_its_ends_its_last(entries: list[int], first: int, value: int) -> None:
    header = Dataset()
    header.ModalityLUTSequence = [lut(entries, first, 16)]
    expected = entries[min(max(value - first, 0), len(entries) - 1)]
    stored = np.array([max(value, 0)])
    if value >= 0:
        assert modality_values(header, stored)[0] == expected


def test_a_voi_table_is_interpolated_between_whole_values() -> None:
    header = Dataset()
    header.VOILUTSequence = [lut([0, 4095], first=10)]
    greys, suits = presented(header, np.array([9.0, 10.0, 10.25, 11.0, 12.0]), np.ones(5, np.int64))
    assert suits
    assert greys.tolist() == pytest.approx([0, 0, 0.25, 1, 1])


def test_a_signed_table_begins_below_zero() -> None:
    header = Dataset()
    header.VOILUTSequence = [lut([0, 1000, 2000, 4095], first=65534)]
    values = np.array([-3.0, -2.0, -1.0, 1.0])
    greys, _ = presented(header, values, np.ones(4, np.int64))
    assert greys.tolist() == pytest.approx([0, 0, 1000 / 4095, 1])


def test_the_first_table_that_shows_the_image_is_taken_and_damaged_ones_are_passed_over() -> None:
    header = Dataset()
    short = lut([1, 2, 3])
    short.LUTDescriptor = [200, 0, 12]
    flat = lut([7, 4095], first=40000)
    good = lut(np.arange(4096))
    header.VOILUTSequence = [short, flat, good, lut(np.arange(4096)[::-1])]
    greys, suits = presented(header, VALUES, EVEN)
    assert suits
    assert greys.tolist() == pytest.approx((VALUES / 4095).tolist())


def test_a_table_of_bytes_packed_in_words_is_unpacked() -> None:
    header = Dataset()
    item = Dataset()
    item.LUTDescriptor = [4, 0, 8]
    item.LUTData = bytes([0, 85, 170, 255])
    header.VOILUTSequence = [item]
    greys, _ = presented(header, np.arange(4.0), np.ones(4, np.int64))
    assert greys.tolist() == pytest.approx([0, 1 / 3, 2 / 3, 1])


def test_the_first_window_that_shows_the_image_is_taken() -> None:
    header = Dataset()
    header.WindowCenter, header.WindowWidth = [60000, 2048], [100, 4096]
    greys, suits = presented(header, VALUES, EVEN)
    assert suits
    assert greys[[0, -1]].tolist() == [0, 1]


@pytest.mark.parametrize("width", [None, 0, 0.5, -3, "nan"])
def test_without_a_useful_window_the_whole_range_is_shown(width: float | str | None) -> None:
    header = Dataset()
    if width is not None:
        header.WindowCenter, header.WindowWidth = 2048, width
    greys, suits = presented(header, VALUES, EVEN)
    assert not suits
    assert greys[[0, -1]].tolist() == [0, 1]


@given(is_log=st.booleans(), grows=st.booleans(), scale=st.floats(0.5, 16))
def test_attenuation_falls_with_exposure_and_stays_in_its_range(is_log: bool, grows: bool, scale: float) -> None:
    values = VALUES * scale
    greys = attenuation(values, EVEN, is_log=is_log, grows_with_exposure=grows)
    assert greys.min() >= 0
    assert greys.max() <= 1
    assert ((np.diff(greys) <= 0) if grows else (np.diff(greys) >= 0)).all()


def test_attenuation_does_not_depend_on_dose() -> None:
    exposure = np.linspace(50, 4000, 500)
    one = attenuation(exposure, np.ones(500, np.int64), is_log=False, grows_with_exposure=True)
    other = attenuation(3 * exposure, np.ones(500, np.int64), is_log=False, grows_with_exposure=True)
    assert one == pytest.approx(other)


@given(
    values=st.lists(st.integers(0, 50), min_size=1, max_size=60),
    part=st.floats(0, 1),
)
def test_quantiles_of_counts_are_those_of_the_pixels(values: list[int], part: float) -> None:
    counts = np.bincount(values, minlength=51)
    found = quantile(np.arange(51.0), counts, part)
    assert np.mean(np.array(values) <= found) >= part - 1e-9
    assert found in values or part == 0

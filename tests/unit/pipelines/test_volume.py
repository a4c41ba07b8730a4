from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import Dataset, dcmread
from pydicom.uid import DeflatedExplicitVRLittleEndian, JPEG2000Lossless, JPEGLSLossless, MRImageStorage, RLELossless

from pipelines.instance import read_frames
from pipelines.part10 import LARGEST_DEFLATED_BYTES
from pipelines.pixels import hounsfield
from pipelines.reasons import Refusal
from pipelines.volume import load
from tests.unit.pipelines.series import axial_plane, ct_dataset, enhanced_ct, write, write_stack

EVEN = [5.0 * k for k in range(8)]


def refusal_of(paths: list[Path]) -> str:
    with pytest.raises(Refusal) as caught:
        load(paths)
    return caught.value.reason.code


def warnings_of(paths: list[Path]) -> set[str]:
    return {reason.code for reason in load(paths).warnings}


def test_slices_are_sorted_along_their_normal_whatever_the_order_of_the_files(tmp_path: Path) -> None:
    paths = write_stack(tmp_path, [10, 0, 25, 5, 20, 15])
    series = load(paths)
    assert series.volume.position_mm.tolist() == [0, 5, 10, 15, 20, 25]
    assert [header.ImagePositionPatient[2] for header in series.headers] == [0, 5, 10, 15, 20, 25]
    assert all("PixelData" not in header for header in series.headers)
    assert [header.SOPInstanceUID for header in series.headers] == list(series.volume.instance_uid)


def _set(keyword: str, value: object, only: int | None = None) -> Callable[[int, Dataset], None]:
    def change(k: int, dataset: Dataset) -> None:
        if only is None or k == only:
            if value is None:
                delattr(dataset, keyword)
            else:
                setattr(dataset, keyword, value)

    return change


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (_set("Modality", "MR"), "input.not_an_image_to_read"),
        (_set("SOPClassUID", MRImageStorage), "input.not_an_image_to_read"),
        (_set("ImageType", ["ORIGINAL", "PRIMARY", "LOCALIZER"]), "input.not_an_image_to_read"),
        (_set("ImageType", ["DERIVED", "SECONDARY", "MIP"]), "input.not_an_image_to_read"),
        (_set("RescaleType", "US"), "input.not_ct_values"),
        (_set("SamplesPerPixel", 3), "input.not_ct_values"),
        (_set("PixelData", None), "input.pixel_data_missing"),
        (_set("PixelData", b"\0\0"), "input.truncated"),
        (_set("RescaleSlope", None), "input.missing_attribute"),
        (_set("RescaleSlope", 0), "input.invalid_attribute"),
        (_set("ImagePositionPatient", None), "input.missing_attribute"),
        (_set("ImageOrientationPatient", [1, 0, 0, 1, 0, 0]), "input.invalid_attribute"),
        (_set("PixelSpacing", [0.0, 0.5]), "input.invalid_attribute"),
        (_set("Rows", 46341), "input.too_large"),
        (_set("SOPInstanceUID", "../../etc/passwd"), "input.invalid_attribute"),
        (_set("ImageOrientationPatient", [1, 0, 0, 0, 0.999, 0.0447], only=3), "geometry.mixed_orientation"),
        (_set("PixelSpacing", [0.9, 0.6], only=3), "geometry.mixed_matrix"),
        (_set("FrameOfReferenceUID", "2.25.99", only=3), "geometry.several_frames_of_reference"),
        (_set("ImagePositionPatient", [-10, -8, 10], only=3), "geometry.duplicate_position"),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_reason(
    tmp_path: Path, change: Callable[[int, Dataset], None], reason: str
) -> None:
    assert refusal_of(write_stack(tmp_path, EVEN, change)) == reason


def test_two_slices_are_too_few(tmp_path: Path) -> None:
    assert refusal_of(write_stack(tmp_path, [0, 5])) == "series.too_few_slices"


def test_no_file_at_all_is_too_few() -> None:
    assert refusal_of([]) == "series.too_few_slices"


def test_a_file_that_is_gone_is_said_to_be_so(tmp_path: Path) -> None:
    assert refusal_of([tmp_path / "gone.dcm"]) == "input.file_unreadable"


@pytest.mark.parametrize(
    ("positions", "outcome"),
    [
        ([0, 5, 10, 15, 25, 30, 35, 40], "warned"),  # one slice of 5 mm is missing
        ([0, 5, 10, 15, 45, 50, 55, 60], "refused"),  # five are
        ([0, 1.25, 2.5, 205], "refused"),
        ([0, 4, 8, 12, 13.1, 20, 27, 34], "whole"),  # thin slices below, thick ones above, overlapping
        ([0, 2.5, 5, 7.5, 17.5, 27.5, 37.5], "whole"),
        ([0, 5, 10, 15, 20, 30, 40, 50, 60, 70], "whole"),
    ],
)
def test_gaps(tmp_path: Path, positions: list[float], outcome: str) -> None:
    paths = write_stack(tmp_path, positions)
    if outcome == "refused":
        assert refusal_of(paths) == "series.incomplete"
    else:
        assert ("series.incomplete" in warnings_of(paths)) == (outcome == "warned")


def test_an_unreadable_slice_is_left_out_with_a_warning(tmp_path: Path) -> None:
    paths = write_stack(tmp_path, EVEN, _set("PixelData", b"\0\0", only=4))
    paths[0].write_bytes(b"not DICOM at all")
    series = load(paths)
    assert len(series.volume.plane) == 6
    reasons = {reason.code: reason for reason in series.warnings}
    assert reasons["series.partly_unreadable"].facts == {"unreadable": 2, "instances": 8}
    assert "series.incomplete" in reasons


def test_a_localizer_among_the_slices_is_passed_over_silently(tmp_path: Path) -> None:
    paths = write_stack(tmp_path, EVEN, _set("ImageType", ["ORIGINAL", "PRIMARY", "LOCALIZER"], only=7))
    series = load(paths)
    assert len(series.volume.plane) == 7
    assert not any(reason.code == "series.partly_unreadable" for reason in series.warnings)


def test_the_same_file_twice_counts_once(tmp_path: Path) -> None:
    paths = write_stack(tmp_path, EVEN)
    assert len(load(paths + paths).volume.plane) == len(EVEN)


def _stack_of(folder: Path, stored: np.ndarray, change: Callable[[int, Dataset], None]) -> np.ndarray:
    datasets = [ct_dataset(axial_plane(5.0 * k), stored) for k in range(3)]
    for k, dataset in enumerate(datasets):
        change(k, dataset)
    return load(write(folder, datasets)).volume.hu


def test_values_do_not_wrap_and_stop_at_the_outside_of_the_field_of_view(tmp_path: Path) -> None:
    stored = np.array([[-32768, -2000, -1024, 0, 40, 3071, 32767, 7]] * 2, np.int16)
    hu = _stack_of(tmp_path, stored, _set("RescaleIntercept", 100))
    assert hu.dtype == np.int16
    assert hu[0, 0].tolist() == [-1024, -1024, -924, 100, 140, 3171, 32767, 107]


def test_broken_slopes_give_floats(tmp_path: Path) -> None:
    stored = np.array([[0, 255, 100, 50]] * 2, np.uint16)

    def change(_k: int, dataset: Dataset) -> None:
        dataset.RescaleSlope, dataset.RescaleIntercept = "0.470588", -20

    hu = _stack_of(tmp_path, stored, change)
    assert hu.dtype == np.float32
    assert hu[0, 0].tolist() == pytest.approx([-20, 100, 27.0588, 3.5294], abs=1e-3)


@pytest.mark.parametrize(("padding", "limit", "outside"), [(63536, None, {-2000}), (-2000, -1990, {-2000, -1995})])
def test_padding_is_outside_even_when_its_sign_is_written_wrongly(
    tmp_path: Path, padding: int, limit: int | None, outside: set[int]
) -> None:
    stored = np.array([[-2000, -1995, -1000, 40]] * 2, np.int16)

    def change(_k: int, dataset: Dataset) -> None:
        dataset.RescaleIntercept = 1000
        dataset.add_new(0x00280120, "US" if padding > 0 else "SS", padding)
        if limit is not None:
            dataset.add_new(0x00280121, "SS", limit)

    hu = _stack_of(tmp_path, stored, change)
    for value, found in zip(stored[0].tolist(), hu[0, 0].tolist(), strict=True):
        assert found == (-1024 if value in outside else value + 1000)


def test_bits_above_the_high_bit_are_ignored(tmp_path: Path) -> None:
    stored = np.array([[0xF000 | 1064, 1064, 0x8000 | 4095, 0]] * 2, np.uint16)

    def change(_k: int, dataset: Dataset) -> None:
        dataset.BitsStored, dataset.HighBit = 12, 11

    assert _stack_of(tmp_path, stored, change)[0, 0].tolist() == [40, 40, 3071, -1024]


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless, JPEG2000Lossless])
def test_compressed_slices_give_the_same_values(tmp_path: Path, syntax: str) -> None:
    generator = np.random.default_rng(0)
    stored = generator.integers(0, 4095, (64, 80)).astype(np.uint16)
    plain = _stack_of(tmp_path / "plain", stored, lambda _k, _dataset: None)
    packed = _stack_of(
        tmp_path / "packed", stored, lambda _k, dataset: dataset.compress(syntax, generate_instance_uid=False)
    )
    assert np.array_equal(plain, packed)


def test_a_mixed_series_with_and_without_whole_slopes_is_of_one_kind(tmp_path: Path) -> None:
    stored = np.array([[0, 10, 20, 30]] * 2, np.uint16)
    assert _stack_of(tmp_path, stored, _set("RescaleSlope", "0.5", only=1)).dtype == np.float32


def test_lossy_contrast_free_frame_of_reference_and_clipping_are_told(tmp_path: Path) -> None:
    def change(_k: int, dataset: Dataset) -> None:
        dataset.LossyImageCompression = "01"
        del dataset.FrameOfReferenceUID

    found = warnings_of(write_stack(tmp_path, EVEN, change))
    assert found == {"input.lossy", "geometry.no_frame_of_reference", "input.clipped_values"}


def test_enhanced_ct_is_read_through_its_functional_groups(tmp_path: Path) -> None:
    planes = [axial_plane(10.0 - 2.5 * k, thickness=2.5) for k in range(4)]
    stored = np.stack([np.full((16, 20), 1024 + k, np.uint16) for k in range(4)])
    series = load(write(tmp_path, [enhanced_ct(planes, stored)]))
    assert series.volume.position_mm.tolist() == [2.5, 5, 7.5, 10]
    assert series.volume.hu[:, 0, 0].tolist() == [3, 2, 1, 0]
    assert series.volume.frame == (4, 3, 2, 1)
    assert "PixelData" not in series.headers[0]


def test_an_enhanced_ct_with_the_wrong_number_of_frames_is_refused(tmp_path: Path) -> None:
    planes = [axial_plane(2.5 * k) for k in range(4)]
    dataset = enhanced_ct(planes, np.zeros((4, 16, 20), np.uint16))
    dataset.NumberOfFrames = 5
    assert refusal_of(write(tmp_path, [dataset])) == "input.invalid_attribute"


def test_a_cut_file_is_never_more_than_a_refusal(tmp_path: Path) -> None:
    whole = write_stack(tmp_path, [0.0])[0].read_bytes()
    cut = tmp_path / "cut.dcm"
    for end in range(0, len(whole), 7):
        cut.write_bytes(whole[:end])
        with pytest.raises(Refusal):
            hounsfield(read_frames(cut)[0].pixels)


@given(data=st.binary(max_size=200), at=st.integers(min_value=132, max_value=700))
def test_overwritten_bytes_are_never_more_than_a_refusal(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, at: int
) -> None:
    folder = tmp_path_factory.mktemp("overwritten")
    path = write_stack(folder, [0.0])[0]
    whole = path.read_bytes()
    path.write_bytes(whole[:at] + data + whole[at + len(data) :])
    try:
        for frame in read_frames(path):
            hounsfield(frame.pixels)
    except Refusal:
        pass


def test_a_large_deflated_file_is_not_inflated(tmp_path: Path) -> None:
    dataset = ct_dataset(axial_plane(0.0))
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    path = write(tmp_path, [dataset])[0]
    assert read_frames(path)[0].shape == (16, 20)
    path.write_bytes(path.read_bytes() + bytes(LARGEST_DEFLATED_BYTES))
    with pytest.raises(Refusal) as caught:
        read_frames(path)
    assert caught.value.reason.code == "input.too_large"


CHEST = "chest/cptac_series/C3N-00247_LUNG-3.0-B70f"


@pytest.mark.parametrize(
    ("folder", "slices", "warned"),
    [
        ("head/ge_tilted_variable_spacing", 28, {"geometry.tilted", "geometry.variable_spacing"}),
        ("head/philips_phantom_study", 28, set()),
        ("head/philips_phantom_tilted/S2010", 12, {"geometry.tilted"}),
        (CHEST, 99, set()),
    ],
)
def test_real_series_are_read(triage_data: Path, folder: str, slices: int, warned: set[str]) -> None:
    files = sorted(path for path in (triage_data / folder).rglob("*") if path.is_file() and path.suffix != ".txt")
    series = load([path for path in files if path.suffix not in {".csv", ".md"}])
    assert len(series.volume.plane) == slices
    assert {reason.code for reason in series.warnings} == warned
    assert series.volume.hu.min() == -1024


@pytest.mark.parametrize(
    ("folder", "reason"),
    [
        ("head/enhanced_ct_perfusion_head", "input.not_an_image_to_read"),
        ("head/ge_tiny_head_series", "series.incomplete"),
        ("head/philips_phantom_study/S1000", "input.not_an_image_to_read"),
        ("head/philips_phantom_study/S4010", "input.not_an_image_to_read"),
        ("head/odd_single_slices", "geometry.mixed_orientation"),
        ("breast/ffdm_4view", "input.not_an_image_to_read"),
    ],
)
def test_real_series_are_refused(triage_data: Path, folder: str, reason: str) -> None:
    assert refusal_of([path for path in (triage_data / folder).rglob("*") if path.suffix in {".dcm", ""}]) == reason


def test_every_odd_file_is_read_or_refused(triage_data: Path) -> None:
    files = sorted(path for path in (triage_data / "odd").iterdir() if path.suffix != ".csv")
    read = []
    for path in files:
        try:
            read += [path.name for frame in read_frames(path) if hounsfield(frame.pixels).any()]
        except Refusal as refusal:
            assert refusal.reason.text
    assert "pyd_CT_small.dcm" in read
    assert "csw_CT_JPEGLSLossless.dcm" in read
    assert len(read) == 8


def test_one_ct_in_six_syntaxes_has_the_same_values(triage_data: Path) -> None:
    files = sorted((triage_data / "odd").glob("csw_CT_*.dcm"))
    lossless = [path for path in files if "Lossy" not in path.name and "Process10" not in path.name]
    values = [hounsfield(read_frames(path)[0].pixels) for path in lossless]
    assert len(values) == 4
    assert all(np.array_equal(values[0], other) for other in values[1:])


def test_signedness_that_the_stream_contradicts_is_mended(triage_data: Path) -> None:
    path = triage_data / "head" / "odd_single_slices" / "J2K_pixelrep_mismatch.dcm"
    hu = hounsfield(read_frames(path)[0].pixels)
    assert dcmread(path).PixelRepresentation == 1
    assert hu[0, 0] == -1024
    inner = hu[200:300, 220:290]
    assert 10 < np.median(inner) < 60


def test_a_stream_that_declares_more_than_its_data_set_never_reaches_a_decoder(tmp_path: Path) -> None:
    dataset = ct_dataset(axial_plane(0.0), np.zeros((64, 80), np.uint16))
    dataset.compress(JPEG2000Lossless, generate_instance_uid=False)
    at = dataset.PixelData.index(b"\xff\x4f\xff\x51")
    spoilt = bytearray(dataset.PixelData)
    spoilt[at + 8 : at + 16] = b"\x00\xff\xff\xff\x00\xff\xff\xff"
    dataset.PixelData = bytes(spoilt)
    frame = read_frames(write(tmp_path, [dataset])[0])[0]
    with pytest.raises(Refusal) as caught:
        hounsfield(frame.pixels)
    assert caught.value.reason.facts["detail"] == "another size than declared"

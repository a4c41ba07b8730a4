"""Studies of mammograms: what is read, with which warning, and what is refused with which reason."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import Dataset
from pydicom.uid import (
    BreastTomosynthesisImageStorage,
    DigitalXRayImageStorageForPresentation,
    JPEGLSLossless,
    SecondaryCaptureImageStorage,
    UltrasoundImageStorage,
    generate_uid,
)

from pipelines import codes, mammogram_loading
from pipelines.mammogram import Mammogram, Spacing
from pipelines.mammogram_header import _POSITION, OLD_CODES
from pipelines.mammogram_loading import load_study
from pipelines.reasons import Refusal
from tests.unit.pipelines.mammograms import AIR, TISSUE, coded, four_views, mammogram, picture, save


def only_view(folder: Path, dataset: Dataset) -> Mammogram:
    (view,) = load_study(save(folder, [dataset])).views
    return view


def warned(view: Mammogram) -> set[str]:
    return {reason.code for reason in view.warnings}


def item(**attributes: object) -> Dataset:
    dataset = Dataset()
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    return dataset


def resized(stored: np.ndarray, rows: int, columns: int) -> np.ndarray:
    return stored[np.ix_(np.arange(rows) * stored.shape[0] // rows, np.arange(columns) * stored.shape[1] // columns)]


def half_white() -> np.ndarray:
    stored = picture()
    stored[:, :200] = 4095
    return stored


def test_a_whole_study_is_read_in_hanging_order_without_a_warning(tmp_path: Path) -> None:
    study = load_study(save(tmp_path, four_views()[::-1]))
    assert [view.name for view in study.views] == ["R CC", "L CC", "R MLO", "L MLO"]
    assert [view.chest_wall for view in study.views] == ["right", "left", "right", "left"]
    assert not study.refused
    assert not study.warnings
    for view in study.views:
        assert not view.warnings
        assert (view.scale, view.modifiers, view.has_implant) == ("presented", frozenset(), False)
        assert view.pixels.dtype == np.float32
        assert "PixelData" not in view.header
        assert study.view_of(view.instance_uid) is view


def test_greys_are_those_of_the_window(tmp_path: Path) -> None:
    view = only_view(tmp_path, mammogram())
    expected = np.clip((picture() - 1023.5) / 2047 + 0.5, 0, 1)
    assert view.pixels == pytest.approx(expected, abs=1e-6)


def without_pixels() -> Dataset:
    dataset = mammogram()
    del dataset.PixelData
    return dataset


REFUSED: dict[str, tuple[Callable[[], Dataset], str]] = {
    "a chest film": (lambda: mammogram(SOPClassUID=DigitalXRayImageStorageForPresentation, Modality="DX"),
                     "input.not_an_image_to_read"),
    "a chest film as a mammogram": (lambda: mammogram(BodyPartExamined="CHEST"), "body_part.unexpected"),
    "a chest by code": (lambda: mammogram(AnatomicRegionSequence=[coded("T-D3000", "SRT")]), "body_part.unexpected"),
    "a field as large as a chest": (lambda: mammogram(stored=resized(picture(), 1800, 1500)), "body_part.unexpected"),
    "an ultrasound screenshot": (lambda: mammogram(SOPClassUID=UltrasoundImageStorage, Modality="US"),
                                 "input.not_an_image_to_read"),
    "a secondary capture": (lambda: mammogram(SOPClassUID=SecondaryCaptureImageStorage), "input.not_an_image_to_read"),
    "another modality": (lambda: mammogram(Modality="OT"), "input.not_an_image_to_read"),
    "colours": (lambda: mammogram(SamplesPerPixel=3), "input.not_an_image_to_read"),
    "a tomosynthesis": (lambda: mammogram(SOPClassUID=BreastTomosynthesisImageStorage), "view.tomosynthesis"),
    "frames": (lambda: mammogram(NumberOfFrames=40), "view.tomosynthesis"),
    "a projection of a tomosynthesis": (lambda: mammogram(ImageType=["ORIGINAL", "PRIMARY", "TOMO_PROJ"]),
                                        "view.tomosynthesis"),
    "a subtraction": (lambda: mammogram(ImageType=["DERIVED", "PRIMARY", "SUBTRACTION"]), "view.special"),
    "a stereotactic image": (lambda: mammogram(ImageType=["ORIGINAL", "PRIMARY", "STEREO_PLUS"]), "view.special"),
    "a phantom": (lambda: mammogram(QualityControlImage="YES"), "view.special"),
    "a specimen": (lambda: mammogram(ViewCodeSequence=[coded("127457009")]), "view.specimen"),
    "a specimen by its old code": (lambda: mammogram(ViewCodeSequence=[coded("G-8310", "SRT")]), "view.specimen"),
    "a specimen by name": (lambda: mammogram(SeriesDescription="R Specimen"), "view.specimen"),
    "no laterality": (lambda: mammogram(ImageLaterality=None), "view.no_laterality"),
    "both breasts": (lambda: mammogram(ImageLaterality="B"), "view.both_breasts"),
    "no view": (lambda: mammogram(ViewCodeSequence=None, ViewPosition=None), "view.unknown_projection"),
    "a view that is not read": (lambda: mammogram(ViewCodeSequence=[coded("399188001")], ViewPosition="SIO"),
                                "view.unknown_projection"),
    "no spacing": (lambda: mammogram(ImagerPixelSpacing=None), "view.no_spacing"),
    "an impossible spacing": (lambda: mammogram(ImagerPixelSpacing=[70, 70]), "view.no_spacing"),
    "pixels that are not square": (lambda: mammogram(ImagerPixelSpacing=[0.1, 0.2]), "view.no_spacing"),
    "a half-white image": (lambda: mammogram(stored=half_white()), "view.partly_blank"),
    "an empty image": (lambda: mammogram(stored=np.full((520, 400), 900, np.uint16)), "view.empty"),
    "noise": (lambda: mammogram(stored=np.random.default_rng(0).integers(900, 960, (520, 400)).astype(np.uint16)),
              "view.empty"),
    "nothing but padding": (lambda: mammogram(PixelPaddingValue=0, PixelPaddingRangeLimit=4095), "view.empty"),
    "a turned image": (lambda: mammogram(stored=np.ascontiguousarray(resized(picture(), 400, 400).T),
                                         PatientOrientation=["L", "P"]), "view.turned"),
    "an icon": (lambda: mammogram(stored=resized(picture(), 100, 80)), "input.matrix_too_small"),
    "32 bits": (lambda: mammogram(BitsAllocated=32), "input.invalid_attribute"),
    "a useless modality table": (lambda: mammogram(RescaleSlope=0, RescaleIntercept=0), "input.invalid_attribute"),
    "too few pixels": (lambda: mammogram(Rows=600), "input.truncated"),
    "no pixels": (without_pixels, "input.pixel_data_missing"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_bad_views_are_refused_with_their_reason_and_lose_no_other(tmp_path: Path, case: str) -> None:
    make, code = REFUSED[case]
    bad = make()
    good = four_views()[1:]
    study = load_study(save(tmp_path / "study", [bad, *good]))
    assert [view.name for view in study.views] == ["L CC", "R MLO", "L MLO"]
    (refused,) = study.refused
    assert refused.reason.code == code
    assert refused.instance_uid == bad.SOPInstanceUID
    assert refused.header is not None
    assert {reason.code: reason for reason in study.warnings}["study.views_missing"].facts["views"] == "R CC"
    with pytest.raises(Refusal) as caught:
        load_study(save(tmp_path / "alone", [bad]))
    assert caught.value.reason.code == code


def with_padded_air(**attributes: object) -> Dataset:
    """Padding is where the maker found air, as on some objects."""
    stored = np.where(picture() < 100, 0, picture()).astype(np.uint16)
    return mammogram(stored=stored, PixelPaddingValue=0, PixelPaddingRangeLimit=50, **attributes)


READ_WITH_A_WARNING: dict[str, tuple[Callable[[], Dataset], str]] = {
    "MONOCHROME1 by mistake": (lambda: mammogram(PhotometricInterpretation="MONOCHROME1"), "view.inverted"),
    "INVERSE by mistake": (lambda: mammogram(PresentationLUTShape="INVERSE"), "view.inverted"),
    "inverted pixels": (lambda: mammogram(stored=4095 - picture(), WindowCenter=3072), "view.inverted"),
    "padded air, MONOCHROME1 by mistake": (lambda: with_padded_air(PhotometricInterpretation="MONOCHROME1"),
                                           "view.inverted"),
    "a wrong sign": (lambda: mammogram(stored=exposure(), raw=True, PixelIntensityRelationship="LIN",
                                       PixelIntensityRelationshipSign=-1), "view.inverted"),
    "no window": (lambda: mammogram(WindowCenter=None, WindowWidth=None), "view.no_window"),
    "a window beside the image": (lambda: mammogram(WindowCenter=50000, WindowWidth=10), "view.no_window"),
    "spacing lost by a known detector": (lambda: mammogram(stored=resized(picture(), 3328, 2560),
                                                           ImagerPixelSpacing=None), "view.spacing_assumed"),
    "spacing of the detector's elements": (lambda: mammogram(ImagerPixelSpacing=None,
                                           DetectorElementSpacing=[0.2, 0.2]), "view.spacing_assumed"),
    "an oblique view without laterality": (lambda: mammogram("R", "MLO", ImageLaterality=None),
                                           "view.laterality_inferred"),
    "laterality by the anatomic region": (lambda: mammogram(
        ImageLaterality=None, AnatomicRegionSequence=[coded("T-04020", "SNM3")]), "view.laterality_inferred"),
    "lateralities that disagree": (lambda: mammogram("R", "MLO", PatientOrientation=["P", "FR"]),
                                   "view.laterality_disagrees"),
    "an orientation against the image": (lambda: mammogram(PatientOrientation=["A", "L"]),
                                         "view.orientation_disagrees"),
    "a turned orientation of an upright image": (lambda: mammogram(PatientOrientation=["L", "P"]),
                                                 "view.orientation_disagrees"),
    "magnified without a factor": (lambda: mammogram(
        ViewCodeSequence=[coded("399162004", "SCT", [coded("399163009")])]), "view.magnification_unknown"),
    "a synthetic view": (lambda: mammogram(ImageType=["DERIVED", "PRIMARY", "TOMO", "GENERATED_2D"]), "view.synthetic"),
    "another intent": (lambda: mammogram(PresentationIntentType="FOR PROCESSING"), "view.intent_disagrees"),
    "an implant": (lambda: mammogram(BreastImplantPresent="YES"), "view.implant"),
    "a part of the breast": (lambda: mammogram(PartialView="YES"), "view.partial"),
    "lossy compression": (lambda: mammogram(LossyImageCompression="01"), "input.lossy"),
    "a collimator over the breast": (lambda: mammogram(
        CollimatorShape="RECTANGULAR", CollimatorLeftVerticalEdge=1, CollimatorRightVerticalEdge=200,
        CollimatorUpperHorizontalEdge=1, CollimatorLowerHorizontalEdge=520), "view.collimation_doubted"),
}  # fmt: skip


def exposure() -> np.ndarray:
    """Linear in exposure: air gets most."""
    return np.rint(4000 * np.exp(-picture().astype(np.float64) / 700)).astype(np.uint16)


@pytest.mark.parametrize("case", READ_WITH_A_WARNING)
def test_doubtful_views_are_read_with_their_warning(tmp_path: Path, case: str) -> None:
    make, code = READ_WITH_A_WARNING[case]
    view = only_view(tmp_path, make())
    assert code in warned(view)
    assert view.chest_wall == "right"
    rows, columns = view.pixels.shape
    air, tissue = view.pixels[: rows // 20].mean(), view.pixels[rows // 2 - 9 : rows // 2 + 9, -columns // 4 :].mean()
    assert air < 0.3
    assert tissue > air + 0.2


def compressed() -> Dataset:
    dataset = mammogram()
    dataset.compress(JPEGLSLossless, generate_instance_uid=False)
    return dataset


PRESENTED_ALIKE: dict[str, Callable[[], Dataset]] = {
    "MONOCHROME1": lambda: mammogram(stored=4095 - picture(), PhotometricInterpretation="MONOCHROME1",
                                     PresentationLUTShape="INVERSE", WindowCenter=3072),
    "the shape INVERSE alone": lambda: mammogram(stored=4095 - picture(), PresentationLUTShape="INVERSE",
                                                 WindowCenter=3072),
    "signed": lambda: mammogram(stored=picture().astype(np.int16) - 1000, WindowCenter=24),
    "16 bits": lambda: mammogram(stored=picture() * 16, BitsStored=16, HighBit=15, WindowCenter=16384,
                                 WindowWidth=32768),
    "14 bits": lambda: mammogram(stored=picture() * 4, BitsStored=14, HighBit=13, WindowCenter=4096,
                                 WindowWidth=8192),
    "rescaled": lambda: mammogram(RescaleSlope=2, RescaleIntercept=-100, WindowCenter=1948, WindowWidth=4096),
    "a VOI LUT before a window": lambda: mammogram(
        VOILUTSequence=[item(LUTDescriptor=[2049, 0, 12],
                             LUTData=np.minimum(2 * np.arange(2049), 4095).astype("<u2").tobytes())],
        WindowCenter=3000),
    "compressed": compressed,
}  # fmt: skip


@pytest.mark.parametrize("case", PRESENTED_ALIKE)
def test_the_same_picture_stored_otherwise_is_the_same(tmp_path: Path, case: str) -> None:
    plain = only_view(tmp_path / "plain", mammogram())
    view = only_view(tmp_path / "otherwise", PRESENTED_ALIKE[case]())
    assert not view.warnings
    assert view.pixels == pytest.approx(plain.pixels, abs=2e-3)


def test_air_written_as_padding_is_no_warning(tmp_path: Path) -> None:
    assert not only_view(tmp_path, with_padded_air()).warnings


def test_a_sigmoid_is_a_sigmoid(tmp_path: Path) -> None:
    view = only_view(tmp_path, mammogram(VOILUTFunction="SIGMOID"))
    assert view.pixels == pytest.approx(1 / (1 + np.exp(-4 * (picture() - 1024.0) / 2048)), abs=1e-6)


def test_overlays_above_the_high_bit_are_no_greys(tmp_path: Path) -> None:
    plain = only_view(tmp_path / "plain", mammogram())
    drawn = mammogram(stored=picture() | np.uint16(0x8000))
    assert np.array_equal(only_view(tmp_path / "drawn", drawn).pixels, plain.pixels)


@pytest.mark.parametrize(("relationship", "sign"), [("LIN", 1), ("LIN", -1), ("LOG", 1), ("LOG", -1)])
def test_for_processing_becomes_attenuation(tmp_path: Path, relationship: str, sign: int) -> None:
    stored = exposure() if relationship == "LIN" else 4095 - picture()
    stored = stored if sign == 1 else (stored.max() - stored).astype(np.uint16)
    view = only_view(tmp_path, mammogram(stored=stored, raw=True, PixelIntensityRelationship=relationship,
                                         PixelIntensityRelationshipSign=sign))  # fmt: skip
    assert view.scale == "attenuation"
    assert not view.warnings
    assert view.pixels[:20].max() < 0.05
    inner = view.pixels[200:320, 330:]
    assert 0.5 < inner.mean() < 0.95
    # The logarithm of the exposure is what the picture was made from.
    assert np.corrcoef(inner.ravel(), picture()[200:320, 330:].ravel())[0, 1] > 0.95


def test_padding_and_collimation_are_outside_and_black(tmp_path: Path) -> None:
    stored = picture()
    stored[:, :30] = 4095
    stored[480:, 30:] = 3
    view = only_view(tmp_path, mammogram(
        stored=stored, PixelPaddingValue=4095, CollimatorShape="RECTANGULAR", CollimatorLeftVerticalEdge=1,
        CollimatorRightVerticalEdge=400, CollimatorUpperHorizontalEdge=1, CollimatorLowerHorizontalEdge=480,
    ))  # fmt: skip
    expected = np.zeros(stored.shape, np.bool_)
    expected[:, :30] = expected[480:] = True
    assert np.array_equal(view.outside, expected)
    assert not view.pixels[view.outside].any()
    assert not view.warnings


@pytest.mark.parametrize(
    "attributes",
    [
        {"CollimatorShape": "CIRCULAR", "CenterOfCircularCollimator": [261, 330], "RadiusOfCircularCollimator": 380},
        {"CollimatorShape": "POLYGONAL", "VerticesOfThePolygonalCollimator": [1, 21, 520, 21, 520, 400, 1, 400]},
    ],
)
def test_round_and_polygonal_collimators(tmp_path: Path, attributes: dict[str, object]) -> None:
    stored = picture()
    stored[:60, :60] = AIR
    view = only_view(tmp_path, mammogram(stored=stored, **attributes))
    assert view.outside[0, 0]
    assert not view.outside[260, 300]
    assert not view.warnings


SPACINGS: dict[str, tuple[dict[str, object], Spacing]] = {
    "at the detector": ({}, Spacing(0.2, 0.2, "detector")),
    "by the factor": ({"EstimatedRadiographicMagnificationFactor": 1.6, "DistanceSourceToDetector": 660,
                       "DistanceSourceToPatient": 600}, Spacing(0.2, 0.125, "magnification factor")),
    "by the distances": ({"DistanceSourceToDetector": 660, "DistanceSourceToPatient": 600},
                         Spacing(0.2, 0.2 * 600 / 660, "distances")),
    "by impossible distances": ({"DistanceSourceToDetector": 0, "DistanceSourceToPatient": 600},
                                Spacing(0.2, 0.2, "detector")),
    "by an impossible factor": ({"EstimatedRadiographicMagnificationFactor": 0}, Spacing(0.2, 0.2, "detector")),
    "calibrated": ({"PixelSpacing": [0.18, 0.18], "PixelSpacingCalibrationType": "FIDUCIAL"},
                   Spacing(0.2, 0.18, "calibration")),
    "not calibrated": ({"PixelSpacing": [0.18, 0.18]}, Spacing(0.2, 0.2, "detector")),
    "of the image alone": ({"ImagerPixelSpacing": None, "PixelSpacing": [0.18, 0.18]}, Spacing(0.18, 0.18, "detector")),
    "calibrated alone": ({"ImagerPixelSpacing": None, "PixelSpacing": [0.18, 0.18],
                          "PixelSpacingCalibrationType": "GEOMETRY"}, Spacing(0.18, 0.18, "calibration")),
}  # fmt: skip


@pytest.mark.parametrize("case", SPACINGS)
def test_spacing_at_the_detector_and_in_the_body(tmp_path: Path, case: str) -> None:
    attributes, expected = SPACINGS[case]
    view = only_view(tmp_path, mammogram(**attributes))
    assert (view.spacing.detector_mm, view.spacing.object_mm) == pytest.approx(
        (expected.detector_mm, expected.object_mm)
    )
    assert view.spacing.origin == expected.origin
    assert not view.warnings


VIEWS: dict[str, tuple[dict[str, object], str, set[codes.Code]]] = {
    "old codes": ({"ViewCodeSequence": [coded("R-10226", "SNM3", [coded("R-102D5", "SRT")])], "ViewPosition": None},
                  "R MLO", {codes.IMPLANT_DISPLACED}),
    "text alone": ({"ViewCodeSequence": None, "ViewPosition": "XCCL"}, "R XCCL", set()),
    "text with the side": ({"ViewCodeSequence": None, "ViewPosition": "R MLO"}, "R MLO", set()),
    "text with modifiers": ({"ViewCodeSequence": None, "ViewPosition": "MCCID"}, "R CC",
                            {codes.MAGNIFICATION, codes.IMPLANT_DISPLACED}),
    "lateromedial is no medial prefix": ({"ViewCodeSequence": None, "ViewPosition": "LM"}, "R LM", set()),
    "the code before the text": ({"ViewPosition": "MLO"}, "R CC", set()),
    "a local code": ({"ViewCodeSequence": [coded("CC1", "99LOCAL")], "ViewPosition": "CC"}, "R CC", set()),
    "spot": ({"ViewCodeSequence": [coded("399260004", "SCT", [coded("399055006"), coded("399163009")])],
              "EstimatedRadiographicMagnificationFactor": 1.8}, "R ML", {codes.SPOT_COMPRESSION, codes.MAGNIFICATION}),
}  # fmt: skip


@pytest.mark.parametrize("case", VIEWS)
def test_views_and_their_modifiers(tmp_path: Path, case: str) -> None:
    attributes, name, modifiers = VIEWS[case]
    view = only_view(tmp_path, mammogram(**attributes))
    assert view.name == name
    assert view.modifiers == modifiers
    assert view.has_implant == (codes.IMPLANT_DISPLACED in modifiers)


@given(projection=st.sampled_from(["CC", "MLO", "ML", "LM", "LMO", "XCCL", "XCCM", "FB"]),
       side=st.sampled_from(["", "R", "L", "R ", "L-"]))  # fmt: skip
def test_the_side_before_a_view_position_never_makes_another_view_of_it(projection: str, side: str) -> None:
    match = _POSITION.fullmatch(side + projection)
    assert match is not None
    # "L" before "MLO" and before "MO" would both be read: the longest projection is meant.
    assert match.group("projection") == projection


def test_old_codes_are_those_of_the_dictionary() -> None:
    from pydicom.sr._snomed_dict import mapping  # noqa: PLC0415

    for old, code in OLD_CODES.items():
        assert mapping["SRT"][old] == code.value


@pytest.mark.parametrize("side", ["R", "L"])
def test_an_oblique_view_tells_its_breast_and_a_craniocaudal_one_does_not(tmp_path: Path, side: str) -> None:
    study = load_study(save(tmp_path, [mammogram(side, view, ImageLaterality=None) for view in ("MLO", "CC")]))
    assert [view.name for view in study.views] == [f"{side} MLO"]
    assert [view.reason.code for view in study.refused] == ["view.no_laterality"]


def test_laterality_of_the_series_counts_where_the_image_has_none(tmp_path: Path) -> None:
    view = only_view(tmp_path, mammogram("L", ImageLaterality=None, Laterality="L"))
    assert view.name == "L CC"
    assert not view.warnings


def test_where_the_breast_fills_the_picture_patient_orientation_tells_the_chest_wall(tmp_path: Path) -> None:
    spot = np.clip(TISSUE + 400 * np.sin(np.indices((520, 400)).sum(axis=0) / 31), 0, 4095).astype(np.uint16)
    modifiers = [coded("399055006")]
    attributes = {"ViewCodeSequence": [coded("399162004", "SCT", modifiers)]}
    told = only_view(tmp_path / "told", mammogram(stored=spot, PatientOrientation=["A", "L"], **attributes))
    assert (told.chest_wall, told.warnings) == ("left", ())
    untold = only_view(tmp_path / "untold", mammogram(stored=spot, PatientOrientation=None, **attributes))
    assert warned(untold) == {"view.chest_wall_unsure"}


def test_files_of_every_kind_beside_the_views(tmp_path: Path) -> None:
    paths = save(tmp_path, four_views())
    (tmp_path / "notes.txt").write_text("no DICOM")
    cut = tmp_path / "cut.dcm"
    cut.write_bytes(paths[0].read_bytes()[:700])
    study = load_study([tmp_path / "notes.txt", tmp_path / "missing.dcm", cut, *paths, paths[0]])
    assert len(study.views) == 4
    assert [view.reason.code for view in study.refused][:2] == ["input.not_dicom", "input.file_unreadable"]
    assert all(view.header is None for view in study.refused[:2])
    assert "series.partly_unreadable" in {reason.code for reason in study.warnings}


def test_the_most_telling_reason_is_that_of_a_mammogram(tmp_path: Path) -> None:
    others = [mammogram(side, SOPClassUID=SecondaryCaptureImageStorage) for side in ("R", "L")]
    paths = save(tmp_path, [*others, mammogram(ImageLaterality=None)])
    with pytest.raises(Refusal) as caught:
        load_study(paths)
    assert caught.value.reason.code == "view.no_laterality"
    with pytest.raises(Refusal) as caught:
        load_study([])
    assert caught.value.reason.code == "study.no_mammograms"


def test_several_patients_under_one_study_are_refused(tmp_path: Path) -> None:
    views = four_views()
    views[2].PatientID = "P2"
    with pytest.raises(Refusal) as caught:
        load_study(save(tmp_path, views))
    assert caught.value.reason.code == "study.several_patients"


def dated(view: Dataset, day: str) -> Dataset:
    view.AcquisitionDate = day
    view.SOPInstanceUID = generate_uid(entropy_srcs=[view.SOPInstanceUID, day])
    return view


def test_of_several_days_the_one_with_most_standard_views_is_read(tmp_path: Path) -> None:
    earlier = [dated(view, "20240115") for view in four_views()]
    later = [dated(view, "20260301") for view in four_views()[:2]]
    study = load_study(save(tmp_path, [*later, *earlier]))
    assert {str(view.header.AcquisitionDate) for view in study.views} == {"20240115"}
    assert [view.reason.code for view in study.refused] == ["view.another_day"] * 2
    assert {reason.code for reason in study.warnings} == {"study.several_days", "series.partly_unreadable"}


def test_of_two_whole_days_the_newer_is_read_and_midnight_parts_no_session(tmp_path: Path) -> None:
    earlier = [dated(view, "20240115") for view in four_views()]
    later = [dated(view, day) for view, day in zip(four_views(), ["20260301", "20260302"] * 2, strict=True)]
    study = load_study(save(tmp_path, [*earlier, *later]))
    assert len(study.views) == 4
    assert {str(view.header.AcquisitionDate)[:4] for view in study.views} == {"2026"}


def test_a_view_for_processing_is_left_out_beside_its_presentation(tmp_path: Path) -> None:
    raw = [mammogram(side, stored=exposure() if side == "R" else exposure()[:, ::-1], raw=True) for side in ("R", "L")]
    study = load_study(save(tmp_path, [*four_views()[1:], *raw]))
    assert [(view.name, view.scale) for view in study.views][:2] == [("R CC", "attenuation"), ("L CC", "presented")]
    assert [view.reason.code for view in study.refused] == ["view.read_as_presented"]
    assert not study.warnings


def test_missing_views_are_named_and_a_spot_view_is_no_standard_one(tmp_path: Path) -> None:
    spot = mammogram("L", ViewCodeSequence=[coded("399162004", "SCT", [coded("399055006")])])
    study = load_study(save(tmp_path, [*four_views()[::3], spot]))
    assert [view.name for view in study.views] == ["R CC", "L CC", "L MLO"]
    assert [reason.facts["views"] for reason in study.warnings] == ["L CC, R MLO"]


def test_a_damaged_compressed_view_loses_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    views = four_views()
    for view in views:
        view.compress(JPEGLSLossless, generate_instance_uid=False)
    paths = save(tmp_path, views)
    spoilt = bytearray(paths[1].read_bytes())
    at = spoilt.index(b"\xff\xda")
    spoilt[at + 10 : at + 3000] = b"\xff" * 2990
    paths[1].write_bytes(spoilt)
    study = load_study(paths)
    assert [view.name for view in study.views] == ["R CC", "R MLO", "L MLO"]
    assert [view.reason.code for view in study.refused] == ["input.pixel_data_unreadable"]


def test_the_public_exams_are_read(triage_data: Path) -> None:
    folder = triage_data / "breast" / "ffdm_4view"
    study = load_study(sorted(folder.glob("exam0*.dcm")))
    assert [(view.name, view.chest_wall) for view in study.views] == [
        ("R CC", "right"), ("L CC", "left"), ("R MLO", "right"), ("L MLO", "left"),
    ]  # fmt: skip
    assert not study.warnings
    assert not any(view.warnings for view in study.views)
    pair = load_study(sorted(folder.glob("examN1*.dcm")))
    assert [view.name for view in pair.views] == ["R CC", "L CC"]
    assert [reason.code for reason in pair.warnings] == ["study.views_missing"]


def test_an_untouched_object_of_a_maker_is_read_with_its_first_table(triage_data: Path) -> None:
    (view,) = load_study([triage_data / "breast" / "ffdm_4view" / "single_R_MLO_ge.dcm"]).views
    assert (view.name, view.chest_wall, view.warnings) == ("R MLO", "right", ())
    assert view.spacing.origin == "magnification factor"
    assert view.spacing.object_mm == pytest.approx(0.0941, abs=1e-4)
    assert 0.6 < view.outside.mean() < 0.75
    assert view.pixels[1600, 2300] == pytest.approx(0.5, abs=0.35)


def test_two_exams_in_one_study_are_of_several_patients(triage_data: Path) -> None:
    with pytest.raises(Refusal) as caught:
        load_study(sorted((triage_data / "breast" / "ffdm_4view").glob("exam*.dcm")))
    assert caught.value.reason.code == "study.several_patients"


def test_limits_are_those_of_mammography() -> None:
    assert mammogram_loading.LARGEST_SIDE * 0.05 > 330

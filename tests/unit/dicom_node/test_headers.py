from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pydicom import Dataset
from pydicom.uid import EnhancedCTImageStorage

from dicom_node.headers import attributes, facts_of, read_facts, read_header, values
from pipelines.reasons import Refusal
from tests.unit.dicom_node.made import AXIAL, encoded, header
from tests.unit.dicom_node.mammograms import VIEWS, magnified, view


def test_facts_of_a_slice() -> None:
    found = facts_of(header(3, 7, SliceThickness=2.5, AcquisitionDate="20260301", AcquisitionTime="120000.5"))
    (place,) = found.places
    assert (place.origin, place.directions) == ((-120.0, -120.0, 17.5), tuple(map(float, AXIAL)))
    assert (found.series_number, found.instance_number, found.thickness_mm) == (3, 7, 2.5)
    assert (found.image_type, found.acquired) == (("ORIGINAL", "PRIMARY", "AXIAL"), "20260301120000.5")


def test_places_of_an_enhanced_object_lie_in_its_functional_groups() -> None:
    def group(z: float) -> Dataset:
        position, frame = Dataset(), Dataset()
        position.ImagePositionPatient = [0, 0, z]
        frame.PlanePositionSequence = [position]
        return frame

    orientation, measures, shared = Dataset(), Dataset(), Dataset()
    orientation.ImageOrientationPatient = AXIAL
    measures.SliceThickness = 3
    shared.PlaneOrientationSequence, shared.PixelMeasuresSequence = [orientation], [measures]
    made = header(1, 1, SOPClassUID=EnhancedCTImageStorage, ImagePositionPatient=None, ImageOrientationPatient=None)
    made.SharedFunctionalGroupsSequence = [shared]
    made.PerFrameFunctionalGroupsSequence = [group(0), group(3)]
    found = facts_of(made)
    assert [place.origin[2] for place in found.places] == [0, 3]
    assert (found.is_multi_frame, found.thickness_mm) == (True, 3)


@pytest.mark.parametrize("position", [None, [0, 0], [0, 0, 1e300], ""])
def test_slice_without_a_usable_position_has_no_place(position: object) -> None:
    assert facts_of(header(1, 1, ImagePositionPatient=position)).places == ()


@pytest.mark.parametrize("name", VIEWS)
def test_standard_view_is_told_by_code_or_by_position(name: str) -> None:
    made = view(1, name)
    assert facts_of(made).standard_view == name
    made.ViewPosition = "ML"
    assert facts_of(made).standard_view == name
    made.ViewCodeSequence, made.ViewPosition = [], name.split()[1]
    assert facts_of(made).standard_view == name


def test_standard_view_is_told_by_older_codes_and_by_the_laterality_of_the_series() -> None:
    made = view(1, "L MLO", ImageLaterality=None, Laterality="L", ViewPosition=None)
    made.ViewCodeSequence[0].CodeValue, made.ViewCodeSequence[0].CodingSchemeDesignator = "R-10226", "SNM3"
    assert facts_of(made).standard_view == "L MLO"


@pytest.mark.parametrize(
    "changes",
    [
        {"ImageLaterality": None},
        {"ImageLaterality": "B"},
        {"BreastImplantPresent": "YES"},
        {"ViewCodeSequence": [], "ViewPosition": "ML"},
        {"ViewCodeSequence": [], "ViewPosition": None},
    ],
)
def test_other_views_are_no_standard_ones(changes: dict[str, object]) -> None:
    assert facts_of(view(1, "R CC", **changes)).standard_view == ""


def test_modified_view_and_other_images_are_no_standard_ones() -> None:
    made = magnified(view(1, "R CC"))
    assert (facts_of(made).standard_view, facts_of(header(1, 1)).standard_view) == ("", "")


def test_instance_must_say_to_which_series_it_belongs() -> None:
    with pytest.raises(Refusal) as refused:
        facts_of(header(1, 1, SeriesInstanceUID=""))
    assert refused.value.reason.facts["keyword"] == "SeriesInstanceUID"


def test_values_are_text_and_numbers_without_empty_ones() -> None:
    made = header(1, 1, PatientName="Doe^Jane", ImageType=["ORIGINAL", "", "AXIAL"])
    made.ReferencedStudySequence = [Dataset(), Dataset()]
    found = attributes(made, ["PatientName", "ImageType", "SliceThickness", "ReferencedStudySequence", "ProtocolName"])
    assert found == {
        "PatientName": ("Doe^Jane",),
        "ImageType": ("ORIGINAL", "AXIAL"),
        "SliceThickness": (5.0,),
        "ReferencedStudySequence": ("item", "item"),
        "ProtocolName": (),
    }


WHOLE = encoded(header(1, 1, PatientName="Doe^Jane", StudyDescription="HEAD"))


@hypothesis_settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cut=st.integers(0, len(WHOLE)), at=st.integers(0, len(WHOLE) - 4), bytes_=st.binary(min_size=1, max_size=4))
def test_damaged_files_are_read_or_refused(tmp_path: Path, cut: int, at: int, bytes_: bytes) -> None:
    damaged = bytearray(WHOLE)
    damaged[at : at + len(bytes_)] = bytes_
    file = tmp_path / "damaged.dcm"
    file.write_bytes(bytes(damaged[:cut]) if at % 2 else bytes(damaged))
    try:
        made = read_header(file)
        facts_of(made)
        values(made, "PatientName")
    except Refusal as refusal:
        assert refusal.reason.code.startswith("input.")


def test_real_odd_files_are_read_or_refused(triage_data: Path) -> None:
    refused = {}
    files = [path for path in sorted((triage_data / "odd").iterdir()) if path.is_file()]
    for path in files:
        try:
            read_facts(path)
        except Refusal as refusal:
            refused[path.name] = refusal.reason.code
    assert refused["ort_2026-05-06-Deeply-Nested-Sequence.dcm"] == "input.malformed"
    assert len(refused) < len(files) / 2
    assert set(refused.values()) <= {
        "input.not_dicom", "input.malformed", "input.truncated", "input.missing_attribute",
    }  # fmt: skip

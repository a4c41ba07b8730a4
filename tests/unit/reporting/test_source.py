"""What results take over of their source, and what is mended on the way."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from functools import cache
from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import Dataset, dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian

from pipelines.findings import ModelIdentity
from reporting import uids
from reporting.build import build
from reporting.source import REQUIRED, ReportCase, body_part, inherit, offset_from_utc
from tests.unit.reporting.cases import EQUIPMENT, Shape, made_case, write_sources
from tests.unit.reporting.conftest import build_once


def header(**values: object) -> Dataset:
    ds = Dataset(made_case().headers[0])
    for keyword, value in values.items():
        setattr(ds, keyword, value)
    return ds


def repaired(ds: Dataset) -> dict[str, str]:
    return {str(reason.facts["keyword"]): reason.code for reason in inherit(ds).repairs}


def test_a_sound_source_needs_no_repair():
    inherited = inherit(header())
    assert inherited.repairs == ()
    assert inherited.attributes.PatientName == "Müller^Jörg"
    assert inherited.attributes.IssuerOfPatientID == "KIS"
    assert inherited.attributes.StudyDescription == "CT Kopf nativ"


@pytest.mark.filterwarnings("ignore:.*:UserWarning:pydicom")
@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("AccessionNumber", "12345678901234567"),
        ("StudyDate", "2026-11-21"),
        ("PatientBirthDate", "19501399"),
        ("StudyTime", "25:00"),
        ("PatientSex", "female"),
        ("PatientID", "4" * 65),
    ],
)
def test_an_invalid_value_is_left_out_and_said(keyword: str, value: str):
    ds = header(**{keyword: value})
    assert repaired(ds) == {keyword: "report.attribute_invalid"}
    assert inherit(ds).attributes[keyword].is_empty


@pytest.mark.parametrize("keyword", REQUIRED)
def test_a_missing_attribute_is_empty_and_said(keyword: str):
    ds = header()
    delattr(ds, keyword)
    assert repaired(ds) == {keyword: "report.attribute_missing"}
    assert inherit(ds).attributes[keyword].is_empty


def test_repairs_name_no_value():
    ds = header()
    ds.add_new("AccessionNumber", "SH", None)
    del ds.StudyID
    assert all("4711" not in reason.text for reason in inherit(ds).repairs)


def test_deidentified_without_a_method_says_so():
    ds = header(PatientIdentityRemoved="YES", DeidentificationMethod="")
    assert "DeidentificationMethod" in repaired(ds)
    assert inherit(ds).attributes.DeidentificationMethod


@pytest.mark.parametrize(
    ("character_set", "name"),
    [
        ("ISO_IR 100", "Müller^Jörg"),
        ("ISO_IR 144", "Люкceмбypг"),
        (("", "ISO 2022 IR 87"), "Yamada^Tarou=山田^太郎=やまだ^たろう"),
        (("", "ISO 2022 IR 149"), "Hong^Gildong=洪^吉洞=홍^길동"),
        ("GB18030", "Wang^XiaoDong=王^小东"),
        ("ISO_IR 192", "Βασίλης^Αθηνά"),
    ],
)
def test_names_survive_the_change_of_character_set(character_set, name, tmp_path):
    """From the bytes of a file, as everything arrives."""
    path = write_sources(made_case(Shape(character_set=character_set, patient_name=name)), tmp_path)[0]
    source = dcmread(path, stop_before_pixels=True)
    attributes = inherit(source).attributes
    attributes.file_meta = FileMetaDataset()
    attributes.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    attributes.SOPClassUID, attributes.SOPInstanceUID = source.SOPClassUID, source.SOPInstanceUID
    buffer = BytesIO()
    attributes.save_as(buffer, enforce_file_format=True)
    assert name.encode() in buffer.getvalue()


def test_sequences_are_copied_without_what_is_private_or_invalid():
    item = Dataset()
    item.PatientID, item.IssuerOfPatientID = "0815", "Haus"
    item.add_new(0x00091001, "LO", "private")
    copied = inherit(header(OtherPatientIDsSequence=[item])).attributes.OtherPatientIDsSequence[0]
    assert (copied.PatientID, copied.IssuerOfPatientID) == ("0815", "Haus")
    assert len(copied) == 2


@pytest.mark.parametrize(
    ("text", "hours"), [("+0100", 1), ("-0330", -3.5), ("+1400", 14), ("0100", None), ("+01:00", None), ("", None)]
)
def test_offset_from_utc(text: str, hours: float | None):
    offset = offset_from_utc(header(TimezoneOffsetFromUTC=text))
    assert (offset.utcoffset(None) if offset else None) == (None if hours is None else timedelta(hours=hours))


def test_times_are_in_the_zone_of_the_source():
    case = made_case()
    for source in case.headers:
        source.TimezoneOffsetFromUTC = "+0100"
    report = dcmread(BytesIO(build(case)[0].content))
    assert (report.ContentDate, report.ContentTime, report.TimezoneOffsetFromUTC) == (
        "20261121", "133456.789000", "+0100",
    )  # fmt: skip
    assert report.ContributingEquipmentSequence[0].ContributionDateTime == "20261121133456.789000+0100"


@pytest.mark.parametrize(("value", "expected"), [("HEAD", "HEAD"), ("", "BRAIN"), (None, "BRAIN")])
def test_body_part(value: str | None, expected: str):
    case = made_case()
    case.headers[0].BodyPartExamined = value
    assert body_part(case) == expected


@given(st.text(), st.text(), st.text(), st.text())
def test_uids_are_valid_and_depend_on_every_part(revision: str, configuration: str, name: str, version: str):
    case = replace(plain(), revision_digest=revision, configuration_hash=configuration)
    case = replace(case, outcome=replace(case.outcome, model=ModelIdentity(name, version, "00")))
    found = {
        uids.object_uid(case, "a"),
        uids.object_uid(case, "b"),
        uids.series_uid(case, "a"),
        uids.object_uid(replace(case, revision_digest=revision + "x"), "a"),
        uids.object_uid(replace(case, configuration_hash=configuration + "x"), "a"),
        uids.object_uid(replace(case, equipment=replace(EQUIPMENT, software_version="9")), "a"),
        uids.device_uid(ModelIdentity(name, version, "00")),
        uids.device_uid(ModelIdentity(name, version + "x", "00")),
    }
    assert len(found) == 8
    assert all(UID(uid).is_valid and len(uid) <= 44 and uid.startswith("2.25.") for uid in found)
    assert uids.object_uid(case, "a") == uids.object_uid(replace(case), "a")


@cache
def plain() -> ReportCase:
    return made_case()


def test_our_results_are_known_again(any_case: ReportCase):
    for built in build_once(any_case):
        dataset = dcmread(BytesIO(built.content), stop_before_pixels=True)
        assert uids.made_by_us(dataset)
        dataset.Manufacturer, dataset.ManufacturerModelName = "Archive", "Archive"
        assert uids.made_by_us(dataset)
    assert not any(uids.made_by_us(source) for source in any_case.headers)


def test_images_of_our_phantom_are_no_results():
    assert not uids.made_by_us(header(ManufacturerModelName=uids.MODEL_NAME))

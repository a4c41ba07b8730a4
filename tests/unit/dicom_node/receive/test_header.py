from __future__ import annotations

import struct
import zlib
from dataclasses import asdict, replace
from pathlib import Path

import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import Dataset, Sequence

from dicom_node.receive import header as module
from dicom_node.receive import part10
from dicom_node.receive.header import HeaderError, is_uid, read_header
from dicom_node.receive.transfer_syntaxes import (
    DEFLATED,
    EXPLICIT_LITTLE_ENDIAN,
    IMPLICIT_LITTLE_ENDIAN,
    TRANSFER_SYNTAXES,
)
from pipelines.reasons import TriageError
from tests.unit.dicom_node.receive.made import HEADER, dataset, encoded

SYNTAXES = (EXPLICIT_LITTLE_ENDIAN, IMPLICIT_LITTLE_ENDIAN, DEFLATED)
each_syntax = pytest.mark.parametrize("syntax", SYNTAXES)


@each_syntax
def test_the_header_is_read(syntax: str) -> None:
    assert read_header(encoded(dataset(), syntax), syntax) == HEADER


@each_syntax
def test_nested_content_of_undefined_length_is_passed_over(syntax: str) -> None:
    made = dataset()
    item = Dataset()
    item.StudyInstanceUID = "9.9"
    item.ReferencedSeriesSequence = Sequence([Dataset(), Dataset()])
    item["ReferencedSeriesSequence"].is_undefined_length = True
    made.ReferencedStudySequence = Sequence([item, item])
    made["ReferencedStudySequence"].is_undefined_length = True
    for one in made.ReferencedStudySequence:
        one.is_undefined_length_sequence_item = True
    assert read_header(encoded(made, syntax), syntax) == HEADER


def test_an_unknown_element_of_undefined_length_holds_implicit_content() -> None:
    inside = struct.pack("<HHI", 0x0009, 0x1001, 4) + b"\xff\xff\xff\xff"
    unknown = (
        struct.pack("<HH2sHI", 0x0009, 0x1010, b"UN", 0, 0xFFFFFFFF)
        + struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)
        + inside
        + struct.pack("<HHI", 0xFFFE, 0xE00D, 0)
        + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
    )
    content = encoded(dataset(), EXPLICIT_LITTLE_ENDIAN)
    at = content.index(b"\x10\x00\x10\x00PN")
    assert read_header(content[:at] + unknown + content[at:], EXPLICIT_LITTLE_ENDIAN) == HEADER


def test_elements_out_of_order_are_found() -> None:
    uids = Dataset()
    uids.StudyInstanceUID, uids.SeriesInstanceUID = HEADER.study_instance_uid, HEADER.series_instance_uid
    rest = dataset()
    del rest.StudyInstanceUID, rest.SeriesInstanceUID
    rest.Rows = 4
    content = encoded(rest, EXPLICIT_LITTLE_ENDIAN) + encoded(uids, EXPLICIT_LITTLE_ENDIAN)
    assert read_header(content, EXPLICIT_LITTLE_ENDIAN) == HEADER


@pytest.mark.parametrize("keyword", ["SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"])
@pytest.mark.parametrize(
    ("value", "word"), [(None, "missing"), ("", "missing"), ("../1", "invalid"), ("1" * 65, "invalid")]
)
def test_missing_and_invalid_uids_are_named(keyword: str, value: str | None, word: str) -> None:
    made = dataset()
    delattr(made, keyword)
    if value is not None:
        made.add_new(keyword, "LO", value)
    with pytest.raises(HeaderError) as caught:
        read_header(encoded(made, IMPLICIT_LITTLE_ENDIAN), IMPLICIT_LITTLE_ENDIAN)
    assert caught.value.reason.facts["detail"] == f"{keyword} is {word}"


def test_texts_that_are_not_there_are_empty() -> None:
    made = dataset()
    del made.PatientName, made.AccessionNumber, made.SeriesDescription
    read = read_header(encoded(made, EXPLICIT_LITTLE_ENDIAN), EXPLICIT_LITTLE_ENDIAN)
    assert read == replace(HEADER, patient_name="", accession_number="", series_description="")


def test_texts_are_decoded_with_the_character_set_and_stay_one_line() -> None:
    made = dataset()
    made.SpecificCharacterSet = "ISO_IR 192"
    made.PatientName = "Müller^Jürgen"
    made.StudyDescription = "KOPF\r\nnativ"
    read = read_header(encoded(made, EXPLICIT_LITTLE_ENDIAN), EXPLICIT_LITTLE_ENDIAN)
    assert (read.patient_name, read.study_description) == ("Müller^Jürgen", "KOPFnativ")


def test_a_deflated_bomb_is_inflated_no_further_than_needed() -> None:
    deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    bomb = deflater.compress(bytes(64 * 2**20)) + deflater.flush()
    with pytest.raises(HeaderError):
        read_header(bomb, DEFLATED)


def test_the_number_of_elements_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAXIMUM_ELEMENTS", 100)
    endless = struct.pack("<HHI", 0x0008, 0x0001, 0) * 101
    with pytest.raises(HeaderError, match="too many elements"):
        read_header(endless, IMPLICIT_LITTLE_ENDIAN)


def test_depth_costs_no_stack() -> None:
    opened = struct.pack("<HHI", 0x0008, 0x1115, 0xFFFFFFFF) + struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)
    with pytest.raises(HeaderError, match="cut short"):
        read_header(opened * 50_000, IMPLICIT_LITTLE_ENDIAN)


@given(st.binary(max_size=400), st.sampled_from(SYNTAXES))
def test_any_bytes_are_read_or_refused(content: bytes, syntax: str) -> None:
    try:
        header = read_header(content, syntax)
    except HeaderError:
        return
    assert is_uid(header.sop_instance_uid)


@given(st.data(), st.sampled_from(SYNTAXES[:2]))
def test_damaged_data_sets_are_read_or_refused(data: st.DataObject, syntax: str) -> None:
    content = bytearray(encoded(dataset(), syntax))
    for at in data.draw(st.lists(st.integers(0, len(content) - 1), max_size=6)):
        content[at] = data.draw(st.integers(0, 255))
    try:
        header = read_header(bytes(content[: data.draw(st.integers(0, len(content)))]), syntax)
    except HeaderError as error:
        assert "Made" not in str(error)  # no value of the data set
        return
    assert all(is_uid(value) for name, value in asdict(header).items() if name.endswith("_uid"))


@given(st.integers(0, 2**32 - 1))
def test_a_length_beyond_the_end_is_refused(length: int) -> None:
    content = struct.pack("<HHI", 0x0008, 0x0005, length) + b"ISO_IR 100"
    with pytest.raises(HeaderError):
        read_header(content, IMPLICIT_LITTLE_ENDIAN)


def test_odd_files_are_read_as_pydicom_reads_them_or_refused(triage_data: Path) -> None:
    """Where both read a file they agree; where this refuses, pydicom finds an identifier missing or invalid too."""
    compared = 0
    for path in sorted((triage_data / "odd").glob("*.dcm")):
        content = path.read_bytes()
        try:
            opened = part10.open_file(content)
        except TriageError:
            continue
        syntax = opened.announced.transfer_syntax_uid
        if syntax not in TRANSFER_SYNTAXES:
            continue
        expected = _uids_by_pydicom(path)
        try:
            read = read_header(content[opened.data_set_offset :], syntax)
        except HeaderError:
            assert expected is None or not all(is_uid(value) for value in expected), path.name
            continue
        uids = (read.sop_class_uid, read.sop_instance_uid, read.study_instance_uid, read.series_instance_uid)
        assert expected in (None, uids), path.name
        compared += expected is not None
    assert compared > 50


def _uids_by_pydicom(path: Path) -> tuple[str, ...] | None:
    try:
        whole = pydicom.dcmread(path, force=True, stop_before_pixels=True)
    except RecursionError:  # what nested content can do to a reader that descends into it
        return None
    keywords = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")
    return tuple(str(whole.get(keyword, "")) for keyword in keywords)

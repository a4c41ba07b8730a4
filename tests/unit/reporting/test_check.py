"""The last look before sending finds what is broken on purpose."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from functools import cache

import pytest
from pydicom import Dataset
from pydicom.sequence import Sequence

from reporting.catalogue import narratives, objects
from reporting.check.check import check, faults
from reporting.reasons import ReportError
from reporting.source import ReportCase
from tests.unit.reporting.cases import made_case

SEG, SR, KOS, SC = "segmentation", "measurement_report", "key_object_selection", "summary_image"


@cache
def sound() -> tuple[ReportCase, dict[str, tuple[Dataset, ...]]]:
    case = made_case(findings=2)
    narrative = narratives()["en"]
    return case, {kind: made.build(case, narrative) for kind, made in objects().items()}


def item(dataset: Dataset, code: str) -> Dataset:
    """The first content item of this name, at any depth."""
    for child in dataset.get("ContentSequence") or ():
        names = child.get("ConceptNameCodeSequence")
        if names and names[0].CodeValue == code:
            return child
        if "ContentSequence" in child:
            try:
                return item(child, code)
            except LookupError:
                continue
    raise LookupError(code)


def group(dataset: Dataset, number: int) -> Dataset:
    return item(dataset, "126010").ContentSequence[number]


def remove(dataset: Dataset, code: str) -> None:
    dataset.ContentSequence = Sequence(
        child for child in dataset.ContentSequence if child.ConceptNameCodeSequence[0].CodeValue != code
    )


def swap(dataset: Dataset, first: int, second: int) -> None:
    items = list(dataset.ContentSequence)
    items[first], items[second] = items[second], items[first]
    dataset.ContentSequence = Sequence(items)


def frame(dataset: Dataset) -> Dataset:
    return dataset.PerFrameFunctionalGroupsSequence[0]


MUTATIONS: list[tuple[str, str, Callable[[Dataset], object]]] = [
    (SEG, "PatientName is not the source's", lambda d: setattr(d, "PatientName", "Other^Name")),
    (SR, "StudyInstanceUID is not the source's", lambda d: setattr(d, "StudyInstanceUID", "2.25.1")),
    (SR, "PatientID is missing", lambda d: d.__delitem__("PatientID")),
    (SR, "SeriesDescription is empty", lambda d: setattr(d, "SeriesDescription", "")),
    (SR, "PreliminaryFlag is not PRELIMINARY", lambda d: setattr(d, "PreliminaryFlag", "FINAL")),
    (SR, "AccessionNumber has a value that does not fit SH", lambda d: setattr(d, "AccessionNumber", "1" * 17)),
    (SC, "ContentDate has a value that does not fit DA", lambda d: setattr(d, "ContentDate", "2026-11-21")),
    (SC, "BurnedInAnnotation is not NO", lambda d: setattr(d, "BurnedInAnnotation", "YES")),
    (SC, "SpecificCharacterSet is not ISO_IR 192", lambda d: setattr(d, "SpecificCharacterSet", "ISO_IR 100")),
    (SC, "the transfer syntax", lambda d: setattr(d.file_meta, "TransferSyntaxUID", "1.2.840.10008.1.2")),
    (SC, "ContributingEquipmentSequence is missing", lambda d: d.__delitem__("ContributingEquipmentSequence")),
    (KOS, "TID 2010, row 8", lambda d: d.ContentSequence[-1].update(
        {"ConceptNameCodeSequence": Sequence([deepcopy(d.ConceptNameCodeSequence[0])])})),
    (KOS, "the title", lambda d: setattr(d.ConceptNameCodeSequence[0], "CodeValue", "113001")),
    (KOS, "TID 2010 references no image", lambda d: setattr(d, "ContentSequence", Sequence(d.ContentSequence[:-2]))),
    (KOS, "wrong meaning", lambda d: setattr(d.ConceptNameCodeSequence[0], "CodeMeaning", "Of No Interest")),
    (SR, "the root is not of TID 1500", lambda d: setattr(
        d.ContentTemplateSequence[0], "TemplateIdentifier", "2000")),
    (SR, "TID 1500 lacks 121049", lambda d: remove(d, "121049")),
    (SR, "TID 1500 lacks 121058", lambda d: remove(d, "121058")),
    (SR, "TID 1500 lacks 126010", lambda d: remove(d, "126010")),
    (SR, "out of order", lambda d: swap(d, 0, 7)),
    (SR, "TID 1411 lacks 111003", lambda d: remove(group(d, 1), "111003")),
    (SR, "TID 1411 lacks 112040", lambda d: remove(group(d, 1), "112040")),
    (SR, "TID 1501 lacks 121071", lambda d: remove(group(d, 0), "121071")),
    (SR, "TID 1411 needs one segment", lambda d: remove(group(d, 1), "121233")),
    (SR, "the rows of TID 1411 are out of order", lambda d: swap(group(d, 1), 1, 3)),
    (SR, "is not allowed", lambda d: setattr(item(d, "118565006"), "RelationshipType", "SELECTED FROM")),
    (SR, "has no value", lambda d: setattr(item(d, "121073"), "TextValue", "")),
    (SR, "has no unit", lambda d: item(d, "118565006").MeasuredValueSequence[0].__delitem__(
        "MeasurementUnitsCodeSequence")),
    (SR, "wrong meaning", lambda d: setattr(
        item(d, "1386000").ConceptCodeSequence[0], "CodeMeaning", "Absent")),
    (SR, "lacks value, scheme or meaning", lambda d: setattr(
        item(d, "118565006").ConceptNameCodeSequence[0], "CodeMeaning", "")),
    (SR, "not tracked as its segment is", lambda d: setattr(item(group(d, 1), "112039"), "TextValue", "other")),
    (SR, "neither source nor result", lambda d: setattr(
        item(d, "121233").ReferencedSOPSequence[0], "ReferencedSOPInstanceUID", "2.25.99")),
    (SR, "does not list", lambda d: d.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence.pop()),
    (SR, "evidence is of another study", lambda d: setattr(
        d.CurrentRequestedProcedureEvidenceSequence[0], "StudyInstanceUID", "2.25.7")),
    (SR, "its SOP class is none", lambda d: setattr(d, "SOPClassUID", "1.2.840.10008.5.1.4.1.1.88.11")),
    (SEG, "FrameOfReferenceUID is not the source's", lambda d: setattr(d, "FrameOfReferenceUID", "2.25.5")),
    (SEG, "segments are not numbered", lambda d: setattr(d.SegmentSequence[1], "SegmentNumber", 3)),
    (SEG, "a segment's TrackingUID", lambda d: setattr(d.SegmentSequence[0], "TrackingUID", "2.25.3")),
    (SEG, "NumberOfFrames is not", lambda d: setattr(d, "NumberOfFrames", 1)),
    (SEG, "PixelData is not as long", lambda d: setattr(d, "PixelData", d.PixelData[:-2])),
    (SEG, "does not lie on the plane", lambda d: setattr(
        frame(d).PlanePositionSequence[0], "ImagePositionPatient", [0, 0, 0])),
    (SEG, "does not lie on the plane", lambda d: setattr(
        d.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0], "PixelSpacing", [1, 1])),
    (SEG, "SOPInstanceUID", lambda d: setattr(d, "SOPInstanceUID", "2.25.01")),
    (SEG, "SeriesInstanceUID is not its own", lambda d: setattr(
        d, "SeriesInstanceUID", sound()[0].headers[0].SeriesInstanceUID)),
]  # fmt: skip


def test_what_is_built_has_no_fault():
    assert list(faults(*sound())) == []


@pytest.mark.filterwarnings("ignore:.*:UserWarning:pydicom")  # pydicom, too, remarks on what is broken here
@pytest.mark.parametrize(("kind", "detail", "mutate"), MUTATIONS)
def test_what_is_broken_is_not_sent(kind: str, detail: str, mutate: Callable[[Dataset], object]):
    case, datasets = sound()
    broken = datasets | {kind: deepcopy(datasets[kind])}
    mutate(broken[kind][0])
    found = [message for of_kind, message in faults(case, broken) if of_kind == kind]
    assert any(detail in message for message in found), found
    with pytest.raises(ReportError) as caught:
        check(case, broken)
    assert caught.value.reason.code == "report.not_fit_to_send"


def test_private_codes_must_be_declared():
    case, datasets = sound()
    report = deepcopy(datasets[SR][0])
    code = item(report, "121071").ConceptCodeSequence[0]
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "EPIDURAL", "99TRIAGE", "Epidural hemorrhage"
    details = [detail for _, detail in faults(case, datasets | {SR: (report,)})]
    assert "private codes are used whose scheme is not identified" in details

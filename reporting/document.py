"""What every object made has in common: whose study it belongs to, who made it, when, and in which series."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any, Final

import highdicom as hd
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian

from pipelines import codes
from pipelines.codes import PRIVATE_SCHEME, Code
from reporting import uids
from reporting.narrative.narrative import Narrative
from reporting.source import REQUIRED, ReportCase, inherit, offset_from_utc

ISO_IR_192: Final = "ISO_IR 192"
LONGEST_LO = 64
SCHEME_VERSIONS: Mapping[str, str] = {"BI": "4.0"}
"""Of schemes whose codes mean nothing without their version (PS3.16, CID 6027)."""
IDENTITY = (
    "SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "Modality", "Rows", "Columns",
)  # fmt: skip


def concept(code: Code) -> hd.sr.CodedConcept:
    """A code as highdicom wants it."""
    return hd.sr.CodedConcept(code.value, code.scheme, code.meaning, SCHEME_VERSIONS.get(code.scheme))


def code_item(code: Code) -> Dataset:
    """A code as the item of a code sequence (PS3.3, 8.8)."""
    item = Dataset()
    item.CodeValue = code.value
    item.CodingSchemeDesignator = code.scheme
    if code.scheme in SCHEME_VERSIONS:
        item.CodingSchemeVersion = SCHEME_VERSIONS[code.scheme]
    item.CodeMeaning = code.meaning
    return item


def identity(case: ReportCase, kind: str, series_number: int) -> dict[str, Any]:
    """The arguments every constructor of highdicom takes: the UIDs and the equipment of the new object."""
    return {
        "series_instance_uid": uids.series_uid(case, kind),
        "series_number": series_number,
        "sop_instance_uid": uids.object_uid(case, kind),
        "instance_number": 1,
        "manufacturer": case.equipment.manufacturer,
    }


def stand_in(case: ReportCase, slice_index: int) -> Dataset:
    """What highdicom must know of a source image, without the patient, whom it would name in its warnings.

    Patient and study come into the object by `finish`.
    """
    header = case.headers[slice_index]
    source = Dataset()
    for keyword in REQUIRED:
        setattr(source, keyword, None)
    for keyword in IDENTITY:
        setattr(source, keyword, header.get(keyword))
    return source


def new_document(
    case: ReportCase, root: Dataset, *, kind: str, series_number: int, sop_class_uid: UID, modality: str
) -> Dataset:
    """A structured document with the content tree `root` (PS3.3, C.17.2 and C.17.3).

    highdicom's own document classes copy the whole tree several times over, which takes longer than making it.
    """
    dataset = Dataset()
    dataset.update(root)
    dataset.SOPClassUID = sop_class_uid
    dataset.SOPInstanceUID = UID(uids.object_uid(case, kind))
    dataset.SeriesInstanceUID = UID(uids.series_uid(case, kind))
    dataset.SeriesNumber = series_number
    dataset.InstanceNumber = 1
    dataset.Modality = modality
    dataset.ReferencedPerformedProcedureStepSequence = []
    return dataset


def finish(dataset: Dataset, case: ReportCase, what: str, narrative: Narrative) -> Dataset:
    """Give `dataset` everything the kinds have in common, in place; also replaces what a library took from the clock.

    Times are those of `made_at`, in the source's time zone where it tells one, so that no date of the object is in
    another zone than its study's (PS3.3, C.12.1.1.8). The contribution's date and time carries its own offset.
    """
    header, equipment, model = case.headers[0], case.equipment, case.model
    dataset.SpecificCharacterSet = ISO_IR_192
    dataset.update(inherit(header).attributes)
    zone = offset_from_utc(header)
    made_at = case.made_at.astimezone(zone) if zone else case.made_at
    if zone:
        dataset.TimezoneOffsetFromUTC = f"{made_at:%z}"
    for date in ("InstanceCreation", "Content", "Series"):
        setattr(dataset, f"{date}Date", f"{made_at:%Y%m%d}")
        setattr(dataset, f"{date}Time", f"{made_at:%H%M%S.%f}")
    dataset.SeriesDescription = narrative.series_description.format(what=what, model=f"{model.name} {model.version}")[
        :LONGEST_LO
    ]
    dataset.Manufacturer = equipment.manufacturer
    dataset.ManufacturerModelName = equipment.model_name
    dataset.DeviceSerialNumber = equipment.device_serial_number
    dataset.SoftwareVersions = [equipment.software_version, f"{model.name} {model.version}"[:LONGEST_LO]]
    if equipment.institution_name:
        dataset.InstitutionName = equipment.institution_name
    dataset.ContributingEquipmentSequence = [_contribution(case, made_at)]
    if any(item.CodingSchemeDesignator == PRIVATE_SCHEME for item in coded_items(dataset)):
        dataset.CodingSchemeIdentificationSequence = [_private_scheme(equipment.manufacturer)]
    dataset.file_meta = _file_meta(dataset)
    return dataset


def evidence(
    case: ReportCase, others: Iterable[tuple[str, str, str]] = (), only: frozenset[str] | None = None
) -> list[Dataset]:
    """The item of an evidence sequence: the images read (or `only` those), then `others` (class, instance, series UID).

    All of them belong to the one study (PS3.3, C.17.2.1).
    """
    images = (
        (h.SOPClassUID, h.SOPInstanceUID, h.SeriesInstanceUID)
        for h in case.headers
        if only is None or str(h.SOPInstanceUID) in only
    )
    by_series: dict[str, dict[str, str]] = {}
    for sop_class_uid, sop_instance_uid, series_instance_uid in (*images, *others):
        by_series.setdefault(str(series_instance_uid), {})[str(sop_instance_uid)] = str(sop_class_uid)
    study = Dataset()
    study.ReferencedSeriesSequence = []
    for series_uid, instances in by_series.items():
        series = Dataset()
        series.ReferencedSOPSequence = [
            _reference(class_uid, instance_uid) for instance_uid, class_uid in instances.items()
        ]
        series.SeriesInstanceUID = UID(series_uid)
        study.ReferencedSeriesSequence.append(series)
    study.StudyInstanceUID = str(case.headers[0].StudyInstanceUID)
    return [study]


def device_observer(case: ReportCase) -> hd.sr.ObserverContext:
    """This node as the observer of what a document says (TID 1002, 1004)."""
    return hd.sr.ObserverContext(
        observer_type=hd.sr.CodedConcept("121007", "DCM", "Device"),
        observer_identifying_attributes=hd.sr.DeviceObserverIdentifyingAttributes(
            uid=uids.device_uid(case.model),
            name=case.model.name,
            manufacturer_name=case.equipment.manufacturer,
            model_name=case.equipment.model_name,
            serial_number=case.equipment.device_serial_number,
        ),
    )


def coded_items(dataset: Dataset) -> Iterator[Dataset]:
    """Every item of a code sequence in `dataset`, at any depth."""
    for element in dataset:
        if element.VR == "SQ":
            for item in element.value:
                if "CodingSchemeDesignator" in item and "CodeMeaning" in item:
                    yield item
                yield from coded_items(item)


def _reference(sop_class_uid: str, sop_instance_uid: str) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = UID(sop_class_uid)
    item.ReferencedSOPInstanceUID = UID(sop_instance_uid)
    return item


def _contribution(case: ReportCase, made_at: datetime) -> Dataset:
    """The algorithm as contributing equipment (IHE AI Results, 6.5.3.1)."""
    item = Dataset()
    item.PurposeOfReferenceCodeSequence = [code_item(codes.PROCESSING_EQUIPMENT)]
    item.Manufacturer = case.equipment.manufacturer
    item.ManufacturerModelName = uids.MODEL_NAME
    item.DeviceSerialNumber = case.equipment.device_serial_number
    item.SoftwareVersions = [case.equipment.software_version, f"{case.model.name} {case.model.version}"[:LONGEST_LO]]
    item.DeviceUID = uids.device_uid(case.model)
    item.ContributionDateTime = f"{made_at:%Y%m%d%H%M%S.%f%z}"
    item.ContributionDescription = f"{case.pipeline}, weights SHA-256 {case.model.sha256}"
    if case.equipment.institution_name:
        item.InstitutionName = case.equipment.institution_name
    return item


def _private_scheme(organization: str) -> Dataset:
    item = Dataset()
    item.CodingSchemeDesignator = PRIVATE_SCHEME
    item.CodingSchemeUID = uids.PRIVATE_SCHEME_UID
    item.CodingSchemeName = "Codes of triage-node"
    item.CodingSchemeResponsibleOrganization = organization
    return item


def _file_meta(dataset: Dataset) -> FileMetaDataset:
    meta = FileMetaDataset()
    meta.FileMetaInformationVersion = b"\x00\x01"
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = UID(uids.IMPLEMENTATION_CLASS_UID)
    meta.ImplementationVersionName = uids.IMPLEMENTATION_VERSION_NAME
    return meta

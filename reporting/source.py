"""What a report is made from: the source's attributes and the reader's outcome, as one frozen case."""

from __future__ import annotations

import re
from collections.abc import Iterable
from copy import deepcopy
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import DataElement, Dataset, config
from pydicom.datadict import dictionary_VM
from pydicom.multival import MultiValue
from pydicom.valuerep import IS, DSdecimal, DSfloat, PersonName, validate_value

from pipelines import codes
from pipelines.codes import Code
from pipelines.findings import Finding, ModelIdentity, Outcome, Region
from pipelines.geometry import Plane
from pipelines.mammogram import MammogramStudy
from pipelines.reasons import Reason
from reporting import reasons as _rows  # noqa: F401 -- enters the reports' rows into the table

REQUIRED = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex",
    "StudyDate", "StudyTime", "ReferringPhysicianName", "StudyID", "AccessionNumber",
)  # fmt: skip
"""Attributes of Patient and General Study that every object has, empty if need be (type 2; PS3.3, C.7.1.1, C.7.2.1)."""
OPTIONAL = (
    "IssuerOfPatientID", "IssuerOfPatientIDQualifiersSequence", "TypeOfPatientID", "OtherPatientIDs",
    "OtherPatientIDsSequence", "OtherPatientNames", "PatientBirthTime", "EthnicGroup", "PatientComments",
    "PatientSpeciesDescription", "PatientIdentityRemoved", "DeidentificationMethod",
    "DeidentificationMethodCodeSequence", "PatientAge", "PatientSize", "PatientWeight",
    "StudyDescription", "IssuerOfAccessionNumberSequence", "ProcedureCodeSequence", "PhysiciansOfRecord",
    "NameOfPhysiciansReadingStudy", "AdmissionID", "IssuerOfAdmissionIDSequence",
)  # fmt: skip
"""Attributes of Patient, General Study and Patient Study that are copied where the source has them."""
ENUMERATED = {"PatientSex": ("M", "F", "O"), "PatientIdentityRemoved": ("YES", "NO")}
BODY_PARTS = {codes.BRAIN: "BRAIN", codes.HEAD: "HEAD", codes.LUNG: "CHEST", codes.BREAST: "BREAST"}
FROM_ABOVE = frozenset({"CC", "XCCL", "XCCM", "FB"})
"""Projections along the body's axis; the others come from the side."""
METHOD_NOT_STATED = "not stated by the source"
UTC_OFFSET = re.compile(r"([+-])(0\d|1[0-4])([0-5]\d)")
# What pydicom raises on values that do not fit their representation, or that no known character set decodes.
UNREADABLE = (ValueError, TypeError, AttributeError, LookupError, OverflowError, NotImplementedError)


@dataclass(frozen=True, slots=True)
class Equipment:
    """Who made the objects: this installation of the node (PS3.3, C.7.5.1 and C.7.5.2)."""

    manufacturer: str
    model_name: str
    software_version: str
    device_serial_number: str
    institution_name: str = ""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class ReportCase:
    """One read series (or study) and its outcome.

    `headers[k]`, `planes[k]`, `frames[k]` and `pixels[k]` belong to slice k of the volume that `outcome`'s regions
    refer to; headers have no pixel data. `revision_digest` names the fixed list of instances that was read,
    `configuration_hash` the settings: with the model and the kind of object they determine every UID, so the same work
    done twice gives the same bytes. `made_at` (aware, UTC) is when the last of the instances came, for the same
    reason. `window` is centre and width for pictures. `language` is that of sentences and pictures (RFC 5646).

    Of projections there is a `study` and no volume: `headers[k]` is that of its view k, `frames[k]` is 1, `planes` and
    `pixels` are empty.
    """

    headers: tuple[Dataset, ...]
    planes: tuple[Plane, ...]
    frames: tuple[int, ...]
    pixels: NDArray[np.int16] | NDArray[np.float32]
    outcome: Outcome
    pipeline: str
    looked_for: Code
    site: Code
    window: tuple[float, float]
    revision_digest: str
    configuration_hash: str
    made_at: datetime
    equipment: Equipment
    language: str = "en"
    study: MammogramStudy | None = None

    @property
    def model(self) -> ModelIdentity:
        """The model that gave the answer; only what was read has one, and only that is reported."""
        if self.outcome.model is None:
            raise ValueError("an outcome without a model cannot be reported")
        return self.outcome.model

    @property
    def frame_of_reference_uid(self) -> str | None:
        return self.headers[0].get("FrameOfReferenceUID") or None

    @property
    def segmented(self) -> tuple[Finding, ...]:
        """The findings that get a segment each, in the order of their segment numbers.

        None without a frame of reference (a segmentation must have one: PS3.3, A.51.3), and none where the slices
        come from several multi-frame instances.
        """
        if self.frame_of_reference_uid is None:
            return ()
        if self.multi_frame and len({str(header.SOPInstanceUID) for header in self.headers}) > 1:
            return ()
        return tuple(f for f in self.outcome.findings if isinstance(f.region, Region) and f.region.slice_index)

    @property
    def multi_frame(self) -> bool:
        """Whether the slices are frames of multi-frame instances."""
        return self.study is None and "NumberOfFrames" in self.headers[0]

    @property
    def refused_headers(self) -> tuple[Dataset, ...]:
        """The images of a study of projections that were not read, as far as they can be referred to."""
        refused = () if self.study is None else self.study.refused
        return tuple(one.header for one in refused if one.header is not None)

    @property
    def suggested(self) -> Code | None:
        """The category that is suggested for the study, or None.

        A clean mammography study has BI-RADS 1 if all of it was read, and each breast on a view from above and one from
        the side: of less, nobody should suggest that it is negative.
        """
        clean = self.outcome.status == "clean" and self.study is not None and _whole(self.study)
        return self.outcome.lung_rads or self.outcome.bi_rads or (codes.BI_RADS_1 if clean else None)

    def key_slices(self) -> tuple[int, ...]:
        """The slices that show the findings best, in the findings' order, each once."""
        at = {
            (str(h.SOPInstanceUID), frame): k
            for k, (h, frame) in enumerate(zip(self.headers, self.frames, strict=True))
        }
        keys = (at.get((f.key_instance_uid, f.key_frame)) for f in self.outcome.findings)
        return tuple(dict.fromkeys(k for k in keys if k is not None))


def _whole(study: MammogramStudy) -> bool:
    """Whether nothing was refused, and each breast that was read is seen from above and from the side."""
    seen = {
        laterality: {view.projection in FROM_ABOVE for view in study.views if view.laterality == laterality}
        for laterality in {view.laterality for view in study.views}
    }
    return not study.refused and all(projections == {True, False} for projections in seen.values())


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Inherited:
    """What results take over of their source, mended, in ISO_IR 192; `repairs` says what had to be left out."""

    attributes: Dataset
    repairs: tuple[Reason, ...]


def inherit(source: Dataset) -> Inherited:
    """Patient and study of `source`, for objects of the same study.

    Text is decoded with the source's character set. A value that does not fit its representation is left out rather
    than guessed at: half an accession number may be that of somebody else.
    """
    attributes = Dataset()
    attributes.SpecificCharacterSet = "ISO_IR 192"
    attributes.StudyInstanceUID = str(source.StudyInstanceUID)
    repairs: list[Reason] = []
    for keyword in (*REQUIRED, *OPTIONAL):
        if keyword not in source:
            if keyword in REQUIRED:
                repairs.append(Reason("report.attribute_missing", {"keyword": keyword}))
                setattr(attributes, keyword, None)
            continue
        element = _copied(source, keyword)
        if element is not None:
            attributes.add(element)
            continue
        repairs.append(Reason("report.attribute_invalid", {"keyword": keyword}))
        if keyword in REQUIRED:
            setattr(attributes, keyword, None)
    if attributes.get("PatientIdentityRemoved") == "YES" and not (
        attributes.get("DeidentificationMethod") or attributes.get("DeidentificationMethodCodeSequence")
    ):
        # One of them must tell (type 1C; PS3.3, C.7.1.1).
        attributes.DeidentificationMethod = METHOD_NOT_STATED
        repairs.append(Reason("report.attribute_missing", {"keyword": "DeidentificationMethod"}))
    return Inherited(attributes, tuple(repairs))


def body_part(case: ReportCase) -> str:
    """Body Part Examined (PS3.16, Annex L): the source's if it is a valid code string, else that of the site."""
    return str(valid(case.headers[0], "BodyPartExamined") or BODY_PARTS.get(case.site, ""))


def valid(source: Dataset, keyword: str) -> Any:
    """The value of an attribute where the source has it and it fits its representation, else None."""
    element = _copied(source, keyword) if keyword in source else None
    return None if element is None or element.is_empty else element.value


def offset_from_utc(source: Dataset) -> timezone | None:
    """The source's Timezone Offset From UTC (0008,0201), or None where it has none that is valid."""
    found = UTC_OFFSET.fullmatch(str(source.get("TimezoneOffsetFromUTC") or "").strip())
    if found is None:
        return None
    sign, hours, minutes = found.groups()
    offset = timedelta(hours=int(hours), minutes=int(minutes))
    return timezone(-offset if sign == "-" else offset)


def _copied(source: Dataset, keyword: str) -> DataElement | None:
    """A copy of an element that is valid and no longer bound to the source's character set, or None."""
    try:
        element = source[keyword]
        if element.VR == "SQ":
            return DataElement(element.tag, "SQ", [_copied_item(item) for item in element.value])
        values = [_unbound(value) for value in _each(element.value)]
        for value in values:
            validate_value(element.VR, value, config.RAISE)
            if value and value not in ENUMERATED.get(keyword, (value,)):
                return None
        if len(values) > 1 and dictionary_VM(element.tag) == "1":
            return None
        return DataElement(element.tag, element.VR, values[0] if len(values) == 1 else values or None)
    except UNREADABLE:
        return None


def _copied_item(item: Dataset) -> Dataset:
    """A copy of a sequence's item with its valid standard elements."""
    copy = Dataset()
    for keyword in item.dir():
        element = _copied(item, keyword)
        if element is not None:
            copy.add(element)
    return copy


def _each(value: object) -> Iterable[object]:
    if value is None:
        return ()
    return value if isinstance(value, (MultiValue, list, tuple)) else (value,)


def _unbound(value: object) -> object:
    """The value as text where it is text: names without their encoded bytes, decimal strings as they were written."""
    if isinstance(value, PersonName | str | DSfloat | DSdecimal | IS):
        return str(value)
    return deepcopy(value)

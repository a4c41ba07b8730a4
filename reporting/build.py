"""A case to everything that is sent for it: checked DICOM files, the same bytes whenever they are made again."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from io import BytesIO

import highdicom as hd
import numpy as np
from pydicom import Dataset, dcmwrite

from pipelines.reasons import Reason
from reporting.catalogue import ResultObject, narratives, objects
from reporting.check.check import check
from reporting.narrative.narrative import Narrative
from reporting.reasons import ReportError
from reporting.source import ReportCase
from reporting.uids import IMPLEMENTATION_CLASS_UID

# What highdicom and pydicom raise on a case they cannot express.
LIBRARY_ERRORS = (ValueError, TypeError, AttributeError, LookupError, OverflowError, RuntimeError)


@dataclass(frozen=True, slots=True)
class BuiltObject:
    """One object to send: `content` is its DICOM file (PS3.10, Explicit VR Little Endian), `sha256` that file's."""

    kind: str
    sop_class_uid: str
    sop_instance_uid: str
    series_instance_uid: str
    content: bytes
    sha256: str


def build(case: ReportCase) -> tuple[BuiltObject, ...]:
    """All objects that apply to the case; none for what was not read.

    Raises `ReportError` when an object cannot be made or does not pass the checks: then nothing is sent.
    """
    if case.outcome.status == "not_read":
        return ()
    narrative = narratives()[case.language]
    made = {kind: _made(result_object, case, narrative) for kind, result_object in objects().items()}
    check(case, made)
    return tuple(_encoded(kind, dataset) for kind, datasets in made.items() for dataset in datasets)


def warm() -> None:
    """Load the kinds of object and highdicom's tables of the standard now rather than with the first report (0.6 s)."""
    objects()
    narratives()
    hd.sc.SCImage(
        pixel_array=np.zeros((1, 1), np.uint8),
        photometric_interpretation="MONOCHROME2",
        bits_allocated=8,
        coordinate_system="PATIENT",
        patient_orientation=("L", "P"),
        study_instance_uid=IMPLEMENTATION_CLASS_UID,
        series_instance_uid=IMPLEMENTATION_CLASS_UID,
        series_number=1,
        sop_instance_uid=IMPLEMENTATION_CLASS_UID,
        instance_number=1,
        manufacturer="",
    )


def _made(result_object: ResultObject, case: ReportCase, narrative: Narrative) -> tuple[Dataset, ...]:
    try:
        return result_object.build(case, narrative)
    except LIBRARY_ERRORS as error:
        reason = Reason("report.not_built", {"kind": result_object.kind, "error": type(error).__name__})
        raise ReportError(reason) from error


def _encoded(kind: str, dataset: Dataset) -> BuiltObject:
    buffer = BytesIO()
    dcmwrite(buffer, dataset, enforce_file_format=True)
    content = buffer.getvalue()
    return BuiltObject(
        kind=kind,
        sop_class_uid=str(dataset.SOPClassUID),
        sop_instance_uid=str(dataset.SOPInstanceUID),
        series_instance_uid=str(dataset.SeriesInstanceUID),
        content=content,
        sha256=hashlib.sha256(content).hexdigest(),
    )

"""The UIDs of what is made: the same revision, model, software and configuration always give the same ones.

They hold nothing of the patient and need no registered root (PS3.5, B.2). A changed model, configuration or version of
the software gives new UIDs, because it gives other bytes.
"""

from __future__ import annotations

from pydicom import Dataset
from pydicom.uid import (
    Comprehensive3DSRStorage,
    GrayscaleSoftcopyPresentationStateStorage,
    KeyObjectSelectionDocumentStorage,
    MammographyCADSRStorage,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
)

from pipelines.findings import ModelIdentity
from pipelines.uids import derived_uid
from reporting.source import ReportCase

MODEL_NAME = "triage-node"
"""Manufacturer's Model Name (0008,1090) of every object made: by it, and by its class, a result is known again."""
IMPLEMENTATION_CLASS_UID = derived_uid("implementation")
IMPLEMENTATION_VERSION_NAME = "TRIAGE_NODE"
PRIVATE_SCHEME_UID = derived_uid("coding scheme")
RESULT_CLASSES = frozenset({
    SegmentationStorage,
    Comprehensive3DSRStorage,
    MammographyCADSRStorage,
    KeyObjectSelectionDocumentStorage,
    GrayscaleSoftcopyPresentationStateStorage,
    SecondaryCaptureImageStorage,
})  # fmt: skip


def object_uid(case: ReportCase, kind: str, *part: str) -> str:
    """SOP Instance UID of the object of this kind; `part` tells several of one kind apart."""
    return _uid("object", case, kind, *part)


def series_uid(case: ReportCase, kind: str, *part: str) -> str:
    """Series Instance UID: each kind of object has a series of its own, or several that `part` tells apart."""
    return _uid("series", case, kind, *part)


def dimension_uid(case: ReportCase, kind: str) -> str:
    """Dimension Organization UID of a multi-frame object."""
    return _uid("dimension", case, kind)


def tracking_uid(case: ReportCase) -> str:
    """Tracking UID of the statement on the whole study; findings bring their own."""
    return _uid("tracking", case, case.looked_for.value)


def device_uid(model: ModelIdentity) -> str:
    """Device UID of the algorithm: a new one whenever the model changes (IHE AI Results)."""
    return derived_uid("device", MODEL_NAME, model.name, model.version, model.sha256)


def made_by_us(dataset: Dataset) -> bool:
    """Whether the data set is a result of this software (of any installation), which must never be read.

    Rests on SOP class and equipment (also as contributing equipment), which archives keep when they change UIDs.
    """
    if dataset.get("SOPClassUID") not in RESULT_CLASSES:
        return False
    contributing = dataset.get("ContributingEquipmentSequence") or ()
    return any(item.get("ManufacturerModelName") == MODEL_NAME for item in (dataset, *contributing))


def feature_uid(*tracking_uids: str) -> str:
    """Tracking UID of what is found on several images, by those of what is found on each, in any order."""
    return derived_uid("feature", *sorted(tracking_uids))


def _uid(what: str, case: ReportCase, kind: str, *part: str) -> str:
    model = case.model
    return derived_uid(
        what,
        kind,
        case.pipeline,
        case.revision_digest,
        model.name,
        model.version,
        model.sha256,
        case.equipment.software_version,
        case.configuration_hash,
        case.language,
        *part,
    )

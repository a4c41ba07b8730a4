"""Attributes that each of our IODs must have, and values that fit their representation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal

from pydicom import Dataset, config
from pydicom.multival import MultiValue
from pydicom.uid import (
    UID,
    Comprehensive3DSRStorage,
    ExplicitVRLittleEndian,
    GrayscaleSoftcopyPresentationStateStorage,
    KeyObjectSelectionDocumentStorage,
    MammographyCADSRStorage,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
)
from pydicom.valuerep import validate_value

from reporting.source import REQUIRED

Type = Literal["1", "2"]
"""Data element types of PS3.5, 7.4: 1 has a value, 2 is there but may be empty."""


def _typed(type_1: str, type_2: str = "") -> dict[str, Type]:
    return dict.fromkeys(type_1.split(), "1") | dict.fromkeys(type_2.split(), "2")  # type: ignore[return-value]


COMMON = _typed(
    "SOPClassUID SOPInstanceUID StudyInstanceUID SeriesInstanceUID Modality SpecificCharacterSet ManufacturerModelName "
    "SoftwareVersions DeviceSerialNumber SeriesDescription InstanceCreationDate ContributingEquipmentSequence",
    " ".join(("Manufacturer", "SeriesNumber", "InstanceNumber", *REQUIRED)),
)
DOCUMENT = _typed(
    "ContentDate ContentTime ValueType ConceptNameCodeSequence ContinuityOfContent ContentTemplateSequence "
    "ContentSequence InstanceNumber SeriesNumber CurrentRequestedProcedureEvidenceSequence",
    "ReferencedPerformedProcedureStepSequence",
)
REPORT = DOCUMENT | _typed("CompletionFlag VerificationFlag PreliminaryFlag", "PerformedProcedureCodeSequence")
PIXELS = _typed(
    "SamplesPerPixel PhotometricInterpretation Rows Columns BitsAllocated BitsStored HighBit PixelRepresentation "
    "PixelData"
)
IODS: Mapping[str, Mapping[str, Type]] = {
    # PS3.3, A.51.3
    SegmentationStorage: _typed(
        "FrameOfReferenceUID ImageType ContentDate ContentTime ContentLabel SegmentationType SegmentSequence "
        "NumberOfFrames SharedFunctionalGroupsSequence PerFrameFunctionalGroupsSequence DimensionIndexSequence "
        "DimensionOrganizationSequence LossyImageCompression SeriesNumber InstanceNumber",
        "PositionReferenceIndicator ContentDescription ContentCreatorName",
    )
    | PIXELS,
    # PS3.3, A.35.13.3
    Comprehensive3DSRStorage: REPORT,
    # PS3.3, A.35.5.3
    MammographyCADSRStorage: REPORT,
    # PS3.3, A.33.1.2
    GrayscaleSoftcopyPresentationStateStorage: _typed(
        "ContentLabel PresentationCreationDate PresentationCreationTime ReferencedSeriesSequence "
        "DisplayedAreaSelectionSequence GraphicAnnotationSequence GraphicLayerSequence PresentationLUTShape "
        "InstanceNumber SeriesNumber",
        "ContentDescription ContentCreatorName",
    ),
    # PS3.3, A.35.4.3
    KeyObjectSelectionDocumentStorage: DOCUMENT,
    # PS3.3, A.8.1.3
    SecondaryCaptureImageStorage: _typed("ConversionType BurnedInAnnotation", "PatientOrientation") | PIXELS,
}
PRELIMINARY: Mapping[str, str | int] = {
    "Modality": "SR",
    "CompletionFlag": "COMPLETE",
    "VerificationFlag": "UNVERIFIED",
    "PreliminaryFlag": "PRELIMINARY",
}
ENUMERATED: Mapping[str, Mapping[str, str | int]] = {
    SegmentationStorage: {"Modality": "SEG", "SegmentationType": "BINARY", "BitsAllocated": 1, "BitsStored": 1},
    Comprehensive3DSRStorage: PRELIMINARY,
    MammographyCADSRStorage: PRELIMINARY,
    GrayscaleSoftcopyPresentationStateStorage: {"Modality": "PR"},
    KeyObjectSelectionDocumentStorage: {"Modality": "KO"},
    SecondaryCaptureImageStorage: {"ConversionType": "WSD", "BurnedInAnnotation": "NO"},
}
NOT_TEXT = frozenset({"SQ", "OB", "OW", "UN", "AT", "FL", "FD", "US", "SS", "UL", "SL"})


def attribute_faults(dataset: Dataset) -> Iterator[str]:
    """What is missing, empty, or of the wrong value or form in one object."""
    iod = IODS.get(dataset.get("SOPClassUID", ""))
    if iod is None:
        yield "its SOP class is none of those that are made"
        return
    for keyword, type_ in {**COMMON, **iod}.items():
        if keyword not in dataset:
            yield f"{keyword} is missing"
        elif type_ == "1" and dataset[keyword].is_empty:
            yield f"{keyword} is empty"
    for keyword, value in ENUMERATED[dataset.SOPClassUID].items():
        if dataset.get(keyword) != value:
            yield f"{keyword} is not {value}"
    if dataset.get("SpecificCharacterSet") != "ISO_IR 192":
        yield "SpecificCharacterSet is not ISO_IR 192"
    if dataset.file_meta.get("TransferSyntaxUID") != ExplicitVRLittleEndian:
        yield "the transfer syntax is not Explicit VR Little Endian"
    yield from _value_faults(dataset)


def _value_faults(dataset: Dataset) -> Iterator[str]:
    """Values, at any depth, that do not fit their representation (PS3.5, 6.2)."""
    for element in dataset:
        if element.VR == "SQ":
            for item in element.value:
                yield from _value_faults(item)
        elif element.VR not in NOT_TEXT:
            values = element.value if isinstance(element.value, MultiValue) else [element.value]
            for value in values:
                if not _fits(element.VR, value):
                    yield f"{element.keyword} has a value that does not fit {element.VR}"


def _fits(vr: str, value: object) -> bool:
    if value is None or value == "":
        return True
    if vr == "UI":
        return UID(str(value)).is_valid
    try:
        validate_value(vr, str(value), config.RAISE)
    except ValueError:
        return False
    return True

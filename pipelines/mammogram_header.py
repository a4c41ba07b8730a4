"""What the header of a mammogram says: which breast, how it was looked at, how large a pixel is; and what it is not.

PS3.3, A.26 (Digital Mammography X-Ray Image), C.8.11.7 (mammography), C.7.6.1.1.1 (Patient Orientation).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import isfinite
from typing import cast, get_args

from pydicom import Dataset
from pydicom.uid import (
    UID,
    BreastProjectionXRayImageStorageForPresentation,
    BreastProjectionXRayImageStorageForProcessing,
    BreastTomosynthesisImageStorage,
    DigitalMammographyXRayImageStorageForPresentation,
    DigitalMammographyXRayImageStorageForProcessing,
)

from pipelines import codes
from pipelines.attributes import items, numbers, strings, text
from pipelines.codes import Code
from pipelines.mammogram import Border, Laterality, Projection, Spacing
from pipelines.part10 import PixelData, check_syntax
from pipelines.reasons import Reason, Refusal, refuse

PRESENTED_CLASS = DigitalMammographyXRayImageStorageForPresentation
RAW_CLASS = DigitalMammographyXRayImageStorageForProcessing
TOMOSYNTHESIS = frozenset({
    BreastTomosynthesisImageStorage, BreastProjectionXRayImageStorageForPresentation,
    BreastProjectionXRayImageStorageForProcessing,
})  # fmt: skip
SYNTHETIC = frozenset({"GENERATED_2D", "SYNTHETIC_2D", "TOMO_2D"})
"""Values of Image Type of a picture that was reckoned from a tomosynthesis."""
SPECIAL_IMAGES = {
    "SUBTRACTION": "a contrast image", "RECOMBINED": "a contrast image", "HIGH_ENERGY": "a contrast image",
    "STEREO_SCOUT": "a stereotactic image", "STEREO_PLUS": "a stereotactic image",
    "STEREO_MINUS": "a stereotactic image",
}  # fmt: skip
OTHER_BODY_PARTS = frozenset({
    "CHEST", "THORAX", "LUNG", "ABDOMEN", "PELVIS", "HIP", "HEAD", "SKULL", "NECK", "SPINE", "CSPINE", "TSPINE",
    "LSPINE", "SHOULDER", "ARM", "HAND", "LEG", "KNEE", "FOOT", "EXTREMITY",
})  # fmt: skip
CHEST_CODES = frozenset({"51185008", "T-D3000"})
LARGEST_FIELD_MM = 330.0
"""The largest detector of mammography is 24 by 30 cm; a chest film is larger."""

# Codes of the schemes that came before SNOMED CT (SRT, SNM3, 99SDM), by the concept they stand for (PS3.16, Annex L).
OLD_CODES = {
    "R-10242": codes.CRANIO_CAUDAL, "R-10226": codes.MEDIO_LATERAL_OBLIQUE, "R-10224": codes.MEDIO_LATERAL,
    "R-10228": codes.LATERO_MEDIAL, "R-10230": codes.LATERO_MEDIAL_OBLIQUE, "R-1024A": codes.EXAGGERATED_LATERALLY,
    "R-1024B": codes.EXAGGERATED_MEDIALLY, "R-10244": codes.CAUDO_CRANIAL, "G-8310": codes.SPECIMEN,
    "R-102D6": codes.MAGNIFICATION, "R-102D7": codes.SPOT_COMPRESSION, "R-102D5": codes.IMPLANT_DISPLACED,
    "R-102D2": codes.CLEAVAGE, "R-102D1": codes.AXILLARY_TAIL, "R-102D3": codes.ROLLED_LATERAL,
    "R-102D4": codes.ROLLED_MEDIAL, "R-102CA": codes.ROLLED_INFERIOR, "R-102C9": codes.ROLLED_SUPERIOR,
    "R-102C2": codes.TANGENTIAL, "R-40AB3": codes.NIPPLE_IN_PROFILE, "P2-00161": codes.ANTERIOR_COMPRESSION,
    "R-40ABE": codes.INFRA_MAMMARY_FOLD, "R-40AB2": codes.AXILLARY_TISSUE, "T-04020": codes.RIGHT_BREAST,
    "T-04030": codes.LEFT_BREAST,
}  # fmt: skip
OLD_SCHEMES = frozenset({"SRT", "SNM3", "99SDM"})
PROJECTIONS: dict[Code, Projection] = {
    codes.CRANIO_CAUDAL: "CC", codes.MEDIO_LATERAL_OBLIQUE: "MLO", codes.MEDIO_LATERAL: "ML",
    codes.LATERO_MEDIAL: "LM", codes.LATERO_MEDIAL_OBLIQUE: "LMO", codes.EXAGGERATED_LATERALLY: "XCCL",
    codes.EXAGGERATED_MEDIALLY: "XCCM", codes.CAUDO_CRANIAL: "FB",
}  # fmt: skip
MODIFIERS = frozenset({
    codes.MAGNIFICATION, codes.SPOT_COMPRESSION, codes.IMPLANT_DISPLACED, codes.CLEAVAGE, codes.AXILLARY_TAIL,
    codes.ROLLED_LATERAL, codes.ROLLED_MEDIAL, codes.ROLLED_INFERIOR, codes.ROLLED_SUPERIOR, codes.TANGENTIAL,
    codes.NIPPLE_IN_PROFILE, codes.ANTERIOR_COMPRESSION, codes.INFRA_MAMMARY_FOLD, codes.AXILLARY_TISSUE,
})  # fmt: skip
_BY_SNOMED = {
    code.value: code for code in (*PROJECTIONS, *MODIFIERS, codes.SPECIMEN, codes.RIGHT_BREAST, codes.LEFT_BREAST)
}
# View Position as text: the ACR's abbreviations, with those of modifiers before or behind (PS3.16, CID 4014 and 4015).
_POSITION = re.compile(
    r"[RL]?[ _-]?(?P<before>M|S)?[ _-]?(?P<projection>XCCL|XCCM|LMO|MLO|CC|ML|LM|FB)[ _-]?"
    r"(?P<behind>ID|TAN|RL|RM|RI|RS|AT|NP|AC|IMF|AX|MAG|SPOT)?"
)
_ABBREVIATIONS = {
    "M": codes.MAGNIFICATION, "MAG": codes.MAGNIFICATION, "S": codes.SPOT_COMPRESSION, "SPOT": codes.SPOT_COMPRESSION,
    "ID": codes.IMPLANT_DISPLACED, "TAN": codes.TANGENTIAL, "RL": codes.ROLLED_LATERAL, "RM": codes.ROLLED_MEDIAL,
    "RI": codes.ROLLED_INFERIOR, "RS": codes.ROLLED_SUPERIOR, "AT": codes.AXILLARY_TAIL, "NP": codes.NIPPLE_IN_PROFILE,
    "AC": codes.ANTERIOR_COMPRESSION, "IMF": codes.INFRA_MAMMARY_FOLD, "AX": codes.AXILLARY_TISSUE,
}  # fmt: skip

SMALLEST_PIXEL_MM, LARGEST_PIXEL_MM = 0.02, 0.25
"""Detectors of 50 to 100 um and films scanned at up to 200 um; what lies far beyond is a mistake."""
SQUARE = 1.02
"""Sides of a pixel may differ by so much."""
LEAST_MAGNIFICATION, MOST_MAGNIFICATION = 1.0, 3.0
LEAST_OF_MAGNIFICATION_VIEW = 1.2
# Pixels of known detectors by rows and columns of their full field, mm: for images that lost their spacing.
KNOWN_FIELDS = {
    (3328, 2560): 0.07, (4096, 3328): 0.07, (2294, 1914): 0.1, (3062, 2394): 0.094, (2850, 2394): 0.1,
    (3518, 2800): 0.085, (3584, 2816): 0.085, (5928, 4728): 0.05, (4728, 3540): 0.05,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class ViewFacts:
    """What the header says of a view. `towards_chest_wall` is the border that Patient Orientation names, if it does."""

    laterality: Laterality
    projection: Projection
    modifiers: frozenset[Code]
    spacing: Spacing
    towards_chest_wall: Border | None
    is_turned: bool
    """Whether Patient Orientation has the chest wall at the upper or lower border."""
    has_implant: bool
    is_raw: bool
    warnings: tuple[Reason, ...]


def check_kind(dataset: Dataset, data: PixelData | None) -> PixelData:
    """The pixel data of an object that is a mammogram. Raises `Refusal` for everything else, with what it is."""
    sop_class = text(dataset, "SOPClassUID")
    if sop_class in TOMOSYNTHESIS:
        raise refuse("view.tomosynthesis")
    if sop_class not in {PRESENTED_CLASS, RAW_CLASS}:
        name = UID(sop_class).name
        raise refuse("input.not_an_image_to_read", detail="an unknown class" if name == sop_class else name)
    if text(dataset, "Modality") != "MG":
        raise refuse("input.not_an_image_to_read", detail="its modality is not MG")
    _check_what_is_shown(dataset)
    if data is None:
        raise refuse("input.pixel_data_missing")
    if data.keyword != "PixelData" or strings(dataset, "SamplesPerPixel") != ["1"]:
        raise refuse("input.not_an_image_to_read", detail="a picture in colour")
    if strings(dataset, "NumberOfFrames") not in ([], ["1"]):
        raise refuse("view.tomosynthesis")
    if strings(dataset, "BitsAllocated") not in (["8"], ["16"]):
        raise refuse("input.invalid_attribute", keyword="BitsAllocated")
    if strings(dataset, "PixelRepresentation") not in (["0"], ["1"]):
        raise refuse("input.invalid_attribute", keyword="PixelRepresentation")
    check_syntax(dataset)
    return data


def read_header(dataset: Dataset, shape: tuple[int, int]) -> ViewFacts:
    """The facts of a view of `shape` rows and columns. Raises `Refusal` where it is not known what the view shows."""
    warnings: list[Reason] = []
    projection, modifiers = _view(dataset)
    orientation = _orientation(dataset)
    laterality = _laterality(dataset, projection, orientation, warnings)
    spacing = _spacing(dataset, shape, modifiers, warnings)
    field_mm = max(shape) * spacing.detector_mm
    if field_mm > LARGEST_FIELD_MM:
        raise refuse("body_part.unexpected", detail=f"a field of {field_mm:.0f} mm is too large for a mammogram")
    kinds = _kinds(dataset)
    if kinds & SYNTHETIC:
        warnings.append(Reason("view.synthetic"))
    is_raw = text(dataset, "SOPClassUID") == RAW_CLASS
    intent = "".join(strings(dataset, "PresentationIntentType")).upper()
    if intent and intent != ("FOR PROCESSING" if is_raw else "FOR PRESENTATION"):
        warnings.append(Reason("view.intent_disagrees"))
    has_implant = strings(dataset, "BreastImplantPresent") == ["YES"] or codes.IMPLANT_DISPLACED in modifiers
    if has_implant:
        warnings.append(Reason("view.implant"))
    if strings(dataset, "PartialView") == ["YES"]:
        warnings.append(Reason("view.partial"))
    along_row = orientation[0][:1]
    return ViewFacts(
        laterality=laterality,
        projection=projection,
        modifiers=modifiers,
        spacing=spacing,
        towards_chest_wall={"P": "right", "A": "left"}.get(along_row),  # type: ignore[arg-type]
        is_turned=along_row not in {"", "P", "A"} and orientation[1][:1] in {"P", "A"},
        has_implant=has_implant,
        is_raw=is_raw,
        warnings=tuple(warnings),
    )


def plain_view(dataset: Dataset) -> str:
    """The name of a plain view, such as `R CC`: without modifiers, and without an implant, with which each view is
    taken twice. Empty for other views and objects. Raises `Refusal` where it cannot be told.
    """
    if "".join(strings(dataset, "SOPClassUID")) not in {PRESENTED_CLASS, RAW_CLASS}:
        return ""
    projection, modifiers = _view(dataset)
    if modifiers or strings(dataset, "BreastImplantPresent") == ["YES"]:
        return ""
    return f"{_laterality(dataset, projection, _orientation(dataset), [])} {projection}"


def _check_what_is_shown(dataset: Dataset) -> None:
    kinds = _kinds(dataset)
    if any(kind.startswith("TOMO") for kind in kinds) and not kinds & SYNTHETIC:
        raise refuse("view.tomosynthesis")
    if special := sorted(kinds & SPECIAL_IMAGES.keys()):
        raise refuse("view.special", detail=SPECIAL_IMAGES[special[0]])
    if strings(dataset, "QualityControlImage") == ["YES"]:
        raise refuse("view.special", detail="an image for quality control")
    region = {str(item.get("CodeValue", "")) for item in items(dataset, "AnatomicRegionSequence")}
    body_part = "".join(strings(dataset, "BodyPartExamined")).upper()
    if region & CHEST_CODES or body_part in OTHER_BODY_PARTS:
        raise refuse("body_part.unexpected", detail="the header names another body part than the breast")
    # A specimen has a code of its own in newer objects only.
    told = {"".join(strings(dataset, keyword)).upper() for keyword in ("ViewPosition", "SeriesDescription")}
    is_specimen = any("SPECIMEN" in value for value in told) or codes.SPECIMEN in _coded(dataset, "ViewCodeSequence")
    if is_specimen or items(dataset, "SpecimenDescriptionSequence"):
        raise refuse("view.specimen")


def _kinds(dataset: Dataset) -> set[str]:
    return {value.upper().replace(" ", "_") for value in strings(dataset, "ImageType")}


def _coded(dataset: Dataset, keyword: str) -> list[Code]:
    """The concepts of a code sequence that are known here, by their SNOMED CT or their older codes."""
    found = []
    for item in items(dataset, keyword):
        value, scheme = str(item.get("CodeValue", "")), str(item.get("CodingSchemeDesignator", ""))
        code = OLD_CODES.get(value) if scheme in OLD_SCHEMES else _BY_SNOMED.get(value)
        if code is not None:
            found.append(code)
    return found


def _view(dataset: Dataset) -> tuple[Projection, frozenset[Code]]:
    """Projection and modifiers: by View Code Sequence, else by the text of View Position."""
    position = _POSITION.fullmatch("".join(strings(dataset, "ViewPosition")).upper())
    modifiers = {
        code
        for item in items(dataset, "ViewCodeSequence")
        for code in _coded(item, "ViewModifierCodeSequence")
        if code in MODIFIERS
    }
    if position is not None:
        modifiers |= {_ABBREVIATIONS[part] for part in position.group("before", "behind") if part}
    for code in _coded(dataset, "ViewCodeSequence"):
        if code in PROJECTIONS:
            return PROJECTIONS[code], frozenset(modifiers)
    # A standard code of some other view outweighs the text; a local one does not.
    schemes = {str(item.get("CodingSchemeDesignator", "")) for item in items(dataset, "ViewCodeSequence")}
    if position is None or schemes & {"SCT", *OLD_SCHEMES}:
        raise refuse("view.unknown_projection")
    projection = position.group("projection")
    assert projection in get_args(Projection)
    return cast("Projection", projection), frozenset(modifiers)


def _orientation(dataset: Dataset) -> tuple[str, str]:
    """Patient Orientation: where rows and where columns lead (PS3.3, C.7.6.1.1.1); empty where it is not said."""
    values = [value.upper() for value in strings(dataset, "PatientOrientation")]
    row, column = values if len(values) == 2 else ("", "")
    return row, column


def _laterality(
    dataset: Dataset, projection: Projection, orientation: tuple[str, str], warnings: list[Reason]
) -> Laterality:
    """Image Laterality, else Laterality, else the breast of the anatomic region, else what an oblique view tells.

    The plate of an oblique view leans: its upper end lies lateral, so what leads to the feet leads to the midline,
    which is to the left on the right breast. Nothing of that kind tells the breasts apart on other views.
    """
    told = ["".join(strings(dataset, keyword)).upper() for keyword in ("ImageLaterality", "Laterality")]
    if "B" in told[:1] or (not told[0] and told[1] == "B"):
        raise refuse("view.both_breasts")
    breasts = set(_coded(dataset, "AnatomicRegionSequence")) & {codes.RIGHT_BREAST, codes.LEFT_BREAST}
    region = "" if len(breasts) != 1 else ("R" if codes.RIGHT_BREAST in breasts else "L")
    column = orientation[1]
    oblique = {"FL": "R", "HR": "R", "FR": "L", "HL": "L"}.get(column, "") if projection in {"MLO", "LMO"} else ""
    said = [value for value in (*told, region, oblique) if value in {"R", "L"}]
    if not said:
        raise refuse("view.no_laterality")
    if told[0] not in {"R", "L"} and told[1] not in {"R", "L"}:
        warnings.append(Reason("view.laterality_inferred", {"side": said[0]}))
    elif len(set(said)) > 1:
        warnings.append(Reason("view.laterality_disagrees", {"side": said[0]}))
    return cast("Laterality", said[0])


def _spacing(dataset: Dataset, shape: tuple[int, int], modifiers: frozenset[Code], warnings: list[Reason]) -> Spacing:
    """Pixels at the detector and in the body.

    At the detector: Imager Pixel Spacing, else Pixel Spacing that is not calibrated. In the body: that, divided by the
    magnification factor, else by the ratio of the distances; else Pixel Spacing calibrated by geometry or fiducials
    (PS3.3, 10.7.1.2 and C.8.11.7.1); else, for views in contact, that at the detector. An image without a usable one is
    read with the pixel that its detector's elements or its matrix, that of a known detector, lead one to expect: the
    error of a size stays below a fifth. With neither nothing is known of the size of a grain, and it is refused.
    """
    imager, pixel = (_square(dataset, keyword) for keyword in ("ImagerPixelSpacing", "PixelSpacing"))
    is_calibrated = strings(dataset, "PixelSpacingCalibrationType") in (["GEOMETRY"], ["FIDUCIAL"])
    magnification, is_factor = _magnification(dataset)
    if codes.MAGNIFICATION in modifiers and (magnification is None or magnification < LEAST_OF_MAGNIFICATION_VIEW):
        warnings.append(Reason("view.magnification_unknown"))
    if imager is None and pixel is not None:
        if is_calibrated:
            return Spacing(pixel * (magnification or 1.0), pixel, "calibration")
        imager = pixel
    if imager is None:
        imager = _expected_pixel(dataset, shape)
        warnings.append(Reason("view.spacing_assumed", {"pixel_mm": imager}))
        return Spacing(imager, imager / (magnification or 1.0), "assumed")
    if magnification is not None:
        return Spacing(imager, imager / magnification, "magnification factor" if is_factor else "distances")
    if is_calibrated and pixel is not None:
        return Spacing(imager, pixel, "calibration")
    return Spacing(imager, imager, "detector")


def _square(dataset: Dataset, keyword: str) -> float | None:
    """The side of a square pixel, if the attribute gives one that a mammogram can have."""
    try:
        rows, columns = numbers(dataset, keyword, 2)
    except Refusal:
        return None
    is_plausible = all(SMALLEST_PIXEL_MM <= side <= LARGEST_PIXEL_MM for side in (rows, columns))
    return (rows + columns) / 2 if is_plausible and max(rows, columns) <= SQUARE * min(rows, columns) else None


def _magnification(dataset: Dataset) -> tuple[float | None, bool]:
    """How much larger the breast is on the detector than it is, and whether the factor itself was given."""
    factor = _positive(dataset, "EstimatedRadiographicMagnificationFactor")
    if factor is not None and LEAST_MAGNIFICATION <= factor <= MOST_MAGNIFICATION:
        return factor, True
    detector, patient = (_positive(dataset, f"DistanceSourceTo{place}") for place in ("Detector", "Patient"))
    if detector is not None and patient is not None:
        ratio = detector / patient
        if LEAST_MAGNIFICATION <= ratio <= MOST_MAGNIFICATION:
            return ratio, False
    return None, False


def _positive(dataset: Dataset, keyword: str) -> float | None:
    try:
        (value,) = numbers(dataset, keyword, 1)
    except Refusal:
        return None
    return value if isfinite(value) and value > 0 else None


def _expected_pixel(dataset: Dataset, shape: tuple[int, int]) -> float:
    element = _square(dataset, "DetectorElementSpacing")
    if element is not None:
        try:
            binning = numbers(dataset, "DetectorBinning", 2)[0]
        except Refusal:
            binning = 1.0
        if SMALLEST_PIXEL_MM <= element * binning <= LARGEST_PIXEL_MM:
            return element * binning
    known = KNOWN_FIELDS.get((max(shape), min(shape)))
    if known is None:
        raise refuse("view.no_spacing")
    return known

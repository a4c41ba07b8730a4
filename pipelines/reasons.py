"""Why the node did not do, or only half did, what was asked of it: one table, a row a reason.

A row's code is stable and is never used again for something else. It reaches the sender (DIMSE or HTTP status), the
worklist, the audit trail, the log, the metric labels, the exit code and a generated page of the documentation. This
module holds what concerns pixels and reading; `dicom_node.reasons` adds the service's rows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from string import Formatter
from types import MappingProxyType
from typing import Literal

Retry = Literal["never", "later", "person"]
Severity = Literal["info", "warning", "error", "critical"]
Fact = str | int | float


@dataclass(frozen=True, slots=True)
class ReasonRow:
    """One row of the table: what is wrong in words, what to do, and what it means to each machine that hears of it."""

    code: str
    sentence: str
    """For the reader; `{name}` stands where a fact goes. Facts never identify a patient."""
    remedy: str
    retry: Retry = "never"
    severity: Severity = "warning"
    dimse_status: int = 0xC000
    """What a C-STORE would be answered with (PS3.4, Annex B.2.3)."""
    http_status: int = 422
    audit_outcome: int = 4
    """EventOutcomeIndicator of the audit message: 0, 4, 8 or 12 (PS3.15, A.5)."""


TABLE: dict[str, ReasonRow] = {}


def add_rows(*rows: ReasonRow) -> None:
    """Enter rows into the table. A code that stands there already is a programming error (`ValueError`)."""
    for row in rows:
        if row.code in TABLE:
            raise ValueError(f"reason {row.code} is entered twice")
        TABLE[row.code] = row


@dataclass(frozen=True, slots=True)
class Reason:
    """A row of the table with the facts of one case: `Reason("series.too_few_slices", {"slices": 1, "needed": 3})`."""

    code: str
    facts: Mapping[str, Fact] = field(default_factory=lambda: MappingProxyType({}))

    def __post_init__(self) -> None:
        row = TABLE.get(self.code)
        if row is None:
            raise ValueError(f"reason {self.code} is not in the table")
        wanted = {name for _, name, _, _ in Formatter().parse(row.sentence) if name}
        if missing := wanted - set(self.facts):
            raise ValueError(f"reason {self.code} lacks the facts {sorted(missing)}")

    @property
    def row(self) -> ReasonRow:
        return TABLE[self.code]

    @property
    def text(self) -> str:
        """The sentence with its facts filled in."""
        return self.row.sentence.format(**self.facts)

    def as_json(self) -> dict[str, object]:
        return {"code": self.code, "text": self.text, "remedy": self.row.remedy, "facts": dict(self.facts)}


class TriageError(Exception):
    """Base of every error the program raises on purpose; it carries its `Reason` and is never raised itself."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.reason.text} {self.reason.row.remedy}"


class Refusal(TriageError):  # noqa: N818  a decision, not an error
    """This input is not read: a decision of a pipeline or of what prepares its input, not a fault of the program."""


def refuse(code: str, **facts: Fact) -> Refusal:
    """The refusal for `code`, to be raised by the caller."""
    return Refusal(Reason(code, facts))


def commonest(reasons: Sequence[Reason]) -> Reason:
    """A reason of the code that most of them have."""
    code, _ = Counter(reason.code for reason in reasons).most_common(1)[0]
    return next(reason for reason in reasons if reason.code == code)


add_rows(
    ReasonRow("input.not_dicom", "The file is not DICOM.", "Send DICOM Part 10 files."),
    ReasonRow(
        "input.file_unreadable",
        "The file cannot be opened ({detail}).",
        "Check that the file is there and may be read.",
        retry="later",
        severity="error",
        audit_outcome=8,
    ),
    ReasonRow("input.malformed", "The data set is damaged ({detail}).", "Send the instance again."),
    ReasonRow("input.truncated", "The data set ends before its end.", "Send the instance again."),
    ReasonRow(
        "input.missing_attribute",
        "The attribute {keyword} is missing or empty.",
        "Mend the attribute at the source and send again.",
    ),
    ReasonRow(
        "input.invalid_attribute",
        "The attribute {keyword} has a value that cannot be used.",
        "Mend the attribute at the source and send again.",
    ),
    ReasonRow("input.pixel_data_missing", "There is no pixel data.", "Send the image instances of the series."),
    ReasonRow(
        "input.pixel_data_unreadable",
        "The pixel data cannot be decoded ({detail}).",
        "Send the instance uncompressed, or in a lossless JPEG, JPEG-LS, JPEG 2000 or RLE transfer syntax.",
    ),
    ReasonRow(
        "input.not_ct_values",
        "The pixel values are not CT numbers ({detail}).",
        "Send the original axial CT series.",
    ),
    ReasonRow(
        "input.not_an_image_to_read",
        "This kind of object is not read ({detail}).",
        "Send the original images.",
        severity="info",
        audit_outcome=0,
    ),
    ReasonRow("input.too_large", "The image declares {detail}, more than can be read.", "Check the source."),
    ReasonRow(
        "input.lossy",
        "The images were compressed with loss.",
        "Send the images uncompressed or losslessly compressed.",
        severity="info",
        audit_outcome=0,
    ),
    ReasonRow(
        "input.clipped_values",
        "The CT numbers are clipped to {lowest} to {highest} HU.",
        "Send the original series with its full range of CT numbers.",
        severity="info",
        audit_outcome=0,
    ),
    ReasonRow(
        "series.too_few_slices",
        "The series has {slices} slices; at least {needed} are needed.",
        "Send the whole series.",
    ),
    ReasonRow(
        "series.incomplete",
        "Slices are missing: a gap of {gap_mm} mm where {usual_mm} mm is usual.",
        "Send the missing slices.",
    ),
    ReasonRow(
        "series.partly_unreadable",
        "{unreadable} of {instances} instances cannot be read and were left out.",
        "Send the series again.",
        audit_outcome=4,
    ),
    ReasonRow(
        "geometry.mixed_orientation",
        "The slices of the series have different orientations.",
        "Send each stack of slices as its own series.",
    ),
    ReasonRow(
        "geometry.mixed_matrix",
        "The slices of the series differ in rows, columns or pixel spacing.",
        "Send each stack of slices as its own series.",
    ),
    ReasonRow(
        "geometry.duplicate_position",
        "Several slices lie at one position.",
        "Send each acquisition as its own series.",
    ),
    ReasonRow(
        "geometry.several_frames_of_reference",
        "The slices have different frames of reference.",
        "Send each acquisition as its own series.",
    ),
    ReasonRow(
        "geometry.not_axial",
        "The slices are not axial ({angle} degrees from it).",
        "Send the axial series.",
    ),
    ReasonRow(
        "geometry.variable_spacing",
        "Slice spacing varies from {smallest_mm} to {largest_mm} mm; each slice was measured with its own.",
        "Nothing need be done.",
        severity="info",
        audit_outcome=0,
    ),
    ReasonRow(
        "geometry.tilted",
        "The gantry was tilted by {degrees} degrees; positions are the true ones.",
        "Nothing need be done.",
        severity="info",
        audit_outcome=0,
    ),
    ReasonRow(
        "input.matrix_too_small",
        "The images have {rows} x {columns} pixels, too few to read.",
        "Send the original images.",
    ),
    ReasonRow(
        "geometry.no_frame_of_reference",
        "The series has no frame of reference: no segmentation can be made of it.",
        "Nothing need be done.",
        severity="info",
        audit_outcome=0,
    ),
    ReasonRow(
        "body_part.unexpected",
        "The images do not show the body part that was announced: {detail}.",
        "Check the series; read it by eye.",
    ),
    ReasonRow(
        "body_part.partial",
        "Only a part of the body part is in the images: {detail}.",
        "Send the whole series.",
        severity="info",
        audit_outcome=0,
    ),
    ReasonRow(
        "contrast.given",
        "Contrast was given: bright vessels may be taken for blood.",
        "Read with care.",
        severity="info",
        audit_outcome=0,
    ),
    ReasonRow(
        "contrast.in_nodules",
        "Contrast was given: nodules read denser than they are without it.",
        "Compare attenuation and calcification with a series without contrast.",
        severity="info",
        audit_outcome=0,
    ),
    ReasonRow(
        "geometry.thick_slices",
        "The slices are {thickness_mm} mm thick: small nodules may be missed, and sizes are uncertain.",
        "Send the thin slices.",
    ),
    ReasonRow(
        "geometry.too_thick_slices",
        "The slices are {thickness_mm} mm thick, more than the {most_mm} mm up to which they are read.",
        "Send the thin slices.",
    ),
    ReasonRow(
        "input.projected_slabs",
        "The slices are projections or averages of slabs of {thickness_mm} mm, {spacing_mm} mm apart.",
        "Send the original slices.",
    ),
    ReasonRow(
        "geometry.coarse_pixels",
        "The pixels are {pixel_mm} mm wide: small nodules may be missed, and sizes are uncertain.",
        "Send the original images.",
    ),
    ReasonRow(
        "body_part.child",
        "The patient seems to be a child ({detail}): the model knows adults only.",
        "Read by eye.",
    ),
    ReasonRow(
        "input.metal",
        "There is metal in the images: its streaks may hide or imitate nodules.",
        "Read the slices with metal by eye.",
        severity="info",
        audit_outcome=0,
    ),
    ReasonRow(
        "series.overlapping_acquisitions",
        "Two acquisitions lie over each other; {left_out} of {instances} slices, of the lesser one, were left out.",
        "Send each acquisition as its own series.",
    ),
    ReasonRow(
        "prior.not_comparable",
        "No comparison was made with the earlier study: {detail}.",
        "Compare by eye.",
        severity="info",
        audit_outcome=0,
    ),
    ReasonRow(
        "prior.nodules_not_found",
        "{count} findings of the earlier study were not found again.",
        "Look at them in the earlier study.",
        severity="info",
        audit_outcome=0,
    ),
    ReasonRow(
        "view.tomosynthesis",
        "The object is a tomosynthesis or a part of one, which is not read.",
        "Read it by eye; send the two-dimensional views.",
    ),
    ReasonRow("view.specimen", "The image shows a specimen, not a breast.", "Nothing need be done.", severity="info"),
    ReasonRow("view.special", "This kind of mammogram is not read ({detail}).", "Read it by eye."),
    ReasonRow(
        "view.no_laterality",
        "It is not said which breast the view shows.",
        "Give Image Laterality at the source and send again.",
    ),
    ReasonRow("view.both_breasts", "The view shows both breasts.", "Read it by eye; send a view of each breast."),
    ReasonRow(
        "view.laterality_inferred",
        "Image Laterality is missing; other attributes say that the view shows the breast {side}.",
        "Compare the marker in the image.",
    ),
    ReasonRow(
        "view.laterality_disagrees",
        "Attributes disagree about which breast the view shows; {side} was taken.",
        "Compare the marker in the image; mend the attributes at the source.",
        severity="error",
        audit_outcome=8,
    ),
    ReasonRow(
        "view.unknown_projection",
        "It is not said how the breast was looked at, or it is a projection that is not read.",
        "Give View Code Sequence at the source and send again.",
    ),
    ReasonRow(
        "view.no_spacing",
        "The size of a pixel is not said, or impossible, and nothing tells it.",
        "Give Imager Pixel Spacing at the source and send again.",
    ),
    ReasonRow(
        "view.spacing_assumed",
        "The size of a pixel is not said, or impossible; {pixel_mm} mm, usual for such a detector, was assumed.",
        "Do not rely on sizes; give Imager Pixel Spacing at the source.",
    ),
    ReasonRow(
        "view.magnification_unknown",
        "It is a magnification view that does not say how much it magnifies: sizes are those at the detector.",
        "Do not rely on sizes.",
    ),
    ReasonRow(
        "view.synthetic",
        "The view was reckoned from a tomosynthesis: calcifications may be missing, or made up.",
        "Read the tomosynthesis by eye.",
        severity="info",
        audit_outcome=0,
    ),
    ReasonRow(
        "view.intent_disagrees",
        "Presentation Intent Type does not agree with the SOP class, which was believed.",
        "Mend the attribute at the source.",
        severity="info",
        audit_outcome=0,
    ),
    ReasonRow(
        "view.implant",
        "There is an implant: what lies before or behind it is not seen.",
        "Read with care.",
        severity="info",
        audit_outcome=0,
    ),
    ReasonRow(
        "view.partial",
        "The view shows a part of the breast only.",
        "See that the other parts were sent.",
        severity="info",
        audit_outcome=0,
    ),
    ReasonRow("view.empty", "There is nothing to be seen in the image.", "Send the image again."),
    ReasonRow(
        "view.partly_blank",
        "A part of the image, {percent} percent of it, is blank white.",
        "Send the image again; read it by eye.",
    ),
    ReasonRow(
        "view.inverted",
        "The pixels are black for white against what the header says; they were turned.",
        "Mend Photometric Interpretation at the source.",
    ),
    ReasonRow(
        "view.no_window",
        "No window of the image suits its values; it was read over their whole range.",
        "Compare with the image as it is displayed.",
    ),
    ReasonRow(
        "view.collimation_doubted",
        "The collimation that the header gives would hide what is in the image; it was not believed.",
        "Mend the attributes at the source.",
        severity="info",
        audit_outcome=0,
    ),
    ReasonRow(
        "view.turned",
        "The chest wall lies at the upper or lower border of the image.",
        "Send the image with the chest wall to the left or right.",
    ),
    ReasonRow(
        "view.orientation_disagrees",
        "Patient Orientation has the chest wall at the other border than the image shows; the image was believed.",
        "Mend Patient Orientation at the source.",
    ),
    ReasonRow(
        "view.chest_wall_unsure",
        "It is not certain at which border the chest wall lies; {border} was taken.",
        "Compare the places that are told with the image.",
    ),
    ReasonRow(
        "view.read_as_presented",
        "The same view was read as it is presented; this image For Processing was not.",
        "Nothing need be done.",
        severity="info",
        audit_outcome=0,
    ),
    ReasonRow(
        "view.another_day",
        "The image is of another day than the views of the study that were read.",
        "Send the images of each day under their own Study Instance UID.",
    ),
    ReasonRow(
        "study.several_days",
        "The images are of {days} days under one Study Instance UID; only those of one day were read.",
        "Send the images of each day under their own Study Instance UID.",
    ),
    ReasonRow(
        "study.several_patients",
        "The images are of several patients under one Study Instance UID.",
        "Send the images of each patient under their own Study Instance UID.",
        severity="error",
        audit_outcome=8,
    ),
    ReasonRow(
        "study.views_missing",
        "Standard views are missing: {views}.",
        "Send the missing views, if there are any.",
        severity="info",
        audit_outcome=0,
    ),
    ReasonRow("study.no_mammograms", "There is no mammogram in the study.", "Send the mammograms of the study."),
    ReasonRow(
        "evaluation.wrong_data",
        "The labelled data cannot be used: {detail}.",
        "Give a folder of the form that the help of the command describes.",
        severity="error",
        audit_outcome=8,
    ),
    ReasonRow(
        "model.unverified",
        "The model {model} does not match its manifest and was not loaded.",
        "Run `triage-node models verify` and install the model again.",
        retry="person",
        severity="critical",
        dimse_status=0xA700,
        http_status=503,
        audit_outcome=12,
    ),
    ReasonRow(
        "model.no_device",
        "The pipeline is to run on {device}, which is not there.",
        "Set the pipeline's `device` to auto, or install the device's PyTorch and driver.",
        retry="person",
        severity="critical",
        dimse_status=0xA700,
        http_status=503,
        audit_outcome=12,
    ),
    ReasonRow(
        "pipeline.failed",
        "Reading failed in the step {step} ({error}).",
        "Read by eye; send the log to the maker.",
        retry="later",
        severity="error",
        audit_outcome=8,
    ),
)

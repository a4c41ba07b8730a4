"""Mammography CAD SR (PS3.3, A.35.5) by TID 4000: the groups of calcifications in the words that CAD displays know.

Not in this object, because TID 4003 would have TID 4002 below a container, which displays and validators take
differently: the category suggested for each single group. The measurement report has it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pydicom import Dataset
from pydicom.sr.coding import Code as LooseCode
from pydicom.uid import MammographyCADSRStorage

from pipelines import codes
from pipelines.codes import Code
from pipelines.findings import Finding, Outline
from pipelines.mammogram import Mammogram
from reporting import content, uids
from reporting.content import Relation
from reporting.document import evidence, finish, new_document
from reporting.narrative.narrative import Narrative
from reporting.projections import SIDES, VIEWS, Placed, closed, middle, outlined
from reporting.source import ReportCase, valid

TEMPLATE = "4000"
LIBRARY = (1, 2)
"""Where the image library stands in the tree: the root's second child, after the language."""
SINGLE_CALCIFICATIONS = 100
"""Of so many calcifications of a group the places are given one by one, the first; their number tells of all."""
HEADER_SIDES = {"R": codes.RIGHT_BREAST, "L": codes.LEFT_BREAST, "B": codes.BOTH_BREASTS}
MODIFIERS = (
    codes.MAGNIFICATION, codes.SPOT_COMPRESSION, codes.IMPLANT_DISPLACED, codes.CLEAVAGE, codes.AXILLARY_TAIL,
    codes.ROLLED_LATERAL, codes.ROLLED_MEDIAL, codes.ROLLED_INFERIOR, codes.ROLLED_SUPERIOR, codes.TANGENTIAL,
    codes.NIPPLE_IN_PROFILE, codes.ANTERIOR_COMPRESSION, codes.INFRA_MAMMARY_FOLD, codes.AXILLARY_TISSUE,
)  # fmt: skip
SNOMED_RT = ("SNM3", "99SDM")
"""Designators of SNOMED-RT besides SRT (PS3.16, Table 8-1)."""
SIZES = (codes.LONG_AXIS, codes.SHORT_AXIS, codes.AREA)
"""Lengths (TID 1400) before areas (TID 1401)."""
BENIGN = frozenset({codes.BI_RADS_1, codes.BI_RADS_2})
"""Groups of these categories may be left out by a display."""
DECIMALS = 3


class MammographyCadReport:
    """All images of the study, what was found on each, and on which of them detection succeeded or failed.

    A group that is taken for the same on two views is one composite feature with a finding for each view. Only for
    studies of mammograms.
    """

    kind = "mammography_cad_report"
    sop_class_uid = MammographyCADSRStorage
    series_number = 9805

    def build(self, case: ReportCase, narrative: Narrative) -> tuple[Dataset, ...]:
        if case.study is None:
            return ()
        root = content.container(
            None,
            codes.MAMMOGRAPHY_CAD_REPORT,
            content.code("HAS CONCEPT MOD", codes.LANGUAGE, narrative.code),
            content.container("CONTAINS", codes.IMAGE_LIBRARY, *map(_library_entry, _images(case))),
            _overall_impression(case, narrative),
            _detections(case),
            _analyses(case),
        )
        root.ContentTemplateSequence = [_template()]
        dataset = new_document(
            case,
            root,
            kind=self.kind,
            series_number=self.series_number,
            sop_class_uid=self.sop_class_uid,
            modality="SR",
        )
        dataset.CompletionFlag = "COMPLETE"
        dataset.VerificationFlag = "UNVERIFIED"
        dataset.PreliminaryFlag = "PRELIMINARY"
        dataset.PerformedProcedureCodeSequence = []
        dataset.CurrentRequestedProcedureEvidenceSequence = evidence(
            case, [(h.SOPClassUID, h.SOPInstanceUID, h.SeriesInstanceUID) for h in case.refused_headers]
        )
        return (finish(dataset, case, narrative.term("CAD report"), narrative),)


OBJECT = MammographyCadReport()


def _template() -> Dataset:
    item = Dataset()
    item.MappingResource = "DCMR"
    item.TemplateIdentifier = TEMPLATE
    return item


def _images(case: ReportCase) -> tuple[Dataset, ...]:
    """The images of the library in its order: those that were read, then those that were not."""
    return (*case.headers, *case.refused_headers)


def _at(place: int) -> tuple[int, ...]:
    """The path to an image of the library, by its place from 0."""
    return (*LIBRARY, place + 1)


def _library_entry(header: Dataset) -> Dataset:
    """TID 4020: what the image has of its acquisition."""
    return content.image("CONTAINS", header, *_acquisition(header))


def _acquisition(header: Dataset) -> Iterator[Dataset]:
    relation: Relation = "HAS ACQ CONTEXT"
    side = HEADER_SIDES.get(str(valid(header, "ImageLaterality")))
    if side is not None:
        yield content.code(relation, codes.IMAGE_LATERALITY, side)
    for view in (header.get("ViewCodeSequence") or ())[:1]:
        named = _known(view, (*VIEWS.values(), codes.SPECIMEN))
        if named is not None:
            modifiers = (_known(item, MODIFIERS) for item in view.get("ViewModifierCodeSequence") or ())
            yield content.code(
                relation,
                codes.IMAGE_VIEW,
                named,
                *(content.code("HAS CONCEPT MOD", codes.IMAGE_VIEW_MODIFIER, one) for one in modifiers if one),
            )
    orientation = valid(header, "PatientOrientation")
    if orientation is not None and len(orientation) == 2 and all(orientation):
        yield content.text(relation, codes.PATIENT_ORIENTATION_ROW, str(orientation[0]))
        yield content.text(relation, codes.PATIENT_ORIENTATION_COLUMN, str(orientation[1]))
    moments = (
        (content.date, codes.STUDY_DATE, "StudyDate"),
        (content.time, codes.STUDY_TIME, "StudyTime"),
        (content.date, codes.CONTENT_DATE, "ContentDate"),
        (content.time, codes.CONTENT_TIME, "ContentTime"),
    )
    for make, name, keyword in moments:
        moment = valid(header, keyword)
        if moment is not None:
            yield make(relation, name, str(moment))
    spacing = valid(header, "ImagerPixelSpacing") or valid(header, "PixelSpacing")
    if spacing is not None and len(spacing) == 2:
        yield content.number(relation, codes.HORIZONTAL_PIXEL_SPACING, float(spacing[1]), codes.MILLIMETER)
        yield content.number(relation, codes.VERTICAL_PIXEL_SPACING, float(spacing[0]), codes.MILLIMETER)
    for name, keyword in (
        (codes.POSITIONER_PRIMARY_ANGLE, "PositionerPrimaryAngle"),
        (codes.POSITIONER_SECONDARY_ANGLE, "PositionerSecondaryAngle"),
    ):
        angle = valid(header, keyword)
        if angle is not None:
            yield content.number(relation, name, float(angle), codes.DEGREE)


def _known(item: Dataset, of: Sequence[Code]) -> Code | None:
    """A code of the header as SNOMED CT has it; older files have SNOMED-RT's, which is the same to the library."""
    scheme = str(item.get("CodingSchemeDesignator"))
    held = LooseCode(str(item.get("CodeValue")), "SRT" if scheme in SNOMED_RT else scheme, "")
    return next((code for code in of if LooseCode(*code) == held), None)


def _overall_impression(case: ReportCase, narrative: Narrative) -> Dataset:
    """TID 4001: the answer on the whole study, and each group below it."""
    found, partly = bool(case.outcome.findings), bool(case.refused_headers)
    answer = {
        (False, False): codes.ALL_SUCCEEDED_CLEAN,
        (True, False): codes.ALL_SUCCEEDED_FINDINGS,
        (False, True): codes.PARTLY_SUCCEEDED_CLEAN,
        (True, True): codes.PARTLY_SUCCEEDED_FINDINGS,
    }[found, partly]
    return content.code(
        "CONTAINS",
        codes.CAD_SUMMARY,
        answer,
        *_assessment(case),
        content.text("HAS PROPERTIES", codes.IMPRESSION_DESCRIPTION, _described(case, narrative)),
        *_algorithm(case),
        *(_individual_impression(case, narrative, group) for group in _groups(case)),
    )


def _assessment(case: ReportCase) -> Iterator[Dataset]:
    """TID 4002, row 1 and 2: the category that is suggested, of the breast or breasts that it is suggested for."""
    if case.suggested is not None and case.study is not None:
        views = [
            view for _, finding, _, view in outlined(case) if finding.attributes.get(codes.BI_RADS) == case.suggested
        ]
        sides = {SIDES[view.laterality] for view in views or case.study.views}
        side = sides.pop() if len(sides) == 1 else codes.BOTH_BREASTS
        yield content.code(
            "HAS PROPERTIES",
            codes.BI_RADS,
            case.suggested,
            content.code("HAS CONCEPT MOD", codes.LATERALITY, side),
        )


def _described(case: ReportCase, narrative: Narrative) -> str:
    """The impression in words, on what it rests, and of which groups not every calcification is placed."""
    cut = [
        narrative.placed_singly.format(
            tracking=narrative.tracking(number, finding), places=SINGLE_CALCIFICATIONS, count=len(outline.marks)
        )
        for number, finding, outline, _ in outlined(case)
        if len(outline.marks) > SINGLE_CALCIFICATIONS
    ]
    sentences = [
        narrative.impression(case.outcome, case.looked_for),
        *narrative.assessed(case.outcome, case.looked_for, case.suggested),
        *cut,
        narrative.disclaimer,
    ]
    return " ".join(sentence if sentence.endswith(".") else f"{sentence}." for sentence in sentences)


def _groups(case: ReportCase) -> list[list[Placed]]:
    """The outlined findings by their number: those on several views that are taken for one group together."""
    together: dict[int, list[Placed]] = {}
    for placed in outlined(case):
        together.setdefault(placed[0], []).append(placed)
    return list(together.values())


def _individual_impression(case: ReportCase, narrative: Narrative, group: Sequence[Placed]) -> Dataset:
    """TID 4003: one group, as a composite feature where it is seen on several views."""
    intent = _intent(case, group)
    if len(group) == 1:
        feature = _single_image_finding(case, narrative, group[0], "CONTAINS", intent)
    else:
        feature = _composite_feature(case, narrative, group, intent)
    return content.container(
        "INFERRED FROM",
        codes.INDIVIDUAL_IMPRESSION,
        content.code("HAS CONCEPT MOD", codes.RENDERING_INTENT, intent),
        feature,
    )


def _intent(case: ReportCase, group: Sequence[Placed]) -> Code:
    """Groups that are taken for benign, and those of a study of which nothing sure is said, need not be presented."""
    benign = all(finding.attributes.get(codes.BI_RADS) in BENIGN for _, finding, _, _ in group)
    return codes.PRESENTATION_OPTIONAL if benign or case.outcome.status == "unsure" else codes.PRESENTATION_REQUIRED


def _composite_feature(case: ReportCase, narrative: Narrative, group: Sequence[Placed], intent: Code) -> Dataset:
    """TID 4004 and 4005: the same group on several views."""
    tracking = uids.feature_uid(*(finding.tracking_uid for _, finding, _, _ in group))
    certainty = max(finding.certainty for _, finding, _, _ in group)
    return content.code(
        "CONTAINS",
        codes.COMPOSITE_FEATURE,
        group[0][1].kind,
        content.code("HAS CONCEPT MOD", codes.RENDERING_INTENT, intent),
        *_tracking(narrative.tracking(group[0].number, *(placed.finding for placed in group)), tracking),
        content.code("HAS PROPERTIES", codes.COMPOSITE_TYPE, codes.RELATED_SPATIALLY),
        content.code("HAS PROPERTIES", codes.SCOPE_OF_FEATURE, codes.ON_MULTIPLE_IMAGES),
        *_algorithm(case),
        content.number("HAS PROPERTIES", codes.CERTAINTY_OF_FEATURE, _percent(certainty), codes.PERCENT),
        *(_single_image_finding(case, narrative, placed, "INFERRED FROM", intent) for placed in group),
    )


def _single_image_finding(
    case: ReportCase, narrative: Narrative, placed: Placed, relation: Relation, intent: Code
) -> Dataset:
    """TID 4006 of a group on one view, with its single calcifications below it."""
    number, finding, outline, view = placed
    place = _at(_place(case, view))
    return content.code(
        relation,
        codes.SINGLE_IMAGE_FINDING,
        finding.kind,
        content.code("HAS CONCEPT MOD", codes.RENDERING_INTENT, intent),
        *_tracking(narrative.tracking(number, finding), finding.tracking_uid),
        *_algorithm(case),
        content.number("HAS PROPERTIES", codes.CERTAINTY, _percent(finding.certainty), codes.PERCENT),
        _coordinates(codes.CENTER, [middle(finding, outline)], place),
        _coordinates(codes.OUTLINE, closed(outline.points), place),
        *_properties(finding, outline),
        *(_single_calcification(case, finding, mark, place, intent) for mark in outline.marks[:SINGLE_CALCIFICATIONS]),
    )


def _single_calcification(
    case: ReportCase, finding: Finding, mark: tuple[float, float], place: Sequence[int], intent: Code
) -> Dataset:
    """TID 4006 and 4009 of one calcification: its place, and the type of its group, which is told from its kind."""
    return content.code(
        "INFERRED FROM",
        codes.SINGLE_IMAGE_FINDING,
        codes.INDIVIDUAL_CALCIFICATION,
        content.code("HAS CONCEPT MOD", codes.RENDERING_INTENT, intent),
        *_algorithm(case, brief=True),
        _coordinates(codes.CENTER, [mark], place),
        content.code(
            "HAS PROPERTIES",
            codes.CALCIFICATION_TYPE,
            finding.attributes.get(codes.CALCIFICATION_TYPE, codes.MICROCALCIFICATIONS),
        ),
    )


def _coordinates(name: Code, points: Sequence[tuple[float, float]], place: Sequence[int]) -> Dataset:
    """TID 4021: a place on an image of the library."""
    return content.coordinates(
        "HAS PROPERTIES",
        name,
        "POINT" if len(points) == 1 else "POLYLINE",
        points,
        content.reference("SELECTED FROM", place),
    )


def _properties(finding: Finding, outline: Outline) -> Iterator[Dataset]:
    """TID 4010: type, distribution, number and size of a group."""
    for question in (codes.CALCIFICATION_TYPE, codes.CALCIFICATION_DISTRIBUTION):
        answer = finding.attributes.get(question)
        if answer is not None:
            yield content.code("HAS PROPERTIES", question, answer)
    measured = {measurement.name: measurement for measurement in finding.measurements}
    counted = measured.get(codes.NUMBER_OF_CALCIFICATIONS)
    count = len(outline.marks) if counted is None else round(counted.value)
    yield content.number("HAS PROPERTIES", codes.NUMBER_OF_CALCIFICATIONS, count, codes.NO_UNITS)
    for name in SIZES:
        if name in measured:
            size = measured[name]
            yield content.number("HAS PROPERTIES", name, round(size.value, DECIMALS), size.unit)


def _tracking(identifier: str, tracking_uid: str) -> tuple[Dataset, Dataset]:
    """TID 4108."""
    return (
        content.text("HAS OBS CONTEXT", codes.TRACKING_IDENTIFIER, identifier),
        content.uid("HAS OBS CONTEXT", codes.TRACKING_UID, tracking_uid),
    )


def _algorithm(case: ReportCase, *, brief: bool = False) -> Iterator[Dataset]:
    """TID 4019."""
    relation: Relation = "HAS PROPERTIES"
    yield content.text(relation, codes.ALGORITHM_NAME, case.model.name)
    yield content.text(relation, codes.ALGORITHM_VERSION, case.model.version)
    if not brief:
        yield content.text(relation, codes.ALGORITHM_PARAMETERS, f"weights SHA-256 {case.model.sha256}")
        yield content.text(relation, codes.ALGORITHM_PARAMETERS, f"configuration {case.configuration_hash}")
        yield content.code(relation, codes.ALGORITHM_FAMILY, codes.ARTIFICIAL_INTELLIGENCE)


def _detections(case: ReportCase) -> Dataset:
    """TID 4015 and 4017: on which images calcifications were looked for, and on which that failed."""
    read, refused = range(len(case.headers)), range(len(case.headers), len(_images(case)))
    performed = [content.container("INFERRED FROM", codes.SUCCESSFUL_DETECTIONS, _detection(case, read))]
    if refused:
        performed.append(content.container("INFERRED FROM", codes.FAILED_DETECTIONS, _detection(case, refused)))
    status = codes.PARTIALLY_SUCCEEDED if refused else codes.SUCCEEDED
    return content.code("CONTAINS", codes.SUMMARY_OF_DETECTIONS, status, *performed)


def _detection(case: ReportCase, places: Sequence[int]) -> Dataset:
    return content.code(
        "CONTAINS",
        codes.DETECTION_PERFORMED,
        case.looked_for,
        *_algorithm(case),
        *(content.reference("HAS PROPERTIES", _at(place)) for place in places),
    )


def _analyses(case: ReportCase) -> Dataset:
    """TID 4016 and 4018: the two views of a breast held together, each group assessed, and the study."""
    together = _seen_twice(case)
    every = range(len(case.headers))
    performed = [
        *([_analysis(case, codes.SPATIAL_COLLOCATION, together)] if together else []),
        *([_analysis(case, codes.INDIVIDUAL_IMPRESSION_ANALYSIS, every)] if case.outcome.findings else []),
        *([_analysis(case, codes.OVERALL_IMPRESSION_ANALYSIS, every)] if case.suggested else []),
    ]
    if not performed:
        return content.code("CONTAINS", codes.SUMMARY_OF_ANALYSES, codes.NOT_ATTEMPTED)
    held = content.container("INFERRED FROM", codes.SUCCESSFUL_ANALYSES, *performed)
    return content.code("CONTAINS", codes.SUMMARY_OF_ANALYSES, codes.SUCCEEDED, held)


def _seen_twice(case: ReportCase) -> list[int]:
    """The places of views of a breast of which there are several projections."""
    views = () if case.study is None else case.study.views
    projections: dict[str, set[str]] = {}
    for view in views:
        projections.setdefault(view.laterality, set()).add(view.projection)
    return [_place(case, view) for view in views if len(projections[view.laterality]) > 1]


def _analysis(case: ReportCase, analysis: Code, places: Sequence[int]) -> Dataset:
    return content.code(
        "CONTAINS",
        codes.ANALYSIS_PERFORMED,
        analysis,
        *_algorithm(case),
        *(content.reference("HAS PROPERTIES", _at(place)) for place in places),
    )


def _place(case: ReportCase, view: Mammogram) -> int:
    """The place, from 0, of a view among the images that were read."""
    return next(k for k, header in enumerate(case.headers) if str(header.SOPInstanceUID) == view.instance_uid)


def _percent(probability: float) -> float:
    return round(100 * probability, 1)

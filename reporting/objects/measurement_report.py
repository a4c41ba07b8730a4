"""Comprehensive 3D SR (PS3.3, A.35.13) by TID 1500: what was found, how sure, how large, by what; or absence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import highdicom as hd
import numpy as np
from pydicom import Dataset
from pydicom.uid import Comprehensive3DSRStorage, SegmentationStorage

from pipelines import codes
from pipelines.codes import Code
from pipelines.findings import Finding, Measurement, Region, Status
from reporting import uids
from reporting.document import concept, device_observer, evidence, finish, new_document
from reporting.narrative.narrative import Narrative
from reporting.projections import VIEWS, Placed, closed, outlined
from reporting.source import ReportCase

SEGMENTATION = "segmentation"
PRESENCE: dict[Status, Code] = {"finding": codes.PRESENT, "clean": codes.ABSENT, "unsure": codes.UNDETERMINED}
PRIORITY: Mapping[Code, Mapping[Status, Code]] = {
    codes.INTRACRANIAL_HEMORRHAGE: {"finding": codes.ACTIONABLE_MINUTES, "unsure": codes.ACTIONABLE_HOURS},
    codes.NODULE: {"finding": codes.ACTIONABLE_DAYS},
    codes.CALCIFICATION_CLUSTER: {"finding": codes.ACTIONABLE_DAYS},
}
"""How soon somebody has to be told of what was looked for (CID 7035)."""
SCALES: Mapping[Code, Code] = {codes.NODULE: codes.LUNG_RADS, codes.CALCIFICATION_CLUSTER: codes.BI_RADS}
"""The scale that the category suggested for a study is on, by what was looked for."""
TO_BE_TOLD = frozenset({
    codes.LUNG_RADS_4A, codes.LUNG_RADS_4B, codes.LUNG_RADS_4X,
    codes.BI_RADS_4A, codes.BI_RADS_4B, codes.BI_RADS_4C, codes.BI_RADS_5,
})  # fmt: skip
"""Those that Lung-RADS v2022 and BI-RADS call suspicious. What has another one waits for the next regular study."""
PROCEDURES: Mapping[Code, Code] = {codes.BREAST: codes.MAMMOGRAPHY_PROCEDURE}
"""What was done, by the body part; where it is not in here, a CT."""
LATERALITY = {"left": codes.LEFT, "right": codes.RIGHT, "bilateral": codes.BILATERAL}
METHODS = {codes.VOLUME: codes.SUM_OF_VOXELS}
DECIMALS = 3
Group = (
    hd.sr.MeasurementsAndQualitativeEvaluations
    | hd.sr.PlanarROIMeasurementsAndQualitativeEvaluations
    | hd.sr.VolumetricROIMeasurementsAndQualitativeEvaluations
)


class MeasurementReport:
    """The root of the results, which displays open first: it references every other one (IHE AI Results).

    Its first group (TID 1501) is the answer on the whole study: present, absent or undetermined, with score and
    priority. A group for each finding follows: by its segment (TID 1411) where there is a segmentation, by its outline
    on the image (TID 1410) on projections, else by its key image (TID 1501). Sentences and warnings stand in the
    container for qualitative evaluations (TID 1500, row 12).
    """

    kind = "measurement_report"
    sop_class_uid = Comprehensive3DSRStorage
    series_number = 9802

    def build(self, case: ReportCase, narrative: Narrative) -> tuple[Dataset, ...]:
        segmentation = (
            SegmentationStorage,
            uids.object_uid(case, SEGMENTATION),
            uids.series_uid(case, SEGMENTATION),
        )
        content = hd.sr.MeasurementReport(
            observation_context=hd.sr.ObservationContext(observer_device_context=device_observer(case)),
            procedure_reported=concept(PROCEDURES.get(case.site, codes.CT_PROCEDURE)),
            imaging_measurements=[
                _study_group(case),
                *(
                    _finding_group(case, number, finding, narrative)
                    for number, finding in zip(case.outcome.numbers, case.outcome.findings, strict=True)
                ),
            ],
            title=concept(codes.IMAGING_MEASUREMENT_REPORT),
            language_of_content_item_and_descendants=hd.sr.LanguageOfContentItemAndDescendants(concept(narrative.code)),
        )
        content[0].ContentSequence.append(_sentences(case, narrative))
        dataset = new_document(
            case,
            content[0],
            kind=self.kind,
            series_number=self.series_number,
            sop_class_uid=self.sop_class_uid,
            modality="SR",
        )
        dataset.CompletionFlag = "COMPLETE"
        dataset.VerificationFlag = "UNVERIFIED"
        dataset.PreliminaryFlag = "PRELIMINARY"
        dataset.PerformedProcedureCodeSequence = []
        dataset.CurrentRequestedProcedureEvidenceSequence = evidence(case, [segmentation] if case.segmented else ())
        return (finish(dataset, case, narrative.term("report"), narrative),)


OBJECT = MeasurementReport()


def _study_group(case: ReportCase) -> hd.sr.MeasurementsAndQualitativeEvaluations:
    """The answer on the whole study. Absence is said, not left to silence."""
    evaluations = [_evaluation(case.looked_for, PRESENCE[case.outcome.status])]
    if case.suggested is not None:
        evaluations.append(_evaluation(SCALES[case.looked_for], case.suggested))
    priority = _priority(case)
    if priority is not None:
        evaluations.append(_evaluation(codes.PRIORITY, priority))
    return hd.sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=hd.sr.TrackingIdentifier(uids.tracking_uid(case), case.looked_for.meaning),
        finding_type=concept(case.looked_for),
        finding_sites=[hd.sr.FindingSite(concept(case.site))],
        algorithm_id=_algorithm(case),
        measurements=[_certainty(case.outcome.score or 0.0)],
        qualitative_evaluations=evaluations,
        source_images=_key_images(case, case.key_slices()) or None,
    )


def _priority(case: ReportCase) -> Code | None:
    """By what was looked for and the answer; what is suggested to be not suspicious has none."""
    if case.suggested is not None and case.suggested not in TO_BE_TOLD:
        return None
    return PRIORITY.get(case.looked_for, {}).get(case.outcome.status)


def _finding_group(case: ReportCase, number: int, finding: Finding, narrative: Narrative) -> Group:
    laterality = LATERALITY.get(finding.side or "")
    shared: dict[str, Any] = {
        "tracking_identifier": hd.sr.TrackingIdentifier(finding.tracking_uid, narrative.tracking(number, finding)),
        "finding_category": concept(codes.MORPHOLOGICALLY_ABNORMAL),
        "finding_type": concept(finding.kind),
        "finding_sites": [hd.sr.FindingSite(concept(case.site), laterality and concept(laterality))],
        "algorithm_id": _algorithm(case),
        "measurements": [*map(_measured, finding.measurements), _certainty(finding.certainty)],
        "qualitative_evaluations": [
            _evaluation(finding.kind, PRESENCE[case.outcome.status]),
            *(_evaluation(question, answer) for question, answer in finding.attributes.items()),
        ],
    }
    for placed in outlined(case):
        if placed.finding is finding:
            shared["qualitative_evaluations"].append(_evaluation(codes.IMAGE_VIEW, VIEWS[placed.view.projection]))
            return hd.sr.PlanarROIMeasurementsAndQualitativeEvaluations(**shared, referenced_region=_region(placed))
    if finding not in case.segmented:
        keys = [k for k in case.key_slices() if case.headers[k].SOPInstanceUID == finding.key_instance_uid]
        return hd.sr.MeasurementsAndQualitativeEvaluations(**shared, source_images=_key_images(case, keys) or None)
    return hd.sr.VolumetricROIMeasurementsAndQualitativeEvaluations(
        **shared, referenced_segment=_segment(case, finding)
    )


def _segment(case: ReportCase, finding: Finding) -> hd.sr.ReferencedSegment:
    """The finding's segment and the images it was drawn on."""
    number = case.segmented.index(finding) + 1
    slices = cast("Region", finding.region).slice_index
    frames = [case.frames[k] for k in slices] if case.multi_frame else None
    images: dict[str, hd.sr.SourceImageForSegmentation] = {}
    for k in slices:
        header = case.headers[k]
        images.setdefault(
            str(header.SOPInstanceUID),
            hd.sr.SourceImageForSegmentation(str(header.SOPClassUID), str(header.SOPInstanceUID), frames),
        )
    for image in images.values():
        image.ConceptNameCodeSequence = [concept(codes.SOURCE_IMAGE_FOR_SEGMENTATION)]
    return hd.sr.ReferencedSegment(
        sop_class_uid=SegmentationStorage,
        sop_instance_uid=uids.object_uid(case, SEGMENTATION),
        segment_number=number,
        source_images=list(images.values()),
    )


def _region(placed: Placed) -> hd.sr.ImageRegion:
    """The finding's outline on its image (TID 1410, row 5)."""
    return hd.sr.ImageRegion(
        graphic_type=hd.sr.GraphicTypeValues.POLYLINE,
        graphic_data=np.array(closed(placed.outline.points)),
        source_image=hd.sr.SourceImageForRegion(
            str(placed.view.header.SOPClassUID), str(placed.view.header.SOPInstanceUID)
        ),
    )


def _key_images(case: ReportCase, slices: tuple[int, ...] | list[int]) -> list[hd.sr.SourceImageForMeasurementGroup]:
    return [
        hd.sr.SourceImageForMeasurementGroup(
            str(case.headers[k].SOPClassUID),
            str(case.headers[k].SOPInstanceUID),
            [case.frames[k]] if case.multi_frame else None,
        )
        for k in slices
    ]


def _measured(measurement: Measurement) -> hd.sr.Measurement:
    method = METHODS.get(measurement.name)
    return hd.sr.Measurement(
        name=concept(measurement.name),
        value=round(measurement.value, DECIMALS),
        unit=concept(measurement.unit),
        method=method and concept(method),
    )


def _certainty(probability: float) -> hd.sr.Measurement:
    return hd.sr.Measurement(
        name=concept(codes.CERTAINTY), value=round(100 * probability, 1), unit=concept(codes.PERCENT)
    )


def _evaluation(question: Code, answer: Code) -> hd.sr.QualitativeEvaluation:
    return hd.sr.QualitativeEvaluation(concept(question), concept(answer))


def _algorithm(case: ReportCase) -> hd.sr.AlgorithmIdentification:
    """TID 4019."""
    return hd.sr.AlgorithmIdentification(
        name=case.model.name,
        version=case.model.version,
        parameters=[f"weights SHA-256 {case.model.sha256}", f"configuration {case.configuration_hash}"],
        family=concept(codes.ARTIFICIAL_INTELLIGENCE),
    )


def _sentences(case: ReportCase, narrative: Narrative) -> hd.sr.ContainerContentItem:
    """The impression, each finding, what a suggestion rests on, each warning, how it was measured, no diagnosis."""
    outcome = case.outcome
    comments = [
        *(
            narrative.finding(number, finding, outcome.compared_with)
            for number, finding in zip(outcome.numbers, outcome.findings, strict=True)
        ),
        *narrative.assessed(outcome, case.looked_for, case.suggested),
        *(narrative.reason(warning) for warning in outcome.warnings),
        *narrative.measured_how(outcome, case.study),
        *narrative.left_out(case.study),
        narrative.disclaimer,
    ]
    container = hd.sr.ContainerContentItem(
        name=concept(codes.QUALITATIVE_EVALUATIONS), relationship_type=hd.sr.RelationshipTypeValues.CONTAINS
    )
    container.ContentSequence = hd.sr.ContentSequence(
        [_text(codes.IMPRESSION, narrative.impression(outcome, case.looked_for))]
        + [_text(codes.COMMENT, comment) for comment in comments]
    )
    return container


def _text(name: Code, value: str) -> hd.sr.TextContentItem:
    return hd.sr.TextContentItem(
        name=concept(name), value=value, relationship_type=hd.sr.RelationshipTypeValues.CONTAINS
    )

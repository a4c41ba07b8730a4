"""From the groups of all views to the study's findings, scores, and what is suggested."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from pipelines import codes
from pipelines.calcification import assess
from pipelines.calcification.breast import Breast
from pipelines.calcification.correspond import Marked, correspond, is_bilateral
from pipelines.calcification.describe import describe, finding_of
from pipelines.calcification.group import Group
from pipelines.calcification.place import frame_of
from pipelines.codes import Code
from pipelines.findings import Finding
from pipelines.mammogram import Laterality, Mammogram


@dataclass(frozen=True, slots=True, eq=False)
class Conclusion:
    """What is said of a study.

    `findings` come the most suspicious first, by category and then certainty. Scores are the highest certainty of the
    groups, told of or not, on a view (by instance UID), in a breast, and in the study; 0 where there is none.
    `category` is the highest that is suggested, `priority` how soon it is to be told, if it is.
    """

    findings: tuple[Finding, ...]
    score_by_view: Mapping[str, float]
    score_by_breast: Mapping[Laterality, float]
    score: float
    category: Code
    priority: Code | None


def conclude(
    views: Sequence[tuple[Mammogram, Breast, Sequence[Group]]], *, least: float, model_sha256: str
) -> Conclusion:
    """Describe the groups of each view, find them again on the other, and assess them.

    `views` are all that were read, in the study's order. Groups that are less certain than `least` once the views were
    compared are no findings. `model_sha256` names the weights.
    """
    frames = [(view, frame_of(view, breast)) for view, breast, _ in views]
    alone = [
        Marked.alone(view, frame, group, describe(view, breast, frame, group))
        for (view, breast, groups), (_, frame) in zip(views, frames, strict=True)
        for group in groups
    ]
    marked = correspond(alone, frames)
    told = {k: _finding(marked, k, least, model_sha256) for k, one in enumerate(marked) if one.certainty >= least}
    findings = [
        replace(finding, partner_uid=told[partner].tracking_uid)
        if (partner := marked[k].partner) is not None and partner in told
        else finding
        for k, finding in told.items()
    ]
    by_view = {
        view.instance_uid: max((one.certainty for one in marked if one.view is view), default=0.0)
        for view, _, _ in views
    }
    by_breast: dict[Laterality, float] = {}
    for view, _, _ in views:
        by_breast[view.laterality] = max(by_breast.get(view.laterality, 0.0), by_view[view.instance_uid])
    category = assess.study_category(finding.attributes[codes.BI_RADS] for finding in findings)
    return Conclusion(
        findings=tuple(sorted(findings, key=_concern)),
        score_by_view=by_view,
        score_by_breast=by_breast,
        score=max(by_view.values(), default=0.0),
        category=category,
        priority=assess.priority_of(category),
    )


def _finding(marked: Sequence[Marked], k: int, least: float, model_sha256: str) -> Finding:
    one = marked[k]
    finding = finding_of(
        one.view,
        one.group,
        one.description,
        certainty=one.certainty,
        region=one.region,
        model_sha256=model_sha256,
    )
    facts = assess.Facts(one.description.type, one.description.distribution, is_bilateral(one, marked, least))
    return replace(finding, attributes={**finding.attributes, codes.BI_RADS: assess.assess(facts).category})


def _concern(finding: Finding) -> tuple[int, float]:
    return -codes.BI_RADS_ORDER.index(finding.attributes[codes.BI_RADS]), -finding.certainty

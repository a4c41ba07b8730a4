"""Which series of a study is read. What the standard leaves to taste stands in the tables of this file.

A rule says what a series shows; whether it is the right one of its study is decided here: what is no stack of axial
images is left out, and of the series that compete for one pipeline the best is read, by the criteria in their order. A
pipeline that reads whole studies gets all series that are for it, together.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from pydicom.uid import UID, CTImageStorage, SegmentationStorage

import dicom_node.reasons  # noqa: F401  (enters the service's rows)
from dicom_node.headers import STANDARD_VIEWS, InstanceFacts
from dicom_node.route.kernels import Kernel, classify
from dicom_node.route.policy import Evaluation, fired
from dicom_node.stack import Stack, is_localizer, stack_of
from pipelines.instance import MULTI_FRAME
from pipelines.mammogram_header import PRESENTED_CLASS, RAW_CLASS, TOMOSYNTHESIS
from pipelines.reasons import Fact, Reason

Kind = Literal[
    "image", "object", "localizer", "secondary_capture", "screen", "parametric_map", "projection", "color",
    "tomosynthesis",
]  # fmt: skip
Standing = Literal["receiving", "undecided", "read"]
Arrival = Literal["going_on", "quiet", "overdue"]
Action = Literal["read", "ignored", "not_read"]

FEWEST_SLICES = 3
FARTHEST_FROM_AXIAL = 45.0
"""Degrees. Gantries tilt by up to 30; coronal and sagittal stacks are at 60 and more."""

# Classes that are what they are, whatever words stand in their descriptions.
KIND_OF_CLASS: Mapping[str, Kind] = {
    PRESENTED_CLASS: "image",
    RAW_CLASS: "image",
    **dict.fromkeys(TOMOSYNTHESIS, "tomosynthesis"),
}
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
# Image Type (0008,0008), values 3 and later, by the names of PS3.3 C.8.2.1.1.1 and of the makers.
IMAGE_TYPES: tuple[tuple[Kind, frozenset[str]], ...] = (
    ("screen", frozenset({
        "DOSE_INFO", "PATIENT_INFO", "RESULTS", "SCREENSHOT", "SCREEN SAVE", "SCREEN_SAVE", "PROT", "DOSE REPORT",
        "PASTED",
    })),
    ("parametric_map", frozenset({
        "PERFUSION", "RCBF", "RCBV", "CBF", "CBV", "MTT", "TTP", "TMAX", "PERMEABILITY", "PARAMETRIC", "MAP",
        "MATERIAL_MAP", "Z_EFF", "ELECTRON_DENSITY",
    })),
    ("projection", frozenset({
        "MIP", "MAX_IP", "MIN_IP", "MINIP", "PROJECTION", "PROJECTION IMAGE", "VRT", "SSD", "3D", "VOLUME_RENDERED",
    })),
)  # fmt: skip
PROJECTION_WORDS = re.compile(r"\b(MIP|MINIP|VRT|3D)\b", re.IGNORECASE)
CONTRAST_WORDS = re.compile(r"\bC\+|\+C\b|\bCT[AV]\b|ANGIO|\bPOST[ -]?(C|CON|CONTRAST|KM|IV)\b", re.IGNORECASE)
NO_CONTRAST = frozenset({"", "NO", "NONE", "N", "NATIVE", "WITHOUT", "WO", "W/O"})
REASON_OF_KIND: Mapping[Kind, str] = {
    "localizer": "selection.localizer",
    "secondary_capture": "selection.secondary_capture",
    "screen": "selection.screen",
    "parametric_map": "selection.parametric_map",
    "projection": "selection.projection",
    "color": "selection.color",
    "tomosynthesis": "view.tomosynthesis",
}
NOT_READ = frozenset({"view.tomosynthesis"})
"""Reasons that leave something to be read by eye: the series is not ignored, it is not read."""


@dataclass(frozen=True, slots=True)
class SeriesFacts:
    """What is known of a series from the headers of its instances. `acquired` grows with time; 0 is unknown.

    `standard_views` are those of a mammography study that it holds, sorted.
    """

    series_instance_uid: str
    series_number: int | None
    modality: str
    sop_class_uid: str
    kind: Kind
    is_own_result: bool
    is_derived: bool
    kernel: Kernel
    has_contrast: bool
    acquired: float
    stack: Stack | None
    standard_views: tuple[str, ...] = ()

    @property
    def slices(self) -> int:
        return self.stack.slices if self.stack else 0

    @property
    def thickness_mm(self) -> float:
        return self.stack.thickness_mm if self.stack else 0.0


@dataclass(frozen=True, slots=True)
class Preference:
    """What a pipeline wants of a CT series. `kernels` are groups, the best first; what is thicker or shorter than said
    is taken only where there is nothing else."""

    kernels: tuple[tuple[Kernel, ...], ...] = (("soft",), ("unknown",), ("bone", "lung"))
    thickest_mm: float = 5.0
    shortest_mm: float = 0.0
    avoids_contrast: bool = False


PREFERENCES: Mapping[str, Preference] = {
    "hemorrhage": Preference(thickest_mm=5.0, shortest_mm=80.0, avoids_contrast=True),
    "nodule": Preference(kernels=(("lung", "soft"), ("unknown",), ("bone",)), thickest_mm=2.5, shortest_mm=200.0),
}
"""By pipeline; others take a `Preference()`."""


@dataclass(frozen=True, slots=True)
class Criterion:
    """One question of the comparison: the smaller `key` wins; `shown` is what the reason tells of either series.

    `at_best` is the key that a series may yet come to have while it still arrives, None where it does not change.
    """

    reason: str
    key: Callable[[SeriesFacts, Preference], float]
    shown: Callable[[SeriesFacts], Fact]
    at_best: float | None = None


CRITERIA: tuple[Criterion, ...] = (
    Criterion("selection.few_slices", lambda s, _: s.slices < FEWEST_SLICES, lambda s: s.slices, at_best=0),
    Criterion(
        "selection.small_extent",
        lambda s, p: s.stack is None or s.stack.extent_mm < p.shortest_mm,
        lambda s: round(s.stack.extent_mm) if s.stack else 0,
        at_best=0,
    ),
    Criterion(
        "selection.kernel",
        lambda s, p: next((i for i, group in enumerate(p.kernels) if s.kernel in group), len(p.kernels)),
        lambda s: s.kernel,
    ),
    Criterion(
        "selection.contrast",
        lambda s, p: s.has_contrast and p.avoids_contrast,
        lambda s: "with" if s.has_contrast else "without",
    ),
    Criterion("selection.derived", lambda s, _: s.is_derived, lambda s: "derived" if s.is_derived else "original"),
    Criterion(
        "selection.incomplete",
        lambda s, _: s.stack is not None and s.stack.has_gap,
        lambda s: "incomplete" if s.stack and s.stack.has_gap else "complete",
        at_best=0,
    ),
    Criterion(
        "selection.thicker", lambda s, p: s.thickness_mm > p.thickest_mm + 0.05, lambda s: round(s.thickness_mm, 2)
    ),
    Criterion("selection.thicker", lambda s, _: round(s.thickness_mm, 1), lambda s: round(s.thickness_mm, 2)),
    Criterion("selection.fewer_slices", lambda s, _: -s.slices, lambda s: s.slices, at_best=float("-inf")),
    Criterion("selection.earlier", lambda s, _: -s.acquired, lambda _: "earlier"),
)
"""In the order in which they decide. Equal series are told apart by their UIDs."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A series of a study, the rules that were asked about it, and where it stands.

    `read` means that its newest revision was sent to a pipeline before; `receiving`, that only its first instances are
    known.
    """

    series: SeriesFacts
    evaluations: tuple[Evaluation, ...]
    standing: Standing

    @property
    def route(self) -> Evaluation | None:
        return fired(self.evaluations)


@dataclass(frozen=True, slots=True)
class Choice:
    """What becomes of one series. `reason` is set when it is not read.

    `instead_of` names series that were read before this better one came; `together` are those of the study that are
    read with it, anew where they were read before.
    """

    candidate: Candidate
    reason: Reason | None = None
    instead_of: tuple[str, ...] = field(default=())
    together: tuple[Candidate, ...] = field(default=())

    @property
    def action(self) -> Action:
        if self.reason is None:
            return "read"
        return "not_read" if self.reason.code in NOT_READ else "ignored"

    @property
    def together_with(self) -> tuple[str, ...]:
        """The UIDs of the series that are read with it."""
        return tuple(sorted(one.series.series_instance_uid for one in self.together))


def typical(instances: Sequence[InstanceFacts]) -> tuple[InstanceFacts, ...]:
    """The instances that make a series what it is, in order: its images if it has any, else what most of it is."""
    kinds = Counter(_kind(instance) for instance in instances)
    kind: Kind = "image" if kinds["image"] else kinds.most_common(1)[0][0]
    alike = (instance for instance in instances if _kind(instance) == kind)
    return tuple(sorted(alike, key=lambda instance: (instance.instance_number or 0, instance.sop_instance_uid)))


def describe(instances: Sequence[InstanceFacts], *, is_own_result: bool) -> SeriesFacts:
    """The facts of a series from its `typical` instances, of which there is at least one."""
    first = instances[0]
    return SeriesFacts(
        series_instance_uid=first.series_instance_uid,
        series_number=first.series_number,
        modality=first.modality,
        sop_class_uid=first.sop_class_uid,
        kind=_kind(first),
        is_own_result=is_own_result,
        is_derived=first.image_type[:1] == ("DERIVED",) or first.image_type[1:2] == ("SECONDARY",),
        kernel=classify(first.manufacturer, first.kernel, first.series_description),
        has_contrast=_has_contrast(first),
        acquired=_sortable(first.acquired),
        stack=stack_of(instances),
        standard_views=tuple(sorted({one.standard_view for one in instances} & STANDARD_VIEWS)),
    )


def select(
    study: Sequence[Candidate], *, whole_studies: Collection[str] = (), arrival: Arrival = "overdue"
) -> tuple[Choice, ...]:
    """What becomes of each undecided series of a study that can be decided now; the others wait.

    They wait for a rival that still arrives, or, for one of the pipelines that read `whole_studies`, for the rest of
    the study: until it has all standard views or is `quiet`, and nothing for that pipeline still arrives. A study that
    is `overdue` waits no longer.
    """
    choices = []
    contenders: dict[str, list[Candidate]] = {}
    for candidate in study:
        if candidate.standing != "undecided":
            continue
        reason = _why_not(candidate)
        if reason is not None or candidate.route is None:
            choices.append(Choice(candidate, reason))
        elif candidate.series.modality != "CT" and candidate.route.pipeline not in whole_studies:
            choices.append(Choice(candidate))
        else:
            contenders.setdefault(candidate.route.pipeline, []).append(candidate)
    for pipeline, group in contenders.items():
        if pipeline in whole_studies:
            choices += _together(group, _rivals(study, pipeline), arrival)
            continue
        choices += _choose(group, _rivals(study, pipeline), PREFERENCES.get(pipeline, Preference()))
    return tuple(choices)


def has_all_standard_views(study: Iterable[SeriesFacts]) -> bool:
    """Whether nothing more is awaited: every standard view is there, in each class of image that is there at all.

    Many machines send each view for presentation and for processing.
    """
    views: dict[str, set[str]] = {}
    for series in study:
        views.setdefault(series.sop_class_uid, set()).update(series.standard_views)
    return bool(views) and all(held >= STANDARD_VIEWS for held in views.values())


def rank(series: SeriesFacts, preference: Preference, *, still_arrives: bool = False) -> tuple[float, ...]:
    """How a series meets the criteria, smaller being better."""
    return tuple(
        criterion.at_best
        if still_arrives and criterion.at_best is not None
        else float(criterion.key(series, preference))
        for criterion in CRITERIA
    )


def _choose(group: Sequence[Candidate], rivals: Sequence[Candidate], preference: Preference) -> list[Choice]:
    def order(candidate: Candidate) -> tuple[tuple[float, ...], str]:
        return rank(candidate.series, preference), candidate.series.series_instance_uid

    read = [rival for rival in rivals if rival.standing == "read"]
    arriving = [rival.series for rival in rivals if rival.standing == "receiving"]
    best = min((*group, *read), key=order)
    if best.standing == "undecided":
        if any(rank(series, preference, still_arrives=True) < rank(best.series, preference) for series in arriving):
            return []
        chosen = [Choice(best, instead_of=tuple(rival.series.series_instance_uid for rival in read))]
    else:
        chosen = []
    others = [candidate for candidate in group if candidate is not best]
    return chosen + [Choice(other, _why_second(other.series, best.series, preference)) for other in others]


def _together(group: Sequence[Candidate], rivals: Sequence[Candidate], arrival: Arrival) -> list[Choice]:
    every = [*group, *(rival for rival in rivals if rival.standing == "read")]
    arriving = len(group) + len(rivals) > len(every)
    is_awaited = arriving or (arrival != "quiet" and not has_all_standard_views(one.series for one in every))
    if is_awaited and arrival != "overdue":
        return []
    return [Choice(one, together=tuple(other for other in every if other is not one)) for one in group]


def _rivals(study: Sequence[Candidate], pipeline: str) -> list[Candidate]:
    """Series that were read by the pipeline, or may want to be when they have arrived."""
    return [
        candidate
        for candidate in study
        if candidate.standing != "undecided"
        and (candidate.route is not None and candidate.route.pipeline == pipeline)
        and _why_not(candidate) is None
    ]


def _why_not(candidate: Candidate) -> Reason | None:
    """Why a series is not read whatever else the study holds."""
    series = candidate.series
    if series.is_own_result:
        return Reason("route.own_result")
    if series.kind == "object":
        return Reason("input.not_an_image_to_read", {"detail": _class_name(series.sop_class_uid)})
    if series.kind != "image" and (candidate.route is not None or series.modality == "CT"):
        return Reason(REASON_OF_KIND[series.kind])
    if candidate.route is None:
        return Reason("route.no_rule")
    if series.modality == "CT" and series.stack and series.stack.degrees_from_axial > FARTHEST_FROM_AXIAL:
        return Reason("geometry.not_axial", {"angle": round(series.stack.degrees_from_axial)})
    return None


def _why_second(own: SeriesFacts, best: SeriesFacts, preference: Preference) -> Reason:
    pairs = zip(CRITERIA, rank(own, preference), rank(best, preference), strict=True)
    number: Fact = best.series_number if best.series_number is not None else "without a number"
    for criterion, mine, theirs in pairs:
        if mine != theirs:
            facts = {"own": criterion.shown(own), "chosen": criterion.shown(best), "chosen_series": number}
            return Reason(criterion.reason, facts)
    return Reason("selection.equal", {"chosen_series": number})


def _kind(instance: InstanceFacts) -> Kind:
    sop_class = instance.sop_class_uid
    if sop_class in KIND_OF_CLASS:
        return KIND_OF_CLASS[sop_class]
    is_ct = sop_class == CTImageStorage or sop_class in MULTI_FRAME
    if not is_ct and (instance.samples_per_pixel is None or sop_class == SegmentationStorage):
        return "object"
    if sop_class == SECONDARY_CAPTURE or sop_class.startswith(f"{SECONDARY_CAPTURE}."):
        return "secondary_capture"
    return _kind_by_words(instance)


def _kind_by_words(instance: InstanceFacts) -> Kind:
    if is_localizer(instance):
        return "localizer"
    for kind, types in IMAGE_TYPES:
        if not types.isdisjoint(instance.image_type[2:]):
            return kind
    if PROJECTION_WORDS.search(instance.series_description):
        return "projection"
    return "color" if (instance.samples_per_pixel or 1) > 1 else "image"


def _class_name(sop_class_uid: str) -> str:
    name = UID(sop_class_uid).name
    return "an unknown class" if name == sop_class_uid else name


def _has_contrast(instance: InstanceFacts) -> bool:
    return instance.contrast.upper() not in NO_CONTRAST or bool(CONTRAST_WORDS.search(instance.series_description))


def _sortable(acquired: str) -> float:
    """Date and time as a number that grows with it."""
    found = re.match(r"\d{8,14}", acquired)
    return float(found[0].ljust(14, "0")) if found else 0.0

"""How well groups of calcifications are found, on a folder of labelled mammograms (`labelled` says in which form).

Each group that is told of counts as a mark. A mark hits a target when its centre lies within the target's circle, of
which no radius is taken below 5 mm (the truth says where a group is, not how far it reaches; 1 cm is BI-RADS' least
circle of a group), or when the mark's outline and that circle overlap by a fifth of what both cover (Jaccard). A mark
may hit several targets, of several marks on a target the surest counts, the others are no false marks. On an image
whose calcifications have no place in the table no mark is right or wrong: it counts for the areas under the ROC curve
alone.

An image that was not read has no score. It is listed with its reason and counted against the reader: score 0.5 in the
areas, its targets missed. Intervals are of 95 %, by drawing women with all their images.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from models.evaluation.classification import Interval, roc_auc, roc_auc_interval
from models.evaluation.free_response import Case, curve_of, drawn, entries_of, interval_of, pair
from models.evaluation.plot import Plot, picture
from pipelines.calcification.films import load_film
from pipelines.calcification.labelled import ImageTruth, Target, is_film, read_truth
from pipelines.findings import Finding, Outline
from pipelines.geometry import Floats
from pipelines.mammogram import Mammogram, MammogramStudy
from pipelines.reasons import Reason, Refusal, refuse

HIT_RULE = (
    "a mark's centre within the truth's circle (radius at least 5 mm), or its outline and that circle overlapping by "
    "at least a fifth of their union"
)
LEAST_RADIUS_MM, LEAST_OVERLAP = 5.0, 0.2
NO_OPINION = 0.5
POINTS = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 4.0)
"""False marks per image at which the sensitivity is told."""
WORDS = ("0.05", "0.1", "0.2", "0.5", "1", "2", "4")
GRID: Floats = np.unique(np.concatenate([np.geomspace(POINTS[0], POINTS[-1], 97), POINTS]))
DRAWS = 1000
"""Draws for each interval."""

Progress = Callable[[int, int], None]


class StudyReading(Protocol):
    """What a reader says of a study (`conclude.Conclusion` does): the groups that it tells of, doubtful ones too, and a
    score from 0 to 1 for each view that it read, by instance UID.
    """

    @property
    def findings(self) -> tuple[Finding, ...]: ...

    @property
    def score_by_view(self) -> Mapping[str, float]: ...


class StudyReader(Protocol):
    """What the reader of this pipeline can do beside reading files."""

    def read_study(self, study: MammogramStudy) -> StudyReading: ...


Read = Callable[[MammogramStudy], StudyReading]
Load = Callable[[Sequence[Path]], MammogramStudy]


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """A mark, with the numbers of the targets that it hits."""

    finding: Finding
    hits: tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Image:
    """One image: what is true, what was said, and its grey values (0 to 255) to show both on; `seconds` are those of
    its whole study. `score` is None where it was not read, and `reason` says why.
    """

    truth: ImageTruth
    grey: NDArray[np.uint8] | None
    spacing_mm: float
    marks: tuple[Found, ...]
    score: float | None
    seconds: float
    reason: Reason | None = None

    @property
    def counted_score(self) -> float:
        return NO_OPINION if self.score is None else self.score

    @property
    def is_scored(self) -> bool:
        """Whether its marks are right or wrong."""
        return self.truth.is_positive is not None and self.truth.is_located

    @property
    def best_hits(self) -> tuple[float | None, ...]:
        """For each target the certainty of the surest mark on it, None where there is none."""
        return tuple(
            max((mark.finding.certainty for mark in self.marks if k in mark.hits), default=None)
            for k in range(len(self.truth.targets))
        )

    @property
    def false_marks(self) -> tuple[float, ...]:
        """The certainties of marks that hit nothing."""
        return tuple(mark.finding.certainty for mark in self.marks if not mark.hits)

    def as_json(self) -> dict[str, object]:
        return {
            "image": self.truth.name,
            "woman": self.truth.woman,
            "positive": self.truth.is_positive,
            "severity": self.truth.severity,
            "score": None if self.score is None else round(self.score, 4),
            "reason": None if self.reason is None else self.reason.as_json(),
            "hits": self.best_hits if self.is_scored else None,
            "false_marks": self.false_marks if self.is_scored else None,
            "seconds": round(self.seconds, 3),
        }


@dataclass(frozen=True, slots=True, eq=False)
class Froc:
    """Part of the targets found at `POINTS` and `GRID` false marks per image, with intervals (`band` is [2, grid]).

    `thresholds` and `false_marks` are those of the operating points, as the threshold falls from infinity.
    """

    at_points: Floats
    intervals: tuple[Interval, ...]
    on_grid: Floats
    band: Floats
    thresholds: Floats
    false_marks: Floats


@dataclass(frozen=True, slots=True, eq=False)
class Report:
    """All figures. Curves are None without targets; `froc_on_normals` and `froc_on_positives` count the false marks on
    normal, and on positive images alone, and are None where there are no such images.
    """

    images: tuple[Image, ...]
    image_auc: float | None
    image_auc_interval: Interval | None
    case_auc: float | None
    case_auc_interval: Interval | None
    froc: Froc | None
    froc_on_normals: Froc | None
    froc_on_positives: Froc | None

    @property
    def targets(self) -> int:
        """Targets that can be hit."""
        return sum(len(image.truth.targets) for image in self.images if image.is_scored)

    def threshold_at(self, false_marks_per_image: float) -> float:
        """The lowest certainty at which there are no more false marks than this per image; infinite without a curve."""
        if self.froc is None:
            return float("inf")
        within = np.flatnonzero(self.froc.false_marks <= false_marks_per_image)
        return float(self.froc.thresholds[within[-1]])

    def as_json(self) -> dict[str, object]:
        labelled = [image for image in self.images if image.truth.is_positive is not None]
        seconds = [image.seconds for image in self.images]
        return {
            "schema": 1,
            "hit_rule": HIT_RULE,
            "images": len(self.images),
            "positives": sum(image.truth.is_positive is True for image in labelled),
            "normals": sum(image.truth.is_positive is False for image in labelled),
            "unlabelled": len(self.images) - len(labelled),
            "without_place": sum(not image.truth.is_located for image in labelled),
            "women": len({image.truth.woman for image in labelled}),
            "targets": self.targets,
            "not_read": sum(image.score is None for image in self.images),
            "image_auc": self.image_auc,
            "image_auc_interval": self.image_auc_interval,
            "case_auc": self.case_auc,
            "case_auc_interval": self.case_auc_interval,
            "froc": _as_json(self.froc),
            "froc_on_normals": _as_json(self.froc_on_normals),
            "froc_on_positives": _as_json(self.froc_on_positives),
            "seconds_median": float(np.median(seconds)) if seconds else None,
            "cases": [image.as_json() for image in self.images],
        }


def evaluate(
    folder: Path,
    read: Read,
    load: Load,
    *,
    spacing_um: float | None = None,
    progress: Progress = lambda _done, _total: None,
) -> Report:
    """Read every image of a folder and compare with its truth. `load` reads the DICOM files of one study.

    Refuses (`evaluation.wrong_data`) before anything is read: a table that has not the form, and films without
    `spacing_um`, the side of a pixel, which their files do not tell.
    """
    truths = read_truth(folder)
    film = next((truth.name for truth in truths if is_film(Path(truth.name))), None)
    if film is not None and spacing_um is None:
        raise refuse("evaluation.wrong_data", detail=f"{film} does not tell the side of its pixels (--spacing-um)")
    studies: dict[str, list[ImageTruth]] = {}
    for truth in truths:
        studies.setdefault(truth.study, []).append(truth)
    images: list[Image] = []
    for members in studies.values():
        images += _read(folder, members, read, load, (spacing_um or 0.0) / 1000)
        progress(len(images), len(truths))
    order = {truth.name: k for k, truth in enumerate(truths)}
    return report_on(sorted(images, key=lambda image: order[image.truth.name]))


def report_on(images: Sequence[Image]) -> Report:
    """The figures of images that have been read."""
    labelled = [image for image in images if image.truth.is_positive is not None]
    scored = [image for image in images if image.is_scored]
    positive = [bool(image.truth.is_positive) for image in labelled]
    women = [image.truth.woman for image in labelled]
    scores = [image.counted_score for image in labelled]
    case_scores, case_positive = _by_woman(women, scores, positive)
    normal = np.array([image.truth.is_positive is False for image in scored], np.bool_)
    return Report(
        images=tuple(images),
        image_auc=roc_auc(scores, positive),
        image_auc_interval=roc_auc_interval(scores, positive, together=women),
        case_auc=roc_auc(case_scores, case_positive),
        case_auc_interval=roc_auc_interval(case_scores, case_positive),
        froc=_froc(scored, None),
        froc_on_normals=_froc(scored, normal),
        froc_on_positives=_froc(scored, ~normal),
    )


def radius_px(target: Target, spacing_mm: float) -> float:
    """The radius within which a mark's centre hits a target."""
    return max(target.radius_px or 0.0, LEAST_RADIUS_MM / spacing_mm)


def hits_of(finding: Finding, targets: Sequence[Target], spacing_mm: float) -> tuple[int, ...]:
    """The numbers of the targets that a mark hits."""
    return tuple(k for k, target in enumerate(targets) if _is_hit(finding, target, spacing_mm))


def froc_plot(report: Report, title: str) -> bytes | None:
    """The curve as a PNG: false marks on all images, and apart from those on normal ones; None without targets."""
    if report.froc is None:
        return None
    area = "–" if report.image_auc is None else f"{report.image_auc:.3f}"
    ends = report.image_auc_interval
    told = f"image AUC {area}" + ("" if ends is None else f" ({ends[0]:.3f} to {ends[1]:.3f})")
    normals = report.froc_on_normals
    return picture(
        Plot(
            GRID,
            report.froc.on_grid,
            report.froc.band,
            POINTS,
            WORDS,
            "False marks per image",
            title,
            f"{told} · {report.targets} groups, {len(report.images)} images; shaded: 95 % interval",
            "false marks on all images",
            None if normals is None else ("false marks on normal images", normals.on_grid),
        )
    )


def _read(folder: Path, truths: Sequence[ImageTruth], read: Read, load: Load, spacing_mm: float) -> list[Image]:
    """The images of one study."""
    began = time.perf_counter()
    paths = [folder / truth.name for truth in truths]
    try:
        study = MammogramStudy((load_film(paths[0], spacing_mm),)) if is_film(paths[0]) else load(paths)
        reading = read(study)
    except Refusal as refusal:
        return [Image(truth, None, 1.0, (), None, time.perf_counter() - began, refusal.reason) for truth in truths]
    seconds = time.perf_counter() - began
    views = {view.instance_uid: view for view in study.views}
    refused = {one.instance_uid: one.reason for one in study.refused}
    return [
        _image(truth, views[truth.instance_uid], reading, seconds)
        if truth.instance_uid in views
        else Image(truth, None, 1.0, (), None, seconds, refused.get(truth.instance_uid))
        for truth in truths
    ]


def _image(truth: ImageTruth, view: Mammogram, reading: StudyReading, seconds: float) -> Image:
    marks = [finding for finding in reading.findings if finding.key_instance_uid == view.instance_uid]
    side = view.spacing.object_mm
    return Image(
        truth=truth,
        grey=(view.pixels * 255).astype(np.uint8),
        spacing_mm=side,
        marks=tuple(Found(mark, hits_of(mark, truth.targets, side)) for mark in marks),
        score=reading.score_by_view.get(view.instance_uid),
        seconds=seconds,
    )


def _is_hit(finding: Finding, target: Target, spacing_mm: float) -> bool:
    outline = finding.region
    if finding.center_px is None or not isinstance(outline, Outline):
        raise ValueError("a mark on a mammogram has a centre and an outline")
    radius = radius_px(target, spacing_mm)
    away = np.hypot(*np.subtract(finding.center_px, target.center_px))
    return bool(away < radius) or overlap(np.array(outline.points), target.center_px, radius) >= LEAST_OVERLAP


def overlap(polygon: Floats, center: tuple[float, float], radius: float) -> float:
    """What a polygon [n, 2] and a circle share, as a part of what both cover, on 100 x 100 places."""
    low = np.minimum(polygon.min(axis=0), np.array(center) - radius)
    high = np.maximum(polygon.max(axis=0), np.array(center) + radius)
    steps = (np.arange(100) + 0.5) / 100
    x, y = np.meshgrid(*(low[axis] + steps * (high[axis] - low[axis]) for axis in (0, 1)))
    in_circle = np.hypot(x - center[0], y - center[1]) < radius
    in_polygon = np.zeros(x.shape, np.bool_)
    for (x1, y1), (x2, y2) in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
        # Each edge that a ray to the right crosses turns inside to outside.
        crossed = (y1 > y) != (y2 > y)
        if crossed.any():
            in_polygon ^= crossed & (x < (x2 - x1) * (y - y1) / (y2 - y1 + (y1 == y2)) + x1)
    return float((in_circle & in_polygon).sum() / max(1, (in_circle | in_polygon).sum()))


def _by_woman(
    women: Sequence[str], scores: Sequence[float], positive: Sequence[bool]
) -> tuple[list[float], list[bool]]:
    """The highest score of each woman, and whether any of her images is positive."""
    highest: dict[str, float] = {}
    is_positive: dict[str, bool] = {}
    for woman, score, truth in zip(women, scores, positive, strict=True):
        highest[woman] = max(highest.get(woman, 0.0), score)
        is_positive[woman] = is_positive.get(woman, False) or truth
    return list(highest.values()), list(is_positive.values())


def _froc(images: Sequence[Image], counted: NDArray[np.bool_] | None) -> Froc | None:
    """The curve over all images; false marks count on those that `counted` says, None for all."""
    if not any(image.truth.targets for image in images) or (counted is not None and not counted.any()):
        return None
    entries = entries_of(
        [
            Case(
                len(image.truth.targets),
                np.array([hit for hit in image.best_hits if hit is not None], np.float64),
                np.array(image.false_marks, np.float64),
            )
            for image in images
        ]
    )
    false_marks, found = curve_of(entries, np.ones(len(images)), counted)
    women = np.unique([image.truth.woman for image in images], return_inverse=True)[1]
    curves = drawn(entries, GRID, DRAWS, np.random.default_rng(0), together=women, counted=counted)
    band = interval_of(curves)
    at = np.searchsorted(GRID, POINTS)
    on_grid = np.interp(GRID, false_marks, found)
    return Froc(on_grid[at], tuple(map(pair, band[:, at].T)), on_grid, band, entries.thresholds, false_marks)


def _as_json(curve: Froc | None) -> dict[str, object] | None:
    if curve is None:
        return None
    return {
        "false_marks_per_image": POINTS,
        "sensitivity": curve.at_points.tolist(),
        "sensitivity_intervals": curve.intervals,
        "curve": {
            "false_marks_per_image": GRID.tolist(),
            "sensitivity": curve.on_grid.tolist(),
            "low": curve.band[0].tolist(),
            "high": curve.band[1].tolist(),
        },
    }

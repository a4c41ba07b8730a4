"""Made breasts to fit and to measure on: both views of one breast, as the loader would give them, with their truth."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from pydicom import Dataset

from pipelines.calcification.labelled import ImageTruth, Target
from pipelines.calcification.learning import LEAST_IN_GROUP, SEEN_SNR
from pipelines.findings import Finding
from pipelines.geometry import Floats
from pipelines.mammogram import Laterality, Mammogram, MammogramStudy, Spacing
from pipelines.phantom.breast.anatomy import BENIGN, BreastOptions, GroupRecipe, make_breast
from pipelines.phantom.breast.imaging import Receptor
from pipelines.phantom.breast.presentation import Processing
from pipelines.phantom.breast.truth import MadeGroup, MimicKind
from pipelines.phantom.breast.views import MadeView, ViewOptions, make_view

GROUP_ODDS, SECOND_GROUP_ODDS, BENIGN_ODDS, MIMIC_ODDS = 0.5, 0.2, 0.12, 0.3
MIMICS: tuple[MimicKind, ...] = ("noise_clump", "crossing", "dust", "skin_marker", "clip", "wire")
REPORTED = frozenset({"round", "punctate"})
"""Groups of these, and suspicious ones, are to be found; the others, typically benign, count neither way."""
SAME_MM = 0.3


@dataclass(frozen=True, slots=True, eq=False)
class MadeBreastViews:
    """CC and MLO of one breast: what a reader is given, and what is true of each view."""

    name: str
    study: MammogramStudy
    truths: tuple[MadeView, ...]


def made_views(seed: int, number: int) -> MadeBreastViews:
    """The breast of a number: half of them hold a group, some two, many what is benign or only looks alike."""
    generator = np.random.default_rng((seed, 6, number))
    laterality: Laterality = "R" if generator.random() < 0.5 else "L"
    groups = tuple(GroupRecipe() for odds in (GROUP_ODDS, SECOND_GROUP_ODDS) if generator.random() < odds)
    benign = tuple(kind for kind in BENIGN if generator.random() < BENIGN_ODDS)
    options = BreastOptions.random(generator, laterality)
    lesions = int(generator.integers(0, 3))
    breast = make_breast(generator, replace(options, groups=groups, benign=benign, lesions=lesions))
    receptor = Receptor.random(generator)
    processing = None if receptor.medium != "film" and generator.random() < 0.2 else Processing.random(generator)
    mimics = tuple(kind for kind in MIMICS if generator.random() < MIMIC_ODDS)
    truths = tuple(
        make_view(generator, breast, ViewOptions(view, receptor, processing, mimics=mimics)) for view in ("CC", "MLO")
    )
    name = f"made{number}"
    return MadeBreastViews(
        name,
        MammogramStudy(tuple(_mammogram(name, laterality, truth, receptor) for truth in truths)),
        truths,
    )


def _mammogram(name: str, laterality: Laterality, truth: MadeView, receptor: Receptor) -> Mammogram:
    """A made view as the loader would give it."""
    pixels = truth.picture.pixels
    return Mammogram(
        instance_uid=f"{name}.{truth.projection.view}",
        laterality=laterality,
        projection=truth.projection.view,
        modifiers=frozenset(),
        pixels=pixels,
        outside=np.zeros(pixels.shape, np.bool_),
        scale="presented",
        spacing=Spacing(receptor.pitch_mm, receptor.pitch_mm, "told"),
        chest_wall="right" if laterality == "R" else "left",
        has_implant=False,
        header=Dataset(),
    )


def is_reported(truth: MadeView, index: int) -> bool:
    """Whether a group is to be found: of a kind that is reported, with calcifications enough that can be seen."""
    group = truth.picture.groups[index]
    seen = sum(grain.group == index and grain.snr >= SEEN_SNR for grain in truth.picture.grains)
    return (group.is_suspicious or group.morphology in REPORTED) and seen >= LEAST_IN_GROUP


def truth_of(made: MadeBreastViews, view: Mammogram, truth: MadeView) -> ImageTruth:
    """What is to be found on a view, as the tables of real images say it."""
    side = view.spacing.object_mm
    targets = tuple(
        Target(group.center_px, group.long_axis_mm / 2 / side)
        for index, group in enumerate(truth.picture.groups)
        if is_reported(truth, index)
    )
    return ImageTruth(view.instance_uid, made.name, view.instance_uid, bool(targets), targets, True, made.name)


def is_counted(finding: Finding, truth: MadeView, spacing_mm: float) -> bool:
    """Whether a mark is right or wrong: those on true groups that need not be found are neither."""
    assert finding.center_px is not None
    spared = [group for index, group in enumerate(truth.picture.groups) if not is_reported(truth, index)]
    return not any(_within(finding.center_px, group, spacing_mm) for group in spared)


def _within(place: tuple[float, float], group: MadeGroup, spacing_mm: float) -> bool:
    return bool(np.hypot(*np.subtract(place, group.center_px)) * spacing_mm <= max(5.0, group.long_axis_mm / 2))


def true_share(centers_px: Floats, truth: MadeView, spacing_mm: float) -> tuple[float, int]:
    """The part of places `[n, 2]` that are calcifications of one group, the one that most are of, and their number."""
    grains = [grain for grain in truth.picture.grains if grain.group is not None]
    if not grains or not len(centers_px):
        return 0.0, 0
    places = np.array([grain.center_px for grain in grains])
    reach = np.array([max(SAME_MM, grain.diameter_mm / 2) for grain in grains]) / spacing_mm
    away = np.linalg.norm(centers_px[:, None] - places[None], axis=2)
    groups = np.array([grain.group for grain in grains])
    matched = away <= reach
    counts = [int(matched[:, groups == index].any(axis=1).sum()) for index in np.unique(groups)]
    return max(counts) / len(centers_px), max(counts)

"""What would become of files if they were sent: which rule fires on which series, which are ignored, and why."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from dicom_node.headers import InstanceFacts, read_facts
from dicom_node.route.look import look
from dicom_node.route.policy import Evaluation
from dicom_node.route.series_selection import Action, Choice, SeriesFacts, has_all_standard_views, select
from dicom_node.settings import Settings
from pipelines.catalogue import study_pipelines
from pipelines.reasons import Reason, Refusal


@dataclass(frozen=True, slots=True)
class SeriesExplanation:
    """One series. It is read by `pipeline` where `reason` is None; `rules` are those asked, in order.

    `together_with` are the series that are read with it as one study. `waits` says that the node would first wait for
    views that are not there.
    """

    series_instance_uid: str
    series_description: str
    paths: tuple[Path, ...]
    facts: SeriesFacts
    rules: tuple[Evaluation, ...]
    rule: str | None
    pipeline: str | None
    priority: str | None
    reason: Reason | None
    action: Action
    together_with: tuple[str, ...] = ()
    waits: bool = False


@dataclass(frozen=True, slots=True)
class StudyExplanation:
    """One study, its series in order of their numbers."""

    study_instance_uid: str
    series: tuple[SeriesExplanation, ...]


@dataclass(frozen=True, slots=True)
class UnreadableFile:
    """A file that belongs to no series, and why."""

    path: Path
    reason: Reason


@dataclass(frozen=True, slots=True)
class Explanation:
    """Everything that was found under some paths."""

    studies: tuple[StudyExplanation, ...]
    files: tuple[UnreadableFile, ...]


def explain(paths: Iterable[Path], settings: Settings) -> Explanation:
    """Look at files, and at all files below folders, as if they came in as whole series, all at once."""
    studies: dict[str, dict[str, list[tuple[InstanceFacts, Path]]]] = {}
    unreadable = []
    for path in _files(paths):
        try:
            facts = read_facts(path)
        except Refusal as refusal:
            unreadable.append(UnreadableFile(path, refusal.reason))
            continue
        series = studies.setdefault(facts.study_instance_uid, {})
        series.setdefault(facts.series_instance_uid, []).append((facts, path))
    explained = (StudyExplanation(uid, _series(tuple(held.values()), settings)) for uid, held in studies.items())
    return Explanation(tuple(explained), tuple(unreadable))


def _files(paths: Iterable[Path]) -> Iterable[Path]:
    for path in paths:
        if path.is_dir():
            yield from sorted(file for file in path.rglob("*") if file.is_file())
        else:
            yield path


def _series(held: Sequence[Sequence[tuple[InstanceFacts, Path]]], settings: Settings) -> tuple[SeriesExplanation, ...]:
    candidates = [look([path for _, path in files], settings.routes, "undecided") for files in held]
    files_of = {id(candidate): files for candidate, files in zip(candidates, held, strict=True)}
    whole_studies = study_pipelines()
    choices = select(candidates, whole_studies=whole_studies)
    explained = [_explained(choice, files_of[id(choice.candidate)], whole_studies) for choice in choices]
    return tuple(sorted(explained, key=lambda one: (one.facts.series_number or 0, one.series_instance_uid)))


def _explained(
    choice: Choice, files: Sequence[tuple[InstanceFacts, Path]], whole_studies: Collection[str]
) -> SeriesExplanation:
    candidate, route = choice.candidate, choice.candidate.route
    is_of_study = choice.reason is None and route is not None and route.pipeline in whole_studies
    every = [candidate.series, *(one.series for one in choice.together)]
    return SeriesExplanation(
        series_instance_uid=candidate.series.series_instance_uid,
        series_description=files[0][0].series_description,
        paths=tuple(path for _, path in files),
        facts=candidate.series,
        rules=candidate.evaluations,
        rule=route.rule if route else None,
        pipeline=route.pipeline if route else None,
        priority=route.priority if route else None,
        reason=choice.reason,
        action=choice.action,
        together_with=choice.together_with,
        waits=is_of_study and not has_all_standard_views(every),
    )

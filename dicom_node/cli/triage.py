"""`triage-node triage`: reads files or folders without a server."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from pydicom import dcmread
from rich.progress import track

from dicom_node.alert.message import in_a_line
from dicom_node.cli.common import ANSWER_IS_NO, Sign, errors, print_json, say, with_json, with_settings
from dicom_node.dispatch.priors import PriorSearch, day_of
from dicom_node.dispatch.run import ReadAnswer, ReadRequest, read_series
from dicom_node.identity import equipment
from dicom_node.route.explain import SeriesExplanation, StudyExplanation, explain
from dicom_node.settings import Settings
from dicom_node.spool import sha256_of
from pipelines.catalogue import Prior, catalogue, study_pipelines
from pipelines.reasons import Reason


@click.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--pipeline", help="Read every image series with this pipeline, whatever the rules say.")
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), help="Write the result objects to this folder."
)
@click.option(
    "--prior",
    type=click.Path(exists=True, path_type=Path),
    help="A file or folder with the series of an earlier study of the patient, to compare with.",
)
@with_json
@with_settings
def triage(
    *,
    settings: Settings,
    paths: tuple[Path, ...],
    pipeline: str | None,
    out: Path | None,
    prior: Path | None,
    as_json: bool,
) -> None:
    """Read series from files. Exit 1 when a series that should have been read was not, or no file can be read."""
    if pipeline is not None and pipeline not in catalogue():
        raise click.UsageError(f"There is no pipeline {pipeline}; there are: {', '.join(catalogue())}.")
    explanation = explain(paths, settings)
    every = [reading for study in explanation.studies for reading in _readings(study, pipeline)]
    earlier = () if prior is None else explain([prior], settings).studies
    earlier_readings = [reading for study in earlier for reading in _readings(study, pipeline)]
    entries = [
        _entry(reading, pipeline, settings, out, earlier_readings)
        for reading in track(every, "Reading", console=errors, transient=True, disable=as_json)
    ]
    files = [{"path": str(file.path), "reason": file.reason.as_json()} for file in explanation.files]
    if as_json:
        print_json({"schema": 1, "series": entries, "files": files})
    else:
        _print(entries)
        if prior is not None and not any(entry.get("prior") for entry in entries):
            say(f"{prior}: no earlier study of the same patient that could be compared with", "warning")
        for file in explanation.files:
            say(f"{file.path}: {file.reason.text}", "failed")
    if any(entry["status"] == "not_read" for entry in entries) or (files and not entries):
        raise SystemExit(ANSWER_IS_NO)


@dataclass(frozen=True, slots=True)
class _Reading:
    """What gets one entry: one series, or all of a study that are read together."""

    study_instance_uid: str
    series: tuple[SeriesExplanation, ...]

    @property
    def paths(self) -> tuple[Path, ...]:
        return tuple(path for one in self.series for path in one.paths)


def _readings(study: StudyExplanation, forced: str | None) -> Iterator[_Reading]:
    """In order of the first series of each."""
    whole_studies = study_pipelines()
    together: dict[str, list[SeriesExplanation]] = {}
    for series in study.series:
        name = forced or series.pipeline
        is_read = series.facts.kind == "image" if forced else series.reason is None
        key = name if name in whole_studies and is_read else series.series_instance_uid
        together.setdefault(key, []).append(series)
    for group in together.values():
        yield _Reading(study.study_instance_uid, tuple(group))


def _entry(
    reading: _Reading,
    forced: str | None,
    settings: Settings,
    out: Path | None,
    earlier: Sequence[_Reading],
) -> dict[str, object]:
    series = reading.series[0]
    known: dict[str, object] = {
        "study_instance_uid": reading.study_instance_uid,
        "series_instance_uid": series.series_instance_uid,
        "series_description": series.series_description,
    }
    name = forced or series.pipeline
    is_of_study = name in study_pipelines()
    left_out = forced is None or (is_of_study and series.facts.kind != "image")
    if name is None or (series.reason is not None and left_out):
        return known | _unread(series.action, series.pipeline, series.reason)
    if name not in catalogue():
        return known | _unread("not_read", name, Reason("pipeline.not_configured", {"pipeline": name}))
    search = _search(earlier, name, forced, settings) if catalogue()[name].compares_with_prior else None
    if is_of_study:
        known["series_instance_uids"] = [one.series_instance_uid for one in reading.series]
    answer = read_series(_request(reading.paths, name, settings, search))
    objects = [
        {"sop_class": one.sop_class_uid, "kind": one.kind, "path": path}
        for one, path in zip(answer.objects, _write(answer, out), strict=True)
    ]
    return known | {"pipeline": name} | dict(answer.outcome) | {"objects": objects}


def _unread(status: str, pipeline: str | None, reason: Reason | None) -> dict[str, object]:
    return {
        "pipeline": pipeline,
        "status": status,
        "score": None,
        "reason": None if reason is None else reason.as_json(),
        "warnings": [],
        "findings": [],
        "model": None,
        "seconds": {},
        "objects": [],
    }


def _search(earlier: Sequence[_Reading], pipeline: str, forced: str | None, settings: Settings) -> PriorSearch | None:
    """The series of the earlier study that the pipeline reads, read now to know what was found then."""
    known = []
    for reading in earlier:
        series = reading.series[0]
        header = dcmread(series.paths[0], stop_before_pixels=True, specific_tags=["StudyDate"])
        day = day_of(str(header.get("StudyDate", "")))
        if day is None or (forced or (series.pipeline if series.reason is None else None)) != pipeline:
            continue
        answer = read_series(_request(reading.paths, pipeline, settings))
        if answer.status != "not_read":
            findings: Any = answer.outcome["findings"]
            known.append(Prior(reading.paths, tuple(findings), series.series_instance_uid, day))
    known.sort(key=lambda prior: (prior.study_date, len(prior.paths)), reverse=True)
    return PriorSearch(tuple(known))


def _request(
    paths: Sequence[Path], pipeline: str, settings: Settings, search: PriorSearch | None = None
) -> ReadRequest:
    """The same files give the same request: they are dated by their newest change, as if they had come then."""
    digests = sorted(sha256_of(path) for path in paths)
    return ReadRequest(
        pipeline=pipeline,
        settings_json=settings.pipeline(pipeline).model_dump_json(),
        files=tuple(paths),
        revision_digest=hashlib.sha256("".join(digests).encode()).hexdigest(),
        configuration_hash=settings.hash_for(pipeline),
        made_at=datetime.fromtimestamp(int(max(path.stat().st_mtime for path in paths)), UTC),
        equipment=equipment(settings),
        language=settings.node.language,
        search=search,
    )


def _write(answer: ReadAnswer, out: Path | None) -> Iterator[str | None]:
    for one in answer.objects:
        if out is None:
            yield None
            continue
        out.mkdir(parents=True, exist_ok=True)
        path = out / f"{one.kind}_{one.sop_instance_uid}.dcm"
        path.write_bytes(one.content)
        yield str(path)


def _print(entries: Sequence[Mapping[str, Any]]) -> None:
    signs: Mapping[str, Sign] = {"finding": "failed", "unsure": "warning", "clean": "ok"}
    for entry in entries:
        status = str(entry["status"])
        several = entry.get("series_instance_uids", ())
        name = entry["series_description"] or entry["series_instance_uid"]
        if len(several) > 1:
            name = f"{name} and {len(several) - 1} more series of the study"
        score = "" if entry["score"] is None else f" (score {entry['score']:.2f})"
        say(f"{status.replace('_', ' ')}: {name}{score}", signs.get(status, "ignored"))
        for text in _texts(entry):
            say(text, indent=4)


def _texts(entry: Mapping[str, Any]) -> Iterator[str]:
    if entry["reason"]:
        yield entry["reason"]["text"]
    if entry.get("impression"):
        yield entry["impression"]
    for number, finding in enumerate(entry["findings"], start=1):
        yield f"{number}. {in_a_line(finding)}, certainty {finding['certainty']:.2f}"
    for warning in entry["warnings"]:
        yield f"Note: {warning['text']}"
    for refused in entry.get("refused", ()):
        action = refused["action"].replace("_", " ").capitalize()
        yield f"{action}: image {refused['sop_instance_uid']}. {refused['reason']['text']}"
    for one in entry["objects"]:
        if one["path"]:
            yield one["path"]

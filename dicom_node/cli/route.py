"""`triage-node route`: which rule fires on which series, and why."""

from __future__ import annotations

from pathlib import Path

import click

from dicom_node.cli.common import print_json, say, with_json, with_settings
from dicom_node.route.explain import Explanation, SeriesExplanation, explain
from dicom_node.route.policy import Failure
from dicom_node.settings import Settings


@click.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@with_json
@with_settings
def route(*, settings: Settings, paths: tuple[Path, ...], as_json: bool) -> None:
    """Explain what would become of files and folders: which series is read and by what, which are ignored, and why."""
    explanation = explain(paths, settings)
    if as_json:
        print_json(_document(explanation))
        return
    for study in explanation.studies:
        say(f"study {study.study_instance_uid}", style="bold")
        for series in study.series:
            _print_series(series, settings)
    for file in explanation.files:
        say(f"{file.path}: {file.reason.text}", "failed")


def _print_series(series: SeriesExplanation, settings: Settings) -> None:
    name = series.series_description or series.series_instance_uid
    count = f"{len(series.paths)} instance{'s' if len(series.paths) != 1 else ''}"
    if series.reason is None:
        say(f"{name} ({count}): {series.pipeline}, {series.priority}, by {series.rule}", "ok", indent=2)
        if series.together_with:
            say(f"together with {len(series.together_with)} more series, as one study", indent=6, style="dim")
        if series.waits:
            wait = f"{settings.assemble.study_quiet_s:g} s"
            say(f"not every standard view is there: read when nothing more came for {wait}", indent=6, style="dim")
    else:
        action = series.action.replace("_", " ")
        say(f"{name} ({count}): {action}. {series.reason.text}", "ignored", indent=2)
    if series.reason is None or series.reason.code != "route.no_rule":
        return
    for rule in series.rules:
        for failure in rule.failures:
            say(f"not {rule.rule}: {_text(failure)}", indent=6, style="dim")


def _text(failure: Failure) -> str:
    return f"{failure.keyword} should be {failure.condition}, is {failure.found}"


def _document(explanation: Explanation) -> dict[str, object]:
    return {
        "schema": 1,
        "studies": [
            {"study_instance_uid": study.study_instance_uid, "series": [_series(one) for one in study.series]}
            for study in explanation.studies
        ],
        "files": [{"path": str(file.path), "reason": file.reason.as_json()} for file in explanation.files],
    }


def _series(series: SeriesExplanation) -> dict[str, object]:
    return {
        "series_instance_uid": series.series_instance_uid,
        "series_description": series.series_description,
        "instances": len(series.paths),
        "action": series.action,
        "together_with": list(series.together_with),
        "waits": series.waits,
        "rule": series.rule,
        "pipeline": series.pipeline,
        "priority": series.priority,
        "reason": None if series.reason is None else series.reason.as_json(),
        "rules": [
            {"rule": rule.rule, "fires": rule.fires, "failures": [_text(failure) for failure in rule.failures]}
            for rule in series.rules
        ],
    }

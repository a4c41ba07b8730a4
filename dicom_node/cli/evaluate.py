"""`triage-node evaluate`: figures on labelled data."""

from __future__ import annotations

from pathlib import Path

import click
from rich.progress import Progress
from rich.table import Table

from dicom_node.cli.common import console, errors, print_json, say, with_json, with_settings
from dicom_node.settings import Settings
from models.evaluation.classification import Interval
from pipelines.catalogue import catalogue
from pipelines.hemorrhage.evaluate import EvaluationReport
from pipelines.hemorrhage.evaluate import evaluate as evaluate_hemorrhage


@click.group()
def evaluate() -> None:
    """How well a pipeline does on labelled data."""


@evaluate.command()
@click.argument("path", type=click.Path(exists=True, file_okay=False, path_type=Path))
@with_json
@with_settings
def hemorrhage(*, settings: Settings, path: Path, as_json: bool) -> None:
    """Score a folder: a sub-folder of DICOM files for each patient, and truth.csv.

    truth.csv has the columns patient, slices, bleeding_slices, ivh, iph, sah, edh, sdh: numbers of slices.
    """
    reader = catalogue()["hemorrhage"].open(settings.pipeline("hemorrhage"))
    with Progress(console=errors, transient=True) as progress:
        task = progress.add_task("Reading patients", total=None)
        report = evaluate_hemorrhage(
            path, reader, lambda done, total: progress.update(task, completed=done, total=total)
        )
    if as_json:
        print_json(report.as_json())
    else:
        _print(report)


def _print(report: EvaluationReport) -> None:
    table = Table("figure", "value", "95 % interval", box=None, header_style="bold", pad_edge=False)
    table.add_row("patient AUC", _number(report.patient_auc), _interval(report.patient_auc_interval))
    for name, proportion in (("sensitivity", report.sensitivity), ("specificity", report.specificity)):
        shown = f"{_number(proportion.value)} ({proportion.count} of {proportion.total})"
        table.add_row(name, shown, _interval(proportion.interval))
    table.add_row("slice AUC", _number(report.slice_auc), "")
    for name, figures in report.subtypes.items():
        shown = f"{_number(figures.auc)} ({figures.patients} patients)"
        table.add_row(f"AUC {name}", shown, _interval(figures.auc_interval))
    console.print(table)
    seconds = sum(case.seconds for case in report.cases)
    console.print(f"{len(report.cases)} patients in {seconds:.0f} s, {len(report.not_read)} not read")
    for case in report.not_read:
        say(f"not read: {case.truth.patient}: {case.reason.text if case.reason else ''}", indent=2)


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _interval(interval: Interval | None) -> str:
    return "–" if interval is None else f"{interval[0]:.3f} to {interval[1]:.3f}"

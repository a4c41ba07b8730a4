"""`triage-node evaluate`: figures on labelled data."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import click
from rich.progress import Progress
from rich.table import Table

from dicom_node.cli.common import console, errors, print_json, say, with_json, with_settings
from dicom_node.settings import Settings
from models.evaluation import luna16
from models.evaluation.classification import Interval
from models.evaluation.froc import SEVEN_POINTS, FrocCurve
from models.evaluation.froc import froc as score_marks
from pipelines.calcification.evaluate import HIT_RULE, POINTS, StudyReader, froc_plot
from pipelines.calcification.evaluate import Report as CalcificationReport
from pipelines.calcification.evaluate import evaluate as evaluate_calcifications
from pipelines.calcification.sheets import sheets
from pipelines.catalogue import catalogue
from pipelines.hemorrhage.evaluate import EvaluationReport
from pipelines.hemorrhage.evaluate import evaluate as evaluate_hemorrhage
from pipelines.mammogram_loading import load_study
from pipelines.nodule.evaluate import NODULE_FIGURES
from pipelines.nodule.evaluate import Report as NoduleReport
from pipelines.nodule.evaluate import evaluate as evaluate_nodules
from pipelines.nodule.evaluate import open_reader as open_nodule_reader


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


@evaluate.command()
@click.argument("path", type=click.Path(exists=True, file_okay=False, path_type=Path))
@with_json
def nodule(*, path: Path, as_json: bool) -> None:
    """Score how nodules are measured, on a folder with index.csv and nodules/*.npz, as of LIDC-IDRI.

    Each nodule is outlined from the centre of its readers' consensus and compared with that consensus, as they are.
    """
    reader = open_nodule_reader()
    with Progress(console=errors, transient=True) as progress:
        task = progress.add_task("Measuring nodules", total=None)
        report = evaluate_nodules(
            path, reader, reader.known, lambda done, total: progress.update(task, completed=done, total=total)
        )
    if as_json:
        print_json(report.as_json())
    else:
        _print_nodules(report)


@evaluate.command()
@click.argument("path", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--spacing-um", type=click.FloatRange(min=0, min_open=True), help="Side of a film's pixels, micrometres.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Write the FROC plot and pictures here.")
@click.option(
    "--false-marks",
    type=click.FloatRange(min=0),
    default=1.0,
    show_default=True,
    help="False marks per image that the pictures let through.",
)
@with_json
@with_settings
def calcification(
    *, settings: Settings, path: Path, spacing_um: float | None, out: Path | None, false_marks: float, as_json: bool
) -> None:
    """Score a folder of films (PNG) or DICOM mammograms with ground_truth.csv.

    Its columns are image, class (NORM, CALC), x_px_origin_left, y_px_origin_top, radius_px, as of mini-MIAS; or image,
    finding (none, or what names a calcification), col_px, row_px. A column woman tells whose images belong together.
    """
    pipeline = catalogue().get("calcification")
    if pipeline is None:
        raise click.ClickException("there is no pipeline that reads calcifications here (`calcification`)")
    reader = cast("StudyReader", pipeline.open(settings.pipeline("calcification")))
    with Progress(console=errors, transient=True) as progress:
        task = progress.add_task("Reading mammograms", total=None)
        report = evaluate_calcifications(
            path,
            reader.read_study,
            load_study,
            spacing_um=spacing_um,
            progress=lambda done, total: progress.update(task, completed=done, total=total),
        )
    if out is not None:
        _write_pictures(report, out, path.name, false_marks)
    if as_json:
        print_json(report.as_json())
    else:
        _print_calcifications(report)


def _write_pictures(report: CalcificationReport, out: Path, name: str, false_marks: float) -> None:
    plot = froc_plot(report, f"Calcification groups, {name}")
    pictures = sheets(report, false_marks) | ({} if plot is None else {"froc": plot})
    try:
        out.mkdir(parents=True, exist_ok=True)
        for title, picture in pictures.items():
            (out / f"{title}.png").write_bytes(picture)
    except OSError as error:
        raise click.ClickException(f"{out} cannot be written ({type(error).__name__})") from error


_TABLE = click.Path(exists=True, dir_okay=False, path_type=Path)


@evaluate.command()
@click.option("--annotations", type=_TABLE, required=True, help="Nodules to find: seriesuid, coordX/Y/Z, diameter_mm.")
@click.option("--excluded", type=_TABLE, required=True, help="Findings on which marks are ignored, in the same form.")
@click.option("--seriesuids", type=_TABLE, required=True, help="The series that are scored, one on a line.")
@click.option("--detections", type=_TABLE, required=True, help="Marks: seriesuid, coordX/Y/Z, probability.")
@click.option("--plot", type=click.Path(dir_okay=False, path_type=Path), help="Write the curve as a PNG.")
@click.option("--bootstrap", type=click.IntRange(min=0), default=1000, show_default=True, help="Draws; 0 for none.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of the draws.")
@with_json
def froc(
    *,
    annotations: Path,
    excluded: Path,
    seriesuids: Path,
    detections: Path,
    plot: Path | None,
    bootstrap: int,
    seed: int,
    as_json: bool,
) -> None:
    """Score a nodule detector's marks by the rules of LUNA16, from tables in its CSV forms, plain or gzip.

    Sensitivity at 1/8 to 8 false positives per scan, their mean (CPM), and 95 % intervals by drawing scans.
    """
    try:
        tables = luna16.read(annotations, excluded, seriesuids, detections)
        curve = score_marks(tables.scans, tables.annotations, tables.excluded, tables.marks, draws=bootstrap, seed=seed)
    except ValueError as error:
        raise click.ClickException(str(error)) from error
    if plot is not None:
        from models.evaluation.plot import froc_picture  # noqa: PLC0415  loads matplotlib

        try:
            plot.write_bytes(froc_picture(curve, detections.name))
        except OSError as error:
            raise click.ClickException(f"{plot} cannot be written ({type(error).__name__})") from error
    if tables.marks_left_out:
        say(f"{tables.marks_left_out} marks are in series that {seriesuids.name} does not name: left out", to=errors)
    if as_json:
        print_json(curve.as_json() | {"marks_left_out": tables.marks_left_out})
    else:
        _print_curve(curve)


def _print_curve(curve: FrocCurve) -> None:
    table = Table(
        "false positives per scan", "sensitivity", "95 % interval", box=None, header_style="bold", pad_edge=False
    )
    intervals = curve.sensitivity_intervals or (None,) * len(SEVEN_POINTS)
    for point, sensitivity, interval in zip(SEVEN_POINTS, curve.at_seven, intervals, strict=True):
        table.add_row(f"{point:g}", _number(sensitivity), _interval(interval))
    table.add_row("CPM", _number(curve.cpm), _interval(curve.cpm_interval), style="bold")
    console.print(table)
    counts = curve.counts
    console.print(f"{counts.nodules_found} of {counts.nodules} nodules marked in {counts.scans} scans")
    ignored = (
        f"{counts.on_excluded} on excluded findings, {counts.repeated} repeated, {counts.over_limit} over the limit"
    )
    console.print(f"{counts.marks} marks: {counts.false_positives} false positives; ignored {ignored}")


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


def _print_calcifications(report: CalcificationReport) -> None:
    table = Table("figure", "value", "95 % interval", box=None, header_style="bold", pad_edge=False)
    table.add_row("image AUC", _number(report.image_auc), _interval(report.image_auc_interval))
    table.add_row("case AUC", _number(report.case_auc), _interval(report.case_auc_interval))
    for words, curve in (
        ("all images", report.froc),
        ("normal images", report.froc_on_normals),
        ("positive images", report.froc_on_positives),
    ):
        if curve is not None:
            for point, found, interval in zip(POINTS, curve.at_points, curve.intervals, strict=True):
                table.add_row(f"groups found at {point:g} false marks on {words}", _number(found), _interval(interval))
    console.print(table)
    seconds = sum({image.truth.study: image.seconds for image in report.images}.values())
    say(f"{report.targets} groups on {len(report.images)} images, read in {seconds:.0f} s. A hit is {HIT_RULE}.")
    for image in report.images:
        if image.score is None:
            say(f"not read: {image.truth.name}: {image.reason.text if image.reason else ''}", indent=2)


def _print_nodules(report: NoduleReport) -> None:
    figures = report.as_json()
    table = Table("figure", "value", "95 % interval", box=None, header_style="bold", pad_edge=False)
    for name, key in NODULE_FIGURES:
        table.add_row(name, _number(figures[key]), _interval(figures[f"{key}_interval"]))
    for name, value in figures["type_recall"].items():
        shown = f"{_number(value)} (of {figures['type_counts'][name]})"
        table.add_row(f"recall {name.replace('_', '-')}", shown, _interval(figures["type_recall_interval"][name]))
    console.print(table)
    say(f"{figures['nodules']} nodules of {figures['patients']} patients. {report.note}")


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _interval(interval: Interval | None) -> str:
    return "–" if interval is None else f"{interval[0]:.3f} to {interval[1]:.3f}"

"""`triage-node phantom`: made studies with their truth."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import click
from rich.progress import Progress

from dicom_node.cli.common import errors, print_json, say, with_json
from pipelines.phantom.head.bleeds import Kind
from pipelines.phantom.head.study import PhantomOptions, make_study
from pipelines.phantom.images import Kernel


@click.group()
def phantom() -> None:
    """Made studies: valid DICOM with known truth (`truth.json`), for trying, testing and the demonstration."""


@phantom.command()
@click.option("--out", required=True, type=click.Path(path_type=Path, file_okay=False), help="Folder to write to.")
@click.option("--seed", default=0, show_default=True, help="The same seed and options give the same bytes.")
@click.option(
    "--bleed", type=click.Choice(("none", *get_args(Kind))), default="none", show_default=True, help="Kind of bleed."
)
@click.option("--volume-ml", default=30.0, show_default=True, help="Volume of the bleed.")
@click.option("--tilt", "tilt_degrees", default=0.0, show_default=True, metavar="DEG", help="Gantry tilt.")
@click.option("--variable-spacing", "has_variable_spacing", is_flag=True, help="4 mm slices at the base, 7 mm above.")
@click.option("--slice-mm", default=5.0, show_default=True, help="Thickness and spacing of the slices.")
@click.option(
    "--kernel",
    type=click.Choice(get_args(Kernel)),
    default="standard",
    show_default=True,
    help="Reconstruction kernel: sharpness and noise.",
)
@click.option("--pixels", default=512, show_default=True, type=click.IntRange(64, 1024), help="Rows and columns.")
@with_json
def head(*, out: Path, as_json: bool, **options: Any) -> None:
    """Make a head CT, with or without a bleed."""
    with Progress(console=errors, transient=True) as progress:
        task = progress.add_task("Making a head", total=None)
        try:
            made = make_study(
                out, PhantomOptions(**options), lambda done, total: progress.update(task, completed=done, total=total)
            )
        except ValueError as error:
            raise click.UsageError(str(error)) from error
    if as_json:
        print_json(made.truth)
    else:
        say(f"Wrote {len(made.files)} images and truth.json to {out}.")

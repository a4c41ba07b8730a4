"""`triage-node demo`: the main job, end to end, on this machine."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import click

from dicom_node.cli.common import ANSWER_IS_NO, console, errors
from dicom_node.demonstration.run import demonstrate, timeline


@click.command()
@click.option("--keep", is_flag=True, help="Keep the files of the node and the PACS too.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("demo-output"),
    show_default=True,
    help="Folder for the pictures.",
)
def demo(*, keep: bool, out: Path) -> None:
    """Push made head CTs through a node into a PACS and print what happened when.

    With TRIAGE_DATA set to a folder of real studies, those are pushed too. Exit 0 only if the PACS, when asked, showed
    every result.
    """
    folder = Path(tempfile.mkdtemp(prefix="triage-node-demo-"))
    out.mkdir(parents=True, exist_ok=True)
    data = os.environ.get("TRIAGE_DATA")
    try:
        lines = demonstrate(folder, out, Path(data) if data else None, _tell)
    except RuntimeError as error:
        errors.print(f"[red]✗[/red] The demonstration stopped: {error}. Its logs are in {folder}.", soft_wrap=True)
        raise SystemExit(ANSWER_IS_NO) from error
    console.print(timeline(lines))
    if keep:
        console.print(f"Kept: {folder}", soft_wrap=True)
    else:
        shutil.rmtree(folder)
    if any(line.problems for line in lines):
        raise SystemExit(ANSWER_IS_NO)


def _tell(text: str) -> None:
    console.print(f"[dim]·[/dim] {text}")

"""`triage-node demo`: the main job, end to end, on this machine."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import click

from dicom_node.cli.common import ANSWER_IS_NO, errors, say
from dicom_node.demonstration.run import Line, demonstrate


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
        say(f"The demonstration stopped: {error}. Its logs are in {folder}.", "failed", to=errors)
        raise SystemExit(ANSWER_IS_NO) from error
    for line in lines:
        _print(line)
    if keep:
        say(f"Kept: {folder}")
    else:
        shutil.rmtree(folder)
    if any(line.problems for line in lines):
        raise SystemExit(ANSWER_IS_NO)


def _tell(text: str) -> None:
    say(f"· {text}")


def _print(line: Line) -> None:
    """The timeline of one study."""
    say(f"{line.case.name}, {line.images} images", "failed" if line.problems else "ok", style="bold")
    say("0.00 s  last image stored, association released", indent=4)
    moments = [
        (line.seconds_to_alert, "alert at the on-call physician's webhook"),
        (line.seconds_to_pacs, f"results in the PACS: {' '.join(line.in_pacs)}"),
    ]
    for seconds, what in sorted((seconds, what) for seconds, what in moments if seconds is not None):
        say(f"{seconds:.2f} s  {what}", indent=4)
    say(f"answer: {line.answer.replace('_', ' ')}. {line.detail}", indent=4)
    for problem in line.problems:
        say(problem, "failed", indent=4)
    if line.picture:
        say(f"picture: {line.picture}", indent=4)

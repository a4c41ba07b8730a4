"""`triage-node import`: takes files into the node as if they had been pushed."""

from __future__ import annotations

from pathlib import Path

import click
from rich.progress import track

from db.connect import open_ledger
from dicom_node.cli.common import ANSWER_IS_NO, console, errors, print_json, say, with_json, with_settings
from dicom_node.clock import utc_now
from dicom_node.receive.importing import import_files
from dicom_node.service.wake import Notifier
from dicom_node.settings import Settings
from dicom_node.spool import Spool


@click.command("import")
@click.argument("paths", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@with_json
@with_settings
def import_(*, settings: Settings, paths: tuple[Path, ...], as_json: bool) -> None:
    """Take files and folders into the node as if pushed; it need not run. Exit 1 where one was not taken."""
    ledger = open_ledger(settings.node.database_url)
    try:
        given = import_files(
            paths,
            settings,
            ledger,
            Spool(settings.node.spool),
            notify=Notifier(settings.node.spool),
            clock=utc_now,
        )
        imported = list(track(given, "Importing", console=errors, transient=True, disable=as_json))
    finally:
        ledger.close()
    refused = [(one.path, one.reason) for one in imported if one.reason is not None]
    if as_json:
        files = [{"path": str(path), "reason": reason.as_json()} for path, reason in refused]
        print_json({"schema": 1, "taken": len(imported) - len(refused), "files": files})
    else:
        console.print(f"Took {len(imported) - len(refused)} of {len(imported)} files.")
        for path, reason in refused:
            say(f"{path}: {reason.text}", "failed")
    if refused:
        raise SystemExit(ANSWER_IS_NO)

"""`triage-node status`: is it running, and what is it doing."""

from __future__ import annotations

import click

from db import status as ledger_status
from dicom_node.cli.common import console, ledger_of, print_json, say, with_json, with_settings
from dicom_node.process import published
from dicom_node.settings import Settings
from dicom_node.spool import Spool


@click.command()
@with_json
@with_settings
def status(*, settings: Settings, as_json: bool) -> None:
    """Show the running processes and how much waits in each stage."""
    running = published(settings.node.spool)
    with ledger_of(settings) as ledger, ledger.read() as connection:
        counts = ledger_status.counts(connection)
    free_mb = Spool(settings.node.spool).free_bytes() // 2**20
    if as_json:
        print_json({"running": running, "counts": counts, "free_disk_mb": free_mb})
        return
    if running:
        console.print("Running: " + ", ".join(f"{name} (process {facts['pid']})" for name, facts in running.items()))
    else:
        say("Not running.", "warning")
    for subject, states in counts.items():
        told = ", ".join(f"{count} {state.replace('_', ' ')}" for state, count in states.items()) or "none"
        console.print(f"{subject}: {told}")
    console.print(f"free disk: {free_mb} MB")

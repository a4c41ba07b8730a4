"""`triage-node serve`: the service."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path

import click

from dicom_node import settings as configuration
from dicom_node.service.supervisor import Supervisor
from dicom_node.telemetry import configure_logging

ROLES = ("coordinate", "receive", "work")


@click.command()
@click.option("--config", type=click.Path(path_type=Path, dir_okay=False), help="service.toml to use.")
@click.option("--role", type=click.Choice(ROLES), help="Run this role alone, in this process.")
@click.option("--slot", default=0, show_default=True, help="Which of several processes of the role this is.")
def serve(config: Path | None, role: str | None, slot: int) -> None:
    """Run the service. SIGTERM stops it, SIGHUP reads service.toml again."""
    file = configuration.find_file(config)
    settings = configuration.load(file)
    configure_logging(role or "supervisor")
    os.umask(0o077)  # the spool and the ledger hold patients' data
    if role is None:
        sys.exit(Supervisor(file, settings).run())
    # Only this role's module is loaded: a receiver that was killed is back without waiting for the reports' libraries.
    sys.exit(importlib.import_module(f"dicom_node.service.roles.{role}").run(settings, slot))

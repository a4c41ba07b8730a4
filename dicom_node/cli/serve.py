"""`triage-node serve`: the service."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from dicom_node import settings as configuration
from dicom_node.service import roles
from dicom_node.service.supervisor import Supervisor
from dicom_node.telemetry import configure_logging


@click.command()
@click.option("--config", type=click.Path(path_type=Path, dir_okay=False), help="service.toml to use.")
@click.option("--role", type=click.Choice(sorted(roles.ROLES)), help="Run this role alone, in this process.")
@click.option("--slot", default=0, show_default=True, help="Which of several processes of the role this is.")
def serve(config: Path | None, role: str | None, slot: int) -> None:
    """Run the service. SIGTERM stops it, SIGHUP reads service.toml again."""
    file = configuration.find_file(config)
    settings = configuration.load(file)
    configure_logging(role or "supervisor")
    os.umask(0o077)  # the spool and the ledger hold patients' data
    sys.exit(roles.ROLES[role](settings, slot) if role else Supervisor(file, settings).run())

"""`triage-node`: one file a command group, thin: parse, call, print."""

from __future__ import annotations

import importlib
from typing import Any

import click

from dicom_node.cli.common import Group
from dicom_node.telemetry import configure_logging

COMMANDS = {
    "serve": "serve",
    "demo": "demo",
    "check": "check",
    "status": "status",
    "triage": "triage",
    "route": "route",
    "studies": "ledger",
    "queue": "ledger",
    "deliveries": "ledger",
    "alerts": "ledger",
    "quarantine": "ledger",
    "audit": "audit",
    "story": "story",
    "models": "models",
    "import": "import_",
    "phantom": "phantom",
    "evaluate": "evaluate",
}
"""Each command and the module of this folder that has it; imported only when asked for, so that `--help` is quick."""


class _Commands(Group):
    def list_commands(self, _context: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, _context: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        module: Any = importlib.import_module(f"dicom_node.cli.{COMMANDS[name]}")
        command: click.Command = getattr(module, f"{name}_" if name == "import" else name)
        return command


@click.command(cls=_Commands)
@click.version_option(package_name="triage-node")
@click.pass_context
def main(context: click.Context) -> None:
    """Read studies as they arrive, return findings to the PACS, alert the on-call physician.

    For research and quality work; not a medical device.
    """
    configure_logging(context.invoked_subcommand or "")


if __name__ == "__main__":
    main()

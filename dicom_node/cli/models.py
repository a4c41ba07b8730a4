"""`triage-node models`: which models are here, and whether they are what they claim to be."""

from __future__ import annotations

import click

from dicom_node.cli.common import ANSWER_IS_NO, print_fields, print_json, print_rows, say, with_json
from models import registry


@click.group()
def models() -> None:
    """Models: list them, show what one is, verify that weights match their manifests."""


@models.command("list")
@with_json
def list_(*, as_json: bool) -> None:
    """List the models that have a manifest."""
    try:
        rows = [registry.manifest_of(name) for name in registry.names()]
    except registry.UnverifiedModelError as error:
        raise click.ClickException(f"{error}; `triage-node models verify` looks at each.") from error
    print_rows(rows, ("name", "version", "architecture", "licence", "intended_use"), as_json=as_json, title="models")


@models.command()
@click.argument("name")
@with_json
def show(*, name: str, as_json: bool) -> None:
    """Show the manifest of one model."""
    if name not in registry.names():
        raise click.ClickException(f"There is no model {name}; there are: {', '.join(registry.names()) or 'none'}.")
    try:
        manifest = registry.manifest_of(name)
    except registry.UnverifiedModelError as error:
        raise click.ClickException(str(error)) from error
    print_fields(manifest, as_json=as_json)


@models.command()
@with_json
def verify(*, as_json: bool) -> None:
    """Check every model against its manifest; exit 1 where one does not match."""
    verdicts: dict[str, str | None] = {}
    for name in registry.names():
        try:
            registry.verify(name)
            verdicts[name] = None
        except registry.UnverifiedModelError as error:
            verdicts[name] = str(error)
    if as_json:
        print_json([{"name": name, "verified": not problem, "problem": problem} for name, problem in verdicts.items()])
    else:
        for name, problem in verdicts.items():
            say(problem or name, "failed" if problem else "ok")
    if any(verdicts.values()) or not verdicts:
        raise SystemExit(ANSWER_IS_NO)

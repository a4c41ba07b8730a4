"""`triage-node check`: is everything the node needs there; one line each, and what to do about it."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import click

from db import audit
from db.connect import LedgerError, open_ledger
from dicom_node import settings as configuration
from dicom_node.alert.verbs import check_channels
from dicom_node.cli.common import ANSWER_IS_NO, WRONG_USAGE, print_rows, say, with_json
from dicom_node.deliver.verbs import check_destination
from dicom_node.process import published
from dicom_node.settings import ConfigurationError, Settings
from dicom_node.spool import Spool
from models import registry, runtime
from pipelines.catalogue import catalogue
from pipelines.reasons import TriageError
from reporting.catalogue import objects

Verdict = Literal["ok", "warning", "failed"]


@dataclass(frozen=True, slots=True)
class Line:
    """One thing that was looked at."""

    subject: str
    verdict: Verdict
    detail: str
    remedy: str = ""


@click.command()
@click.option("--config", type=click.Path(path_type=Path, dir_okay=False), help="service.toml to check.")
@with_json
def check(*, config: Path | None, as_json: bool) -> None:
    """Check configuration, ledger, disk, port, destinations, models and device. Exit 1 where something is amiss."""
    file = configuration.find_file(config)
    try:
        settings = configuration.load(file)
    except ConfigurationError as error:
        lines = [Line("configuration", "failed", problem, f"Mend {file}.") for problem in error.problems]
        _print(lines, as_json=as_json)
        raise SystemExit(WRONG_USAGE) from error
    lines = [Line("configuration", "ok", f"{file or 'built-in defaults'} ({settings.hash()})"), *_checks(settings)]
    _print(lines, as_json=as_json)
    if any(line.verdict == "failed" for line in lines):
        raise SystemExit(ANSWER_IS_NO)


def _checks(settings: Settings) -> Iterator[Line]:
    yield _ledger(settings)
    yield _disk(settings)
    yield _port(settings)
    yield from _routes(settings)
    yield from _destinations(settings)
    yield from _alerts(settings)
    yield from _models()
    yield Line("device", "ok", f"{runtime.choose_device('auto').type}, {len(os.sched_getaffinity(0))} cores")


def _ledger(settings: Settings) -> Line:
    try:
        ledger = open_ledger(settings.node.database_url)
    except (LedgerError, OSError) as error:
        return Line("ledger", "failed", str(error), "Check `database` in [node] and that the server runs.")
    with ledger.read() as connection:
        count, _, broken = audit.verify(connection)
    ledger.close()
    if broken is not None:
        return Line(
            "ledger", "failed", f"the audit trail breaks at event {broken.sequence}", "Restore from the backup."
        )
    return Line("ledger", "ok", f"the audit trail of {count} events holds")


def _disk(settings: Settings) -> Line:
    try:
        free_mb = Spool(settings.node.spool).free_bytes() // 2**20
    except OSError as error:
        return Line("disk", "failed", str(error), "Make the spool's folder writable for the service.")
    wanted = settings.receive.free_disk_mb
    verdict: Verdict = "failed" if free_mb < wanted else "warning" if free_mb < 2 * wanted else "ok"
    return Line("disk", verdict, f"{free_mb} MB free; images are refused below {wanted} MB", "Make room on the disk.")


def _port(settings: Settings) -> Line:
    running = [name for name in published(settings.node.spool) if name.startswith("receive")]
    if running:
        return Line("port", "ok", f"{settings.node.port}, taken by the running node")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.node.host, settings.node.port))
        except OSError as error:
            detail = f"{settings.node.host}:{settings.node.port} cannot be used ({os.strerror(error.errno or 0)})"
            return Line("port", "failed", detail, "Stop the program that uses it or set another `port` in [node].")
    return Line("port", "ok", f"{settings.node.port} is free")


def _routes(settings: Settings) -> Iterator[Line]:
    for name, route in settings.routes.items():
        if route.pipeline in catalogue():
            yield Line(f"route {name}", "ok", f"to {route.pipeline}, {route.priority}")
        else:
            yield Line(f"route {name}", "warning", f"the pipeline {route.pipeline} is not installed: not read")


def _destinations(settings: Settings) -> Iterator[Line]:
    if not settings.destinations:
        yield Line("destinations", "warning", "there are none", "Add a [destinations.NAME] table to service.toml.")
    for name, destination in settings.destinations.items():
        listed = () if destination.accepts == "probe" else destination.accepts
        for kind in [kind for kind in listed if kind not in objects()]:
            detail = f"`accepts` lists {kind}, which is no kind of object"
            yield Line(f"destination {name}", "warning", detail, f"Choose of: {', '.join(objects())}.")
        try:
            yield Line(f"destination {name}", "ok", check_destination(name, destination, settings.node.ae_title))
        except TriageError as error:
            yield Line(f"destination {name}", "failed", error.reason.text, error.reason.row.remedy)


def _alerts(settings: Settings) -> Iterator[Line]:
    if not settings.alerts:
        yield Line("alerts", "warning", "nobody is told of anything", "Add an [alerts.NAME] table to service.toml.")
    for name, rule in settings.alerts.items():
        for answer in check_channels(rule):
            if answer.reason is not None:
                yield Line(f"alerts {name}", "failed", answer.reason.text, answer.reason.row.remedy)
            else:
                yield Line(f"alerts {name}", "ok", f"{answer.channel}; `triage-node alerts test {name}` tries it")


def _models() -> Iterator[Line]:
    if not registry.names():
        yield Line("models", "failed", "there are none", "Install the program again, with its weights.")
    for name in registry.names():
        try:
            model = registry.verify(name)
            yield Line(f"model {name}", "ok", f"version {model.manifest.version}, matches its manifest")
        except registry.UnverifiedModelError as error:
            yield Line(f"model {name}", "failed", str(error), "Install the model again.")


def _print(lines: list[Line], *, as_json: bool) -> None:
    if as_json:
        print_rows(lines, (), as_json=True, title="checks")
        return
    for line in lines:
        say(f"{line.subject}: {line.detail}", line.verdict)
        if line.verdict != "ok" and line.remedy:
            say(line.remedy, indent=2)

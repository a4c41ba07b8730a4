from __future__ import annotations

import importlib
import pkgutil
from typing import Any

import pytest

from db import audit, jobs
from db.connect import Ledger
from dicom_node.cli.serve import ROLES
from dicom_node.dispatch.engine import Engine
from dicom_node.service import roles
from dicom_node.service.roles import coordinate
from dicom_node.settings import Settings, parse
from dicom_node.spool import Spool
from tests.conftest import MovableClock

TOML = """
[work]
workers = 2
[destinations.pacs]
ae_title = "PACS"
host = "127.0.0.1"
port = 104
[destinations.archive]
ae_title = "ARCHIVE"
host = "127.0.0.1"
port = 104
[alerts.oncall]
channels = ["json://127.0.0.1/x"]
"""


def stages_of(settings: Settings, ledger: Ledger, spool: Spool) -> list[Any]:
    return coordinate._stages(settings, ledger, spool, Engine(spool.root), lambda: None)


def test_every_step_behind_the_receiver_is_driven(ledger: Ledger, spool: Spool) -> None:
    """One stage for each arrow of the way of the data, and for each slot, destination and rule."""
    rooms = [type(stage).__module__.split(".")[1] for stage in stages_of(parse(TOML), ledger, spool)]
    assert rooms == ["assemble", "route", "dispatch", "dispatch", "deliver", "deliver", "alert", "alert"]
    names = {stage.name for stage in stages_of(parse(TOML), ledger, spool)}
    assert {"deliver.pacs", "deliver.archive", "alert.oncall"} <= names, "a log line tells which one it is from"


def test_without_destinations_and_rules_it_still_reads(ledger: Ledger, spool: Spool) -> None:
    rooms = [type(stage).__module__.split(".")[1] for stage in stages_of(Settings(), ledger, spool)]
    assert rooms == ["assemble", "route", "dispatch", "alert"]


def test_every_stage_fits_the_loop_on_an_empty_ledger(ledger: Ledger, spool: Spool, clock: MovableClock) -> None:
    for stage in stages_of(parse(TOML), ledger, spool):
        assert stage.claim(clock()) is None
        assert stage.next_due(clock()) is None


def test_the_start_is_noted_and_the_configuration_once(ledger: Ledger) -> None:
    for toml in ("", "", "[node]\nport = 5"):
        coordinate._note_start(parse(toml), ledger)
    with ledger.read() as connection:
        events = [row.event for row in audit.rows(connection)]
        facts = audit.last_facts(connection, "configuration.loaded")
    started, loaded = "service.started", "configuration.loaded"
    assert events == [started, loaded, started, started, loaded]
    assert facts == {"configuration_hash": parse("[node]\nport = 5").hash()}


def test_a_coordinator_that_starts_takes_over_orphans(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    released: list[object] = []
    monkeypatch.setattr(jobs, "release_orphans", lambda connection, *, now: released.append(now))
    coordinate._note_start(Settings(), ledger)
    assert len(released) == 1


def test_a_stage_whose_thread_would_end_ends_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    codes: list[int] = []
    monkeypatch.setattr(coordinate.os, "_exit", codes.append)

    class Broken:
        name = "broken"

    coordinate._drive(Broken(), *[None] * 3)  # type: ignore[arg-type]
    assert codes == [coordinate.FAILED]


def test_the_roles_are_those_of_the_design() -> None:
    rooms = {module.name for module in pkgutil.iter_modules(roles.__path__)}
    assert rooms == set(ROLES) == {"receive", "coordinate", "work"}
    for role in ROLES:
        assert callable(importlib.import_module(f"dicom_node.service.roles.{role}").run)

"""What the commands tell of the ledger: one JSON document each, tables for people, and exit codes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from db import alerts, audit
from db.quarantine import Quarantined, enter_quarantined
from dicom_node.cli.main import COMMANDS
from dicom_node.deliver.verbs import retry
from tests.conftest import MovableClock
from tests.ledger_rows import STUDY, Rows, made_object
from tests.unit.dicom_node.cli.conftest import Node, invoke, told

AT = MovableClock().now
SERIES = f"{STUDY}.1001"
GROUPS = ("studies", "queue", "deliveries", "alerts", "quarantine", "audit")


@pytest.fixture
def filled(node: Node) -> Node:
    """One study with a finding, its delivery, alert and trail, and a refused object."""
    ledger = node.ledger()
    rows = Rows(ledger, node.spool())
    result_id = rows.add_result(at=AT)
    rows.add_deliveries(result_id, [made_object(1)], ["pacs"], AT)
    rows.add_key_instance(AT, 7)
    with ledger.write() as connection:
        alert = alerts.add(connection, result_id=result_id, study_instance_uid=STUDY, rule="oncall", raised_at=AT)
        alerts.add_event(connection, alert, at=AT, event="failed", channel="json://x", detail="no answer")
        audit.append(
            connection, at=AT, event="reading.done", actor="dispatch", study_instance_uid=STUDY, facts={"score": 0.93}
        )
        reason = {"code": "receive.data_set_unreadable", "text": "It cannot be read."}
        enter_quarantined(connection, Quarantined(AT, None, "1.2", "1.3", "1.2.840", "quarantine/x", "0" * 64, reason))
    ledger.close()
    return node


def document(node: Node, *words: object, code: int = 0) -> Any:
    return json.loads(told(node.run(*words, "--json"), code).stdout)


def test_help_names_every_command() -> None:
    for name in COMMANDS:
        assert told(invoke(name, "--help")).output.startswith("Usage:")
    assert all(f"  {name} " in told(invoke("--help")).output for name in COMMANDS)


@pytest.mark.parametrize("group", GROUPS)
def test_each_list_is_one_json_document(filled: Node, group: str) -> None:
    [row] = document(filled, group, "list")
    assert isinstance(row, dict)
    assert json.loads(told(filled.run(group, "list", "--limit", 1, "--json")).stdout) == [row]


@pytest.mark.parametrize("group", GROUPS)
def test_each_list_is_a_table_for_people(filled: Node, group: str) -> None:
    lines = told(filled.run(group, "list")).stdout.splitlines()
    assert len(lines) >= 2
    assert "{" not in lines[0]


@pytest.mark.parametrize("group", GROUPS)
def test_an_empty_ledger_is_told_as_such(node: Node, group: str) -> None:
    node.ledger().close()
    assert document(node, group, "list") == []
    assert told(node.run(group, "list")).stdout.startswith("No ")


@pytest.mark.parametrize("words", [*((group, "list") for group in GROUPS), ("status",), ("story", "2.25.1")])
def test_looking_makes_no_ledger(node: Node, words: tuple[str, ...]) -> None:
    result = told(node.run(*words), 1)
    assert "There is no ledger" in result.output
    assert not Path(node.settings.node.database_url.removeprefix("sqlite:///")).exists()


@pytest.mark.parametrize("uid", [STUDY, SERIES])
def test_a_study_is_shown_by_any_of_its_uids(filled: Node, uid: str) -> None:
    shown = document(filled, "studies", "show", uid)
    assert shown["study_instance_uid"] == STUDY
    assert shown["state"] == "finding"
    assert {one["series_instance_uid"]: one["state"] for one in shown["series"]}[SERIES] == "finding"
    assert "finding" in told(filled.run("studies", "show", uid)).stdout


def test_single_rows_are_shown(filled: Node) -> None:
    assert document(filled, "queue", "show", 1)["pipeline"] == "hemorrhage"
    assert document(filled, "deliveries", "show", 1)["state"] == "pending"
    alert = document(filled, "alerts", "show", 1)
    assert alert["rule"] == "oncall" and alert["events"][0]["detail"] == "no answer"
    for group in ("queue", "deliveries", "alerts"):
        assert told(filled.run(group, "show", 1)).stdout


@pytest.mark.parametrize(
    "words",
    [
        ("studies", "show", "2.25.9"), ("queue", "show", 9), ("deliveries", "show", 9), ("alerts", "show", 9),
        ("queue", "retry", 9), ("deliveries", "retry", 9), ("story", "2.25.9"),
        ("queue", "retry", 1), ("deliveries", "retry", 1),
    ],
)  # fmt: skip
def test_what_is_not_there_or_not_to_be_tried_again_is_told(filled: Node, words: tuple[object, ...]) -> None:
    assert told(filled.run(*words), 1).stderr


def test_a_delivery_that_was_given_up_is_sent_again(filled: Node) -> None:
    ledger = filled.ledger()
    with ledger.write() as connection:
        connection.execute(text("UPDATE deliveries SET state = 'given_up', next_attempt_at = NULL"))
    told(filled.run("deliveries", "retry", 1))
    assert document(filled, "deliveries", "show", 1)["state"] == "pending"
    assert retry(ledger, 99, AT) is None
    ledger.close()


def test_lists_are_filtered(filled: Node) -> None:
    assert document(filled, "queue", "list", "--state", "waiting") == []
    assert len(document(filled, "queue", "list", "--state", "done", "--state", "waiting")) == 1
    assert document(filled, "deliveries", "list", "--study", "2.25.9") == []
    assert len(document(filled, "alerts", "list", "--state", "raised")) == 1
    assert document(filled, "audit", "list", "--event", "alert.") == []
    assert len(document(filled, "audit", "list", "--study", STUDY)) == 1


@pytest.mark.parametrize(
    "words",
    [
        ("queue", "list", "--state", "sleeping"),
        ("studies", "list", "--limit", "0"),
        ("queue", "show", "x"),
        ("nothing",),
    ],
)
def test_wrong_usage(filled: Node, words: tuple[str, ...]) -> None:
    assert "Usage:" in told(filled.run(*words), 2).stderr


def test_the_status_counts_and_says_whether_it_runs(filled: Node) -> None:
    status = document(filled, "status")
    assert status["running"] == {}
    assert status["counts"]["results"] == {"finding": 1}
    assert status["free_disk_mb"] > 0
    assert "Not running" in told(filled.run("status")).stdout


def test_the_story_tells_events_with_their_meaning(filled: Node) -> None:
    story = document(filled, "story", SERIES)
    assert story["study_instance_uid"] == STUDY
    [event] = story["events"]
    assert (event["event"], event["meaning"], event["facts"]) == ("reading.done", "A series was read", {"score": 0.93})
    assert "A series was read" in told(filled.run("story", SERIES)).stdout


def test_a_trail_that_holds_and_one_that_does_not(filled: Node) -> None:
    verified = document(filled, "audit", "verify")
    assert (verified["holds"], verified["events"], verified["break"]) == (True, 1, None)
    ledger = filled.ledger()
    with ledger.write() as connection:
        for name in connection.execute(text("SELECT name FROM sqlite_master WHERE type = 'trigger'")).scalars().all():
            connection.execute(text(f"DROP TRIGGER {name}"))
        connection.execute(text("UPDATE audit SET actor = 'nobody'"))
    ledger.close()
    verified = document(filled, "audit", "verify", code=1)
    assert verified["break"] == {"sequence": 1, "problem": "its content was changed"}
    assert "breaks at event 1" in told(filled.run("audit", "verify"), 1).stdout


def test_the_kinds_of_events_are_listed() -> None:
    events = json.loads(told(invoke("audit", "events", "--json")).stdout)
    assert {"event", "meaning", "event_id"} == events[0].keys()


@pytest.mark.parametrize(
    "words",
    [
        ("studies", "list"),
        ("status",),
        ("serve",),
        ("route", "."),
        ("triage", "."),
        ("import", "."),
        ("audit", "verify"),
    ],
)
def test_a_wrong_configuration_is_told_with_every_mistake(node: Node, words: tuple[str, ...]) -> None:
    node.config.write_text("[nod]\n[receive]\nprocesses = 0\n")
    result = told(node.run(*words), 2)
    assert "did you mean node?" in result.stderr
    assert "receive.processes" in result.stderr


def test_a_ledger_that_cannot_be_used_is_told(node: Node) -> None:
    node.settings.node.spool.mkdir()
    (node.settings.node.spool / "ledger.sqlite3").write_bytes(b"no database" * 500)
    assert "The ledger cannot be used" in told(node.run("studies", "list"), 1).stderr

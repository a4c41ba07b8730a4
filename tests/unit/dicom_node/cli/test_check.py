from __future__ import annotations

import json
import shutil
import socket
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from sqlalchemy import text

from dicom_node.cli.main import main
from dicom_node.process import publish
from models import registry
from tests.system.conftest import free_port
from tests.unit.dicom_node.cli.conftest import Node, invoke, told


def lines_of(node: Node, code: int) -> dict[str, dict[str, Any]]:
    return {line["subject"]: line for line in json.loads(told(node.run("check", "--json"), code).stdout)}


@pytest.fixture
def verified_models(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder of models of its own."""
    folder = tmp_path / "weights"
    folder.mkdir()
    manifest = {
        "name": "made", "version": "1", "sha256": "", "licence": "", "intended_use": "", "data": "",
        "architecture": {}, "inputs": {}, "calibration": {}, "figures": {},
    }  # fmt: skip
    (folder / "made.safetensors").write_bytes(b"weights")
    manifest["sha256"] = registry.hashlib.sha256(b"weights").hexdigest()
    (folder / "made.json").write_text(json.dumps(manifest))
    for name in ("names", "verify", "manifest_of"):
        monkeypatch.setattr(getattr(registry, name), "__defaults__", (folder,))
    return folder


def test_a_node_that_is_well(node: Node, verified_models: Path) -> None:
    node.add('[routes.head]\npipeline = "hemorrhage"\nwhen = { Modality = "CT" }')
    node.add('[routes.other]\npipeline = "never_made"\nwhen = { Modality = "US" }')
    lines = lines_of(node, 0)
    assert lines.keys() >= {"configuration", "ledger", "disk", "port", "destinations", "alerts", "model made", "device"}
    assert {line["verdict"] for line in lines.values()} == {"ok", "warning"}
    assert {subject for subject, line in lines.items() if line["verdict"] == "warning"} == {
        "destinations", "alerts", "route other",
    }  # fmt: skip
    assert "✓ configuration" in told(node.run("check")).stdout


def test_a_wrong_configuration_lists_every_mistake(node: Node) -> None:
    node.config.write_text("[nod]\n[receive]\nprocesses = 0\n[routes.a]\npipeline = 'x'\nwhen = { Modalty = 'CT' }")
    lines = json.loads(told(node.run("check", "--json"), 2).stdout)
    assert len(lines) == 3
    assert {line["verdict"] for line in lines} == {"failed"}
    assert "Modality?" in told(node.run("check"), 2).stdout


def test_a_busy_port(node: Node, verified_models: Path) -> None:
    with socket.create_server(("127.0.0.1", node.settings.node.port)):
        line = lines_of(node, 1)["port"]
    assert line["verdict"] == "failed" and str(node.settings.node.port) in line["detail"]
    assert "another `port`" in line["remedy"]


def test_the_port_of_the_running_node_is_well(node: Node, verified_models: Path) -> None:
    publish(node.settings.node.spool, "receive-0", {})
    with socket.create_server(("127.0.0.1", node.settings.node.port)):
        assert lines_of(node, 0)["port"]["verdict"] == "ok"


def test_an_unreachable_pacs(node: Node, verified_models: Path) -> None:
    node.add(f'[destinations.pacs]\nae_title = "PACS"\nhost = "127.0.0.1"\nport = {free_port()}\ntimeout_s = 2')
    line = lines_of(node, 1)["destination pacs"]
    assert line["verdict"] == "failed" and "nothing listens" in line["detail"] and line["remedy"]


def test_a_kind_of_object_that_does_not_exist(node: Node, verified_models: Path) -> None:
    node.add(
        f'[destinations.pacs]\nae_title = "PACS"\nhost = "127.0.0.1"\nport = {free_port()}\ntimeout_s = 2\n'
        'accepts = ["segmentation", "measurement_raport"]'
    )
    said = json.loads(told(node.run("check", "--json"), 1).stdout)
    [line] = [one for one in said if one["subject"] == "destination pacs" and one["verdict"] == "warning"]
    assert "measurement_raport" in line["detail"] and "measurement_report" in line["remedy"]


def test_an_alert_channel_that_cannot_be_used(node: Node, verified_models: Path) -> None:
    node.add('[alerts.oncall]\nchannels = ["nothing://user:geheim@x", "json://127.0.0.1/x"]')
    result = told(node.run("check", "--json"), 1)
    verdicts = [line["verdict"] for line in json.loads(result.stdout) if line["subject"] == "alerts oncall"]
    assert verdicts == ["failed", "ok"]
    assert "geheim" not in result.output


def test_a_model_that_was_changed(node: Node, verified_models: Path) -> None:
    (verified_models / "made.safetensors").write_bytes(b"other weights")
    assert lines_of(node, 1)["model made"]["verdict"] == "failed"
    [verdict] = json.loads(told(invoke("models", "verify", "--json"), 1).stdout)
    assert verdict["name"] == "made" and not verdict["verified"] and verdict["problem"]
    assert "✗" in told(invoke("models", "verify"), 1).stdout


def test_no_model_at_all(node: Node, verified_models: Path) -> None:
    shutil.rmtree(verified_models)
    assert lines_of(node, 1)["models"]["verdict"] == "failed"
    told(invoke("models", "verify"), 1)
    assert "No models" in told(invoke("models", "list")).stdout


def test_models_are_listed_shown_and_verified(verified_models: Path) -> None:
    [row] = json.loads(told(invoke("models", "list", "--json")).stdout)
    assert row["name"] == "made"
    assert json.loads(told(invoke("models", "show", "made", "--json")).stdout) == row
    assert json.loads(told(invoke("models", "verify", "--json")).stdout) == [
        {"name": "made", "verified": True, "problem": None}
    ]
    assert "there are: made" in told(invoke("models", "show", "other"), 1).stderr


def test_a_manifest_that_cannot_be_read_is_told(verified_models: Path) -> None:
    (verified_models / "made.json").write_text("{")
    assert "made" in told(invoke("models", "list"), 1).stderr
    told(invoke("models", "show", "made"), 1)


def test_a_full_disk(node: Node, verified_models: Path) -> None:
    node.add("[receive]\nfree_disk_mb = 999999999")
    line = lines_of(node, 1)["disk"]
    assert line["verdict"] == "failed" and line["remedy"]


def test_a_ledger_that_is_none(node: Node, verified_models: Path) -> None:
    node.settings.node.spool.mkdir()
    (node.settings.node.spool / "ledger.sqlite3").write_bytes(b"no database" * 500)
    assert lines_of(node, 1)["ledger"]["verdict"] == "failed"


def test_a_trail_that_breaks(node: Node, verified_models: Path) -> None:
    ledger = node.ledger()
    with ledger.write() as connection:
        connection.execute(
            text("INSERT INTO audit VALUES (5, '2026-03-01', 'alert.raised', 0, 'x', '', '{}', :hash, :hash)"),
            {"hash": "0" * 64},
        )
    ledger.close()
    line = lines_of(node, 1)["ledger"]
    assert "breaks at event 5" in line["detail"]


def test_without_a_file_the_defaults_are_checked(
    verified_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, ["check", "--json"])
    assert json.loads(result.stdout)[0]["detail"].startswith("built-in defaults")

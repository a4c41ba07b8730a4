"""The house keeps its form: layers, empty package files, one vocabulary of events and reasons."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import dicom_node.reasons
import reporting.reasons
from dicom_node.audit.events import EVENTS
from pipelines.reasons import TABLE
from tests.conftest import REPOSITORY

PACKAGES = ("dicom_node", "reporting", "pipelines", "models", "db")
TABLES = {Path(str(module.__file__)) for module in (dicom_node.reasons, reporting.reasons)}
TABLES |= {REPOSITORY / "pipelines" / "reasons.py"}
SOURCES = [path for package in PACKAGES for path in sorted((REPOSITORY / package).rglob("*.py"))]


def test_the_layers_hold() -> None:
    lint_imports = Path(sys.executable).with_name("lint-imports")
    if not lint_imports.is_file():
        pytest.skip("import-linter is not installed")
    done = subprocess.run([lint_imports], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_package_files_are_empty() -> None:
    assert [path for path in SOURCES if path.name == "__init__.py" and path.stat().st_size] == []


def test_no_room_is_a_lumber_room() -> None:
    assert [path for path in SOURCES if path.stem in ("utils", "util", "helpers", "misc", "common_utils")] == []


def test_no_image_and_no_forgotten_weights_in_git() -> None:
    if shutil.which("git") is None or not (REPOSITORY / ".git").exists():
        pytest.skip("this is no git checkout")
    listed = subprocess.run(["git", "ls-files"], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    forbidden = (".dcm", ".nii", ".nii.gz", ".pt", ".pth", ".pkl", ".onnx")
    assert [name for name in listed.stdout.splitlines() if name.endswith(forbidden)] == []


def literals(path: Path) -> Iterator[str]:
    """The texts of a module, documentation aside."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    statements = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in statements:
            yield node.value


def calls(path: Path) -> Iterator[ast.Call]:
    yield from (node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call))


def name_of(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


USED = {text for path in SOURCES if path not in TABLES for text in literals(path)}


def test_every_audit_event_is_one_of_the_closed_set() -> None:
    written = {
        keyword.value.value
        for path in SOURCES
        for call in calls(path)
        for keyword in call.keywords
        if keyword.arg == "event" and name_of(call) == "append" and isinstance(keyword.value, ast.Constant)
    }
    assert written, "the events are found where they are written"
    assert written - EVENTS.keys() == set()


def test_every_audit_event_is_written_somewhere() -> None:
    elsewhere = [set(literals(path)) for path in SOURCES if path.name != "events.py"]
    missing = [name for name in EVENTS if not any(is_written(name, texts) for texts in elsewhere)]
    assert missing == []


def is_written(event: str, texts: set[str]) -> bool:
    """Whether a module writes it, in one piece or put together of its room and its last word."""
    room, _, word = event.partition(".")
    return event in texts or {f"{room}.", word} <= texts


@pytest.mark.parametrize("event", EVENTS.values(), ids=EVENTS)
def test_each_event_has_a_meaning_and_an_event_id_of_the_standard(event: tuple[str, str]) -> None:
    meaning, event_id = event
    assert meaning[0].isupper() and not meaning.endswith(".")
    assert event_id.isdecimal() and len(event_id) == 6


def test_every_reason_is_a_row_of_the_table() -> None:
    given = {
        call.args[0].value
        for path in SOURCES
        for call in calls(path)
        if name_of(call) in ("Reason", "refuse") and call.args and isinstance(call.args[0], ast.Constant)
    }
    assert len(given) > 40
    assert given - TABLE.keys() == set()


def test_every_row_of_the_table_is_given_somewhere() -> None:
    assert TABLE.keys() - USED == set()


@pytest.mark.parametrize("code", sorted(TABLE))
def test_each_row_says_what_is_wrong_and_what_to_do(code: str) -> None:
    row = TABLE[code]
    assert row.sentence[0].isupper() or row.sentence.startswith("{")
    assert row.sentence.endswith((".", "}"))
    assert row.remedy.endswith(".")
    assert row.audit_outcome in (0, 4, 8, 12)
    assert 400 <= row.http_status < 600
    assert 0 < row.dimse_status <= 0xFFFF

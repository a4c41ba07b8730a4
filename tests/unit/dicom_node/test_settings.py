from __future__ import annotations

import re
from pathlib import Path

import pytest
from pydantic import ValidationError

from dicom_node import settings as configuration
from dicom_node.settings import ConfigurationError, Settings, load, parse
from tests.conftest import REPOSITORY

SECRET = "geheim123"


def problems_of(tmp_path: Path, text: str) -> list[str]:
    file = tmp_path / "service.toml"
    file.write_text(text)
    with pytest.raises(ConfigurationError) as caught:
        load(file)
    assert caught.value.reason.code == "configuration.invalid"
    assert str(file) in caught.value.reason.text
    return list(caught.value.problems)


def test_everything_has_a_default() -> None:
    settings = load(None)
    assert settings == parse("") == Settings()
    assert settings.node.ae_title == "TRIAGE"
    assert {route.pipeline for route in settings.routes.values()} >= {"hemorrhage"}
    assert settings.pipeline("hemorrhage").time_limit_s == 300


def test_the_shipped_file_changes_nothing_and_its_keys_exist() -> None:
    text = (REPOSITORY / "service.toml").read_text()
    assert parse(text) == Settings()
    told = re.sub(r"^# (?=\[|[a-z_]+ = )", "", text, flags=re.MULTILINE)
    spoken = parse(told)
    assert {"ct1"} == set(spoken.peers)
    assert {"pacs"} == set(spoken.destinations)
    assert {"oncall"} == set(spoken.alerts)
    for table in ("node", "receive", "assemble", "work"):
        assert getattr(spoken, table) == getattr(Settings(), table), "what is commented out is the default"


def test_every_mistake_is_told_at_once_with_path_and_remedy(tmp_path: Path) -> None:
    problems = problems_of(
        tmp_path,
        """
[node]
aetitle = "X"
port = 99999
[routes.a]
pipeline = "hemorrhage"
when = { Modalty = "CT", BodyPartExamined = { one_off = ["HEAD"] } }
[pipelines.hemorrhage]
treshold = 1
device = "gpu"
[pipelines.hemorhage]
device = "cpu"
[destinations.pacs]
ae_titel = "P"
port = "abc"
accepts = "everything"
[destinations.other]
kind = "dimsy"
[reciev]
""",
    )
    expected = {
        "node.aetitle": "did you mean ae_title?",
        "node.port": "99999",
        "routes.a.when.Modalty": "did you mean Modality?",
        "routes.a.when.BodyPartExamined.one_off": "did you mean one_of?",
        "pipelines.hemorrhage.treshold": "did you mean threshold?",
        "pipelines.hemorrhage.device": "gpu",
        "pipelines.hemorhage": "did you mean hemorrhage?",
        "destinations.pacs.ae_titel": "did you mean ae_title?",
        "destinations.pacs.ae_title": "must be given",
        "destinations.pacs.host": "must be given",
        "destinations.pacs.port": "abc",
        "destinations.pacs.accepts": 'it is "probe" or a list of kinds',
        "destinations.other": "did you mean dimse?",
        "reciev": "did you mean receive?",
    }
    told = dict(problem.split(": ", 1) for problem in problems)
    assert told.keys() == expected.keys()
    assert {path: words for path, words in expected.items() if words not in told[path]} == {}


@pytest.mark.parametrize(
    "text",
    [
        f'alerts = {{ oncall = "json://user:{SECRET}@host" }}',
        f'alerts = "json://user:{SECRET}@host"',
        f'[alerts.oncall]\nchanels = ["json://user:{SECRET}@host"]',
        f'[alerts.oncall]\nchannels = "json://user:{SECRET}@host"',
        f'[alerts.oncall]\nchannels = [["json://user:{SECRET}@host"]]',
        f'[alerts.oncall]\nstatuses = ["json://user:{SECRET}@host"]\nchannels = ["json://a"]',
        f'[node]\ndatabase = ["postgresql://user:{SECRET}@host/triage"]',
        f'[node]\ndatabase = "user:{SECRET}@host"',
    ],
)
def test_secrets_are_not_told(tmp_path: Path, text: str) -> None:
    problems = problems_of(tmp_path, text)
    assert problems
    assert SECRET not in str(problems)


def test_secrets_are_neither_shown_nor_dumped() -> None:
    settings = parse(f'[alerts.oncall]\nchannels = ["json://user:{SECRET}@host"]')
    assert SECRET not in repr(settings) + settings.model_dump_json()
    assert settings.alerts["oncall"].channels[0].get_secret_value().endswith("@host")


@pytest.mark.parametrize("content", [b"[node\n", b"\xff\xfe[node]", b"port = 1\nport = 2\n"])
def test_what_is_no_toml_is_told(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "service.toml"
    file.write_bytes(content)
    with pytest.raises(ConfigurationError, match=r"it is no TOML|it cannot be read"):
        load(file)


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="it cannot be read"):
        load(tmp_path / "nowhere.toml")


def test_where_the_file_is_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = tmp_path / "first.toml", tmp_path / "second.toml"
    monkeypatch.setattr(configuration, "SEARCH_PATH", (first, second))
    assert configuration.find_file(None) is None
    second.touch()
    assert configuration.find_file(None) == second
    first.touch()
    assert configuration.find_file(None) == first
    assert configuration.find_file(tmp_path / "given.toml") == tmp_path / "given.toml"


@pytest.mark.parametrize("title", ["", " " * 4, "A" * 17, "BACK\\SLASH", "NEW\nLINE", "ÄRZTE"])
def test_ae_titles_follow_the_standard(title: str) -> None:
    with pytest.raises(ValidationError):
        Settings.model_validate({"node": {"ae_title": title}})


@pytest.mark.parametrize(
    "condition",
    [
        {},
        {"equal": "CT", "present": True},
        {"glob": []},
        {"not_glob": ["A"], "absent": True},
        {"range": [5, 1]},
        {"present": False},
        {"one_of": "CT"},
    ],
)
def test_a_condition_says_one_thing(condition: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Settings.model_validate({"routes": {"a": {"pipeline": "hemorrhage", "when": {"Modality": condition}}}})


def test_a_bare_value_means_equal() -> None:
    [route] = parse('[routes.a]\npipeline = "hemorrhage"\nwhen = { Modality = "CT" }').routes.values()
    assert route.when["Modality"].equal == "CT"
    assert route.priority == "routine"


def test_the_hash_names_the_configuration() -> None:
    same = 'alerts = { }\n[node]\nport = 11113\nae_title = "A"'
    assert parse(same).hash() == parse('[node]\nae_title = "A"\nport = 11113').hash()
    assert parse(same).hash() != parse(same.replace("11113", "11114")).hash()
    assert re.fullmatch(r"[0-9a-f]{16}", parse(same).hash())


def test_a_result_depends_on_its_pipelines_settings_only() -> None:
    before = Settings().hash_for("hemorrhage")
    for same in ("[node]\nport = 4", '[pipelines.hemorrhage]\ndevice = "cpu"\ntime_limit_s = 5'):
        assert parse(same).hash_for("hemorrhage") == before
    assert parse("[pipelines.hemorrhage]\nthreshold = 0.123").hash_for("hemorrhage") != before


def test_nothing_of_it_can_be_changed() -> None:
    with pytest.raises(ValidationError):
        Settings().node.port = 5  # type: ignore[misc]


def test_the_ledger_lies_in_the_spool_unless_said_otherwise(tmp_path: Path) -> None:
    assert parse(f'[node]\nspool = "{tmp_path}"').node.database_url == f"sqlite:///{tmp_path}/ledger.sqlite3"
    assert parse('[node]\ndatabase = "sqlite:////x.db"').node.database_url == "sqlite:////x.db"

"""The documentation is held to the program: pages, help texts, service.toml, links and log lines."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import click
import pytest
from pydantic.fields import FieldInfo

from dicom_node import settings
from docs import generate
from pipelines.hemorrhage.evaluate import read_truth
from tests.conftest import REPOSITORY

DOCS = REPOSITORY / "docs"
PAGES = sorted([REPOSITORY / "README.md", REPOSITORY / "CHANGELOG.md", *DOCS.rglob("*.md")])
KEYS = [
    (heading, key, field) for heading, model in generate.tables().items() for key, field in model.model_fields.items()
]
EXAMPLES = ("peers", "routes")
"""Tables that service.toml shows with an example's values rather than with the defaults."""


@pytest.mark.parametrize("page", generate.PAGES)
def test_page_is_what_the_program_says(page: str) -> None:
    held = (generate.REFERENCE / page).read_text(encoding="utf-8")
    assert held == generate.PAGES[page](), f"{page} is out of date: run `python -m docs.generate`"


def test_reference_holds_no_page_that_nobody_makes() -> None:
    assert {path.name for path in generate.REFERENCE.iterdir()} == set(generate.PAGES)


@pytest.mark.parametrize("context", list(generate.command_contexts()), ids=lambda context: context.command_path)
def test_command_and_its_options_have_help(context: click.Context) -> None:
    assert context.command.help, f"{context.command_path} has no help"
    options = [parameter for parameter in context.command.params if isinstance(parameter, click.Option)]
    assert not [option.name for option in options if not option.help]


@pytest.mark.parametrize(("heading", "key", "field"), KEYS, ids=lambda value: value if isinstance(value, str) else "")
def test_key_stands_in_service_toml_with_its_default(heading: str, key: str, field: FieldInfo) -> None:
    table = generate.table_of(heading)
    assert (table, key) in generate.commented_keys(), f"service.toml does not show {key} of [{heading}]"
    if field.is_required() or field.default is None or table in EXAMPLES:
        return
    shown = tomllib.loads(f"{key} = {generate.commented_keys()[table, key][0]}")
    assert shown == tomllib.loads(f"{key} = {generate.toml_of(field.default)}")


@pytest.mark.parametrize(("heading", "key"), [(heading, key) for heading, key, _ in KEYS])
def test_key_has_a_meaning(heading: str, key: str) -> None:
    assert generate.meaning_of(heading, generate.tables()[heading], key)


def test_service_toml_shows_no_key_that_does_not_exist() -> None:
    existing = {(generate.table_of(heading), key) for heading, key, _ in KEYS}
    assert set(generate.commented_keys()) <= existing


def test_service_toml_loads_as_it_is_and_with_everything_in_it_in_force() -> None:
    as_it_is = settings.load(generate.SERVICE_TOML)
    assert as_it_is == settings.Settings()
    in_force = settings.parse(generate.uncommented())
    shown = {table.partition(".")[0] for table, _ in generate.commented_keys()}
    assert in_force.model_fields_set == shown == set(settings.Settings.model_fields)
    assert (set(in_force.routes), set(in_force.destinations), set(in_force.alerts)) == (
        {"head_bleed"},
        {"pacs"},
        {"oncall"},
    )


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in _links(page):
        path, _, anchor = target.partition("#")
        there = page if not path else (page.parent / path).resolve()
        assert there.exists(), f"{page.name} links to {target}"
        assert there.is_relative_to(REPOSITORY)
        assert not anchor or anchor in _anchors(there), f"{page.name} links to {target}"


@pytest.mark.parametrize("page", [page for page in PAGES if page.is_relative_to(DOCS)], ids=lambda page: page.stem)
def test_page_is_linked_from_a_page(page: Path) -> None:
    linked = {(other.parent / target.partition("#")[0]).resolve() for other in PAGES for target in _links(other)}
    assert page in linked or page.parent.name == "decisions"


def test_every_log_line_is_explained_to_the_administrator() -> None:
    said = set()
    for source in (REPOSITORY / "dicom_node").rglob("*.py"):
        said |= set(re.findall(r'log\.(?:info|warning|error|exception)\(\s*"([a-z_.]+)"', source.read_text("utf-8")))
    assert len(said) > 20
    explained = (DOCS / "administrator.md").read_text(encoding="utf-8")
    assert not sorted(event for event in said if f"`{event}`" not in explained)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_commands_that_a_page_names_exist(page: Path) -> None:
    commands = {context.command_path: context.command for context in generate.command_contexts()}
    for line in re.findall(r"triage-node(?: [a-z]+)+", "\n".join(_code(page))):
        _, name, *rest = line.split()
        assert f"triage-node {name}" in commands, f"{page.name} names {line}"
        if rest and isinstance(commands[f"triage-node {name}"], click.Group):
            assert f"triage-node {name} {rest[0]}" in commands, f"{page.name} names {line}"


@pytest.mark.parametrize(
    ("page", "pattern", "before"),
    [
        ("README.md", r">> service\.toml <<'TOML'\n(.*?)^TOML$", generate.SERVICE_TOML.read_text(encoding="utf-8")),
        ("docs/administrator.md", r"^```toml\n(.*?)^```$", ""),
    ],
)
def test_configuration_that_a_page_shows_loads(page: str, pattern: str, before: str) -> None:
    text = (REPOSITORY / page).read_text(encoding="utf-8")
    (shown,) = re.findall(pattern, text, re.DOTALL | re.MULTILINE)
    parsed = settings.parse(before + shown)
    assert (list(parsed.destinations), list(parsed.alerts)) == (["pacs"], ["oncall"])


def test_truth_that_the_page_shows_is_read(tmp_path: Path) -> None:
    page = (DOCS / "data_scientist.md").read_text(encoding="utf-8")
    (table,) = re.findall(r"^(patient,slices.*?)^```$", page, re.DOTALL | re.MULTILINE)
    (tmp_path / "truth.csv").write_text(table, encoding="utf-8")
    assert [truth.is_positive for truth in read_truth(tmp_path)] == [True, False]


def test_make_targets_that_the_pages_name_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (REPOSITORY / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for page in PAGES:
        named = set(re.findall(r"(?:`|^    |^)make ([a-z-]+)", page.read_text(encoding="utf-8"), re.MULTILINE))
        assert named <= targets, f"{page.name} names {named - targets}"


def _code(page: Path) -> list[str]:
    """Fenced blocks and code spans."""
    text = page.read_text(encoding="utf-8")
    blocks = re.findall(r"```.*?```", text, re.DOTALL)
    return [*blocks, *re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))]


def _links(page: Path) -> list[str]:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    targets = re.findall(r"\]\(([^)\s]+)\)", text)
    return [target for target in targets if not target.startswith(("http://", "https://", "mailto:"))]


def _anchors(page: Path) -> set[str]:
    """As code hosts name headings: lower case, punctuation away, spaces to hyphens."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}

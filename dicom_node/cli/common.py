"""What every command shares: `--config`, `--json`, tables, and how an error ends a command."""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, is_dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, ParamSpec, TypeVar

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from db.connect import Ledger, LedgerError, opened_ledger
from dicom_node import settings as configuration
from dicom_node.settings import ConfigurationError, Settings
from pipelines.reasons import TriageError

DONE, ANSWER_IS_NO, WRONG_USAGE = 0, 1, 2
"""Exit codes: done; it ran, and the answer is "no" or "failed"; wrong usage or configuration."""

P = ParamSpec("P")
R = TypeVar("R")

PIPED_WIDTH = 400
"""Into a pipe or a file, rows are not folded to the width of a terminal."""

# Without markup: what is printed may come from files and senders, and `[node]` is no tag.
console = Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else PIPED_WIDTH)
errors = Console(stderr=True, highlight=False, markup=False)

Sign = Literal["ok", "warning", "failed", "ignored"]
_SIGNS: Mapping[Sign, tuple[str, str]] = {
    "ok": ("✓ ", "green"),
    "warning": ("! ", "yellow"),
    "failed": ("✗ ", "red"),
    "ignored": ("– ", "dim"),
}


def say(text: str, sign: Sign | None = None, *, indent: int = 0, style: str = "", to: Console = console) -> None:
    """Print one line, behind a sign that says how it stands."""
    line = Text(" " * indent)
    if sign is not None:
        line.append(*_SIGNS[sign])
    to.print(line.append(text, style), soft_wrap=True)


def with_settings(command: Callable[..., R]) -> Callable[..., R]:
    """Give the command `settings`, read from `--config` or where service.toml is looked for."""

    @click.option(
        "--config",
        type=click.Path(path_type=Path, dir_okay=False),
        help="service.toml to use; else ./service.toml, then /etc/triage-node/service.toml, else the defaults.",
    )
    @functools.wraps(command)
    def wrapped(*args: Any, config: Path | None, **kwargs: Any) -> R:
        return command(*args, settings=configuration.load(configuration.find_file(config)), **kwargs)

    return wrapped


def with_json(command: Callable[P, R]) -> Callable[P, R]:
    """Give the command `as_json`: one JSON document on standard output instead of a table."""
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")(command)


class Group(click.Group):
    """A group whose commands end in words, not in a traceback, when something is wrong that we have a reason for."""

    def invoke(self, context: click.Context) -> Any:
        try:
            return super().invoke(context)
        except ConfigurationError as error:
            for problem in error.problems:
                say(f"{error.reason.facts['file']}: {problem}", "failed", to=errors)
            context.exit(WRONG_USAGE)
        except TriageError as error:
            say(error.reason.text, "failed", to=errors)
            say(error.reason.row.remedy, indent=2, to=errors)
            context.exit(ANSWER_IS_NO)
        except LedgerError as error:
            say(f"The ledger cannot be used: {error}", "failed", to=errors)
            context.exit(ANSWER_IS_NO)


@contextmanager
def ledger_of(settings: Settings) -> Iterator[Ledger]:
    """The node's ledger. Ends the command where there is none yet: looking must not make one."""
    url = settings.node.database_url
    file = url.removeprefix("sqlite:///")
    if file != url and not Path(file).exists():
        raise click.ClickException(f"There is no ledger at {file} yet; `triage-node serve` makes it.")
    with opened_ledger(url) as ledger:
        yield ledger


def print_json(document: object) -> None:
    """One JSON document on standard output."""
    click.echo(json.dumps(document, indent=2, ensure_ascii=False, default=_plain))


def print_rows(rows: Iterable[Any], columns: Sequence[str], *, as_json: bool, title: str) -> None:
    """Frozen rows as a table of the given columns, or whole as JSON."""
    held = [asdict(row) if is_dataclass(row) and not isinstance(row, type) else dict(row) for row in rows]
    if as_json:
        print_json(held)
        return
    if not held:
        console.print(f"No {title}.")
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in columns:
        table.add_column(column.replace("_", " "), overflow="fold")
    for row in held:
        table.add_row(*(_cell(row[column]) for column in columns))
    console.print(table)


def print_fields(row: Any, *, as_json: bool) -> None:
    """One frozen row, a line for each field, or as JSON."""
    fields = asdict(row) if is_dataclass(row) and not isinstance(row, type) else dict(row)
    if as_json:
        print_json(fields)
        return
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in fields.items():
        table.add_row(name.replace("_", " "), _cell(value))
    console.print(table)


def _cell(value: object) -> str:
    if value is None:
        return "–"
    if isinstance(value, datetime):
        return value.astimezone().strftime("%Y-%m-%d %H:%M:%S")
    if isinstance(value, Mapping):
        return str(value.get("text") or json.dumps(value, ensure_ascii=False, default=_plain))
    if isinstance(value, list | tuple):
        return "\n".join(_cell(item) for item in value)
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _plain(value: object) -> object:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")

"""`python -m docs.generate` writes the pages of docs/reference from the tables of the program itself.

A test fails when a page is not what this makes of them.
"""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import click
from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo
from pydicom.uid import UID

import dicom_node.reasons  # noqa: F401  (enters the service's rows)
import reporting.reasons  # noqa: F401  (enters the reports' rows)
from dicom_node import settings
from dicom_node.alert import policy as alert
from dicom_node.assemble import policy as assemble
from dicom_node.audit.events import EVENTS
from dicom_node.cli.main import main as command_line
from dicom_node.deliver import catalogue as destinations
from dicom_node.deliver import policy as deliver
from dicom_node.dispatch import policy as dispatch
from dicom_node.receive.transfer_syntaxes import TRANSFER_SYNTAXES
from pipelines import catalogue as pipelines
from pipelines import codes
from pipelines.calcification import assess as calcifications
from pipelines.calcification.describe import DISTRIBUTION_RULES, TYPE_RULES
from pipelines.nodule import lung_rads as nodules
from pipelines.reasons import TABLE
from reporting.catalogue import objects
from reporting.uids import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME, MODEL_NAME, PRIVATE_SCHEME_UID

REPOSITORY = Path(__file__).parent.parent
REFERENCE = REPOSITORY / "docs" / "reference"
SERVICE_TOML = REPOSITORY / "service.toml"
NOTE = "<!-- Made by `python -m docs.generate`; change the program's table, not this page. -->\n"

PAGE_WIDTH = 100
FAMILIES = {
    "access": "Who may call",
    "receive": "Taking in",
    "input": "What an instance is",
    "series": "What a series is",
    "view": "What a view of a breast is",
    "study": "What a study is",
    "geometry": "Where the slices lie",
    "body_part": "What the images show",
    "contrast": "Contrast",
    "prior": "Earlier studies",
    "route": "Rules",
    "selection": "Which series of a study is read",
    "revision": "Late instances",
    "pipeline": "Pipelines",
    "model": "Models",
    "engine": "The engine",
    "report": "Results",
    "deliver": "Delivery",
    "alert": "Alerts",
    "evaluation": "Evaluation",
    "configuration": "Configuration",
    "service": "The service",
}
RETRIES = {"never": "no", "later": "later, by itself", "person": "after somebody acted"}
STATES: Mapping[str, tuple[str, Mapping[Any, str], str]] = {
    "revision": (assemble.__name__, assemble.TRANSITIONS, "receiving"),
    "job": (dispatch.__name__, dispatch.TRANSITIONS, "waiting"),
    "delivery": (deliver.__name__, deliver.TRANSITIONS, "pending"),
    "alert": (alert.__name__, alert.TRANSITIONS, "raised"),
}
"""Of each thing with states: the module of its table, the table, and the state it begins in."""


def reasons() -> str:
    """The table of reasons, a section for each family of codes."""
    families: dict[str, list[str]] = defaultdict(list)
    for row in TABLE.values():
        families[row.code.split(".")[0]].append(row.code)
    parts = [
        "# Reasons",
        "Why the node did not do, or only half did, what was asked of it. A code never changes its meaning. In a "
        "sentence, `{name}` stands for a fact of the case. *Again* says whether trying again helps. *Status* is what "
        "a C-STORE is answered with where the reason refuses one; *HTTP* and *audit* are the status of a web answer "
        "(there is no web interface yet) and the outcome in the audit trail (0 fine, 4 minor, 8 serious, 12 major).",
    ]
    for family, title in FAMILIES.items():
        rows = (TABLE[code] for code in families.pop(family))
        parts += [f"## {title}"]
        parts += [
            _table(
                ("Code", "What it says", "What to do", "Again", "Severity", "Status", "HTTP", "Audit"),
                (
                    (
                        f"`{row.code}`",
                        row.sentence,
                        row.remedy,
                        RETRIES[row.retry],
                        row.severity,
                        f"{row.dimse_status:04X}",
                        row.http_status,
                        row.audit_outcome,
                    )
                    for row in rows
                ),
            )
        ]
    if families:
        raise ValueError(f"families of reasons without a title: {', '.join(families)}")
    return _page(parts)


def coded_concepts() -> str:
    """The table of codes."""
    rows = [(name, code) for name, code in vars(codes).items() if isinstance(code, codes.Code)]
    return _page(
        [
            "# Coded concepts",
            "Every code that the node writes or reads, from `pipelines/codes.py`. The scheme "
            f"`{codes.PRIVATE_SCHEME}` is the node's own; its UID is `{PRIVATE_SCHEME_UID}`, and an object that uses "
            "one of its codes says so in the Coding Scheme Identification Sequence.",
            _table(
                ("Value", "Scheme", "Meaning", "Name in the program"),
                ((f"`{code.value}`", code.scheme, code.meaning, f"`{name}`") for name, code in rows),
            ),
        ]
    )


def lung_rads() -> str:
    """The rules that suggest a Lung-RADS category, in the order in which they are tried."""
    rows = [(f"`{rule.id}`", rule.category, rule.finding) for rule in nodules.RULES]
    rows += [(f"`{nodules.SUSPICIOUS_RULE}`", "4X", f"Any of 3, 4A and 4B {nodules.SUSPICIOUS_FINDING}")]
    whole = (nodules.LUNGS_NOT_EVALUATED, nodules.PRIOR_AWAITED)
    return _page(
        [
            f"# Lung-RADS {nodules.VERSION}",
            "The rules by which a category is suggested for a nodule, from `pipelines/nodule/lung_rads.py`. They are "
            "tried in this order, and the first that applies counts. Sizes are mean diameters to one decimal.",
            _table(("Rule", "Category", "Finding"), rows),
            "The examination has the category of its most suspicious nodule, and 1 without a nodule. It is 0 for one "
            "of these reasons, unless a nodule suggests 3 or more:",
            _table(("Rule", "Category", "Finding"), ((f"`{one.rule}`", one.name, one.finding) for one in whole)),
            "## Source and gaps",
            (inspect.getdoc(nodules) or "").partition("\n\n")[2],
        ]
    )


def bi_rads() -> str:
    """The rules that describe a group of calcifications and suggest its BI-RADS category, in their order."""
    rows = ((f"`{rule.id}`", rule.category.meaning, rule.finding) for rule in calcifications.RULES)
    chances = [
        (
            kind.meaning,
            *(
                "–" if (chance := calcifications.likelihood(kind, rule.code)) is None else f"{100 * chance:.0f} %"
                for rule in DISTRIBUTION_RULES
            ),
        )
        for kind in calcifications.MALIGNANT_BY_TYPE
    ]
    return _page(
        [
            f"# BI-RADS, {calcifications.EDITION}",
            "The rules by which an assessment is suggested for a group of calcifications, from "
            "`pipelines/calcification/assess.py`. They are tried in this order, and the first that applies counts. The "
            "study has the most suspicious category of its groups, and 1 without a group.",
            _table(("Rule", "Category", "Finding"), rows),
            "## How likely what is biopsied is malignant",
            _table(("Type", *(rule.code.meaning for rule in DISTRIBUTION_RULES)), chances),
            "## Type and distribution",
            "From `pipelines/calcification/describe.py`; in each table too the first rule that applies counts.",
            _table(("Rule", "Type", "Calcifications"), ((f"`{r.id}`", r.code.meaning, r.why) for r in TYPE_RULES)),
            _table(
                ("Rule", "Distribution", "Calcifications"),
                ((f"`{r.id}`", r.code.meaning, r.why) for r in DISTRIBUTION_RULES),
            ),
            "## Source and gaps",
            (inspect.getdoc(calcifications) or "").partition("\n\n")[2],
        ]
    )


def states() -> str:
    """A state diagram of each thing that has states."""
    parts = [
        "# States",
        "Drawn from the tables of (state, event) to state, which are the only places where a state changes.",
    ]
    for what, (module, transitions, first) in STATES.items():
        lines = [f"    [*] --> {first}"]
        lines += [f"    {before} --> {after}: {event}" for (before, event), after in transitions.items()]
        last = set(transitions.values()) - {before for before, _ in transitions}
        lines += [f"    {state} --> [*]" for state in sorted(last)]
        parts += [
            f"## {what.capitalize()}",
            f"`{module}`",
            "\n".join(["```mermaid", "stateDiagram-v2", *lines, "```"]),
        ]
    return _page(parts)


def events() -> str:
    """The events of the audit trail."""
    rows = ((f"`{name}`", event.meaning, event.event_id) for name, event in EVENTS.items())
    return _page(
        [
            "# Audit events",
            "The closed set of events of the audit trail. *EventID* is the DCM code of the standard's audit messages "
            "(PS3.15, A.5) that an export will use; there is no export yet.",
            _table(("Event", "Meaning", "EventID"), rows),
        ]
    )


def dicom() -> str:
    """What the conformance statement lists: UIDs, transfer syntaxes, classes of the results, statuses of a C-STORE."""
    refusing = [row for row in TABLE.values() if row.code.startswith("receive.")] + [
        TABLE["access.service_not_allowed"]
    ]
    return _page(
        [
            "# DICOM tables",
            "For the [conformance statement](../integrator.md).",
            "## Identification",
            _table(
                ("What", "Value"),
                (
                    ("Implementation Class UID", f"`{IMPLEMENTATION_CLASS_UID}`"),
                    ("Implementation Version Name", f"`{IMPLEMENTATION_VERSION_NAME}`"),
                    ("Manufacturer's Model Name of results", f"`{MODEL_NAME}`"),
                    (f"Coding Scheme UID of {codes.PRIVATE_SCHEME}", f"`{PRIVATE_SCHEME_UID}`"),
                ),
            ),
            "## Transfer syntaxes taken, the most preferred first",
            _table(("Transfer syntax", "UID"), ((UID(uid).name, f"`{uid}`") for uid in TRANSFER_SYNTAXES)),
            "## Results",
            _table(
                ("Kind", "SOP class", "UID"),
                (
                    (f"`{kind}`", UID(made.sop_class_uid).name, f"`{made.sop_class_uid}`")
                    for kind, made in objects().items()
                ),
            ),
            "## Statuses of a C-STORE that is not answered 0000",
            _table(
                ("Status", "Meaning (Error Comment, cut to 64 characters)", "Reason"),
                ((f"{row.dimse_status:04X}", row.sentence, f"`{row.code}`") for row in refusing),
            ),
        ]
    )


def configuration() -> str:
    """Every key of service.toml."""
    parts = [
        "# service.toml",
        "Every key has a default, so that an empty file is a working configuration; only tables with a name of their "
        "own (`NAME`) have keys that must be given. A key that does not exist is a mistake, and `triage-node check` "
        "tells all mistakes at once. Times are in the unit that the key's name ends in.",
    ]
    for heading, model in tables().items():
        rows = (
            (f"`{key}`", _type(field.annotation), _default(field), meaning_of(heading, model, key))
            for key, field in model.model_fields.items()
        )
        parts += [f"## {heading}", _plain(inspect.getdoc(model)), _table(("Key", "Type", "Default", "Meaning"), rows)]
    matcher = settings.Matcher
    conditions = _table(
        ("Key", "Type"), ((f"`{key}`", _type(field.annotation)) for key, field in matcher.model_fields.items())
    )
    parts += ["## Conditions of a rule", _plain(inspect.getdoc(matcher)), conditions]
    return _page(parts)


def commands() -> str:
    """The help of every command."""
    parts = ["# Command line", "Exit codes: 0 done; 1 it ran, and the answer is \"no\" or \"failed\"; 2 wrong usage or "
             "configuration. With `--json` the result is one JSON document on standard output; logs go to standard "
             "error."]  # fmt: skip
    for context in command_contexts():
        name = context.command_path
        parts += [f"{'#' * (1 + len(name.split()))} {name}", f"```text\n{context.get_help()}\n```"]
    return _page(parts)


def command_contexts() -> Iterator[click.Context]:
    """A context for each command, groups before what is in them."""
    yield from _contexts(_context(command_line, "triage-node", None))


def tables() -> Mapping[str, type[BaseModel]]:
    """Heading and model of each table of service.toml, in the order of `Settings`."""
    several: Mapping[str, Mapping[str, Any]] = {
        "pipelines": {name: pipeline.settings for name, pipeline in pipelines.catalogue().items()},
        "destinations": {f"NAME, kind {name}": kind.settings for name, kind in destinations.catalogue().items()},
        "peers": {"NAME": settings.Peer},
        "routes": {"NAME": settings.Route},
        "priors": {"NAME": settings.PriorArchive},
        "alerts": {"NAME": settings.AlertRule},
    }
    found: dict[str, type[BaseModel]] = {}
    for table, field in settings.Settings.model_fields.items():
        if table in several:
            found |= {f"{table}.{name}": model for name, model in several[table].items()}
        elif isinstance(field.annotation, type):
            found[table] = field.annotation
    return found


def meaning_of(heading: str, model: type[BaseModel], key: str) -> str:
    """What a key means: the text below it in the model, and the comment on its line of service.toml."""
    table = table_of(heading)
    told = _texts_below_fields(model).get(key, "")
    comment = commented_keys().get((table, key), (None, ""))[1]
    sentence = f"{comment[:1].upper()}{comment[1:]}." if comment and not told else ""
    return _plain(told or sentence)


def table_of(heading: str) -> str:
    """The table that a heading of service.toml stands for: names are free, but each pipeline has keys of its own."""
    return heading if heading.startswith("pipelines.") else heading.partition(".")[0]


@cache
def commented_keys() -> Mapping[tuple[str, str], tuple[str | None, str]]:
    """(table, key) to (value as written, comment) of every line of service.toml that shows a key."""
    found: dict[tuple[str, str], tuple[str | None, str]] = {}
    table = ""
    for line in SERVICE_TOML.read_text(encoding="utf-8").splitlines():
        if match := re.match(r"(?:# )?\[([\w.]+)", line):
            table = table_of(match[1])
        elif match := re.match(r"# (\w+) = (.+?)(?:\s{2,}# (.+))?$", line):
            found[table, match[1]] = (match[2].strip(), match[3] or "")
    return found


def uncommented() -> str:
    """service.toml with every key that it shows in force."""
    lines = SERVICE_TOML.read_text(encoding="utf-8").splitlines()
    return "\n".join(re.sub(r"^# (?=\[\w|\w+ = )", "", line) for line in lines)


PAGES: Mapping[str, Callable[[], str]] = {
    "reasons.md": reasons,
    "codes.md": coded_concepts,
    "lung_rads.md": lung_rads,
    "bi_rads.md": bi_rads,
    "states.md": states,
    "events.md": events,
    "dicom.md": dicom,
    "settings.md": configuration,
    "cli.md": commands,
}


def main() -> None:
    """Write every page."""
    for name, make in PAGES.items():
        (REFERENCE / name).write_text(make(), encoding="utf-8")


def _contexts(context: click.Context) -> Iterator[click.Context]:
    yield context
    if isinstance(context.command, click.Group):
        for name in context.command.list_commands(context):
            command = context.command.get_command(context, name)
            if command is not None:
                yield from _contexts(_context(command, name, context))


def _context(command: click.Command, name: str, parent: click.Context | None) -> click.Context:
    return click.Context(
        command, info_name=name, parent=parent, terminal_width=PAGE_WIDTH, max_content_width=PAGE_WIDTH
    )


def _texts_below_fields(model: type[BaseModel]) -> dict[str, str]:
    found: dict[str, str] = {}
    for owner in reversed(model.__mro__):
        if not issubclass(owner, BaseModel) or owner is BaseModel:
            continue
        (definition,) = ast.parse(textwrap.dedent(inspect.getsource(owner))).body
        assert isinstance(definition, ast.ClassDef)
        for before, after in zip(definition.body, definition.body[1:], strict=False):
            match before, after:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                    found[name] = text
    return found


_WORDS = {
    str: "text",
    int: "whole number",
    float: "number",
    bool: "true or false",
    Path: "path",
    SecretStr: "text, kept secret",
    IPv4Network: "network, such as `10.1.2.0/24`",
    IPv6Network: "network, such as `fd00:12::/64`",
}


def _type(annotation: Any) -> str:
    """A field's type in the words of somebody who writes TOML."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is None:
        return _WORDS[annotation]
    if origin is Literal:
        return " or ".join(f"`{toml_of(value)}`" for value in arguments)
    if origin is tuple:
        return f"list of {_type(arguments[0])}"
    if origin is Mapping:
        return "table of conditions"
    if origin is Annotated:
        return _type(arguments[0])
    return " or ".join(_type(argument) for argument in arguments if argument is not type(None))


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "must be given"
    return "–" if field.default is None else f"`{toml_of(field.default)}`"


def toml_of(value: Any) -> str:
    """A default as service.toml would write it."""
    match value:
        case bool():
            return str(value).lower()
        case str() | Path():
            return f'"{value}"'
        case tuple():
            return f"[{', '.join(map(toml_of, value))}]"
    return str(value)


def _plain(text: str | None) -> str:
    return " ".join((text or "").split())


def _table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)


def _page(parts: Iterable[str]) -> str:
    return NOTE + "\n" + "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    main()

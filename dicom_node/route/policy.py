"""The rules of service.toml: which one fires on a series, and why the ones before it do not."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache

from pydicom.datadict import dictionary_VR, tag_for_keyword

from dicom_node.headers import Value
from dicom_node.settings import PRIORITIES, Matcher, Route

PATIENT_GROUP = 0x0010
LONGEST_SHOWN = 60


@dataclass(frozen=True, slots=True)
class Failure:
    """A condition that does not hold, and what was found instead; values of the patient are not told."""

    keyword: str
    condition: str
    found: str


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One rule, asked about one series. It fires when no condition fails."""

    rule: str
    pipeline: str
    priority: str
    failures: tuple[Failure, ...]

    @property
    def fires(self) -> bool:
        return not self.failures


def keywords(routes: Mapping[str, Route]) -> frozenset[str]:
    """The attributes that the rules ask for."""
    return frozenset(keyword for route in routes.values() for keyword in route.when)


def evaluate(routes: Mapping[str, Route], attributes: Mapping[str, tuple[Value, ...]]) -> tuple[Evaluation, ...]:
    """Ask the rules in their order in the file, up to the first that fires."""
    asked = []
    for name, route in routes.items():
        failures = tuple(
            Failure(keyword, _condition(matcher), _shown(keyword, attributes.get(keyword, ())))
            for keyword, matcher in route.when.items()
            if not matches(matcher, attributes.get(keyword, ()))
        )
        asked.append(Evaluation(name, route.pipeline, route.priority, failures))
        if not failures:
            break
    return tuple(asked)


def fired(evaluations: Sequence[Evaluation]) -> Evaluation | None:
    """The rule that fires; only the last one asked can."""
    return evaluations[-1] if evaluations and evaluations[-1].fires else None


def priority_number(priority: str) -> int:
    """The place in the queue that a rule's priority word stands for; lower goes first."""
    return [str(word) for word in PRIORITIES].index(priority)


def matches(matcher: Matcher, values: tuple[Value, ...]) -> bool:
    """Whether an attribute with these values (none: it is absent or empty) meets every key that is set."""
    checks = {
        "equal": lambda: any(_same(value, matcher.equal) for value in values),
        "one_of": lambda: any(_same(value, wanted) for value in values for wanted in matcher.one_of or ()),
        "glob": lambda: _any_like(values, matcher.glob or ()),
        "not_glob": lambda: not _any_like(values, matcher.not_glob or ()),
        "range": lambda: any(_within(value, matcher.range) for value in values),
        "present": lambda: bool(values),
        "absent": lambda: not values,
    }
    return all(checks[key]() for key in matcher.model_fields_set)


def _same(value: Value, wanted: Value | None) -> bool:
    """Text is compared exactly; where either is a number, as numbers."""
    if isinstance(value, str) and isinstance(wanted, str):
        return value == wanted
    number = _number(value)
    return number is not None and wanted is not None and number == _number(wanted)


def _within(value: Value, limits: tuple[float, float] | None) -> bool:
    number = _number(value)
    return limits is not None and number is not None and limits[0] <= number <= limits[1]


def _number(value: Value) -> float | None:
    try:
        return float(value)
    except ValueError:
        return None


def _any_like(values: Iterable[Value], patterns: Iterable[str]) -> bool:
    texts = [_folded(_text(value)) for value in values]
    return any(fnmatchcase(text, _folded(pattern)) for pattern in patterns for text in texts)


@lru_cache(maxsize=4096)
def _folded(text: str) -> str:
    """The text without the differences that people do not mean: case, accents, width."""
    decomposed = unicodedata.normalize("NFKD", text)
    return "".join(sign for sign in decomposed if not unicodedata.combining(sign)).casefold()


def _text(value: Value) -> str:
    return f"{value:g}" if isinstance(value, float) else value


def _condition(matcher: Matcher) -> str:
    told = []
    for key in sorted(matcher.model_fields_set):
        value = getattr(matcher, key)
        items = [_text(item) for item in value] if isinstance(value, tuple) else [] if value is True else [_text(value)]
        told.append(" ".join([key, _shortened(", ".join(items))]).strip())
    return " and ".join(told)


def _shown(keyword: str, values: tuple[Value, ...]) -> str:
    if not values:
        return "nothing"
    tag = tag_for_keyword(keyword) or 0
    if tag >> 16 == PATIENT_GROUP or dictionary_VR(tag) == "PN":
        return "a value that is not shown"
    return _shortened(", ".join(_text(value) for value in values))


def _shortened(text: str) -> str:
    return text if len(text) <= LONGEST_SHOWN else f"{text[: LONGEST_SHOWN - 1]}…"

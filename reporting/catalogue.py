"""Finds the kinds of object and the languages by scanning their rooms: a new one is one new file."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from functools import cache
from types import ModuleType
from typing import Protocol, TypeVar

from pydicom import Dataset

import reporting.narrative
import reporting.objects
from reporting.narrative.narrative import Narrative
from reporting.source import ReportCase

Exported = TypeVar("Exported")


class ResultObject(Protocol):
    """What a module of `reporting.objects` exports as `OBJECT`: one kind of object (IOD) that a case may become."""

    @property
    def kind(self) -> str: ...

    @property
    def sop_class_uid(self) -> str: ...

    def build(self, case: ReportCase, narrative: Narrative) -> tuple[Dataset, ...]:
        """The objects of this kind with their file meta information; none where it does not apply to the case."""
        ...


@cache
def objects() -> Mapping[str, ResultObject]:
    """All kinds of object by their name, in the order of the names."""
    found: dict[str, ResultObject] = {}
    for module in _modules(reporting.objects):
        result_object: ResultObject | None = getattr(module, "OBJECT", None)
        if result_object is not None:
            _enter(found, result_object.kind, result_object)
    return found


@cache
def narratives() -> Mapping[str, Narrative]:
    """All languages by their tag."""
    found: dict[str, Narrative] = {}
    for module in _modules(reporting.narrative):
        narrative: Narrative | None = getattr(module, "NARRATIVE", None)
        if narrative is not None:
            _enter(found, narrative.language, narrative)
    return found


def _modules(room: ModuleType) -> list[ModuleType]:
    names = sorted(module.name for module in pkgutil.iter_modules(room.__path__))
    return [importlib.import_module(f"{room.__name__}.{name}") for name in names]


def _enter(found: dict[str, Exported], name: str, exported: Exported) -> None:
    if name in found:
        raise ValueError(f"{name} is exported twice")
    found[name] = exported

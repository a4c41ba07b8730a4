"""Finds the kinds of destination by scanning `destinations`: a module of it exports its kind as `KIND`."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar

from dicom_node.deliver import destinations
from dicom_node.deliver.policy import Verdict
from dicom_node.settings import Destination
from pipelines.reasons import TriageError


@dataclass(frozen=True, slots=True)
class Parcel:
    """One object to be delivered, a DICOM file."""

    path: Path
    sop_class_uid: str
    sop_instance_uid: str
    series_instance_uid: str
    study_instance_uid: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What a destination said to an object: the status and comment are its own words, the verdict ours."""

    verdict: Verdict
    status: int | None
    comment: str


Presence = Literal["found", "absent", "cannot_tell"]


class UnreachableError(TriageError):
    """The destination could not be reached, or stopped answering: whether it has what was sent is not known."""


class Session(Protocol):
    """An open connection to a destination."""

    def store(self, parcel: Parcel) -> Answer:
        """Hand over one object. Raises `UnreachableError` when no answer comes, `OSError` when the file is lost."""
        ...

    def find(self, parcel: Parcel) -> Presence:
        """Whether the destination has the object. Raises `UnreachableError`."""
        ...


S = TypeVar("S", bound=Destination)


class Kind(Protocol[S]):
    """A way of delivering, with the class of its `[destinations.NAME]` tables."""

    @property
    def name(self) -> str:
        """The word that `kind` of a `[destinations.NAME]` table says."""
        ...

    @property
    def settings(self) -> type[S]: ...

    def connect(
        self, name: str, settings: S, ae_title: str, parcels: Sequence[Parcel]
    ) -> AbstractContextManager[Session]:
        """Open a connection for these objects, as the node `ae_title`. Raises `UnreachableError`."""
        ...

    def check(self, name: str, settings: S, ae_title: str) -> str:
        """Ask whether it answers, and give what it said in words. Raises `UnreachableError`."""
        ...


@cache
def catalogue() -> Mapping[str, Kind[Any]]:
    """All kinds of destination by name. Two that claim one name are a programming error (`ValueError`)."""
    found: dict[str, Kind[Any]] = {}
    for module in pkgutil.iter_modules(destinations.__path__, f"{destinations.__name__}."):
        kind: Kind[Any] = importlib.import_module(module.name).KIND
        if kind.name in found:
            raise ValueError(f"two kinds of destination are named {kind.name}")
        found[kind.name] = kind
    return found

"""What every pipeline needs to open its models and to tell how long its stages took."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from models import registry
from pipelines.reasons import Reason, TriageError


class ModelError(TriageError):
    """The model cannot, or may not, be used."""


def verified(name: str) -> registry.Model:
    """The model of that name. Raises `ModelError` (`model.unverified`) where weights and manifest do not match."""
    try:
        return registry.verify(name)
    except registry.UnverifiedModelError as error:
        raise ModelError(Reason("model.unverified", {"model": name})) from error


@dataclass(slots=True)
class StageClock:
    """Seconds by stage."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        began = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = round(time.perf_counter() - began, 4)

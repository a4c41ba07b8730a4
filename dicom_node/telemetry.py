"""Logs: JSON lines on standard error, without patient data. Identifiers appear as short tokens only."""

from __future__ import annotations

import hashlib
import logging
import sys
import traceback
import warnings
from pathlib import Path

import structlog


def token(uid: str) -> str:
    """A short stand-in for a UID in logs and messages: the same UID gives the same token."""
    return hashlib.sha256(uid.encode()).hexdigest()[:10]


def _without_values(_logger: object, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """An error as its kind and its places in the program: its message may hold values of a data set."""
    error = event.pop("exc_info", None)
    if error is True:
        error = sys.exc_info()
    if isinstance(error, tuple):
        error = error[1]
    if isinstance(error, BaseException):
        frames = traceback.extract_tb(error.__traceback__)
        event["error"] = type(error).__name__
        event["where"] = [f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in frames]
    return event


def _note_warning(  # noqa: PLR0917  the signature is Python's
    message: Warning | str,  # noqa: ARG001  it may hold values of a data set
    category: type[Warning],
    filename: str,
    lineno: int,
    file: object = None,  # noqa: ARG001
    line: str | None = None,  # noqa: ARG001
) -> None:
    """A Python warning as its kind and its place."""
    structlog.get_logger().warning("library.warned", kind=category.__name__, where=f"{Path(filename).name}:{lineno}")


def configure_logging(role: str) -> None:
    """Send every log of this process through structlog. Libraries speak from WARNING on: below it they print data."""
    warnings.showwarning = _note_warning
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _without_values,
    ]
    structlog.configure(
        processors=[*shared, structlog.processors.JSONRenderer(sort_keys=True)],
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
    )
    structlog.contextvars.bind_contextvars(role=role)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processor=structlog.processors.JSONRenderer(sort_keys=True), foreign_pre_chain=shared
        )
    )
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)

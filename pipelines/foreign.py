"""What foreign code, parsers and decoders, raises on damaged input, turned into a reason."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

from pydicom import config
from pydicom.errors import BytesLengthException

from pipelines.reasons import Fact, refuse

# Warnings of the parser print the values they complain about, which may be a patient's: it is told to keep quiet.
config.settings.reading_validation_mode = config.IGNORE

# What parsers and decoders were seen to raise on damaged input.
FOREIGN_ERRORS = (
    ArithmeticError, AssertionError, AttributeError, EOFError, LookupError, MemoryError, OSError, RuntimeError,
    TypeError, ValueError, struct.error, zlib.error, BytesLengthException,
)  # fmt: skip


@contextmanager
def refusing(code: str, **facts: Fact) -> Iterator[None]:
    """Turn what foreign code raises on damaged input into the refusal `code`; its `detail` is the error's kind only."""
    try:
        yield
    except FOREIGN_ERRORS as error:
        raise refuse(code, **{"detail": type(error).__name__, **facts}) from error

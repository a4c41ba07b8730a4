"""Opens the ledger: SQLite in WAL mode with full synchronisation by default, PostgreSQL for more than one host."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError

from db.migrate import upgrade

BUSY_TIMEOUT_S = 30.0


class LedgerError(Exception):
    """The ledger could not be read or written; the message says why. Trying again later may help."""


class LedgerRuleError(LedgerError):
    """What was to be written breaks a rule of the schema: trying again does not help."""


class Ledger:
    """The database behind one engine. Every change happens inside `write`, every look inside `read`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """One transaction that commits when the block ends and leaves no trace when it raises.

        The write lock is taken at once, so that what the block reads stays true until it commits. Raises `LedgerError`.
        """
        with self._translated(), self._engine.connect() as connection:
            connection.execution_options(ledger_write=True)
            with connection.begin():
                yield connection

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A consistent look that holds up no writer. Raises `LedgerError`."""
        with self._translated(), self._engine.connect() as connection, connection.begin():
            yield connection

    def close(self) -> None:
        self._engine.dispose()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except IntegrityError as error:
            raise LedgerRuleError(str(error.orig)) from error
        except DBAPIError as error:
            raise LedgerError(str(error.orig)) from error


def open_ledger(url: str) -> Ledger:
    """Connect to the ledger at `url` and bring its schema up to date. Raises `LedgerError`."""
    try:
        engine = _engine(url)
        upgrade(engine)
    except DBAPIError as error:
        raise LedgerError(str(error.orig)) from error
    except (ImportError, ArgumentError, ValueError) as error:  # there is no driver for it, or it is no address at all
        raise LedgerError(str(error)) from error
    return Ledger(engine)


@contextmanager
def opened_ledger(url: str) -> Iterator[Ledger]:
    """The ledger at `url`, closed at the end. Raises `LedgerError`."""
    ledger = open_ledger(url)
    try:
        yield ledger
    finally:
        ledger.close()


def _engine(url: str) -> Engine:
    if not url.startswith("sqlite"):
        return create_engine(url, pool_pre_ping=True)
    path = url.removeprefix("sqlite:///")
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(url, connect_args={"timeout": BUSY_TIMEOUT_S})
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: sqlite3.Connection, _record: Any) -> None:
    # The driver's own transaction handling would begin late and without the write lock.
    connection.isolation_level = None
    _use_wal(connection)
    for pragma in ("synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _use_wal(connection: sqlite3.Connection) -> None:
    """Turn to write-ahead logging. Two processes that do so on a new file at once may hold each other up: each waits
    only shortly, lets go and asks again.
    """
    until = time.monotonic() + BUSY_TIMEOUT_S
    connection.execute("PRAGMA busy_timeout=50")
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            break
        except sqlite3.OperationalError:
            if time.monotonic() > until:
                raise
            time.sleep(0.02)
    connection.execute(f"PRAGMA busy_timeout={round(1000 * BUSY_TIMEOUT_S)}")


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get("ledger_write", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

"""An insert that leaves a row alone that stands already, in the dialect of either database."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from sqlalchemy import Connection, Executable, Table
from sqlalchemy.dialects import postgresql, sqlite


def insert_if_new(connection: Connection, table: Table, row: Mapping[str, Any]) -> bool:
    """Insert `row` unless it breaks a unique constraint of `table`; whether it was inserted."""
    return connection.execute(_statement(connection.dialect.name, table), dict(row)).rowcount == 1


@cache
def _statement(dialect: str, table: Table) -> Executable:
    if dialect == "postgresql":
        return postgresql.insert(table).on_conflict_do_nothing()
    return sqlite.insert(table).on_conflict_do_nothing()

"""SQL that SQLAlchemy does not write by itself: upserts, and statements for many rows.

The only place that knows which dialects there are.
"""

from __future__ import annotations

from functools import cache
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final, TypeVar

from sqlalchemy import Insert, Table, Update, insert
from sqlalchemy.dialects import postgresql, sqlite

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from sqlalchemy import Connection, Dialect

T = TypeVar("T")

_CHUNK: Final = 1000
"""Values in one `IN (…)`; far below what any database allows, and enough to be fast."""


def upsert(connection: Connection, table: Table) -> sqlite.Insert | postgresql.Insert:
    """Start an INSERT that can go on with `on_conflict_do_…`."""
    if connection.dialect.name == "postgresql":
        return postgresql.insert(table)
    return sqlite.insert(table)


def chunks(values: Sequence[T]) -> Iterator[Sequence[T]]:
    """Cut values into parts that fit into one statement."""
    for start in range(0, len(values), _CHUNK):
        yield values[start : start + _CHUNK]


def insert_rows(
    connection: Connection, table: Table, rows: Sequence[tuple[Any, ...]]
) -> None:
    """Insert many rows, in the order given, at the speed of the driver.

    SQLAlchemy's own way costs more for each row than SQLite takes to store it.

    Args:
        connection: In a write transaction.
        table: Where to.
        rows: All columns in the order of the table; numbers, text, bytes and None.
    """
    if rows:
        sql, _ = _compiled(connection.dialect, _insert_into(table))
        connection.exec_driver_sql(sql, list(rows))


def update_rows(
    connection: Connection, statement: Update, rows: Sequence[Mapping[str, Any]]
) -> None:
    """Run an UPDATE for each of many rows, at the speed of the driver.

    Args:
        connection: In a write transaction.
        statement: A constant, so that it is compiled once; two parameters or more.
        rows: Its parameters by name.
    """
    if rows:
        sql, names = _compiled(connection.dialect, statement)
        connection.exec_driver_sql(sql, list(map(itemgetter(*names), rows)))


@cache
def _insert_into(table: Table) -> Insert:
    return insert(table).values(dict.fromkeys(table.columns.keys()))


@cache
def _compiled(
    dialect: Dialect, statement: Insert | Update
) -> tuple[str, tuple[str, ...]]:
    # Statements are constants and a process has one or two dialects, so this is small.
    compiled = statement.compile(dialect=dialect)
    return compiled.string, tuple(compiled.positiontup or ())

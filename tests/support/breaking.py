"""Damage to a store, done to the rows themselves: one bit of one byte of one value."""

from __future__ import annotations

import random
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from sqlalchemy import Table, func, select, update

from hashlight_node.store.backends import backend_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import ColumnElement, Connection


@contextmanager
def changing(url: str) -> Iterator[Connection]:
    """Write to the database of a stopped node, past everything that guards it."""
    writer = backend_of(url).open_writer()
    try:
        with writer.transaction() as connection:
            yield connection
    finally:
        writer.close()


def keys_of(
    connection: Connection, table: Table, *where: ColumnElement[bool]
) -> list[tuple[Any, ...]]:
    """List the primary keys of a table's rows."""
    columns = list(table.primary_key.columns)
    rows = connection.execute(select(*columns).where(*where).order_by(*columns))
    return [tuple(row) for row in rows]


def flip(
    connection: Connection,
    table: Table,
    column: str,
    key: tuple[Any, ...],
    chance: random.Random,
) -> None:
    """Flip a random bit of a value; of text, one that leaves it ASCII."""
    is_it = [
        named == value
        for named, value in zip(table.primary_key.columns, key, strict=True)
    ]
    value = connection.execute(select(table.c[column]).where(*is_it)).scalar_one()
    raw = bytearray(value.encode() if isinstance(value, str) else value)
    where = chance.randrange(len(raw))
    # Not 0 in text, which PostgreSQL refuses to hold.
    bits = [1, 2] if isinstance(value, str) else [1, 2, 4, 8, 16, 32, 64, 128]
    raw[where] ^= chance.choice(bits)
    wrong = raw.decode() if isinstance(value, str) else bytes(raw)
    connection.execute(update(table).where(*is_it).values({column: wrong}))


def count(connection: Connection, table: Table) -> int:
    """Count the rows of a table."""
    return int(connection.execute(select(func.count()).select_from(table)).scalar_one())

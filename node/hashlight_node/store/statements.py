"""SQL that SQLAlchemy does not write by itself: upserts, and statements for many rows.

The only place that knows which dialects there are.
"""

from __future__ import annotations

from functools import cache
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

from sqlalchemy import (
    BigInteger,
    BindParameter,
    ColumnElement,
    Insert,
    LargeBinary,
    Select,
    SmallInteger,
    Table,
    Text,
    Update,
    any_,
    bindparam,
    func,
    insert,
    literal_column,
)
from sqlalchemy import column as sql_column
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.sql import visitors

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from sqlalchemy import Connection, Row

T = TypeVar("T")

# Parameters go by position, the form that drivers for many rows share.
_DIALECTS: Final = {
    "sqlite": sqlite.dialect(),
    "postgresql": postgresql.dialect(paramstyle="format"),  # type: ignore[no-untyped-call]
}

_POSTGRESQL_TYPES: Final = {
    BigInteger: "int8",
    SmallInteger: "int2",
    LargeBinary: "bytea",
    Text: "text",
}

_SIZES: Final = (1, 8, 64, 1000)
_CHUNK: Final = _SIZES[-1]
"""Values in one `IN (…)`; far below what any database allows, and enough to be fast."""

_FEW: Final = 8
"""Values from which on PostgreSQL is given them as one array."""

_ARRAY: Final = 10_000

_MANY: Final = 100
"""Rows from which on it pays to look which columns they use."""


def upsert(connection: Connection, table: Table) -> sqlite.Insert | postgresql.Insert:
    """Start an INSERT that can go on with `on_conflict_do_…`."""
    if connection.dialect.name == "postgresql":
        return postgresql.insert(table)
    return sqlite.insert(table)


def has_changed(
    connection: Connection, statement: sqlite.Insert | postgresql.Insert
) -> bool:
    """Run an upsert, and tell whether it inserted or updated its row."""
    # By a row that comes back, because drivers disagree about counting inserted rows.
    one: ColumnElement[int] = literal_column("1")
    return connection.execute(statement.returning(one)).first() is not None


def total(column: ColumnElement[int]) -> ColumnElement[int]:
    """Add up a column, 0 if there are no rows; an integer everywhere, unlike `sum`."""
    return func.coalesce(func.sum(column), 0).cast(BigInteger)


def chunks(values: Sequence[T]) -> Iterator[Sequence[T]]:
    """Cut values into parts that fit into one statement."""
    for start in range(0, len(values), _CHUNK):
        yield values[start : start + _CHUNK]


def rows_where_in(
    connection: Connection,
    query: Select[*tuple[Any, ...]],
    column: ColumnElement[int],
    values: Sequence[int],
) -> Iterator[Row[*tuple[Any, ...]]]:
    """Select the rows whose column has one of many values, at the speed of the driver.

    Args:
        connection: In a transaction.
        query: A constant, so that it is compiled once.
        column: A column of it.
        values: The values.
    """
    if connection.dialect.name == "postgresql" and len(values) > _FEW:
        # One parameter, however many values: there, statements of a thousand take
        # longer to send and to plan than to run.
        sql, before, after = _compiled_any(query, column)
        for start in range(0, len(values), _ARRAY):
            array = list(values[start : start + _ARRAY])
            yield from connection.exec_driver_sql(sql, (*before, array, *after))
        return
    for part in chunks(values):
        # A few sizes, filled up with a value that is there, are a few statements that
        # stay prepared; one for each length would be a thousand.
        size = next(size for size in _SIZES if size >= len(part))
        sql, before, after = _compiled_in(connection.dialect.name, query, column, size)
        filling = [part[-1]] * (size - len(part))
        yield from connection.exec_driver_sql(sql, (*before, *part, *filling, *after))


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
    if not rows:
        return
    names, used = _used_columns(table, rows)
    if connection.dialect.name == "postgresql":
        _copy(connection, table, names, used)
        return
    sql, _ = _compiled(connection.dialect.name, _insert_into(table, names))
    connection.exec_driver_sql(sql, used)


def update_rows(
    connection: Connection, statement: Update, rows: Sequence[Mapping[str, Any]]
) -> None:
    """Run an UPDATE for each of many rows, at the speed of the driver.

    Args:
        connection: In a write transaction.
        statement: A constant, so that it is compiled once; two parameters or more.
        rows: Its parameters by name. Each row concerns another row of the table.
    """
    if connection.dialect.name == "postgresql" and len(rows) > _FEW:
        sql, names = _compiled_for_all(statement)
        for part in chunks(rows):
            columns = [[row[name] for row in part] for name in names]
            connection.exec_driver_sql(sql, tuple(columns))
    elif rows:
        sql, names = _compiled(connection.dialect.name, statement)
        connection.exec_driver_sql(sql, list(map(itemgetter(*names), rows)))


def _used_columns(
    table: Table, rows: Sequence[tuple[Any, ...]]
) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
    """Leave out the columns that are null in all of many rows.

    Most are in most records, and drivers take longer over a None than over a number.
    """
    names, nullable = _columns(table)
    if len(rows) < _MANY:
        return names, list(rows)
    empty = {at for at in nullable if all(row[at] is None for row in rows)}
    if not empty:
        return names, list(rows)
    kept = [at for at in range(len(names)) if at not in empty]
    return tuple(names[at] for at in kept), list(map(itemgetter(*kept), rows))


@cache
def _columns(table: Table) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Name a table's columns, and tell at which places nothing means null."""
    optional = tuple(
        at
        for at, it in enumerate(table.columns)
        if it.nullable and it.server_default is None
    )
    return tuple(table.columns.keys()), optional


def _copy(
    connection: Connection,
    table: Table,
    names: tuple[str, ...],
    rows: Sequence[tuple[Any, ...]],
) -> None:
    # Five times as fast as one INSERT after another.
    cursor = connection.connection.cursor()
    with cursor.copy(_copy_into(table, names)) as copy:
        types = [_POSTGRESQL_TYPES[type(table.columns[it].type)] for it in names]
        copy.set_types(types)
        for row in rows:
            copy.write_row(row)
    cursor.close()


@cache
def _copy_into(table: Table, names: tuple[str, ...]) -> str:
    columns = ", ".join(f'"{name}"' for name in names)
    return f'COPY "{table.name}" ({columns}) FROM STDIN (FORMAT BINARY)'


@cache
def _insert_into(table: Table, names: tuple[str, ...]) -> Insert:
    return insert(table).values(dict.fromkeys(names))


@cache
def _compiled(dialect: str, statement: Insert | Update) -> tuple[str, tuple[str, ...]]:
    compiled = statement.compile(dialect=_DIALECTS[dialect])
    return compiled.string, tuple(compiled.positiontup or ())


@cache
def _compiled_in(
    dialect: str,
    query: Select[*tuple[Any, ...]],
    column: ColumnElement[int],
    size: int,
) -> tuple[str, Sequence[object], Sequence[object]]:
    values: list[BindParameter[int]] = [
        bindparam(f"value_{number}") for number in range(size)
    ]
    statement = query.where(column.in_(values))
    compiled = statement.compile(dialect=_DIALECTS[dialect])
    given = compiled.params  # made anew each time it is asked for
    parameters = [given[name] for name in compiled.positiontup or ()]
    # The query's own constants stand around the values, which are None until then.
    first = parameters.index(None)
    return compiled.string, parameters[:first], parameters[first + size :]


@cache
def _compiled_any(
    query: Select[*tuple[Any, ...]], column: ColumnElement[int]
) -> tuple[str, Sequence[object], Sequence[object]]:
    values = bindparam("values", type_=postgresql.ARRAY(BigInteger))
    compiled = query.where(column == any_(values)).compile(
        dialect=_DIALECTS["postgresql"]
    )
    names, given = compiled.positiontup or [], compiled.params
    at = names.index("values")
    parameters = [given[name] for name in names]
    return compiled.string, parameters[:at], parameters[at + 1 :]


@cache
def _compiled_for_all(statement: Update) -> tuple[str, tuple[str, ...]]:
    """Turn an UPDATE of one row into one of many, whose values come as arrays."""
    # Only then do parameters have the types of the columns that they are for.
    parameters = statement.compile(dialect=_DIALECTS["postgresql"]).binds
    arrays = [
        bindparam(f"all_{name}", type_=postgresql.ARRAY(it.type))
        for name, it in parameters.items()
    ]
    given = (
        func.unnest(*arrays)
        .table_valued(*(sql_column(name, it.type) for name, it in parameters.items()))
        .render_derived(name="given")
    )

    def from_arrays(element: object, **_: object) -> ColumnElement[Any] | None:
        return given.c[element.key] if isinstance(element, BindParameter) else None

    joined = visitors.replacement_traverse(statement, {}, from_arrays)
    compiled = cast("Update", joined).compile(dialect=_DIALECTS["postgresql"])
    names = (name.removeprefix("all_") for name in compiled.positiontup or ())
    return compiled.string, tuple(names)

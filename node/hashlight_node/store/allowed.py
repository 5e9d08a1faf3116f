"""The operator's allow list. It is no part of any log and never leaves the node."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import delete, func, insert, select, update

from hashlight_node.model import AllowedSignal
from hashlight_node.store import tables
from hashlight_protocol import Signal

if TYPE_CHECKING:
    from sqlalchemy import Connection, Row

_allowed = tables.allowed_signals

# What stays of the newest row when it is removed, so that no id is given twice; no
# signal has an empty type.
_NOTHING: Final = ""


def insert_allowed(
    connection: Connection,
    signal: Signal,
    *,
    max_distance: int,
    note: str,
    now: int,
) -> AllowedSignal:
    """Allow a signal; if it is allowed already, the new entry takes the place of it.

    Args:
        connection: In a write transaction.
        signal: In canonical form.
        max_distance: For PDQ how far a query may be from it, in bits; else 0.
        note: Why.
        now: Unix seconds.
    """
    allowed_id = _newest_id(connection) + 1
    old = (_allowed.c.type == signal.type) & (_allowed.c.value == signal.value)
    connection.execute(delete(_allowed).where(old))
    connection.execute(
        insert(_allowed).values(
            allowed_id=allowed_id,
            type=signal.type,
            value=signal.value,
            max_distance=max_distance,
            note=note,
            created_at=now,
        )
    )
    return AllowedSignal(allowed_id, signal, max_distance, note, now)


def list_allowed(connection: Connection) -> list[AllowedSignal]:
    """List what is allowed, oldest first."""
    query = select(_allowed).where(_allowed.c.type != _NOTHING)
    rows = connection.execute(query.order_by(_allowed.c.allowed_id))
    return [_allowed_of(row) for row in rows]


def version(connection: Connection) -> tuple[int, int]:
    """Give a value that is another one after every change of the list.

    For whoever keeps the list in memory and has to know when to read it again.
    """
    # Adding raises the largest id, which never falls; removing lowers the count.
    newest, count = func.max(_allowed.c.allowed_id), func.count()
    query = select(newest, count.filter(_allowed.c.type != _NOTHING))
    row = connection.execute(query).one()
    return row[0] or 0, row[1]


def delete_allowed(connection: Connection, allowed_id: int) -> bool:
    """Allow a signal no more; tell whether there was such an entry."""
    mine = (_allowed.c.allowed_id == allowed_id) & (_allowed.c.type != _NOTHING)
    if allowed_id != _newest_id(connection):
        return connection.execute(delete(_allowed).where(mine)).rowcount > 0
    others = _allowed.c.allowed_id != allowed_id
    connection.execute(delete(_allowed).where(_allowed.c.type == _NOTHING, others))
    nothing = {"type": _NOTHING, "value": "", "max_distance": 0, "note": ""}
    emptied = update(_allowed).where(mine).values(nothing)
    return connection.execute(emptied).rowcount > 0


def _newest_id(connection: Connection) -> int:
    newest: int | None = connection.execute(
        select(func.max(_allowed.c.allowed_id))
    ).scalar()
    return newest or 0


def _allowed_of(row: Row[Any]) -> AllowedSignal:
    return AllowedSignal(
        allowed_id=row.allowed_id,
        signal=Signal(row.type, row.value),
        max_distance=row.max_distance,
        note=row.note,
        created_at=row.created_at,
    )

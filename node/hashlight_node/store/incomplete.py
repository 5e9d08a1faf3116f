"""Records whose bodies are not here, and may come later."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sqlalchemy import literal_column, select

from hashlight_node.store import tables

if TYPE_CHECKING:
    from sqlalchemy import Connection

_records = tables.records

# Written out, because a partial index is used only for the very words of its condition.
_IS_WITHHELD: Final = _records.c.status == literal_column("2")


def leaves_without_body(connection: Connection, log_id: int) -> list[int]:
    """List the records of a log whose bodies are withheld, by leaf index."""
    query = (
        select(_records.c.leaf_index)
        .where(
            _records.c.log_id == log_id,
            _IS_WITHHELD,
        )
        .order_by(_records.c.leaf_index)
    )
    return list(connection.execute(query).scalars())

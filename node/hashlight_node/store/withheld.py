"""Records whose bodies are not here, and may come later."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import select

from hashlight_node.store import tables
from hashlight_protocol import BodyStatus

if TYPE_CHECKING:
    from sqlalchemy import Connection

_records = tables.records


def withheld_leaves(connection: Connection, log_id: int) -> list[int]:
    """List the records of a log whose bodies are withheld, by leaf index."""
    query = (
        select(_records.c.leaf_index)
        .where(
            _records.c.log_id == log_id,
            _records.c.status == BodyStatus.WITHHELD.value,
        )
        .order_by(_records.c.leaf_index)
    )
    return list(connection.execute(query).scalars())

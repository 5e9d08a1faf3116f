"""Where bodies are missing because their owner does not let us have them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sqlalchemy import func, literal_column, select

from hashlight_node.store.tables import logs, records
from hashlight_protocol import TILE_WIDTH

if TYPE_CHECKING:
    from sqlalchemy import Connection

# Written out, because a partial index is used only for the very words of its condition.
_IS_WITHHELD: Final = records.c.status == literal_column("2")


def withheld_bundles(
    connection: Connection, log_id: int, *, first: int, limit: int
) -> list[int]:
    """Find the bundles in which there are records without a body.

    Args:
        connection: In a transaction.
        log_id: The log.
        first: Index of the first bundle to look at.
        limit: Most bundles to find; each costs one look into an index.

    Returns:
        Their indexes, ascending.
    """
    found: list[int] = []
    bundle = first
    while len(found) < limit:
        query = select(func.min(records.c.leaf_index)).where(
            records.c.log_id == log_id,
            records.c.leaf_index >= bundle * TILE_WIDTH,
            _IS_WITHHELD,
        )
        leaf_index: int | None = connection.execute(query).scalar()
        if leaf_index is None:
            break
        bundle = leaf_index // TILE_WIDTH
        found.append(bundle)
        bundle += 1
    return found


def count_by_list(connection: Connection) -> dict[tuple[str, str], int]:
    """Count the records without a body, by (node, list name)."""
    query = (
        select(logs.c.node, logs.c.list_name, func.count())
        .join(records, records.c.log_id == logs.c.log_id)
        .where(_IS_WITHHELD)
        .group_by(logs.c.node, logs.c.list_name)
    )
    return {(row[0], row[1]): row[2] for row in connection.execute(query)}

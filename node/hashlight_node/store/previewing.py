"""Records of one log with their bodies, page by page, each page a short transaction."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import select

from hashlight_node.model import RecordState
from hashlight_node.store.tables import contents, records
from hashlight_protocol import BodyStatus

if TYPE_CHECKING:
    from sqlalchemy import Connection


class HeldRecord(NamedTuple):
    """A record as it would be served.

    Attributes:
        leaf_index: Its position in the log.
        state: What it is now.
        body: Empty unless it is here.
    """

    leaf_index: int
    state: RecordState
    body: bytes


def page_held(
    connection: Connection, log_id: int, *, first: int, limit: int
) -> list[HeldRecord]:
    """Read some records in the order of their leaves.

    Args:
        connection: In a transaction.
        log_id: The log.
        first: Leaf index at which to begin.
        limit: Most records to read; a body has up to 16 KiB.
    """
    query = (
        select(records.c.leaf_index, records.c.state, records.c.status, contents.c.body)
        .outerjoin(contents, contents.c.content_id == records.c.content_id)
        .where(records.c.log_id == log_id, records.c.leaf_index >= first)
        .order_by(records.c.leaf_index)
        .limit(limit)
    )
    return [
        HeldRecord(
            leaf_index,
            RecordState(state),
            body if status == BodyStatus.PRESENT.value else b"",
        )
        for leaf_index, state, status, body in connection.execute(query)
    ]

"""What peers may have got of our logs by grants that were taken back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import func, select

from hashlight_node.model import Role
from hashlight_node.store import tables
from hashlight_node.store.statements import upsert

if TYPE_CHECKING:
    from sqlalchemy import Connection

_past = tables.past_grants
_logs = tables.logs


def remember(connection: Connection, peer_id: int, list_name: str, now: int) -> None:
    """Remember that a grant ended, with the sizes that our logs had until then.

    Args:
        connection: In the write transaction that takes the grant back.
        peer_id: Whose it was.
        list_name: The list; all of its logs count.
        now: Unix seconds.
    """
    query = select(_logs.c.log_id, _logs.c.tree_size).where(
        _logs.c.role == Role.OWN.value, _logs.c.list_name == list_name
    )
    for log_id, tree_size in connection.execute(query).all():
        statement = upsert(connection, _past).values(
            log_id=log_id, peer_id=peer_id, tree_size=tree_size, revoked_at=now
        )
        new = statement.excluded
        # Logs only grow, so the last grant that ended is the one that let it have most.
        connection.execute(
            statement.on_conflict_do_update(
                index_elements=[_past.c.log_id, _past.c.peer_id],
                set_={"tree_size": new.tree_size, "revoked_at": new.revoked_at},
            )
        )


def size_at_revocation(connection: Connection, log_id: int, peer_id: int) -> int:
    """Tell how large a log was when a peer's last grant ended, 0 if none ever did."""
    query = select(func.max(_past.c.tree_size)).where(
        _past.c.log_id == log_id, _past.c.peer_id == peer_id
    )
    size: int | None = connection.execute(query).scalar()
    return size or 0

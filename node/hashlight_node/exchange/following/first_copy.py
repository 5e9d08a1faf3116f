"""Beginning a copy of a log: an empty one, which is nothing to lookups yet."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from hashlight_node.model import Role
from hashlight_node.store import logs
from hashlight_protocol import parse_origin

if TYPE_CHECKING:
    from collections.abc import Callable

    from hashlight_node.model import Clock, Log
    from hashlight_node.store.database import Connection, Database

    from .list_notes import KnownNote

_log = structlog.get_logger()


async def find_or_begin(
    database: Database,
    origin: str,
    note: KnownNote,
    *,
    clock: Clock,
    check: Callable[[Connection], object],
) -> Log:
    """Give our copy of a log of a peer's list; an empty one if there is none.

    Args:
        database: The store.
        origin: The log.
        note: Its list note.
        clock: Unix seconds.
        check: Raises if the log is not wanted any more, in the same transaction.
    """
    name = parse_origin(origin)

    def begin(conn: Connection) -> Log:
        check(conn)
        found = logs.find_log(conn, origin)
        if found is not None:
            return found
        earlier = logs.logs_of_list(conn, name.node, name.list_name)
        log = logs.insert_log(
            conn,
            origin=origin,
            role=Role.FOLLOWED,
            meta=note.note.meta,
            created_at=clock(),
            # Until it is whole, the log whose place it takes answers lookups.
            counts_from=None if earlier else 0,
        )
        logs.set_list_note(conn, log.log_id, note.raw, note.note.version)
        return log

    known = await database.read(lambda conn: logs.find_log(conn, origin))
    if known is not None:
        return known
    begun = await database.write(begin)
    _log.info("first copy of a log begins", peer=name.node, list=name.list_name)
    return begun

"""Bringing the logs of a followed list that ended to their ends.

Before a list is followed into a new log, what is missing of a frozen log is fetched,
and what lies beyond the end of an abandoned one stops matching.

Source: SPEC.md#successions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from hashlight_node.model import LogState
from hashlight_node.peers.errors import PeerRefusedError, blaming
from hashlight_node.store import epochs, logs
from hashlight_protocol import (
    ContradictionError,
    frontier_from_tiles,
)

from .pull import Pull

if TYPE_CHECKING:
    from hashlight_node.model import Follow, Log, SignalChange
    from hashlight_node.store.database import Connection
    from hashlight_protocol import KnownHead, LogInfo

    from .copying import FollowParts
    from .list_notes import KnownNote
    from .sources import Source

_WHAT = "list note"

_log = structlog.get_logger()


async def settle_ended(
    parts: FollowParts, source: Source, follow: Follow, note: KnownNote
) -> None:
    """Bring the logs of a list that ended to the end that its owner gives them.

    Args:
        parts: Collaborators.
        source: Where the list comes from.
        follow: Its list.
        note: Its newest list note.

    Raises:
        PeerUnavailableError: What is missing of a frozen log cannot be had now.
        PeerMisbehavedError: The end is not one that the log had.
        ExchangeError: The operator ended the exchange in the meantime.
    """
    held = await parts.database.read(
        lambda conn: logs.logs_of_list(conn, source.owner.name, follow.list_name)
    )
    for log in reversed(held):
        info = note.log(log.origin)
        if info is None or log.counts_until is not None:
            continue
        if info.state == "abandoned":
            await _undo(parts, source, log, info, note)
        elif info.state == "frozen" and info is not note.newest:
            await _finish(parts, source, follow, log, note)


async def _undo(
    parts: FollowParts, source: Source, log: Log, info: LogInfo, note: KnownNote
) -> None:
    """Let nothing match that an abandoned log said beyond its end."""
    final = info.final
    if log.state is LogState.ABANDONED or final is None:
        return
    await _check_end(parts, source, log.origin, final, note)

    def write(conn: Connection) -> list[SignalChange]:
        now = parts.clock()
        changes = epochs.end_records(conn, log.log_id, final.tree_size, now=now)
        epochs.undo_withdrawals(conn, log.log_id, final.tree_size)
        latest = logs.find_log(conn, log.origin)
        # Of a list that is followed no more, the state says so, and stays.
        if latest is not None and latest.state is LogState.ACTIVE:
            logs.set_log_state(conn, log.log_id, LogState.ABANDONED, None)
        return changes

    await parts.database.write(
        write, after_commit=parts.matcher.apply, then=parts.matcher.tidy
    )
    _log.warning("a log was abandoned", peer=source.owner.name, list=log.list_name)


async def _finish(
    parts: FollowParts, source: Source, follow: Follow, log: Log, note: KnownNote
) -> None:
    """Copy what is missing of a frozen log: an ERASE may be there."""
    info = note.log(log.origin)
    final = None if info is None else info.final
    is_missing = final is None or log.checkpoint_size < final.tree_size
    # Who cannot be asked brings the end of the old log before it begins the new one,
    # or never: what is missing is made up for when the new log is whole.
    if is_missing and source.asked.is_dialable:
        try:
            await Pull(parts, source=source, follow=follow, log=log).run(note)
        except PeerRefusedError:
            # What cannot be had is made up for when the new log is whole.
            _log.warning(
                "an ended log is not served", peer=source.owner.name, list=log.list_name
            )
    if final is not None:
        await _check_end(parts, source, log.origin, final, note)
        with blaming(source.owner.name, f"{_WHAT} of {log.list_name}", note.raw):
            await _check_not_beyond(parts, log.origin, final)


async def _check_end(
    parts: FollowParts, source: Source, origin: str, final: KnownHead, note: KnownNote
) -> None:
    def read(conn: Connection) -> bytes | None:
        log = logs.find_log(conn, origin)
        if log is None or log.tree_size < final.tree_size:
            return None
        fetch = logs.tile_fetcher(conn, log.log_id)
        return frontier_from_tiles(fetch, final.tree_size).root

    root_hash = await parts.database.read(read)
    with blaming(source.owner.name, f"{_WHAT} with the end of {origin}", note.raw):
        if root_hash not in {None, final.root_hash}:
            raise ContradictionError(_WHAT, "the end of a log is none that it had")


async def _check_not_beyond(parts: FollowParts, origin: str, final: KnownHead) -> None:
    log = await parts.database.read(lambda conn: logs.find_log(conn, origin))
    if log is not None and log.tree_size > final.tree_size:
        raise ContradictionError(_WHAT, "a log grew after it was frozen")

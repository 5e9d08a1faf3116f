"""Letting a new log of a followed list take the place of the old one.

The old log answers lookups until the first whole checkpoint of the new one is applied;
the same transaction ends the one and lets the other count.

Source: SPEC.md#successions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from hashlight_node.model import LogState, Role
from hashlight_node.store import epochs, logs
from hashlight_protocol import Meta, parse_entry

if TYPE_CHECKING:
    from hashlight_node.model import Log, SignalChange
    from hashlight_node.store.database import Connection

    from .list_notes import KnownNote

_log = structlog.get_logger()


def destroy_unseen(
    conn: Connection, log: Log, note: KnownNote | None, *, now: int
) -> list[SignalChange]:
    """Destroy what a log does not go on with, of those before it whose end is not here.

    An ERASE that we never saw may cover it, and no other can come. Our mirror
    cosignature on the new log says that all is carried out, so this comes before it,
    and so does the scrub of the files.

    Args:
        conn: In a write transaction, after the last entry of the log was applied.
        log: The log.
        note: Newest list note.
        now: Unix seconds.

    Returns:
        Signals that died.
    """
    if note is None:
        return []
    ends = _ends(conn, log, note)
    changes: list[SignalChange] = []
    for old in logs.logs_of_list(conn, log.node, log.list_name):
        is_taken_over = old.epoch < log.epoch and old.counts_until is None
        if is_taken_over and old.tree_size < ends.get(old.origin, old.tree_size + 1):
            changes += epochs.destroy_unissued(conn, old.log_id, now=now)
    return changes


def takes_over(log: Log) -> bool:
    """Tell whether a copy takes the place of another one once it is whole."""
    return log.counts_from is None and log.role is Role.FOLLOWED


def succeed(
    conn: Connection, log: Log, note: KnownNote | None, *, now: int
) -> list[SignalChange]:
    """Let a log count that is whole now, if it takes the place of another.

    Args:
        conn: In the write transaction that makes its checkpoint ours.
        log: The log.
        note: Newest list note.
        now: Unix seconds.

    Returns:
        Signals that died.
    """
    if not takes_over(log) or note is None:
        return []
    states = {it.origin: LogState(it.state) for it in note.note.logs}
    changes = epochs.let_count(conn, log, states, now=now)
    _log.info("a list goes on in a new log", peer=log.node, list=log.list_name)
    return changes


def _ends(conn: Connection, log: Log, note: KnownNote) -> dict[str, int]:
    ends = {
        it.origin: it.final.tree_size for it in note.note.logs if it.final is not None
    }
    raw = logs.read_entry(conn, log.log_id, 0)
    meta = None if raw is None else parse_entry(raw, leaf_index=0)
    if isinstance(meta, Meta) and meta.prev is not None:
        ends.setdefault(meta.prev.origin, meta.prev.tree_size)
    return ends

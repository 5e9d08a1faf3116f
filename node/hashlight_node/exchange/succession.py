"""Letting a new log of a followed list take the place of the old one.

The old log answers lookups until the first whole checkpoint of the new one is applied;
the same transaction ends the one and lets the other count.

Source: SPEC.md#successions.
"""

from __future__ import annotations

from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True)
class Succeeded:
    """What letting a log count did.

    Attributes:
        changes: Signals that died.
        has_destroyed: Whether content was destroyed, so that files must be scrubbed.
    """

    changes: tuple[SignalChange, ...] = ()
    has_destroyed: bool = False


def succeed(
    conn: Connection, log: Log, note: KnownNote | None, *, now: int
) -> Succeeded:
    """Let a log count that is whole now, if it takes the place of another.

    Of a log before it whose end is not here, what was not re-issued is destroyed: an
    ERASE that we never saw may cover it, and no other can come.

    Args:
        conn: In the write transaction that makes its checkpoint ours.
        log: The log.
        note: Newest list note.
        now: Unix seconds.
    """
    if log.counts_from is not None or log.role is not Role.FOLLOWED or note is None:
        return Succeeded()
    states = {it.origin: LogState(it.state) for it in note.note.logs}
    ended = [
        it
        for it in logs.logs_of_list(conn, log.node, log.list_name)
        if it.epoch < log.epoch and it.counts_until is None
    ]
    changes = epochs.let_count(conn, log, states, now=now)
    ends = _ends(conn, log, note)
    unseen = [
        it for it in ended if it.tree_size < ends.get(it.origin, it.tree_size + 1)
    ]
    for old in unseen:
        changes += epochs.destroy_unissued(conn, old.log_id, now=now)
    _log.info("a list goes on in a new log", peer=log.node, list=log.list_name)
    return Succeeded(tuple(changes), has_destroyed=bool(unseen))


def _ends(conn: Connection, log: Log, note: KnownNote) -> dict[str, int]:
    ends = {
        it.origin: it.final.tree_size for it in note.note.logs if it.final is not None
    }
    raw = logs.read_entry(conn, log.log_id, 0)
    meta = None if raw is None else parse_entry(raw, leaf_index=0)
    if isinstance(meta, Meta) and meta.prev is not None:
        ends.setdefault(meta.prev.origin, meta.prev.tree_size)
    return ends

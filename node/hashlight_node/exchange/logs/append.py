"""Appending to one of our own logs: the one place where a log of ours grows.

Everything happens in the caller's write transaction: entries, tiles, the signed
checkpoint, and what the entries mean for lookups. So there is never a signed
checkpoint whose entries are not stored, nor a stored entry that no checkpoint covers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hashlight_node.exchange.errors import ListInactiveError
from hashlight_node.model import LogState
from hashlight_node.store import logs, records
from hashlight_protocol import (
    BadProofError,
    Checkpoint,
    encode_entry,
    frontier_from_tiles,
    leaf_hashes,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hashlight_node.model import Log, SignalChange
    from hashlight_node.store.database import Connection
    from hashlight_node.store.meanings import Meaning
    from hashlight_protocol import Body, Entry, Frontier

    from .signing import LogSigning


@dataclass(frozen=True, slots=True)
class Appended:
    """What an append did.

    Attributes:
        log: The log as it is now.
        first_index: Position of the first new entry.
        changes: Signals that became live or dead.
    """

    log: Log
    first_index: int
    changes: tuple[SignalChange, ...]


def stored_frontier(conn: Connection, log: Log) -> Frontier:
    """Read the right edge of a log's tree.

    Raises:
        BadProofError: The tiles do not give the root that the log is known by: the
            store is damaged, and nothing may be signed or built upon it.
    """
    frontier = frontier_from_tiles(logs.tile_fetcher(conn, log.log_id), log.tree_size)
    if frontier.root != log.root_hash:
        message = f"the stored tiles of {log.origin} do not give its root"
        raise BadProofError(message)
    return frontier


def append(  # noqa: PLR0913 -- one log, what it gets, and under which terms
    conn: Connection,
    log: Log,
    entries: Sequence[Entry],
    bodies: Sequence[Body],
    *,
    signing: LogSigning,
    now: int,
    meanings: Sequence[Meaning | None] = (),
) -> Appended:
    """Append entries, sign the new checkpoint and apply what the entries say.

    Args:
        conn: A write transaction.
        log: One of our own, as this transaction read it.
        entries: In order, at least one.
        bodies: One for each entry.
        signing: Signs with every key that counts, if nothing else was signed last.
        now: Unix seconds.
        meanings: Of the bodies, as far as they are known; see `apply_entries`.

    Raises:
        RolledBackError: The log is older than what was signed last.
        UnconfirmedError: It is not known what was signed last.
        ListInactiveError: The log takes no more entries.
        BadProofError: The store is damaged.
    """
    signing.require(log)
    if log.state is not LogState.ACTIVE:
        raise ListInactiveError(log.list_name)
    raw = [encode_entry(entry) for entry in entries]
    hashes = leaf_hashes(raw)
    frontier = stored_frontier(conn, log).extend(hashes)
    checkpoint = Checkpoint(log.origin, frontier.size, frontier.root)
    grown = logs.append_verified(conn, log, raw, hashes, root_hash=frontier.root)
    note = signing.sign(conn, log, checkpoint)
    signed = logs.set_checkpoint(
        conn, grown, note, frontier.size, mirror_checkpoint=None, verified_at=now
    )
    changes = records.apply_entries(
        conn, signed, log.tree_size, entries, bodies, now=now, meanings=meanings
    )
    return Appended(signed, log.tree_size, tuple(changes))

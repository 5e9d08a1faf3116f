"""Where each peer stands with each list of ours: what it has seen, and what applied.

The age of a withdrawal that a peer has not confirmed is a clock that the law sets
running: somebody who asked for a deletion has to be told when it was done everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hashlight_node.store import confirmations, deliveries, past_grants

if TYPE_CHECKING:
    from hashlight_node.model import Log, Peer, PeerState
    from hashlight_node.store.confirmations import Relayed
    from hashlight_node.store.database import Connection


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a peer is with a list of ours.

    Attributes:
        tree_size: Up to which size, 0 for nothing.
        at: When it signed that, Unix seconds; None for nothing.
        lag_records: Entries that it lacks.
        lag_seconds: Time since the oldest of them was signed, 0 if there is none.
    """

    tree_size: int
    at: int | None
    lag_records: int
    lag_seconds: int


@dataclass(frozen=True, slots=True)
class Overdue:
    """The oldest withdrawal that a peer has not confirmed.

    Attributes:
        leaf_index: The RETRACT or ERASE entry.
        kind: `retract` or `erase`.
        age_seconds: Since it was signed, or since the peer may have the list if it
            could not have any of it before.
    """

    leaf_index: int
    kind: str
    age_seconds: int


@dataclass(frozen=True, slots=True)
class Standing:
    """Where one peer stands with one list of ours.

    Attributes:
        peer_name: The peer, or the node that gets the list from one.
        via: The peer that relays to it; None if it gets the list from us.
        peer_state: Whether we talk to it; of a node behind a relay, to that.
        is_granted: Whether it may fetch the list now.
        origin: The list's log.
        delivered: What it has seen, by its witness key; None behind a relay, where
            nobody says so.
        heartbeat_at: When it said last that it sees our newest checkpoint.
        applied: What it has stored and applied, by its mirror key.
        overdue: The oldest withdrawal that it has not confirmed, None if there is none.
    """

    peer_name: str
    via: str | None
    peer_state: PeerState
    is_granted: bool
    origin: str
    delivered: Progress | None
    heartbeat_at: int | None
    applied: Progress
    overdue: Overdue | None


def standings(conn: Connection, log: Log, *, now: int) -> tuple[Standing, ...]:
    """Tell where everybody stands who has a log of ours, or may have got of it.

    Args:
        conn: In a transaction.
        log: A log of ours.
        now: Unix seconds.

    Returns:
        The peers by name, then the nodes behind relays by name.
    """
    peers = confirmations.known_peers(conn, log.log_id, log.list_name)
    names = {peer.name for peer in peers}
    of_relayed = [
        _of_relayed(conn, log, one, now)
        for one in confirmations.newest_relayed(conn, log.log_id)
        # A node may have two ways to the list; what it tells us itself counts.
        if one.node not in names
    ]
    return (*(_of_peer(conn, log, peer, now) for peer in peers), *of_relayed)


def _of_peer(conn: Connection, log: Log, peer: Peer, now: int) -> Standing:
    seen = confirmations.newest_delivery(conn, log.log_id, peer.peer_id)
    said = deliveries.newest_acknowledgement(conn, log.log_id, peer.peer_id)
    seen_size = 0 if seen is None else seen.tree_size
    applied_size = 0 if said is None else said.tree_size
    granted_at = confirmations.granted_at(conn, peer.peer_id, log.list_name)
    before = past_grants.size_at_revocation(conn, log.log_id, peer.peer_id)
    gap = _Gap(conn, log, applied_size, now)
    overdue = [gap.overdue(below=max(before, seen_size, applied_size))]
    if granted_at is not None:
        overdue.append(gap.overdue(below=log.tree_size, not_before=granted_at))
    return Standing(
        peer_name=peer.name,
        via=None,
        peer_state=peer.state,
        is_granted=granted_at is not None,
        origin=log.origin,
        delivered=_progress(
            conn, log, seen_size, None if seen is None else seen.at, now
        ),
        heartbeat_at=None if seen is None else seen.last_at,
        applied=_progress(
            conn, log, applied_size, None if said is None else said.acknowledged_at, now
        ),
        overdue=max(
            (one for one in overdue if one is not None),
            key=lambda one: one.age_seconds,
            default=None,
        ),
    )


def _of_relayed(conn: Connection, log: Log, one: Relayed, now: int) -> Standing:
    said = one.acknowledgement
    return Standing(
        peer_name=one.node,
        via=one.via,
        peer_state=one.via_state,
        is_granted=False,
        origin=log.origin,
        delivered=None,
        heartbeat_at=None,
        applied=_progress(conn, log, said.tree_size, said.acknowledged_at, now),
        overdue=_Gap(conn, log, said.tree_size, now).overdue(below=log.tree_size),
    )


def _progress(
    conn: Connection, log: Log, size: int, at: int | None, now: int
) -> Progress:
    lag_records = max(0, log.checkpoint_size - size)
    lacks_since = None
    if lag_records:
        lacks_since = confirmations.signed_at(conn, log.log_id, size)
    lag_seconds = 0 if lacks_since is None else max(0, now - lacks_since)
    return Progress(size, at, lag_records, lag_seconds)


@dataclass(frozen=True, slots=True)
class _Gap:
    """What of a log somebody has not confirmed: everything behind `since`."""

    conn: Connection
    log: Log
    since: int
    now: int

    def overdue(self, *, below: int, not_before: int = 0) -> Overdue | None:
        """Find the oldest withdrawal in it.

        Args:
            below: Size up to which they may have got the log.
            not_before: Since when they may have got it, Unix seconds.
        """
        found = confirmations.oldest_withdrawal(
            self.conn, self.log.log_id, since=self.since, below=below
        )
        if found is None:
            return None
        running_since = max(found.signed_at, not_before)
        age_seconds = max(0, self.now - running_since)
        return Overdue(found.leaf_index, found.kind, age_seconds)

"""Keeping the bytes that show how a peer misbehaved, and stopping what they spoil."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import structlog

from hashlight_node.model import FollowState, LogState
from hashlight_node.store import deliveries, logs
from hashlight_node.store import peers as peer_store

if TYPE_CHECKING:
    from hashlight_node.model import Peer
    from hashlight_node.peers.errors import PeerMisbehavedError
    from hashlight_node.store.database import Connection

_MOST_KEPT: Final = 256
"""Pieces of evidence against one peer about lists that are nothing to us: it can make
up any number of them. What it follows or we follow is bounded by what we agreed to."""

_log = structlog.get_logger()


def keep_evidence(
    conn: Connection,
    peer: Peer,
    list_name: str,
    error: PeerMisbehavedError,
    *,
    now: int,
) -> None:
    """Store the bytes, once per list and broken rule.

    The first proof is enough. A peer that could make us keep every further one could
    fill our disk.
    """
    if deliveries.has_evidence(conn, peer.peer_id, list_name, error.code):
        return
    if not has_room(conn, peer, list_name):
        return
    evidence_id = deliveries.save_evidence(
        conn,
        peer_id=peer.peer_id,
        list_name=list_name,
        code=error.code,
        what=str(error),
        found_at=now,
        payload=error.evidence,
    )
    _log.error(
        "peer misbehaves; evidence is kept",
        peer=peer.name,
        list=list_name,
        code=error.code,
        evidence_id=evidence_id,
    )


def has_room(conn: Connection, peer: Peer, list_name: str) -> bool:
    """Tell whether to keep more evidence of a peer about a list."""
    agreed = _agreed_lists(conn, peer)
    return list_name in agreed or (
        deliveries.count_evidence(conn, peer.peer_id, except_lists=agreed) < _MOST_KEPT
    )


def quarantine_list(
    conn: Connection,
    peer: Peer,
    list_name: str,
    error: PeerMisbehavedError,
    *,
    now: int,
) -> None:
    """Keep the evidence and copy this list no further.

    What was verified before stays and goes on serving lookups: it was right when it
    was verified, and people are protected by it.
    """
    keep_evidence(conn, peer, list_name, error, now=now)
    follow = peer_store.find_follow(conn, peer.peer_id, list_name)
    if follow is not None:
        peer_store.set_follow(
            conn,
            follow.follow_id,
            state=FollowState.QUARANTINED,
            synced_at=follow.synced_at,
            error=str(error),
        )
    logs.set_list_state(conn, peer.name, list_name, LogState.QUARANTINED, str(error))


def _agreed_lists(conn: Connection, peer: Peer) -> set[str]:
    """Name the lists that a peer cannot make up; empty is the peer itself."""
    _, grants = peer_store.grants_of(conn, peer.peer_id)
    follows = peer_store.list_follows(conn)
    return {
        "",
        *(grant.list_name for grant in grants),
        *(follow.list_name for follow in follows if follow.peer_id == peer.peer_id),
    }

"""Where a followed list comes from: from its owner, or from a relay.

Whoever is asked, the owner's keys alone decide what is believed. A relay is blamed for
what does not hold; for what the owner signed, the owner is.

Source: SPEC.md#relays.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hashlight_node.exchange.errors import PeerQuarantinedError, UnknownPeerError
from hashlight_node.exchange.logs.evidence import keep_evidence, quarantine_list
from hashlight_node.model import FollowState, PeerState
from hashlight_node.store import peers as peer_store

if TYPE_CHECKING:
    from hashlight_node.model import Peer
    from hashlight_node.peers.errors import PeerMisbehavedError
    from hashlight_node.store.database import Connection


@dataclass(frozen=True, slots=True)
class Source:
    """Where one list comes from.

    Attributes:
        owner: Who publishes it; whose keys count.
        asked: Who is asked for it.
    """

    owner: Peer
    asked: Peer

    @property
    def is_relayed(self) -> bool:
        """Whether somebody else than the owner is asked."""
        return self.asked.name != self.owner.name


def find_source(conn: Connection, owner: Peer, list_name: str) -> Source:
    """Look up whom to ask for a list, as of this transaction.

    Args:
        conn: A transaction.
        owner: Whose list it is.
        list_name: Its name; one that is not followed comes from its owner.

    Raises:
        UnknownPeerError: The relay is not pinned.
        PeerQuarantinedError: We do not talk to the relay.
    """
    follow = peer_store.find_follow(conn, owner.peer_id, list_name)
    if follow is None or follow.via is None:
        return Source(owner, owner)
    relay = peer_store.find_peer(conn, follow.via)
    if relay is None:
        raise UnknownPeerError(follow.via)
    if relay.state is not PeerState.ACTIVE:
        raise PeerQuarantinedError(relay.name)
    return Source(owner, relay)


def stop_list(
    conn: Connection,
    owner: Peer,
    list_name: str,
    error: PeerMisbehavedError,
    *,
    now: int,
) -> None:
    """Keep the evidence against whoever it accuses, and copy this list no further.

    What a relay did says nothing about the log: it stays as it is, and is copied on
    from there as soon as the list comes from somebody else.
    """
    if error.peer == owner.name:
        quarantine_list(conn, owner, list_name, error, now=now)
        return
    # Perhaps one that the list does not come from any more.
    relay = peer_store.find_peer(conn, error.peer)
    if relay is not None:
        keep_evidence(conn, relay, list_name, error, now=now)
    follow = peer_store.find_follow(conn, owner.peer_id, list_name)
    if follow is not None and follow.via == error.peer:
        peer_store.set_follow(
            conn,
            follow.follow_id,
            state=FollowState.QUARANTINED,
            synced_at=follow.synced_at,
            error=str(error),
        )

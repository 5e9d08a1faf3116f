"""Relaying: which peers get our copies of other nodes' lists, as our operator decides.

Source: SPEC.md#relays.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from hashlight_node.exchange.errors import UnknownFollowError, UnknownPeerError
from hashlight_node.store import logs, relaying
from hashlight_node.store import peers as peer_store

if TYPE_CHECKING:
    from hashlight_node.exchange.notices import Notices
    from hashlight_node.model import Clock, Log, Peer, RelayGrant
    from hashlight_node.store.database import Connection, Database

_log = structlog.get_logger()


class Relaying:
    """Lets peers fetch our copies, or not any more.

    Args:
        database: The store.
        clock: Unix seconds.
        notices: Where the push to a new third party is queued.
    """

    def __init__(self, *, database: Database, clock: Clock, notices: Notices) -> None:
        self._database = database
        self._clock = clock
        self._notices = notices

    async def relay(self, peer_name: str, owner: str, list_name: str) -> RelayGrant:
        """Let a peer fetch our copy of a list, for as long as the owner lets us.

        Doing it again changes nothing.

        Args:
            peer_name: Who may fetch it.
            owner: Whose list it is.
            list_name: Its name.

        Raises:
            UnknownPeerError: One of the two is not pinned.
            UnknownFollowError: We do not follow that list.
        """

        def write(conn: Connection) -> tuple[RelayGrant, Log | None]:
            peer = _peer(conn, peer_name)
            follow = peer_store.find_follow(conn, _peer(conn, owner).peer_id, list_name)
            if follow is None:
                raise UnknownFollowError(owner, list_name)
            granted = relaying.insert_relay_grant(
                conn, peer.peer_id, node=owner, list_name=list_name, now=self._clock()
            )
            return granted, logs.find_followed_log(conn, owner, list_name)

        granted, log = await self._database.write(write)
        _log.info("list is relayed", peer=peer_name, list=list_name)
        if log is not None:
            self._notices.pushes.add(log.origin)
        return granted

    async def stop(self, peer_name: str, owner: str, list_name: str) -> None:
        """Let a peer fetch our copy no more; what it has it has.

        It learns of no further withdrawal from us, and its owner still hears from us
        what it acknowledged.

        Raises:
            UnknownPeerError: No such peer is pinned.
        """

        def write(conn: Connection) -> None:
            peer = _peer(conn, peer_name)
            relaying.end_relay_grant(
                conn,
                peer.peer_id,
                node=owner,
                list_name=list_name,
                now=self._clock(),
            )

        await self._database.write(write)
        _log.info("list is not relayed any more", peer=peer_name, list=list_name)


def _peer(conn: Connection, peer_name: str) -> Peer:
    peer = peer_store.find_peer(conn, peer_name)
    if peer is None:
        raise UnknownPeerError(peer_name)
    return peer

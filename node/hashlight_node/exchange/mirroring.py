"""Serving copies of other nodes' logs: to their owners, and to third parties.

Fail closed: every method first asks whether this peer may have this copy, and one that
it may not have is answered exactly like one that does not exist. What is served never
goes beyond the checkpoint that our mirror key signed.

The owner of a log gets its own log back, whole, whatever became of following it. A
third party gets it if we let it and the owner lets us, and of the bodies only those
that say `share: peers` themselves.

Source: SPEC.md#mirroring.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hashlight_node.model import LogState, Role
from hashlight_node.store import deliveries, logs, relaying
from hashlight_node.store import peers as peer_store
from hashlight_protocol import (
    WHOLE_LIST,
    list_id,
    parse_origin,
    parse_scope,
)

from .disclosure import Insider, ThirdParty
from .errors import UnknownLogError
from .published import read_bodies, read_entries, read_tile
from .receipts import build_receipt
from .serve import is_active_peer, wait_for_note

if TYPE_CHECKING:
    from hashlight_node.model import Log, Peer, Permission
    from hashlight_node.store.database import Connection, Database
    from hashlight_protocol import BodyBundleId, EntryBundleId, TileId

    from .disclosure import Audience
    from .notices import Notices


@dataclass(frozen=True, slots=True)
class _Copy:
    """A copy that may be served, and to whom."""

    log: Log
    audience: Audience


class Mirroring:
    """Answers peers out of our copies.

    Every method takes the authenticated peer and raises `UnknownLogError` if we have
    no such copy, have not signed for any of it yet, or it is not for this peer.
    `origin_hash` names a log by 64 hexadecimal digits.

    Args:
        database: The store.
        notices: Wakes long polls.
    """

    def __init__(self, *, database: Database, notices: Notices) -> None:
        self._database = database
        self._notices = notices

    async def checkpoint(
        self, peer: Peer, origin_hash: str, *, etag: str | None, seconds: int
    ) -> bytes | None:
        """Give the checkpoint up to which we have stored and applied a log.

        With our mirror cosignature: for the owner it is our signed acknowledgement.

        Args:
            peer: The caller.
            origin_hash: Names the log.
            etag: If-None-Match as it came.
            seconds: How long to wait for one that is new to the caller, 30 at most.

        Returns:
            None if nothing changed in that time.
        """

        def read(conn: Connection) -> bytes | None:
            if _is_awaited(conn, peer, origin_hash):
                return None  # The first copy may be under way: worth waiting for.
            return _copy_for(conn, peer, origin_hash).log.mirror_checkpoint

        origin = await self._database.read(
            lambda conn: deliveries.find_by_origin_hash(conn, origin_hash)
        )
        return await wait_for_note(
            self._notices,
            origin or "",
            lambda: self._database.read(read),
            etag=etag,
            seconds=seconds,
        )

    async def tile(self, peer: Peer, origin_hash: str, tile: TileId) -> bytes:
        """Give a tile of hashes.

        Raises:
            NotServedError: The copy has no such tile.
        """

        def read(conn: Connection) -> bytes:
            return read_tile(conn, _copy_for(conn, peer, origin_hash).log, tile)

        return await self._database.read(read)

    async def entries(
        self, peer: Peer, origin_hash: str, bundle: EntryBundleId
    ) -> bytes:
        """Give a bundle of entries.

        Raises:
            NotServedError: The copy has no such bundle.
        """

        def read(conn: Connection) -> bytes:
            return read_entries(conn, _copy_for(conn, peer, origin_hash).log, bundle)

        return await self._database.read(read)

    async def bodies(self, peer: Peer, origin_hash: str, bundle: BodyBundleId) -> bytes:
        """Give a bundle of bodies, not compressed.

        Raises:
            NotServedError: The copy has no such bundle.
        """

        def read(conn: Connection) -> bytes:
            copy = _copy_for(conn, peer, origin_hash)
            return read_bodies(conn, copy.log, bundle, copy.audience)

        return await self._database.read(read)

    async def receipt(self, peer: Peer, origin_hash: str, leaf_index: int) -> bytes:
        """Give one record with its proof.

        Raises:
            NotServedError: There is no record there.
            ErasedError: It was erased.
            WithheldError: Its body is not here, or not for this caller.
        """

        def read(conn: Connection) -> bytes:
            copy = _copy_for(conn, peer, origin_hash)
            return build_receipt(conn, copy.log, leaf_index, copy.audience)

        return await self._database.read(read)

    async def list_note(self, peer: Peer, list_hash: str) -> bytes:
        """Give what the owner of a list signed about it: its logs and their keys.

        Args:
            peer: The caller.
            list_hash: Names the list: whoever needs the note does not know which logs
                there are.
        """

        def read(conn: Connection) -> bytes:
            log = _find_list(conn, peer, list_hash)
            copy = _if_for(conn, peer, log)
            if copy.log.list_note is None:
                raise UnknownLogError
            return copy.log.list_note

        return await self._database.read(read)


def list_hash(identifier: str) -> str:
    """Name a list in a URL.

    Args:
        identifier: Its list id.
    """
    return hashlib.sha256(identifier.encode()).hexdigest()


def _copy_for(conn: Connection, peer: Peer, origin_hash: str) -> _Copy:
    origin = deliveries.find_by_origin_hash(conn, origin_hash)
    copy = _if_for(conn, peer, logs.find_log(conn, origin or ""))
    if copy.log.mirror_checkpoint is None:
        raise UnknownLogError
    return copy


def _if_for(conn: Connection, peer: Peer, log: Log | None) -> _Copy:
    """Find out for whom a copy would be read.

    Everything is asked in any case, so that the time to a refusal does not depend on
    what there is.
    """
    node, list_name = ("", "") if log is None else (log.node, log.list_name)
    permission = relaying.find_permission(
        conn, peer.peer_id, node=node, list_name=list_name
    )
    is_peer = is_active_peer(conn, peer)
    if log is None or log.role is not Role.FOLLOWED or not is_peer:
        raise UnknownLogError
    return _Copy(log, _audience(peer, log, permission))


def _audience(peer: Peer, log: Log, permission: Permission | None) -> Audience:
    if log.node == peer.name:
        # What it wrote is no news to it, and it may need it back.
        return Insider()
    if permission is None or log.state in {LogState.QUARANTINED, LogState.ABANDONED}:
        raise UnknownLogError
    if permission.scope is None:
        return ThirdParty(WHOLE_LIST)
    return ThirdParty(parse_scope(json.loads(permission.scope)))


def _find_list(conn: Connection, peer: Peer, wanted: str) -> Log | None:
    """Find the newest log that we hold of a list that this peer could ask for."""
    candidates = (
        *relaying.lists_held_of(conn, peer.name),
        *relaying.lists_relayed_to(conn, peer.peer_id),
    )
    # No index finds a list by its hash, and there are few for one peer.
    found = [pair for pair in candidates if list_hash(list_id(*pair)) == wanted]
    node, list_name = found[0] if found else ("", "")
    return logs.find_followed_log(conn, node, list_name)


def _is_awaited(conn: Connection, peer: Peer, origin_hash: str) -> bool:
    """Tell whether the owner asks for the first copy of a log that we follow."""
    origin = deliveries.find_by_origin_hash(conn, origin_hash)
    name = None if origin is None else parse_origin(origin)
    list_name = "" if name is None else name.list_name
    follow = peer_store.find_follow(conn, peer.peer_id, list_name)
    log = logs.find_log(conn, origin or "")
    is_held = log is not None and log.mirror_checkpoint is not None
    return (
        name is not None
        and name.node == peer.name
        and follow is not None
        and not is_held
        and is_active_peer(conn, peer)
    )

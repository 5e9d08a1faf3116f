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

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hashlight_node.exchange.errors import UnknownLogError
from hashlight_node.exchange.following.freshness import Freshness, freshness
from hashlight_node.exchange.logs.disclosure import Insider, ThirdParty
from hashlight_node.exchange.logs.published import read_bodies, read_entries, read_tile
from hashlight_node.exchange.logs.receipts import build_receipt
from hashlight_node.model import LogState, Role
from hashlight_node.store import deliveries, logs, relaying
from hashlight_node.store import peers as peer_store
from hashlight_protocol import (
    MAX_RELAYED_BYTES,
    MAX_RELAYED_NODES,
    RelayedNode,
    encode_relayed,
    list_id,
    origin_hash,
    parse_origin,
    parse_vkey,
)

from .serve import is_active_peer, wait_for_note
from .static_files import Draft

if TYPE_CHECKING:
    from hashlight_node.exchange.following.freshness import FreshnessRules
    from hashlight_node.exchange.logs.disclosure import Audience
    from hashlight_node.exchange.logs.representations import Coding
    from hashlight_node.exchange.notices import Notices
    from hashlight_node.model import Clock, Log, Peer, Permission
    from hashlight_node.store.database import Connection, Reader
    from hashlight_protocol import BodyBundleId, EntryBundleId, TileId

    from .static_files import StaticFile, StaticFiles


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
        rules: How old a copy may be that is passed on.
        clock: Unix seconds.
        files: Of what a proxy sends for us, if one does.
    """

    def __init__(
        self,
        *,
        database: Reader,
        notices: Notices,
        rules: FreshnessRules,
        clock: Clock,
        files: StaticFiles | None = None,
    ) -> None:
        self._database = database
        self._notices = notices
        self._rules = rules
        self._clock = clock
        self._files = files

    async def checkpoint(
        self, peer: Peer, origin_hash: str, *, etag: str | None, seconds: int
    ) -> bytes | None:
        """Give the checkpoint up to which we have stored and applied a log.

        With our mirror cosignature: for the owner it is our signed acknowledgement,
        and so it is for the relay that we have the log from, to be handed on.

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
            return self._acknowledged(conn, peer, origin_hash)

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
            return read_tile(conn, self._copy_for(conn, peer, origin_hash).log, tile)

        return await self._database.read(read)

    async def entries(
        self, peer: Peer, origin_hash: str, bundle: EntryBundleId
    ) -> bytes:
        """Give a bundle of entries.

        Raises:
            NotServedError: The copy has no such bundle.
        """

        def read(conn: Connection) -> bytes:
            return read_entries(
                conn, self._copy_for(conn, peer, origin_hash).log, bundle
            )

        return await self._database.read(read)

    async def bodies(self, peer: Peer, origin_hash: str, bundle: BodyBundleId) -> bytes:
        """Give a bundle of bodies, not compressed.

        Raises:
            NotServedError: The copy has no such bundle.
        """

        def read(conn: Connection) -> bytes:
            copy = self._copy_for(conn, peer, origin_hash)
            return read_bodies(conn, copy.log, bundle, copy.audience)

        return await self._database.read(read)

    async def file(
        self,
        peer: Peer,
        origin_hash: str,
        resource: TileId | EntryBundleId | BodyBundleId,
        coding: Coding,
    ) -> StaticFile | None:
        """Name a file of a tile or bundle for a proxy to send.

        Returns:
            None if there is none, and the content is to be asked for.

        Raises:
            NotServedError: The copy has no such tile or bundle.
        """
        files = self._files
        if files is None:
            return None
        wanted = files.want(resource, coding)

        def read(conn: Connection) -> StaticFile | Draft | None:
            copy = self._copy_for(conn, peer, origin_hash)
            return files.find(conn, copy.log, copy.audience, wanted)

        found = await self._database.read(read)
        if isinstance(found, Draft):
            return await asyncio.to_thread(files.keep, found)
        return found

    async def receipt(self, peer: Peer, origin_hash: str, leaf_index: int) -> bytes:
        """Give one record with its proof.

        Raises:
            NotServedError: There is no record there.
            ErasedError: It was erased.
            WithheldError: Its body is not here, or not for this caller.
        """

        def read(conn: Connection) -> bytes:
            copy = self._copy_for(conn, peer, origin_hash)
            return build_receipt(conn, copy.log, leaf_index, copy.audience)

        return await self._database.read(read)

    async def acknowledgements(self, peer: Peer, origin_hash: str) -> bytes:
        """Say who else got a log from us, and what each of them has signed for it.

        Only the owner may know: everybody whom we ever let fetch it, with the newest
        acknowledgement of each, or none.

        Args:
            peer: The caller.
            origin_hash: Names the log.
        """

        def read(conn: Connection) -> bytes:
            copy = self._copy_for(conn, peer, origin_hash)
            if not isinstance(copy.audience, Insider):
                raise UnknownLogError
            return encode_relayed(_third_parties(conn, copy.log))

        return await self._database.read(read)

    async def owner(self, peer: Peer, list_hash: str) -> bytes:
        """Give the descriptor of the owner of a list, as we know it.

        Args:
            peer: The caller.
            list_hash: Names the list.
        """

        def read(conn: Connection) -> bytes:
            copy = self._if_for(conn, peer, _find_list(conn, peer, list_hash))
            owner = peer_store.find_peer(conn, copy.log.node)
            if owner is None or not owner.descriptor:
                raise UnknownLogError
            return owner.descriptor

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
            copy = self._if_for(conn, peer, log)
            if copy.log.list_note is None:
                raise UnknownLogError
            return copy.log.list_note

        return await self._database.read(read)

    def _acknowledged(
        self, conn: Connection, peer: Peer, origin_hash: str
    ) -> bytes | None:
        origin = deliveries.find_by_origin_hash(conn, origin_hash)
        log = logs.find_log(conn, origin or "")
        comes = _comes_from(conn, peer, origin)
        if comes and log is not None:
            if not is_active_peer(conn, peer):
                raise UnknownLogError
            return log.mirror_checkpoint
        return self._copy_for(conn, peer, origin_hash).log.mirror_checkpoint

    def _copy_for(self, conn: Connection, peer: Peer, origin_hash: str) -> _Copy:
        origin = deliveries.find_by_origin_hash(conn, origin_hash)
        copy = self._if_for(conn, peer, logs.find_log(conn, origin or ""))
        if copy.log.mirror_checkpoint is None:
            raise UnknownLogError
        return copy

    def _if_for(self, conn: Connection, peer: Peer, log: Log | None) -> _Copy:
        """Find out for whom a copy would be read.

        Everything is asked in any case, so that the time to a refusal does not depend
        on what there is.
        """
        node, list_name = ("", "") if log is None else (log.node, log.list_name)
        permission = relaying.find_permission(
            conn, peer.peer_id, node=node, list_name=list_name
        )
        is_peer = is_active_peer(conn, peer)
        if log is None or log.role is not Role.FOLLOWED or not is_peer:
            raise UnknownLogError
        return _Copy(log, self._audience(peer, log, permission))

    def _audience(
        self, peer: Peer, log: Log, permission: Permission | None
    ) -> Audience:
        if log.node == peer.name:
            # What it wrote is no news to it, and it may need it back.
            return Insider()
        if permission is None or log.state not in {LogState.ACTIVE, LogState.FROZEN}:
            raise UnknownLogError
        if freshness(log, self._clock(), self._rules) >= Freshness.NO_RELAY:
            # Nobody knows what was withdrawn since: what we have is not passed on.
            raise UnknownLogError
        return ThirdParty(permission.scope)


def _find_list(conn: Connection, peer: Peer, wanted: str) -> Log | None:
    """Find the newest log that we hold of a list that this peer could ask for."""
    candidates = (
        *relaying.lists_held_of(conn, peer.name),
        *relaying.lists_relayed_to(conn, peer.peer_id),
    )
    # No index finds a list by its hash, and there are few for one peer.
    found = [pair for pair in candidates if origin_hash(list_id(*pair)) == wanted]
    node, list_name = found[0] if found else ("", "")
    return logs.find_followed_log(conn, node, list_name)


def _third_parties(conn: Connection, log: Log) -> list[RelayedNode]:
    """Give everybody to whom a log was relayed, within the size of an answer.

    Of those for whom there is no room the proof is missing, and so is, for the owner,
    the acknowledgement.
    """
    nodes: list[RelayedNode] = []
    left_bytes = MAX_RELAYED_BYTES // 2
    for peer in relaying.third_parties(conn, log.node, log.list_name):
        said = deliveries.newest_acknowledgement(conn, log.log_id, peer.peer_id)
        note = b"" if said is None else said.note
        identity = parse_vkey(peer.identity_vkey)
        left_bytes -= len(peer.descriptor) + len(note)
        proof = (peer.descriptor, note) if left_bytes > 0 else (b"", b"")
        nodes.append(RelayedNode(identity, *proof))
    return nodes[:MAX_RELAYED_NODES]


def _is_awaited(conn: Connection, peer: Peer, origin_hash: str) -> bool:
    """Tell whether a peer asks for the first copy of a log that we get from it."""
    origin = deliveries.find_by_origin_hash(conn, origin_hash)
    log = logs.find_log(conn, origin or "")
    is_held = log is not None and log.mirror_checkpoint is not None
    comes = _comes_from(conn, peer, origin)
    return comes and not is_held and is_active_peer(conn, peer)


def _comes_from(conn: Connection, peer: Peer, origin: str | None) -> bool:
    """Tell whether we follow a log, and this peer gives it to us: owner or relay."""
    name = None if origin is None else parse_origin(origin)
    node, list_name = ("", "") if name is None else (name.node, name.list_name)
    # Asked in any case, so that the time to a refusal does not tell what there is.
    owner = peer_store.find_peer(conn, node)
    owner_id = 0 if owner is None else owner.peer_id
    follow = peer_store.find_follow(conn, owner_id, list_name)
    return follow is not None and peer.name in {node, follow.via}

"""What the federation listener answers to an authenticated peer.

Fail closed: every method first asks whether this peer may have this log, and a log
that it may not have is answered exactly like one that does not exist. What is served
never goes beyond the published checkpoint, so nobody sees an entry before it is
signed.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from hashlight_node.exchange.errors import LogHeldError, UnknownLogError
from hashlight_node.exchange.logs.disclosure import Grantee
from hashlight_node.exchange.logs.published import (
    read_bodies,
    read_checkpoint,
    read_entries,
    read_tile,
)
from hashlight_node.exchange.logs.receipts import build_receipt
from hashlight_node.exchange.logs.representations import etag_of
from hashlight_node.model import PeerState, Role
from hashlight_node.store import deliveries, logs
from hashlight_node.store import peers as peer_store
from hashlight_protocol import (
    Grants,
    ListGrant,
    MalformedError,
    list_id,
    log_origin,
    parse_origin,
)

from .static_files import Draft

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from hashlight_node.exchange.following.life import SignsOfLife
    from hashlight_node.exchange.logs.representations import Coding
    from hashlight_node.exchange.notices import Notices
    from hashlight_node.model import Grant, Log, Peer
    from hashlight_node.store.database import Connection, Reader
    from hashlight_protocol import BodyBundleId, EntryBundleId, TileId

    from .static_files import StaticFile, StaticFiles

_TEXT_TAG: Final = 17  # A quotation mark and the first half of an entity tag.

LONG_POLL_SECONDS: Final = 30
"""Longest that an answer is held back. Source: SPEC.md#limits."""


def matches_etag(header: str | None, content: bytes) -> bool:
    """Tell whether an If-None-Match header names this content.

    Source: RFC 9110, section 13.1.2.
    """
    if header is None:
        return False
    tag = etag_of(content)
    return any(part.strip() in {tag, f"W/{tag}", "*"} for part in header.split(","))


def names_text(header: str | None, note: bytes) -> bool:
    """Tell whether an If-None-Match header names this note, whoever signed it since."""
    if header is None:
        return False
    start = etag_of(note)[:_TEXT_TAG]
    parts = (part.strip().removeprefix("W/") for part in header.split(","))
    return any(part == "*" or part.startswith(start) for part in parts)


async def wait_for_note(
    notices: Notices,
    origin: str,
    read: Callable[[], Awaitable[bytes | None]],
    *,
    etag: str | None,
    seconds: int,
    is_known: Callable[[str | None, bytes], bool] = matches_etag,
) -> bytes | None:
    """Give a note once it is another than the caller has.

    Args:
        notices: Tell when to look again.
        origin: The log whose note it is.
        read: Reads it, with all checks; None if there is none yet.
        etag: If-None-Match as it came, or None to be answered at once.
        seconds: How long to wait, 30 at most.
        is_known: Tells whether the caller has a note that is as good.

    Returns:
        None if nothing changed in that time.

    Raises:
        UnknownLogError: There still is none.
    """

    def is_news(note: bytes | None) -> bool:
        return note is not None and not is_known(etag, note)

    # Whoever may not have the log is refused before anything is kept for it.
    note = await read()
    if seconds > 0 and not is_news(note):
        event = notices.subscribe(origin)
        # Again after subscribing: a change in between is not missed.
        note = await read()
        if not is_news(note):
            await _set_within(event, min(seconds, LONG_POLL_SECONDS))
            # With all its checks: the grant may have been taken back.
            note = await read()
    found = _note(note)
    return None if matches_etag(etag, found) else found


class Serving:
    """Answers peers out of the store.

    Every method takes the authenticated peer and raises `UnknownLogError` if the log
    does not exist, has no checkpoint yet, or is not for this peer.

    Args:
        database: The store.
        notices: Wakes long polls.
        node_name: This node.
        life: Makes our signs of life.
        files: Of what a proxy sends for us, if one does.
    """

    def __init__(
        self,
        *,
        database: Reader,
        notices: Notices,
        node_name: str,
        life: SignsOfLife,
        files: StaticFiles | None = None,
    ) -> None:
        self._database = database
        self._notices = notices
        self._node_name = node_name
        self._life = life
        self._files = files
        # Who may have which log, as of one commit. Only grants are remembered: a
        # refusal takes the same time whatever there is.
        self._decided_at = -1
        self._decided: dict[tuple[int, str, int], tuple[Log, Grantee]] = {}

    async def checkpoint(self, peer: Peer, list_name: str, epoch: int) -> bytes:
        """Give a log's newest checkpoint, with the cosignatures that we collected."""

        def read(conn: Connection) -> tuple[str, bytes]:
            log = self._granted_log(conn, peer, list_name, epoch)
            return log.origin, _note(read_checkpoint(conn, log))

        origin, note = await self._database.read(read)
        # What others pass on says when we were still there.
        return self._life.add(origin, note)

    async def wait_checkpoint(
        self, peer: Peer, list_name: str, epoch: int, *, etag: str | None, seconds: int
    ) -> bytes | None:
        """Give a log's newest checkpoint once it is another than the caller has.

        A cosignature more makes another representation, which who asks without waiting
        is given. It ends no waiting: each push would wake every follower once for each
        other follower.

        Args:
            peer: The caller.
            list_name: One of our lists.
            epoch: Which of its logs.
            etag: If-None-Match as it came, or None to be answered at once.
            seconds: How long to wait, 30 at most.

        Returns:
            None if nothing changed in that time.
        """
        return await wait_for_note(
            self._notices,
            self._origin(list_name, epoch),
            lambda: self.checkpoint(peer, list_name, epoch),
            etag=etag,
            seconds=seconds,
            is_known=names_text,
        )

    async def tile(self, peer: Peer, list_name: str, epoch: int, tile: TileId) -> bytes:
        """Give a tile of hashes.

        Raises:
            NotServedError: The published tree has no such tile.
        """

        def read(conn: Connection) -> bytes:
            log = self._granted_log(conn, peer, list_name, epoch)
            return read_tile(conn, log, tile)

        return await self._database.read(read)

    async def entries(
        self, peer: Peer, list_name: str, epoch: int, bundle: EntryBundleId
    ) -> bytes:
        """Give a bundle of entries.

        Raises:
            NotServedError: The published tree has no such bundle.
        """

        def read(conn: Connection) -> bytes:
            log = self._granted_log(conn, peer, list_name, epoch)
            return read_entries(conn, log, bundle)

        return await self._database.read(read)

    async def bodies(
        self, peer: Peer, list_name: str, epoch: int, bundle: BodyBundleId
    ) -> bytes:
        """Give a bundle of bodies, not compressed.

        Unlike tiles and entries it may change: an erased body disappears.

        Raises:
            NotServedError: The published tree has no such bundle.
        """

        def read(conn: Connection) -> bytes:
            log = self._granted_log(conn, peer, list_name, epoch)
            return read_bodies(conn, log, bundle, _audience(conn, peer, log))

        return await self._database.read(read)

    async def file(
        self,
        peer: Peer,
        list_name: str,
        epoch: int,
        resource: TileId | EntryBundleId | BodyBundleId,
        coding: Coding,
    ) -> StaticFile | None:
        """Name a file of a tile or bundle for a proxy to send.

        Returns:
            None if there is none, and the content is to be asked for.

        Raises:
            NotServedError: The published tree has no such tile or bundle.
        """
        files = self._files
        if files is None:
            return None
        wanted = files.want(resource, coding)
        # Before reading: until it changes, what was read is what there is.
        version = self._database.version()
        if version != self._decided_at:
            self._decided_at, self._decided = version, {}
        decided = self._decided
        where = (peer.peer_id, list_name, epoch)
        if where in decided:
            file = files.held(*decided[where], wanted)
            if file is not None:
                return file

        def read(conn: Connection) -> StaticFile | Draft | None:
            log = self._granted_log(conn, peer, list_name, epoch)
            decided[where] = (log, _audience(conn, peer, log))
            return files.find(conn, *decided[where], wanted)

        found = await self._database.read(read)
        if isinstance(found, Draft):
            return await asyncio.to_thread(files.keep, found)
        return found

    async def receipt(
        self, peer: Peer, list_name: str, epoch: int, leaf_index: int
    ) -> bytes:
        """Give one record with its proof.

        Raises:
            NotServedError: There is no record there.
            ErasedError: It was erased.
            WithheldError: Its body is not here.
        """

        def read(conn: Connection) -> bytes:
            log = self._granted_log(conn, peer, list_name, epoch)
            return build_receipt(conn, log, leaf_index, _audience(conn, peer, log))

        return await self._database.read(read)

    async def list_note(self, peer: Peer, list_name: str) -> bytes:
        """Give the signed note about a list: its logs and their keys."""

        def read(conn: Connection) -> bytes:
            log = logs.find_own_log(conn, self._node_name, list_name)
            found = self._if_granted(conn, peer, log)
            if found.is_held:
                raise LogHeldError  # This may be an older version, too.
            return _note(found.list_note)

        return await self._database.read(read)

    async def grants(self, peer: Peer) -> Grants:
        """Give the caller's own grants; none if it is in quarantine."""

        def read(conn: Connection) -> Grants:
            if not is_active_peer(conn, peer):
                return Grants(0, ())
            version, grants = peer_store.grants_of(conn, peer.peer_id)
            return granted_rights(self._node_name, version, grants)

        return await self._database.read(read)

    async def witness_checkpoint(self, peer: Peer, origin_hash: str) -> bytes:
        """Give the largest checkpoint that we have cosigned of the caller's own log.

        Only to the node whose log it is, which needs it after a restore from backup.
        Followers of a log compare, see `Gossip`.
        """

        def read(conn: Connection) -> bytes:
            origin = _own_origin(conn, peer, origin_hash)
            return _note(deliveries.read_witnessed(conn, origin))

        return await self._database.read(read)

    def _origin(self, list_name: str, epoch: int) -> str:
        try:
            return log_origin(self._node_name, list_name, epoch)
        except MalformedError:
            raise UnknownLogError from None

    def _granted_log(
        self, conn: Connection, peer: Peer, list_name: str, epoch: int
    ) -> Log:
        log = logs.find_log(conn, self._origin(list_name, epoch))
        found = self._if_granted(conn, peer, log)
        if found.checkpoint is None:
            raise UnknownLogError
        if found.is_held:
            # An older state would look like a log that was taken back.
            raise LogHeldError
        return found

    def _if_granted(self, conn: Connection, peer: Peer, log: Log | None) -> Log:
        # Asked in any case, so that the time to a refusal does not depend on whether
        # the list exists.
        list_name = "" if log is None else log.list_name
        granted = peer_store.has_grant(conn, peer.peer_id, list_name)
        is_active = is_active_peer(conn, peer)
        if log is None or not granted or log.role is not Role.OWN:
            raise UnknownLogError
        if not is_active:
            raise UnknownLogError
        return log


def granted_rights(node_name: str, version: int, grants: Sequence[Grant]) -> Grants:
    """Say what a peer may fetch of this node, as it is told.

    Args:
        node_name: This node.
        version: Of the peer's rights.
        grants: All of them.
    """
    rows = (
        ListGrant(
            list_id(node_name, one.list_name),
            one.granted_at,
            one.scope,
            one.may_relay,
        )
        for one in grants
    )
    return Grants(version, tuple(rows))


def _audience(conn: Connection, peer: Peer, log: Log) -> Grantee:
    """Give how far the peer's grant goes, in the transaction that reads the bodies."""
    grant = peer_store.find_grant(conn, peer.peer_id, log.list_name)
    if grant is None:
        raise UnknownLogError
    return Grantee(grant.scope)


def _own_origin(conn: Connection, peer: Peer, origin_hash: str) -> str:
    origin = deliveries.find_by_origin_hash(conn, origin_hash)
    if origin is None or parse_origin(origin).node != peer.name:
        raise UnknownLogError
    if not is_active_peer(conn, peer):
        raise UnknownLogError
    return origin


def is_active_peer(conn: Connection, peer: Peer) -> bool:
    """Tell whether we talk to a peer now; its request may have begun long ago."""
    latest = peer_store.find_peer(conn, peer.name)
    return latest is not None and latest.state is PeerState.ACTIVE


async def _set_within(event: asyncio.Event, seconds: int) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        pass


def _note(note: bytes | None) -> bytes:
    if note is None:
        raise UnknownLogError
    return note

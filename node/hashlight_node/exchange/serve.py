"""What the federation listener answers to an authenticated peer.

Fail closed: every method first asks whether this peer may have this log, and a log
that it may not have is answered exactly like one that does not exist. What is served
never goes beyond the published checkpoint, so nobody sees an entry before it is
signed.
"""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from hashlight_node.model import PeerState, Role
from hashlight_node.store import deliveries, logs
from hashlight_node.store import peers as peer_store
from hashlight_protocol import (
    WHOLE_LIST,
    MalformedError,
    log_origin,
    parse_origin,
)

from .disclosure import Grantee
from .errors import LogHeldError, UnknownLogError
from .published import read_bodies, read_entries, read_tile
from .receipts import build_receipt

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from hashlight_node.model import Grant, Log, Peer
    from hashlight_node.store.database import Connection, Database
    from hashlight_protocol import BodyBundleId, EntryBundleId, TileId

    from .notices import Notices

LONG_POLL_SECONDS: Final = 30
"""Longest that an answer is held back. Source: SPEC.md#limits."""


@dataclass(frozen=True, slots=True)
class GrantsAnswer:
    """What a peer may fetch.

    Attributes:
        version: Counted up with every change of this peer's grants.
        grants: Its grants, by list name.
    """

    version: int
    grants: tuple[Grant, ...]


def etag_of(content: bytes) -> str:
    """Name a version of what we serve; strong, and equal on every restart."""
    return f'"{hashlib.sha256(content).hexdigest()[:32]}"'


def matches_etag(header: str | None, content: bytes) -> bool:
    """Tell whether an If-None-Match header names this content.

    Source: RFC 9110, section 13.1.2.
    """
    if header is None:
        return False
    tag = etag_of(content)
    return any(part.strip() in {tag, f"W/{tag}", "*"} for part in header.split(","))


async def wait_for_note(
    notices: Notices,
    origin: str,
    read: Callable[[], Awaitable[bytes | None]],
    *,
    etag: str | None,
    seconds: int,
) -> bytes | None:
    """Give a note once it is another than the caller has.

    Args:
        notices: Tell when to look again.
        origin: The log whose note it is.
        read: Reads it, with all checks; None if there is none yet.
        etag: If-None-Match as it came, or None to be answered at once.
        seconds: How long to wait, 30 at most.

    Returns:
        None if nothing changed in that time.

    Raises:
        UnknownLogError: There still is none.
    """
    # Whoever may not have the log is refused before anything is kept for it.
    note = await read()
    if seconds > 0 and not _is_news(note, etag):
        event = notices.subscribe(origin)
        # Again after subscribing: a change in between is not missed.
        note = await read()
        if not _is_news(note, etag):
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
    """

    def __init__(self, *, database: Database, notices: Notices, node_name: str) -> None:
        self._database = database
        self._notices = notices
        self._node_name = node_name

    async def checkpoint(self, peer: Peer, list_name: str, epoch: int) -> bytes:
        """Give a log's newest checkpoint."""
        log = await self._database.read(
            lambda conn: self._granted_log(conn, peer, list_name, epoch)
        )
        return _note(log.checkpoint)

    async def wait_checkpoint(
        self, peer: Peer, list_name: str, epoch: int, *, etag: str | None, seconds: int
    ) -> bytes | None:
        """Give a log's newest checkpoint once it is another than the caller has.

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
            return read_bodies(conn, log, bundle, Grantee(WHOLE_LIST))

        return await self._database.read(read)

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
            return build_receipt(conn, log, leaf_index, Grantee(WHOLE_LIST))

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

    async def grants(self, peer: Peer) -> GrantsAnswer:
        """Give the caller's own grants; none if it is in quarantine."""

        def read(conn: Connection) -> GrantsAnswer:
            if not is_active_peer(conn, peer):
                return GrantsAnswer(0, ())
            version, grants = peer_store.grants_of(conn, peer.peer_id)
            return GrantsAnswer(version, tuple(grants))

        return await self._database.read(read)

    async def witness_checkpoint(self, peer: Peer, origin_hash: str) -> bytes:
        """Give the largest checkpoint that we have cosigned of the caller's own log.

        Only to the node whose log it is, which needs it after a restore from backup.
        Gossip between the followers of a log is not served yet.
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


def _is_news(note: bytes | None, etag: str | None) -> bool:
    return note is not None and not matches_etag(etag, note)


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

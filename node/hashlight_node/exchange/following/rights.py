"""Our rights at a peer: which records it lets us have, and getting what it withheld.

A peer withholds the bodies that our grant does not let through. When the grant changes,
only the peer can tell; it says so in `/hsf/v1/grants`, with a version. Once that has
grown, every bundle in which we hold a record without a body is asked for again. The
version becomes ours when all of them were, so a back-fill that is cut short goes on.

Withdrawals come first: a sync pulls before it back-fills, and back-fills a slice only.
A record that was retracted or erased meanwhile is never made live: that is decided in
the transaction that stores its body.

Source: SPEC.md#grants.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

import structlog

from hashlight_node.exchange.notices import Rounds
from hashlight_node.model import LogState, Role
from hashlight_node.peers.errors import (
    PeerMisbehavedError,
    PeerRefusedError,
    PeerUnavailableError,
    blaming,
)
from hashlight_node.store import logs, withheld
from hashlight_node.store import peers as peer_store
from hashlight_protocol import (
    TILE_WIDTH,
    WHOLE_LIST,
    Body,
    BodyBundleId,
    BodyStatus,
    ListGrant,
    list_id,
    parse_entry_bundle,
    parse_grants,
)

from .copying import Copy
from .transfer import RawBundle, fetch_ahead, open_bodies

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from hashlight_node.model import Follow, Log, Peer
    from hashlight_node.store.database import Connection
    from hashlight_protocol import Grants

    from .copying import FollowParts
    from .sources import Source

_SLICE_BUNDLES: Final = 128
"""Bundles that one sync asks for again, at most: 32,768 records. The next pull, and
with it what was withdrawn meanwhile, waits no longer than that."""

_PAUSE_SECONDS: Final = 60
"""Before a back-fill goes on that began anew because the rights had changed again."""

_RETRY_BUNDLES: Final = 64
_RETRY_SECONDS: Final = 86_400
"""Of a list that is ours whole nothing should be withheld. If something is, its owner
lacks it, or says that it was erased without an ERASE; perhaps that ends one day."""

_BATCH_BYTES: Final = 8 * 1024 * 1024
"""Bytes of bodies in one transaction, as in a pull."""

_BATCH_BODIES: Final = 5_120

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Learned:
    """What a peer said of one list when it was asked last.

    Attributes:
        version: Of all our rights at the peer.
        grant: Our right to the list.
    """

    version: int
    grant: ListGrant


@dataclass(frozen=True, slots=True)
class _Cursor:
    """Where a back-fill goes on: the bundles before it were asked for."""

    learned: Learned
    log_id: int = 0
    bundle: int = 0


class Rights:
    """Knows what the owners of followed lists let us have.

    Args:
        parts: What following needs.
    """

    def __init__(self, parts: FollowParts) -> None:
        self._parts = parts
        self._rounds: Rounds[str, Mapping[str, Learned]] = Rounds()
        # Both are lost with the process, which costs questions and nothing else.
        self._cursors: dict[tuple[str, str], _Cursor] = {}
        self._retried_at: dict[tuple[str, str], int] = {}

    async def learn(self, source: Source, follow: Follow) -> Learned | None:
        """Ask what the peer lets us have, and remember it for one list.

        Several lists of a peer that are copied at the same time share one question.

        Args:
            source: The owner; a relay is not asked, it shows what it may and no more.
            follow: The list.

        Returns:
            None if there is no answer, or no grant. Neither ends a sync: a withdrawal
            that the peer has for us must not wait for an answer about rights.
        """
        peer = source.owner
        if source.is_relayed:
            return await self._note(follow, _relayed(follow))
        try:
            found = await self._rounds.run(peer.name, lambda: self._ask(peer))
        except PeerUnavailableError:
            _log.info("rights cannot be read now", peer=peer.name)
            return None
        except (PeerRefusedError, PeerMisbehavedError) as error:
            # Perhaps a scope that only a newer version of us understands.
            _log.warning("rights cannot be read", peer=peer.name, code=error.code)
            await self.end(follow)
            return None
        learned = found.get(follow.list_name)
        if learned is None:
            await self.end(follow)
            return None
        return await self._note(follow, learned)

    async def _note(self, follow: Follow, learned: Learned) -> Learned:
        if not _is_known(follow, learned):
            await self._parts.database.write(lambda conn: _save(conn, follow, learned))
        return learned

    async def end(self, follow: Follow) -> None:
        """Pass nothing on any more of a list to which we have no right that we know."""

        def write(conn: Connection) -> None:
            latest = _latest(conn, follow)
            if latest is not None:
                peer_store.set_rights(conn, latest, scope=latest.scope, may_relay=False)

        if follow.may_relay:
            await self._parts.database.write(write)

    async def back_fill(
        self, source: Source, follow: Follow, learned: Learned | None
    ) -> None:
        """Ask again for what was withheld, if there may be more for us than before.

        Not for everything at once: what is left is queued as a sync of its own.

        Args:
            source: The owner, or the relay.
            follow: The list, pulled a moment ago.
            learned: What the peer said before that pull.

        Raises:
            PeerError: The peer stopped answering, refuses, or sends what is wrong.
                What was stored before stays, and the next back-fill goes on behind it.
            ExchangeError: The operator, or evidence, ended the exchange meanwhile.
        """
        latest = await self._parts.database.read(lambda conn: _latest(conn, follow))
        if learned is None or latest is None or not _is_same_way(latest, follow):
            return
        if not self._parts.has_room():
            await self._put_off(latest)
            return
        if latest.grants_version != learned.version:
            known = self._cursors.get((follow.peer_name, follow.list_name))
            if await self._ask_again(source, latest, learned, _SLICE_BUNDLES):
                await self._finish(latest, learned)
            elif known is None or known.learned == learned:
                self._parts.notices.announced(follow.peer_name, follow.list_name)
            else:
                # An owner that changes our rights all the time shall not keep us busy.
                self._parts.notices.sync_later(
                    follow.peer_name, follow.list_name, _PAUSE_SECONDS
                )
        elif learned.grant.scope == WHOLE_LIST and self._is_due(latest):
            await self._ask_again(source, latest, learned, _RETRY_BUNDLES)

    async def _put_off(self, follow: Follow) -> None:
        """Ask for what is withheld once there is room for it."""
        key = (follow.peer_name, follow.list_name)
        self._cursors.pop(key, None)
        if follow.grants_version:
            await self._parts.database.write(
                lambda conn: peer_store.set_grants_version(conn, follow.follow_id, 0)
            )

    async def _ask(self, peer: Peer) -> Mapping[str, Learned]:
        raw = await self._parts.client.fetch_grants(peer)
        with blaming(peer.name, "grants", raw):
            # The largest takes some time to read.
            grants = await asyncio.to_thread(parse_grants, raw, node=peer.name)
        return await self._parts.database.read(
            lambda conn: _followed(conn, peer, grants)
        )

    def _is_due(self, follow: Follow) -> bool:
        key, now = (follow.peer_name, follow.list_name), self._parts.clock()
        passed_seconds = now - self._retried_at.get(key, now - _RETRY_SECONDS)
        if 0 <= passed_seconds < _RETRY_SECONDS:
            return False
        self._retried_at[key] = now
        return True

    async def _finish(self, follow: Follow, learned: Learned) -> None:
        def write(conn: Connection) -> None:
            latest = _latest(conn, follow)
            # Not if the list was given up and followed anew meanwhile, or comes from
            # somebody else, who was not asked.
            if latest is not None and _is_same_way(latest, follow):
                peer_store.set_grants_version(conn, follow.follow_id, learned.version)

        await self._parts.database.write(write)

    async def _ask_again(
        self, source: Source, follow: Follow, learned: Learned, limit: int
    ) -> bool:
        """Ask for some bundles again, from where the last time ended.

        Returns:
            Whether none is left.
        """
        key = (follow.peer_name, follow.list_name)
        cursor = self._cursors.get(key)
        if cursor is None or cursor.learned != learned:
            cursor = _Cursor(learned)
        start = cursor
        work = await self._parts.database.read(
            lambda conn: _find_work(conn, follow, start, limit)
        )
        count = 0
        for log, bundles in work:
            await self._fill(source, follow, log, bundles)
            cursor = _Cursor(learned, log.log_id, bundles[-1] + 1)
            self._cursors[key] = cursor
            count += len(bundles)
        if count < limit:
            self._cursors.pop(key, None)
        return count < limit

    async def _fill(
        self, source: Source, follow: Follow, log: Log, bundles: Sequence[int]
    ) -> None:
        peer = source.asked
        copy = Copy(self._parts, source=source, follow=follow, log=log)
        came: dict[int, Body] = {}
        size_bytes = count = 0
        fetched = fetch_ahead(bundles, partial(self._fetch, peer, log))
        async with aclosing(fetched):
            async for raw in fetched:
                opened = await asyncio.to_thread(_open, peer.name, log, raw)
                came |= opened
                count += len(opened)
                size_bytes += sum(len(body.body) for body in opened.values())
                if size_bytes >= _BATCH_BYTES or len(came) >= _BATCH_BODIES:
                    await copy.fill(came)
                    came, size_bytes = {}, 0
        if came:
            await copy.fill(came)
        _log.info(
            "asked again for withheld bodies",
            peer=peer.name,
            list=follow.list_name,
            count=count,
        )

    async def _fetch(self, peer: Peer, log: Log, index: int) -> RawBundle:
        width = _width(log, index)
        entries = await self._parts.database.read(
            lambda conn: logs.read_entry_bundle(conn, log.log_id, index, width)
        )
        bodies = await self._parts.client.fetch_bodies(
            peer, log.origin, BodyBundleId(index, width)
        )
        return RawBundle(index, entries or b"", bodies)


def _width(log: Log, index: int) -> int:
    return min(TILE_WIDTH, log.tree_size - index * TILE_WIDTH)


def _open(peer: str, log: Log, raw: RawBundle) -> dict[int, Body]:
    """Check a bundle against our own verified entries; keep the bodies that are there.

    That a body is said to be erased changes nothing: the ERASE that makes it true comes
    with a pull.
    """
    entries = parse_entry_bundle(raw.entries, _width(log, raw.index))
    bodies = open_bodies(peer, log.origin, raw, entries)
    return {
        leaf_index: body
        for leaf_index, body in enumerate(bodies, raw.index * TILE_WIDTH)
        if body.status is BodyStatus.PRESENT
    }


def _relayed(follow: Follow) -> Learned:
    """Say what a relay lets us have: whatever it shows. We may not relay it further.

    The version is no owner's. It is there to ask once more for what is withheld when
    the list begins to come from somebody else, which sets ours to 0.
    """
    identifier = list_id(follow.peer_name, follow.list_name)
    return Learned(1, ListGrant(identifier, follow.followed_at, WHOLE_LIST))


def _followed(conn: Connection, peer: Peer, grants: Grants) -> dict[str, Learned]:
    """Keep of an answer, which may be large, what is about lists that we follow."""
    by_id = {grant.list_id: grant for grant in grants.grants}
    names = [
        follow.list_name
        for follow in peer_store.list_follows(conn)
        if follow.peer_id == peer.peer_id
    ]
    return {
        name: Learned(grants.version, by_id[identifier])
        for name in names
        if (identifier := list_id(peer.name, name)) in by_id
    }


def _is_known(follow: Follow, learned: Learned) -> bool:
    return (
        follow.scope == learned.grant.scope
        and follow.grants_version == learned.version
        and follow.may_relay == learned.grant.may_relay
    )


def _save(conn: Connection, follow: Follow, learned: Learned) -> None:
    latest = _latest(conn, follow)
    if latest is None or not _is_same_way(latest, follow):
        return
    grant = learned.grant
    peer_store.set_rights(conn, latest, scope=grant.scope, may_relay=grant.may_relay)
    if not _find_work(conn, latest, _Cursor(learned), 1):
        # What comes from now on comes under these rights.
        peer_store.set_grants_version(conn, latest.follow_id, learned.version)


def _find_work(
    conn: Connection, follow: Follow, cursor: _Cursor, limit: int
) -> list[tuple[Log, list[int]]]:
    """Find bundles of a list in which bodies are withheld, log by log."""
    work: list[tuple[Log, list[int]]] = []
    for log in _copies(conn, follow):
        if limit and log.log_id >= cursor.log_id:
            first = cursor.bundle if log.log_id == cursor.log_id else 0
            found = withheld.withheld_bundles(
                conn, log.log_id, first=first, limit=limit
            )
            limit -= len(found)
            if found:
                work.append((log, found))
    return work


def _copies(conn: Connection, follow: Follow) -> list[Log]:
    """Give our copies of a list's logs that did not end, the oldest epoch first.

    What ended matches no more, and what its owner erased there reaches us no more:
    somebody who did not hear of that either must not bring it back.
    """
    copies = [
        log
        for log in logs.list_logs(conn, Role.FOLLOWED)
        if (log.node, log.list_name) == (follow.peer_name, follow.list_name)
        and log.state in {LogState.ACTIVE, LogState.STALE}
        and log.counts_until is None
    ]
    return sorted(copies, key=lambda log: log.log_id)


def _is_same_way(latest: Follow, follow: Follow) -> bool:
    return (latest.follow_id, latest.via) == (follow.follow_id, follow.via)


def _latest(conn: Connection, follow: Follow) -> Follow | None:
    return peer_store.find_follow(conn, follow.peer_id, follow.list_name)

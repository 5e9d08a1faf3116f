"""Receiving uploads: a peer that cannot be dialled brings what we would have pulled.

The order of things is that of a pull, and it is as safe to stop anywhere: the peer
announced a checkpoint, which our witness verified and remembers; each package is
verified against it before anything of it is stored; what is stored is applied in the
same transaction, by the code that pulls use too. Bodies come later and by themselves:
until then a record is withheld, and matches nothing.

Source: C2SP tlog-mirror; SPEC.md#uploads.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import structlog

from hashlight_node.exchange.errors import (
    FollowQuarantinedError,
    NoRoomError,
    PeerQuarantinedError,
    UnknownFollowError,
    UnknownLogError,
)
from hashlight_node.exchange.following.copying import Batch, Copy
from hashlight_node.exchange.following.ended_logs import settle_ended
from hashlight_node.exchange.following.first_copy import find_or_begin
from hashlight_node.exchange.following.own_bodies import OwnBodies
from hashlight_node.exchange.following.sources import Source, stop_list
from hashlight_node.exchange.following.transfer import open_package
from hashlight_node.exchange.following.turns import unbroken
from hashlight_node.exchange.logs.append import stored_frontier
from hashlight_node.exchange.logs.cosigning import lines_of
from hashlight_node.exchange.logs.forks import refuse_forked
from hashlight_node.model import FollowState, PeerState
from hashlight_node.peers.errors import (
    PeerMisbehavedError,
    PeerRefusedError,
)
from hashlight_node.store import deliveries, logs, records
from hashlight_node.store import peers as peer_store
from hashlight_protocol import (
    MAX_UPLOAD_PACKAGES,
    TILE_WIDTH,
    AddEntriesReader,
    KnownHead,
    MalformedError,
    MirrorInfo,
    TooLargeError,
    UnknownKeyError,
    check_bodies,
    check_package,
    find_conflict,
    frontier_from_tiles,
    open_checkpoint,
    parse_body_bundle,
    parse_entry_bundle,
    parse_origin,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from hashlight_node.exchange.following.copying import FollowParts, Tally
    from hashlight_node.exchange.following.list_notes import KnownNote
    from hashlight_node.model import Follow, Log, Peer, SignalChange
    from hashlight_node.store.database import Connection
    from hashlight_protocol import (
        AddEntries,
        BodyBundleId,
        EntryPackage,
        Frontier,
        LogName,
        SignedCheckpoint,
        VerifierKey,
    )

_HASH_BYTES: Final = 32

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Mirrored:
    """Everything below the upload's end is stored and applied.

    Attributes:
        lines: Our mirror cosignature.
    """

    lines: bytes


@dataclass(frozen=True, slots=True)
class Missing:
    """Something was stored, and more is to come."""

    info: MirrorInfo


@dataclass(frozen=True, slots=True)
class Unfit:
    """The upload does not fit what we have."""

    info: MirrorInfo


EntriesAnswer = Mirrored | Missing | Unfit


@dataclass(frozen=True, slots=True)
class _Target:
    """What an upload may lead up to.

    Attributes:
        follow: Why we copy the list.
        log: Our copy.
        note: The list note by which it counts.
        pending: The newest checkpoint that our witness saw; None if it saw none, or
            its key counts no more.
    """

    follow: Follow
    log: Log
    note: KnownNote
    pending: SignedCheckpoint | None

    @property
    def sizes(self) -> set[int]:
        """Sizes of the checkpoints that we know."""
        sizes = set() if self.pending is None else {self.pending.head.tree_size}
        return (
            sizes
            if self.log.checkpoint is None
            else {
                *sizes,
                self.log.checkpoint_size,
            }
        )


class Receiver:
    """Takes what the owners of logs upload, for lists that this node follows."""

    def __init__(
        self, parts: FollowParts, *, on_received: Callable[[str, str, Tally], None]
    ) -> None:
        """Share the collaborators of pulls.

        Args:
            parts: Collaborators.
            on_received: Told (peer name, list name, what came) after each request
                that brought entries.
        """
        self._parts = parts
        self._on_received = on_received

    async def add_entries(
        self, peer: Peer, pieces: AsyncIterator[bytes]
    ) -> EntriesAnswer:
        """Store and apply the entries of an upload, package by package.

        Args:
            peer: The authenticated sender.
            pieces: The decoded content. Not read further than to the last package
                that one request may have, or to the first mistake.

        Raises:
            UnknownLogError: The log is not the sender's, or not of a list that we
                follow.
            ProtocolError: A package does not verify, or an entry is one that we must
                not apply. What came before it is stored.
            ScrubError: What was erased could not be removed from the files yet.
            PeerError: The keys of the log are needed and cannot be had.
        """
        reader = AddEntriesReader()
        head = await _read_head(reader, pieces)
        name = parse_origin(head.origin)
        if name.node != peer.name:
            raise UnknownLogError
        async with self._parts.turns.of(peer.name, name.list_name):
            try:
                return await self._receive(peer, name, head, _Packages(reader, pieces))
            except (
                PeerQuarantinedError,
                FollowQuarantinedError,
                UnknownFollowError,
                PeerRefusedError,
            ):
                raise UnknownLogError from None
            except PeerMisbehavedError as error:
                await self._quarantine(peer, name.list_name, error)
                raise error.cause from error

    async def add_bodies(
        self, peer: Peer, origin_hash: str, bundle: BodyBundleId, raw: bytes
    ) -> MirrorInfo | None:
        """Give bodies to entries that are here; lookups find them from then on.

        Args:
            peer: The authenticated sender.
            origin_hash: Name of the log in the path.
            bundle: Which bodies.
            raw: The bundle, decoded.

        Returns:
            None if they are stored, or what to send first.

        Raises:
            UnknownLogError: As for `add_entries`.
            NoRoomError: The disk is nearly full.
            ProtocolError: They are not the bodies of these entries. None is stored.
        """
        log = await self._parts.database.read(
            lambda conn: _copied_log(conn, peer, origin_hash)
        )
        first_index = bundle.index * TILE_WIDTH
        if first_index + bundle.width > log.tree_size:
            return await self._parts.database.read(lambda conn: _info(conn, log))
        entries = await self._parts.database.read(
            lambda conn: _entries(conn, log, bundle)
        )
        if not self._parts.has_room():
            # Entries are taken all the same: a withdrawal may be among them.
            raise NoRoomError
        bodies = await asyncio.to_thread(parse_body_bundle, raw, bundle.width)
        list_id = parse_origin(log.origin).list_id
        await asyncio.to_thread(check_bodies, list_id, entries, bodies, first_index)

        def write(conn: Connection) -> list[SignalChange]:
            _copied_log(conn, peer, origin_hash)
            given = dict(enumerate(bodies, first_index))
            return records.fill_bodies(conn, log, given, now=self._parts.clock())

        matcher = self._parts.matcher
        await unbroken(
            self._parts.database.write(
                write, after_commit=matcher.apply, then=matcher.tidy
            )
        )
        return None

    async def _receive(
        self, peer: Peer, name: LogName, head: AddEntries, packages: _Packages
    ) -> EntriesAnswer:
        target = await self._open(peer, name)
        log = target.log
        conflict = find_conflict(
            head,
            pending_sizes=target.sizes,
            mirror_size=log.checkpoint_size,
            next_entry=log.tree_size,
        )
        if conflict is not None:
            # The answer reaches a sender only that is not writing any more.
            with suppress(TooLargeError):
                await packages.drain()
            size = max(conflict.tree_size, conflict.next_entry)
            return Unfit(MirrorInfo(size, conflict.next_entry))
        source = Source(peer, peer)
        if target.pending is not None:
            self._parts.quorum.require(target.pending, peer.name)
        copy = Copy(self._parts, source=source, follow=target.follow, log=log)
        copy.note = target.note
        frontier, aim = await self._parts.database.read(
            lambda conn: (stored_frontier(conn, log), _aim(conn, target, head))
        )
        try:
            async for package in packages:
                frontier = await self._store(copy, frontier, package, aim)
        finally:
            self._on_received(peer.name, name.list_name, copy.tally)
        if not packages.is_complete:
            if not packages.count:
                raise MalformedError("add-entries", "it ends within its first package")
            return Missing(MirrorInfo(aim.tree_size, copy.log.tree_size))
        await packages.drain()
        return await self._acknowledge(peer, copy, frontier, target, aim)

    async def _store(
        self, copy: Copy, frontier: Frontier, package: EntryPackage, aim: KnownHead
    ) -> Frontier:
        log = copy.log
        before = await self._parts.database.read(
            lambda conn: _hashes_before(conn, log, package.first_index)
        )
        hashes = await asyncio.to_thread(
            check_package,
            package,
            before=before,
            tree_size=aim.tree_size,
            root_hash=aim.root_hash,
        )
        skip = max(0, log.tree_size - package.first_index)
        bundle = open_package(
            parse_origin(log.origin).node,
            log.origin,
            package.entries[skip:],
            hashes[len(before) + skip :],
            package.first_index + skip,
        )
        bodies = await OwnBodies(self._parts.database, log).known(bundle)
        batch = Batch(bundle.first_index)
        batch.add(replace(bundle, bodies=bodies))
        if bundle.unsupported is not None:
            await unbroken(copy.stop_before(frontier, batch, bundle.unsupported))
            raise bundle.unsupported
        if not batch.raw:
            return frontier
        return await unbroken(copy.store(frontier, batch))

    async def _acknowledge(
        self,
        peer: Peer,
        copy: Copy,
        frontier: Frontier,
        target: _Target,
        aim: KnownHead,
    ) -> Mirrored:
        pending = target.pending
        # A lost answer is given again, but is no sign that nothing newer is known.
        if pending is not None and pending.head.tree_size == aim.tree_size:
            if aim.tree_size == copy.log.checkpoint_size:
                await unbroken(copy.confirm(pending))
            else:
                batch = Batch(copy.log.tree_size)
                await unbroken(copy.finish(frontier, batch, pending))
        _log.info(
            "upload is complete",
            peer=peer.name,
            list=target.follow.list_name,
            old_size=copy.tally.old_size,
            new_size=copy.tally.new_size,
        )
        return Mirrored(
            lines_of(
                copy.log.mirror_checkpoint or b"",
                self._parts.mirror,
                now=self._parts.clock(),
            )
        )

    async def _open(self, peer: Peer, name: LogName) -> _Target:
        """Find what we know of a log; an empty copy of it if there is none yet."""
        follow = await self._parts.database.read(
            lambda conn: _followed(conn, peer, name)
        )
        note = await self._parts.list_notes.current(peer, name.list_name)
        info = note.log(name.origin)
        if info is None or info.state == "abandoned":
            raise UnknownLogError

        await settle_ended(self._parts, Source(peer, peer), follow, note)
        log = await find_or_begin(
            self._parts.database,
            name.origin,
            note,
            clock=self._parts.clock,
            check=lambda conn: _followed(conn, peer, name),
        )
        find = self._parts.database.read
        seen = await find(lambda conn: deliveries.read_witnessed(conn, name.origin))
        return _Target(follow, log, note, _pending(seen, name.origin, info.vkeys))

    async def _quarantine(
        self, peer: Peer, list_name: str, error: PeerMisbehavedError
    ) -> None:
        now = self._parts.clock()
        await self._parts.database.write(
            lambda conn: stop_list(conn, peer, list_name, error, now=now)
        )


class _Packages:
    """The packages of one request, as they come; no more than one request may have.

    Attributes:
        count: How many there were.
    """

    def __init__(self, reader: AddEntriesReader, pieces: AsyncIterator[bytes]) -> None:
        self._reader = reader
        self._pieces = pieces
        self.count = 0

    @property
    def is_complete(self) -> bool:
        """Whether the upload reached its end."""
        return self._reader.is_complete

    def __aiter__(self) -> _Packages:
        return self

    async def __anext__(self) -> EntryPackage:
        if self.count == MAX_UPLOAD_PACKAGES:
            raise StopAsyncIteration
        while (package := self._reader.read_package()) is None:
            if self._reader.is_complete:
                raise StopAsyncIteration
            piece = await anext(self._pieces, None)
            if piece is None:
                raise StopAsyncIteration
            self._reader.feed(piece)
        self.count += 1
        return package

    async def drain(self) -> None:
        """Read to the end, which must be here if the upload is complete.

        Raises:
            MalformedError: The upload is complete, and something follows.
        """
        if self.is_complete:
            self._reader.read_package()
        async for piece in self._pieces:
            if self.is_complete:
                self._reader.feed(piece)
                self._reader.read_package()


async def _read_head(
    reader: AddEntriesReader, pieces: AsyncIterator[bytes]
) -> AddEntries:
    while (head := reader.read_head()) is None:
        piece = await anext(pieces, None)
        if piece is None:
            raise MalformedError("add-entries", "it ends within its head")
        reader.feed(piece)
    return head


def _followed(conn: Connection, peer: Peer, name: LogName) -> Follow:
    refuse_forked(conn, name.origin)
    latest = peer_store.find_peer(conn, peer.name)
    if latest is None or latest.state is not PeerState.ACTIVE:
        raise UnknownLogError
    follow = peer_store.find_follow(conn, peer.peer_id, name.list_name)
    if follow is None or follow.state is FollowState.QUARANTINED:
        raise UnknownLogError
    return follow


def _copied_log(conn: Connection, peer: Peer, origin_hash: str) -> Log:
    origin = deliveries.find_by_origin_hash(conn, origin_hash)
    if origin is None or parse_origin(origin).node != peer.name:
        raise UnknownLogError
    _followed(conn, peer, parse_origin(origin))
    log = logs.find_log(conn, origin)
    if log is None:
        raise UnknownLogError
    return log


def _info(conn: Connection, log: Log) -> MirrorInfo:
    head = deliveries.known_head(conn, log.origin)
    known_size = 0 if head is None else head.tree_size
    return MirrorInfo(max(known_size, log.tree_size), log.tree_size)


def _pending(
    note: bytes | None, origin: str, keys: tuple[VerifierKey, ...]
) -> SignedCheckpoint | None:
    """Read the checkpoint that our witness saw, if its log's key still counts."""
    if note is None:
        return None
    try:
        return open_checkpoint(note, keys, origin=origin)
    except UnknownKeyError:
        return None


def _aim(conn: Connection, target: _Target, head: AddEntries) -> KnownHead:
    """Say which root the packages must lead to."""
    pending = target.pending
    if pending is not None and pending.head.tree_size == head.upload_end:
        return pending.head
    tiles = logs.tile_fetcher(conn, target.log.log_id)
    root_hash = frontier_from_tiles(tiles, head.upload_end).root
    return KnownHead(head.upload_end, root_hash)


def _hashes_before(conn: Connection, log: Log, first_index: int) -> list[bytes]:
    index, width = divmod(first_index, TILE_WIDTH)
    if not width:
        return []
    tile = logs.read_tile(conn, log.log_id, 0, index) or b""
    return [
        tile[start : start + _HASH_BYTES]
        for start in range(0, width * _HASH_BYTES, _HASH_BYTES)
    ]


def _entries(conn: Connection, log: Log, bundle: BodyBundleId) -> tuple[bytes, ...]:
    raw = logs.read_entry_bundle(conn, log.log_id, bundle.index, bundle.width)
    return parse_entry_bundle(raw or b"", bundle.width)

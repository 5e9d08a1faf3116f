"""List notes of peers: which logs a list has, and whose keys count for them.

A key of a log counts because the peer's pinned identity key says so, in a list note
whose version never goes back. Notes are fetched when there is none yet, when a key is
not in the one we have, and again after an hour, so that a new key or a new log is
noticed long before the old ones stop.

A note may be as large as a limit allows, and its peer may want to keep us busy with it:
notes are read in a thread, one of a peer at a time, and each is fetched for want of a
key once a minute only.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from hashlight_node.peers.errors import PeerRefusedError, blaming
from hashlight_node.store import logs
from hashlight_protocol import (
    MalformedError,
    StaleVersionError,
    list_id,
    open_list_note,
    parse_vkey,
    verify_successor,
)

from .sources import find_source

if TYPE_CHECKING:
    from hashlight_node.model import Clock, Log, Peer
    from hashlight_node.peers.client import PeerClient
    from hashlight_node.store.database import Connection, Database
    from hashlight_protocol import ListNote, LogInfo

    from .sources import Source

_FRESH_SECONDS: Final = 3600
_REFRESH_SECONDS: Final = 60
_NOT_FOUND: Final = 404

_MOST_KEPT: Final = 256
_MOST_KEPT_BYTES: Final = 1 << 20
# Of one peer, which could otherwise fill our memory with lists. A note of one log is
# below 1 kB; what we parsed takes several times as much.


@dataclass(frozen=True, slots=True)
class KnownNote:
    """A list note that was verified.

    Attributes:
        note: The parsed view.
        raw: The bytes that the identity key signed.
        fetched_at: When the peer said so last, Unix seconds; 0 if by another run.
        refreshed_at: When `refresh` last asked; 0 if it never did.
    """

    note: ListNote
    raw: bytes
    fetched_at: int
    refreshed_at: int = 0

    def log(self, origin: str) -> LogInfo | None:
        """Find one log of the list."""
        return next((log for log in self.note.logs if log.origin == origin), None)

    @property
    def newest(self) -> LogInfo:
        """The log of the last epoch, the one to follow."""
        return self.note.logs[-1]


class ListNotes:
    """Fetches, verifies and remembers the list notes of peers.

    Args:
        database: Holds the notes of followed lists between runs.
        client: Fetches them.
        clock: Unix seconds.
    """

    def __init__(self, *, database: Database, client: PeerClient, clock: Clock) -> None:
        self._database = database
        self._client = client
        self._clock = clock
        self._known: dict[str, dict[str, KnownNote]] = defaultdict(dict)
        self._reading: dict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def current(self, peer: Peer, list_name: str) -> KnownNote:
        """Give the list note, fetched if ours is older than an hour.

        Raises:
            PeerError: It is needed and cannot be had, or is not one.
        """
        known = await self._recall(peer, list_name)
        if not await self._can_ask(peer, list_name):
            return _received(peer, known)
        if known is None or self._clock() - known.fetched_at >= _FRESH_SECONDS:
            refreshed_at = 0 if known is None else known.refreshed_at
            return await self._fetch(peer, list_name, known, refreshed_at)
        return known

    async def recall(self, peer: Peer, list_name: str) -> KnownNote | None:
        """Give the list note that we have, however old it is; asks nobody."""
        return await self._recall(peer, list_name)

    async def refresh(self, peer: Peer, list_name: str) -> KnownNote:
        """Fetch the list note, unless this was done within the last minute.

        Raises:
            PeerUnavailableError: The peer does not answer.
            PeerRefusedError: It has no such list for us.
            PeerMisbehavedError: What it sends is not a note about this list, or goes
                back behind the one we have.
        """
        known = await self._recall(peer, list_name)
        if not await self._can_ask(peer, list_name):
            return _received(peer, known)
        now = self._clock()
        if known is not None and now - known.refreshed_at < _REFRESH_SECONDS:
            return known
        return await self._fetch(peer, list_name, known, now)

    async def accept(self, peer: Peer, note: ListNote, raw: bytes) -> None:
        """Take a list note that a peer sent by itself.

        Args:
            peer: Who sent it.
            note: The parsed view, signed by the peer's identity key.
            raw: Its bytes.

        Raises:
            StaleVersionError: It is older than the one we have. That is no fault: a
                request can be replayed.
            PeerMisbehavedError: It contradicts the one we have.
        """
        known = await self._recall(peer, note.list_name)
        if known is not None:
            if note.version < known.note.version:
                raise StaleVersionError("list note", known.note.version, note.version)
            what = f"list note of {note.list_name}"
            with blaming(peer.name, what, known.raw + b"\n" + raw):
                verify_successor(known.note, note)
        fresh = KnownNote(note, raw, self._clock())
        await self._save(peer, note.list_name, fresh)
        self._remember(peer, note.list_name, fresh)

    async def _can_ask(self, peer: Peer, list_name: str) -> bool:
        """Tell whether somebody brings the note when asked, the peer or a relay."""
        if peer.is_dialable:
            return True
        source = await self._database.read(
            lambda conn: find_source(conn, peer, list_name)
        )
        return source.is_relayed

    async def _fetch(
        self, peer: Peer, list_name: str, known: KnownNote | None, refreshed_at: int
    ) -> KnownNote:
        source = await self._database.read(
            lambda conn: find_source(conn, peer, list_name)
        )
        raw = await self._fetch_from(source, list_name)
        async with self._reading[peer.name]:
            latest = self._known[peer.name].get(list_name)
            if latest is not None and latest.raw == raw:
                note = latest.note  # The same bytes are right again.
            else:
                note = await asyncio.to_thread(_open, source, list_name, raw, known)
        if known is not None and note.version < known.note.version:
            # A relay that is behind; who could be the owner was caught by now.
            note, raw = known.note, known.raw
        fresh = KnownNote(note, raw, self._clock(), refreshed_at)
        if known is None or known.note.version < note.version:
            await self._save(peer, list_name, fresh)
        return self._remember(peer, list_name, fresh)

    async def _fetch_from(self, source: Source, list_name: str) -> bytes:
        if not source.is_relayed:
            return await self._client.fetch_list_note(source.asked, list_name)
        return await self._client.fetch_relayed(
            source.asked, source.owner.name, list_name, "list-note"
        )

    async def _recall(self, peer: Peer, list_name: str) -> KnownNote | None:
        known = self._known[peer.name].get(list_name)
        if known is not None:
            return known

        def find(conn: Connection) -> Log | None:
            return logs.find_followed_log(conn, peer.name, list_name)

        log = await self._database.read(find)
        if log is None or log.list_note is None:
            return None
        identity = parse_vkey(peer.identity_vkey)
        async with self._reading[peer.name]:
            note = await asyncio.to_thread(open_list_note, log.list_note, identity)
        stored = KnownNote(note, log.list_note, fetched_at=0)
        return self._remember(peer, list_name, stored)

    def _remember(self, peer: Peer, list_name: str, fresh: KnownNote) -> KnownNote:
        kept = self._known[peer.name]
        latest = kept.get(list_name)
        if latest is not None and (
            (latest.note.version, latest.fetched_at)
            > (fresh.note.version, fresh.fetched_at)
        ):
            # Two of us asked, and the peer published a version in between.
            return latest
        kept.pop(list_name, None)
        kept[list_name] = fresh
        total_bytes = sum(len(one.raw) for one in kept.values())
        while len(kept) > _MOST_KEPT or total_bytes > _MOST_KEPT_BYTES:
            oldest = kept.pop(next(iter(kept)))
            total_bytes -= len(oldest.raw)
        return fresh

    async def _save(self, peer: Peer, list_name: str, fresh: KnownNote) -> None:
        def save(conn: Connection) -> None:
            log = logs.find_followed_log(conn, peer.name, list_name)
            if log is not None and log.list_note_version < fresh.note.version:
                logs.set_list_note(conn, log.log_id, fresh.raw, fresh.note.version)

        await self._database.write(save)


def _received(peer: Peer, known: KnownNote | None) -> KnownNote:
    if known is None:
        # As if it had been asked: there is no such list until it says so.
        raise PeerRefusedError(peer.name, _NOT_FOUND, "unknown-log")
    return known


def _open(
    source: Source, list_name: str, raw: bytes, known: KnownNote | None
) -> ListNote:
    """Read a note and compare it with the one we have; takes a second at worst."""
    peer = source.owner
    what = f"list note of {list_name}"
    with blaming(source.asked.name, what, raw):
        note = open_list_note(raw, parse_vkey(peer.identity_vkey))
        if note.id != list_id(peer.name, list_name):
            raise MalformedError("list note", "it is about another list")
    is_old = known is not None and note.version < known.note.version
    if known is not None and not (source.is_relayed and is_old):
        # Either document alone is harmless; only both together show the lie.
        with blaming(peer.name, what, known.raw + b"\n" + raw):
            verify_successor(known.note, note)
    return note

"""Our copy of a followed log: what one transaction writes, and what it means.

A transaction holds a batch of verified entries and everything that they say, so lookups
never see half of it. The last one also makes the checkpoint ours and signs it with our
mirror key: the statement that everything up to there is stored and applied.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from hashlight_node.exchange.errors import (
    FollowQuarantinedError,
    PeerQuarantinedError,
    UnknownFollowError,
)
from hashlight_node.exchange.logs.cosigning import bare_note, is_sealed_by
from hashlight_node.exchange.logs.erasures import ErasureClaims
from hashlight_node.exchange.logs.quorum import Quorum
from hashlight_node.exchange.logs.scrubbing import scrub
from hashlight_node.model import FollowState, LogState, PeerState
from hashlight_node.store import logs, records
from hashlight_node.store import peers as peer_store
from hashlight_protocol import BadProofError, Erase, RecordEntry, Retract

from .copies import Copies
from .digesters import Digesters
from .freshness import DEFAULT_FRESHNESS
from .sealing import seal_copy
from .succession import destroy_unseen, succeed, takes_over
from .turns import Turns

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from hashlight_node.exchange.logs.applied import FollowsCommits
    from hashlight_node.exchange.notices import Notices
    from hashlight_node.exchange.room import Room
    from hashlight_node.model import Clock, Follow, Log, SignalChange
    from hashlight_node.peers.client import PeerClient
    from hashlight_node.store.database import Connection, Database
    from hashlight_node.store.meanings import Meaning
    from hashlight_protocol import (
        Body,
        Entry,
        Frontier,
        SignedCheckpoint,
        Signer,
        UnsupportedEntryError,
    )

    from .freshness import FreshnessRules
    from .list_notes import KnownNote, ListNotes
    from .sealing import Seal
    from .sources import Source
    from .transfer import VerifiedBundle

_BATCH_ENTRIES: Final = 5_120
"""Entries per transaction: 20 bundles; larger ones are no faster."""

_BATCH_BYTES: Final = 8 * 1024 * 1024
"""Bytes of bodies per transaction; bounds memory when bodies are large."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FollowParts:
    """What following needs.

    Attributes:
        database: The store.
        client: Asks the peer.
        list_notes: Knows whose keys count for a log.
        matcher: Learns what became live or dead, right after each commit.
        witness: Our witness key: we saw this checkpoint.
        mirror: Our mirror key: we stored and applied everything up to it.
        clock: Unix seconds.
        notices: Wakes whoever waits for our acknowledgement.
        turns: Keeps pulls and uploads of one list apart.
        digesters: Other processes, for long copies.
        copies: Tell operators how far each copy is.
        quorum: Who must have seen a checkpoint before it is used.
        freshness: How long a copy matches that nobody confirms.
        room: Whether there is room for new content; there always is if None.
    """

    database: Database
    client: PeerClient
    list_notes: ListNotes
    matcher: FollowsCommits
    witness: Signer
    mirror: Signer
    clock: Clock
    notices: Notices
    turns: Turns = field(default_factory=Turns)
    digesters: Digesters = field(default_factory=Digesters)
    copies: Copies = field(default_factory=Copies)
    quorum: Quorum = field(default_factory=Quorum)
    freshness: FreshnessRules = DEFAULT_FRESHNESS
    room: Room | None = None

    def has_room(self) -> bool:
        """Tell whether bodies may be stored; entries always are."""
        return self.room is None or self.room.has_room()


@dataclass(slots=True)
class Tally:
    """What a pull brought.

    Attributes:
        old_size: Entries we had.
        new_size: Entries we have.
        records: RECORD entries among the new ones.
        retractions: RETRACT entries.
        erasures: ERASE entries.
    """

    old_size: int
    new_size: int
    records: int = 0
    retractions: int = 0
    erasures: int = 0

    def count(self, entries: Sequence[Entry]) -> None:
        """Add entries that were applied."""
        self.new_size += len(entries)
        self.records += sum(isinstance(entry, RecordEntry) for entry in entries)
        self.retractions += sum(isinstance(entry, Retract) for entry in entries)
        self.erasures += sum(isinstance(entry, Erase) for entry in entries)


@dataclass(slots=True)
class Batch:
    """Verified bundles that will be stored in one transaction.

    Attributes:
        first_index: Leaf index of the first entry.
        raw: The entries as they are hashed.
        leaf_hashes: `leaf_hash` of each.
        entries: What they say.
        bodies: One for each.
        meanings: What each body means, as far as somebody has looked.
        body_bytes: Length of all bodies.
    """

    first_index: int
    raw: list[bytes] = field(default_factory=list)
    leaf_hashes: list[bytes] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)
    bodies: list[Body] = field(default_factory=list)
    meanings: list[Meaning | None] = field(default_factory=list)
    body_bytes: int = 0

    def add(self, bundle: VerifiedBundle) -> None:
        """Append a bundle; it follows the last one."""
        self.raw.extend(bundle.raw)
        self.leaf_hashes.extend(bundle.leaf_hashes)
        self.entries.extend(bundle.entries)
        self.bodies.extend(bundle.bodies)
        self.meanings.extend(bundle.meanings or (None,) * len(bundle.bodies))
        self.body_bytes += sum(len(body.body) for body in bundle.bodies)

    @property
    def is_full(self) -> bool:
        """Whether it is time for a transaction."""
        return len(self.raw) >= _BATCH_ENTRIES or self.body_bytes >= _BATCH_BYTES

    @property
    def erases(self) -> bool:
        """Whether content has to be destroyed."""
        return any(isinstance(entry, Erase) for entry in self.entries)


@dataclass(frozen=True, slots=True)
class _Stored:
    """What a transaction left: the log, the right edge of its tree, signal changes."""

    log: Log
    frontier: Frontier
    changes: tuple[SignalChange, ...]


class Copy:
    """Our copy of one followed log, during one pull.

    Args:
        parts: Collaborators.
        source: Whose log it is, and who is asked for it.
        follow: Why we copy it.
        log: The copy as it is now.

    Attributes:
        log: The copy as the last transaction left it.
        tally: What this pull brought.
        claims: Bodies that the peer says are erased.
        note: The list note that this pull goes by.
    """

    def __init__(
        self, parts: FollowParts, *, source: Source, follow: Follow, log: Log
    ) -> None:
        self._parts = parts
        self._source = source
        self._peer = source.owner
        self._follow = follow
        self.log = log
        self.tally = Tally(log.tree_size, log.tree_size)
        self.claims = ErasureClaims()
        self.note: KnownNote | None = None
        # Batches of an earlier pull that was cut short may have erased something, and
        # may have been cut short before their scrub.
        self._unscrubbed = log.tree_size > log.checkpoint_size

    async def store(self, frontier: Frontier, batch: Batch) -> Frontier:
        """Store and apply a batch.

        Args:
            frontier: Right edge of the copy's tree.
            batch: What follows.

        Returns:
            Right edge of the larger tree.

        Raises:
            ExchangeError: The operator, or evidence, ended this meanwhile. Nothing of
                the batch is stored.
            ScrubError: The batch is stored, but what it erased could not be removed
                from the files yet.
        """
        stored = await self._commit(
            lambda conn: self._apply(conn, frontier, batch), batch
        )
        return stored.frontier

    async def finish(
        self, frontier: Frontier, batch: Batch, signed: SignedCheckpoint
    ) -> None:
        """Store and apply the last batch, and acknowledge the checkpoint.

        Raises:
            ExchangeError: As for `store`.
            ScrubError: As for `store`; nothing is acknowledged.
        """
        if batch.erases:
            # Our mirror cosignature says that what was erased is gone. So it is not
            # given before the scrub that makes this true has run.
            frontier = await self.store(frontier, batch)
            batch = Batch(self.log.tree_size)
        elif self._unscrubbed:
            await scrub(self._parts.database)
        if takes_over(self.log):
            # For the same reason.
            frontier = await self.store(frontier, batch)
            batch = Batch(self.log.tree_size)
            await self._destroy_unseen()

        def write(conn: Connection) -> _Stored:
            stored = self._apply(conn, frontier, batch)
            return self._acknowledge(conn, stored, signed)

        await self._commit(write, batch)
        self._parts.notices.advanced(self.log.origin)

    async def _destroy_unseen(self) -> None:
        def write(conn: Connection) -> tuple[SignalChange, ...]:
            self._check_wanted(conn)
            now = self._parts.clock()
            return tuple(destroy_unseen(conn, self.log, self.note, now=now))

        await self._parts.database.write(
            write,
            after_commit=self._parts.matcher.apply,
            then=self._parts.matcher.tidy,
        )
        await scrub(self._parts.database)

    async def stop_before(
        self, frontier: Frontier, batch: Batch, reason: UnsupportedEntryError
    ) -> None:
        """Store what comes before an entry that we do not understand, and say so.

        The checkpoint is not acknowledged. Every further pull verifies the log as far
        as it goes and stops here again, until a newer version of us knows more.
        """

        def write(conn: Connection) -> _Stored:
            stored = self._apply(conn, frontier, batch)
            self._set_synced(conn, str(reason))
            return stored

        await self._commit(write, batch)

    async def fill(self, bodies: Mapping[int, Body]) -> None:
        """Give bodies to records that were withheld until now.

        Args:
            bodies: By leaf index, verified; see `records.fill_bodies`.

        Raises:
            ExchangeError: The operator, or evidence, ended this meanwhile. Nothing of
                it is stored.
        """

        def write(conn: Connection) -> tuple[SignalChange, ...]:
            self._check_wanted(conn)
            now = self._parts.clock()
            return tuple(records.fill_bodies(conn, self.log, bodies, now=now))

        await self._parts.database.write(
            write,
            after_commit=self._parts.matcher.apply,
            then=self._parts.matcher.tidy,
        )

    async def confirm(self, signed: SignedCheckpoint) -> None:
        """Write down that what we have was still the newest a moment ago.

        Args:
            signed: The checkpoint that we have, as it came now: keys may be new.
        """
        now, known = self._parts.clock(), self.log.mirror_checkpoint
        mirror = self._parts.mirror
        seal = self._seal(signed, now)
        is_new = seal.is_newer_than(known) or (
            known is not None and not is_sealed_by(known, signed, mirror)
        )
        mirrored = seal.mirrored if is_new else known

        def write(conn: Connection) -> None:
            self._check_wanted(conn)
            is_stale = self.log.state is LogState.STALE
            if is_new or is_stale or not self._source.is_relayed:
                log = logs.set_checkpoint(
                    conn,
                    self.log,
                    bare_note(signed),
                    self.log.checkpoint_size,
                    mirror_checkpoint=mirrored,
                    verified_at=now,
                )
                seal.save_freshness(conn, log, self.log.verified_at)
            self._set_synced(conn, self.log.error or seal.doubt)

        await self._parts.database.write(write)
        if is_new:
            self._parts.notices.advanced(self.log.origin)

    def _seal(self, signed: SignedCheckpoint, now: int) -> Seal:
        parts = self._parts
        return seal_copy(
            self._source, signed, parts.mirror, now=now, rules=parts.freshness
        )

    async def _commit(
        self, write: Callable[[Connection], _Stored], batch: Batch
    ) -> _Stored:
        stored = await self._parts.database.write(
            write,
            after_commit=lambda stored: self._parts.matcher.apply(stored.changes),
            then=lambda stored: self._parts.matcher.tidy(stored.changes),
        )
        self.log = stored.log
        self.tally.count(batch.entries)
        if batch.erases:
            await scrub(self._parts.database)
        return stored

    # ----------------------------------------------------- inside a write transaction

    def _apply(self, conn: Connection, frontier: Frontier, batch: Batch) -> _Stored:
        self._check_wanted(conn)
        if not batch.raw:
            return _Stored(self.log, frontier, ())
        grown = frontier.extend(batch.leaf_hashes)
        log = logs.append_verified(
            conn, self.log, batch.raw, batch.leaf_hashes, root_hash=grown.root
        )
        changes = records.apply_entries(
            conn,
            log,
            batch.first_index,
            batch.entries,
            batch.bodies,
            now=self._parts.clock(),
            meanings=batch.meanings,
        )
        return _Stored(log, grown, tuple(changes))

    def _check_wanted(self, conn: Connection) -> None:
        """Stop if the operator, or evidence, ended this since the last batch."""
        peer = peer_store.find_peer(conn, self._peer.name)
        name = self._follow.list_name
        follow = peer_store.find_follow(conn, self._peer.peer_id, name)
        if peer is None or peer.state is not PeerState.ACTIVE:
            raise PeerQuarantinedError(self._peer.name)
        if follow is None:
            raise UnknownFollowError(self._peer.name, name)
        if follow.state is FollowState.QUARANTINED:
            raise FollowQuarantinedError(self._peer.name, name)

    def _acknowledge(
        self, conn: Connection, stored: _Stored, signed: SignedCheckpoint
    ) -> _Stored:
        if (stored.frontier.size, stored.frontier.root) != (
            signed.head.tree_size,
            signed.head.root_hash,
        ):
            # Every bundle was checked against this root, so the mistake is ours.
            message = f"the copy of {self.log.origin} is not what was verified"
            raise BadProofError(message)
        now = self._parts.clock()
        seal = self._seal(signed, now)
        log = logs.set_checkpoint(
            conn,
            stored.log,
            bare_note(signed),
            signed.head.tree_size,
            mirror_checkpoint=seal.mirrored,
            verified_at=now,
        )
        log = seal.save_freshness(conn, log, self.log.verified_at)
        alarm = self._alarm()
        if alarm != self.log.error:
            logs.set_log_state(conn, self.log.log_id, log.state, alarm)
        self._set_synced(conn, alarm or seal.doubt)
        done = succeed(conn, log, self.note, now=now)
        return _Stored(log, stored.frontier, (*stored.changes, *done))

    def _alarm(self) -> str | None:
        count, first = self.claims.unproven()
        if first is None:
            # An alarm of an earlier pull stays until an operator has looked at it.
            return self.log.error
        return (
            f"{count} bodies, the first at leaf {first}, are said to be erased, "
            "but no ERASE covers them; they are treated as withheld"
        )

    def _set_synced(self, conn: Connection, error: str | None) -> None:
        now = self._parts.clock()
        peer_store.set_follow(
            conn,
            self._follow.follow_id,
            state=FollowState.ACTIVE,
            synced_at=now,
            error=error,
        )
        peer_store.touch_peer(conn, self._source.asked.peer_id, now)

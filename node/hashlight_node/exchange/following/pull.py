"""One pull: bring our copy of a peer's log up to its newest checkpoint.

The order of things is what makes it safe to stop anywhere:

1. what we know of the log is read *before* the peer is asked, so that news which
   arrives meanwhile never makes an honest answer look like a step back;
2. tiles prove that the new checkpoint extends our own tree and everything we ever
   cosigned of the log, and what each bundle must hash to;
3. the new checkpoint is remembered before its content is fetched, unless a larger one
   was announced meanwhile: a peer that shows another one to the next attempt is caught;
4. bundles are verified, then stored and applied in batches, in index order;
5. with the last batch the checkpoint becomes ours, and we acknowledge it.

Source: SPEC.md#following.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing, suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from hashlight_node.exchange.logs.append import stored_frontier
from hashlight_node.exchange.logs.cosigning import cosigned_note
from hashlight_node.exchange.logs.forks import ForkFinder, refuse_forked
from hashlight_node.peers.errors import (
    PeerMisbehavedError,
    PeerUnavailableError,
    blaming,
)
from hashlight_node.store import deliveries
from hashlight_protocol import (
    Meta,
    ProtocolError,
    RollbackError,
    SplitViewError,
    UnknownKeyError,
    needed_tiles,
    open_checkpoint,
    plan_range,
    verify_meta,
)

from .budgets import PLAN_SECONDS
from .copying import Copy
from .own_bodies import OwnBodies
from .storing import Storing
from .transfer import fetch_bundles, fetch_tiles, verify_bundle

if TYPE_CHECKING:
    from collections.abc import Callable

    from hashlight_node.exchange.logs.erasures import ErasureClaims
    from hashlight_node.model import Follow, Log
    from hashlight_node.store.database import Connection
    from hashlight_protocol import (
        Frontier,
        KnownHead,
        SignedCheckpoint,
        VerifiedRange,
        VerifierKey,
    )

    from .budgets import Budget
    from .copies import Meter
    from .copying import Batch, FollowParts, Tally
    from .list_notes import KnownNote
    from .sources import Source
    from .transfer import RawBundle, VerifiedBundle

    Progress = Callable[[int, int], None]

_ATTEMPTS: Final = 5
"""How often a pull is planned again because a push came in between."""

_TILES_KEPT: Final = 128
"""Most tiles that evidence holds, 1 MiB: enough for eight million leaves."""


@dataclass(frozen=True, slots=True)
class _Known:
    """The newest checkpoint of the log that we had seen before asking."""

    head: KnownHead | None
    note: bytes


class Pull:
    """Brings one followed log up to date, once.

    Args:
        parts: Collaborators.
        source: Whose log it is, and who is asked for it.
        follow: Why we copy it.
        log: Our copy as it is now.
        progress: Told (entries we have, entries there are) after each batch.
        budget: When to stop although there is more; never, if there is none.

    Attributes:
        is_complete: Whether everything was copied up to the checkpoint that was newest
            when the pull began.
    """

    def __init__(
        self,
        parts: FollowParts,
        *,
        source: Source,
        follow: Follow,
        log: Log,
        progress: Progress | None = None,
        budget: Budget | None = None,
    ) -> None:
        self.is_complete = True
        self._budget = budget
        self._parts = parts
        self._source = source
        self._peer = source.owner
        self._asked = source.asked
        self._list_name = follow.list_name
        self._origin = log.origin
        self._copy = Copy(parts, source=source, follow=follow, log=log)
        self._progress = progress
        self._note: KnownNote | None = None

    @property
    def claims(self) -> ErasureClaims:
        """What the peer says is erased, and what it proved so far."""
        return self._copy.claims

    def go_on(self, claims: ErasureClaims) -> None:
        """Take over what an earlier pull, which was not complete, was told.

        A body may be said to be erased long before the ERASE comes that proves it. If
        each pull began anew, a peer could withhold bodies by dragging a copy out.
        """
        self._copy.claims = claims

    async def run(self, note: KnownNote) -> Tally:
        """Pull everything up to the newest checkpoint.

        Args:
            note: The list note, for the log's keys.

        Returns:
            What it brought.

        Raises:
            PeerUnavailableError: The peer stopped answering; batches stored before
                that stay, and the next pull goes on behind them.
            PeerRefusedError: The peer does not let us have the log.
            PeerMisbehavedError: Something that the peer sent breaks the rules. None of
                the batch that it belongs to is stored.
            QuorumNotMetError: Too few of those that the operator trusts have seen the
                newest checkpoint; nothing of it is used.
            ExchangeError: The operator ended the exchange in the meantime.
        """
        self._copy.note = self._note = note
        known = await self._parts.database.read(self._read_known)
        signed = await self._fetch_checkpoint(note)
        try:
            return await self._bring(known, signed)
        except PeerMisbehavedError as error:
            if await self._examine(note, known, signed) and self._source.is_relayed:
                # A relay shows what the owner signed: both histories are the owner's.
                raise self._forked(known, signed) from error
            raise

    async def _bring(self, known: _Known, signed: SignedCheckpoint) -> Tally:
        self._check_head(known, signed)
        if self._has_all_of(signed):
            await self._copy.confirm(signed)
            return self._copy.tally
        self._parts.quorum.require(signed, self._asked.name)
        frontier = await self._parts.database.read(self._read_frontier)
        for _ in range(_ATTEMPTS):
            span = await self._plan(frontier, known, signed)
            newer = await self._remember(known, signed)
            if newer is None:
                await self._transfer(frontier, span, signed)
                return self._copy.tally
            self._check_head(newer, signed)
            known = newer
        raise PeerUnavailableError(self._asked.name, "its log changes too quickly")

    async def _examine(
        self, note: KnownNote, known: _Known, signed: SignedCheckpoint
    ) -> bool:
        """Find out whether what breaks the rules shows a fork, and keep the proof."""
        parts = self._parts
        finder = ForkFinder(
            database=parts.database,
            client=parts.client,
            clock=parts.clock,
            notices=parts.notices,
        )
        keys = _keys(note, self._origin)
        with suppress(ProtocolError, PeerUnavailableError):
            ours = open_checkpoint(known.note, keys, origin=self._origin)
            return await finder.examine(
                self._peer, ours=ours, theirs=signed, asked=self._asked
            )
        return False

    def _forked(self, known: _Known, signed: SignedCheckpoint) -> PeerMisbehavedError:
        evidence = known.note + b"\n" + signed.note_bytes
        cause = SplitViewError(self._origin, signed.head.tree_size)
        what = f"checkpoint of {self._origin}"
        return PeerMisbehavedError(self._peer.name, what, cause, evidence)

    def _read_known(self, conn: Connection) -> _Known:
        refuse_forked(conn, self._origin)
        head = deliveries.known_head(conn, self._origin)
        return _Known(head, deliveries.read_witnessed(conn, self._origin) or b"")

    def _read_frontier(self, conn: Connection) -> Frontier:
        return stored_frontier(conn, self._copy.log)

    async def _fetch_checkpoint(self, note: KnownNote) -> SignedCheckpoint:
        origin = self._origin
        fetched = await self._parts.client.fetch_checkpoint(self._asked, origin)
        if fetched is None:  # Only possible with an ETag, and none was sent.
            raise PeerUnavailableError(self._asked.name, "it sent no checkpoint")
        raw = fetched.body
        with blaming(self._asked.name, f"checkpoint of {origin}", raw):
            try:
                return open_checkpoint(raw, _keys(note, origin), origin=origin)
            except UnknownKeyError:
                # Signed with a newer key, perhaps.
                fresh = await self._parts.list_notes.refresh(
                    self._peer, self._list_name
                )
                if fresh is note:
                    # It was read within the last minute, and keys may change in that.
                    raise PeerUnavailableError(
                        self._peer.name, "its list note was just read"
                    ) from None
                return open_checkpoint(raw, _keys(fresh, origin), origin=origin)

    def _check_head(self, known: _Known, signed: SignedCheckpoint) -> None:
        if known.head is None:
            return
        old, new = known.head, signed.head
        if self._source.is_relayed and new.tree_size < old.tree_size:
            # The owner did sign this, some time ago. Nothing tells a relay that is
            # behind from one that holds us back; both end with another relay.
            raise PeerUnavailableError(
                self._asked.name,
                f"its copy ends at {new.tree_size}, before {old.tree_size}",
            )
        evidence = known.note + b"\n" + signed.note_bytes
        with blaming(self._peer.name, f"checkpoint of {self._origin}", evidence):
            if new.tree_size < old.tree_size:
                raise RollbackError(self._origin, old.tree_size, new.tree_size)
            if new.tree_size == old.tree_size and new != old:
                raise SplitViewError(self._origin, new.tree_size)

    def _has_all_of(self, signed: SignedCheckpoint) -> bool:
        log = self._copy.log
        sizes = {log.tree_size, log.checkpoint_size, signed.head.tree_size}
        return log.checkpoint is not None and len(sizes) == 1

    async def _plan(
        self, frontier: Frontier, known: _Known, signed: SignedCheckpoint
    ) -> VerifiedRange:
        head = known.head
        # What we cosigned beyond our own copy must be part of this tree too.
        anchor = head if head is not None and head.tree_size > frontier.size else None
        what = f"tiles of {self._origin} for size {signed.head.tree_size}"
        with blaming(self._asked.name, what, signed.note_bytes):
            needed = needed_tiles(
                frontier.size,
                signed.head.tree_size,
                None if anchor is None else anchor.tree_size,
            )
        try:
            async with asyncio.timeout(PLAN_SECONDS):
                tiles = await fetch_tiles(
                    self._parts.client, self._asked, self._origin, needed
                )
        except TimeoutError:
            reason = "the hashes of its log come too slowly"
            raise PeerUnavailableError(self._asked.name, reason) from None
        # All of a large range would be a burden for whoever keeps it. The two notes
        # convict where the tiles are missing.
        kept = b"\n".join(tiles.values()) if len(tiles) <= _TILES_KEPT else b""
        evidence = b"\n".join((known.note, signed.note_bytes, kept))
        with blaming(self._asked.name, what, evidence):
            return await asyncio.to_thread(
                plan_range, frontier, signed.checkpoint, tiles, anchor=anchor
            )

    async def _remember(self, known: _Known, signed: SignedCheckpoint) -> _Known | None:
        """Write down what we are about to copy.

        Returns:
            None to go ahead; or what a push brought in between, which the checkpoint
            must be shown to extend first.
        """
        now = self._parts.clock()

        def write(conn: Connection) -> _Known | None:
            latest = self._read_known(conn)
            head = latest.head
            if head is not None:
                if head.tree_size > signed.head.tree_size or head == signed.head:
                    # The next pull holds the larger one against what this one copies.
                    # To start again instead would copy nothing of a log that grows
                    # steadily.
                    return None
                if head != known.head:
                    return latest
            _, note = cosigned_note(signed, self._parts.witness, now=now)
            deliveries.save_witnessed(
                conn,
                origin=self._origin,
                peer_id=self._peer.peer_id,
                tree_size=signed.head.tree_size,
                root_hash=signed.head.root_hash,
                note=note,
                now=now,
            )
            return None

        return await self._parts.database.write(write)

    async def _transfer(
        self, frontier: Frontier, span: VerifiedRange, signed: SignedCheckpoint
    ) -> None:
        try:
            await self._copy_bundles(frontier, span, signed)
        except PeerMisbehavedError as error:
            # The bytes alone say little: the log signed what they should have been.
            evidence = signed.note_bytes + b"\n" + error.evidence
            raise PeerMisbehavedError(
                error.peer, error.what, error.cause, evidence
            ) from error

    async def _copy_bundles(
        self, frontier: Frontier, span: VerifiedRange, signed: SignedCheckpoint
    ) -> None:
        with self._parts.copies.under_way(
            self._origin, size=span.old_size, target_size=span.new_size
        ) as meter:
            await self._copy_batches(frontier, span, signed, meter)

    async def _copy_batches(
        self,
        frontier: Frontier,
        span: VerifiedRange,
        signed: SignedCheckpoint,
        meter: Meter,
    ) -> None:
        def report(size: int) -> None:
            if self._progress is not None:
                self._progress(size, span.new_size)

        own = OwnBodies(self._parts.database, self._copy.log)
        bundles_of = partial(
            fetch_bundles,
            self._parts.client,
            self._asked,
            span,
            own,
            has_room=self._parts.has_room,
        )
        count = span.new_size - span.old_size
        async with (
            self._parts.digesters.lend(count) as digester,
            aclosing(bundles_of(digester)) as bundles,
            Storing(self._copy, frontier, meter=meter, report=report) as storing,
        ):
            async for raw in bundles:
                if self._is_over(storing.batch):
                    await storing.store()
                    self.is_complete = False
                    return
                bundle = await self._verify(span, raw)
                self._check_begin(bundle)
                await storing.add(bundle)
                if self._budget is not None:
                    self._budget.spend(len(raw.entries) + len(raw.bodies))
                if bundle.unsupported is not None:
                    frontier = await storing.settle()
                    await self._copy.stop_before(
                        frontier, storing.batch, bundle.unsupported
                    )
                    return
            frontier = await storing.settle()
            await self._copy.finish(frontier, storing.batch, signed)
            meter.size = span.new_size
            report(span.new_size)

    async def _verify(self, span: VerifiedRange, raw: RawBundle) -> VerifiedBundle:
        claims = self._copy.claims
        if raw.digested is not None:
            # What is left of the work takes less time than handing it to a thread.
            return verify_bundle(self._asked.name, span, raw, claims)
        return await asyncio.to_thread(
            verify_bundle, self._asked.name, span, raw, claims
        )

    def _is_over(self, batch: Batch) -> bool:
        # Never before something new is in hand, so that every turn gets on.
        budget = self._budget
        return budget is not None and budget.is_spent and bool(batch.entries)

    def _check_begin(self, bundle: VerifiedBundle) -> None:
        """Refuse a log that does not begin where the one before it ended."""
        if bundle.first_index == 0 and self._note is not None:
            evidence = self._note.raw + b"\n" + bundle.raw[0]
            with blaming(self._peer.name, f"META of {self._origin}", evidence):
                meta = bundle.entries[0] if bundle.entries else None
                if isinstance(meta, Meta):
                    verify_meta(meta, self._note.note)


def _keys(note: KnownNote, origin: str) -> tuple[VerifierKey, ...]:
    log = note.log(origin)
    return () if log is None else log.vkeys

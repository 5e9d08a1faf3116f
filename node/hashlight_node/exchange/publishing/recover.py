"""Recovery: bring a log of ours back to what we signed, from the copies of peers.

After a restore from backup the database lacks what was signed since. Peers have it, and
our own signature over its root says which copy is true: what comes back is exactly what
was lost, or it is refused. Peers go on where they were, because for them nothing has
happened.

Entries come from one peer at a time and bodies from whoever has them: a peer with a
narrow grant holds only some.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import structlog

from hashlight_node.exchange.errors import RolledBackError, UnknownListError
from hashlight_node.exchange.following.copying import Batch
from hashlight_node.exchange.following.own_bodies import OwnBodies
from hashlight_node.exchange.following.transfer import (
    fetch_bundles,
    fetch_tiles,
    verify_bundle,
)
from hashlight_node.exchange.logs.append import stored_frontier
from hashlight_node.exchange.logs.cosigning import bare_note
from hashlight_node.exchange.logs.erasures import ErasureClaims
from hashlight_node.exchange.logs.scrubbing import scrub
from hashlight_node.exchange.logs.self_check import who_knows
from hashlight_node.model import LogState, Role
from hashlight_node.peers.errors import (
    PeerError,
    blaming,
    digest_of,
)
from hashlight_node.store import logs, records
from hashlight_node.store.incomplete import leaves_without_body
from hashlight_protocol import (
    TILE_WIDTH,
    BodyBundleId,
    BodyStatus,
    ProtocolError,
    check_bodies,
    needed_tiles,
    parse_body_bundle,
    parse_entry_bundle,
    parse_origin,
    plan_range,
)

from .epochs import Abandoned
from .parting import common_size, withdrawals_beyond

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from hashlight_node.exchange.logs.applied import FollowsCommits
    from hashlight_node.exchange.logs.self_check import SelfCheck
    from hashlight_node.last_signed import LastSigned
    from hashlight_node.model import Clock, Log, Peer, SignalChange
    from hashlight_node.peers.client import PeerClient
    from hashlight_node.store.database import Connection, Database
    from hashlight_protocol import Body, Erase, Frontier, Retract, SignedCheckpoint

    from .epochs import Epochs

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoveryParts:
    """What recovery needs.

    Attributes:
        database: The store.
        client: Asks the peers.
        last_signed: What was signed last.
        self_check: Decides whether a log may be signed.
        epochs: Begins the next log of a list that cannot be healed.
        matcher: Learns what became live or dead, right after each commit.
        clock: Unix seconds.
        on_advanced: Told the origin of a log that is healed.
    """

    database: Database
    client: PeerClient
    last_signed: LastSigned
    self_check: SelfCheck
    epochs: Epochs
    matcher: FollowsCommits
    clock: Clock
    on_advanced: Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Recovered:
    """How one list stands after a recovery.

    Attributes:
        list_name: The list.
        origin: Its log.
        state: `ACTIVE` if it is signed again.
        old_size: Entries that were here before.
        new_size: Entries that are here now.
        signed_size: Entries that the newest checkpoint we know to have signed covers;
            None if that is not known.
        missing_bodies: Records whose bodies no peer gave back.
        answered: Peers that had a checkpoint of it.
        problems: What stood in the way, a sentence each.
    """

    list_name: str
    origin: str
    state: LogState
    old_size: int
    new_size: int
    signed_size: int | None
    missing_bodies: int
    answered: tuple[str, ...]
    problems: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Mirror:
    """A peer's copy of a log of ours, up to a checkpoint that we signed."""

    peer: Peer
    signed: SignedCheckpoint


@dataclass(slots=True)
class _Tally:
    """What is learnt on the way."""

    answered: set[str] = field(default_factory=set)
    problems: list[str] = field(default_factory=list)


class Recovery:
    """Heals logs of ours that are older than what we signed.

    Args:
        parts: Collaborators.
    """

    def __init__(self, parts: RecoveryParts) -> None:
        self._parts = parts
        self._turn = asyncio.Lock()

    async def recover(self, list_name: str | None = None) -> list[Recovered]:
        """Ask peers what they have of our logs, and bring back what is lost.

        What was brought back stays if it is cut short, and the next one goes on there.

        Args:
            list_name: One of our lists; all of them if None.

        Returns:
            How each list stands now.

        Raises:
            UnknownListError: This node has no such list.
        """
        async with self._turn:
            own = await self._parts.database.read(lambda conn: _own(conn, list_name))
            return [await self._recover(log) for log in own]

    async def vouch(self, list_name: str) -> None:
        """Sign a list again on the operator's word, because no peer can confirm it.

        Raises:
            UnknownListError: This node has no such list.
            RolledBackError: It is known to be older than what we signed.
        """
        own = await self._parts.database.read(lambda conn: _own(conn, list_name))
        if any(log.state is LogState.ROLLED_BACK for log in own):
            raise RolledBackError(list_name)
        await self._parts.self_check.vouch(list_name)

    async def begin_next(self, list_name: str) -> list[Recovered]:
        """Bring back what can be, and go on in the next log if that is not all.

        The old log ends with the last entry that we have and that no peer contradicts.

        Args:
            list_name: One of our lists.

        Raises:
            UnknownListError: This node has no such list.
            UnconfirmedError: It is not known whether anything is lost.
            RolledBackError: The list went on in a log that is lost, too; or no peer
                that has the other history answers.
            ProtocolError: A peer's copy is not what we signed.
        """
        await self.recover(list_name)
        async with self._turn:
            own = await self._parts.database.read(lambda conn: _own(conn, list_name))
            for log in own:
                if log.is_held:
                    ending = await self._ending(log)
                    await self._parts.epochs.begin_next(list_name, ending=ending)
                    # What the other history erased is erased here now.
                    await scrub(self._parts.database)
        return await self.recover(list_name)

    async def _ending(self, log: Log) -> Abandoned:
        """Find the size up to which a log has one history, and what ended beyond it."""
        parts = self._parts
        if await parts.database.read(lambda conn: parts.self_check.is_lost(conn, log)):
            raise RolledBackError(log.list_name)
        if parts.last_signed.contradiction(log.origin) is None:
            newest = parts.last_signed.newest(log.origin)
            if newest is not None and newest.head.tree_size > log.tree_size:
                return Abandoned(log.tree_size, "keep")
        sizes: list[int] = []
        elsewhere: list[tuple[int, Retract | Erase]] = []
        for mirror in await self._find_mirrors(log, _Tally()):
            peer, signed = mirror.peer, mirror.signed
            size = await common_size(
                parts.database, parts.client, peer=peer, log=log, signed=signed
            )
            sizes.append(size)
            elsewhere += await withdrawals_beyond(
                parts.client, peer=peer, signed=signed, size=size
            )
        if not sizes:
            raise RolledBackError(log.list_name)
        return Abandoned(min(sizes), "keep", tuple(elsewhere))

    async def _recover(self, before: Log) -> Recovered:
        origin, tally = before.origin, _Tally()
        heard = await self._parts.self_check.ask(before.list_name)
        tally.answered |= {it.peer_name for it in heard if it.signed is not None}
        log = await self._read(origin)
        mirrors: list[_Mirror] = []
        if log.is_held or await self._missing(log):
            mirrors = await self._find_mirrors(log, tally)
        if (await self._read(origin)).state is LogState.ROLLED_BACK:
            await self._heal(origin, mirrors, tally)
        for mirror in mirrors:
            await self._fill(origin, mirror, tally)
        log = await self._read(origin)
        return await self._report(before, log, tally)

    async def _report(self, before: Log, log: Log, tally: _Tally) -> Recovered:
        newest = self._parts.last_signed.newest(log.origin)
        if log.error is not None and log.is_held:
            tally.problems.insert(0, log.error)
        recovered = Recovered(
            list_name=log.list_name,
            origin=log.origin,
            state=log.state,
            old_size=before.tree_size,
            new_size=log.tree_size,
            signed_size=None if newest is None else newest.head.tree_size,
            missing_bodies=len(await self._missing(log)),
            answered=tuple(sorted(tally.answered)),
            problems=tuple(tally.problems),
        )
        if before.is_held and not log.is_held:
            _log.info(
                "log is healed",
                list=log.list_name,
                old_size=before.tree_size,
                new_size=log.tree_size,
            )
            self._parts.on_advanced(log.origin)
        return recovered

    async def _read(self, origin: str) -> Log:
        return await self._parts.database.read(lambda conn: _find(conn, origin))

    async def _missing(self, log: Log) -> list[int]:
        return await self._parts.database.read(
            lambda conn: leaves_without_body(conn, log.log_id)
        )

    # ------------------------------------------------------------------- mirrors

    async def _find_mirrors(self, log: Log, tally: _Tally) -> list[_Mirror]:
        """Ask who has a copy of a log, the largest first."""
        peers = await self._parts.database.read(lambda conn: who_knows(conn, log))
        asked = (self._find_mirror(peer, log.origin, tally) for peer in peers)
        found = [it for it in await asyncio.gather(*asked) if it is not None]
        return sorted(found, key=lambda it: it.signed.head.tree_size, reverse=True)

    async def _find_mirror(
        self, peer: Peer, origin: str, tally: _Tally
    ) -> _Mirror | None:
        parts = self._parts
        try:
            fetched = await parts.client.fetch_mirror_checkpoint(peer, origin)
            if fetched is None:  # Only possible with an ETag, and none was sent.
                return None
            what = f"mirror checkpoint of {origin}"
            with blaming(peer.name, what, fetched.body):
                signed = parts.self_check.open(fetched.body, origin)
        except (PeerError, ProtocolError) as error:
            tally.problems.append(str(error))
            return None
        tally.answered.add(peer.name)
        # It may be the first proof that we signed more than we have.
        await parts.self_check.judge(peer.name, signed)
        return _Mirror(peer, signed)

    # -------------------------------------------------------------------- healing

    async def _heal(self, origin: str, mirrors: list[_Mirror], tally: _Tally) -> None:
        newest = self._parts.last_signed.newest(origin)
        if newest is None or self._parts.last_signed.contradiction(origin) is not None:
            return
        goal = self._parts.self_check.open(newest.note, origin)
        for mirror in mirrors:
            log = await self._read(origin)
            size = min(goal.head.tree_size, mirror.signed.head.tree_size)
            if size < log.tree_size or not log.is_held:
                return
            is_whole = size == goal.head.tree_size
            try:
                await self._copy(mirror.peer, log, goal if is_whole else mirror.signed)
            except (PeerError, ProtocolError) as error:
                tally.problems.append(str(error))

    async def _copy(self, peer: Peer, log: Log, signed: SignedCheckpoint) -> None:
        """Bring back everything up to a checkpoint of ours, from one peer.

        Raises:
            PeerError: The peer stops answering, or what it sends is not it. What was
                stored before that stays.
        """
        database, origin = self._parts.database, log.origin
        frontier = await database.read(lambda conn: stored_frontier(conn, log))
        needed = needed_tiles(frontier.size, signed.head.tree_size)
        tiles = await fetch_tiles(self._parts.client, peer, origin, needed)
        what = f"copy of {origin}, which does not extend ours to the root we signed"
        with blaming(peer.name, what, signed.note_bytes):
            span = await asyncio.to_thread(
                plan_range, frontier, signed.checkpoint, tiles
            )
        batch, claims = Batch(span.old_size), ErasureClaims()
        own = OwnBodies(database, log)
        async with aclosing(
            fetch_bundles(self._parts.client, peer, span, own)
        ) as bundles:
            async for raw in bundles:
                if batch.is_full:
                    log, frontier = await self._store(log, frontier, batch)
                    batch = Batch(frontier.size)
                bundle = await asyncio.to_thread(
                    verify_bundle, peer.name, span, raw, claims
                )
                if bundle.unsupported is not None:
                    # We wrote it ourselves, with a newer release than this one.
                    raise bundle.unsupported
                batch.add(bundle)
        log, _ = await self._store(log, frontier, batch)
        # Also when nothing was erased now: the scrub of an earlier attempt, which was
        # cut off, may be missing.
        await scrub(database)
        await database.write(lambda conn: self._finish(conn, log, signed))

    async def _store(
        self, log: Log, frontier: Frontier, batch: Batch
    ) -> tuple[Log, Frontier]:
        if not batch.raw:
            return log, frontier
        grown = frontier.extend(batch.leaf_hashes)

        def write(conn: Connection) -> tuple[Log, list[SignalChange]]:
            stored = logs.append_verified(
                conn, log, batch.raw, batch.leaf_hashes, root_hash=grown.root
            )
            changes = records.apply_entries(
                conn,
                stored,
                batch.first_index,
                batch.entries,
                batch.bodies,
                now=self._parts.clock(),
            )
            return stored, changes

        stored, _ = await self._parts.database.write(
            write,
            after_commit=lambda done: self._parts.matcher.apply(done[1]),
            then=lambda done: self._parts.matcher.tidy(done[1]),
        )
        if batch.erases:
            await scrub(self._parts.database)
        return stored, grown

    def _finish(self, conn: Connection, log: Log, signed: SignedCheckpoint) -> None:
        """Give the log the checkpoint that it had; if that was last, it is healed."""
        served = logs.set_checkpoint(
            conn,
            log,
            bare_note(signed),
            signed.head.tree_size,
            mirror_checkpoint=None,
            verified_at=self._parts.clock(),
        )
        self._parts.self_check.mark(conn, served)

    # --------------------------------------------------------------------- bodies

    async def _fill(self, origin: str, mirror: _Mirror, tally: _Tally) -> None:
        """Take from a peer the bodies that are still missing."""
        log = await self._read(origin)
        size = min(log.tree_size, mirror.signed.head.tree_size)
        missing = [leaf for leaf in await self._missing(log) if leaf < size]
        for index in sorted({leaf // TILE_WIDTH for leaf in missing}):
            width = min(TILE_WIDTH, size - index * TILE_WIDTH)
            try:
                found = await self._fetch_bodies(log, mirror.peer, index, width)
            except (PeerError, ProtocolError) as error:
                tally.problems.append(str(error))
                return
            await self._save_bodies(log, found)

    async def _fetch_bodies(
        self, log: Log, peer: Peer, index: int, width: int
    ) -> Mapping[int, Body]:
        entries = await self._parts.database.read(
            lambda conn: logs.read_entry_bundle(conn, log.log_id, index, width)
        )
        if entries is None:  # pragma: no cover -- entries up to the size are stored
            return {}
        bundle = BodyBundleId(index, width)
        raw = await self._parts.client.fetch_bodies(peer, log.origin, bundle)
        first = index * TILE_WIDTH
        what = f"mirrored bodies {index} of {log.origin}"
        with blaming(peer.name, what, digest_of(raw)):
            bodies = parse_body_bundle(raw, width)
            own = parse_entry_bundle(entries, width)
            check_bodies(parse_origin(log.origin).list_id, own, bodies, first)
        return {
            leaf: body
            for leaf, body in enumerate(bodies, first)
            if body.status is BodyStatus.PRESENT
        }

    async def _save_bodies(self, log: Log, bodies: Mapping[int, Body]) -> None:
        now = self._parts.clock()
        await self._parts.database.write(
            lambda conn: records.fill_bodies(conn, log, bodies, now=now),
            after_commit=self._parts.matcher.apply,
            then=self._parts.matcher.tidy,
        )


def _own(conn: Connection, list_name: str | None) -> list[Log]:
    own = [
        log
        for log in logs.list_logs(conn, Role.OWN)
        if list_name in {None, log.list_name}
    ]
    if list_name is not None and not own:
        raise UnknownListError(list_name)
    return own


def _find(conn: Connection, origin: str) -> Log:
    log = logs.find_log(conn, origin)
    if log is None:
        raise UnknownListError(origin)
    return log

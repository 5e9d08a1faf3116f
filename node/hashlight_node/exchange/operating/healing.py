"""Mends what a check found, from what is intact here and from the copies of peers.

Hashes and everything that was made of bodies follow from what is stored beside them.
Entries and bodies do not: they are asked for where the log came from, or where it went,
and are used only if they are what the signed root authenticates.

The node must be stopped: what was wrong may be in its memory, too.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from hashlight_node.exchange.errors import ExchangeError
from hashlight_node.exchange.following.sources import find_source
from hashlight_node.exchange.logs.cosigning import bare_note, cosigned_note
from hashlight_node.exchange.logs.scrubbing import scrub
from hashlight_node.exchange.logs.self_check import who_knows
from hashlight_node.model import PeerState, Role
from hashlight_node.peers.errors import PeerError
from hashlight_node.store import deliveries, logs, mending, stored
from hashlight_node.store import peers as peer_store
from hashlight_protocol import (
    TILE_WIDTH,
    Body,
    BodyBundleId,
    BodyStatus,
    EntryBundleId,
    ProtocolError,
    commit,
    list_id,
    open_checkpoint,
    open_list_note,
    parse_body_bundle,
    parse_entry_bundle,
    parse_vkey,
)

from .fsck import Fsck, tell_nobody
from .fsck_findings import DamageKind
from .fsck_leaves import withdrawal_row
from .tree_survey import parse_entries

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hashlight_node.keys import Keyring
    from hashlight_node.last_signed import LastSigned
    from hashlight_node.model import Clock, Log, Peer
    from hashlight_node.peers.client import PeerClient
    from hashlight_node.store.database import Connection, Database
    from hashlight_node.store.stored import StoredLeaf

    from .fsck import Progress
    from .fsck_findings import Findings, LogFindings

MOST_ROUNDS: Final = 20
"""What is mended in one round may show what else is wrong."""

_BLOCKS_TOGETHER: Final = 128
"""Bundles that are fetched before they are tried, 2 MiB of entries."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HealParts:
    """What healing needs.

    Attributes:
        database: The store, of a node that does not run.
        keyring: Whose logs are ours.
        client: Asks peers.
        last_signed: What was signed last of our logs.
        clock: Unix seconds.
    """

    database: Database
    keyring: Keyring
    client: PeerClient
    last_signed: LastSigned
    clock: Clock


@dataclass(frozen=True, slots=True)
class Healed:
    """What became of a damaged store.

    Attributes:
        before: What was found.
        after: What is left.
        rounds: How often something was mended.
        problems: Why peers did not help, a sentence each.
    """

    before: Findings
    after: Findings
    rounds: int
    problems: tuple[str, ...]


class Healer:
    """Mends a store.

    Args:
        parts: Collaborators.
    """

    def __init__(self, parts: HealParts) -> None:
        self._parts = parts
        self._problems: dict[str, None] = {}

    async def run(self, on_progress: Progress = tell_nobody) -> Healed:
        """Check, mend, and check again until all is well or nothing helps."""
        fsck = self._fsck()
        before = found = await fsck.run(on_progress)
        rounds = 0
        while not found.is_clean and rounds < MOST_ROUNDS:
            for of_log in found.by_log:
                await self._mend_log(of_log)
            await self._mend_signals(found)
            await scrub(self._parts.database)
            rounds += 1
            left = await fsck.run(on_progress)
            if left.counts == found.counts and left.damage == found.damage:
                found = left
                break
            found = left
        return Healed(before, found, rounds, tuple(self._problems))

    def _fsck(self, overlay: dict[tuple[int, int], bytes] | None = None) -> Fsck:
        return Fsck(
            self._parts.database,
            self._parts.keyring,
            overlay,
            last_signed=self._newest,
        )

    def _newest(self, origin: str) -> bytes | None:
        newest = self._parts.last_signed.newest(origin)
        return None if newest is None else newest.note

    async def _mend_log(self, of_log: LogFindings) -> None:
        log = of_log.log
        if of_log.survey.bad_entries or of_log.survey.unknown or not of_log.is_proven:
            of_log = await self._mend_entries(of_log)
        if not of_log.is_proven:
            return
        await self._parts.database.write(lambda conn: _write_tree(conn, of_log))
        bodies = await self._find_bodies(log, of_log.bodies)
        for leaf_index in sorted({*of_log.leaves, *of_log.unwithdrawn}):
            body = bodies.get(leaf_index)
            if leaf_index in of_log.bodies and body is None:
                continue
            await self._rebuild(log, leaf_index, body)
        await self._mend_notes(of_log)

    # ----------------------------------------------------------------------- entries

    async def _mend_entries(self, of_log: LogFindings) -> LogFindings:
        """Fetch bundles that are wrong; keep what the signed root authenticates."""
        log, survey = of_log.log, of_log.survey
        wanted = sorted({*survey.bad_entries, *survey.unknown})[:_BLOCKS_TOGETHER]
        latest = of_log
        for peer in await self._sources(log):
            fetched = await self._fetch_entries(peer, log, wanted)
            overlay = {(log.log_id, index): raw for index, raw in fetched.items()}
            tried = await self._fsck(overlay).check_tree(log)
            if not tried.is_proven:
                self._problems[
                    f"{peer.name} has entries of {log.origin} that are not those that "
                    "were signed, or too few of them"
                ] = None
                continue
            wrong = tried.survey.bad_entries
            good = {at: raw for at, raw in fetched.items() if at not in wrong}
            await self._parts.database.write(
                partial(_write_bundles, of_log=tried, bundles=good)
            )
            latest = await self._fsck().check_tree(log)
            latest.leaves, latest.bodies = of_log.leaves, of_log.bodies
            latest.notes, latest.history = of_log.notes, of_log.history
            latest.withdrawals = of_log.withdrawals
            wanted = [it for it in wanted if it not in good]
            if not wanted:
                break
        return latest

    async def _fetch_entries(
        self, peer: Peer, log: Log, wanted: Sequence[int]
    ) -> dict[int, bytes]:
        fetched: dict[int, bytes] = {}
        for index in wanted:
            width = _width(log, index)
            try:
                raw = await self._parts.client.fetch_entries(
                    peer, log.origin, EntryBundleId(index, width)
                )
                parse_entry_bundle(raw, width)
            except (PeerError, ProtocolError) as error:
                self._problems[str(error)] = None
            else:
                fetched[index] = raw
        return fetched

    # ------------------------------------------------------------------------ bodies

    async def _find_bodies(self, log: Log, leaves: Sequence[int]) -> dict[int, Body]:
        """Ask for bodies; those are kept that their entries commit to."""
        found: dict[int, Body] = {}
        for peer in await self._sources(log) if leaves else ():
            missing = [leaf for leaf in leaves if leaf not in found]
            for index in sorted({leaf // TILE_WIDTH for leaf in missing}):
                width = _width(log, index)
                try:
                    raw = await self._parts.client.fetch_bodies(
                        peer, log.origin, BodyBundleId(index, width)
                    )
                    came = parse_body_bundle(raw, width)
                except (PeerError, ProtocolError) as error:
                    self._problems[str(error)] = None
                    continue
                entries = await self._entries(log, index)
                for leaf in missing:
                    if leaf // TILE_WIDTH == index and _is_body_of(
                        log, entries[leaf % TILE_WIDTH], came[leaf % TILE_WIDTH]
                    ):
                        found[leaf] = came[leaf % TILE_WIDTH]
        return found

    async def _entries(self, log: Log, index: int) -> tuple[bytes, ...]:
        block = await self._parts.database.read(
            lambda conn: stored.read_block(conn, log.log_id, index)
        )
        width = _width(log, index)
        return parse_entries(block.entries, width, has_grown=False) or (b"",) * width

    async def _rebuild(self, log: Log, leaf_index: int, body: Body | None) -> None:
        now = self._parts.clock()
        entry = (await self._entries(log, leaf_index // TILE_WIDTH))[
            leaf_index % TILE_WIDTH
        ]

        def write(conn: Connection) -> None:
            found = stored.read_leaves(conn, log.log_id, leaf_index, leaf_index + 1)
            for leaf in found:
                right = body if body is not None else _own_body(log, entry, leaf)
                mending.rebuild_record(conn, log, leaf, right, now=now)

        await self._parts.database.write(write)

    # ------------------------------------------------------------------------- notes

    async def _mend_notes(self, of_log: LogFindings) -> None:
        log = of_log.log
        if DamageKind.LIST_NOTE in of_log.notes and log.role is Role.FOLLOWED:
            await self._fetch_list_note(log)
        if DamageKind.CHECKPOINT in of_log.notes:
            await self._find_checkpoint(of_log)
        elif of_log.notes == [DamageKind.COSIGNATURE] and not of_log.bodies:
            await self._parts.database.write(lambda conn: self._cosign(conn, log))

    async def _fetch_list_note(self, log: Log) -> None:
        for peer in await self._sources(log):
            owner = await self._parts.database.read(
                lambda conn: peer_store.find_peer(conn, log.node)
            )
            if owner is None:
                return
            try:
                if peer.name == owner.name:
                    raw = await self._parts.client.fetch_list_note(peer, log.list_name)
                else:
                    raw = await self._parts.client.fetch_relayed(
                        peer, owner.name, log.list_name, "list-note"
                    )
                note = open_list_note(raw, parse_vkey(owner.identity_vkey))
            except (PeerError, ProtocolError) as error:
                self._problems[str(error)] = None
                continue
            is_it = note.id == list_id(log.node, log.list_name)
            if is_it and note.version >= log.list_note_version:
                await self._parts.database.write(
                    partial(
                        logs.set_list_note,
                        log_id=log.log_id,
                        note=raw,
                        version=note.version,
                    )
                )
                return

    async def _find_checkpoint(self, of_log: LogFindings) -> None:
        """Find the note again that was signed for the tree that is here."""
        log = of_log.log
        fsck = self._fsck()
        keys = await self._parts.database.read(lambda conn: fsck.keys(conn, log))
        for raw in await self._notes(log):
            try:
                signed = open_checkpoint(raw, keys, origin=log.origin)
            except ProtocolError:
                continue
            head = signed.head
            if (head.tree_size, head.root_hash) == (log.tree_size, of_log.root):
                note = bare_note(signed)
                await self._parts.database.write(
                    partial(mending.set_notes, log_id=log.log_id, checkpoint=note)
                )
                return

    async def _notes(self, log: Log) -> list[bytes]:
        found = [log.mirror_checkpoint]
        found.append(self._newest(log.origin))
        found.append(
            await self._parts.database.read(
                lambda conn: deliveries.read_witnessed(conn, log.origin)
            )
        )
        for peer in await self._sources(log):
            try:
                fetched = await self._parts.client.fetch_checkpoint(peer, log.origin)
            except PeerError as error:
                self._problems[str(error)] = None
            else:
                found.append(None if fetched is None else fetched.body)
        return [raw for raw in found if raw is not None]

    def _cosign(self, conn: Connection, log: Log) -> None:
        """Confirm again what is stored and applied here, now that it is whole."""
        if log.checkpoint is None:
            return
        keys = self._fsck().keys(conn, log)
        signed = open_checkpoint(log.checkpoint, keys, origin=log.origin)
        now = self._parts.clock()
        _, note = cosigned_note(signed, self._parts.keyring.mirror, now=now)
        mending.set_notes(conn, log.log_id, mirror_checkpoint=note)

    # ----------------------------------------------------------------------- signals

    async def _mend_signals(self, found: Findings) -> None:
        by_id = {
            log.log_id: log for log in await self._parts.database.read(logs.list_logs)
        }
        for bad in found.bad_signals:
            if bad.what == "digest":
                linked = await self._parts.database.read(
                    partial(mending.links_of, bad=bad)
                )
                for log_id, leaf_index in linked:
                    await self._rebuild(by_id[log_id], leaf_index, None)
            await self._parts.database.write(
                partial(
                    mending.recount, signal_ids=[bad.signal_id], now=self._parts.clock()
                )
            )

    async def _sources(self, log: Log) -> list[Peer]:
        return await self._parts.database.read(lambda conn: _sources(conn, log))


def _sources(conn: Connection, log: Log) -> list[Peer]:
    """Say who may have a log: its owner or relay, or who follows ours."""
    if log.role is Role.OWN:
        return who_knows(conn, log)
    owner = peer_store.find_peer(conn, log.node)
    if owner is None:
        return []
    asked = [owner]
    with suppress(ExchangeError):
        asked.insert(0, find_source(conn, owner, log.list_name).asked)
    by_name = {peer.name: peer for peer in asked}
    return [it for it in by_name.values() if it.state is PeerState.ACTIVE]


def _write_tree(conn: Connection, of_log: LogFindings) -> None:
    log = of_log.log
    for (level, index), hashes in of_log.survey.tiles.items():
        mending.put_tile(conn, log.log_id, level, index, hashes)
    if DamageKind.ROOT in of_log.notes or log.root_hash != of_log.root:
        mending.set_root(conn, log.log_id, of_log.root)
    for size, root in of_log.history:
        mending.set_past_root(conn, log.log_id, size, root)
    for index in of_log.withdrawals:
        first, width = index * TILE_WIDTH, _width(log, index)
        block = stored.read_block(conn, log.log_id, index)
        entries = parse_entries(block.entries, width, has_grown=False) or ()
        rows = [withdrawal_row(raw, leaf) for leaf, raw in enumerate(entries, first)]
        kept = [row for row in rows if row is not None]
        mending.put_withdrawals(conn, log.log_id, first, first + width, kept)


def _write_bundles(
    conn: Connection, of_log: LogFindings, bundles: dict[int, bytes]
) -> None:
    log_id = of_log.log.log_id
    for index, raw in bundles.items():
        mending.put_bundle(conn, log_id, index, raw)
    for (level, index), hashes in of_log.survey.tiles.items():
        mending.put_tile(conn, log_id, level, index, hashes)


def _width(log: Log, index: int) -> int:
    return min(TILE_WIDTH, log.tree_size - index * TILE_WIDTH)


def _is_body_of(log: Log, entry: bytes, body: Body) -> bool:
    if body.status is not BodyStatus.PRESENT:
        return False
    try:
        made = commit(list_id(log.node, log.list_name), body.salt, body.body)
    except ProtocolError:
        return False
    return entry[1:] == made


def _own_body(log: Log, entry: bytes, leaf: StoredLeaf) -> Body | None:
    """Give the body that is stored, if it is the one."""
    body = Body(BodyStatus.PRESENT, leaf.salt or b"", leaf.body or b"")
    return body if _is_body_of(log, entry, body) else None

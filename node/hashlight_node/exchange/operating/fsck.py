"""Every stored byte of the logs hashed again, and what was made of them compared.

The root that a log signed authenticates its entries, an entry its body, and a body
everything that lookups use. So whatever is not as it must be is found, and named: by
log, tile, leaf or number of a signal, never by a value.

Read in small transactions, so a node may run meanwhile; then only what was there at
the beginning is looked at.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from hashlight_node.model import Role
from hashlight_node.store import deliveries, logs, stored
from hashlight_node.store import peers as peer_store
from hashlight_protocol import (
    TILE_WIDTH,
    MalformedError,
    ProtocolError,
    UnknownKeyError,
    list_id,
    open_checkpoint,
    open_list_note,
    parse_vkey,
    verify_cosignature,
)

from .fsck_findings import MOST_TOLD, Damage, DamageKind, Findings, LogFindings
from .fsck_leaves import problem_of, withdrawal_row
from .tree_survey import COPIES, TreeSurvey

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from hashlight_node.keys import Keyring
    from hashlight_node.model import Log
    from hashlight_node.store.database import Connection, Reader
    from hashlight_node.store.stored import StoredBlock
    from hashlight_protocol import Frontier, VerifierKey

    from .tree_survey import Block, Copy

    Progress = Callable[[str, int, int], None]

_SIGNALS_TOGETHER: Final = 10_000


def _nothing(origin: str) -> None:
    """Know of nothing that was signed."""


def tell_nobody(origin: str, done: int, size: int) -> None:
    """Make no progress bar."""


class Fsck:
    """Checks a store.

    Args:
        database: The store; a reader is enough.
        keyring: Whose logs are ours, and whose cosignatures.
        overlay: By log id and block, entries that take the place of those that are
            stored: whether they would do.
        last_signed: Gives what was signed last of a log of ours.
    """

    def __init__(
        self,
        database: Reader,
        keyring: Keyring,
        overlay: Mapping[tuple[int, int], bytes] | None = None,
        *,
        last_signed: Callable[[str], bytes | None] = _nothing,
    ) -> None:
        self._database = database
        self._keyring = keyring
        self._overlay = overlay or {}
        self._last_signed = last_signed

    async def run(self, on_progress: Progress = tell_nobody) -> Findings:
        """Check everything.

        Args:
            on_progress: Told of each log how many of its leaves were checked.
        """
        found = Findings()
        for log in await self._database.read(logs.list_logs):
            await self._check_log(log, found, on_progress)
        await self._check_signals(found)
        return found

    async def check_tree(self, log: Log, prefer: Copy = "entries") -> LogFindings:
        """Check the entries and hashes of one log only, with what the overlay has."""
        of_log = LogFindings(log, TreeSurvey(log.tree_size, prefer))
        of_log.root = await self._database.read(lambda conn: self._goal(conn, log))
        blocks = -(-log.tree_size // TILE_WIDTH)
        for index in range(blocks):
            await self._database.read(partial(self._survey, of_log, index))
        await self._database.read(lambda conn: self._finish(conn, of_log, Findings()))
        return of_log

    # ------------------------------------------------------------------------- a log

    async def _check_log(
        self, log: Log, found: Findings, on_progress: Progress
    ) -> None:
        part = Findings(logs=1)
        of_log = await self._look(log, "entries", part, on_progress)
        if of_log.survey.unknown and not of_log.is_proven:
            for prefer in COPIES[1:]:
                if (await self.check_tree(log, prefer)).is_proven:
                    part = Findings(logs=1)
                    of_log = await self._look(log, prefer, part, on_progress)
        found.add(part)
        if of_log.needs_mending:
            found.by_log.append(of_log)

    async def _look(
        self, log: Log, prefer: Copy, found: Findings, on_progress: Progress
    ) -> LogFindings:
        of_log = LogFindings(log, TreeSurvey(log.tree_size, prefer))
        of_log.root = await self._database.read(lambda conn: self._goal(conn, log))
        await self._database.read(lambda conn: self._check_notes(conn, of_log, found))
        for first in range(0, log.tree_size, TILE_WIDTH):
            await self._database.read(
                partial(self._check_block, of_log, first // TILE_WIDTH, found)
            )
            end = min(first + TILE_WIDTH, log.tree_size)
            on_progress(log.origin, end, log.tree_size)
        await self._database.read(lambda conn: self._finish(conn, of_log, found))
        return of_log

    def _goal(self, conn: Connection, log: Log) -> bytes:
        """Give the root to which the tree must lead: a signed one if there is one."""
        keys = self.keys(conn, log)
        notes = (
            log.checkpoint,
            log.mirror_checkpoint,
            deliveries.read_witnessed(conn, log.origin),
            self._last_signed(log.origin),
        )
        for raw in notes:
            try:
                head = open_checkpoint(raw or b"", keys, origin=log.origin).head
            except ProtocolError:
                continue
            if head.tree_size == log.tree_size:
                return head.root_hash
        return log.root_hash

    def _survey(self, of_log: LogFindings, index: int, conn: Connection) -> Block:
        block = stored.read_block(conn, of_log.log.log_id, index)
        return self._add(of_log, index, block, conn)

    def _add(
        self, of_log: LogFindings, index: int, block: StoredBlock, conn: Connection
    ) -> Block:
        log_id, survey = of_log.log.log_id, of_log.survey
        survey.has_grown = block.tree_size > survey.size
        given = self._overlay.get((log_id, index))
        return survey.add(
            index,
            block.entries if given is None else given,
            block.tile,
            tile_at=lambda level, at: (
                block.parent
                if (level, at) == (1, index // TILE_WIDTH)
                else logs.read_tile(conn, log_id, level, at)
            ),
            goal=of_log.root,
        )

    def _check_block(
        self, of_log: LogFindings, index: int, found: Findings, conn: Connection
    ) -> None:
        log, before = of_log.log, of_log.survey.frontier
        first = index * TILE_WIDTH
        end = min(first + TILE_WIDTH, log.tree_size)
        block = self._survey(of_log, index, conn)
        found.leaves += end - first
        for size, root in stored.read_checkpoints(conn, log.log_id, first, end):
            self._check_history(of_log, found, before, block, size, root)
        self._check_withdrawals(conn, of_log, found, block, end)
        leaves = {
            leaf.leaf_index: leaf
            for leaf in stored.read_leaves(conn, log.log_id, first, end)
        }
        found.records += len(leaves)
        identifier = list_id(log.node, log.list_name)
        for leaf_index in range(first, end):
            entry = block.entry(leaf_index - first)
            if entry is not None:
                problem = problem_of(identifier, entry, leaves.get(leaf_index))
                if problem is not None:
                    kind, detail = problem
                    of_log.leaves.append(leaf_index)
                    if kind is DamageKind.BODY:
                        of_log.bodies.append(leaf_index)
                    found.tell(
                        Damage(kind, log.origin, leaf_index=leaf_index, detail=detail)
                    )

    def _check_history(
        self,
        of_log: LogFindings,
        found: Findings,
        before: Frontier,
        block: Block,
        size: int,
        root: bytes,
    ) -> None:
        if block.hashes is None:
            return
        right = before.extend(block.hashes[: size - before.size]).root
        if right != root:
            of_log.history.append((size, right))
            found.tell(Damage(DamageKind.HISTORY, of_log.log.origin, index=size))

    def _check_withdrawals(
        self,
        conn: Connection,
        of_log: LogFindings,
        found: Findings,
        block: Block,
        end: int,
    ) -> None:
        log, first = of_log.log, block.index * TILE_WIDTH
        rows = {
            row.leaf_index: row
            for row in stored.read_withdrawals(conn, log.log_id, first, end)
        }
        for leaf_index in range(first, end):
            raw = block.entry(leaf_index - first)
            if raw is None:
                continue
            if rows.get(leaf_index) != withdrawal_row(raw, leaf_index):
                if block.index not in of_log.withdrawals:
                    of_log.withdrawals.append(block.index)
                found.tell(
                    Damage(
                        DamageKind.WITHDRAWAL,
                        log.origin,
                        leaf_index=leaf_index,
                        detail="it is not remembered as it stands in the log",
                    )
                )

    def _finish(self, conn: Connection, of_log: LogFindings, found: Findings) -> None:
        log, survey = of_log.log, of_log.survey
        root = survey.finish(
            lambda level, at: logs.read_tile(conn, log.log_id, level, at)
        )
        of_log.is_proven = root == of_log.root
        if not of_log.is_proven:
            found.tell(Damage(DamageKind.ROOT, log.origin, index=log.tree_size))
        elif log.root_hash != root:
            of_log.notes.append(DamageKind.ROOT)
            found.tell(
                Damage(
                    DamageKind.ROOT,
                    log.origin,
                    index=log.tree_size,
                    detail="the log's row has another root than its checkpoint",
                )
            )
        for level, index in survey.bad_tiles:
            found.tell(Damage(DamageKind.TILE, log.origin, level=level, index=index))
        for index, positions in survey.bad_entries.items():
            for leaf in positions:
                where = index * TILE_WIDTH + leaf
                found.tell(
                    Damage(DamageKind.ENTRY, log.origin, index=index, leaf_index=where)
                )
            if not positions:
                found.tell(Damage(DamageKind.ENTRY, log.origin, index=index))
        for _, leaf_index in stored.find_unwithdrawn(conn, log.log_id):
            of_log.unwithdrawn.append(leaf_index)
            found.tell(
                Damage(
                    DamageKind.WITHDRAWAL,
                    log.origin,
                    leaf_index=leaf_index,
                    detail="it was taken back and is stored as if it were not",
                )
            )

    # ------------------------------------------------------------------- what is signed

    def keys(self, conn: Connection, log: Log) -> tuple[VerifierKey, ...]:
        """List the keys whose signatures count for a log."""
        if log.role is Role.FOLLOWED:
            return tuple(_noted_keys(conn, log))
        is_known = self._keyring.has_log(log.origin)
        return self._keyring.log_keys(log.origin) if is_known else ()

    def _check_notes(
        self, conn: Connection, of_log: LogFindings, found: Findings
    ) -> None:
        log = of_log.log
        for kind, check in (
            (DamageKind.LIST_NOTE, self._check_list_note),
            (DamageKind.CHECKPOINT, self._check_checkpoint),
            (DamageKind.COSIGNATURE, self._check_cosignature),
        ):
            try:
                check(conn, log)
            except ProtocolError as error:
                of_log.notes.append(kind)
                found.tell(Damage(kind, log.origin, detail=error.code))

    def _check_list_note(self, conn: Connection, log: Log) -> None:
        if log.list_note is None:
            return
        identity: VerifierKey | None = self._keyring.identity.key
        if log.role is Role.FOLLOWED:
            peer = peer_store.find_peer(conn, log.node)
            identity = None if peer is None else parse_vkey(peer.identity_vkey)
        if identity is not None:
            open_list_note(log.list_note, identity)

    def _check_checkpoint(self, conn: Connection, log: Log) -> None:
        if log.checkpoint is None:
            return
        signed = open_checkpoint(
            log.checkpoint, self.keys(conn, log), origin=log.origin
        )
        if signed.head.tree_size != log.checkpoint_size:
            raise MalformedError("checkpoint", "it is of another size than is stored")

    def _check_cosignature(self, conn: Connection, log: Log) -> None:
        del conn
        if log.mirror_checkpoint is None:
            return
        mirror = self._keyring.mirror
        # Retired keys too: what they signed of a log that ended is not signed again.
        named = self._keyring.journal.named(mirror.key.name)
        keys = dict.fromkeys((*(one.key for one in mirror.every), *named))
        for key in keys:
            try:
                verify_cosignature(log.mirror_checkpoint, key)
            except UnknownKeyError:
                continue
            return
        raise UnknownKeyError("cosignature")

    # ---------------------------------------------------------------------- signals

    async def _check_signals(self, found: Findings) -> None:
        after: int | None = 0
        while after is not None:
            look = partial(_look_at_signals, after=after)
            bad, many, after = await self._database.read(look)
            found.signals += many
            for one in bad:
                found.tell(
                    Damage(DamageKind.SIGNAL, signal_id=one.signal_id, detail=one.what)
                )
                if len(found.bad_signals) < MOST_TOLD:
                    found.bad_signals.append(one)


def _noted_keys(conn: Connection, log: Log) -> Iterator[VerifierKey]:
    """Give the keys that the owner of a copied log names for it."""
    peer = peer_store.find_peer(conn, log.node)
    if peer is None:
        return
    identity = parse_vkey(peer.identity_vkey)
    # Also as stored with later logs of the list.
    for one in logs.logs_of_list(conn, log.node, log.list_name):
        if one.list_note is None:
            continue
        try:
            note = open_list_note(one.list_note, identity)
        except ProtocolError:
            continue
        for info in note.logs:
            if info.origin == log.origin:
                yield from info.vkeys


def _look_at_signals(
    conn: Connection, after: int
) -> tuple[list[stored.BadSignal], int, int | None]:
    return stored.find_bad_signals(conn, after, _SIGNALS_TOGETHER)

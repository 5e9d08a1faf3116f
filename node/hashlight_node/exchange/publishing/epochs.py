"""Going on with a list in a new log: what is ended, and what is re-issued.

A RETRACT or ERASE can only reach entries of its own log. So a list whose old log stayed
in use could never take back what is in it. All that still counts is therefore said
again in the new log: the same commitment at the same index, with the same body and
salt. What is not said again leaves a gap. Indexes stay what they were because bodies
speak of them (`replaces`), and so does every case file.

Source: SPEC.md#successions.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Literal

import structlog

from hashlight_node.exchange.errors import NotServedError, UnknownListError
from hashlight_node.exchange.logs.append import append, stored_frontier
from hashlight_node.model import LogState, Role
from hashlight_node.store import epochs, logs, records
from hashlight_protocol import (
    TILE_WIDTH,
    Body,
    BodyStatus,
    Checkpoint,
    Erase,
    KnownHead,
    LogInfo,
    Meta,
    Reason,
    UnknownEntry,
    encode_entry,
    frontier_from_tiles,
    leaf_hashes,
    log_origin,
    open_list_note,
    parse_entry,
    sign_list_note,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from hashlight_node.exchange.logs.applied import FollowsCommits
    from hashlight_node.exchange.logs.signing import LogSigning
    from hashlight_node.model import Clock, Log, SignalChange
    from hashlight_node.store.database import Connection, Database
    from hashlight_protocol import Entry, Retract, Signer

GAP: Final = UnknownEntry(0x04, b"\x04")
"""Takes the place of an entry that is not re-issued. Source: SPEC.md#entries."""

_BUNDLES: Final = 20
"""Bundles that are re-issued at a time; bounds the memory that bodies take."""

_NO_BODY: Final = Body(BodyStatus.NONE)

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Frozen:
    """The log ends in order, with its newest checkpoint."""


@dataclass(frozen=True, slots=True)
class Abandoned:
    """The log ends at an earlier state, because its key or its history was lost.

    Attributes:
        final_size: Entries that count; followers undo what lies beyond them.
        later: Whether our own records beyond them are genuine and are kept. What we
            took back stays taken back in either case.
        elsewhere: What another history that we signed takes back beyond the end, of
            what lies before it: leaf index there, and the entry. It stays taken back.
    """

    final_size: int
    later: Literal["drop", "keep"] = "drop"
    elsewhere: tuple[tuple[int, Retract | Erase], ...] = ()


Ending = Frozen | Abandoned


@dataclass(frozen=True, slots=True)
class Begun:
    """What beginning the next log did.

    Attributes:
        origin: The new log.
        ended: The one whose place it takes.
        final: The end of that one.
        reissued: Records that go on.
    """

    origin: str
    ended: str
    final: KnownHead
    reissued: int


@dataclass(frozen=True, slots=True)
class _Written:
    begun: Begun
    changes: tuple[SignalChange, ...]


class Epochs:
    """Ends logs of this node and begins the next ones.

    Args:
        database: The store.
        signing: Signs the new log; its keyring makes the log's key, and signs the list
            note.
        matcher: Learns what became live or dead, right after the commit.
        clock: Unix seconds.
        node_name: This node.
        on_advanced: Told the origin of the new log, after the commit.
    """

    def __init__(
        self,
        *,
        database: Database,
        signing: LogSigning,
        matcher: FollowsCommits,
        clock: Clock,
        node_name: str,
        on_advanced: Callable[[str], None],
    ) -> None:
        self._database = database
        self._keyring = signing.keyring
        self._signing = signing
        self._matcher = matcher
        self._clock = clock
        self._node_name = node_name
        self._on_advanced = on_advanced

    async def begin_next(self, list_name: str, *, ending: Ending) -> Begun:
        """End the newest log of a list, and go on in another with a key of its own.

        One transaction: the new log with all that still counts, its signed checkpoint,
        the list note that names both, and the end of the old log here. Nothing else is
        written meanwhile; a million records take some minutes, and lookups go on.

        Args:
            list_name: One of our lists.
            ending: How the old log ends.

        Raises:
            UnknownListError: This node has no such list.
            RolledBackError: The log is older than what was signed, so it did not end
                in order.
            UnconfirmedError: It is not known whether it is.
            NotServedError: The log never had that many entries, or none.
            BadProofError: The store is damaged.
        """
        written = await self._database.write(
            lambda conn: self._begin(conn, list_name, ending),
            after_commit=lambda written: self._matcher.apply(written.changes),
            then=lambda written: self._matcher.tidy(written.changes),
        )
        begun = written.begun
        _log.info("a new log begins", list=list_name, size=begun.reissued)
        self._on_advanced(begun.origin)
        return begun

    def _begin(self, conn: Connection, list_name: str, ending: Ending) -> _Written:
        old = logs.find_own_log(conn, self._node_name, list_name)
        if old is None:
            raise UnknownListError(list_name)
        if isinstance(ending, Frozen) or old.state is LogState.UNCONFIRMED:
            # Peers may know more of it than we do: it did not end here.
            self._signing.require(old)
        final = _final_of(conn, old, ending)
        if isinstance(ending, Abandoned) and ending.later == "drop":
            # What replaced a record beyond the end is gone, so it did not replace it.
            epochs.undo_withdrawals(
                conn, old.log_id, final.tree_size, reasons=[Reason.SUPERSEDED]
            )
        changes: list[SignalChange] = []
        if isinstance(ending, Abandoned):
            changes += epochs.take_back(
                conn,
                old.log_id,
                ending.elsewhere,
                end=final.tree_size,
                now=self._clock(),
            )
        origin = self._next_origin(old)
        new = logs.insert_log(
            conn,
            origin=origin,
            role=Role.OWN,
            meta=old.meta,
            created_at=self._clock(),
            counts_from=None,
        )
        # Last of what can fail before a signature: a key once made stays.
        signer = self._keyring.create_log(origin)
        end_index = old.tree_size if _keeps_all(ending) else final.tree_size
        reissue = _Reissue(conn, old, new, signing=self._signing, now=self._clock())
        meta = Meta(origin, Checkpoint(old.origin, final.tree_size, final.root_hash))
        reissue.run(meta, end_index, erased_from=final.tree_size)
        state = _state_after(ending)
        self._sign_note(conn, old, signer, state, final)
        changes += reissue.changes
        changes += epochs.let_count(
            conn, reissue.new, {old.origin: LogState(state)}, now=self._clock()
        )
        begun = Begun(origin, old.origin, final, reissue.count)
        return _Written(begun, tuple(changes))

    def _next_origin(self, old: Log) -> str:
        epoch = old.epoch + 1
        origin = log_origin(self._node_name, old.list_name, epoch)
        # A key without a log: an attempt that was cut off, or a log that was lost. It
        # may have signed, so another log must not have its name. A key that only waits
        # for the list note has not.
        while self._keyring.has_log(origin) and not self._keyring.waits(origin):
            epoch += 1
            origin = log_origin(self._node_name, old.list_name, epoch)
        return origin

    def _sign_note(
        self,
        conn: Connection,
        old: Log,
        signer: Signer,
        state: Literal["frozen", "abandoned"],
        final: KnownHead,
    ) -> None:
        identity = self._keyring.identity
        note = open_list_note(old.list_note or b"", identity.key)
        ended = replace(note.logs[-1], state=state, final=final)
        begun = LogInfo(signer.key.name, (signer.key,), "active", None)
        fresh = replace(
            note, version=note.version + 1, logs=(*note.logs[:-1], ended, begun)
        )
        raw = sign_list_note(fresh, identity)
        for log in logs.logs_of_list(conn, self._node_name, old.list_name):
            logs.set_list_note(conn, log.log_id, raw, fresh.version)


class _Reissue:
    """Fills a new log with what still counts of an old one, in one transaction.

    Attributes:
        new: The new log as it is now.
        changes: Signals that became live or dead.
        count: Records so far.
    """

    def __init__(
        self,
        conn: Connection,
        old: Log,
        new: Log,
        *,
        signing: LogSigning,
        now: int,
    ) -> None:
        self._conn = conn
        self._old = old
        self._signing = signing
        self._now = now
        self.new = new
        self.changes: list[SignalChange] = []
        self.count = 0

    def run(self, meta: Meta, end_index: int, *, erased_from: int) -> None:
        """Write META and all records below an index; sign once, at the end.

        Followers undo the ERASE entries that lie beyond the end of the old log, or
        never see them, and may hold the bodies still. So those are said again.
        """
        conn, old = self._conn, self._old
        erased = epochs.erased_from(conn, old.log_id, erased_from)
        last = epochs.last_counted(self._conn, self._old.log_id, end_index)
        size = last + 1
        step = _BUNDLES * TILE_WIDTH
        for first in range(0, size, step):
            end = min(first + step, size)
            entries, bodies = self._read(first, end)
            if first == 0:
                entries[0] = meta
            if end == size:
                for one in erased:
                    again = late_withdrawal(conn, old, one.leaf_index)
                    erase = Erase(first + len(entries), 1, one.reason)
                    entries += [again, erase]
                    bodies += [Body(BodyStatus.WITHHELD), _NO_BODY]
                self._sign(entries, bodies)
            else:
                self._add(entries, bodies)

    def _read(self, first: int, end: int) -> tuple[list[Entry], list[Body]]:
        conn, log_id = self._conn, self._old.log_id
        counted = epochs.counted(conn, log_id, max(first, 1), end)
        raw = logs.read_entries_at(conn, log_id, counted)
        entries: list[Entry] = [GAP] * (end - first)
        bodies: list[Body] = [_NO_BODY] * (end - first)
        stored: dict[int, list[Body]] = {}
        for leaf_index in counted:
            bundle, offset = divmod(leaf_index, TILE_WIDTH)
            if bundle not in stored:
                width = min(TILE_WIDTH, self._old.tree_size - bundle * TILE_WIDTH)
                stored[bundle] = records.read_bodies(conn, log_id, bundle, width)
            entry = parse_entry(raw[leaf_index], leaf_index=leaf_index)
            entries[leaf_index - first] = entry
            bodies[leaf_index - first] = stored[bundle][offset]
        self.count += len(counted)
        return entries, bodies

    def _add(self, entries: list[Entry], bodies: list[Body]) -> None:
        raw = [encode_entry(entry) for entry in entries]
        hashes = leaf_hashes(raw)
        first_index = self.new.tree_size
        frontier = stored_frontier(self._conn, self.new).extend(hashes)
        self.new = logs.append_verified(
            self._conn, self.new, raw, hashes, root_hash=frontier.root
        )
        self.changes += records.apply_entries(
            self._conn, self.new, first_index, entries, bodies, now=self._now
        )

    def _sign(self, entries: list[Entry], bodies: list[Body]) -> None:
        done = append(
            self._conn, self.new, entries, bodies, signing=self._signing, now=self._now
        )
        self.new = done.log
        self.changes += done.changes


def late_withdrawal(conn: Connection, log: Log, leaf_index: int) -> Entry:
    """Give what must stand in the newest log before a record can be taken back there.

    For a record of an ended log that was not re-issued: nobody uses it any more, but
    whoever copied it may hold its body still, and no entry of its own log can come.

    Args:
        conn: In a transaction.
        log: The ended log.
        leaf_index: The record.
    """
    raw = logs.read_entry(conn, log.log_id, leaf_index)
    assert raw is not None  # noqa: S101 -- a record of it is stored
    return parse_entry(raw, leaf_index=leaf_index)


def _final_of(conn: Connection, old: Log, ending: Ending) -> KnownHead:
    match ending:
        case Frozen():
            return KnownHead(old.tree_size, old.root_hash)
        case Abandoned(final_size):
            if not 0 < final_size <= old.tree_size:
                raise NotServedError("tree of that size")
            fetch = logs.tile_fetcher(conn, old.log_id)
            return KnownHead(final_size, frontier_from_tiles(fetch, final_size).root)


def _state_after(ending: Ending) -> Literal["frozen", "abandoned"]:
    match ending:
        case Frozen():
            return "frozen"
        case Abandoned():
            return "abandoned"


def _keeps_all(ending: Ending) -> bool:
    match ending:
        case Frozen():
            return True
        case Abandoned(later=later):
            return later == "keep"

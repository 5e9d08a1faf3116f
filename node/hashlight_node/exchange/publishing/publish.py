"""Publishing: new lists, new records, and taking records back."""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from hashlight_node.exchange.errors import (
    EmptyRequestError,
    ForeignRecordError,
    ListExistsError,
    UnknownListError,
    UnknownRecordError,
)
from hashlight_node.exchange.logs.append import append
from hashlight_node.exchange.logs.scrubbing import scrub
from hashlight_node.model import RecordState, Role
from hashlight_node.store import logs, records
from hashlight_node.store.meanings import require_meaning
from hashlight_node.store.reissues import current_ref
from hashlight_protocol import (
    SALT_BYTES,
    Body,
    BodyStatus,
    Erase,
    ListNote,
    LogInfo,
    Meta,
    Reason,
    RecordEntry,
    Ref,
    Retract,
    commit,
    encode_ref,
    list_id,
    log_origin,
    parse_ref,
    sign_list_note,
)

from .epochs import late_withdrawal
from .idempotency import IdempotencyKey, earlier_answer, remember_answer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from hashlight_node.exchange.logs.applied import FollowsCommits
    from hashlight_node.exchange.logs.signing import LogSigning
    from hashlight_node.exchange.room import Room
    from hashlight_node.model import Clock, Log, SignalChange
    from hashlight_node.store.database import Connection, Database
    from hashlight_node.store.meanings import Meaning
    from hashlight_protocol import Entry, JsonValue

__all__ = ["IdempotencyKey", "Publisher", "WithdrawalKind"]

WithdrawalKind = Literal["retract", "erase"]

_FIRST_EPOCH = 1


def _nothing_else(_: Connection) -> None:
    """Change nothing besides."""


@dataclass(frozen=True, slots=True)
class _Written:
    refs: tuple[Ref, ...]
    changes: tuple[SignalChange, ...] = ()
    is_new: bool = True


class Publisher:
    """Writes this node's own lists.

    Every method is one transaction: all of it is in the log, signed, findable by
    lookups and remembered under its idempotency key, or none of it is.

    Args:
        database: The store.
        signing: Signs checkpoints; its keyring signs list notes, and makes the keys
            of new logs.
        matcher: Learns what became live or dead, right after the commit.
        clock: Unix seconds.
        node_name: This node.
        on_advanced: Told the origin of a log with a new checkpoint, after the commit.
        room: Whether there is room for new records; there always is if None.
    """

    def __init__(  # noqa: PLR0913 -- its collaborators, by name
        self,
        *,
        database: Database,
        signing: LogSigning,
        matcher: FollowsCommits,
        clock: Clock,
        node_name: str,
        on_advanced: Callable[[str], None],
        room: Room | None = None,
    ) -> None:
        self._room = room
        self._database = database
        self._keyring = signing.keyring
        self._signing = signing
        self._matcher = matcher
        self._clock = clock
        self._node_name = node_name
        self._on_advanced = on_advanced

    async def create_list(self, list_name: str, meta: Mapping[str, JsonValue]) -> Log:
        """Start a list: its first log, the log's key, META, a checkpoint, a list note.

        Args:
            list_name: 1 to 64 of `a-z 0-9 -`.
            meta: What peers with a grant are told about the list.

        Raises:
            MalformedError: The name is none, or `meta` cannot stand in a list note.
            ListExistsError: This node has a list of that name.
            NoRoomError: The disk is nearly full.
            KeyExistsError: The log has existed before and may have signed
                checkpoints that peers remember; it cannot start anew.
        """
        origin = log_origin(self._node_name, list_name, _FIRST_EPOCH)
        self._require_room()

        def create(conn: Connection) -> Log:
            if logs.find_own_log(conn, self._node_name, list_name) is not None:
                raise ListExistsError(list_name)
            log = logs.insert_log(
                conn, origin=origin, role=Role.OWN, meta=meta, created_at=self._clock()
            )
            # Last of what can fail before a signature: a key once made stays.
            signer = self._keyring.create_log(origin)
            note = ListNote(
                id=list_id(self._node_name, list_name),
                node=self._node_name,
                list_name=list_name,
                version=1,
                meta=meta,
                logs=(LogInfo(origin, (signer.key,), "active", None),),
            )
            logs.set_list_note(
                conn, log.log_id, sign_list_note(note, self._keyring.identity), 1
            )
            append(
                conn,
                log,
                [Meta(origin)],
                [Body(BodyStatus.NONE)],
                signing=self._signing,
                now=self._clock(),
            )
            found = logs.find_log(conn, origin)
            assert found is not None  # noqa: S101 -- written three lines above
            return found

        created = await self._database.write(create)
        self._on_advanced(origin)
        return created

    async def publish(
        self,
        list_name: str,
        bodies: Sequence[bytes],
        *,
        idempotency: IdempotencyKey | None = None,
        also: Callable[[Connection], None] = _nothing_else,
    ) -> tuple[Ref, ...]:
        """Append records to a list.

        Args:
            list_name: One of our lists.
            bodies: Record bodies, exact bytes; each is parsed here again, because
                this is the one door to our logs.
            idempotency: Makes a repetition harmless.
            also: What else must be so exactly if they are published; it gets the
                transaction, and what it raises ends that.

        Returns:
            One reference per body, in order.

        Raises:
            EmptyRequestError: There is no body.
            NoRoomError: The disk is nearly full.
            ProtocolError: A body is not a record. Nothing is published.
            UnknownListError: This node has no such list.
            ListInactiveError: The list takes no more entries.
            RolledBackError: The list is older than what was signed last.
            UnconfirmedError: It is not known what was signed last.
            IdempotencyConflictError: The key came with another request.
        """
        if not bodies:
            raise EmptyRequestError
        self._require_room()
        prepared = await asyncio.to_thread(
            _prepare, list_id(self._node_name, list_name), bodies
        )

        def write(conn: Connection) -> _Written:
            earlier = earlier_answer(conn, idempotency)
            if earlier is not None:
                return _Written(_parse_refs(earlier), is_new=False)
            log = logs.find_own_log(conn, self._node_name, list_name)
            if log is None:
                raise UnknownListError(list_name)
            now = self._clock()
            superseded = _retract_replaced(prepared.replaced, log.tree_size)
            done = append(
                conn,
                log,
                [*prepared.entries, *superseded],
                [*prepared.bodies, *(Body(BodyStatus.NONE) for _ in superseded)],
                signing=self._signing,
                now=now,
                meanings=[*prepared.meanings, *(None for _ in superseded)],
            )
            refs = tuple(
                Ref(log.origin, done.first_index + n) for n in range(len(bodies))
            )
            also(conn)
            remember_answer(conn, idempotency, _encode_refs(refs), now=now)
            return _Written(refs, done.changes)

        return await self._commit(write)

    async def withdraw(
        self,
        ref: Ref,
        kind: WithdrawalKind,
        reason: Reason,
        *,
        idempotency: IdempotencyKey | None = None,
    ) -> Ref:
        """Take a record back, everywhere.

        Withdrawing again is harmless: a record that is retracted, or erased, already
        is answered with the entry that did it. An erase after a retract is new work.
        A record of a log that ended is taken back in the log that took its place.

        Args:
            ref: A record of one of our lists.
            kind: `erase` also destroys body and salt, here and on every peer.
            reason: Why; peers see it.
            idempotency: Makes a repetition harmless.

        Returns:
            Reference of the RETRACT or ERASE entry. Its index is what a peer's
            acknowledgement must exceed.

        Raises:
            UnknownRecordError: There is no such record.
            ForeignRecordError: Another node published it.
            ListInactiveError: The list takes no more entries.
            RolledBackError: The list is older than what was signed last.
            UnconfirmedError: It is not known what was signed last.
            IdempotencyConflictError: The key came with another request.
        """

        def write(conn: Connection) -> _Written:
            earlier = earlier_answer(conn, idempotency)
            if earlier is not None:
                return _Written(_parse_refs(earlier), is_new=False)
            target = current_ref(conn, ref)
            log = _own_log(conn, target)
            done_before = _withdrawn_by(conn, target, kind)
            now = self._clock()
            if done_before is not None:
                written = _Written((Ref(target.origin, done_before),), is_new=False)
            else:
                log, target, before = _reach(conn, log, target)
                entry = (Erase if kind == "erase" else Retract)(
                    target.leaf_index, 1, int(reason)
                )
                withheld = [Body(BodyStatus.WITHHELD)] * len(before)
                done = append(
                    conn,
                    log,
                    [*before, entry],
                    [*withheld, Body(BodyStatus.NONE)],
                    signing=self._signing,
                    now=now,
                )
                written = _Written(
                    (Ref(log.origin, done.first_index + len(before)),), done.changes
                )
            remember_answer(conn, idempotency, _encode_refs(written.refs), now=now)
            return written

        (withdrawn,) = await self._commit(write)
        if kind == "erase":
            # Also when there was nothing to do: the scrub of the first time may have
            # been cut off.
            await scrub(self._database)
        return withdrawn

    async def heartbeat(self, origin: str) -> None:
        """Announce a log's newest checkpoint again, so that its cosignatures are fresh.

        A checkpoint carries no time. Without this, somebody between us and a peer
        could hold the peer at an old state, before an ERASE, and nobody would see.
        """
        self._on_advanced(origin)

    def _require_room(self) -> None:
        if self._room is not None:
            self._room.require()

    async def _commit(self, write: Callable[[Connection], _Written]) -> tuple[Ref, ...]:
        written = await self._database.write(
            write,
            after_commit=lambda written: self._matcher.apply(written.changes),
            then=lambda written: self._matcher.tidy(written.changes),
        )
        if written.is_new:
            self._on_advanced(written.refs[0].origin)
        return written.refs


@dataclass(frozen=True, slots=True)
class _Prepared:
    """Records ready to be appended, and the indexes of those that they replace."""

    entries: list[RecordEntry]
    bodies: list[Body]
    meanings: list[Meaning]
    replaced: frozenset[int]


def _prepare(list_of: str, bodies: Sequence[bytes]) -> _Prepared:
    meanings = [require_meaning(body) for body in bodies]
    salts = [secrets.token_bytes(SALT_BYTES) for _ in bodies]
    pairs = list(zip(salts, bodies, strict=True))
    return _Prepared(
        [RecordEntry(commit(list_of, salt, body)) for salt, body in pairs],
        [Body(BodyStatus.PRESENT, salt, body) for salt, body in pairs],
        meanings,
        frozenset(it.replaces for it in meanings if it.replaces is not None),
    )


def _retract_replaced(replaced: frozenset[int], tree_size: int) -> list[Retract]:
    """Retract what new records replace.

    A replacement that is erased later is unreadable for a follower who comes after
    that, who would then match what it replaced. The log must say it for itself.
    """
    return [
        Retract(leaf_index, 1, int(Reason.SUPERSEDED))
        for leaf_index in sorted(replaced)
        if leaf_index < tree_size
    ]


def _own_log(conn: Connection, ref: Ref) -> Log:
    log = logs.find_log(conn, ref.origin)
    if log is None:
        raise UnknownRecordError(ref)
    if log.role is not Role.OWN:
        raise ForeignRecordError(ref)
    return log


def _reach(conn: Connection, log: Log, ref: Ref) -> tuple[Log, Ref, list[Entry]]:
    """Find where a withdrawal of a record must stand, and what must stand before it."""
    if log.counts_until is None:
        return log, ref, []
    newest = logs.find_own_log(conn, log.node, log.list_name)
    assert newest is not None  # noqa: S101 -- a log ends when another begins
    entry = late_withdrawal(conn, log, ref.leaf_index)
    return newest, Ref(newest.origin, newest.tree_size), [entry]


def _withdrawn_by(conn: Connection, ref: Ref, kind: WithdrawalKind) -> int | None:
    record = records.read_record(conn, ref)
    if record is None:
        raise UnknownRecordError(ref)
    settled = {RecordState.ERASED}
    if kind == "retract":
        settled.add(RecordState.RETRACTED)
    return record.withdrawn_by if record.state in settled else None


def _encode_refs(refs: Sequence[Ref]) -> bytes:
    return "\n".join(map(encode_ref, refs)).encode()


def _parse_refs(answer: bytes) -> tuple[Ref, ...]:
    return tuple(map(parse_ref, answer.decode().split("\n")))

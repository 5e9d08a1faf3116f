"""Pushing: tell the peers of a list about its newest checkpoint, keep their receipts.

A push is C2SP's `add-checkpoint`: the peer checks that our log was only appended to and
answers with its witness cosignature, a signed and timed statement that it has seen this
size (a delivery). Its own pull follows, and what it signs after that with its mirror
key, an acknowledgement, says that all of it is stored and applied.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import structlog

from hashlight_node.exchange.errors import RolledBackError, UnknownListError
from hashlight_node.exchange.following.descriptors import PeerDescriptors, descriptor_of
from hashlight_node.exchange.logs.cosigning import note_cosigned_by
from hashlight_node.exchange.logs.evidence import keep_evidence
from hashlight_node.exchange.logs.receipts import stored_hashes
from hashlight_node.exchange.notices import Backoff
from hashlight_node.exchange.telling.acknowledgements import (
    Collector,
    is_recipient,
    read_cosigned_at,
)
from hashlight_node.model import Delivery, Role
from hashlight_node.peers.client import Cosigned, KnownSize
from hashlight_node.peers.errors import (
    PeerError,
    PeerMisbehavedError,
    PeerRefusedError,
    PeerUnavailableError,
    blaming,
)
from hashlight_node.store import deliveries, logs, relaying
from hashlight_node.store import peers as peer_store
from hashlight_protocol import (
    AddCheckpoint,
    ConflictError,
    RollbackError,
    consistency_proof,
    encode_add_checkpoint,
    parse_origin,
    parse_signatures,
)

from .relayed import RelayedCollector

if TYPE_CHECKING:
    from hashlight_node.exchange.logs.self_check import SelfCheck
    from hashlight_node.exchange.notices import Notices
    from hashlight_node.keys import Keyring
    from hashlight_node.model import Acknowledgement, Clock, Log, Peer
    from hashlight_node.peers.client import PeerClient
    from hashlight_node.store.database import Connection, Database

_RETRY_LIMIT_SECONDS: Final = 300
_REPEAT_SECONDS: Final = 50
_NEW_LOG_SECONDS: Final = 65

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class _Submission:
    """What to send one peer about one log."""

    log: Log
    peer: Peer
    note: bytes
    request: bytes
    grants_version: int
    may_relay: bool


@dataclass(frozen=True, slots=True)
class _Behind:
    """Who lacks what: (peer name, origin) to push, (origin, peer) to ask.

    `relays` are those to be asked about others who got the log from them.
    """

    unseen: list[tuple[str, str]]
    unacknowledged: list[tuple[str, Peer]]
    relays: list[tuple[str, Peer]]


class Pusher:
    """Announces our logs to the peers that hold a grant.

    Args:
        database: The store.
        client: Asks the peers.
        keyring: Knows the keys of our logs.
        self_check: Finds out whether a peer knows more of a log of ours than we do.
        clock: Unix seconds.
        notices: Where a push that failed is queued again.
    """

    def __init__(
        self,
        *,
        database: Database,
        client: PeerClient,
        keyring: Keyring,
        self_check: SelfCheck,
        clock: Clock,
        notices: Notices,
    ) -> None:
        self._database = database
        self._client = client
        self._self_check = self_check
        self._collector = Collector(
            database=database,
            client=client,
            keyring=keyring,
            self_check=self_check,
            clock=clock,
        )
        self._descriptors = PeerDescriptors(
            database=database, client=client, clock=clock
        )
        self._relayed = RelayedCollector(
            database=database,
            client=client,
            keyring=keyring,
            self_check=self_check,
            clock=clock,
        )
        self._clock = clock
        self._notices = notices
        self._backoff: Backoff[str] = Backoff(limit_seconds=_RETRY_LIMIT_SECONDS)
        self._delivered: dict[tuple[str, str], tuple[int, int, int]] = {}

    async def queue(self, origin: str) -> None:
        """Queue a log's newest checkpoint for every peer that may have it.

        Args:
            origin: One of our logs.

        Raises:
            UnknownListError: It is not one of our logs.
        """
        for peer in await self._read_recipients(origin):
            self._notices.peer_pushes.add((peer.name, origin))

    async def push(self, origin: str) -> list[Delivery]:
        """Announce a log's newest checkpoint to all granted peers, and wait for them.

        Args:
            origin: One of our logs.

        Returns:
            What was delivered now.

        Raises:
            UnknownListError: It is not one of our logs.
        """
        peers = await self._read_recipients(origin)
        tried = (self.push_to(peer.name, origin) for peer in peers)
        delivered = await asyncio.gather(*tried)
        return [delivery for delivery in delivered if delivery is not None]

    async def push_to(self, peer_name: str, origin: str) -> Delivery | None:
        """Announce a log's newest checkpoint to one peer, if it may still have it.

        A peer that does not answer is tried again later, one that refuses is not.
        Its acknowledgement is collected in the background.

        Args:
            peer_name: The peer.
            origin: One of our logs.

        Returns:
            What was delivered now, if anything.

        Raises:
            UnknownListError: It is not one of our logs.
        """
        waiting = self._backoff.remaining_seconds(peer_name, self._clock())
        if waiting:
            self._notices.push_later(peer_name, origin, waiting)
            return None
        try:
            delivery = await self._deliver(peer_name, origin)
        except PeerError as error:
            await self._fail(peer_name, origin, error)
            return None
        self._backoff.succeeded(peer_name)
        return delivery

    async def sweep(self) -> None:
        """Make up for lost notices: queue what is unseen, ask for acknowledgements."""
        behind = await self._database.read(_behind)
        for item in behind.unseen:
            self._notices.peer_pushes.add(item)
        for origin, peer in behind.unacknowledged:
            self._collector.start(origin, peer)
        for origin, peer in behind.relays:
            self._relayed.start(origin, peer)

    async def collect_acknowledgement(
        self, origin: str, peer: Peer, *, wait_seconds: int
    ) -> Acknowledgement | None:
        """Ask a peer up to where it has stored and applied one of our logs.

        Args:
            origin: One of our logs.
            peer: Who copies it.
            wait_seconds: How long it may hold back the answer for want of news.

        Returns:
            What it signed, None if there is nothing new.

        Raises:
            PeerError: There is no answer, or not one that holds.
        """
        return await self._collector.collect(origin, peer, wait_seconds=wait_seconds)

    @property
    def is_collecting(self) -> bool:
        """Whether acknowledgements are awaited in the background."""
        return self._collector.is_collecting or self._relayed.is_collecting

    async def close(self) -> None:
        """Stop collecting acknowledgements."""
        await self._collector.close()
        await self._relayed.close()

    async def _read_recipients(self, origin: str) -> list[Peer]:
        return await self._database.read(
            lambda conn: _recipients(conn, _pushed_log(conn, origin))
        )

    async def _fail(self, peer_name: str, origin: str, error: PeerError) -> None:
        match error:
            case PeerUnavailableError(retry_after_seconds=asked_seconds):
                now = self._clock()
                seconds = self._backoff.failed(peer_name, now, asked_seconds)
                self._notices.push_later(peer_name, origin, seconds)
                _log.warning("push failed", peer=peer_name, wait_seconds=seconds)
            case PeerRefusedError(code="unknown-log") if _is_later(origin):
                # It may know the list by a note that does not name this log yet, and
                # asks for a newer one once a minute at most.
                self._notices.push_later(peer_name, origin, _NEW_LOG_SECONDS)
            case PeerRefusedError(code=code):
                _log.warning("push refused", peer=peer_name, code=code)
            case PeerMisbehavedError():
                await self._keep(peer_name, origin, error)
            case _:
                raise error

    async def _deliver(self, peer_name: str, origin: str) -> Delivery | None:
        first = await self._prepare(peer_name, origin)
        if first is None or self._has_just_seen(first):
            return None
        try:
            return await self._submit(first)
        except ConflictError as error:
            # The peer knows better, because it saw the checkpoint while it pulled, or
            # because an answer of it was lost. Once: two sizes in a row are a race that
            # the next push settles.
            known_size = error.known_size
        second = await self._prepare(peer_name, origin, known_size)
        if second is None:
            return None
        try:
            return await self._submit(second)
        except ConflictError as error:
            raise PeerUnavailableError(peer_name, "its view changes") from error

    async def _prepare(
        self, peer_name: str, origin: str, known_size: int | None = None
    ) -> _Submission | None:
        """Read what to send; None if the peer is not to hear of the log any more."""
        submission = await self._database.read(
            lambda conn: _submission(conn, origin, peer_name, known_size)
        )
        if submission is None:
            self._collector.stop(origin, peer_name)
        return submission

    def _has_just_seen(self, submission: _Submission) -> bool:
        # A push that is repeated for the sake of one peer need not bother the others.
        log = submission.log
        # Of a changed right it has not: a push is how it learns of that, too.
        key = (log.origin, submission.peer.name)
        size, version, at = self._delivered.get(key, (-1, 0, 0))
        passed_seconds = self._clock() - at
        seen = (log.checkpoint_size, submission.grants_version)
        return (size, version) == seen and 0 <= passed_seconds < _REPEAT_SECONDS

    async def _submit(self, submission: _Submission) -> Delivery:
        peer = submission.peer
        answer = await self._client.push_checkpoint(peer, submission.request)
        match answer:
            case KnownSize(tree_size):
                await self._check_known(submission.log.origin, peer, tree_size)
                raise ConflictError(tree_size)
            case Cosigned(lines):
                return await self._accept(submission, lines)

    async def _check_known(self, origin: str, peer: Peer, tree_size: int) -> None:
        """Notice that a peer has seen more of our log than we have.

        It says so without proof, so it may lie; or this node was restored from an old
        backup and must not sign anything more. So it is asked for the proof, which is
        our own signature.
        """
        # As of now: the log may have grown, and the peer pulled, since we asked.
        log = await self._database.read(lambda conn: _pushed_log(conn, origin))
        if log.role is Role.FOLLOWED and tree_size > log.checkpoint_size:
            # Somebody else brings it there, too, and was earlier.
            raise PeerUnavailableError(peer.name, "it knows more than we do")
        if tree_size > log.checkpoint_size:
            _log.error(
                "a peer claims to know more of our log than we do: restored backup",
                peer=peer.name,
                list=log.list_name,
                size=log.checkpoint_size,
                new_size=tree_size,
            )
            heard = await self._self_check.ask_peer(peer, origin)
            if heard.signed is not None and not heard.fits:
                raise RolledBackError(log.list_name)
            if heard.is_away:
                # Nobody's fault: it claims it again when it can show it.
                raise PeerUnavailableError(peer.name, "it cannot show what it knows")
            cause = RollbackError(log.origin, tree_size, log.checkpoint_size)
            raise PeerMisbehavedError(
                peer.name, "known size", cause, str(tree_size).encode()
            )

    async def _accept(self, submission: _Submission, lines: bytes) -> Delivery:
        log, peer = submission.log, submission.peer
        with blaming(peer.name, f"cosignature of {log.origin}", lines):
            peer, (note, cosigned_at) = await self._descriptors.read_as_now(
                peer, lambda it: self._read_cosignature(submission, it, lines)
            )

        def save(conn: Connection) -> None:
            deliveries.save_delivery(
                conn,
                log_id=log.log_id,
                peer_id=peer.peer_id,
                tree_size=log.checkpoint_size,
                cosigned_at=cosigned_at,
                note=note,
            )
            peer_store.touch_peer(conn, peer.peer_id, self._clock())

        await self._database.write(save)
        self._delivered[log.origin, peer.name] = (
            log.checkpoint_size,
            submission.grants_version,
            self._clock(),
        )
        self._collector.start(log.origin, peer)
        if submission.may_relay:
            self._relayed.start(log.origin, peer)
        return Delivery(log.origin, peer.name, log.checkpoint_size, cosigned_at)

    def _read_cosignature(
        self, submission: _Submission, peer: Peer, lines: bytes
    ) -> tuple[bytes, int]:
        witness = descriptor_of(peer).witness
        note = note_cosigned_by(submission.note, parse_signatures(lines), witness)
        return note, read_cosigned_at(note, witness, now=self._clock())

    async def _keep(
        self, peer_name: str, origin: str, error: PeerMisbehavedError
    ) -> None:
        def keep(conn: Connection) -> None:
            peer = peer_store.find_peer(conn, peer_name)
            log = logs.find_log(conn, origin)
            name = "" if log is None else log.list_name
            if peer is not None:
                keep_evidence(conn, peer, name, error, now=self._clock())

        await self._database.write(keep)


def _is_later(origin: str) -> bool:
    """Tell whether a log is not the first of its list."""
    return parse_origin(origin).epoch > 1


def _recipients(conn: Connection, log: Log) -> list[Peer]:
    candidates = (
        peer_store.granted_peers(conn, log.list_name)
        if log.role is Role.OWN
        else relaying.relayed_peers(conn, log.node, log.list_name)
    )
    return [peer for peer in candidates if is_recipient(conn, log, peer)]


def _pushed_log(conn: Connection, origin: str) -> Log:
    """Look up a log that peers hear of from us: one of ours, or one that we relay."""
    log = logs.find_log(conn, origin)
    if log is None or log.checkpoint is None:
        raise UnknownListError(origin)
    return log


def _behind(conn: Connection) -> _Behind:
    unseen: list[tuple[str, str]] = []
    unacknowledged: list[tuple[str, Peer]] = []
    for log in logs.list_logs(conn):
        if log.checkpoint is None:
            continue
        for peer in _recipients(conn, log):
            size = deliveries.delivered_size(conn, log.log_id, peer.peer_id)
            newest = deliveries.newest_acknowledgement(conn, log.log_id, peer.peer_id)
            if log.counts_until is not None and not size:
                continue  # It never knew the log, and has no use for it any more.
            if size < log.checkpoint_size:
                unseen.append((peer.name, log.origin))
            if newest is None or newest.tree_size < log.checkpoint_size:
                unacknowledged.append((log.origin, peer))
    return _Behind(unseen, unacknowledged, _relays(conn))


def _relays(conn: Connection) -> list[tuple[str, Peer]]:
    """List (origin, peer) of whoever may pass a log of ours on."""
    relays: list[tuple[str, Peer]] = []
    for log in logs.list_logs(conn, Role.OWN):
        for peer in _recipients(conn, log) if log.checkpoint is not None else ():
            grant = peer_store.find_grant(conn, peer.peer_id, log.list_name)
            if grant is not None and grant.may_relay:
                relays.append((log.origin, peer))
    return relays


def _submission(
    conn: Connection, origin: str, peer_name: str, known_size: int | None
) -> _Submission | None:
    """Build a push, unless grant or peer are gone: what was queued may be old."""
    log = _pushed_log(conn, origin)
    peer = peer_store.find_peer(conn, peer_name)
    if peer is None or not is_recipient(conn, log, peer):
        return None
    if known_size is None:
        # More than we have was delivered only before a restore from backup; the answer
        # to the push will say so.
        delivered_size = deliveries.delivered_size(conn, log.log_id, peer.peer_id)
        known_size = min(delivered_size, log.checkpoint_size)
    proof = consistency_proof(
        stored_hashes(conn, log), old_size=known_size, new_size=log.checkpoint_size
    )
    note = log.mirror_checkpoint or log.checkpoint or b""
    request = encode_add_checkpoint(AddCheckpoint(known_size, tuple(proof), note))
    version = peer_store.grants_version(conn, peer.peer_id)
    grant = peer_store.find_grant(conn, peer.peer_id, log.list_name)
    may_relay = log.role is Role.OWN and grant is not None and grant.may_relay
    return _Submission(log, peer, note, request, version, may_relay)

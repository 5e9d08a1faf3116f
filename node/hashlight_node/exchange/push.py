"""Pushing: tell the peers of a list about its newest checkpoint, keep their receipts.

A push is C2SP's `add-checkpoint`: the peer checks that our log was only appended to and
answers with its witness cosignature, a signed and timed statement that it has seen this
size (a delivery). Its own pull follows, and what it signs after that with its mirror
key, an acknowledgement, says that all of it is stored and applied.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

import structlog

from hashlight_node.model import Delivery, PeerState, Role
from hashlight_node.peers.client import Cosigned, KnownSize
from hashlight_node.peers.errors import (
    PeerError,
    PeerMisbehavedError,
    PeerRefusedError,
    PeerUnavailableError,
    blaming,
)
from hashlight_node.store import deliveries, logs
from hashlight_node.store import peers as peer_store
from hashlight_protocol import (
    AddCheckpoint,
    ConflictError,
    RollbackError,
    consistency_proof,
    encode_add_checkpoint,
    parse_signatures,
    verify_cosignature,
)

from .acknowledgements import Collector, descriptor_of
from .cosigning import note_cosigned_by
from .errors import UnknownListError
from .evidence import keep_evidence
from .notices import Backoff, Rounds
from .receipts import stored_hashes

if TYPE_CHECKING:
    from hashlight_node.keys import Keyring
    from hashlight_node.model import Acknowledgement, Clock, Log, Peer
    from hashlight_node.peers.client import PeerClient
    from hashlight_node.store.database import Connection, Database

    from .notices import Notices

_RETRY_LIMIT_SECONDS: Final = 300
_REPEAT_SECONDS: Final = 50

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class _Submission:
    """What to send one peer about one log."""

    log: Log
    note: bytes
    request: bytes


class Pusher:
    """Announces our logs to the peers that hold a grant.

    Args:
        database: The store.
        client: Asks the peers.
        keyring: Knows the keys of our logs.
        clock: Unix seconds.
        notices: Where a push that failed is queued again.
    """

    def __init__(
        self,
        *,
        database: Database,
        client: PeerClient,
        keyring: Keyring,
        clock: Clock,
        notices: Notices,
    ) -> None:
        self._database = database
        self._client = client
        self._collector = Collector(
            database=database, client=client, keyring=keyring, clock=clock
        )
        self._clock = clock
        self._notices = notices
        self._rounds: Rounds[tuple[str, str], Delivery | None] = Rounds()
        self._backoff: Backoff[str] = Backoff(limit_seconds=_RETRY_LIMIT_SECONDS)
        self._delivered: dict[tuple[str, str], tuple[int, int]] = {}

    async def push(self, origin: str) -> list[Delivery]:
        """Announce a log's newest checkpoint to all granted peers at the same time.

        Peers that do not answer are tried again later, peers that refuse are not; none
        holds up the others. Acknowledgements are collected in the background.

        Args:
            origin: One of our logs.

        Returns:
            What was delivered now.

        Raises:
            UnknownListError: It is not one of our logs.
        """
        peers = await self._database.read(lambda conn: _recipients(conn, origin))
        tried = (
            self._rounds.run((origin, peer.name), partial(self._push_one, origin, peer))
            for peer in peers
        )
        delivered = await asyncio.gather(*tried)
        return [delivery for delivery in delivered if delivery is not None]

    async def sweep(self) -> None:
        """Make up for lost notices: push what is unseen, ask for acknowledgements."""
        for origin, unseen, unacknowledged in await self._database.read(_behind):
            if unseen:
                await self.push(origin)
            for peer in unacknowledged:
                self._collector.start(origin, peer)

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
        return self._collector.is_collecting

    async def close(self) -> None:
        """Stop collecting acknowledgements."""
        await self._collector.close()

    async def _push_one(self, origin: str, peer: Peer) -> Delivery | None:
        waiting = self._backoff.remaining_seconds(peer.name, self._clock())
        if waiting:
            self._notices.push_later(origin, waiting)
            return None
        if await self._has_just_seen(origin, peer):
            return None
        try:
            delivery = await self._deliver(origin, peer)
        except PeerError as error:
            await self._fail(origin, peer, error)
            return None
        self._backoff.succeeded(peer.name)
        self._delivered[origin, peer.name] = (delivery.tree_size, self._clock())
        self._collector.start(origin, peer)
        return delivery

    async def _fail(self, origin: str, peer: Peer, error: PeerError) -> None:
        match error:
            case PeerUnavailableError(retry_after_seconds=asked_seconds):
                now = self._clock()
                seconds = self._backoff.failed(peer.name, now, asked_seconds)
                self._notices.push_later(origin, seconds)
                _log.warning("push failed", peer=peer.name, wait_seconds=seconds)
            case PeerRefusedError(code=code):
                _log.warning("push refused", peer=peer.name, code=code)
            case PeerMisbehavedError():
                await self._keep(peer, origin, error)
            case _:
                raise error

    async def _has_just_seen(self, origin: str, peer: Peer) -> bool:
        # A push that is repeated for the sake of one peer need not bother the others.
        log = await self._database.read(lambda conn: _own_log(conn, origin))
        size, at = self._delivered.get((origin, peer.name), (-1, 0))
        return size == log.checkpoint_size and self._clock() - at < _REPEAT_SECONDS

    async def _deliver(self, origin: str, peer: Peer) -> Delivery:
        old_size = await self._database.read(
            lambda conn: _delivered_size(conn, origin, peer)
        )
        try:
            return await self._submit(origin, peer, old_size)
        except ConflictError as error:
            # The peer knows better, because it saw the checkpoint while it pulled, or
            # because an answer of it was lost. Once: two sizes in a row are a race that
            # the next push settles.
            known_size = error.known_size
        try:
            return await self._submit(origin, peer, known_size)
        except ConflictError as error:
            raise PeerUnavailableError(peer.name, "its view changes") from error

    async def _submit(self, origin: str, peer: Peer, old_size: int) -> Delivery:
        submission = await self._database.read(
            lambda conn: _submission(conn, origin, old_size)
        )
        answer = await self._client.push_checkpoint(peer, submission.request)
        match answer:
            case KnownSize(tree_size):
                self._check_known(submission.log, peer, tree_size)
                raise ConflictError(tree_size)
            case Cosigned(lines):
                return await self._accept(submission, peer, lines)

    def _check_known(self, log: Log, peer: Peer, tree_size: int) -> None:
        """Notice that a peer has seen more of our log than we have.

        It says so without proof, so it may lie; or this node was restored from an old
        backup and must not sign anything more. The operator has to look.
        """
        if tree_size > log.checkpoint_size:
            _log.error(
                "a peer claims to know more of our log than we do: restored backup",
                peer=peer.name,
                list=log.list_name,
                size=log.checkpoint_size,
                new_size=tree_size,
            )
            cause = RollbackError(log.origin, tree_size, log.checkpoint_size)
            raise PeerMisbehavedError(
                peer.name, "known size", cause, str(tree_size).encode()
            )

    async def _accept(
        self, submission: _Submission, peer: Peer, lines: bytes
    ) -> Delivery:
        log = submission.log
        witness = descriptor_of(peer).witness
        with blaming(peer.name, f"cosignature of {log.origin}", lines):
            note = note_cosigned_by(submission.note, parse_signatures(lines), witness)
            cosigned_at = verify_cosignature(note, witness)

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
        return Delivery(log.origin, peer.name, log.checkpoint_size, cosigned_at)

    async def _keep(self, peer: Peer, origin: str, error: PeerMisbehavedError) -> None:
        def keep(conn: Connection) -> None:
            log = logs.find_log(conn, origin)
            name = "" if log is None else log.list_name
            keep_evidence(conn, peer, name, error, now=self._clock())

        await self._database.write(keep)


def _recipients(conn: Connection, origin: str) -> list[Peer]:
    log = _own_log(conn, origin)
    return [
        peer
        for peer in peer_store.granted_peers(conn, log.list_name)
        if peer.state is PeerState.ACTIVE
    ]


def _own_log(conn: Connection, origin: str) -> Log:
    log = logs.find_log(conn, origin)
    if log is None or log.role is not Role.OWN or log.checkpoint is None:
        raise UnknownListError(origin)
    return log


def _behind(conn: Connection) -> list[tuple[str, bool, list[Peer]]]:
    """List our logs: whether a peer has not seen all, and who has not applied all."""
    found: list[tuple[str, bool, list[Peer]]] = []
    for log in logs.list_logs(conn, Role.OWN):
        if log.checkpoint is None:
            continue
        unseen = False
        unacknowledged: list[Peer] = []
        for peer in _recipients(conn, log.origin):
            size = deliveries.delivered_size(conn, log.log_id, peer.peer_id)
            newest = deliveries.newest_acknowledgement(conn, log.log_id, peer.peer_id)
            unseen = unseen or size < log.checkpoint_size
            if newest is None or newest.tree_size < log.checkpoint_size:
                unacknowledged.append(peer)
        found.append((log.origin, unseen, unacknowledged))
    return found


def _delivered_size(conn: Connection, origin: str, peer: Peer) -> int:
    log = _own_log(conn, origin)
    size = deliveries.delivered_size(conn, log.log_id, peer.peer_id)
    # More than we have was delivered only before a restore from backup; the answer to
    # the push will say so.
    return min(size, log.checkpoint_size)


def _submission(conn: Connection, origin: str, old_size: int) -> _Submission:
    log = _own_log(conn, origin)
    proof = consistency_proof(
        stored_hashes(conn, log), old_size=old_size, new_size=log.checkpoint_size
    )
    note = log.checkpoint or b""
    request = encode_add_checkpoint(AddCheckpoint(old_size, tuple(proof), note))
    return _Submission(log, note, request)

"""Comparing notes: nodes that know the same log show each other what they saw of it.

A log that shows two histories is caught when two of its followers talk. Each sends its
newest checkpoint, which only who was granted the log can have, and is answered with
the other's; both look at both. What is found out goes to those who showed that they
know the log, and to nobody else.

Source: SPEC.md#gossip and SPEC.md#fork-evidence.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import structlog

from hashlight_node.exchange.errors import UnknownLogError
from hashlight_node.exchange.following.descriptors import descriptor_of
from hashlight_node.exchange.logs.evidence import keep_evidence
from hashlight_node.exchange.logs.forks import keep_own_fork
from hashlight_node.exchange.logs.linking import find_fork_here
from hashlight_node.model import PeerState
from hashlight_node.peers.errors import (
    PeerMisbehavedError,
    PeerRefusedError,
    PeerUnavailableError,
    blaming,
)
from hashlight_node.store import forks as fork_store
from hashlight_node.store import peers as peer_store
from hashlight_protocol import (
    BadSignatureError,
    ForkEvidence,
    ProtocolError,
    UnknownKeyError,
    parse_fork_evidence,
    parse_origin,
    unverified_origin,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterable

    from hashlight_node.exchange.logs.forks import ForkFinder
    from hashlight_node.exchange.logs.quorum import Quorum
    from hashlight_node.exchange.notices import Notices
    from hashlight_node.model import Clock, Peer
    from hashlight_node.peers.client import PeerClient
    from hashlight_node.store.database import Connection, Database
    from hashlight_protocol import SignedCheckpoint

    from .shared_logs import SharedLog, SharedLogs

FEATURE: Final = "gossip"
EVIDENCE_FEATURE: Final = "evidence"

_PEERS_PER_LOG: Final = 8
"""Peers to compare a log with in one sweep; others have their turn in the next."""

_STRANGER_SECONDS: Final = 3600
"""How long not to show a log to a peer that does not know it."""

_AT_ONCE: Final = 4
"""Logs that are compared at the same time."""

_log = structlog.get_logger()


@dataclass(slots=True)
class _Memory:
    """What one run of the node learned about who knows a log.

    Attributes:
        knows: Peers that showed a checkpoint of it.
        asked_at: When a peer said last that it does not know the log.
        told: Peers that have the evidence against it, or will not take it.
        turn: Whose turn it is.
    """

    knows: set[str] = field(default_factory=set)
    asked_at: dict[str, int] = field(default_factory=dict)
    told: set[str] = field(default_factory=set)
    turn: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class GossipParts:
    """What comparing needs.

    Attributes:
        database: The store.
        client: Asks peers.
        shared: Finds logs and their keys.
        finder: Judges two checkpoints, and keeps evidence.
        quorum: Learns the cosignatures that peers show.
        notices: Where news is queued.
        clock: Unix seconds.
    """

    database: Database
    client: PeerClient
    shared: SharedLogs
    finder: ForkFinder
    quorum: Quorum
    notices: Notices
    clock: Clock


class Gossip:
    """Compares what peers see of logs that we both know, and passes evidence on.

    For one event loop; not thread-safe.

    Args:
        parts: Collaborators.
    """

    def __init__(self, parts: GossipParts) -> None:
        self._database = parts.database
        self._client = parts.client
        self._shared = parts.shared
        self._finder = parts.finder
        self._quorum = parts.quorum
        self._notices = parts.notices
        self._clock = parts.clock
        self._memory: dict[str, _Memory] = {}

    # ------------------------------------------------------------ what peers send us

    async def answer(self, peer: Peer, raw: bytes) -> bytes:
        """Answer a peer's checkpoint of a log with ours, and look at both.

        Nobody else is asked meanwhile: what our copy cannot tell, the caller or our
        own next sweep finds out.

        Args:
            peer: Who sent it, authenticated.
            raw: Its newest checkpoint of a log.

        Returns:
            Our largest one; with our witness cosignature, unless the log is ours.

        Raises:
            UnknownLogError: We do not know the log, or no key of it signed: one answer
                for both.
            MalformedError: The bytes are no checkpoint.
            TooLargeError: They are too many.

        Source: SPEC.md#gossip.
        """
        log = await self._shared.find(unverified_origin(raw), peer)
        if log.note is None:
            raise UnknownLogError
        try:
            theirs = await self._shared.open(log, raw)
            ours = await self._shared.open(log, log.note)
        except (BadSignatureError, UnknownKeyError):
            raise UnknownLogError from None
        self._met(log, peer)
        await self._look(log, ours, theirs)
        if await self._database.read(
            lambda conn: fork_store.is_forked(conn, log.origin)
        ):
            self._notices.forks.add(log.origin)
        return log.note

    async def accept(self, peer: Peer, raw: bytes) -> None:
        """Take evidence of a fork from a peer; taking it again changes nothing.

        Args:
            peer: Who sent it, authenticated.
            raw: The evidence.

        Raises:
            UnknownLogError: We do not know the log, or no key of it signed both: one
                answer for both.
            MalformedError: The bytes are no evidence.
            TooLargeError: They are too many.
            BadProofError: The proof leads nowhere.
            NoForkError: Both checkpoints can be true.

        Source: SPEC.md#fork-evidence.
        """
        evidence = parse_fork_evidence(raw)
        log = await self._shared.find(evidence.origin, peer)
        try:
            await self._shared.verify(log, evidence)
        except (BadSignatureError, UnknownKeyError):
            raise UnknownLogError from None
        self._met(log, peer)
        self._remember(log.origin).told.add(peer.name)
        await self._keep(log, evidence)

    # --------------------------------------------------------------- what we send out

    async def sweep(self) -> None:
        """Compare every log of peers that we cosigned with other peers that know it."""
        slots = asyncio.Semaphore(_AT_ONCE)
        away: set[str] = set()
        origins = await self._database.read(fork_store.list_witnessed)
        for gone in self._memory.keys() - set(origins):
            del self._memory[gone]

        async def visit(origin: str) -> None:
            async with slots:
                if await self._database.read(
                    lambda conn: fork_store.is_forked(conn, origin)
                ):
                    await self._tell_all(origin, away)
                else:
                    await self._compare_all(origin, away)

        await asyncio.gather(*map(visit, origins))

    async def spread(self, origin: str) -> None:
        """Give the evidence against a log to its owner and to whoever knows the log."""
        await self._tell_all(origin, set())

    async def compare(self, peer: Peer, origin: str) -> None:
        """Show a peer our newest checkpoint of a log, and look at what it answers.

        Raises:
            UnknownLogError: We do not know the log.
            PeerUnavailableError: The peer does not answer; or the log's owner does not
                serve what links the two, which makes the log suspect.
            PeerRefusedError: The peer does not know it.
            PeerMisbehavedError: The answer is no checkpoint of the log; evidence is
                kept.
        """
        log = await self._shared.find(origin)
        if log.note is None:
            return
        # First, also to have its keys when others show it to us.
        ours = await self._shared.open(log, log.note)
        theirs = await self._ask(peer, log)
        if theirs is None:
            return
        if theirs.head.tree_size > ours.head.tree_size and log.is_followed:
            self._notices.announced(log.name.node, log.name.list_name)
        if log.owner is not None:
            await self._finder.examine(log.owner, ours=ours, theirs=theirs)

    async def _compare_all(self, origin: str, away: set[str]) -> None:
        owner = parse_origin(origin).node
        peers = await self._database.read(lambda conn: _others(conn, owner))
        for peer in self._in_turn(origin, peers):
            if peer.name in away:
                continue
            try:
                await self.compare(peer, origin)
            except PeerUnavailableError as error:
                if error.peer == peer.name:
                    away.add(peer.name)
                    continue
                # The owner keeps back what would show whether it lied.
                _log.warning("log is suspect", peer=error.peer, origin=origin)
            except PeerRefusedError:
                self._remember(origin).asked_at[peer.name] = self._clock()
            except (PeerMisbehavedError, ProtocolError, UnknownLogError) as error:
                _log.warning("comparing failed", peer=peer.name, code=error.code)

    async def _ask(self, peer: Peer, log: SharedLog) -> SignedCheckpoint | None:
        """Ask for a peer's view; None if it is signed by a key that we do not know."""
        note = log.note or b""
        raw = await self._client.compare_checkpoint(peer, log.origin, note)
        try:
            with blaming(peer.name, f"checkpoint of {log.origin}", raw):
                theirs = await self._shared.open(log, raw)
                self._quorum.learn(raw)
        except PeerMisbehavedError as error:
            if isinstance(error.cause, UnknownKeyError):
                return None  # Of a list note that the owner does not show us.
            await self._blame(peer, error)
            raise
        self._met(log, peer)
        return theirs

    async def _tell_all(self, origin: str, away: set[str]) -> None:
        fork = await self._database.read(
            lambda conn: fork_store.find_fork(conn, origin)
        )
        if fork is None:
            return
        owner = parse_origin(origin).node
        peers = await self._database.read(_active)
        memory = self._remember(origin)
        for peer in peers:
            if peer.name in memory.told | away or not _offers(peer, EVIDENCE_FEATURE):
                continue
            if peer.name == owner or peer.name in memory.knows:
                work = self._client.send_evidence(peer, fork.evidence)
            else:
                work = self._introduce(peer, origin, fork.evidence)
            if await self._is_told(
                peer, work, away, is_known=peer.name in memory.knows
            ):
                memory.told.add(peer.name)

    async def _is_told(
        self, peer: Peer, work: Awaitable[None], away: set[str], *, is_known: bool
    ) -> bool:
        """Give evidence to a peer; tells whether there is no need to try again."""
        try:
            await work
        except PeerUnavailableError:
            away.add(peer.name)
            return False
        except PeerRefusedError as error:
            _log.info("evidence is not taken", peer=peer.name, code=error.code)
            return not is_known  # It may not have the log's keys just now.
        except (PeerMisbehavedError, ProtocolError) as error:
            _log.warning("comparing failed", peer=peer.name, code=error.code)
        return True

    async def _introduce(self, peer: Peer, origin: str, evidence: bytes) -> None:
        """Give evidence to a peer that first shows that it knows the log.

        Raises:
            PeerRefusedError: It does not.
        """
        if not _offers(peer, FEATURE):
            raise PeerRefusedError(peer.name, 404, "not-found")
        note = parse_fork_evidence(evidence).newer
        await self._client.compare_checkpoint(peer, origin, note)
        await self._client.send_evidence(peer, evidence)

    # ----------------------------------------------------------------------- judging

    async def _look(
        self, log: SharedLog, ours: SignedCheckpoint, theirs: SignedCheckpoint
    ) -> None:
        if log.own is not None:
            found = await self._database.read(lambda conn: find_fork_here(conn, theirs))
            if isinstance(found, ForkEvidence):
                await self._keep(log, found)
            return
        assert log.owner is not None  # noqa: S101 -- it is ours or somebody's
        if theirs.head.tree_size == ours.head.tree_size:
            await self._finder.examine(log.owner, ours=ours, theirs=theirs)
        elif theirs.head.tree_size < ours.head.tree_size:
            await self._finder.examine_here(log.owner, theirs)
        elif log.is_followed:
            self._notices.announced(log.name.node, log.name.list_name)

    async def _keep(self, log: SharedLog, evidence: ForkEvidence) -> None:
        if log.owner is not None:
            await self._finder.keep(log.owner, evidence)
            return
        own, now = log.own, self._clock()
        assert own is not None  # noqa: S101 -- it is ours or somebody's
        await self._database.write(
            lambda conn: keep_own_fork(conn, evidence, own, now=now)
        )

    async def _blame(self, peer: Peer, error: PeerMisbehavedError) -> None:
        now = self._clock()
        await self._database.write(
            lambda conn: keep_evidence(conn, peer, "", error, now=now)
        )

    # --------------------------------------------------------------- whose turn it is

    def _remember(self, origin: str) -> _Memory:
        return self._memory.setdefault(origin, _Memory())

    def _met(self, log: SharedLog, peer: Peer) -> None:
        memory = self._remember(log.origin)
        if peer.name not in memory.knows:
            # It would not hear of a fork before it knew the log; now it has to.
            memory.told.discard(peer.name)
        memory.knows.add(peer.name)
        memory.asked_at.pop(peer.name, None)

    def _in_turn(self, origin: str, peers: Iterable[Peer]) -> list[Peer]:
        """Choose whom to ask: those that know the log first, each in its turn."""
        memory, now = self._remember(origin), self._clock()
        willing = [peer for peer in peers if _offers(peer, FEATURE)]
        known = [peer for peer in willing if peer.name in memory.knows]
        others = [
            peer
            for peer in willing
            if peer.name not in memory.knows
            and not 0
            <= now - memory.asked_at.get(peer.name, now + 1)
            < _STRANGER_SECONDS
        ]
        memory.turn += 1
        chosen = [*_rotated(known, memory.turn), *_rotated(others, memory.turn)]
        return chosen[:_PEERS_PER_LOG]


def _rotated(peers: list[Peer], turn: int) -> list[Peer]:
    start = turn * _PEERS_PER_LOG % len(peers) if peers else 0
    return peers[start:] + peers[:start]


def _offers(peer: Peer, feature: str) -> bool:
    return feature in descriptor_of(peer).features


def _active(conn: Connection) -> list[Peer]:
    return [
        peer for peer in peer_store.list_peers(conn) if peer.state is PeerState.ACTIVE
    ]


def _others(conn: Connection, owner: str) -> list[Peer]:
    return [peer for peer in _active(conn) if peer.name != owner]

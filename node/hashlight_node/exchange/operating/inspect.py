"""What operators ask of a node: its state, one record, and who acknowledged what."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

from hashlight_node.exchange.errors import (
    UnknownListError,
    UnknownPeerError,
    UnknownRecordError,
)
from hashlight_node.exchange.following.descriptors import cosigner_of
from hashlight_node.exchange.following.freshness import freshness
from hashlight_node.exchange.logs.disclosure import Insider
from hashlight_node.exchange.logs.receipts import build_receipt
from hashlight_node.exchange.telling.erasure_report import read_report
from hashlight_node.exchange.telling.standing import standings
from hashlight_node.model import Role
from hashlight_node.store import deliveries, delivery_history, logs
from hashlight_node.store import peers as peer_store

from .alerts import DEFAULT_RULES, find_alerts

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hashlight_node.exchange.following.freshness import Freshness
    from hashlight_node.exchange.telling.erasure_report import ErasureReport
    from hashlight_node.exchange.telling.standing import Standing
    from hashlight_node.model import (
        Acknowledgement,
        Clock,
        Delivery,
        Evidence,
        Follow,
        FollowState,
        Grant,
        Log,
        LogState,
        Peer,
        PeerState,
    )
    from hashlight_node.store.database import Connection, Database
    from hashlight_node.store.delivery_history import Moment, SignedNote
    from hashlight_protocol import Ref

    from .alerts import Alert, AlertRules


@dataclass(frozen=True, slots=True)
class ListStatus:
    """One list, own or followed, as `hashlight status` shows it.

    Attributes:
        origin: Its log.
        node: Who publishes it.
        list_name: Its name.
        role: Whether it is ours.
        state: What may still happen to the log.
        size: Entries stored and applied.
        checkpoint_size: Entries that the newest checkpoint covers.
        root_hash: Root of the tree of `size`, 32 bytes.
        follow_state: Where following stands; None for our own.
        lag_seconds: Time since the copy was last known to be complete, 0 for our own
            and for logs that ended, None if it never was.
        error: What an operator should know, None if all is well.
        meta: What the list note says about the list.
        freshness: What the copy may still be used for.
    """

    origin: str
    node: str
    list_name: str
    role: Role
    state: LogState
    size: int
    checkpoint_size: int
    root_hash: bytes
    follow_state: FollowState | None
    lag_seconds: int | None
    error: str | None
    meta: Mapping[str, object]
    freshness: Freshness


@dataclass(frozen=True, slots=True)
class PeerStatus:
    """One peer, as `hashlight status` shows it.

    Attributes:
        name: Its node name.
        base: Its base URL.
        state: Whether we talk to it.
        contacted_at: When it last gave us what we asked for, Unix seconds.
        grants: Our lists that it may fetch.
        follows: Its lists that we copy.
        deliveries: What it has seen of our lists, signed with its witness key.
        acknowledgements: What it has applied of our lists, the newest of each.
        evidence: How many pieces of evidence we hold against it.
    """

    name: str
    base: str
    state: PeerState
    contacted_at: int | None
    grants: tuple[Grant, ...]
    follows: tuple[Follow, ...]
    deliveries: tuple[Delivery, ...]
    acknowledgements: tuple[Acknowledgement, ...]
    evidence: int


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """Everything at a glance.

    Attributes:
        node: This node's name.
        lists: Own and followed lists.
        peers: Pinned peers.
        standings: Where everybody stands with each list of ours.
        alerts: What an operator has to be told.
    """

    node: str
    lists: tuple[ListStatus, ...]
    peers: tuple[PeerStatus, ...]
    standings: tuple[Standing, ...]
    alerts: tuple[Alert, ...]


@dataclass(frozen=True, slots=True)
class SignedNotes:
    """What a peer has signed about a list of ours.

    Attributes:
        origin: The list's log.
        notes: The newest first, each with the vkey of the peer that checks it.
    """

    origin: str
    notes: tuple[tuple[SignedNote, str], ...]


class Inspect:
    """Answers operators out of the store; changes nothing.

    Args:
        database: The store.
        clock: Unix seconds.
        node_name: This node.
        rules: When an operator is told of what.
    """

    def __init__(
        self,
        *,
        database: Database,
        clock: Clock,
        node_name: str,
        rules: AlertRules = DEFAULT_RULES,
    ) -> None:
        self._database = database
        self._clock = clock
        self._node_name = node_name
        self._rules = rules

    async def status(self) -> NodeStatus:
        """Describe the node: its lists and its peers."""

        def read(conn: Connection) -> NodeStatus:
            follows = peer_store.list_follows(conn)
            now = self._clock()
            standing = {
                log.origin: standings(conn, log, now=now)
                for log in logs.list_logs(conn, Role.OWN)
            }
            return NodeStatus(
                self._node_name,
                self._lists(conn, follows),
                _peers(conn, follows),
                tuple(chain.from_iterable(standing.values())),
                find_alerts(logs.list_logs(conn), standing, now, self._rules),
            )

        return await self._database.read(read)

    async def lists(self) -> tuple[ListStatus, ...]:
        """Describe own and followed lists."""
        return await self._database.read(
            lambda conn: self._lists(conn, peer_store.list_follows(conn))
        )

    async def peers(self) -> tuple[PeerStatus, ...]:
        """Describe the pinned peers."""
        return await self._database.read(
            lambda conn: _peers(conn, peer_store.list_follows(conn))
        )

    async def grants(self) -> tuple[Grant, ...]:
        """List what peers may fetch of ours."""
        return await self._database.read(
            lambda conn: tuple(peer_store.list_grants(conn))
        )

    async def follows(self) -> tuple[Follow, ...]:
        """List what we copy of others."""
        return await self._database.read(
            lambda conn: tuple(peer_store.list_follows(conn))
        )

    async def evidence(self) -> tuple[Evidence, ...]:
        """List what we hold against peers."""
        return await self._database.read(
            lambda conn: tuple(deliveries.list_evidence(conn))
        )

    async def receipt(self, ref: Ref) -> bytes:
        """Write a file that proves one record to anybody who has the log's key.

        Raises:
            UnknownRecordError: This node holds no such log.
            NotServedError: The log has no record there.
            ErasedError: It was erased.
            WithheldError: Its body is not here.
        """

        def read(conn: Connection) -> bytes:
            log = logs.find_log(conn, ref.origin)
            if log is None:
                raise UnknownRecordError(ref)
            return build_receipt(conn, log, ref.leaf_index, Insider())

        return await self._database.read(read)

    async def erasure(self, ref: Ref) -> ErasureReport:
        """Tell who has confirmed that a record of ours was taken back.

        Raises:
            UnknownRecordError: We publish no such record.
        """
        now = self._clock()
        return await self._database.read(lambda conn: read_report(conn, ref, now))

    async def deliveries(self, list_name: str) -> tuple[Standing, ...]:
        """Tell where everybody stands who has one of our lists.

        Raises:
            UnknownListError: We publish no such list.
        """
        now = self._clock()
        return await self._database.read(
            lambda conn: standings(conn, self._own_log(conn, list_name), now=now)
        )

    async def signed_notes(
        self, list_name: str, peer_name: str, *, before: Moment | None, limit: int
    ) -> SignedNotes:
        """Give what one peer has signed about one of our lists, the newest first.

        Args:
            list_name: The list.
            peer_name: The peer.
            before: Where the page before ended, None for the first.
            limit: Most notes.

        Raises:
            UnknownListError: We publish no such list.
            UnknownPeerError: No such peer is pinned.
        """

        def read(conn: Connection) -> SignedNotes:
            log = self._own_log(conn, list_name)
            peer = peer_store.find_peer(conn, peer_name)
            if peer is None:
                raise UnknownPeerError(peer_name)
            streak = delivery_history.Streak(log.log_id, peer.peer_id)
            notes = delivery_history.page_history(
                conn, streak, before=before, limit=limit
            )
            return SignedNotes(
                log.origin,
                tuple((one, cosigner_of(conn, peer, one.note)) for one in notes),
            )

        return await self._database.read(read)

    def _own_log(self, conn: Connection, list_name: str) -> Log:
        log = logs.find_own_log(conn, self._node_name, list_name)
        if log is None:
            raise UnknownListError(list_name)
        return log

    def _lists(self, conn: Connection, follows: list[Follow]) -> tuple[ListStatus, ...]:
        by_list = {(one.peer_name, one.list_name): one for one in follows}
        return tuple(
            self._list(log, by_list.get((log.node, log.list_name)))
            for log in logs.list_logs(conn)
        )

    def _list(self, log: Log, follow: Follow | None) -> ListStatus:
        error = log.error
        if error is None and follow is not None:
            error = follow.error
        return ListStatus(
            origin=log.origin,
            node=log.node,
            list_name=log.list_name,
            role=log.role,
            state=log.state,
            size=log.tree_size,
            checkpoint_size=log.checkpoint_size,
            root_hash=log.root_hash,
            follow_state=None if follow is None else follow.state,
            lag_seconds=self._lag(log),
            error=error,
            meta=log.meta,
            freshness=freshness(log, self._clock(), self._rules.freshness),
        )

    def _lag(self, log: Log) -> int | None:
        if log.role is Role.OWN or log.counts_until is not None:
            return 0
        if log.verified_at is None:
            return None
        return max(0, self._clock() - log.verified_at)


def _peers(conn: Connection, follows: list[Follow]) -> tuple[PeerStatus, ...]:
    grants = peer_store.list_grants(conn)
    delivered = deliveries.list_deliveries(conn, None)
    evidence = deliveries.evidence_counts(conn)
    return tuple(
        PeerStatus(
            name=peer.name,
            base=peer.base,
            state=peer.state,
            contacted_at=peer.contacted_at,
            grants=tuple(one for one in grants if one.peer_name == peer.name),
            follows=tuple(one for one in follows if one.peer_id == peer.peer_id),
            deliveries=tuple(one for one in delivered if one.peer_name == peer.name),
            acknowledgements=_newest_acknowledgements(conn, peer),
            evidence=evidence.get(peer.peer_id, 0),
        )
        for peer in peer_store.list_peers(conn)
    )


def _newest_acknowledgements(
    conn: Connection, peer: Peer
) -> tuple[Acknowledgement, ...]:
    found = (
        deliveries.newest_acknowledgement(conn, log.log_id, peer.peer_id)
        for log in logs.list_logs(conn, Role.OWN)
    )
    return tuple(one for one in found if one is not None)

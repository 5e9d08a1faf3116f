"""What operators ask of a node: its state, one record, and who acknowledged what."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hashlight_node.model import RecordState, Role
from hashlight_node.store import deliveries, logs, records
from hashlight_node.store import peers as peer_store
from hashlight_node.store.reissues import current_ref

from .disclosure import Insider
from .errors import UnknownRecordError
from .receipts import build_receipt

if TYPE_CHECKING:
    from collections.abc import Mapping

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
        StoredOpinion,
        StoredRecord,
    )
    from hashlight_node.store.database import Connection, Database
    from hashlight_protocol import Ref


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
    """

    node: str
    lists: tuple[ListStatus, ...]
    peers: tuple[PeerStatus, ...]


@dataclass(frozen=True, slots=True)
class RecordDetail:
    """One record and what is said about it.

    Attributes:
        record: The record.
        opinions: Live opinions about it, of all nodes whose lists we hold.
        sightings: Reports of where it was met.
    """

    record: StoredRecord
    opinions: tuple[StoredOpinion, ...]
    sightings: tuple[Mapping[str, object], ...]


@dataclass(frozen=True, slots=True)
class PeerErasure:
    """Whether one peer has confirmed an erasure.

    Attributes:
        peer_name: The peer.
        granted: Whether it may fetch the list now.
        acknowledgement: Its first signed word that covers the ERASE; None if that is
            still missing.
    """

    peer_name: str
    granted: bool
    acknowledgement: Acknowledgement | None


@dataclass(frozen=True, slots=True)
class ErasureReport:
    """Who has destroyed a record, and who has not said so yet.

    Attributes:
        ref: The record, as it is called in the newest log that has it.
        erased_by: Leaf index of the ERASE; None if the record is not erased.
        erased_at: When it was applied here, Unix seconds: missing since then.
        peers: Every peer that holds a grant, or ever confirmed anything of this log.
    """

    ref: Ref
    erased_by: int | None
    erased_at: int | None
    peers: tuple[PeerErasure, ...]


class Inspect:
    """Answers operators out of the store; changes nothing.

    Args:
        database: The store.
        clock: Unix seconds.
        node_name: This node.
    """

    def __init__(self, *, database: Database, clock: Clock, node_name: str) -> None:
        self._database = database
        self._clock = clock
        self._node_name = node_name

    async def status(self) -> NodeStatus:
        """Describe the node: its lists and its peers."""

        def read(conn: Connection) -> NodeStatus:
            follows = peer_store.list_follows(conn)
            return NodeStatus(
                self._node_name,
                self._lists(conn, follows),
                _peers(conn, follows),
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

    async def record(self, ref: Ref) -> RecordDetail:
        """Show one record, with what is said about it.

        Raises:
            UnknownRecordError: This node holds no such record.
        """

        def read(conn: Connection) -> RecordDetail:
            record = records.read_record(conn, ref)
            if record is None:
                raise UnknownRecordError(ref)
            return RecordDetail(
                record,
                tuple(records.opinions_about(conn, [ref])),
                tuple(records.sightings_about(conn, ref)),
            )

        return await self._database.read(read)

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
        """Tell which peers have confirmed that they destroyed a record of ours.

        Raises:
            UnknownRecordError: We publish no such record.
        """

        def read(conn: Connection) -> ErasureReport:
            # A case file may name the record as it was called in an earlier log.
            current = current_ref(conn, ref)
            log = logs.find_log(conn, current.origin)
            record = records.read_record(conn, current)
            if log is None or record is None or log.role is not Role.OWN:
                raise UnknownRecordError(ref)
            if record.state is not RecordState.ERASED or record.withdrawn_by is None:
                return ErasureReport(current, None, None, ())
            confirmed = _first_covering(conn, log, record.withdrawn_by)
            return ErasureReport(
                current, record.withdrawn_by, record.withdrawn_at, confirmed
            )

        return await self._database.read(read)

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


def _first_covering(
    conn: Connection, log: Log, erased_by: int
) -> tuple[PeerErasure, ...]:
    granted = {peer.name for peer in peer_store.granted_peers(conn, log.list_name)}
    known = granted | {
        one.peer_name for one in deliveries.list_deliveries(conn, log.log_id)
    }
    first: dict[str, Acknowledgement] = {}
    for one in deliveries.list_acknowledgements(conn, log.log_id):
        known.add(one.peer_name)
        # A tree of n entries holds indexes below n.
        earlier = first.get(one.peer_name)
        if one.tree_size > erased_by and (
            earlier is None or one.tree_size < earlier.tree_size
        ):
            first[one.peer_name] = one
    return tuple(
        PeerErasure(name, name in granted, first.get(name)) for name in sorted(known)
    )

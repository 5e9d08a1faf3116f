"""Who has carried out that a record was taken back, and who has not said so yet.

A peer's word is our own checkpoint, behind the RETRACT or ERASE, with its mirror
cosignature: *stored, and every RETRACT and ERASE applied*. Anybody can check it with
two public keys. A peer that has the record and will never answer stays in the report.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hashlight_node.exchange.errors import UnknownRecordError
from hashlight_node.exchange.following.descriptors import cosigner_of, descriptor_of
from hashlight_node.model import RecordState, Role
from hashlight_node.store import confirmations, deliveries, logs, past_grants, records
from hashlight_node.store.reissues import current_ref
from hashlight_protocol import encode_vkey, open_descriptor, parse_vkey

if TYPE_CHECKING:
    from collections.abc import Callable

    from hashlight_node.model import (
        Acknowledgement,
        Log,
        Peer,
        PeerState,
        StoredRecord,
    )
    from hashlight_node.store.confirmations import Relayed, Withdrawn
    from hashlight_node.store.database import Connection
    from hashlight_protocol import Ref


@dataclass(frozen=True, slots=True)
class Proof:
    """Whether somebody has confirmed one withdrawal.

    Attributes:
        acknowledgement: Its first signed word that covers the entry; None if that is
            missing.
        missing_seconds: For how long it has been missing; None if it is not.
        cosigner: Verifier key that the word is checked with, as far as we know it now;
            an older word may have been signed with an older key.
    """

    acknowledgement: Acknowledgement | None
    missing_seconds: int | None
    cosigner: str


@dataclass(frozen=True, slots=True)
class PeerErasure:
    """What one peer has confirmed about a record.

    Attributes:
        peer_name: The peer, or the node that got the list from one.
        via: The peer that relays to it; None if it got the list from us.
        granted: Whether it may fetch the list now.
        peer_state: Whether we talk to it; of a node behind a relay, to that.
        settled: What counts: about the ERASE if there is one, else about the RETRACT.
            An ERASE retracts as well.
        retraction: About the RETRACT; None if there is none.
    """

    peer_name: str
    via: str | None
    granted: bool
    peer_state: PeerState
    settled: Proof
    retraction: Proof | None

    @property
    def acknowledgement(self) -> Acknowledgement | None:
        """Its signed word on what counts; None if that is missing."""
        return self.settled.acknowledgement


@dataclass(frozen=True, slots=True)
class ErasureReport:
    """Who has carried out that a record was taken back.

    Attributes:
        ref: The record.
        erased_by: Leaf index of the ERASE; None if the record is not erased.
        erased_at: When its checkpoint was signed, Unix seconds: missing since then.
        retracted_by: Leaf index of the first RETRACT; None if there is none.
        retracted_at: When its checkpoint was signed.
        peers: Everybody who may have got the record, and the peers with a grant. Empty
            if the record was not taken back.
    """

    ref: Ref
    erased_by: int | None
    erased_at: int | None
    retracted_by: int | None
    retracted_at: int | None
    peers: tuple[PeerErasure, ...]

    @property
    def is_complete(self) -> bool:
        """Whether it was taken back and everybody has confirmed that."""
        is_withdrawn = self.erased_by is not None or self.retracted_by is not None
        return is_withdrawn and all(
            peer.acknowledgement is not None for peer in self.peers
        )


def read_report(conn: Connection, ref: Ref, now: int) -> ErasureReport:
    """Tell who has confirmed that a record of ours was taken back.

    Args:
        conn: In a transaction.
        ref: The record.
        now: Unix seconds.

    Raises:
        UnknownRecordError: We publish no such record.
    """
    # A case file may name the record as it was called in an earlier log.
    current = current_ref(conn, ref)
    log = logs.find_log(conn, current.origin)
    if log is None or log.role is not Role.OWN:
        raise UnknownRecordError(ref)
    record = records.read_record(conn, current)
    if record is None:
        raise UnknownRecordError(ref)
    erase, retract = _withdrawals_of(conn, log, record)
    settled = erase or retract
    peers: tuple[PeerErasure, ...] = ()
    if settled is not None:
        peers = _Case(conn, log, current.leaf_index, settled, retract, now).peers()
    return ErasureReport(
        current,
        erase and erase.leaf_index,
        erase and erase.signed_at,
        retract and retract.leaf_index,
        retract and retract.signed_at,
        peers,
    )


def _withdrawals_of(
    conn: Connection, log: Log, record: StoredRecord
) -> tuple[Withdrawn | None, Withdrawn | None]:
    """Find the ERASE and the RETRACT of a record."""
    by = None
    if record.withdrawn_by is not None:
        by = confirmations.withdrawal_at(conn, log.log_id, record.withdrawn_by)
    match record.state:
        case RecordState.ERASED:
            leaf_index = record.ref.leaf_index
            return by, confirmations.retraction_of(conn, log.log_id, leaf_index)
        case RecordState.RETRACTED:
            return None, by
        case (
            RecordState.LIVE
            | RecordState.SUPERSEDED
            | RecordState.ENDED
            | RecordState.WITHHELD
            | RecordState.INVALID
        ):
            return None, None


@dataclass(frozen=True, slots=True)
class _Case:
    """One record, and the entries that took it back."""

    conn: Connection
    log: Log
    leaf_index: int
    settled: Withdrawn
    retract: Withdrawn | None
    now: int

    def peers(self) -> tuple[PeerErasure, ...]:
        conn, log = self.conn, self.log
        known = confirmations.known_peers(conn, log.log_id, log.list_name)
        names = {peer.name for peer in known}
        of_peers = [self._of_peer(peer) for peer in known]
        of_relayed = [
            self._of_relayed(one)
            for one in confirmations.newest_relayed(conn, log.log_id)
            if one.node not in names
        ]
        return (*(one for one in of_peers if one is not None), *of_relayed)

    def _of_peer(self, peer: Peer) -> PeerErasure | None:
        """Tell what a peer has confirmed; None if it cannot have the record."""
        conn, log, peer_id = self.conn, self.log, peer.peer_id
        granted = confirmations.granted_at(conn, peer_id, log.list_name) is not None
        said = deliveries.newest_acknowledgement(conn, log.log_id, peer_id)
        received_size = max(
            past_grants.size_at_revocation(conn, log.log_id, peer_id),
            deliveries.delivered_size(conn, log.log_id, peer_id),
            0 if said is None else said.tree_size,
        )
        if not granted and received_size <= self.leaf_index:
            return None
        # Of a pinned node whose descriptor nobody brought, no key is known.
        current = encode_vkey(descriptor_of(peer).mirror) if peer.descriptor else ""

        def prove(withdrawn: Withdrawn) -> Proof:
            found = confirmations.first_covering(
                conn, log.log_id, peer_id, withdrawn.leaf_index
            )
            # The peer may have another key by now than the one it signed with.
            cosigner = current if found is None else cosigner_of(conn, peer, found.note)
            return self._proof(withdrawn, found, cosigner)

        settled, retraction = self._both(prove)
        return PeerErasure(
            peer_name=peer.name,
            via=None,
            granted=granted,
            peer_state=peer.state,
            settled=settled,
            retraction=retraction,
        )

    def _of_relayed(self, one: Relayed) -> PeerErasure:
        def prove(withdrawn: Withdrawn) -> Proof:
            found = confirmations.first_relayed_covering(
                self.conn, self.log.log_id, one.node, withdrawn.leaf_index
            )
            said = None if found is None else found.acknowledgement
            return self._proof(withdrawn, said, _mirror_of(found or one))

        settled, retraction = self._both(prove)
        return PeerErasure(
            peer_name=one.node,
            via=one.via,
            granted=False,
            peer_state=one.via_state,
            settled=settled,
            retraction=retraction,
        )

    def _both(self, prove: Callable[[Withdrawn], Proof]) -> tuple[Proof, Proof | None]:
        retract = self.retract
        return prove(self.settled), None if retract is None else prove(retract)

    def _proof(
        self, withdrawn: Withdrawn, found: Acknowledgement | None, cosigner: str
    ) -> Proof:
        missing_seconds = max(0, self.now - withdrawn.signed_at)
        return Proof(found, missing_seconds if found is None else None, cosigner)


def _mirror_of(one: Relayed) -> str:
    if not one.descriptor:
        return ""  # The relay named it, and nobody knows its keys.
    descriptor = open_descriptor(one.descriptor, parse_vkey(one.identity_vkey))
    return encode_vkey(descriptor.mirror)

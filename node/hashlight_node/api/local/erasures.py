"""Reports of who has confirmed a withdrawal, as answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hashlight_protocol import Ref, encode_ref, encode_timestamp

from .instants import optional_instant

if TYPE_CHECKING:
    from hashlight_node.exchange.telling.erasure_report import (
        ErasureReport,
        PeerErasure,
        Proof,
    )

    from .models.records import ErasureAnswer, PeerErasureShown, ProofShown


def show_erasure(report: ErasureReport) -> ErasureAnswer:
    """Describe in an answer who has confirmed that a record was taken back."""
    return {
        "ref": encode_ref(report.ref),
        "erased_by": _entry(report, report.erased_by),
        "erased_at": optional_instant(report.erased_at),
        "retracted_by": _entry(report, report.retracted_by),
        "retracted_at": optional_instant(report.retracted_at),
        "is_complete": report.is_complete,
        "peers": [_show_peer(peer) for peer in report.peers],
    }


def _entry(report: ErasureReport, leaf_index: int | None) -> str | None:
    return (
        None if leaf_index is None else encode_ref(Ref(report.ref.origin, leaf_index))
    )


def _show_peer(peer: PeerErasure) -> PeerErasureShown:
    retraction = peer.retraction
    return {
        "peer": peer.peer_name,
        "via": peer.via,
        "is_granted": peer.granted,
        "peer_state": peer.peer_state,
        **_show_proof(peer.settled),
        "retraction": None if retraction is None else _show_proof(retraction),
    }


def _show_proof(proof: Proof) -> ProofShown:
    found = proof.acknowledgement
    if found is None:
        return {
            "state": "missing",
            "tree_size": None,
            "acknowledged_at": None,
            "missing_seconds": proof.missing_seconds,
            "note": None,
            "cosigner": proof.cosigner,
        }
    return {
        "state": "acknowledged",
        "tree_size": found.tree_size,
        "acknowledged_at": encode_timestamp(found.acknowledged_at),
        "missing_seconds": None,
        "note": found.note.decode(),
        "cosigner": proof.cosigner,
    }

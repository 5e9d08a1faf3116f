"""Cosignatures, acknowledgements and evidence."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from hashlight_node.model import Acknowledgement, Delivery, Evidence
from hashlight_node.store import deliveries, peers
from hashlight_node.store.errors import HeadMovedError
from hashlight_protocol import KnownHead, origin_hash
from support.clock import START
from support.stored_log import ORIGIN, StoredLog

if TYPE_CHECKING:
    from sqlalchemy import Connection

THEIRS = "alpha.example/hsf/v1/log/ncii/1"
ROOT, OTHER_ROOT = bytes([1]) * 32, bytes([2]) * 32


def _peer(conn: Connection, name: str = "alpha.example") -> int:
    peer = peers.insert_peer(
        conn,
        name=name,
        base="https://x",
        identity_vkey="",
        descriptor=b"",
        descriptor_version=1,
        added_at=0,
    )
    return peer.peer_id


def _witness(
    conn: Connection, peer_id: int, size: int, root: bytes = ROOT, note: bytes = b"n"
) -> None:
    deliveries.save_witnessed(
        conn,
        origin=THEIRS,
        peer_id=peer_id,
        tree_size=size,
        root_hash=root,
        note=note,
        now=START,
    )


def test_a_witness_remembers_the_largest_checkpoint(conn: Connection) -> None:
    peer_id = _peer(conn)
    assert deliveries.known_head(conn, THEIRS) is None
    assert deliveries.read_witnessed(conn, THEIRS) is None
    _witness(conn, peer_id, 5)
    _witness(conn, peer_id, 5, note=b"signed again")
    assert deliveries.known_head(conn, THEIRS) == KnownHead(5, ROOT)
    assert deliveries.read_witnessed(conn, THEIRS) == b"signed again"
    _witness(conn, peer_id, 6, OTHER_ROOT)
    assert deliveries.known_head(conn, THEIRS) == KnownHead(6, OTHER_ROOT)


@pytest.mark.parametrize(("size", "root"), [(4, ROOT), (5, OTHER_ROOT)])
def test_a_witness_never_forgets_a_checkpoint_for_a_fork_of_it(
    conn: Connection, size: int, root: bytes
) -> None:
    peer_id = _peer(conn)
    _witness(conn, peer_id, 5)
    with pytest.raises(HeadMovedError, match=THEIRS):
        _witness(conn, peer_id, size, root)
    assert deliveries.known_head(conn, THEIRS) == KnownHead(5, ROOT)


def test_of_deliveries_the_newest_counts(conn: Connection) -> None:
    log_id, peer_id = StoredLog(conn).log.log_id, _peer(conn)
    assert deliveries.delivered_size(conn, log_id, peer_id) == 0
    deliveries.save_delivery(conn, log_id, peer_id, 5, START, b"a")
    deliveries.save_delivery(conn, log_id, peer_id, 5, START + 9, b"b")
    deliveries.save_delivery(conn, log_id, peer_id, 5, START + 8, b"late")
    deliveries.save_delivery(conn, log_id, peer_id, 4, START + 10, b"late")
    only = Delivery(ORIGIN, "alpha.example", 5, START + 9)
    assert deliveries.list_deliveries(conn, log_id) == [only]
    assert deliveries.list_deliveries(conn, None) == [only]
    assert deliveries.list_deliveries(conn, log_id + 1) == []
    deliveries.save_delivery(conn, log_id, peer_id, 6, START, b"c")
    assert deliveries.delivered_size(conn, log_id, peer_id) == 6


def test_every_acknowledgement_is_kept(conn: Connection) -> None:
    log_id, alpha = StoredLog(conn).log.log_id, _peer(conn)
    beta = _peer(conn, "beta.example")
    assert deliveries.newest_acknowledgement(conn, log_id, alpha) is None
    deliveries.save_acknowledgement(conn, log_id, beta, 9, START, b"b9")
    deliveries.save_acknowledgement(conn, log_id, alpha, 7, START + 2, b"a7")
    deliveries.save_acknowledgement(conn, log_id, alpha, 5, START + 1, b"a5")
    deliveries.save_acknowledgement(conn, log_id, alpha, 5, START + 3, b"again")
    five = Acknowledgement(ORIGIN, "alpha.example", 5, START + 1, b"a5")
    seven = Acknowledgement(ORIGIN, "alpha.example", 7, START + 2, b"a7")
    nine = Acknowledgement(ORIGIN, "beta.example", 9, START, b"b9")
    assert deliveries.list_acknowledgements(conn, log_id) == [five, seven, nine]
    assert deliveries.newest_acknowledgement(conn, log_id, alpha) == seven


def test_evidence_reads_back(conn: Connection) -> None:
    peer_id = _peer(conn)
    evidence_id = deliveries.save_evidence(
        conn,
        peer_id=peer_id,
        list_name="ncii",
        code="split-view",
        what="two views",
        found_at=START,
        payload=b"proof",
    )
    evidence = Evidence(
        evidence_id, "alpha.example", "ncii", "split-view", "two views", START, b"proof"
    )
    assert deliveries.read_evidence(conn, evidence_id) == evidence
    assert deliveries.read_evidence(conn, evidence_id + 1) is None
    assert deliveries.list_evidence(conn) == [evidence]


def test_a_log_is_found_by_the_hash_of_its_origin(conn: Connection) -> None:
    StoredLog(conn)
    _witness(conn, _peer(conn), 5)
    for origin in (ORIGIN, THEIRS):
        assert deliveries.find_by_origin_hash(conn, origin_hash(origin)) == origin
    assert deliveries.find_by_origin_hash(conn, "0" * 64) is None

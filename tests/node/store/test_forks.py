"""Logs that forked, and the cosignatures of one size."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hashlight_node.model import Fork
from hashlight_node.store import deliveries, forks, peers
from support.stored_log import StoredLog

if TYPE_CHECKING:
    from sqlalchemy import Connection


def _peer(conn: Connection, name: str) -> int:
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


def test_the_first_evidence_stays(conn: Connection) -> None:
    assert forks.find_fork(conn, "a") is None
    assert not forks.is_forked(conn, "a")
    assert forks.save_fork(conn, "b", b"other", 1)
    assert forks.save_fork(conn, "a", b"first", 2)
    assert not forks.save_fork(conn, "a", b"second", 3)
    assert forks.find_fork(conn, "a") == Fork("a", b"first", 2)
    assert forks.is_forked(conn, "a")
    assert [fork.origin for fork in forks.list_forks(conn)] == ["a", "b"]


def test_of_each_peer_the_newest_cosignature_of_a_size_counts(
    conn: Connection,
) -> None:
    log_id = StoredLog(conn).log.log_id
    beta, gamma = _peer(conn, "beta.example"), _peer(conn, "gamma.example")
    for peer_id, size, at in (
        (beta, 5, 10),
        (beta, 5, 30),
        (beta, 5, 20),
        (beta, 6, 40),
        (gamma, 5, 15),
    ):
        note = f"{peer_id} {size} {at}".encode()
        deliveries.save_delivery(conn, log_id, peer_id, size, at, note)
    notes = forks.newest_cosigned(conn, log_id, 5)
    assert notes == [f"{beta} 5 30".encode(), f"{gamma} 5 15".encode()]
    assert forks.newest_cosigned(conn, log_id, 7) == []


def test_logs_that_were_cosigned_are_listed(conn: Connection) -> None:
    peer_id = _peer(conn, "beta.example")
    for name in ("x", "a"):
        deliveries.save_witnessed(
            conn,
            origin=f"beta.example/hsf/v1/log/{name}/1",
            peer_id=peer_id,
            tree_size=1,
            root_hash=bytes(32),
            note=b"n",
            now=1,
        )
    assert [origin.split("/")[4] for origin in forks.list_witnessed(conn)] == ["a", "x"]

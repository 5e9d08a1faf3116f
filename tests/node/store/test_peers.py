"""Peers, grants and follows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from hashlight_node.model import Follow, FollowState, Grant, Peer, PeerState
from hashlight_node.store import peers
from hashlight_node.store.errors import PeerExistsError

if TYPE_CHECKING:
    from sqlalchemy import Connection


def _insert(conn: Connection, name: str = "alpha.example") -> Peer:
    return peers.insert_peer(
        conn,
        name=name,
        base=f"https://{name}",
        identity_vkey="vkey",
        descriptor=b"note",
        descriptor_version=3,
        added_at=7,
    )


def test_a_peer_is_pinned_once_whatever_its_key(conn: Connection) -> None:
    peer = _insert(conn)
    assert peer == Peer(
        peer_id=peer.peer_id,
        name="alpha.example",
        base="https://alpha.example",
        identity_vkey="vkey",
        descriptor=b"note",
        descriptor_version=3,
        state=PeerState.ACTIVE,
        added_at=7,
        contacted_at=None,
    )
    with pytest.raises(PeerExistsError, match=r"alpha\.example"):
        _insert(conn)
    assert peers.find_peer(conn, "alpha.example") == peer
    assert peers.find_peer(conn, "beta.example") is None


def test_peers_are_listed_by_name(conn: Connection) -> None:
    beta, alpha = _insert(conn, "beta.example"), _insert(conn)
    assert peers.list_peers(conn) == [alpha, beta]


def test_a_descriptor_never_goes_back(conn: Connection) -> None:
    peer_id = _insert(conn).peer_id
    peers.update_descriptor(conn, peer_id, b"new", 4, "https://new")
    peers.update_descriptor(conn, peer_id, b"old", 2, "https://old")
    peer = peers.list_peers(conn)[0]
    assert (peer.descriptor, peer.descriptor_version) == (b"new", 4)
    assert peer.base == "https://new"


def test_state_and_contact_are_kept(conn: Connection) -> None:
    peer_id = _insert(conn).peer_id
    peers.set_peer_state(conn, peer_id, PeerState.QUARANTINED)
    peers.touch_peer(conn, peer_id, 99)
    peer = peers.list_peers(conn)[0]
    assert (peer.state, peer.contacted_at) == (PeerState.QUARANTINED, 99)


def test_a_grant_is_for_one_peer_and_one_list(conn: Connection) -> None:
    alpha, beta = _insert(conn), _insert(conn, "beta.example")
    assert peers.insert_grant(conn, alpha.peer_id, "ncii", 5) == Grant(
        "alpha.example", "ncii", 5
    )
    assert peers.has_grant(conn, alpha.peer_id, "ncii")
    assert not peers.has_grant(conn, alpha.peer_id, "other")
    assert not peers.has_grant(conn, beta.peer_id, "ncii")
    assert peers.granted_peers(conn, "ncii") == [alpha]
    assert peers.granted_peers(conn, "other") == []
    assert peers.list_grants(conn) == [Grant("alpha.example", "ncii", 5)]


def test_each_change_of_grants_counts_their_version_up(conn: Connection) -> None:
    peer_id = _insert(conn).peer_id
    assert peers.grants_of(conn, peer_id) == (0, [])
    first = peers.insert_grant(conn, peer_id, "ncii", 5)
    assert peers.insert_grant(conn, peer_id, "ncii", 6) == first
    assert peers.grants_of(conn, peer_id) == (1, [first])
    second = peers.insert_grant(conn, peer_id, "csam", 7)
    assert peers.grants_of(conn, peer_id) == (2, [second, first])
    assert peers.delete_grant(conn, peer_id, "ncii")
    assert not peers.delete_grant(conn, peer_id, "ncii")
    assert peers.grants_of(conn, peer_id) == (3, [second])


def test_a_follow_is_kept_until_it_is_given_up(conn: Connection) -> None:
    alpha = _insert(conn)
    follow = peers.insert_follow(conn, alpha.peer_id, "ncii", 5)
    assert follow == Follow(
        follow_id=follow.follow_id,
        peer_id=alpha.peer_id,
        peer_name="alpha.example",
        list_name="ncii",
        state=FollowState.WAITING,
        followed_at=5,
        synced_at=None,
        error=None,
    )
    assert peers.insert_follow(conn, alpha.peer_id, "ncii", 6) == follow
    peers.set_follow(
        conn, follow.follow_id, state=FollowState.ACTIVE, synced_at=8, error="slow"
    )
    found = peers.find_follow(conn, alpha.peer_id, "ncii")
    assert found is not None
    assert (found.state, found.synced_at, found.error) == (
        FollowState.ACTIVE,
        8,
        "slow",
    )
    assert peers.list_follows(conn) == [found]
    peers.delete_follow(conn, follow.follow_id)
    assert peers.find_follow(conn, alpha.peer_id, "ncii") is None


def test_whether_a_peer_is_dialled_can_change(conn: Connection) -> None:
    peer_id = _insert(conn).peer_id
    assert peers.list_peers(conn)[0].is_dialable
    peers.set_dialable(conn, peer_id, is_dialable=False)
    assert not peers.list_peers(conn)[0].is_dialable

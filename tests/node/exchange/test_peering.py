"""Pinning nodes, and what operators decide about them."""

from __future__ import annotations

import os

import pytest

from hashlight_node.exchange.errors import (
    OwnNodeError,
    PeerPinnedError,
    UnknownFollowError,
    UnknownListError,
    UnknownPeerError,
)
from hashlight_node.model import FollowState, LogState, PeerState
from hashlight_node.peers.errors import PeerMisbehavedError, PeerUnavailableError
from hashlight_protocol import (
    COSIGNATURE,
    ED25519,
    BadKeyError,
    Ed25519Signer,
    MalformedError,
    StaleVersionError,
    UnknownKeyError,
    encode_vkey,
)
from support.exchange_node import ExchangeNode
from support.made_records import indicators
from support.peer_simulator import PeerSimulator

Pair = tuple[ExchangeNode, PeerSimulator]


async def test_a_peer_is_pinned_by_its_identity_key(
    alpha: ExchangeNode, shield: PeerSimulator
) -> None:
    peer = await alpha.peering.add_peer(shield.base, shield.vkey)
    assert (peer.name, peer.base) == ("shield.example", shield.base)
    assert (peer.identity_vkey, peer.state) == (shield.vkey, PeerState.ACTIVE)
    assert peer.descriptor == shield.descriptor()


async def test_adding_a_peer_again_refreshes_its_descriptor(
    alpha: ExchangeNode, shield: PeerSimulator
) -> None:
    await alpha.peering.add_peer(shield.base, shield.vkey)
    shield.version = 5
    peer = await alpha.peering.add_peer(shield.base, shield.vkey)
    assert peer.descriptor_version == 5
    assert len(await alpha.inspect.peers()) == 1


async def test_a_name_stays_with_its_first_key(
    alpha: ExchangeNode, shield: PeerSimulator
) -> None:
    await alpha.peering.add_peer(shield.base, shield.vkey)
    shield.identity = Ed25519Signer("shield.example", ED25519, os.urandom(32))
    with pytest.raises(PeerPinnedError):
        await alpha.peering.add_peer(shield.base, shield.vkey)


async def test_a_node_is_no_peer_of_itself(
    alpha: ExchangeNode, shield: PeerSimulator
) -> None:
    with pytest.raises(OwnNodeError):
        await alpha.peering.add_peer(
            shield.base, encode_vkey(alpha.keyring.identity.key)
        )
    assert shield.asked == []


async def test_only_an_identity_key_can_be_pinned(
    alpha: ExchangeNode, shield: PeerSimulator
) -> None:
    witness = Ed25519Signer("shield.example", COSIGNATURE, os.urandom(32))
    log = Ed25519Signer("shield.example/log", ED25519, os.urandom(32))
    for vkey in (encode_vkey(witness.key), encode_vkey(log.key), "nonsense", ""):
        with pytest.raises(BadKeyError):
            await alpha.peering.add_peer(shield.base, vkey)


async def test_another_node_at_that_address_is_refused(
    alpha: ExchangeNode, shield: PeerSimulator, beta: PeerSimulator
) -> None:
    with pytest.raises(PeerMisbehavedError):
        await alpha.peering.add_peer(beta.base, shield.vkey)


async def test_a_descriptor_for_another_address_is_refused(
    alpha: ExchangeNode, shield: PeerSimulator
) -> None:
    base = shield.base
    shield.base = "https://elsewhere.example"
    with pytest.raises(PeerMisbehavedError, match="another base URL"):
        await alpha.peering.add_peer(base, shield.vkey)


@pytest.mark.parametrize("base", ["http://node.example", "ftp://x", "", "127.0.0.1:1"])
async def test_a_base_that_is_none_is_refused(
    alpha: ExchangeNode, shield: PeerSimulator, base: str
) -> None:
    with pytest.raises(MalformedError):
        await alpha.peering.add_peer(base, shield.vkey)


async def test_a_peer_that_does_not_answer_is_not_added(alpha: ExchangeNode) -> None:
    gone = PeerSimulator("shield.example", alpha.clock)
    async with gone.running():
        base = gone.base
    with pytest.raises(PeerUnavailableError):
        await alpha.peering.add_peer(base, gone.vkey)
    assert await alpha.inspect.peers() == ()


async def test_a_grant_needs_a_peer_and_a_list(
    alpha: ExchangeNode, shield: PeerSimulator
) -> None:
    with pytest.raises(UnknownPeerError):
        await alpha.peering.grant("shield.example", "ours")
    await alpha.peering.add_peer(shield.base, shield.vkey)
    with pytest.raises(UnknownListError):
        await alpha.peering.grant("shield.example", "ours")


async def test_granting_twice_is_one_grant_and_a_push(
    alpha: ExchangeNode, shield: PeerSimulator
) -> None:
    await alpha.peering.add_peer(shield.base, shield.vkey)
    await alpha.publisher.create_list("ours", {})
    await alpha.notices.pushes.take()
    first = await alpha.peering.grant("shield.example", "ours")
    alpha.clock.advance(10)
    assert await alpha.peering.grant("shield.example", "ours") == first
    assert await alpha.notices.pushes.take() == "alpha.example/hsf/v1/log/ours/1"
    assert await alpha.inspect.grants() == (first,)


async def test_revoking_takes_the_grant_back(
    alpha: ExchangeNode, shield: PeerSimulator
) -> None:
    await alpha.peering.add_peer(shield.base, shield.vkey)
    await alpha.publisher.create_list("ours", {})
    await alpha.peering.grant("shield.example", "ours")
    for _ in range(2):
        await alpha.peering.revoke("shield.example", "ours")
    assert await alpha.inspect.grants() == ()
    with pytest.raises(UnknownPeerError):
        await alpha.peering.revoke("nobody.example", "ours")


async def test_following_queues_a_first_look(following: Pair) -> None:
    alpha, _ = following
    follow = await alpha.follow("shield.example", "ncii")
    assert follow.state is FollowState.WAITING
    assert await alpha.notices.syncs.take() == ("shield.example", "ncii")
    again = await alpha.peering.follow("shield.example", "ncii")
    assert again.follow_id == follow.follow_id


async def test_only_a_pinned_peer_can_be_followed(alpha: ExchangeNode) -> None:
    with pytest.raises(UnknownPeerError):
        await alpha.peering.follow("shield.example", "ncii")


async def test_only_a_list_name_can_be_followed(following: Pair) -> None:
    alpha, _ = following
    with pytest.raises(MalformedError):
        await alpha.peering.follow("shield.example", "../secret")


async def test_what_is_followed_no_more_matches_no_more_until_it_is_again(
    following: Pair,
) -> None:
    alpha, shield = following
    log = shield.logs["ncii"]
    log.publish(indicators(1))
    await alpha.follower.sync("shield.example", "ncii")
    await alpha.peering.unfollow("shield.example", "ncii")
    assert (await alpha.log(log.origin)).state is LogState.FROZEN
    assert await alpha.matches(0) == 0
    with pytest.raises(UnknownFollowError):
        await alpha.peering.unfollow("shield.example", "ncii")

    await alpha.peering.follow("shield.example", "ncii")
    log.publish(indicators(1, first=1))
    report = await alpha.follower.sync("shield.example", "ncii")
    assert (report.old_size, report.new_size) == (2, 3)
    assert (await alpha.log(log.origin)).state is LogState.ACTIVE
    assert await alpha.matches(0) == 1


async def test_quarantine_and_release_of_a_peer(following: Pair) -> None:
    alpha, _ = following
    await alpha.notices.syncs.take()
    quarantined = await alpha.peering.quarantine("shield.example")
    assert quarantined.state is PeerState.QUARANTINED
    released = await alpha.peering.release("shield.example")
    assert released.state is PeerState.ACTIVE
    assert await alpha.notices.syncs.take() == ("shield.example", "ncii")
    for act in (alpha.peering.quarantine, alpha.peering.release):
        with pytest.raises(UnknownPeerError):
            await act("nobody.example")


async def test_a_descriptor_is_refreshed_for_its_new_keys(following: Pair) -> None:
    alpha, shield = following
    shield.version = 2
    shield.http = Ed25519Signer("shield.example#h1", ED25519, os.urandom(32))
    peer = await alpha.peering.refresh_descriptor("shield.example")
    assert peer.descriptor == shield.descriptor()
    with pytest.raises(UnknownPeerError):
        await alpha.peering.refresh_descriptor("nobody.example")


async def test_a_node_that_cannot_be_dialled_is_pinned_without_a_question(
    alpha: ExchangeNode, shield: PeerSimulator
) -> None:
    peer = await alpha.peering.pin(shield.vkey, None)
    assert (peer.base, peer.descriptor, peer.descriptor_version) == ("", b"", 0)
    assert not peer.is_dialable
    peer = await alpha.peering.pin(shield.vkey, shield.descriptor())
    assert (peer.base, peer.descriptor) == (shield.base, shield.descriptor())
    assert not peer.is_dialable
    assert peer.contacted_at is None
    # Without a new one, what is known stays.
    assert await alpha.peering.pin(shield.vkey, None) == peer
    assert shield.asked == []


async def test_nothing_is_asked_of_a_peer_that_is_not_dialable(
    alpha: ExchangeNode, shield: PeerSimulator
) -> None:
    origin = (await alpha.publisher.create_list("ours", {})).origin
    shield.create_list("ncii")
    await alpha.peering.pin(shield.vkey, shield.descriptor())
    await alpha.peering.grant("shield.example", "ours")
    await alpha.peering.follow("shield.example", "ncii")
    await alpha.follower.sweep()
    await alpha.pusher.sweep()
    assert await alpha.pusher.push(origin) == []
    assert await alpha.pusher.push_to("shield.example", origin) is None
    report = await alpha.follower.sync("shield.example", "ncii")
    assert (report.state, report.error) == (FollowState.WAITING, None)
    assert await alpha.follower.sync_all() == []
    with pytest.raises(PeerUnavailableError):
        await alpha.peering.refresh_descriptor("shield.example")
    assert not alpha.pusher.is_collecting
    assert shield.asked == []


async def test_a_pinned_node_that_is_added_is_dialled_from_then_on(
    alpha: ExchangeNode, shield: PeerSimulator
) -> None:
    await alpha.peering.pin(shield.vkey, None)
    peer = await alpha.peering.add_peer(shield.base, shield.vkey)
    assert peer.is_dialable
    assert (peer.base, peer.descriptor) == (shield.base, shield.descriptor())
    assert not (await alpha.peering.pin(shield.vkey, None)).is_dialable


async def test_what_an_operator_pins_must_fit_together(
    alpha: ExchangeNode, shield: PeerSimulator
) -> None:
    other = Ed25519Signer("shield.example", ED25519, os.urandom(32))
    with pytest.raises(UnknownKeyError):
        await alpha.peering.pin(encode_vkey(other.key), shield.descriptor())
    with pytest.raises(OwnNodeError):
        await alpha.peering.pin(encode_vkey(alpha.keyring.identity.key), None)
    shield.version = 5
    await alpha.peering.pin(shield.vkey, shield.descriptor())
    with pytest.raises(PeerPinnedError):
        await alpha.peering.pin(encode_vkey(other.key), None)
    shield.version = 4
    with pytest.raises(StaleVersionError):
        await alpha.peering.pin(shield.vkey, shield.descriptor())
    assert (await alpha.peer("shield.example")).descriptor_version == 5

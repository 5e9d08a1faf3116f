"""Who gets our copies of other nodes' lists, and what of them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import update

from hashlight_node.exchange.errors import (
    ErasedError,
    NotServedError,
    UnknownLogError,
    WithheldError,
)
from hashlight_node.exchange.mirroring import list_hash
from hashlight_node.model import LogState
from hashlight_node.store import logs, relaying, tables
from hashlight_node.store import peers as peer_store
from hashlight_protocol import (
    BodyBundleId,
    BodyStatus,
    EntryBundleId,
    TileId,
    open_checkpoint,
    open_list_note,
    origin_hash,
    parse_body_bundle,
    parse_receipt,
    parse_vkey,
    verify_cosignature,
)
from support.made_records import indicator, shared

if TYPE_CHECKING:
    from hashlight_node.model import Peer
    from hashlight_node.store.database import Connection
    from support.exchange_node import ExchangeNode
    from support.peer_simulator import PeerSimulator

ORIGIN = "shield.example/hsf/v1/log/ncii/1"
HASH = origin_hash(ORIGIN)
LIST = list_hash("shield.example/hsf/v1/log/ncii")


async def let_relay(
    node: ExchangeNode, *, owner_allows: bool = True, scope: object = None
) -> None:
    """Write down what the owner of the list lets the node do."""
    text = None if scope is None else json.dumps(scope)
    statement = update(tables.follows).values(may_relay=int(owner_allows), scope=text)
    await node.database.write(lambda conn: conn.execute(statement))


async def relay_to(node: ExchangeNode, peer: Peer) -> None:
    def write(conn: Connection) -> None:
        relaying.insert_relay_grant(
            conn, peer.peer_id, node="shield.example", list_name="ncii", now=1
        )

    await node.database.write(write)


@pytest.fixture
async def relay(
    following: tuple[ExchangeNode, PeerSimulator], beta: PeerSimulator
) -> ExchangeNode:
    """Give a node that relays a list to beta: META, a private and a shared record."""
    alpha, shield = following
    shield.logs["ncii"].publish([indicator(1), shared(2)])
    await alpha.follower.sync("shield.example", "ncii")
    await alpha.peering.add_peer(beta.base, beta.vkey)
    await let_relay(alpha)
    await relay_to(alpha, await alpha.peer("beta.example"))
    return alpha


async def statuses(node: ExchangeNode, peer: Peer, width: int) -> list[BodyStatus]:
    raw = await node.mirroring.bodies(peer, HASH, BodyBundleId(0, width))
    return [body.status for body in parse_body_bundle(raw, width)]


async def refuses_everything(node: ExchangeNode, peer: Peer) -> bool:
    """Tell whether a peer is answered as if there were no such copy."""
    mirroring = node.mirroring
    asked = (
        mirroring.checkpoint(peer, HASH, etag='"none"', seconds=30),
        mirroring.tile(peer, HASH, TileId(0, 0, 3)),
        mirroring.entries(peer, HASH, EntryBundleId(0, 3)),
        mirroring.bodies(peer, HASH, BodyBundleId(0, 3)),
        mirroring.receipt(peer, HASH, 2),
        mirroring.receipt(peer, HASH, 99),
        mirroring.list_note(peer, LIST),
    )
    for one in asked:
        with pytest.raises(UnknownLogError):
            await one
    return True


async def test_a_third_party_gets_the_log_and_the_bodies_that_are_shared(
    relay: ExchangeNode, following: tuple[ExchangeNode, PeerSimulator]
) -> None:
    _, shield = following
    log = shield.logs["ncii"]
    beta = await relay.peer("beta.example")
    note = await relay.mirroring.checkpoint(beta, HASH, etag=None, seconds=0)
    assert note is not None
    assert open_checkpoint(note, [log.signer.key], origin=ORIGIN).head.tree_size == 3
    assert verify_cosignature(note, relay.keyring.mirror.key) == relay.clock.now
    list_note = await relay.mirroring.list_note(beta, LIST)
    identity = parse_vkey(shield.vkey)
    assert open_list_note(list_note, identity).logs[0].origin == ORIGIN
    assert len(await relay.mirroring.tile(beta, HASH, TileId(0, 0, 3))) == 96
    assert await relay.mirroring.entries(beta, HASH, EntryBundleId(0, 3))
    assert await statuses(relay, beta, 3) == [
        BodyStatus.NONE,
        BodyStatus.WITHHELD,
        BodyStatus.PRESENT,
    ]
    receipt = parse_receipt(await relay.mirroring.receipt(beta, HASH, 2))
    assert receipt.body == shared(2)
    with pytest.raises(WithheldError):
        await relay.mirroring.receipt(beta, HASH, 1)


async def test_the_owner_gets_all_of_its_log_back_without_any_grant(
    following: tuple[ExchangeNode, PeerSimulator],
) -> None:
    alpha, shield = following
    log = shield.logs["ncii"]
    log.publish([indicator(1), shared(2)])
    log.erase(2)
    await alpha.follower.sync("shield.example", "ncii")
    owner = await alpha.peer("shield.example")
    present, erased = BodyStatus.PRESENT, BodyStatus.ERASED
    expected = [BodyStatus.NONE, present, erased, BodyStatus.NONE]
    assert await statuses(alpha, owner, 4) == expected
    assert await alpha.mirroring.list_note(owner, LIST)
    with pytest.raises(ErasedError):
        await alpha.mirroring.receipt(owner, HASH, 2)

    def quarantine(conn: Connection) -> None:
        copy = logs.find_log(conn, ORIGIN)
        assert copy is not None
        logs.set_log_state(conn, copy.log_id, LogState.QUARANTINED, "a fork")

    await alpha.database.write(quarantine)
    assert await statuses(alpha, owner, 4) == expected


async def test_nothing_beyond_the_cosigned_checkpoint_is_served(
    relay: ExchangeNode,
) -> None:
    beta = await relay.peer("beta.example")
    for resource in (
        relay.mirroring.tile(beta, HASH, TileId(0, 0, 4)),
        relay.mirroring.entries(beta, HASH, EntryBundleId(0, 4)),
        relay.mirroring.bodies(beta, HASH, BodyBundleId(0, 4)),
        relay.mirroring.receipt(beta, HASH, 3),
    ):
        with pytest.raises(NotServedError):
            await resource


async def test_without_a_grant_of_ours_there_is_no_copy(relay: ExchangeNode) -> None:
    beta = await relay.peer("beta.example")

    def take_back(conn: Connection) -> None:
        relaying.delete_relay_grant(
            conn, beta.peer_id, node="shield.example", list_name="ncii"
        )

    await relay.database.write(take_back)
    assert await refuses_everything(relay, beta)


async def test_an_owner_that_forbids_relaying_ends_it_at_once(
    relay: ExchangeNode,
) -> None:
    await let_relay(relay, owner_allows=False)
    assert await refuses_everything(relay, await relay.peer("beta.example"))


async def test_a_list_whose_withdrawals_we_do_not_hear_of_is_not_relayed(
    relay: ExchangeNode,
) -> None:
    beta = await relay.peer("beta.example")
    await relay.peering.quarantine("shield.example")
    assert await refuses_everything(relay, beta)
    await relay.peering.release("shield.example")
    assert await statuses(relay, beta, 3)
    await relay.peering.unfollow("shield.example", "ncii")
    assert await refuses_everything(relay, beta)


@pytest.mark.parametrize("state", [LogState.QUARANTINED, LogState.ABANDONED])
async def test_a_log_that_is_not_trusted_is_not_relayed(
    relay: ExchangeNode, state: LogState
) -> None:
    log = await relay.log(ORIGIN)
    await relay.database.write(
        lambda conn: logs.set_log_state(conn, log.log_id, state, "why")
    )
    assert await refuses_everything(relay, await relay.peer("beta.example"))


async def test_what_our_own_scope_hides_now_is_not_relayed_any_more(
    relay: ExchangeNode,
) -> None:
    beta = await relay.peer("beta.example")
    await let_relay(relay, scope={"labels": ["other:*"]})
    assert (await statuses(relay, beta, 3))[2] is BodyStatus.WITHHELD
    with pytest.raises(WithheldError):
        await relay.mirroring.receipt(beta, HASH, 2)
    await let_relay(relay, scope={"labels": ["ncii:*"]})
    assert (await statuses(relay, beta, 3))[2] is BodyStatus.PRESENT


async def test_a_grant_for_one_list_relays_no_other(
    relay: ExchangeNode, following: tuple[ExchangeNode, PeerSimulator]
) -> None:
    _, shield = following
    other = shield.create_list("other")
    other.publish([shared(9)])
    await relay.peering.follow("shield.example", "other")
    await relay.follower.sync("shield.example", "other")
    await let_relay(relay)
    beta = await relay.peer("beta.example")
    for asked in (
        relay.mirroring.tile(beta, origin_hash(other.origin), TileId(0, 0, 2)),
        relay.mirroring.list_note(beta, list_hash("shield.example/hsf/v1/log/other")),
        relay.mirroring.list_note(beta, "0" * 64),
    ):
        with pytest.raises(UnknownLogError):
            await asked


async def test_our_own_lists_are_not_served_as_copies(relay: ExchangeNode) -> None:
    await relay.publisher.create_list("ours", {})
    beta = await relay.peer("beta.example")
    origin = "alpha.example/hsf/v1/log/ours/1"

    def write(conn: Connection) -> None:
        relaying.insert_relay_grant(
            conn, beta.peer_id, node="alpha.example", list_name="ours", now=1
        )
        peer_store.insert_grant(conn, beta.peer_id, "ours", 1)

    await relay.database.write(write)
    with pytest.raises(UnknownLogError):
        await relay.mirroring.tile(beta, origin_hash(origin), TileId(0, 0, 1))

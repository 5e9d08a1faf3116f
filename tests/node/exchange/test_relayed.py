"""What a relay says that others acknowledged is believed as far as it is signed."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import select

from hashlight_node.exchange.errors import RolledBackError
from hashlight_node.exchange.telling import relayed
from hashlight_node.exchange.telling.relayed import RelayedCollector
from hashlight_node.peers.errors import PeerMisbehavedError
from hashlight_node.store import tables
from hashlight_node.store.relayed import list_relayed
from hashlight_protocol import (
    ED25519,
    Checkpoint,
    Ed25519Signer,
    Reason,
    RelayedNode,
    append_signatures,
    cosign,
    encode_relayed,
    parse_checkpoint,
    parse_note,
    sign_checkpoint,
)
from support.clock import ManualClock
from support.made_records import shared
from support.nodes import until
from support.peer_simulator import Answer, PeerSimulator

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from hashlight_node.model import RelayedAcknowledgement
    from support.exchange_node import ExchangeNode

ORIGIN = "alpha.example/hsf/v1/log/ours/1"
GAMMA = PeerSimulator("gamma.example", ManualClock())
GAMMA.base = "http://127.0.0.1:1"


@pytest.fixture
async def relay(alpha: ExchangeNode, beta: PeerSimulator) -> PeerSimulator:
    """Let beta relay a list of alpha that has two entries."""
    await alpha.publisher.create_list("ours", {})
    await alpha.publisher.publish("ours", [shared(1)])
    await alpha.peering.add_peer(beta.base, beta.vkey)
    return beta


async def acknowledged(alpha: ExchangeNode) -> RelayedNode:
    """Give what gamma would have signed."""
    note = (await alpha.log(ORIGIN)).checkpoint or b""
    cosigned = append_signatures(note, cosign(note, GAMMA.mirror, now=alpha.clock.now))
    return RelayedNode(GAMMA.identity.key, GAMMA.descriptor(), cosigned)


def collector_of(alpha: ExchangeNode) -> RelayedCollector:
    return RelayedCollector(
        database=alpha.database,
        client=alpha.client,
        keyring=alpha.keyring,
        self_check=alpha.self_check,
        clock=alpha.clock,
    )


async def collect(
    alpha: ExchangeNode, relay: PeerSimulator, *nodes: RelayedNode
) -> tuple[bool, list[RelayedAcknowledgement]]:
    """Have the relay say so, ask it, and give what is known then."""
    relay.honest()
    relay.tamper("nothing", lambda _: Answer("others", encode_relayed(nodes)))
    has_all = await collector_of(alpha).collect(
        ORIGIN, await alpha.peer("beta.example")
    )
    log = await alpha.log(ORIGIN)
    return has_all, await alpha.read(lambda conn: list_relayed(conn, log.log_id))


async def test_what_a_third_party_signed_is_kept_and_counts(
    alpha: ExchangeNode, relay: PeerSimulator
) -> None:
    node = await acknowledged(alpha)
    assert (await collect(alpha, relay, replace(node, checkpoint=b"")))[0] is False
    has_all, (said,) = await collect(alpha, relay, node)
    assert has_all
    assert (said.node, said.via) == ("gamma.example", "beta.example")
    assert (said.tree_size, said.acknowledged_at) == (2, alpha.clock.now)
    assert (said.note, said.descriptor) == (node.checkpoint, node.descriptor)
    # What it has signed once stays, whatever the relay says later.
    assert await collect(alpha, relay) == (True, [said])
    await alpha.publisher.publish("ours", [shared(2)])
    assert await collect(alpha, relay, node) == (False, [said])


async def signed_by_another_mirror(alpha: ExchangeNode) -> bytes:
    note = (await alpha.log(ORIGIN)).checkpoint or b""
    other = PeerSimulator("gamma.example", alpha.clock).mirror
    return append_signatures(note, cosign(note, other, now=alpha.clock.now))


async def signed_in_the_future(alpha: ExchangeNode) -> bytes:
    note = (await alpha.log(ORIGIN)).checkpoint or b""
    at = alpha.clock.now + 86_400
    return append_signatures(note, cosign(note, GAMMA.mirror, now=at))


async def of_another_tree(alpha: ExchangeNode) -> bytes:
    signer = alpha.keyring.log(ORIGIN)
    note = sign_checkpoint(Checkpoint(ORIGIN, 2, bytes(32)), [signer])
    return append_signatures(note, cosign(note, GAMMA.mirror, now=alpha.clock.now))


async def of_a_larger_tree(alpha: ExchangeNode) -> bytes:
    signer = alpha.keyring.log(ORIGIN)
    note = sign_checkpoint(Checkpoint(ORIGIN, 9, bytes(32)), [signer])
    return append_signatures(note, cosign(note, GAMMA.mirror, now=alpha.clock.now))


async def signed_by_no_key_of_ours(alpha: ExchangeNode) -> bytes:
    note = (await alpha.log(ORIGIN)).checkpoint or b""
    other = Ed25519Signer(ORIGIN, ED25519, bytes(32))
    forged = sign_checkpoint(parse_checkpoint(parse_note(note).text), [other])
    return append_signatures(forged, cosign(forged, GAMMA.mirror, now=alpha.clock.now))


async def signed_badly(alpha: ExchangeNode) -> bytes:
    """Give a line by the mirror's key that is of another text."""
    note = (await alpha.log(ORIGIN)).checkpoint or b""
    signer = alpha.keyring.log(ORIGIN)
    other = sign_checkpoint(Checkpoint(ORIGIN, 1, bytes(32)), [signer])
    return append_signatures(note, cosign(other, GAMMA.mirror, now=alpha.clock.now))


@pytest.mark.parametrize("sign", [signed_by_another_mirror, signed_in_the_future])
async def test_a_word_by_a_newer_key_or_another_clock_accuses_no_honest_relay(
    alpha: ExchangeNode,
    relay: PeerSimulator,
    sign: Callable[[ExchangeNode], Awaitable[bytes]],
) -> None:
    node = replace(await acknowledged(alpha), checkpoint=await sign(alpha))
    has_all, (said,) = await collect(alpha, relay, node)
    assert not has_all
    assert (said.tree_size, said.acknowledged_at) == (0, None)
    assert said.descriptor == node.descriptor
    assert await alpha.inspect.evidence() == ()


async def test_a_relay_that_makes_up_names_does_not_fill_our_disk(
    alpha: ExchangeNode, relay: PeerSimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relayed, "MAX_RELAYED_NODES", 3)
    node = await acknowledged(alpha)
    known: list[RelayedAcknowledgement] = []
    for number in range(3):
        made_up = [
            RelayedNode(
                PeerSimulator(f"n{number}{it}.example", alpha.clock).identity.key
            )
            for it in range(2)
        ]
        _, known = await collect(alpha, relay, *made_up)
    assert [one.node for one in known] == [
        "n00.example",
        "n01.example",
        "n10.example",
    ]
    monkeypatch.setattr(relayed, "MAX_RELAYED_NODES", 4)
    monkeypatch.setattr(relayed, "MAX_RELAYED_BYTES", len(node.descriptor))
    assert (await collect(alpha, relay, node))[1] == known
    monkeypatch.undo()
    assert len((await collect(alpha, relay, node))[1]) == 4


async def test_of_what_a_third_party_signs_the_newest_and_the_proofs_are_kept(
    alpha: ExchangeNode, relay: PeerSimulator
) -> None:
    sizes = tables.relayed_acknowledgements.c.tree_size
    await collect(alpha, relay, await acknowledged(alpha))
    (ref,) = await alpha.publisher.publish("ours", [shared(2)])
    await collect(alpha, relay, await acknowledged(alpha))
    await alpha.publisher.withdraw(ref, "erase", Reason.WITHDRAWN)
    for number in range(3, 6):
        await collect(alpha, relay, await acknowledged(alpha))
        await alpha.publisher.publish("ours", [shared(number)])
    kept = await alpha.read(lambda conn: list(conn.execute(select(sizes)).scalars()))
    # The first with the ERASE, and the newest.
    assert sorted(kept) == [4, 6]


@pytest.mark.parametrize(
    ("forge", "code"),
    [
        (signed_by_no_key_of_ours, "unknown-key"),
        (signed_badly, "bad-signature"),
    ],
)
async def test_a_forged_word_is_none_and_convicts_the_relay(
    alpha: ExchangeNode,
    relay: PeerSimulator,
    forge: Callable[[ExchangeNode], Awaitable[bytes]],
    code: str,
) -> None:
    node = await acknowledged(alpha)
    checkpoint = await forge(alpha)
    has_all, (said,) = await collect(alpha, relay, replace(node, checkpoint=checkpoint))
    assert not has_all
    assert (said.node, said.tree_size, said.acknowledged_at) == (
        "gamma.example",
        0,
        None,
    )
    evidence = await alpha.inspect.evidence()
    assert [(one.peer_name, one.code) for one in evidence] == [("beta.example", code)]


@pytest.mark.parametrize("sign", [of_another_tree, of_a_larger_tree])
async def test_what_we_signed_and_do_not_have_stops_our_signing_and_accuses_nobody(
    alpha: ExchangeNode,
    relay: PeerSimulator,
    sign: Callable[[ExchangeNode], Awaitable[bytes]],
) -> None:
    node = replace(await acknowledged(alpha), checkpoint=await sign(alpha))
    with pytest.raises(RolledBackError):
        await collect(alpha, relay, node)
    assert (await alpha.log(ORIGIN)).is_held
    assert await alpha.inspect.evidence() == ()


async def test_a_node_that_we_know_by_another_key_is_not_believed(
    alpha: ExchangeNode, relay: PeerSimulator
) -> None:
    node = await acknowledged(alpha)
    stranger = PeerSimulator("gamma.example", alpha.clock)
    await alpha.peering.pin(stranger.vkey, None)
    assert (await collect(alpha, relay, node))[1] == []
    own = RelayedNode(alpha.keyring.identity.key)
    assert (await collect(alpha, relay, own))[1] == []


async def test_a_name_keeps_the_key_that_it_had_first(
    alpha: ExchangeNode, relay: PeerSimulator
) -> None:
    node = await acknowledged(alpha)
    _, before = await collect(alpha, relay, replace(node, checkpoint=b""))
    other = PeerSimulator("gamma.example", alpha.clock)
    other.base = GAMMA.base
    note = (await alpha.log(ORIGIN)).checkpoint or b""
    cosigned = append_signatures(note, cosign(note, other.mirror, now=alpha.clock.now))
    usurper = RelayedNode(other.identity.key, other.descriptor(), cosigned)
    assert (await collect(alpha, relay, usurper))[1] == before


async def test_an_answer_that_is_none_convicts_the_relay(
    alpha: ExchangeNode, relay: PeerSimulator
) -> None:
    peer = await alpha.peer("beta.example")
    collector = collector_of(alpha)
    relay.tamper("nothing", lambda _: Answer("others", b"{}"))
    with pytest.raises(PeerMisbehavedError):
        await collector.collect(ORIGIN, peer)
    # In the background it is kept, and nothing else ends.
    collector.start(ORIGIN, peer)
    await until(lambda: not collector.is_collecting)
    evidence = await alpha.inspect.evidence()
    assert [one.peer_name for one in evidence] == ["beta.example"]


@pytest.mark.parametrize("described", [b"", b"nonsense"])
async def test_a_third_party_of_which_nothing_is_known_is_missing_by_name(
    alpha: ExchangeNode, relay: PeerSimulator, described: bytes
) -> None:
    (ref,) = await alpha.publisher.publish("ours", [shared(3)])
    await alpha.publisher.withdraw(ref, "erase", Reason.WITHDRAWN)
    node = RelayedNode(GAMMA.identity.key, described)
    has_all, (said,) = await collect(alpha, relay, node)
    assert (has_all, said.descriptor, said.tree_size) == (False, b"", 0)
    evidence = await alpha.inspect.evidence()
    assert [one.code for one in evidence] == (["malformed"] if described else [])
    report = await alpha.inspect.erasure(ref)
    (gamma,) = [one for one in report.peers if one.peer_name == "gamma.example"]
    assert (gamma.via, gamma.acknowledgement) == ("beta.example", None)

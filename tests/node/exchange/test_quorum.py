"""A quorum: nothing of a checkpoint is used before enough witnesses saw it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hashlight_node.exchange.answering.serve import names_text
from hashlight_node.exchange.logs import quorum as quorum_rules
from hashlight_node.exchange.logs.quorum import Quorum
from hashlight_node.exchange.logs.representations import etag_of
from hashlight_node.model import FollowState, LogState
from hashlight_node.peers.errors import PeerMisbehavedError
from hashlight_protocol import (
    COSIGNATURE,
    BadSignatureError,
    Ed25519Signer,
    QuorumNotMetError,
    append_signatures,
    cosign,
    encode_vkey,
    open_checkpoint,
    parse_note,
    parse_policy,
    verify_cosignature,
)
from support.clock import ManualClock
from support.exchange_node import ExchangeNode, open_exchange_node
from support.log_simulator import LogSimulator
from support.made_records import indicators
from support.peer_simulator import PeerSimulator

ORIGIN = "shield.example/hsf/v1/log/ncii/1"
NAMES = ("beta", "gamma", "delta")
WITNESSES = [
    Ed25519Signer(f"{name}.example/hsf/v1/witness", COSIGNATURE, bytes([number]) * 32)
    for number, name in enumerate(NAMES, 1)
]
LINES = [
    *(f"witness {signer.key.name} {encode_vkey(signer.key)}" for signer in WITNESSES),
    f"group peers 2 {' '.join(signer.key.name for signer in WITNESSES)}",
    "quorum peers",
]


def policy_text(*more: str) -> bytes:
    return "".join(f"{line}\n" for line in (*more, *LINES)).encode()


@pytest.fixture
async def alpha(tmp_path: Path, clock: ManualClock) -> AsyncIterator[ExchangeNode]:
    """Give a node that wants two of three to have seen what it uses."""
    async with open_exchange_node(
        tmp_path / "alpha", "alpha.example", clock, parse_policy(policy_text())
    ) as node:
        yield node


Pair = tuple[ExchangeNode, PeerSimulator]


def cosigned(note: bytes, *signers: Ed25519Signer) -> bytes:
    for signer in signers:
        note = append_signatures(note, cosign(note, signer, now=1_800_000_000))
    return note


def serve(shield: PeerSimulator, *signers: Ed25519Signer) -> None:
    """Let the owner serve its checkpoints with these cosignatures."""
    shield.honest()
    shield.tamper_body("checkpoint", lambda note: cosigned(note, *signers))


async def assert_waits(alpha: ExchangeNode) -> None:
    report = await alpha.follower.sync("shield.example", "ncii")
    assert report.state is FollowState.WAITING
    assert report.error is not None
    assert report.error.startswith("quorum-not-met: ")
    assert await alpha.evidence() == []
    assert (await alpha.log(ORIGIN)).state is LogState.ACTIVE


async def test_two_of_three_are_enough_and_one_is_not(following: Pair) -> None:
    alpha, shield = following
    shield.logs["ncii"].publish(indicators(2))
    for signers in ([], WITNESSES[:1], [*WITNESSES[:1], shield.witness]):
        serve(shield, *signers)
        await assert_waits(alpha)
        assert await alpha.matches(0) == 0
        assert (await alpha.log(ORIGIN)).tree_size == 0
    serve(shield, *WITNESSES[1:])
    report = await alpha.follower.sync("shield.example", "ncii")
    assert (report.state, report.error) == (FollowState.ACTIVE, None)
    assert await alpha.matches(0) == 1


async def test_what_was_used_before_goes_on_while_the_next_waits(
    following: Pair,
) -> None:
    alpha, shield = following
    log = shield.logs["ncii"]
    log.publish(indicators(2))
    serve(shield, *WITNESSES)
    await alpha.follower.sync("shield.example", "ncii")
    log.publish(indicators(1, first=7))
    serve(shield)
    await assert_waits(alpha)
    assert [await alpha.matches(number) for number in (0, 7)] == [1, 0]


async def test_a_follow_that_waits_for_a_quorum_is_tried_again_soon(
    following: Pair,
) -> None:
    alpha, shield = following
    shield.logs["ncii"].publish(indicators(2))
    await alpha.notices.syncs.take()
    await assert_waits(alpha)
    again = await asyncio.wait_for(alpha.notices.syncs.take(), 5)
    assert again == ("shield.example", "ncii")


async def test_cosignatures_that_peers_show_count_as_well(following: Pair) -> None:
    alpha, shield = following
    log = shield.logs["ncii"]
    log.publish(indicators(2))
    serve(shield, WITNESSES[0])
    await assert_waits(alpha)
    alpha.quorum.learn(cosigned(log.note(), WITNESSES[1]))
    report = await alpha.follower.sync("shield.example", "ncii")
    assert report.state is FollowState.ACTIVE


async def test_a_cosignature_that_does_not_hold_is_the_senders_fault(
    following: Pair,
) -> None:
    alpha, shield = following
    log = shield.logs["ncii"]
    log.publish(indicators(2))
    impostor = Ed25519Signer(WITNESSES[0].key.name, COSIGNATURE, b"\x09" * 32)
    shield.tamper_body("checkpoint", lambda note: claimed(note, impostor))
    with pytest.raises(PeerMisbehavedError) as caught:
        await alpha.follower.sync("shield.example", "ncii")
    assert isinstance(caught.value.cause, BadSignatureError)
    assert await alpha.matches(0) == 0


def claimed(note: bytes, impostor: Ed25519Signer) -> bytes:
    """Cosign with a key, and claim that it was the first witness's."""
    raw = parse_note(cosigned(note, impostor))
    blob = raw.signatures[-1].blob
    line = cosign(note, WITNESSES[0], now=1_800_000_000)
    right = parse_note(append_signatures(note, line)).signatures[-1].blob
    assert blob != right
    changed = bytearray(append_signatures(note, line))
    # Within the signature's base64, not its padding, and base64 still.
    changed[-6] = ord("B") if changed[-6] == ord("A") else ord("A")
    return bytes(changed)


async def test_a_log_that_the_policy_does_not_name_waits(
    tmp_path: Path, clock: ManualClock, shield: PeerSimulator
) -> None:
    other = LogSimulator("shield.example/hsf/v1/log/other/1")
    policy = parse_policy(policy_text(f"log {encode_vkey(other.signer.key)}"))
    async with open_exchange_node(
        tmp_path / "strict", "alpha.example", clock, policy
    ) as node:
        await node.peering.add_peer(shield.base, shield.vkey)
        await node.peering.follow(shield.name, "ncii")
        serve(shield, *WITNESSES)
        await assert_waits(node)


def test_what_is_learned_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quorum_rules, "_MOST_KEPT", 2)
    quorum = Quorum(parse_policy(policy_text()))
    log = LogSimulator(ORIGIN)
    notes = []
    for _ in range(4):
        log.publish(indicators(1))
        notes.append(log.note())
        quorum.learn(cosigned(notes[-1], *WITNESSES))
    forgotten, kept = (
        open_checkpoint(note, [log.signer.key], origin=ORIGIN)
        for note in (notes[0], notes[-1])
    )
    quorum.require(kept, "shield.example")
    with pytest.raises(QuorumNotMetError):
        quorum.require(forgotten, "shield.example")


# --------------------------------------------------------------- what the owner serves


@pytest.fixture
async def owning(alpha: ExchangeNode, shield: PeerSimulator) -> Pair:
    """Let alpha publish a list that shield may have."""
    await alpha.peering.add_peer(shield.base, shield.vkey)
    await alpha.publisher.create_list("ours", {})
    await alpha.peering.grant(shield.name, "ours")
    return alpha, shield


OURS = "alpha.example/hsf/v1/log/ours/1"


async def test_a_checkpoint_is_served_with_the_cosignatures_of_its_size(
    owning: Pair,
) -> None:
    alpha, shield = owning
    peer = await alpha.peer(shield.name)
    before = await alpha.serving.checkpoint(peer, "ours", 1)
    # The log's and our sign of life.
    assert len(parse_note(before).signatures) == 2
    await alpha.pusher.push(OURS)
    alpha.clock.advance(3600)
    await alpha.pusher.push(OURS)
    served = await alpha.serving.checkpoint(peer, "ours", 1)
    # Of each peer the newest one, which is what freshness rules look at.
    assert len(parse_note(served).signatures) == 3
    assert verify_cosignature(served, shield.witness.key) == alpha.clock()
    assert parse_note(served).text == parse_note(before).text
    await alpha.publisher.publish("ours", indicators(1))
    grown = await alpha.serving.checkpoint(peer, "ours", 1)
    assert len(parse_note(grown).signatures) == 2


async def test_a_cosignature_more_is_another_version_that_wakes_nobody(
    owning: Pair,
) -> None:
    alpha, shield = owning
    peer = await alpha.peer(shield.name)
    before = await alpha.serving.checkpoint(peer, "ours", 1)
    etag = etag_of(before)
    waiting = asyncio.create_task(
        alpha.serving.wait_checkpoint(peer, "ours", 1, etag=etag, seconds=2)
    )
    await asyncio.sleep(0.05)
    await alpha.pusher.push(OURS)
    after = await alpha.serving.checkpoint(peer, "ours", 1)
    assert etag_of(after) != etag
    late = asyncio.create_task(
        alpha.serving.wait_checkpoint(peer, "ours", 1, etag=etag, seconds=2)
    )
    await asyncio.sleep(0.2)
    assert not waiting.done()
    assert not late.done()
    # Who does not wait, and who waited long enough, gets the new version.
    now = await alpha.serving.wait_checkpoint(peer, "ours", 1, etag=etag, seconds=0)
    assert now == await waiting == await late == after


@pytest.mark.parametrize("prefix", ["", "W/"])
def test_versions_of_one_text_are_told_from_those_of_another(prefix: str) -> None:
    log = LogSimulator(ORIGIN)
    note = log.note()
    tag = prefix + etag_of(cosigned(note, WITNESSES[0]))
    assert names_text(tag, note)
    assert names_text(f'"a", {tag}', note)
    assert names_text("*", note)
    assert not names_text(None, note)
    log.publish(indicators(1))
    assert not names_text(tag, log.note())

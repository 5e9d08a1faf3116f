"""Witnessing: consistent checkpoints are cosigned, forks are kept as evidence."""

from __future__ import annotations

import asyncio
import base64
from dataclasses import replace

import pytest

from hashlight_node.exchange.answering import witness
from hashlight_node.exchange.errors import ForkedLogError, UnknownLogError
from hashlight_node.exchange.following import list_notes
from hashlight_node.exchange.logs import evidence as evidence_rules
from hashlight_node.model import FollowState, LogState, Peer
from hashlight_node.peers.errors import PeerMisbehavedError, PeerUnavailableError
from hashlight_node.store import deliveries
from hashlight_protocol import (
    ED25519,
    BadProofError,
    BadSignatureError,
    ConflictError,
    Ed25519Signer,
    KnownHead,
    MalformedError,
    SplitViewError,
    UnknownKeyError,
    append_signatures,
    cosign,
    parse_fork_evidence,
    parse_note,
    verify_cosignature,
    verify_fork,
)
from support.exchange_node import ExchangeNode
from support.log_simulator import LogSimulator
from support.made_records import indicator, indicators
from support.peer_simulator import PeerSimulator

Pair = tuple[ExchangeNode, PeerSimulator]


def submission(log: LogSimulator, old_size: int, size: int | None = None) -> bytes:
    new_size = log.size if size is None else size
    proof = log.proof(old_size, new_size)
    lines = [f"old {old_size}", *(base64.b64encode(one).decode() for one in proof)]
    return "\n".join(lines).encode() + b"\n\n" + log.note(new_size)


async def peer_of(node: ExchangeNode) -> Peer:
    return await node.peer("shield.example")


async def head_of(node: ExchangeNode, log: LogSimulator) -> KnownHead | None:
    return await node.read(lambda conn: deliveries.known_head(conn, log.origin))


async def test_a_first_checkpoint_is_cosigned_and_remembered(following: Pair) -> None:
    alpha, shield = following
    log = shield.logs["ncii"]
    log.publish(indicators(3))

    line = await alpha.witness.add_checkpoint(await peer_of(alpha), submission(log, 0))

    note = append_signatures(log.note(), line)
    assert verify_cosignature(note, alpha.keyring.witness.key) == alpha.clock.now
    assert await head_of(alpha, log) == KnownHead(4, log.root())


async def test_growth_is_cosigned_and_the_follower_is_told(following: Pair) -> None:
    alpha, shield = following
    log = shield.logs["ncii"]
    peer = await peer_of(alpha)
    await alpha.notices.syncs.take()
    await alpha.witness.add_checkpoint(peer, submission(log, 0))
    log.publish(indicators(3))
    await alpha.witness.add_checkpoint(peer, submission(log, 1))
    assert await alpha.notices.syncs.take() == ("shield.example", "ncii")
    assert await head_of(alpha, log) == KnownHead(4, log.root())


async def test_a_list_that_is_not_followed_is_witnessed_without_a_notice(
    following: Pair,
) -> None:
    alpha, shield = following
    await alpha.notices.syncs.take()
    other = shield.create_list("other")
    await alpha.witness.add_checkpoint(await peer_of(alpha), submission(other, 0))
    assert len(alpha.notices.syncs) == 0
    assert await head_of(alpha, other) == KnownHead(1, other.root())


async def test_the_same_checkpoint_again_gets_a_fresh_cosignature(
    following: Pair,
) -> None:
    alpha, shield = following
    log = shield.logs["ncii"]
    peer = await peer_of(alpha)
    await alpha.witness.add_checkpoint(peer, submission(log, 0))
    alpha.clock.advance(3600)
    line = await alpha.witness.add_checkpoint(peer, submission(log, 1))
    note = append_signatures(log.note(), line)
    assert verify_cosignature(note, alpha.keyring.witness.key) == alpha.clock.now


async def test_another_old_size_is_a_conflict_that_names_ours(following: Pair) -> None:
    alpha, shield = following
    log = shield.logs["ncii"]
    peer = await peer_of(alpha)
    await alpha.witness.add_checkpoint(peer, submission(log, 0))
    log.publish(indicators(3))
    with pytest.raises(ConflictError) as caught:
        await alpha.witness.add_checkpoint(peer, submission(log, 0))
    assert caught.value.known_size == 1


async def test_of_two_racing_checkpoints_one_wins(following: Pair) -> None:
    alpha, shield = following
    log = shield.logs["ncii"]
    peer = await peer_of(alpha)
    await alpha.witness.add_checkpoint(peer, submission(log, 0))
    log.publish(indicators(20))
    racing = [
        alpha.witness.add_checkpoint(peer, submission(log, 1, size))
        for size in range(2, 22)
    ]
    outcomes = await asyncio.gather(*racing, return_exceptions=True)
    assert sum(isinstance(outcome, bytes) for outcome in outcomes) == 1
    assert sum(isinstance(outcome, ConflictError) for outcome in outcomes) == 19


async def test_a_fork_is_kept_as_evidence_and_quarantines_the_list(
    following: Pair,
) -> None:
    alpha, shield = following
    log = shield.logs["ncii"]
    log.publish(indicators(2))
    await alpha.follower.sync("shield.example", "ncii")
    fork = LogSimulator(log.origin)
    fork.signer = log.signer
    fork.publish([indicator(8), indicator(9)])

    with pytest.raises(SplitViewError):
        await alpha.witness.add_checkpoint(await peer_of(alpha), submission(fork, 3))

    (evidence,) = await alpha.evidence()
    assert (evidence.code, evidence.list_name) == ("split-view", "ncii")
    shown = parse_fork_evidence(evidence.payload)
    verify_fork(shown, [log.signer.key])
    assert (shown.older, shown.newer) == (log.note(), fork.note())
    follow = await alpha.follow("shield.example", "ncii")
    assert follow.state is FollowState.QUARANTINED
    assert (await alpha.log(log.origin)).state is LogState.QUARANTINED
    assert await alpha.matches(0) == 1
    assert await head_of(alpha, log) == KnownHead(3, log.root())


async def test_a_proof_that_does_not_link_is_refused(following: Pair) -> None:
    alpha, shield = following
    log = shield.logs["ncii"]
    peer = await peer_of(alpha)
    log.publish(indicators(2))
    await alpha.witness.add_checkpoint(peer, submission(log, 0))
    fork = LogSimulator(log.origin)
    fork.signer = log.signer
    fork.publish(indicators(9, first=50))
    with pytest.raises(BadProofError):
        await alpha.witness.add_checkpoint(peer, submission(fork, 3))
    assert await head_of(alpha, log) == KnownHead(3, log.root())


async def test_a_stranger_s_signature_is_refused(following: Pair) -> None:
    alpha, shield = following
    log = LogSimulator(shield.logs["ncii"].origin)
    with pytest.raises(UnknownKeyError):
        await alpha.witness.add_checkpoint(await peer_of(alpha), submission(log, 0))
    assert shield.kinds_asked().count("list-note") == 2
    assert await head_of(alpha, log) is None


async def test_a_damaged_signature_is_refused(following: Pair) -> None:
    alpha, shield = following
    raw = submission(shield.logs["ncii"], 0)
    end = raw.rindex(b"\n")
    changed = raw[: end - 20] + (b"A" if raw[end - 20 : end - 19] != b"A" else b"B")
    with pytest.raises(BadSignatureError):
        await alpha.witness.add_checkpoint(
            await peer_of(alpha), changed + raw[end - 19 :]
        )


async def test_a_new_key_is_learned_from_the_list_note(following: Pair) -> None:
    alpha, shield = following
    log = shield.logs["ncii"]
    peer = await peer_of(alpha)
    await alpha.witness.add_checkpoint(peer, submission(log, 0))
    log.signer = LogSimulator(log.origin).signer
    shield.list_versions["ncii"] = 2
    log.publish(indicators(1))
    await alpha.witness.add_checkpoint(peer, submission(log, 1))
    assert await head_of(alpha, log) == KnownHead(2, log.root())


async def test_peers_announce_their_own_logs_only(
    following: Pair, beta: PeerSimulator
) -> None:
    alpha, shield = following
    await alpha.peering.add_peer(beta.base, beta.vkey)
    other = await alpha.peer("beta.example")
    with pytest.raises(UnknownLogError):
        await alpha.witness.add_checkpoint(other, submission(shield.logs["ncii"], 0))


async def test_a_log_of_another_kind_is_unknown(following: Pair) -> None:
    alpha, _ = following
    log = LogSimulator("shield.example/hsf/v1/log/ncii/1")
    log.origin = "example.com/some-other-log"
    log.signer = Ed25519Signer(log.origin, ED25519, bytes(32))
    with pytest.raises(UnknownLogError):
        await alpha.witness.add_checkpoint(await peer_of(alpha), submission(log, 0))


async def test_a_log_that_its_list_note_does_not_name_is_unknown(
    following: Pair,
) -> None:
    alpha, _ = following
    for origin in (
        "shield.example/hsf/v1/log/ncii/2",
        "shield.example/hsf/v1/log/nothing/1",
    ):
        with pytest.raises(UnknownLogError):
            await alpha.witness.add_checkpoint(
                await peer_of(alpha), submission(LogSimulator(origin), 0)
            )


@pytest.mark.parametrize("raw", [b"", b"old 0\n\n", b"old x\n\nnote", b"\xff" * 10])
async def test_anything_else_is_malformed(following: Pair, raw: bytes) -> None:
    alpha, _ = following
    with pytest.raises(MalformedError):
        await alpha.witness.add_checkpoint(await peer_of(alpha), raw)


async def test_an_unreachable_origin_is_told_to_try_again(following: Pair) -> None:
    alpha, shield = following
    peer = await peer_of(alpha)
    raw = submission(shield.logs["ncii"], 0)
    gone = PeerSimulator("shield.example", alpha.clock)
    async with gone.running():
        base = gone.base
    moved = replace(peer, base=base)
    with pytest.raises(PeerUnavailableError):
        await alpha.witness.add_checkpoint(moved, raw)


async def test_other_signatures_on_the_note_are_not_kept(following: Pair) -> None:
    alpha, shield = following
    log = shield.logs["ncii"]
    stranger = Ed25519Signer("x.example/hsf/v1/witness", 0x04, bytes(32))
    note = append_signatures(log.note(), cosign(log.note(), stranger, now=5))
    await alpha.witness.add_checkpoint(await peer_of(alpha), b"old 0\n\n" + note)
    kept = await alpha.read(lambda conn: deliveries.read_witnessed(conn, log.origin))
    assert kept is not None
    names = [signature.name for signature in parse_note(kept).signatures]
    assert names == [log.origin, "alpha.example/hsf/v1/witness"]


async def test_an_unknown_key_makes_us_ask_once_a_minute(following: Pair) -> None:
    alpha, shield = following
    peer = await peer_of(alpha)
    raw = submission(LogSimulator(shield.logs["ncii"].origin), 0)
    for _ in range(5):
        with pytest.raises(UnknownKeyError):
            await alpha.witness.add_checkpoint(peer, raw)
    assert shield.kinds_asked().count("list-note") == 2
    alpha.clock.advance(60)
    with pytest.raises(UnknownKeyError):
        await alpha.witness.add_checkpoint(peer, raw)
    assert shield.kinds_asked().count("list-note") == 3


async def test_a_peer_fills_neither_our_memory_nor_our_disk(
    following: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(witness, "_MOST_WITNESSED", 2)
    monkeypatch.setattr(list_notes, "_MOST_KEPT", 2)
    alpha, shield = following
    peer = await peer_of(alpha)
    made_up = [shield.create_list(f"x{number}") for number in range(3)]
    for log in made_up[:2]:
        await alpha.witness.add_checkpoint(peer, submission(log, 0))
    with pytest.raises(UnknownLogError):
        await alpha.witness.add_checkpoint(peer, submission(made_up[2], 0))
    # What we follow, and what we know already, goes on.
    ncii = shield.logs["ncii"]
    await alpha.witness.add_checkpoint(peer, submission(ncii, 0))
    await alpha.witness.add_checkpoint(peer, submission(made_up[0], 1))
    asked = shield.kinds_asked().count("list-note")
    await alpha.list_notes.current(peer, "x0")
    await alpha.list_notes.current(peer, "ncii")
    assert shield.kinds_asked().count("list-note") == asked
    await alpha.list_notes.current(peer, "x1")
    assert shield.kinds_asked().count("list-note") == asked + 1


async def test_a_list_note_that_breaks_rules_is_kept_as_evidence(
    following: Pair,
) -> None:
    alpha, shield = following
    shield.tamper_body("list-note", lambda raw: raw.replace(b"ncii", b"ncij"))
    with pytest.raises(PeerMisbehavedError):
        await alpha.witness.add_checkpoint(
            await peer_of(alpha), submission(shield.logs["ncii"], 0)
        )
    (kept,) = await alpha.evidence()
    assert (kept.list_name, kept.code) == ("ncii", "bad-signature")
    follow = await alpha.follow("shield.example", "ncii")
    assert follow.state is FollowState.QUARANTINED


async def test_made_up_lists_leave_room_for_evidence_about_the_followed_one(
    following: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evidence_rules, "_MOST_KEPT", 2)
    alpha, shield = following
    for number in range(3):
        await fork(alpha, shield.create_list(f"x{number}"))
    await fork(alpha, shield.logs["ncii"])
    with pytest.raises(ForkedLogError):
        await fork(alpha, shield.logs["ncii"])
    kept = [one.list_name for one in await alpha.evidence()]
    assert kept == ["x0", "x1", "ncii"]
    (status,) = await alpha.inspect.peers()
    assert status.evidence == 3


async def fork(node: ExchangeNode, log: LogSimulator) -> None:
    """Announce a log in two versions."""
    peer = await peer_of(node)
    if await head_of(node, log) is None:
        await node.witness.add_checkpoint(peer, submission(log, 0))
    other = LogSimulator(log.origin)
    other.signer = log.signer
    log.publish(indicators(1))
    await node.witness.add_checkpoint(peer, submission(log, log.size - 1))
    other.publish(indicators(log.size - 1, first=90))
    with pytest.raises(SplitViewError):
        await node.witness.add_checkpoint(peer, submission(other, log.size))

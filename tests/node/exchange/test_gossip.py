"""Comparing checkpoints with peers, and evidence of forks: attacks by name."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hashlight_node.exchange.errors import ForkedLogError, UnknownLogError
from hashlight_node.exchange.telling import gossip as gossip_rules
from hashlight_node.model import FollowState, Fork
from hashlight_node.peers.errors import PeerMisbehavedError, PeerUnavailableError
from hashlight_node.store import forks
from hashlight_protocol import (
    ED25519,
    MAX_EVIDENCE_BYTES,
    BadProofError,
    Checkpoint,
    ConflictError,
    Ed25519Signer,
    ForkEvidence,
    MalformedError,
    NoForkError,
    RollbackError,
    TooLargeError,
    encode_fork_evidence,
    open_checkpoint,
    parse_fork_evidence,
    sign_checkpoint,
    verify_cosignature,
    verify_fork,
)
from support.clock import ManualClock
from support.exchange_node import ExchangeNode
from support.log_simulator import LogSimulator
from support.made_records import indicators
from support.peer_simulator import Answer, PeerSimulator

from .test_witness import submission

Pair = tuple[ExchangeNode, PeerSimulator]
ORIGIN = "shield.example/hsf/v1/log/ncii/1"


@pytest.fixture
async def scene(
    following: Pair, beta: PeerSimulator
) -> tuple[ExchangeNode, PeerSimulator, PeerSimulator]:
    """Alpha copied five entries of shield's list; beta is another peer of it."""
    alpha, shield = following
    beta.features = ("evidence", "gossip")
    shield.logs["ncii"].publish(indicators(4))
    await alpha.peering.add_peer(beta.base, beta.vkey)
    await alpha.follower.sync("shield.example", "ncii")
    return alpha, shield, beta


Scene = tuple[ExchangeNode, PeerSimulator, PeerSimulator]


def forked(log: LogSimulator, kept: int, more: int) -> LogSimulator:
    """Make a log with the same key and beginning, and another end."""
    other = LogSimulator(log.origin)
    other.signer = log.signer
    other.entries, other.leaves = log.entries[:kept], log.leaves[:kept]
    other.bodies = log.bodies[:kept]
    other.publish(indicators(more, first=900))
    return other


def evidence_of(older: LogSimulator, newer: LogSimulator) -> ForkEvidence:
    size = older.size
    return ForkEvidence(
        older.note(), newer.note(), newer.root(size), newer.proof(size, newer.size)
    )


async def fork_at(node: ExchangeNode) -> Fork | None:
    return await node.read(lambda conn: forks.find_fork(conn, ORIGIN))


async def assert_convicted(node: ExchangeNode, log: LogSimulator) -> None:
    fork = await fork_at(node)
    assert fork is not None
    verify_fork(parse_fork_evidence(fork.evidence), [log.signer.key])
    follow = await node.follow("shield.example", "ncii")
    assert follow.state is FollowState.QUARANTINED
    assert await node.matches(0) == 1


# ------------------------------------------------------------------ what others send


async def test_a_checkpoint_is_answered_with_ours_and_our_cosignature(
    scene: Scene,
) -> None:
    alpha, shield, beta = scene
    log = shield.logs["ncii"]
    answer = await alpha.gossip.answer(await alpha.peer(beta.name), log.note(2))
    signed = open_checkpoint(answer, [log.signer.key], origin=ORIGIN)
    assert signed.head.tree_size == 5
    assert verify_cosignature(answer, alpha.keyring.witness.key) == alpha.clock()
    assert await fork_at(alpha) is None


@pytest.mark.parametrize("caller", ["beta.example", "shield.example"])
async def test_who_guesses_an_origin_learns_nothing(scene: Scene, caller: str) -> None:
    alpha, _, _ = scene
    peer = await alpha.peer(caller)
    thief = Ed25519Signer(ORIGIN, ED25519, b"\x07" * 32)
    forged = sign_checkpoint(Checkpoint(ORIGIN, 5, b"\x01" * 32), (thief,))
    other = ORIGIN.replace("ncii", "none")
    guessed = sign_checkpoint(
        Checkpoint(other, 5, b"\x01" * 32),
        (Ed25519Signer(other, ED25519, b"\x07" * 32),),
    )
    strange = sign_checkpoint(
        Checkpoint("go.sum", 5, b"\x01" * 32),
        (Ed25519Signer("go.sum", ED25519, b"\x07" * 32),),
    )
    said = set()
    for note in (forged, guessed, strange):
        with pytest.raises(UnknownLogError) as caught:
            await alpha.gossip.answer(peer, note)
        said.add(str(caught.value))
    assert len(said) == 1
    with pytest.raises(MalformedError):
        await alpha.gossip.answer(peer, b"no note")


async def test_who_guesses_an_origin_does_not_make_us_ask_its_owner(
    scene: Scene,
) -> None:
    """The time that takes would tell that we know the log."""
    alpha, shield, beta = scene
    alpha.clock.advance(7200)
    thief = Ed25519Signer(ORIGIN, ED25519, b"\x07" * 32)
    first, second = (
        sign_checkpoint(Checkpoint(ORIGIN, 9, bytes([it]) * 32), (thief,))
        for it in (1, 2)
    )
    made_up = encode_fork_evidence(ForkEvidence(first, second, b"\x02" * 32))
    peer = await alpha.peer(beta.name)
    asked = len(shield.asked)
    with pytest.raises(UnknownLogError):
        await alpha.gossip.answer(peer, first)
    with pytest.raises(UnknownLogError):
        await alpha.gossip.accept(peer, made_up)
    assert len(shield.asked) == asked


async def test_a_signature_that_was_changed_learns_nothing(scene: Scene) -> None:
    alpha, shield, beta = scene
    note = bytearray(shield.logs["ncii"].note())
    note[-6] ^= 1
    with pytest.raises((UnknownLogError, MalformedError)):
        await alpha.gossip.answer(await alpha.peer(beta.name), bytes(note))


async def test_a_peer_in_quarantine_learns_nothing(scene: Scene) -> None:
    alpha, shield, beta = scene
    peer = await alpha.peer(beta.name)
    await alpha.peering.quarantine(beta.name)
    with pytest.raises(UnknownLogError):
        await alpha.gossip.answer(peer, shield.logs["ncii"].note())
    with pytest.raises(UnknownLogError):
        await alpha.gossip.accept(
            peer, encode_fork_evidence(evidence_of(*_views(shield)))
        )


def _views(shield: PeerSimulator) -> tuple[LogSimulator, LogSimulator]:
    log = shield.logs["ncii"]
    return log, forked(log, 2, 10)


async def test_a_list_that_is_only_followed_has_no_view_yet(
    following: Pair, beta: PeerSimulator
) -> None:
    alpha, shield = following
    await alpha.peering.add_peer(beta.base, beta.vkey)
    with pytest.raises(UnknownLogError):
        await alpha.gossip.answer(
            await alpha.peer(beta.name), shield.logs["ncii"].note()
        )


@pytest.mark.parametrize(("kept", "more"), [(2, 3), (2, 1), (4, 1)])
async def test_a_view_that_is_not_larger_than_ours_convicts_without_asking_anybody(
    scene: Scene, kept: int, more: int
) -> None:
    alpha, shield, beta = scene
    log = shield.logs["ncii"]
    lie = forked(log, kept, more)
    shield.asked.clear()
    answer = await alpha.gossip.answer(await alpha.peer(beta.name), lie.note())
    assert shield.asked == []
    assert open_checkpoint(answer, [log.signer.key], origin=ORIGIN).head.tree_size == 5
    await assert_convicted(alpha, log)
    assert await alpha.notices.forks.take() == ORIGIN


async def test_a_larger_view_makes_us_look_for_news(scene: Scene) -> None:
    alpha, shield, beta = scene
    log = shield.logs["ncii"]
    await alpha.notices.syncs.take()
    log.publish(indicators(3, first=50))
    await alpha.gossip.answer(await alpha.peer(beta.name), log.note())
    assert await alpha.notices.syncs.take() == ("shield.example", "ncii")
    assert await fork_at(alpha) is None


async def test_whoever_asks_about_a_log_that_forked_gets_the_evidence(
    scene: Scene,
) -> None:
    alpha, shield, beta = scene
    older, newer = _views(shield)
    evidence = encode_fork_evidence(evidence_of(older, newer))
    await alpha.gossip.accept(await alpha.peer("shield.example"), evidence)
    await alpha.gossip.spread(await alpha.notices.forks.take())
    assert beta.evidence == []  # It did not show that it knows the log.
    await alpha.gossip.answer(await alpha.peer(beta.name), older.note())
    await alpha.gossip.spread(await alpha.notices.forks.take())
    assert beta.evidence == [evidence]
    await alpha.gossip.spread(ORIGIN)
    assert beta.evidence == [evidence]


# -------------------------------------------------------------------------- evidence


async def test_evidence_is_kept_once_and_taken_again(scene: Scene) -> None:
    alpha, shield, beta = scene
    older, newer = _views(shield)
    peer = await alpha.peer(beta.name)
    raw = encode_fork_evidence(evidence_of(older, newer))
    await alpha.gossip.accept(peer, raw)
    await assert_convicted(alpha, older)
    # A flood of it, with ever other signed trees, leaves nothing more.
    for more in range(11, 31):
        again = evidence_of(older, forked(older, 2, more))
        await alpha.gossip.accept(peer, encode_fork_evidence(again))
    fork = await fork_at(alpha)
    assert fork is not None
    assert fork.evidence == raw
    assert len(await alpha.evidence()) == 1
    assert len(alpha.notices.forks) == 1


async def test_evidence_that_shows_no_fork_harms_nobody(scene: Scene) -> None:
    alpha, shield, beta = scene
    log = shield.logs["ncii"]
    peer = await alpha.peer(beta.name)
    honest = ForkEvidence(log.note(3), log.note(), log.root(3), log.proof(3, 5))
    with pytest.raises(NoForkError):
        await alpha.gossip.accept(peer, encode_fork_evidence(honest))
    broken = ForkEvidence(log.note(3), log.note(), b"\x01" * 32, log.proof(3, 5))
    with pytest.raises(BadProofError):
        await alpha.gossip.accept(peer, encode_fork_evidence(broken))
    await assert_unharmed(alpha)


async def test_evidence_by_a_key_of_somebody_else_harms_nobody(scene: Scene) -> None:
    alpha, shield, beta = scene
    log = shield.logs["ncii"]
    lie = forked(log, 2, 10)
    lie.signer = Ed25519Signer(ORIGIN, ED25519, b"\x07" * 32)
    with pytest.raises(UnknownLogError):
        await alpha.gossip.accept(
            await alpha.peer(beta.name), encode_fork_evidence(evidence_of(log, lie))
        )
    await assert_unharmed(alpha)


async def test_evidence_about_a_log_that_we_do_not_know_is_refused(
    scene: Scene,
) -> None:
    alpha, shield, beta = scene
    peer = await alpha.peer(beta.name)
    for log in (
        shield.create_list("other"),
        LogSimulator("stranger.example/hsf/v1/log/x/1"),
        LogSimulator("alpha.example/hsf/v1/log/x/1"),
    ):
        log.publish(indicators(3))
        raw = encode_fork_evidence(evidence_of(log, forked(log, 2, 10)))
        with pytest.raises(UnknownLogError):
            await alpha.gossip.accept(peer, raw)
    await assert_unharmed(alpha)


async def test_evidence_that_is_none_or_too_large_is_refused(scene: Scene) -> None:
    alpha, _, beta = scene
    peer = await alpha.peer(beta.name)
    with pytest.raises(MalformedError):
        await alpha.gossip.accept(peer, b"{}")
    with pytest.raises(TooLargeError):
        await alpha.gossip.accept(peer, b" " * (MAX_EVIDENCE_BYTES + 1))
    await assert_unharmed(alpha)


async def assert_unharmed(alpha: ExchangeNode) -> None:
    assert await fork_at(alpha) is None
    assert await alpha.evidence() == []
    follow = await alpha.follow("shield.example", "ncii")
    assert follow.state is FollowState.ACTIVE


async def test_evidence_against_our_own_log_is_told_to_the_operator(
    scene: Scene,
) -> None:
    alpha, _, beta = scene
    await alpha.publisher.create_list("own", {})
    await alpha.publisher.publish("own", indicators(3))
    origin = "alpha.example/hsf/v1/log/own/1"
    peer = await alpha.peer(beta.name)
    stolen = sign_checkpoint(
        Checkpoint(origin, 2, b"\x02" * 32), (alpha.keyring.log(origin),)
    )
    with pytest.raises(UnknownLogError):  # Not granted: nothing is told.
        await alpha.gossip.answer(peer, stolen)
    await alpha.peering.grant(beta.name, "own")
    log = await alpha.log(origin)
    assert await alpha.gossip.answer(peer, stolen) == log.checkpoint
    assert await alpha.read(lambda conn: forks.is_forked(conn, origin))
    (status,) = [one for one in await alpha.inspect.lists() if one.origin == origin]
    assert status.error is not None
    assert "forked" in status.error
    fork = await alpha.read(lambda conn: forks.find_fork(conn, origin))
    assert fork is not None
    await alpha.gossip.accept(peer, fork.evidence)
    # People's withdrawals still count here.
    await alpha.publisher.publish("own", indicators(1, first=9))


# ----------------------------------------------------------------- what we ask others


async def test_a_view_that_a_peer_answers_convicts(scene: Scene) -> None:
    alpha, shield, beta = scene
    log = shield.logs["ncii"]
    beta.seen[ORIGIN] = forked(log, 2, 3).note()
    await alpha.gossip.sweep()
    await assert_convicted(alpha, log)
    await alpha.gossip.sweep()
    assert len(beta.evidence) == 1


async def test_a_larger_view_that_the_owner_serves_to_us_convicts(scene: Scene) -> None:
    alpha, shield, beta = scene
    log = shield.logs["ncii"]
    lie = forked(log, 2, 700)
    shield.logs["ncii"] = lie  # Served to us, as if it had always been so.
    beta.seen[ORIGIN] = lie.note()
    await alpha.gossip.sweep()
    await assert_convicted(alpha, log)


async def test_what_the_owner_does_not_link_is_suspect_and_no_proof(
    scene: Scene,
) -> None:
    alpha, shield, beta = scene
    log = shield.logs["ncii"]
    beta.seen[ORIGIN] = forked(log, 2, 700).note()
    with pytest.raises(PeerUnavailableError) as caught:
        await alpha.gossip.compare(await alpha.peer(beta.name), ORIGIN)
    assert caught.value.peer == "shield.example"
    await alpha.gossip.sweep()
    await assert_unharmed(alpha)


@pytest.mark.parametrize(("kept", "more"), [(2, 3), (2, 900)])
async def test_a_list_that_is_only_cosigned_is_compared_by_its_owners_hashes(
    scene: Scene, kept: int, more: int
) -> None:
    alpha, shield, beta = scene
    other = shield.create_list("other")
    other.publish(indicators(300, first=50))
    await alpha.witness.add_checkpoint(
        await alpha.peer("shield.example"), submission(other, 0)
    )
    lie = forked(other, kept, more)
    beta.seen[other.origin] = lie.note()
    if lie.size > other.size:
        shield.logs["other"] = lie
    await alpha.gossip.sweep()
    found = await alpha.read(lambda conn: forks.find_fork(conn, other.origin))
    assert found is not None
    verify_fork(parse_fork_evidence(found.evidence), [other.signer.key])
    # The list that we follow is another one.
    follow = await alpha.follow("shield.example", "ncii")
    assert follow.state is FollowState.ACTIVE


async def test_a_fork_is_told_although_its_owner_is_in_quarantine(scene: Scene) -> None:
    alpha, shield, beta = scene
    older, newer = _views(shield)
    await alpha.gossip.accept(
        await alpha.peer(beta.name), encode_fork_evidence(evidence_of(older, newer))
    )
    await alpha.peering.quarantine("shield.example")
    async with PeerSimulator("gamma.example", alpha.clock).running() as gamma:
        gamma.features = ("evidence", "gossip")
        gamma.seen[ORIGIN] = older.note()
        await alpha.peering.add_peer(gamma.base, gamma.vkey)
        await alpha.gossip.sweep()
        assert len(gamma.evidence) == 1
    assert shield.evidence == []


@pytest.mark.parametrize("features", [(), ("gossip",), ("evidence",)])
async def test_what_a_peer_does_not_offer_is_not_asked_of_it(
    scene: Scene, features: tuple[str, ...]
) -> None:
    alpha, shield, beta = scene
    older, newer = _views(shield)
    beta.features, beta.version = features, 2
    beta.seen[ORIGIN] = older.note()
    await alpha.peering.refresh_descriptor(beta.name)
    await alpha.gossip.sweep()
    assert beta.kinds_asked().count("compare") == ("gossip" in features)
    await alpha.gossip.accept(
        await alpha.peer("shield.example"),
        encode_fork_evidence(evidence_of(older, newer)),
    )
    await alpha.gossip.spread(ORIGIN)
    assert beta.evidence == []


async def test_a_log_without_evidence_is_nothing_to_tell(scene: Scene) -> None:
    alpha, _, beta = scene
    beta.asked.clear()
    await alpha.gossip.spread(ORIGIN)
    assert beta.asked == []


async def test_a_peer_that_is_away_is_asked_once_in_a_sweep(scene: Scene) -> None:
    alpha, shield, beta = scene
    other = shield.create_list("other")
    await alpha.witness.add_checkpoint(
        await alpha.peer("shield.example"), submission(other, 0)
    )
    beta.tamper("compare", lambda answer: _with_status(answer, 503))
    await alpha.gossip.sweep()
    assert 1 <= beta.kinds_asked().count("compare") <= 2  # Those that ran at once.
    await assert_unharmed(alpha)


async def test_an_answer_to_evidence_that_makes_no_sense_ends_the_matter(
    scene: Scene,
) -> None:
    alpha, shield, beta = scene
    older, newer = _views(shield)
    beta.seen[ORIGIN] = older.note()
    beta.tamper("evidence", lambda answer: _with_status(answer, 200))
    await alpha.gossip.accept(
        await alpha.peer("shield.example"),
        encode_fork_evidence(evidence_of(older, newer)),
    )
    for _ in range(2):
        await alpha.gossip.spread(ORIGIN)
    assert len(beta.evidence) == 1


async def test_the_same_and_an_honestly_larger_view_accuse_nobody(scene: Scene) -> None:
    alpha, shield, beta = scene
    log = shield.logs["ncii"]
    beta.seen[ORIGIN] = log.note()
    await alpha.gossip.sweep()
    log.publish(indicators(300, first=50))
    beta.seen[ORIGIN] = log.note()
    await alpha.gossip.sweep()
    await assert_unharmed(alpha)


async def test_an_answer_that_is_no_checkpoint_of_the_log_is_the_peers_fault(
    scene: Scene,
) -> None:
    alpha, _, beta = scene
    peer = await alpha.peer(beta.name)
    beta.seen[ORIGIN] = b"nothing"
    with pytest.raises(PeerMisbehavedError):
        await alpha.gossip.compare(peer, ORIGIN)
    assert [one.peer_name for one in await alpha.evidence()] == ["beta.example"]
    await alpha.gossip.sweep()
    follow = await alpha.follow("shield.example", "ncii")
    assert follow.state is FollowState.ACTIVE


async def test_a_view_by_a_key_that_nobody_shows_us_accuses_nobody(
    scene: Scene,
) -> None:
    alpha, shield, beta = scene
    lie = forked(shield.logs["ncii"], 2, 3)
    lie.signer = Ed25519Signer(ORIGIN, ED25519, b"\x07" * 32)
    beta.seen[ORIGIN] = lie.note()
    await alpha.gossip.compare(await alpha.peer(beta.name), ORIGIN)
    await assert_unharmed(alpha)


async def test_a_peer_that_does_not_know_a_log_is_left_alone_for_an_hour(
    scene: Scene,
) -> None:
    alpha, shield, beta = scene

    def asked() -> int:
        return beta.kinds_asked().count("compare")

    await alpha.gossip.sweep()
    await alpha.gossip.sweep()
    assert asked() == 1
    alpha.clock.advance(3600)
    await alpha.gossip.sweep()
    assert asked() == 2
    beta.seen[ORIGIN] = shield.logs["ncii"].note()
    await alpha.gossip.answer(await alpha.peer(beta.name), beta.seen[ORIGIN])
    await alpha.gossip.sweep()
    await alpha.gossip.sweep()
    assert asked() == 4


async def test_peers_have_their_turn(
    scene: Scene, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    alpha, shield, beta = scene
    monkeypatch.setattr(gossip_rules, "_PEERS_PER_LOG", 1)
    async with PeerSimulator("gamma.example", clock).running() as gamma:
        gamma.features = ("gossip",)
        await alpha.peering.add_peer(gamma.base, gamma.vkey)
        for peer in (beta, gamma):
            peer.seen[ORIGIN] = shield.logs["ncii"].note()
            await alpha.gossip.answer(await alpha.peer(peer.name), peer.seen[ORIGIN])
        for _ in range(4):
            await alpha.gossip.sweep()
        assert beta.kinds_asked().count("compare") == 2
        assert gamma.kinds_asked().count("compare") == 2


async def test_peers_that_are_away_get_the_evidence_when_they_are_back(
    scene: Scene, clock: ManualClock
) -> None:
    alpha, shield, _ = scene
    older, newer = _views(shield)
    async with PeerSimulator("gamma.example", clock).running() as gamma:
        gamma.features = ("evidence", "gossip")
        await alpha.peering.add_peer(gamma.base, gamma.vkey)
        gamma.seen[ORIGIN] = older.note()
        gamma.tamper("compare", lambda answer: _with_status(answer, 503))
        await alpha.gossip.accept(
            await alpha.peer("shield.example"),
            encode_fork_evidence(evidence_of(older, newer)),
        )
        await alpha.gossip.spread(ORIGIN)
        assert gamma.evidence == []
        gamma.honest()
        await alpha.gossip.sweep()
        assert len(gamma.evidence) == 1
        await alpha.gossip.sweep()
        assert len(gamma.evidence) == 1


async def test_evidence_that_a_peer_cannot_check_yet_is_offered_again(
    scene: Scene,
) -> None:
    alpha, shield, beta = scene
    older, newer = _views(shield)
    beta.tamper("evidence", lambda answer: _with_status(answer, 404))
    await alpha.gossip.answer(await alpha.peer(beta.name), older.note())
    await alpha.gossip.accept(
        await alpha.peer("shield.example"),
        encode_fork_evidence(evidence_of(older, newer)),
    )
    await alpha.gossip.spread(ORIGIN)
    await alpha.gossip.sweep()
    assert len(beta.evidence) == 2


def _with_status(answer: Answer, status: int) -> Answer:
    return replace(answer, status=status)


# ------------------------------------------------------ what pushes and pulls show


async def test_a_fork_by_size_that_is_pushed_is_evidence(scene: Scene) -> None:
    alpha, shield, _ = scene
    log = shield.logs["ncii"]
    lie = forked(log, 2, 700)
    shield.logs["ncii"] = lie
    with pytest.raises(BadProofError):
        await alpha.witness.add_checkpoint(
            await alpha.peer("shield.example"), submission(lie, 5)
        )
    await assert_convicted(alpha, log)
    with pytest.raises(ForkedLogError):
        await alpha.witness.add_checkpoint(
            await alpha.peer("shield.example"), submission(lie, 5)
        )


async def test_a_smaller_fork_that_is_pushed_is_evidence(scene: Scene) -> None:
    alpha, shield, _ = scene
    log = shield.logs["ncii"]
    lie = forked(log, 2, 1)
    with pytest.raises(ConflictError):
        await alpha.witness.add_checkpoint(
            await alpha.peer("shield.example"), submission(lie, 3)
        )
    await assert_convicted(alpha, log)


async def test_a_wrong_proof_alone_is_no_evidence(scene: Scene) -> None:
    alpha, shield, _ = scene
    log = shield.logs["ncii"]
    log.publish(indicators(3, first=50))
    right = submission(log, 5)
    head, _, note = right.partition(b"\n\n")
    lines = head.split(b"\n")
    lines[-1], lines[-2] = lines[-2], lines[-1]
    with pytest.raises(BadProofError):
        await alpha.witness.add_checkpoint(
            await alpha.peer("shield.example"), b"\n".join(lines) + b"\n\n" + note
        )
    await assert_unharmed(alpha)


async def test_a_larger_fork_that_is_pulled_is_evidence(scene: Scene) -> None:
    alpha, shield, _ = scene
    log = shield.logs["ncii"]
    shield.logs["ncii"] = forked(log, 2, 700)
    with pytest.raises(PeerMisbehavedError):
        await alpha.follower.sync("shield.example", "ncii")
    await assert_convicted(alpha, log)


async def test_a_rollback_to_an_older_state_is_refused_and_no_fork(
    scene: Scene,
) -> None:
    alpha, shield, _ = scene
    log = shield.logs["ncii"]
    shield.tamper_body("checkpoint", lambda _: log.note(3))
    with pytest.raises(PeerMisbehavedError) as caught:
        await alpha.follower.sync("shield.example", "ncii")
    assert isinstance(caught.value.cause, RollbackError)
    assert await fork_at(alpha) is None


async def test_a_rollback_to_another_state_is_evidence(scene: Scene) -> None:
    alpha, shield, _ = scene
    log = shield.logs["ncii"]
    lie = forked(log, 2, 1)
    shield.tamper_body("checkpoint", lambda _: lie.note())
    with pytest.raises(PeerMisbehavedError):
        await alpha.follower.sync("shield.example", "ncii")
    await assert_convicted(alpha, log)

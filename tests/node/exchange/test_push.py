"""Pushing: peers hear of news, and what they sign for it is checked and kept."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from aiohttp import web

from hashlight_node.exchange.errors import RolledBackError, UnknownListError
from hashlight_node.exchange.publishing.epochs import Frozen
from hashlight_node.exchange.telling import push
from hashlight_node.model import Acknowledgement, Delivery, LogState, Peer
from hashlight_node.peers.errors import PeerMisbehavedError, PeerRefusedError
from hashlight_node.store import deliveries, forks
from hashlight_protocol import (
    COSIGNATURE,
    ED25519,
    Ed25519Signer,
    GrantScope,
    Reason,
    Signer,
    append_signatures,
    cosign,
    parse_add_checkpoint,
    parse_fork_evidence,
    parse_note,
    sign_checkpoint,
    unverified_origin,
    verify_consistency,
    verify_cosignature,
    verify_fork,
)
from support.clock import START
from support.exchange_node import ExchangeNode
from support.log_simulator import LogSimulator
from support.made_records import indicators
from support.peer_simulator import PeerSimulator

ORIGIN = "alpha.example/hsf/v1/log/ours/1"
Pair = tuple[ExchangeNode, PeerSimulator]


@pytest.fixture
async def granting(alpha: ExchangeNode, shield: PeerSimulator) -> Pair:
    await alpha.peering.add_peer(shield.base, shield.vkey)
    await alpha.publisher.create_list("ours", {})
    await alpha.peering.grant("shield.example", "ours")
    shield.asked.clear()
    return alpha, shield


def conflict(size: int) -> web.Response:
    return web.Response(
        status=409,
        body=f"{size}\n".encode(),
        headers={"Content-Type": "text/x.tlog.size"},
    )


async def checkpoint_of(alpha: ExchangeNode) -> bytes:
    note = (await alpha.log(ORIGIN)).checkpoint
    assert note is not None
    return note


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(500):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError


async def peer_of(alpha: ExchangeNode) -> Peer:
    return await alpha.peer("shield.example")


async def test_a_push_is_a_signed_and_timed_delivery(granting: Pair) -> None:
    alpha, shield = granting
    await alpha.publisher.publish("ours", indicators(5))

    done = await alpha.pusher.push(ORIGIN)

    assert done == [Delivery(ORIGIN, "shield.example", 6, alpha.clock.now)]
    stored = await alpha.read(lambda conn: deliveries.list_deliveries(conn, None))
    assert stored == done
    request = parse_add_checkpoint(shield.pushed[0])
    assert (request.old_size, request.proof) == (0, ())
    assert request.note == await checkpoint_of(alpha)


async def test_the_next_push_proves_that_the_log_only_grew(granting: Pair) -> None:
    alpha, shield = granting
    await alpha.publisher.publish("ours", indicators(5))
    await alpha.pusher.push(ORIGIN)
    before = await alpha.log(ORIGIN)
    await alpha.publisher.publish("ours", indicators(300, first=5))
    await alpha.pusher.push(ORIGIN)
    after = await alpha.log(ORIGIN)
    request = parse_add_checkpoint(shield.pushed[1])
    verify_consistency(
        request.proof,
        old_size=before.tree_size,
        old_root=before.root_hash,
        new_size=after.tree_size,
        new_root=after.root_hash,
    )


async def test_a_peer_that_knows_another_size_gets_the_proof_from_there(
    granting: Pair,
) -> None:
    alpha, shield = granting
    await alpha.publisher.publish("ours", indicators(5))
    asked: list[int] = []

    async def act(request: web.Request) -> web.Response:
        submitted = parse_add_checkpoint(await request.read())
        asked.append(submitted.old_size)
        if submitted.old_size != 3:
            return conflict(3)
        line = cosign(submitted.note, shield.witness, now=alpha.clock())
        return web.Response(body=line)

    shield.play("add-checkpoint", act)
    assert len(await alpha.pusher.push(ORIGIN)) == 1
    assert asked == [0, 3]


async def test_a_peer_that_never_agrees_is_tried_later(granting: Pair) -> None:
    alpha, shield = granting
    await alpha.publisher.publish("ours", indicators(5))
    sizes = iter([1, 2, 3, 4])

    async def act(_: web.Request) -> web.Response:
        return conflict(next(sizes))

    shield.play("add-checkpoint", act)
    assert await alpha.pusher.push(ORIGIN) == []
    assert shield.kinds_asked().count("add-checkpoint") == 2


async def test_a_peer_that_claims_to_know_more_than_we_have_is_noted(
    granting: Pair,
) -> None:
    """It lies, or we were restored from an old backup: an operator must look."""
    alpha, shield = granting

    async def act(_: web.Request) -> web.Response:
        return conflict(1_000)

    shield.play("add-checkpoint", act)
    assert await alpha.pusher.push(ORIGIN) == []
    (evidence,) = await alpha.evidence()
    assert (evidence.code, evidence.payload) == ("rollback", b"1000")


async def test_a_peer_that_goes_away_before_it_can_show_what_it_knows_is_no_liar(
    granting: Pair,
) -> None:
    """After a restore from a backup it is right, and we are not."""
    alpha, shield = granting
    shield.cosigned[ORIGIN] = b"the proof"

    async def act(_: web.Request) -> web.Response:
        return conflict(1_000)

    async def fail(_: web.Request) -> web.Response:
        return web.Response(status=503)

    shield.play("add-checkpoint", act)
    shield.play("witness", fail)
    assert await alpha.pusher.push(ORIGIN) == []
    assert "witness" in shield.kinds_asked()
    assert await alpha.evidence() == []


@pytest.mark.parametrize(
    "lie", ["nothing", "stranger", "garbage", "old-note", "damaged"]
)
async def test_a_cosignature_that_does_not_hold_is_no_delivery(
    granting: Pair, lie: str
) -> None:
    alpha, shield = granting
    old = await checkpoint_of(alpha)
    await alpha.publisher.publish("ours", indicators(5))
    new = await checkpoint_of(alpha)
    stranger = Ed25519Signer("shield.example/hsf/v1/witness", COSIGNATURE, bytes(32))
    line = cosign(new, shield.witness, now=alpha.clock())
    lines = {
        "nothing": b"",
        "stranger": cosign(new, stranger, now=1),
        "garbage": b"\xffgarbage",
        "old-note": cosign(old, shield.witness, now=1),
        "damaged": line[:-6] + (b"A" if line[-6:-5] != b"A" else b"B") + line[-5:],
    }[lie]
    shield.tamper_body("add-checkpoint", lambda _: lines)
    assert await alpha.pusher.push(ORIGIN) == []
    stored = await alpha.read(lambda conn: deliveries.list_deliveries(conn, None))
    assert stored == []
    assert len(await alpha.evidence()) == 1


async def test_other_signatures_beside_the_cosignature_are_ignored(
    granting: Pair,
) -> None:
    alpha, shield = granting
    other = Ed25519Signer("x.example/hsf/v1/witness", COSIGNATURE, bytes(32))
    note = await checkpoint_of(alpha)
    extra = cosign(note, other, now=1)
    shield.tamper_body("add-checkpoint", lambda line: extra + line)
    assert len(await alpha.pusher.push(ORIGIN)) == 1


async def test_only_peers_with_a_grant_are_told(
    granting: Pair, beta: PeerSimulator
) -> None:
    alpha, shield = granting
    await alpha.peering.add_peer(beta.base, beta.vkey)
    await alpha.pusher.push(ORIGIN)
    assert len(shield.pushed) == 1
    assert beta.pushed == []
    await alpha.peering.grant("beta.example", "ours")
    await alpha.peering.quarantine("shield.example")
    await alpha.pusher.push(ORIGIN)
    assert (len(shield.pushed), len(beta.pushed)) == (1, 1)


async def test_a_slow_peer_does_not_hold_up_the_others(
    granting: Pair, beta: PeerSimulator
) -> None:
    alpha, shield = granting
    await alpha.peering.add_peer(beta.base, beta.vkey)
    await alpha.peering.grant("beta.example", "ours")
    release = asyncio.Event()

    async def act(_: web.Request) -> web.Response:
        await release.wait()
        return web.Response(status=503)

    shield.play("add-checkpoint", act)
    pushing = asyncio.create_task(alpha.pusher.push(ORIGIN))
    await until(lambda: bool(beta.pushed))
    assert not pushing.done()
    release.set()
    (delivery,) = await pushing
    assert delivery.peer_name == "beta.example"


async def test_an_unreachable_peer_is_tried_again_later_and_not_at_once(
    granting: Pair,
) -> None:
    alpha, shield = granting

    async def act(_: web.Request) -> web.Response:
        return web.Response(status=503)

    shield.play("add-checkpoint", act)
    assert await alpha.pusher.push(ORIGIN) == []
    shield.honest()
    assert await alpha.pusher.push(ORIGIN) == []
    assert shield.kinds_asked().count("add-checkpoint") == 1

    queued = await asyncio.wait_for(alpha.notices.peer_pushes.take(), timeout=5)
    assert queued == ("shield.example", ORIGIN)
    alpha.clock.advance(1)
    assert len(await alpha.pusher.push(ORIGIN)) == 1


async def test_a_push_repeated_for_others_does_not_bother_who_has_seen_it(
    granting: Pair,
) -> None:
    alpha, shield = granting
    await alpha.pusher.push(ORIGIN)
    await alpha.pusher.push(ORIGIN)
    assert len(shield.pushed) == 1
    alpha.clock.advance(3600)
    (delivery,) = await alpha.pusher.push(ORIGIN)
    assert delivery.cosigned_at == alpha.clock.now


async def test_a_changed_right_is_pushed_though_the_log_has_no_news(
    granting: Pair,
) -> None:
    alpha, shield = granting
    await alpha.pusher.push(ORIGIN)
    scope = GrantScope(frozenset({"ncii:adult"}), None, None)
    await alpha.peering.grant("shield.example", "ours", scope=scope)
    await alpha.pusher.push(ORIGIN)
    await alpha.pusher.push(ORIGIN)
    assert len(shield.pushed) == 2


async def test_a_sweep_queues_what_was_missed_only(granting: Pair) -> None:
    alpha, _ = granting
    queue = alpha.notices.peer_pushes
    await alpha.pusher.sweep()
    item = await queue.take()
    assert item == ("shield.example", ORIGIN)
    assert await alpha.pusher.push_to(*item) is not None
    alpha.clock.advance(3600)
    await alpha.pusher.sweep()
    assert len(queue) == 0
    await alpha.publisher.publish("ours", indicators(1))
    await alpha.pusher.sweep()
    assert len(queue) == 1


async def test_a_push_is_queued_for_each_peer(
    granting: Pair, beta: PeerSimulator
) -> None:
    alpha, _ = granting
    await alpha.peering.add_peer(beta.base, beta.vkey)
    await alpha.peering.grant("beta.example", "ours")
    await alpha.pusher.queue(ORIGIN)
    queue = alpha.notices.peer_pushes
    queued = [await queue.take() for _ in range(len(queue))]
    assert queued == [("beta.example", ORIGIN), ("shield.example", ORIGIN)]


@pytest.mark.parametrize("how", ["revoke", "quarantine"])
async def test_a_queued_push_is_not_sent_after_the_grant_is_gone(
    granting: Pair, how: str
) -> None:
    alpha, shield = granting
    await end_exchange(alpha, how)
    assert await alpha.pusher.push_to("shield.example", ORIGIN) is None
    assert shield.asked == []


@pytest.mark.parametrize("how", ["revoke", "quarantine"])
async def test_a_peer_that_answers_late_is_not_told_more_than_it_may_know(
    granting: Pair, how: str
) -> None:
    """The grant goes while the peer says that it needs another proof."""
    alpha, shield = granting
    await alpha.publisher.publish("ours", indicators(5))
    asked: list[bytes] = []

    async def act(request: web.Request) -> web.Response:
        asked.append(await request.read())
        await end_exchange(alpha, how)
        return conflict(3)

    shield.play("add-checkpoint", act)
    assert await alpha.pusher.push_to("shield.example", ORIGIN) is None
    assert len(asked) == 1
    assert await alpha.evidence() == []


@pytest.mark.parametrize("how", ["revoke", "quarantine"])
async def test_nothing_is_collected_after_the_grant_is_gone(
    granting: Pair, how: str
) -> None:
    alpha, shield = granting
    asked = asyncio.Event()

    async def act(_: web.Request) -> web.Response:
        asked.set()
        await asyncio.sleep(20)
        return web.Response()

    shield.play("mirror", act)
    await alpha.pusher.push(ORIGIN)
    await asked.wait()
    await end_exchange(alpha, how)
    await alpha.pusher.push_to("shield.example", ORIGIN)
    await until(lambda: not alpha.pusher.is_collecting)


async def end_exchange(alpha: ExchangeNode, how: str) -> None:
    if how == "revoke":
        await alpha.peering.revoke("shield.example", "ours")
    else:
        await alpha.peering.quarantine("shield.example")


async def test_who_saw_more_while_a_push_was_on_its_way_is_not_blamed(
    granting: Pair,
) -> None:
    alpha, shield = granting
    asked: list[int] = []

    async def act(request: web.Request) -> web.Response:
        submitted = parse_add_checkpoint(await request.read())
        asked.append(submitted.old_size)
        if len(asked) == 1:
            await alpha.publisher.publish("ours", indicators(5))
            return conflict(6)
        line = cosign(submitted.note, shield.witness, now=alpha.clock())
        return web.Response(body=line)

    shield.play("add-checkpoint", act)
    (delivery,) = await alpha.pusher.push(ORIGIN)
    assert (delivery.tree_size, asked) == (6, [0, 6])
    assert await alpha.evidence() == []


IMPOSSIBLE = [1, 1_577_836_799, START + 301, 2**63 - 1]


@pytest.mark.parametrize("claimed", IMPOSSIBLE)
async def test_a_delivery_at_an_impossible_time_is_refused(
    granting: Pair, claimed: int
) -> None:
    alpha, shield = granting
    line = cosign(await checkpoint_of(alpha), shield.witness, now=claimed)
    shield.tamper_body("add-checkpoint", lambda _: line)
    assert await alpha.pusher.push(ORIGIN) == []
    (evidence,) = await alpha.evidence()
    assert evidence.code == "malformed"


@pytest.mark.parametrize("claimed", IMPOSSIBLE)
async def test_an_acknowledgement_at_an_impossible_time_is_refused(
    granting: Pair, claimed: int
) -> None:
    alpha, shield = granting
    note = await checkpoint_of(alpha)
    shield.acknowledge(note)
    lie = append_signatures(note, cosign(note, shield.mirror, now=claimed))
    shield.tamper_body("mirror", lambda _: lie)
    with pytest.raises(PeerMisbehavedError, match="time cannot be true"):
        await alpha.pusher.collect_acknowledgement(
            ORIGIN, await peer_of(alpha), wait_seconds=0
        )


async def test_a_clock_may_be_a_little_ahead_of_ours(granting: Pair) -> None:
    alpha, shield = granting
    line = cosign(await checkpoint_of(alpha), shield.witness, now=START + 300)
    shield.tamper_body("add-checkpoint", lambda _: line)
    assert len(await alpha.pusher.push(ORIGIN)) == 1


async def test_only_our_own_logs_are_pushed(granting: Pair) -> None:
    alpha, _ = granting
    with pytest.raises(UnknownListError):
        await alpha.pusher.push("shield.example/hsf/v1/log/ncii/1")


async def test_an_acknowledgement_is_checked_and_kept(granting: Pair) -> None:
    alpha, shield = granting
    await alpha.publisher.publish("ours", indicators(5))
    shield.acknowledge(await checkpoint_of(alpha))
    found = await alpha.pusher.collect_acknowledgement(
        ORIGIN, await peer_of(alpha), wait_seconds=0
    )
    assert found is not None
    assert (found.tree_size, found.acknowledged_at) == (6, alpha.clock.now)
    assert verify_cosignature(found.note, shield.mirror.key) == alpha.clock.now
    log = await alpha.log(ORIGIN)
    stored = await alpha.read(
        lambda conn: deliveries.list_acknowledgements(conn, log.log_id)
    )
    assert stored == [found]
    again = await alpha.pusher.collect_acknowledgement(
        ORIGIN, await peer_of(alpha), wait_seconds=0
    )
    assert again is None


async def test_the_acknowledgement_follows_the_push_by_itself(granting: Pair) -> None:
    alpha, shield = granting
    await alpha.publisher.publish("ours", indicators(5))
    shield.acknowledge(await checkpoint_of(alpha))
    await alpha.pusher.push(ORIGIN)
    log = await alpha.log(ORIGIN)
    found: list[Acknowledgement] = []
    for _ in range(300):
        found = await alpha.read(
            lambda conn: deliveries.list_acknowledgements(conn, log.log_id)
        )
        if found:
            break
        await asyncio.sleep(0.01)
    assert [one.tree_size for one in found] == [6]


@pytest.mark.parametrize("lie", ["not-mirror", "stranger", "other-log", "garbage"])
async def test_an_acknowledgement_that_does_not_hold_is_not_kept(
    granting: Pair, lie: str
) -> None:
    alpha, shield = granting
    await alpha.publisher.publish("ours", indicators(5))
    note = await checkpoint_of(alpha)
    other = LogSimulator("alpha.example/hsf/v1/log/other/1")
    stranger = Ed25519Signer("shield.example/hsf/v1/mirror", COSIGNATURE, bytes(32))
    shield.acknowledge(note)
    lies = {
        "not-mirror": append_signatures(note, cosign(note, shield.witness, now=1)),
        "stranger": append_signatures(note, cosign(note, stranger, now=1)),
        "other-log": append_signatures(
            other.note(), cosign(other.note(), shield.mirror, now=1)
        ),
        "garbage": b"garbage",
    }
    shield.tamper_body("mirror", lambda _: lies[lie])
    with pytest.raises(PeerMisbehavedError):
        await alpha.pusher.collect_acknowledgement(
            ORIGIN, await peer_of(alpha), wait_seconds=0
        )
    log = await alpha.log(ORIGIN)
    stored = await alpha.read(
        lambda conn: deliveries.list_acknowledgements(conn, log.log_id)
    )
    assert stored == []


@pytest.mark.parametrize("size", [3, 6])
async def test_an_acknowledgement_of_another_history_is_evidence_of_our_own_fork(
    granting: Pair, size: int
) -> None:
    """Whoever had our key, or we before a restore, signed another tree."""
    alpha, shield = granting
    await alpha.publisher.publish("ours", indicators(5))
    key = alpha.keyring.log(ORIGIN)
    fork = LogSimulator(ORIGIN)
    fork.publish(indicators(size - 1))
    shield.acknowledge(sign_checkpoint(fork.checkpoint(), [key]))
    for _ in range(2):
        with pytest.raises(RolledBackError):
            await alpha.pusher.collect_acknowledgement(
                ORIGIN, await peer_of(alpha), wait_seconds=0
            )
    found = await alpha.read(lambda conn: forks.find_fork(conn, ORIGIN))
    assert found is not None
    verify_fork(parse_fork_evidence(found.evidence), [key.key])
    assert (await alpha.log(ORIGIN)).is_held
    with pytest.raises(RolledBackError):
        await alpha.publisher.publish("ours", indicators(1, first=7))


@pytest.mark.parametrize("count", [0, 5, 50])
async def test_an_acknowledgement_of_what_we_do_not_have_stops_all_signing(
    granting: Pair, count: int
) -> None:
    """We signed it and have it no more: this store was restored from an old backup."""
    alpha, shield = granting
    await alpha.publisher.publish("ours", indicators(5))
    shield.acknowledge(signed_elsewhere(alpha, count))
    with pytest.raises(RolledBackError):
        await alpha.pusher.collect_acknowledgement(
            ORIGIN, await peer_of(alpha), wait_seconds=0
        )
    await assert_held(alpha)
    assert await alpha.evidence() == []


async def test_a_peer_that_proves_that_it_knows_more_stops_all_signing(
    granting: Pair,
) -> None:
    alpha, shield = granting

    async def act(_: web.Request) -> web.Response:
        return conflict(51)

    shield.play("add-checkpoint", act)
    shield.cosigned[ORIGIN] = signed_elsewhere(alpha, 50)
    with pytest.raises(RolledBackError):
        await alpha.pusher.push(ORIGIN)
    await assert_held(alpha)
    assert await alpha.evidence() == []
    # Peers are not told of it again: they know better.
    shield.honest()
    assert await alpha.pusher.push(ORIGIN) == []


async def test_a_stranger_s_signature_proves_nothing_about_our_log(
    granting: Pair,
) -> None:
    alpha, shield = granting
    key = Ed25519Signer(ORIGIN, ED25519, bytes(32))
    shield.cosigned[ORIGIN] = signed_elsewhere(alpha, 50, key)
    (heard,) = await alpha.self_check.ask()
    assert (heard.signed, heard.fits) == (None, False)
    await alpha.publisher.publish("ours", indicators(1))
    (evidence,) = await alpha.evidence()
    assert evidence.code == "unknown-key"


def signed_elsewhere(
    alpha: ExchangeNode, count: int, signer: Signer | None = None
) -> bytes:
    """Sign a history of alpha's log that alpha does not have."""
    other = LogSimulator(ORIGIN)
    other.publish(indicators(count, first=500))
    other.publish(indicators(1 if count == 0 else 0, first=900))
    return sign_checkpoint(other.checkpoint(), [signer or alpha.keyring.log(ORIGIN)])


async def assert_held(alpha: ExchangeNode) -> None:
    assert (await alpha.log(ORIGIN)).state is LogState.ROLLED_BACK
    with pytest.raises(RolledBackError):
        await alpha.publisher.publish("ours", indicators(1))


async def test_signatures_of_strangers_are_not_kept_with_an_acknowledgement(
    granting: Pair,
) -> None:
    alpha, shield = granting
    note = await checkpoint_of(alpha)
    other = Ed25519Signer("x.example/hsf/v1/witness", COSIGNATURE, bytes(32))
    shield.acknowledge(append_signatures(note, cosign(note, other, now=1)))
    found = await alpha.pusher.collect_acknowledgement(
        ORIGIN, await peer_of(alpha), wait_seconds=0
    )
    assert found is not None
    names = [one.name for one in parse_note(found.note).signatures]
    assert names == [ORIGIN, "shield.example/hsf/v1/mirror"]


async def test_a_peer_that_does_not_copy_the_log_acknowledges_nothing(
    granting: Pair,
) -> None:
    alpha, _ = granting
    with pytest.raises(PeerRefusedError):
        await alpha.pusher.collect_acknowledgement(
            ORIGIN, await peer_of(alpha), wait_seconds=0
        )


async def test_an_erasure_report_names_who_confirmed_and_who_did_not(
    granting: Pair, beta: PeerSimulator
) -> None:
    alpha, shield = granting
    await alpha.peering.add_peer(beta.base, beta.vkey)
    await alpha.peering.grant("beta.example", "ours")
    (ref,) = await alpha.publisher.publish("ours", indicators(1))
    before = await alpha.inspect.erasure(ref)
    assert (before.erased_by, before.peers) == (None, ())

    shield.acknowledge(await checkpoint_of(alpha))
    await alpha.pusher.collect_acknowledgement(
        ORIGIN, await peer_of(alpha), wait_seconds=0
    )
    erased = await alpha.publisher.withdraw(ref, "erase", Reason.WITHDRAWN)
    report = await alpha.inspect.erasure(ref)
    assert report.erased_by == erased.leaf_index
    assert report.erased_at == alpha.clock.now
    assert [(one.peer_name, one.acknowledgement) for one in report.peers] == [
        ("beta.example", None),
        ("shield.example", None),
    ]

    alpha.clock.advance(10)
    shield.acknowledge(await checkpoint_of(alpha))
    await alpha.pusher.collect_acknowledgement(
        ORIGIN, await peer_of(alpha), wait_seconds=0
    )
    await alpha.peering.revoke("shield.example", "ours")
    missing, confirmed = (await alpha.inspect.erasure(ref)).peers
    assert missing.acknowledgement is None
    assert not confirmed.granted
    assert confirmed.acknowledgement is not None
    assert confirmed.acknowledgement.acknowledged_at == alpha.clock.now
    assert unverified_origin(confirmed.acknowledgement.note) == ORIGIN


async def test_a_peer_that_does_not_know_a_new_log_yet_is_told_again(
    granting: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    alpha, shield = granting
    monkeypatch.setattr(push, "_NEW_LOG_SECONDS", 0.01)
    begun = await alpha.epochs.begin_next("ours", ending=Frozen())

    async def refuse(_: web.Request) -> web.Response:
        problem = b'{"type":"hsf:unknown-log","status":404}'
        media_type = "application/problem+json"
        return web.Response(status=404, body=problem, content_type=media_type)

    shield.play("add-checkpoint", refuse)
    assert await alpha.pusher.push_to("shield.example", begun.origin) is None
    item = await asyncio.wait_for(alpha.notices.peer_pushes.take(), 5)
    assert item == ("shield.example", begun.origin)
    shield.honest()
    assert await alpha.pusher.push_to(*item) is not None


async def test_an_ended_log_is_not_announced_to_who_never_knew_it(
    granting: Pair,
) -> None:
    alpha, shield = granting
    await alpha.epochs.begin_next("ours", ending=Frozen())
    await alpha.pusher.sweep()
    assert await alpha.notices.peer_pushes.take() == (
        "shield.example",
        "alpha.example/hsf/v1/log/ours/2",
    )
    assert len(alpha.notices.peer_pushes) == 0
    await alpha.pusher.push("alpha.example/hsf/v1/log/ours/2")
    assert len(shield.pushed) == 1

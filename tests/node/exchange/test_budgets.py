"""A list that never ends is copied in turns, and others get theirs in between."""

from __future__ import annotations

import asyncio
import tracemalloc

import pytest
from aiohttp import web

from hashlight_node.exchange.following import budgets, follow, pull
from hashlight_node.exchange.following.budgets import Budget
from hashlight_node.model import FollowState
from hashlight_node.peers.errors import PeerMisbehavedError, PeerUnavailableError
from hashlight_protocol import (
    Checkpoint,
    Erase,
    Reason,
    TooLargeError,
    sign_checkpoint,
)
from support.exchange_node import ExchangeNode
from support.log_simulator import ERASED
from support.made_records import indicators
from support.peer_simulator import Answer, PeerSimulator

Pair = tuple[ExchangeNode, PeerSimulator]


def short_turns(monkeypatch: pytest.MonkeyPatch, *, byte_count: int = 1) -> None:
    def budget_of_a_turn() -> Budget:
        now = asyncio.get_running_loop().time
        return Budget(seconds=60, byte_count=byte_count, now=now)

    monkeypatch.setattr(follow, "budget_of_a_turn", budget_of_a_turn)


def test_a_budget_is_spent_by_bytes_or_by_time() -> None:
    now = 0.0
    budget = Budget(seconds=10, byte_count=100, now=lambda: now)
    budget.spend(99)
    before = budget.is_spent
    budget.spend(1)
    assert (before, budget.is_spent) == (False, True)
    budget = Budget(seconds=10, byte_count=100, now=lambda: now)
    now = 10.0
    assert budget.is_spent


async def test_a_turn_ends_with_all_that_it_verified_and_the_next_goes_on(
    following: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    alpha, shield = following
    log = shield.logs["ncii"]
    log.publish(indicators(3 * 256 + 9))
    short_turns(monkeypatch)
    sizes = []
    while True:
        while len(alpha.notices.syncs):
            await alpha.notices.syncs.take()
        report = await alpha.follower.take_turn("shield.example", "ncii")
        sizes.append(report.new_size)
        if report.is_complete:
            break
        assert len(alpha.notices.syncs) == 1
    assert sizes == [256, 512, 768, log.size]
    assert (await alpha.log(log.origin)).root_hash == log.root()
    assert await alpha.matches(3 * 256 + 8) == 1


async def test_a_sync_that_shares_a_turn_copies_the_rest_too(
    following: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    alpha, shield = following
    log = shield.logs["ncii"]
    log.publish(indicators(600))
    short_turns(monkeypatch)
    reports = await asyncio.gather(
        alpha.follower.take_turn("shield.example", "ncii"),
        alpha.follower.take_turn("shield.example", "ncii"),
        alpha.follower.sync("shield.example", "ncii"),
    )
    assert reports[-1].is_complete
    assert reports[-1].new_size == log.size


async def test_a_peer_cannot_withhold_bodies_by_dragging_a_copy_out(
    following: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it said was erased in one turn must be proved in a later one."""
    alpha, shield = following
    log = shield.logs["ncii"]
    log.publish(indicators(700))
    log.bodies[5] = log.bodies[6] = ERASED
    log.append(Erase(6, 1, Reason.WITHDRAWN))
    short_turns(monkeypatch)
    report = await alpha.follower.take_turn("shield.example", "ncii")
    turns = 1
    while not report.is_complete:
        report = await alpha.follower.take_turn("shield.example", "ncii")
        turns += 1
    assert turns == 3
    assert report.error is not None
    assert "1 bodies" in report.error
    assert "leaf 5" in report.error


@pytest.mark.parametrize("size", [2**62, 2**63 - 1, 2**28 + 10])
async def test_a_log_that_claims_to_be_enormous_is_refused_before_anything_is_fetched(
    following: Pair, size: int
) -> None:
    alpha, shield = following
    log = shield.logs["ncii"]
    note = sign_checkpoint(Checkpoint(log.origin, size, bytes(32)), [log.signer])
    shield.tamper_body("checkpoint", lambda _: note)
    shield.asked.clear()
    tracemalloc.start()
    try:
        with pytest.raises(PeerMisbehavedError) as caught:
            await alpha.follower.sync("shield.example", "ncii")
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert isinstance(caught.value.cause, TooLargeError)
    assert "tile" not in shield.kinds_asked()
    assert peak_bytes < 20 * 1024 * 1024
    (evidence,) = await alpha.evidence()
    assert note in evidence.payload


async def test_the_hashes_of_a_large_step_stay_within_memory(
    following: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sixteenth of the largest step, by hashes that are kept nowhere."""
    alpha, shield = following
    log = shield.logs["ncii"]
    note = sign_checkpoint(Checkpoint(log.origin, 2**24, bytes(32)), [log.signer])
    shield.tamper_body("checkpoint", lambda _: note)

    async def tile(_: web.Request) -> web.Response:
        return web.Response(body=bytes(32 * 256))

    shield.play("tile", tile)
    monkeypatch.setattr(shield, "_resource", lambda _log, name: _named(note, name))
    tracemalloc.start()
    try:
        with pytest.raises(PeerMisbehavedError):
            await alpha.follower.sync("shield.example", "ncii")
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 24 * 1024 * 1024
    (evidence,) = await alpha.evidence()
    assert len(evidence.payload) < 16_384


def _named(note: bytes, name: str) -> Answer:
    return Answer("checkpoint", note) if name == "checkpoint" else Answer("tile", b"")


async def test_hashes_that_come_too_slowly_end_a_pull(
    following: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    alpha, shield = following
    shield.logs["ncii"].publish(indicators(3))
    monkeypatch.setattr(pull, "PLAN_SECONDS", 0.1)

    async def tile(_: web.Request) -> web.Response:
        await asyncio.sleep(1)
        return web.Response(status=503)

    shield.play("tile", tile)
    with pytest.raises(PeerUnavailableError, match="come too slowly"):
        await alpha.follower.sync("shield.example", "ncii")
    follow_now = await alpha.follow("shield.example", "ncii")
    assert follow_now.state is not FollowState.QUARANTINED


def test_a_turn_is_long_enough_for_a_million_records() -> None:
    assert budgets.TURN_BYTES >= 1_000_000 * 400

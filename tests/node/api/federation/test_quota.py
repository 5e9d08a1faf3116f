"""What a peer, and all strangers together, may take of us in a while."""

from __future__ import annotations

import asyncio

import pytest
from structlog.testing import capture_logs

from hashlight_node.api.errors import RateLimitedError
from hashlight_node.api.federation import quota
from hashlight_node.api.federation.quota import (
    PEER_SHARE,
    STRANGERS_SHARE,
    Quotas,
    Share,
    TokenBucket,
)
from hashlight_node.metrics import Metrics, render_metrics
from support.federation import World
from support.nodes import make_sender

MIB = 1024 * 1024
SMALL = Share(requests=1, mebibytes=1, burst_seconds=20)


class Scene:
    """Quotas on a clock that the test sets."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.metrics = Metrics(version="0", spec_version="1")
        self.quotas = Quotas(self.metrics.of_peers, lambda: self.now)

    def admitted(self, name: str, attempts: int) -> int:
        """Count how many of so many requests at once are let in."""
        count = 0
        for _ in range(attempts):
            try:
                self.quotas.admit_peer(name)
            except RateLimitedError:
                return count
            count += 1
        return count


def test_a_bucket_fills_up_to_its_brim_and_may_be_overdrawn() -> None:
    bucket = TokenBucket(rate=10, brim=20, now=0)
    bucket.take(50, 0)
    assert bucket.wait_seconds(0) == pytest.approx(3.1)
    assert bucket.wait_seconds(3.2) == 0
    bucket.take(1, 1000)
    assert bucket.wait_seconds(1000) == 0
    bucket.take(19, 1000)
    assert bucket.wait_seconds(1000) == pytest.approx(0.1)
    # A clock that goes back gives nothing and takes nothing.
    assert bucket.wait_seconds(900) == pytest.approx(0.1)


def test_one_peer_uses_up_its_own_share_and_nobody_elses() -> None:
    scene = Scene()
    burst = PEER_SHARE.requests * PEER_SHARE.burst_seconds
    assert scene.admitted("greedy.example", burst + 100) == burst
    assert scene.admitted("honest.example", 100) == 100
    scene.now += 1
    assert scene.admitted("greedy.example", burst) == PEER_SHARE.requests
    assert b'hashlight_peer_throttled_total{peer="greedy.example"} 2.0' in (
        render_metrics(scene.metrics)
    )


def test_bytes_count_like_requests_and_who_is_refused_is_told_for_how_long() -> None:
    scene = Scene()
    rate = PEER_SHARE.mebibytes * MIB
    scene.quotas.admit_peer("greedy.example")
    scene.quotas.charge_peer("greedy.example", rate * (PEER_SHARE.burst_seconds + 5))
    with pytest.raises(RateLimitedError) as caught:
        scene.quotas.admit_peer("greedy.example")
    assert caught.value.retry_after_seconds == 6
    scene.now += 6
    scene.quotas.admit_peer("greedy.example")
    scene.quotas.charge_peer("greedy.example", rate * 10_000)
    with pytest.raises(RateLimitedError) as caught:
        scene.quotas.admit_peer("greedy.example")
    assert caught.value.retry_after_seconds == 60


def test_a_first_copy_of_a_million_records_is_not_held_up() -> None:
    """At 25 MB a second; one request for entries and one for bodies a bundle."""
    scene = Scene()
    bundles = 1_000_000 // 256
    for _ in range(bundles):
        scene.quotas.admit_peer("new.example")
        scene.quotas.charge_peer("new.example", 10_000)
        scene.quotas.admit_peer("new.example")
        scene.quotas.charge_peer("new.example", 100_000)
        scene.now += 110_000 / 25_000_000


def test_strangers_share_and_a_flood_of_one_kind_leaves_the_other_alone() -> None:
    scene = Scene()
    burst = STRANGERS_SHARE.requests * STRANGERS_SHARE.burst_seconds
    for _ in range(burst):
        scene.quotas.admit_stranger("refusal")
    with pytest.raises(RateLimitedError):
        scene.quotas.admit_stranger("refusal")
    scene.quotas.admit_stranger("descriptor")
    assert scene.admitted("honest.example", 100) == 100


def test_who_floods_is_logged_once_a_minute() -> None:
    scene = Scene()
    scene.admitted("greedy.example", 10_000)
    with capture_logs() as lines:
        for second in range(0, 150, 10):
            scene.now = 2000.0 + second
            scene.admitted("greedy.example", 10_000)
    assert [line["peer"] for line in lines] == ["greedy.example"] * 3


async def test_a_flood_of_forged_requests_locks_no_peer_out(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They claim the peer's own key, and are refused without cost to it."""
    monkeypatch.setattr(quota, "STRANGERS_SHARE", SMALL)
    forged = world.peer.headers("GET", "/hsf/v1/other")
    answers = [await world.send("GET", "/hsf/v1/grants", forged) for _ in range(40)]
    assert [one.status for one in answers[:20]] == [403] * 20
    refused = answers[-1]
    assert (refused.status, refused.problem) == (429, "rate-limited")
    assert int(refused.headers["Retry-After"]) >= 1
    assert (await world.ask("/hsf/v1/grants")).status == 200
    assert (await world.send("GET", "/.well-known/hsf")).status == 200


async def test_a_peer_that_asks_without_end_is_refused_and_another_is_not(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quota, "PEER_SHARE", SMALL)
    other = make_sender(
        world.settings.keys.directory.parent,
        "gamma.example",
        world.settings,
        world.clock,
    )
    await world.pinned(other)
    answers = [await world.ask("/hsf/v1/grants") for _ in range(30)]
    assert {one.status for one in answers} == {200, 429}
    assert answers[-1].problem == "rate-limited"
    assert (await world.ask("/hsf/v1/grants", sender=other)).status == 200
    await asyncio.sleep(int(answers[-1].headers["Retry-After"]))
    assert (await world.ask("/hsf/v1/grants")).status == 200

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from aiohttp import web
from sqlalchemy import update

from hashlight_node.jobs import JobParts, KeyRefresher, run_jobs
from hashlight_node.metrics import Metrics, render_metrics
from hashlight_node.model import FollowState, Scope
from hashlight_node.store import idempotency, tables, tokens
from support.clock import ManualClock
from support.exchange_node import ExchangeNode, open_exchange_node
from support.log_simulator import spoiled
from support.made_records import indicators
from support.nodes import until
from support.peer_simulator import PeerSimulator

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from hashlight_node.store.database import Connection

NEVER = 86_400


@dataclass(frozen=True)
class Scene:
    """A node whose jobs run when a test says so, and a peer."""

    alpha: ExchangeNode
    shield: PeerSimulator
    parts: JobParts

    @property
    def metrics(self) -> str:
        return render_metrics(self.parts.metrics).decode()

    @asynccontextmanager
    async def jobs(
        self, *, sweep_seconds: int = NEVER, heartbeat_seconds: int = NEVER
    ) -> AsyncIterator[asyncio.Task[None]]:
        running = asyncio.create_task(
            run_jobs(
                self.parts,
                sweep_seconds=sweep_seconds,
                heartbeat_seconds=heartbeat_seconds,
            )
        )
        try:
            yield running
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    clock = ManualClock()
    async with (
        open_exchange_node(tmp_path / "alpha", "alpha.example", clock) as alpha,
        PeerSimulator("shield.example", clock).running() as shield,
    ):
        shield.create_list("ncii")
        await alpha.peering.add_peer(shield.base, shield.vkey)
        parts = JobParts(
            database=alpha.database,
            notices=alpha.notices,
            publisher=alpha.publisher,
            pusher=alpha.pusher,
            uploader=alpha.uploader,
            self_check=alpha.self_check,
            follower=alpha.follower,
            peering=alpha.peering,
            gossip=alpha.gossip,
            key_refresher=KeyRefresher(clock),
            metrics=Metrics(version="0", spec_version="HSF/1"),
            clock=clock,
        )
        yield Scene(alpha, shield, parts)


async def until_matching(node: ExchangeNode, number: int) -> None:
    async def matches() -> bool:
        return await node.matches(number) > 0

    await until(matches)


async def test_news_of_a_followed_list_is_copied(scene: Scene) -> None:
    scene.shield.logs["ncii"].publish(indicators(3))
    async with scene.jobs():
        await asyncio.sleep(0.1)  # The first sweep is over: nothing is followed yet.
        await scene.alpha.peering.follow("shield.example", "ncii")
        await until_matching(scene.alpha, 2)
        # It is counted when the sync is over, a moment after the records are found.
        counted = (
            'hashlight_records_total{list="ncii",peer="shield.example",result="in"} 3.0'
        )
        await until(lambda: counted in scene.metrics)
    assert 'hashlight_sync_seconds_count{peer="shield.example"} 1.0' in scene.metrics


async def test_news_of_ours_is_pushed(scene: Scene) -> None:
    await scene.alpha.publisher.create_list("own", {})
    await scene.alpha.peering.grant("shield.example", "own")
    async with scene.jobs():
        await until(lambda: len(scene.shield.pushed) == 1)
        await scene.alpha.publisher.publish("own", indicators(1))
        await until(lambda: len(scene.shield.pushed) == 2)


async def test_the_first_sweep_makes_up_for_what_was_missed_while_stopped(
    scene: Scene,
) -> None:
    await scene.alpha.peering.follow("shield.example", "ncii")
    await scene.alpha.notices.syncs.take()  # The notice is lost.
    scene.shield.logs["ncii"].publish(indicators(1))
    async with scene.jobs():
        await until_matching(scene.alpha, 0)


async def test_a_later_sweep_makes_up_for_a_lost_notice(scene: Scene) -> None:
    await scene.alpha.peering.follow("shield.example", "ncii")
    async with scene.jobs(sweep_seconds=1):
        await until(lambda: "checkpoint" in scene.shield.kinds_asked())
        await asyncio.sleep(0.2)
        scene.shield.logs["ncii"].publish(indicators(1))
        await until_matching(scene.alpha, 0)


async def test_checkpoints_are_announced_again_without_news(scene: Scene) -> None:
    await scene.alpha.publisher.create_list("own", {})
    await scene.alpha.peering.grant("shield.example", "own")
    async with scene.jobs(heartbeat_seconds=1):
        await until(lambda: len(scene.shield.pushed) == 1)

        def is_announced_again() -> bool:
            # What was pushed a moment ago is not pushed again, so time has to pass.
            scene.alpha.clock.advance(60)
            return len(scene.shield.pushed) > 1

        await until(is_announced_again)
    assert scene.shield.pushed[1].startswith(b"old 1\n")


async def until_version(scene: Scene, version: int) -> None:
    async def has_it() -> bool:
        peer = await scene.alpha.peer("shield.example")
        return peer.descriptor_version == version

    await until(has_it)


async def test_descriptors_are_read_again_with_the_heartbeat(scene: Scene) -> None:
    scene.shield.version = 2
    async with scene.jobs(heartbeat_seconds=1):
        await until_version(scene, 2)


async def test_a_claimed_key_makes_the_descriptor_be_read_again(scene: Scene) -> None:
    scene.shield.version = 2
    async with scene.jobs():
        scene.parts.key_refresher.ask("shield.example")
        await until_version(scene, 2)


async def test_claiming_keys_causes_one_request_a_minute(scene: Scene) -> None:
    refresher = scene.parts.key_refresher
    before = scene.shield.kinds_asked().count("descriptor")

    def asked() -> int:
        return scene.shield.kinds_asked().count("descriptor") - before

    async with scene.jobs():
        for _ in range(1000):
            refresher.ask("shield.example")
        await until(lambda: asked() == 1)
        scene.alpha.clock.advance(59)
        refresher.ask("shield.example")
        await asyncio.sleep(0.2)
        assert asked() == 1
        scene.alpha.clock.advance(1)
        refresher.ask("shield.example")
        await until(lambda: asked() == 2)


async def test_a_claimed_key_of_a_peer_that_was_removed_harms_nothing(
    scene: Scene,
) -> None:
    scene.parts.key_refresher.ask("gone.example")
    async with scene.jobs() as jobs:
        await asyncio.sleep(0.3)
        assert not jobs.done()


async def test_a_peer_in_quarantine_is_not_called(scene: Scene) -> None:
    await scene.alpha.peering.follow("shield.example", "ncii")
    await scene.alpha.peering.quarantine("shield.example")
    before = len(scene.shield.asked)
    async with scene.jobs(sweep_seconds=1, heartbeat_seconds=1) as jobs:
        await asyncio.sleep(1.5)
        assert not jobs.done()
    assert len(scene.shield.asked) == before


async def test_a_peer_that_is_away_stops_no_job(scene: Scene) -> None:
    async def fail(_: web.Request) -> web.StreamResponse:
        return web.Response(status=503)

    for kind in ("descriptor", "list-note"):
        scene.shield.play(kind, fail)
    await scene.alpha.peering.follow("shield.example", "ncii")
    counted = 'hashlight_peer_unavailable_total{peer="shield.example"}'
    async with scene.jobs(heartbeat_seconds=1) as jobs:
        await until(lambda: counted in scene.metrics)
        scene.parts.key_refresher.ask("shield.example")
        await until(lambda: f"{counted} 1.0" not in scene.metrics)
        assert not jobs.done()
        scene.shield.honest()
        scene.shield.logs["ncii"].publish(indicators(1))
        scene.alpha.clock.advance(3600)
        await until_matching(scene.alpha, 0)


async def test_a_peer_that_lies_stops_no_job_and_is_counted(scene: Scene) -> None:
    scene.shield.logs["ncii"].publish(indicators(2))
    scene.shield.tamper_body("entries", spoiled)
    async with scene.jobs() as jobs:
        await scene.alpha.peering.follow("shield.example", "ncii")
        await until(lambda: "hashlight_verify_failures_total{" in scene.metrics)
        assert not jobs.done()
    follow = await scene.alpha.follow("shield.example", "ncii")
    assert follow.state is FollowState.QUARANTINED
    assert (
        'hashlight_verify_failures_total{code="bad-bundle",peer="shield.example"} 1.0'
        in scene.metrics
    )


async def test_a_peer_that_refuses_stops_no_job(scene: Scene) -> None:
    async def refuse(_: web.Request) -> web.StreamResponse:
        return web.Response(status=403)

    scene.shield.play("descriptor", refuse)
    async with scene.jobs() as jobs:
        scene.parts.key_refresher.ask("shield.example")
        await asyncio.sleep(0.3)
        assert not jobs.done()


async def test_a_base_that_no_request_can_be_built_for_stops_no_job(
    scene: Scene,
) -> None:
    """An earlier release accepted it, so it is in the store."""
    alpha = scene.alpha
    await alpha.database.write(
        lambda conn: conn.execute(
            update(tables.peers).values(base=tables.peers.c.base + f"/{'0' * 1000}")
        )
    )
    await alpha.publisher.create_list("own", {})
    await alpha.peering.grant("shield.example", "own")
    async with scene.jobs() as jobs:
        scene.parts.key_refresher.ask("shield.example")
        await until(lambda: "hashlight_verify_failures_total{" in scene.metrics)
        await asyncio.sleep(0.2)
        assert not jobs.done()


@pytest.mark.sqlite
async def test_a_full_disk_pauses_a_pull_and_stops_no_job(scene: Scene) -> None:
    def limit_pages(conn: Connection, count: int) -> None:
        conn.exec_driver_sql(f"PRAGMA max_page_count = {count}")

    await scene.alpha.peering.follow("shield.example", "ncii")
    scene.shield.logs["ncii"].publish(indicators(600))
    await scene.alpha.database.write(lambda conn: limit_pages(conn, 1))
    async with scene.jobs() as jobs:
        await until(lambda: "entries" in scene.shield.kinds_asked())
        await asyncio.sleep(0.3)
        assert not jobs.done()
        assert await scene.alpha.matches(599) == 0
        await scene.alpha.database.write(lambda conn: limit_pages(conn, 2**30))
        scene.alpha.clock.advance(3600)
        scene.alpha.notices.announced("shield.example", "ncii")
        await until_matching(scene.alpha, 599)


@pytest.fixture
async def other(scene: Scene) -> AsyncIterator[PeerSimulator]:
    async with PeerSimulator("other.example", scene.alpha.clock).running() as simulator:
        simulator.create_list("ncii").publish(indicators(2, first=9000))
        await scene.alpha.peering.add_peer(simulator.base, simulator.vkey)
        yield simulator


def hold(peer: PeerSimulator, kind: str) -> asyncio.Event:
    """Have a peer keep its answers back; gives what tells that it was asked."""
    asked = asyncio.Event()

    async def act(_: web.Request) -> web.StreamResponse:
        asked.set()
        await asyncio.sleep(1.5)
        return web.Response(status=503)

    peer.play(kind, act)
    return asked


@pytest.mark.parametrize("kind", ["list-note", "bodies"])
async def test_a_slow_peer_holds_up_no_pull_from_another(
    scene: Scene, other: PeerSimulator, kind: str
) -> None:
    notices = scene.alpha.notices
    for number in range(10):
        name = f"slow-{number}"
        scene.shield.create_list(name).publish(indicators(1))
        await scene.alpha.peering.follow("shield.example", name)
    asked = hold(scene.shield, kind)
    async with scene.jobs():
        await asked.wait()
        for _ in range(10):
            notices.announced("shield.example", "slow-0")
            await asyncio.sleep(0.01)
        await scene.alpha.peering.follow(other.name, "ncii")
        async with asyncio.timeout(1):
            await until_matching(scene.alpha, 9000)


async def test_a_slow_list_holds_up_no_sweep(
    scene: Scene, other: PeerSimulator
) -> None:
    await scene.alpha.peering.follow("shield.example", "ncii")
    await scene.alpha.peering.follow(other.name, "ncii")
    syncs = scene.alpha.notices.syncs
    for _ in range(len(syncs)):
        await syncs.take()  # The notices are lost.
    asked = hold(scene.shield, "list-note")
    async with scene.jobs():
        await asked.wait()
        async with asyncio.timeout(1):
            await until_matching(scene.alpha, 9001)


async def test_a_slow_peer_holds_up_no_push_to_another(
    scene: Scene, other: PeerSimulator
) -> None:
    await scene.alpha.publisher.create_list("own", {})
    for name in ("shield.example", other.name):
        await scene.alpha.peering.grant(name, "own")
    asked = hold(scene.shield, "add-checkpoint")
    async with scene.jobs():
        await asked.wait()
        async with asyncio.timeout(1.2):
            for number in range(10):
                before = len(other.pushed)
                await scene.alpha.publisher.publish("own", indicators(1, first=number))
                await until(lambda size=before: len(other.pushed) > size)  # type: ignore[misc]


async def test_a_notice_about_what_is_no_longer_followed_is_no_error(
    scene: Scene,
) -> None:
    scene.alpha.notices.announced("shield.example", "never")
    scene.alpha.notices.announced("nobody.example", "ncii")
    scene.alpha.notices.pushes.add("alpha.example/hsf/v1/log/never/1")
    async with scene.jobs() as jobs:
        await until(lambda: not scene.alpha.notices.syncs)
        await asyncio.sleep(0.2)
        assert not jobs.done()


async def test_a_mistake_of_ours_ends_all_jobs(scene: Scene) -> None:
    await scene.alpha.database.write(
        lambda conn: conn.exec_driver_sql("DROP TABLE follows")
    )
    async with scene.jobs() as jobs:
        with pytest.raises(ExceptionGroup):
            await asyncio.wait_for(jobs, 10)


def save(conn: Connection, key: str, created_at: int) -> None:
    if not tokens.list_tokens(conn):
        tokens.insert_token(conn, "test", [Scope.ADMIN], b"\x01" * 32, created_at)
    (token,) = tokens.list_tokens(conn)
    idempotency.save_response(
        conn,
        key=key,
        token_id=token.token_id,
        request_hash=b"\x02" * 32,
        status=200,
        response=b"{}",
        created_at=created_at,
    )


async def test_old_answers_are_forgotten(scene: Scene) -> None:
    now = scene.alpha.clock()
    database = scene.alpha.database
    await database.write(lambda conn: save(conn, "old", now - 8 * 86_400))
    await database.write(lambda conn: save(conn, "new", now - 6 * 86_400))

    def kept(conn: Connection) -> list[str]:
        (token,) = tokens.list_tokens(conn)
        return [
            key
            for key in ("old", "new")
            if idempotency.find_response(conn, key, token.token_id) is not None
        ]

    async def is_pruned() -> bool:
        return await database.read(kept) == ["new"]

    async with scene.jobs():
        await until(is_pruned)


async def test_jobs_end_when_they_are_cancelled(scene: Scene) -> None:
    async with scene.jobs() as jobs:
        await asyncio.sleep(0.1)
        jobs.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(jobs, 5)

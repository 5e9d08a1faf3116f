"""Bringing a list to a hub over a bad line, and to hubs that forget or lie."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

import pytest

from hashlight_node.app import RunningNode, start_node
from hashlight_node.exchange.telling.uploading import Uploader, UploadTo
from hashlight_node.model import RecordState
from hashlight_node.store import deliveries, logs, records, tables
from hashlight_protocol import Reason, Ref, encode_vkey, parse_signal
from support.clock import ManualClock
from support.cutting_proxy import Cut, Line, cutting_proxy
from support.exchange_node import ExchangeNode, open_exchange_node
from support.made_records import indicators, md5_of
from support.nodes import Sender, make_settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from hashlight_node.config import Settings
    from hashlight_node.store.database import Connection

ORIGIN = "ngo.example/hsf/v1/log/ncii/1"
BEHIND_A_PROXY = '[federation]\nlisten = "127.0.0.1:0"\n'


@dataclass
class Scene:
    """A laptop whose steps the test takes, and a hub that runs."""

    clock: ManualClock
    laptop: ExchangeNode
    hub: RunningNode
    uploader: Uploader
    line: Line

    def forget(self) -> None:
        """Let the laptop know no more than after a restart."""
        self.uploader = _uploader(self.laptop)

    async def push(self) -> None:
        """Have the laptop's job take its turn, once every pause is over."""
        self.clock.advance(301)
        await self.uploader.push_to("hub.example", ORIGIN)

    async def stored(self) -> tuple[int, int]:
        """Give the size of the hub's copy, and how many of its records are live."""

        def read(conn: Connection) -> tuple[int, int]:
            log = logs.find_log(conn, ORIGIN)
            page = records.page_records(conn, "ncii", 0, 10_000)
            live = sum(record.state is RecordState.LIVE for record in page)
            return 0 if log is None else log.tree_size, live

        return await self.hub.foundation.database.read(read)

    async def matches(self, number: int) -> int:
        query = parse_signal("md5", md5_of(number))
        lookup = self.hub.use_cases.lookup
        answer = await lookup.lookup([query], max_distance=None)
        return sum(len(match.records) for match in answer.results[0].matches)

    async def acknowledged_size(self) -> int:
        log = await self.laptop.log(ORIGIN)
        hub = await self.laptop.peer("hub.example")
        newest = await self.laptop.read(
            lambda conn: deliveries.newest_acknowledgement(
                conn, log.log_id, hub.peer_id
            )
        )
        return 0 if newest is None else newest.tree_size


def _uploader(laptop: ExchangeNode) -> Uploader:
    return Uploader(
        database=laptop.database,
        client=laptop.client,
        pusher=laptop.pusher,
        clock=laptop.clock,
        notices=laptop.notices,
        upload_to=UploadTo(frozenset({"hub.example"}), lambda: None),
    )


@asynccontextmanager
async def a_scene(directory: Path) -> AsyncIterator[Scene]:
    clock = ManualClock()
    settings = make_settings(directory, "hub.example", BEHIND_A_PROXY)
    port = int(settings.node.base.rpartition(":")[2])
    async with (
        open_exchange_node(directory / "laptop", "ngo.example", clock) as laptop,
        start_node(settings, clock=clock) as hub,
        cutting_proxy(port, hub.federation_port) as line,
    ):
        await _agree(laptop, hub, settings)
        yield Scene(clock, laptop, hub, _uploader(laptop), line)


async def _agree(laptop: ExchangeNode, hub: RunningNode, settings: Settings) -> None:
    authority = settings.node.authority
    sender = Sender(laptop.keyring, "http://127.0.0.1:1", authority, laptop.clock)
    vkey = encode_vkey(laptop.keyring.identity.key)
    await hub.use_cases.peering.pin(vkey, sender.descriptor())
    await hub.use_cases.peering.follow("ngo.example", "ncii")
    await laptop.publisher.create_list("ncii", {})
    identity = encode_vkey(hub.foundation.keyring.identity.key)
    await laptop.peering.add_peer(settings.node.base, identity)
    await laptop.peering.grant("hub.example", "ncii")


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    async with a_scene(tmp_path) as made:
        yield made


def cuts_of(seed: int, count: int) -> Iterator[Cut]:
    """Break connections anywhere, in either direction, ever later on the whole."""
    choose = Random(seed)  # noqa: S311 -- a test that can be repeated
    for number in range(count):
        # Small enough for a while that nothing gets through whole.
        most = 3_000 if number < 20 else number * 2_000
        if number % 3:
            yield Cut(there=choose.randrange(most))
        else:
            yield Cut(back=choose.randrange(400))


@pytest.mark.parametrize("seed", range(3))
async def test_a_line_that_breaks_anywhere_loses_and_doubles_nothing(
    tmp_path: Path, seed: int
) -> None:
    cuts = cuts_of(seed, 50)
    async with a_scene(tmp_path) as scene:
        scene.line.hang_up()
        scene.line.cuts = cuts
        await scene.laptop.publisher.publish("ncii", indicators(700))
        await scene.laptop.publisher.withdraw(
            Ref(ORIGIN, 300), "erase", Reason.WITHDRAWN
        )
        known_size = known_live = 0
        for attempt in range(120):
            await scene.push()
            if attempt % 4 == seed:
                scene.forget()
            size, live = await scene.stored()
            assert known_size <= size <= 702
            assert live <= 700
            known_size, known_live = size, live
            if live == 699 and await scene.acknowledged_size() == 702:
                break
        assert (known_size, known_live) == (702, 699)
        assert await scene.matches(299) == 0
        mine = await scene.laptop.log(ORIGIN)
        theirs = await scene.hub.foundation.database.read(
            lambda conn: logs.find_log(conn, ORIGIN)
        )
        assert theirs is not None
        assert theirs.root_hash == mine.root_hash
        assert await scene.laptop.evidence() == []
    assert len(list(cuts)) <= 30


async def test_what_is_published_later_is_brought_alone(scene: Scene) -> None:
    await scene.laptop.publisher.publish("ncii", indicators(300))
    await scene.push()
    assert await scene.stored() == (301, 300)
    await scene.laptop.publisher.publish("ncii", indicators(1, first=300))
    await scene.push()
    assert await scene.stored() == (302, 301)
    assert await scene.acknowledged_size() == 302
    # With nothing new, the hub still learns that this is the newest.
    await scene.push()
    assert await scene.acknowledged_size() == 302


async def test_a_peer_is_brought_what_its_grant_lets_through(scene: Scene) -> None:
    hub = await scene.laptop.peer("hub.example")

    async def grant(scope: str | None) -> None:
        await scene.laptop.database.write(
            lambda conn: conn.execute(
                tables.grants.update()
                .where(tables.grants.c.peer_id == hub.peer_id)
                .values(scope=scope)
            )
        )

    await grant('{"labels":["iwf:*"]}')
    await scene.laptop.publisher.publish("ncii", indicators(3))
    await scene.push()
    assert await scene.stored() == (4, 0)
    assert await scene.acknowledged_size() == 4
    # A wider one is filled up, although there is nothing new.
    await grant('{"labels":["ncii:*"]}')
    await scene.push()
    assert await scene.stored() == (4, 3)


async def test_a_peer_without_a_grant_is_told_nothing(scene: Scene) -> None:
    await scene.laptop.peering.revoke("hub.example", "ncii")
    await scene.laptop.publisher.publish("ncii", indicators(1))
    await scene.push()
    assert await scene.stored() == (0, 0)
    note = await scene.hub.foundation.database.read(
        lambda conn: deliveries.read_witnessed(conn, ORIGIN)
    )
    assert note is None
    await scene.uploader.sweep()
    assert len(scene.laptop.notices.peer_pushes) == 0


async def test_a_hub_that_follows_the_list_only_later_gets_it_then(
    scene: Scene,
) -> None:
    await scene.hub.use_cases.peering.unfollow("ngo.example", "ncii")
    await scene.laptop.publisher.publish("ncii", indicators(1))
    await scene.push()
    assert await scene.stored() == (0, 0)
    await scene.hub.use_cases.peering.follow("ngo.example", "ncii")
    await scene.uploader.sweep()
    assert len(scene.laptop.notices.peer_pushes) == 1
    await scene.push()
    assert await scene.stored() == (2, 1)
    while len(scene.laptop.notices.peer_pushes):
        await scene.laptop.notices.peer_pushes.take()
    await scene.uploader.sweep()
    assert len(scene.laptop.notices.peer_pushes) == 0


async def test_peers_that_can_dial_us_are_pushed_to_as_ever(scene: Scene) -> None:
    await scene.laptop.publisher.publish("ncii", indicators(1))
    scene.uploader = Uploader(
        database=scene.laptop.database,
        client=scene.laptop.client,
        pusher=scene.laptop.pusher,
        clock=scene.clock,
        notices=scene.laptop.notices,
        upload_to=UploadTo(frozenset(), lambda: None),
    )
    await scene.push()
    await scene.uploader.sweep()
    assert len(scene.laptop.notices.peer_pushes) == 0
    # Nobody has told the hub what the list is, and it cannot ask.
    assert await scene.stored() == (0, 0)

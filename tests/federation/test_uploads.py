"""An NGO's laptop, which nobody can dial, publishes to a hub."""

from __future__ import annotations

from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

from hashlight_node.keys import read_published_descriptor
from hashlight_node.metrics import render_metrics
from hashlight_node.model import RecordState
from hashlight_node.store import deliveries, logs, records
from hashlight_node.store import peers as peer_store
from hashlight_protocol import (
    Reason,
    Ref,
    verify_cosignature,
)
from support.made_records import indicators
from support.nodes import free_port, make_settings
from support.running_companies import RunningCompany, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from hashlight_node.model import Acknowledgement
    from hashlight_node.store.database import Connection

ORIGIN = "ngo.example/hsf/v1/log/ncii/1"
UNREACHABLE = """
[federation]
listen = "127.0.0.1:0"

[exchange]
upload_to = ["hub.example"]
sweep_seconds = 1
"""


@asynccontextmanager
async def hub_and_laptop(
    directory: Path,
) -> AsyncIterator[tuple[RunningCompany, RunningCompany]]:
    """Run both; the base of the laptop is a port on which nobody listens."""
    hub = RunningCompany(make_settings(directory, "hub.example"))
    laptop = RunningCompany(make_settings(directory, "ngo.example", UNREACHABLE))
    await hub.start()
    await laptop.start()
    try:
        assert laptop.node.federation_port != free_port()
        raw = read_published_descriptor(laptop.settings.keys.directory)
        await hub.node.use_cases.peering.pin(laptop.vkey, raw)
        await hub.node.use_cases.peering.follow("ngo.example", "ncii")
        await laptop.pin(hub)
        await laptop.node.use_cases.publisher.create_list("ncii", {})
        await laptop.node.use_cases.peering.grant("hub.example", "ncii")
        yield hub, laptop
    finally:
        await laptop.stop()
        await hub.stop()


async def found(hub: RunningCompany, *numbers: int) -> bool:
    return [await hub.matches(number) for number in numbers] == [1] * len(numbers)


async def gone(hub: RunningCompany, *numbers: int) -> bool:
    return [await hub.matches(number) for number in numbers] == [0] * len(numbers)


async def acknowledgement(laptop: RunningCompany) -> Acknowledgement | None:
    def read(conn: Connection) -> Acknowledgement | None:
        log = logs.find_log(conn, ORIGIN)
        hub = peer_store.find_peer(conn, "hub.example")
        assert log is not None
        assert hub is not None
        return deliveries.newest_acknowledgement(conn, log.log_id, hub.peer_id)

    return await laptop.node.foundation.database.read(read)


async def acknowledged(laptop: RunningCompany, size: int) -> bool:
    newest = await acknowledgement(laptop)
    return newest is not None and newest.tree_size >= size


async def test_what_a_laptop_publishes_is_found_withdrawn_and_erased_at_the_hub(
    tmp_path: Path,
) -> None:
    async with hub_and_laptop(tmp_path) as (hub, laptop):
        publisher = laptop.node.use_cases.publisher
        await publisher.publish("ncii", indicators(5))
        await until(partial(found, hub, 0, 1, 2, 3, 4))
        await publisher.withdraw(Ref(ORIGIN, 2), "retract", Reason.FALSE_POSITIVE)
        await until(partial(gone, hub, 1))
        erased = await publisher.withdraw(Ref(ORIGIN, 3), "erase", Reason.WITHDRAWN)
        await until(partial(gone, hub, 2))
        await until(partial(acknowledged, laptop, erased.leaf_index + 1))
        assert await found(hub, 0, 3, 4)
        assert await hub.head(ORIGIN) == await laptop.head(ORIGIN)
        newest = await acknowledgement(laptop)
        assert newest is not None
        mirror = hub.node.foundation.keyring.mirror.key
        assert verify_cosignature(newest.note, mirror) == newest.acknowledged_at
        report = await laptop.node.use_cases.inspect.erasure(Ref(ORIGIN, 3))
        (peer,) = report.peers
        assert peer.peer_name == "hub.example"
        assert peer.acknowledgement is not None


async def test_both_may_stop_and_start_again(tmp_path: Path) -> None:
    async with hub_and_laptop(tmp_path) as (hub, laptop):
        await laptop.node.use_cases.publisher.publish("ncii", indicators(2))
        await until(partial(found, hub, 0, 1))
        await hub.stop()
        await laptop.node.use_cases.publisher.publish("ncii", indicators(2, first=2))
        await laptop.stop()
        await laptop.start()
        await laptop.node.use_cases.publisher.publish("ncii", indicators(2, first=4))
        await hub.start()
        await until(partial(found, hub, 0, 1, 2, 3, 4, 5), seconds=60)
        await until(partial(acknowledged, laptop, 7))


async def test_twenty_thousand_records_come_whole(tmp_path: Path) -> None:
    async with hub_and_laptop(tmp_path) as (hub, laptop):
        for first in range(0, 20_000, 5_000):
            await laptop.node.use_cases.publisher.publish(
                "ncii", indicators(5_000, first=first)
            )
        await until(partial(acknowledged, laptop, 20_001), seconds=120)
        await until(partial(found, hub, 0, 255, 256, 9_999, 19_999), seconds=120)
        assert await hub.head(ORIGIN) == await laptop.head(ORIGIN)

        def count(conn: Connection) -> int:
            page = records.page_records(conn, "ncii", 0, 30_000)
            return sum(record.state is RecordState.LIVE for record in page)

        assert await hub.node.foundation.database.read(count) == 20_000


async def test_nothing_is_asked_of_the_laptop_and_no_error_is_counted(
    tmp_path: Path,
) -> None:
    async with hub_and_laptop(tmp_path) as (hub, laptop):
        await hub.node.use_cases.publisher.create_list("theirs", {})
        await hub.node.use_cases.peering.grant("ngo.example", "theirs")
        await laptop.node.use_cases.peering.follow("hub.example", "theirs")
        await hub.node.use_cases.publisher.publish("theirs", indicators(1, first=9))
        await laptop.node.use_cases.publisher.publish("ncii", indicators(1))
        await until(partial(found, hub, 0))
        # The other direction is a pull, as for anybody who can dial.
        await until(partial(found, laptop, 9))
        metrics = render_metrics(hub.node.foundation.metrics).decode()
        assert "unavailable" not in "".join(
            line for line in metrics.splitlines() if 'peer="ngo.example"' in line
        )


async def test_a_hub_with_a_new_mirror_key_is_believed_and_not_blamed(
    tmp_path: Path,
) -> None:
    async with hub_and_laptop(tmp_path) as (hub, laptop):
        await laptop.node.use_cases.publisher.publish("ncii", indicators(1))
        await until(partial(acknowledged, laptop, 2))
        await hub.node.use_cases.rotation.rotate("mirror", None)
        await laptop.node.use_cases.publisher.publish("ncii", indicators(1, first=1))
        await until(partial(acknowledged, laptop, 3))
        # The old key is not waited for: its owner says that it was stolen.
        await hub.node.use_cases.rotation.retire("mirror", None)
        await laptop.node.use_cases.publisher.publish("ncii", indicators(1, first=2))
        await until(partial(acknowledged, laptop, 4))
        assert not await laptop.node.use_cases.inspect.evidence()
        newest = await acknowledgement(laptop)
        assert newest is not None
        verify_cosignature(newest.note, hub.node.foundation.keyring.mirror.key)

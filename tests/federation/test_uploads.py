"""An NGO's laptop, which nobody can dial, publishes to a hub."""

from __future__ import annotations

from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

import pytest

from hashlight_node.keys import read_published_descriptor
from hashlight_node.store import deliveries, logs
from hashlight_protocol import (
    Reason,
    Ref,
    open_descriptor,
    parse_signal,
    verify_cosignature,
)
from support.made_records import indicators, md5_of
from support.nodes import free_port, make_settings
from support.running_companies import RunningCompany, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

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


async def found(hub: RunningCompany, number: int, count: int) -> bool:
    return await hub.matches(number) == count


async def acknowledged(laptop: RunningCompany, size: int) -> bool:
    def read(conn: deliveries.Connection) -> int:
        log = logs.find_log(conn, ORIGIN)
        assert log is not None
        known = deliveries.list_acknowledgements(conn, log.log_id)
        return max((one.tree_size for one in known), default=0)

    return await laptop.node.foundation.database.read(read) >= size


async def test_what_a_laptop_publishes_is_found_withdrawn_and_erased_at_the_hub(
    tmp_path: Path,
) -> None:
    async with hub_and_laptop(tmp_path) as (hub, laptop):
        publisher = laptop.node.use_cases.publisher
        await publisher.publish("ncii", indicators(5))
        for number in range(5):
            await until(partial(found, hub, number, 1))
        await publisher.retract([Ref(ORIGIN, 2)], Reason.MISTAKE)
        await until(partial(found, hub, 1, 0))
        await publisher.erase([Ref(ORIGIN, 3)], Reason.MISTAKE)
        await until(partial(found, hub, 2, 0))
        await until(partial(acknowledged, laptop, 8))
        assert await found(hub, 0, 1)
        assert await found(hub, 3, 1)
        assert await hub.head(ORIGIN) == await laptop.head(ORIGIN)

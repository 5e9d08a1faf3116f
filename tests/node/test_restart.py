"""A node that stops and starts: its snapshot is written, used, and kept true."""

from __future__ import annotations

from typing import TYPE_CHECKING

from structlog.testing import capture_logs

from hashlight_node.app import start_node
from hashlight_protocol import Reason, parse_signal
from support.clock import ManualClock
from support.made_records import indicators, md5_of
from support.nodes import make_settings
from support.stores import INDEX

if TYPE_CHECKING:
    from pathlib import Path

    from hashlight_node.app import RunningNode


async def known(node: RunningNode, *numbers: int) -> list[int]:
    queries = [parse_signal("md5", md5_of(number)) for number in numbers]
    answer = await node.use_cases.lookup.lookup(queries, max_distance=None)
    found = zip(numbers, answer.results, strict=True)
    return [number for number, result in found if result.matches]


def names_in(directory: Path) -> set[str]:
    return {it.name for it in directory.iterdir()}


async def test_a_node_goes_on_with_what_it_knew(tmp_path: Path) -> None:
    settings = make_settings(tmp_path, "alpha.example")
    clock = ManualClock()
    home = tmp_path / "alpha.example"
    async with start_node(settings, clock=clock) as node:
        publisher = node.use_cases.publisher
        await publisher.create_list("ncii", {})
        refs = await publisher.publish("ncii", indicators(5))
        await publisher.withdraw(refs[1], "erase", Reason.WITHDRAWN)
    assert INDEX in names_in(home)
    with capture_logs() as lines:
        async with start_node(settings, clock=clock) as node:
            assert await known(node, *range(6)) == [0, 2, 3, 4]
            publisher = node.use_cases.publisher
            await publisher.withdraw(refs[2], "retract", Reason.WITHDRAWN)
            await publisher.publish("ncii", indicators(1, first=5))
            assert await known(node, *range(6)) == [0, 3, 4, 5]
        async with start_node(settings, clock=clock) as node:
            assert await known(node, *range(6)) == [0, 3, 4, 5]
    assert "memory is filled from the store" not in {it["event"] for it in lines}


async def test_a_node_that_shall_keep_no_snapshot_deletes_it(tmp_path: Path) -> None:
    settings = make_settings(tmp_path, "alpha.example")
    home = tmp_path / "alpha.example"
    async with start_node(settings, clock=ManualClock()) as node:
        await node.use_cases.publisher.create_list("ncii", {})
        await node.use_cases.publisher.publish("ncii", indicators(1))
    assert INDEX in names_in(home)
    matching = settings.matching.model_copy(update={"snapshot_seconds": 0})
    without = settings.model_copy(update={"matching": matching})
    async with start_node(without, clock=ManualClock()) as node:
        assert await known(node, 0) == [0]
        assert INDEX not in names_in(home)
    assert INDEX not in names_in(home)

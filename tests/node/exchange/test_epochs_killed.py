"""A node that is killed while a list goes on in a new log has all of it or none."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from hashlight_node.exchange.publishing.epochs import Frozen
from hashlight_node.store import logs, signals
from hashlight_protocol import open_list_note
from support.clock import ManualClock
from support.exchange_node import open_exchange_node
from support.made_records import indicators
from support.processes import python_path

if TYPE_CHECKING:
    from pathlib import Path

    from support.exchange_node import ExchangeNode

NAME = "alpha.example"
COUNT = 6000

GOES_ON = """
import asyncio, pathlib, sys
from hashlight_node.exchange.publishing.epochs import Frozen
from support.clock import ManualClock
from support.exchange_node import open_exchange_node

async def main():
    path = pathlib.Path(sys.argv[1])
    async with open_exchange_node(path, "alpha.example", ManualClock()) as node:
        print("ready", flush=True)
        await node.epochs.begin_next("ncii", ending=Frozen())
        print("done", flush=True)

asyncio.run(main())
"""


def kill_after(directory: Path, seconds: float) -> bool:
    """Run the owner for a while; tell whether it said that it was done."""
    with subprocess.Popen(
        [sys.executable, "-c", GOES_ON, str(directory)],
        stdout=subprocess.PIPE,
        env=python_path(),
    ) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == b"ready\n"
        time.sleep(seconds)
        owner.send_signal(signal.SIGKILL)
        return b"done" in owner.stdout.read()


async def check(node: ExchangeNode) -> int:
    """Check that exactly one log counts, whole; give its epoch."""
    log = await node.read(lambda conn: logs.find_own_log(conn, NAME, "ncii"))
    assert log is not None
    held = await node.read(lambda conn: logs.logs_of_list(conn, NAME, "ncii"))
    assert [it.counts_until is None for it in held] == [
        True,
        *[False] * (len(held) - 1),
    ]
    assert log.checkpoint_size == log.tree_size == COUNT + 1
    note = open_list_note(log.list_note or b"", node.keyring.identity.key)
    assert [it.origin for it in note.logs] == [it.origin for it in reversed(held)]
    counts = await node.read(signals.count_live)
    assert counts == {"md5": COUNT, "pdq": COUNT}
    for number in (0, COUNT // 2, COUNT - 1):
        assert await node.matches(number) == 1
    return log.epoch


@pytest.mark.timeout(300)
async def test_an_owner_that_is_killed_has_one_whole_log(tmp_path: Path) -> None:
    directory = tmp_path / "alpha"
    async with open_exchange_node(directory, NAME, ManualClock()) as node:
        await node.publisher.create_list("ncii", {})
        for first in range(0, COUNT, 1000):
            bodies = indicators(1000, first=first)
            await node.publisher.publish("ncii", bodies)
    chance = random.Random(5)  # noqa: S311 - the same moments in every run
    epochs: set[int] = set()
    for longest in (0.05, 0.3, 0.6, 1.0):
        is_done = kill_after(directory, chance.uniform(0, longest))
        async with open_exchange_node(directory, NAME, ManualClock()) as node:
            epoch = await check(node)
        assert not is_done or epoch > max(epochs, default=1)
        epochs.add(epoch)
    # A key without a log is passed over, so the list can always go on.
    async with open_exchange_node(directory, NAME, ManualClock()) as node:
        begun = await node.epochs.begin_next("ncii", ending=Frozen())
        assert await check(node) == int(begun.origin.rpartition("/")[2])

"""A node killed at any step of signing goes on, and never takes itself for restored."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from itertools import pairwise
from typing import TYPE_CHECKING

from hashlight_node.model import LogState
from hashlight_protocol import KnownHead
from support.clock import ManualClock
from support.exchange_node import ExchangeNode, open_exchange_node
from support.made_records import indicators
from support.processes import python_path

if TYPE_CHECKING:
    from pathlib import Path

ORIGIN = "alpha.example/hsf/v1/log/ours/1"

# Every call that makes something durable, and every commit, may be the last thing that
# the process does: before it, or right after it.
PUBLISHER = """
import asyncio, os, signal, sqlite3, sys
from pathlib import Path
from hashlight_node.store import database
from support.clock import ManualClock
from support.exchange_node import open_exchange_node
from support.made_records import indicators

last_step, steps, armed = int(sys.argv[2]), 0, False

def step():
    global steps
    steps += armed
    if armed and steps == last_step:
        os.kill(os.getpid(), signal.SIGKILL)

def watched(function):
    def call(*arguments, **named):
        step()
        result = function(*arguments, **named)
        step()
        return result
    return call

os.fsync = watched(os.fsync)
os.rename = watched(os.rename)
os.replace = watched(os.replace)
os.unlink = watched(os.unlink)
commits = database._Commits
commits.begin, commits.end = watched(commits.begin), watched(commits.end)

async def main():
    global armed
    where = Path(sys.argv[1])
    async with open_exchange_node(where, "alpha.example", ManualClock()) as node:
        armed = True
        await node.publisher.publish("ours", indicators(1, first=int(sys.argv[3])))
        print("published", flush=True)
        armed = False

asyncio.run(main())
"""


async def standing_of(node: ExchangeNode) -> tuple[LogState, KnownHead]:
    log = await node.log(ORIGIN)
    newest = node.last_signed.newest(ORIGIN)
    assert newest is not None
    assert newest.head == KnownHead(log.checkpoint_size, log.root_hash)
    assert node.last_signed.prepared(ORIGIN) is None
    return log.state, newest.head


async def test_a_node_killed_at_any_step_signs_on(tmp_path: Path) -> None:
    where = tmp_path / "alpha"
    async with open_exchange_node(where, "alpha.example", ManualClock()) as node:
        await node.publisher.create_list("ours", {})
    sizes: list[int] = []
    for last_step in range(1, 60):
        done = await asyncio.to_thread(_publish, where, last_step)
        async with open_exchange_node(where, "alpha.example", ManualClock()) as node:
            state, head = await standing_of(node)
            assert state is LogState.ACTIVE
            sizes.append(head.tree_size)
            # It goes on, whichever of the two states it was killed in.
            await node.publisher.publish("ours", indicators(1, first=5_000 + last_step))
        if done.returncode == 0:
            break
        assert done.returncode == -signal.SIGKILL, done.stderr.decode()
        assert done.stdout == b""
    else:
        raise AssertionError(sizes)
    # Two published for every round: one by the killed process, if it came so far.
    grown = [later - size for size, later in pairwise(sizes)]
    assert {1, 2} == set(grown)
    assert len(sizes) > 10


def _publish(where: Path, last_step: int) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-c", PUBLISHER, str(where), str(last_step)]
    return subprocess.run(
        [*command, str(100 + last_step)],
        env=python_path(),
        capture_output=True,
        check=False,
    )

"""A process that is killed while it writes loses nothing that it reported."""

from __future__ import annotations

import asyncio
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from sqlalchemy import text

from hashlight_node.store import logs, signals
from hashlight_node.store.database import Database
from hashlight_node.store.errors import DatabaseInUseError
from hashlight_protocol import (
    TILE_WIDTH,
    frontier_from_tiles,
    leaf_hashes,
    parse_entry_bundle,
    root_of,
)
from support.processes import python_path
from support.stored_log import ORIGIN

if TYPE_CHECKING:
    from sqlalchemy import Connection

WRITER = """
import asyncio, sys
from support.made_records import indicator
from support.stored_log import ORIGIN, StoredLog, present
from hashlight_node.store import logs
from hashlight_node.store.database import Database
from hashlight_protocol import frontier_from_tiles

def resume(conn):
    log = logs.find_log(conn, ORIGIN)
    if log is None:
        return StoredLog(conn)
    resumed = object.__new__(StoredLog)
    resumed.list_id = ORIGIN.rsplit("/", 1)[0]
    resumed.log, resumed.origin, resumed.entries = log, ORIGIN, []
    fetch = logs.tile_fetcher(conn, log.log_id)
    resumed.frontier = frontier_from_tiles(fetch, log.tree_size)
    return resumed

async def main():
    database = Database.open(sys.argv[1])
    log = await database.write(resume)
    while True:
        bodies = [present(indicator(log.size + n)) for n in range(1 + log.size % 97)]
        await database.write(lambda conn: log.append(conn, *bodies))
        print(log.size, flush=True)

asyncio.run(main())
"""


def _check(conn: Connection, acknowledged: int) -> int:
    if conn.dialect.name == "sqlite":
        assert conn.execute(text("PRAGMA integrity_check")).scalar() == "ok"
        assert conn.execute(text("PRAGMA foreign_key_check")).all() == []
    log = logs.find_log(conn, ORIGIN)
    assert log is not None
    assert log.tree_size >= acknowledged
    entries: list[bytes] = []
    for index in range(-(-log.tree_size // TILE_WIDTH)):
        width = min(TILE_WIDTH, log.tree_size - index * TILE_WIDTH)
        raw = logs.read_entry_bundle(conn, log.log_id, index, width)
        assert raw is not None
        entries += parse_entry_bundle(raw, width)
    assert root_of(leaf_hashes(entries)) == log.root_hash
    fetch = logs.tile_fetcher(conn, log.log_id)
    assert frontier_from_tiles(fetch, log.tree_size).root == log.root_hash
    # Each record but the META entry asserts two signals of its own.
    assert sum(signals.count_live(conn).values()) == 2 * (log.tree_size - 1)
    return log.tree_size


async def _opened(url: str) -> Database:
    """Open a database as soon as a server knows that its writer is dead."""
    async with asyncio.timeout(10):
        while True:
            with suppress(DatabaseInUseError):
                return Database.open(url)
            await asyncio.sleep(0.02)


async def test_what_was_reported_is_there_after_each_of_many_kills(url: str) -> None:
    chance = random.Random(7)  # noqa: S311 - the same moments in every run
    acknowledged = 0
    for _ in range(8):
        with subprocess.Popen(  # noqa: ASYNC220 - waiting for it is the test
            [sys.executable, "-c", WRITER, url],
            stdout=subprocess.PIPE,
            env=python_path(),
        ) as writer:
            assert writer.stdout is not None
            assert writer.stdout.readline()
            time.sleep(chance.uniform(0, 0.2))  # noqa: ASYNC251
            writer.send_signal(signal.SIGKILL)
            reported = writer.stdout.read().split()
        if reported:
            acknowledged = int(reported[-1])
        database = await _opened(url)
        size = await database.read(partial(_check, acknowledged=acknowledged))
        await database.close()
        assert size >= acknowledged
    assert acknowledged > 8

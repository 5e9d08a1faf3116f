"""A store, the memory of what is live in it, and the snapshot of that memory."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hashlight_node.exchange.logs.applied import Applied
from hashlight_node.exchange.looking_up.snapshots import Snapshots, fill
from hashlight_node.matching.matcher import Matcher
from hashlight_node.model import signal_digest
from hashlight_node.store import logs, signals
from hashlight_node.store.database import Database
from hashlight_protocol import frontier_from_tiles

from .clock import START
from .stored_log import ORIGIN, StoredLog

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from hashlight_node.exchange.looking_up.snapshots import Filled
    from hashlight_node.store.database import Connection

    from .stored_log import Item


@dataclass
class KeptMemory:
    """What a node has that looks things up, without listeners.

    Attributes:
        path: The snapshot.
        filled: How memory was filled.
    """

    path: Path
    database: Database
    matcher: Matcher
    snapshots: Snapshots
    filled: Filled

    async def append(self, log: StoredLog, *items: Item, now: int = START) -> None:
        """Append to a log, and let everybody know."""
        applied = Applied(self.matcher.apply, then=(self.snapshots.follow,))
        await self.database.write(
            lambda conn: log.append(conn, *items, now=now),
            after_commit=applied.apply,
            then=applied.tidy,
        )

    async def check(self) -> None:
        """Hold what is in memory to the store: every live signal, and no other."""
        live = await self.database.read(lambda conn: list(signals.live_signals(conn)))
        rows = self.matcher.export()
        hashes = {it: value for it, name, value in live if name == "pdq"}
        found = (row.tobytes().hex() for row in rows.pdq_hashes)
        assert dict(zip(rows.pdq_ids.tolist(), found, strict=True)) == hashes
        exact = zip(rows.exact_ids.tolist(), rows.exact_digests.tolist(), strict=True)
        assert dict(exact) == {
            it: signal_digest(name, value) for it, name, value in live if name != "pdq"
        }
        sizes = await self.database.read(signals.count_live)
        known = {name: size for name, size in self.matcher.sizes().items() if size}
        assert known == sizes


@asynccontextmanager
async def keep_memory(url: str, path: Path) -> AsyncIterator[KeptMemory]:
    """Open a store as a node does when it starts; closing it writes no snapshot.

    Args:
        url: Of a migrated database.
        path: The snapshot.
    """
    database = Database.open(url)
    matcher = Matcher(pdq_threshold=31)
    snapshots = Snapshots(path, database=database, matcher=matcher, clock=lambda: START)

    def read(conn: Connection) -> Filled:
        filled = fill(conn, matcher, path)
        snapshots.adopt(conn, filled)
        return filled

    try:
        filled = await database.read(read)
        yield KeptMemory(path, database, matcher, snapshots, filled)
    finally:
        await snapshots.close()
        await database.close()
        matcher.close()


def resume_log(conn: Connection) -> StoredLog:
    """Go on with the log that an earlier process wrote, or begin it."""
    log = logs.find_log(conn, ORIGIN)
    if log is None:
        return StoredLog(conn)
    resumed = object.__new__(StoredLog)
    resumed.list_id = ORIGIN.rsplit("/", 1)[0]
    resumed.log, resumed.origin, resumed.entries = log, ORIGIN, []
    fetch = logs.tile_fetcher(conn, log.log_id)
    resumed.frontier = frontier_from_tiles(fetch, log.tree_size)
    return resumed

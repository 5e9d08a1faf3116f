"""Filling memory with what is live, and keeping the snapshot that it is filled from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hashlight_node.exchange.looking_up.snapshots import Snapshots, discard, fill
from hashlight_node.matching.matcher import Matcher
from hashlight_node.store import changes
from hashlight_node.store.backends import file_beside

from .judging import largest_threshold

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from contextlib import AsyncExitStack
    from pathlib import Path
    from socket import socket

    from typing_extensions import Buffer

    from hashlight_node.config import Settings
    from hashlight_node.exchange.looking_up.snapshots import Filled
    from hashlight_node.last_signed import LastSigned
    from hashlight_node.model import Clock
    from hashlight_node.store.database import Database, Reader


@dataclass(frozen=True, slots=True)
class Memory:
    """What is live, as one process read it for others that it then starts.

    Attributes:
        matcher: Filled.
        filled: How, and up to which change.
    """

    matcher: Matcher
    filled: Filled


@dataclass(frozen=True, slots=True)
class Behind:
    """What a node is given that has worker processes in front of it.

    Attributes:
        local: Where it listens for them, instead of the address in the settings.
        memory: Filled before they all were started, so that they share it.
        flood_counts: Memory in which all count matches.
        counters: By worker, the socket on which it tells its metrics.
    """

    local: socket
    memory: Memory
    flood_counts: Buffer
    counters: Mapping[str, Path]


@dataclass(frozen=True, slots=True)
class Claimed:
    """What a process that shares its database has when it begins to lead.

    Attributes:
        database: With the right to write.
        last_signed: Of this process, all its life.
        memory: As it looked things up until now.
        local: Listens for our own services, or for our workers.
        federation: Listens for peers.
    """

    database: Database
    last_signed: LastSigned
    memory: Memory
    local: Sequence[socket]
    federation: Sequence[socket]


async def load_memory(settings: Settings, database: Reader) -> Memory:
    """Read what is live, from the snapshot if there is one that holds."""
    matcher = Matcher(pdq_threshold=largest_threshold(settings))
    path = _snapshot_path(settings)
    filled = await database.read(lambda conn: fill(conn, matcher, path))
    return Memory(matcher, filled)


async def choose_memory(
    settings: Settings, database: Database, given: Memory | None
) -> Memory:
    """Take what was filled for us if nothing was written since; else fill anew."""
    try:
        if not settings.matching.snapshot_seconds:
            discard(_snapshot_path(settings))
        if given is not None:
            mark = await database.read(changes.newest_mark)
            if mark == given.filled.mark:
                return given
        return await load_memory(settings, database)
    except BaseException:
        await database.close()
        raise


def forget_snapshot(settings: Settings) -> None:
    """Remove the snapshot: what is erased from now on, nobody would wipe in it."""
    discard(_snapshot_path(settings))


async def keep_snapshot(
    settings: Settings,
    database: Database,
    memory: Memory,
    clock: Clock,
    stack: AsyncExitStack,
) -> Snapshots:
    """Keep the snapshot that memory was filled from, and write new ones."""
    snapshots = Snapshots(
        _snapshot_path(settings),
        database=database,
        matcher=memory.matcher,
        clock=clock,
    )
    # Nothing was written since: nobody else has the database, and we have not begun.
    await database.read(lambda conn: snapshots.adopt(conn, memory.filled))
    stack.push_async_callback(snapshots.close)
    if settings.matching.snapshot_seconds:
        stack.push_async_callback(snapshots.save)
    return snapshots


def _snapshot_path(settings: Settings) -> Path:
    return file_beside(settings.store.url, settings.store.directory, "index")

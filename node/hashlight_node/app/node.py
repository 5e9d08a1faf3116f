"""A node from its start to its end."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from hashlight_node.api.server import duplicates, port_of, start_server
from hashlight_node.config import split_address
from hashlight_node.exchange.looking_up.keeping_up import learn_signed
from hashlight_node.exchange.looking_up.match_log import FLUSH_SECONDS
from hashlight_node.jobs import Chore, JobParts, KeyRefresher, run_jobs

from .foundation import lay_foundation
from .listeners import federation_application, local_application
from .use_cases import build_use_cases
from .watching import build_freshness_keeper, build_retention, watch_chores

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from socket import socket

    from hashlight_node.config import Settings
    from hashlight_node.model import Clock

    from .foundation import Foundation
    from .memory import Behind, Claimed
    from .use_cases import UseCases

FEDERATION_SHUTDOWN_SECONDS: Final = 5
"""Long polls end at once; a peer repeats anything else."""

LOCAL_SHUTDOWN_SECONDS: Final = 10
"""Whoever publishes should learn whether it is done. A body that has not arrived whole
by then never will: aiohttp reads no more from connections that are to be closed."""

_PRUNE_SECONDS: Final = 3600
_ROOM_SECONDS: Final = 30

_SIGHTINGS_SECONDS: Final = 3600
"""Owners look at trends, not at single matches, so nobody needs them sooner."""
_SETTLE_SECONDS: Final = 3600
"""How late a key may be retired."""


def system_clock() -> int:
    """Give the time in whole Unix seconds."""
    return int(time.time())


@dataclass(frozen=True, slots=True)
class RunningNode:
    """A node that answers.

    Attributes:
        foundation: What it stands on.
        use_cases: What it can do; tests call it directly.
        federation_port: Where it listens for peers.
        local_port: Where it listens for our own services; 0 if workers do.
        jobs: Ends only with an error, or when the node is stopped.
    """

    foundation: Foundation
    use_cases: UseCases
    federation_port: int
    local_port: int
    jobs: asyncio.Task[None]


@asynccontextmanager
async def start_node(
    settings: Settings,
    *,
    clock: Clock = system_clock,
    behind: Behind | None = None,
    claimed: Claimed | None = None,
) -> AsyncIterator[RunningNode]:
    """Run a node for as long as the block lasts.

    At the end it stops accepting connections, releases long polls, lets requests that
    have arrived finish, stops its jobs, and closes the database last.

    Args:
        settings: As `load_settings` gives them.
        clock: Unix seconds.
        behind: What it has if workers answer lookups in front of it.
        claimed: What it has if it shares its database with other processes.

    Raises:
        SettingsError: The policy that they name cannot be used.
        KeyFileError: The keys cannot be used as they are.
        LastSignedError: What they signed last cannot be read, or another process signs.
        StoreError: The database cannot.
        OSError: An address cannot be bound.
        ExceptionGroup: A job met a mistake of ours; raised when the block ends.
    """
    async with AsyncExitStack() as stack:
        foundation = await lay_foundation(settings, clock, stack, behind, claimed)
        use_cases = build_use_cases(foundation)
        # Before anybody can look anything up: time has passed while we were stopped.
        await build_freshness_keeper(foundation).check()
        stack.push_async_callback(use_cases.pusher.close)
        if claimed is not None:
            await _learn_signed(foundation)
        # Before anybody is answered: a restored database must not be seen by peers.
        await use_cases.self_check.settle()
        await use_cases.self_check.ask_at_start()
        refresher = KeyRefresher(clock)
        federation_app = federation_application(foundation, use_cases, refresher)
        local_app = local_application(foundation, use_cases, behind)
        listening = asyncio.Event()
        jobs = asyncio.create_task(
            _run_jobs(foundation, use_cases, refresher, listening)
        )
        stack.push_async_callback(_stop_jobs, jobs)
        # Nobody is told of a key that a document does not name.
        await use_cases.rotation.settle_quietly()
        local = await start_server(
            local_app,
            _local_address(settings, behind, claimed),
            shutdown_seconds=LOCAL_SHUTDOWN_SECONDS,
            hang_up_cancels=False,
        )
        stack.push_async_callback(local.cleanup)
        federation = await start_server(
            federation_app,
            duplicates(claimed.federation)
            if claimed
            else split_address(settings.federation.listen),
            shutdown_seconds=FEDERATION_SHUTDOWN_SECONDS,
            hang_up_cancels=True,
        )
        stack.push_async_callback(federation.cleanup)
        # Peers answer a push by asking us, so we listen before we push.
        listening.set()
        local_port = 0 if behind else port_of(local)
        yield RunningNode(foundation, use_cases, port_of(federation), local_port, jobs)


def _local_address(
    settings: Settings, behind: Behind | None, claimed: Claimed | None
) -> tuple[str, int] | list[socket]:
    if claimed is not None:
        return duplicates(claimed.local)
    return [behind.local] if behind else split_address(settings.local.listen)


async def _learn_signed(on: Foundation) -> None:
    """Know what others signed before this process; what it last saw may be older."""
    await on.database.write(lambda conn: learn_signed(conn, on.keyring, on.last_signed))


async def _run_jobs(
    foundation: Foundation,
    use_cases: UseCases,
    refresher: KeyRefresher,
    listening: asyncio.Event,
) -> None:
    parts = JobParts(
        database=foundation.database,
        notices=foundation.notices,
        publisher=use_cases.publisher,
        pusher=use_cases.pusher,
        uploader=use_cases.uploader,
        self_check=use_cases.self_check,
        follower=use_cases.follower,
        peering=use_cases.peering,
        gossip=use_cases.gossip,
        key_refresher=refresher,
        metrics=foundation.metrics,
        clock=foundation.clock,
    )
    exchange = foundation.settings.exchange
    await listening.wait()
    await run_jobs(
        parts,
        sweep_seconds=exchange.sweep_seconds,
        heartbeat_seconds=exchange.heartbeat_seconds,
        chores=_chores(foundation, use_cases),
    )


def _chores(on: Foundation, use_cases: UseCases) -> list[Chore]:
    retention = build_retention(on, use_cases.publisher)
    chores = [
        Chore("prune-changes", _PRUNE_SECONDS, on.feed.prune),
        Chore("sightings", _SIGHTINGS_SECONDS, use_cases.feedback.publish_sightings),
        Chore("room", _ROOM_SECONDS, on.room.look),
        Chore("keys", _SETTLE_SECONDS, use_cases.rotation.settle_quietly),
        Chore("retention", _PRUNE_SECONDS, retention.prune),
        *watch_chores(on),
    ]
    seconds = on.settings.matching.snapshot_seconds
    if seconds:
        chores.append(Chore("snapshot", seconds, partial(_save_snapshot, on)))
    if on.match_log is not None:
        chores.append(Chore("match-log", FLUSH_SECONDS, on.match_log.flush))
        chores.append(Chore("prune-matches", _PRUNE_SECONDS, on.match_log.prune))
    return chores


async def _save_snapshot(on: Foundation) -> None:
    # It is written anew beside the old one; what the disk has left is for withdrawals.
    if on.room.has_room():
        await on.snapshots.save()


async def _stop_jobs(jobs: asyncio.Task[None]) -> None:
    jobs.cancel()
    with suppress(asyncio.CancelledError):
        await jobs

"""Real nodes in one process: listeners, jobs, stores and keys, on loopback."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

from hashlight_node.app import RunningNode, start_node, system_clock
from hashlight_node.config import Settings
from hashlight_node.model import Clock
from hashlight_node.store import logs
from hashlight_protocol import KnownHead, encode_vkey, parse_signal
from support.made_records import md5_of
from support.nodes import make_settings


class RunningCompany:
    """A node that can be stopped and started again."""

    def __init__(self, settings: Settings, clock: Clock = system_clock) -> None:
        self.settings = settings
        self.clock = clock
        self.name = settings.node.name
        self._running: RunningNode | None = None
        self._stack = AsyncExitStack()

    async def start(self) -> None:
        self._running = await self._stack.enter_async_context(
            start_node(self.settings, clock=self.clock)
        )

    async def stop(self) -> None:
        self._running = None
        await self._stack.aclose()

    @property
    def node(self) -> RunningNode:
        assert self._running is not None
        return self._running

    @property
    def vkey(self) -> str:
        return encode_vkey(self.node.foundation.keyring.identity.key)

    async def pin(self, other: RunningCompany) -> None:
        await self.node.use_cases.peering.add_peer(other.settings.node.base, other.vkey)

    async def matches(self, number: int) -> int:
        """Count the live records that assert the MD5 of record `number`."""
        query = parse_signal("md5", md5_of(number))
        answer = await self.node.use_cases.lookup.lookup([query], max_distance=None)
        return sum(len(match.records) for match in answer.results[0].matches)

    async def head(self, origin: str) -> KnownHead | None:
        """Give size and root of a log, as far as it is acknowledged."""
        log = await self.node.foundation.database.read(
            lambda conn: logs.find_log(conn, origin)
        )
        if log is None or log.checkpoint_size != log.tree_size:
            return None
        return KnownHead(log.tree_size, log.root_hash)


MakeCompany = Callable[[str], Awaitable[RunningCompany]]


async def start_company(
    directory: Path, name: str, clock: Clock = system_clock
) -> RunningCompany:
    """Make a node's files and start it."""
    company = RunningCompany(make_settings(directory, name), clock)
    await company.start()
    return company


async def connect(
    origin: RunningCompany, follower: RunningCompany, list_name: str
) -> None:
    """Do what two operators do so that one copies a list of the other."""
    await origin.pin(follower)
    await follower.pin(origin)
    await origin.node.use_cases.peering.grant(follower.name, list_name)
    await follower.node.use_cases.peering.follow(origin.name, list_name)


async def until(
    condition: Callable[[], Awaitable[bool]], *, seconds: float = 20
) -> None:
    """Wait for a condition that must come true."""
    async with asyncio.timeout(seconds):
        while not await condition():  # noqa: ASYNC110 -- it is several nodes' state
            await asyncio.sleep(0.01)

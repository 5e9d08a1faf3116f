"""Five real nodes on one machine, with a network that can be cut and can lie.

The nodes live for a whole module and are asked by many schedules, each about lists and
records of its own: starting nodes takes longer than most schedules.
"""

from __future__ import annotations

import time
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sqlalchemy import select

from hashlight_node.app import RunningNode, start_node
from hashlight_node.model import FollowState
from hashlight_node.store import logs, tables
from hashlight_node.store import peers as peer_store
from hashlight_protocol import encode_vkey, parse_signal

from .gateways import Gateway
from .made_records import md5_of
from .nodes import free_port, make_settings

if TYPE_CHECKING:
    from pathlib import Path

    from hashlight_node.config import Settings
    from hashlight_node.model import Follow
    from hashlight_node.store.database import Connection

NAMES = ("shield", "hotline", "alpha", "beta", "gamma")


@dataclass
class SkewedClock:
    """The time, and how far a node's clock is off."""

    offset_seconds: int = 0

    def __call__(self) -> int:
        return int(time.time()) + self.offset_seconds


@dataclass
class Member:
    """One node, its clock and the way to it."""

    name: str
    settings: Settings
    gateway: Gateway
    clock: SkewedClock = field(default_factory=SkewedClock)
    _running: RunningNode | None = None
    _stack: AsyncExitStack = field(default_factory=AsyncExitStack)

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

    async def matches(self, number: int) -> int:
        """Count the live records that assert the MD5 of record `number`."""
        query = parse_signal("md5", md5_of(number))
        answer = await self.node.use_cases.lookup.lookup([query], max_distance=None)
        return sum(len(match.records) for match in answer.results[0].matches)

    async def values(self) -> set[str]:
        """Give every value of a signal that the node stores anywhere in its tables."""

        def read(conn: Connection) -> set[str]:
            return set(conn.execute(select(tables.signal_values.c.value)).scalars())

        return await self.node.foundation.database.read(read)

    async def stores(self, content: bytes) -> bool:
        """Tell whether any record's body at the node contains some bytes."""

        def read(conn: Connection) -> bool:
            bodies = conn.execute(select(tables.contents.c.body)).scalars()
            return any(content in body for body in bodies)

        return await self.node.foundation.database.read(read)

    async def head(self, origin: str) -> tuple[int, bytes] | None:
        """Give size and root of a log, as far as it is whole here."""
        log = await self.node.foundation.database.read(
            lambda conn: logs.find_log(conn, origin)
        )
        if log is None or log.checkpoint_size != log.tree_size:
            return None
        return log.tree_size, log.root_hash

    async def follows(self) -> list[Follow]:
        return await self.node.foundation.database.read(peer_store.list_follows)


class World:
    """The nodes and the network between them."""

    def __init__(self, members: dict[str, Member], stack: AsyncExitStack) -> None:
        self.members = members
        self._stack = stack

    @classmethod
    async def begin(cls, directory: Path) -> World:
        """Start all nodes and let them pin each other."""
        stack = AsyncExitStack()
        members: dict[str, Member] = {}
        for short in NAMES:
            name = f"{short}.example"
            behind = free_port()
            extra = (
                f'\n[federation]\nlisten = "127.0.0.1:{behind}"\n'
                '[logging]\nlevel = "error"\n'
            )
            settings = make_settings(directory, name, extra)
            port = int(settings.node.base.rpartition(":")[2])
            gateway = Gateway(name, port, behind)
            await stack.enter_async_context(gateway.opened())
            member = members[name] = Member(name, settings, gateway)
            await member.start()
            stack.push_async_callback(member.stop)
        for one in members.values():
            for other in members.values():
                if one is not other:
                    await one.node.use_cases.peering.add_peer(
                        other.settings.node.base, other.vkey
                    )
        return cls(members, stack)

    async def end(self) -> None:
        await self._stack.aclose()

    async def heal(self) -> None:
        """End every fault; release what was put into quarantine."""
        for member in self.members.values():
            member.gateway.refused.clear()
            member.gateway.spoiled = ""
            member.clock.offset_seconds = 0
        for member in self.members.values():
            # What is under way may have been lied to still.
            await member.node.use_cases.follower.sync_all()
            for follow in await member.follows():
                if follow.state is FollowState.QUARANTINED:
                    await member.node.use_cases.peering.release(follow.peer_name)

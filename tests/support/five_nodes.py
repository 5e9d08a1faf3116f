"""Five real nodes that live through a whole module: owner, laptop, relay, followers.

`shield` owns lists, `ngo` owns one too but cannot be dialled and brings it to `alpha`,
which follows, relays and takes uploads; `beta` gets what alpha relays, `gamma` is the
follower that is lied to. Between them is a network that a test can cut and that lies.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from typing_extensions import override

from hashlight_node.exchange.errors import FollowQuarantinedError
from hashlight_node.keys import read_published_descriptor
from hashlight_node.peers.errors import PeerError, PeerUnavailableError
from hashlight_node.store import logs
from hashlight_node.store import peers as peer_store
from hashlight_protocol import WHOLE_LIST

from .clock import ManualClock
from .cutting_proxy import Line, cutting_proxy
from .gateways import Gateway
from .nodes import free_port, make_settings
from .running_companies import RunningCompany

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from hashlight_node.config import Settings
    from hashlight_node.model import Follow, Log
    from hashlight_node.store.database import Connection
    from hashlight_protocol import GrantScope, Ref

# One sweep at the start and then none: the tests say when. An answer that takes longer
# than two seconds here never comes.
_COMMON = """
[exchange]
sweep_seconds = 86400
request_timeout_seconds = 2
"""
_LAPTOP = 'upload_to = ["alpha.example"]\n'
_STEP_SECONDS = 5
_T = TypeVar("_T")
_NAMES = ("shield", "ngo", "alpha", "beta", "gamma")


async def patiently(ask: Callable[[], Awaitable[_T]]) -> _T:
    """Repeat what an operator would repeat: lines to who restarted may be dead."""
    for _ in range(4):
        with suppress(PeerUnavailableError):
            return await ask()
    return await ask()


@dataclass
class WorldClock(ManualClock):
    """Goes on by itself, as pauses after errors need, and can be moved."""

    started: float = field(default_factory=time.monotonic)

    @override
    def __call__(self) -> int:
        return self.now + int(time.monotonic() - self.started)


@dataclass
class OwnClock:
    """A node's clock, and how far it is off."""

    world: WorldClock
    offset_seconds: int = 0

    def __call__(self) -> int:
        return self.world() + self.offset_seconds


class Node(RunningCompany):
    """One of the five, its clock, and the way to it."""

    def __init__(self, settings: Settings, clock: OwnClock, gateway: Gateway) -> None:
        super().__init__(settings, clock)
        self.own_clock = clock
        self.gateway = gateway

    async def matches_are(self, expected: dict[int, int]) -> bool:
        found = {number: await self.matches(number) for number in expected}
        return found == expected

    async def log(self, origin: str) -> Log:
        found = await self.node.foundation.database.read(
            lambda conn: logs.find_log(conn, origin)
        )
        assert found is not None
        return found

    async def follow_of(self, owner: Node, list_name: str) -> Follow:
        def read(conn: Connection) -> Follow:
            peer = peer_store.find_peer(conn, owner.name)
            assert peer is not None
            follow = peer_store.find_follow(conn, peer.peer_id, list_name)
            assert follow is not None
            return follow

        return await self.node.foundation.database.read(read)

    async def create(self, list_name: str) -> str:
        """Start a list; gives the origin of its log."""
        await self.node.use_cases.publisher.create_list(list_name, {})
        return f"{self.name}/hsf/v1/log/{list_name}/1"

    async def publish(self, list_name: str, *bodies: bytes) -> tuple[Ref, ...]:
        return await self.node.use_cases.publisher.publish(list_name, bodies)

    async def blames(self) -> set[tuple[str, str]]:
        """Give whom it has evidence against, and of what."""
        evidence = await self.node.use_cases.inspect.evidence()
        return {(one.peer_name, one.code) for one in evidence}

    async def sweep(self) -> None:
        """Do what its job does every few minutes, but for the gossip."""
        use_cases = self.node.use_cases
        await use_cases.pusher.sweep()
        await use_cases.uploader.sweep()
        await use_cases.follower.sync_all()

    async def try_sync(self, owner: str, list_name: str) -> Exception | None:
        """Ask for news now; gives what went wrong."""
        try:
            await self.node.use_cases.follower.sync(owner, list_name)
        except (PeerError, FollowQuarantinedError) as error:
            return error
        return None


@dataclass
class FiveNodes:
    """The nodes and the network between them.

    Attributes:
        clock: The time at all of them.
        line: The last piece of the way to alpha, which can break.
    """

    clock: WorldClock
    shield: Node
    ngo: Node
    alpha: Node
    beta: Node
    gamma: Node
    line: Line
    _stack: AsyncExitStack
    _next_number: int = 0

    @classmethod
    async def begin(cls, directory: Path) -> FiveNodes:
        """Start all nodes and do what five operators do to know each other."""
        clock, stack = WorldClock(), AsyncExitStack()
        nodes: dict[str, Node] = {}
        lines: dict[str, Line] = {}
        for short in _NAMES:
            behind, middle = free_port(), free_port()
            extra = (
                f'\n[federation]\nlisten = "127.0.0.1:{behind}"\n'
                f'[logging]\nlevel = "error"\n{_COMMON}'
            )
            if short == "ngo":
                extra += _LAPTOP
            settings = make_settings(directory, f"{short}.example", extra)
            port = int(settings.node.base.rpartition(":")[2])
            gateway = Gateway(settings.node.name, port, middle)
            nodes[short] = Node(settings, OwnClock(clock), gateway)
            await nodes[short].start()
            stack.push_async_callback(nodes[short].stop)
            if short != "ngo":  # Nobody can dial it: there is no way to it.
                lines[short] = await stack.enter_async_context(
                    cutting_proxy(middle, behind)
                )
                await stack.enter_async_context(gateway.opened())
        shield, ngo, alpha, beta, gamma = (nodes[short] for short in _NAMES)
        line = lines["alpha"]
        world = cls(clock, shield, ngo, alpha, beta, gamma, line, stack)
        await world._introduce()
        return world

    async def _introduce(self) -> None:
        for one in self.reachable:
            for other in self.reachable:
                if one is not other:
                    await one.pin(other)
        await self.ngo.pin(self.alpha)
        raw = read_published_descriptor(self.ngo.settings.keys.directory)
        await self.alpha.node.use_cases.peering.pin(self.ngo.vkey, raw)

    async def end(self) -> None:
        await self._stack.aclose()

    @property
    def reachable(self) -> tuple[Node, ...]:
        return self.shield, self.alpha, self.beta, self.gamma

    @property
    def everybody(self) -> tuple[Node, ...]:
        return *self.reachable, self.ngo

    def numbers(self, count: int) -> range:
        """Give numbers for records that no other test has."""
        first = self._next_number
        self._next_number += count
        return range(first, first + count)

    async def share(
        self,
        owner: Node,
        follower: Node,
        list_name: str,
        *,
        scope: GrantScope = WHOLE_LIST,
        may_relay: bool = False,
    ) -> None:
        """Grant a list and follow it."""
        await owner.node.use_cases.peering.grant(
            follower.name, list_name, scope=scope, may_relay=may_relay
        )
        peering = follower.node.use_cases.peering
        await patiently(lambda: peering.follow(owner.name, list_name))

    async def relay(self, list_name: str) -> None:
        """Let shield's list go to alpha, and from alpha to beta."""
        await self.share(self.shield, self.alpha, list_name, may_relay=True)
        relaying = self.alpha.node.use_cases.relaying
        await relaying.relay(self.beta.name, self.shield.name, list_name)
        peering = self.beta.node.use_cases.peering
        await patiently(
            lambda: peering.follow(self.shield.name, list_name, via=self.alpha.name)
        )

    async def cut(self, one: Node, other: Node) -> None:
        """Let nothing through between two nodes."""
        await one.gateway.refuse(other.name)
        await other.gateway.refuse(one.name)

    def mend(self) -> None:
        """End every fault of the network."""
        for node in self.everybody:
            node.gateway.refused.clear()
            node.gateway.detours.clear()
            node.gateway.spoiled = ""

    async def sweep(self) -> None:
        await asyncio.gather(*(node.sweep() for node in self.everybody))

    async def until(
        self, condition: Callable[[], Awaitable[bool]], *, seconds: float = 60
    ) -> None:
        """Wait for a condition that must come true, while jobs run and time passes."""
        async with asyncio.timeout(seconds):
            while not await condition():
                await asyncio.sleep(0.02)
                if await condition():
                    return
                await self.sweep()
                self.clock.advance(_STEP_SECONDS)

    async def until_equal(self, origin: str, *nodes: Node) -> None:
        """Wait until some nodes have the same of a log, and all of it."""

        async def are_equal() -> bool:
            heads = [await node.head(origin) for node in nodes]
            return None not in heads and len(set(heads)) == 1

        await self.until(are_equal)

"""A real node whose clock a test moves: months of a key's life in one test."""

from __future__ import annotations

from typing import TYPE_CHECKING

from typing_extensions import override

from hashlight_node.app import start_node
from hashlight_node.store import logs, peers

from .running_companies import RunningCompany

if TYPE_CHECKING:
    from hashlight_node.config import Settings
    from hashlight_node.model import Log, Peer

    from .clock import ManualClock


class TimedCompany(RunningCompany):
    """A running node that reads the time from a test's clock."""

    def __init__(self, settings: Settings, clock: ManualClock) -> None:
        super().__init__(settings)
        self.clock = clock

    @property
    def is_running(self) -> bool:
        return self._running is not None

    async def log(self, origin: str) -> Log:
        found = await self.node.foundation.database.read(
            lambda conn: logs.find_log(conn, origin)
        )
        assert found is not None
        return found

    async def peer(self, name: str) -> Peer:
        found = await self.node.foundation.database.read(
            lambda conn: peers.find_peer(conn, name)
        )
        assert found is not None
        return found

    @override
    async def start(self) -> None:
        self._running = await self._stack.enter_async_context(
            start_node(self.settings, clock=self.clock)
        )

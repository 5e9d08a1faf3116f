"""Running a process of a node that has several: it stands by, and leads when it may.

It keeps its listening sockets all the time, whether it stands by or leads: who connects
while the one gives way to the other waits a moment, and is answered.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, ExitStack, suppress
from typing import TYPE_CHECKING, Final

import structlog
from sqlalchemy.exc import OperationalError

from hashlight_node.app import Shared, stand_by, start_node, system_clock
from hashlight_node.config import split_address
from hashlight_node.last_signed import LastSigned
from hashlight_node.store.errors import (
    DatabaseInUseError,
    DatabaseUnavailableError,
    is_server_away,
)
from hashlight_node.store.leading import Place

from .sockets import close_all, listen_on

if TYPE_CHECKING:
    from collections.abc import Callable
    from socket import socket

    from hashlight_node.app import Behind, Claimed, Memory, Standby
    from hashlight_node.config import Settings
    from hashlight_node.store.database import Database

_LOOK_SECONDS: Final = 0.1
"""How often to look whether somebody else has the right to write."""

_AWAY_SECONDS: Final = 0.5
"""How long to wait for a database that went away before asking for it again."""

_log = structlog.get_logger()


async def run_shared(
    settings: Settings,
    stopping: asyncio.Event,
    ready: Callable[[], None],
    behind: Behind | None = None,
) -> None:
    """Stand by and lead, in turns, until told to stop.

    Args:
        settings: The node's.
        stopping: Set when this is to end.
        ready: Called once requests are answered.
        behind: What it has if workers answer lookups in front of it.

    Raises:
        KeyFileError: The keys cannot be used as they are.
        LastSignedError: What they signed last cannot be read, or another process of
            this machine has it.
        StoreError: The database cannot be used.
        OSError: An address cannot be bound.
        ExceptionGroup: A job met a mistake of ours.
    """
    with ExitStack() as stack:
        last_signed = LastSigned.open(settings.keys.last_signed)
        stack.callback(last_signed.close)
        federation = _listen(settings.federation.listen, stack)
        local = _listen(settings.local.listen, stack) if behind is None else []
        place = Place(
            host=settings.store.shared_at,
            # The workers' port, which is the one of the settings.
            local=_port_of(local) if local else split_address(settings.local.listen)[1],
            federation=_port_of(federation),
        )
        shared = Shared(
            settings=settings,
            clock=system_clock,
            last_signed=last_signed,
            place=place,
            local=local if behind is None else [behind.local],
            federation=federation,
            flood_counts=None if behind is None else behind.flood_counts,
        )
        await _Process(shared, stopping, ready, behind).run()


def _is_about_the_lead(error: Exception) -> bool:
    """Tell whether an error, or all of a group, says only that we do not lead."""
    if isinstance(error, ExceptionGroup):
        return all(_is_about_the_lead(one) for one in error.exceptions)
    is_told = isinstance(error, DatabaseInUseError | DatabaseUnavailableError)
    return is_told or is_server_away(error)


def _listen(address: str, stack: ExitStack) -> list[socket]:
    listening = listen_on(*split_address(address))
    stack.callback(close_all, listening)
    return listening


def _port_of(listening: list[socket]) -> int:
    port: int = listening[0].getsockname()[1]
    return port


class _Process:
    def __init__(
        self,
        shared: Shared,
        stopping: asyncio.Event,
        ready: Callable[[], None],
        behind: Behind | None,
    ) -> None:
        self._shared = shared
        self._stopping = stopping
        self._ready: Callable[[], None] | None = ready
        self._behind = behind
        self._has_given_up = False

    async def run(self) -> None:
        memory = None if self._behind is None else self._behind.memory
        while not self._stopping.is_set():
            try:
                await self._take_part(memory)
            except (DatabaseUnavailableError, OperationalError) as error:
                # At the very start that is for the operator to mend.
                if self._ready is not None or not _is_about_the_lead(error):
                    raise
                _log.warning("the database is away")
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._stopping.wait(), _AWAY_SECONDS)
            memory = None
        _log.info("node has stopped")

    async def _take_part(self, memory: Memory | None) -> None:
        """Stand by, and lead if it comes to that, once."""
        async with AsyncExitStack() as standing:
            standby = await standing.enter_async_context(stand_by(self._shared, memory))
            self._say_ready()
            claimed = await standby.wait(self._stopping)
            if claimed is not None:
                await self._lead(claimed, standby, standing)
            self._give_up_sockets_at_the_end()

    async def _lead(
        self, claimed: Claimed, standby: Standby, standing: AsyncExitStack
    ) -> None:
        """Be the node, until told to stop or until somebody else is."""
        settings = self._shared.settings
        try:
            async with start_node(
                settings, behind=self._behind, claimed=claimed
            ) as running:
                standby.is_up()
                await standing.aclose()
                _log.info("process leads", node=settings.node.name)
                await self._until_over(running.jobs, claimed.database)
                self._give_up_sockets_at_the_end()
        except (DatabaseInUseError, OperationalError, ExceptionGroup) as error:
            # Whatever wanted to write when another led already, or nobody could.
            if not _is_about_the_lead(error):
                raise
        finally:
            if claimed.database.has_lost_right():
                _log.error("another process leads", node=settings.node.name)
            await claimed.database.close()

    async def _until_over(self, jobs: asyncio.Task[None], database: Database) -> None:
        stopped = asyncio.create_task(self._stopping.wait())
        while not (stopped.done() or jobs.done() or database.has_lost_right()):
            await asyncio.wait(
                (stopped, jobs),
                timeout=_LOOK_SECONDS,
                return_when=asyncio.FIRST_COMPLETED,
            )
        stopped.cancel()

    def _give_up_sockets_at_the_end(self) -> None:
        """Let those who answer be the last to have them, if we are to stop."""
        if self._stopping.is_set() and not self._has_given_up:
            self._has_given_up = True
            _log.info("node is stopping")
            close_all([*self._shared.local, *self._shared.federation])

    def _say_ready(self) -> None:
        if self._ready is not None:
            self._ready()
            self._ready = None

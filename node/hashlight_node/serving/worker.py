"""One worker: a process that answers lookups, with a database that it only reads."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import TYPE_CHECKING, Final

import structlog
from sqlalchemy.exc import OperationalError

import hashlight_node
from hashlight_node.api.local.forwarding import open_forwarder, share_of
from hashlight_node.api.local.match_events import MatchSender
from hashlight_node.api.local.worker import build_counts, build_worker
from hashlight_node.api.server import start_server
from hashlight_node.app import (
    LOCAL_SHUTDOWN_SECONDS,
    follow_store,
    load_memory,
    system_clock,
)
from hashlight_node.exchange.errors import StoreSilentError
from hashlight_node.exchange.looking_up.match_log import MatchBuffer
from hashlight_node.metrics import Metrics
from hashlight_node.store import changes
from hashlight_node.store.database import Reader
from hashlight_node.store.errors import is_server_away
from hashlight_protocol import SPEC_VERSION

from .running import run_loop, told_by_supervisor
from .sockets import listen_inside, listen_together

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine

    from hashlight_node.app import Memory
    from hashlight_node.exchange.looking_up.live import LiveView

    from .running import Inherited

    _Chores = list[Coroutine[None, None, None]]

_FOLLOW_SECONDS: Final = 5
"""How often to look at the store although nobody asks: so that little is left to do
when somebody does, and erased hashes leave this memory too."""

_COUNTS_SHUTDOWN_SECONDS: Final = 1

_log = structlog.get_logger()


def run_worker(inherited: Inherited, number: int, ready: Callable[[], None]) -> None:
    """Answer lookups until the supervisor says to stop, or is gone.

    Args:
        inherited: From the supervisor.
        number: Of this worker, from 1.
        ready: Called once requests are answered.
    """
    run_loop(_work(inherited, number, ready))


async def _work(inherited: Inherited, number: int, ready: Callable[[], None]) -> None:
    stopping = told_by_supervisor(inherited.alive)
    async with _start(inherited, number) as chores:
        tasks = [asyncio.create_task(each) for each in (*chores, _wait(stopping))]
        ready()
        # A chore ends only with an error, which ends this worker.
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


async def _wait(stopping: asyncio.Event) -> None:
    await stopping.wait()


async def _follow(view: LiveView) -> None:
    while True:
        await asyncio.sleep(_FOLLOW_SECONDS)
        try:
            await view.lists()
        except StoreSilentError:
            continue  # Lookups say so meanwhile.
        except OperationalError as error:
            if not is_server_away(error):
                raise


@asynccontextmanager
async def _start(inherited: Inherited, number: int) -> AsyncIterator[_Chores]:
    """Answer requests for as long as the block lasts; then finish those under way.

    Yields:
        What has to be done meanwhile, for ever.
    """
    settings = inherited.settings
    async with AsyncExitStack() as stack:
        database = Reader.open_reader(settings.store.url)
        stack.push_async_callback(database.close)
        memory = await _current(inherited, database)
        lookups = await follow_store(
            settings,
            database,
            memory,
            clock=system_clock,
            flood_counts=inherited.flood_counts,
        )
        metrics = Metrics(version=hashlight_node.__version__, spec_version=SPEC_VERSION)
        share = share_of(settings.local.workers)
        forwarder = await stack.enter_async_context(
            open_forwarder(inherited.node_path, most=share)
        )
        chores: _Chores = [_follow(lookups.view)]
        match_log = None
        if settings.matching.log_matches:
            match_log = MatchBuffer(
                clock=system_clock, on_dropped=metrics.count_unlogged
            )
            sender = MatchSender(match_log, forwarder.session)
            stack.push_async_callback(sender.flush)
            chores.append(sender.run())
        counts = await start_server(
            build_counts(metrics),
            [listen_inside(inherited.counter_path(number))],
            shutdown_seconds=_COUNTS_SHUTDOWN_SECONDS,
            hang_up_cancels=True,
        )
        stack.push_async_callback(counts.cleanup)
        app = build_worker(
            lookups.parts(metrics, match_log),
            forwarder,
            version=hashlight_node.__version__,
            log_requests=settings.logging.requests,
        )
        runner = await start_server(
            app,
            listen_together(inherited.reserved),
            shutdown_seconds=LOCAL_SHUTDOWN_SECONDS,
            hang_up_cancels=True,  # The node finishes what it has begun.
        )
        stack.push_async_callback(runner.cleanup)
        yield chores


async def _current(inherited: Inherited, database: Reader) -> Memory:
    """Take the supervisor's memory if the feed still leads from there to here."""
    mark = inherited.memory.filled.mark
    if await database.read(lambda conn: changes.can_resume_at(conn, mark)):
        return inherited.memory
    _log.info("memory is filled anew", state="too-old")
    return await load_memory(inherited.settings, database)

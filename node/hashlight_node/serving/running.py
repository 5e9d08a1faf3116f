"""What every process of a node does around its work: its loop, its end, its word."""

from __future__ import annotations

import asyncio
import gc
import signal
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import structlog
import uvloop

import hashlight_node
from hashlight_node.app import start_node
from hashlight_node.observability import configure_logging

from .sharing import run_shared

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Coroutine
    from pathlib import Path

    from typing_extensions import Buffer

    from hashlight_node.app import Behind, Memory
    from hashlight_node.config import Settings

STOP: Final = signal.SIGUSR1
"""How a supervisor tells its children to stop. They ignore SIGTERM and SIGINT, which
service managers and terminals send to all processes at once: the node must answer what
workers passed on to it, so it stops after them, and only the supervisor knows when."""

_COLLECT_AFTER: Final = (50_000, 20, 20)
"""Objects more than before, and collections of the younger generation, after which a
generation is collected; Python's own are 700, 10 and 10."""

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Inherited:
    """What the supervisor's children have from before they were forked.

    Attributes:
        settings: The node's.
        memory: What was live when the supervisor started.
        flood_counts: Memory that stays shared: what all count matches in.
        reserved: Addresses on which workers listen.
        inside: Socket on which the node listens for workers.
        directory: Where the sockets of the processes are.
        alive: Pipe that ends with the supervisor.
    """

    settings: Settings
    memory: Memory
    flood_counts: Buffer
    reserved: list[socket.socket]
    inside: socket.socket
    directory: Path
    alive: int

    @property
    def node_path(self) -> Path:
        """Where `inside` is found by others."""
        return self.directory / "node"

    def counter_path(self, number: int) -> Path:
        """Where a worker, counted from 1, tells what it has counted."""
        return self.directory / f"worker-{number}"


def run_loop(work: Coroutine[None, None, None]) -> None:
    """Run a process's event loop until its work is done.

    Not on Windows, which has neither uvloop nor a loop that is told of signals.

    Raises:
        SystemExit: A job met a mistake of ours; the log says where.
    """
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            runner.run(work)
        except ExceptionGroup:
            _log.exception("node ends because a job failed")
            sys.exit(1)


def told_by_signal() -> asyncio.Event:
    """Give what is set by SIGTERM or SIGINT; a second one then ends the process."""
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()

    def stop() -> None:
        stopping.set()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop)
    return stopping


def told_by_supervisor(alive: int) -> asyncio.Event:
    """Give what is set once the supervisor says so, or is gone.

    Saying it again changes nothing: what was begun is finished.

    Args:
        alive: Pipe that ends with the supervisor.
    """
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()

    def is_gone() -> None:
        stopping.set()
        loop.remove_reader(alive)

    loop.add_signal_handler(STOP, stopping.set)
    loop.add_reader(alive, is_gone)
    return stopping


def run_alone(settings: Settings) -> None:
    """Run a node that answers lookups itself, until SIGTERM or SIGINT.

    Raises:
        KeyFileError: The keys cannot be used as they are.
        StoreError: The database cannot.
        OSError: An address cannot be bound.
        SystemExit: A job met a mistake of ours; the log says where.
    """
    configure_logging(settings.logging.level)

    async def work() -> None:
        stopping = told_by_signal()
        await _run(settings, stopping, lambda: announce(settings))

    run_loop(work())


def run_behind_workers(
    inherited: Inherited, behind: Behind, ready: Callable[[], None]
) -> None:
    """Run the node of a supervisor, until it says to stop or is gone.

    Args:
        inherited: From the supervisor.
        behind: What makes the node one that has workers in front.
        ready: Called once it answers.

    Raises:
        KeyFileError: As `run_alone`, and so on.
    """

    async def work() -> None:
        stopping = told_by_supervisor(inherited.alive)
        await _run(inherited.settings, stopping, ready, behind)

    run_loop(work())


async def _run(
    settings: Settings,
    stopping: asyncio.Event,
    ready: Callable[[], None],
    behind: Behind | None = None,
) -> None:
    run = run_shared if settings.store.shared_at else _run_node
    await run(settings, stopping, ready, behind)


async def _run_node(
    settings: Settings,
    stopping: asyncio.Event,
    ready: Callable[[], None],
    behind: Behind | None = None,
) -> None:
    async with start_node(settings, behind=behind) as running:
        _settle_memory()
        ready()
        signalled = asyncio.create_task(stopping.wait())
        await asyncio.wait(
            (signalled, running.jobs), return_when=asyncio.FIRST_COMPLETED
        )
        signalled.cancel()
        _log.info("node is stopping")
    _log.info("node has stopped")


def _settle_memory() -> None:
    """Have the collector of garbage look at what is new only, and less often.

    A batch of records is a hundred thousand objects that live for a moment and hold
    no cycles. With Python's thresholds each of them makes the collector walk over all
    that the program consists of, which took a sixth of the time of a copy.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_COLLECT_AFTER)


def announce(settings: Settings) -> None:
    """Say in the log that the node answers."""
    _log.info(
        "node is ready",
        node=settings.node.name,
        base=settings.node.base,
        federation=settings.federation.listen,
        local=settings.local.listen,
        version=hashlight_node.__version__,
    )

"""Keeps a copy of a node's live signals in step, and knows how current it is."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from . import clocks
from .errors import ChangesLostError, HashlightError
from .feed import follow_changes
from .values import Change

if TYPE_CHECKING:
    from collections.abc import Callable

    from .local_index import LocalIndex
    from .transport import Transport
    from .values import Current

SNAPSHOT: Final = "/v1/snapshot"

_APPLIED_TOGETHER: Final = 1000
_FORGET_SECONDS: Final = 60.0
"""How long something that died may stay in memory, more or less."""

_LATE_SECONDS: Final = 1.0
"""What the node says may always be this late without a new connection for it."""

_AHEAD_SECONDS: Final = 1.0
"""If the node's clock ran this much ahead of ours, ours has stood still."""


@dataclass(frozen=True, slots=True)
class Copy:
    """All live signals as they were at some moment.

    Attributes:
        index: What was live.
        pdq_threshold: Where near matches ended.
        current_at: When the node said that nothing was missing; `clocks.now`.
    """

    index: LocalIndex
    pdq_threshold: int
    current_at: float


class Follower:
    """Loads a node's snapshot and follows its changes, for as long as it runs.

    Args:
        transport: To the node.
        max_staleness_seconds: How old the copy may be.
    """

    def __init__(self, transport: Transport, *, max_staleness_seconds: float) -> None:
        self._transport = transport
        self._late_seconds = max(_LATE_SECONDS, max_staleness_seconds / 2)
        self._copy: Copy | None = None
        self._ready = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        # One thread, so that changes keep their order.
        self._changing = ThreadPoolExecutor(1, "hashlight-copy")
        self._forgotten_at = clocks.now()
        self._failures = 0

    @property
    def copy(self) -> Copy | None:
        """The copy; None until there is one, and while it is loaded anew."""
        return self._copy

    async def start(self) -> None:
        """Load the copy and return when it is current.

        Raises:
            HashlightError: It cannot be loaded.
        """
        task = self._task
        if task is None or task.done():
            task = self._task = asyncio.create_task(self._run())
        ready = asyncio.create_task(self._ready.wait())
        await asyncio.wait((ready, task), return_when=asyncio.FIRST_COMPLETED)
        ready.cancel()
        if task.done():
            task.result()

    async def close(self) -> None:
        """Stop following; the copy is given up."""
        task, self._task = self._task, None
        try:
            if task is not None and not task.done():
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
        finally:
            await asyncio.to_thread(self._changing.shutdown)
            await self._give_up_copy()

    async def _give_up_copy(self) -> None:
        copy, self._copy = self._copy, None
        if copy is not None:
            await asyncio.to_thread(copy.index.close)

    async def _run(self) -> None:
        while True:
            pause = 0.0
            try:
                await self._follow_once()
            except HashlightError as error:
                if isinstance(error, ChangesLostError):
                    await self._give_up_copy()
                elif not self._ready.is_set():
                    raise  # Whoever starts it is told.
                pause = self._transport.retries.next_pause_seconds(
                    self._failures, error
                )
            self._failures += 1
            await asyncio.sleep(pause)

    async def _follow_once(self) -> None:
        """Follow until something goes wrong.

        Returns when only a new connection can tell how current the copy is.
        """
        index = self._copy.index if self._copy else await self._load()
        waiting: list[Change] = []
        async with aclosing(follow_changes(self._transport, after=index.after)) as feed:
            async for news in feed:
                if isinstance(news, Change):
                    waiting.append(news)
                    if len(waiting) < _APPLIED_TOGETHER:
                        continue
                changes, waiting = waiting, []
                await self._change(lambda: index.apply(changes))  # noqa: B023 -- awaited
                if isinstance(news, Change):
                    continue
                late_seconds = clocks.now() - news.true_at
                if late_seconds < -_AHEAD_SECONDS:
                    return
                await self._mark(index, news)
                if late_seconds > self._late_seconds:
                    return

    async def _mark(self, index: LocalIndex, news: Current) -> None:
        true_at = min(news.true_at, clocks.now())
        self._copy = Copy(index, news.pdq_threshold, true_at)
        self._ready.set()
        self._failures = 0
        if index.dead and clocks.now() - self._forgotten_at >= _FORGET_SECONDS:
            self._forgotten_at = clocks.now()
            await self._change(index.forget_dead)

    async def _load(self) -> LocalIndex:
        raw = await self._transport.retries.run(self._fetch)
        from .local_index import LocalIndex  # noqa: PLC0415 -- with numpy and the kernel

        return await asyncio.to_thread(LocalIndex.from_snapshot, raw)

    async def _fetch(self) -> bytes:
        silence = self._transport.timeout_seconds
        async with self._transport.stream(
            "GET", SNAPSHOT, silence_seconds=silence
        ) as answer:
            return await answer.read()

    async def _change(self, work: Callable[[], None]) -> None:
        await asyncio.get_running_loop().run_in_executor(self._changing, work)

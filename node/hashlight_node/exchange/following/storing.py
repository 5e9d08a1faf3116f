"""Storing one batch of a copy while the next one is fetched and verified.

The database waits for the disk, and while it does the processor is free. At most two
batches are in memory: the one that is being stored, and the one that grows.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Self

from .copying import Batch

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from hashlight_protocol import Frontier

    from .copies import Meter
    from .copying import Copy
    from .transfer import VerifiedBundle


class Storing:
    """Collects verified bundles of a copy, in order, and stores them in batches.

    To be used with `async with`, at whose end nothing is being stored any more.

    Args:
        copy: Where to.
        frontier: Right edge of its tree.
        meter: Set to how many entries there are, as soon as there are.
        report: Told the same, where it cannot disturb what is being stored.

    Attributes:
        batch: What is collected and not yet being stored.
    """

    def __init__(
        self,
        copy: Copy,
        frontier: Frontier,
        *,
        meter: Meter,
        report: Callable[[int], None],
    ) -> None:
        self._copy = copy
        self._frontier = frontier
        self._meter = meter
        self._report = report
        self._running: asyncio.Task[Frontier] | None = None
        self.batch = Batch(frontier.size)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._running is None:
            return
        if error is None:
            await self.settle()
            return
        # What failed first is told. A batch that fails as well is not stored, and the
        # next pull begins with it; what it erased is scrubbed then.
        running, self._running = self._running, None
        await asyncio.wait({running})
        if not running.cancelled():
            running.exception()

    async def add(self, bundle: VerifiedBundle) -> None:
        """Append a bundle; if there was enough before it, begin to store that.

        Raises:
            ExchangeError: An earlier batch could not be stored; see `Copy.store`.
            ScrubError: As for `Copy.store`.
        """
        if self.batch.is_full:
            await self.store()
        self.batch.add(bundle)

    async def store(self) -> None:
        """Begin to store what was collected, once nothing is being stored any more.

        Raises:
            ExchangeError: As for `add`.
            ScrubError: As for `add`.
        """
        frontier = await self.settle()
        batch, self.batch = self.batch, Batch(frontier.size + len(self.batch.raw))
        self._running = asyncio.create_task(self._store(frontier, batch))

    async def settle(self) -> Frontier:
        """Wait until nothing is being stored.

        Returns:
            Right edge of what is stored.

        Raises:
            ExchangeError: As for `add`.
            ScrubError: As for `add`.
        """
        if self._running is not None:
            running, self._running = self._running, None
            self._frontier = await running
            self._report(self._frontier.size)
        return self._frontier

    async def _store(self, frontier: Frontier, batch: Batch) -> Frontier:
        grown = await self._copy.store(frontier, batch)
        self._meter.size = grown.size
        return grown

"""Turns: a copy of a list grows in one way at a time, by a pull or by an upload."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine

Result = TypeVar("Result")


class Turns:
    """Hands out turns, one at a time for each list of each peer.

    For one event loop; not thread-safe.
    """

    def __init__(self) -> None:
        self._locks: dict[tuple[str, str], asyncio.Lock] = {}

    @asynccontextmanager
    async def of(self, peer_name: str, list_name: str) -> AsyncIterator[None]:
        """Wait for the turn and hold it for as long as the block lasts."""
        # Kept for good: there is one for each list that was ever copied.
        async with self._locks.setdefault((peer_name, list_name), asyncio.Lock()):
            yield


async def unbroken(work: Coroutine[object, object, Result]) -> Result:
    """Await what must not go on behind the back of whoever has the next turn.

    A write that has begun commits although its caller hangs up. So a caller that is
    cancelled meanwhile ends only after it.
    """
    task = asyncio.create_task(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait((task,))
        raise

"""How much of one kind of work is taken on at a time, so that it cannot pile up.

A batch is up to a second of work. A few run in threads at the same time, some wait in
line, and one more is refused at once: whoever is told to come back can go elsewhere,
whoever waits in a line that grows cannot. Single lookups never stand in it. The largest
batches get in line again after some thousand hashes, so that others need not wait for
the whole of them.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from hashlight_node.api.errors import RateLimitedError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

_AT_ONCE: Final = 2
"""The search lets other threads run; judging and encoding do not. So one more than one
keeps the processor busy, and more would only take turns with the event loop."""

_IN_LINE: Final = 32
"""Batches in work or waiting. Of the largest ones that is about a second's work."""

RETRY_SECONDS: Final = 1

_PICTURES_AT_ONCE: Final = 4
"""Pictures are in memory while they are received and hashed, and unpacked then."""

_PICTURES_IN_LINE: Final = 32

_SNAPSHOTS_AT_ONCE: Final = 2
"""Each is made from a copy of what is in memory."""

_SNAPSHOTS_IN_LINE: Final = 8

_EVENT_STREAMS: Final = 200
"""Half of the connections that a listener has: what comes and goes has the others."""

_PATIENCE_SECONDS: Final = 5
"""How long somebody waits behind others who may take minutes."""

_LONG_RETRY_SECONDS: Final = 10


class Pressure:
    """A line of bounded length, with a few places to work at its head.

    For one event loop; not thread-safe.

    Args:
        at_once: Turns at the same time.
        in_line: Turns under way and waiting, beyond which nobody new gets in line.
        patience_seconds: How long somebody waits for a place; None for as long as it
            takes, where turns are short.
        retry_seconds: When somebody who was refused should come again.
    """

    def __init__(
        self,
        *,
        at_once: int = _AT_ONCE,
        in_line: int = _IN_LINE,
        patience_seconds: float | None = None,
        retry_seconds: int = RETRY_SECONDS,
    ) -> None:
        self._places = asyncio.Semaphore(at_once)
        self._in_line = in_line
        self._patience_seconds = patience_seconds
        self._retry_seconds = retry_seconds
        self._under_way = 0

    def check(self) -> None:
        """Check that there is room for one more; before its body is read.

        Raises:
            RateLimitedError: There is not.
        """
        if self._under_way >= self._in_line:
            raise RateLimitedError(self._retry_seconds)

    @asynccontextmanager
    async def turn(self, *, is_new: bool = True) -> AsyncIterator[None]:
        """Wait in line for a place, and hold it.

        Args:
            is_new: Whether this is the first turn of a request. One that was let in
                is never refused half way; it waits.

        Raises:
            RateLimitedError: The line is full, or does not move.
        """
        if is_new:
            self.check()
        self._under_way += 1
        try:
            await self._wait_for_place()
            try:
                yield
            finally:
                self._places.release()
        finally:
            self._under_way -= 1

    async def _wait_for_place(self) -> None:
        try:
            async with asyncio.timeout(self._patience_seconds):
                await self._places.acquire()
        except TimeoutError:
            raise RateLimitedError(self._retry_seconds) from None


def for_pictures() -> Pressure:
    """Make the line of pictures that are received and looked up."""
    return Pressure(
        at_once=_PICTURES_AT_ONCE,
        in_line=_PICTURES_IN_LINE,
        patience_seconds=_PATIENCE_SECONDS,
    )


def for_snapshots() -> Pressure:
    """Make the line of snapshots that are made and sent."""
    return Pressure(
        at_once=_SNAPSHOTS_AT_ONCE,
        in_line=_SNAPSHOTS_IN_LINE,
        patience_seconds=_PATIENCE_SECONDS,
        retry_seconds=_LONG_RETRY_SECONDS,
    )


def for_event_streams() -> Pressure:
    """Make the line of event streams, in which nobody waits: they last for hours."""
    return Pressure(
        at_once=_EVENT_STREAMS,
        in_line=_EVENT_STREAMS,
        retry_seconds=_LONG_RETRY_SECONDS,
    )

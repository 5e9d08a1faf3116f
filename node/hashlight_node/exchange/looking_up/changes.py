"""Following what becomes live or dead, for programs that keep a copy of their own.

The store's feed is what is read; being woken only says that there is more. So a reader
that is slow holds up nobody and takes no memory but a page, and one that comes back
goes on where it stopped.
"""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

from hashlight_node.store import changes

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from hashlight_node.model import Clock, FeedMark, SignalChange
    from hashlight_node.store.database import Connection, Database

_PAGE: Final = 1000
"""Changes read at a time: what one reader may hold in memory."""

HEARTBEAT_SECONDS: Final = 15
"""Silence after which a reader is told that there is no news."""

_DAY_SECONDS: Final = 86_400


class News(NamedTuple):
    """What a reader is told.

    Attributes:
        mark: Up to which row of the feed it knows everything when it has read this.
        changes: By row; empty if there is no news.
        is_reset: What it knew is not enough to go on from: it has to load a snapshot
            that ends at `mark` or later.
        is_current: There was nothing behind `mark` when this was read. Somebody who
            answers from a copy must know that the copy was whole, and when.
        read_at_ms: When the store was asked at the earliest, in milliseconds of a clock
            that only goes forward; differences between news say something, no more.
    """

    mark: FeedMark
    changes: Sequence[tuple[FeedMark, SignalChange]] = ()
    is_reset: bool = False
    is_current: bool = False
    read_at_ms: int = 0


class Feed:
    """Gives what becomes live or dead to any number of readers. For one event loop.

    Args:
        database: The store.
        clock: Unix seconds.
        kept_days: How long changes are kept for readers that are away.
    """

    def __init__(self, database: Database, *, clock: Clock, kept_days: int) -> None:
        self._database = database
        self._clock = clock
        self._kept_seconds = kept_days * _DAY_SECONDS
        self._loop = asyncio.get_running_loop()
        self._changed = asyncio.Event()
        self._is_closed = False

    def follow(self, applied: Sequence[SignalChange]) -> None:
        """Wake all readers; to be called by the store's writer after a commit."""
        del applied
        self._loop.call_soon_threadsafe(self._wake)

    def close(self) -> None:
        """End all readers, and those that are still to come."""
        self._is_closed = True
        self._wake()

    async def read(self, after: FeedMark | None) -> AsyncGenerator[News, None]:
        """Read the feed from some point on, for ever.

        Args:
            after: Row up to which the reader knows everything; None for the newest.

        Yields:
            At once where the reader stands; then what changes, as soon as it does, and
            every `HEARTBEAT_SECONDS` that nothing did. Once it has caught up, it is
            told so. Ends when the node stops.
        """
        news = await self._database.read(lambda conn: _stand(conn, after))
        yield news
        is_told = False
        while not self._is_closed:
            # Whoever changes something from here on sets this event.
            changed = self._changed
            asked = partial(_next, mark=news.mark, read_at_ms=_now_ms())
            news = await self._database.read(asked)
            if is_told and not news.changes and not news.is_reset:
                await _wait(changed)
                if changed.is_set():
                    continue
            is_told = news.is_current
            yield news

    async def prune(self) -> None:
        """Forget changes that are too old to go on from."""
        before = self._clock() - self._kept_seconds
        while await self._database.write(
            lambda conn: changes.prune_changes(conn, before)
        ):
            pass

    def _wake(self) -> None:
        self._changed.set()
        if not self._is_closed:
            self._changed = asyncio.Event()


def _stand(conn: Connection, after: FeedMark | None) -> News:
    newest = changes.newest_mark(conn)
    if after is None:
        return News(newest)
    if changes.can_resume_at(conn, after):
        return News(after)
    return News(newest, is_reset=True)


def _next(conn: Connection, mark: FeedMark, read_at_ms: int) -> News:
    rows = changes.marked_changes_after(conn, mark.seq, _PAGE)
    if not rows:
        return News(mark, is_current=True, read_at_ms=read_at_ms)
    if rows[0][0].seq != mark.seq + 1:
        # The reader was so slow that what it had to read next is gone.
        return News(changes.newest_mark(conn), is_reset=True)
    is_current = len(rows) < _PAGE
    return News(rows[-1][0], rows, is_current=is_current, read_at_ms=read_at_ms)


def _now_ms() -> int:
    return time.monotonic_ns() // 1_000_000


async def _wait(event: asyncio.Event) -> None:
    try:
        async with asyncio.timeout(HEARTBEAT_SECONDS):
            await event.wait()
    except TimeoutError:
        return

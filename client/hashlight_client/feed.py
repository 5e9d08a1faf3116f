"""The feed of changes: one endless answer after the other, without a gap."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING, Final, NamedTuple

from . import clocks
from .decoding import EVENT_ID, decode_change
from .errors import ChangesLostError, NodeUnreachableError, ProblemError
from .events import EventReader
from .retrying import passes
from .values import Current

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from .transport import Transport
    from .values import Change

PATH: Final = "/v1/changes"
HEADERS: Final = {"Accept": "text/event-stream"}
RESET: Final = "reset"

SILENCE_SECONDS: Final = 45.0
"""Three times as long as a node ever says nothing; then the connection is dead."""


class _Heard(NamedTuple):
    """Something that the node sent, and where the feed is to be resumed."""

    after: str | None
    news: Change | Current | None


class _Dating:
    """Tells when at the earliest the node said something on one connection.

    The node answers after it was asked, and its clock says how much later than its
    first word another one is. When that is *read* says nothing: this process may have
    stood still, and what it reads then is old.
    """

    def __init__(self) -> None:
        self._asked_at = clocks.now()
        self._first_ms: int | None = None

    def date(self, current: Current) -> Current:
        """Add by our clock when it was true."""
        if self._first_ms is None:
            self._first_ms = current.clock_ms
        since_seconds = (current.clock_ms - self._first_ms) / 1000
        return replace(current, true_at=self._asked_at + since_seconds)


async def follow_changes(
    transport: Transport, *, after: str | None
) -> AsyncGenerator[Change | Current, None]:
    """Follow the changes for ever, over as many connections as it takes.

    Args:
        transport: To the node.
        after: Id of the last change that is known; None to begin with the next.

    Yields:
        Changes in their order, each once; and `Current` whenever the node says that
        there are no more at the moment.

    Raises:
        ChangesLostError: The node no longer knows what changed since then.
        HashlightError: The node was away for longer than our patience, or refuses.
    """
    loop = asyncio.get_running_loop()
    retries = transport.retries
    failures, alive_at = 0, loop.time()
    while True:
        try:
            async with aclosing(_read_feed(transport, after)) as feed:
                async for event in feed:
                    failures, alive_at = 0, loop.time()
                    after = event.after
                    if event.news is not None:
                        yield event.news
        except (NodeUnreachableError, ProblemError) as error:
            is_over = loop.time() - alive_at >= retries.patience_seconds
            if is_over or not passes(error):
                raise
            pause = retries.next_pause_seconds(failures, error)
        else:
            # The node stops, and is perhaps started again.
            pause = retries.next_pause_seconds(failures, None)
        failures += 1
        await asyncio.sleep(pause)


async def _read_feed(
    transport: Transport, after: str | None
) -> AsyncGenerator[_Heard, None]:
    """Read one answer to its end."""
    sent = dict(HEADERS)
    if after is not None:
        sent["Last-Event-ID"] = after
    dating = _Dating()
    async with transport.stream(
        "GET", PATH, None, sent, silence_seconds=SILENCE_SECONDS
    ) as answer:
        reader = EventReader()
        async for data in answer.content.iter_any():
            for event in reader.feed(data):
                if event.name == RESET:
                    raise ChangesLostError(after)
                news = decode_change(event) if event.name else None
                if event.id is not None and EVENT_ID.fullmatch(event.id):
                    # Even before the first change: a gap would begin here.
                    after = event.id
                if isinstance(news, Current):
                    news = dating.date(news)
                yield _Heard(after, news)

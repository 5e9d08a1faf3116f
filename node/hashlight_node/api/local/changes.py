"""What is live, whole and as it changes, for programs that keep a copy of their own."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING, Final

import orjson

from hashlight_node.model import FeedMark, Scope
from hashlight_node.store import tokens

from .answers import StreamedAnswer
from .models.changes import Current, SignalDied, SignalLive
from .operations import NO_BODY, Call, operation

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator

    from hashlight_node.exchange.looking_up.changes import News
    from hashlight_node.model import SignalChange

EVENT_STREAM: Final = "text/event-stream"
SNAPSHOT: Final = "application/octet-stream"


@operation(
    "GET",
    "/v1/changes{?after}",
    scope=Scope.LOOKUP,
    takes=NO_BODY,
    gives=StreamedAnswer(EVENT_STREAM, SignalLive, SignalDied, Current),
)
async def follow_changes(call: Call[None]) -> AsyncGenerator[bytes, None]:
    """Follow what becomes live or dead, as server-sent events.

    Each event's `id` is where to go on after it, as `Last-Event-ID` or `after`, and 0
    is the beginning; without either, the stream begins with what changes next. `live`
    says that a signal became known, `dead` that nobody asserts it any more; a signal
    may be said again. `reset` says that what lies in between is not known here, or not
    any more: load `/v1/snapshot` and go on from there. `current` says that there was
    nothing behind its id at its `clock_ms`, and how far PDQ hashes may be apart to
    match; it comes at least every 15 seconds.
    """
    after = call.query.get("after")
    return _events(call, None if after is None else FeedMark.parse(after))


@operation(
    "GET",
    "/v1/snapshot",
    scope=Scope.LOOKUP,
    takes=NO_BODY,
    gives=StreamedAnswer(SNAPSHOT),
)
async def get_snapshot(call: Call[None]) -> AsyncGenerator[bytes, None]:
    """Give everything that is live as one file, to be followed by `/v1/changes`.

    The file is described in `docs/local-api.md`. It holds signals only; what they mean
    is what a lookup says.
    """
    return _snapshot(call)


async def _events(
    call: Call[None], after: FeedMark | None
) -> AsyncGenerator[bytes, None]:
    stream = call.parts.feed.read(after)
    async with call.parts.event_streams.turn(), aclosing(stream):
        async for news in stream:
            if not await _is_still_valid(call):
                return
            yield _write_news(news, call.parts.matcher.pdq_threshold)


async def _is_still_valid(call: Call[None]) -> bool:
    """Tell whether the caller's token was not revoked since the stream began."""
    return call.token in await call.parts.database.read(tokens.list_tokens)


def _write_news(news: News, pdq_threshold: int) -> bytes:
    event_id = news.mark.event_id.encode()
    if news.is_reset:
        return b"event: reset\nid: %b\ndata: {}\n\n" % event_id
    written = [_write_change(mark, change) for mark, change in news.changes]
    if news.is_current:
        current: Current = {
            "pdq_threshold": pdq_threshold,
            "clock_ms": news.read_at_ms,
        }
        event = b"event: current\nid: %b\ndata: %b\n\n"
        written.append(event % (event_id, orjson.dumps(current)))
    elif not written:
        # An id without data is no event, but clients remember it.
        written.append(b": nothing new\nid: %b\n\n" % event_id)
    return b"".join(written)


def _write_change(mark: FeedMark, change: SignalChange) -> bytes:
    event_id = mark.event_id.encode()
    if not change.live:
        died: SignalDied = {"signal_id": change.signal_id}
        return b"event: dead\nid: %b\ndata: %b\n\n" % (event_id, orjson.dumps(died))
    live: SignalLive = {
        "signal_id": change.signal_id,
        "type": change.type,
        "value": change.value,
    }
    return b"event: live\nid: %b\ndata: %b\n\n" % (event_id, orjson.dumps(live))


async def _snapshot(call: Call[None]) -> AsyncGenerator[bytes, None]:
    # Whoever reads slowly holds a place; others are told to come back.
    async with (
        call.parts.snapshots_sent.turn(),
        call.parts.snapshots.export() as pieces,
    ):
        while piece := await asyncio.to_thread(_next_piece, pieces):
            yield piece


def _next_piece(pieces: Iterator[bytes]) -> bytes:
    return next(pieces, b"")


OPERATIONS: Final = (follow_changes, get_snapshot)

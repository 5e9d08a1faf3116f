"""Bytes of a request, read within bounds: size, time and form are known before use."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from aiohttp import HttpVersion11, web
from aiohttp.http_exceptions import HttpProcessingError

from hashlight_node.api.errors import (
    InvalidParameterError,
    SlowBodyError,
    UnsupportedMediaError,
)
from hashlight_protocol import MalformedError, TooLargeError

from .strict_json import WHAT

if TYPE_CHECKING:
    from multidict import CIMultiDictProxy

WHOLE_BODY: Final = web.RequestKey("whole_body", bytes)
"""The body of a request from which it was read already."""

BODY_SECONDS: Final = 30
"""Time for a whole body: callers are on this machine or beside it."""

PACE_SECONDS: Final = 2
PACE_BYTES: Final = 1_048_576
"""What a body that holds up others may take to begin, and how much must then come each
second on average."""


async def read_body(
    request: web.Request, *, max_bytes: int, at_pace: bool = False
) -> bytes:
    """Read a body that is not compressed, and no more of it than is allowed.

    A body that declares itself too large is refused before a byte of it is read.

    Args:
        request: Its `Content-Type` was checked already.
        max_bytes: Largest body.
        at_pace: Whether it has to come at a pace, because others wait behind it.

    Raises:
        UnsupportedMediaError: It is compressed. A few kilobytes can unpack to
            gigabytes, and between neighbours compression gains nothing.
        TooLargeError: It has more bytes.
        SlowBodyError: It did not arrive within `BODY_SECONDS`, or not at the pace.
        MalformedError: Its framing (chunks, length) is broken.
    """
    coding = single_header(request.headers, "Content-Encoding")
    if coding is not None and coding.lower() != "identity":
        expected = "sent without a content coding"
        raise UnsupportedMediaError(expected)
    if (request.content_length or 0) > max_bytes:
        raise TooLargeError(WHAT, max_bytes)
    await invite_body(request)
    try:
        if request.content.is_eof():
            # It came with the header, as small ones do: there is nothing to wait for.
            rest = request.content.read_nowait()
            return _within(max_bytes, request.get(WHOLE_BODY, b"") + rest)
        return await _read_stream(request, max_bytes, at_pace=at_pace)
    except HttpProcessingError as error:
        raise MalformedError(WHAT, "its framing is broken") from error


def _within(max_bytes: int, body: bytes) -> bytes:
    if len(body) > max_bytes:
        raise TooLargeError(WHAT, max_bytes)
    return body


async def _read_stream(request: web.Request, max_bytes: int, *, at_pace: bool) -> bytes:
    chunks: list[bytes] = []
    read_bytes = 0
    allowed = min(PACE_SECONDS, BODY_SECONDS) if at_pace else BODY_SECONDS
    began = asyncio.get_running_loop().time()
    try:
        async with asyncio.timeout_at(began + allowed) as limit:
            while chunk := await request.content.readany():
                read_bytes += len(chunk)
                if read_bytes > max_bytes:
                    raise TooLargeError(WHAT, max_bytes)
                chunks.append(chunk)
                if at_pace:
                    earned = PACE_SECONDS + read_bytes // PACE_BYTES
                    allowed = min(earned, BODY_SECONDS)
                    limit.reschedule(began + allowed)
    except TimeoutError as error:
        raise SlowBodyError(allowed) from error
    return b"".join(chunks)


async def expect_later(request: web.Request) -> None:
    """Let a handler decide about `Expect`; given to aiohttp for every route.

    aiohttp itself would invite the body before the handler has looked at the token.
    """
    del request


async def invite_body(request: web.Request) -> None:
    """Tell a caller who waits for it that its body will be read.

    Raises:
        HTTPExpectationFailed: It expects something else.
    """
    expectation = request.headers.get("Expect")
    if expectation is None or request.version != HttpVersion11:
        return
    if expectation.lower() != "100-continue":
        raise web.HTTPExpectationFailed
    await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    request.writer.output_size = 0  # It is no part of the response.


def single_header(headers: CIMultiDictProxy[str], name: str) -> str | None:
    """Give a header that must not be repeated, None if it is missing.

    Raises:
        InvalidParameterError: It is there twice, so two readers might disagree.
    """
    values = headers.getall(name, [])
    if len(values) > 1:
        raise InvalidParameterError(name, "is given more than once")
    return values[0] if values else None


def media_type(request: web.Request) -> str:
    """Give the body's type in lower case without parameters, `` if it is not said.

    Raises:
        InvalidParameterError: It is said twice.
    """
    value = single_header(request.headers, "Content-Type") or ""
    return value.partition(";")[0].strip().lower()

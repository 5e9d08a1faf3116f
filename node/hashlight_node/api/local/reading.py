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

BODY_SECONDS: Final = 30
"""Time for a whole body: callers are on this machine or beside it."""


async def read_body(request: web.Request, *, max_bytes: int) -> bytes:
    """Read a body that is not compressed, and no more of it than is allowed.

    A body that declares itself too large is refused before a byte of it is read.

    Args:
        request: Its `Content-Type` was checked already.
        max_bytes: Largest body.

    Raises:
        UnsupportedMediaError: It is compressed. A few kilobytes can unpack to
            gigabytes, and between neighbours compression gains nothing.
        TooLargeError: It has more bytes.
        SlowBodyError: It did not arrive within `BODY_SECONDS`.
        MalformedError: Its framing (chunks, length) is broken.
    """
    coding = single_header(request.headers, "Content-Encoding")
    if coding is not None and coding.lower() != "identity":
        expected = "sent without a content coding"
        raise UnsupportedMediaError(expected)
    if (request.content_length or 0) > max_bytes:
        raise TooLargeError(WHAT, max_bytes)
    await _continue(request)
    try:
        async with asyncio.timeout(BODY_SECONDS):
            return await _read_stream(request, max_bytes)
    except TimeoutError as error:
        raise SlowBodyError(BODY_SECONDS) from error
    except HttpProcessingError as error:
        raise MalformedError(WHAT, "its framing is broken") from error


async def _read_stream(request: web.Request, max_bytes: int) -> bytes:
    chunks: list[bytes] = []
    read_bytes = 0
    while chunk := await request.content.readany():
        read_bytes += len(chunk)
        if read_bytes > max_bytes:
            raise TooLargeError(WHAT, max_bytes)
        chunks.append(chunk)
    return b"".join(chunks)


async def expect_later(request: web.Request) -> None:
    """Let a handler decide about `Expect`; given to aiohttp for every route.

    aiohttp itself would invite the body before the handler has looked at the token.
    """
    del request


async def _continue(request: web.Request) -> None:
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

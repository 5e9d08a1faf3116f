"""How the listener for peers writes its answers.

Everything but the descriptor is `private`: what one peer may have is nobody else's,
so no shared cache may keep it.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from aiohttp import web

from hashlight_node.exchange.logs.representations import (
    coded_tag,
    encode_content,
    etag_of,
)

from .negotiation import (
    choose_coding,
    known_versions,
    names_tag,
    wanted_wait_seconds,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from hashlight_node.exchange.answering.static_files import StaticFile

TEXT: Final = "text/plain; charset=utf-8"
BYTES: Final = "application/octet-stream"

_IMMUTABLE: Final = "private, max-age=31536000, immutable"
_REVALIDATED: Final = "private, no-cache"
NOT_KEPT: Final = "private, no-store"

_NOT_MODIFIED: Final = 304
STATIC_PREFIX: Final = "/hashlight-static/"
"""Where a proxy has our files: only for itself, never for whoever asks it."""

SENT_BY_PROXY: Final = web.RequestKey("sent_by_proxy", int)
"""Bytes of an answer that a proxy sends in our place."""

_ABOUT_VERSIONS: Final = (
    "If-Match",
    "If-Modified-Since",
    "If-None-Match",
    "If-Range",
    "If-Unmodified-Since",
    "Range",
)

# Above this, compressing takes longer than handing the work to a thread.
_THREAD_BYTES: Final = 64 * 1024


def note_response(note: bytes, *, cache_control: str = _REVALIDATED) -> web.Response:
    """Answer with a signed note and the name of its version."""
    headers = {
        "Content-Type": TEXT,
        "Cache-Control": cache_control,
        "ETag": etag_of(note),
    }
    return web.Response(body=note, headers=headers)


def immutable_response(content: bytes) -> web.Response:
    """Answer with what can never change: a tile or an entry bundle of one width."""
    headers = {"Content-Type": BYTES, "Cache-Control": _IMMUTABLE}
    return web.Response(body=content, headers=headers)


def is_file_wanted(request: web.Request) -> bool:
    """Tell whether the proxy that handed a request on would send a file for us.

    It says so in a field of which it lets no other value pass; a peer that says so
    itself gets an answer without content, and nothing that it may not have. What the
    proxy would answer otherwise than we do, by what it knows of files, it is not asked.
    """
    return (
        request.method == "GET"
        and request.headers.get("X-Sendfile-Type") == "X-Accel-Redirect"
        and request.headers.keys().isdisjoint(_ABOUT_VERSIONS)
    )


def file_response(request: web.Request, file: StaticFile) -> web.Response:
    """Answer with the head of an answer, and where a proxy finds the content."""
    request[SENT_BY_PROXY] = file.size_bytes
    headers = {"X-Accel-Redirect": STATIC_PREFIX + file.path, "Content-Type": BYTES}
    if file.tag is None:
        headers["Cache-Control"] = _IMMUTABLE
    else:
        headers |= {"Cache-Control": _REVALIDATED, "ETag": file.tag}
        headers["Vary"] = "Accept-Encoding"
        if file.coding != "identity":
            headers["Content-Encoding"] = file.coding
    return web.Response(headers=headers)


async def poll_response(
    request: web.Request, wait: Callable[[str | None, int], Awaitable[bytes | None]]
) -> web.Response:
    """Answer with a note that changes, now or when it is another than the peer has.

    Args:
        request: May have If-None-Match, and then `Prefer: wait`.
        wait: Gives the note once none of these versions is it, or None after these
            seconds.

    Source: RFC 7240 section 4.3; SPEC.md#long-poll.
    """
    known = known_versions(request)
    seconds = wanted_wait_seconds(request) if known else 0
    note = await wait(known, seconds)
    if note is None:
        # A 304 names the version too; whoever said several wants to know which.
        note = await wait(None, 0)
        assert note is not None  # noqa: S101 -- who has nothing is always answered
    response = note_response(note)
    if names_tag(known, response.headers["ETag"]):
        headers = {name: response.headers[name] for name in ("Cache-Control", "ETag")}
        response = web.Response(status=_NOT_MODIFIED, headers=headers)
    if seconds:
        response.headers["Preference-Applied"] = f"wait={seconds}"
    return response


async def revalidated_response(request: web.Request, content: bytes) -> web.Response:
    """Answer with bytes that may change, compressed as the peer likes.

    Source: RFC 9110 sections 8.8.3 and 12.5.3; SPEC.md#body-bundles.
    """
    coding = choose_coding(request)
    tag = coded_tag(etag_of(content), coding)
    headers = {"Cache-Control": _REVALIDATED, "ETag": tag, "Vary": "Accept-Encoding"}
    if names_tag(known_versions(request), tag):
        return web.Response(status=_NOT_MODIFIED, headers=headers)
    if coding == "identity":
        return web.Response(body=content, headers={**headers, "Content-Type": BYTES})
    headers |= {"Content-Type": BYTES, "Content-Encoding": coding}
    if len(content) > _THREAD_BYTES:
        coded = await asyncio.to_thread(encode_content, content, coding)
    else:
        coded = encode_content(content, coding)
    return web.Response(body=coded, headers=headers)

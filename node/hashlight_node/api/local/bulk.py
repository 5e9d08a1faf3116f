"""Looking up many hashes as bare bytes: for scans, and for services that batch."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final, NamedTuple

import orjson
from typing_extensions import override

from hashlight_node.api.errors import Fault, InvalidBodyError, UnsupportedMediaError
from hashlight_node.model import Purpose, Scope
from hashlight_protocol import TooLargeError

from .answers import StreamedAnswer
from .bodies import Received, Takes
from .lookup import count_flooded, is_large, show_match
from .models.lookup import BulkResultShown
from .operations import Call, operation
from .parts import PARTS
from .reading import media_type, read_body

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping, Sequence

    from aiohttp import web

    from hashlight_node.exchange.looking_up.lookup import Numbered

    from .bodies import SchemaOf
    from .parts import LocalLimits

MAX_HASHES: Final = 32_768
"""Hashes in one request, 1 MiB of them."""

HASH_BYTES: Final = 32

OCTETS: Final = "application/octet-stream"
NDJSON: Final = "application/x-ndjson"

_SLICE: Final = 512
"""Hashes searched in one go: some milliseconds, so that others get their turn."""

_SLICES_A_TURN: Final = 8
"""So that under load what came first is done first, and only giants get in line again:
if all took turns after each slice, all would end late."""

_TURN_BYTES: Final = 1_048_576
"""Of lines, after which a turn ends early: they are all in memory until then."""

_FEW: Final = 16
"""Lines written on the event loop, if they are short; more go to a thread."""


class _How(NamedTuple):
    """What a caller asked for beside the hashes."""

    max_distance: int | None
    purpose: Purpose


class HashesBody(Takes[bytes]):
    """PDQ hashes, 32 bytes each, one after the other."""

    @override
    def content(self, schema_of: SchemaOf) -> Mapping[str, object]:
        return {OCTETS: {"schema": {}}}

    @override
    async def read(self, request: web.Request, limits: LocalLimits) -> Received[bytes]:
        if media_type(request) != OCTETS:
            raise UnsupportedMediaError(OCTETS)
        request.app[PARTS].pressure.check()
        max_bytes = MAX_HASHES * HASH_BYTES
        if (request.content_length or 0) > max_bytes:
            raise TooLargeError("request body", max_bytes)
        raw = await read_body(request, max_bytes=max_bytes)
        if not raw or len(raw) % HASH_BYTES:
            reason = f"it must be a multiple of {HASH_BYTES} bytes, and not empty"
            raise InvalidBodyError((Fault("", reason),))
        return Received(raw, b"")


@operation(
    "POST",
    "/v1/lookup/pdq{?max_distance,purpose}",
    scope=Scope.LOOKUP,
    takes=HashesBody(),
    gives=StreamedAnswer(NDJSON, BulkResultShown),
)
async def look_up_hashes(call: Call[bytes]) -> AsyncGenerator[bytes, None]:
    """Look up to 32,768 PDQ hashes up, given as 32 bytes each.

    One line of JSON for each hash that matches, in order, with its `index` in the
    request; hashes without a line are not known. An answer that ends early ends without
    the end that HTTP demands.
    """
    given = call.query.get("max_distance")
    how = _How(
        max_distance=None if given is None else int(given),
        purpose=Purpose(call.query.get("purpose", Purpose.UPLOAD)),
    )
    return _lines(call, how)


async def _lines(call: Call[bytes], how: _How) -> AsyncGenerator[bytes, None]:
    left = call.body
    while left:
        lines: list[bytes] = []
        async with call.parts.pressure.turn(is_new=left is call.body):
            for _ in range(_SLICES_A_TURN):
                first = (len(call.body) - len(left)) // HASH_BYTES
                some, left = left[: _SLICE * HASH_BYTES], left[_SLICE * HASH_BYTES :]
                lines.append(await _look_up(call, some, first, how))
                if not left or sum(map(len, lines)) > _TURN_BYTES:
                    break
        # Out of turn: a caller who reads slowly holds up nobody.
        piece = b"".join(lines)
        if piece:
            yield piece


async def _look_up(call: Call[bytes], digests: bytes, first: int, how: _How) -> bytes:
    """Look a slice up and write its lines; `first` is its first hash's index."""
    began = time.perf_counter()
    found = await call.parts.lookup.lookup_hashes(
        digests, max_distance=how.max_distance, purpose=how.purpose
    )
    seconds = time.perf_counter() - began
    matched = sum(bool(it.result.matches) for it in found)
    call.parts.metrics.observe_lookup(
        matched=matched,
        unmatched=len(digests) // HASH_BYTES - matched,
        seconds=seconds,
    )
    flooded = count_flooded(it.result for it in found)
    call.parts.metrics.count_flooded(flooded)
    if len(found) > _FEW or is_large(it.result for it in found):
        return await asyncio.to_thread(_write, found, first)
    return _write(found, first)


def _write(found: Sequence[Numbered], first: int) -> bytes:
    return b"".join(
        orjson.dumps(_show(it, first), option=orjson.OPT_APPEND_NEWLINE) for it in found
    )


def _show(numbered: Numbered, first: int) -> BulkResultShown:
    return {
        "index": first + numbered.position,
        "handling": numbered.result.handling,
        "matches": [show_match(match) for match in numbered.result.matches],
        "truncated": numbered.result.truncated,
    }


OPERATIONS: Final = (look_up_hashes,)

"""Asking whether content is known: by signals, or by the picture itself."""

from __future__ import annotations

import asyncio
import time
from contextlib import nullcontext
from typing import TYPE_CHECKING, Final, cast

import orjson
from typing_extensions import override

from hashlight_node.api.errors import (
    Fault,
    InvalidBodyError,
    UnsupportedMediaError,
)
from hashlight_node.exchange.looking_up.as_of import MAX_QUERIES as MAX_PAST_QUERIES
from hashlight_node.matching.image import ImageRefusedError
from hashlight_node.matching.policy import Because
from hashlight_node.model import Purpose, Scope
from hashlight_protocol import MalformedError, parse_timestamp

from .answers import JsonAnswer
from .bodies import JsonBody, Received, Takes
from .instants import optional_instant
from .models.lookup import (
    ImageLookupAnswer,
    ImageUpload,
    LookupAnswer,
    LookupRequest,
)
from .multipart import read_field
from .operations import Call, operation
from .parts import PARTS
from .queries import parse_queries
from .reading import media_type, read_body

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager

    from aiohttp import web

    from hashlight_node.exchange.looking_up.as_of import PastAnswer
    from hashlight_node.exchange.looking_up.lookup import ListState
    from hashlight_node.exchange.looking_up.lookup import LookupAnswer as Found
    from hashlight_node.matching.judging import LookupResult, Match
    from hashlight_node.metrics import Metrics
    from hashlight_node.model import RecordEvidence
    from hashlight_node.store.history import PastState
    from hashlight_protocol import Signal

    from .bodies import SchemaOf
    from .models.lookup import (
        LabelShown,
        ListShown,
        MatchShown,
        RecordShown,
        ResultShown,
        SignalShown,
    )
    from .parts import LocalLimits

_FEW_PARTS: Final = 1500
"""Results, matches and records written on the event loop, some milliseconds of work;
more go to a thread."""

LOOKUP_BYTES: Final = 1_048_576
"""A thousand hashes take 100 kB; the rest is for addresses, which are longer."""

IMAGE_FIELD: Final = "image"

_MULTIPART: Final = "multipart/form-data"
_MULTIPART_BYTES: Final = 65_536
"""What a form may have around the picture."""


class PictureBody(Takes[bytes]):
    """A picture's file, bare or as the field `image` of a form."""

    models = (ImageUpload,)

    @override
    def slot(self, app: web.Application) -> AbstractAsyncContextManager[None]:
        return app[PARTS].pictures.turn()

    @override
    def content(self, schema_of: SchemaOf) -> Mapping[str, object]:
        return {
            "image/*": {"schema": {}},
            _MULTIPART: {"schema": schema_of(ImageUpload)},
        }

    @override
    async def read(self, request: web.Request, limits: LocalLimits) -> Received[bytes]:
        given = media_type(request)
        if given == _MULTIPART:
            max_bytes = limits.image_bytes + _MULTIPART_BYTES
            form = await read_body(request, max_bytes=max_bytes, at_pace=True)
            content_type = request.headers["Content-Type"]
            return Received(read_field(form, content_type, IMAGE_FIELD), b"")
        if given.startswith("image/"):
            max_bytes = limits.image_bytes
            raw = await read_body(request, max_bytes=max_bytes, at_pace=True)
            return Received(raw, b"")
        expected = f"image/* or {_MULTIPART}"
        raise UnsupportedMediaError(expected)


@operation(
    "POST",
    "/v1/lookup",
    scope=Scope.LOOKUP,
    takes=JsonBody(LookupRequest, max_bytes=LOOKUP_BYTES),
    gives=JsonAnswer(LookupAnswer),
)
async def look_up(call: Call[LookupRequest]) -> LookupAnswer:
    """Look signals up, 1 to 1,000 together.

    `handling` is what this node's policy says to do; everything else in the answer is
    why. Only records that are live at this moment are in it, or with `as_of` those that
    were live then; the policy is today's, and `queries` are at most 10.
    """
    queries = parse_queries(call.body.queries)
    if call.body.as_of is not None:
        at = parse_past(call.body.as_of, call.parts.clock())
        if len(queries) > MAX_PAST_QUERIES:
            reason = f"are at most {MAX_PAST_QUERIES} with as_of"
            raise InvalidBodyError((Fault("/queries", reason),))
        async with call.parts.pressure.turn():
            then = await call.parts.lookup.past.lookup(
                queries, at=at, max_distance=call.body.max_distance
            )
        return await show_past(then, at)
    is_batch = len(queries) > 1
    async with call.parts.pressure.turn() if is_batch else nullcontext():
        started = time.perf_counter()
        found = await call.parts.lookup.lookup(
            queries,
            max_distance=call.body.max_distance,
            purpose=Purpose(call.body.purpose),
        )
    _count(call.parts.metrics, found, time.perf_counter() - started)
    return await _show_answer(found)


@operation(
    "POST",
    "/v1/lookup/image",
    scope=Scope.LOOKUP,
    takes=PictureBody(),
    gives=JsonAnswer(ImageLookupAnswer),
    raises=(ImageRefusedError,),
)
async def look_up_image(call: Call[bytes]) -> ImageLookupAnswer:
    """Look a picture up.

    It is hashed here and forgotten: neither the picture nor its hashes are stored.
    """
    started = time.perf_counter()
    hashes, found = await call.parts.lookup.lookup_image(call.body)
    _count(call.parts.metrics, found, time.perf_counter() - started)
    answer = await _show_answer(found)
    return {
        "image": {
            "pdq": hashes.pdq,
            "quality": hashes.quality,
            "md5": hashes.md5,
            "sha1": hashes.sha1,
            "sha256": hashes.sha256,
        },
        "results": answer["results"],
        "lists": answer["lists"],
    }


def _count(metrics: Metrics, found: Found, seconds: float) -> None:
    matched = sum(bool(result.matches) for result in found.results)
    unmatched = len(found.results) - matched
    metrics.observe_lookup(matched=matched, unmatched=unmatched, seconds=seconds)
    metrics.count_flooded(count_flooded(found.results))


def count_flooded(results: Iterable[LookupResult]) -> int:
    """Count the matches whose `block` became `review` because of a flood."""
    return sum(
        match.decided_by.because is Because.FLOODED
        for result in results
        for match in result.matches
    )


def is_large(results: Iterable[LookupResult]) -> bool:
    """Tell whether writing an answer would hold up the event loop."""
    parts = sum(
        1 + sum(1 + len(match.records) for match in result.matches)
        for result in results
    )
    return parts > _FEW_PARTS


async def _show_answer(found: Found) -> LookupAnswer:
    return {
        "results": await _show_results(found.results),
        "lists": [show_list(state) for state in found.lists],
    }


async def _show_results(results: Sequence[LookupResult]) -> list[ResultShown]:
    if is_large(results):
        return await asyncio.to_thread(_write_results, results)
    return [show_result(result) for result in results]


def _write_results(results: Iterable[LookupResult]) -> list[ResultShown]:
    """Write results as JSON that goes into an answer as it is."""
    written = orjson.dumps([show_result(result) for result in results])
    return cast("list[ResultShown]", orjson.Fragment(written))


def parse_past(text: str, now: int) -> int:
    """Read a time that must not lie in the future.

    Raises:
        InvalidBodyError: It does, or is no time.
    """
    try:
        at = parse_timestamp(text)
    except MalformedError:
        fault = Fault("/as_of", "is not a time of the form YYYY-MM-DDTHH:MM:SSZ")
        raise InvalidBodyError((fault,)) from None
    if at > now:
        raise InvalidBodyError((Fault("/as_of", "is in the future"),))
    return at


async def show_past(found: PastAnswer, at: int) -> LookupAnswer:
    """Show what was known at a time."""
    return {
        "results": await _show_results(found.results),
        "lists": [show_past_list(state, at) for state in found.lists],
    }


def show_past_list(state: PastState, at: int) -> ListShown:
    """Show the state that a list was in at a time."""
    return {
        "origin": state.origin,
        "tree_size": state.tree_size,
        "root_hash": state.root_hash.hex(),
        "age_seconds": max(0, at - state.applied_at),
        "erased_since": state.erased_since,
    }


def show_result(result: LookupResult) -> ResultShown:
    """Show what is known about one query."""
    return {
        "query": _show_signal(result.query),
        "handling": result.handling,
        "matches": [show_match(match) for match in result.matches],
        "truncated": result.truncated,
    }


def show_match(match: Match) -> MatchShown:
    """Show a known signal that a query matches."""
    return {
        "signal": _show_signal(match.signal),
        "distance": match.distance,
        "threshold": match.threshold,
        "opinion": match.opinion,
        "handling": match.handling,
        "allowed": match.allowed,
        "flooded": match.flooded,
        "rule": match.decided_by.rule,
        "because": match.decided_by.because,
        "records": [_show_record(record) for record in match.records],
    }


def _show_record(record: RecordEvidence) -> RecordShown:
    return {
        "ref": f"{record.ref.origin}#{record.ref.leaf_index}",
        "list": record.list_name,
        "origin_node": record.origin_node,
        "tree_size": record.tree_size,
        "labels": cast("list[LabelShown]", list(record.labels)),
        "source": record.source,
        "review": record.review,
        "created": optional_instant(record.created_at),
        "quality": record.quality,
    }


def _show_signal(signal: Signal) -> SignalShown:
    return {"type": signal.type, "value": signal.value}


def show_list(state: ListState) -> ListShown:
    """Show how current a list is."""
    return {
        "origin": state.origin,
        "tree_size": state.tree_size,
        "root_hash": state.root_hash.hex(),
        "age_seconds": state.age_seconds,
    }


OPERATIONS: Final = (look_up, look_up_image)

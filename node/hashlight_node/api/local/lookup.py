"""Asking whether content is known: by signals, or by the picture itself."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, cast

from typing_extensions import override

from hashlight_node.api.errors import (
    Fault,
    InvalidBodyError,
    UnsupportedMediaError,
)
from hashlight_node.matching.image import ImageRefusedError
from hashlight_node.model import Scope
from hashlight_protocol import BadSignalError, parse_signal

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
from .parts import IMAGE_SLOTS
from .reading import media_type, read_body

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Mapping, Sequence
    from contextlib import AbstractAsyncContextManager

    from aiohttp import web

    from hashlight_node.exchange.lookup import ListState
    from hashlight_node.exchange.lookup import LookupAnswer as Found
    from hashlight_node.matching.matcher import LookupResult, Match
    from hashlight_node.model import RecordEvidence
    from hashlight_node.observability import Metrics
    from hashlight_protocol import Signal

    from .bodies import SchemaOf
    from .models.lookup import (
        LabelShown,
        ListShown,
        MatchShown,
        Query,
        RecordShown,
        ResultShown,
        SignalShown,
    )
    from .parts import LocalLimits

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
        slots: asyncio.Semaphore = app[IMAGE_SLOTS]
        return slots

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
            form = await read_body(request, max_bytes=max_bytes)
            content_type = request.headers["Content-Type"]
            return Received(read_field(form, content_type, IMAGE_FIELD), b"")
        if given.startswith("image/"):
            return Received(await read_body(request, max_bytes=limits.image_bytes), b"")
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
    why. Only records that are live at this moment are in it.
    """
    queries = _parse_queries(call.body.queries)
    started = time.perf_counter()
    found = await call.parts.lookup.lookup(queries, max_distance=call.body.max_distance)
    _count(call.parts.metrics, found, time.perf_counter() - started)
    return _show_answer(found)


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
    answer = _show_answer(found)
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


def _parse_queries(queries: Sequence[Query]) -> list[Signal]:
    signals: list[Signal] = []
    faults: list[Fault] = []
    for position, query in enumerate(queries):
        try:
            signals.append(parse_signal(query.type, query.value))
        except BadSignalError as error:
            faults.append(Fault(f"/queries/{position}", error.reason))
    if faults:
        raise InvalidBodyError(tuple(faults))
    return signals


def _show_answer(found: Found) -> LookupAnswer:
    return {
        "results": [_show_result(result) for result in found.results],
        "lists": [_show_list(state) for state in found.lists],
    }


def _show_result(result: LookupResult) -> ResultShown:
    return {
        "query": _show_signal(result.query),
        "handling": result.handling,
        "matches": [_show_match(match) for match in result.matches],
        "truncated": result.truncated,
    }


def _show_match(match: Match) -> MatchShown:
    return {
        "signal": _show_signal(match.signal),
        "distance": match.distance,
        "threshold": match.threshold,
        "opinion": match.opinion,
        "handling": match.handling,
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


def _show_list(state: ListState) -> ListShown:
    return {
        "origin": state.origin,
        "tree_size": state.tree_size,
        "root_hash": state.root_hash.hex(),
        "age_seconds": state.age_seconds,
    }


OPERATIONS: Final = (look_up, look_up_image)

"""The commonest request of all, answered without the general machinery.

Nearly every request is `POST /v1/lookup` with one hash that nobody knows. Routing,
middleware, models and a typed answer cost several times what the search costs, and say
nothing there that is not known beforehand. So each request is first offered to
`FastLookups`. It answers if, and only if, there is nothing unusual about the request
and nothing to tell: a token that was seen since the last commit, one query of a known
type, a view that is current, no candidate. Everything else, and everything that is
wrong, goes the general way, so refusals and matches are worded in one place. A test
holds the two ways to the same bytes.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Final

import orjson
from aiohttp import web
from multidict import CIMultiDict

from hashlight_node.api.problems import SERVER_HEADERS
from hashlight_node.model import Scope
from hashlight_protocol import SIGNAL_TYPES, ProtocolError, parse_signal

from .answers import NO_STORE
from .bearer import allows
from .bodies import JSON
from .lookup import show_list
from .reading import WHOLE_BODY
from .strict_json import parse_closed

if TYPE_CHECKING:
    from hashlight_node.exchange.looking_up.live import ListState
    from hashlight_protocol import JsonValue, Signal

    from .bearer import Bearers
    from .parts import LookupParts

PATH: Final = "/v1/lookup"

MAX_BYTES: Final = 8192
"""One query with its value of 4,096 characters, and generous white space."""

_UNUSUAL: Final = ("Content-Encoding", "Expect")
_JSON_ONCE: Final = [JSON]


class FastLookups:
    """Answers single lookups that find nothing; for one event loop.

    Args:
        parts: Of the application that answers everything else.
        bearers: The tokens that it knows.
    """

    def __init__(self, parts: LookupParts, bearers: Bearers) -> None:
        self._lookup = parts.lookup
        self._metrics = parts.metrics
        self._bearers = bearers
        self._max_bytes = min(MAX_BYTES, parts.limits.request_bytes)
        self._headers = CIMultiDict(
            {"Content-Type": JSON, **NO_STORE, **SERVER_HEADERS, "X-Request-Id": ""}
        )
        # What is shown of the lists is the same for all answers of a second.
        self._lists: tuple[ListState, ...] | None = None
        self._shown = b""

    def answer(self, request: web.BaseRequest) -> web.Response | None:
        """Answer a request, or leave it to the general way with all that it had."""
        if request.method != "POST" or request.raw_path != PATH:
            return None
        started = time.perf_counter()
        if not self._is_welcome(request):
            return None
        query = self._read_query(request)
        if query is None:
            return None
        lists = self._lookup.nothing_known(query)
        if lists is None:
            return None
        body = self._write(query, lists)
        seconds = time.perf_counter() - started
        self._metrics.observe_lookup(matched=0, unmatched=1, seconds=seconds)
        self._metrics.observe_request("local", "POST", PATH, 200, seconds)
        headers = self._headers.copy()
        headers["X-Request-Id"] = os.urandom(8).hex()
        return web.Response(body=body, headers=headers)

    def _is_welcome(self, request: web.BaseRequest) -> bool:
        headers = request.headers
        token = self._bearers.remembered(headers.getall("Authorization", ()))
        return (
            token is not None
            and allows(token, Scope.LOOKUP)
            and headers.getall("Content-Type", ()) == _JSON_ONCE
            and not any(name in headers for name in _UNUSUAL)
        )

    def _read_query(self, request: web.BaseRequest) -> Signal | None:
        content = request.content
        if not content.is_eof() or content.exception() is not None:
            return None  # It is still arriving, or never will.
        raw = content.read_nowait()
        request[WHOLE_BODY] = raw  # Whoever else answers reads it from there.
        if len(raw) > self._max_bytes:
            return None
        try:
            given = _only_query(parse_closed(raw))
            return None if given is None else parse_signal(*given)
        except ProtocolError:
            return None

    def _write(self, query: Signal, lists: tuple[ListState, ...]) -> bytes:
        if lists is not self._lists:
            self._lists = lists
            self._shown = orjson.dumps([show_list(state) for state in lists])
        shown = orjson.dumps({"type": query.type, "value": query.value})
        return b"".join((_BEFORE, shown, _BETWEEN, self._shown, b"}"))


_BEFORE: Final = b'{"results":[{"query":'
_BETWEEN: Final = b',"handling":"ignore","matches":[],"truncated":false}],"lists":'


def _only_query(body: JsonValue) -> tuple[str, str] | None:
    """Find type and value in a body that has nothing else; None if it has."""
    if not isinstance(body, dict) or len(body) != 1:
        return None
    queries = body.get("queries")
    if not isinstance(queries, list) or len(queries) != 1:
        return None
    query = queries[0]
    if not isinstance(query, dict) or len(query) != _MEMBERS:
        return None
    type_name, value = query.get("type"), query.get("value")
    if isinstance(type_name, str) and isinstance(value, str):
        # Types that are not registered have a form of their own, checked elsewhere.
        return (type_name, value) if type_name in SIGNAL_TYPES else None
    return None


_MEMBERS: Final = 2

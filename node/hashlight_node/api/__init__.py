"""Inbound HTTP: decode, authenticate, call one use case, encode.

Two applications are built here, one per listener: `federation` for peers and `local`
for our own services. What they share is the frame around every request, below: an
id, a time, and a problem document for whatever goes wrong.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Final, Literal

import structlog
from aiohttp import web

from hashlight_node.observability import REQUEST_ID as LOGGED_ID

from .problems import (
    INTERNAL,
    SERVER_HEADERS,
    problem_for,
    problem_for_status,
    problem_response,
    status_problem_response,
)

if TYPE_CHECKING:
    from aiohttp.typedefs import Handler, Middleware

    from hashlight_node.metrics import Metrics

Listener = Literal["federation", "local"]

REQUEST_ID: Final = web.RequestKey("request_id", str)
"""Id of a request in our log; the caller sees it as `X-Request-Id`."""

_GONE: Final = 499
"""Status in the metrics of a request whose caller did not wait; nobody sees it."""

_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"})

_log = structlog.get_logger()


def build_application(
    listener: Listener, *, metrics: Metrics, request_bytes: int, log_requests: bool
) -> web.Application:
    """Make an application without routes, with the frame that both listeners share.

    Args:
        listener: Which one; a label in log and metrics.
        metrics: Where times and refusals are counted.
        request_bytes: Largest body that `Request.read` accepts.
        log_requests: Whether each request leaves a line in the log.
    """
    frame = _build_frame(listener, metrics=metrics, log_requests=log_requests)
    app = web.Application(middlewares=[frame], client_max_size=request_bytes)
    app.on_response_prepare.append(_add_headers)
    return app


def _build_frame(
    listener: Listener, *, metrics: Metrics, log_requests: bool
) -> Middleware:
    @web.middleware
    async def frame(request: web.Request, handler: Handler) -> web.StreamResponse:
        request_id = os.urandom(8).hex()
        request[REQUEST_ID] = request_id
        # All requests of a connection share a context; the next one sets its own.
        LOGGED_ID.set(request_id)
        started = time.perf_counter()
        response, code = await _answer(request, handler)
        seconds = time.perf_counter() - started
        route = _route(request)
        if code is not None:
            metrics.count_reject(listener, code)
        method = _method(request)
        metrics.observe_request(listener, method, route, response.status, seconds)
        if log_requests:
            _log.info(
                "request answered",
                listener=listener,
                method=method,
                route=route,
                status=response.status,
                code=code,
                duration_seconds=round(seconds, 6),
            )
        return response

    return frame


async def _add_headers(request: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(SERVER_HEADERS)
    # What a worker passes on has the id under which the node logged it.
    response.headers.setdefault("X-Request-Id", request.get(REQUEST_ID, "none"))


async def _answer(
    request: web.Request, handler: Handler
) -> tuple[web.StreamResponse, str | None]:
    """Call the handler; give its answer, or a problem document and its code."""
    try:
        return await handler(request), None
    except web.HTTPException as error:
        if error.status < 400:  # noqa: PLR2004 -- where HTTP's errors begin
            raise
        response = status_problem_response(error.status, error.headers.get("Allow"))
        return response, problem_for_status(error.status).code
    except Exception as error:
        if isinstance(error, ConnectionError) and _has_gone(request):
            return web.Response(status=_GONE), None
        problem = problem_for(error)
        if request.writer.output_size > 0:
            raise  # A second answer would be read as the rest of the first.
        if problem is INTERNAL:
            _log.exception("request failed by a mistake of ours", route=_route(request))
        return problem_response(error), problem.code


def _has_gone(request: web.Request) -> bool:
    return request.transport is None or request.transport.is_closing()


def _route(request: web.Request) -> str:
    """Give the pattern that a request matched: paths hold references to records."""
    resource = request.match_info.route.resource
    return "/unmatched" if resource is None else resource.canonical


def _method(request: web.Request) -> str:
    # A caller can make methods up, and each would be a new time series.
    return request.method if request.method in _METHODS else "OTHER"

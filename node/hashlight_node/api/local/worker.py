"""The application of a worker process: lookups of its own, the rest from the node."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast

from aiohttp import web

from hashlight_node.api import build_application
from hashlight_node.api.server import FIRST
from hashlight_node.metrics import METRICS_CONTENT_TYPE, render_metrics

from . import bulk, lookup
from .application import document
from .bearer import Bearers
from .fast import FastLookups
from .pages import answer_alive, document_routes
from .parts import BEARERS, PARTS
from .reading import expect_later

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aiohttp.typedefs import Handler

    from hashlight_node.metrics import Metrics

    from .forwarding import Forwarder
    from .operations import Operation
    from .parts import LocalParts, LookupParts

OPERATIONS: Final[tuple[Operation, ...]] = (*lookup.OPERATIONS, *bulk.OPERATIONS)
"""What a worker answers itself; they ask for nothing beyond `LookupParts`."""


def build_worker(
    parts: LookupParts,
    forwarder: Forwarder,
    *,
    version: str,
    log_requests: bool,
    own: Sequence[web.RouteDef] = (),
    pass_on: Handler | None = None,
) -> web.Application:
    """Make the application of one worker, or of a process that stands by.

    Args:
        parts: What lookups need.
        forwarder: Asks the node everything else.
        version: The node's, for the OpenAPI document.
        log_requests: Whether each request leaves a line in the log.
        own: What else it answers itself.
        pass_on: Answers all the rest; the forwarder does if it is None.
    """
    app = build_application(
        "local",
        metrics=parts.metrics,
        request_bytes=parts.limits.request_bytes,
        log_requests=log_requests,
    )
    # The operations of a worker use these parts only; the type is that of them all.
    app[PARTS] = cast("LocalParts", parts)
    app[BEARERS] = bearers = Bearers(parts.database)
    if not log_requests:
        app[FIRST] = FastLookups(parts, bearers).answer
    app.add_routes([*document_routes(document(version)), _HEALTH, *own])
    later: Any = {"expect_handler": expect_later}
    for described in OPERATIONS:
        app.router.add_route(
            described.method, described.path, described.answer, **later
        )
    rest = pass_on or forwarder.forward
    app.router.add_route("*", "/{path:.*}", rest, **later)

    async def end_streams(_: web.Application) -> None:
        forwarder.close_event_streams()

    app.on_shutdown.append(end_streams)
    return app


_HEALTH: Final = web.get("/healthz", answer_alive)


def build_counts(metrics: Metrics) -> web.Application:
    """Make the application that tells the node what a worker has counted."""

    async def answer(request: web.Request) -> web.Response:
        del request
        return web.Response(
            body=render_metrics(metrics),
            headers={"Content-Type": METRICS_CONTENT_TYPE},
        )

    app = web.Application()
    app.router.add_get("/metrics", answer)
    return app

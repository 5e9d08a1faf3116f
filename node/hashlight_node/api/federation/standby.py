"""The federation listener of a process that stands by.

It answers out of the store what peers read: our lists and our copies of theirs. What
changes the store, and what is rarely asked, the process that leads answers; it verifies
each signature again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from hashlight_node.api.authentication import BODY

from . import build_frame
from .descriptor import add_descriptor_route
from .logs import add_log_routes
from .mirror import add_mirror_routes
from .parts import PARTS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from aiohttp import web

    from hashlight_node.api.authentication import Authenticator
    from hashlight_node.exchange.answering.mirroring import Mirroring
    from hashlight_node.exchange.answering.serve import Serving
    from hashlight_node.metrics import Metrics

    PassOn = Callable[[web.Request, bytes | None], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class ReadingParts:
    """Those of `FederationParts` that reading alone needs."""

    node_name: str
    serving: Serving
    descriptor: Callable[[], bytes | None]
    mirroring: Mirroring


def build_standby(
    parts: ReadingParts,
    pass_on: PassOn,
    *,
    authenticator: Authenticator,
    metrics: Metrics,
    log_requests: bool,
) -> web.Application:
    """Make what answers peers while another process leads.

    Args:
        parts: The use cases behind the routes.
        pass_on: Has a request of a peer answered by the process that leads; its body
            goes along if it was read.
        authenticator: Tells who sent a request.
        metrics: Where times and refusals are counted.
        log_requests: Whether each request leaves a line in the log.
    """
    app = build_frame(authenticator, metrics=metrics, log_requests=log_requests)
    # The routes here use these parts only; the type is that of them all.
    app[PARTS] = cast("Any", parts)

    async def answer(request: web.Request) -> web.StreamResponse:
        # Uploads are not read before they are passed on.
        return await pass_on(request, request.get(BODY))

    add_descriptor_route(app)
    add_log_routes(app)
    add_mirror_routes(app)
    app.router.add_route("*", "/{path:.*}", answer)
    return app

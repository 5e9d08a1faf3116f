"""The listener for peers: HSF/1 and nothing else.

Every request passes `gate`, which lets strangers see the descriptor and knows no
other exception; handlers are given the peer that signed. What a peer may see is
decided in `exchange.answering.serve`, not here.

Source: SPEC.md#endpoints.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from hashlight_node.api import build_application
from hashlight_protocol import MAX_ADD_CHECKPOINT_BYTES, MAX_EVIDENCE_BYTES

from .descriptor import add_descriptor_route
from .gate import build_gate
from .gossip import add_gossip_routes
from .logs import add_log_routes
from .mirror import add_mirror_routes
from .parts import PARTS, FederationParts
from .quota import Quotas
from .uploads import add_upload_routes
from .witness import add_witness_routes

if TYPE_CHECKING:
    from aiohttp import web

    from hashlight_node.api.authentication import Authenticator
    from hashlight_node.metrics import Metrics

__all__ = ["FederationParts", "build_federation", "build_frame"]


def build_frame(
    authenticator: Authenticator, *, metrics: Metrics, log_requests: bool
) -> web.Application:
    """Make an application without routes, which only peers of ours get into.

    Args:
        authenticator: As of `build_federation`, as all others.
        metrics: Where times and refusals are counted.
        log_requests: Whether each request leaves a line in the log.
    """
    app = build_application(
        "federation",
        metrics=metrics,
        request_bytes=max(MAX_ADD_CHECKPOINT_BYTES, MAX_EVIDENCE_BYTES),
        log_requests=log_requests,
    )
    app.middlewares.append(
        build_gate(authenticator, Quotas(metrics.of_peers, time.monotonic))
    )
    return app


def build_federation(
    parts: FederationParts,
    *,
    authenticator: Authenticator,
    metrics: Metrics,
    log_requests: bool,
) -> web.Application:
    """Make the application that peers talk to.

    Args:
        parts: The use cases behind the routes.
        authenticator: Tells who sent a request.
        metrics: Where times and refusals are counted.
        log_requests: Whether each request leaves a line in the log.
    """
    app = build_frame(authenticator, metrics=metrics, log_requests=log_requests)
    app[PARTS] = parts
    add_descriptor_route(app)
    add_log_routes(app)
    add_witness_routes(app)
    add_upload_routes(app)
    add_mirror_routes(app)
    add_gossip_routes(app)
    return app

"""The local API of a process that stands by: lookups itself, the rest by the leader.

It says of itself what only it can know: that it is alive, ready, and how old what it
knows may be. Everything else is answered by the process that leads.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from aiohttp import web

from hashlight_node.exchange.looking_up.live import MOST_SILENT_SECONDS
from hashlight_node.metrics import METRICS_CONTENT_TYPE, render_metrics

from .pages import NOT_HEARD, require_reader_of_metrics, say
from .parts import PARTS
from .worker import build_worker

if TYPE_CHECKING:
    from hashlight_node.exchange.room import Room
    from hashlight_node.matching.matcher import Matcher

    from .forwarding import Forwarder
    from .parts import LookupParts


def build_standby(
    parts: LookupParts,
    forwarder: Forwarder,
    matcher: Matcher,
    room: Room,
    *,
    version: str,
    log_requests: bool,
) -> web.Application:
    """Make what answers our own services while another process leads.

    Args:
        parts: What lookups need.
        forwarder: Asks the process that leads.
        matcher: What lookups are answered from.
        room: What the disk of this process has.
        version: The node's, for the OpenAPI document.
        log_requests: Whether each request leaves a line in the log.
    """
    show = partial(_answer_metrics, matcher, room)
    return build_worker(
        parts,
        forwarder,
        version=version,
        log_requests=log_requests,
        own=(web.get("/readyz", _answer_ready), web.get("/metrics", show)),
        pass_on=forwarder.forward_with_token,
    )


async def _answer_ready(request: web.Request) -> web.Response:
    """Say whether lookups are answered: if what is known here is new enough."""
    if request.app[PARTS].database.silent_seconds() > MOST_SILENT_SECONDS:
        return say(NOT_HEARD, 503)
    return say({"status": "ready", "signing": "elsewhere"}, 200)


async def _answer_metrics(
    matcher: Matcher, room: Room, request: web.Request
) -> web.Response:
    parts = request.app[PARTS]
    await require_reader_of_metrics(request)
    room.check()
    parts.metrics.show_lead(leads=False, silent_seconds=parts.database.silent_seconds())
    for signal_type, count in matcher.sizes().items():
        parts.metrics.show_signals(signal_type, count)
    return web.Response(
        body=render_metrics(parts.metrics),
        headers={"Content-Type": METRICS_CONTENT_TYPE, "Cache-Control": "no-store"},
    )

"""What needs no token: the API's document, the page to try it, and its health.

None of it holds data. `/metrics` names peers and lists and shows how much is going on,
so from anywhere but this machine it needs a token with the scope `audit`.
"""

from __future__ import annotations

import asyncio
import hashlib
import ipaddress
from importlib.resources import files
from typing import TYPE_CHECKING, Final

import orjson
from aiohttp import web

from hashlight_node.exchange.looking_up.live import MOST_SILENT_SECONDS
from hashlight_node.metrics import METRICS_CONTENT_TYPE, render_metrics
from hashlight_node.model import LogState, Role, Scope
from hashlight_node.store import logs
from hashlight_protocol import parse_origin

from .bearer import require_scope
from .bodies import JSON
from .forwarding import CALLER
from .parts import BEARERS, PARTS

if TYPE_CHECKING:
    from aiohttp.typedefs import Handler

    from .parts import LocalParts

READY_SECONDS: Final = 2

NOT_HEARD: Final = {"status": "the store does not answer"}
"""What `/readyz` answers when lookups are not answered."""

_FILES: Final = {
    "/docs": ("docs/index.html", "text/html; charset=utf-8"),
    "/docs/page.js": ("docs/page.js", "text/javascript; charset=utf-8"),
    "/docs/page.css": ("docs/page.css", "text/css; charset=utf-8"),
    "/docs/swagger-ui-bundle.js": (
        "docs/swagger-ui/swagger-ui-bundle.js",
        "text/javascript; charset=utf-8",
    ),
    "/docs/swagger-ui.css": (
        "docs/swagger-ui/swagger-ui.css",
        "text/css; charset=utf-8",
    ),
}
"""Every file that is served, by path: none can be asked for by another name."""

CONTENT_SECURITY_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def page_routes(document: bytes) -> list[web.RouteDef]:
    """Make the routes.

    Args:
        document: The OpenAPI document.
    """
    return [
        *document_routes(document),
        web.get("/healthz", answer_alive),
        web.get("/readyz", _answer_ready),
        web.get("/metrics", _answer_metrics),
    ]


def document_routes(document: bytes) -> list[web.RouteDef]:
    """Make the routes of the document and the page: files that never change."""
    return [
        web.get("/v1/openapi.json", _serve(document, JSON)),
        *(web.get(path, _serve_file(*file)) for path, file in _FILES.items()),
    ]


def _serve_file(name: str, content_type: str) -> Handler:
    return _serve((files("hashlight_node") / "web" / name).read_bytes(), content_type)


def _serve(content: bytes, content_type: str) -> Handler:
    etag = hashlib.sha256(content).hexdigest()[:32]
    headers = {
        "Content-Type": content_type,
        "Cache-Control": "no-cache",  # Kept, and asked about: an upgrade shows at once.
        "ETag": f'"{etag}"',
        "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    }

    async def serve(request: web.Request) -> web.Response:
        if any(known.value == etag for known in request.if_none_match or ()):
            return web.Response(status=304, headers=headers)
        return web.Response(body=content, headers=headers)

    return serve


async def answer_alive(request: web.Request) -> web.Response:
    """Say that the process answers."""
    del request
    return say({"status": "alive"}, 200)


async def _answer_ready(request: web.Request) -> web.Response:
    """Say whether lookups can be answered: the store reads, soon enough, and is ours.

    The listener opens only after the matcher is loaded and closes first when the node
    stops, so there is nothing else to ask.
    """
    database = request.app[PARTS].database
    try:
        async with asyncio.timeout(READY_SECONDS):
            found = await database.read(logs.list_logs)
    except TimeoutError:
        return say(NOT_HEARD, 503)
    if database.silent_seconds() > MOST_SILENT_SECONDS:
        return say(NOT_HEARD, 503)
    own = [log for log in found if log.role is Role.OWN]
    # Lookups are answered either way, so this makes nobody take the node away.
    signing = "held" if any(log.is_held for log in own) else "ok"
    room = request.app[PARTS].room.check()
    return say({"status": "ready", "signing": signing, "room": room.value}, 200)


async def require_reader_of_metrics(request: web.Request) -> None:
    """Let only this machine, and tokens that allow it, read metrics.

    Raises:
        TokenMissingError: The caller is elsewhere and has no token.
        TokenInvalidError: It is none of this node.
        ScopeMissingError: It does not allow this.
    """
    if not is_loopback(caller_of(request)):
        token = await request.app[BEARERS].authenticate(request.headers)
        require_scope(token, Scope.AUDIT)


async def _answer_metrics(request: web.Request) -> web.Response:
    parts = request.app[PARTS]
    await require_reader_of_metrics(request)
    await _refresh(parts)
    of_workers = await parts.worker_metrics()
    return web.Response(
        body=render_metrics(parts.metrics, of_workers),
        headers={"Content-Type": METRICS_CONTENT_TYPE, "Cache-Control": "no-store"},
    )


async def _refresh(parts: LocalParts) -> None:
    """Bring the metrics up to date that describe the store."""
    metrics, status = parts.metrics, await parts.inspect.status()
    parts.room.check()
    metrics.show_lead(leads=True, silent_seconds=parts.database.silent_seconds())
    for each in status.lists:
        metrics.show_log(each.origin, each.role, each.size)
    for peer in status.peers:
        metrics.of_peers.show_clock_offset(peer.name, parts.clock_offset(peer.name))
        for follow in peer.follows:
            metrics.show_follow(
                peer.name,
                follow.list_name,
                synced_at=follow.synced_at,
                now=parts.clock(),
            )
    metrics.show_freshness(
        {
            (each.node, each.list_name): each.freshness
            for each in status.lists
            if each.follow_state is not None
        }
    )
    metrics.show_standings(
        (
            standing.peer_name,
            parse_origin(standing.origin).list_name,
            standing.applied.lag_seconds,
            0 if standing.overdue is None else standing.overdue.age_seconds,
        )
        for standing in status.standings
    )
    for signal_type, count in parts.matcher.sizes().items():
        metrics.show_signals(signal_type, count)
    states: tuple[tuple[str, list[str]], ...] = (
        ("log", [each.state for each in status.lists]),
        ("peer", [peer.state for peer in status.peers]),
    )
    for kind, found in states:
        metrics.show_quarantined(kind, found.count("quarantined"))
    for state in (LogState.ROLLED_BACK, LogState.UNCONFIRMED):
        metrics.show_held(state, states[0][1].count(state))


def caller_of(request: web.Request) -> str | None:
    """Tell from which address a request came, also if a worker passed it on."""
    # Nobody but our workers reaches a socket without an address.
    return request.remote or request.headers.get(CALLER)


def is_loopback(address: str | None) -> bool:
    """Tell whether a caller's address is one of this machine's own."""
    try:
        return ipaddress.ip_address(address or "").is_loopback
    except ValueError:
        return False


def say(answer: dict[str, str], status: int) -> web.Response:
    """Answer with a few words that nobody keeps."""
    return web.Response(
        status=status,
        body=orjson.dumps(answer),
        content_type=JSON,
        headers={"Cache-Control": "no-store"},
    )

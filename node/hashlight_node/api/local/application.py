"""The local listener's application, put together."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Final

from hashlight_node.api import build_application
from hashlight_node.api.server import FIRST

from . import (
    bulk,
    cases,
    changes,
    clusters,
    deliveries,
    epochs,
    evidence,
    explain,
    export,
    feedback,
    follows,
    grants,
    keys,
    lists,
    lookup,
    peers,
    policy,
    publishing,
    records,
    recovering,
    relays,
    status,
    tokens,
)
from .bearer import Bearers
from .fast import FastLookups
from .openapi import build_document
from .pages import page_routes
from .parts import BEARERS, PARTS
from .reading import expect_later

if TYPE_CHECKING:
    from aiohttp import web

    from .operations import Operation
    from .parts import LocalParts

OPERATIONS: Final[tuple[Operation, ...]] = (
    *lookup.OPERATIONS,
    *bulk.OPERATIONS,
    *policy.OPERATIONS,
    *clusters.OPERATIONS,
    *changes.OPERATIONS,
    *explain.OPERATIONS,
    *lists.OPERATIONS,
    *epochs.OPERATIONS,
    *publishing.OPERATIONS,
    *feedback.OPERATIONS,
    *cases.OPERATIONS,
    *records.OPERATIONS,
    *peers.OPERATIONS,
    *grants.OPERATIONS,
    *follows.OPERATIONS,
    *relays.OPERATIONS,
    *status.OPERATIONS,
    *deliveries.OPERATIONS,
    *evidence.OPERATIONS,
    *export.OPERATIONS,
    *tokens.OPERATIONS,
    *keys.OPERATIONS,
    *recovering.OPERATIONS,
)
"""Everything that needs a token, in the order in which the document shows it."""


@cache
def document(version: str) -> bytes:
    """Write the OpenAPI document; once, because it takes a tenth of a second."""
    return build_document(OPERATIONS, version=version)


async def _end_streams(app: web.Application) -> None:
    """Let no reader of changes hold up the end."""
    app[PARTS].feed.close()


def build_local(
    parts: LocalParts, *, version: str, log_requests: bool
) -> web.Application:
    """Make the application that our own company's services talk to.

    Serve it with `auto_decompress=False`: a compressed body is refused, and aiohttp
    would unpack it first.

    Args:
        parts: The use cases behind the routes.
        version: The node's, for the OpenAPI document.
        log_requests: Whether each request leaves a line in the log.
    """
    app = build_application(
        "local",
        metrics=parts.metrics,
        request_bytes=parts.limits.request_bytes,
        log_requests=log_requests,
    )
    app[PARTS] = parts
    app[BEARERS] = bearers = Bearers(parts.database)
    if not log_requests:
        app[FIRST] = FastLookups(parts, bearers).answer
    app.on_shutdown.append(_end_streams)
    app.add_routes(page_routes(document(version)))
    for described in OPERATIONS:
        app.router.add_route(
            described.method,
            described.path,
            described.answer,
            expect_handler=expect_later,
        )
    return app

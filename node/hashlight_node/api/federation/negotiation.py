"""The header fields by which a peer says what it has and how it wants the rest.

All of them are requests, none an order: a field that cannot be read is as good as one
that was not sent.

Source: RFC 9110 sections 12.5.3 and 13.1.2; RFC 7240 section 4.3.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from aiohttp import web

    from hashlight_node.exchange.logs.representations import Coding

MAX_WAIT_SECONDS: Final = 30
"""Longest long poll. Source: SPEC.md#limits."""

_WAIT: Final = re.compile(
    r"(?:^|[,;])[ \t]*wait[ \t]*=[ \t]*([0-9]{1,9})[ \t]*(?=[,;]|$)"
)
_ENTITY_TAG: Final = re.compile(r'(?:W/)?("[\x21\x23-\x7e]{0,128}")')
_CODING: Final = re.compile(
    r"[ \t]*(?P<name>[a-z*-]{1,16})[ \t]*"
    r"(?:;[ \t]*q=(?P<weight>[01](?:\.[0-9]{0,3})?)[ \t]*)?"
)


def wanted_wait_seconds(request: web.Request) -> int:
    """Read how long a peer would wait for news; 0 if it would not, 30 at most.

    Source: RFC 7240 section 4.3; SPEC.md#long-poll.
    """
    prefer = ",".join(request.headers.getall("Prefer", []))
    match = _WAIT.search(prefer)
    return min(int(match[1]), MAX_WAIT_SECONDS) if match else 0


def known_versions(request: web.Request) -> str | None:
    """Read which versions a peer has, as one If-None-Match field; None for none."""
    fields = request.headers.getall("If-None-Match", [])
    return ", ".join(fields) if fields else None


def names_tag(field: str | None, tag: str) -> bool:
    """Tell whether an If-None-Match field names an entity tag.

    Source: RFC 9110 section 13.1.2.
    """
    return field is not None and tag in _ENTITY_TAG.findall(field)


def choose_coding(request: web.Request) -> Coding:
    """Choose the best content coding that a peer can read."""
    accepted = ",".join(request.headers.getall("Accept-Encoding", []))
    weights: dict[str, float] = {}
    for item in accepted.lower().split(","):
        match = _CODING.fullmatch(item)
        if match:
            weights[match["name"]] = float(match["weight"] or 1)
    if weights.get("zstd", 0) > 0:
        return "zstd"
    if weights.get("gzip", 0) > 0:
        return "gzip"
    return "identity"

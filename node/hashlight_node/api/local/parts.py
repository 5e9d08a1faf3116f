"""What the local API is built from; `app` fills it in."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from aiohttp import web

from .bearer import Bearers

if TYPE_CHECKING:
    from hashlight_node.exchange.follow import Follower
    from hashlight_node.exchange.inspect import Inspect
    from hashlight_node.exchange.lookup import Lookup
    from hashlight_node.exchange.peering import Peering
    from hashlight_node.exchange.publish import Publisher
    from hashlight_node.matching.matcher import Matcher
    from hashlight_node.model import Clock
    from hashlight_node.observability import Metrics
    from hashlight_node.store.database import Database
    from hashlight_protocol import VerifierKey


@dataclass(frozen=True, slots=True)
class LocalLimits:
    """What one request may cost.

    Attributes:
        request_bytes: Largest JSON body.
        image_bytes: Largest picture.
        images: Pictures that are received and hashed at the same time; others wait
            before their body is read, so that memory stays bounded.
    """

    request_bytes: int
    image_bytes: int
    images: int = 4


@dataclass(frozen=True, slots=True)
class LocalParts:
    """The collaborators of every operation.

    Attributes:
        node_name: This node.
        identity: The key that signs its list notes.
    """

    node_name: str
    identity: VerifierKey
    database: Database
    publisher: Publisher
    lookup: Lookup
    inspect: Inspect
    peering: Peering
    follower: Follower
    matcher: Matcher
    metrics: Metrics
    clock: Clock
    limits: LocalLimits


PARTS: Final = web.AppKey("local_parts", LocalParts)

BEARERS: Final = web.AppKey("bearers", Bearers)

IMAGE_SLOTS: Final = web.AppKey("image_slots", asyncio.Semaphore)
"""Held from before a picture's body is read until it is looked up."""

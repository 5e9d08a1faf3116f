"""What the local API is built from; `app` fills it in."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from aiohttp import web

from .bearer import Bearers
from .pressure import Pressure, for_event_streams, for_pictures, for_snapshots

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from hashlight_node.exchange.answering.relaying import Relaying
    from hashlight_node.exchange.following.follow import Follower
    from hashlight_node.exchange.looking_up.changes import Feed
    from hashlight_node.exchange.looking_up.clusters import Clusters
    from hashlight_node.exchange.looking_up.explain import Explain
    from hashlight_node.exchange.looking_up.lookup import Lookup
    from hashlight_node.exchange.looking_up.snapshots import Snapshots
    from hashlight_node.exchange.operating.inspect import Inspect
    from hashlight_node.exchange.operating.peering import Peering
    from hashlight_node.exchange.operating.policies import Policies
    from hashlight_node.exchange.operating.previewing import Previews
    from hashlight_node.exchange.publishing.cases import Cases
    from hashlight_node.exchange.publishing.epochs import Epochs
    from hashlight_node.exchange.publishing.feedback import Feedback
    from hashlight_node.exchange.publishing.publish import Publisher
    from hashlight_node.exchange.publishing.recover import Recovery
    from hashlight_node.exchange.publishing.rotation import KeyRotation
    from hashlight_node.exchange.room import Room
    from hashlight_node.matching.matcher import Matcher
    from hashlight_node.metrics import Metrics
    from hashlight_node.model import Clock
    from hashlight_node.store.database import Database, Reader
    from hashlight_protocol import VerifierKey


@dataclass(frozen=True, slots=True)
class LocalLimits:
    """What one request may cost.

    Attributes:
        request_bytes: Largest JSON body.
        image_bytes: Largest picture.
    """

    request_bytes: int
    image_bytes: int


async def _none() -> Mapping[str, bytes]:
    return {}


@dataclass(frozen=True, slots=True, kw_only=True)
class LookupParts:
    """The collaborators of the operations that only look things up.

    A worker process has no others; what it cannot do goes to the node.

    Attributes:
        node_name: This node.
        pressure: How much work on batches is taken on.
        pictures: How many pictures are received and hashed; a place is held from
            before the body is read, so that memory stays bounded.
    """

    node_name: str
    database: Reader
    lookup: Lookup
    metrics: Metrics
    clock: Clock
    limits: LocalLimits
    pressure: Pressure = field(default_factory=Pressure)
    pictures: Pressure = field(default_factory=for_pictures)


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalParts(LookupParts):
    """The collaborators of every operation.

    Attributes:
        identity: The key that signs its list notes.
        worker_metrics: Asks the worker processes for what they count; empty if there
            are none.
        clock_offset: Tells how many seconds a peer's clock is ahead of ours, if the
            peer takes no signature of ours for that reason.
        snapshots_sent: How many snapshots are made and sent.
        event_streams: How many readers follow what changes.
        previews_made: How many lists are gone through to tell what a grant would do.
    """

    identity: VerifierKey
    database: Database
    publisher: Publisher
    feedback: Feedback
    cases: Cases
    epochs: Epochs
    inspect: Inspect
    peering: Peering
    follower: Follower
    policies: Policies
    clusters: Clusters
    feed: Feed
    explain: Explain
    rotation: KeyRotation
    previews: Previews
    relaying: Relaying
    recovery: Recovery
    snapshots: Snapshots
    matcher: Matcher
    room: Room
    worker_metrics: Callable[[], Awaitable[Mapping[str, bytes]]] = _none
    clock_offset: Callable[[str], int | None] = lambda _: None
    snapshots_sent: Pressure = field(default_factory=for_snapshots)
    event_streams: Pressure = field(default_factory=for_event_streams)
    previews_made: Pressure = field(default_factory=for_snapshots)


PARTS: Final = web.AppKey("local_parts", LocalParts)

BEARERS: Final = web.AppKey("bearers", Bearers)

"""What the federation listener is built from; `app` fills it in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from aiohttp import web

if TYPE_CHECKING:
    from hashlight_node.exchange.gossip import Gossip
    from hashlight_node.exchange.serve import Serving
    from hashlight_node.exchange.witness import Witness


@dataclass(frozen=True, slots=True)
class FederationParts:
    """The collaborators of the handlers for peers.

    Attributes:
        node_name: This node.
        serving: Answers out of the store, whatever the peer may have.
        witness: Cosigns what peers announce.
        gossip: Compares what peers saw, and takes evidence of forks.
        descriptor: This node's signed descriptor.
    """

    node_name: str
    serving: Serving
    witness: Witness
    gossip: Gossip
    descriptor: bytes


PARTS: Final = web.AppKey("federation_parts", FederationParts)

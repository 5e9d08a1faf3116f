"""What the federation listener is built from; `app` fills it in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from aiohttp import web

if TYPE_CHECKING:
    from hashlight_node.exchange.mirroring import Mirroring
    from hashlight_node.exchange.serve import Serving
    from hashlight_node.exchange.witness import Witness


@dataclass(frozen=True, slots=True)
class FederationParts:
    """The collaborators of the handlers for peers.

    Attributes:
        node_name: This node.
        serving: Answers out of the store, whatever the peer may have.
        witness: Cosigns what peers announce.
        descriptor: This node's signed descriptor.
        mirroring: Answers out of our copies of other nodes' logs.
    """

    node_name: str
    serving: Serving
    witness: Witness
    descriptor: bytes
    mirroring: Mirroring


PARTS: Final = web.AppKey("federation_parts", FederationParts)

"""What the federation listener is built from; `app` fills it in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Callable

    from hashlight_node.exchange.answering.mirroring import Mirroring
    from hashlight_node.exchange.answering.receiving import Receiver
    from hashlight_node.exchange.answering.receiving_notes import NoteReceiver
    from hashlight_node.exchange.answering.serve import Serving
    from hashlight_node.exchange.answering.witness import Witness
    from hashlight_node.exchange.telling.gossip import Gossip


@dataclass(frozen=True, slots=True)
class FederationParts:
    """The collaborators of the handlers for peers.

    Attributes:
        node_name: This node.
        serving: Answers out of the store, whatever the peer may have.
        witness: Cosigns what peers announce.
        gossip: Compares what peers saw, and takes evidence of forks.
        descriptor: Gives this node's signed descriptor; None before its first.
        receiver: Takes entries and bodies that peers upload.
        note_receiver: Takes what they say about themselves.
        mirroring: Answers out of our copies of other nodes' logs.
    """

    node_name: str
    serving: Serving
    witness: Witness
    gossip: Gossip
    descriptor: Callable[[], bytes | None]
    receiver: Receiver
    note_receiver: NoteReceiver
    mirroring: Mirroring


PARTS: Final = web.AppKey("federation_parts", FederationParts)

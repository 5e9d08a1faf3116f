"""How a node asks others, whatever for."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from hashlight_node.peers.client import PeerClient
from hashlight_node.peers.network import open_session

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from hashlight_node.config import Settings
    from hashlight_node.keys import Keyring
    from hashlight_node.model import Clock


@asynccontextmanager
async def open_client(
    settings: Settings, keyring: Keyring, clock: Clock, *, timeout_seconds: int
) -> AsyncIterator[PeerClient]:
    """Open what asks peers, by the settings' rules about where it may connect.

    Args:
        settings: The node's.
        keyring: Signs the requests.
        clock: Unix seconds.
        timeout_seconds: For one request, the whole answer included.
    """
    async with open_session(
        allow_loopback=settings.node.is_loopback,
        allow_private=settings.exchange.allow_private_addresses,
    ) as session:
        yield PeerClient(
            session,
            node_name=settings.node.name,
            http_key_id=keyring.http_key_id,
            http_signer=keyring.http,
            clock=clock,
            timeout_seconds=timeout_seconds,
        )

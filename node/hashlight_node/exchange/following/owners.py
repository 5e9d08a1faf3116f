"""Owners of relayed lists: what we need to know of them and cannot ask them.

We pinned an owner's identity key. Its descriptor, signed by that key, comes from the
relay, and says with which key the owner makes its signs of life.

Source: SPEC.md#relays.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from hashlight_node.peers.errors import blaming
from hashlight_node.store import peers as peer_store
from hashlight_protocol import open_descriptor, parse_vkey, verify_successor

if TYPE_CHECKING:
    from hashlight_node.store.database import Connection

    from .copying import FollowParts
    from .sources import Source

_FRESH_SECONDS: Final = 600


class Owners:
    """Keeps the descriptors of owners whose lists come through relays.

    Args:
        parts: What following needs.
    """

    def __init__(self, parts: FollowParts) -> None:
        self._parts = parts
        self._asked_at: dict[tuple[str, str], int] = {}

    async def introduce(self, source: Source, list_name: str) -> Source:
        """Make sure that we know the owner's keys, as far as the relay does.

        Args:
            source: Where a list comes from.
            list_name: The list.

        Returns:
            The source, with the owner as we know it now.

        Raises:
            PeerError: The relay does not give its descriptor, or one that is none.
        """
        key = (source.asked.name, source.owner.name)
        now = self._parts.clock()
        is_fresh = 0 <= now - self._asked_at.get(key, -_FRESH_SECONDS) < _FRESH_SECONDS
        if not source.is_relayed or (is_fresh and source.owner.descriptor):
            return source
        raw = await self._parts.client.fetch_relayed(
            source.asked, source.owner.name, list_name, "owner"
        )
        introduced = await self._keep(source, raw)
        self._asked_at[key] = now
        return introduced

    async def _keep(self, source: Source, raw: bytes) -> Source:
        identity = parse_vkey(source.owner.identity_vkey)
        with blaming(source.asked.name, "owner's descriptor", raw):
            descriptor = open_descriptor(raw, identity)

        def write(conn: Connection) -> Source:
            known = peer_store.find_peer(conn, source.owner.name) or source.owner
            if known.descriptor_version > descriptor.version:
                return replace(source, owner=known)  # The relay is behind.
            if known.descriptor:
                before = open_descriptor(known.descriptor, identity)
                both = known.descriptor + b"\n" + raw
                with blaming(known.name, "descriptor", both):
                    verify_successor(before, descriptor)
            peer_store.update_descriptor(
                conn, known.peer_id, raw, descriptor.version, descriptor.base
            )
            latest = peer_store.find_peer(conn, known.name) or known
            return replace(source, owner=latest)

        return await self._parts.database.write(write)

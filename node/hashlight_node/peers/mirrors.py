"""What peers hold of a log as its mirrors, by the same methods as at its owner."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hashlight_protocol import MAX_BODY_BUNDLE_BYTES, encode_tile_path, origin_hash

from .client import ENTRIES_BYTES, TILE_BYTES
from .transport import Question

if TYPE_CHECKING:
    from hashlight_node.model import Peer
    from hashlight_protocol import BodyBundleId, EntryBundleId, TileId

    from .client import PeerClient


class MirrorClient:
    """Fetches tiles and bundles of peers' copies. Nothing of it is verified here.

    Args:
        client: Asks the peers, within its limits.
    """

    def __init__(self, client: PeerClient) -> None:
        self._client = client

    async def fetch_tile(self, peer: Peer, origin: str, tile: TileId) -> bytes:
        """Fetch a tile of hashes."""
        what = f"mirrored tile {tile.level}/{tile.index} of {origin}"
        question = Question("GET", _path(origin, tile), what, TILE_BYTES)
        return await self._client.fetch(peer, question)

    async def fetch_entries(
        self, peer: Peer, origin: str, bundle: EntryBundleId
    ) -> bytes:
        """Fetch a bundle of entries."""
        what = f"mirrored entries {bundle.index} of {origin}"
        question = Question("GET", _path(origin, bundle), what, ENTRIES_BYTES)
        return await self._client.fetch(peer, question)

    async def fetch_bodies(
        self, peer: Peer, origin: str, bundle: BodyBundleId
    ) -> bytes:
        """Fetch a bundle of bodies; compressed on the way, decoded here."""
        what = f"mirrored bodies {bundle.index} of {origin}"
        path = _path(origin, bundle)
        question = Question("GET", path, what, MAX_BODY_BUNDLE_BYTES, holds_bodies=True)
        return await self._client.fetch(peer, question)


def _path(origin: str, part: TileId | EntryBundleId | BodyBundleId) -> str:
    return f"/hsf/v1/mirror/{origin_hash(origin)}/{encode_tile_path(part)}"

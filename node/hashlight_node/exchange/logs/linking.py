"""Whether two signed checkpoints of one log can both be true.

A larger tree either begins with the smaller one or does not, and hashes show which.
They come from our own copy, or from the log's owner, whose word is not needed: what it
serves either gives the root that it signed, or shows nothing.

Source: SPEC.md#fork-evidence.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from hashlight_node.peers.errors import PeerError, PeerUnavailableError
from hashlight_node.store import logs
from hashlight_node.store.errors import MissingTileError
from hashlight_protocol import (
    TILE_HEIGHT,
    TILE_WIDTH,
    Checkpoint,
    ForkEvidence,
    ProtocolError,
    TileId,
    consistency_proof,
    frontier_from_tiles,
    parse_checkpoint,
    parse_note,
    tile_reader,
    verify_consistency,
)

from .cosigning import bare_note

if TYPE_CHECKING:
    from collections.abc import Callable

    from hashlight_node.model import Peer
    from hashlight_node.peers.client import PeerClient
    from hashlight_node.store.database import Connection, Database
    from hashlight_protocol import SignedCheckpoint

_MOST_TILES: Final = 64
"""Tiles that one comparison may need: a few on each of eight levels."""


async def find_fork(
    database: Database,
    client: PeerClient,
    asked: Peer,
    *,
    ours: SignedCheckpoint,
    theirs: SignedCheckpoint,
) -> ForkEvidence | None:
    """Hold a checkpoint that somebody showed us against what we know of the log.

    Args:
        database: Has our copy, if there is one.
        client: Asks for what our copy does not have.
        asked: Whom: the log's owner, or who relays it to us.
        ours: The largest checkpoint that we cosigned; it extends our copy.
        theirs: Another checkpoint by a key of the log.

    Returns:
        Evidence if the log forked, None if both can be true.

    Raises:
        PeerUnavailableError: It does not serve what links the two. That makes the log
            suspect and proves nothing.
    """
    if ours.head == theirs.head:
        return None
    if ours.head.tree_size == theirs.head.tree_size:
        return equal_sizes(ours, theirs)
    found = await database.read(lambda conn: find_fork_here(conn, theirs))
    if isinstance(found, ForkEvidence):
        return found
    if found:
        return None
    older, newer = sorted((ours, theirs), key=lambda one: one.head.tree_size)
    return await _link_served(client, asked, older, newer)


def equal_sizes(one: SignedCheckpoint, other: SignedCheckpoint) -> ForkEvidence:
    """Make evidence of two checkpoints of one size with different roots."""
    return ForkEvidence(bare_note(one), bare_note(other), other.head.root_hash)


def find_fork_here(conn: Connection, theirs: SignedCheckpoint) -> ForkEvidence | bool:
    """Hold a checkpoint against our own copy of its log, without asking anybody.

    Returns:
        Evidence; or whether our copy shows that all is well, False if it is too small
        to tell.
    """
    log = logs.find_log(conn, theirs.checkpoint.origin)
    if log is None or log.checkpoint is None:
        return False
    if theirs.head.tree_size > log.checkpoint_size:
        return False
    fetch = logs.tile_fetcher(conn, log.log_id)
    ours = parse_checkpoint(parse_note(log.checkpoint).text)
    return _link(theirs, ours, log.checkpoint, fetch) or True


def _link(
    older: SignedCheckpoint,
    newer: Checkpoint,
    newer_note: bytes,
    fetch: Callable[[int, int], bytes],
) -> ForkEvidence | None:
    """Compare a checkpoint with the beginning of a larger or equal tree.

    Raises:
        ProtocolError: The tiles are not those of the larger tree.
        MissingTileError: One of them is not there.
    """
    old_size, new_size = older.head.tree_size, newer.tree_size
    prefix_root = frontier_from_tiles(fetch, old_size).root
    proof = consistency_proof(tile_reader(fetch), old_size=old_size, new_size=new_size)
    verify_consistency(
        proof,
        old_size=old_size,
        old_root=prefix_root,
        new_size=new_size,
        new_root=newer.root_hash,
    )
    if prefix_root == older.head.root_hash:
        return None
    return ForkEvidence(bare_note(older), newer_note, prefix_root, tuple(proof))


async def _link_served(
    client: PeerClient, asked: Peer, older: SignedCheckpoint, newer: SignedCheckpoint
) -> ForkEvidence | None:
    tiles: dict[tuple[int, int], bytes] = {}

    def fetch(level: int, index: int) -> bytes:
        if (level, index) not in tiles:
            raise MissingTileError(level, index)
        return tiles[level, index]

    for _ in range(_MOST_TILES):
        try:
            return _link(older, newer.checkpoint, bare_note(newer), fetch)
        except MissingTileError as missing:
            tile = _tile(newer.checkpoint, missing.level, missing.index)
        except ProtocolError:
            break
        try:
            raw = await client.fetch_tile(asked, newer.checkpoint.origin, tile)
        except PeerError:
            break
        tiles[tile.level, tile.index] = raw
    reason = "it does not serve what links two checkpoints of its log"
    raise PeerUnavailableError(asked.name, reason)


def _tile(checkpoint: Checkpoint, level: int, index: int) -> TileId:
    count = checkpoint.tree_size >> (TILE_HEIGHT * level)
    return TileId(level, index, min(TILE_WIDTH, count - index * TILE_WIDTH))

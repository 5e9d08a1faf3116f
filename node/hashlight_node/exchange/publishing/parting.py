"""Where two histories of one log of ours part.

If a log cannot be healed because two histories of it were signed, it ends where they
part: what comes before is the same for everybody.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

from hashlight_node.exchange.following.transfer import fetch_tiles
from hashlight_node.peers.errors import blaming
from hashlight_node.store import logs
from hashlight_protocol import (
    TILE_WIDTH,
    BadBundleError,
    EntryBundleId,
    Erase,
    Retract,
    frontier_from_tiles,
    needed_tiles,
    parse_entry,
    parse_entry_bundle,
    plan_range,
)

if TYPE_CHECKING:
    from hashlight_node.model import Log, Peer
    from hashlight_node.peers.client import PeerClient
    from hashlight_node.store.database import Connection, Database
    from hashlight_protocol import SignedCheckpoint, VerifiedRange


async def common_size(
    database: Database,
    client: PeerClient,
    *,
    peer: Peer,
    log: Log,
    signed: SignedCheckpoint,
) -> int:
    """Count the entries with which our log and a peer's copy of it begin alike.

    Args:
        database: The store.
        client: Asks the peer.
        peer: Who has it.
        log: The log as we have it.
        signed: Checkpoint of the copy, signed by us.

    Raises:
        PeerError: The peer stops answering, or what it sends is not what we signed.
    """
    span = await _span(client, peer, signed)
    shared = min(signed.head.tree_size, log.tree_size)
    # From the end: what was restored is rarely old.
    for index in reversed(range(-(-shared // TILE_WIDTH))):
        width = min(TILE_WIDTH, shared - index * TILE_WIDTH)
        own = await database.read(partial(_own, log=log, index=index, width=width))
        if width == span.width(index) and _is_same(span, index, own):
            return index * TILE_WIDTH + width
        theirs = await _fetch(client, peer, span, index)
        alike = _count_alike(own, theirs)
        if alike:
            return index * TILE_WIDTH + alike
    return 0  # pragma: no cover -- the META entry of one origin is the same


async def withdrawals_beyond(
    client: PeerClient, *, peer: Peer, signed: SignedCheckpoint, size: int
) -> list[tuple[int, Retract | Erase]]:
    """Find what a peer's copy takes back beyond the entries that we have in common.

    We signed it, so somebody asked for it: it holds whatever became of that history.

    Args:
        client: Asks the peer.
        peer: Who has the copy.
        signed: Its checkpoint, signed by us.
        size: Entries with which our log begins alike.

    Returns:
        Leaf index there, and the entry, of those that concern common entries.

    Raises:
        PeerError: The peer stops answering, or what it sends is not what we signed.
    """
    span = await _span(client, peer, signed)
    found: list[tuple[int, Retract | Erase]] = []
    for index in range(size // TILE_WIDTH, -(-signed.head.tree_size // TILE_WIDTH)):
        entries = await _fetch(client, peer, span, index)
        for leaf_index, raw in enumerate(entries, index * TILE_WIDTH):
            entry = parse_entry(raw, leaf_index=leaf_index)
            if leaf_index >= size and isinstance(entry, (Retract, Erase)):
                found.append((leaf_index, entry))
    return [(leaf_index, entry) for leaf_index, entry in found if entry.first < size]


async def _span(
    client: PeerClient, peer: Peer, signed: SignedCheckpoint
) -> VerifiedRange:
    origin, size = signed.checkpoint.origin, signed.head.tree_size
    tiles = await fetch_tiles(client, peer, origin, needed_tiles(0, size))
    empty = frontier_from_tiles(_no_tiles, 0)
    with blaming(peer.name, f"copy of {origin}", signed.note_bytes):
        return await asyncio.to_thread(plan_range, empty, signed.checkpoint, tiles)


def _own(conn: Connection, log: Log, index: int, width: int) -> tuple[bytes, ...]:
    raw = logs.read_entry_bundle(conn, log.log_id, index, width)
    assert raw is not None  # noqa: S101 -- entries below the size are stored
    return tuple(parse_entry_bundle(raw, width))


def _is_same(span: VerifiedRange, index: int, own: tuple[bytes, ...]) -> bool:
    try:
        span.check_entries(index, own)
    except BadBundleError:
        return False
    return True


async def _fetch(
    client: PeerClient, peer: Peer, span: VerifiedRange, index: int
) -> tuple[bytes, ...]:
    width = span.width(index)
    bundle = EntryBundleId(index, width)
    raw = await client.fetch_entries(peer, span.origin, bundle)
    with blaming(peer.name, f"mirrored entries {index} of {span.origin}", raw):
        entries = parse_entry_bundle(raw, width)
        span.check_entries(index, entries)
    return tuple(entries)


def _count_alike(own: tuple[bytes, ...], theirs: tuple[bytes, ...]) -> int:
    for count, (mine, other) in enumerate(zip(own, theirs, strict=False)):
        if mine != other:
            return count
    return min(len(own), len(theirs))


def _no_tiles(level: int, index: int) -> bytes:
    raise AssertionError((level, index))

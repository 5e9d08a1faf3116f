"""What an upload of one of our logs is made of, read from the store.

Bodies leave here as they do when a peer fetches them: what its grant does not let
through is withheld.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Final

from hashlight_node.exchange.logs.disclosure import Grantee, disclose
from hashlight_node.exchange.logs.receipts import stored_hashes
from hashlight_node.store import logs, records
from hashlight_protocol import (
    MAX_UPLOAD_PACKAGES,
    TILE_WIDTH,
    AddEntries,
    Body,
    BodyBundleId,
    BodyStatus,
    EntryPackage,
    encode_add_entries,
    encode_body_bundle,
    encode_package,
    package_ranges,
    parse_entry_bundle,
    subtree_proof,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from hashlight_node.model import Log
    from hashlight_node.store.database import Connection
    from hashlight_protocol import GrantScope

_PART_BYTES: Final = 512 * 1024
"""Bodies in one request, more or less; a slow line takes some seconds for so much."""


def read_entries(conn: Connection, log: Log, start: int, ticket: bytes) -> bytes:
    """Write a request that goes on with an upload, up to the log's checkpoint.

    Args:
        conn: A transaction.
        log: One of ours.
        start: First entry that the mirror lacks.
        ticket: What it answered last time.
    """
    end = log.checkpoint_size
    content = [encode_add_entries(AddEntries(log.origin, start, end, ticket))]
    read = stored_hashes(conn, log)
    for leaves in islice(package_ranges(start, end), MAX_UPLOAD_PACKAGES):
        index, offset = divmod(leaves.start, TILE_WIDTH)
        width = leaves.stop - index * TILE_WIDTH
        raw = logs.read_entry_bundle(conn, log.log_id, index, width) or b""
        entries = parse_entry_bundle(raw, width)[offset:]
        block = range(index * TILE_WIDTH, leaves.stop)
        proof = subtree_proof(read, leaves=block, tree_size=end)
        content.append(encode_package(EntryPackage(leaves.start, entries, proof)))
    return b"".join(content)


def read_body_parts(
    conn: Connection, log: Log, leaves: range, scope: GrantScope
) -> list[tuple[BodyBundleId, bytes]]:
    """Read the bodies of entries of one bundle, in requests of a bearable size.

    Args:
        conn: A transaction.
        log: One of ours.
        leaves: Which entries; all of one bundle.
        scope: What the receiver may see.

    Returns:
        For each request its bundle and its content. Bodies that are not in it stand
        there as withheld, which says nothing about them. None if there is none to
        send.
    """
    index = leaves.start // TILE_WIDTH
    bundle = BodyBundleId(index, leaves.stop - index * TILE_WIDTH)
    stored = records.read_bodies(conn, log.log_id, index, bundle.width)
    shown = disclose(stored, Grantee(scope))
    wanted = [
        position
        for position, body in enumerate(shown)
        if body.status is BodyStatus.PRESENT
        and index * TILE_WIDTH + position >= leaves.start
    ]
    return [
        (bundle, encode_body_bundle(_only(shown, part)))
        for part in _parts(shown, wanted)
    ]


def body_ranges(start: int, end: int) -> Iterator[range]:
    """Cut entries at the bundles that their bodies are in."""
    return package_ranges(start, end)


def _parts(bodies: Sequence[Body], wanted: Sequence[int]) -> Iterator[set[int]]:
    part: set[int] = set()
    part_bytes = 0
    for position in wanted:
        if part and part_bytes + len(bodies[position].body) > _PART_BYTES:
            yield part
            part, part_bytes = set(), 0
        part.add(position)
        part_bytes += len(bodies[position].body)
    if part:
        yield part


def _only(bodies: Sequence[Body], part: set[int]) -> list[Body]:
    withheld = Body(BodyStatus.WITHHELD)
    return [
        withheld if body.status is BodyStatus.PRESENT and position not in part else body
        for position, body in enumerate(bodies)
    ]

"""Reading what a log has published, our own and copies alike.

Nothing beyond the newest checkpoint is given out, so nobody sees an entry before it is
signed. Who may have the log is decided by the caller, who also says for whom it reads.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, assert_never

from hashlight_node.exchange.errors import NotServedError
from hashlight_node.store import logs, records
from hashlight_node.store.forks import newest_cosigned
from hashlight_protocol import (
    MAX_SIGNATURES,
    TILE_WIDTH,
    BodyBundleId,
    EntryBundleId,
    Note,
    TileId,
    encode_body_bundle,
    encode_note,
    parse_note,
)

from .disclosure import disclose

if TYPE_CHECKING:
    from hashlight_node.model import Log
    from hashlight_node.store.database import Connection

    from .disclosure import Audience

_HASH_BYTES: Final = 32

_SIGNS_OF_LIFE: Final = 2
"""Room for our own cosignatures on what we serve, while keys overlap."""


def read_checkpoint(conn: Connection, log: Log) -> bytes | None:
    """Give the newest checkpoint of a log of ours, with what witnesses signed on it.

    Of each peer the newest cosignature over this size, as many as a note holds. Readers
    that ask for a quorum need them.

    Source: SPEC.md#quorum.
    """
    if log.checkpoint is None:
        return None
    note = parse_note(log.checkpoint)
    signatures = dict.fromkeys(note.signatures)
    for raw in newest_cosigned(conn, log.log_id, log.checkpoint_size):
        cosigned = parse_note(raw)
        if cosigned.text == note.text:
            others = (one for one in cosigned.signatures if one.name != log.origin)
            signatures |= dict.fromkeys(others)
    kept = tuple(signatures)[: MAX_SIGNATURES - _SIGNS_OF_LIFE]
    return encode_note(Note(note.text, kept))


def read_tile(conn: Connection, log: Log, tile: TileId) -> bytes:
    """Give a tile of hashes.

    Raises:
        NotServedError: The published tree has no such tile.
    """
    check_published(log, tile)
    hashes = logs.read_tile(conn, log.log_id, tile.level, tile.index)
    length = tile.width * _HASH_BYTES
    if hashes is None or len(hashes) < length:
        raise NotServedError("tile")
    return hashes[:length]


def read_entries(conn: Connection, log: Log, bundle: EntryBundleId) -> bytes:
    """Give a bundle of entries.

    Raises:
        NotServedError: The published tree has no such bundle.
    """
    check_published(log, bundle)
    raw = logs.read_entry_bundle(conn, log.log_id, bundle.index, bundle.width)
    if raw is None:
        raise NotServedError("entries")
    return raw


def read_bodies(
    conn: Connection, log: Log, bundle: BodyBundleId, audience: Audience
) -> bytes:
    """Give a bundle of bodies, not compressed.

    Unlike tiles and entries it may change: an erased body disappears.

    Raises:
        NotServedError: The published tree has no such bundle.
    """
    check_published(log, bundle)
    found = records.read_bodies(conn, log.log_id, bundle.index, bundle.width)
    return encode_body_bundle(disclose(found, audience))


def check_published(log: Log, resource: TileId | EntryBundleId | BodyBundleId) -> None:
    """Check that the published tree has a tile or bundle of this width.

    Raises:
        NotServedError: It has not.
    """
    size = log.checkpoint_size
    match resource:
        case TileId(level, index, width):
            _check_width("tile", index, width, size >> (8 * level))
        case EntryBundleId(index, width):
            _check_width("entries", index, width, size)
        case BodyBundleId(index, width):
            _check_width("bodies", index, width, size)
        case _:
            assert_never(resource)


def _check_width(what: str, index: int, width: int, count: int) -> None:
    """Refuse what the published tree does not have.

    Args:
        what: For the error.
        index: Which tile or bundle.
        width: How much of it is asked for, 1 to 256.
        count: Hashes, entries or bodies there are at that level.
    """
    if not 0 < width <= min(TILE_WIDTH, count - index * TILE_WIDTH):
        raise NotServedError(what)

"""Making receipts: a record and the proof that a signed log holds it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hashlight_node.exchange.errors import ErasedError, NotServedError, WithheldError
from hashlight_node.model import RecordState
from hashlight_node.store import logs, records
from hashlight_protocol import (
    Body,
    BodyStatus,
    Receipt,
    Ref,
    encode_receipt,
    inclusion_proof,
    tile_reader,
)

from .disclosure import disclose

if TYPE_CHECKING:
    from hashlight_node.model import Log
    from hashlight_node.store.database import Connection
    from hashlight_protocol import HashReader

    from .disclosure import Audience


def stored_hashes(conn: Connection, log: Log) -> HashReader:
    """Read subtree hashes of a log from its tiles, within one transaction."""
    return tile_reader(logs.tile_fetcher(conn, log.log_id))


def build_receipt(
    conn: Connection, log: Log, leaf_index: int, audience: Audience
) -> bytes:
    """Write the receipt of one record, for the log's newest checkpoint.

    Args:
        conn: A transaction.
        log: The log, own or followed.
        leaf_index: Position of the record.
        audience: Who will read it.

    Raises:
        NotServedError: There is no record there, or no checkpoint covers it yet.
        ErasedError: It was erased.
        WithheldError: Its body is not here, or not for this audience.
    """
    if log.checkpoint is None or leaf_index >= log.checkpoint_size:
        raise NotServedError("record")
    record = records.read_record(conn, Ref(log.origin, leaf_index))
    if record is None:
        raise NotServedError("record")
    if record.state is RecordState.ERASED:
        raise ErasedError(leaf_index)
    (body,) = disclose([Body(record.status, record.salt, record.body)], audience)
    if body.status is not BodyStatus.PRESENT:
        raise WithheldError(leaf_index)
    proof = inclusion_proof(
        stored_hashes(conn, log), leaf_index=leaf_index, tree_size=log.checkpoint_size
    )
    return encode_receipt(
        Receipt(leaf_index, tuple(proof), log.checkpoint, record.salt, record.body)
    )

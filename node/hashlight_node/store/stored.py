"""What is stored, read as it is: nothing here believes that it is right.

For `exchange.operating.fsck`, which compares it with what the logs authenticate. Every
function reads a bounded part, so that a check of any store takes the same memory.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from sqlalchemy import and_, func, select

from hashlight_node.model import RecordState, signal_digest
from hashlight_node.store import tables
from hashlight_node.store.statements import chunks

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection

_logs = tables.logs
_tiles = tables.tiles
_bundles = tables.entry_bundles
_records = tables.records
_contents = tables.contents
_withdrawals = tables.withdrawals
_signals = tables.signals
_values = tables.signal_values
_links = tables.record_signals

_FOUND_TOGETHER: Final = 1000
"""Most that one look for contradictions gives; there may be more after it is mended."""


class StoredBlock(NamedTuple):
    """256 leaves of a log, as they are stored.

    Attributes:
        tree_size: Size of the log's tree in the same transaction.
        entries: The entry bundle, None if it is missing.
        tile: The tile of level 0.
        parent: The tile of level 1 that holds the hash of this one.
    """

    tree_size: int
    entries: bytes | None
    tile: bytes | None
    parent: bytes | None


class StoredLeaf(NamedTuple):
    """A record and everything that was made of its body.

    Attributes:
        record_id: Its id.
        leaf_index: Its position in the log.
        status: Number of its `BodyStatus`.
        state: Its `RecordState`, as text.
        kind: Kind of record.
        expires_at: When it stops counting.
        content_id: Where salt and body are.
        salt: The salt; None if there is no content.
        body: The body.
        evidence: What a lookup shows of it.
        claims: Type, value and quality of each signal, sorted.
        statement: The columns of its opinion or sighting.
    """

    record_id: int
    leaf_index: int
    status: int
    state: str
    kind: str
    expires_at: int | None
    content_id: int | None
    salt: bytes | None
    body: bytes | None
    evidence: str | None
    claims: tuple[tuple[str, str, int | None], ...]
    statement: tuple[object, ...] | None


class WithdrawalRow(NamedTuple):
    """What is remembered of a RETRACT or ERASE entry.

    Attributes:
        leaf_index: Position of the entry.
        kind: `retract` or `erase`.
        first_index: First leaf that it covers.
        range_count: How many.
        reason: Why.
    """

    leaf_index: int
    kind: str
    first_index: int
    range_count: int
    reason: int


class BadSignal(NamedTuple):
    """A signal whose row does not say what the records say.

    Attributes:
        signal_id: Its id.
        what: `count`, `digest` or `orphan`.
    """

    signal_id: int
    what: str


def read_block(connection: Connection, log_id: int, index: int) -> StoredBlock:
    """Read the entries and hashes of a block, of one moment."""
    size = connection.execute(
        select(_logs.c.tree_size).where(_logs.c.log_id == log_id)
    ).scalar_one()
    entries = connection.execute(
        select(_bundles.c.entries).where(
            _bundles.c.log_id == log_id, _bundles.c.bundle_index == index
        )
    ).scalar()
    hashes = {
        (row.level, row.tile_index): row.hashes
        for row in connection.execute(
            select(_tiles.c.level, _tiles.c.tile_index, _tiles.c.hashes).where(
                _tiles.c.log_id == log_id,
                ((_tiles.c.level == 0) & (_tiles.c.tile_index == index))
                | ((_tiles.c.level == 1) & (_tiles.c.tile_index == index // 256)),
            )
        )
    }
    return StoredBlock(
        size, entries, hashes.get((0, index)), hashes.get((1, index // 256))
    )


def read_leaves(
    connection: Connection, log_id: int, first: int, end: int
) -> list[StoredLeaf]:
    """Read the records of some leaves with all that was made of them."""
    rows = connection.execute(
        select(
            _records.c.record_id,
            _records.c.leaf_index,
            _records.c.status,
            _records.c.state,
            _records.c.kind,
            _records.c.expires_at,
            _records.c.content_id,
            _contents.c.salt,
            _contents.c.body,
            _contents.c.evidence,
        )
        .outerjoin(_contents, _contents.c.content_id == _records.c.content_id)
        .where(
            _records.c.log_id == log_id, _records.c.leaf_index.between(first, end - 1)
        )
        .order_by(_records.c.leaf_index)
    ).all()
    ids = [row.record_id for row in rows]
    claims = _claims_of(connection, ids)
    statements = _statements_of(connection, ids)
    return [
        StoredLeaf(
            **row._mapping,  # noqa: SLF001 - public despite its name
            claims=tuple(sorted(claims.get(row.record_id, []), key=repr)),
            statement=statements.get(row.record_id),
        )
        for row in rows
    ]


def read_withdrawals(
    connection: Connection, log_id: int, first: int, end: int
) -> list[WithdrawalRow]:
    """Read what is remembered of the RETRACT and ERASE entries among some leaves."""
    rows = connection.execute(
        select(
            _withdrawals.c.leaf_index,
            _withdrawals.c.kind,
            _withdrawals.c.first_index,
            _withdrawals.c.range_count,
            _withdrawals.c.reason,
        )
        .where(
            _withdrawals.c.log_id == log_id,
            _withdrawals.c.leaf_index.between(first, end - 1),
        )
        .order_by(_withdrawals.c.leaf_index)
    )
    return [WithdrawalRow(*row) for row in rows]


def read_checkpoints(
    connection: Connection, log_id: int, first: int, end: int
) -> list[tuple[int, bytes]]:
    """Read sizes above `first` and up to `end`, with the roots that are remembered."""
    kept = tables.checkpoints
    rows = connection.execute(
        select(kept.c.tree_size, kept.c.root_hash)
        .where(
            kept.c.log_id == log_id, kept.c.tree_size > first, kept.c.tree_size <= end
        )
        .order_by(kept.c.tree_size)
    )
    return [(row.tree_size, row.root_hash) for row in rows]


def find_unwithdrawn(connection: Connection, log_id: int) -> list[tuple[int, int]]:
    """Find records that count, or have content, although an entry took them back.

    Returns:
        Id and leaf index of the first of them.
    """
    takes = and_(
        _withdrawals.c.log_id == _records.c.log_id,
        _records.c.leaf_index >= _withdrawals.c.first_index,
        _records.c.leaf_index < _withdrawals.c.first_index + _withdrawals.c.range_count,
    )
    erased = [RecordState.ERASED.value]
    # A record of a log that ended counts nowhere, whatever it was before.
    others = (RecordState.RETRACTED, RecordState.SUPERSEDED, RecordState.ENDED)
    gone = [*erased, *(it.value for it in others)]
    query = (
        select(_records.c.record_id, _records.c.leaf_index)
        .join_from(_withdrawals, _records, takes)
        .where(
            _withdrawals.c.log_id == log_id,
            (_records.c.state.not_in(gone))
            | ((_withdrawals.c.kind == "erase") & (_records.c.state.not_in(erased))),
        )
        .distinct()
        .order_by(_records.c.leaf_index)
        .limit(_FOUND_TOGETHER)
    )
    return [(row.record_id, row.leaf_index) for row in connection.execute(query)]


def find_bad_signals(
    connection: Connection, after: int, limit: int
) -> tuple[list[BadSignal], int, int | None]:
    """Hold the rows of some signals against the records that assert them.

    Args:
        connection: In a transaction.
        after: Id behind which to begin.
        limit: How many to look at.

    Returns:
        Those that are wrong, how many were looked at, and the last id; None at the end.
    """
    rows = connection.execute(
        select(
            _signals.c.signal_id,
            _signals.c.type,
            _signals.c.digest,
            _signals.c.live_count,
            _values.c.value,
        )
        .outerjoin(_values, _values.c.signal_id == _signals.c.signal_id)
        .where(_signals.c.signal_id > after)
        .order_by(_signals.c.signal_id)
        .limit(limit)
    ).all()
    if not rows:
        return [], 0, None
    last: int = rows[-1].signal_id
    ids = (_links.c.signal_id > after) & (_links.c.signal_id <= last)
    query = (
        select(_links.c.signal_id, _records.c.state, func.count().label("many"))
        .join(_records, _records.c.record_id == _links.c.record_id)
        .where(ids)
        .group_by(_links.c.signal_id, _records.c.state)
    )
    live: dict[int, int] = {}
    for row in connection.execute(query):
        is_live = row.state == RecordState.LIVE.value
        live[row.signal_id] = live.get(row.signal_id, 0) + (row.many if is_live else 0)
    bad: list[BadSignal] = []
    for row in rows:
        if row.signal_id not in live:
            bad.append(BadSignal(row.signal_id, "orphan"))
        elif row.value is None or signal_digest(row.type, row.value) != row.digest:
            bad.append(BadSignal(row.signal_id, "digest"))
        elif live[row.signal_id] != row.live_count:
            bad.append(BadSignal(row.signal_id, "count"))
    return bad, len(rows), last


def _claims_of(
    connection: Connection, record_ids: Sequence[int]
) -> dict[int, list[tuple[str, str, int | None]]]:
    found: dict[int, list[tuple[str, str, int | None]]] = {}
    for part in chunks(record_ids):
        query = (
            select(
                _links.c.record_id, _signals.c.type, _values.c.value, _links.c.quality
            )
            .outerjoin(_signals, _signals.c.signal_id == _links.c.signal_id)
            .outerjoin(_values, _values.c.signal_id == _links.c.signal_id)
            .where(_links.c.record_id.in_(part))
        )
        for record_id, type_name, value, quality in connection.execute(query):
            claim = (type_name or "", value or "", quality)
            found.setdefault(record_id, []).append(claim)
    return found


def _statements_of(
    connection: Connection, record_ids: Sequence[int]
) -> dict[int, tuple[object, ...]]:
    found: dict[int, tuple[object, ...]] = {}
    for table in (tables.opinions, tables.sightings):
        columns: list[Any] = [it for it in table.columns if it.name != "record_id"]
        for part in chunks(record_ids):
            query = select(table.c.record_id, *columns).where(
                table.c.record_id.in_(part)
            )
            for record_id, *rest in connection.execute(query):
                found[record_id] = (*found.get(record_id, ()), table.name, *rest)
    return found

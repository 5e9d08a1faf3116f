"""Withdrawals reach a record in every log of its list.

A RETRACT or ERASE names an entry of its own log. The same record may be stored in
others, because it was re-issued; what a person asked to be destroyed is not kept there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import select

from hashlight_node.model import RecordState
from hashlight_node.store import logs, tables, withdrawing
from hashlight_node.store.reissues import link
from hashlight_node.store.statements import chunks
from hashlight_protocol import TILE_WIDTH, EntryKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sqlalchemy import Connection, Row

    from hashlight_node.model import Log, SignalChange
    from hashlight_node.store.ranges import Effect

_records = tables.records

_TOGETHER: Final = 2000
"""Records changed at a time; bounds memory when a range covers millions."""


def withdraw_copies(
    connection: Connection,
    log: Log,
    effects: Sequence[Effect],
    *,
    first_index: int,
    now: int,
) -> list[SignalChange]:
    """Take back in the other logs of a list what was taken back in one.

    Args:
        connection: In a write transaction, after the effects were applied to the log.
        log: The log.
        effects: Ranges of it that do not overlap.
        first_index: First entry of the batch that brought them.
        now: Unix seconds.

    Returns:
        Signals that died.
    """
    changes: list[SignalChange] = []
    if not effects:
        return changes
    others = [
        it
        for it in logs.logs_of_list(connection, log.node, log.list_name)
        if it.log_id != log.log_id
    ]
    if not others:
        return changes
    if any(effect.by.is_erase for effect in effects):
        _link_unlinked(connection, log, others, first_index)
    for effect in effects:
        changes += _withdraw(connection, log, effect, now)
    return changes


def _withdraw(
    connection: Connection, log: Log, effect: Effect, now: int
) -> list[SignalChange]:
    own = _records.alias("own")
    to = RecordState.ERASED if effect.by.is_erase else RecordState.RETRACTED
    out_of_use = {RecordState.ERASED, to}
    query = (
        select(*withdrawing.COLUMNS)
        .join_from(own, _records, _records.c.same_as == own.c.same_as)
        .where(
            own.c.log_id == log.log_id,
            own.c.leaf_index <= effect.end - 1,
            own.c.same_as.is_not(None),
            _records.c.record_id != own.c.record_id,
            _records.c.state.not_in(sorted(out_of_use)),
        )
        .order_by(own.c.leaf_index)
        .limit(_TOGETHER)
        .add_columns(own.c.leaf_index.label("own_index"))
    )
    changes: list[SignalChange] = []
    first = effect.first
    while rows := connection.execute(query.where(own.c.leaf_index >= first)).all():
        changes += withdrawing.take_down(
            connection, rows, to, reason=effect.by.reason, now=now
        )
        # Again from the last one: it may have more copies than there was room for.
        first = rows[-1].own_index
    return changes


def _link_unlinked(
    connection: Connection, log: Log, others: Sequence[Log], first_index: int
) -> None:
    """Find by its commitment what was just erased and stands elsewhere in another log.

    This is rare: an owner re-issues a record out of its place only in order to erase
    it. So there is no index of commitments, and the other logs are read through.
    """
    query = select(_records.c.record_id, _records.c.leaf_index).where(
        _records.c.log_id == log.log_id,
        _records.c.withdrawn_by >= first_index,
        _records.c.state == RecordState.ERASED.value,
        _records.c.same_as.is_(None),
    )
    erased = {row.leaf_index: row.record_id for row in connection.execute(query)}
    entries = logs.read_entries_at(connection, log.log_id, erased)
    wanted = {raw: erased[it] for it, raw in entries.items()}
    for other in others:
        places = _places(connection, other, wanted) if wanted else {}
        for row in _rows_of(connection, other, places):
            record_id = wanted[places[row.leaf_index]]
            same_as = row.record_id if row.same_as is None else row.same_as
            link(connection, [(row.record_id, same_as), (record_id, same_as)])


def _places(
    connection: Connection, log: Log, wanted: Iterable[bytes]
) -> dict[int, bytes]:
    entries = frozenset(wanted)
    found: dict[int, bytes] = {}
    for first in range(0, log.tree_size, TILE_WIDTH):
        bundle = logs.read_entries_at(
            connection, log.log_id, range(first, first + TILE_WIDTH)
        )
        found.update(
            (leaf_index, raw)
            for leaf_index, raw in bundle.items()
            if raw[0] == EntryKind.RECORD and raw in entries
        )
    return found


def _rows_of(
    connection: Connection, log: Log, leaf_indexes: Iterable[int]
) -> Iterable[Row[*tuple[Any, ...]]]:
    for part in chunks(sorted(leaf_indexes)):
        query = select(
            _records.c.record_id, _records.c.leaf_index, _records.c.same_as
        ).where(_records.c.log_id == log.log_id, _records.c.leaf_index.in_(part))
        yield from connection.execute(query).all()

"""Takes stored records out of use.

Three steps lead down and none up again: superseded, retracted, erased. A step that
comes late, twice or in another order therefore ends in the same state.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from sqlalchemy import bindparam, delete, or_, select, update

from hashlight_node.model import RecordState, SignalChange
from hashlight_node.store import signals, tables
from hashlight_node.store.changed_bodies import note_changed
from hashlight_node.store.contents import erase_contents
from hashlight_node.store.statements import chunks, update_rows
from hashlight_protocol import BodyStatus, Reason

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from sqlalchemy import ColumnElement, Connection, Row

    from hashlight_node.store.ranges import Effect

_records = tables.records

_TOGETHER: Final = 2000
"""Records changed at a time; bounds memory when a range covers millions."""

_SHORT: Final = 64
"""Leaves of a range up to which naming each costs less than a query of its own."""

_DOWN: Final = (
    update(_records)
    .where(_records.c.record_id == bindparam("of"))
    .values(
        state=bindparam("to"),
        reason=bindparam("why"),
        withdrawn_by=bindparam("by"),
        withdrawn_at=bindparam("at"),
    )
)
COLUMNS: Final = (
    _records.c.record_id,
    _records.c.log_id,
    _records.c.leaf_index,
    _records.c.state,
    _records.c.content_id,
    _records.c.family,
    _records.c.withdrawn_by,
)
_OUT_OF_USE: Final = frozenset({RecordState.RETRACTED, RecordState.ERASED})


class _Step(NamedTuple):
    row: Row[*tuple[Any, ...]]
    to: RecordState
    reason: int | None
    by: int | None


def apply_ranges(
    connection: Connection, log_id: int, effects: Iterable[Effect], *, now: int
) -> list[SignalChange]:
    """Retract and erase stored records.

    Args:
        connection: In a write transaction.
        log_id: The log that the ranges are of.
        effects: Ranges that do not overlap.
        now: Unix seconds.

    Returns:
        Signals that died.
    """
    changes: list[SignalChange] = []
    for found in _covered(connection, log_id, effects):
        steps = [
            _Step(row, _goal(effect), effect.by.reason, effect.by.leaf_index)
            for row, effect in found
            if _is_above(row, effect)
        ]
        changes += _take(connection, steps, now)
    return changes


def supersede(
    connection: Connection, log_id: int, winners: Mapping[int, int], *, now: int
) -> list[SignalChange]:
    """Retire records that later ones replace.

    Args:
        connection: In a write transaction.
        log_id: The log.
        winners: By family, the leaf index of its latest member.
        now: Unix seconds.

    Returns:
        Signals that died.
    """
    steps: list[_Step] = []
    for part in chunks(sorted(winners)):
        for column in (_records.c.family, _records.c.leaf_index):
            query = select(*COLUMNS).where(
                _records.c.log_id == log_id,
                column.in_(part),
                _records.c.state == RecordState.LIVE.value,
            )
            for row in connection.execute(query):
                family = row.leaf_index if row.family is None else row.family
                winner = winners.get(family, 0)
                if row.leaf_index < winner:
                    to, reason = RecordState.SUPERSEDED, Reason.SUPERSEDED
                    steps.append(_Step(row, to, reason, winner))
    return _take(connection, steps, now)


def take_down(
    connection: Connection,
    rows: Sequence[Row[*tuple[Any, ...]]],
    to: RecordState,
    *,
    reason: int | None,
    now: int,
) -> list[SignalChange]:
    """Retract or erase records because of what another log of their list says.

    Args:
        connection: In a write transaction.
        rows: `COLUMNS` of the records.
        to: `RETRACTED` or `ERASED`.
        reason: Why, as the other log says.
        now: Unix seconds.

    Returns:
        Signals that died.
    """
    return _take(connection, [_Step(row, to, reason, None) for row in rows], now)


def _covered(
    connection: Connection, log_id: int, effects: Iterable[Effect]
) -> Iterator[list[tuple[Row[*tuple[Any, ...]], Effect]]]:
    short: dict[int, Effect] = {}
    for effect in effects:
        if effect.end - effect.first <= _SHORT:
            short.update(dict.fromkeys(range(effect.first, effect.end), effect))
            continue
        for page in _pages(connection, log_id, effect):
            yield [(row, effect) for row in page]
    for part in chunks(sorted(short)):
        query = select(*COLUMNS).where(
            _records.c.log_id == log_id, _records.c.leaf_index.in_(part)
        )
        rows = connection.execute(query).all()
        yield [(row, short[row.leaf_index]) for row in rows]


def _pages(
    connection: Connection, log_id: int, effect: Effect
) -> Iterator[Sequence[Row[*tuple[Any, ...]]]]:
    # Records that are there already are passed over within the database, so a range
    # over all of a log costs little when it comes again.
    above: ColumnElement[bool] = _records.c.state.not_in(sorted(_OUT_OF_USE))
    if effect.by.is_erase:
        above = or_(
            _records.c.state != RecordState.ERASED.value,
            _records.c.withdrawn_by.is_(None),
        )
    query = (
        select(*COLUMNS)
        .where(_records.c.log_id == log_id, above)
        .order_by(_records.c.leaf_index)
        .limit(_TOGETHER)
    )
    first = effect.first
    while True:
        page = connection.execute(
            query.where(_records.c.leaf_index.between(first, effect.end - 1))
        ).all()
        yield page
        if len(page) < _TOGETHER:
            return
        first = page[-1].leaf_index + 1


def _goal(effect: Effect) -> RecordState:
    return RecordState.ERASED if effect.by.is_erase else RecordState.RETRACTED


def _is_above(row: Row[*tuple[Any, ...]], effect: Effect) -> bool:
    if effect.by.is_erase:
        # A body can be known to be erased before the ERASE arrives that says so.
        return row.state != RecordState.ERASED or row.withdrawn_by is None
    return row.state not in _OUT_OF_USE


def _take(
    connection: Connection, steps: Sequence[_Step], now: int
) -> list[SignalChange]:
    if not steps:
        return []
    update_rows(
        connection,
        _DOWN,
        [
            {
                "of": it.row.record_id,
                "to": it.to.value,
                "why": it.reason,
                "by": it.by,
                "at": now,
            }
            for it in steps
        ],
    )
    live = [it.row.record_id for it in steps if it.row.state == RecordState.LIVE]
    changes = signals.count_down(connection, live)
    _destroy(connection, [it.row for it in steps if it.to is RecordState.ERASED])
    return changes


def _destroy(connection: Connection, rows: Sequence[Row[*tuple[Any, ...]]]) -> None:
    note_changed(connection, [(row.log_id, row.leaf_index) for row in rows])
    record_ids = [row.record_id for row in rows]
    for part in chunks(record_ids):
        connection.execute(
            update(_records)
            .where(_records.c.record_id.in_(part))
            .values(
                status=BodyStatus.ERASED.value,
                kind="unknown",
                content_id=None,
                expires_at=None,
            )
        )
        for table in (tables.opinions, tables.sightings):
            connection.execute(delete(table).where(table.c.record_id.in_(part)))
    signals.erase_claims(connection, record_ids)
    erase_contents(
        connection, [row.content_id for row in rows if row.content_id is not None]
    )

"""How one log of a list takes the place of another.

The records of a log that goes on an older one are stored like all others while it is
filled, and they keep their signals alive, but no lookup shows them. One transaction
then lets the new log count and ends the old one, so that every record is found exactly
once at any moment.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from sqlalchemy import func, select, update

from hashlight_node.model import LogState, RecordState, SignalChange
from hashlight_node.store import logs, tables, withdrawing
from hashlight_node.store.changes import record_changes
from hashlight_node.store.ranges import clip, resolve, withdrawals_in

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from sqlalchemy import ColumnElement, Connection

    from hashlight_node.model import Log
    from hashlight_protocol import Erase, Reason, Retract

_records = tables.records
_signals = tables.signals
_values = tables.signal_values
_claims = tables.record_signals
_logs = tables.logs

_TOGETHER: Final = 2000

_COUNTED: Final = (
    RecordState.LIVE,
    RecordState.WITHHELD,
    RecordState.INVALID,
    RecordState.ENDED,
)
"""States of records that a next log goes on with."""


class Erased(NamedTuple):
    """A record that was erased, and why."""

    leaf_index: int
    reason: int


def let_count(
    connection: Connection, log: Log, states: Mapping[str, LogState], *, now: int
) -> list[SignalChange]:
    """Let a log count that is whole here, and end those whose place it takes.

    Args:
        connection: In a write transaction.
        log: The log.
        states: By origin, how the logs before it ended; frozen if nothing is said.
        now: Unix seconds.

    Returns:
        Signals that died; none that the new log asserts is among them.
    """
    changes: list[SignalChange] = []
    for old in logs.logs_of_list(connection, log.node, log.list_name):
        if old.epoch < log.epoch and old.counts_until is None:
            changes += end_records(connection, old.log_id, 0, now=now)
            connection.execute(
                update(_logs)
                .where(_logs.c.log_id == old.log_id)
                .values(
                    counts_until=now,
                    state=states.get(old.origin, LogState.FROZEN).value,
                )
            )
    connection.execute(
        update(_logs).where(_logs.c.log_id == log.log_id).values(counts_from=now)
    )
    return changes


def end_records(
    connection: Connection, log_id: int, first_index: int, *, now: int
) -> list[SignalChange]:
    """Let the records of a log from an index on count no more.

    They stay as they are otherwise: for audit, and so that an ERASE finds them.

    Args:
        connection: In a write transaction.
        log_id: The log.
        first_index: First leaf.
        now: Unix seconds.

    Returns:
        Signals that died.
    """
    which = (_records.c.log_id == log_id, _records.c.leaf_index >= first_index)
    live = (*which, _records.c.state == RecordState.LIVE.value)
    # Set by set, because there may be millions; and counted beforehand, because a count
    # for each signal would be found by way of the log, which reads all of it each time.
    counts = (
        select(_claims.c.signal_id, func.count().label("fewer"))
        .join_from(_records, _claims, _claims.c.record_id == _records.c.record_id)
        .where(*live)
        .group_by(_claims.c.signal_id)
        .subquery()
    )
    connection.execute(
        update(_signals)
        .where(_signals.c.signal_id == counts.c.signal_id)
        .values(live_count=_signals.c.live_count - counts.c.fewer)
    )
    dead = (
        select(_signals.c.signal_id, _signals.c.type, _values.c.value)
        .join_from(counts, _signals, _signals.c.signal_id == counts.c.signal_id)
        .join(_values, _values.c.signal_id == _signals.c.signal_id)
        .where(_signals.c.live_count == 0)
    )
    changes = [SignalChange(*row, live=False) for row in connection.execute(dead)]
    counted = [RecordState.LIVE.value, RecordState.WITHHELD.value]
    connection.execute(
        update(_records)
        .where(*which, _records.c.state.in_(counted))
        .values(state=RecordState.ENDED.value, withdrawn_at=now)
    )
    record_changes(connection, changes, now=now)
    return changes


def undo_withdrawals(
    connection: Connection,
    log_id: int,
    first_index: int,
    *,
    reasons: Iterable[Reason] | None = None,
) -> None:
    """Forget that entries from an index on took records back.

    The records stay out of use here. Whether they count again is for the next log to
    say, which otherwise could not re-issue what was taken back.

    Args:
        connection: In a write transaction.
        log_id: The log.
        first_index: First entry that does not count.
        reasons: Only of withdrawals with one of these; all if None.
    """
    down = [RecordState.RETRACTED, RecordState.ERASED, RecordState.SUPERSEDED]
    which: list[ColumnElement[bool]] = [
        _records.c.log_id == log_id,
        _records.c.withdrawn_by >= first_index,
        _records.c.state.in_([it.value for it in down]),
    ]
    if reasons is not None:
        which.append(_records.c.reason.in_([int(it) for it in reasons]))
    connection.execute(
        update(_records).where(*which).values(state=RecordState.ENDED.value)
    )


def destroy_unissued(
    connection: Connection, log_id: int, *, now: int
) -> list[SignalChange]:
    """Destroy the content of an ended log that was not re-issued.

    For a log whose end we never saw: an ERASE may stand there that we do not know of.

    Returns:
        Signals that died.
    """
    query = (
        select(*withdrawing.COLUMNS)
        .where(
            _records.c.log_id == log_id,
            _records.c.content_id.is_not(None),
            _records.c.same_as.is_(None),
        )
        .order_by(_records.c.leaf_index)
        .limit(_TOGETHER)
    )
    changes: list[SignalChange] = []
    first = 0
    while rows := connection.execute(query.where(_records.c.leaf_index >= first)).all():
        changes += withdrawing.take_down(
            connection, rows, RecordState.ERASED, reason=None, now=now
        )
        first = rows[-1].leaf_index
    record_changes(connection, changes, now=now)
    return changes


def counted(
    connection: Connection, log_id: int, first_index: int, end_index: int
) -> list[int]:
    """List records of a log that a next log goes on with.

    Args:
        connection: In a transaction.
        log_id: The log.
        first_index: First leaf to look at.
        end_index: First leaf not to look at.

    Returns:
        Leaf indexes in order: whatever was not taken back, also what is withheld here
        or no record.
    """
    query = (
        select(_records.c.leaf_index)
        .where(*_counted(log_id, end_index), _records.c.leaf_index >= first_index)
        .order_by(_records.c.leaf_index)
    )
    return list(connection.execute(query).scalars())


def erased_from(connection: Connection, log_id: int, first_index: int) -> list[Erased]:
    """List the records of a log that entries from an index on erased, by leaf index."""
    query = (
        select(_records.c.leaf_index, _records.c.reason)
        .where(
            _records.c.log_id == log_id,
            _records.c.state == RecordState.ERASED.value,
            _records.c.withdrawn_by >= first_index,
        )
        .order_by(_records.c.leaf_index)
    )
    return [
        Erased(row.leaf_index, row.reason or 0) for row in connection.execute(query)
    ]


def take_back(
    connection: Connection,
    log_id: int,
    elsewhere: Iterable[tuple[int, Retract | Erase]],
    *,
    end: int,
    now: int,
) -> list[SignalChange]:
    """Retract and erase records as entries say that are not in the log as it is here.

    Args:
        connection: In a write transaction.
        log_id: The log.
        elsewhere: Leaf index in the other history, and the entry.
        end: Records from this leaf on are other ones there, and stay.
        now: Unix seconds.

    Returns:
        Signals that died.
    """
    found = [
        one
        for leaf_index, entry in elsewhere
        for one in withdrawals_in([entry], leaf_index)
    ]
    effects = clip(resolve(found), 0, end)
    changes = withdrawing.apply_ranges(connection, log_id, effects, now=now)
    record_changes(connection, changes, now=now)
    return changes


def last_counted(connection: Connection, log_id: int, end_index: int) -> int:
    """Find the last of those records below an index; 0 if there is none."""
    query = select(func.max(_records.c.leaf_index)).where(*_counted(log_id, end_index))
    last: int | None = connection.execute(query).scalar()
    return last or 0


def _counted(log_id: int, end_index: int) -> tuple[ColumnElement[bool], ...]:
    return (
        _records.c.log_id == log_id,
        _records.c.leaf_index < end_index,
        _records.c.state.in_([it.value for it in _COUNTED]),
    )

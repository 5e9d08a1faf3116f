"""The feed of what became live or died, for everything that keeps a copy of that.

A row says *that* a signal changed; what it is now is read when the row is. So whoever
reads on from where it stopped always ends at the state of the moment, a signal that is
dead is never given as live, and the feed holds no value that an erase would have to
find. Rows are numbered without gaps, and a number is never used twice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sqlalchemy import and_, delete, func, select

from hashlight_node.model import FeedMark, SignalChange
from hashlight_node.store import tables
from hashlight_node.store.statements import insert_rows

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy import Connection

_changes = tables.signal_changes
_signals = tables.signals
_values = tables.signal_values

_PRUNED_TOGETHER: Final = 10_000
"""Rows deleted in one transaction: others want to write as well."""

_AFTER: Final = (
    select(
        _changes.c.seq,
        _changes.c.signal_id,
        _changes.c.changed_at,
        _signals.c.type,
        _values.c.value,
        _signals.c.live_count,
    )
    .outerjoin(_signals, _signals.c.signal_id == _changes.c.signal_id)
    .outerjoin(_values, _values.c.signal_id == _signals.c.signal_id)
    .order_by(_changes.c.seq)
)


def record_changes(
    connection: Connection, changes: Iterable[SignalChange], *, now: int
) -> None:
    """Add to the feed what a transaction changed.

    Args:
        connection: In that write transaction.
        changes: In the order in which they take effect; the last of a signal counts.
        now: Unix seconds.
    """
    last = {it.signal_id: it.live for it in changes}
    first = newest_seq(connection) + 1 if last else 0
    rows = [
        (seq, signal_id, int(is_live), now)
        for seq, (signal_id, is_live) in enumerate(last.items(), first)
    ]
    insert_rows(connection, _changes, rows)


def begin_feed(connection: Connection, *, now: int) -> FeedMark:
    """Write the first row of a feed that has none, so that there is a place in it.

    It says of some live signal that it is live, which is no news to anybody. A store
    that is older than its feed has signals and no rows.

    Args:
        connection: In a write transaction.
        now: Unix seconds.

    Returns:
        The newest row; the beginning if nothing is live.
    """
    if newest_seq(connection) == 0:
        query = select(_signals.c.signal_id).where(_signals.c.live_count > 0)
        signal_id = connection.execute(query.limit(1)).scalar()
        if signal_id is not None:
            insert_rows(connection, _changes, [(1, signal_id, 1, now)])
    return newest_mark(connection)


def changes_after(
    connection: Connection, seq: int, limit: int
) -> list[tuple[int, SignalChange]]:
    """Read on in the feed.

    Args:
        connection: In a transaction.
        seq: Number of the last row that was read; 0 for the beginning.
        limit: Most rows to read.

    Returns:
        The number of each row, and what its signal is now. Of signals that were erased
        type and value are not known any more and are empty.
    """
    found = marked_changes_after(connection, seq, limit)
    return [(mark.seq, change) for mark, change in found]


def marked_changes_after(
    connection: Connection, seq: int, limit: int
) -> list[tuple[FeedMark, SignalChange]]:
    """As `changes_after`, with what names each row in this history."""
    query = _AFTER.where(_changes.c.seq > seq).limit(limit)
    return [
        (
            FeedMark(row.seq, row.signal_id, row.changed_at),
            SignalChange(
                signal_id=row.signal_id,
                type=row.type or "",
                value=row.value or "",
                live=bool(row.live_count),
            ),
        )
        for row in connection.execute(query)
    ]


def newest_seq(connection: Connection) -> int:
    """Give the number of the newest row, 0 if there never was one."""
    seq: int | None = connection.execute(select(func.max(_changes.c.seq))).scalar()
    return seq or 0


def oldest_seq(connection: Connection) -> int:
    """Give the number of the oldest row that is left, 0 if there never was one."""
    seq: int | None = connection.execute(select(func.min(_changes.c.seq))).scalar()
    return seq or 0


def can_resume(connection: Connection, seq: int) -> bool:
    """Tell whether every change after a row is still in the feed.

    Args:
        connection: In a transaction.
        seq: Number of the last row that was read. One that is yet to come belongs to
            another history, of which this database knows nothing.
    """
    return oldest_seq(connection) - 1 <= seq <= newest_seq(connection)


def can_resume_at(connection: Connection, mark: FeedMark) -> bool:
    """Tell whether a row is of this history, and every change after it in the feed.

    A database that came back from a backup counts on from there: numbers alone would
    let a reader go on in the middle of changes that it never saw.
    """
    is_kept = can_resume(connection, mark.seq)
    return is_kept and find_mark(connection, mark.seq) == mark


def find_mark(connection: Connection, seq: int) -> FeedMark | None:
    """Read a row by its number, None if it is not there; 0 is always there."""
    if seq == 0:
        return FeedMark()
    query = select(_changes.c.seq, _changes.c.signal_id, _changes.c.changed_at)
    row = connection.execute(query.where(_changes.c.seq == seq)).one_or_none()
    return None if row is None else FeedMark(*row)


def newest_mark(connection: Connection) -> FeedMark:
    """Read the newest row; the beginning if there is none."""
    query = select(_changes.c.seq, _changes.c.signal_id, _changes.c.changed_at)
    newest = query.order_by(_changes.c.seq.desc()).limit(1)
    row = connection.execute(newest).one_or_none()
    return FeedMark() if row is None else FeedMark(*row)


def prune_changes(connection: Connection, before: int) -> bool:
    """Delete rows that are old, some of them; the newest row always stays.

    Args:
        connection: In a write transaction.
        before: Rows that were written before this time go, Unix seconds.

    Returns:
        Whether there may be more to delete.
    """
    # From the oldest on and not beyond a row that stays, also if a clock went back.
    oldest = oldest_seq(connection)
    kept = select(func.min(_changes.c.seq)).where(_changes.c.changed_at >= before)
    first_kept: int | None = connection.execute(
        kept.where(_changes.c.seq < oldest + _PRUNED_TOGETHER)
    ).scalar()
    end = oldest + _PRUNED_TOGETHER if first_kept is None else first_kept
    end = min(end, newest_seq(connection))
    if end <= oldest:
        return False
    connection.execute(
        delete(_changes).where(and_(_changes.c.seq >= oldest, _changes.c.seq < end))
    )
    return first_kept is None and end < newest_seq(connection)

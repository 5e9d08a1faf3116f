"""All live signals with their records, page by page, each page a short transaction.

A page is a number of (signal, record) pairs in the order of their key, of which those
that are not wanted are left out. So a page costs the same whatever is asked for, and no
transaction is long: a reader that stayed on an old snapshot would keep an ERASE from
being scrubbed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from sqlalchemy import and_, or_, select, tuple_

from hashlight_node.model import RecordEvidence, RecordState
from hashlight_node.store import tables
from hashlight_node.store.signals import LISTS_THAT_COUNT, evidence_of_row
from hashlight_protocol import Signal

if TYPE_CHECKING:
    from typing import Any

    from sqlalchemy import Connection, Row

_record_signals = tables.record_signals
_records = tables.records
_logs = tables.logs
_contents = tables.contents
_signals = tables.signals
_values = tables.signal_values

# The order of the primary key, so that a page is read in one stroke.
_ORDER: Final = (
    _record_signals.c.signal_id,
    _record_signals.c.log_id,
    _record_signals.c.record_id,
)
_pair: Final = tuple_(*_ORDER)

_PAIRS: Final = select(*_ORDER).order_by(*_ORDER)

_ROWS: Final = (
    select(
        _record_signals.c.signal_id,
        _record_signals.c.quality,
        _signals.c.type,
        _values.c.value,
        _records.c.record_id,
        _records.c.leaf_index,
        _records.c.expires_at,
        _logs.c.origin,
        _logs.c.node,
        _logs.c.list_name,
        _logs.c.checkpoint_size,
        _contents.c.evidence,
    )
    .join(_signals, _signals.c.signal_id == _record_signals.c.signal_id)
    .join(_values, _values.c.signal_id == _record_signals.c.signal_id)
    .join(_records, _records.c.record_id == _record_signals.c.record_id)
    .join(_logs, _logs.c.log_id == _records.c.log_id)
    .join(_contents, _contents.c.content_id == _records.c.content_id)
    .where(
        _records.c.state == RecordState.LIVE.value,
        LISTS_THAT_COUNT,
    )
    .order_by(*_ORDER)
)

Place = tuple[int, int, int]
"""Where a page ended: the ids of a signal, a log and a record."""

START: Final[Place] = (0, 0, 0)


class Wanted(NamedTuple):
    """What an export is of.

    Attributes:
        signal_type: Only signals of this type, all if None.
        node: Only records of this node's list; with `list_name` or None.
        list_name: Only records of this list.
    """

    signal_type: str | None = None
    node: str | None = None
    list_name: str | None = None


class Exported(NamedTuple):
    """A live record, as far as it asserts one signal."""

    signal: Signal
    record: RecordEvidence
    expires_at: int | None


def page_live_records(
    connection: Connection, after: Place, limit: int, *, wanted: Wanted, now: int
) -> tuple[list[Exported], Place | None]:
    """Read a page.

    Args:
        connection: In a transaction.
        after: Where the page before ended, `START` for the first.
        limit: Most pairs to look at.
        wanted: Which of them to give.
        now: Unix seconds; records that expired do not count.

    Returns:
        The records, those of a signal one after the other, and where the page ended;
        None if there is nothing behind it.
    """
    pairs = connection.execute(_PAIRS.where(_pair > after).limit(limit)).all()
    if not pairs:
        return [], None
    last: Place = tuple(pairs[-1])
    query = _ROWS.where(_pair > after, _pair <= last).where(
        or_(_records.c.expires_at.is_(None), _records.c.expires_at > now)
    )
    if wanted.signal_type is not None:
        query = query.where(_signals.c.type == wanted.signal_type)
    if wanted.list_name is not None:
        query = query.where(
            and_(_logs.c.node == wanted.node, _logs.c.list_name == wanted.list_name)
        )
    rows = [_exported(row) for row in connection.execute(query)]
    return rows, last if len(pairs) == limit else None


def _exported(row: Row[*tuple[Any, ...]]) -> Exported:
    record = evidence_of_row(row, tree_size=row.checkpoint_size)
    return Exported(Signal(row.type, row.value), record, row.expires_at)

"""Records that go on in a later log of their list.

An owner that begins a new log re-issues what still counts: the same commitment at the
same index. Such records are one statement, of which at most one counts at any moment.
They share a number, `same_as`, and the stored content, so that what destroys one
destroys all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from sqlalchemy import bindparam, select, tuple_, update

from hashlight_node.model import RecordState
from hashlight_node.store import logs, tables
from hashlight_node.store.statements import chunks, update_rows
from hashlight_protocol import Ref

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sqlalchemy import Connection, Row

    from hashlight_node.model import Log

_records = tables.records
_logs = tables.logs
_ANY: Final = select(_records.c.record_id).where(_records.c.same_as.is_not(None))
_LINK: Final = (
    update(_records)
    .where(_records.c.record_id == bindparam("of"))
    .values(same_as=bindparam("to"))
)


class Original(NamedTuple):
    """The record of an earlier log that a new one re-issues.

    Attributes:
        record_id: Its id.
        same_as: Number that both share from now on.
        content_id: Where its salt and body are; None if they are not here.
        state: Whether it counts.
    """

    record_id: int
    same_as: int
    content_id: int | None
    state: RecordState

    @property
    def is_withdrawn(self) -> bool:
        """Whether it was taken back for good."""
        return self.state in {RecordState.RETRACTED, RecordState.ERASED}


def find_originals(
    connection: Connection, log: Log, records: Iterable[tuple[int, bytes]]
) -> dict[int, Original]:
    """Find what records of a log re-issue.

    Args:
        connection: In a transaction.
        log: The log.
        records: Leaf indexes and commitments of RECORD entries of it; only looked at
            if there is an earlier log.

    Returns:
        By leaf index, the record of an earlier log that has the same commitment at the
        same index; of several logs that of the newest.
    """
    found: dict[int, Original] = {}
    if log.epoch == 1:
        return found
    commitments = dict(records)
    for earlier in logs.logs_of_list(connection, log.node, log.list_name):
        if earlier.epoch >= log.epoch:
            continue
        missing = sorted(commitments.keys() - found.keys())
        entries = logs.read_entries_at(connection, earlier.log_id, missing)
        same = [it for it, raw in entries.items() if raw[1:] == commitments[it]]
        for row in _rows_at(connection, earlier.log_id, same):
            same_as = row.record_id if row.same_as is None else row.same_as
            state = RecordState(row.state)
            found[row.leaf_index] = Original(
                row.record_id, same_as, row.content_id, state
            )
    return found


def link(connection: Connection, pairs: Iterable[tuple[int, int]]) -> None:
    """Let records share a number.

    Args:
        connection: In a write transaction.
        pairs: Ids of records, and the number that each gets.
    """
    rows = [{"of": record_id, "to": same_as} for record_id, same_as in pairs]
    update_rows(connection, _LINK, rows)


def current_ref(connection: Connection, ref: Ref) -> Ref:
    """Follow a record to the newest log into which it was re-issued.

    Returns:
        The reference itself if it was not, or is not known here.
    """
    row = connection.execute(
        select(_records.c.same_as)
        .join(_logs, _logs.c.log_id == _records.c.log_id)
        .where(_logs.c.origin == ref.origin, _records.c.leaf_index == ref.leaf_index)
    ).one_or_none()
    if row is None or row.same_as is None:
        return ref
    newest = connection.execute(
        select(_logs.c.origin, _records.c.leaf_index)
        .join(_logs, _logs.c.log_id == _records.c.log_id)
        .where(_records.c.same_as == row.same_as, _logs.c.counts_from.is_not(None))
        .order_by(_logs.c.epoch.desc())
        .limit(1)
    ).one()
    return Ref(newest.origin, newest.leaf_index)


def other_names(connection: Connection, refs: Sequence[Ref]) -> dict[Ref, Ref]:
    """Find the references that records have, or had, in other logs of their lists.

    Returns:
        By another name of a record, the one that was given.
    """
    # Most nodes have none, and then a lookup must not pay for them.
    if connection.execute(_ANY.limit(1)).first() is None:
        return {}
    names: dict[Ref, Ref] = {}
    for part in chunks([(it.origin, it.leaf_index) for it in refs]):
        asked = _records.alias("asked")
        asked_log = _logs.alias("asked_log")
        query = (
            select(
                asked_log.c.origin.label("asked_origin"),
                asked.c.leaf_index.label("asked_index"),
                _logs.c.origin,
                _records.c.leaf_index,
            )
            .join_from(asked, asked_log, asked_log.c.log_id == asked.c.log_id)
            .join(_records, _records.c.same_as == asked.c.same_as)
            .join(_logs, _logs.c.log_id == _records.c.log_id)
            .where(
                tuple_(asked_log.c.origin, asked.c.leaf_index).in_(part),
                asked.c.same_as.is_not(None),
                _records.c.record_id != asked.c.record_id,
            )
        )
        for row in connection.execute(query):
            given = Ref(row.asked_origin, row.asked_index)
            names[Ref(row.origin, row.leaf_index)] = given
    return names


def _rows_at(
    connection: Connection, log_id: int, leaf_indexes: Sequence[int]
) -> Iterable[Row[*tuple[Any, ...]]]:
    for part in chunks(leaf_indexes):
        query = select(
            _records.c.record_id,
            _records.c.leaf_index,
            _records.c.same_as,
            _records.c.content_id,
            _records.c.state,
        ).where(_records.c.log_id == log_id, _records.c.leaf_index.in_(part))
        yield from connection.execute(query)

"""Records: letting entries take effect, and reading what came of them."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import func, or_, select

from hashlight_node.model import RecordState, StoredOpinion, StoredRecord
from hashlight_node.store import tables
from hashlight_node.store.applying import apply_entries, fill_bodies
from hashlight_node.store.reissues import other_names
from hashlight_node.store.signals import LISTS_THAT_COUNT
from hashlight_node.store.statements import chunks, rows_where_in
from hashlight_protocol import (
    SIGNAL_TYPES,
    TILE_WIDTH,
    Body,
    BodyStatus,
    Erase,
    Reason,
    Ref,
    Retract,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from sqlalchemy import Connection, Row, Select

__all__ = [
    "apply_entries",
    "fill_bodies",
    "opinion_of_row",
    "opinions_about",
    "page_records",
    "read_bodies",
    "read_record",
    "standing_opinions",
    "withdrawals_of",
]

_records = tables.records
_contents = tables.contents
_logs = tables.logs
_opinions = tables.opinions
_withdrawals = tables.withdrawals

_SELECT_OPINIONS: Final = (
    select(_opinions, _logs.c.node, _logs.c.origin, _records.c.leaf_index)
    .join(_records, _records.c.record_id == _opinions.c.record_id)
    .join(_logs, _logs.c.log_id == _records.c.log_id)
    .where(_records.c.state == RecordState.LIVE.value, LISTS_THAT_COUNT)
)

# In one log, ids of records grow with their leaves: the largest is the newest.
_STANDING: Final = (
    select(
        _opinions.c.ref_origin,
        _opinions.c.ref_index,
        func.max(_opinions.c.record_id).label("newest"),
    )
    .join(_records, _records.c.record_id == _opinions.c.record_id)
    .where(_records.c.state == RecordState.LIVE.value)
    .group_by(
        _opinions.c.ref_origin,
        _opinions.c.ref_index,
        _opinions.c.signal_type,
        _records.c.log_id,
    )
)


def read_record(connection: Connection, ref: Ref) -> StoredRecord | None:
    """Look a record up by its name; None if no record has it."""
    query = _select_records().where(
        _logs.c.origin == ref.origin, _records.c.leaf_index == ref.leaf_index
    )
    row = connection.execute(query).one_or_none()
    return None if row is None else _record_of(row)


def page_records(
    connection: Connection,
    list_name: str,
    after_record_id: int,
    limit: int,
    *,
    node: str | None = None,
) -> list[StoredRecord]:
    """Read the records of a list, log by log in the order of their leaves.

    Args:
        connection: In a transaction.
        list_name: Name of the list.
        after_record_id: Id of the last record of the page before, 0 for the first page.
        limit: Most records to return.
        node: Whose list; those of all nodes that have one of this name if None.
    """
    query = select(_logs.c.log_id).where(_logs.c.list_name == list_name)
    if node is not None:
        query = query.where(_logs.c.node == node)
    log_ids = connection.execute(query.order_by(_logs.c.log_id)).scalars().all()
    last = connection.execute(
        select(_records.c.log_id, _records.c.leaf_index).where(
            _records.c.record_id == after_record_id
        )
    ).one_or_none()
    after_log, after_leaf = (0, -1) if last is None else last
    page: list[StoredRecord] = []
    for log_id in log_ids:
        # Per log and by leaf, because this is the order of an index that exists.
        if log_id >= after_log and len(page) < limit:
            first = after_leaf + 1 if log_id == after_log else 0
            rows = connection.execute(
                _select_records()
                .where(_records.c.log_id == log_id, _records.c.leaf_index >= first)
                .order_by(_records.c.leaf_index)
                .limit(limit - len(page))
            )
            page.extend(map(_record_of, rows))
    return page


def read_bodies(
    connection: Connection, log_id: int, bundle_index: int, width: int
) -> list[Body]:
    """Read the bodies of a bundle, as they are served.

    Args:
        connection: In a transaction.
        log_id: The log.
        bundle_index: Its first entry is leaf `bundle_index * 256`.
        width: Entries wanted, 1 to 256; the log must have them.

    Returns:
        One for each entry. Retracted records keep their bodies, for audit.
    """
    first = bundle_index * TILE_WIDTH
    query = (
        select(
            _records.c.leaf_index, _records.c.status, _contents.c.salt, _contents.c.body
        )
        .outerjoin(_contents, _contents.c.content_id == _records.c.content_id)
        .where(
            _records.c.log_id == log_id,
            _records.c.leaf_index.between(first, first + width - 1),
        )
    )
    bodies = [Body(BodyStatus.NONE)] * width
    for leaf_index, status, salt, body in connection.execute(query):
        bodies[leaf_index - first] = Body(BodyStatus(status), salt or b"", body or b"")
    return bodies


def opinions_about(connection: Connection, refs: Sequence[Ref]) -> list[StoredOpinion]:
    """Read the opinions about records that their authors have not taken back.

    Returns:
        In the order in which they arrived here.
    """
    names = other_names(connection, refs)
    wanted = {(ref.origin, ref.leaf_index) for ref in (*refs, *names)}
    leaf_indexes = sorted({leaf_index for _, leaf_index in wanted})
    rows = [
        row
        for row in rows_where_in(
            connection, _SELECT_OPINIONS, _opinions.c.ref_index, leaf_indexes
        )
        if (row.ref_origin, row.ref_index) in wanted
    ]
    rows.sort(key=lambda row: row.record_id)
    return [_about(opinion_of_row(row), names) for row in rows]


def standing_opinions(
    connection: Connection, refs: Sequence[Ref], types: Sequence[str]
) -> list[StoredOpinion]:
    """Read of the opinions about records those that `opinions.fold` looks at.

    Of each log's opinions about a record and a type only the newest counts, so a log
    that says the same thing a hundred thousand times costs no more than the database
    takes to pass over it.

    Args:
        connection: In a transaction.
        refs: The records.
        types: Signal types that are asked about; opinions about other types of the
            records are left out, those about a record as a whole are not.

    Returns:
        Live opinions, in the order in which they arrived here.
    """
    names = other_names(connection, refs)
    wanted = {(ref.origin, ref.leaf_index) for ref in (*refs, *names)}
    leaf_indexes = sorted({leaf_index for _, leaf_index in wanted})
    newest = [
        row.newest
        for row in _standing(connection, leaf_indexes, tuple(sorted(set(types))))
        if (row.ref_origin, row.ref_index) in wanted
    ]
    rows = rows_where_in(
        connection, _SELECT_OPINIONS, _opinions.c.record_id, sorted(newest)
    )
    return [
        _about(opinion_of_row(row), names)
        for row in sorted(rows, key=lambda row: row.record_id)
    ]


def _about(opinion: StoredOpinion, names: Mapping[Ref, Ref]) -> StoredOpinion:
    """Let an opinion about a record be about it under the name that was asked for."""
    return replace(opinion, about=names.get(opinion.about, opinion.about))


def _standing(
    connection: Connection, leaf_indexes: Sequence[int], types: tuple[str, ...]
) -> Iterator[Row[Any]]:
    column = _opinions.c.ref_index
    if SIGNAL_TYPES.keys() >= set(types):
        yield from rows_where_in(connection, _standing_on(types), column, leaf_indexes)
        return
    # Callers make these types up, so their statements are not kept.
    query = _standing_on.__wrapped__(types)
    for part in chunks(leaf_indexes):
        yield from connection.execute(query.where(column.in_(part)))


@cache
def _standing_on(types: tuple[str, ...]) -> Select[Any]:
    about = _opinions.c.signal_type
    return _STANDING.where(or_(about.is_(None), *(about == name for name in types)))


def withdrawals_of(
    connection: Connection, log_id: int, leaf_index: int
) -> list[tuple[int, Retract | Erase]]:
    """Read the RETRACT and ERASE entries that cover a leaf.

    Returns:
        Leaf index of the entry, and the entry, in their order in the log.
    """
    first, count = _withdrawals.c.first_index, _withdrawals.c.range_count
    query = (
        select(_withdrawals)
        .where(
            _withdrawals.c.log_id == log_id,
            first <= leaf_index,
            first + count > leaf_index,
        )
        .order_by(_withdrawals.c.leaf_index)
    )
    return [
        (
            row.leaf_index,
            (Erase if row.kind == "erase" else Retract)(
                row.first_index, row.range_count, row.reason
            ),
        )
        for row in connection.execute(query)
    ]


def _select_records() -> Select[Any]:
    return (
        select(
            _records,
            _logs.c.origin,
            _logs.c.node,
            _logs.c.list_name,
            _contents.c.salt,
            _contents.c.body,
        )
        .join(_logs, _logs.c.log_id == _records.c.log_id)
        .outerjoin(_contents, _contents.c.content_id == _records.c.content_id)
    )


def _record_of(row: Row[Any]) -> StoredRecord:
    return StoredRecord(
        record_id=row.record_id,
        ref=Ref(row.origin, row.leaf_index),
        node=row.node,
        list_name=row.list_name,
        status=BodyStatus(row.status),
        state=RecordState(row.state),
        reason=_reason_of(row.reason),
        withdrawn_by=row.withdrawn_by,
        withdrawn_at=row.withdrawn_at,
        applied_at=row.applied_at,
        expires_at=row.expires_at,
        salt=row.salt or b"",
        body=row.body or b"",
    )


def _reason_of(number: int | None) -> Reason | None:
    if number is None:
        return None
    # A later version of the protocol may have more of them.
    return Reason(number) if number in set(Reason) else Reason.UNSPECIFIED


def opinion_of_row(row: Row[Any]) -> StoredOpinion:
    """Read an opinion from its row, with the node, origin and leaf of its record."""
    return StoredOpinion(
        node=row.node,
        ref=Ref(row.origin, row.leaf_index),
        about=Ref(row.ref_origin, row.ref_index),
        signal_type=row.signal_type,
        stance=row.stance,
        reason=row.reason,
    )

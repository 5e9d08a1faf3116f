"""Signals: one for each type and value, live while a live record asserts it.

`live_count` is the number of records in state `live`, over all logs, that assert a
signal. It is counted up and down in the transaction that changes such a record, so it
is exact at every commit. A record that is expired still counts: time passes without
transactions, so whoever reads evidence compares with the clock.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from sqlalchemy import bindparam, delete, exists, func, or_, select, update

from hashlight_node.model import (
    MAX_RECORDS_SHOWN,
    LogState,
    RecordEvidence,
    RecordState,
    Role,
    SignalChange,
)
from hashlight_node.store import contents, tables
from hashlight_node.store.meanings import shown
from hashlight_node.store.statements import (
    chunks,
    insert_rows,
    rows_where_in,
    update_rows,
)
from hashlight_protocol import Ref, Signal

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from sqlalchemy import Connection, Row, Select

_signals = tables.signals
_values = tables.signal_values
_record_signals = tables.record_signals
_records = tables.records
_logs = tables.logs
_contents = tables.contents

_STREAMED_ROWS: Final = 10_000

_ADD: Final = (
    update(_signals)
    .where(_signals.c.signal_id == bindparam("of"))
    .values(live_count=_signals.c.live_count + bindparam("more"))
)

_SELECT: Final = select(
    _signals.c.signal_id, _signals.c.type, _values.c.value, _signals.c.live_count
).join(_values, _values.c.signal_id == _signals.c.signal_id)

_EVIDENCE: Final = (
    select(
        _record_signals.c.signal_id,
        _record_signals.c.quality,
        _records.c.record_id,
        _records.c.leaf_index,
        _records.c.expires_at,
        _logs.c.origin,
        _logs.c.node,
        _logs.c.list_name,
        _logs.c.checkpoint_size,
        _contents.c.evidence,
    )
    .join(_records, _records.c.record_id == _record_signals.c.record_id)
    .join(_logs, _logs.c.log_id == _records.c.log_id)
    .join(_contents, _contents.c.content_id == _records.c.content_id)
    .where(
        _records.c.state == RecordState.LIVE.value,
        # Of a list that is followed no more, withdrawals do not arrive any more.
        or_(_logs.c.role == Role.OWN.value, _logs.c.state != LogState.FROZEN.value),
    )
    .order_by(_record_signals.c.signal_id, _record_signals.c.record_id)
)
_CALM: Final = _EVIDENCE.join(
    _signals, _signals.c.signal_id == _record_signals.c.signal_id
).where(_signals.c.live_count <= MAX_RECORDS_SHOWN)
_CROWDED: Final = select(_signals.c.signal_id).where(
    _signals.c.live_count > MAX_RECORDS_SHOWN
)

Claim = tuple[int, str, str, int | None, bool]
"""Id of a record, type, value and quality of a signal that it asserts, and whether the
record is live. A plain tuple, because a sync makes tens of thousands a second."""

_Key = tuple[str, str]  # type and value
_Digested = tuple[int, str, str]  # digest, type and value


class _Stored(NamedTuple):
    signal_id: int
    live_count: int


def add_claims(connection: Connection, claims: Sequence[Claim]) -> list[SignalChange]:
    """Store what records assert, and count it.

    Args:
        connection: In a write transaction.
        claims: A signal at most once for each record.

    Returns:
        Signals that became live.
    """
    live: dict[_Key, int] = {}
    for _, type_name, value, _, is_live in claims:
        key = type_name, value
        live[key] = live.get(key, 0) + is_live
    wanted = _by_digest(live)
    stored = _find(connection, wanted)
    known = {key: it.signal_id for key, it in stored.items()}
    new = [it for it in wanted if (it[1], it[2]) not in stored]
    known.update(_insert(connection, new, live))
    more = [{"of": known[key], "more": live[key]} for key in stored if live[key]]
    update_rows(connection, _ADD, more)
    rows = [
        (known[type_name, value], record_id, quality)
        for record_id, type_name, value, quality, _ in claims
    ]
    rows.sort()
    insert_rows(connection, _record_signals, rows)
    return [
        SignalChange(known[key], *key, live=True)
        for key, count in live.items()
        if count and (key not in stored or stored[key].live_count == 0)
    ]


def count_down(connection: Connection, record_ids: Sequence[int]) -> list[SignalChange]:
    """Stop counting records that were live until now.

    Args:
        connection: In a write transaction.
        record_ids: Each once.

    Returns:
        Signals that died.
    """
    fewer: Counter[int] = Counter()
    for part in chunks(record_ids):
        fewer.update(connection.execute(_asserted_by(part)).scalars())
    update_rows(
        connection, _ADD, [{"of": it, "more": -less} for it, less in fewer.items()]
    )
    changes: list[SignalChange] = []
    for part in chunks(sorted(fewer)):
        dead = _SELECT.where(_signals.c.signal_id.in_(part), _signals.c.live_count == 0)
        for signal_id, type_name, value, _ in connection.execute(dead):
            changes.append(SignalChange(signal_id, type_name, value, live=False))
    return changes


def erase_claims(connection: Connection, record_ids: Sequence[int]) -> None:
    """Forget what records asserted, and signals that nothing else asserts.

    Args:
        connection: In a write transaction.
        record_ids: Records that do not count any more.
    """
    asserted: set[int] = set()
    for part in chunks(record_ids):
        asserted.update(connection.execute(_asserted_by(part)).scalars())
        connection.execute(
            delete(_record_signals).where(_record_signals.c.record_id.in_(part))
        )
    still = exists().where(_record_signals.c.signal_id == _signals.c.signal_id)
    for part in chunks(sorted(asserted)):
        query = select(_signals.c.signal_id).where(
            _signals.c.signal_id.in_(part), ~still
        )
        orphans = connection.execute(query).scalars().all()
        contents.erase_values(connection, orphans)
        connection.execute(delete(_signals).where(_signals.c.signal_id.in_(orphans)))


def live_signals(
    connection: Connection,
    type: str | None = None,  # noqa: A002 - the field's name
) -> Iterator[tuple[int, str, str]]:
    """Read all live signals, or those of one type, without holding them in memory.

    Yields:
        Id, type and canonical value, in no particular order.
    """
    query = _SELECT.where(_signals.c.live_count > 0)
    if type is not None:
        query = query.where(_signals.c.type == type)
    options = {"yield_per": _STREAMED_ROWS}
    rows = connection.execute(query, execution_options=options)
    for signal_id, type_name, value, _ in rows:
        yield signal_id, type_name, value


def find_live(connection: Connection, wanted: Sequence[Signal]) -> dict[Signal, int]:
    """Find which of some signals are live, exactly as they are.

    Returns:
        Ids by signal. The records of a signal may all be expired; `evidence_of` then
        finds none.
    """
    found = _find(connection, _by_digest({(it.type, it.value) for it in wanted}))
    return {Signal(*key): it.signal_id for key, it in found.items() if it.live_count}


def evidence_of(
    connection: Connection, signal_ids: Sequence[int], *, now: int
) -> dict[int, list[RecordEvidence]]:
    """Find the records that make signals live.

    Args:
        connection: In a transaction.
        signal_ids: From the matching index, so some may be dead or gone by now.
        now: Unix seconds; records that expired do not count.

    Returns:
        By signal, oldest first, at most `MAX_RECORDS_SHOWN`; no key without a record.
    """
    wanted = sorted(set(signal_ids))
    signal_id = _record_signals.c.signal_id
    rows = list(rows_where_in(connection, _CALM, signal_id, wanted))
    for (crowded,) in rows_where_in(connection, _CROWDED, _signals.c.signal_id, wanted):
        unexpired = or_(_records.c.expires_at.is_(None), _records.c.expires_at > now)
        query = _EVIDENCE.where(signal_id == crowded, unexpired).limit(
            MAX_RECORDS_SHOWN
        )
        rows.extend(connection.execute(query))
    evidence: dict[int, list[RecordEvidence]] = {}
    for row in rows:
        if row.expires_at is None or row.expires_at > now:
            evidence.setdefault(row.signal_id, []).append(_evidence_of(row))
    return evidence


def count_live(connection: Connection) -> dict[str, int]:
    """Count the live signals of each type."""
    query = (
        select(_signals.c.type, func.count().label("live"))
        .where(_signals.c.live_count > 0)
        .group_by(_signals.c.type)
    )
    return {row.type: row.live for row in connection.execute(query)}


def _by_digest(keys: Iterable[_Key]) -> list[_Digested]:
    # Sorted, because neighbours in the index over digests share a page.
    return sorted((_digest(key), *key) for key in keys)


def _digest(key: _Key) -> int:
    digest = hashlib.sha256("\0".join(key).encode()).digest()
    return int.from_bytes(digest[:8], "big", signed=True)


def _find(connection: Connection, wanted: Sequence[_Digested]) -> dict[_Key, _Stored]:
    keys = {(type_name, value) for _, type_name, value in wanted}
    found: dict[_Key, _Stored] = {}
    digests = [digest for digest, _, _ in wanted]
    rows = rows_where_in(connection, _SELECT, _signals.c.digest, digests)
    for signal_id, type_name, value, live_count in rows:
        if (type_name, value) in keys:
            found[type_name, value] = _Stored(signal_id, live_count)
    return found


def _insert(
    connection: Connection, new: Sequence[_Digested], live: Mapping[_Key, int]
) -> dict[_Key, int]:
    first = contents.next_signal_id(connection)
    known: dict[_Key, int] = {}
    rows: list[tuple[int, str, int, int]] = []
    for signal_id, (digest, type_name, value) in enumerate(new, first):
        key = type_name, value
        known[key] = signal_id
        rows.append((signal_id, type_name, digest, live[key]))
    insert_rows(connection, _signals, rows)
    contents.insert_values(
        connection, [(signal_id, value) for (_, value), signal_id in known.items()]
    )
    return known


def _asserted_by(record_ids: Sequence[int]) -> Select[Any]:
    return select(_record_signals.c.signal_id).where(
        _record_signals.c.record_id.in_(record_ids)
    )


def _evidence_of(row: Row[Any]) -> RecordEvidence:
    labels, source, review, created_at = shown(row.evidence)
    return RecordEvidence(
        record_id=row.record_id,
        ref=Ref(row.origin, row.leaf_index),
        list_name=row.list_name,
        origin_node=row.node,
        tree_size=row.checkpoint_size,
        labels=labels,
        source=source,
        review=review,
        created_at=created_at,
        quality=row.quality,
    )

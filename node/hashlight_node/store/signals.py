"""Signals: one for each type and value, live while a live record asserts it.

`live_count` is the number of records in state `live`, over all logs, that assert a
signal. It is counted up and down in the transaction that changes such a record, so it
is exact at every commit. A record that is expired still counts: time passes without
transactions, so whoever reads evidence compares with the clock.
"""

from __future__ import annotations

from collections import Counter
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from sqlalchemy import and_, bindparam, delete, exists, func, or_, select, update

from hashlight_node.model import (
    LogState,
    RecordEvidence,
    RecordState,
    Role,
    SignalChange,
    records_of_each,
    signal_digest,
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
    from collections.abc import Container, Iterable, Iterator, Mapping, Sequence

    from sqlalchemy import Connection, Row, Select

_signals = tables.signals
_values = tables.signal_values
_record_signals = tables.record_signals
_records = tables.records
_logs = tables.logs
_contents = tables.contents

_STREAMED_ROWS: Final = 10_000
_COMMONEST: Final = "pdq"

_ADD: Final = (
    update(_signals)
    .where(_signals.c.signal_id == bindparam("of"))
    .values(live_count=_signals.c.live_count + bindparam("more"))
)

_SELECT: Final = select(
    _signals.c.signal_id, _signals.c.type, _values.c.value, _signals.c.live_count
).join(_values, _values.c.signal_id == _signals.c.signal_id)

LISTS_THAT_COUNT: Final = and_(
    or_(
        _logs.c.role == Role.OWN.value,
        and_(
            _logs.c.state != LogState.FROZEN.value,
            _logs.c.state != LogState.STALE.value,
        ),
    ),
    _logs.c.counts_from.is_not(None),
    _logs.c.counts_until.is_(None),
)
"""Of a list that is followed no more, withdrawals do not arrive any more; of one whose
copy was not confirmed for long, perhaps neither. Of a list that goes on in another log,
exactly one of both counts at any moment."""

_COUNT: Final = select(_signals.c.signal_id, _signals.c.live_count)

_SHOWN: Final = (
    _record_signals.c.signal_id,
    _record_signals.c.log_id,
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
_EVIDENCE: Final = (
    select(*_SHOWN)
    .join_from(
        _record_signals, _records, _records.c.record_id == _record_signals.c.record_id
    )
    .join(_logs, _logs.c.log_id == _records.c.log_id)
    .join(_contents, _contents.c.content_id == _records.c.content_id)
    .where(_records.c.state == RecordState.LIVE.value, LISTS_THAT_COUNT)
)
# The logs that say something of signals, each found from the one before, in as many
# steps as there are logs: a flood in one of them is passed over.
_SPEAKING: Final = (
    select(
        _signals.c.signal_id,
        select(func.min(_record_signals.c.log_id))
        .where(_record_signals.c.signal_id == _signals.c.signal_id)
        .scalar_subquery()
        .label("log_id"),
    )
    .where(_signals.c.signal_id.in_(bindparam("of", expanding=True)))
    .cte("speaking", recursive=True)
)
_NEXT: Final = (
    select(func.min(_record_signals.c.log_id))
    .where(
        _record_signals.c.signal_id == _SPEAKING.c.signal_id,
        _record_signals.c.log_id > _SPEAKING.c.log_id,
    )
    .scalar_subquery()
)
_ALL_SPEAKING: Final = _SPEAKING.union_all(
    select(_SPEAKING.c.signal_id, _NEXT).where(_SPEAKING.c.log_id.is_not(None))
)
_said = _record_signals.alias("said")
_saying = _records.alias("saying")
_OLDEST: Final = (
    select(_said.c.record_id)
    .join(_saying, _saying.c.record_id == _said.c.record_id)
    .where(
        _said.c.signal_id == _ALL_SPEAKING.c.signal_id,
        _said.c.log_id == _ALL_SPEAKING.c.log_id,
        _saying.c.state == RecordState.LIVE.value,
        or_(_saying.c.expires_at.is_(None), _saying.c.expires_at > bindparam("now")),
    )
    .order_by(_said.c.record_id)
    .limit(bindparam("most"))
    .correlate(_ALL_SPEAKING)
)
# Of each signal and log the oldest records, read through the key of `record_signals`.
_OLDEST_OF_EACH: Final[Select[*tuple[Any, ...]]] = (
    select(*_SHOWN)
    .join_from(_ALL_SPEAKING, _logs, _logs.c.log_id == _ALL_SPEAKING.c.log_id)
    .join(
        _record_signals,
        and_(
            _record_signals.c.signal_id == _ALL_SPEAKING.c.signal_id,
            _record_signals.c.log_id == _ALL_SPEAKING.c.log_id,
            _record_signals.c.record_id.in_(_OLDEST),
        ),
    )
    .join(_records, _records.c.record_id == _record_signals.c.record_id)
    .join(_contents, _contents.c.content_id == _records.c.content_id)
    .where(LISTS_THAT_COUNT)
)

Claim = tuple[int, str, str, int | None, bool]
"""Id of a record, type, value and quality of a signal that it asserts, and whether the
record is live. A plain tuple, because a sync makes tens of thousands a second."""

_Key = tuple[str, str]  # type and value
_Digested = tuple[int, str, str]  # digest, type and value


class SignalEvidence(NamedTuple):
    """The records that make signals live.

    Attributes:
        by_signal: By signal id, oldest first; no key without a record.
        cut: Signals of which there are more records than these.
    """

    by_signal: dict[int, list[RecordEvidence]]
    cut: frozenset[int]


class _Stored(NamedTuple):
    signal_id: int
    live_count: int


def add_claims(
    connection: Connection, log_id: int, claims: Sequence[Claim]
) -> list[SignalChange]:
    """Store what records assert, and count it.

    Args:
        connection: In a write transaction.
        log_id: The log that all the records are of.
        claims: A signal at most once for each record.

    Returns:
        Signals that became live.
    """
    live: dict[_Key, int] = {}
    for _, type_name, value, _, is_live in claims:
        key = type_name, value
        live[key] = live.get(key, 0) + is_live
    wanted = _by_digest(live)
    stored = _find(connection, wanted, live)
    known = {key: it.signal_id for key, it in stored.items()}
    new = [it for it in wanted if (it[1], it[2]) not in stored] if stored else wanted
    known |= _insert(connection, new, live)
    more = [{"of": known[key], "more": live[key]} for key in stored if live[key]]
    update_rows(connection, _ADD, more)
    rows = [
        (known[type_name, value], log_id, record_id, quality)
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
    keys = {(it.type, it.value) for it in wanted}
    found = _find(connection, _by_digest(keys), keys)
    return {Signal(*key): it.signal_id for key, it in found.items() if it.live_count}


def signals_of(connection: Connection, signal_ids: Sequence[int]) -> dict[int, Signal]:
    """Read which signals ids stand for; an id that stands for none is left out."""
    rows = rows_where_in(connection, _SELECT, _signals.c.signal_id, signal_ids)
    return {
        signal_id: Signal(type_name, value) for signal_id, type_name, value, _ in rows
    }


def evidence_of(
    connection: Connection, signal_ids: Sequence[int], *, now: int
) -> SignalEvidence:
    """Find the records that make signals live.

    Of one signal at most `MAX_RECORDS_SHOWN`, and of all together at most
    `MAX_RECORDS_A_CALL`, so that what a call costs does not depend on how often a list
    asserts something. Signals that more records assert than there is room for give way
    first, and the records of one are shared fairly between its logs: one log's flood
    never hides another's records. The oldest of each log is there in any case.

    Args:
        connection: In a transaction.
        signal_ids: From the matching index, so some may be dead or gone by now.
        now: Unix seconds; records that expired do not count.
    """
    wanted = sorted(set(signal_ids))
    counts = dict[int, int](
        tuple(row)
        for row in rows_where_in(connection, _COUNT, _signals.c.signal_id, wanted)
    )
    most = records_of_each(counts.values())
    calm = [it for it, count in counts.items() if 0 < count <= most]
    crowded = [it for it, count in counts.items() if count > most]
    column = _record_signals.c.signal_id
    rows = list(rows_where_in(connection, _EVIDENCE, column, calm))
    cut: set[int] = set()
    for signal_id, of_logs in _oldest_of_each(connection, crowded, most, now).items():
        chosen = _fair_share(of_logs, most)
        rows += chosen
        if len(chosen) < sum(map(len, of_logs)):
            cut.add(signal_id)
    evidence: dict[int, list[RecordEvidence]] = {}
    for row in sorted(rows, key=lambda it: it.record_id):
        if row.expires_at is None or row.expires_at > now:
            evidence.setdefault(row.signal_id, []).append(
                evidence_of_row(row, tree_size=row.checkpoint_size)
            )
    return SignalEvidence(evidence, frozenset(cut))


def _oldest_of_each(
    connection: Connection, signal_ids: Sequence[int], most: int, now: int
) -> dict[int, list[list[Row[Any]]]]:
    """Read each log's oldest records of signals, one more than can be shown.

    Returns:
        By signal the rows of each log, oldest first.
    """
    by_log: dict[tuple[int, int], list[Row[Any]]] = {}
    for part in chunks(sorted(signal_ids)):
        given = {"of": part, "now": now, "most": most + 1}
        for row in connection.execute(_OLDEST_OF_EACH, given):
            by_log.setdefault((row.signal_id, row.log_id), []).append(row)
    found: dict[int, list[list[Row[Any]]]] = {}
    for (signal_id, _), of_log in sorted(by_log.items(), key=lambda it: it[0]):
        of_log.sort(key=lambda it: it.record_id)
        found.setdefault(signal_id, []).append(of_log)
    return found


def _fair_share(of_logs: Sequence[Sequence[Row[Any]]], most: int) -> list[Row[Any]]:
    """Choose records of a signal: each log's oldest, then each log's second, and on."""
    turns = [it for turn in zip_longest(*of_logs) for it in turn if it is not None]
    # The first turn is whole, whatever its size: every list has its say.
    return turns[: max(most, len(of_logs))]


def count_live(connection: Connection) -> dict[str, int]:
    """Count the live signals of each type."""
    is_live, kind = _signals.c.live_count > 0, _signals.c.type
    # Grouping sorts its rows. Most signals are of one type, and counting those is done
    # in a third of the time.
    most = select(func.count()).where(is_live, kind == _COMMONEST)
    rest = select(kind, func.count().label("live")).where(is_live, kind != _COMMONEST)
    found = {row.type: row.live for row in connection.execute(rest.group_by(kind))}
    count = connection.execute(most).scalar_one()
    return {_COMMONEST: count, **found} if count else found


def _by_digest(keys: Iterable[_Key]) -> list[_Digested]:
    # Sorted, because neighbours in the index over digests share a page.
    return sorted((signal_digest(*key), *key) for key in keys)


def _find(
    connection: Connection, wanted: Sequence[_Digested], keys: Container[_Key]
) -> dict[_Key, _Stored]:
    found: dict[_Key, _Stored] = {}
    digests = [digest for digest, _, _ in wanted]
    rows = rows_where_in(connection, _SELECT, _signals.c.digest, digests)
    for signal_id, type_name, value, live_count in rows:
        # Another signal may have the same digest.
        if (type_name, value) in keys:
            found[type_name, value] = _Stored(signal_id, live_count)
    return found


def _insert(
    connection: Connection, new: Sequence[_Digested], live: Mapping[_Key, int]
) -> dict[_Key, int]:
    first = contents.next_signal_id(connection)
    rows = [
        (signal_id, type_name, digest, live[type_name, value])
        for signal_id, (digest, type_name, value) in enumerate(new, first)
    ]
    insert_rows(connection, _signals, rows)
    values = [(signal_id, it[2]) for signal_id, it in enumerate(new, first)]
    contents.insert_values(connection, values)
    return {(it[1], it[2]): signal_id for signal_id, it in enumerate(new, first)}


def _asserted_by(record_ids: Sequence[int]) -> Select[Any]:
    return select(_record_signals.c.signal_id).where(
        _record_signals.c.record_id.in_(record_ids)
    )


def evidence_of_row(row: Row[Any], *, tree_size: int) -> RecordEvidence:
    """Read what is shown of a record from a row of it, its list and its content.

    Args:
        row: `record_id`, `leaf_index`, `origin`, `node`, `list_name`, `quality` and
            `evidence`.
        tree_size: Size of its log at the moment that is asked about.
    """
    labels, source, review, created_at = shown(row.evidence)
    return RecordEvidence(
        record_id=row.record_id,
        ref=Ref(row.origin, row.leaf_index),
        list_name=row.list_name,
        origin_node=row.node,
        tree_size=tree_size,
        labels=labels,
        source=source,
        review=review,
        created_at=created_at,
        quality=row.quality,
    )

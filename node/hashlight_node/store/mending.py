"""Writes what a check found to be wrong again, from what was verified.

Nothing is verified here: whoever calls has held it against what the log signed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import delete, func, select, update

from hashlight_node.model import LogState, RecordState, SignalChange
from hashlight_node.store import contents, signals, tables
from hashlight_node.store.applying import columns_of
from hashlight_node.store.changes import record_changes
from hashlight_node.store.meanings import read_meaning
from hashlight_node.store.statements import insert_rows, upsert
from hashlight_protocol import Body, BodyStatus

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sqlalchemy import Connection

    from hashlight_node.model import Log
    from hashlight_node.store.meanings import Meaning
    from hashlight_node.store.stored import BadSignal, StoredLeaf, WithdrawalRow

_records = tables.records
_signals = tables.signals
_links = tables.record_signals
_withdrawals = tables.withdrawals


def put_tile(
    connection: Connection, log_id: int, level: int, index: int, hashes: bytes
) -> None:
    """Write a tile, whatever is in its place."""
    table = tables.tiles
    statement = upsert(connection, table).values(
        log_id=log_id, level=level, tile_index=index, hashes=hashes
    )
    key = [table.c.log_id, table.c.level, table.c.tile_index]
    connection.execute(
        statement.on_conflict_do_update(index_elements=key, set_={"hashes": hashes})
    )


def put_bundle(connection: Connection, log_id: int, index: int, entries: bytes) -> None:
    """Write an entry bundle, whatever is in its place."""
    table = tables.entry_bundles
    statement = upsert(connection, table).values(
        log_id=log_id, bundle_index=index, entries=entries
    )
    key = [table.c.log_id, table.c.bundle_index]
    connection.execute(
        statement.on_conflict_do_update(index_elements=key, set_={"entries": entries})
    )


def set_root(connection: Connection, log_id: int, root_hash: bytes) -> None:
    """Write the root of a log's tree."""
    table = tables.logs
    connection.execute(
        update(table).where(table.c.log_id == log_id).values(root_hash=root_hash)
    )


def set_notes(connection: Connection, log_id: int, **notes: bytes | None) -> None:
    """Write `checkpoint` or `mirror_checkpoint` of a log."""
    table = tables.logs
    connection.execute(update(table).where(table.c.log_id == log_id).values(**notes))


def set_past_root(
    connection: Connection, log_id: int, tree_size: int, root_hash: bytes
) -> None:
    """Write the root that a log had at an earlier size."""
    table = tables.checkpoints
    connection.execute(
        update(table)
        .where(table.c.log_id == log_id, table.c.tree_size == tree_size)
        .values(root_hash=root_hash)
    )


def put_withdrawals(
    connection: Connection,
    log_id: int,
    first: int,
    end: int,
    rows: Iterable[WithdrawalRow],
) -> None:
    """Write what the RETRACT and ERASE entries among some leaves say."""
    connection.execute(
        delete(_withdrawals).where(
            _withdrawals.c.log_id == log_id,
            _withdrawals.c.leaf_index.between(first, end - 1),
        )
    )
    insert_rows(connection, _withdrawals, [(log_id, *row) for row in rows])


def rebuild_record(
    connection: Connection, log: Log, leaf: StoredLeaf, body: Body | None, *, now: int
) -> list[SignalChange]:
    """Make everything about a record anew from its body.

    Args:
        connection: In a write transaction.
        log: Its log.
        leaf: What is stored.
        body: The body that its entry commits to; None if it is not to be had.
        now: Unix seconds.

    Returns:
        Signals that became live or died; they are in the feed of changes.
    """
    before = _asserted(connection, leaf.record_id)
    _forget_meaning(connection, leaf.record_id)
    taken = _taken_back(connection, log.log_id, leaf.leaf_index)
    if taken == "erase" or body is None:
        content_id, meaning = None, None
        if leaf.content_id is not None:
            contents.erase_contents(connection, [leaf.content_id])
    else:
        meaning = read_meaning(body.body)
        content_id = _put_content(connection, leaf, body, meaning)
    state = _state_of(connection, log, leaf, meaning, taken)
    connection.execute(
        update(_records)
        .where(_records.c.record_id == leaf.record_id)
        .values(
            status=_status_of(state, meaning).value,
            state=state.value,
            kind="unknown" if meaning is None else meaning.kind,
            content_id=content_id,
            expires_at=None if meaning is None else meaning.expires_at,
        )
    )
    if meaning is not None:
        _put_meaning(connection, log.log_id, leaf.record_id, meaning, state)
    touched = before | _asserted(connection, leaf.record_id)
    return recount(connection, sorted(touched), now=now)


def recount(
    connection: Connection, signal_ids: Sequence[int], *, now: int
) -> list[SignalChange]:
    """Count the live records of signals anew; forget signals that nothing asserts.

    Returns:
        Signals that became live or died; they are in the feed of changes.
    """
    changes: list[SignalChange] = []
    for signal_id in signal_ids:
        known = connection.execute(
            select(_signals.c.type, _signals.c.live_count, tables.signal_values.c.value)
            .outerjoin(
                tables.signal_values,
                tables.signal_values.c.signal_id == _signals.c.signal_id,
            )
            .where(_signals.c.signal_id == signal_id)
        ).one_or_none()
        if known is None:
            continue
        counts = _count(connection, signal_id)
        live = counts.get(RecordState.LIVE.value, 0)
        if counts:
            connection.execute(
                update(_signals)
                .where(_signals.c.signal_id == signal_id)
                .values(live_count=live)
            )
        else:
            contents.erase_values(connection, [signal_id])
            connection.execute(
                delete(_signals).where(_signals.c.signal_id == signal_id)
            )
        if bool(live) != bool(known.live_count) or live:
            # Also if it was live before: what followers know of it may be wrong.
            value = known.value or ""
            changes.append(SignalChange(signal_id, known.type, value, live=bool(live)))
    record_changes(connection, changes, now=now)
    return changes


def links_of(connection: Connection, bad: BadSignal) -> list[tuple[int, int]]:
    """List log and leaf index of the records that are linked to a signal."""
    query = (
        select(_records.c.log_id, _records.c.leaf_index)
        .join(_links, _links.c.record_id == _records.c.record_id)
        .where(_links.c.signal_id == bad.signal_id)
    )
    return [(row.log_id, row.leaf_index) for row in connection.execute(query)]


def _count(connection: Connection, signal_id: int) -> dict[str, int]:
    query = (
        select(_records.c.state, func.count().label("many"))
        .join(_links, _links.c.record_id == _records.c.record_id)
        .where(_links.c.signal_id == signal_id)
        .group_by(_records.c.state)
    )
    return {row.state: int(row.many) for row in connection.execute(query)}


def _asserted(connection: Connection, record_id: int) -> set[int]:
    query = select(_links.c.signal_id).where(_links.c.record_id == record_id)
    return set(connection.execute(query).scalars())


def _forget_meaning(connection: Connection, record_id: int) -> None:
    for table in (_links, tables.opinions, tables.sightings):
        connection.execute(delete(table).where(table.c.record_id == record_id))


def _put_content(
    connection: Connection, leaf: StoredLeaf, body: Body, meaning: Meaning
) -> int:
    is_same = (leaf.salt, leaf.body) == (body.salt, body.body)
    if leaf.content_id is not None and is_same and leaf.evidence == meaning.evidence:
        return leaf.content_id
    # A row of these tables keeps its size, so what is right takes a new one.
    content_id = contents.next_content_id(connection)
    row = (content_id, body.salt, body.body, meaning.evidence)
    contents.insert_contents(connection, [row])
    if leaf.content_id is not None:
        connection.execute(
            update(_records)
            .where(_records.c.content_id == leaf.content_id)
            .values(content_id=content_id)
        )
        contents.erase_contents(connection, [leaf.content_id])
    return content_id


def _put_meaning(
    connection: Connection,
    log_id: int,
    record_id: int,
    meaning: Meaning,
    state: RecordState,
) -> None:
    if meaning.statement is not None:
        name, *columns = columns_of(meaning.statement)
        table = tables.metadata.tables[str(name)]
        insert_rows(connection, table, [(record_id, *columns)])
    is_live = state is RecordState.LIVE
    claims = [(record_id, *claim, is_live) for claim in meaning.claims]
    signals.add_claims(connection, log_id, claims)


def _taken_back(connection: Connection, log_id: int, leaf_index: int) -> str | None:
    """Tell which kind of entry takes a leaf back; an ERASE counts more."""
    first, count = _withdrawals.c.first_index, _withdrawals.c.range_count
    query = select(func.min(_withdrawals.c.kind)).where(
        _withdrawals.c.log_id == log_id,
        first <= leaf_index,
        first + count > leaf_index,
    )
    kind: str | None = connection.execute(query).scalar()
    return kind


def _state_of(
    connection: Connection,
    log: Log,
    leaf: StoredLeaf,
    meaning: Meaning | None,
    taken: str | None,
) -> RecordState:
    stays = {RecordState.RETRACTED, RecordState.SUPERSEDED, RecordState.ENDED}
    is_ended = log.counts_until is not None or log.state is LogState.ABANDONED
    is_valid = meaning is not None and meaning.is_valid
    # From what outweighs everything to what is left.
    steps: list[tuple[bool, RecordState]] = [
        (taken == "erase" or leaf.state == RecordState.ERASED, RecordState.ERASED),
        (taken == "retract", RecordState.RETRACTED),
        *((leaf.state == it.value, it) for it in sorted(stays)),
        (meaning is None, RecordState.WITHHELD),
        (is_ended, RecordState.ENDED),
        (_is_replaced(connection, log.log_id, leaf), RecordState.SUPERSEDED),
        (is_valid, RecordState.LIVE),
    ]
    return next((state for is_so, state in steps if is_so), RecordState.INVALID)


def _is_replaced(connection: Connection, log_id: int, leaf: StoredLeaf) -> bool:
    own = select(_records.c.family).where(_records.c.record_id == leaf.record_id)
    family: int | None = connection.execute(own).scalar()
    query = select(func.max(_records.c.leaf_index)).where(
        _records.c.log_id == log_id,
        _records.c.family == (leaf.leaf_index if family is None else family),
    )
    newest: int | None = connection.execute(query).scalar()
    return newest is not None and newest > leaf.leaf_index


def _status_of(state: RecordState, meaning: Meaning | None) -> BodyStatus:
    if state is RecordState.ERASED:
        return BodyStatus.ERASED
    return BodyStatus.WITHHELD if meaning is None else BodyStatus.PRESENT

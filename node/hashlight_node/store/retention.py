"""What is old enough to be forgotten, found and forgotten a part at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sqlalchemy import delete, func, select, update

from hashlight_node.model import RecordState, Role
from hashlight_node.store import signals, tables
from hashlight_node.store.changed_bodies import note_changed
from hashlight_node.store.changes import record_changes
from hashlight_node.store.contents import erase_contents
from hashlight_node.store.statements import chunks
from hashlight_protocol import BodyStatus, Ref

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import ColumnElement, Connection

    from hashlight_node.model import SignalChange

_records = tables.records
_logs = tables.logs
_sightings = tables.sightings
_checkpoints = tables.checkpoints
_evidence = tables.evidence

_TOGETHER: Final = 500
"""Records and rows in one transaction: others want to write as well."""


def find_expired(connection: Connection, before: int, role: Role) -> list[Ref]:
    """Find records with content whose time ended before some time, some of them."""
    return _find(connection, role, _records.c.expires_at < before)


def find_old_sightings(connection: Connection, before: int, role: Role) -> list[Ref]:
    """Find sightings that speak of nothing after some time, some of them."""
    old = select(_sightings.c.record_id).where(_sightings.c.last_at < before)
    return _find(connection, role, _records.c.record_id.in_(old))


def drop_contents(
    connection: Connection, refs: Sequence[Ref], *, now: int
) -> list[SignalChange]:
    """Drop salts, bodies and what was made of them; the records are as if withheld.

    Args:
        connection: In a write transaction.
        refs: Records of copies.
        now: Unix seconds.

    Returns:
        Signals that died; they are in the feed of changes.
    """
    changes: list[SignalChange] = []
    by_origin: dict[str, list[int]] = {}
    for ref in refs:
        by_origin.setdefault(ref.origin, []).append(ref.leaf_index)
    for origin, leaves in by_origin.items():
        for part in chunks(leaves):
            rows = connection.execute(
                select(
                    _records.c.record_id,
                    _records.c.log_id,
                    _records.c.leaf_index,
                    _records.c.state,
                    _records.c.content_id,
                )
                .join(_logs, _logs.c.log_id == _records.c.log_id)
                .where(_logs.c.origin == origin, _records.c.leaf_index.in_(part))
            ).all()
            note_changed(connection, [(it.log_id, it.leaf_index) for it in rows])
            ids = [row.record_id for row in rows]
            live = [it.record_id for it in rows if it.state == RecordState.LIVE.value]
            changes += signals.count_down(connection, live)
            for table in (tables.opinions, _sightings):
                connection.execute(delete(table).where(table.c.record_id.in_(ids)))
            signals.erase_claims(connection, ids)
            connection.execute(
                update(_records)
                .where(_records.c.record_id.in_(ids))
                .values(
                    status=BodyStatus.WITHHELD.value, kind="unknown", content_id=None
                )
            )
            counted = [RecordState.LIVE.value, RecordState.INVALID.value]
            connection.execute(
                update(_records)
                .where(_records.c.record_id.in_(ids), _records.c.state.in_(counted))
                .values(state=RecordState.WITHHELD.value)
            )
            shared = select(_records.c.content_id).where(
                _records.c.content_id.in_([row.content_id for row in rows])
            )
            kept = set(connection.execute(shared).scalars())
            gone = {row.content_id for row in rows if row.content_id is not None}
            erase_contents(connection, sorted(gone - kept))
    record_changes(connection, changes, now=now)
    return changes


def prune_evidence(connection: Connection, before: int) -> bool:
    """Delete old evidence, some of it; the newest of each peer stays.

    Returns:
        Whether there may be more to delete.
    """
    newest = select(func.max(_evidence.c.evidence_id)).group_by(_evidence.c.peer_id)
    old = (
        select(_evidence.c.evidence_id)
        .where(_evidence.c.found_at < before, _evidence.c.evidence_id.not_in(newest))
        .limit(_TOGETHER)
    )
    gone = connection.execute(delete(_evidence).where(_evidence.c.evidence_id.in_(old)))
    return gone.rowcount == _TOGETHER


def prune_checkpoints(connection: Connection, log_id: int, before: int) -> bool:
    """Delete what is remembered of a log's old sizes, some of it; the newest stays.

    Nothing is proven by these rows: a root of any size follows from the tiles.

    Returns:
        Whether there may be more to delete.
    """
    newest = (
        select(func.max(_checkpoints.c.tree_size))
        .where(_checkpoints.c.log_id == log_id)
        .scalar_subquery()
    )
    old = (
        select(_checkpoints.c.tree_size)
        .where(
            _checkpoints.c.log_id == log_id,
            _checkpoints.c.applied_at < before,
            _checkpoints.c.tree_size < newest,
        )
        .limit(_TOGETHER)
    )
    gone = connection.execute(
        delete(_checkpoints).where(
            _checkpoints.c.log_id == log_id, _checkpoints.c.tree_size.in_(old)
        )
    )
    return gone.rowcount == _TOGETHER


def _find(connection: Connection, role: Role, is_old: ColumnElement[bool]) -> list[Ref]:
    query = (
        select(_logs.c.origin, _records.c.leaf_index)
        .join(_records, _records.c.log_id == _logs.c.log_id)
        .where(
            _logs.c.role == role.value,
            _logs.c.counts_until.is_(None),
            _records.c.status == BodyStatus.PRESENT.value,
            is_old,
        )
        .order_by(_logs.c.origin, _records.c.leaf_index)
        .limit(_TOGETHER)
    )
    return [Ref(row.origin, row.leaf_index) for row in connection.execute(query)]

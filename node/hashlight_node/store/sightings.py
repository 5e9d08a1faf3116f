"""Sightings: those that wait to be published, and what all nodes report, added up."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import case, delete, func, select, update

from hashlight_node.model import RecordState
from hashlight_node.store import tables
from hashlight_node.store.reissues import other_names
from hashlight_node.store.signals import LISTS_THAT_COUNT
from hashlight_node.store.statements import rows_where_in, total, upsert
from hashlight_protocol import Ref, Sighting

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import ColumnElement, Connection

_pending = tables.pending_sightings
_sightings = tables.sightings
_records = tables.records
_logs = tables.logs

MOST_COUNTED: Final = 2**53 - 1
"""Largest count that a record can state. Source: SPEC.md#limits."""

_TOTALS: Final = (
    select(
        _sightings.c.ref_origin,
        _sightings.c.ref_index,
        _logs.c.node,
        _sightings.c.outcome,
        total(_sightings.c.count).label("count"),
        func.min(_sightings.c.first_at).label("first_at"),
        func.max(_sightings.c.last_at).label("last_at"),
    )
    .join(_records, _records.c.record_id == _sightings.c.record_id)
    .join(_logs, _logs.c.log_id == _records.c.log_id)
    .where(_records.c.state == RecordState.LIVE.value, LISTS_THAT_COUNT)
    .group_by(
        _sightings.c.ref_origin,
        _sightings.c.ref_index,
        _logs.c.node,
        _sightings.c.outcome,
    )
)


@dataclass(frozen=True, slots=True)
class SightingTotal:
    """How often one record led to one outcome at one node, over all its reports.

    Attributes:
        about: The record.
        node: Who met it.
        outcome: What it led to.
        count: How often.
        first_at: First time, Unix seconds.
        last_at: Last time, Unix seconds.
    """

    about: Ref
    node: str
    outcome: str
    count: int
    first_at: int
    last_at: int


def add_pending(connection: Connection, sighting: Sighting) -> None:
    """Add a sighting to those that wait; what is alike is added up."""
    statement = upsert(connection, _pending).values(
        ref_origin=sighting.ref.origin,
        ref_index=sighting.ref.leaf_index,
        signal_type=sighting.signal_type or "",
        outcome=sighting.outcome,
        count=sighting.count,
        first_at=sighting.first_at,
        last_at=sighting.last_at,
    )
    new = statement.excluded
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=[*_pending.primary_key.columns],
            set_={
                # Neither sum can pass 64 bits: both are below 2^53.
                "count": _smaller(_pending.c.count + new["count"], MOST_COUNTED),
                "first_at": _smaller(_pending.c.first_at, new.first_at),
                "last_at": -_smaller(-_pending.c.last_at, -new.last_at),
            },
        )
    )


def list_pending(connection: Connection, limit: int) -> list[Sighting]:
    """List sightings that wait, in no particular order."""
    rows = connection.execute(select(_pending).limit(limit))
    return [
        Sighting(
            ref=Ref(row.ref_origin, row.ref_index),
            outcome=row.outcome,
            count=getattr(row, "count"),  # noqa: B009 -- a row is a tuple and has a `count`
            first_at=row.first_at,
            last_at=row.last_at,
            signal_type=row.signal_type or None,
        )
        for row in rows
    ]


def take_pending(connection: Connection, sightings: Sequence[Sighting]) -> None:
    """Take away what was published; what came meanwhile goes on waiting.

    Args:
        connection: In the write transaction that publishes them.
        sightings: As `list_pending` gave them.
    """
    for sighting in sightings:
        same: list[ColumnElement[bool]] = [
            _pending.c.ref_origin == sighting.ref.origin,
            _pending.c.ref_index == sighting.ref.leaf_index,
            _pending.c.signal_type == (sighting.signal_type or ""),
            _pending.c.outcome == sighting.outcome,
        ]
        connection.execute(
            delete(_pending).where(*same, _pending.c["count"] <= sighting.count)
        )
        connection.execute(
            update(_pending)
            .where(*same)
            .values({"count": _pending.c["count"] - sighting.count})
        )


def totals_about(connection: Connection, refs: Sequence[Ref]) -> list[SightingTotal]:
    """Add up what records led to, as far as it was reported and not taken back.

    Returns:
        By record, node and outcome.
    """
    names = {ref: ref for ref in refs} | other_names(connection, refs)
    leaf_indexes = sorted({ref.leaf_index for ref in names})
    totals: dict[tuple[str, int, str, str], SightingTotal] = {}
    for row in rows_where_in(connection, _TOTALS, _sightings.c.ref_index, leaf_indexes):
        about = names.get(Ref(row[0], row[1]))
        if about is None:
            continue
        total = SightingTotal(about, *row[2:])
        key = (about.origin, about.leaf_index, total.node, total.outcome)
        # A record that had another name has reports under both.
        earlier = totals.get(key)
        totals[key] = total if earlier is None else _sum(earlier, total)
    return [totals[key] for key in sorted(totals)]


def _sum(one: SightingTotal, other: SightingTotal) -> SightingTotal:
    return replace(
        one,
        count=one.count + other.count,
        first_at=min(one.first_at, other.first_at),
        last_at=max(one.last_at, other.last_at),
    )


def _smaller(one: Any, other: Any) -> ColumnElement[int]:  # noqa: ANN401 -- columns and numbers
    return case((one < other, one), else_=other)

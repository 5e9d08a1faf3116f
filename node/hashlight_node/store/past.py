"""What was live at a time in the past, as far as it was not erased since.

A record was live from when it was applied here until it was withdrawn, replaced or
expired; all of these times are kept with it. What an ERASE destroyed is gone for the
past as well.

What may be long is read page by page, each page a short transaction: a reader that
stayed on an old snapshot would keep an ERASE from being scrubbed. The past does not
change in between, except that less and less of it is known.
"""

from __future__ import annotations

from itertools import zip_longest
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from sqlalchemy import and_, exists, func, or_, select, tuple_

from hashlight_node.model import (
    MAX_RECORDS_A_CALL,
    MAX_RECORDS_SHOWN,
    LogState,
    RecordEvidence,
    RecordState,
    Role,
    StoredOpinion,
    records_of_each,
    signal_digest,
)
from hashlight_node.store import tables
from hashlight_node.store.records import opinion_of_row
from hashlight_node.store.signals import SignalEvidence, evidence_of_row
from hashlight_node.store.statements import chunks
from hashlight_protocol import Ref, Signal

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy import ColumnElement, Connection, Select

_signals = tables.signals
_values = tables.signal_values
_record_signals = tables.record_signals
_records = tables.records
_logs = tables.logs
_contents = tables.contents
_opinions = tables.opinions
_later = _records.alias("later")

_PAIR: Final = (_record_signals.c.log_id, _record_signals.c.record_id)
_pair: Final = tuple_(*_PAIR)

_SIGNALS_PAGED: Final = 20_000
"""Signals of a page, most of which are alive as a rule: some hundredths of a second."""

_PAIRS_PAGED: Final = 2000
"""Records of a page, and signals as well: each costs a statement."""


_STATES_AFTER_LIVE: Final = (
    RecordState.RETRACTED,
    RecordState.SUPERSEDED,
    RecordState.ENDED,
)


class Deceased(NamedTuple):
    """A signal that nobody asserts any more: its id and canonical value."""

    signal_id: int
    value: str


def find_signals(connection: Connection, wanted: Sequence[Signal]) -> dict[Signal, int]:
    """Find signals exactly as they are, live or dead; erased ones are not there."""
    found: dict[Signal, int] = {}
    for part in chunks([(signal_digest(it.type, it.value), it) for it in wanted]):
        query = (
            select(_signals.c.signal_id, _signals.c.type, _values.c.value)
            .join(_values, _values.c.signal_id == _signals.c.signal_id)
            .where(_signals.c.digest.in_([digest for digest, _ in part]))
        )
        known = {it for _, it in part}
        for signal_id, type_name, value in connection.execute(query):
            signal = Signal(type_name, value)
            if signal in known:
                found[signal] = signal_id
    return found


def page_dead(
    connection: Connection,
    type: str,  # noqa: A002 - the field's name
    after: int,
) -> tuple[list[Deceased], int | None]:
    """Read signals of a type that nobody asserts any more.

    Args:
        connection: In a transaction.
        type: The type.
        after: Where the page before ended, 0 for the first.

    Returns:
        Those among the next thousands of all signals, by id, and where this page
        ended; None if there is nothing behind it.
    """
    page = (
        select(_signals.c.signal_id)
        .where(_signals.c.signal_id > after)
        .order_by(_signals.c.signal_id)
        .limit(_SIGNALS_PAGED)
        .subquery()
    )
    last: int | None = connection.execute(select(func.max(page.c.signal_id))).scalar()
    if last is None:
        return [], None
    query = (
        select(_signals.c.signal_id, _values.c.value)
        .join(_values, _values.c.signal_id == _signals.c.signal_id)
        .where(_signals.c.signal_id > after, _signals.c.signal_id <= last)
        .where(_signals.c.type == type, _signals.c.live_count == 0)
        .order_by(_signals.c.signal_id)
    )
    return [Deceased(*row) for row in connection.execute(query)], last


class PastEvidence:
    """Finds the records that made signals live at a time, page by page.

    Args:
        signal_ids: The signals.
        at: Unix seconds.
        sizes: The size of each log then, for the records that are shown.
    """

    def __init__(
        self, signal_ids: Sequence[int], *, at: int, sizes: Mapping[int, int]
    ) -> None:
        self._left = sorted(set(signal_ids), reverse=True)
        self._at = at
        self._sizes = sizes
        self._after = (0, 0)
        self._of_logs: dict[int, list[RecordEvidence]] = {}
        self._counts: dict[int, int] = {}
        self._chosen: dict[int, Sequence[RecordEvidence]] = {}
        self._least: dict[int, int] = {}
        self._cut: set[int] = set()
        self._kept = 0
        self._room = 2 * MAX_RECORDS_A_CALL

    def read_page(self, connection: Connection) -> bool:
        """Read on, some thousands of records at most.

        Args:
            connection: In a transaction, each time another one.

        Returns:
            Whether there is more to read.
        """
        budget = _PAIRS_PAGED
        while self._left and budget > 0:
            budget -= 1 + self._read_signal(connection, self._left[-1], budget)
        return bool(self._left)

    def evidence(self) -> SignalEvidence:
        """Give what was found, as `signals.evidence_of` does for now."""
        self._trim()
        found = {
            signal_id: sorted(chosen, key=lambda it: it.record_id)
            for signal_id, chosen in self._chosen.items()
        }
        return SignalEvidence(found, frozenset(self._cut))

    def _read_signal(self, connection: Connection, signal_id: int, limit: int) -> int:
        """Read on in a signal, and tell how many of its records were looked at."""
        is_next = (_record_signals.c.signal_id == signal_id, _pair > self._after)
        query = select(*_PAIR).where(*is_next).order_by(*_PAIR).limit(limit)
        pairs = connection.execute(query).all()
        if pairs:
            last = (pairs[-1].log_id, pairs[-1].record_id)
            for row in connection.execute(_rows_at(self._at, *is_next, _pair <= last)):
                of_log = self._of_logs.setdefault(row.log_id, [])
                # One more than can be shown, to know that there is more.
                if len(of_log) <= MAX_RECORDS_SHOWN:
                    size = self._sizes.get(row.log_id, 0)
                    of_log.append(evidence_of_row(row, tree_size=size))
            is_full = len(self._of_logs.get(last[0], ())) > MAX_RECORDS_SHOWN
            self._after = (last[0] + 1, 0) if is_full else last
        if len(pairs) < limit:
            self._end_signal(self._left.pop())
        return len(pairs)

    def _end_signal(self, signal_id: int) -> None:
        of_logs, self._of_logs = list(self._of_logs.values()), {}
        self._after = (0, 0)
        if of_logs:
            # Each log's oldest, then each log's second, and on.
            turns = [it for turn in zip_longest(*of_logs) for it in turn if it]
            self._chosen[signal_id] = turns
            # The first turn is whole, whatever its size: every list has its say.
            self._least[signal_id] = len(of_logs)
            self._counts[signal_id] = len(turns)
            self._shorten(signal_id, MAX_RECORDS_SHOWN)
            self._kept += len(self._chosen[signal_id])
            if self._kept > self._room:
                self._trim()
                # Each list's oldest stays, and may be more than there is room for.
                self._room = max(self._room, 2 * self._kept)

    def _trim(self) -> None:
        """Keep of each signal what there is room for."""
        most = records_of_each(self._counts.values())
        for signal_id in self._chosen:
            self._shorten(signal_id, most)
        self._kept = sum(map(len, self._chosen.values()))

    def _shorten(self, signal_id: int, most: int) -> None:
        chosen = self._chosen[signal_id]
        kept = max(most, self._least[signal_id])
        if len(chosen) > kept:
            self._chosen[signal_id] = chosen[:kept]
            self._cut.add(signal_id)


def opinions_at(
    connection: Connection, refs: Sequence[Ref], *, at: int
) -> list[StoredOpinion]:
    """Read the opinions about records that counted at a time.

    Returns:
        In the order in which they arrived here.
    """
    wanted = {(ref.origin, ref.leaf_index) for ref in refs}
    found: list[tuple[int, StoredOpinion]] = []
    for part in chunks(sorted({leaf_index for _, leaf_index in wanted})):
        query = (
            select(_opinions, _logs.c.node, _logs.c.origin, _records.c.leaf_index)
            .join(_records, _records.c.record_id == _opinions.c.record_id)
            .join(_logs, _logs.c.log_id == _records.c.log_id)
            .where(_opinions.c.ref_index.in_(part), _was_live(at))
        )
        found += [
            (row.record_id, opinion_of_row(row))
            for row in connection.execute(query)
            if (row.ref_origin, row.ref_index) in wanted
        ]
    found.sort(key=lambda it: it[0])
    return [opinion for _, opinion in found]


def _was_live(at: int) -> ColumnElement[bool]:
    state = _records.c.state
    family = func.coalesce(_records.c.family, _records.c.leaf_index)
    # A record that was replaced and retracted after that has only the later time.
    replaced = exists().where(
        _later.c.log_id == _records.c.log_id,
        _later.c.family == family,
        # The sum keeps SQLite from reading the log from here to its end instead of
        # the few records of the family.
        _later.c.leaf_index + 0 > _records.c.leaf_index,
        _later.c.applied_at <= at,
    )
    went_later = and_(
        state.in_([it.value for it in _STATES_AFTER_LIVE]),
        _records.c.withdrawn_at > at,
        ~replaced,
    )
    return and_(
        _records.c.applied_at <= at,
        or_(_records.c.expires_at.is_(None), _records.c.expires_at > at),
        or_(state == RecordState.LIVE.value, went_later),
        # Of a list that is followed no more, withdrawals do not arrive any more.
        or_(
            _logs.c.role == Role.OWN.value,
            _logs.c.state != LogState.FROZEN.value,
            _logs.c.verified_at >= at,
            _logs.c.counts_until.is_not(None),
        ),
        _logs.c.counts_from <= at,
        or_(_logs.c.counts_until.is_(None), _logs.c.counts_until > at),
    )


def _rows_at(at: int, *which: ColumnElement[bool]) -> Select[Any]:
    return (
        select(
            _record_signals.c.quality,
            _records.c.record_id,
            _records.c.log_id,
            _records.c.leaf_index,
            _logs.c.origin,
            _logs.c.node,
            _logs.c.list_name,
            _contents.c.evidence,
        )
        .join(_records, _records.c.record_id == _record_signals.c.record_id)
        .join(_logs, _logs.c.log_id == _records.c.log_id)
        .join(_contents, _contents.c.content_id == _records.c.content_id)
        .where(*which, _was_live(at))
        .order_by(*_PAIR)
    )

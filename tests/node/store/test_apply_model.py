"""Applying entries in any order and any batches, against a model that is obvious.

The model keeps a record as a value and goes through the entries one by one. The store
resolves ranges, batches and counts instead; both must agree after every step.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from sqlalchemy import select
from typing_extensions import override

from hashlight_node.model import RecordState
from hashlight_node.store import records, signals, sqlite, tables
from hashlight_node.store.migrate import migrate
from hashlight_protocol import (
    Body,
    BodyStatus,
    Entry,
    Erase,
    Indicator,
    Opinion,
    Reason,
    Ref,
    Retract,
    Signal,
    SignalClaim,
    UnknownEntry,
    encode_record,
)
from support.clock import START
from support.stored_log import ERASED, WITHHELD, StoredLog, present

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection

    from hashlight_node.model import SignalChange, StoredRecord

ORIGINS = (
    "shield.example/hsf/v1/log/ncii/1",
    "alpha.example/hsf/v1/log/ncii/1",
)
VALUES = [Signal("md5", f"{number:032x}") for number in range(6)]

LIVE, SUPERSEDED = RecordState.LIVE, RecordState.SUPERSEDED
RETRACTED, ERASED_STATE = RecordState.RETRACTED, RecordState.ERASED


@dataclass(frozen=True)
class Stated:
    """What a body says, for the model."""

    signals: frozenset[Signal] = frozenset()
    replaces: int | None = None
    is_valid: bool = True


@dataclass
class Known:
    """A record in the model."""

    state: RecordState
    status: BodyStatus
    stated: Stated | None
    withdrawn_by: int | None = None


@dataclass
class Model:
    """What a log means, worked out entry by entry."""

    records: dict[int, Known] = field(default_factory=dict)

    def apply(
        self, leaf_index: int, entry: Entry | Body, stated: Stated | None
    ) -> None:
        match entry:
            case Retract() | Erase():
                for index in entry.covered:
                    if index in self.records:
                        self._withdraw(self.records[index], entry, leaf_index)
            case Body(status=BodyStatus.PRESENT):
                assert stated is not None
                state = LIVE if stated.is_valid else RecordState.INVALID
                self.records[leaf_index] = Known(state, entry.status, stated)
            case Body():
                erased = entry.status == BodyStatus.ERASED
                state = ERASED_STATE if erased else RecordState.WITHHELD
                self.records[leaf_index] = Known(state, entry.status, None)
            case _:
                return
        self._supersede()

    def fill(self, leaf_index: int, stated: Stated) -> None:
        record = self.records.get(leaf_index)
        if record is None or record.status != BodyStatus.WITHHELD:
            return
        if record.state is RecordState.WITHHELD:
            record.state = LIVE if stated.is_valid else RecordState.INVALID
        record.status, record.stated = BodyStatus.PRESENT, stated
        self._supersede()

    def live(self) -> Counter[Signal]:
        found: Counter[Signal] = Counter()
        for record in self.records.values():
            if record.state is LIVE and record.stated is not None:
                found.update(record.stated.signals)
        return found

    def _withdraw(self, record: Known, entry: Retract | Erase, by: int) -> None:
        if isinstance(entry, Erase):
            if record.state is not ERASED_STATE or record.withdrawn_by is None:
                record.withdrawn_by = by
            record.state, record.status = ERASED_STATE, BodyStatus.ERASED
        elif record.state not in {RETRACTED, ERASED_STATE}:
            record.state, record.withdrawn_by = RETRACTED, by

    def _root(self, leaf_index: int) -> int:
        stated = self.records[leaf_index].stated
        target = None if stated is None else stated.replaces
        if target is None or target >= leaf_index or target not in self.records:
            return leaf_index
        return self._root(target)

    def _supersede(self) -> None:
        latest: dict[int, int] = {}
        for leaf_index in sorted(self.records):
            latest[self._root(leaf_index)] = leaf_index
        for leaf_index, record in self.records.items():
            winner = latest[self._root(leaf_index)]
            if record.state is LIVE and leaf_index < winner:
                record.state = SUPERSEDED


def _body(stated: Stated, number: int) -> Body:
    if not stated.is_valid:
        return present(b"no record %d" % number)
    if not stated.signals:
        ref = Ref(ORIGINS[0], number)
        return present(encode_record(Opinion(ref, "dispute")))
    claims = tuple(SignalClaim(it) for it in sorted(stated.signals, key=str))
    indicator = Indicator(
        claims, "image", "hotline", START + number, replaces=stated.replaces
    )
    return present(encode_record(indicator))


_stated = st.builds(
    Stated,
    signals=st.frozensets(st.sampled_from(VALUES), max_size=4),
    replaces=st.none() | st.integers(1, 30),
    is_valid=st.booleans() | st.just(value=True),
)
_statuses = st.sampled_from(
    [BodyStatus.PRESENT] * 4 + [BodyStatus.WITHHELD, BodyStatus.ERASED]
)
_reasons = st.sampled_from([*Reason, 77])
_steps = st.one_of(
    st.tuples(st.just("record"), _stated, _statuses),
    st.tuples(st.just("record"), _stated, st.just(BodyStatus.PRESENT)),
    st.tuples(
        st.sampled_from([Retract, Erase]), st.integers(0, 200), st.integers(1, 99)
    ),
    st.tuples(st.just("unknown"), st.just(0), st.just(0)),
)


class ApplyMachine(RuleBasedStateMachine):
    """Drives two logs in one store and their models."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.TemporaryDirectory()
        path = Path(self.directory.name) / "store.db"
        migrate(f"sqlite:///{path}")
        self.engine = sqlite.writer_engine(path)
        self.live: set[Signal] = set()
        with self.engine.begin() as conn:
            self.logs = [StoredLog(conn, origin) for origin in ORIGINS]
        self.models = [Model(), Model()]

    @override
    def teardown(self) -> None:
        self.engine.dispose()
        self.directory.cleanup()

    @rule(which=st.integers(0, 1), steps=st.lists(_steps, min_size=1, max_size=8))
    def append(self, which: int, steps: Sequence[tuple[object, ...]]) -> None:
        log, model = self.logs[which], self.models[which]
        items: list[Entry | Body] = []
        for leaf_index, step in enumerate(steps, log.size):
            item, stated = self._item(step, leaf_index)
            items.append(item)
            model.apply(leaf_index, item, stated)
        with self.engine.begin() as conn:
            self._note(log.append(conn, *items))

    @rule(which=st.integers(0, 1), filled=st.dictionaries(st.integers(1, 40), _stated))
    def fill(self, which: int, filled: dict[int, Stated]) -> None:
        log, model = self.logs[which], self.models[which]
        bodies: dict[int, Body] = {}
        for leaf_index, stated in filled.items():
            said = self._possible(stated)
            bodies[leaf_index] = _body(said, leaf_index)
            model.fill(leaf_index, said)
        with self.engine.begin() as conn:
            self._note(records.fill_bodies(conn, log.log, bodies, now=START))

    @invariant()
    def store_and_model_agree(self) -> None:
        counts = sum((model.live() for model in self.models), Counter[Signal]())
        with self.engine.begin() as conn:
            assert self._counts(conn) == counts
            live = {Signal(*it) for _, *it in signals.live_signals(conn)}
            assert live == set(counts) == self.live
            for log, model in zip(self.logs, self.models, strict=True):
                for leaf_index, known in model.records.items():
                    self._compare(known, log.read(conn, leaf_index))

    def _item(
        self, step: tuple[object, ...], leaf_index: int
    ) -> tuple[Entry | Body, Stated | None]:
        kind, *values = step
        if kind == "unknown":
            return UnknownEntry(0x04, b"\x04"), None
        if kind == "record":
            stated, status = values
            assert isinstance(stated, Stated)
            if status != BodyStatus.PRESENT:
                return (WITHHELD if status == BodyStatus.WITHHELD else ERASED), None
            said = self._possible(stated)
            return _body(said, leaf_index), said
        first, count = values
        assert isinstance(first, int)
        assert isinstance(count, int)
        first %= leaf_index
        withdrawal = Retract if kind is Retract else Erase
        return withdrawal(first, min(count, leaf_index - first), Reason.WITHDRAWN), None

    def _possible(self, stated: Stated) -> Stated:
        # Only indicators replace; what is no record says nothing.
        if not stated.is_valid:
            return Stated(is_valid=False)
        return stated if stated.signals else replace(stated, replaces=None)

    def _note(self, changes: Sequence[SignalChange]) -> None:
        for change in changes:
            signal = Signal(change.type, change.value)
            assert (signal in self.live) != change.live
            (self.live.add if change.live else self.live.remove)(signal)

    def _counts(self, conn: Connection) -> Counter[Signal]:
        table, values = tables.signals, tables.signal_values
        query = select(table.c.type, values.c.value, table.c.live_count).join(
            values, values.c.signal_id == table.c.signal_id
        )
        rows = conn.execute(query).all()
        assert len({row[:2] for row in rows}) == len(rows)
        return +Counter({Signal(kind, value): count for kind, value, count in rows})

    def _compare(self, known: Known, stored: StoredRecord) -> None:
        assert (stored.state, stored.status) == (known.state, known.status)
        assert bool(stored.body) == (known.status == BodyStatus.PRESENT)
        if known.state in {RETRACTED, ERASED_STATE}:
            assert stored.withdrawn_by == known.withdrawn_by


ApplyMachine.TestCase.settings = settings(max_examples=40, stateful_step_count=12)
TestApplying = ApplyMachine.TestCase

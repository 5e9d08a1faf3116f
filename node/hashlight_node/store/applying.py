"""Turns verified entries into records, signals, opinions and sightings.

`apply_entries` is the one place where entries take effect, our own and others' alike,
and `fill_bodies` the one where a body does that comes later than its entry. Callers
reach both through `records`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from sqlalchemy import bindparam, func, select, update

from hashlight_node.model import RecordState, SignalChange
from hashlight_node.store import reissues, signals, tables, withdrawing
from hashlight_node.store.changed_bodies import note_changed
from hashlight_node.store.changes import record_changes
from hashlight_node.store.contents import insert_contents, next_content_id
from hashlight_node.store.copies import withdraw_copies
from hashlight_node.store.families import (
    find_families,
    join_families,
    latest_members,
)
from hashlight_node.store.meanings import NOTHING, Meaning, read_meaning
from hashlight_node.store.ranges import Withdrawal, clip, resolve, withdrawals_in
from hashlight_node.store.statements import chunks, insert_rows, update_rows
from hashlight_protocol import (
    Body,
    BodyStatus,
    Opinion,
    RecordEntry,
    Sighting,
    verify_supported,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from sqlalchemy import Connection, Row

    from hashlight_node.model import Log
    from hashlight_node.store.ranges import Effect
    from hashlight_node.store.reissues import Original
    from hashlight_protocol import Entry

_records = tables.records

_NO_BODY: Final = Body(BodyStatus.ERASED)

_FILL: Final = (
    update(_records)
    .where(_records.c.record_id == bindparam("of"))
    .values(
        status=bindparam("now_status"),
        state=bindparam("now_state"),
        kind=bindparam("now_kind"),
        content_id=bindparam("now_content"),
        expires_at=bindparam("now_expires"),
        family=bindparam("now_family"),
    )
)


class _Leaf(NamedTuple):
    """A RECORD entry that takes effect.

    Attributes:
        leaf_index: Its position in the log.
        body: Salt and body, or why they are missing.
        by: The entry of the same batch that withdraws it.
        meaning: What the body means, if somebody read that before.
    """

    leaf_index: int
    body: Body
    by: Withdrawal | None
    meaning: Meaning | None


class _Draft(NamedTuple):
    """A record about to be stored, or to be given its body.

    Attributes:
        record_id: Its id.
        leaf_index: Its position in the log.
        status: What is stored of its body.
        state: Whether it counts.
        body: Salt and body, if they are stored.
        meaning: What the body means.
        by: The entry of the same batch that withdraws it.
        original: What it re-issues, if anything.
    """

    record_id: int
    leaf_index: int
    status: BodyStatus
    state: RecordState
    body: Body
    meaning: Meaning
    by: Withdrawal | None = None
    original: Original | None = None

    @property
    def is_stored(self) -> bool:
        """Whether its content is here, with the record that it re-issues."""
        return self.original is not None and self.original.content_id is not None


def apply_entries(  # noqa: PLR0913 -- one log, what it gets, and what is known of it
    connection: Connection,
    log: Log,
    first_index: int,
    entries: Sequence[Entry],
    bodies: Sequence[Body],
    *,
    now: int,
    meanings: Sequence[Meaning | None] = (),
) -> list[SignalChange]:
    """Let verified entries take effect, all of them or, on an error, none.

    Entries act in the order of their leaves, however they are cut into batches. From
    the commit on no lookup finds a record that a RETRACT or ERASE covers. Content that
    an ERASE covers is overwritten in the tables; `Database.scrub` removes it from the
    files.

    Args:
        connection: In a write transaction, the one that stores the entries.
        log: The log; only its name and id count.
        first_index: Leaf index of the first entry; all entries before it are applied.
        entries: In order.
        bodies: One for each entry, verified. ERASED means that the caller knows of a
            verified ERASE, in this batch or later, that covers the entry.
        now: Unix seconds.
        meanings: What `read_meaning` gives for each body, as far as it was asked
            before the transaction began: one for each entry, or none at all.

    Returns:
        Signals that became live or died, in the order in which to apply that.

    Raises:
        UnsupportedEntryError: An entry is of an unknown critical kind. Nothing was
            changed; apply the entries before it, and none after it.
    """
    for leaf_index, entry in enumerate(entries, first_index):
        if not isinstance(entry, RecordEntry):
            verify_supported(entry, leaf_index=leaf_index)
    withdrawals = withdrawals_in(entries, first_index)
    _save_withdrawals(connection, log.log_id, withdrawals)
    effects = resolve(withdrawals)
    end = first_index + len(entries)
    withdrawn = _by_leaf(clip(effects, first_index, end))
    known = meanings or (None,) * len(entries)
    leaves = [
        _Leaf(leaf_index, body, withdrawn.get(leaf_index), meaning)
        for leaf_index, (entry, body, meaning) in enumerate(
            zip(entries, bodies, known, strict=True), first_index
        )
        if isinstance(entry, RecordEntry)
    ]
    originals = reissues.find_originals(
        connection,
        log,
        (
            (leaf_index, entry.commitment)
            for leaf_index, entry in enumerate(entries, first_index)
            if isinstance(entry, RecordEntry)
        ),
    )
    drafts = _draft(leaves, originals, _next_record_id(connection))
    families = _families_of(connection, log.log_id, drafts)
    changes = _insert(connection, log.log_id, drafts, families, now)
    winners = {family: leaf for leaf, family in sorted(families.items())}
    changes += withdrawing.supersede(connection, log.log_id, winners, now=now)
    earlier = clip(effects, 0, first_index)
    changes += withdrawing.apply_ranges(connection, log.log_id, earlier, now=now)
    changes += withdraw_copies(
        connection, log, effects, first_index=first_index, now=now
    )
    record_changes(connection, changes, now=now)
    return changes


def fill_bodies(
    connection: Connection, log: Log, bodies: Mapping[int, Body], *, now: int
) -> list[SignalChange]:
    """Give bodies to records whose bodies were withheld until now.

    The outcome is the one that `apply_entries` would have had with these bodies. What
    was retracted meanwhile stays retracted, and what was erased takes no body.

    Args:
        connection: In a write transaction.
        log: The log; only its id counts.
        bodies: By leaf index, verified. Passed over are those that are missing here as
            well, and those of entries that have their bodies or are no records.
        now: Unix seconds.

    Returns:
        Signals that became live or died, in the order in which to apply that.
    """
    drafts: list[_Draft] = []
    present = [it for it in bodies if bodies[it].status == BodyStatus.PRESENT]
    for part in chunks(sorted(present)):
        query = select(
            _records.c.record_id, _records.c.leaf_index, _records.c.state
        ).where(
            _records.c.log_id == log.log_id,
            _records.c.leaf_index.in_(part),
            _records.c.status == BodyStatus.WITHHELD.value,
        )
        rows = connection.execute(query)
        drafts.extend(_fill(row, bodies[row.leaf_index]) for row in rows)
    note_changed(connection, [(log.log_id, it.leaf_index) for it in drafts])
    families = _families_of(connection, log.log_id, drafts)
    changes = _update(connection, log.log_id, drafts, families)
    join_families(connection, log.log_id, families)
    touched = {families.get(it.leaf_index, it.leaf_index) for it in drafts}
    winners = latest_members(connection, log.log_id, touched)
    changes += withdrawing.supersede(connection, log.log_id, winners, now=now)
    record_changes(connection, changes, now=now)
    return changes


def _by_leaf(effects: Iterable[Effect]) -> dict[int, Withdrawal]:
    return {
        leaf_index: effect.by
        for effect in effects
        for leaf_index in range(effect.first, effect.end)
    }


def _draft(
    leaves: Sequence[_Leaf],
    originals: Mapping[int, Original],
    first_id: int,
) -> list[_Draft]:
    return [
        _reissued(_new_draft(record_id, leaf), originals)
        for record_id, leaf in enumerate(leaves, first_id)
    ]


def _new_draft(record_id: int, leaf: _Leaf) -> _Draft:
    leaf_index, body, by, known = leaf
    is_present = body.status == BodyStatus.PRESENT
    meaning = NOTHING
    if is_present:
        meaning = read_meaning(body.body) if known is None else known
    status, state = BodyStatus.WITHHELD, RecordState.WITHHELD
    if body.status == BodyStatus.ERASED or (by is not None and by.is_erase):
        status, state, body = BodyStatus.ERASED, RecordState.ERASED, _NO_BODY
        # If it replaced another record, that stays replaced.
        meaning = Meaning(replaces=meaning.replaces)
        # The ERASE that is still to come will say that it was the reason.
        by = by if by is not None and by.is_erase else None
    elif by is not None:
        status = BodyStatus.PRESENT if is_present else status
        state = RecordState.RETRACTED
    elif is_present:
        status, state = BodyStatus.PRESENT, _state_of(meaning)
    return _Draft(record_id, leaf_index, status, state, body, meaning, by)


def _reissued(draft: _Draft, originals: Mapping[int, Original]) -> _Draft:
    """Let a withdrawal in an earlier log stand: it is final."""
    original = originals.get(draft.leaf_index)
    if original is None:
        return draft
    draft = draft._replace(original=original)
    if original.state is RecordState.ERASED:
        return draft._replace(
            status=BodyStatus.ERASED,
            state=RecordState.ERASED,
            body=_NO_BODY,
            meaning=Meaning(replaces=draft.meaning.replaces),
        )
    if original.is_withdrawn and draft.state is not RecordState.ERASED:
        return draft._replace(state=RecordState.RETRACTED)
    return draft


def _fill(row: Row[*tuple[Any, ...]], body: Body) -> _Draft:
    meaning = read_meaning(body.body)
    state = RecordState(row.state)
    # A record that is retracted by now is given its body for audit only.
    if state is RecordState.WITHHELD:
        state = _state_of(meaning)
    return _Draft(row.record_id, row.leaf_index, body.status, state, body, meaning)


def _state_of(meaning: Meaning) -> RecordState:
    return RecordState.LIVE if meaning.is_valid else RecordState.INVALID


def _next_record_id(connection: Connection) -> int:
    # Records are never deleted and one thread writes, so counting on is safe.
    last: int | None = connection.execute(
        select(func.max(_records.c.record_id))
    ).scalar()
    return (last or 0) + 1


def _families_of(
    connection: Connection, log_id: int, drafts: Sequence[_Draft]
) -> dict[int, int]:
    replaces = {
        it.leaf_index: it.meaning.replaces
        for it in drafts
        if it.meaning.replaces is not None
    }
    if not replaces:
        return {}
    beside = {it.leaf_index for it in drafts}
    return find_families(connection, log_id, replaces, beside)


def _insert(
    connection: Connection,
    log_id: int,
    drafts: Sequence[_Draft],
    families: Mapping[int, int],
    now: int,
) -> list[SignalChange]:
    content_ids = _insert_contents(connection, drafts)
    rows = [
        (
            it.record_id,
            log_id,
            it.leaf_index,
            it.status.value,
            it.state.value,
            it.meaning.kind,
            content_ids.get(it.record_id),
            it.meaning.expires_at,
            families.get(it.leaf_index),
            now,
            *_withdrawn(it.by, now),
            None if it.original is None else it.original.same_as,
        )
        for it in drafts
    ]
    insert_rows(connection, _records, rows)
    found = [it.original for it in drafts if it.original is not None]
    reissues.link(connection, [(it.record_id, it.same_as) for it in found])
    return _insert_meanings(connection, log_id, drafts)


def _withdrawn(by: Withdrawal | None, now: int) -> tuple[int | None, ...]:
    return (None, None, None) if by is None else (by.reason, by.leaf_index, now)


def _update(
    connection: Connection,
    log_id: int,
    drafts: Sequence[_Draft],
    families: Mapping[int, int],
) -> list[SignalChange]:
    content_ids = _insert_contents(connection, drafts)
    rows = [
        {
            "of": it.record_id,
            "now_status": it.status.value,
            "now_state": it.state.value,
            "now_kind": it.meaning.kind,
            "now_content": content_ids.get(it.record_id),
            "now_expires": it.meaning.expires_at,
            "now_family": families.get(it.leaf_index),
        }
        for it in drafts
    ]
    update_rows(connection, _FILL, rows)
    return _insert_meanings(connection, log_id, drafts)


def _insert_contents(
    connection: Connection, drafts: Sequence[_Draft]
) -> dict[int, int]:
    present = [
        it for it in drafts if it.status == BodyStatus.PRESENT and not it.is_stored
    ]
    # The salt and body of what is re-issued are the same, and are there once only.
    shared = {
        it.record_id: it.original.content_id
        for it in drafts
        if it.status == BodyStatus.PRESENT
        and it.original is not None
        and it.original.content_id is not None
    }
    first = next_content_id(connection)
    insert_contents(
        connection,
        [
            (content_id, it.body.salt, it.body.body, it.meaning.evidence)
            for content_id, it in enumerate(present, first)
        ],
    )
    return shared | {
        it.record_id: content_id for content_id, it in enumerate(present, first)
    }


def _insert_meanings(
    connection: Connection, log_id: int, drafts: Sequence[_Draft]
) -> list[SignalChange]:
    opinions: list[tuple[object, ...]] = []
    sightings: list[tuple[object, ...]] = []
    for it in drafts:
        match it.meaning.statement:
            case Opinion() as opinion:
                opinions.append((it.record_id, *_opinion(opinion)))
            case Sighting() as sighting:
                sightings.append((it.record_id, *_sighting(sighting)))
            case None:
                pass
    insert_rows(connection, tables.opinions, opinions)
    insert_rows(connection, tables.sightings, sightings)
    live = RecordState.LIVE
    claims = [
        (it.record_id, type_name, value, quality, it.state is live)
        for it in drafts
        for type_name, value, quality in it.meaning.claims
    ]
    return signals.add_claims(connection, log_id, claims)


def columns_of(statement: Opinion | Sighting) -> tuple[object, ...]:
    """Say in which table a statement stands, and what its row holds behind its id."""
    match statement:
        case Opinion() as opinion:
            return (tables.opinions.name, *_opinion(opinion))
        case Sighting() as sighting:
            return (tables.sightings.name, *_sighting(sighting))


def _opinion(opinion: Opinion) -> tuple[object, ...]:
    return (
        opinion.ref.origin,
        opinion.ref.leaf_index,
        opinion.signal_type,
        opinion.stance,
        opinion.reason,
    )


def _sighting(sighting: Sighting) -> tuple[object, ...]:
    return (
        sighting.ref.origin,
        sighting.ref.leaf_index,
        sighting.signal_type,
        sighting.outcome,
        sighting.count,
        sighting.first_at,
        sighting.last_at,
    )


def _save_withdrawals(
    connection: Connection, log_id: int, withdrawals: Sequence[Withdrawal]
) -> None:
    rows = [
        (
            log_id,
            it.leaf_index,
            "erase" if it.is_erase else "retract",
            it.first,
            it.end - it.first,
            it.reason,
        )
        for it in withdrawals
    ]
    insert_rows(connection, tables.withdrawals, rows)

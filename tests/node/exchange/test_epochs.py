"""A list goes on in a new log: what counts does, and what was taken back does not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from hashlight_node.exchange.errors import (
    ErasedError,
    ListInactiveError,
    NotServedError,
    UnknownListError,
)
from hashlight_node.exchange.publishing.epochs import GAP, Abandoned, Frozen
from hashlight_node.model import LogState, RecordState
from hashlight_node.store import logs, past, records, signals
from hashlight_protocol import (
    Meta,
    Opinion,
    Reason,
    Ref,
    Sighting,
    Signal,
    encode_entry,
    encode_record,
    open_checkpoint,
    open_list_note,
    parse_entry,
    verify_meta,
    verify_successor,
)
from support.clock import START
from support.made_records import indicator, indicators, md5_of, opinion

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from hashlight_node.model import Log, StoredRecord
    from support.exchange_node import ExchangeNode

ONE = "alpha.example/hsf/v1/log/ncii/1"
TWO = "alpha.example/hsf/v1/log/ncii/2"


async def publish(node: ExchangeNode, count: int, *, first: int = 0) -> tuple[Ref, ...]:
    return await node.publisher.publish("ncii", indicators(count, first=first))


@pytest.fixture
async def node(alpha: ExchangeNode) -> ExchangeNode:
    """Give a node with records 0 to 3 in leaves 1 to 4 of its list."""
    await alpha.publisher.create_list("ncii", {"title": "t"})
    await publish(alpha, 4)
    return alpha


async def shown(node: ExchangeNode, number: int) -> list[Ref]:
    """Give the references that a lookup of record `number` names."""

    def read(conn: Connection) -> list[Ref]:
        found = signals.evidence_of(
            conn,
            list(signals.find_live(conn, _signals(number)).values()),
            now=START,
        )
        return sorted(
            {it.ref for rows in found.by_signal.values() for it in rows},
            key=lambda it: (it.origin, it.leaf_index),
        )

    return await node.read(read)


def _signals(number: int) -> list[Signal]:
    return [Signal("md5", md5_of(number))]


async def entries_of(node: ExchangeNode, log: Log) -> list[bytes]:
    def read(conn: Connection) -> list[bytes]:
        found = logs.read_entries_at(conn, log.log_id, range(log.tree_size))
        return [found[it] for it in range(log.tree_size)]

    return await node.read(read)


async def state_of(node: ExchangeNode, origin: str, leaf_index: int) -> RecordState:
    return (await node.record(origin, leaf_index)).state


async def test_every_record_goes_on_under_its_index_and_is_found_once(
    node: ExchangeNode,
) -> None:
    begun = await node.epochs.begin_next("ncii", ending=Frozen())

    assert (begun.origin, begun.ended, begun.reissued) == (TWO, ONE, 4)
    for number in range(4):
        assert await shown(node, number) == [Ref(TWO, number + 1)]
        assert await node.matches(number) == 1
    counts = await node.read(signals.count_live)
    assert counts == {"md5": 4, "pdq": 4}


async def test_the_new_log_says_where_the_old_one_ended(node: ExchangeNode) -> None:
    before = await node.log(ONE)
    begun = await node.epochs.begin_next("ncii", ending=Frozen())

    old, new = await node.log(ONE), await node.log(TWO)
    assert (old.state, new.state) == (LogState.FROZEN, LogState.ACTIVE)
    assert old.checkpoint == before.checkpoint
    identity = node.keyring.identity.key
    note = open_list_note(new.list_note or b"", identity)
    verify_successor(open_list_note(before.list_note or b"", identity), note)
    assert [log.state for log in note.logs] == ["frozen", "active"]
    assert note.logs[0].final == begun.final
    assert (begun.final.tree_size, begun.final.root_hash) == (
        old.tree_size,
        old.root_hash,
    )
    meta = parse_entry((await entries_of(node, new))[0], leaf_index=0)
    assert isinstance(meta, Meta)
    verify_meta(meta, note)
    assert note.logs[1].vkeys != note.logs[0].vkeys
    signed = open_checkpoint(new.checkpoint or b"", note.logs[1].vkeys, origin=TWO)
    assert signed.head.root_hash == new.root_hash


async def test_what_was_taken_back_leaves_a_gap(node: ExchangeNode) -> None:
    await node.publisher.withdraw(Ref(ONE, 1), "erase", Reason.WITHDRAWN)
    await node.publisher.withdraw(Ref(ONE, 2), "retract", Reason.FALSE_POSITIVE)
    await node.publisher.publish("ncii", [indicator(9, replaces=3)])

    await node.epochs.begin_next("ncii", ending=Frozen())

    old, new = await node.log(ONE), await node.log(TWO)
    before, after = await entries_of(node, old), await entries_of(node, new)
    gap = encode_entry(GAP)
    assert after[1:4] == [gap, gap, gap]
    assert after[4] == before[4]
    assert [it for it in after[5:] if it != gap] == [before[7]]
    assert len(after) == 8
    found = {number: await node.matches(number) for number in (0, 1, 2, 3, 9)}
    assert found == {0: 0, 1: 0, 2: 0, 3: 1, 9: 1}


async def test_an_index_in_a_body_still_means_what_it_meant(node: ExchangeNode) -> None:
    # Leaf 5 replaces leaf 1. In a log without gaps it would replace another record.
    await node.publisher.publish("ncii", [indicator(9, replaces=1)])
    await node.epochs.begin_next("ncii", ending=Frozen())
    for number in (1, 2, 3, 9):
        assert await node.matches(number) == 1
    assert await node.matches(0) == 0


async def test_an_empty_list_goes_on_as_well(alpha: ExchangeNode) -> None:
    await alpha.publisher.create_list("ncii", {})
    begun = await alpha.epochs.begin_next("ncii", ending=Frozen())
    assert begun.reissued == 0
    assert await publish(alpha, 1) == (Ref(TWO, 1),)
    assert await alpha.matches(0) == 1


async def test_a_list_can_go_on_many_times(node: ExchangeNode) -> None:
    for epoch in (2, 3, 4):
        begun = await node.epochs.begin_next("ncii", ending=Frozen())
        assert begun.origin == f"alpha.example/hsf/v1/log/ncii/{epoch}"
        assert await shown(node, 2) == [Ref(begun.origin, 3)]
    await node.publisher.withdraw(Ref(TWO, 3), "erase", Reason.WITHDRAWN)
    for epoch in (1, 2, 3, 4):
        origin = f"alpha.example/hsf/v1/log/ncii/{epoch}"
        record = await node.record(origin, 3)
        assert (record.state, record.body) == (RecordState.ERASED, b"")


async def test_more_records_than_fit_into_memory_at_once_go_on(
    alpha: ExchangeNode,
) -> None:
    await alpha.publisher.create_list("ncii", {})
    for first in range(0, 6000, 1000):
        await publish(alpha, 1000, first=first)
    begun = await alpha.epochs.begin_next("ncii", ending=Frozen())
    assert begun.reissued == 6000
    assert await alpha.read(signals.count_live) == {"md5": 6000, "pdq": 6000}
    assert await shown(alpha, 5999) == [Ref(TWO, 6000)]
    new = await alpha.log(TWO)
    assert (new.tree_size, new.checkpoint_size) == (6001, 6001)


async def test_the_old_log_takes_no_more_entries(node: ExchangeNode) -> None:
    old = await node.log(ONE)
    await node.epochs.begin_next("ncii", ending=Frozen())
    await publish(node, 1, first=4)
    after = await node.log(ONE)
    assert (after.tree_size, after.checkpoint) == (old.tree_size, old.checkpoint)
    assert (await node.log(TWO)).tree_size == 6


async def test_an_unknown_list_or_size_changes_nothing(node: ExchangeNode) -> None:
    with pytest.raises(UnknownListError):
        await node.epochs.begin_next("none", ending=Frozen())
    for size in (0, 6):
        with pytest.raises(NotServedError):
            await node.epochs.begin_next("ncii", ending=Abandoned(size))
    assert await node.read(lambda conn: logs.find_log(conn, TWO)) is None
    assert not node.keyring.has_log(TWO)


async def test_an_attempt_that_was_cut_off_after_its_key_is_passed_over(
    node: ExchangeNode,
) -> None:
    node.keyring.create_log(TWO)
    begun = await node.epochs.begin_next("ncii", ending=Frozen())
    assert begun.origin == "alpha.example/hsf/v1/log/ncii/3"
    assert await node.matches(0) == 1


async def test_records_beyond_the_end_of_an_abandoned_log_are_dropped(
    node: ExchangeNode,
) -> None:
    begun = await node.epochs.begin_next("ncii", ending=Abandoned(3))
    assert (begun.final.tree_size, begun.reissued) == (3, 2)
    found = [await node.matches(number) for number in range(4)]
    assert found == [1, 1, 0, 0]
    assert await state_of(node, ONE, 4) is RecordState.ENDED
    assert (await node.log(ONE)).state is LogState.ABANDONED
    note = open_list_note(
        (await node.log(TWO)).list_note or b"", node.keyring.identity.key
    )
    assert note.logs[0].state == "abandoned"
    assert note.logs[0].final == begun.final


async def test_our_own_records_beyond_the_end_go_on_if_they_are_genuine(
    node: ExchangeNode,
) -> None:
    begun = await node.epochs.begin_next("ncii", ending=Abandoned(3, "keep"))
    assert begun.reissued == 4
    assert [await node.matches(number) for number in range(4)] == [1, 1, 1, 1]


@pytest.mark.parametrize("kind", ["retract", "erase"])
async def test_what_we_took_back_beyond_the_end_stays_taken_back(
    node: ExchangeNode, kind: str
) -> None:
    await node.publisher.withdraw(
        Ref(ONE, 1), "erase" if kind == "erase" else "retract", Reason.WITHDRAWN
    )
    await node.epochs.begin_next("ncii", ending=Abandoned(5))
    assert [await node.matches(number) for number in range(4)] == [0, 1, 1, 1]


async def test_what_a_dropped_record_replaced_counts_again(node: ExchangeNode) -> None:
    await node.publisher.publish("ncii", [indicator(9, replaces=1)])
    assert await node.matches(0) == 0
    await node.epochs.begin_next("ncii", ending=Abandoned(5))
    assert [await node.matches(number) for number in (0, 1, 9)] == [1, 1, 0]


async def test_opinions_go_on_counting_whatever_log_they_name(
    node: ExchangeNode,
) -> None:
    await node.publisher.create_list("feedback", {})
    await node.publisher.publish("feedback", [opinion(Ref(ONE, 1))])
    await node.epochs.begin_next("ncii", ending=Frozen())
    assert await dispute_of(node, Ref(TWO, 1)) == [Ref(TWO, 1)]
    assert await dispute_of(node, Ref(ONE, 1)) == [Ref(ONE, 1)]
    assert await dispute_of(node, Ref(TWO, 2)) == []

    # The list with the opinions goes on, too: each is there once.
    await node.epochs.begin_next("feedback", ending=Frozen())
    assert await dispute_of(node, Ref(TWO, 1)) == [Ref(TWO, 1)]


async def dispute_of(node: ExchangeNode, ref: Ref) -> list[Ref]:
    def read(conn: Connection) -> list[Ref]:
        standing = records.standing_opinions(conn, [ref], ["md5"])
        assert standing == records.opinions_about(conn, [ref])
        return [it.about for it in standing]

    return await node.read(read)


async def test_sightings_go_on_counting(node: ExchangeNode) -> None:
    await node.publisher.create_list("feedback", {})
    seen = encode_record(Sighting(Ref(ONE, 1), "matched", 3, START, START))
    await node.publisher.publish("feedback", [seen])
    await node.epochs.begin_next("ncii", ending=Frozen())
    for origin in (ONE, TWO):
        detail = await node.feedback.about_record(Ref(origin, 1))
        assert [it.count for it in detail.sightings] == [3]


async def test_an_opinion_in_a_new_log_may_name_the_new_record(
    node: ExchangeNode,
) -> None:
    await node.epochs.begin_next("ncii", ending=Frozen())
    await node.publisher.create_list("feedback", {})
    about_new = encode_record(Opinion(ref=Ref(TWO, 2), stance="dispute"))
    await node.publisher.publish("feedback", [about_new])
    assert await dispute_of(node, Ref(TWO, 2)) == [Ref(TWO, 2)]
    assert await dispute_of(node, Ref(ONE, 2)) == [Ref(ONE, 2)]


@pytest.mark.parametrize("kind", ["retract", "erase"])
async def test_a_case_file_names_the_old_log_and_the_record_is_taken_back(
    node: ExchangeNode, kind: str
) -> None:
    await node.epochs.begin_next("ncii", ending=Frozen())
    done = await node.publisher.withdraw(
        Ref(ONE, 2), "erase" if kind == "erase" else "retract", Reason.WITHDRAWN
    )
    assert done == Ref(TWO, 5)
    assert await node.matches(1) == 0
    again = await node.publisher.withdraw(
        Ref(ONE, 2), "erase" if kind == "erase" else "retract", Reason.WITHDRAWN
    )
    assert again == done


async def test_a_receipt_of_the_old_log_of_an_erased_record_is_refused(
    node: ExchangeNode,
) -> None:
    await node.epochs.begin_next("ncii", ending=Frozen())
    assert await node.inspect.receipt(Ref(ONE, 2))
    await node.publisher.withdraw(Ref(ONE, 2), "erase", Reason.WITHDRAWN)
    for origin in (ONE, TWO):
        with pytest.raises(ErasedError):
            await node.inspect.receipt(Ref(origin, 2))
    report = await node.inspect.erasure(Ref(ONE, 2))
    assert (report.ref, report.erased_by) == (Ref(TWO, 2), 5)


@pytest.mark.parametrize("ending", [Frozen(), Abandoned(3)])
async def test_what_did_not_go_on_can_be_erased_all_the_same(
    node: ExchangeNode, ending: Frozen | Abandoned
) -> None:
    await node.publisher.withdraw(Ref(ONE, 2), "retract", Reason.FALSE_POSITIVE)
    await node.epochs.begin_next("ncii", ending=ending)
    for leaf_index in (2, 4):
        before = await node.record(ONE, leaf_index)
        assert before.body
        await node.publisher.withdraw(Ref(ONE, leaf_index), "erase", Reason.WITHDRAWN)
        after: StoredRecord = await node.record(ONE, leaf_index)
        assert (after.state, after.body) == (RecordState.ERASED, b"")
        report = await node.inspect.erasure(Ref(ONE, leaf_index))
        assert report.erased_by is not None
    assert await node.matches(3) == 0


async def test_what_did_not_go_on_can_be_retracted(node: ExchangeNode) -> None:
    await node.epochs.begin_next("ncii", ending=Abandoned(3))
    done = await node.publisher.withdraw(Ref(ONE, 4), "retract", Reason.WITHDRAWN)
    assert done.origin == TWO
    assert await node.matches(3) == 0


async def test_a_log_that_is_not_active_refuses_entries(node: ExchangeNode) -> None:
    log = await node.log(ONE)
    await node.database.write(
        lambda conn: logs.set_log_state(conn, log.log_id, LogState.ABANDONED, None)
    )
    with pytest.raises(ListInactiveError):
        await publish(node, 1)


async def test_what_was_known_then_is_told_of_the_log_of_then(
    node: ExchangeNode,
) -> None:
    node.clock.advance(100)
    await node.epochs.begin_next("ncii", ending=Frozen())
    assert await refs_at(node, START + 50) == [Ref(ONE, 1)]
    assert await refs_at(node, START + 100) == [Ref(TWO, 1)]


async def refs_at(node: ExchangeNode, at: int) -> list[Ref]:
    def read(conn: Connection) -> list[Ref]:
        found = past.find_signals(conn, _signals(0))
        evidence = past.PastEvidence(list(found.values()), at=at, sizes={})
        while evidence.read_page(conn):
            pass
        rows = evidence.evidence().by_signal.values()
        return [it.ref for row in rows for it in row]

    return await node.read(read)

"""Ending a case: its records end everywhere, and nobody else's does."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from hashlight_node.exchange.errors import RolledBackError, UnknownCaseError
from hashlight_node.exchange.publishing.cases import Cases
from hashlight_node.exchange.publishing.epochs import Frozen
from hashlight_node.model import LogState, RecordState
from hashlight_node.store import logs
from hashlight_protocol import (
    Indicator,
    Reason,
    Ref,
    SignalClaim,
    encode_record,
    parse_signal,
)
from support.clock import START
from support.made_records import md5_of

if TYPE_CHECKING:
    from support.exchange_node import ExchangeNode
    from support.peer_simulator import PeerSimulator

Pair = tuple["ExchangeNode", "PeerSimulator"]


def reported(number: int, case: str | None) -> bytes:
    return encode_record(
        Indicator(
            signals=(SignalClaim(parse_signal("md5", md5_of(number))),),
            kind="image",
            source="person",
            created_at=START,
            case=case,
        )
    )


@pytest.fixture
def cases(alpha: ExchangeNode) -> Cases:
    return Cases(
        database=alpha.database,
        publisher=alpha.publisher,
        clock=alpha.clock,
        node_name=alpha.name,
    )


async def publish(node: ExchangeNode, list_name: str, *bodies: bytes) -> list[Ref]:
    await node.publisher.create_list(list_name, {})
    return list(await node.publisher.publish(list_name, bodies))


async def test_a_case_ends_in_all_our_lists_and_no_other_case_does(
    alpha: ExchangeNode, cases: Cases
) -> None:
    first, _, third = await publish(
        alpha, "ncii", reported(1, "anna"), reported(2, "anna-2"), reported(3, "anna")
    )
    (fourth,) = await publish(alpha, "minors", reported(4, "anna"))

    done = await cases.withdraw("anna", "erase", Reason.WITHDRAWN)

    assert {ref for ref, _ in done.withdrawn} == {first, third, fourth}
    assert done.still_asserted == ()
    assert [await alpha.matches(number) for number in (1, 2, 3, 4)] == [0, 1, 0, 0]
    for ref in (first, third, fourth):
        assert (await alpha.record(ref.origin, ref.leaf_index)).body == b""


async def test_a_picture_goes_on_matching_for_everybody_else_who_reported_it(
    following: Pair, cases: Cases
) -> None:
    alpha, shield = following
    log = shield.logs["ncii"]
    (index,) = log.publish([reported(1, "another-reference")])
    await alpha.follower.sync("shield.example", "ncii")
    refs = await publish(
        alpha, "own", reported(1, "anna"), reported(1, "berta"), reported(1, "anna")
    )
    assert await alpha.matches(1) == 4

    done = await cases.withdraw("anna", "erase", Reason.WITHDRAWN)

    (left,) = done.still_asserted
    assert left.type == "md5"
    assert set(left.refs) == {refs[1], Ref(log.origin, index)}
    assert await alpha.matches(1) == 2
    done = await cases.withdraw("berta", "retract", Reason.WITHDRAWN)
    assert done.still_asserted[0].refs == (Ref(log.origin, index),)
    log.retract(index)
    await alpha.follower.sync("shield.example", "ncii")
    assert await alpha.matches(1) == 0


async def test_repeating_finishes_what_was_cut_off(
    alpha: ExchangeNode, cases: Cases
) -> None:
    first, second = await publish(
        alpha, "ncii", reported(1, "anna"), reported(2, "anna")
    )
    await alpha.publisher.withdraw(first, "retract", Reason.WITHDRAWN)
    done = await cases.withdraw("anna", "retract", Reason.WITHDRAWN)
    assert [ref for ref, _ in done.withdrawn] == [first, second]
    again = await cases.withdraw("anna", "retract", Reason.WITHDRAWN)
    assert again == done
    erased = await cases.withdraw("anna", "erase", Reason.WITHDRAWN)
    assert [ref for ref, _ in erased.withdrawn] == [first, second]
    record = await alpha.record(first.origin, first.leaf_index)
    assert record.state is RecordState.ERASED


async def test_a_list_that_is_held_keeps_no_other_record_of_a_case_in_use(
    alpha: ExchangeNode, cases: Cases
) -> None:
    await publish(alpha, "held", reported(1, "anna"))
    held = await alpha.log("alpha.example/hsf/v1/log/held/1")
    await publish(alpha, "ncii", reported(2, "anna"))
    await alpha.database.write(
        lambda conn: logs.set_log_state(
            conn, held.log_id, LogState.ROLLED_BACK, "restored"
        )
    )

    with pytest.raises(RolledBackError):
        await cases.withdraw("anna", "erase", Reason.WITHDRAWN)

    assert await alpha.matches(2) == 0
    await alpha.database.write(
        lambda conn: logs.set_log_state(conn, held.log_id, LogState.ACTIVE, None)
    )
    done = await cases.withdraw("anna", "erase", Reason.WITHDRAWN)
    assert len(done.withdrawn) == 1
    assert await alpha.matches(1) == 0


async def test_a_case_ends_also_where_its_record_did_not_go_on(
    alpha: ExchangeNode, cases: Cases
) -> None:
    first, _ = await publish(alpha, "ncii", reported(1, "anna"), reported(2, "anna"))
    await alpha.publisher.withdraw(first, "retract", Reason.FALSE_POSITIVE)
    await alpha.epochs.begin_next("ncii", ending=Frozen())
    await cases.withdraw("anna", "erase", Reason.WITHDRAWN)
    assert await alpha.matches(2) == 0
    for leaf_index in (1, 2):
        assert (await alpha.record(first.origin, leaf_index)).body == b""


async def test_a_case_that_nobody_named_is_unknown(
    following: Pair, cases: Cases
) -> None:
    alpha, shield = following
    # That another node uses the same word says nothing about ours.
    shield.logs["ncii"].publish([reported(1, "anna")])
    await alpha.follower.sync("shield.example", "ncii")
    await publish(alpha, "own", reported(2, None), reported(3, "annabel"))
    with pytest.raises(UnknownCaseError):
        await cases.withdraw("anna", "erase", Reason.WITHDRAWN)
    assert await alpha.matches(1) == 1


async def test_a_case_of_thousands_of_records_is_found_whole(
    alpha: ExchangeNode, cases: Cases
) -> None:
    bodies = [reported(n, "anna" if n % 50 == 0 else None) for n in range(4_500)]
    await publish(alpha, "ncii", *bodies)
    done = await cases.withdraw("anna", "retract", Reason.WITHDRAWN)
    assert len(done.withdrawn) == 90

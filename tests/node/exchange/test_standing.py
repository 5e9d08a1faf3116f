"""Where peers stand with our lists, and who has confirmed which withdrawal."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from hashlight_node.exchange.errors import (
    UnknownListError,
    UnknownPeerError,
    UnknownRecordError,
)
from hashlight_node.exchange.operating.alerts import AlertCode, AlertRules, Watch
from hashlight_node.exchange.telling.pruning import DeliveryPruning
from hashlight_node.model import PeerState
from hashlight_node.store import delivery_history, tables
from hashlight_node.store.delivery_history import Signed, Streak
from hashlight_protocol import (
    AddCheckpoint,
    Reason,
    Ref,
    append_signatures,
    cosign,
    encode_add_checkpoint,
    encode_vkey,
    parse_vkey,
    verify_cosignature,
)
from support.clock import START, ManualClock
from support.exchange_node import ExchangeNode
from support.made_records import indicators
from support.peer_simulator import PeerSimulator

if TYPE_CHECKING:
    from hashlight_node.exchange.telling.erasure_report import PeerErasure
    from hashlight_node.exchange.telling.standing import Standing
    from hashlight_node.store.database import Connection

ORIGIN = "alpha.example/hsf/v1/log/ours/1"
HOUR, DAY = 3600, 86_400
Pair = tuple[ExchangeNode, PeerSimulator]


@pytest.fixture
async def granting(alpha: ExchangeNode, shield: PeerSimulator) -> Pair:
    await alpha.peering.add_peer(shield.base, shield.vkey)
    await alpha.publisher.create_list("ours", {})
    await alpha.peering.grant("shield.example", "ours")
    return alpha, shield


async def checkpoint_of(alpha: ExchangeNode) -> bytes:
    note = (await alpha.log(ORIGIN)).checkpoint
    assert note is not None
    return note


async def acknowledge(alpha: ExchangeNode, shield: PeerSimulator) -> None:
    shield.acknowledge(await checkpoint_of(alpha))
    peer = await alpha.peer(shield.name)
    await alpha.pusher.collect_acknowledgement(ORIGIN, peer, wait_seconds=0)


async def standing_of(alpha: ExchangeNode, name: str = "shield.example") -> Standing:
    found = await alpha.inspect.deliveries("ours")
    (one,) = [it for it in found if it.peer_name == name]
    return one


async def erasure_of(alpha: ExchangeNode, ref: Ref, name: str) -> PeerErasure:
    report = await alpha.inspect.erasure(ref)
    (one,) = [it for it in report.peers if it.peer_name == name]
    return one


async def relay(alpha: ExchangeNode, behind: PeerSimulator, via: PeerSimulator) -> None:
    """Store what a node behind a relay signed, as it comes through the relay."""
    log, peer = await alpha.log(ORIGIN), await alpha.peer(via.name)
    line = cosign(await checkpoint_of(alpha), behind.mirror, now=alpha.clock.now)
    note = append_signatures(await checkpoint_of(alpha), line)

    def write(conn: Connection) -> None:
        conn.execute(
            tables.relayed_acknowledgements.insert().values(
                log_id=log.log_id,
                node=behind.name,
                tree_size=log.checkpoint_size,
                via_peer_id=peer.peer_id,
                acknowledged_at=alpha.clock.now,
                note=note,
                identity_vkey=behind.vkey,
                descriptor=behind.descriptor(),
            )
        )

    await alpha.database.write(write)


async def test_a_peer_that_has_nothing_lacks_everything(granting: Pair) -> None:
    alpha, _ = granting
    await alpha.publisher.publish("ours", indicators(2))
    alpha.clock.advance(60)
    one = await standing_of(alpha)
    assert one.delivered is not None
    assert (one.delivered.tree_size, one.delivered.at) == (0, None)
    assert (one.applied.lag_records, one.applied.lag_seconds) == (3, 60)
    assert (one.heartbeat_at, one.overdue, one.is_granted) == (None, None, True)


async def test_seen_and_applied_are_told_apart(granting: Pair) -> None:
    alpha, shield = granting
    await alpha.publisher.publish("ours", indicators(2))
    await acknowledge(alpha, shield)
    alpha.clock.advance(10)
    await alpha.publisher.publish("ours", indicators(2, first=2))
    alpha.clock.advance(10)
    await alpha.publisher.publish("ours", indicators(1, first=4))
    await alpha.pusher.push(ORIGIN)
    alpha.clock.advance(10)
    one = await standing_of(alpha)
    assert one.delivered is not None
    assert (one.delivered.tree_size, one.delivered.at) == (6, START + 20)
    assert (one.delivered.lag_records, one.delivered.lag_seconds) == (0, 0)
    assert (one.applied.tree_size, one.applied.at) == (3, START)
    # The oldest entry that it lacks was signed at the tenth second.
    assert (one.applied.lag_records, one.applied.lag_seconds) == (3, 20)


async def test_a_heartbeat_brings_a_fresh_signature_although_nothing_is_new(
    granting: Pair,
) -> None:
    alpha, _ = granting
    await alpha.publisher.publish("ours", indicators(2))
    for _ in range(3):
        await alpha.publisher.heartbeat(ORIGIN)
        assert await alpha.notices.pushes.take() == ORIGIN
        await alpha.pusher.push(ORIGIN)
        # Repeated soon, it bothers nobody.
        assert await alpha.pusher.push(ORIGIN) == []
        alpha.clock.advance(HOUR)
    found = await alpha.inspect.signed_notes(
        "ours", "shield.example", before=None, limit=10
    )
    moments = [(it.moment.tree_size, it.moment.at) for it, _ in found.notes]
    assert moments == [(3, START + n * HOUR) for n in (2, 1, 0)]
    for it, cosigner in found.notes:
        assert verify_cosignature(it.note, parse_vkey(cosigner)) == it.moment.at
    one = await standing_of(alpha)
    assert one.delivered is not None
    assert (one.delivered.at, one.heartbeat_at) == (START, START + 2 * HOUR)


async def test_a_real_peer_that_is_up_to_date_signs_each_heartbeat_anew(
    following: Pair,
) -> None:
    alpha, shield = following
    log = shield.logs["ncii"]
    raw = encode_add_checkpoint(AddCheckpoint(0, (), log.note()))
    again = encode_add_checkpoint(AddCheckpoint(log.size, (), log.note()))
    peer = await alpha.peer("shield.example")
    witness = alpha.keyring.witness.key
    times: list[int] = []
    for request in (raw, again, again):
        line = await alpha.witness.add_checkpoint(peer, request)
        note = append_signatures(log.note(), line)
        times.append(verify_cosignature(note, witness))
        alpha.clock.advance(HOUR)
    assert times == [START, START + HOUR, START + 2 * HOUR]


async def test_a_withdrawal_that_nobody_confirms_grows_old(granting: Pair) -> None:
    alpha, shield = granting
    first, second = await alpha.publisher.publish("ours", indicators(2))
    await acknowledge(alpha, shield)
    erased = await alpha.publisher.withdraw(first, "erase", Reason.WITHDRAWN)
    alpha.clock.advance(HOUR)
    await alpha.publisher.withdraw(second, "retract", Reason.EXPIRED)
    alpha.clock.advance(HOUR)
    overdue = (await standing_of(alpha)).overdue
    assert overdue is not None
    assert (overdue.leaf_index, overdue.kind) == (erased.leaf_index, "erase")
    assert overdue.age_seconds == 2 * HOUR
    await acknowledge(alpha, shield)
    assert (await standing_of(alpha)).overdue is None


async def test_a_peer_that_was_granted_later_has_its_own_time(
    granting: Pair, beta: PeerSimulator
) -> None:
    alpha, _ = granting
    (ref,) = await alpha.publisher.publish("ours", indicators(1))
    await alpha.publisher.withdraw(ref, "erase", Reason.WITHDRAWN)
    alpha.clock.advance(300 * DAY)
    await alpha.peering.add_peer(beta.base, beta.vkey)
    await alpha.peering.grant("beta.example", "ours")
    alpha.clock.advance(HOUR)
    overdue = (await standing_of(alpha, "beta.example")).overdue
    assert overdue is not None
    assert overdue.age_seconds == HOUR


async def test_a_peer_whose_grant_ended_is_not_forgotten(granting: Pair) -> None:
    alpha, _ = granting
    # It was never heard of: it may have fetched all the same.
    (early,) = await alpha.publisher.publish("ours", indicators(1))
    await alpha.peering.revoke("shield.example", "ours")
    (late,) = await alpha.publisher.publish("ours", indicators(1, first=1))
    await alpha.publisher.withdraw(late, "erase", Reason.WITHDRAWN)
    assert (await standing_of(alpha)).overdue is None
    assert (await alpha.inspect.erasure(late)).peers == ()
    assert (await alpha.inspect.erasure(late)).is_complete

    await alpha.publisher.withdraw(early, "erase", Reason.WITHDRAWN)
    alpha.clock.advance(DAY)
    one = await erasure_of(alpha, early, "shield.example")
    assert (one.granted, one.acknowledgement) == (False, None)
    assert one.settled.missing_seconds == DAY
    assert not (await alpha.inspect.erasure(early)).is_complete
    overdue = (await standing_of(alpha)).overdue
    assert overdue is not None
    assert overdue.age_seconds == DAY
    # Granted once more, it is still the old withdrawal that counts.
    await alpha.peering.grant("shield.example", "ours")
    overdue = (await standing_of(alpha)).overdue
    assert overdue is not None
    assert overdue.age_seconds == DAY


async def test_a_quarantined_peer_stays_missing(granting: Pair) -> None:
    alpha, shield = granting
    (ref,) = await alpha.publisher.publish("ours", indicators(1))
    await acknowledge(alpha, shield)
    await alpha.peering.quarantine("shield.example")
    await alpha.publisher.withdraw(ref, "erase", Reason.WITHDRAWN)
    alpha.clock.advance(DAY)
    one = await erasure_of(alpha, ref, "shield.example")
    assert (one.peer_state, one.settled.missing_seconds) == (
        PeerState.QUARANTINED,
        DAY,
    )


async def test_a_retraction_and_an_erasure_are_proven_each_for_itself(
    granting: Pair,
) -> None:
    alpha, shield = granting
    (ref,) = await alpha.publisher.publish("ours", indicators(1))
    retracted = await alpha.publisher.withdraw(ref, "retract", Reason.EXPIRED)
    report = await alpha.inspect.erasure(ref)
    assert (report.erased_by, report.retracted_by) == (None, retracted.leaf_index)
    assert not report.is_complete
    await acknowledge(alpha, shield)
    assert (await alpha.inspect.erasure(ref)).is_complete

    alpha.clock.advance(HOUR)
    erased = await alpha.publisher.withdraw(ref, "erase", Reason.WITHDRAWN)
    report = await alpha.inspect.erasure(ref)
    assert (report.erased_by, report.retracted_by) == (
        erased.leaf_index,
        retracted.leaf_index,
    )
    assert (report.retracted_at, report.erased_at) == (START, START + HOUR)
    assert not report.is_complete
    one = await erasure_of(alpha, ref, "shield.example")
    assert one.acknowledgement is None
    assert one.retraction is not None
    assert one.retraction.acknowledgement is not None
    assert one.settled.cosigner == encode_vkey(shield.mirror.key)
    await acknowledge(alpha, shield)
    one = await erasure_of(alpha, ref, "shield.example")
    assert one.acknowledgement is not None
    note = one.acknowledgement.note
    assert verify_cosignature(note, shield.mirror.key) == START + HOUR


async def test_a_node_behind_a_relay_is_in_the_report_with_its_own_proof(
    granting: Pair, beta: PeerSimulator
) -> None:
    alpha, shield = granting
    (ref,) = await alpha.publisher.publish("ours", indicators(1))
    await acknowledge(alpha, shield)
    await relay(alpha, beta, shield)
    await alpha.publisher.withdraw(ref, "retract", Reason.WITHDRAWN)
    await alpha.publisher.withdraw(ref, "erase", Reason.WITHDRAWN)
    await acknowledge(alpha, shield)
    alpha.clock.advance(HOUR)

    assert not (await alpha.inspect.erasure(ref)).is_complete
    one = await erasure_of(alpha, ref, "beta.example")
    assert (one.via, one.granted) == ("shield.example", False)
    assert one.settled.missing_seconds == HOUR
    behind = await standing_of(alpha, "beta.example")
    assert (behind.via, behind.delivered) == ("shield.example", None)
    assert behind.overdue is not None
    assert behind.overdue.age_seconds == HOUR

    await relay(alpha, beta, shield)
    assert (await alpha.inspect.erasure(ref)).is_complete
    one = await erasure_of(alpha, ref, "beta.example")
    assert one.acknowledgement is not None
    assert one.settled.cosigner == encode_vkey(beta.mirror.key)
    note = one.acknowledgement.note
    assert verify_cosignature(note, beta.mirror.key) == START + HOUR
    assert one.retraction is not None
    assert one.retraction.acknowledgement == one.acknowledgement
    assert (await standing_of(alpha, "beta.example")).overdue is None


async def test_a_node_with_two_ways_to_a_list_is_there_once(
    granting: Pair, beta: PeerSimulator
) -> None:
    alpha, shield = granting
    await alpha.peering.add_peer(beta.base, beta.vkey)
    await alpha.peering.grant("beta.example", "ours")
    (ref,) = await alpha.publisher.publish("ours", indicators(1))
    await relay(alpha, beta, shield)
    await alpha.publisher.withdraw(ref, "erase", Reason.WITHDRAWN)
    found = await alpha.inspect.deliveries("ours")
    assert [(it.peer_name, it.via) for it in found] == [
        ("beta.example", None),
        ("shield.example", None),
    ]
    report = await alpha.inspect.erasure(ref)
    assert [it.peer_name for it in report.peers] == ["beta.example", "shield.example"]


async def test_an_alert_comes_when_the_operators_time_is_over(
    granting: Pair, capsys: pytest.CaptureFixture[str]
) -> None:
    alpha, shield = granting
    watch = Watch(database=alpha.database, rules=AlertRules(), clock=alpha.clock)
    (ref,) = await alpha.publisher.publish("ours", indicators(1))
    await acknowledge(alpha, shield)
    await alpha.publisher.withdraw(ref, "erase", Reason.WITHDRAWN)
    alpha.clock.advance(DAY)
    await watch.look()
    assert (await alpha.inspect.status()).alerts == ()
    alpha.clock.advance(1)
    for _ in range(2):
        await watch.look()
    (alert,) = (await alpha.inspect.status()).alerts
    assert alert.code is AlertCode.WITHDRAWAL_UNACKNOWLEDGED
    assert (alert.peer_name, alert.age_seconds) == ("shield.example", DAY + 1)
    assert capsys.readouterr().out.count(alert.detail) == 1
    await acknowledge(alpha, shield)
    assert (await alpha.inspect.status()).alerts == ()


async def test_pruning_keeps_what_the_operator_wants_to_keep(granting: Pair) -> None:
    alpha, _ = granting
    for _ in range(5):
        await alpha.pusher.push(ORIGIN)
        alpha.clock.advance(DAY)
    pruning = DeliveryPruning(database=alpha.database, clock=alpha.clock, kept_days=2)
    await pruning.prune()
    log, peer = await alpha.log(ORIGIN), await alpha.peer("shield.example")
    page = await alpha.read(
        lambda conn: delivery_history.page_history(
            conn, Streak(log.log_id, peer.peer_id), before=None, limit=10
        )
    )
    assert [it.moment.at for it in page] == [START + n * DAY for n in (4, 3)]
    assert {it.moment.said for it in page} == {Signed.DELIVERED.value}


async def test_what_is_not_ours_has_no_deliveries(granting: Pair) -> None:
    alpha, _ = granting
    with pytest.raises(UnknownListError):
        await alpha.inspect.deliveries("other")
    with pytest.raises(UnknownPeerError):
        await alpha.inspect.signed_notes("ours", "x.example", before=None, limit=1)
    with pytest.raises(UnknownRecordError):
        await alpha.inspect.erasure(Ref(ORIGIN, 99))


async def test_a_clock_that_goes_back_makes_no_age_negative(
    granting: Pair, clock: ManualClock
) -> None:
    alpha, shield = granting
    (ref,) = await alpha.publisher.publish("ours", indicators(1))
    await acknowledge(alpha, shield)
    await alpha.publisher.withdraw(ref, "erase", Reason.WITHDRAWN)
    clock.now = START - DAY
    one = await standing_of(alpha)
    assert one.overdue is not None
    assert (one.overdue.age_seconds, one.applied.lag_seconds) == (0, 0)
    found = await erasure_of(alpha, ref, "shield.example")
    assert found.settled.missing_seconds == 0

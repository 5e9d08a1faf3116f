"""Copies that nobody confirms: warned of, not passed on, in the end not matched."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from hashlight_node.exchange.following.freshness import (
    Freshness,
    FreshnessKeeper,
    FreshnessRules,
    age_seconds,
    freshness,
)
from hashlight_node.exchange.operating.alerts import (
    AlertCode,
    AlertRules,
    Severity,
    Watch,
)
from hashlight_node.model import FollowState, LogState
from hashlight_node.peers.errors import PeerMisbehavedError
from hashlight_node.store import exporting, logs
from support.clock import START
from support.exchange_node import ExchangeNode
from support.made_records import indicators
from support.peer_simulator import PeerSimulator

if TYPE_CHECKING:
    from hashlight_node.model import Log

DAY = 86_400
RULES = FreshnessRules(
    warn_after_seconds=DAY,
    relay_until_seconds=7 * DAY,
    serve_until_seconds=30 * DAY,
)
ORIGIN = "shield.example/hsf/v1/log/ncii/1"
Pair = tuple[ExchangeNode, PeerSimulator]


@pytest.fixture
async def copied(following: Pair) -> Pair:
    alpha, shield = following
    shield.logs["ncii"].publish(indicators(2))
    await alpha.follower.sync("shield.example", "ncii")
    return following


async def exported_by(node: ExchangeNode) -> int:
    rows, _ = await node.read(
        lambda conn: exporting.page_live_records(
            conn, exporting.START, 100, wanted=exporting.Wanted(), now=node.clock.now
        )
    )
    return len(rows)


def keeper_of(node: ExchangeNode) -> FreshnessKeeper:
    return FreshnessKeeper(database=node.database, rules=RULES, clock=node.clock)


async def sync(node: ExchangeNode) -> Log:
    await node.follower.sync("shield.example", "ncii")
    return await node.log(ORIGIN)


@pytest.mark.parametrize(
    ("passed_seconds", "expected"),
    [
        (0, Freshness.FRESH),
        (DAY, Freshness.FRESH),
        (DAY + 1, Freshness.WARN),
        (7 * DAY, Freshness.WARN),
        (7 * DAY + 1, Freshness.NO_RELAY),
        (30 * DAY, Freshness.NO_RELAY),
        (30 * DAY + 1, Freshness.STALE),
        (-DAY, Freshness.FRESH),
    ],
)
async def test_each_step_begins_when_the_operator_says(
    copied: Pair, passed_seconds: int, expected: Freshness
) -> None:
    alpha, _ = copied
    log = await alpha.log(ORIGIN)
    assert freshness(log, START + passed_seconds, RULES) is expected


async def test_our_own_lists_are_always_fresh(alpha: ExchangeNode) -> None:
    log = await alpha.publisher.create_list("ours", {})
    assert freshness(log, START + 1000 * DAY, RULES) is Freshness.FRESH
    assert age_seconds(log, START + 1000 * DAY) == 0


async def test_a_copy_that_never_was_complete_ages_from_its_beginning(
    following: Pair,
) -> None:
    alpha, shield = following
    shield.logs["ncii"].publish(indicators(6_000))

    def stop(_: int, __: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        await alpha.follower.sync("shield.example", "ncii", progress=stop)
    log = await alpha.log(ORIGIN)
    assert log.verified_at is None
    assert await alpha.matches(0) == 1
    alpha.clock.advance(30 * DAY + 1)
    await keeper_of(alpha).check()
    assert await alpha.matches(0) == 0


async def test_a_copy_that_is_too_old_matches_no_more_until_it_is_confirmed(
    copied: Pair,
) -> None:
    alpha, _ = copied
    alpha.clock.advance(30 * DAY)
    await keeper_of(alpha).check()
    assert await alpha.matches(0) == 1
    assert await exported_by(alpha) == 4

    alpha.clock.advance(1)
    await keeper_of(alpha).check()

    assert await alpha.matches(0) == 0
    log = await alpha.log(ORIGIN)
    assert (log.state, log.stale_at) == (LogState.STALE, alpha.clock.now)
    assert await exported_by(alpha) == 0

    # Nothing is new at the peer; that it says so is enough.
    log = await sync(alpha)
    assert (log.state, log.stale_at) == (LogState.ACTIVE, None)
    assert log.verified_at == alpha.clock.now
    assert await alpha.matches(0) == 1


async def test_what_was_withdrawn_meanwhile_does_not_come_back(copied: Pair) -> None:
    alpha, shield = copied
    alpha.clock.advance(31 * DAY)
    await keeper_of(alpha).check()
    shield.logs["ncii"].retract(1)
    await sync(alpha)
    assert [await alpha.matches(0), await alpha.matches(1)] == [0, 1]


async def test_a_pull_that_breaks_off_confirms_nothing(copied: Pair) -> None:
    alpha, shield = copied
    alpha.clock.advance(31 * DAY)
    await keeper_of(alpha).check()
    shield.logs["ncii"].publish(indicators(6_000, first=2))

    def stop(_: int, __: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        await alpha.follower.sync("shield.example", "ncii", progress=stop)
    assert (await alpha.log(ORIGIN)).tree_size > 3
    assert [await alpha.matches(0), await alpha.matches(2)] == [0, 0]
    await sync(alpha)
    assert [await alpha.matches(0), await alpha.matches(2)] == [1, 1]


async def test_a_lie_does_not_make_an_old_copy_match_again(copied: Pair) -> None:
    alpha, shield = copied
    alpha.clock.advance(31 * DAY)
    await keeper_of(alpha).check()
    shield.tamper_body("checkpoint", lambda body: body.replace(b"\n3\n", b"\n2\n"))
    with pytest.raises(PeerMisbehavedError):
        await alpha.follower.sync("shield.example", "ncii")
    follow = await alpha.follow("shield.example", "ncii")
    assert follow.state is FollowState.QUARANTINED
    log = await alpha.log(ORIGIN)
    assert log.state is LogState.STALE
    assert log.error is not None
    assert await alpha.matches(0) == 0

    # Nor does the operator who takes the list up again, before a sync does.
    shield.honest()
    await alpha.peering.follow("shield.example", "ncii")
    assert await alpha.matches(0) == 0
    await sync(alpha)
    assert await alpha.matches(0) == 1


async def test_a_copy_in_quarantine_grows_old_as_well(copied: Pair) -> None:
    alpha, _ = copied
    log = await alpha.log(ORIGIN)
    await alpha.database.write(
        lambda conn: logs.set_log_state(
            conn, log.log_id, LogState.QUARANTINED, "it lied"
        )
    )
    alpha.clock.advance(31 * DAY)
    await keeper_of(alpha).check()
    log = await alpha.log(ORIGIN)
    assert (log.state, log.error) == (LogState.STALE, "it lied")
    assert await alpha.matches(0) == 0


async def test_a_list_that_is_followed_again_matches_once_it_is_confirmed(
    copied: Pair,
) -> None:
    alpha, _ = copied
    await alpha.peering.unfollow("shield.example", "ncii")
    alpha.clock.advance(31 * DAY)
    await keeper_of(alpha).check()
    assert (await alpha.log(ORIGIN)).state is LogState.FROZEN
    await alpha.peering.follow("shield.example", "ncii")
    assert await alpha.matches(0) == 0
    await sync(alpha)
    assert await alpha.matches(0) == 1


async def test_a_clock_that_goes_back_makes_no_stale_copy_match(copied: Pair) -> None:
    alpha, _ = copied
    alpha.clock.advance(31 * DAY)
    await keeper_of(alpha).check()
    alpha.clock.now = START
    await keeper_of(alpha).check()
    assert await alpha.matches(0) == 0


async def test_a_clock_that_was_back_for_a_while_takes_no_copy_out_of_use(
    copied: Pair,
) -> None:
    alpha, _ = copied
    alpha.clock.now = 0
    await keeper_of(alpha).check()
    assert (await alpha.log(ORIGIN)).doubted_at == 0
    assert await alpha.matches(0) == 1
    alpha.clock.now = START + DAY
    await keeper_of(alpha).check()
    log = await alpha.log(ORIGIN)
    assert (log.state, log.doubted_at) == (LogState.ACTIVE, None)
    assert await alpha.matches(0) == 1


async def test_a_copy_that_was_confirmed_by_a_clock_ahead_ages_all_the_same(
    following: Pair,
) -> None:
    alpha, shield = following
    shield.logs["ncii"].publish(indicators(1))
    alpha.clock.now = START + 1000 * DAY
    await sync(alpha)
    alpha.clock.now = START
    await keeper_of(alpha).check()
    for _ in range(30):
        alpha.clock.advance(DAY)
        await keeper_of(alpha).check()
    assert await alpha.matches(0) == 1
    alpha.clock.advance(1)
    await keeper_of(alpha).check()
    assert await alpha.matches(0) == 0


async def test_a_clock_that_goes_back_twice_starts_the_doubt_anew(
    copied: Pair,
) -> None:
    alpha, _ = copied
    for now in (START - DAY, START - 3 * DAY):
        alpha.clock.now = now
        await keeper_of(alpha).check()
        assert (await alpha.log(ORIGIN)).doubted_at == now
    alpha.clock.advance(DAY)
    assert age_seconds(await alpha.log(ORIGIN), alpha.clock.now) == DAY


async def test_a_check_that_finds_nothing_writes_nothing(copied: Pair) -> None:
    alpha, _ = copied
    before = alpha.database.version()
    alpha.clock.advance(DAY)
    await keeper_of(alpha).check()
    assert alpha.database.version() == before


async def test_an_operator_is_told_of_each_step(copied: Pair) -> None:
    alpha, _ = copied
    seen = []
    for passed_seconds in (0, DAY + 1, 6 * DAY, 23 * DAY):
        alpha.clock.advance(passed_seconds)
        await keeper_of(alpha).check()
        status = await alpha.inspect.status()
        seen.append([(one.severity, one.code) for one in status.alerts])
    assert seen == [
        [],
        [(Severity.WARNING, AlertCode.COPY_UNCONFIRMED)],
        [(Severity.ERROR, AlertCode.COPY_NOT_RELAYED)],
        [(Severity.ERROR, AlertCode.COPY_STALE)],
    ]
    (shown,) = await alpha.inspect.lists()
    assert shown.freshness is Freshness.STALE
    await alpha.peering.unfollow("shield.example", "ncii")
    assert (await alpha.inspect.status()).alerts == ()


async def test_the_log_says_once_what_is_wrong(
    copied: Pair, capsys: pytest.CaptureFixture[str]
) -> None:
    alpha, _ = copied
    watch = Watch(database=alpha.database, rules=AlertRules(RULES), clock=alpha.clock)
    said = "the copy was not confirmed for long"
    for _ in range(3):
        await watch.look()
    assert said not in capsys.readouterr().out
    alpha.clock.advance(DAY + 1)
    for _ in range(3):
        await watch.look()
    assert capsys.readouterr().out.count(said) == 1
    await sync(alpha)
    await watch.look()
    alpha.clock.advance(DAY + 1)
    await watch.look()
    assert capsys.readouterr().out.count(said) == 1

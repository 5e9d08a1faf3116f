"""Receipts between real nodes whose clock the test owns: who has what, and since when.

All nodes share one clock, or they would refuse each other's requests.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from hashlight_node.app.watching import build_freshness_keeper
from hashlight_node.exchange.operating.alerts import AlertCode
from hashlight_node.model import LogState
from hashlight_node.store import logs
from hashlight_protocol import Reason, verify_cosignature
from support.clock import ManualClock
from support.made_records import indicators
from support.running_companies import RunningCompany, connect, start_company, until

if TYPE_CHECKING:
    from hashlight_node.exchange.telling.standing import Standing
    from hashlight_protocol import Ref

ORIGIN = "shield.example/hsf/v1/log/ncii/1"
HOUR, DAY = 3600, 86_400
Make = Callable[[str], Awaitable[RunningCompany]]


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def make(tmp_path: Path, clock: ManualClock) -> AsyncIterator[Make]:
    companies: list[RunningCompany] = []

    async def make(name: str) -> RunningCompany:
        companies.append(await start_company(tmp_path, name, clock))
        return companies[-1]

    yield make
    for company in companies:
        await company.stop()


@pytest.fixture
async def shield(make: Make) -> RunningCompany:
    company = await make("shield.example")
    await company.node.use_cases.publisher.create_list("ncii", {})
    return company


async def standing_of(company: RunningCompany, name: str) -> Standing:
    found = await company.node.use_cases.inspect.deliveries("ncii")
    (one,) = [it for it in found if it.peer_name == name]
    return one


async def has_applied(company: RunningCompany, name: str, size: int) -> bool:
    return (await standing_of(company, name)).applied.tree_size == size


async def is_complete(company: RunningCompany, ref: Ref) -> bool:
    return (await company.node.use_cases.inspect.erasure(ref)).is_complete


async def state_of(company: RunningCompany) -> LogState | None:
    log = await company.node.foundation.database.read(
        lambda conn: logs.find_log(conn, ORIGIN)
    )
    return None if log is None else log.state


async def test_an_erasure_is_missing_from_the_peer_that_is_away_until_it_comes_back(
    make: Make, shield: RunningCompany, clock: ManualClock
) -> None:
    alpha, beta = await make("alpha.example"), await make("beta.example")
    (ref,) = await shield.node.use_cases.publisher.publish("ncii", indicators(1))
    for follower in (alpha, beta):
        await connect(shield, follower, "ncii")
        await until(partial(has_applied, shield, follower.name, 2))
    await beta.stop()

    await shield.node.use_cases.publisher.withdraw(ref, "erase", Reason.WITHDRAWN)
    await until(partial(has_applied, shield, alpha.name, 3))
    clock.advance(DAY + HOUR)

    report = await shield.node.use_cases.inspect.erasure(ref)
    confirmed, missing = report.peers
    assert (confirmed.peer_name, missing.peer_name) == (alpha.name, beta.name)
    assert confirmed.acknowledgement is not None
    mirror = alpha.node.foundation.keyring.mirror.key
    assert verify_cosignature(confirmed.acknowledgement.note, mirror) == clock.now - (
        DAY + HOUR
    )
    assert missing.settled.missing_seconds == DAY + HOUR
    assert not report.is_complete
    status = await shield.node.use_cases.inspect.status()
    (alert,) = status.alerts
    assert (alert.code, alert.peer_name) == (
        AlertCode.WITHDRAWAL_UNACKNOWLEDGED,
        beta.name,
    )

    await beta.start()

    async def is_confirmed() -> bool:
        # What waits before it tries again waits for this clock.
        clock.advance(1)
        return await is_complete(shield, ref)

    await until(is_confirmed)
    assert await beta.matches(0) == 0
    assert (await shield.node.use_cases.inspect.status()).alerts == ()
    assert (await standing_of(shield, beta.name)).overdue is None


async def test_a_quiet_hour_ends_with_fresh_signatures(
    make: Make, shield: RunningCompany, clock: ManualClock
) -> None:
    alpha = await make("alpha.example")
    await connect(shield, alpha, "ncii")
    await until(partial(has_applied, shield, alpha.name, 1))
    for _ in range(2):
        clock.advance(HOUR)
        await shield.node.use_cases.publisher.heartbeat(ORIGIN)

        async def is_fresh() -> bool:
            one = await standing_of(shield, alpha.name)
            return one.heartbeat_at == clock.now

        await until(is_fresh)
    found = await shield.node.use_cases.inspect.signed_notes(
        "ncii", alpha.name, before=None, limit=100
    )
    witness = alpha.node.foundation.keyring.witness.key
    seen = [it for it, _ in found.notes if it.moment.said == "delivered"]
    times = {verify_cosignature(it.note, witness) for it in seen}
    assert {clock.now, clock.now - HOUR} <= times
    assert len({it.moment.tree_size for it in seen[:2]}) == 1


async def test_an_old_copy_matches_nothing_from_the_first_lookup_after_a_start(
    make: Make, shield: RunningCompany, clock: ManualClock
) -> None:
    alpha = await make("alpha.example")
    await shield.node.use_cases.publisher.publish("ncii", indicators(1))
    await connect(shield, alpha, "ncii")
    await until(partial(has_applied, shield, alpha.name, 2))
    assert await alpha.matches(0) == 1
    await shield.stop()
    await alpha.stop()

    clock.advance(31 * DAY)
    await alpha.start()
    assert await alpha.matches(0) == 0
    assert await state_of(alpha) is LogState.STALE

    await shield.start()

    async def matches_again() -> bool:
        await shield.node.use_cases.pusher.push(ORIGIN)
        return await alpha.matches(0) == 1

    await until(matches_again)
    assert await state_of(alpha) is LogState.ACTIVE
    await build_freshness_keeper(alpha.node.foundation).check()
    assert await alpha.matches(0) == 1

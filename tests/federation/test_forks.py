"""A log that shows two histories is caught by those who talk about it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from hashlight_node.exchange.errors import FollowQuarantinedError
from hashlight_node.model import FollowState
from hashlight_node.store import forks
from hashlight_node.store import peers as peer_store
from hashlight_protocol import encode_vkey, parse_fork_evidence, verify_fork
from support.clock import ManualClock
from support.log_simulator import LogSimulator
from support.made_records import indicators
from support.nodes import make_settings
from support.peer_simulator import PeerSimulator
from support.running_companies import RunningCompany, until
from verifier.forks import check_fork
from verifier.notes import read_vkey

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from hashlight_node.model import Fork
    from hashlight_node.store.database import Connection

ORIGIN = "shield.example/hsf/v1/log/ncii/1"
NAMES = ("alpha.example", "beta.example", "gamma.example", "delta.example")

# One sweep at the start and then none: the tests say when.
SELDOM = "\n[exchange]\nsweep_seconds = 86400\n"


@pytest.fixture
async def liar() -> AsyncIterator[PeerSimulator]:
    async with PeerSimulator("shield.example", ManualClock()).running() as simulator:
        simulator.features = ("evidence", "gossip")
        simulator.create_list("ncii").publish(indicators(3))
        yield simulator


@pytest.fixture
async def companies(
    tmp_path: Path, liar: PeerSimulator
) -> AsyncIterator[list[RunningCompany]]:
    """Four nodes that know each other; the first three follow the liar's list."""
    made = [RunningCompany(make_settings(tmp_path, name, SELDOM)) for name in NAMES]
    for company in made:
        await company.start()
    for company in made:
        await company.node.use_cases.peering.add_peer(liar.base, liar.vkey)
        for other in made:
            if other is not company:
                await company.pin(other)
    yield made
    for company in made:
        await company.stop()


def another(log: LogSimulator, size: int) -> LogSimulator:
    """Make a log with the same key, the same first entries and other ones after."""
    other = LogSimulator(log.origin)
    other.signer = log.signer
    other.entries, other.leaves = log.entries[:size], log.leaves[:size]
    other.bodies = log.bodies[:size]
    return other


async def follow(company: RunningCompany) -> None:
    use_cases = company.node.use_cases
    await use_cases.peering.follow("shield.example", "ncii")
    await use_cases.follower.sync("shield.example", "ncii")


async def fork_at(company: RunningCompany) -> Fork | None:
    return await company.node.foundation.database.read(
        lambda conn: forks.find_fork(conn, ORIGIN)
    )


async def state_at(company: RunningCompany) -> FollowState | None:
    def read(conn: Connection) -> FollowState | None:
        peer = peer_store.find_peer(conn, "shield.example")
        assert peer is not None
        found = peer_store.find_follow(conn, peer.peer_id, "ncii")
        return None if found is None else found.state

    return await company.node.foundation.database.read(read)


async def sweep(companies: list[RunningCompany]) -> None:
    for company in companies:
        await company.node.use_cases.gossip.sweep()


async def all_convict(companies: list[RunningCompany]) -> bool:
    found = [await fork_at(company) for company in companies]
    return None not in found


@pytest.mark.parametrize("sizes", [(3, 3), (3, 40), (40, 3), (3, 600)])
async def test_two_views_shown_to_two_followers_reach_all_who_know_the_log(
    companies: list[RunningCompany], liar: PeerSimulator, sizes: tuple[int, int]
) -> None:
    alpha, beta, gamma, delta = companies
    log = liar.logs["ncii"]
    lie = another(log, 2)
    lie.publish(indicators(sizes[1], first=900))
    log.publish(indicators(sizes[0], first=500))
    liar.views = {"beta.example": {"ncii": lie}}
    for company in (alpha, beta, gamma):
        await follow(company)

    for _ in range(2):
        await sweep(companies)
    sharing = [alpha, beta, gamma]
    await until(lambda: all_convict(sharing))

    for company in sharing:
        fork = await fork_at(company)
        assert fork is not None
        verify_fork(parse_fork_evidence(fork.evidence), [log.signer.key])
        check_fork(fork.evidence, [read_vkey(encode_vkey(log.signer.key))])
        assert await state_at(company) is FollowState.QUARANTINED
        with pytest.raises(FollowQuarantinedError):
            await company.node.use_cases.follower.sync("shield.example", "ncii")
        # What was verified goes on protecting people.
        assert await company.matches(0) == 1
    assert await fork_at(delta) is None
    assert liar.evidence, "the owner learns of it too"


async def test_honest_followers_at_different_sizes_accuse_nobody(
    companies: list[RunningCompany], liar: PeerSimulator
) -> None:
    alpha, beta, gamma, _ = companies
    log = liar.logs["ncii"]
    await follow(alpha)
    log.publish(indicators(300, first=500))
    await follow(beta)
    log.publish(indicators(300, first=900))
    await follow(gamma)
    for _ in range(2):
        await sweep(companies)
    for company in companies:
        assert await fork_at(company) is None
        assert await company.node.use_cases.inspect.peers()
        assert await state_at(company) is not FollowState.QUARANTINED


async def test_a_released_list_stays_in_quarantine_until_its_next_log(
    companies: list[RunningCompany], liar: PeerSimulator
) -> None:
    alpha, beta, _, _ = companies
    log = liar.logs["ncii"]
    lie = another(log, 2)
    lie.publish(indicators(1, first=900))
    liar.views = {"beta.example": {"ncii": lie}}
    for company in (alpha, beta):
        await follow(company)
    await sweep([alpha])
    await until(lambda: all_convict([alpha, beta]))

    await alpha.node.use_cases.peering.release("shield.example")
    await alpha.node.use_cases.follower.sync_all()

    async def stopped() -> bool:
        return await state_at(alpha) is FollowState.QUARANTINED

    await until(stopped)
    log.publish(indicators(1, first=700))
    await alpha.node.use_cases.follower.sync_all()
    assert await alpha.matches(700) == 0

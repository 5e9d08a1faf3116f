"""A list goes on through a relay, which can be silent and do no other harm."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from hashlight_node.model import FollowState
from hashlight_node.store import logs
from hashlight_node.store import peers as peer_store
from hashlight_protocol import Reason
from support.made_records import indicator, shared
from support.running_companies import MakeCompany, RunningCompany, connect, until

if TYPE_CHECKING:
    from hashlight_node.model import Follow, Log
    from hashlight_node.store.database import Connection

ORIGIN = "shield.example/hsf/v1/log/ncii/1"


async def matches_are(company: RunningCompany, expected: dict[int, int]) -> bool:
    found = {number: await company.matches(number) for number in expected}
    return found == expected


async def follow_of(company: RunningCompany, owner: str) -> Follow:
    def read(conn: Connection) -> Follow:
        peer = peer_store.find_peer(conn, owner)
        assert peer is not None
        follow = peer_store.find_follow(conn, peer.peer_id, "ncii")
        assert follow is not None
        return follow

    return await company.node.foundation.database.read(read)


async def log_of(company: RunningCompany) -> Log:
    log = await company.node.foundation.database.read(
        lambda conn: logs.find_log(conn, ORIGIN)
    )
    assert log is not None
    return log


async def relayed(
    shield: RunningCompany, beta: RunningCompany, gamma: RunningCompany
) -> None:
    """Do what three operators do so that beta relays a list of shield to gamma."""
    await shield.node.use_cases.publisher.create_list("ncii", {})
    await connect(shield, beta, "ncii")
    await shield.node.use_cases.peering.grant(beta.name, "ncii", may_relay=True)
    await beta.pin(gamma)
    await gamma.pin(beta)
    await beta.node.use_cases.relaying.relay(gamma.name, shield.name, "ncii")
    await gamma.node.use_cases.peering.pin(shield.vkey, None)
    await gamma.node.use_cases.peering.follow(shield.name, "ncii", via=beta.name)


async def three(
    make_company: MakeCompany,
) -> tuple[RunningCompany, RunningCompany, RunningCompany]:
    shield = await make_company("shield.example")
    beta = await make_company("beta.example")
    gamma = await make_company("gamma.example")
    await relayed(shield, beta, gamma)
    return shield, beta, gamma


async def test_a_shared_record_goes_through_a_relay_and_its_end_does_too(
    make_company: MakeCompany,
) -> None:
    shield, beta, gamma = await three(make_company)
    publisher = shield.node.use_cases.publisher
    _, first, second = await publisher.publish(
        "ncii", [indicator(0), shared(1), shared(2)]
    )
    await until(partial(matches_are, beta, {0: 1, 1: 1, 2: 1}))
    await until(partial(matches_are, gamma, {0: 0, 1: 1, 2: 1}))

    await publisher.withdraw(first, "retract", Reason.FALSE_POSITIVE)
    await publisher.withdraw(second, "erase", Reason.WITHDRAWN)

    await until(partial(matches_are, gamma, {0: 0, 1: 0, 2: 0}))
    assert (await log_of(gamma)).tree_size == (await log_of(shield)).tree_size
    follow = await follow_of(gamma, shield.name)
    assert (follow.state, follow.error) == (FollowState.ACTIVE, None)

"""Companies exchange a list: it arrives, it ends, and everybody signs for it."""

from __future__ import annotations

import asyncio
import random
from functools import partial
from typing import TYPE_CHECKING

from hashlight_node.store import deliveries, logs
from hashlight_protocol import (
    Reason,
    Ref,
    open_checkpoint,
    open_descriptor,
    verify_cosignature,
)
from support.made_records import indicators, opinion
from support.running_companies import MakeCompany, RunningCompany, connect, until

if TYPE_CHECKING:
    from hashlight_node.exchange.publishing.publish import WithdrawalKind

ORIGIN = "shield.example/hsf/v1/log/ncii/1"


async def matches_are(company: RunningCompany, expected: dict[int, int]) -> bool:
    found = {number: await company.matches(number) for number in expected}
    return found == expected


async def heads_equal(companies: list[RunningCompany], origin: str) -> bool:
    heads = [await company.head(origin) for company in companies]
    return None not in heads and len(set(heads)) == 1


async def confirmed_by(company: RunningCompany, ref: Ref) -> set[str]:
    report = await company.node.use_cases.inspect.erasure(ref)
    return {one.peer_name for one in report.peers if one.acknowledgement is not None}


async def test_a_record_published_on_one_node_is_matched_on_two_others(
    make_company: MakeCompany,
) -> None:
    shield = await make_company("shield.example")
    alpha, beta = (
        await make_company("alpha.example"),
        await make_company("beta.example"),
    )
    publisher = shield.node.use_cases.publisher
    await publisher.create_list("ncii", {})
    await publisher.publish("ncii", indicators(2))
    for follower in (alpha, beta):
        await connect(shield, follower, "ncii")
    for follower in (alpha, beta):
        await until(partial(matches_are, follower, {0: 1, 1: 1, 2: 0}))

    await publisher.publish("ncii", indicators(1, first=2))

    loop = asyncio.get_running_loop()
    started = loop.time()
    for follower in (alpha, beta):
        await until(partial(matches_are, follower, {2: 1}), seconds=5)
    assert loop.time() - started < 5


async def test_an_erasure_reaches_everybody_and_everybody_signs_for_it(
    make_company: MakeCompany,
) -> None:
    shield = await make_company("shield.example")
    alpha, beta = (
        await make_company("alpha.example"),
        await make_company("beta.example"),
    )
    publisher = shield.node.use_cases.publisher
    await publisher.create_list("ncii", {})
    ref, _ = await publisher.publish("ncii", indicators(2))
    for follower in (alpha, beta):
        await connect(shield, follower, "ncii")
        await until(partial(matches_are, follower, {0: 1}))

    erased = await publisher.withdraw(ref, "erase", Reason.WITHDRAWN)

    for follower in (alpha, beta):
        await until(partial(matches_are, follower, {0: 0, 1: 1}))

    async def both_confirmed() -> bool:
        return await confirmed_by(shield, ref) == {"alpha.example", "beta.example"}

    await until(both_confirmed)
    report = await shield.node.use_cases.inspect.erasure(ref)
    for one in report.peers:
        assert one.acknowledgement is not None
        note = one.acknowledgement.note
        log_key = shield.node.foundation.keyring.log(ORIGIN).key
        signed = open_checkpoint(note, [log_key], origin=ORIGIN)
        assert signed.head.tree_size > erased.leaf_index
        follower = {"alpha.example": alpha, "beta.example": beta}[one.peer_name]
        mirror = follower.node.foundation.keyring.mirror.key
        assert verify_cosignature(note, mirror) == one.acknowledgement.acknowledged_at


async def test_feedback_goes_back_the_same_way(make_company: MakeCompany) -> None:
    shield = await make_company("shield.example")
    alpha = await make_company("alpha.example")
    await shield.node.use_cases.publisher.create_list("ncii", {})
    (ref,) = await shield.node.use_cases.publisher.publish("ncii", indicators(1))
    await connect(shield, alpha, "ncii")
    await until(partial(matches_are, alpha, {0: 1}))

    publisher = alpha.node.use_cases.publisher
    await publisher.create_list("feedback", {})
    await connect(alpha, shield, "feedback")
    await publisher.publish("feedback", [opinion(ref)])

    async def seen() -> bool:
        said = await shield.node.use_cases.feedback.about_record(ref)
        return [one.node for one in said.opinions] == ["alpha.example"]

    await until(seen)


async def test_following_before_the_grant_waits_for_it(
    make_company: MakeCompany,
) -> None:
    shield = await make_company("shield.example")
    alpha = await make_company("alpha.example")
    await shield.pin(alpha)
    await alpha.pin(shield)
    await alpha.node.use_cases.peering.follow("shield.example", "ncii")
    await shield.node.use_cases.publisher.create_list("ncii", {})
    await shield.node.use_cases.publisher.publish("ncii", indicators(1))
    assert await alpha.matches(0) == 0

    await shield.node.use_cases.peering.grant("alpha.example", "ncii")
    await until(partial(matches_are, alpha, {0: 1}))


async def test_a_follower_that_was_down_catches_up_when_it_starts(
    make_company: MakeCompany,
) -> None:
    shield = await make_company("shield.example")
    alpha = await make_company("alpha.example")
    publisher = shield.node.use_cases.publisher
    await publisher.create_list("ncii", {})
    await connect(shield, alpha, "ncii")
    await publisher.publish("ncii", indicators(1))
    await until(partial(matches_are, alpha, {0: 1}))

    await alpha.stop()
    await publisher.publish("ncii", indicators(600, first=1))
    await publisher.withdraw(Ref(ORIGIN, 1), "retract", Reason.FALSE_POSITIVE)
    await alpha.start()

    await until(partial(matches_are, alpha, {0: 0, 1: 1, 600: 1}))


async def test_an_origin_that_was_down_is_followed_again(
    make_company: MakeCompany,
) -> None:
    shield = await make_company("shield.example")
    alpha = await make_company("alpha.example")
    await shield.node.use_cases.publisher.create_list("ncii", {})
    await connect(shield, alpha, "ncii")
    await shield.node.use_cases.publisher.publish("ncii", indicators(1))
    await until(partial(matches_are, alpha, {0: 1}))

    await shield.stop()
    await shield.start()
    await shield.node.use_cases.publisher.publish("ncii", indicators(1, first=1))

    await until(partial(matches_are, alpha, {0: 1, 1: 1}))


async def test_a_revoked_grant_ends_the_flow_and_harms_nothing(
    make_company: MakeCompany,
) -> None:
    shield = await make_company("shield.example")
    alpha, beta = (
        await make_company("alpha.example"),
        await make_company("beta.example"),
    )
    publisher = shield.node.use_cases.publisher
    await publisher.create_list("ncii", {})
    for follower in (alpha, beta):
        await connect(shield, follower, "ncii")
    await publisher.publish("ncii", indicators(1))
    for follower in (alpha, beta):
        await until(partial(matches_are, follower, {0: 1}))

    await shield.node.use_cases.peering.revoke("alpha.example", "ncii")
    await publisher.publish("ncii", indicators(1, first=1))
    await until(partial(matches_are, beta, {1: 1}))
    report = await alpha.node.use_cases.follower.sync("shield.example", "ncii")

    assert report.state == "waiting"
    assert await matches_are(alpha, {0: 1, 1: 0})


async def test_everybody_ends_with_equal_roots_whatever_happened(
    make_company: MakeCompany,
) -> None:
    shield = await make_company("shield.example")
    followers = [
        await make_company("alpha.example"),
        await make_company("beta.example"),
    ]
    await shield.node.use_cases.publisher.create_list("ncii", {})
    for follower in followers:
        await connect(shield, follower, "ncii")
    chance = random.Random(7)  # noqa: S311 -- the same every time
    refs: list[Ref] = []
    for step in range(40):
        publisher = shield.node.use_cases.publisher
        if refs and chance.random() < 0.3:
            kind: WithdrawalKind = chance.choice(("retract", "erase"))
            await publisher.withdraw(chance.choice(refs), kind, Reason.EXPIRED)
        else:
            count = chance.choice((1, 2, 300))
            refs += await publisher.publish(
                "ncii", indicators(count, first=1000 * step)
            )
        if chance.random() < 0.1:
            victim = chance.choice(followers)
            await victim.stop()
            await victim.start()

    await until(partial(heads_equal, [shield, *followers], ORIGIN), seconds=40)


async def test_the_descriptor_names_the_keys_that_sign(
    make_company: MakeCompany,
) -> None:
    shield = await make_company("shield.example")
    alpha = await make_company("alpha.example")
    await alpha.pin(shield)
    (peer,) = (await alpha.node.use_cases.inspect.status()).peers
    raw = await alpha.node.foundation.client.fetch_descriptor(peer.base)
    keyring = shield.node.foundation.keyring
    descriptor = open_descriptor(raw, keyring.identity.key)
    assert descriptor.witness == keyring.witness.key
    assert descriptor.mirror == keyring.mirror.key


async def test_deliveries_and_acknowledgements_of_all_sizes_are_kept(
    make_company: MakeCompany,
) -> None:
    shield = await make_company("shield.example")
    alpha = await make_company("alpha.example")
    publisher = shield.node.use_cases.publisher
    await publisher.create_list("ncii", {})
    await connect(shield, alpha, "ncii")
    for number in range(3):
        await publisher.publish("ncii", indicators(1, first=number))

        async def acknowledged(size: int = number + 2) -> bool:
            found = await shield.node.foundation.database.read(
                lambda conn: deliveries.list_acknowledgements(
                    conn, logs.list_logs(conn)[0].log_id
                )
            )
            return size in {one.tree_size for one in found}

        await until(acknowledged)

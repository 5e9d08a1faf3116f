"""Feedback: one record for many sightings, and what everybody says folded into one."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from hashlight_node.exchange.errors import (
    IdempotencyConflictError,
    UnknownListError,
    UnknownRecordError,
)
from hashlight_node.exchange.publishing.feedback import Feedback
from hashlight_node.exchange.publishing.idempotency import IdempotencyKey
from hashlight_node.store import sightings, tokens
from hashlight_protocol import Opinion, Reason, Ref, Sighting, encode_record
from support.clock import START
from support.made_records import indicators, opinion

if TYPE_CHECKING:
    from support.exchange_node import ExchangeNode
    from support.peer_simulator import PeerSimulator

Pair = tuple["ExchangeNode", "PeerSimulator"]


@pytest.fixture
def feedback(alpha: ExchangeNode) -> Feedback:
    return alpha.feedback


async def publish(node: ExchangeNode, count: int = 1) -> list[Ref]:
    await node.publisher.create_list("ncii", {})
    return list(await node.publisher.publish("ncii", indicators(count)))


def seen(about: Ref, count: int = 1, outcome: str = "matched") -> Sighting:
    return Sighting(about, outcome, count, START, START + 60, "pdq")


async def test_a_thousand_matches_become_one_record(
    alpha: ExchangeNode, feedback: Feedback
) -> None:
    (about,) = await publish(alpha)
    for _ in range(10):
        await feedback.count_sightings([seen(about)] * 100)
    assert await feedback.publish_sightings() == 1
    log = await alpha.log("alpha.example/hsf/v1/log/sightings/1")
    assert log.tree_size == 2
    (total,) = (await feedback.about_record(about)).sightings
    assert (total.count, total.first_at, total.last_at) == (1000, START, START + 60)
    assert await feedback.publish_sightings() == 0


async def test_without_sightings_no_list_of_them_begins(
    alpha: ExchangeNode, feedback: Feedback
) -> None:
    await publish(alpha)
    assert await feedback.publish_sightings() == 0
    with pytest.raises(UnknownListError):
        await feedback.about_list("sightings", 0, 10)


async def test_a_sighting_of_nothing_is_refused_with_all_that_came_with_it(
    alpha: ExchangeNode, feedback: Feedback
) -> None:
    (about,) = await publish(alpha)
    with pytest.raises(UnknownRecordError):
        await feedback.count_sightings([seen(about), seen(Ref(about.origin, 99))])
    assert await feedback.publish_sightings() == 0


async def test_a_repeated_request_counts_once(
    alpha: ExchangeNode, feedback: Feedback
) -> None:
    (about,) = await publish(alpha)
    await alpha.database.write(
        lambda conn: tokens.insert_token(conn, "test", [], bytes(32), START)
    )
    key = IdempotencyKey("k", 1, bytes(32))
    for _ in range(2):
        await feedback.count_sightings([seen(about, 5)], idempotency=key)
    with pytest.raises(IdempotencyConflictError):
        await feedback.count_sightings(
            [seen(about)], idempotency=IdempotencyKey("k", 1, bytes(31) + b"x")
        )
    waiting = await alpha.read(lambda conn: sightings.list_pending(conn, 9))
    assert [it.count for it in waiting] == [5]


async def test_sightings_that_come_while_others_are_published_are_not_lost(
    alpha: ExchangeNode, feedback: Feedback
) -> None:
    (about,) = await publish(alpha)

    async def count() -> None:
        for _ in range(60):
            await feedback.count_sightings([seen(about)])

    async def publish_all() -> None:
        for _ in range(12):
            await feedback.publish_sightings()
            await asyncio.sleep(0)

    await asyncio.gather(count(), count(), publish_all())
    await feedback.publish_sightings()
    (total,) = (await feedback.about_record(about)).sightings
    assert total.count == 120


async def test_an_owner_sees_the_feedback_of_others_folded_per_record(
    following: Pair, feedback: Feedback
) -> None:
    alpha, shield = following
    refs = await publish(alpha, 3)
    said = shield.create_list("feedback")
    said.publish([opinion(refs[0], "affirm"), opinion(refs[0], "dispute")])
    said.publish([encode_record(seen(refs[1], 4)), encode_record(seen(refs[1], 5))])
    await alpha.peering.follow("shield.example", "feedback")
    await alpha.follower.sync("shield.example", "feedback")

    first, second, third = await feedback.about_list("ncii", 0, 10)

    # A second opinion of one node takes the place of its first.
    assert [it.stance for it in first.opinions] == ["dispute"]
    assert first.fold == "disputed"
    assert [(it.node, it.count) for it in second.sightings] == [("shield.example", 9)]
    assert (third.opinions, third.sightings) == ((), ())
    rest = await feedback.about_list("ncii", first.record.record_id, 1)
    assert [it.record.ref for it in rest] == [second.record.ref]


async def test_an_opinion_counts_until_it_is_taken_back(
    alpha: ExchangeNode, feedback: Feedback
) -> None:
    (about,) = await publish(alpha)
    said = await feedback.publish_opinion(Opinion(about, "dispute"))
    assert (await feedback.about_record(about)).fold == "negative"
    await alpha.publisher.withdraw(said, "retract", Reason.FALSE_POSITIVE)
    assert (await feedback.about_record(about)).opinions == ()


async def test_feedback_about_what_is_not_here_is_refused(
    alpha: ExchangeNode, feedback: Feedback
) -> None:
    await publish(alpha)
    nothing = Ref("x.example/hsf/v1/log/a/1", 1)
    with pytest.raises(UnknownRecordError):
        await feedback.publish_opinion(Opinion(nothing, "affirm"))
    with pytest.raises(UnknownRecordError):
        await feedback.about_record(nothing)


async def test_of_an_erased_record_the_feedback_stays(
    alpha: ExchangeNode, feedback: Feedback
) -> None:
    (about,) = await publish(alpha)
    await feedback.publish_opinion(Opinion(about, "affirm"))
    await alpha.publisher.withdraw(about, "erase", Reason.WITHDRAWN)
    said = await feedback.about_record(about)
    assert said.record.body == b""
    assert [it.stance for it in said.opinions] == ["affirm"]

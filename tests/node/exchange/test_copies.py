"""How far copies are is told while they are made, and not afterwards."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from hashlight_node.exchange.following.copies import Copies, CopyUnderWay
from hashlight_node.peers.errors import PeerMisbehavedError
from support.log_simulator import spoiled
from support.made_records import indicators

if TYPE_CHECKING:
    from support.exchange_node import ExchangeNode
    from support.peer_simulator import PeerSimulator

    Pair = tuple[ExchangeNode, PeerSimulator]

ORIGIN = "shield.example/hsf/v1/log/ncii/1"


def test_pace_and_rest_are_those_since_the_copy_went_on() -> None:
    now = 100.0
    copies = Copies(lambda: now)
    with copies.under_way(ORIGIN, size=1_000, target_size=3_000) as meter:
        assert copies.find(ORIGIN) == CopyUnderWay(1_000, 3_000, 0.0, None)
        now, meter.size = 102.0, 1_500
        assert copies.find(ORIGIN) == CopyUnderWay(1_500, 3_000, 250.0, 6.0)
        assert copies.find("another") is None
    assert copies.find(ORIGIN) is None


async def test_a_copy_is_found_while_it_is_made(following: Pair) -> None:
    alpha, shield = following
    log = shield.logs["ncii"]
    log.publish(indicators(6_000))
    seen: list[CopyUnderWay | None] = []

    def look(size: int, target_size: int) -> None:
        seen.append(alpha.follower.copy_under_way(log.origin))
        assert (size, target_size) == (seen[-1] and seen[-1].size, log.size)

    await alpha.follower.sync("shield.example", "ncii", progress=look)
    first, last = seen
    assert first is not None
    assert first.size == 5_120
    assert first.per_second > 0
    assert last is not None
    assert (last.size, last.seconds_left) == (log.size, 0)
    assert alpha.follower.copy_under_way(log.origin) is None


async def test_a_copy_that_failed_is_not_under_way(following: Pair) -> None:
    alpha, shield = following
    log = shield.logs["ncii"]
    log.publish(indicators(3))
    shield.tamper_body("entries", spoiled)
    with pytest.raises(PeerMisbehavedError):
        await alpha.follower.sync("shield.example", "ncii")
    assert alpha.follower.copy_under_way(log.origin) is None

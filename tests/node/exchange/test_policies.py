"""The allow list in memory is the one that is stored."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hashlight_node.exchange.operating.policies import Policies
from hashlight_node.matching.judging import Criteria
from hashlight_node.matching.matcher import Matcher
from hashlight_node.matching.policy import Policy
from hashlight_node.store.database import Database
from hashlight_protocol import Signal
from support.clock import ManualClock
from support.made_records import md5_of
from support.stores import make_store

if TYPE_CHECKING:
    from pathlib import Path


async def test_memory_follows_every_change_of_the_list(tmp_path: Path) -> None:
    url = make_store(tmp_path)
    database = Database.open(url)
    criteria = Criteria(Policy(), "us.example")
    policies = Policies(
        database=database,
        matcher=Matcher(pdq_threshold=31),
        criteria=criteria,
        clock=ManualClock(),
    )
    one, two = (Signal("md5", md5_of(number)) for number in (1, 2))

    def known() -> tuple[bool, bool]:
        return criteria.allowed.names(one), criteria.allowed.names(two)

    first = await policies.allow(one, max_distance=0, note="")
    assert known() == (True, False)
    assert await policies.disallow(first.allowed_id)
    second = await policies.allow(two, max_distance=0, note="")
    assert known() == (False, True)
    assert not await policies.disallow(first.allowed_id)
    assert known() == (False, True)
    assert await policies.disallow(second.allowed_id)
    assert known() == (False, False)
    assert await policies.allowed() == []
    await database.close()

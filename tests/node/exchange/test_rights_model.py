"""Any order of publishing, withdrawing, narrowing, widening and failing ends alike."""

from __future__ import annotations

from dataclasses import replace
from itertools import count
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hashlight_node.peers.errors import PeerUnavailableError
from hashlight_protocol import WHOLE_LIST, GrantScope
from support.made_records import labelled, md5_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.exchange_node import ExchangeNode
    from support.peer_simulator import Answer, PeerSimulator

Pair = tuple["ExchangeNode", "PeerSimulator"]

LABELS = ("ncii:adult", "ncii:child", "iwf:A")
SCOPES = (
    GrantScope(frozenset({"ncii:adult"}), None, None),
    GrantScope(frozenset({"ncii:*"}), None, None),
    GrantScope(frozenset({"iwf:*"}), frozenset({"md5"}), None),
    GrantScope(frozenset(), None, None),
    WHOLE_LIST,
)

LETS = (LABELS[:1], LABELS[:2], LABELS[2:], (), LABELS)
"""The labels that each scope lets through."""

_names = count()

steps = st.one_of(
    st.tuples(st.just("publish"), st.integers(0, len(LABELS) - 1)),
    st.tuples(st.just("retract"), st.integers(0, 30)),
    st.tuples(st.just("erase"), st.integers(0, 30)),
    st.tuples(st.just("scope"), st.integers(0, len(SCOPES) - 1)),
    st.tuples(st.just("sync"), st.just(0)),
    # The peer answers so many questions about bodies, and then fails.
    st.tuples(st.just("cut"), st.integers(0, 1)),
)


class Schedule:
    """One list, and what must come of it."""

    def __init__(self, alpha: ExchangeNode, shield: PeerSimulator) -> None:
        self.alpha, self.shield = alpha, shield
        self.name = f"list-{next(_names)}"
        self.log = shield.create_list(self.name)
        self.numbers: dict[int, int] = {}  # by leaf index
        self.labels: dict[int, str] = {}
        self.ended: set[int] = set()
        self.scope = len(SCOPES) - 1
        self.shown: set[int] = set()  # at any time, to a peer that asked then

    async def run(self, step: tuple[str, int]) -> None:
        what, value = step
        match what:
            case "publish":
                self.publish(value)
            case "retract" | "erase":
                self.withdraw(what, value)
            case "scope":
                self.shield.narrow(self.name, SCOPES[value])
                self.scope = value
                self._show()
            case "sync":
                await self.sync()
            case _:
                await self.cut(value)

    def publish(self, value: int) -> None:
        number = 1_000_000 + 1_000 * next(_names)
        (leaf_index,) = self.log.publish([labelled(number, LABELS[value])])
        self.numbers[leaf_index] = number
        self.labels[leaf_index] = LABELS[value]
        self._show()

    def withdraw(self, what: str, value: int) -> None:
        if value in self.numbers:
            act: Callable[[int], int] = getattr(self.log, what)
            act(value)
            self.ended.add(value)

    async def sync(self) -> None:
        await self.alpha.follower.sync("shield.example", self.name)
        await self.check(self.ended)

    async def cut(self, questions: int) -> None:
        left = [questions]

        def fail(answer: Answer) -> Answer:
            left[0] -= 1
            return answer if left[0] >= 0 else replace(answer, status=503)

        before = set(self.ended)
        self.shield.tamper("bodies", fail)
        try:
            await self.alpha.follower.sync("shield.example", self.name)
            before = self.ended
        except PeerUnavailableError:
            # A pull that was cut short has not brought the withdrawals.
            before = set()
        finally:
            self.shield.honest()
        await self.check(before)

    async def check(self, ended: set[int]) -> None:
        """Hold what matches against what may, after a sync that brought all of it."""
        for leaf_index, number in self.numbers.items():
            if await self.alpha.matches(number):
                assert leaf_index not in ended
                assert leaf_index in self.shown

    def _show(self) -> None:
        self.shown |= {it for it in self.labels if self.labels[it] in LETS[self.scope]}


@pytest.mark.timeout(300)
@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(schedule=st.lists(steps, min_size=3, max_size=25))
async def test_every_schedule_ends_with_what_is_live_and_nothing_else(
    following: Pair, schedule: list[tuple[str, int]]
) -> None:
    alpha, shield = following
    list_of = Schedule(alpha, shield)
    await alpha.peering.follow("shield.example", list_of.name)
    for step in schedule:
        await list_of.run(step)

    await list_of.run(("scope", 1))
    await list_of.sync()
    for leaf_index, number in list_of.numbers.items():
        if list_of.labels[leaf_index].startswith("ncii:"):
            expected = int(leaf_index not in list_of.ended)
            assert await alpha.matches(number) == expected, md5_of(number)
    await list_of.run(("scope", 4))
    await list_of.sync()
    for leaf_index, number in list_of.numbers.items():
        expected = int(leaf_index not in list_of.ended)
        assert await alpha.matches(number) == expected
    log = await alpha.log(list_of.log.origin)
    assert (log.tree_size, log.root_hash) == (list_of.log.size, list_of.log.root())

"""Whatever happens between five nodes, in the end all who may have a list are equal.

Hypothesis makes up what operators do and what goes wrong: routes that break, nodes that
restart, clocks that jump, answers that are spoiled on the way. A model that could not
be simpler says what must have come of it. Afterwards every fault ends and the nodes
have to agree with the model, and nobody else may have anything.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    rule,
    run_state_machine_as_test,
)
from typing_extensions import override

from hashlight_protocol import WHOLE_LIST, GrantScope, Reason, Ref
from support.federated_world import NAMES, Member, World
from support.made_records import labelled, md5_of

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator

    from hashlight_node.exchange.publishing.publish import WithdrawalKind

OWNERS = st.sampled_from(["shield.example", "hotline.example"])
NODES = st.sampled_from([f"{name}.example" for name in NAMES])
JUMPS = st.sampled_from([-259_200, -400, -1, 1, 90, 400, 259_200])
LIES = st.sampled_from(["/bodies/", "/tile/entries/", "/tile/0/", "/checkpoint"])
LABELS = ("ncii:adult", "ncii:child")
"""Every second record has the other one."""
ADULT = GrantScope(frozenset({LABELS[0]}), None, None)
SCOPES = st.sampled_from([WHOLE_LIST, WHOLE_LIST, ADULT])
RECORDS_OF_A_SCHEDULE = 8
"""Few, so that both owners often assert the same signal."""

_schedules = count(1)


@dataclass
class Published:
    """A record as the model knows it."""

    ref: Ref
    number: int
    state: str = "live"


@dataclass
class ListModel:
    """One list, and who may have what of it.

    Attributes:
        owner: Its node.
        records: In the order of the log.
        granted: Who may fetch it now, and which records.
        followers: Who wants it now.
        seen_by: For each node, the numbers that it may have got at any time.
    """

    owner: str
    records: list[Published] = field(default_factory=list)
    granted: dict[str, GrantScope] = field(default_factory=dict)
    followers: set[str] = field(default_factory=set)
    seen_by: dict[str, set[int]] = field(default_factory=dict)

    def show(self, node: str) -> None:
        shown = self.seen_by.setdefault(node, set())
        left = {it.number for it in self.records if it.state != "erased"}
        shown |= {number for number in left if self.is_shown(node, number)}

    def is_shown(self, node: str, number: int) -> bool:
        """Tell whether a node with a grant is given the records of a number."""
        return self.granted[node] == WHOLE_LIST or number % 2 == 0

    def live(self) -> Counter[int]:
        return Counter(it.number for it in self.records if it.state == "live")

    @property
    def entitled(self) -> set[str]:
        return self.granted.keys() & self.followers


class Schedules(RuleBasedStateMachine):
    """One schedule: what happens to two lists among five nodes."""

    world: ClassVar[World]
    runner: ClassVar[asyncio.Runner]

    def __init__(self) -> None:
        super().__init__()
        self.number = next(_schedules)
        self.list_name = f"schedule-{self.number}"
        self.lists: dict[str, ListModel] = {}

    def run_soon(self, work: Coroutine[object, object, object]) -> None:
        """Do something, while all nodes go on with what they were doing."""
        self.runner.run(work)

    def member(self, name: str) -> Member:
        return self.world.members[name]

    # ------------------------------------------------------- what operators do

    @initialize()
    def two_lists_begin(self) -> None:
        for owner in ("shield.example", "hotline.example"):
            self.lists[owner] = ListModel(owner)
            publisher = self.member(owner).node.use_cases.publisher
            self.run_soon(publisher.create_list(self.list_name, {}))
            self.publish(owner, 0)
            self.publish(owner, 1)
        # What matters is how an exchange ends that has begun; some begin later.
        for node in ("alpha.example", "beta.example"):
            self.grant("shield.example", node)
            self.follow("shield.example", node)
        self.grant("hotline.example", "gamma.example", ADULT)
        self.follow("hotline.example", "gamma.example")
        self.everybody_looks_for_news()

    @rule(owner=OWNERS, which=st.integers(0, RECORDS_OF_A_SCHEDULE - 1))
    def publish(self, owner: str, which: int) -> None:
        model = self.lists[owner]
        number = self.number * RECORDS_OF_A_SCHEDULE + which

        async def work() -> None:
            publisher = self.member(owner).node.use_cases.publisher
            body = labelled(number, LABELS[number % 2])
            (ref,) = await publisher.publish(self.list_name, [body])
            model.records.append(Published(ref, number))

        self.run_soon(work())
        for node in model.granted:
            model.show(node)

    @rule(
        owner=OWNERS,
        which=st.integers(0, 30),
        kind=st.sampled_from(["retract", "erase"]),
    )
    def withdraw(self, owner: str, which: int, kind: WithdrawalKind) -> None:
        model = self.lists[owner]
        if not model.records:
            return
        record = model.records[which % len(model.records)]
        publisher = self.member(owner).node.use_cases.publisher
        self.run_soon(publisher.withdraw(record.ref, kind, Reason.WITHDRAWN))
        if kind == "erase" or record.state == "live":
            record.state = "erased" if kind == "erase" else "retracted"

    @rule(owner=OWNERS, node=NODES, scope=SCOPES)
    def grant(self, owner: str, node: str, scope: GrantScope = WHOLE_LIST) -> None:
        """Grant a list, or more of it, or less."""
        if node == owner:
            return
        model = self.lists[owner]
        peering = self.member(owner).node.use_cases.peering
        self.run_soon(peering.grant(node, self.list_name, scope=scope))
        model.granted[node] = scope
        model.show(node)

    @rule(owner=OWNERS, node=NODES)
    def revoke(self, owner: str, node: str) -> None:
        if node == owner:
            return
        peering = self.member(owner).node.use_cases.peering
        self.run_soon(peering.revoke(node, self.list_name))
        self.lists[owner].granted.pop(node, None)

    @rule(owner=OWNERS, node=NODES)
    def follow(self, owner: str, node: str) -> None:
        if node == owner:
            return
        peering = self.member(node).node.use_cases.peering
        self.run_soon(peering.follow(owner, self.list_name))
        self.lists[owner].followers.add(node)

    @rule(owner=OWNERS, node=NODES)
    def unfollow(self, owner: str, node: str) -> None:
        model = self.lists[owner]
        if node not in model.followers:
            return
        peering = self.member(node).node.use_cases.peering
        self.run_soon(peering.unfollow(owner, self.list_name))
        model.followers.discard(node)

    # --------------------------------------------------------- what goes wrong

    @rule(caller=NODES, callee=NODES)
    def partition(self, caller: str, callee: str) -> None:
        self.run_soon(self.member(callee).gateway.refuse(caller))

    @rule(callee=NODES)
    def mend(self, callee: str) -> None:
        self.member(callee).gateway.refused.clear()

    @rule(node=NODES)
    def restart(self, node: str) -> None:
        async def work() -> None:
            await self.member(node).stop()
            await self.member(node).start()

        self.run_soon(work())

    @rule(node=NODES, seconds=JUMPS)
    def clock_jump(self, node: str, seconds: int) -> None:
        self.member(node).clock.offset_seconds += seconds

    @rule(node=NODES, about=LIES)
    def lie(self, node: str, about: str) -> None:
        self.member(node).gateway.spoiled = about

    @rule(hundredths=st.integers(1, 12))
    def time_passes(self, hundredths: int) -> None:
        self.run_soon(asyncio.sleep(hundredths / 100))

    @rule()
    def everybody_looks_for_news(self) -> None:
        async def work() -> None:
            members = self.world.members.values()
            sweeps = (it.node.use_cases.follower.sync_all() for it in members)
            await asyncio.gather(*sweeps)

        self.run_soon(work())

    # ---------------------------------------------------- what must come of it

    @override
    def teardown(self) -> None:
        if self.lists:
            self.runner.run(self._end())

    async def _end(self) -> None:
        await self.world.heal()
        await self._end_what_is_not_granted()
        async with asyncio.timeout(30):
            while not await self._is_settled():
                for member in self.world.members.values():
                    await member.node.use_cases.pusher.sweep()
                    await member.node.use_cases.follower.sync_all()
        for member in self.world.members.values():
            await self._check_content(member)
        await self._clear_away()

    async def _clear_away(self) -> None:
        """Leave nothing to do for the schedules that follow."""
        for model in self.lists.values():
            for node in model.followers:
                peering = self.member(node).node.use_cases.peering
                await peering.unfollow(model.owner, self.list_name)
            for node in model.granted:
                peering = self.member(model.owner).node.use_cases.peering
                await peering.revoke(node, self.list_name)

    async def _end_what_is_not_granted(self) -> None:
        # Whoever lost a grant knows of nothing that is withdrawn since; an operator who
        # sees that in the status ends it.
        for model in self.lists.values():
            for node in model.followers - model.granted.keys():
                peering = self.member(node).node.use_cases.peering
                await peering.unfollow(model.owner, self.list_name)
            model.followers &= model.granted.keys()

    async def _is_settled(self) -> bool:
        for model in self.lists.values():
            origin = f"{model.owner}/hsf/v1/log/{self.list_name}/1"
            owner = self.member(model.owner)
            head = await owner.head(origin)
            for node in model.entitled:
                if await self.member(node).head(origin) != head:
                    return False
                if not await self._has_acknowledged(owner, node, model):
                    return False
        for member in self.world.members.values():
            for number in self._numbers():
                # What a wider grant shows comes after the log that it stands in.
                if not await self._matches_as_expected(member, number):
                    return False
        return True

    async def _has_acknowledged(
        self, owner: Member, node: str, model: ListModel
    ) -> bool:
        inspect = owner.node.use_cases.inspect
        for record in model.records:
            if record.state != "erased":
                continue
            report = await inspect.erasure(record.ref)
            (said,) = [it for it in report.peers if it.peer_name == node]
            if said.acknowledgement is None:
                return False
        return True

    async def _matches_as_expected(self, member: Member, number: int) -> bool:
        least = most = 0
        for model in self.lists.values():
            live = model.live()[number]
            if member.name == model.owner:
                least, most = least + live, most + live
            elif member.name in model.entitled:
                least += live if model.is_shown(member.name, number) else 0
                # What it had before its grant became narrower it keeps.
                most += live if number in model.seen_by[member.name] else 0
        found = await member.matches(number)
        # The logs are equal and what they end was confirmed: more is never right.
        assert found <= most
        return least <= found

    async def _check_content(self, member: Member) -> None:
        """Nothing is at a node that it never had a right to, or that was erased."""
        values = await member.values()
        for number in self._numbers():
            may_have = any(
                self._may_have(model, member.name, number)
                for model in self.lists.values()
            )
            if not may_have:
                assert md5_of(number) not in values
                assert not await member.stores(md5_of(number).encode())

    def _may_have(self, model: ListModel, node: str, number: int) -> bool:
        left = {it.number for it in model.records if it.state != "erased"}
        if node == model.owner:
            return number in left
        seen = number in model.seen_by.get(node, set())
        return seen and (number in left or node not in model.entitled)

    def _numbers(self) -> range:
        first = self.number * RECORDS_OF_A_SCHEDULE
        return range(first, first + RECORDS_OF_A_SCHEDULE)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[None]:
    with asyncio.Runner() as runner:
        Schedules.runner = runner
        Schedules.world = runner.run(World.begin(tmp_path))
        yield
        runner.run(Schedules.world.end())


_COMMON = settings(
    stateful_step_count=25,
    # To shrink a schedule means to run hundreds more; its steps are printed instead.
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


@pytest.mark.timeout(600)
@pytest.mark.usefixtures("world")
def test_after_whatever_happens_all_who_may_have_a_list_are_equal() -> None:
    run_state_machine_as_test(Schedules, settings=settings(_COMMON, max_examples=25))


@pytest.mark.slow
# Each takes seconds of one core, and each waits half a minute at most.
@pytest.mark.timeout(3 * 3600)
@pytest.mark.usefixtures("world")
def test_after_hundreds_of_schedules_all_are_equal() -> None:
    run_state_machine_as_test(Schedules, settings=settings(_COMMON, max_examples=400))

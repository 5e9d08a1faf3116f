"""A list goes on in a new log, and its followers go with it, over real HTTP."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import pytest

from hashlight_node.exchange.publishing.epochs import Abandoned, Frozen
from hashlight_node.store import deliveries, logs
from hashlight_protocol import Reason, Ref
from support.made_records import indicators, opinion
from support.running_companies import MakeCompany, RunningCompany, connect, until

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from hashlight_node.exchange.publishing.epochs import Ending
    from hashlight_node.exchange.publishing.publish import WithdrawalKind

ONE = "shield.example/hsf/v1/log/ncii/1"
TWO = "shield.example/hsf/v1/log/ncii/2"

_KINDS: tuple[WithdrawalKind, ...] = ("erase", "retract")


async def matches_are(company: RunningCompany, expected: dict[int, int]) -> bool:
    found = {number: await company.matches(number) for number in expected}
    return found == expected


async def has_same(company: RunningCompany, other: RunningCompany, origin: str) -> bool:
    head = await company.head(origin)
    return head is not None and head == await other.head(origin)


async def confirmed_by(company: RunningCompany, ref: Ref) -> set[str]:
    report = await company.node.use_cases.inspect.erasure(ref)
    return {one.peer_name for one in report.peers if one.acknowledgement is not None}


@pytest.mark.parametrize(
    ("ending", "kept"), [(Frozen(), 1), (Abandoned(3), 0), (Abandoned(3, "keep"), 1)]
)
async def test_a_follower_goes_on_in_the_new_log(
    make_company: MakeCompany, ending: Ending, kept: int
) -> None:
    shield = await make_company("shield.example")
    alpha = await make_company("alpha.example")
    cases = shield.node.use_cases
    await cases.publisher.create_list("ncii", {})
    await cases.publisher.publish("ncii", indicators(3))
    await connect(shield, alpha, "ncii")
    await until(partial(matches_are, alpha, {0: 1, 1: 1, 2: 1}))

    await cases.epochs.begin_next("ncii", ending=ending)

    await until(partial(has_same, alpha, shield, TWO))
    for company in (shield, alpha):
        assert await matches_are(company, {0: 1, 1: 1, 2: kept})
    await cases.publisher.publish("ncii", indicators(1, first=7))
    await until(partial(matches_are, alpha, {7: 1}))


async def test_an_erasure_by_its_old_name_is_confirmed_by_everybody(
    make_company: MakeCompany,
) -> None:
    shield = await make_company("shield.example")
    alpha = await make_company("alpha.example")
    cases = shield.node.use_cases
    await cases.publisher.create_list("ncii", {})
    refs = await cases.publisher.publish("ncii", indicators(3))
    await connect(shield, alpha, "ncii")
    await until(partial(matches_are, alpha, {0: 1}))

    async def old_is_confirmed() -> bool:
        return bool(await acknowledged(shield, ONE))

    await until(old_is_confirmed)
    before = await acknowledged(shield, ONE)
    await cases.epochs.begin_next("ncii", ending=Frozen())
    await until(partial(has_same, alpha, shield, TWO))

    await cases.publisher.withdraw(refs[0], "erase", Reason.WITHDRAWN)

    async def confirmed() -> bool:
        return await confirmed_by(shield, refs[0]) == {"alpha.example"}

    await until(confirmed)
    assert await matches_are(alpha, {0: 0, 1: 1})
    # What was signed for the old log stays signed.
    assert before <= await acknowledged(shield, ONE)


async def acknowledged(company: RunningCompany, origin: str) -> set[int]:
    def read(conn: Connection) -> set[int]:
        log = logs.find_log(conn, origin)
        assert log is not None
        rows = deliveries.list_acknowledgements(conn, log.log_id)
        return {row.tree_size for row in rows}

    return await company.node.foundation.database.read(read)


async def test_a_follower_that_was_away_ends_with_what_lives_in_the_new_log(
    make_company: MakeCompany,
) -> None:
    shield = await make_company("shield.example")
    alpha = await make_company("alpha.example")
    cases = shield.node.use_cases
    await cases.publisher.create_list("ncii", {})
    refs = await cases.publisher.publish("ncii", indicators(5))
    await connect(shield, alpha, "ncii")
    await until(partial(matches_are, alpha, {4: 1}))
    await alpha.stop()

    await cases.publisher.withdraw(refs[0], "retract", Reason.FALSE_POSITIVE)
    await cases.publisher.withdraw(refs[1], "erase", Reason.WITHDRAWN)
    await cases.epochs.begin_next("ncii", ending=Frozen())
    await cases.publisher.withdraw(refs[2], "erase", Reason.WITHDRAWN)
    await cases.publisher.publish("ncii", indicators(1, first=9))
    await cases.epochs.begin_next("ncii", ending=Abandoned(3))

    await alpha.start()
    expected = {0: 0, 1: 0, 2: 0, 3: 0, 4: 0, 9: 0}
    await until(partial(matches_are, alpha, expected))
    assert await matches_are(shield, expected)


@dataclass
class Schedule:
    """An owner who does something at random, and what must live after it."""

    owner: RunningCompany
    chance: random.Random
    refs: dict[int, Ref] = field(default_factory=dict)
    live: set[int] = field(default_factory=set)

    @property
    def expected(self) -> dict[int, int]:
        return {number: int(number in self.live) for number in self.refs}

    async def publish(self) -> None:
        number = len(self.refs)
        publisher = self.owner.node.use_cases.publisher
        (ref,) = await publisher.publish("ncii", indicators(1, first=number))
        self.refs[number] = ref
        self.live.add(number)

    async def withdraw(self) -> None:
        if self.refs:
            number = self.chance.choice(sorted(self.refs))
            # By the name that it had first.
            await self.owner.node.use_cases.publisher.withdraw(
                self.refs[number], self.chance.choice(_KINDS), Reason.WITHDRAWN
            )
            self.live.discard(number)

    async def go_on(self) -> None:
        endings = (Frozen(), Abandoned(await size_of(self.owner)), Abandoned(1, "keep"))
        ending = self.chance.choice(endings)
        await self.owner.node.use_cases.epochs.begin_next("ncii", ending=ending)

    async def step(self) -> None:
        steps = (self.publish, self.withdraw, self.go_on)
        await self.chance.choices(steps, weights=(5, 3, 2))[0]()


@pytest.mark.parametrize("seed", range(1, 5))
async def test_random_schedules_end_with_the_same_records_everywhere(
    make_company: MakeCompany, seed: int
) -> None:
    shield = await make_company("shield.example")
    alpha = await make_company("alpha.example")
    await shield.node.use_cases.publisher.create_list("ncii", {})
    await connect(shield, alpha, "ncii")
    chance = random.Random(seed)  # noqa: S311 - the same schedule in every run
    schedule = Schedule(shield, chance)
    is_up = True
    for _ in range(60):
        if chance.random() < 0.25:
            await (alpha.stop if is_up else alpha.start)()
            is_up = not is_up
        else:
            await schedule.step()
        assert await matches_are(shield, schedule.expected)
    if not is_up:
        await alpha.start()
    await schedule.publish()
    await until(partial(matches_are, alpha, {len(schedule.refs) - 1: 1}), seconds=60)
    assert await matches_are(alpha, schedule.expected)


async def size_of(company: RunningCompany) -> int:
    def read(conn: Connection) -> int:
        log = logs.find_own_log(conn, company.name, "ncii")
        assert log is not None
        return log.tree_size

    return await company.node.foundation.database.read(read)


async def test_a_dispute_of_the_old_record_is_seen_at_the_new_one(
    make_company: MakeCompany,
) -> None:
    shield = await make_company("shield.example")
    alpha = await make_company("alpha.example")
    cases = shield.node.use_cases
    await cases.publisher.create_list("ncii", {})
    (ref,) = await cases.publisher.publish("ncii", indicators(1))
    await connect(shield, alpha, "ncii")
    await until(partial(matches_are, alpha, {0: 1}))
    publisher = alpha.node.use_cases.publisher
    await publisher.create_list("feedback", {})
    await connect(alpha, shield, "feedback")
    await publisher.publish("feedback", [opinion(ref)])
    await cases.epochs.begin_next("ncii", ending=Frozen())

    async def seen() -> bool:
        detail = await cases.feedback.about_record(Ref(TWO, ref.leaf_index))
        return [one.node for one in detail.opinions] == ["alpha.example"]

    await until(seen)

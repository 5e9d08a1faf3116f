"""A disk that is nearly full: no new content, and every withdrawal all the same."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import aiohttp
import pytest

from hashlight_node.exchange.errors import NoRoomError
from hashlight_node.exchange.room import Room, RoomRules, RoomState
from hashlight_protocol import Reason, Ref
from support.made_records import indicators
from support.running_companies import RunningCompany, connect, until

if TYPE_CHECKING:
    from pathlib import Path

    from support.running_companies import MakeCompany

ORIGIN = "shield.example/hsf/v1/log/ncii/1"
MIB = 1 << 20


class Disk:
    """How much a disk has left, said by the one reading that a room takes."""

    def __init__(self) -> None:
        self.free = 1 << 40

    def __call__(self, directory: Path) -> int:
        assert directory.is_dir()
        return self.free


def put_on(company: RunningCompany) -> Disk:
    """Let a running node read its disk from a test."""
    disk = Disk()
    company.node.foundation.room._measure = disk  # noqa: SLF001 -- the one reading
    return disk


async def are_equal(one: RunningCompany, other: RunningCompany) -> bool:
    head = await one.head(ORIGIN)
    return head is not None and head == await other.head(ORIGIN)


@pytest.fixture
async def pair(make_company: MakeCompany) -> tuple[RunningCompany, RunningCompany]:
    shield = await make_company("shield.example")
    alpha = await make_company("alpha.example")
    await shield.node.use_cases.publisher.create_list("ncii", {})
    await publish(shield, 5, first=0)
    await connect(shield, alpha, "ncii")
    await until(partial(are_equal, shield, alpha))
    return shield, alpha


async def publish(company: RunningCompany, count: int, *, first: int) -> None:
    publisher = company.node.use_cases.publisher
    await publisher.publish("ncii", indicators(count, first=first))


async def get(company: RunningCompany, path: str) -> str:
    base = f"http://{company.settings.local.listen}"
    async with (
        aiohttp.ClientSession() as session,
        session.get(base + path) as answer,
    ):
        assert answer.status == 200
        return await answer.text()


async def test_an_owner_refuses_records_and_takes_them_back_and_recovers(
    pair: tuple[RunningCompany, RunningCompany],
) -> None:
    shield, alpha = pair
    disk = put_on(shield)
    disk.free = 100 * MIB
    with pytest.raises(NoRoomError):
        await publish(shield, 1, first=50)
    with pytest.raises(NoRoomError):
        await shield.node.use_cases.publisher.create_list("other", {})
    assert '"room":"full"' in await get(shield, "/readyz")
    metrics = await get(shield, "/metrics")
    assert "hashlight_disk_state 2.0" in metrics
    assert f"hashlight_disk_free_bytes {float(disk.free):.8e}"[:30] in metrics
    assert await shield.matches(1) == 1
    publisher = shield.node.use_cases.publisher
    await publisher.withdraw(Ref(ORIGIN, 1), "retract", Reason.FALSE_POSITIVE)
    await publisher.withdraw(Ref(ORIGIN, 2), "erase", Reason.WITHDRAWN)
    await until(partial(are_equal, shield, alpha))
    assert [await alpha.matches(number) for number in (0, 1, 2)] == [0, 0, 1]
    disk.free = 1024 * MIB
    await publish(shield, 1, first=50)
    assert '"room":"low"' in await get(shield, "/readyz")


async def test_a_copy_gets_withdrawals_at_once_and_bodies_when_there_is_room(
    pair: tuple[RunningCompany, RunningCompany],
) -> None:
    shield, alpha = pair
    disk = put_on(alpha)
    disk.free = 100 * MIB
    await publish(shield, 3, first=50)
    publisher = shield.node.use_cases.publisher
    await publisher.withdraw(Ref(ORIGIN, 1), "erase", Reason.WITHDRAWN)
    await until(partial(are_equal, shield, alpha))
    assert await alpha.matches(0) == 0
    assert await alpha.matches(1) == 1
    assert [await alpha.matches(number) for number in (50, 51, 52)] == [0, 0, 0]
    await alpha.node.use_cases.follower.sync("shield.example", "ncii")
    assert await alpha.matches(50) == 0

    disk.free = 1 << 40
    await alpha.node.use_cases.follower.sync("shield.example", "ncii")

    assert [await alpha.matches(number) for number in (50, 51, 52)] == [1, 1, 1]
    assert await alpha.matches(0) == 0


def test_a_room_says_each_state_once_and_measures_a_real_disk(tmp_path: Path) -> None:
    disk, seen = Disk(), list[tuple[int, RoomState]]()
    room = Room(
        tmp_path,
        RoomRules(warn_bytes=20, stop_bytes=10),
        measure=disk,
        on_measured=lambda free, state: seen.append((free, state)),
    )
    for free in (25, 15, 5, 15, 25):
        disk.free = free
        room.check()
    states = [RoomState.OK, RoomState.LOW, RoomState.FULL, RoomState.LOW, RoomState.OK]
    assert [state for _, state in seen] == states
    real = Room(tmp_path, RoomRules(warn_bytes=1 << 62, stop_bytes=1))
    assert real.check() is RoomState.LOW
    real.require()

"""Waking, queueing, taking turns and backing off."""

from __future__ import annotations

import asyncio

import pytest

from hashlight_node.exchange.notices import Backoff, Notices, PendingQueue, Rounds


async def test_nothing_waits_twice_in_a_queue() -> None:
    queue: PendingQueue[str] = PendingQueue()
    for item in ("a", "b", "a"):
        queue.add(item)
    assert [await queue.take(), await queue.take()] == ["a", "b"]
    assert len(queue) == 0


async def test_an_empty_queue_waits_for_work() -> None:
    queue: PendingQueue[str] = PendingQueue()
    taken = [asyncio.create_task(queue.take()) for _ in range(2)]
    await asyncio.sleep(0)
    queue.add("a")
    await asyncio.sleep(0)
    queue.add("b")
    assert sorted(await asyncio.gather(*taken)) == ["a", "b"]


async def test_a_change_wakes_everybody_who_subscribed_before_it() -> None:
    notices = Notices()
    first, second = notices.subscribe("log"), notices.subscribe("log")
    other = notices.subscribe("other")
    notices.wake("log")
    assert first.is_set()
    assert second.is_set()
    assert not other.is_set()
    assert not notices.subscribe("log").is_set()


async def test_an_advanced_log_is_pushed_and_its_readers_wake() -> None:
    notices = Notices()
    event = notices.subscribe("log")
    notices.advanced("log")
    assert event.is_set()
    assert await notices.pushes.take() == "log"


async def test_later_work_is_queued_once_however_often_it_is_asked_for() -> None:
    notices = Notices()
    for _ in range(3):
        notices.push_later("log", 0.01)
        notices.sync_later("peer", "list", 0.01)
    await asyncio.sleep(0.05)
    assert (len(notices.pushes), len(notices.syncs)) == (1, 1)


async def test_closing_forgets_later_work_and_releases_waiters() -> None:
    notices = Notices()
    event = notices.subscribe("log")
    notices.push_later("log", 0.01)
    notices.close()
    await asyncio.sleep(0.03)
    assert event.is_set()
    assert len(notices.pushes) == 0


async def test_a_crowd_that_waits_shares_the_round_after_the_running_one() -> None:
    rounds: Rounds[str, int] = Rounds()
    started = 0
    release = asyncio.Event()

    async def work() -> int:
        nonlocal started
        started += 1
        number = started
        await release.wait()
        return number

    first = asyncio.create_task(rounds.run("key", work))
    await asyncio.sleep(0)
    crowd = [asyncio.create_task(rounds.run("key", work)) for _ in range(5)]
    await asyncio.sleep(0)
    release.set()
    assert await first == 1
    assert await asyncio.gather(*crowd) == [2, 2, 2, 2, 2]


async def test_a_failed_round_is_tried_again_by_the_next_who_waits() -> None:
    rounds: Rounds[str, int] = Rounds()
    attempts = 0

    async def work() -> int:
        nonlocal attempts
        attempts += 1
        await asyncio.sleep(0.01)
        if attempts < 3:
            raise ValueError
        return attempts

    tasks = [asyncio.create_task(rounds.run("key", work)) for _ in range(3)]
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(result) for result in results] == [ValueError, ValueError, int]


async def test_different_keys_do_not_wait_for_each_other() -> None:
    rounds: Rounds[str, str] = Rounds()
    release = asyncio.Event()

    async def slow() -> str:
        await release.wait()
        return "slow"

    async def quick() -> str:
        return "quick"

    waiting = asyncio.create_task(rounds.run("a", slow))
    await asyncio.sleep(0)
    assert await rounds.run("b", quick) == "quick"
    release.set()
    assert await waiting == "slow"


def test_waiting_doubles_up_to_the_limit_and_ends_with_a_success() -> None:
    backoff: Backoff[str] = Backoff(limit_seconds=5)
    assert backoff.remaining_seconds("a", 100) == 0
    assert [backoff.failed("a", 100) for _ in range(4)] == [1, 2, 4, 5]
    assert backoff.remaining_seconds("a", 103) == 2
    assert backoff.remaining_seconds("b", 103) == 0
    backoff.succeeded("a")
    assert backoff.remaining_seconds("a", 103) == 0


@pytest.mark.parametrize(("asked", "granted"), [(0, 1), (3, 3), (10_000, 5)])
def test_the_other_side_may_ask_for_patience_within_the_limit(
    asked: int, granted: int
) -> None:
    backoff: Backoff[str] = Backoff(limit_seconds=5)
    assert backoff.failed("a", 100, asked) == granted

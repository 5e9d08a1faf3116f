"""Waking, queueing, taking turns and backing off."""

from __future__ import annotations

import asyncio

import pytest

from hashlight_node.exchange.notices import (
    Backoff,
    Notices,
    PeerQueue,
    PendingQueue,
    Rounds,
)


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
        notices.push_later("peer", "log", 0.01)
        notices.sync_later("peer", "list", 0.01)
    await asyncio.sleep(0.05)
    assert (len(notices.peer_pushes), len(notices.syncs)) == (1, 1)


@pytest.mark.parametrize("waits", [(0.01, 300), (300, 0.01)])
async def test_of_two_times_for_later_work_the_earlier_counts(
    waits: tuple[float, float],
) -> None:
    notices = Notices()
    for seconds in waits:
        notices.push_later("peer", "log", seconds)
    await asyncio.sleep(0.05)
    assert len(notices.peer_pushes) == 1
    notices.close()


async def test_later_work_is_put_off_further_and_never_earlier(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shares = iter([0.0, 0.5])
    notices = Notices(jitter=lambda: next(shares))
    loop = asyncio.get_running_loop()
    fires: list[float] = []

    def call_at(when: float, _: object) -> asyncio.TimerHandle:
        fires.append(when - loop.time())
        return asyncio.TimerHandle(when, lambda: None, (), loop)

    monkeypatch.setattr(loop, "call_at", call_at)
    for peer in ("a", "b"):
        notices.sync_later(peer, "ncii", 100)
    monkeypatch.undo()
    assert fires == [pytest.approx(100, abs=1), pytest.approx(150, abs=1)]


async def test_each_peer_has_its_own_time_for_later_work() -> None:
    notices = Notices()
    notices.push_later("slow", "log", 300)
    notices.push_later("quick", "log", 0.01)
    assert await asyncio.wait_for(notices.peer_pushes.take(), 5) == ("quick", "log")
    notices.close()


async def test_closing_forgets_later_work_and_releases_waiters() -> None:
    notices = Notices()
    event = notices.subscribe("log")
    notices.push_later("peer", "log", 0.01)
    notices.close()
    await asyncio.sleep(0.03)
    assert event.is_set()
    assert len(notices.peer_pushes) == 0


async def take_turn(queue: PeerQueue) -> tuple[str, str]:
    async with queue.turn() as item:
        return item


async def test_what_is_queued_during_its_turn_runs_again_after_it() -> None:
    queue = PeerQueue()
    queue.add(("peer", "a"))
    async with queue.turn() as item:
        queue.add(item)
        again = asyncio.create_task(take_turn(queue))
        await asyncio.sleep(0.01)
        assert not again.done()
    assert await asyncio.wait_for(again, 5) == ("peer", "a")


async def test_two_turns_of_a_peer_are_the_most_and_others_go_first() -> None:
    queue = PeerQueue()
    for what in ("a", "b", "c"):
        queue.add(("slow", what))
    queue.add(("quick", "a"))
    async with queue.turn() as first:
        async with queue.turn() as second:
            assert [first, second] == [("slow", "a"), ("slow", "b")]
            async with asyncio.timeout(5), queue.turn() as third:
                assert third == ("quick", "a")
        async with asyncio.timeout(5), queue.turn() as last:
            assert last == ("slow", "c")


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


def test_a_clock_that_is_set_back_ends_the_waiting() -> None:
    backoff: Backoff[str] = Backoff(limit_seconds=5)
    backoff.failed("a", 100_000)
    assert backoff.remaining_seconds("a", 100_000 - 86_400) == 0


@pytest.mark.parametrize(("asked", "granted"), [(0, 1), (3, 3), (10_000, 5)])
def test_the_other_side_may_ask_for_patience_within_the_limit(
    asked: int, granted: int
) -> None:
    backoff: Backoff[str] = Backoff(limit_seconds=5)
    assert backoff.failed("a", 100, asked) == granted

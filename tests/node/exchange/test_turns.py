"""One way at a time: turns, and work that is not left half watched."""

from __future__ import annotations

import asyncio

import pytest

from hashlight_node.exchange.following.turns import Turns, unbroken


async def test_a_list_has_one_turn_at_a_time_and_others_their_own() -> None:
    turns = Turns()
    order: list[str] = []

    async def take(list_name: str, word: str) -> None:
        async with turns.of("shield.example", list_name):
            order.append(f"{word} begins")
            await asyncio.sleep(0.02)
            order.append(f"{word} ends")

    await asyncio.gather(take("a", "first"), take("a", "second"), take("b", "third"))
    assert order.index("first ends") < order.index("second begins")
    assert order.index("third begins") < order.index("first ends")


async def test_a_caller_that_is_cancelled_ends_only_after_its_work() -> None:
    done: list[str] = []
    begun = asyncio.Event()

    async def work() -> str:
        begun.set()
        await asyncio.sleep(0.05)
        done.append("written")
        return "result"

    caller = asyncio.create_task(unbroken(work()))
    await begun.wait()
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert done == ["written"]
    assert await unbroken(work()) == "result"


async def test_what_the_work_raises_reaches_its_caller() -> None:
    async def fail() -> None:
        raise LookupError

    with pytest.raises(LookupError):
        await unbroken(fail())

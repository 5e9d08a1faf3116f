"""Events of matches are stored once, whatever ends the flush."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from hashlight_node.exchange.looking_up.match_log import MatchBuffer, MatchLog
from hashlight_node.matching.judging import Criteria
from hashlight_node.matching.policy import Policy
from hashlight_node.store import matches
from hashlight_node.store.database import Database
from hashlight_node.store.matches import MatchEvent
from support.clock import START
from support.stores import make_store

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

EVENTS = [MatchEvent(START, "review", f'{{"n":{number}}}') for number in range(50)]


@pytest_asyncio.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    url = make_store(tmp_path)
    database = Database.open(url)
    yield database
    await database.close()


@pytest.fixture
def log(database: Database) -> MatchLog:
    def refuse(count: int) -> None:
        raise AssertionError(count)

    log = MatchLog(
        MatchBuffer(clock=lambda: START, on_dropped=refuse),
        database=database,
        criteria=Criteria(Policy(), "shield.example"),
        clock=lambda: START,
        kept_days=1,
    )
    log.buffer.add_events(EVENTS)
    return log


async def stored(database: Database) -> list[str]:
    rows = await database.read(lambda conn: matches.page_matches(conn, 0, 1000))
    return [it.event for it in rows]


async def test_a_flush_that_is_cancelled_while_it_writes_stores_everything_once(
    database: Database, log: MatchLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go = threading.Event(), threading.Event()
    insert = matches.insert_matches

    def held(*args: object, **kwargs: object) -> None:
        begun.set()
        assert go.wait(10)
        insert(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(matches, "insert_matches", held)
    flushing = asyncio.create_task(log.flush())
    await asyncio.to_thread(begun.wait)
    flushing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await flushing
    go.set()
    # As at a stop: the last flush waits for the one that goes on.
    await log.flush()
    assert await stored(database) == [it.event for it in EVENTS]
    assert len(log.buffer) == 0


async def test_events_that_could_not_be_stored_wait_for_the_next_flush(
    database: Database, log: MatchLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError

    with monkeypatch.context() as patched:
        patched.setattr(matches, "insert_matches", refuse)
        with pytest.raises(OSError):  # noqa: PT011 - ours
            await log.flush()
    assert await stored(database) == []
    await log.flush()
    assert await stored(database) == [it.event for it in EVENTS]

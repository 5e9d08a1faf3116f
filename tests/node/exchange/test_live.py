"""What lookups keep in memory is as of the last commit, in every process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import delete, update

from hashlight_node.exchange.errors import StoreSilentError
from hashlight_node.exchange.looking_up.catching_up import CatchUp, FeedLostError
from hashlight_node.exchange.looking_up.live import MOST_SILENT_SECONDS, LiveView
from hashlight_node.matching.allowing import AllowList
from hashlight_node.matching.matcher import Matcher
from hashlight_node.model import FeedMark
from hashlight_node.store import allowed, changes, tables
from hashlight_node.store.database import Connection, Database, Reader
from hashlight_protocol import Reason, parse_signal
from support.clock import ManualClock
from support.exchange_node import ExchangeNode
from support.made_records import indicators, md5_of, pdq_of
from support.stores import make_store


def count_reads(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    reads: list[object] = []

    def counting(name: str) -> None:
        original = getattr(Database, name)

        async def counted(self: Database, function: object) -> object:
            reads.append(function)
            return await original(self, function)

        monkeypatch.setattr(Database, name, counted)

    counting("read")
    counting("read_settled")
    return reads


async def ask(node: ExchangeNode, number: int, *, near: bool = False) -> int:
    query = ("pdq", pdq_of(number)) if near else ("md5", md5_of(number))
    answer = await node.lookup.lookup([parse_signal(*query)], max_distance=None)
    return len(answer.results[0].matches)


async def test_a_lookup_that_finds_nothing_reads_once_between_commits(
    alpha: ExchangeNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    await alpha.publisher.create_list("ncii", {})
    await alpha.publisher.publish("ncii", indicators(1))
    reads = count_reads(monkeypatch)
    for _ in range(5):
        assert await ask(alpha, 7) == 0
    assert len(reads) == 1
    assert await ask(alpha, 0) == 1
    assert len(reads) == 2
    await alpha.publisher.publish("ncii", indicators(1, first=7))
    assert await ask(alpha, 8) == 0
    assert await ask(alpha, 7) == 1


async def test_the_lists_are_those_of_the_last_commit(alpha: ExchangeNode) -> None:
    view = LiveView(alpha.database, clock=alpha.clock)
    assert view.known_lists() is None
    assert await view.lists() == ()
    assert view.known_lists() == ()
    await alpha.publisher.create_list("ncii", {})
    assert view.known_lists() is None
    for expected in range(1, 4):
        (state,) = await view.lists()
        assert state.tree_size == expected
        assert view.known_lists() is await view.lists()
        await alpha.publisher.publish("ncii", indicators(1, first=expected))


async def test_a_crowd_that_asks_after_a_commit_reads_together(
    alpha: ExchangeNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    await alpha.publisher.create_list("ncii", {})
    view = LiveView(alpha.database, clock=alpha.clock)
    reads = count_reads(monkeypatch)
    answers = await asyncio.gather(*(view.lists() for _ in range(50)))
    assert len(reads) == 1
    assert {states[0].tree_size for states in answers} == {1}


async def test_nobody_sees_lists_that_memory_does_not_know_yet(
    alpha: ExchangeNode,
) -> None:
    """The moment between a commit and its announcement belongs to neither."""
    await alpha.publisher.create_list("ncii", {})
    view = LiveView(alpha.database, clock=alpha.clock)
    before = await view.lists()
    seen: list[bool] = []
    loop = asyncio.get_running_loop()

    def look(_: object) -> None:
        # In the writer's thread, committed and not announced.
        asking = asyncio.run_coroutine_threadsafe(late.lists(), loop)
        seen.append(view.known_lists() is before)
        with pytest.raises(TimeoutError):
            asking.result(0.1)

    late = LiveView(alpha.database, clock=alpha.clock)
    await alpha.database.write(lambda _: None, after_commit=look)
    assert seen == [True]
    assert view.known_lists() is None
    assert await late.lists() == before


# ----------------------------------------------------------- a process that only reads


class Worker:
    """Memory that is filled once and then follows by reading."""

    def __init__(self, database: Reader, clock: ManualClock) -> None:
        self.matcher = Matcher(pdq_threshold=31)
        self.allow_list = AllowList()
        self.feed = CatchUp(self.matcher, FeedMark(), self.allow_list)
        self.view = LiveView(database, clock=clock, feed=self.feed)

    async def knows(self, number: int) -> tuple[bool, bool]:
        await self.view.lists()
        queries = [
            parse_signal("md5", md5_of(number)),
            parse_signal("pdq", pdq_of(number)),
        ]
        exact, near = self.matcher.candidates(queries, max_distance=None)
        return bool(exact), bool(near)


@pytest.fixture
async def worker(alpha: ExchangeNode, tmp_path: Path) -> AsyncIterator[Worker]:
    database = Reader.open_reader(make_store(tmp_path / "alpha"))
    yield Worker(database, alpha.clock)
    await database.close()


async def test_a_reader_knows_what_was_published_before_it_is_asked(
    alpha: ExchangeNode, worker: Worker
) -> None:
    await alpha.publisher.create_list("ncii", {})
    for number in range(5):
        assert await worker.knows(number) == (False, False)
        await alpha.publisher.publish("ncii", indicators(1, first=number))
        assert await worker.knows(number) == (True, True)


@pytest.mark.parametrize("kind", ["retract", "erase"])
async def test_a_reader_forgets_what_was_withdrawn(
    alpha: ExchangeNode, worker: Worker, kind: str
) -> None:
    await alpha.publisher.create_list("ncii", {})
    refs = await alpha.publisher.publish("ncii", indicators(3))
    assert await worker.knows(1) == (True, True)
    await alpha.publisher.withdraw(refs[1], kind, Reason.WITHDRAWN)  # type: ignore[arg-type]
    assert await worker.knows(1) == (False, False)
    assert await worker.knows(0) == (True, True)
    assert await worker.knows(2) == (True, True)


async def test_a_reader_applies_the_allow_list(
    alpha: ExchangeNode, worker: Worker
) -> None:
    signal = parse_signal("md5", md5_of(1))
    await worker.view.lists()
    assert not worker.allow_list.names(signal)

    def allow(conn: Connection) -> int:
        added = allowed.insert_allowed(
            conn, signal, max_distance=0, note="a logo", now=1
        )
        return added.allowed_id

    allowed_id = await alpha.database.write(allow)
    await worker.view.lists()
    assert worker.allow_list.names(signal)
    await alpha.database.write(lambda conn: allowed.delete_allowed(conn, allowed_id))
    await worker.view.lists()
    assert not worker.allow_list.names(signal)


async def test_a_reader_that_slept_too_long_says_so(
    alpha: ExchangeNode, worker: Worker
) -> None:
    await alpha.publisher.create_list("ncii", {})
    await alpha.publisher.publish("ncii", indicators(3))
    rows = tables.signal_changes

    def prune(conn: Connection) -> None:
        newest = changes.newest_seq(conn)
        conn.execute(delete(rows).where(rows.c.seq < newest))

    await alpha.database.write(prune)
    with pytest.raises(FeedLostError) as lost:
        await worker.view.lists()
    assert lost.value.seq == 0


async def test_a_reader_notices_that_the_store_is_another_one(
    alpha: ExchangeNode, worker: Worker
) -> None:
    await alpha.publisher.create_list("ncii", {})
    await alpha.publisher.publish("ncii", indicators(3))
    assert await worker.knows(1) == (True, True)
    rows = tables.signal_changes

    def replace(conn: Connection) -> None:
        # As after a restore: the newest number was used for something else since.
        newest = changes.newest_seq(conn)
        conn.execute(update(rows).where(rows.c.seq == newest).values(changed_at=1))

    await alpha.database.write(replace)
    await alpha.publisher.publish("ncii", indicators(1, first=3))
    with pytest.raises(FeedLostError):
        await worker.view.lists()
    with pytest.raises(FeedLostError):
        await alpha.database.read(worker.feed.hand_over)


async def test_what_only_its_id_is_known_of_is_forgotten() -> None:
    matcher = Matcher(pdq_threshold=31)
    matcher.load(
        [
            *((at, "pdq", pdq_of(at)) for at in range(1, 6000)),
            *((at, "md5", md5_of(at)) for at in range(6000, 6010)),
        ]
    )
    matcher.forget([])
    matcher.forget([17, 5999, 6003, 6003, 99_999])
    for name, value, number in (
        ("pdq", pdq_of, 17),
        ("pdq", pdq_of, 5999),
        ("md5", md5_of, 6003),
    ):
        (found,) = matcher.candidates(
            [parse_signal(name, value(number))], max_distance=None
        )
        assert not found
    for name, value, number in (("pdq", pdq_of, 18), ("md5", md5_of, 6004)):
        (found,) = matcher.candidates(
            [parse_signal(name, value(number))], max_distance=None
        )
        assert [it.signal_id for it in found] == [number]
    matcher.close()


async def test_how_long_the_store_was_not_heard_is_part_of_the_age_and_bounded(
    alpha: ExchangeNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    silent = [0.0]
    monkeypatch.setattr(Database, "silent_seconds", lambda _: silent[0])
    await alpha.publisher.create_list("ncii", {})
    view = LiveView(alpha.database, clock=alpha.clock)
    for seconds, expected in ((0.0, 0), (0.9, 0), (3.2, 3), (MOST_SILENT_SECONDS, 5)):
        silent[0] = seconds
        (state,) = await view.lists()
        assert state.age_seconds == expected
        assert view.known_lists() == (state,)
    silent[0] = MOST_SILENT_SECONDS + 0.1
    assert view.known_lists() is None
    with pytest.raises(StoreSilentError):
        await view.lists()
    silent[0] = 0.0
    (state,) = await view.lists()
    assert state.age_seconds == 0


async def test_memory_that_is_handed_over_is_followed_by_nobody_else(
    alpha: ExchangeNode,
) -> None:
    await alpha.publisher.create_list("ncii", {})
    matcher = Matcher(pdq_threshold=31)
    feed = CatchUp(matcher, FeedMark(), AllowList())
    await alpha.publisher.publish("ncii", indicators(2))
    mark = await alpha.database.read(feed.hand_over)
    assert mark == await alpha.database.read(changes.newest_mark)
    known = matcher.sizes()
    assert sum(known.values()) > 0
    await alpha.publisher.publish("ncii", indicators(1, first=2))
    await alpha.database.read(feed.follow)
    assert matcher.sizes() == known

"""The bridge from async code to transactions, and who may open the file."""

from __future__ import annotations

import asyncio
import sqlite3
import sys
import threading
import time
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import Connection, func, insert, select, text, update
from sqlalchemy.exc import DBAPIError

from hashlight_node.store import sqlite, tables
from hashlight_node.store.backends import backend_of
from hashlight_node.store.database import Database, Reader, on_commit
from hashlight_node.store.errors import (
    DatabaseInUseError,
    SchemaError,
    ScrubError,
    UnsupportedDatabaseError,
)
from support.nodes import until
from support.processes import python_path
from support.stores import IS_POSTGRESQL, writing

if TYPE_CHECKING:
    from pathlib import Path

_tokens = tables.tokens


def _insert(conn: Connection, number: int = 0) -> int:
    conn.execute(
        insert(_tokens).values(
            label=str(number), scopes="", token_hash=b"%d" % number, created_at=0
        )
    )
    return number


def _count(conn: Connection) -> int:
    return conn.execute(select(func.count()).select_from(_tokens)).scalar_one()


@pytest.mark.sqlite
async def _settled_version(reader: Reader) -> int:
    """Wait until a watch that begins, or hears of a commit twice, is up to date."""
    seen = reader.version()
    while True:
        await asyncio.sleep(0.6 if IS_POSTGRESQL else 0)
        if reader.version() == seen:
            return seen
        seen = reader.version()


def test_a_missing_database_is_not_created(path: Path) -> None:
    with pytest.raises(SchemaError, match="run `hashlight migrate`") as caught:
        Database.open(f"sqlite:///{path}")
    assert caught.value.found is None
    assert not path.exists()


def test_an_empty_database_is_refused(fresh_url: str) -> None:
    backend_of(fresh_url).create()
    with pytest.raises(SchemaError, match="is empty or missing"):
        Database.open(fresh_url)


def test_a_database_of_another_release_is_refused_and_let_go(url: str) -> None:
    with writing(url) as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    for _ in range(2):
        with pytest.raises(SchemaError, match="is at schema 9999"):
            Database.open(url)


@pytest.mark.parametrize(
    "url",
    [
        "mysql://u:secret@localhost/x",
        "postgresql://u:secret@localhost",
        "sqlite://",
        "sqlite:///:memory:",
        "nonsense",
    ],
)
def test_other_databases_cannot_be_opened(url: str) -> None:
    with pytest.raises(UnsupportedDatabaseError) as caught:
        Database.open(url)
    assert "secret" not in str(caught.value)


async def test_a_second_opening_is_refused_until_the_first_is_closed(url: str) -> None:
    database = Database.open(url)
    with pytest.raises(DatabaseInUseError, match="in use by another process"):
        Database.open(url)
    await database.close()
    await Database.open(url).close()


@pytest.mark.sqlite
async def test_another_process_is_refused_by_whatever_name_it_uses(
    database: Database, path: Path
) -> None:
    link = path.with_name("link.db")
    link.symlink_to(path)
    code = (
        "import sys; from hashlight_node.store.database import Database\n"
        "from hashlight_node.store.errors import DatabaseInUseError\n"
        "try: Database.open(sys.argv[1])\n"
        "except DatabaseInUseError: sys.exit(42)"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, f"sqlite:///{link}", env=python_path()
    )
    assert await process.wait() == 42
    await database.read(_count)


async def test_a_write_that_raises_leaves_nothing(database: Database) -> None:
    def write(conn: Connection) -> None:
        _insert(conn)
        raise KeyError

    with pytest.raises(KeyError):
        await database.write(write)
    assert await database.read(_count) == 0


async def test_a_write_survives_closing(url: str) -> None:
    database = Database.open(url)
    await database.write(_insert)
    await database.close()
    database = Database.open(url)
    assert await database.read(_count) == 1
    await database.close()


async def test_writes_follow_each_other_and_each_is_announced_after_its_commit(
    database: Database,
) -> None:
    announced: list[int] = []

    async def one(number: int) -> None:
        await database.write(
            lambda conn: _insert(conn, number), after_commit=announced.append
        )

    await asyncio.gather(*map(one, range(50)))
    assert announced == list(range(50))
    assert await database.read(_count) == 50


async def test_what_follows_a_commit_runs_before_the_next_write(
    database: Database,
) -> None:
    seen: list[tuple[int, str]] = []

    def note(number: int) -> None:
        seen.append((number, threading.current_thread().name))

    def check(conn: Connection, number: int) -> int:
        assert len(seen) == number
        return _insert(conn, number)

    async def one(number: int) -> None:
        await database.write(lambda conn: check(conn, number), after_commit=note)

    await asyncio.gather(*map(one, range(20)))
    assert len({thread for _, thread in seen}) == 1


async def test_a_write_that_fails_announces_nothing(database: Database) -> None:
    announced: list[object] = []

    def write(_: Connection) -> None:
        raise KeyError

    with pytest.raises(KeyError):
        await database.write(write, after_commit=announced.append)
    assert announced == []


async def test_concurrent_counting_loses_nothing(database: Database) -> None:
    await database.write(_insert)

    def count_up(conn: Connection) -> None:
        now = conn.execute(select(_tokens.c.created_at)).scalar_one()
        conn.execute(update(_tokens).values(created_at=now + 1))

    await asyncio.gather(*(database.write(count_up) for _ in range(300)))
    query = select(_tokens.c.created_at)
    assert await database.read(lambda conn: conn.execute(query).scalar_one()) == 300


async def test_a_read_sees_one_moment(database: Database) -> None:
    begun, written = threading.Event(), threading.Event()

    def read(conn: Connection) -> tuple[int, int]:
        first = _count(conn)
        begun.set()
        assert written.wait(10)
        return first, _count(conn)

    reading = asyncio.ensure_future(database.read(read))
    await asyncio.to_thread(begun.wait)
    await database.write(_insert)
    written.set()
    assert await reading == (0, 0)
    assert await database.read(_count) == 1


async def test_readers_cannot_write(database: Database) -> None:
    with pytest.raises(DBAPIError, match=r"read-?only"):
        await database.read(_insert)


async def test_readers_do_not_wait_for_each_other(database: Database) -> None:
    barrier = threading.Barrier(4)
    await asyncio.gather(*(database.read(lambda _: barrier.wait(10)) for _ in range(4)))


async def test_a_cancelled_write_that_has_begun_is_done(database: Database) -> None:
    begun, go = threading.Event(), threading.Event()

    def write(conn: Connection) -> int:
        begun.set()
        assert go.wait(10)
        return _insert(conn)

    writing = asyncio.ensure_future(database.write(write))
    await asyncio.to_thread(begun.wait)
    writing.cancel()
    go.set()
    with pytest.raises(asyncio.CancelledError):
        await writing
    assert await database.write(_count) == 1


@pytest.mark.sqlite
async def test_commits_wait_for_the_disk_and_deleted_rows_are_overwritten(
    database: Database,
) -> None:
    def settings(conn: Connection) -> list[int]:
        names = ("synchronous", "secure_delete", "foreign_keys", "auto_vacuum")
        return [conn.execute(text(f"PRAGMA {it}")).scalar_one() for it in names]

    assert await database.write(settings) == [2, 1, 1, 0]
    assert (await database.read(settings))[1:3] == [1, 1]


@pytest.mark.sqlite
async def test_scrubbing_empties_the_write_ahead_log(
    database: Database, path: Path
) -> None:
    await database.write(_insert)
    wal = path.with_name(f"{path.name}-wal")
    assert wal.stat().st_size > 0
    await database.scrub()
    assert wal.stat().st_size == 0


@pytest.mark.sqlite
async def test_scrubbing_says_if_a_reader_is_in_the_way(database: Database) -> None:
    await database.write(_insert)
    begun, go = threading.Event(), threading.Event()

    def read(conn: Connection) -> int:
        count = _count(conn)
        begun.set()
        assert go.wait(10)
        return count

    reading = asyncio.ensure_future(database.read(read))
    await asyncio.to_thread(begun.wait)
    await database.write(lambda conn: _insert(conn, 1))
    await database.write(lambda conn: conn.execute(text("PRAGMA busy_timeout = 50")))
    with pytest.raises(ScrubError, match="an old state is being read"):
        await database.scrub()
    go.set()
    assert await reading == 1
    await database.scrub()


# --------------------------------------------------------------------- its version


async def test_the_version_changes_with_every_commit_and_only_then(
    database: Database,
) -> None:
    before = database.version()
    await database.read(_count)
    assert database.version() == before
    await database.write(_insert)
    assert database.version() != before
    again = database.version()
    with pytest.raises(ZeroDivisionError):
        await database.write(lambda _: 1 // 0)
    assert database.version() == again


async def test_a_commit_that_is_not_announced_yet_is_not_counted(
    database: Database,
) -> None:
    seen: list[int] = []
    before = database.version()
    await database.write(
        _insert, after_commit=lambda _: seen.append(database.version())
    )
    assert seen == [before]
    assert database.version() != before


async def test_settled_reads_never_see_half_announced_commits(
    database: Database,
) -> None:
    announced: list[int] = [0]
    wrong: list[tuple[int, int]] = []

    def note(_: object) -> None:
        time.sleep(0.002)
        announced[0] += 1

    async def look() -> None:
        for _ in range(40):
            low = announced[0]
            count = await database.read_settled(_count)
            if not low <= count <= announced[0]:
                wrong.append((count, announced[0]))

    async def write() -> None:
        for number in range(20):
            await database.write(partial(_insert, number=number), after_commit=note)

    await asyncio.gather(look(), look(), write())
    assert wrong == []


async def test_what_comes_after_the_announcement_holds_up_no_reader(
    database: Database,
) -> None:
    before = database.version()
    begun, go = threading.Event(), threading.Event()

    def tidy(_: object) -> None:
        begun.set()
        assert go.wait(10)

    writing = asyncio.ensure_future(database.write(_insert, then=tidy))
    await asyncio.to_thread(begun.wait)
    assert database.version() != before
    settled = [database.read_settled(_count) for _ in range(6)]
    assert await asyncio.wait_for(asyncio.gather(*settled), 5) == [1] * 6
    # But whoever wrote is told later, and the next write waits.
    following = asyncio.ensure_future(database.write(_count))
    await asyncio.wait((writing, following), timeout=0.05)
    assert not writing.done()
    assert not following.done()
    go.set()
    await asyncio.gather(writing, following)


async def test_nothing_comes_after_a_write_that_failed(database: Database) -> None:
    told: list[object] = []
    with pytest.raises(ZeroDivisionError):
        await database.write(lambda _: 1 // 0, then=told.append)
    assert told == []


async def test_reads_that_wait_for_an_announcement_take_no_thread_from_others(
    database: Database,
) -> None:
    begun, go = threading.Event(), threading.Event()

    def hold(_: object) -> None:
        begun.set()
        assert go.wait(10)

    writing = asyncio.ensure_future(database.write(_insert, after_commit=hold))
    await asyncio.to_thread(begun.wait)
    waiting = [asyncio.ensure_future(database.read_settled(_count)) for _ in range(9)]
    assert await asyncio.wait_for(database.read(_count), 5) == 1
    assert not any(it.done() for it in waiting)
    waiting.pop().cancel()
    go.set()
    assert await asyncio.gather(*waiting) == [1] * 8
    await writing


def test_who_waited_on_a_loop_that_is_closed_is_passed_over(url: str) -> None:
    database = Database.open(url)
    begun, go = threading.Event(), threading.Event()

    def hold(_: object) -> None:
        begun.set()
        assert go.wait(10)

    async def wait_and_leave() -> None:
        writing = asyncio.ensure_future(database.write(_insert, after_commit=hold))
        await asyncio.to_thread(begun.wait)
        waiting = asyncio.ensure_future(database.read_settled(_count))
        await asyncio.wait((waiting,), timeout=0.01)
        writing.cancel()

    asyncio.run(wait_and_leave())
    go.set()

    async def go_on() -> None:
        assert await database.read_settled(_count) == 1
        await database.close()

    asyncio.run(go_on())


async def test_a_reader_sees_what_another_process_commits(
    database: Database, url: str
) -> None:
    reader = Reader.open_reader(url)
    assert await reader.read(_count) == 0
    versions = [await _settled_version(reader)]
    for number in range(3):
        await database.write(partial(_insert, number=number))
        await until(lambda: reader.version() != versions[-1], seconds=1)
        versions.append(await _settled_version(reader))
        assert await reader.read_settled(_count) == number + 1
    assert len(set(versions)) == 4
    with pytest.raises(DBAPIError):
        await reader.read(_insert)
    await reader.close()
    await reader.close()


@pytest.mark.sqlite
def test_a_watch_that_cannot_tell_takes_it_for_news(tmp_path: Path) -> None:
    path = tmp_path / "locked.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("CREATE TABLE t (x)")
        watch = sqlite.CommitWatch(path)
        versions = [watch.version()]
        assert watch.version() == versions[0]
        other.execute("BEGIN EXCLUSIVE")
        versions += [watch.version(), watch.version()]
        other.execute("COMMIT")
        versions.append(watch.version())
        assert versions[0] < versions[1] < versions[2] <= versions[3]
        assert watch.version() == versions[3]
        watch.close()
        watch.close()


@pytest.mark.sqlite
def test_a_reader_makes_no_database(path: Path) -> None:
    url = f"sqlite:///{path}"
    with pytest.raises(SchemaError):
        Reader.open_reader(url)
    sqlite.create_file(path)
    with pytest.raises(SchemaError):
        Reader.open_reader(url)


async def test_what_hangs_on_a_commit_is_done_after_it_and_before_it_is_announced(
    database: Database,
) -> None:
    seen: list[int] = []

    def write(conn: Connection) -> None:
        on_commit(conn, lambda: seen.append(database.version()))
        assert seen == []

    before = database.version()
    await database.write(write)
    assert seen == [before]
    assert database.version() == before + 1
    await database.write(lambda _: None)
    assert seen == [before]


async def test_what_hangs_on_a_commit_is_not_done_if_it_fails(
    database: Database,
) -> None:
    seen: list[str] = []

    def write(conn: Connection) -> None:
        on_commit(conn, lambda: seen.append("done"))
        message = "no room"
        raise ValueError(message)

    with pytest.raises(ValueError, match="no room"):
        await database.write(write)
    await database.write(lambda _: None)
    assert seen == []

"""PostgreSQL itself: who may write, what a lost server leaves, who hears of commits."""

from __future__ import annotations

import asyncio
import threading
import time
from functools import partial
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import create_engine, func, insert, select, text
from sqlalchemy.exc import DBAPIError

from hashlight_node.store import tables
from hashlight_node.store.backends import backend_of, file_beside
from hashlight_node.store.database import Database, Reader
from hashlight_node.store.errors import (
    DatabaseInUseError,
    DatabaseUnavailableError,
    ScrubError,
    UnsupportedDatabaseError,
)
from hashlight_node.store.migrate import migrate
from hashlight_protocol import Erase, Reason
from support.made_records import indicators
from support.nodes import until
from support.stored_log import StoredLog, present
from support.stores import empty_postgresql, make_postgresql, server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from sqlalchemy import Connection

_tokens = tables.tokens

pytestmark = pytest.mark.postgresql


@pytest.fixture
def url(tmp_path: Path) -> str:
    return make_postgresql(tmp_path)


@pytest.fixture
async def database(url: str) -> AsyncIterator[Database]:
    database = Database.open(url)
    yield database
    await database.close()


def put(conn: Connection, number: int) -> None:
    conn.execute(
        insert(_tokens).values(
            label=str(number), scopes="", token_hash=b"%d" % number, created_at=0
        )
    )


def count(conn: Connection) -> int:
    return conn.execute(select(func.count()).select_from(_tokens)).scalar_one()


def sessions(conn: Connection) -> int:
    return int(conn.execute(text("SELECT pg_backend_pid()")).scalar_one())


def end(*pids: int) -> None:
    """End sessions as an operator, a fail-over or a killed server does."""
    with server().connect() as connection:
        for pid in pids:
            connection.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": pid})


def name_of_database(url: str) -> str:
    return url.split("?", maxsplit=1)[0].rsplit("/", 1)[1]


# ------------------------------------------------------------------ which one it is


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ("ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0", "is not UTF8"),
        (
            "ENCODING 'UTF8' LOCALE_PROVIDER icu ICU_LOCALE 'en' TEMPLATE template0",
            "sort by bytes",
        ),
    ],
)
def test_a_database_that_sorts_or_writes_otherwise_is_refused(
    options: str, reason: str
) -> None:
    try:
        url = empty_postgresql("hl_other", options)
    except DBAPIError as error:  # pragma: no cover -- a server built without ICU
        pytest.skip(f"this server cannot make it: {error.orig}")
    with pytest.raises(UnsupportedDatabaseError, match=reason):
        migrate(url)


def test_a_server_that_is_not_there_is_named_without_its_password() -> None:
    url = "postgresql://operator:secret@127.0.0.1:1/hashlight"
    for act in (migrate, Database.open, Reader.open_reader):
        with pytest.raises(DatabaseUnavailableError) as caught:
            act(url)
        assert "127.0.0.1" in str(caught.value)
        assert "secret" not in str(caught.value)


def test_a_database_that_is_missing_is_not_created() -> None:
    url = empty_postgresql("hl_missing").replace("hl_missing", "hl_never")
    with pytest.raises(DatabaseUnavailableError, match="does not exist"):
        migrate(url)


def test_files_of_ours_are_where_the_settings_say(tmp_path: Path) -> None:
    there = file_beside("postgresql://h/x", tmp_path, "index")
    assert there == tmp_path / "hashlight.index"
    here = file_beside(f"sqlite:///{tmp_path}/a.db", tmp_path / "b", "index")
    assert here == tmp_path.resolve() / "a.db.index"


async def test_commits_wait_for_the_disk_also_where_the_server_would_not(
    url: str,
) -> None:
    with server().connect() as connection:
        name = name_of_database(url)
        connection.execute(text(f"ALTER DATABASE {name} SET synchronous_commit = off"))
    database = Database.open(url)
    shown = await database.write(
        lambda conn: conn.execute(text("SHOW synchronous_commit")).scalar()
    )
    assert shown == "on"
    await database.close()


# ------------------------------------------------------------------ who may write


async def test_a_session_that_ended_is_begun_anew_and_nothing_is_lost(
    database: Database,
) -> None:
    await database.write(lambda conn: put(conn, 1))
    pids = [await database.write(sessions), await database.read(sessions)]
    end(*pids)
    await database.write(lambda conn: put(conn, 2))
    assert await database.read(count) == 2


def test_who_closes_has_given_the_right_to_write_back(url: str) -> None:
    for number in range(300):
        writer = backend_of(url).open_writer()
        with writer.transaction() as connection:
            put(connection, number)
        writer.close()


async def test_who_lost_the_right_to_write_to_somebody_else_does_not_write(
    url: str,
) -> None:
    first = Database.open(url)
    pid = await first.write(sessions)
    taken = threading.Event()

    def take() -> Database:
        while not taken.is_set():
            try:
                return Database.open(url)
            except DatabaseInUseError:
                time.sleep(0.005)
        raise AssertionError

    taking = asyncio.create_task(asyncio.to_thread(take))
    await asyncio.sleep(0.05)
    end(pid)
    second = await taking
    with pytest.raises(DatabaseInUseError):
        await first.write(lambda conn: put(conn, 1))
    await second.write(lambda conn: put(conn, 2))
    await second.close()
    # What the first one knows may be old: it has to be started anew.
    with pytest.raises(DatabaseInUseError):
        await first.write(lambda conn: put(conn, 3))
    assert await first.read(count) == 1
    await first.close()


async def test_who_has_nothing_to_write_keeps_the_right_and_its_session(
    database: Database,
) -> None:
    pid = await database.write(sessions)
    limit = await database.write(
        lambda conn: conn.execute(
            text("SELECT setting::int FROM pg_settings WHERE name = :it"),
            {"it": "idle_session_timeout"},
        ).scalar_one()
    )
    assert 0 < limit <= 10_000
    await asyncio.sleep(limit / 1000 + 1)
    assert await database.write(sessions) == pid


async def test_a_write_whose_session_ends_before_its_commit_is_not_done(
    database: Database,
) -> None:
    told: list[object] = []

    def write(conn: Connection) -> None:
        put(conn, 1)
        end(sessions(conn))

    with pytest.raises(DBAPIError):
        await database.write(write, after_commit=told.append)
    assert told == []
    assert await database.read(count) == 0
    await database.write(lambda conn: put(conn, 2))
    assert await database.read(count) == 1


@pytest.mark.parametrize("is_committed", [True, False])
async def test_what_became_of_a_commit_whose_answer_was_lost_is_found_out(
    database: Database, monkeypatch: pytest.MonkeyPatch, *, is_committed: bool
) -> None:
    """The server commits, or not, and the line breaks before it can say so."""
    told: list[object] = []
    engine = database._writer._engine  # type: ignore[attr-defined] # noqa: SLF001
    honest = engine.dialect.do_commit

    def break_line(connection: object) -> None:
        monkeypatch.setattr(engine.dialect, "do_commit", honest)
        driver = connection.driver_connection  # type: ignore[attr-defined]
        if is_committed:
            driver.execute("COMMIT")
        end(driver.info.backend_pid)
        honest(connection)

    def write(conn: Connection) -> str:
        put(conn, 1)
        monkeypatch.setattr(engine.dialect, "do_commit", break_line)
        return "written"

    before = database.version()
    if is_committed:
        assert await database.write(write, after_commit=told.append) == "written"
        assert told == ["written"]
    else:
        with pytest.raises(DBAPIError):
            await database.write(write, after_commit=told.append)
        assert told == []
    assert database.version() == before + 1
    assert await database.read(count) == int(is_committed)
    await database.write(lambda conn: put(conn, 2))


# ------------------------------------------------------------------ erasing


async def dead_rows(database: Database) -> int:
    """Count old versions of rows with content that are still in their pages."""
    query = text(
        "SELECT pg_stat_clear_snapshot(), coalesce(sum(n_dead_tup), 0)::bigint"
        " FROM pg_stat_user_tables WHERE relname IN ('contents', 'signal_values')"
    )
    flush = text("SELECT pg_stat_force_next_flush()")
    await database.write(lambda conn: conn.execute(flush).all())
    return await database.read(lambda conn: int(conn.execute(query).one()[1]))


async def test_scrubbing_removes_the_old_versions_of_what_was_erased(
    database: Database,
) -> None:
    log = await database.write(StoredLog)
    bodies = [present(body) for body in indicators(50)]
    await database.write(lambda conn: log.append(conn, *bodies))
    await database.write(lambda conn: log.append(conn, Erase(1, 50, Reason.WITHDRAWN)))
    assert await dead_rows(database) >= 50
    await database.scrub()
    assert await dead_rows(database) == 0


async def test_scrubbing_says_if_a_reader_of_what_was_erased_is_in_the_way(
    database: Database,
) -> None:
    log = await database.write(StoredLog)
    await database.write(lambda conn: log.append(conn, present(indicators(1)[0])))
    begun, go = threading.Event(), threading.Event()

    def read(conn: Connection) -> int:
        found = count(conn)
        begun.set()
        assert go.wait(10)
        return found

    reading = asyncio.ensure_future(database.read(read))
    await asyncio.to_thread(begun.wait)
    await database.write(lambda conn: log.append(conn, Erase(1, 1, Reason.WITHDRAWN)))
    assert await dead_rows(database) >= 1
    with pytest.raises(ScrubError, match="an old state is being read"):
        await database.scrub()
    go.set()
    await reading
    await database.scrub()
    assert await dead_rows(database) == 0


# ------------------------------------------------------------------ who hears of it


async def test_a_reader_hears_of_a_commit_within_milliseconds(
    database: Database, url: str
) -> None:
    reader = Reader.open_reader(url)
    reader.version()
    await asyncio.sleep(0.6)
    delays: list[float] = []
    for number in range(20):
        seen = reader.version()
        await database.write(partial(put, number=number))
        began = time.monotonic()
        while reader.version() == seen:  # noqa: ASYNC110 -- timed
            await asyncio.sleep(0.001)
        delays.append(time.monotonic() - began)
        assert await reader.read(count) == number + 1
        await asyncio.sleep(0.05)
    await reader.close()
    # Told, that is, and not found out by asking.
    assert sorted(delays)[10] < 0.2


async def test_a_commit_that_nobody_told_of_is_seen_all_the_same(url: str) -> None:
    reader = Reader.open_reader(url)
    reader.version()
    await asyncio.sleep(0.6)
    seen = reader.version()
    engine = create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
    with engine.begin() as connection:
        put(connection, 1)
    engine.dispose()
    await until(lambda: reader.version() != seen, seconds=2)
    await reader.close()


async def test_a_commit_that_nobody_told_of_is_seen_behind_one_that_began_later(
    url: str,
) -> None:
    reader = Reader.open_reader(url)
    reader.version()
    engine = create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
    with engine.connect() as slow, engine.connect() as quick:
        put(slow, 1)
        put(quick, 2)
        quick.commit()
        committed_at = time.monotonic()
        await until(lambda: reader.silent_seconds() < time.monotonic() - committed_at)
        seen = reader.version()
        slow.commit()
        await until(lambda: reader.version() != seen, seconds=2)
    engine.dispose()
    await reader.close()


async def test_a_watch_whose_server_is_away_gives_another_number_each_time(
    url: str,
) -> None:
    reader = Reader.open_reader(url)
    assert reader.version() != reader.version()
    await asyncio.sleep(0.6)
    assert reader.version() == reader.version()
    with server().connect() as connection:
        query = text(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = :name AND query LIKE 'SELECT pg_current_snapshot%'"
        )
        connection.execute(query, {"name": name_of_database(url)})
    versions: set[int] = set()
    async with asyncio.timeout(5):
        while len(versions) < 3:
            versions.add(reader.version())
            await asyncio.sleep(0.01)
    # It begins to listen again, and is quiet then.
    await asyncio.sleep(1)
    assert reader.version() == reader.version()
    await reader.close()


async def test_a_database_can_be_asked_for_as_the_server_allows(url: str) -> None:
    backend = backend_of(url)
    assert backend.exists()
    assert "postgresql" in backend.shown

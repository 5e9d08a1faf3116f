"""Who leads is named by the session that has the right to write, and nowhere else."""

from __future__ import annotations

import asyncio
import math
import os
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url
from sqlalchemy.pool import NullPool

from hashlight_node.store.backends import backend_of
from hashlight_node.store.database import Database, Reader
from hashlight_node.store.leading import Leader, Place, find_leader, named
from hashlight_node.store.postgresql import CLAIM
from support.nodes import until
from support.stores import make_postgresql, make_store, server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

HERE = Place("10.1.2.3", 8441, 8440)
THERE = Place("fd00::2", 65535, 65534)


@pytest.fixture
def url(tmp_path: Path) -> str:
    return make_postgresql(tmp_path)


@pytest.fixture
async def reader(url: str) -> AsyncIterator[Reader]:
    opened = Reader.open_reader(url)
    yield opened
    await opened.close()


def end_claims(place: Place) -> None:
    with server().connect() as connection:
        connection.execute(
            text(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE application_name = :name"
            ),
            {"name": f"hashlight {place.host} {place.local} {place.federation}"},
        )


async def test_whoever_has_the_right_is_found_and_forgotten_with_it(
    url: str, reader: Reader
) -> None:
    assert await reader.read(find_leader) is None
    for place in (HERE, THERE):
        database = Database.open(named(url, place), shared=True)
        assert await reader.read(find_leader) == Leader(place)
        await database.close()
        await until(lambda: _nobody(reader))


async def _nobody(reader: Reader) -> bool:
    return await reader.read(find_leader) is None


async def test_a_command_that_has_the_right_is_no_place_to_go(
    url: str, reader: Reader
) -> None:
    database = Database.open(url)
    assert await reader.read(find_leader) == Leader(None)
    await database.close()


async def test_the_leader_of_another_database_is_not_ours(
    url: str, reader: Reader, tmp_path: Path
) -> None:
    other = make_postgresql(tmp_path / "other")
    database = Database.open(named(other, HERE), shared=True)
    assert await reader.read(find_leader) is None
    await database.close()
    del url


async def test_who_shares_hears_that_another_has_the_right_and_is_as_old_as_can_be(
    url: str,
) -> None:
    database = Database.open(named(url, HERE), shared=True)
    await until(lambda: database.silent_seconds() < 1)
    assert not database.has_lost_right()
    end_claims(HERE)
    other = Database.open(named(url, THERE), shared=True)
    await until(database.has_lost_right)
    assert database.silent_seconds() == math.inf
    assert not other.has_lost_right()
    await other.close()
    await database.close()


async def test_nobody_is_sent_to_the_session_of_another_user(
    url: str, reader: Reader
) -> None:
    role = f"hashlight_stranger_{os.getpid()}"
    with server().connect() as connection:
        connection.execute(text(f"CREATE ROLE {role} LOGIN"))
    address = make_url(named(url, HERE)).set(
        drivername="postgresql+psycopg", username=role
    )
    engine = create_engine(address, poolclass=NullPool)
    try:
        with engine.connect() as connection:
            query = text("SELECT pg_try_advisory_lock(:claim)")
            assert connection.execute(query, {"claim": CLAIM}).scalar()
            assert await reader.read(find_leader) == Leader(None)
    finally:
        with server().connect() as connection:
            connection.execute(text(f"DROP ROLE {role}"))


async def test_who_shares_hears_of_another_although_nobody_asks_how_old_it_is(
    url: str,
) -> None:
    first = Database.open(named(url, HERE), shared=True)
    end_claims(HERE)
    second = Database.open(named(url, THERE), shared=True)
    await until(first.has_lost_right)
    await first.close()
    await second.close()


async def test_who_was_not_asked_for_long_is_not_old(url: str) -> None:
    watch = backend_of(url).watch()
    # Filling memory with ten million signals takes longer than anything may be old.
    watch._heard_at -= 60  # type: ignore[attr-defined]  # noqa: SLF001
    assert watch.silent_seconds() < 1
    watch.close()


async def test_who_shares_with_nobody_is_never_old(url: str) -> None:
    database = Database.open(url)
    await asyncio.sleep(0.1)
    assert database.silent_seconds() == 0
    assert not database.has_lost_right()
    await database.close()


@pytest.mark.sqlite
async def test_a_file_is_heard_whenever_it_is_asked(tmp_path: Path) -> None:
    store_url = make_store(tmp_path)
    database = Database.open(store_url, shared=True)
    reader = Reader.open_reader(store_url)
    assert (database.silent_seconds(), reader.silent_seconds()) == (0, 0)
    assert not database.has_lost_right()
    await reader.close()
    await database.close()

"""A migrated database for each test."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from hashlight_node.store.database import Database
from support.stores import IS_POSTGRESQL, empty_postgresql, make_store, name_of, writing

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from sqlalchemy import Connection


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "hashlight.db"


@pytest.fixture
def url(path: Path) -> str:
    return make_store(path.parent)


@pytest.fixture
def fresh_url(tmp_path: Path) -> str:
    """Name a database that nothing was done to: no file yet, or one without tables."""
    if IS_POSTGRESQL:
        return empty_postgresql(name_of(tmp_path / "fresh"))
    return f"sqlite:///{tmp_path / 'fresh.db'}"


@pytest.fixture
async def database(url: str) -> AsyncIterator[Database]:
    database = Database.open(url)
    yield database
    await database.close()


@pytest.fixture
def conn(url: str) -> Iterator[Connection]:
    """One write transaction that the whole test runs in, and that is then dropped."""
    with suppress(_DroppedError), writing(url) as connection:
        yield connection
        raise _DroppedError


class _DroppedError(Exception):
    """The test is over."""

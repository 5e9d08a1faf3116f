"""A migrated SQLite file for each test."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from hashlight_node.store import sqlite
from hashlight_node.store.database import Database
from hashlight_node.store.migrate import migrate

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from sqlalchemy import Connection


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "hashlight.db"


@pytest.fixture
def url(path: Path) -> str:
    url = f"sqlite:///{path}"
    migrate(url)
    return url


@pytest.fixture
async def database(url: str) -> AsyncIterator[Database]:
    database = Database.open(url)
    yield database
    await database.close()


@pytest.fixture
def conn(url: str) -> Iterator[Connection]:
    """One write transaction that the whole test runs in."""
    engine = sqlite.writer_engine(sqlite.database_path(url))
    with engine.begin() as connection:
        yield connection
    engine.dispose()

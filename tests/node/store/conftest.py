"""A migrated database for each test."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from hashlight_node.store.backends import backend_of
from hashlight_node.store.database import Database
from support.stores import make_store

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
async def database(url: str) -> AsyncIterator[Database]:
    database = Database.open(url)
    yield database
    await database.close()


@pytest.fixture
def conn(url: str) -> Iterator[Connection]:
    """One write transaction that the whole test runs in, and that is then dropped."""
    writer = backend_of(url).open_writer()
    with suppress(_DroppedError), writer.transaction() as connection:
        yield connection
        raise _DroppedError
    writer.close()


class _DroppedError(Exception):
    """The test is over."""

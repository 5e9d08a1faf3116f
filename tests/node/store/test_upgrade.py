"""A store of the first release: upgraded, taken back, and killed on the way."""

from __future__ import annotations

import base64
import json
import signal
import subprocess
import sys
from importlib.resources import as_file, files
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from alembic import command
from sqlalchemy import Connection, MetaData, insert, inspect, select, text

from hashlight_node.store import logs, records, signals
from hashlight_node.store.backends import backend_of
from hashlight_node.store.migrate import configure, migrate
from hashlight_node.store.tables import SCHEMA_REVISION
from hashlight_protocol import (
    TILE_WIDTH,
    Ref,
    frontier_from_tiles,
    leaf_hashes,
    parse_entry_bundle,
    root_of,
)
from support.processes import python_path
from support.stores import writing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hashlight_node.model import Log

FIRST = "0001"
DATA: dict[str, Any] = json.loads(
    (Path(__file__).parents[2] / "data" / "store-0001.json").read_text("utf-8")
)

# Migrates, and kills itself before the statement of that number.
KILLED = """
import os, signal, sys
from sqlalchemy import Engine, event
from hashlight_node.store.migrate import migrate

left = int(sys.argv[2])

@event.listens_for(Engine, "before_cursor_execute")
def count(*_):
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)

migrate(sys.argv[1])
"""


class Head(NamedTuple):
    """Which tree a log has, by its row, by its entries and by its tiles."""

    origin: str
    tree_size: int
    root_hash: bytes
    of_entries: bytes
    of_tiles: bytes


@pytest.fixture
def scripts() -> Iterator[Path]:
    with as_file(files("hashlight_migrations")) as path:
        yield path


@pytest.fixture
def first(fresh_url: str, scripts: Path) -> str:
    """Give the store of a node as the first release left it."""
    backend_of(fresh_url).create()
    with writing(fresh_url) as conn:
        command.upgrade(configure(conn, scripts), FIRST)
        schema = MetaData()
        schema.reflect(conn)
        for name, content in DATA.items():
            if name == "alembic_version":
                continue
            rows = [
                dict(zip(content["columns"], map(decoded, row), strict=True))
                for row in content["rows"]
            ]
            if rows:
                conn.execute(insert(schema.tables[name]), rows)
                count_on(conn, name, content["columns"][0])
    return fresh_url


def decoded(value: Any) -> Any:  # noqa: ANN401 -- what a row may hold
    return base64.b64decode(value["base64"]) if isinstance(value, dict) else value


def count_on(conn: Connection, table: str, key: str) -> None:
    """Let PostgreSQL number the next row as a dump of its own does."""
    if conn.dialect.name != "postgresql":
        return
    query = text("SELECT pg_get_serial_sequence(:table, :key)")
    sequence = conn.execute(query, {"table": table, "key": key}).scalar()
    if sequence is not None:
        newest = f"(SELECT max({key}) FROM {table})"  # noqa: S608 -- constants
        conn.execute(text(f"SELECT setval('{sequence}', {newest})"))


def rows_of_the_first(conn: Connection) -> dict[str, set[tuple[object, ...]]]:
    """Read every row, of the columns that the first release had."""
    schema = MetaData()
    schema.reflect(conn)
    return {
        name: {
            tuple(row)
            for row in conn.execute(
                select(*(schema.tables[name].c[it] for it in content["columns"]))
            )
        }
        for name, content in DATA.items()
        if name != "alembic_version"
    }


def heads(conn: Connection) -> list[Head]:
    return [head_of(conn, log) for log in logs.list_logs(conn)]


def head_of(conn: Connection, log: Log) -> Head:
    entries: list[bytes] = []
    for index in range(-(-log.tree_size // TILE_WIDTH)):
        width = min(TILE_WIDTH, log.tree_size - index * TILE_WIDTH)
        raw = logs.read_entry_bundle(conn, log.log_id, index, width)
        assert raw is not None
        entries += parse_entry_bundle(raw, width)
    fetch = logs.tile_fetcher(conn, log.log_id)
    return Head(
        log.origin,
        log.tree_size,
        log.root_hash,
        root_of(leaf_hashes(entries)),
        frontier_from_tiles(fetch, log.tree_size).root,
    )


def roots_of_the_first() -> dict[str, tuple[int, bytes]]:
    content = DATA["logs"]
    rows = [
        dict(zip(content["columns"], map(decoded, row), strict=True))
        for row in content["rows"]
    ]
    return {row["origin"]: (row["tree_size"], row["root_hash"]) for row in rows}


def test_every_root_is_what_it_was_and_what_was_live_is(first: str) -> None:
    assert migrate(first) == SCHEMA_REVISION
    with writing(first) as conn:
        found = heads(conn)
        assert {it.origin: (it.tree_size, it.root_hash) for it in found} == (
            roots_of_the_first()
        )
        assert all(it.root_hash == it.of_entries == it.of_tiles for it in found)
        content = DATA["signals"]
        live = content["columns"].index("live_count")
        count = sum(row[live] > 0 for row in content["rows"])
        assert len(list(signals.live_signals(conn))) == count > 500
        erased = records.read_record(conn, Ref("alpha.example/hsf/v1/log/ours/1", 6))
        assert erased is not None
        assert (erased.state, erased.body) == ("erased", b"")


def test_what_was_upgraded_can_be_taken_back_whole(first: str, scripts: Path) -> None:
    with writing(first) as conn:
        before = rows_of_the_first(conn)
    assert sum(map(len, before.values())) > 2_000
    migrate(first)
    with writing(first) as conn:
        command.downgrade(configure(conn, scripts), FIRST)
    with writing(first) as conn:
        assert rows_of_the_first(conn) == before
    assert migrate(first) == SCHEMA_REVISION


def test_an_upgrade_that_is_killed_anywhere_has_not_begun(first: str) -> None:
    with writing(first) as conn:
        before = rows_of_the_first(conn)
    killed = 0
    for statement in (*range(1, 100, 16), 10_000):
        done = subprocess.run(
            [sys.executable, "-c", KILLED, first, str(statement)],
            env=python_path(),
            check=False,
        )
        if done.returncode == 0:
            break
        assert done.returncode == -signal.SIGKILL
        killed += 1
        with writing(first) as conn:
            assert rows_of_the_first(conn) == before
            query = text("SELECT version_num FROM alembic_version")
            assert conn.execute(query).scalar() == FIRST
    assert killed >= 3
    with writing(first) as conn:
        assert "forks" in inspect(conn).get_table_names()
        assert all(it.root_hash == it.of_entries for it in heads(conn))

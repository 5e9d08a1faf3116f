"""Migrations: from nothing, back to nothing, and never half way."""

from __future__ import annotations

from importlib.resources import as_file, files
from typing import TYPE_CHECKING

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect, text

from hashlight_node.store.backends import backend_of
from hashlight_node.store.database import Database
from hashlight_node.store.errors import DatabaseInUseError, SchemaError
from hashlight_node.store.migrate import configure, migrate
from hashlight_node.store.tables import SCHEMA_REVISION, metadata
from support.made_records import indicator
from support.stored_log import ORIGIN, StoredLog, present
from support.stores import writing

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

UNCHECKED = [
    ("add_fk", "fk_record_signals_record_id"),
    ("add_fk", "fk_record_signals_signal_id"),
    ("add_fk", "fk_records_content_id"),
    ("add_fk", "fk_records_log_id"),
]
"""References that PostgreSQL does not check, by decision."""


@pytest.fixture
def scripts() -> Iterator[Path]:
    with as_file(files("hashlight_migrations")) as path:
        yield path


async def test_migrating_creates_a_database_that_opens(fresh_url: str) -> None:
    assert migrate(fresh_url) == SCHEMA_REVISION
    await Database.open(fresh_url).close()


def test_migrating_twice_changes_nothing(url: str) -> None:
    assert migrate(url) == SCHEMA_REVISION


@pytest.mark.sqlite
async def test_only_the_owner_may_read_the_files(
    database: Database, path: Path
) -> None:
    await database.read(lambda conn: conn.execute(text("SELECT * FROM logs")).all())
    modes = {it.name: it.stat().st_mode & 0o777 for it in path.parent.iterdir()}
    assert set(modes) >= {path.name, f"{path.name}.lock", f"{path.name}-wal"}
    assert set(modes.values()) == {0o600}


@pytest.mark.usefixtures("database")
def test_a_database_in_use_is_not_migrated(url: str) -> None:
    with pytest.raises(DatabaseInUseError):
        migrate(url)


def test_a_database_of_a_newer_release_is_not_touched(url: str) -> None:
    with writing(url) as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(SchemaError, match="is at schema 9999"):
        migrate(url)


def test_the_newest_migration_is_the_one_the_store_expects(scripts: Path) -> None:
    config = Config()
    config.set_main_option("script_location", str(scripts))
    assert ScriptDirectory.from_config(config).get_heads() == [SCHEMA_REVISION]


def test_migrations_make_exactly_the_schema_of_the_tables(conn: Connection) -> None:
    context = MigrationContext.configure(conn, opts={"compare_type": True})
    lacking = [(it[0], str(it[1].name)) for it in compare_metadata(context, metadata)]
    is_sqlite = conn.dialect.name == "sqlite"
    assert sorted(lacking) == ([] if is_sqlite else UNCHECKED)


def test_a_migration_can_be_taken_back(url: str, scripts: Path) -> None:
    with writing(url) as connection:
        command.downgrade(configure(connection, scripts), "base")
    with writing(url) as connection:
        assert inspect(connection).get_table_names() == ["alembic_version"]
    assert migrate(url) == SCHEMA_REVISION


def test_the_log_of_a_claim_is_found_when_its_table_is_written_anew(
    conn: Connection, scripts: Path
) -> None:
    logs = [StoredLog(conn), StoredLog(conn, ORIGIN.replace("shield", "alpha"))]
    for log in logs:
        log.append(conn, present(indicator(1)), present(indicator(2)))
    query = text("SELECT * FROM record_signals ORDER BY signal_id, record_id")
    before = conn.execute(query).all()
    config = configure(conn, scripts)
    command.downgrade(config, "0002")
    assert len(conn.execute(query).all()[0]) == len(before[0]) - 1
    command.upgrade(config, "0003")
    assert conn.execute(query).all() == before
    assert {row.log_id for row in before} == {log.log.log_id for log in logs}


def test_a_migration_that_fails_leaves_nothing(fresh_url: str, scripts: Path) -> None:
    backend_of(fresh_url).create()
    with writing(fresh_url) as connection:
        # The last table of the first migration cannot be created.
        connection.execute(text("CREATE TABLE idempotency (x INTEGER)"))
    with pytest.raises(Exception, match="already exists"), writing(fresh_url) as it:
        command.upgrade(configure(it, scripts), "head")
    with writing(fresh_url) as connection:
        assert inspect(connection).get_table_names() == ["idempotency"]


def test_a_draft_of_a_migration_needs_no_database(scripts: Path) -> None:
    config = Config()
    config.set_main_option("script_location", str(scripts))
    # Raises if tables.py has what the migrations have not.
    command.check(config)

"""Which state each list was in at which time."""

from __future__ import annotations

from importlib.resources import as_file, files
from typing import TYPE_CHECKING

from alembic import command
from sqlalchemy import text

from hashlight_node.store import history, logs, sqlite
from hashlight_node.store.migrate import configure
from hashlight_protocol import Erase, Reason, Retract
from support.clock import START
from support.made_records import indicator
from support.stored_log import ORIGIN, StoredLog, present

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy import Connection

    from support.stored_log import Item

THEIRS = ORIGIN.replace("shield", "alpha")


def _sign(conn: Connection, log: StoredLog, *items: Item, now: int) -> bytes:
    log.append(conn, *items, now=now)
    log.log = logs.set_checkpoint(
        conn, log.log, b"note", log.size, mirror_checkpoint=None, verified_at=now
    )
    return log.log.root_hash


def test_every_state_of_a_list_is_remembered(conn: Connection) -> None:
    log, other = StoredLog(conn), StoredLog(conn, THEIRS)
    bodies = [present(indicator(n)) for n in range(9)]
    first = _sign(conn, log, *bodies[:4], now=START)
    theirs = _sign(conn, other, bodies[0], now=START + 5)
    second = _sign(
        conn, log, bodies[5], Retract(1, 1, Reason.WITHDRAWN), now=START + 10
    )
    third = _sign(conn, log, Erase(2, 2, Reason.WITHDRAWN), now=START + 20)
    assert history.states_at(conn, START - 1) == []
    log_id, other_id = log.log.log_id, other.log.log_id
    assert history.states_at(conn, START + 4) == [
        (log_id, ORIGIN, 5, first, START, 2),
    ]
    assert history.states_at(conn, START + 10) == [
        (other_id, THEIRS, 2, theirs, START + 5, 0),
        (log_id, ORIGIN, 7, second, START + 10, 2),
    ]
    assert history.states_at(conn, START + 99) == [
        (other_id, THEIRS, 2, theirs, START + 5, 0),
        (log_id, ORIGIN, 8, third, START + 20, 0),
    ]
    found = history.find_state(conn, log_id, 7)
    assert found == (log_id, ORIGIN, 7, second, START + 10, 0)
    assert history.find_state(conn, log_id, 6) is None


def test_a_state_that_is_confirmed_again_keeps_its_time(conn: Connection) -> None:
    log = StoredLog(conn)
    log.log = logs.set_checkpoint(
        conn, log.log, b"a", 1, mirror_checkpoint=None, verified_at=START
    )
    log.append(conn, present(indicator(1)))
    # The copy is being extended; what is confirmed is its old checkpoint.
    logs.set_checkpoint(
        conn, log.log, b"a", 1, mirror_checkpoint=None, verified_at=START + 50
    )
    (state,) = history.states_at(conn, START + 99)
    assert (state.tree_size, state.applied_at) == (1, START)


def test_a_node_that_is_upgraded_begins_with_where_its_lists_stand(
    path: Path,
) -> None:
    sqlite.create_file(path)
    engine = sqlite.writer_engine(path)
    with as_file(files("hashlight_migrations")) as scripts, engine.begin() as conn:
        command.upgrade(configure(conn, scripts), "0001")
        insert_row(conn, ORIGIN, checkpoint_size=7)
        # A copy that is being extended: which root belongs to its checkpoint is not
        # in the table.
        insert_row(conn, THEIRS, checkpoint_size=5)
        command.upgrade(configure(conn, scripts), "head")
        (state,) = history.states_at(conn, START)
        assert (state.origin, state.tree_size) == (ORIGIN, 7)
        assert (state.root_hash, state.applied_at) == (bytes(32), START)
    engine.dispose()


def insert_row(conn: Connection, origin: str, *, checkpoint_size: int) -> None:
    """Write a log as an earlier version did."""
    conn.execute(
        text(
            "INSERT INTO logs (origin, origin_hash, node, list_name, epoch, role, "
            "state, tree_size, root_hash, checkpoint_size, verified_at, created_at, "
            "list_note_version, meta) VALUES (:origin, :origin, :origin, 'ncii', 1, "
            "'own', 'active', 7, :root, :size, :now, :now, 0, '{}')"
        ),
        {"origin": origin, "root": bytes(32), "size": checkpoint_size, "now": START},
    )

"""The allow list as it is kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

from hashlight_node.model import AllowedSignal
from hashlight_node.store import allowed
from hashlight_protocol import Signal
from support.clock import START
from support.made_records import md5_of, pdq_of

if TYPE_CHECKING:
    from sqlalchemy import Connection


def add(conn: Connection, number: int, note: str = "") -> AllowedSignal:
    signal = Signal("pdq", pdq_of(number))
    return allowed.insert_allowed(conn, signal, max_distance=3, note=note, now=START)


def ids(conn: Connection) -> list[int]:
    return [it.allowed_id for it in allowed.list_allowed(conn)]


def test_entries_are_listed_as_they_were_made(conn: Connection) -> None:
    one = allowed.insert_allowed(
        conn, Signal("md5", md5_of(1)), max_distance=0, note="a meme", now=START
    )
    two = add(conn, 2)
    assert one == AllowedSignal(1, Signal("md5", md5_of(1)), 0, "a meme", START)
    assert allowed.list_allowed(conn) == [one, two]


def test_a_new_entry_for_a_signal_replaces_the_old_one(conn: Connection) -> None:
    add(conn, 1, "first")
    add(conn, 2)
    again = add(conn, 1, "second")
    assert again.allowed_id == 3
    assert [it.note for it in allowed.list_allowed(conn)] == ["", "second"]


def test_no_id_is_given_twice(conn: Connection) -> None:
    add(conn, 1)
    add(conn, 2)
    assert allowed.delete_allowed(conn, 2)
    assert ids(conn) == [1]
    assert add(conn, 3).allowed_id == 3
    assert allowed.delete_allowed(conn, 3)
    assert allowed.delete_allowed(conn, 1)
    assert ids(conn) == []
    assert add(conn, 1).allowed_id == 4


@pytest.mark.parametrize("unknown", [2, 3, 99])
def test_what_is_not_there_cannot_be_removed(conn: Connection, unknown: int) -> None:
    add(conn, 1)
    add(conn, 2)
    add(conn, 3)
    allowed.delete_allowed(conn, 2)
    allowed.delete_allowed(conn, 3)
    assert not allowed.delete_allowed(conn, unknown)
    assert ids(conn) == [1]


def test_a_removed_entry_leaves_nothing_of_its_signal(conn: Connection) -> None:
    add(conn, 1, "why")
    allowed.delete_allowed(conn, 1)
    rows = conn.execute(text("SELECT type, value, note FROM allowed_signals")).all()
    assert [tuple(row) for row in rows] == [("", "", "")]


def test_the_version_is_another_one_after_every_change(conn: Connection) -> None:
    seen = [allowed.version(conn)]
    for number in (1, 2, 1, 3):
        add(conn, number)
        seen.append(allowed.version(conn))
    for number in (4, 3, 2):
        assert allowed.delete_allowed(conn, number)
        seen.append(allowed.version(conn))
    add(conn, 1)
    seen.append(allowed.version(conn))
    allowed.delete_allowed(conn, ids(conn)[-1])
    seen.append(allowed.version(conn))
    assert len(set(seen)) == len(seen) == 10

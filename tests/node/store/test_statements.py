"""Statements for many rows do what one for each row does."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from sqlalchemy import bindparam, select, update

from hashlight_node.store.statements import insert_rows, rows_where_in, update_rows
from hashlight_node.store.tables import contents, peers

if TYPE_CHECKING:
    from sqlalchemy import Connection

COLUMNS = contents.c
UPDATE = (
    update(contents)
    .where(COLUMNS.content_id == bindparam("of"))
    .values(body=bindparam("body"), evidence=COLUMNS.evidence + bindparam("more"))
)
QUERY = select(COLUMNS.content_id, COLUMNS.body, COLUMNS.evidence).where(
    COLUMNS.salt == b"s" * 16
)


def fill(conn: Connection, count: int) -> None:
    rows = [(number, b"s" * 16, b"%d" % number, "e") for number in range(1, count + 1)]
    insert_rows(conn, contents, rows)


@pytest.mark.parametrize("count", [1, 8, 9, 1_000, 2_500])
def test_many_rows_are_updated_each_with_its_own(conn: Connection, count: int) -> None:
    fill(conn, count + 1)
    rows = [
        {"more": f"+{number}", "of": number, "body": bytes([0, number % 256])}
        for number in range(1, count + 1)
    ]
    update_rows(conn, UPDATE, rows)
    found = list(conn.execute(QUERY.order_by(COLUMNS.content_id)))
    assert [tuple(row) for row in found[:count]] == [
        (number, bytes([0, number % 256]), f"e+{number}")
        for number in range(1, count + 1)
    ]
    assert tuple(found[count]) == (count + 1, b"%d" % (count + 1), "e")


@pytest.mark.parametrize("count", [0, 1, 8, 9, 1_001, 10_001])
def test_rows_are_found_by_many_values(conn: Connection, count: int) -> None:
    fill(conn, count)
    wanted = list(range(1, count + 1, 2))
    rows = rows_where_in(conn, QUERY, COLUMNS.content_id, [*wanted, count + 7])
    assert sorted(row.content_id for row in rows) == wanted


@pytest.mark.parametrize("at", [None, 0, 99, 149])
def test_a_column_that_one_row_of_many_uses_is_stored(
    conn: Connection, at: int | None
) -> None:
    rows = [
        (
            *(number, f"p{number}.example", "https://p.example", "vkey", b"d", 1),
            *("active", 7, 8 if number == at else None, 1),
        )
        for number in range(150)
    ]
    insert_rows(conn, peers, rows)
    found = conn.execute(select(peers).order_by(peers.c.peer_id)).all()
    assert [tuple(row) for row in found] == rows

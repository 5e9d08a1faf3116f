"""Everything that came out of a body, written so that it can be destroyed.

The rules and their reason stand in `tables`. Nothing else writes these two tables.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sqlalchemy import bindparam, func, select, update

from hashlight_node.store.statements import chunks, insert_rows, update_rows
from hashlight_node.store.tables import contents, signal_values

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection

_ERASE_CONTENT: Final = (
    update(contents)
    .where(contents.c.content_id == bindparam("of"))
    .values(
        salt=bindparam("salt"), body=bindparam("body"), evidence=bindparam("evidence")
    )
)
_ERASE_VALUE: Final = (
    update(signal_values)
    .where(signal_values.c.signal_id == bindparam("of"))
    .values(value=bindparam("value"))
)


def next_content_id(connection: Connection) -> int:
    """Give the id of the next row; the only writer may count on from it."""
    last: int | None = connection.execute(
        select(func.max(contents.c.content_id))
    ).scalar()
    return (last or 0) + 1


def next_signal_id(connection: Connection) -> int:
    """Give the id of the next signal, one that no signal ever had."""
    last: int | None = connection.execute(
        select(func.max(signal_values.c.signal_id))
    ).scalar()
    return (last or 0) + 1


def insert_contents(
    connection: Connection, rows: Sequence[tuple[int, bytes, bytes, str]]
) -> None:
    """Add contents behind all others.

    Args:
        connection: In a write transaction.
        rows: Id, salt, body and evidence, by ascending id.
    """
    insert_rows(connection, contents, rows)


def insert_values(connection: Connection, rows: Sequence[tuple[int, str]]) -> None:
    """Add values of signals behind all others.

    Args:
        connection: In a write transaction.
        rows: Id and value, by ascending id.
    """
    insert_rows(connection, signal_values, rows)


def read_contents(
    connection: Connection, content_ids: Sequence[int]
) -> dict[int, tuple[bytes, bytes]]:
    """Read salts and bodies by id."""
    found: dict[int, tuple[bytes, bytes]] = {}
    for part in chunks(content_ids):
        query = select(contents.c.content_id, contents.c.salt, contents.c.body)
        rows = connection.execute(query.where(contents.c.content_id.in_(part)))
        found.update({row.content_id: (row.salt, row.body) for row in rows})
    return found


def erase_contents(connection: Connection, content_ids: Sequence[int]) -> None:
    """Overwrite salts, bodies and evidence with as many zeros.

    A row of unchanged size is written in place, so no copy of it or of its neighbours
    stays behind. `Database.scrub` then removes the old pages from the log.
    """
    for part in chunks(content_ids):
        rows = connection.execute(
            select(contents).where(contents.c.content_id.in_(part))
        )
        update_rows(
            connection,
            _ERASE_CONTENT,
            [
                {
                    "of": row.content_id,
                    "salt": bytes(len(row.salt)),
                    "body": bytes(len(row.body)),
                    "evidence": _zeros(row.evidence),
                }
                for row in rows
            ],
        )


def erase_values(connection: Connection, signal_ids: Sequence[int]) -> None:
    """Overwrite the values of signals that nothing asserts any more."""
    for part in chunks(signal_ids):
        rows = connection.execute(
            select(signal_values).where(signal_values.c.signal_id.in_(part))
        )
        update_rows(
            connection,
            _ERASE_VALUE,
            [{"of": row.signal_id, "value": _zeros(row.value)} for row in rows],
        )


def _zeros(text: str) -> str:
    # As long in UTF-8, which is how text is stored.
    return "0" * len(text.encode())

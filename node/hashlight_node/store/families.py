"""Records that replace others: which of them are versions of one statement.

A record and everything that replaces it, directly or through others, are one family,
named by the leaf index of the record that all of them replace in the end. The member
with the highest index is the one that counts, whatever becomes of it: when it is
retracted or erased, the members before it stay out of use. They were found wrong once,
and a node that brought them back would match what its author had taken back.

A follower who comes after the ERASE of a replacement cannot know that it was one. So
whoever publishes a replacement should retract what it replaces, with the reason
`superseded`; then all followers agree for good.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import func, select, update

from hashlight_node.store.statements import chunks
from hashlight_node.store.tables import records as _records

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from sqlalchemy import Connection


def find_families(
    connection: Connection,
    log_id: int,
    replaces: Mapping[int, int],
    beside: Collection[int],
) -> dict[int, int]:
    """Find the families of records that say they replace others.

    What does not name an earlier record of the same log replaces nothing.

    Args:
        connection: In a transaction.
        log_id: The log.
        replaces: By leaf index of a record, that of the record it replaces.
        beside: Leaf indexes of records that are about to be stored as well.

    Returns:
        Families by leaf index.
    """
    known = _known(connection, log_id, set(replaces.values()))
    families: dict[int, int] = {}
    for leaf_index in sorted(replaces):
        target = replaces[leaf_index]
        if target >= leaf_index:
            continue
        if target in families:
            families[leaf_index] = families[target]
        elif target in known or target in beside:
            families[leaf_index] = known.get(target, target)
    return families


def join_families(
    connection: Connection, log_id: int, families: Mapping[int, int]
) -> None:
    """Move the families of records that turn out to replace others themselves.

    Args:
        connection: In a write transaction.
        log_id: The log.
        families: By leaf index, the family that each belongs to.
    """
    for leaf_index, family in families.items():
        connection.execute(
            update(_records)
            .where(_records.c.log_id == log_id, _records.c.family == leaf_index)
            .values(family=family)
        )


def latest_members(
    connection: Connection, log_id: int, families: Iterable[int]
) -> dict[int, int]:
    """Find the highest leaf index in each family that has more than one member."""
    latest: dict[int, int] = {}
    for part in chunks(sorted(families)):
        query = (
            select(_records.c.family, func.max(_records.c.leaf_index).label("last"))
            .where(_records.c.log_id == log_id, _records.c.family.in_(part))
            .group_by(_records.c.family)
        )
        rows = connection.execute(query)
        latest.update({row.family: row.last for row in rows})
    return latest


def _known(
    connection: Connection, log_id: int, leaf_indexes: Iterable[int]
) -> dict[int, int]:
    known: dict[int, int] = {}
    for part in chunks(sorted(leaf_indexes)):
        query = select(_records.c.leaf_index, _records.c.family).where(
            _records.c.log_id == log_id, _records.c.leaf_index.in_(part)
        )
        for leaf_index, family in connection.execute(query):
            known[leaf_index] = leaf_index if family is None else family
    return known

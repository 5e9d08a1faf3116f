"""Matches that were answered, and the policies that they were judged by.

An event names signals and records by their ids and says nothing of what they are: what
an ERASE destroys is therefore not here either.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final, NamedTuple

from sqlalchemy import delete, func, select

from hashlight_node.store import tables
from hashlight_node.store.statements import insert_rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection

_matches = tables.matches
_policies = tables.policies

_PRUNED_TOGETHER: Final = 10_000
"""Rows deleted in one transaction: others want to write as well."""


class MatchEvent(NamedTuple):
    """One query that matched.

    Attributes:
        matched_at: When it was answered, Unix seconds.
        handling: What the caller was told to do.
        event: What matched and why, as JSON.
    """

    matched_at: int
    handling: str
    event: str


class StoredMatch(NamedTuple):
    """One query that matched, as it is stored.

    Attributes:
        match_id: Its number, never used twice.
        matched_at: When it was answered, Unix seconds.
        handling: What the caller was told to do.
        event: What matched and why, as JSON.
        policy: The policy that it was judged by, as JSON.
    """

    match_id: int
    matched_at: int
    handling: str
    event: str
    policy: str


def insert_matches(
    connection: Connection, policy: str, events: Sequence[MatchEvent], *, now: int
) -> None:
    """Add matches.

    Args:
        connection: In a write transaction.
        policy: What they were judged by, as JSON.
        events: In the order in which they were answered.
        now: Unix seconds.
    """
    policy_id = _policy_id(connection, policy, now)
    newest: int | None = connection.execute(
        select(func.max(_matches.c.match_id))
    ).scalar()
    rows = [
        (match_id, it.matched_at, policy_id, it.handling, it.event)
        for match_id, it in enumerate(events, (newest or 0) + 1)
    ]
    insert_rows(connection, _matches, rows)


def page_matches(
    connection: Connection, after_match_id: int, limit: int
) -> list[StoredMatch]:
    """Read matches, oldest first.

    Args:
        connection: In a transaction.
        after_match_id: The last one of the page before, 0 for the first page.
        limit: Most matches to read.
    """
    query = _SELECT.where(_matches.c.match_id > after_match_id)
    rows = connection.execute(query.order_by(_matches.c.match_id).limit(limit))
    return [StoredMatch(*row) for row in rows]


def read_match(connection: Connection, match_id: int) -> StoredMatch | None:
    """Read one match, None if there is none of this number."""
    query = _SELECT.where(_matches.c.match_id == match_id)
    row = connection.execute(query).one_or_none()
    return None if row is None else StoredMatch(*row)


def prune_matches(connection: Connection, before: int) -> bool:
    """Delete matches that are old, some of them; the newest always stays.

    Args:
        connection: In a write transaction.
        before: Those that were answered before this time go, Unix seconds.

    Returns:
        Whether there may be more to delete.
    """
    newest = select(func.max(_matches.c.match_id)).scalar_subquery()
    old = (
        select(_matches.c.match_id)
        .where(_matches.c.matched_at < before, _matches.c.match_id < newest)
        .order_by(_matches.c.matched_at)
        .limit(_PRUNED_TOGETHER)
    )
    gone = connection.execute(delete(_matches).where(_matches.c.match_id.in_(old)))
    return gone.rowcount == _PRUNED_TOGETHER


_SELECT: Final = select(
    _matches.c.match_id,
    _matches.c.matched_at,
    _matches.c.handling,
    _matches.c.event,
    _policies.c.document,
).join(_policies, _policies.c.policy_id == _matches.c.policy_id)


def _policy_id(connection: Connection, policy: str, now: int) -> int:
    digest = hashlib.sha256(policy.encode()).digest()
    known = select(_policies.c.policy_id).where(_policies.c.digest == digest)
    policy_id: int | None = connection.execute(known).scalar()
    if policy_id is None:
        newest: int | None = connection.execute(
            select(func.max(_policies.c.policy_id))
        ).scalar()
        policy_id = (newest or 0) + 1
        insert_rows(connection, _policies, [(policy_id, digest, policy, now)])
    return policy_id

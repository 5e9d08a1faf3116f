"""Answers that were already given, for requests that come a second time."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict, Unpack

from sqlalchemy import delete, insert, select

from hashlight_node.store.tables import idempotency as _idempotency

if TYPE_CHECKING:
    from sqlalchemy import Connection


class NewResponse(TypedDict):
    """The answer to a request.

    Attributes:
        key: The caller's word for the request.
        token_id: Whose word it is.
        request_hash: SHA-256 of what was asked for.
        status: HTTP status of the answer.
        response: The answer.
        created_at: Now.
    """

    key: str
    token_id: int
    request_hash: bytes
    status: int
    response: bytes
    created_at: int


def find_response(
    connection: Connection, key: str, token_id: int
) -> tuple[bytes, int, bytes] | None:
    """Look up the answer to a request.

    Returns:
        Hash of the request, status and answer; None if it did not come before.
    """
    query = select(
        _idempotency.c.request_hash, _idempotency.c.status, _idempotency.c.response
    ).where(_idempotency.c.key == key, _idempotency.c.token_id == token_id)
    row = connection.execute(query).one_or_none()
    return None if row is None else (row.request_hash, row.status, row.response)


def save_response(connection: Connection, **response: Unpack[NewResponse]) -> None:
    """Keep an answer, in the transaction that makes it true."""
    connection.execute(insert(_idempotency).values(response))


def prune_responses(connection: Connection, before: int) -> int:
    """Forget answers older than an instant; tell how many."""
    statement = delete(_idempotency).where(_idempotency.c.created_at < before)
    return connection.execute(statement).rowcount

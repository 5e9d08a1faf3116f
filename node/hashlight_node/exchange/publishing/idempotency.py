"""The same request twice has one effect, and the second gets the first's answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hashlight_node.exchange.errors import IdempotencyConflictError
from hashlight_node.store import idempotency as store

if TYPE_CHECKING:
    from hashlight_node.store.database import Connection

_DONE = 200


@dataclass(frozen=True, slots=True)
class IdempotencyKey:
    """Names a request, so that it can be repeated when its answer was lost.

    Attributes:
        key: The caller's word.
        token_id: Whose word it is: tokens do not share keys.
        request_hash: SHA-256 of everything that the request asks for, 32 bytes.
    """

    key: str
    token_id: int
    request_hash: bytes


def earlier_answer(conn: Connection, key: IdempotencyKey | None) -> bytes | None:
    """Find what the request was answered when it came first, None if it did not.

    Raises:
        IdempotencyConflictError: The key came with another request.
    """
    if key is None:
        return None
    found = store.find_response(conn, key.key, key.token_id)
    if found is None:
        return None
    request_hash, _, answer = found
    if request_hash != key.request_hash:
        raise IdempotencyConflictError
    return answer


def remember_answer(
    conn: Connection, key: IdempotencyKey | None, answer: bytes, *, now: int
) -> None:
    """Keep an answer, in the transaction that made it true."""
    if key is not None:
        store.save_response(
            conn,
            key=key.key,
            token_id=key.token_id,
            request_hash=key.request_hash,
            status=_DONE,
            response=answer,
            created_at=now,
        )

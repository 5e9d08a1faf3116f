"""Bearer tokens of the local API, by the hash of their secret."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import bindparam, delete, insert, select

from hashlight_node.model import Scope, Token
from hashlight_node.store.tables import idempotency
from hashlight_node.store.tables import tokens as _tokens

if TYPE_CHECKING:
    from collections.abc import Collection

    from sqlalchemy import Connection, Row, Select

_TOKENS: Final[Select[Any]] = select(
    _tokens.c.token_id, _tokens.c.label, _tokens.c.scopes, _tokens.c.created_at
)
_BY_HASH: Final = _TOKENS.where(_tokens.c.token_hash == bindparam("wanted"))


def insert_token(
    connection: Connection,
    label: str,
    scopes: Collection[Scope],
    token_hash: bytes,
    now: int,
) -> Token:
    """Add a token.

    Args:
        connection: In a write transaction.
        label: What the operator calls it.
        scopes: What it allows.
        token_hash: SHA-256 of the secret, which is stored nowhere.
        now: Unix seconds.
    """
    statement = insert(_tokens).values(
        label=label,
        scopes=" ".join(sorted(scopes)),
        token_hash=token_hash,
        created_at=now,
    )
    row = connection.execute(statement.returning(_tokens.c.token_id))
    return Token(row.scalar_one(), label, frozenset(scopes), now)


def find_token(connection: Connection, token_hash: bytes) -> Token | None:
    """Look a token up by the hash of its secret."""
    row = connection.execute(_BY_HASH, {"wanted": token_hash}).one_or_none()
    return None if row is None else _token_of(row)


def list_tokens(connection: Connection) -> list[Token]:
    """List all tokens, oldest first."""
    query = _TOKENS.order_by(_tokens.c.token_id)
    return [_token_of(row) for row in connection.execute(query)]


def delete_token(connection: Connection, token_id: int) -> bool:
    """Revoke a token; tell whether there was one."""
    # The next token may get the same id, and must not be given these answers.
    connection.execute(delete(idempotency).where(idempotency.c.token_id == token_id))
    statement = delete(_tokens).where(_tokens.c.token_id == token_id)
    return connection.execute(statement).rowcount > 0


def _token_of(row: Row[Any]) -> Token:
    scopes = frozenset(map(Scope, row.scopes.split()))
    return Token(row.token_id, row.label, scopes, row.created_at)

"""Tokens, and answers kept for requests that come twice."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from sqlalchemy.exc import IntegrityError

from hashlight_node.model import Scope, Token
from hashlight_node.store import idempotency, tokens

if TYPE_CHECKING:
    from sqlalchemy import Connection

SCOPES = frozenset({Scope.LOOKUP, Scope.AUDIT})


def _save(conn: Connection, key: str, token_id: int, created_at: int = 5) -> None:
    idempotency.save_response(
        conn,
        key=key,
        token_id=token_id,
        request_hash=b"asked",
        status=200,
        response=b"answer",
        created_at=created_at,
    )


def test_a_token_is_found_by_the_hash_of_its_secret(conn: Connection) -> None:
    token = tokens.insert_token(conn, "pipeline", SCOPES, b"hash", 5)
    assert token == Token(token.token_id, "pipeline", SCOPES, 5)
    assert tokens.find_token(conn, b"hash") == token
    assert tokens.find_token(conn, b"other") is None


def test_tokens_are_listed_and_revoked(conn: Connection) -> None:
    first = tokens.insert_token(conn, "b", SCOPES, b"1", 5)
    second = tokens.insert_token(conn, "a", frozenset(), b"2", 6)
    assert tokens.list_tokens(conn) == [first, second]
    assert tokens.delete_token(conn, first.token_id)
    assert not tokens.delete_token(conn, first.token_id)
    assert tokens.list_tokens(conn) == [second]


def test_an_answer_belongs_to_a_key_and_a_token(conn: Connection) -> None:
    mine = tokens.insert_token(conn, "a", SCOPES, b"1", 5).token_id
    other = tokens.insert_token(conn, "b", SCOPES, b"2", 5).token_id
    _save(conn, "k", mine)
    assert idempotency.find_response(conn, "k", mine) == (b"asked", 200, b"answer")
    assert idempotency.find_response(conn, "k", other) is None
    assert idempotency.find_response(conn, "other", mine) is None
    with pytest.raises(IntegrityError):
        _save(conn, "k", mine)


def test_old_answers_are_forgotten(conn: Connection) -> None:
    token_id = tokens.insert_token(conn, "a", SCOPES, b"1", 5).token_id
    _save(conn, "old", token_id, 10)
    _save(conn, "new", token_id, 20)
    assert idempotency.prune_responses(conn, 20) == 1
    assert idempotency.find_response(conn, "old", token_id) is None
    assert idempotency.find_response(conn, "new", token_id) is not None


def test_the_answers_of_a_revoked_token_are_given_to_nobody(conn: Connection) -> None:
    token_id = tokens.insert_token(conn, "a", SCOPES, b"1", 5).token_id
    _save(conn, "k", token_id)
    tokens.delete_token(conn, token_id)
    assert idempotency.find_response(conn, "k", token_id) is None

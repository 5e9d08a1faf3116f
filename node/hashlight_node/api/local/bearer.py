"""Bearer tokens: who may call the local API, and what for.

A token is 32 random bytes in base64url behind a prefix that secret scanners can look
for. Only its SHA-256 is stored. That is enough for a random secret (there is nothing
to guess from a dictionary), and it makes the comparison safe: a caller who measures
how long the database looks for a hash learns about the hash of a guess, which does
not lead to a better guess.

Source: RFC 6750.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import time
from typing import TYPE_CHECKING, Final

from hashlight_node.api.errors import (
    ScopeMissingError,
    TokenInvalidError,
    TokenMissingError,
)
from hashlight_node.model import Scope
from hashlight_node.store import tokens

if TYPE_CHECKING:
    from multidict import CIMultiDictProxy

    from hashlight_node.model import Token
    from hashlight_node.store.database import Database

PREFIX: Final = "hlt_"
SECRET_BYTES: Final = 32

KNOWN_SECONDS: Final = 1.0
"""How long a token is taken for valid without asking the store again."""

_UNKNOWN: Final[tuple[Token | None, float]] = (None, 0.0)
_SECRET: Final = re.compile(r"hlt_[A-Za-z0-9_-]{43}")
_AUTHORIZATION: Final = re.compile(r"bearer +([A-Za-z0-9._~+/=-]+)", re.IGNORECASE)


def generate_secret() -> str:
    """Make a new token; the caller shows it once and stores `hash_secret` of it."""
    return PREFIX + secrets.token_urlsafe(SECRET_BYTES)


def hash_secret(secret: str) -> bytes:
    """Give what is stored of a token: its SHA-256, 32 bytes."""
    return hashlib.sha256(secret.encode("ascii")).digest()


class Bearers:
    """Knows who calls.

    A lookup costs two reads of the store, and asking it for the token would be a
    third. So a token that was found is remembered for a second, and forgotten at once
    when one is revoked. A node has its store to itself, so nothing else revokes.

    Args:
        database: The store.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._known: dict[bytes, tuple[Token, float]] = {}
        self._revocations = 0

    async def authenticate(self, headers: CIMultiDictProxy[str]) -> Token:
        """Find the token that a request carries.

        Raises:
            TokenMissingError: There is no `Authorization` header.
            TokenInvalidError: There is one that is no bearer token of this node.
        """
        values = headers.getall("Authorization", [])
        if not values:
            raise TokenMissingError
        match = _AUTHORIZATION.fullmatch(values[0])
        if len(values) > 1 or match is None or _SECRET.fullmatch(match[1]) is None:
            raise TokenInvalidError
        token_hash = hash_secret(match[1])
        token, until = self._known.get(token_hash, _UNKNOWN)
        if token is None or time.monotonic() >= until:
            token = await self._find(token_hash)
        if token is None:
            raise TokenInvalidError
        return token

    def forget(self) -> None:
        """Ask the store again about every token; after one was revoked."""
        self._revocations += 1
        self._known.clear()

    async def _find(self, token_hash: bytes) -> Token | None:
        revocations = self._revocations
        token = await self._database.read(
            lambda conn: tokens.find_token(conn, token_hash)
        )
        if token is None:
            self._known.pop(token_hash, None)
        elif revocations == self._revocations:
            # Otherwise the store may have been read before the token was revoked.
            self._known[token_hash] = (token, time.monotonic() + KNOWN_SECONDS)
        return token


def allows(token: Token, scope: Scope) -> bool:
    """Tell whether a token allows operations of a scope; `admin` allows all."""
    return scope in token.scopes or Scope.ADMIN in token.scopes


def require_scope(token: Token, scope: Scope) -> None:
    """Check that a token allows operations of a scope.

    Raises:
        ScopeMissingError: It does not.
    """
    if not allows(token, scope):
        raise ScopeMissingError(scope)

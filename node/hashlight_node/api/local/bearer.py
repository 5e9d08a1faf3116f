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
from typing import TYPE_CHECKING, Final

from hashlight_node.api.errors import (
    ScopeMissingError,
    TokenInvalidError,
    TokenMissingError,
)
from hashlight_node.model import Scope
from hashlight_node.store import tokens

if TYPE_CHECKING:
    from collections.abc import Sequence

    from multidict import CIMultiDictProxy

    from hashlight_node.model import Token
    from hashlight_node.store.database import Reader

PREFIX: Final = "hlt_"
SECRET_BYTES: Final = 32

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

    Most lookups cost no read of the store, and asking it for the token would be one.
    So a token that was found is remembered until the next commit, whatever that one
    changes: a token that was revoked is not even known for a moment, in no process.

    Args:
        database: The store.
    """

    def __init__(self, database: Reader) -> None:
        self._database = database
        self._known: dict[bytes, Token] = {}
        # By a hash of the whole header, which saves taking it apart each time.
        self._headers: dict[bytes, Token] = {}
        self._version: int | None = None

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
        version = self._forget_what_is_old()
        token = self._known.get(token_hash)
        if token is None:
            token = await self._find(token_hash, version)
        if token is None:
            raise TokenInvalidError
        if version == self._version:
            self._headers[_hash_header(values[0])] = token
        return token

    def remembered(self, values: Sequence[str]) -> Token | None:
        """Give the token of a caller who was authenticated since the last commit.

        Args:
            values: All `Authorization` headers of the request.

        Returns:
            None to have `authenticate` find out, whatever it finds.
        """
        if len(values) != 1:
            return None
        self._forget_what_is_old()
        return self._headers.get(_hash_header(values[0]))

    def _forget_what_is_old(self) -> int:
        version = self._database.version()
        if version != self._version:
            self._known.clear()
            self._headers.clear()
            self._version = version
        return version

    async def _find(self, token_hash: bytes, version: int) -> Token | None:
        token = await self._database.read(
            lambda conn: tokens.find_token(conn, token_hash)
        )
        if token is not None and version == self._version:
            # Otherwise the store may have been read before the token was revoked.
            self._known[token_hash] = token
        return token


def _hash_header(value: str) -> bytes:
    return hashlib.sha256(value.encode(errors="surrogateescape")).digest()


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

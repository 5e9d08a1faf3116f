"""`Idempotency-Key`: repeat a request after a lost answer without doing it twice.

The key is remembered with the token that used it and with what was asked for, in the
transaction that does the work; `exchange.publishing.publish` keeps them and refuses a
key that comes back with another request.

Source: draft-ietf-httpapi-idempotency-key-header, section 2.
"""

from __future__ import annotations

import hmac
import re
from typing import TYPE_CHECKING, Final

from hashlight_node.api.errors import InvalidParameterError
from hashlight_node.exchange.publishing.publish import IdempotencyKey

from .reading import single_header

if TYPE_CHECKING:
    from aiohttp import web

    from hashlight_node.model import Token

HEADER: Final = "Idempotency-Key"
PATTERN: Final = "[A-Za-z0-9._:+/=-]{1,128}"

# The draft wants a quoted string, and most clients send the key bare.
_KEY: Final = re.compile(rf'"({PATTERN})"|({PATTERN})')


def read_idempotency_key(
    request: web.Request, token: Token, raw: bytes
) -> IdempotencyKey | None:
    """Read the key of a request, None if it has none.

    Args:
        request: The request.
        token: Whose key it is: two callers may choose the same.
        raw: The body as it came; another spelling counts as another request.

    Raises:
        InvalidParameterError: It is none.
    """
    text = single_header(request.headers, HEADER)
    if text is None:
        return None
    match = _KEY.fullmatch(text)
    if match is None:
        raise InvalidParameterError(HEADER, f"is not {PATTERN}")
    asked = f"{request.method} {request.path}\n".encode("utf-8", "surrogateescape")
    # Kept for days, and longer than what an ERASE destroys meanwhile. Keyed with the
    # token, which is not stored, the hash tells nobody what was published.
    secret = request.headers["Authorization"].split()[-1].encode()
    return IdempotencyKey(
        key=match[1] or match[2],
        token_id=token.token_id,
        request_hash=hmac.digest(secret, asked + raw, "sha256"),
    )

"""Bearer tokens: made, listed, revoked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from hashlight_node.api.errors import NotFoundError
from hashlight_node.model import Scope
from hashlight_node.store import tokens as store
from hashlight_protocol import encode_timestamp

from .answers import JsonAnswer, NoAnswer
from .bearer import generate_secret, hash_secret
from .bodies import JsonBody
from .models.operating import NewToken, TokenCreated, TokenDetail, TokenPage
from .operations import NO_BODY, Call, operation
from .paging import number_key

if TYPE_CHECKING:
    from hashlight_node.model import Token
    from hashlight_node.store.database import Connection


@operation(
    "POST",
    "/v1/tokens",
    scope=Scope.ADMIN,
    takes=JsonBody(NewToken),
    gives=JsonAnswer(TokenCreated, status=201),
)
async def create_token(call: Call[NewToken]) -> TokenCreated:
    """Make a token.

    The secret is shown in this answer and never again: only its hash is stored.
    """
    secret = generate_secret()
    label = call.body.label
    scopes = frozenset(map(Scope, call.body.scopes))
    now = call.parts.clock()

    def insert(conn: Connection) -> Token:
        return store.insert_token(conn, label, scopes, hash_secret(secret), now)

    token = await call.parts.database.write(insert)
    return {**_show(token), "token": secret}


@operation(
    "GET",
    "/v1/tokens",
    scope=Scope.ADMIN,
    takes=NO_BODY,
    gives=JsonAnswer(TokenPage, page_of="tokens"),
)
async def list_tokens(call: Call[None]) -> TokenPage:
    """List the tokens, without their secrets."""
    tokens = await call.parts.database.read(store.list_tokens)
    rows, cursor = call.page.cut(tokens, lambda token: number_key(token.token_id))
    return {"tokens": [_show(token) for token in rows], "next_cursor": cursor}


@operation(
    "DELETE",
    "/v1/tokens/{id}",
    scope=Scope.ADMIN,
    takes=NO_BODY,
    gives=NoAnswer(),
    raises=(NotFoundError,),
)
async def delete_token(call: Call[None]) -> None:
    """Revoke a token; it is refused from the next request on."""
    token_id = call.row_id
    found = await call.parts.database.write(
        lambda conn: store.delete_token(conn, token_id)
    )
    if not found:
        raise NotFoundError


def _show(token: Token) -> TokenDetail:
    return {
        "id": token.token_id,
        "label": token.label,
        "scopes": sorted(token.scopes),
        "created_at": encode_timestamp(token.created_at),
    }


OPERATIONS: Final = (create_token, list_tokens, delete_token)

from __future__ import annotations

import asyncio
import re
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from multidict import CIMultiDict, CIMultiDictProxy
from sqlalchemy import delete, select

from hashlight_node.api.errors import TokenInvalidError
from hashlight_node.api.local.application import OPERATIONS
from hashlight_node.api.local.bearer import (
    SECRET_BYTES,
    Bearers,
    generate_secret,
    hash_secret,
)
from hashlight_node.api.local.parameters import PATH_PARAMETERS
from hashlight_node.model import Scope
from hashlight_node.store.tables import tokens
from support.local_api import LocalApi, add_token, names_of

if TYPE_CHECKING:
    from hashlight_node.api.local.operations import Operation
    from hashlight_node.app import RunningNode


def _path(described: Operation) -> str:
    """Fill the parameters of a path with values that are well-formed."""
    return re.sub(
        r"\{([a-z]+)\}",
        lambda match: (
            PATH_PARAMETERS[match[1]].example.replace("/", "%2F").replace("#", "%23")
        ),
        described.path,
    )


async def test_without_a_token_every_operation_is_refused(api: LocalApi) -> None:
    stranger = api.without_token()
    for described in OPERATIONS:
        reply = await stranger.send(described.method, _path(described))
        assert (reply.status, reply.code) == (401, "token-missing"), described.path
        assert reply.headers["WWW-Authenticate"].startswith("Bearer ")


async def test_every_operation_wants_its_scope_and_no_other_helps(
    api: LocalApi, node: RunningNode
) -> None:
    for described in OPERATIONS:
        others = set(Scope) - {described.scope, Scope.ADMIN}
        token = await add_token(node.foundation.database, *others)
        caller = api.with_token(token)
        reply = await caller.send(described.method, _path(described))
        assert (reply.status, reply.code) == (403, "scope-missing"), described.path
        assert reply.json["scope"] == described.scope


async def test_one_scope_is_enough_for_its_operations(
    api: LocalApi, node: RunningNode
) -> None:
    node.foundation.feed.close()  # Or the stream of changes would never end.
    for described in OPERATIONS:
        token = await add_token(node.foundation.database, described.scope)
        reply = await api.with_token(token).send(described.method, _path(described))
        assert reply.status not in (401, 403), (described.path, reply)


@pytest.mark.parametrize(
    "authorization",
    [
        "",
        "Bearer",
        "Bearer ",
        "Basic YTpi",
        "Bearer hlt_short",
        "Bearer hlt_" + "A" * 44,
        "Bearer hlt_" + "é" * 43,
        "Bearer " + "A" * 5000,
    ],
)
async def test_what_is_no_token_is_refused_as_invalid(
    api: LocalApi, authorization: str
) -> None:
    stranger = api.without_token()
    reply = await stranger.send(
        "GET", "/v1/status", headers={"Authorization": authorization}
    )
    assert (reply.status, reply.code) == (401, "token-invalid")
    assert 'error="invalid_token"' in reply.headers["WWW-Authenticate"]


async def test_an_unknown_token_is_refused_as_invalid(api: LocalApi) -> None:
    reply = await api.with_token(generate_secret()).get("/v1/status")
    assert (reply.status, reply.code) == (401, "token-invalid")


async def test_two_authorization_headers_are_refused(api: LocalApi) -> None:
    url = f"{api.base}/v1/status"
    value = f"Bearer {api.token}"
    headers = [("Authorization", value), ("Authorization", value)]
    async with api.session.get(url, headers=headers) as answer:
        assert answer.status == 401


async def test_a_token_works_from_the_answer_that_shows_it_until_it_is_revoked(
    api: LocalApi,
) -> None:
    made = await api.post(
        "/v1/tokens", {"label": "upload pipeline", "scopes": ["audit", "lookup"]}
    )
    assert made.status == 201
    assert made.json["scopes"] == ["audit", "lookup"]
    caller = api.with_token(made.json["token"])
    assert (await caller.get("/v1/status")).status == 200
    assert (await caller.get("/v1/tokens")).code == "scope-missing"
    path = f"/v1/tokens/{made.json['id']}"
    assert (await api.delete(path)).status == 204
    assert (await caller.get("/v1/status")).code == "token-invalid"
    assert (await api.delete(path)).code == "not-found"


async def test_a_secret_is_shown_once_and_stored_as_its_hash_only(
    api: LocalApi, node: RunningNode
) -> None:
    made = await api.post("/v1/tokens", {"label": "x", "scopes": ["lookup"]})
    secret = made.json["token"]
    assert secret.encode() not in (await api.get("/v1/tokens")).content
    rows = await node.foundation.database.read(
        lambda conn: list(conn.execute(select(tokens)))
    )
    assert hash_secret(secret) in {row.token_hash for row in rows}
    assert all(secret not in str(tuple(row)) for row in rows)
    assert SECRET_BYTES * 8 == 256


async def test_tokens_are_listed_in_pages(api: LocalApi) -> None:
    for label in ("a", "b", "c"):
        await api.post("/v1/tokens", {"label": label, "scopes": ["lookup"]})
    first = (await api.get("/v1/tokens?limit=3")).json
    assert names_of(first["tokens"], "label") == ["test", "a", "b"]
    rest = (await api.get(f"/v1/tokens?limit=3&cursor={first['next_cursor']}")).json
    assert names_of(rest["tokens"], "label") == ["c"]
    assert rest["next_cursor"] is None


@pytest.mark.parametrize(
    "body",
    [
        {"label": "x", "scopes": []},
        {"label": "x", "scopes": ["root"]},
        {"label": "", "scopes": ["lookup"]},
        {"label": "a\nb", "scopes": ["lookup"]},
        {"label": "x" * 101, "scopes": ["lookup"]},
        {"label": "x", "scopes": ["lookup"], "expires": "never"},
        {"scopes": ["lookup"]},
        [],
    ],
    ids=range(8),
)
async def test_a_token_that_makes_no_sense_is_not_made(
    api: LocalApi, body: object
) -> None:
    reply = await api.post("/v1/tokens", body)
    assert (reply.status, reply.code) == (422, "invalid-body")


def _headers(secret: str) -> CIMultiDictProxy[str]:
    return CIMultiDictProxy(CIMultiDict(Authorization=f"Bearer {secret}"))


async def _revoke_all(node: RunningNode) -> None:
    await node.foundation.database.write(lambda conn: conn.execute(delete(tokens)))


async def test_a_token_is_read_once_between_commits(
    node: RunningNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = node.foundation.database
    headers = _headers(await add_token(database, Scope.LOOKUP))
    bearers = Bearers(database)
    token = await bearers.authenticate(headers)
    with monkeypatch.context() as patched:
        patched.delattr("hashlight_node.store.tokens.find_token")
        assert await bearers.authenticate(headers) == token
        assert bearers.remembered(headers.getall("Authorization")) == token
    await database.write(lambda _: None)
    assert bearers.remembered(headers.getall("Authorization")) is None
    assert await bearers.authenticate(headers) == token


async def test_a_revoked_token_is_not_known_for_a_moment(node: RunningNode) -> None:
    headers = _headers(await add_token(node.foundation.database, Scope.LOOKUP))
    bearers = Bearers(node.foundation.database)
    await bearers.authenticate(headers)
    await _revoke_all(node)
    assert bearers.remembered(headers.getall("Authorization")) is None
    with pytest.raises(TokenInvalidError):
        await bearers.authenticate(headers)


async def test_a_token_revoked_while_it_is_read_is_not_remembered(
    node: RunningNode,
) -> None:
    database = node.foundation.database
    headers = _headers(await add_token(database, Scope.LOOKUP))
    bearers = Bearers(database)
    reading = asyncio.create_task(bearers.authenticate(headers))
    await asyncio.sleep(0)
    await _revoke_all(node)
    bearers.remembered(headers.getall("Authorization"))  # notices the commit
    with suppress(TokenInvalidError):
        await reading
    assert bearers.remembered(headers.getall("Authorization")) is None
    with pytest.raises(TokenInvalidError):
        await bearers.authenticate(headers)


def test_headers_are_remembered_one_at_a_time(node: RunningNode) -> None:
    bearers = Bearers(node.foundation.database)
    assert bearers.remembered([]) is None
    assert bearers.remembered(["Bearer a", "Bearer a"]) is None
    assert bearers.remembered(["Bearer \udcff"]) is None

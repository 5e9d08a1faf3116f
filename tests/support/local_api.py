"""A caller of the local API that holds every answer to the OpenAPI document."""

from __future__ import annotations

import re
from contextlib import asynccontextmanager
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import aiohttp
import jsonschema_rs
import orjson
from yarl import URL

from hashlight_node.api.local import generate_secret, hash_secret
from hashlight_node.app import RunningNode, start_node
from hashlight_node.model import Scope
from hashlight_node.store import tokens
from hashlight_protocol import Ref, encode_ref

from .clock import ManualClock
from .nodes import make_settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Mapping
    from pathlib import Path

    from hashlight_node.store.database import Database

Json = dict[str, Any]

_AT_ONCE_BYTES = 1024 * 1024  # aiohttp warns of more

PROBLEM_TYPE = "application/problem+json"
NDJSON_TYPE = "application/x-ndjson"


@dataclass(frozen=True)
class Reply:
    """What came back.

    Attributes:
        status: HTTP status.
        headers: Names in any case.
        content: The body.
    """

    status: int
    headers: Mapping[str, str]
    content: bytes

    @property
    def json(self) -> Json:
        value: Json = orjson.loads(self.content)
        return value

    @property
    def code(self) -> str:
        """Code of the problem; the test fails if it is none."""
        assert self.headers["Content-Type"] == PROBLEM_TYPE, self
        problem = self.json
        assert problem["status"] == self.status
        assert 400 <= self.status < 600
        code: str = problem["type"].removeprefix("hsf:")
        return code


class Contract:
    """The OpenAPI document, with answers closed: an undescribed member is a fault."""

    def __init__(self, document: Json) -> None:
        self.document = document
        closed = _close(document["components"])
        self._routes = [
            (method.upper(), _pattern(path), described["responses"])
            for path, methods in document["paths"].items()
            for method, described in methods.items()
        ]
        self._components = closed

    def check(self, method: str, path: str, reply: Reply) -> None:
        """Hold an answer to what the document says about it."""
        found = [
            responses
            for known_method, pattern, responses in self._routes
            if known_method == method and pattern.fullmatch(path)
        ]
        if not found:
            return
        described = found[0].get(str(reply.status), found[0]["default"])
        content = described.get("content", {})
        if not content:
            assert reply.content == b""
            return
        media_type = reply.headers["Content-Type"]
        assert media_type in content, (media_type, list(content))
        schema = content[media_type]["schema"]
        if media_type == NDJSON_TYPE:
            lines = [orjson.loads(line) for line in reply.content.splitlines()]
            self._validate(schema.get("x-lines", {}), lines)
        elif "json" in media_type:
            self._validate(schema, [reply.json])

    def _validate(self, schema: Json, values: list[Json]) -> None:
        whole = {**schema, "components": self._components}
        validator = jsonschema_rs.Draft202012Validator(whole)
        for value in values:
            validator.validate(value)


@dataclass(frozen=True)
class LocalApi:
    """One token's view of one node.

    Attributes:
        session: Sends.
        base: `http://host:port` of the local listener.
        contract: What answers are held to.
        token: Sent as bearer; None to send none.
    """

    session: aiohttp.ClientSession
    base: str
    contract: Contract
    token: str | None

    async def send(
        self,
        method: str,
        path: str,
        *,
        data: Any = None,  # noqa: ANN401 -- whatever aiohttp can send
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        """Send a request as it is."""
        sent = dict(headers or {})
        if self.token is not None:
            sent.setdefault("Authorization", f"Bearer {self.token}")
        url = URL(self.base + path, encoded=True)
        bare = ["Content-Type"] if isinstance(data, bytes) else []
        if isinstance(data, bytes) and len(data) > _AT_ONCE_BYTES:
            data = BytesIO(data)
        async with self.session.request(
            method, url, data=data, headers=sent, skip_auto_headers=bare
        ) as answer:
            reply = Reply(answer.status, answer.headers, await answer.read())
        if method != "HEAD":
            self.contract.check(method, path.partition("?")[0], reply)
        return reply

    async def post(
        self, path: str, body: object, headers: Mapping[str, str] | None = None
    ) -> Reply:
        """Send JSON."""
        sent = {"Content-Type": "application/json", **(headers or {})}
        return await self.send("POST", path, data=orjson.dumps(body), headers=sent)

    async def get(self, path: str) -> Reply:
        """Fetch."""
        return await self.send("GET", path)

    async def delete(self, path: str) -> Reply:
        """Delete."""
        return await self.send("DELETE", path)

    def without_token(self) -> LocalApi:
        """Give a stranger's view."""
        return LocalApi(self.session, self.base, self.contract, None)

    def with_token(self, token: str) -> LocalApi:
        """Give another token's view."""
        return LocalApi(self.session, self.base, self.contract, token)

    async def create_list(self, name: str = "ncii") -> Json:
        """Start a list; it must work."""
        reply = await self.post("/v1/lists", {"name": name})
        assert reply.status == 201, reply
        return reply.json

    async def publish(self, list_name: str, *records: Json) -> list[str]:
        """Publish records; it must work. Gives their references."""
        path = f"/v1/lists/{list_name}/records"
        reply = await self.post(path, {"records": list(records)})
        assert reply.status == 201, reply
        refs: list[str] = reply.json["refs"]
        return refs

    async def matches(self, signal_type: str, value: str) -> list[Json]:
        """Look one signal up and give its matches."""
        queries = [{"type": signal_type, "value": value}]
        reply = await self.post("/v1/lookup", {"queries": queries})
        assert reply.status == 200, reply
        matches: list[Json] = reply.json["results"][0]["matches"]
        return matches


async def add_token(database: Database, *scopes: Scope) -> str:
    """Make a token behind the API's back; gives its secret."""
    secret = generate_secret()
    await database.write(
        lambda conn: tokens.insert_token(conn, "test", scopes, hash_secret(secret), 0)
    )
    return secret


@asynccontextmanager
async def run_node(
    directory: Path, extra: str = ""
) -> AsyncIterator[tuple[RunningNode, LocalApi]]:
    """Run a whole node, `alpha.example`; gives also its administrator's view.

    Args:
        directory: Parent of the node's own directory.
        extra: TOML appended to its configuration.
    """
    settings = make_settings(directory, "alpha.example", extra)
    async with (
        start_node(settings, clock=ManualClock()) as node,
        aiohttp.ClientSession(auto_decompress=False) as session,
    ):
        base = f"http://127.0.0.1:{node.local_port}"
        token = await add_token(node.foundation.database, Scope.ADMIN)
        async with session.get(f"{base}/v1/openapi.json") as answer:
            contract = Contract(orjson.loads(await answer.read()))
        yield node, LocalApi(session, base, contract, token)


def record_path(ref: str | Ref, part: str = "") -> str:
    """Give the path of a record or of a part of it."""
    text = encode_ref(ref) if isinstance(ref, Ref) else ref
    return f"/v1/records/{quote(text, safe='')}" + (f"/{part}" if part else "")


def _pattern(path: str) -> re.Pattern[str]:
    return re.compile(re.sub(r"\{[a-z]+\}", "[^/]+", path))


def _close(value: Any) -> Any:  # noqa: ANN401 -- any part of a JSON document
    if isinstance(value, list):
        return [_close(item) for item in value]
    if not isinstance(value, dict):
        return value
    closed = {key: _close(item) for key, item in value.items()}
    if "properties" in closed and isinstance(closed["properties"], dict):
        closed.setdefault("additionalProperties", False)
    return closed


def names_of(rows: Iterable[Json], member: str) -> list[str]:
    """Give one member of every row."""
    return [row[member] for row in rows]

from __future__ import annotations

import asyncio
import json
import logging
import sqlite3
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
import structlog
from aiohttp import web
from sqlalchemy.exc import OperationalError

from hashlight_node.api import build_application
from hashlight_node.api.errors import (
    DescriptorUnsignedError,
    Fault,
    InvalidBodyError,
    NodeUnavailableError,
    NotFoundError,
    RateLimitedError,
    RequestError,
    ScopeMissingError,
    TokenInvalidError,
    TokenMissingError,
)
from hashlight_node.api.problems import (
    IMAGE_PROBLEMS,
    INTERNAL,
    PROBLEMS,
    problem_document,
    problem_for,
    problem_for_status,
    problem_response,
)
from hashlight_node.api.server import port_of, start_server
from hashlight_node.exchange.errors import (
    ExchangeError,
    LogHeldError,
    NoRoomError,
    StoreSilentError,
    UnconfirmedError,
    UnknownLogError,
)
from hashlight_node.keys import SignerUnavailableError
from hashlight_node.last_signed import LastSignedError
from hashlight_node.matching.image import ImageRefusedError
from hashlight_node.metrics import Metrics, render_metrics
from hashlight_node.observability import configure_logging
from hashlight_node.peers.errors import (
    PeerClockSkewError,
    PeerError,
    PeerMisbehavedError,
    PeerRefusedError,
    PeerUnavailableError,
)
from hashlight_node.store.errors import DatabaseInUseError, ScrubError
from hashlight_protocol import (
    BadRecordError,
    BadSignatureError,
    ClockSkewError,
    ConflictError,
    ProtocolError,
    TooLargeError,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator


def subclasses(kind: type[Exception]) -> set[type[Exception]]:
    direct = set(kind.__subclasses__())
    return direct.union(*map(subclasses, direct))


@pytest.mark.parametrize(
    "family", [ProtocolError, ExchangeError, PeerError, RequestError]
)
def test_every_error_that_a_caller_can_meet_has_a_row(family: type[Exception]) -> None:
    assert subclasses(family) <= set(PROBLEMS)


def test_the_code_of_an_error_is_the_one_on_the_wire() -> None:
    for error, problem in PROBLEMS.items():
        if issubclass(error, ProtocolError | ExchangeError):
            assert problem.code == error.code


OURS = {
    DatabaseInUseError,
    DescriptorUnsignedError,
    LastSignedError,
    LogHeldError,
    NodeUnavailableError,
    NoRoomError,
    PeerClockSkewError,
    PeerUnavailableError,
    ScrubError,
    SignerUnavailableError,
    StoreSilentError,
    UnconfirmedError,
}


def test_no_error_of_ours_is_blamed_on_the_caller_and_none_of_theirs_on_us() -> None:
    for error, problem in PROBLEMS.items():
        is_expected = 400 <= problem.status < 500
        assert is_expected or error in OURS


def test_a_document_says_type_title_status_and_detail() -> None:
    assert problem_document(UnknownLogError()) == {
        "type": "hsf:unknown-log",
        "title": "There is no such log",
        "status": 404,
        "detail": "there is no such log for this caller",
    }


FACTS: list[tuple[Exception, dict[str, object]]] = [
    (TooLargeError("record", 16_384), {"limit": 16_384}),
    (ConflictError(9), {"known_size": 9}),
    (ClockSkewError(1, 900), {"now": 900}),
    (ScopeMissingError("publish"), {"scope": "publish"}),
    (
        BadRecordError("/signals/0", "is no signal"),
        {"errors": [{"pointer": "/signals/0", "detail": "is no signal"}]},
    ),
    (
        InvalidBodyError((Fault("/a", "x"), Fault("", "y"))),
        {
            "errors": [
                {"pointer": "/a", "detail": "x"},
                {"pointer": "", "detail": "y"},
            ]
        },
    ),
    (
        PeerRefusedError("a.example", 403, "unknown-peer"),
        {"peer": {"status": 403, "code": "unknown-peer"}},
    ),
    (
        PeerMisbehavedError("a.example", "tile", BadSignatureError("k", "00"), b""),
        {"peer": {"code": "bad-signature"}},
    ),
]


@pytest.mark.parametrize(
    ("error", "members"), FACTS, ids=[type(error).__name__ for error, _ in FACTS]
)
def test_a_document_has_the_facts_that_a_program_can_use(
    error: Exception, members: dict[str, object]
) -> None:
    document = problem_document(error)
    assert {name: document[name] for name in members} == members
    assert len(document) == 4 + len(members)


def test_a_refused_picture_has_the_code_of_its_reason() -> None:
    for code, problem in IMAGE_PROBLEMS.items():
        assert problem.code == code
        assert problem_for(ImageRefusedError(code, "it is so")) is problem


def test_a_subclass_that_is_not_in_the_table_is_told_as_its_parent() -> None:
    class SpecialError(UnknownLogError):
        pass

    assert problem_for(SpecialError()) == PROBLEMS[UnknownLogError]


def test_a_mistake_of_ours_tells_nothing() -> None:
    assert problem_document(ValueError("the hash 00ff")) == {
        "type": "hsf:internal",
        "title": INTERNAL.title,
        "status": 500,
    }


@pytest.mark.parametrize(
    ("error", "name", "value"),
    [
        (RateLimitedError(3), "Retry-After", "3"),
        (PeerUnavailableError("a.example", "gone"), "Retry-After", "5"),
        (TokenMissingError(), "WWW-Authenticate", 'Bearer realm="hashlight"'),
        (
            TokenInvalidError(),
            "WWW-Authenticate",
            'Bearer realm="hashlight", error="invalid_token"',
        ),
    ],
    ids=["limit", "peer", "no token", "bad token"],
)
def test_an_answer_says_in_its_headers_what_to_do(
    error: Exception, name: str, value: str
) -> None:
    response = problem_response(error)
    assert response.headers[name] == value
    assert response.content_type == "application/problem+json"
    assert response.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize(
    ("status", "told"), [(404, 404), (413, 413), (418, 400), (500, 500), (503, 500)]
)
def test_refusals_of_the_framework_have_a_problem(status: int, told: int) -> None:
    assert problem_for_status(status).status == told


# ------------------------------------------------------------------------ over HTTP


@pytest.fixture
def log() -> Iterator[list[str]]:
    root = logging.getLogger()
    before = root.handlers[:], root.level
    written: list[str] = []

    class Stream:
        def write(self, text: str) -> int:
            written.extend(text.splitlines())
            return len(text)

        def flush(self) -> None:
            pass

    configure_logging("info", Stream())  # type: ignore[arg-type]
    yield written
    structlog.reset_defaults()
    root.handlers[:], level = before
    root.setLevel(level)


@dataclass(frozen=True)
class Server:
    client: aiohttp.ClientSession
    metrics: Metrics
    log: list[str]
    port: int


@pytest.fixture
async def server(
    log: list[str],
) -> AsyncIterator[Server]:
    metrics = Metrics(version="0", spec_version="HSF/1")
    app = build_application(
        "local", metrics=metrics, request_bytes=1000, log_requests=True
    )

    async def fail(request: web.Request) -> web.Response:
        reason = request.match_info["reason"]
        if reason == "ours":
            message = "the hash 00ff"
            raise ValueError(message)
        if reason == "large":
            await request.read()
        if reason == "gone":
            assert request.transport is not None
            request.transport.close()
            raise ConnectionResetError
        if reason == "half":
            response = web.StreamResponse()
            await response.prepare(request)
            raise ValueError(reason)
        if reason == "moved":
            raise web.HTTPFound("/elsewhere")
        raise NotFoundError

    app.router.add_route("*", "/fail/{reason}", fail)
    app.router.add_get("/only-get", fail)
    runner = await start_server(
        app, ("127.0.0.1", 0), shutdown_seconds=1, hang_up_cancels=False
    )
    async with aiohttp.ClientSession(
        base_url=f"http://127.0.0.1:{port_of(runner)}"
    ) as client:
        yield Server(client, metrics, log, port_of(runner))
    await runner.cleanup()


async def test_a_mistake_of_ours_is_logged_with_the_id_that_the_caller_gets(
    server: Server,
) -> None:
    client, metrics, log = server.client, server.metrics, server.log
    answer = await client.get("/fail/ours")
    assert answer.status == 500
    assert await answer.json(content_type=None) == problem_document(ValueError())
    failed, answered = map(json.loads, log)
    assert failed["event"] == "request failed by a mistake of ours"
    assert failed["request_id"] == answer.headers["X-Request-Id"]
    assert failed["error_type"] == "ValueError"
    assert answered["route"] == "/fail/{reason}"
    assert answered["request_id"] == failed["request_id"]
    assert "00ff" not in "".join(log)
    assert b'hashlight_rejects_total{listener="local",reason="internal"} 1.0' in (
        render_metrics(metrics)
    )


@pytest.mark.parametrize(
    ("method", "path", "status", "kind"),
    [
        ("GET", "/nowhere", 404, "hsf:not-found"),
        ("POST", "/only-get", 405, "hsf:method-not-allowed"),
        ("PURGE", "/only-get", 405, "hsf:method-not-allowed"),
        ("POST", "/fail/large", 413, "hsf:too-large"),
        ("GET", "/fail/refused", 404, "hsf:not-found"),
    ],
)
async def test_every_refusal_is_a_problem_document(
    server: Server,
    method: str,
    path: str,
    status: int,
    kind: str,
) -> None:
    client = server.client
    body = b"x" * 2000 if method == "POST" else None
    answer = await client.request(method, path, data=body)
    assert answer.status == status
    assert answer.content_type == "application/problem+json"
    document = json.loads(await answer.read())
    assert (document["type"], document["status"]) == (kind, status)
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Server"] == "hashlight"
    if status == 405:
        assert answer.headers["Allow"] == "GET,HEAD"


async def test_a_redirect_is_not_a_problem(
    server: Server,
) -> None:
    client = server.client
    answer = await client.get("/fail/moved", allow_redirects=False)
    assert answer.status == 302


async def test_a_caller_that_has_gone_leaves_no_trace_but_in_the_metrics(
    server: Server,
) -> None:
    with pytest.raises(aiohttp.ServerDisconnectedError):
        await server.client.post("/fail/gone")
    (line,) = map(json.loads, server.log)
    assert line["status"] == 499
    assert "withheld" not in line


async def test_half_an_answer_is_cut_off_and_not_completed_by_a_problem(
    server: Server,
) -> None:
    answer = await server.client.get("/fail/half")
    with pytest.raises(aiohttp.ClientError):
        await answer.read()


async def send_raw(server: Server, raw: bytes) -> tuple[str, dict[str, Any]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(raw)
    answer = await asyncio.wait_for(reader.read(), 5)
    writer.close()
    head, _, body = answer.decode().partition("\r\n\r\n")
    return head, json.loads(body)


@pytest.mark.parametrize(
    "raw",
    [
        b"hello\r\n\r\n",
        b"BREW /only-get HTTP/1.1\r\nHost: x\r\n\r\n",
        b"get /only-get HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /only-get HTTP/1.1\r\nHost: x\r\nBad Header: 1\r\n\r\n",
        b"GET /only-get HTTP/1.1\r\nHost: x\r\nA: " + b"a" * 9000 + b"\r\n\r\n",
        b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n" + b"A: a\r\n" * 100 + b"\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"\x16\x03\x01\x00\x05hello\r\n\r\n",
    ],
    ids=range(10),
)
async def test_what_is_not_http_gets_a_problem_without_versions(
    server: Server, raw: bytes
) -> None:
    head, document = await send_raw(server, raw)
    assert " 400 " in head.splitlines()[0]
    assert "aiohttp" not in head
    assert document["type"] == "hsf:malformed"
    assert server.log == []


async def test_methods_and_paths_that_callers_make_up_are_no_labels(
    server: Server,
) -> None:
    client, metrics = server.client, server.metrics
    await client.request("PURGE", "/made/up")
    text = render_metrics(metrics).decode()
    assert 'method="OTHER",route="/unmatched",status="404"' in text
    assert "made/up" not in text


class ServerError(Exception):
    """As the driver of PostgreSQL raises it."""

    def __init__(self, sqlstate: str | None) -> None:
        super().__init__("10.0.0.5 refuses")
        self.sqlstate = sqlstate


@pytest.mark.parametrize("state", [None, "08006", "57P01"])
def test_a_database_that_is_away_is_no_mistake_of_ours(state: str | None) -> None:
    error = OperationalError("SELECT secret", {}, ServerError(state))
    response = problem_response(error)
    assert (response.status, response.headers["Retry-After"]) == (503, "5")
    document = problem_document(error)
    assert document["type"] == "hsf:unavailable"
    # Neither what was asked nor who refused is anybody's business.
    assert "detail" not in document


def test_who_leads_instead_is_not_told() -> None:
    document = problem_document(DatabaseInUseError("postgresql://10.0.0.5/x"))
    assert (document["type"], document["status"]) == ("hsf:unavailable", 503)
    assert "detail" not in document


def test_what_the_database_finds_wrong_with_us_is_ours() -> None:
    error = OperationalError("SELECT 1", {}, ServerError("42601"))
    assert problem_for(error) is INTERNAL
    assert "Retry-After" not in problem_response(error).headers
    full = OperationalError("INSERT", {}, sqlite3.OperationalError("disk is full"))
    full.orig.sqlite_errorcode = 13  # type: ignore[union-attr]
    assert problem_for(full) is INTERNAL

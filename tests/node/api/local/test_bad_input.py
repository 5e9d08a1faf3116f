"""Whatever comes in: a 4xx problem with a stable code, soon, and nothing breaks."""

from __future__ import annotations

import asyncio
import gzip
import json
import re
import tracemalloc
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio

from hashlight_node.api.local import reading
from hashlight_node.api.local.application import OPERATIONS
from hashlight_node.api.local.parameters import PATH_PARAMETERS
from hashlight_node.model import Scope
from support.local_api import PROBLEM_TYPE, LocalApi, run_node
from support.pictures import png, repeated

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from hashlight_node.api.local.operations import Operation
    from hashlight_node.app import RunningNode

JSON = "application/json"
MIB = 1024 * 1024


def path_of(described: Operation, **values: str) -> str:
    """Fill a path with well-formed values, or those that are given, encoded."""

    def fill(match: re.Match[str]) -> str:
        example = PATH_PARAMETERS[match[1]].example
        return values.get(match[1], example.replace("/", "%2F").replace("#", "%23"))

    return re.sub(r"\{([a-z]+)\}", fill, described.path)


pytestmark = pytest.mark.asyncio(loop_scope="module")
# One node for all: none of this may change it.


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[tuple[RunningNode, LocalApi]]:
    async with run_node(tmp_path_factory.mktemp("node")) as (node, api):
        await api.create_list()
        yield node, api


WITH_JSON = [
    described
    for described in OPERATIONS
    if JSON in described.takes.content(lambda _: {})
]
WITH_PARAMETERS = [described for described in OPERATIONS if "{" in described.path]

NOT_JSON = {
    "cut off": b'{"queries":[',
    "two values": b"{}{}",
    "not UTF-8": b'{"a":"\xff"}',
    "a byte order mark": b"\xef\xbb\xbf{}",
    "UTF-16": '{"a":1}'.encode("utf-16"),
    "NUL": b'{"a":"\x00"}',
    "NaN": b'{"a":NaN}',
    "an infinite number": b'{"a":1e400}',
    "an integer beyond doubles": b'{"a":%d}' % 2**64,
    "an endless number": b'{"a":' + b"9" * 60_000 + b"}",
    "a lone surrogate": b'{"a":"\\ud800"}',
    "a noncharacter": b'{"a":"\\uffff"}',
    "a repeated member": b'{"name":"a","name":"a"}',
    "deep arrays": b"[" * 60_000,
    "deep objects": b'{"a":' * 10_000,
    "deep and closed": b"[" * 30_000 + b"]" * 30_000,
    "a comment": b"{}//",
    "a single quote": b"{'a':1}",
}


@pytest.mark.parametrize("raw", NOT_JSON.values(), ids=NOT_JSON)
async def test_what_is_not_json_is_refused_by_every_operation(
    api: LocalApi, raw: bytes
) -> None:
    for described in WITH_JSON:
        reply = await api.send(
            described.method,
            path_of(described),
            data=raw,
            headers={"Content-Type": JSON},
        )
        # A member that no model has is found before the number in it.
        assert reply.code in ("malformed", "invalid-body"), described.path
        assert reply.status in (400, 422)


@pytest.mark.parametrize(
    "value",
    [None, True, 0, -1, 2**53, 1.5, "", "x", [], [[]], {"a": {}}, {"": 1}, {"\0": 1}],
    ids=repr,
)
async def test_json_of_another_shape_is_refused_by_every_operation(
    api: LocalApi, value: object
) -> None:
    for described in WITH_JSON:
        reply = await api.post(path_of(described), value)
        assert reply.status in (400, 422), (described.path, reply)
        assert reply.code in ("malformed", "invalid-body", "bad-record")


async def test_a_member_that_is_not_known_is_refused_where_models_are_closed(
    api: LocalApi,
) -> None:
    closed = [it for it in WITH_JSON if it.path != "/v1/lists/{list}/records"]
    for described in closed:
        reply = await api.post(path_of(described), {"x-unknown": 1})
        assert reply.code == "invalid-body"
        pointers = [fault["pointer"] for fault in reply.json["errors"]]
        assert "/x-unknown" in pointers, described.path


async def test_a_hundred_thousand_members_cost_little(api: LocalApi) -> None:
    members = b",".join(b'"%d":1' % number for number in range(100_000))
    raw = b'{"queries":[{%s}]}' % members
    assert 0.9 * MIB < len(raw) < MIB
    started = asyncio.get_running_loop().time()
    reply = await api.send(
        "POST", "/v1/lookup", data=raw, headers={"Content-Type": JSON}
    )
    assert reply.code == "invalid-body"
    assert len(reply.json["errors"]) == 1
    assert asyncio.get_running_loop().time() - started < 5


@pytest.mark.parametrize(
    "content_type",
    [
        "",
        "text/plain",
        "application/xml",
        "application/json-seq",
        "multipart/form-data",
        "application/json; charset=utf-16",
        "application/json;charset=latin-1",
    ],
)
async def test_a_body_of_another_type_is_refused(
    api: LocalApi, content_type: str
) -> None:
    for described in WITH_JSON:
        reply = await api.send(
            described.method,
            path_of(described),
            data=b"{}",
            headers={"Content-Type": content_type} if content_type else {},
        )
        assert (reply.status, reply.code) == (415, "unsupported-media")


async def test_json_with_its_charset_said_is_taken(api: LocalApi) -> None:
    for content_type in (f"{JSON};charset=UTF-8", f"{JSON.upper()} ; charset=utf-8"):
        reply = await api.send(
            "POST", "/v1/sync", data=b"{}", headers={"Content-Type": content_type}
        )
        assert reply.status == 200


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd", "gzip, gzip", "x"])
async def test_a_compressed_body_is_refused_unread(api: LocalApi, coding: str) -> None:
    bomb = gzip.compress(b" " * (64 * MIB))
    for path, content_type in (("/v1/lookup", JSON), ("/v1/lookup/image", "image/png")):
        reply = await api.send(
            "POST",
            path,
            data=bomb,
            headers={"Content-Type": content_type, "Content-Encoding": coding},
        )
        assert (reply.status, reply.code) == (415, "unsupported-media")


async def chunks(count: int) -> AsyncIterator[bytes]:
    for _ in range(count):
        yield b" " * MIB


async def test_a_body_without_end_is_refused_at_the_limit(api: LocalApi) -> None:
    tracemalloc.start()
    try:
        for path, content_type in (
            ("/v1/lookup", JSON),
            ("/v1/lookup/image", "image/png"),
            ("/v1/lookup/image", "multipart/form-data; boundary=x"),
        ):
            reply = await api.send(
                "POST", path, data=chunks(60), headers={"Content-Type": content_type}
            )
            assert (reply.status, reply.code) == (413, "too-large")
            assert reply.json["limit"] < 40 * MIB
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 150 * MIB


class Raw:
    """A connection on which a test writes what it likes."""

    def __init__(self, api: LocalApi) -> None:
        self._host, _, port = api.base.removeprefix("http://").partition(":")
        self._port = int(port)
        self._token = api.token

    async def ask(
        self, head: str, *body: bytes, scheme: str = "Bearer", hangs_up: bool = False
    ) -> str:
        """Send a request head with a token, and a body in pieces; give the answer."""
        reader, writer = await asyncio.open_connection(self._host, self._port)
        lines = f"{head}\r\nHost: x\r\nAuthorization: {scheme} {self._token}\r\n\r\n"
        writer.write(lines.encode("latin-1"))
        for piece in body:
            await asyncio.sleep(0.05)
            writer.write(piece)
        if hangs_up:
            writer.close()
            await writer.wait_closed()
            return ""
        async with asyncio.timeout(10):
            said = await reader.read(65_536)
            while b"\r\n\r\n" not in said.removeprefix(
                b"HTTP/1.1 100 Continue\r\n\r\n"
            ):
                more = await reader.read(65_536)
                if not more:
                    break
                said += more
        writer.close()
        return said.decode("latin-1")


async def test_a_body_that_says_it_is_too_large_is_not_waited_for(
    api: LocalApi,
) -> None:
    for length in (MIB + 1, 2**40, 2**63):
        said = await Raw(api).ask(
            f"POST /v1/lookup HTTP/1.1\r\nContent-Type: {JSON}\r\n"
            f"Content-Length: {length}"
        )
        assert said.startswith("HTTP/1.1 413 ")
        assert PROBLEM_TYPE in said


@pytest.mark.parametrize(
    "framing",
    [
        "Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        "Transfer-Encoding: chunked\r\n\r\n-1\r\n",
        "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "Content-Length: -1\r\n\r\n",
        "Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
        "Content-Length: 1e3\r\n\r\n",
    ],
    ids=range(6),
)
async def test_a_body_whose_length_is_not_clear_is_refused(
    api: LocalApi, framing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # aiohttp lets a handler wait for the rest of a body that breaks off.
    monkeypatch.setattr(reading, "BODY_SECONDS", 0.2)
    header, _, body = framing.partition("\r\n\r\n")
    said = await Raw(api).ask(
        f"POST /v1/lookup HTTP/1.1\r\nContent-Type: {JSON}\r\n{header}",
        body.encode(),
    )
    assert said.split(" ")[1] in ("400", "408")
    assert PROBLEM_TYPE in said


async def test_a_body_that_breaks_off_in_the_middle_is_given_up(
    api: LocalApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "BODY_SECONDS", 0.2)
    head = f"POST /v1/lookup HTTP/1.1\r\nContent-Type: {JSON}"
    chunked = f"{head}\r\nTransfer-Encoding: chunked"
    said = await Raw(api).ask(chunked, b"1\r\n{\r\n", b"zz\r\n")
    assert said.split(" ")[1] in ("400", "408")
    assert PROBLEM_TYPE in said


async def test_a_caller_that_hangs_up_is_no_mistake_of_ours(api: LocalApi) -> None:
    head = f"POST /v1/lookup HTTP/1.1\r\nContent-Type: {JSON}\r\nContent-Length: 9"
    for _ in range(3):
        await Raw(api).ask(head, b"{", hangs_up=True)
    assert (await api.get("/readyz")).status == 200
    metrics = (await api.get("/metrics")).content.decode()
    assert not re.search(r'status="5\d\d"', metrics)


async def test_a_header_that_is_said_twice_is_refused(api: LocalApi) -> None:
    head = "POST /v1/lists/ncii/retract HTTP/1.1\r\nContent-Length: 0"
    for name in ("Content-Type", "Idempotency-Key", "Content-Encoding"):
        more = "" if name == "Content-Type" else f"Content-Type: {JSON}\r\n"
        said = await Raw(api).ask(f"{head}\r\n{more}{name}: a\r\n{name}: a")
        assert said.split(" ")[1] in ("400", "422"), name


async def test_a_body_that_never_comes_is_given_up(
    api: LocalApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "BODY_SECONDS", 0.2)
    said = await Raw(api).ask(
        f"POST /v1/lookup HTTP/1.1\r\nContent-Type: {JSON}\r\nContent-Length: 10",
        b"{",
    )
    assert said.startswith("HTTP/1.1 408 ")
    assert "hsf:slow-body" in said


async def test_a_body_is_invited_only_once_it_would_be_read(api: LocalApi) -> None:
    head = (
        f"POST /v1/sync HTTP/1.1\r\nContent-Type: {JSON}\r\nContent-Length: %d\r\n"
        "Expect: 100-continue"
    )
    said = await Raw(api).ask(head % 2, b"{}")
    assert said.startswith("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 ")
    said = await Raw(api).ask(head % (9 * MIB))
    assert said.startswith("HTTP/1.1 413 ")
    said = await Raw(api).ask(head % 2, scheme="Basic")
    assert said.startswith("HTTP/1.1 401 ")
    said = await Raw(api).ask((head % 2).replace("100-continue", "a-miracle"))
    assert said.startswith("HTTP/1.1 417 ")
    assert PROBLEM_TYPE in said


@pytest.mark.parametrize(
    "value",
    [
        "%00",
        "%ff",
        "%ED%A0%80",
        "%zz",
        "%",
        "..",
        "%2E%2E",
        "A",
        "-",
        "%C3%A9",
        "a%0Ab",
        "a" * 7000,
        "9" * 30,
        "0",
        "%F0%9F%98%80",
        "'%20OR%201=1",
    ],
)
async def test_a_parameter_of_another_form_is_refused(
    api: LocalApi, value: str
) -> None:
    for described in WITH_PARAMETERS:
        for name in PATH_PARAMETERS:
            if f"{{{name}}}" not in described.path:
                continue
            path = path_of(described, **{name: value})
            said = await Raw(api).ask(
                f"{described.method} {path} HTTP/1.1\r\nContent-Length: 0"
            )
            # Some of these are well-formed names of a kind, of nothing that exists.
            assert said[:13] in ("HTTP/1.1 400 ", "HTTP/1.1 404 ", "HTTP/1.1 415 "), (
                described.path,
                said,
            )
            assert PROBLEM_TYPE in said


@pytest.mark.parametrize(
    "ref",
    [
        "x",
        "shield.example/hsf/v1/log/ncii/1",
        "shield.example/hsf/v1/log/ncii/1#",
        "shield.example/hsf/v1/log/ncii/1#-1",
        "shield.example/hsf/v1/log/ncii/1#01",
        "shield.example/hsf/v1/log/ncii/1#" + "9" * 19,
        "shield.example/hsf/v1/log/ncii/0#1",
        "shield.example/hsf/v1/log/ncii/999999999999#1",
        "shield.example/hsf/v2/log/ncii/1#1",
        "SHIELD.example/hsf/v1/log/ncii/1#1",
        "192.0.2.1/hsf/v1/log/ncii/1#1",
        "shield.example/hsf/v1/log/NCII/1#1",
        "shield.example/hsf/v1/log/ncii/1#1#1",
        "é.example/hsf/v1/log/ncii/1#1",
    ],
)
async def test_a_reference_of_another_form_is_refused_everywhere(
    api: LocalApi, ref: str
) -> None:
    encoded = ref.encode().hex("%")
    for part in ("", "/receipt", "/erasure"):
        reply = await api.get(f"/v1/records/%{encoded}{part}")
        assert reply.status == 400
        assert reply.code in ("invalid-parameter", "malformed")
    body: dict[str, Any] = {"ref": ref, "stance": "affirm"}
    assert (await api.post("/v1/opinions", body)).status in (400, 422)
    body = {"ref": ref, "reason": "expired"}
    assert (await api.post("/v1/lists/ncii/retract", body)).status in (400, 422)


async def test_the_largest_index_there_can_be_is_looked_for(api: LocalApi) -> None:
    ref = f"alpha.example%2Fhsf%2Fv1%2Flog%2Fncii%2F1%23{10**18 - 1}"
    assert (await api.get(f"/v1/records/{ref}")).code == "unknown-record"
    assert (await api.get(f"/v1/records/{ref}/receipt")).code == "not-found"
    assert (await api.get(f"/v1/evidence/{10**18 - 1}")).code == "not-found"


async def test_another_method_is_refused_with_those_that_are_allowed(
    api: LocalApi,
) -> None:
    allowed: dict[str, set[str]] = {}
    for described in OPERATIONS:
        allowed.setdefault(path_of(described), set()).add(described.method)
    for path, methods in allowed.items():
        for method in {"GET", "POST", "PUT", "PATCH", "DELETE"} - methods:
            reply = await api.send(method, path)
            assert (reply.status, reply.code) == (405, "method-not-allowed")
            assert set(reply.headers["Allow"].split(",")) == methods


async def test_an_unknown_path_is_a_problem_too(api: LocalApi) -> None:
    for path in ("/", "/v1", "/v2/lookup", "/v1/lookup/", "/v1/records/a/b", "//"):
        reply = await api.get(path)
        assert (reply.status, reply.code) == (404, "not-found")


async def test_a_query_is_refused_where_none_is_taken(api: LocalApi) -> None:
    for path in ("/v1/status?x=1", "/v1/peers?limit=1&limit=2", "/v1/peers?cursor=!"):
        reply = await api.get(path)
        assert (reply.status, reply.code) == (400, "invalid-parameter")


async def test_pictures_that_unpack_to_gigabytes_are_refused(api: LocalApi) -> None:
    bombs = (
        png(50_000, 50_000, b""),
        png(8000, 6000, repeated(b"\0" * 24_001, 6000)[:1000]),
    )
    for bomb in bombs:
        reply = await api.send(
            "POST",
            "/v1/lookup/image",
            data=bomb,
            headers={"Content-Type": "image/png"},
        )
        assert reply.code in ("image-too-large", "image-truncated")
        assert reply.status in (413, 422)


async def test_a_form_without_a_picture_is_refused(api: LocalApi) -> None:
    for body in (b"", b"--x--", b"--x\r\n\r\n--x--", b"\r\n" * 1000):
        reply = await api.send(
            "POST",
            "/v1/lookup/image",
            data=body,
            headers={"Content-Type": "multipart/form-data; boundary=x"},
        )
        assert (reply.status, reply.code) == (400, "malformed")


async def test_pictures_that_arrive_slowly_hold_up_no_other_request(
    api: LocalApi,
) -> None:
    async def trickle() -> AsyncIterator[bytes]:
        yield b"\xff\xd8"
        await held.wait()

    async def upload() -> int:
        headers = {"Content-Type": "image/jpeg"}
        sent = await api.send(
            "POST", "/v1/lookup/image", data=trickle(), headers=headers
        )
        return sent.status

    held = asyncio.Event()
    uploads = [asyncio.create_task(upload()) for _ in range(8)]
    await asyncio.sleep(0.2)
    queries = [{"type": "md5", "value": "0" * 32}]
    assert (await api.post("/v1/lookup", {"queries": queries})).status == 200
    held.set()
    assert await asyncio.gather(*uploads) == [422] * 8


async def test_a_node_that_was_sent_all_this_has_made_no_mistake(
    api: LocalApi, node: RunningNode
) -> None:
    for raw in NOT_JSON.values():
        await api.send("POST", "/v1/lookup", data=raw, headers={"Content-Type": JSON})
    metrics = (await api.get("/metrics")).content.decode()
    assert not re.search(r'status="5\d\d"', metrics)
    assert 'hashlight_rejects_total{listener="local",reason="malformed"}' in metrics
    assert not node.jobs.done()
    ready = json.loads((await api.get("/readyz")).content)
    assert ready == {"status": "ready", "signing": "ok", "room": "ok"}
    assert Scope.ADMIN in set(Scope)

"""What a hostile or broken peer can do to the client: nothing but be refused."""

from __future__ import annotations

import asyncio
import gzip
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace

import pytest
import zstandard
from aiohttp import web
from structlog.testing import capture_logs

from hashlight_node.model import Peer, PeerState
from hashlight_node.peers import transport
from hashlight_node.peers.client import Cosigned, Fetched, KnownSize, PeerClient
from hashlight_node.peers.clocks import PeerClocks
from hashlight_node.peers.errors import (
    PeerClockSkewError,
    PeerMisbehavedError,
    PeerRefusedError,
    PeerUnavailableError,
)
from hashlight_node.peers.network import open_session
from hashlight_protocol import (
    ED25519,
    MAX_BODY_BUNDLE_BYTES,
    BodyBundleId,
    Ed25519Signer,
    EntryBundleId,
    HttpRequest,
    MalformedError,
    TileId,
    TooLargeError,
    origin_hash,
    verify_request,
)
from support.clock import ManualClock
from support.peer_simulator import PeerSimulator

SIGNER = Ed25519Signer("alpha.example#h1", ED25519, os.urandom(32))
CLOCK = ManualClock()
OTHERS = "other.example/hsf/v1/log/ncii/1"
ORIGIN = "shield.example/hsf/v1/log/ncii/1"
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@pytest.fixture
async def shield() -> AsyncIterator[PeerSimulator]:
    async with PeerSimulator("shield.example", CLOCK).running() as simulator:
        simulator.create_list("ncii")
        yield simulator


@pytest.fixture
async def client() -> AsyncIterator[PeerClient]:
    async with open_session(allow_loopback=True, allow_private=False) as session:
        yield PeerClient(
            session,
            node_name="alpha.example",
            http_key_id="h1",
            http_signer=SIGNER,
            clock=CLOCK,
            timeout_seconds=1,
        )


def pinned(simulator: PeerSimulator) -> Peer:
    return Peer(
        peer_id=1,
        name=simulator.name,
        base=simulator.base,
        identity_vkey=simulator.vkey,
        descriptor=simulator.descriptor(),
        descriptor_version=1,
        state=PeerState.ACTIVE,
        added_at=0,
        contacted_at=None,
    )


def answering(status: int, body: bytes = b"", **headers: str) -> Handler:
    async def act(_: web.Request) -> web.Response:
        fields = {name.replace("_", "-"): value for name, value in headers.items()}
        return web.Response(status=status, body=body, headers=fields)

    return act


async def test_each_request_is_signed_for_the_peer_it_goes_to(
    shield: PeerSimulator, client: PeerClient
) -> None:
    seen: list[web.Request] = []

    async def act(request: web.Request) -> web.Response:
        seen.append(request)
        return web.Response(body=b"note")

    shield.play("checkpoint", act)
    await client.fetch_checkpoint(pinned(shield), ORIGIN)

    (request,) = seen
    authority = shield.base.removeprefix("http://")
    signed = HttpRequest("GET", authority, "/hsf/v1/log/ncii/1/checkpoint")
    verify_request(
        signed, request.headers, public_key=SIGNER.key.public_key, now=CLOCK()
    )
    assert request.headers["Host"] == authority
    assert "Cookie" not in request.headers


async def test_a_pushed_body_is_covered_by_the_signature(
    shield: PeerSimulator, client: PeerClient
) -> None:
    seen: list[tuple[web.Request, bytes]] = []

    async def act(request: web.Request) -> web.Response:
        seen.append((request, await request.read()))
        return web.Response(body=b"line\n")

    shield.play("add-checkpoint", act)
    raw = b"old 0\n\n" + shield.logs["ncii"].note()
    answer = await client.push_checkpoint(pinned(shield), raw)

    assert answer == Cosigned(b"line\n")
    ((request, body),) = seen
    authority = shield.base.removeprefix("http://")
    signed = HttpRequest("POST", authority, "/hsf/v1/witness/add-checkpoint", body)
    verify_request(
        signed, request.headers, public_key=SIGNER.key.public_key, now=CLOCK()
    )


async def test_the_descriptor_is_fetched_without_saying_who_asks(
    shield: PeerSimulator, client: PeerClient
) -> None:
    seen: list[web.Request] = []

    async def act(request: web.Request) -> web.Response:
        seen.append(request)
        return web.Response(body=b"descriptor")

    shield.play("descriptor", act)
    assert await client.fetch_descriptor(shield.base) == b"descriptor"
    assert "Signature" not in seen[0].headers


async def test_a_redirect_is_refused_and_not_followed(
    shield: PeerSimulator, client: PeerClient
) -> None:
    shield.play("checkpoint", answering(302, Location="/.well-known/hsf"))
    with pytest.raises(PeerRefusedError, match="redirect") as caught:
        await client.fetch_checkpoint(pinned(shield), ORIGIN)
    assert caught.value.status == 302
    assert shield.kinds_asked() == ["checkpoint"]


async def test_a_refusal_carries_the_code_of_the_problem(
    shield: PeerSimulator, client: PeerClient
) -> None:
    with pytest.raises(PeerRefusedError) as caught:
        await client.fetch_list_note(pinned(shield), "other")
    assert (caught.value.status, caught.value.code) == (404, "unknown-log")


@pytest.mark.parametrize(
    "body",
    [b"", b"\xff", b"[]", b'{"type":7}', b'{"type":"https://x/"}', b"x" * 10_000],
)
async def test_a_refusal_without_a_readable_problem_is_still_a_refusal(
    shield: PeerSimulator, client: PeerClient, body: bytes
) -> None:
    shield.play("checkpoint", answering(403, body))
    with pytest.raises(PeerRefusedError) as caught:
        await client.fetch_checkpoint(pinned(shield), ORIGIN)
    assert caught.value.code == "no-reason-given"


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
async def test_a_busy_peer_is_unavailable_and_may_say_for_how_long(
    shield: PeerSimulator, client: PeerClient, status: int
) -> None:
    shield.play("checkpoint", answering(status, Retry_After="7"))
    with pytest.raises(PeerUnavailableError) as caught:
        await client.fetch_checkpoint(pinned(shield), ORIGIN)
    assert caught.value.retry_after_seconds == 7


@pytest.mark.parametrize("value", ["-1", "soon", "9" * 30, "Wed, 21 Oct 2026"])
async def test_a_senseless_time_to_retry_is_ignored(
    shield: PeerSimulator, client: PeerClient, value: str
) -> None:
    shield.play("checkpoint", answering(503, Retry_After=value))
    with pytest.raises(PeerUnavailableError) as caught:
        await client.fetch_checkpoint(pinned(shield), ORIGIN)
    assert caught.value.retry_after_seconds is None


async def test_nobody_listening_is_unavailable(client: PeerClient) -> None:
    gone = PeerSimulator("shield.example", CLOCK)
    async with gone.running():
        pass
    gone.create_list("ncii")
    with pytest.raises(PeerUnavailableError, match="nobody listens"):
        await client.fetch_checkpoint(pinned(gone), ORIGIN)


async def test_a_silent_peer_times_out(
    shield: PeerSimulator, client: PeerClient
) -> None:
    async def act(_: web.Request) -> web.Response:
        await asyncio.sleep(5)
        return web.Response()

    shield.play("checkpoint", act)
    with pytest.raises(PeerUnavailableError, match="within 1 s"):
        await client.fetch_checkpoint(pinned(shield), ORIGIN)


async def test_an_endless_trickle_times_out(
    shield: PeerSimulator, client: PeerClient
) -> None:
    async def act(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for _ in range(100):
            await response.write(b"x")
            await asyncio.sleep(0.05)
        return response

    shield.play("checkpoint", act)
    with pytest.raises(PeerUnavailableError, match="within 1 s"):
        await client.fetch_checkpoint(pinned(shield), ORIGIN)


async def test_a_truncated_answer_is_unavailable(
    shield: PeerSimulator, client: PeerClient
) -> None:
    async def act(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "1000"})
        await response.prepare(request)
        await response.write(b"x" * 10)
        assert request.transport is not None
        request.transport.close()
        return response

    shield.play("checkpoint", act)
    with pytest.raises(PeerUnavailableError, match="the connection failed"):
        await client.fetch_checkpoint(pinned(shield), ORIGIN)


async def test_an_endless_body_is_cut_off_at_the_limit(
    shield: PeerSimulator, client: PeerClient
) -> None:
    sent = 0

    async def act(request: web.Request) -> web.StreamResponse:
        nonlocal sent
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b"x" * 65_536)
            sent += 65_536

    shield.play("tile", act)
    with pytest.raises(PeerMisbehavedError) as caught:
        await client.fetch_tile(pinned(shield), ORIGIN, TileId(0, 0))
    assert isinstance(caught.value.cause, TooLargeError)
    assert len(caught.value.evidence) <= 65_536
    assert sent < 64 * 1024 * 1024


@pytest.mark.parametrize("coding", ["zstd", "gzip"])
async def test_a_decompression_bomb_stops_at_the_limit_and_is_not_kept(
    shield: PeerSimulator, client: PeerClient, coding: str
) -> None:
    bomb = bytes(MAX_BODY_BUNDLE_BYTES * 20)
    coded = (
        zstandard.ZstdCompressor().compress(bomb)
        if coding == "zstd"
        else gzip.compress(bomb, 1)
    )
    shield.play("bodies", answering(200, coded, Content_Encoding=coding))
    with pytest.raises(PeerMisbehavedError) as caught:
        await client.fetch_bodies(pinned(shield), ORIGIN, BodyBundleId(0, 1))
    assert isinstance(caught.value.cause, TooLargeError)
    assert caught.value.evidence.startswith(f"{len(coded)} bytes, SHA-256 ".encode())


async def test_a_zstd_frame_with_too_large_a_window_is_refused(
    shield: PeerSimulator, client: PeerClient
) -> None:
    parameters = zstandard.ZstdCompressionParameters(window_log=25)
    compressor = zstandard.ZstdCompressor(compression_params=parameters)
    writer = compressor.compressobj()
    coded = writer.compress(os.urandom(100)) + writer.flush()
    shield.play("bodies", answering(200, coded, Content_Encoding="zstd"))
    with pytest.raises(PeerMisbehavedError) as caught:
        await client.fetch_bodies(pinned(shield), ORIGIN, BodyBundleId(0, 1))
    assert isinstance(caught.value.cause, MalformedError)


@pytest.mark.parametrize(
    ("coding", "coded"),
    [
        ("zstd", b"no zstd"),
        ("gzip", b"no gzip"),
        ("gzip", gzip.compress(b"x", mtime=0)[:-1]),
        ("gzip", gzip.compress(b"x", mtime=0) + b"trailing"),
        ("zstd", zstandard.ZstdCompressor().compress(b"x") + b"trailing"),
        ("br", b"x"),
        ("gzip, zstd", b"x"),
    ],
)
async def test_a_broken_or_unwanted_coding_is_refused(
    shield: PeerSimulator, client: PeerClient, coding: str, coded: bytes
) -> None:
    shield.play("bodies", answering(200, coded, Content_Encoding=coding))
    with pytest.raises(PeerMisbehavedError) as caught:
        await client.fetch_bodies(pinned(shield), ORIGIN, BodyBundleId(0, 1))
    assert isinstance(caught.value.cause, MalformedError)


async def test_only_bodies_may_come_compressed(
    shield: PeerSimulator, client: PeerClient
) -> None:
    coded = gzip.compress(shield.logs["ncii"].entry_bundle(0, 1))
    shield.play("entries", answering(200, coded, Content_Encoding="gzip"))
    with pytest.raises(PeerMisbehavedError, match="nobody asked"):
        await client.fetch_entries(pinned(shield), ORIGIN, EntryBundleId(0, 1))


@pytest.mark.parametrize("coding", ["zstd", "gzip", ""])
async def test_bodies_are_decoded(
    shield: PeerSimulator, client: PeerClient, coding: str
) -> None:
    raw = shield.logs["ncii"].body_bundle(0, 1)
    coded = {
        "zstd": zstandard.ZstdCompressor().compress(raw),
        "gzip": gzip.compress(raw),
        "": raw,
    }[coding]
    headers = {"Content-Encoding": coding} if coding else {}
    shield.tamper("bodies", lambda answer: replace(answer, body=coded, headers=headers))
    bundle = BodyBundleId(0, 1)
    assert await client.fetch_bodies(pinned(shield), ORIGIN, bundle) == raw


async def test_a_conflict_names_the_size_that_the_witness_knows(
    shield: PeerSimulator, client: PeerClient
) -> None:
    act = answering(409, b"17\n", Content_Type="text/x.tlog.size")
    shield.play("add-checkpoint", act)
    raw = b"old 0\n\n" + shield.logs["ncii"].note()
    assert await client.push_checkpoint(pinned(shield), raw) == KnownSize(17)


@pytest.mark.parametrize("body", [b"", b"17", b"017\n", b"-1\n", b"9" * 20 + b"\n"])
async def test_a_conflict_that_names_no_size_is_misbehaviour(
    shield: PeerSimulator, client: PeerClient, body: bytes
) -> None:
    act = answering(409, body, Content_Type="text/x.tlog.size")
    shield.play("add-checkpoint", act)
    with pytest.raises(PeerMisbehavedError):
        await client.push_checkpoint(
            pinned(shield), b"old 0\n\n" + shield.logs["ncii"].note()
        )


async def test_another_conflict_is_a_refusal(
    shield: PeerSimulator, client: PeerClient
) -> None:
    shield.play("add-checkpoint", answering(409, b'{"type":"hsf:split-view"}'))
    with pytest.raises(PeerRefusedError) as caught:
        await client.push_checkpoint(
            pinned(shield), b"old 0\n\n" + shield.logs["ncii"].note()
        )
    assert caught.value.code == "split-view"


async def test_a_long_poll_says_what_it_has_and_how_long_it_waits(
    shield: PeerSimulator, client: PeerClient
) -> None:
    seen: list[web.Request] = []

    async def act(request: web.Request) -> web.Response:
        seen.append(request)
        if "If-None-Match" in request.headers:
            return web.Response(status=304)
        return web.Response(body=b"note", headers={"ETag": '"1"'})

    shield.play("checkpoint", act)
    peer = pinned(shield)
    first = await client.fetch_checkpoint(peer, ORIGIN)
    assert first is not None
    assert first.etag == '"1"'
    again = await client.fetch_checkpoint(peer, ORIGIN, wait_seconds=2, etag=first.etag)
    assert again is None
    assert seen[1].headers["Prefer"] == "wait=2"
    assert seen[1].headers["If-None-Match"] == '"1"'


async def test_not_modified_without_a_version_is_a_refusal(
    shield: PeerSimulator, client: PeerClient
) -> None:
    shield.play("checkpoint", answering(304))
    with pytest.raises(PeerRefusedError):
        await client.fetch_checkpoint(pinned(shield), ORIGIN)


async def test_long_polls_leave_room_for_transfers(
    shield: PeerSimulator, client: PeerClient
) -> None:
    release = asyncio.Event()

    async def act(_: web.Request) -> web.Response:
        await release.wait()
        return web.Response(body=b"note")

    shield.play("checkpoint", act)
    peer = pinned(shield)
    polls = [
        asyncio.create_task(
            client.fetch_checkpoint(peer, ORIGIN, wait_seconds=2, etag='"1"')
        )
        for _ in range(20)
    ]
    await asyncio.sleep(0.05)
    waiting = len(shield.asked)
    tile = await client.fetch_tile(peer, ORIGIN, TileId(0, 0, 1))
    release.set()
    await asyncio.gather(*polls)
    assert len(tile) == 32
    assert waiting == 4


async def test_a_debugging_request_gives_the_whole_answer(
    shield: PeerSimulator, client: PeerClient
) -> None:
    url = f"{shield.base}/hsf/v1/lists/nothing"
    status, headers, body = await client.request("GET", url)
    assert status == 404
    assert headers["content-type"] == "application/problem+json"
    assert b"unknown-log" in body


@pytest.mark.parametrize(
    "url", ["nonsense", "http://127.0.0.1:1", "ftp://x.example/a", "http://x.example/a"]
)
async def test_a_debugging_request_needs_a_plain_url(
    client: PeerClient, url: str
) -> None:
    with pytest.raises(MalformedError):
        await client.request("GET", url)


async def test_a_query_is_never_sent(shield: PeerSimulator, client: PeerClient) -> None:
    with pytest.raises(MalformedError):
        await client.request("GET", f"{shield.base}/hsf/v1/grants?a=b")
    assert shield.asked == []


@pytest.mark.parametrize(
    ("ask", "path"),
    [
        (lambda c, p: c.fetch_grants(p), "/hsf/v1/grants"),
        (lambda c, p: c.fetch_receipt(p, ORIGIN, 7), "/hsf/v1/log/ncii/1/receipt/7"),
        (
            lambda c, p: c.fetch_witness_checkpoint(p, ORIGIN),
            f"/hsf/v1/witness/{origin_hash(ORIGIN)}/checkpoint",
        ),
        (
            lambda c, p: c.fetch_mirror_checkpoint(p, ORIGIN),
            f"/hsf/v1/mirror/{origin_hash(ORIGIN)}/checkpoint",
        ),
        (
            lambda c, p: c.fetch_relayed_acknowledgements(p, ORIGIN),
            f"/hsf/v1/mirror/{origin_hash(ORIGIN)}/acknowledgements",
        ),
        (
            lambda c, p: c.fetch_tile(p, OTHERS, TileId(0, 0, 3)),
            f"/hsf/v1/mirror/{origin_hash(OTHERS)}/tile/0/000.p/3",
        ),
        (
            lambda c, p: c.fetch_relayed(p, "other.example", "ncii", "owner"),
            f"/hsf/v1/mirror/{origin_hash('other.example/hsf/v1/log/ncii')}/owner",
        ),
    ],
)
async def test_each_question_goes_to_its_endpoint(
    shield: PeerSimulator,
    client: PeerClient,
    ask: Callable[[PeerClient, Peer], Awaitable[object]],
    path: str,
) -> None:
    for kind in ("nothing", "mirror", "grants"):
        shield.play(kind, answering(200, b"answer"))
    answer = await ask(client, pinned(shield))
    assert answer in (b"answer", Fetched(b"answer", None))
    assert [asked for _, asked in shield.asked] == [path]


async def test_a_peer_that_is_not_dialable_is_never_connected_to(
    shield: PeerSimulator, client: PeerClient
) -> None:
    peer = replace(pinned(shield), is_dialable=False)
    for asked in (
        client.fetch_list_note(peer, "ncii"),
        client.fetch_newer_descriptor(peer),
        client.fetch_checkpoint(peer, ORIGIN, wait_seconds=1),
        client.push_checkpoint(peer, b"note"),
    ):
        with pytest.raises(PeerUnavailableError):
            await asked
    assert shield.asked == []


async def test_an_answer_that_trickles_is_given_up_before_its_time_is_over(
    shield: PeerSimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "_HEAD_START_SECONDS", 0.3)

    async def act(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for _ in range(1000):
            await response.write(b"x" * 20)  # 400 bytes a second, below the least.
            await asyncio.sleep(0.05)
        return response

    shield.play("checkpoint", act)
    started = asyncio.get_running_loop().time()
    async with open_session(allow_loopback=True, allow_private=False) as session:
        patient = PeerClient(
            session,
            node_name="alpha.example",
            http_key_id="h1",
            http_signer=SIGNER,
            clock=CLOCK,
            timeout_seconds=30,
        )
        with pytest.raises(PeerUnavailableError, match="comes too slowly"):
            await patient.fetch_checkpoint(pinned(shield), ORIGIN)
    assert asyncio.get_running_loop().time() - started < 3


async def test_an_answer_that_is_slow_but_steady_is_read(
    shield: PeerSimulator, client: PeerClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "_HEAD_START_SECONDS", 0.2)

    async def act(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for _ in range(8):
            await response.write(b"x" * 200)
            await asyncio.sleep(0.08)
        return response

    shield.play("checkpoint", act)
    fetched = await client.fetch_checkpoint(pinned(shield), ORIGIN)
    assert fetched is not None
    assert len(fetched.body) == 1600


@pytest.mark.parametrize("offset", [-400_000, 86_400])
async def test_a_clock_that_differs_is_told_and_forgotten_when_it_is_mended(
    shield: PeerSimulator, client: PeerClient, offset: int
) -> None:
    problem = b'{"type":"hsf:clock-skew","status":403,"now":%d}' % (CLOCK() + offset)
    shield.play("checkpoint", answering(403, problem))
    with pytest.raises(PeerClockSkewError, match=f"{abs(offset)} s") as caught:
        await client.fetch_checkpoint(pinned(shield), ORIGIN)
    assert caught.value.offset_seconds == offset
    assert client.clocks.offset_seconds(shield.name) == offset

    shield.honest()
    await client.fetch_checkpoint(pinned(shield), ORIGIN)
    assert client.clocks.offset_seconds(shield.name) is None


@pytest.mark.parametrize(
    "now", [b'"soon"', b"1.5", b"true", b"null", b"[1]"], ids=bytes.decode
)
async def test_a_senseless_time_is_a_refusal_like_others(
    shield: PeerSimulator, client: PeerClient, now: bytes
) -> None:
    body = b'{"type":"hsf:clock-skew","now":%b}' % now
    shield.play("checkpoint", answering(403, body))
    with pytest.raises(PeerRefusedError, match="clock-skew"):
        await client.fetch_checkpoint(pinned(shield), ORIGIN)
    assert client.clocks.offset_seconds(shield.name) is None


async def test_a_clock_that_is_off_by_ages_is_off_by_a_century(
    shield: PeerSimulator, client: PeerClient
) -> None:
    body = b'{"type":"hsf:clock-skew","now":9007199254740991}'
    shield.play("checkpoint", answering(403, body))
    with pytest.raises(PeerClockSkewError) as caught:
        await client.fetch_checkpoint(pinned(shield), ORIGIN)
    assert caught.value.offset_seconds == 100 * 366 * 86_400


def test_a_difference_is_logged_once_until_it_changes() -> None:
    clocks = PeerClocks()
    with capture_logs() as lines:
        for offset in (500, 501, 510, 900, 901):
            clocks.differ("shield.example", offset)
        clocks.agree("shield.example")
        clocks.agree("shield.example")
        clocks.differ("shield.example", 901)
    assert [line.get("offset_seconds") for line in lines] == [500, 900, None, 901]

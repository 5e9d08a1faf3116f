"""The content of uploads is read in small pieces, whatever it is made of."""

from __future__ import annotations

import asyncio
import gzip
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import aiohttp
import pytest
import zstandard
from aiohttp import web

from hashlight_node.api.federation import content, uploads
from hashlight_node.api.federation.content import read_decoded, read_pieces
from hashlight_node.api.problems import problem_response
from hashlight_node.api.server import port_of, start_server
from hashlight_protocol import encode_content_digest
from support.uploads import ADD_ENTRIES, UploadedLog

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from support.federation import World

WHOLE = b"".join(b"%d\n" % number for number in range(100_000))
MOST_BYTES = 3 * 1024 * 1024


class Reader:
    """A server that reads what comes and remembers the pieces."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.limit_bytes = 1 << 24

    async def handle(self, request: web.Request) -> web.Response:
        self.sizes.clear()
        whole = bytearray()
        try:
            async for piece in read_pieces(request, limit_bytes=self.limit_bytes):
                self.sizes.append(len(piece))
                whole += piece[: len(WHOLE) + 1 - len(whole)]
        except Exception as error:  # noqa: BLE001 -- all of them are answers
            return problem_response(error)
        return web.Response(body=bytes(whole))


@asynccontextmanager
async def serving(reader: Reader) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_post("/", reader.handle)
    runner = await start_server(
        app, ("127.0.0.1", 0), shutdown_seconds=0.1, hang_up_cancels=True
    )
    try:
        yield f"http://127.0.0.1:{port_of(runner)}/"
    finally:
        await runner.cleanup()


async def send(url: str, raw: bytes, coding: str = "") -> tuple[int, bytes]:
    headers = {"Content-Digest": encode_content_digest(raw)}
    if coding:
        headers["Content-Encoding"] = coding
    async with (
        aiohttp.ClientSession() as session,
        session.post(url, data=raw, headers=headers) as answer,
    ):
        return answer.status, await answer.read()


@pytest.mark.parametrize(
    ("coding", "raw"),
    [
        ("", WHOLE),
        ("gzip", gzip.compress(WHOLE)),
        ("GZIP", gzip.compress(WHOLE, compresslevel=0)),
        ("zstd", zstandard.compress(WHOLE)),
        ("zstd", zstandard.compress(WHOLE[:1000]) + zstandard.compress(WHOLE[1000:])),
    ],
    ids=["none", "gzip", "stored", "zstd", "two frames"],
)
async def test_what_was_sent_comes_out(coding: str, raw: bytes) -> None:
    reader = Reader()
    async with serving(reader) as url:
        assert await send(url, raw, coding) == (200, WHOLE)
    assert max(reader.sizes) <= MOST_BYTES


@pytest.mark.parametrize("coding", ["gzip", "zstd"])
async def test_no_piece_of_a_bomb_is_large(coding: str) -> None:
    compress = gzip.compress if coding == "gzip" else zstandard.compress
    reader = Reader()
    reader.limit_bytes = 1 << 28
    async with serving(reader) as url:
        status, _ = await send(url, compress(bytes(150_000_000)), coding)
    assert status == 200
    assert sum(reader.sizes) == 150_000_000
    assert max(reader.sizes) <= MOST_BYTES


@pytest.mark.parametrize(
    ("coding", "raw"),
    [
        ("gzip", gzip.compress(WHOLE)[:-1]),
        ("gzip", gzip.compress(WHOLE) + b"x"),
        ("gzip", gzip.compress(WHOLE[:9]) + gzip.compress(WHOLE[9:])),
        ("gzip", b"not gzip"),
        ("zstd", zstandard.compress(WHOLE)[:-1]),
        ("zstd", zstandard.compress(WHOLE) + b"x"),
        ("zstd", b"not zstd"),
        (
            "zstd",
            zstandard.ZstdCompressor(
                compression_params=zstandard.ZstdCompressionParameters(window_log=24)
            )
            .compressobj()
            .compress(bytes(200_000)),
        ),
    ],
    ids=[
        "cut gzip",
        "gzip and more",
        "two members",
        "no gzip",
        "cut zstd",
        "zstd and more",
        "no zstd",
        "a large window",
    ],
)
async def test_what_is_not_of_its_coding_is_refused(coding: str, raw: bytes) -> None:
    async with serving(Reader()) as url:
        status, body = await send(url, raw or b"\x00", coding)
    assert status == 400
    assert b"hsf:malformed" in body


async def test_more_than_the_limit_is_not_read() -> None:
    reader = Reader()
    reader.limit_bytes = 100_000
    async with serving(reader) as url:
        status, body = await send(url, WHOLE)
    assert (status, b"hsf:too-large" in body) == (413, True)
    assert sum(reader.sizes) <= 100_000


@pytest.mark.parametrize("coding", ["gzip", "zstd"])
async def test_a_few_bytes_do_not_keep_us_decoding(coding: str) -> None:
    compress = gzip.compress if coding == "gzip" else zstandard.compress
    reader = Reader()
    reader.limit_bytes = 1_000_000
    bomb = compress(bytes(150_000_000))
    assert len(bomb) < reader.limit_bytes
    async with serving(reader) as url:
        status, body = await send(url, bomb, coding)
    assert (status, b"hsf:too-large" in body) == (413, True)
    assert sum(reader.sizes) <= reader.limit_bytes + MOST_BYTES


async def test_content_read_whole_is_bounded_as_decoded() -> None:
    async def handle(request: web.Request) -> web.Response:
        try:
            return web.Response(body=await read_decoded(request, limit_bytes=1000))
        except Exception as error:  # noqa: BLE001 -- all of them are answers
            return problem_response(error)

    reader = Reader()
    reader.handle = handle  # type: ignore[method-assign]
    async with serving(reader) as url:
        assert await send(url, gzip.compress(bytes(1000)), "gzip") == (200, bytes(1000))
        status, _ = await send(url, gzip.compress(bytes(1001)), "gzip")
    assert status == 413


async def slowly(raw: bytes, pause_seconds: float) -> AsyncIterator[bytes]:
    yield raw[:10]
    await asyncio.sleep(pause_seconds)
    yield raw[10:]


@pytest.mark.parametrize("limit", ["idle", "total"])
async def test_who_sends_too_slowly_is_told_so(
    world: World, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    if limit == "idle":
        monkeypatch.setattr(content, "_IDLE_SECONDS", 0.2)
    else:
        monkeypatch.setattr(uploads, "_SECONDS", 0.2)
    mine = UploadedLog(world)
    await mine.agree()
    await mine.announce()
    raw = mine.content(0)
    fields = world.peer.headers(
        "POST", ADD_ENTRIES, raw, content_type="application/octet-stream"
    )
    answer = await world.send("POST", ADD_ENTRIES, fields, slowly(raw, 1.0))
    assert (answer.status, answer.problem) == (408, "slow-body")


async def test_uploads_of_a_peer_are_counted(world: World) -> None:
    mine = UploadedLog(world)
    await mine.agree()
    await mine.announce()
    raw = mine.content(0)
    fields = world.peer.headers(
        "POST", ADD_ENTRIES, raw, content_type="application/octet-stream"
    )
    answers = await asyncio.gather(
        *(world.send("POST", ADD_ENTRIES, fields, slowly(raw, 0.5)) for _ in range(6))
    )
    codes = sorted(answer.status for answer in answers)
    assert codes.count(429) == 2
    assert codes.count(200) == 4

"""An HTTP server that answers what a test says: how a node in trouble looks."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

HANG_UP = b""
"""Closes the connection without a word."""


def answer(status: int, body: bytes = b"{}", *headers: str) -> bytes:
    """Write a whole answer."""
    lines = [f"HTTP/1.1 {status} Scripted", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


def chunks(*pieces: bytes, is_whole: bool) -> bytes:
    """Write an answer in chunks that ends as it must, or breaks off."""
    head = b"HTTP/1.1 200 Scripted\r\nTransfer-Encoding: chunked\r\n\r\n"
    body = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
    return head + body + (b"0\r\n\r\n" if is_whole else b"")


@dataclass
class Script:
    """What the server says.

    Attributes:
        base: Where it is.
        answers: One for each connection; when there are none it says nothing more.
        requests: What it was asked, headers and body as they came.
    """

    base: str
    answers: deque[bytes]
    requests: list[bytes] = field(default_factory=list)

    def header(self, number: int, name: str) -> str | None:
        """Give a header of a request."""
        head = self.requests[number].partition(b"\r\n\r\n")[0].decode()
        for line in head.split("\r\n")[1:]:
            key, _, value = line.partition(": ")
            if key.lower() == name.lower():
                return value
        return None


@asynccontextmanager
async def scripted(*answers: bytes) -> AsyncIterator[Script]:
    """Run a server that gives each connection the next answer and then closes it."""
    script = Script("", deque(answers))

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await _converse(script, reader, writer)
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

    serving: set[asyncio.Task[None]] = set()

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.add(asyncio.create_task(serve(reader, writer)))

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    script.base = f"http://127.0.0.1:{port}"
    try:
        yield script
    finally:
        server.close()
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)


async def _converse(
    script: Script, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    head = await reader.readuntil(b"\r\n\r\n")
    lengths = [
        int(line.split(b":")[1])
        for line in head.lower().split(b"\r\n")
        if line.startswith(b"content-length:")
    ]
    body = await reader.readexactly(sum(lengths))
    script.requests.append(head + body)
    if script.answers:
        writer.write(script.answers.popleft())
        await writer.drain()
    else:
        await reader.read()  # Until the client has had enough.

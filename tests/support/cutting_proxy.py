"""A line that breaks: it passes on so many bytes of each connection, then hangs up."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

_CHUNK_BYTES = 4096
_ARRIVING_SECONDS = 0.1
"""What a broken connection had carried counts only where it was also read."""


@dataclass(frozen=True)
class Cut:
    """After how many bytes a connection breaks.

    Attributes:
        there: Of what the client sends.
        back: Of what the server answers.
    """

    there: int = 1 << 40
    back: int = 1 << 40


@dataclass
class Line:
    """What a test does to the line.

    Attributes:
        cuts: Each new connection has the next one; when there are none it lasts.
    """

    cuts: Iterator[Cut] = field(default_factory=lambda: iter(()))
    open_ends: set[asyncio.StreamWriter] = field(default_factory=set)

    def hang_up(self) -> None:
        """Break all connections."""
        for end in self.open_ends:
            end.transport.abort()


@asynccontextmanager
async def cutting_proxy(port: int, target_port: int) -> AsyncIterator[Line]:
    """Listen on a port of loopback and pass on to another."""
    line = Line()
    serving: set[asyncio.Task[None] | None] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.add(asyncio.current_task())
        cut = next(line.cuts, Cut())
        line.open_ends.add(writer)
        there, back = await asyncio.open_connection("127.0.0.1", target_port)
        passing = (
            asyncio.create_task(_pass(reader, back, cut.there)),
            asyncio.create_task(_pass(there, writer, cut.back)),
        )
        await asyncio.wait(passing, return_when=asyncio.FIRST_COMPLETED)
        for task in passing:
            task.cancel()
        line.open_ends.discard(writer)
        for end in (writer, back):
            end.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", port)
    try:
        yield line
    finally:
        server.close()
        line.hang_up()
        await asyncio.gather(*filter(None, serving), return_exceptions=True)


async def _pass(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, rest_bytes: int
) -> None:
    left = rest_bytes
    with suppress(ConnectionError):
        while left and (chunk := await reader.read(min(left, _CHUNK_BYTES))):
            left -= len(chunk)
            writer.write(chunk)
            await writer.drain()
        await asyncio.sleep(_ARRIVING_SECONDS)

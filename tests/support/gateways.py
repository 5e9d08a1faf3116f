"""A network between nodes that can be cut, and that can lie.

Every node is reached through a gateway of its own: a real socket that passes on what
comes, byte for byte. Who is calling stands in each request's signature, so a gateway
can refuse one caller and serve the others, as a broken route would.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

_CALLER = re.compile(rb'keyid="([a-z0-9.-]+)#')
_PATH = re.compile(rb"\A[A-Z]+ ([^ ]+) HTTP/1.1\r\n")
_HEAD_END = b"\r\n\r\n"
_CHUNK = 65_536


@dataclass
class Gateway:
    """The way to one node.

    Attributes:
        name: The node behind it.
        port: Where it listens.
        target: Where the node itself listens.
        refused: Callers that do not get through.
        spoiled: What a lie is about: the last byte of every answer to a path with this
            in it is another one. Empty for no lie.
        detours: Callers that somebody else answers, for paths with a part in them, and
            the port of that one.
    """

    name: str
    port: int
    target: int
    refused: set[str] = field(default_factory=set)
    spoiled: str = ""
    detours: dict[tuple[str, str], int] = field(default_factory=dict)
    _open: dict[asyncio.Task[None], str] = field(default_factory=dict)

    @contextlib.asynccontextmanager
    async def opened(self) -> AsyncIterator[Gateway]:
        """Pass connections on for as long as the block lasts."""
        server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        try:
            yield self
        finally:
            server.close()
            await self._end([*self._open])
            await server.wait_closed()

    async def refuse(self, caller: str) -> None:
        """Let a caller through no more, and end what it has open."""
        self.refused.add(caller)
        await self._end([task for task, who in self._open.items() if who == caller])

    async def _end(self, tasks: list[asyncio.Task[None]]) -> None:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _accept(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open[task] = ""
        try:
            await self._pass_on(task, reader, writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            del self._open[task]
            writer.transport.abort()

    async def _pass_on(
        self,
        task: asyncio.Task[None],
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        from_node, to_node = await asyncio.open_connection("127.0.0.1", self.target)
        try:
            while True:
                head = await reader.readuntil(_HEAD_END)
                caller = _CALLER.search(head)
                self._open[task] = "" if caller is None else caller[1].decode()
                if self._open[task] in self.refused:
                    return
                request = head + await reader.readexactly(_length(head))
                port = self._detour(self._open[task], head)
                if port is not None:
                    await self._ask_elsewhere(port, request, writer)
                    continue
                to_node.write(request)
                await self._answer(head, from_node, writer)
        finally:
            to_node.transport.abort()

    def _detour(self, caller: str, head: bytes) -> int | None:
        path = _PATH.search(head)
        for (who, part), port in self.detours.items():
            if who == caller and path is not None and part in path[1].decode():
                return port
        return None

    async def _ask_elsewhere(
        self, port: int, request: bytes, writer: asyncio.StreamWriter
    ) -> None:
        reader, other = await asyncio.open_connection("127.0.0.1", port)
        try:
            other.write(request)
            await self._answer(request, reader, writer)
        finally:
            other.transport.abort()

    async def _answer(
        self,
        request: bytes,
        from_node: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        head = await from_node.readuntil(_HEAD_END)
        content = await from_node.readexactly(_length(head))
        path = _PATH.search(request)
        if self.spoiled and path is not None and self.spoiled in path[1].decode():
            content = content[:-1] + bytes((content[-1] ^ 1,)) if content else b""
        writer.write(head + content)
        await writer.drain()


def _length(head: bytes) -> int:
    if head.startswith(b"HTTP/1.1 304"):
        return 0
    found = re.search(rb"\r\ncontent-length: ([0-9]+)\r\n", head.lower())
    return 0 if found is None else int(found[1])

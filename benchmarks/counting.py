"""A proxy that counts: stands where a node says it is, and passes everything on."""

from __future__ import annotations

import asyncio
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

_READ: Final = 65_536


class Counter:
    """What has passed so far.

    Attributes:
        bytes_asked: Towards the node.
        bytes_answered: From it.
    """

    def __init__(self) -> None:
        self.bytes_asked = 0
        self.bytes_answered = 0

    @property
    def total(self) -> int:
        """Both ways together."""
        return self.bytes_asked + self.bytes_answered

    async def pass_on(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int
    ) -> None:
        """Join one connection with one to the node."""
        there_reader, there_writer = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(
            self._pump(reader, there_writer, "bytes_asked"),
            self._pump(there_reader, writer, "bytes_answered"),
        )

    async def _pump(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, name: str
    ) -> None:
        with suppress(ConnectionError):
            while data := await source.read(_READ):
                setattr(self, name, getattr(self, name) + len(data))
                sink.write(data)
                await sink.drain()
        sink.close()


@contextmanager
def counted(port: int, to_port: int) -> Iterator[Counter]:
    """Listen on one port of this machine and pass everything on to another."""
    counter = Counter()
    loop = asyncio.new_event_loop()
    ready = threading.Event()

    async def serve() -> None:
        async with await asyncio.start_server(
            lambda reader, writer: counter.pass_on(reader, writer, to_port),
            "127.0.0.1",
            port,
        ):
            ready.set()
            await asyncio.get_running_loop().create_future()

    task = loop.create_task(serve())

    def run() -> None:
        with suppress(asyncio.CancelledError):
            loop.run_until_complete(task)

    thread = threading.Thread(target=run, name="counting-proxy", daemon=True)
    thread.start()
    ready.wait()
    try:
        yield counter
    finally:
        loop.call_soon_threadsafe(task.cancel)
        thread.join()

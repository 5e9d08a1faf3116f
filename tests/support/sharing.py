"""A company whose node is several processes on one PostgreSQL database."""

from __future__ import annotations

import asyncio
import itertools
import os
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from unittest import mock

from hashlight_node.demo.company import Company, make_company
from hashlight_node.local_client import LocalClient, NodeUnreachableError
from support.nodes import free_port
from support.stores import empty_postgresql

_CONFIG = """\
[node]
name = "{name}"
base = "{base}"
[federation]
listen = "127.0.0.1:{federation}"
static_directory = "{home}/static"
[local]
listen = "127.0.0.1:{local}"
workers = {workers}
[store]
url = "{url}"
shared_at = "127.0.0.1"
[keys]
directory = "{keys}"
"""


@dataclass
class Sharing:
    """Processes of one node, and what peers reach them through.

    Attributes:
        url: The database.
        processes: Each with settings, ports and a last-signed store of its own.
        balancer: In front of their federation listeners, at the node's base.
    """

    url: str
    processes: list[Company]
    balancer: Balancer
    _turn: int = field(default=0, init=False)

    def leaders(self) -> list[Company]:
        """Give the processes that say that they lead."""
        return [one for one in self.processes if leads(one)]

    def leader(self) -> Company:
        """Give the one that does."""
        (leader,) = self.leaders()
        return leader

    def others(self, leader: Company) -> list[Company]:
        """Give those that stand by, if one leads."""
        return [one for one in self.processes if one is not leader]

    def client(self) -> LocalClient:
        """Give the local API of the next process, in turns."""
        self._turn += 1
        return self.processes[self._turn % len(self.processes)].client


def make_sharing(
    directory: Path, name: str, count: int, *, workers: int = 0, url: str | None = None
) -> Sharing:
    """Make a node with so many processes; none is started.

    Args:
        directory: Where everything of it goes.
        name: Node name; in it are letters and dots only.
        count: How many processes.
        workers: How many worker processes each of them has.
        url: An empty database; one of the server of all tests if not said.
    """
    url = url or empty_postgresql(f"hl_{name.replace('.', '_')}_{os.urandom(4).hex()}")
    with mock.patch.dict(os.environ, {"HASHLIGHT_STORE_URL": url}):
        made = make_company(directory, name)
    processes = []
    targets = []
    for number in range(count):
        home = directory / f"process-{number}"
        home.mkdir(mode=0o700)
        federation, local = free_port(), free_port()
        targets.append(federation)
        text = _CONFIG.format(
            name=name,
            base=made.base,
            home=home,
            federation=federation,
            local=local,
            url=url,
            keys=made.directory / "keys",
            workers=workers,
        )
        (home / "hashlight.toml").write_text(text, encoding="utf-8")
        token = (made.directory / "admin.token").read_text("ascii").strip()
        (home / "admin.token").touch(mode=0o600)
        (home / "admin.token").write_text(token + "\n", encoding="ascii")
        client = LocalClient(f"127.0.0.1:{local}", token)
        processes.append(Company(name, home, made.base, made.vkey, client))
    port = int(made.base.rpartition(":")[2])
    return Sharing(url, processes, Balancer(port, targets))


def leads(process: Company) -> bool:
    """Tell whether a process says that it leads; one that is not there does not."""
    try:
        text = process.client.get_bytes("/metrics").decode()
    except NodeUnreachableError:
        return False
    return "\nhashlight_leads 1.0\n" in text


class Balancer:
    """Passes connections on to whichever process takes them, in turns.

    Args:
        port: Where it listens.
        targets: Ports on this machine.
    """

    def __init__(self, port: int, targets: list[int]) -> None:
        self._port = port
        self._targets = targets
        self._turns = itertools.count()
        self._writers: set[asyncio.StreamWriter] = set()
        self._loop: asyncio.AbstractEventLoop
        self._listens = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Begin to listen."""
        self._loop = asyncio.new_event_loop()
        self._thread.start()
        assert self._listens.wait(10)

    def stop(self) -> None:
        """Hang up on everybody."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(
            asyncio.start_server(self._accept, "127.0.0.1", self._port)
        )
        self._listens.set()
        self._loop.run_forever()
        server.close()
        self._loop.run_until_complete(self._hang_up())
        self._loop.close()

    async def _hang_up(self) -> None:
        for writer in self._writers:
            writer.transport.abort()
        tasks = asyncio.all_tasks(self._loop) - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)

    async def _accept(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        try:
            there, back = await self._connect()
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, back}
        try:
            await asyncio.gather(_copy(reader, back), _copy(there, writer))
        finally:
            self._writers -= {writer, back}
            writer.transport.abort()
            back.transport.abort()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        turn = next(self._turns)
        error: OSError | None = None
        for number in range(len(self._targets)):
            port = self._targets[(turn + number) % len(self._targets)]
            try:
                return await asyncio.open_connection("127.0.0.1", port)
            except OSError as refused:
                error = refused
        assert error is not None
        raise error


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    finally:
        with suppress(OSError, RuntimeError):
            writer.write_eof()

"""A node of several real processes."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, TYPE_CHECKING, Any

import aiohttp
import pytest

from hashlight_node.api.local import generate_secret, hash_secret
from hashlight_node.model import Scope
from hashlight_node.store.database import Database
from hashlight_node.store.tokens import insert_token
from support.nodes import make_settings
from support.processes import python_path

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from hashlight_node.config import Settings

Json = dict[str, Any]

_READY = "node is ready"
_SERVE = ("-m", "hashlight_node", "serve", "-c")


@dataclass
class Served:
    """A node that runs as `hashlight serve`.

    Attributes:
        settings: Its.
        token: Of its administrator.
        log: What it writes to standard error.
        command: What is run.
        environment: In which.
        popen: The supervisor.
    """

    settings: Settings
    token: str
    log: IO[str]
    command: Sequence[str]
    environment: Mapping[str, str]
    popen: subprocess.Popen[str] = field(init=False)

    def start(self) -> None:
        """Start it, and return when it is ready or has ended."""
        before = self.events().count(_READY)
        self.popen = subprocess.Popen(
            self.command, stderr=self.log, text=True, env=self.environment
        )
        wait_until(
            lambda: (
                self.popen.poll() is not None or self.events().count(_READY) > before
            )
        )

    @property
    def base(self) -> str:
        return f"http://{self.settings.local.listen}"

    @property
    def home(self) -> Path:
        """The directory with the database, and that of the processes' sockets."""
        return self.settings.store.directory

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}

    @property
    def children(self) -> list[int]:
        """The node, then the workers, in the order in which they were started."""
        path = Path(f"/proc/{self.popen.pid}/task/{self.popen.pid}/children")
        return sorted(int(pid) for pid in path.read_text().split())

    def events(self) -> list[str]:
        """Give what the log says so far."""
        return [entry["event"] for entry in self.entries()]

    def entries(self) -> list[Json]:
        """Give the log's lines so far."""
        self.log.seek(0)
        lines = self.log.read().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def session(self) -> aiohttp.ClientSession:
        """Make a client that opens a connection for every request, to meet all."""
        connector = aiohttp.TCPConnector(force_close=True)
        return aiohttp.ClientSession(
            self.base, headers=self.headers, connector=connector
        )

    def stop(self, number: int = signal.SIGTERM) -> int:
        """End it, and give its exit status."""
        self.popen.send_signal(number)
        return self.popen.wait(30)


def wait_until(condition: Callable[[], bool], seconds: float = 30) -> None:
    """Wait for a condition that must come true."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@contextmanager
def serving(
    directory: Path, workers: int, extra: str = "", program: Sequence[str] = _SERVE
) -> Iterator[Served]:
    """Run a node with workers until the block ends.

    Args:
        directory: Where its files are made.
        workers: How many.
        extra: More settings.
        program: Arguments for Python; the configuration's path comes behind them.
    """
    settings = make_settings(directory, "alpha.example", extra)
    token = generate_secret()
    asyncio.run(_add_token(settings.store.url, token))
    config = directory / "alpha.example" / "hashlight.toml"
    environment = {**python_path(), "HASHLIGHT_LOCAL_WORKERS": str(workers)}
    command = (sys.executable, *program, str(config))
    # Appended to: the processes share our place in the file, which reading moves.
    with (directory / "log").open("a+") as log:
        served = Served(settings, token, log, command, environment)
        try:
            served.start()
            yield served
        finally:
            left = [] if served.popen.poll() is not None else served.children
            served.popen.kill()
            served.popen.wait()
            for pid in left:
                _kill(pid)


def _kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


async def _add_token(url: str, token: str) -> None:
    database = Database.open(url)
    await database.write(
        lambda conn: insert_token(conn, "test", [Scope.ADMIN], hash_secret(token), 1)
    )
    await database.close()


@pytest.fixture
def near() -> Iterator[Path]:
    """Give a directory whose path is short, so that sockets are in it."""
    with TemporaryDirectory(prefix="hl-") as directory:
        yield Path(directory)


@pytest.fixture
def served(near: Path) -> Iterator[Served]:
    with serving(near, 2, "[matching]\nlog_matches = true\n") as node:
        yield node

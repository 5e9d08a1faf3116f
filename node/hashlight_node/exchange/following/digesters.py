"""Processes that digest bundles, for as long as a long copy takes.

Python runs one thread at a time, and a copy keeps it busy: fetching, checking, reading
and storing. Checking and reading need nothing of the node, so for a long copy another
process does them. Whatever becomes of that process, nothing is lost: what it does not
answer is done here.
"""

from __future__ import annotations

import asyncio
import os
import sys
from asyncio.subprocess import PIPE
from collections import deque
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Final

from .digesting import LENGTH, encode_job, read_digested

if TYPE_CHECKING:
    from asyncio.subprocess import Process
    from collections.abc import AsyncIterator

    from .digesting import Digested, Job

_WORTHWHILE: Final = 50_000
"""Entries from which the start of a process, half a second, is soon made up for."""

_COMMAND: Final = ("-m", "hashlight_node.exchange.following.digesting")


class Digester:
    """One process, and what it was asked.

    Args:
        process: Runs `digesting`.
    """

    def __init__(self, process: Process) -> None:
        self._process = process
        self._asked: deque[asyncio.Future[bytes]] = deque()
        self._is_gone = False
        self._reading = asyncio.create_task(self._read())

    @property
    def pid(self) -> int:
        """Number of the process."""
        return self._process.pid

    async def digest(self, job: Job) -> Digested | None:
        """Have a bundle checked and read.

        Returns:
            None if something is wrong with the bundle or with the process.
        """
        jobs = self._process.stdin
        if self._is_gone or jobs is None:
            return None
        raw = encode_job(job)
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        # In one step, so that answers come in the order of the questions.
        jobs.write(LENGTH.pack(len(raw)) + raw)
        self._asked.append(answer)
        with suppress(OSError):  # It is gone, which the answer says.
            await jobs.drain()
        return read_digested(await answer)

    async def close(self) -> None:
        """End the process; nobody may be asking any more."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        with suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()
        await self._reading

    async def _read(self) -> None:
        answers = self._process.stdout
        with suppress(asyncio.IncompleteReadError, OSError):
            while answers is not None:
                (length,) = LENGTH.unpack(await answers.readexactly(LENGTH.size))
                _tell(self._asked.popleft(), await answers.readexactly(length))
        self._is_gone = True
        while self._asked:
            _tell(self._asked.popleft(), b"")


class Digesters:
    """Lends processes to long copies, as many as there are processors to spare.

    Args:
        processors: How many there are; all that this process may use if not said.
    """

    def __init__(self, processors: int | None = None) -> None:
        self._left = (_processors() if processors is None else processors) - 1

    @asynccontextmanager
    async def lend(self, count: int) -> AsyncIterator[Digester | None]:
        """Give a process to digest bundles with.

        Args:
            count: Entries that are to be copied.

        Yields:
            None if it is not worth while, or all processors are busy.
        """
        if count < _WORTHWHILE or self._left <= 0:
            yield None
            return
        self._left -= 1
        digester: Digester | None = None
        try:
            digester = Digester(await _start())
            yield digester
        finally:
            self._left += 1
            if digester is not None:
                await digester.close()


def _processors() -> int:
    # Not every system can tell which of them this process may use.
    usable = getattr(os, "sched_getaffinity", None)
    return len(usable(0)) if usable else os.cpu_count() or 1


async def _start() -> Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        *_COMMAND,
        stdin=PIPE,
        stdout=PIPE,
        # Ctrl-C is for the node, which ends its processes in order.
        start_new_session=True,
    )


def _tell(answer: asyncio.Future[bytes], raw: bytes) -> None:
    if not answer.done():
        answer.set_result(raw)

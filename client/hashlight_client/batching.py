"""Many single lookups at the same time become one request.

A service that asks for one signal an upload has hundreds of calls under way at
once. Each waits a millisecond at most for others to come along: the node then answers
them together for a fraction of the work.
"""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Final, NamedTuple

from .errors import BadAnswerError, HashlightError, ProblemError
from .requests import MAX_LOOKUP_BYTES, MAX_QUERIES, encode_query

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from .values import Answer, Result, Signal

_QUERY_POINTER: Final = re.compile(r"/queries/([0-9]{1,3})(?:/.*)?")
_UNPROCESSABLE: Final = 422


class _Waiting(NamedTuple):
    query: bytes
    future: asyncio.Future[Result]


class Batcher:
    """Collects single lookups into requests.

    Args:
        send: Looks several queries up, in one request.
        wait_seconds: How long the first one waits for others.
    """

    def __init__(
        self,
        send: Callable[[Sequence[bytes]], Awaitable[Answer]],
        wait_seconds: float,
    ) -> None:
        self._send = send
        self._wait_seconds = wait_seconds
        self._waiting: list[_Waiting] = []
        self._bytes = 0
        self._timer: asyncio.TimerHandle | None = None
        self._sending: set[asyncio.Task[None]] = set()

    async def lookup(self, signal: Signal) -> Result:
        """Look one signal up, together with whoever asks at the same time.

        Raises:
            HashlightError: Of the whole request; or of this query alone, if it is one
                that the node refuses: those beside it are asked for again without it.
        """
        loop = asyncio.get_running_loop()
        query = encode_query(signal)
        if self._bytes + len(query) > MAX_LOOKUP_BYTES:
            self._flush()
        waiting = _Waiting(query, loop.create_future())
        self._waiting.append(waiting)
        self._bytes += len(query) + 1
        if len(self._waiting) == MAX_QUERIES:
            self._flush()
        elif self._timer is None:
            self._timer = loop.call_later(self._wait_seconds, self._flush)
        return await waiting.future

    def _flush(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        batch, self._waiting, self._bytes = self._waiting, [], 0
        if batch:
            task = asyncio.get_running_loop().create_task(self._run(batch))
            self._sending.add(task)
            task.add_done_callback(self._sending.discard)

    async def close(self) -> None:
        """Send nothing more; whoever still waits is cancelled."""
        if self._timer is not None:
            self._timer.cancel()
        for waiting in self._waiting:
            waiting.future.cancel()
        for task in list(self._sending):
            task.cancel()
        await asyncio.gather(*self._sending, return_exceptions=True)

    async def _run(self, batch: list[_Waiting]) -> None:
        left = [it for it in batch if not it.future.done()]
        try:
            while left:
                left = await self._run_once(left)
        finally:
            # Cancelled, or a mistake of ours: nobody is left waiting for ever.
            for waiting in left:
                waiting.future.cancel()

    async def _run_once(self, batch: list[_Waiting]) -> list[_Waiting]:
        """Ask for a batch; give those that are to be asked for again."""
        try:
            answer = await self._send([it.query for it in batch])
            if len(answer.results) != len(batch):
                reason = "it has not one result for each query"
                raise BadAnswerError(reason)
        except HashlightError as error:
            refused = _refused(error, len(batch))
            for number, waiting in enumerate(batch):
                if number in refused and not waiting.future.done():
                    waiting.future.set_exception(error)
        else:
            for waiting, result in zip(batch, answer.results, strict=True):
                if not waiting.future.done():
                    waiting.future.set_result(result)
        return [it for it in batch if not it.future.done()]


def _refused(error: HashlightError, count: int) -> set[int]:
    """Tell whom an error concerns: single queries, or all of them."""
    everybody = set(range(count))
    if not isinstance(error, ProblemError) or error.status != _UNPROCESSABLE:
        return everybody
    faults = error.problem.get("errors")
    pointers = [
        _QUERY_POINTER.fullmatch(str(fault.get("pointer")))
        for fault in (faults if isinstance(faults, list) else [])
        if isinstance(fault, dict)
    ]
    named = {int(match[1]) for match in pointers if match} & everybody
    return named or everybody

"""What worker processes have counted, as the node asks them for it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import aiohttp

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_SECONDS: Final = 2.0
"""Time for a worker to answer; it does so between two lookups."""


async def collect_counts(counters: Mapping[str, Path]) -> dict[str, bytes]:
    """Ask all workers at once.

    Args:
        counters: By worker, the socket on which it tells its metrics.

    Returns:
        By worker, its metrics in Prometheus' text format; a worker that does not
        answer, because it is just being started for example, is missing.
    """
    answers = await asyncio.gather(*map(_ask, counters.values()))
    return {
        worker: answer
        for worker, answer in zip(counters, answers, strict=True)
        if answer is not None
    }


async def _ask(socket: Path) -> bytes | None:
    timeout = aiohttp.ClientTimeout(total=_SECONDS)
    connector = aiohttp.UnixConnector(path=str(socket))
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        try:
            async with session.get("http://worker/metrics") as answer:
                return await answer.read()
        except (aiohttp.ClientError, TimeoutError):
            return None

"""Takes a node's snapshot to where rows are, and tells what was withdrawn since."""

from __future__ import annotations

import hashlib
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .feed import follow_changes
from .following import SNAPSHOT
from .local_index import LocalIndex
from .values import Current

if TYPE_CHECKING:
    from .client import AsyncClient


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All live signals of a node at one moment.

    Attributes:
        raw: As the node wrote it; protect it as you protect the node. Never shown:
            engines write the arguments of what fails to their logs.
        name: Tells it from any other.
        pdq_threshold: Where near matches end at this node.
    """

    raw: bytes = field(repr=False)
    name: str
    pdq_threshold: int

    def index(self) -> LocalIndex:
        """Load it; a few million signals a second."""
        return LocalIndex.from_snapshot(self.raw)


async def take_snapshot(node: AsyncClient) -> Snapshot:
    """Fetch what is live now; everything that was when this was called is in it.

    Raises:
        HashlightError: The node does not answer, or refuses.
    """
    transport = node._transport  # noqa: SLF001 -- of the same package

    async def fetch() -> bytes:
        silence = transport.timeout_seconds
        async with transport.stream("GET", SNAPSHOT, silence_seconds=silence) as it:
            return await it.read()

    raw = await transport.retries.run(fetch)
    current = await newest(node)
    return Snapshot(raw, hashlib.sha256(raw).hexdigest(), current.pdq_threshold)


async def newest(node: AsyncClient) -> Current:
    """Learn which change was the last one.

    Raises:
        HashlightError: The node does not answer, or refuses.
    """
    _, current = await _until_current(node, None)
    return current


async def died_after(node: AsyncClient, change_id: str) -> bool:
    """Tell whether any signal died after a change.

    Raises:
        ChangesLostError: The node no longer knows.
        HashlightError: The node does not answer, or refuses.
    """
    died, _ = await _until_current(node, change_id)
    return died


async def _until_current(node: AsyncClient, after: str | None) -> tuple[bool, Current]:
    died = False
    transport = node._transport  # noqa: SLF001 -- of the same package
    async with aclosing(follow_changes(transport, after=after)) as feed:
        async for news in feed:
            if isinstance(news, Current):
                return died, news
            if news.signal is None:
                died = True
    raise AssertionError  # pragma: no cover -- the feed has no end

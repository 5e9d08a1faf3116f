"""A node under test and those who call its federation listener."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson
from multidict import CIMultiDict
from yarl import URL

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    import aiohttp

    from hashlight_node.app import RunningNode
    from hashlight_node.config import Settings
    from hashlight_node.model import Peer

    from .clock import ManualClock
    from .nodes import Sender


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: CIMultiDict[str]
    body: bytes

    @property
    def problem(self) -> str:
        """Code of the problem document."""
        return str(self.json()["type"]).removeprefix("hsf:")

    def json(self) -> dict[str, Any]:
        """Read the body."""
        document: dict[str, Any] = orjson.loads(self.body)
        return document

    @property
    def said(self) -> tuple[int, bytes, dict[str, str]]:
        """All that a caller can tell answers apart by."""
        differs = {"date", "x-request-id"}
        headers = {k.lower(): v for k, v in self.headers.items()}
        return self.status, self.body, {k: headers[k] for k in headers.keys() - differs}


@dataclass(frozen=True)
class World:
    """A node under test, with one peer and one stranger."""

    running: RunningNode
    settings: Settings
    clock: ManualClock
    peer: Sender
    stranger: Sender
    session: aiohttp.ClientSession

    async def send(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str] | None = None,
        body: bytes | AsyncIterator[bytes] | None = None,
    ) -> Answer:
        """Send exactly this."""
        async with self.session.request(
            method,
            URL(self.settings.node.base + path, encoded=True),
            headers=headers,
            data=body,
            allow_redirects=False,
            skip_auto_headers=("Content-Type", "Accept-Encoding"),
        ) as response:
            return Answer(
                response.status,
                CIMultiDict(response.headers),
                await response.read(),
            )

    async def ask(
        self,
        path: str,
        *,
        sender: Sender | None = None,
        method: str = "GET",
        body: bytes = b"",
        **headers: str,
    ) -> Answer:
        """Send a signed request, by the peer unless said otherwise."""
        signed = (sender or self.peer).headers(method, path, body)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.send(method, path, {**signed, **named}, body or None)

    async def pinned(self, sender: Sender) -> Peer:
        """Make a sender a peer of the node."""
        return await self.running.foundation.database.write(sender.pin)

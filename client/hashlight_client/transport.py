"""HTTP to one node: a bearer token, no redirects, errors as values of ours."""

from __future__ import annotations

from contextlib import asynccontextmanager
from io import BytesIO
from typing import TYPE_CHECKING, Final

import aiohttp
from yarl import URL

from .decoding import decode_object
from .errors import BadAnswerError, ClosedError, NodeUnreachableError, ProblemError
from .retrying import parse_retry_after

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Mapping

    from .retrying import Retries

JSON: Final = "application/json"

_REFUSED: Final = 400
_REDIRECTED: Final = 300
_PROBLEM_BYTES: Final = 65_536
_AT_ONCE_BYTES: Final = 262_144


class Transport:
    """Requests to one node, over connections that are kept.

    Args:
        base: `http://host:port` of its local listener.
        token: Bearer token; in no message and no representation.
        timeout_seconds: Bound on one attempt; of an answer that streams, on each
            silence in it.
        retries: When to repeat a request.
        connections: Most requests at the same time; others wait for their turn.
        tls: For an `https` base with a private authority.
    """

    def __init__(
        self,
        base: str,
        token: str,
        *,
        timeout_seconds: float,
        retries: Retries,
        connections: int,
        tls: ssl.SSLContext | None,
    ) -> None:
        self.base = _check_base(base)
        self.retries = retries
        self._token = token
        self.timeout_seconds = timeout_seconds
        self._connections = connections
        self._tls = tls
        self._session: aiohttp.ClientSession | None = None
        self._closed = False

    async def close(self) -> None:
        """Close all connections; later requests raise `ClosedError`."""
        self._closed = True
        if self._session is not None:
            await self._session.close()

    async def exchange(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> bytes:
        """Send a request, again if need be, and give the whole answer.

        Raises:
            NodeUnreachableError: Nothing answered until patience ended.
            ProblemError: The node refused.
            BadAnswerError: What answered is no node.
            ClosedError: The client was closed.
        """

        async def attempt() -> bytes:
            async with self.stream(method, path, body, headers) as answer:
                return await answer.read()

        return await self.retries.run(attempt)

    @asynccontextmanager
    async def stream(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        silence_seconds: float | None = None,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Send a request once, and give its answer to be read.

        Whatever breaks while the answer is read is raised as an error of ours, too.

        Args:
            method: HTTP method.
            path: With its query, percent-encoded.
            body: The bytes to send.
            headers: More than the usual ones.
            silence_seconds: Of an answer that may take for ever, how long it may pause;
                if None the time for all of it is bounded.
        """
        seconds = self.timeout_seconds
        timeout = aiohttp.ClientTimeout(
            total=seconds if silence_seconds is None else None,
            sock_connect=seconds,
            sock_read=silence_seconds or seconds,
        )
        try:
            async with self._open().request(
                method,
                URL(self.base + path, encoded=True),
                data=_as_sent(body),
                headers=headers,
                timeout=timeout,
                allow_redirects=False,
            ) as answer:
                await _raise_refusal(answer)
                yield answer
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise NodeUnreachableError(self.base, type(error).__name__) from error

    def _open(self) -> aiohttp.ClientSession:
        if self._closed:
            raise ClosedError
        if self._session is None:
            connector = aiohttp.TCPConnector(
                limit=self._connections, ssl=self._tls or True
            )
            self._session = aiohttp.ClientSession(
                connector=connector,
                headers={
                    "Authorization": f"Bearer {self._token}",
                    "User-Agent": "hashlight-client",
                },
                # The node sends as it is; hashes do not compress.
                skip_auto_headers=["Accept-Encoding", "Content-Type"],
            )
        return self._session


def _check_base(base: str) -> str:
    url = URL(base)
    if url.scheme not in {"http", "https"} or not url.host or url.raw_path != "/":
        message = "the base of a node is written http://host:port"
        raise ValueError(message)
    return base.rstrip("/")


def _as_sent(body: bytes | None) -> bytes | BytesIO | None:
    # aiohttp warns of large bytes, because it copies them in one go.
    return BytesIO(body) if body is not None and len(body) > _AT_ONCE_BYTES else body


async def _raise_refusal(answer: aiohttp.ClientResponse) -> None:
    if answer.status < _REDIRECTED:
        return
    if answer.status < _REFUSED:
        reason = f"it redirects ({answer.status})"
        raise BadAnswerError(reason)
    raw = await answer.content.read(_PROBLEM_BYTES)
    try:
        problem = decode_object(raw)
    except BadAnswerError:
        problem = {}  # A proxy's page: its status has to do.
    asked = parse_retry_after(answer.headers.get("Retry-After"))
    raise ProblemError(answer.status, problem, asked)

"""One signed HTTP request to a peer, and a bounded answer to it.

`PeerClient` knows what to ask for; this knows how a question and its answer travel.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import aiohttp
from yarl import URL

from hashlight_protocol import (
    HttpRequest,
    MalformedError,
    ProtocolError,
    TooLargeError,
    parse_ijson,
    sign_request,
)

from .decoding import ACCEPTED, decode
from .errors import (
    PeerClockSkewError,
    PeerMisbehavedError,
    PeerRefusedError,
    PeerUnavailableError,
    digest_of,
)
from .reasons import explain

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hashlight_node.model import Clock
    from hashlight_protocol import RequestSigner

    from .clocks import PeerClocks
    from .network import Base

_CONNECT_SECONDS: Final = 10
_PROBLEM_BYTES: Final = 16 * 1024

_SLOWEST_BYTES: Final = 1024
"""Bytes a second that an answer must come with; who is slower holds a place that the
peer's other answers need, and cannot keep up with any list."""

_HEAD_START_SECONDS: Final = 5
"""How long an answer may stand still at most, when nothing of it was in hand."""

_EVIDENCE_BYTES: Final = 64 * 1024
_MAX_RETRY_SECONDS: Final = 86_400
_CODE: Final = re.compile(r"hsf:([a-z]{1,20}(?:-[a-z]{1,20}){0,4})", re.ASCII)
_NOT_MODIFIED: Final = 304
_FORBIDDEN: Final = 403
_TOO_MANY_REQUESTS: Final = 429
_CENTURY_SECONDS: Final = 100 * 366 * 86_400


@dataclass(frozen=True, slots=True)
class Question:
    """What to ask a peer.

    Attributes:
        method: In capitals.
        path: From the node's base on, percent-encoded, without a query.
        what: What is asked for, for errors.
        limit_bytes: Largest answer, decoded.
        body: The request's content; empty for none.
        content_type: Its media type; None exactly if there is no body.
        headers: More header fields.
        holds_bodies: Whether the answer is made of record bodies. It may then come
            compressed, and no evidence keeps it.
        wait_seconds: How long the peer may hold the answer back (a long poll).
        sending_seconds: How much longer a large request may take.
        whole_statuses: Statuses of answers that may be as large as the limit.
    """

    method: str
    path: str
    what: str
    limit_bytes: int
    body: bytes = b""
    content_type: str | None = None
    headers: Mapping[str, str] | None = None
    holds_bodies: bool = False
    wait_seconds: int = 0
    sending_seconds: int = 0
    whole_statuses: frozenset[int] = frozenset({200})


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back, whole and within its limit.

    Attributes:
        status: HTTP status.
        headers: Header fields, names in lower case; of a repeated one the first.
        body: Decoded content.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def media_type(self) -> str:
        """Content-Type without parameters, in lower case."""
        value = self.headers.get("content-type", "")
        return value.partition(";")[0].strip().lower()


class Transport:
    """Sends questions in the name of this node.

    Args:
        session: From `open_session`; belongs to the caller.
        key_id: `<node>#<http key id>` of this node.
        signer: Holds that key.
        clock: For the time in signatures.
        clocks: Told which peers say that our time is not theirs.
        timeout_seconds: From the request's start to the answer's last byte, on top of
            what a long poll may wait.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        *,
        key_id: str,
        signer: RequestSigner,
        clock: Clock,
        clocks: PeerClocks,
        timeout_seconds: int,
    ) -> None:
        self._session = session
        self._clocks = clocks
        self._credentials = (key_id, signer)
        self._clock = clock
        self._timeout_seconds = timeout_seconds

    def sign_with(self, key_id: str, signer: RequestSigner) -> None:
        """Sign with another key from now on.

        Args:
            key_id: `<node>#<http key id>` of this node.
            signer: Holds that key.
        """
        self._credentials = (key_id, signer)

    async def ask(self, peer: str, base: Base, question: Question) -> Answer:
        """Send a signed request.

        Args:
            peer: Its name, for errors.
            base: Where it is.
            question: What to ask.

        Returns:
            The answer, whatever its status below 500 is, 429 excepted.

        Raises:
            PeerUnavailableError: No answer, not in time, or 429 or 5xx; or its clock
                and ours differ, so that it refuses whatever we sign.
            PeerMisbehavedError: The answer is larger than its limit, its coding is
                broken, or no request can be made to its base.
        """
        try:
            headers = self._sign(base, question)
        except ProtocolError as error:
            # What we ask is in order, so it is where the peer wants to be asked.
            raise _misbehaved(peer, question, error, base.url.encode()) from error
        answer = await self._send(peer, base, question, headers)
        self._compare_clocks(peer, answer)
        return answer

    def _compare_clocks(self, peer: str, answer: Answer) -> None:
        """Learn from an answer whether the peer takes our signatures' times.

        Raises:
            PeerClockSkewError: It does not. Both may be right tomorrow, so this is no
                refusal that would need an operator's word.
        """
        if answer.status != _FORBIDDEN:
            self._clocks.agree(peer)
            return
        offset_seconds = _clock_offset(answer, self._clock())
        if offset_seconds is not None:
            self._clocks.differ(peer, offset_seconds)
            raise PeerClockSkewError(peer, offset_seconds)

    def _sign(self, base: Base, question: Question) -> dict[str, str]:
        path = base.path + question.path
        key_id, signer = self._credentials
        return sign_request(
            HttpRequest(question.method, base.authority, path, question.body),
            content_type=question.content_type,
            key_id=key_id,
            signer=signer,
            now=self._clock(),
        )

    async def ask_unsigned(self, peer: str, base: Base, question: Question) -> Answer:
        """Send a request that does not say who we are; else like `ask`."""
        return await self._send(peer, base, question, {})

    async def _send(
        self, peer: str, base: Base, question: Question, headers: Mapping[str, str]
    ) -> Answer:
        total_seconds = (
            self._timeout_seconds + question.wait_seconds + question.sending_seconds
        )
        coding = ACCEPTED if question.holds_bodies else "identity"
        try:
            async with self._session.request(
                question.method,
                # Encoded already: what is sent is what was signed.
                URL(base.url + question.path, encoded=True),
                data=question.body or None,
                headers={
                    **(question.headers or {}),
                    **headers,
                    "Accept-Encoding": coding,
                },
                skip_auto_headers=("Content-Type",),
                allow_redirects=False,
                auto_decompress=False,
                timeout=aiohttp.ClientTimeout(
                    total=total_seconds, sock_connect=_CONNECT_SECONDS
                ),
            ) as response:
                return await _receive(peer, question, response)
        except TimeoutError:
            reason = f"no whole answer within {total_seconds} s"
            raise PeerUnavailableError(peer, reason) from None
        except (aiohttp.ClientError, OSError, UnicodeError) as error:
            # UnicodeError: a name that no resolver could even be asked for.
            raise PeerUnavailableError(peer, explain(error)) from error


async def _receive(
    peer: str, question: Question, response: aiohttp.ClientResponse
) -> Answer:
    status = response.status
    if status == _TOO_MANY_REQUESTS or status >= 500:  # noqa: PLR2004 -- HTTP's classes
        raise PeerUnavailableError(
            peer, f"it answers with status {status}", _retry_after(response)
        )
    is_whole = status in question.whole_statuses
    limit = question.limit_bytes if is_whole else _PROBLEM_BYTES
    raw = await _read(peer, question, response, limit)
    headers: dict[str, str] = {}
    for name, value in response.headers.items():
        headers.setdefault(name.lower(), value)
    coding = headers.get("content-encoding", "")
    if not question.holds_bodies and coding.lower() not in {"", "identity"}:
        cause = MalformedError("answer", "it is coded in a way nobody asked for")
        raise _misbehaved(peer, question, cause, raw)
    try:
        body = decode(raw, coding, what="answer", limit_bytes=limit)
    except ProtocolError as error:
        raise _misbehaved(peer, question, error, raw) from error
    return Answer(status, headers, body)


async def _read(
    peer: str, question: Question, response: aiohttp.ClientResponse, limit_bytes: int
) -> bytes:
    chunks: list[bytes] = []
    total_bytes = 0
    loop = asyncio.get_running_loop()
    started = loop.time()
    patience = asyncio.timeout(_HEAD_START_SECONDS)
    try:
        async with patience:
            async for chunk in response.content.iter_any():
                chunks.append(chunk)
                total_bytes += len(chunk)
                if total_bytes > limit_bytes:
                    # The rest is not read: leaving the response closes the connection.
                    cause = TooLargeError("answer", limit_bytes)
                    raise _misbehaved(peer, question, cause, b"".join(chunks))
                seconds = _HEAD_START_SECONDS + total_bytes / _SLOWEST_BYTES
                patience.reschedule(started + seconds)
    except TimeoutError:
        if not patience.expired():
            raise  # All the time that the request had is over.
        raise PeerUnavailableError(peer, "its answer comes too slowly") from None
    return b"".join(chunks)


def _misbehaved(
    peer: str, question: Question, cause: ProtocolError, raw: bytes
) -> PeerMisbehavedError:
    evidence = digest_of(raw) if question.holds_bodies else raw[:_EVIDENCE_BYTES]
    return PeerMisbehavedError(peer, question.what, cause, evidence)


def refusal(peer: str, answer: Answer) -> PeerRefusedError:
    """Say what an answer other than 200 means."""
    return PeerRefusedError(peer, answer.status, _problem_code(answer))


def is_unmodified(answer: Answer) -> bool:
    """Tell whether there was nothing new within the time of a long poll."""
    return answer.status == _NOT_MODIFIED


def _clock_offset(answer: Answer, now: int) -> int | None:
    """Read how far a peer's clock is ahead of ours, if that is why it refuses."""
    told = _problem(answer).get("now")
    if _problem_code(answer) != "clock-skew" or type(told) is not int:
        return None
    # Numbers of JSON are within 2^53; more than a century is said as one.
    return max(-_CENTURY_SECONDS, min(told - now, _CENTURY_SECONDS))


def _problem(answer: Answer) -> Mapping[str, object]:
    try:
        document = parse_ijson(answer.body, max_bytes=_PROBLEM_BYTES)
    except ProtocolError:
        return {}
    return document if isinstance(document, dict) else {}


def _problem_code(answer: Answer) -> str:
    unknown = "redirect" if 300 <= answer.status < 400 else "no-reason-given"  # noqa: PLR2004
    kind = _problem(answer).get("type")
    match = _CODE.fullmatch(kind) if isinstance(kind, str) else None
    return unknown if match is None else match[1]


def _retry_after(response: aiohttp.ClientResponse) -> int | None:
    # The other form, a date, would make us trust the peer's clock.
    value = response.headers.get("Retry-After", "")
    if not (value.isascii() and value.isdecimal() and len(value) <= 6):  # noqa: PLR2004
        return None
    return min(int(value), _MAX_RETRY_SECONDS)

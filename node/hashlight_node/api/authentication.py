"""From a request on the federation listener to the peer that sent it, or to a refusal.

Everything but the descriptor is for peers, so this runs before any handler and has no
way around it. What a stranger can find out is bounded:

- What follows from the request alone (no signature, not of the profile, signed at
  another time, a body that is not the digested one) is answered exactly, so that an
  honest implementer can mend it.
- Whether the sender is a peer is not told. A node that is not pinned, a key that its
  descriptor does not have, a signature that does not match and a peer in quarantine
  get one answer, after the same work: where there is no key to verify with, one that
  nobody holds stands in.
- A key that is not known makes us fetch the peer's descriptor again, but in the
  background and rarely: waiting for it would tell, by the time it takes, that the
  sender is a peer. The sender tries again, as it would after any refusal.

A body is read from peers only, each within its own limit. The signature covers the
digest of the body and not the body, so who sent it is known before any of it is read,
and strangers who hold bodies back hold nothing of ours.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from aiohttp import web

from hashlight_node.model import Clock, Peer, PeerState
from hashlight_node.store.peers import find_peer
from hashlight_protocol import (
    AuthInvalidError,
    HttpRequest,
    MalformedError,
    TooLargeError,
    open_descriptor,
    parse_key_id,
    parse_vkey,
    verify_body,
    verify_request,
    verify_request_head,
)

from .errors import (
    RateLimitedError,
    SlowBodyError,
    UnknownPeerError,
    UnsupportedMediaError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator, Mapping

    from hashlight_node.store.database import Reader

PEER: Final = web.RequestKey("peer", Peer)
"""Who sent a request; set on every request that reaches a handler for peers."""

BODY: Final = web.RequestKey("body", bytes)
"""The body that the signature covers; handlers read no other."""

CONCURRENT_REQUESTS: Final = 16
"""Requests of one peer under way at a time. Source: SPEC.md#limits."""

_BODY_SECONDS: Final = 10
# A body is at most a few hundred kilobytes; a peer slower than that cannot keep up
# with a list either.

_RETRY_SECONDS: Final = 1

# The point with which an unknown sender's signature is checked, so that the refusal
# takes as long as a known one's. It is a hash and not a key: nobody has its secret.
_NOBODY: Final = hashlib.sha256(b"hashlight nobody").digest()


class ConcurrencyLimit:
    """Counts what is under way for each caller, and refuses what is too much.

    For one event loop; not thread-safe.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._under_way: Counter[Hashable] = Counter()

    @contextmanager
    def enter(self, caller: Hashable) -> Iterator[None]:
        """Hold a place for as long as the block runs.

        Raises:
            RateLimitedError: The caller has all its places in use.
        """
        if self._under_way[caller] >= self._limit:
            raise RateLimitedError(_RETRY_SECONDS)
        self._under_way[caller] += 1
        try:
            yield
        finally:
            self._under_way[caller] -= 1
            if not self._under_way[caller]:
                del self._under_way[caller]


class Authenticator:
    """Knows our peers' keys and tells who sent a request."""

    def __init__(
        self,
        database: Reader,
        *,
        authority: str,
        clock: Clock,
        on_unknown_key: Callable[[str], None],
    ) -> None:
        """Keep what is needed to judge requests.

        Args:
            database: Where peers are pinned.
            authority: Ours, from the settings; a request's Host field is not asked.
            clock: Gives the time that a signature's age is measured from.
            on_unknown_key: Called with a peer's name when a request claims a key that
                its descriptor does not have. Must not block, and bounds itself: a
                stranger can cause it at will.
        """
        self._database = database
        self._authority = authority
        self._clock = clock
        self._on_unknown_key = on_unknown_key
        # Descriptors whose signature was checked; one entry a peer.
        self._keys: dict[str, tuple[bytes, Mapping[str, bytes]]] = {}

    async def authenticate(self, request: web.Request) -> Peer:
        """Find out who sent a request; of its body, nothing is read.

        Args:
            request: As it arrived. What it has of a body, `read_body` must check.

        Returns:
            The peer, which is not in quarantine.

        Raises:
            ProtocolError: The request is not of the profile.
            UnknownPeerError: It is, and was not signed by a peer of ours.

        Source: SPEC.md#requests.
        """
        verify_plain_target(request)
        head = HttpRequest(request.method, self._authority, request.path)
        node, key_id = parse_key_id(request.headers)
        peer, public_key = await self._find_key(node, key_id)
        verify = verify_request_head if request.can_read_body else verify_request
        try:
            verify(
                head,
                request.headers,
                public_key=_NOBODY if public_key is None else public_key,
                now=self._clock(),
            )
        except AuthInvalidError as error:
            if not error.is_mismatch:
                raise
            if peer is not None and peer.is_dialable and public_key is None:
                self._on_unknown_key(peer.name)
            raise UnknownPeerError from error
        if peer is None or public_key is None or peer.state is not PeerState.ACTIVE:
            raise UnknownPeerError
        return peer

    async def _find_key(
        self, node: str, key_id: str
    ) -> tuple[Peer | None, bytes | None]:
        peer = await self._database.read(lambda conn: find_peer(conn, node))
        if peer is None or not peer.descriptor:
            return peer, None
        known = self._keys.get(node)
        if known is None or known[0] != peer.descriptor:
            identity = parse_vkey(peer.identity_vkey)
            descriptor = open_descriptor(peer.descriptor, identity)
            known = (
                peer.descriptor,
                {key.id: key.public_key for key in descriptor.http_keys},
            )
            self._keys[node] = known
        return peer, known[1].get(key_id)


def verify_plain_target(request: web.Request) -> None:
    """Check that a request names its target in the only way there is.

    No query, no percent-encoding, no doubled slash: two texts for one resource would be
    two signatures for one request, and what a router decodes a proxy may not.

    Raises:
        MalformedError: It does not.
    """
    target = request.raw_path
    if target != request.path or "//" in target:
        raise MalformedError("request", "the target is not a plain path")


async def read_body(request: web.Request, limit_bytes: int) -> bytes:
    """Read the body of a request whose sender is known.

    Args:
        request: As `Authenticator.authenticate` let it pass.
        limit_bytes: Largest body to accept; 0 if the operation takes none.

    Returns:
        The bytes that the sender signed.

    Raises:
        MalformedError: There is a body where none belongs, or it cannot be read.
        UnsupportedMediaError: It is compressed.
        TooLargeError: It is too large.
        SlowBodyError: It does not arrive in time.
        AuthInvalidError: It is another than the signed one.
    """
    if not request.can_read_body:
        return b""
    body = await _read_body(request, limit_bytes)
    verify_body(request.headers, body)
    return body


async def _read_body(request: web.Request, limit_bytes: int) -> bytes:
    if limit_bytes == 0:
        raise MalformedError("request", "this operation takes no body")
    if "Content-Encoding" in request.headers:
        expected = "sent without a content coding"
        raise UnsupportedMediaError(expected)
    if (request.content_length or 0) > limit_bytes:
        raise TooLargeError("request body", limit_bytes)
    try:
        async with asyncio.timeout(_BODY_SECONDS):
            return await _read_at_most(request, limit_bytes)
    except TimeoutError:
        raise SlowBodyError(_BODY_SECONDS) from None
    except web.RequestPayloadError:
        raise MalformedError("request", "the body cannot be read") from None


async def _read_at_most(request: web.Request, limit_bytes: int) -> bytes:
    body = bytearray()
    async for chunk in request.content.iter_any():
        body += chunk
        if len(body) > limit_bytes:
            raise TooLargeError("request body", limit_bytes)
    return bytes(body)

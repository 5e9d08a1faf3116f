"""A peer's API as coroutines: one method per endpoint of SPEC.md#endpoints.

What comes back is bytes within their limit and nothing more: no method here has
verified what it returns. That is done in `exchange`, where the pinned keys are.
"""

from __future__ import annotations

import asyncio
import re
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from hashlight_protocol import (
    MAX_BODY_BUNDLE_BYTES,
    MAX_DESCRIPTOR_BYTES,
    MAX_ENTRY_BYTES,
    MAX_NOTE_BYTES,
    MAX_RECEIPT_BYTES,
    MAX_RELAYED_BYTES,
    TILE_WIDTH,
    HttpRequest,
    MalformedError,
    encode_tile_path,
    list_id,
    origin_hash,
    parse_origin,
)

from .clocks import PeerClocks
from .errors import PeerMisbehavedError, PeerUnavailableError
from .network import Base, parse_base
from .transport import Answer, Question, Transport, is_unmodified, refusal

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    import aiohttp

    from hashlight_node.model import Clock, Peer
    from hashlight_protocol import (
        BodyBundleId,
        EntryBundleId,
        RequestSigner,
        TileId,
    )

_TILE_BYTES: Final = TILE_WIDTH * 32
_ENTRIES_BYTES: Final = TILE_WIDTH * (2 + MAX_ENTRY_BYTES)
_GRANTS_BYTES: Final = 1024 * 1024
_DEBUG_BYTES: Final = 8 * 1024 * 1024

_OK: Final = 200
_NO_CONTENT: Final = 204
_CONFLICT: Final = 409
_SIZE_TYPE: Final = "text/x.tlog.size"
_ADD_CHECKPOINT_TYPE: Final = "text/plain; charset=utf-8"
_SIZE: Final = re.compile(rb"(0|[1-9][0-9]{0,18})\n")
_ETAG: Final = re.compile(r'"[!#-~]{1,128}"', re.ASCII)

_REQUESTS_PER_PEER: Final = 8
_WAITS_PER_PEER: Final = 4
# Together 12 of the 16 that SPEC.md#limits lets us have, so that an operator's
# `hashlight request` and a restarted process find room.


@dataclass(frozen=True, slots=True)
class Fetched:
    """A note and the name of its version.

    Attributes:
        body: The bytes, unverified.
        etag: To be given with the next question, or None.
    """

    body: bytes
    etag: str | None


@dataclass(frozen=True, slots=True)
class Cosigned:
    """A witness accepted a checkpoint.

    Attributes:
        lines: Signature lines, unverified.
    """

    lines: bytes


@dataclass(frozen=True, slots=True)
class KnownSize:
    """A witness knows the log at another size than we thought.

    Attributes:
        tree_size: The size from which it wants the proof.
    """

    tree_size: int


PushAnswer = Cosigned | KnownSize


class PeerClient:
    """Asks peers, signed, within limits, a bounded number of questions at a time.

    Every method may raise `PeerUnavailableError`, `PeerRefusedError` and
    `PeerMisbehavedError`. A peer that is not dialable is unavailable to all of them.

    Attributes:
        clocks: Which peers say that our time is not theirs.

    Args:
        session: From `open_session`; belongs to the caller.
        node_name: This node.
        http_key_id: Id of the key that signs our requests.
        http_signer: Holds that key.
        clock: Gives the time for signatures.
        timeout_seconds: For one request with its whole answer, without the time that
            a long poll may wait.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        *,
        node_name: str,
        http_key_id: str,
        http_signer: RequestSigner,
        clock: Clock,
        timeout_seconds: int,
    ) -> None:
        self._node_name = node_name
        self.clocks = PeerClocks()
        self._transport = Transport(
            session,
            key_id=f"{node_name}#{http_key_id}",
            signer=http_signer,
            clock=clock,
            clocks=self.clocks,
            timeout_seconds=timeout_seconds,
        )
        self._requests: dict[str, asyncio.Semaphore] = {}
        self._waits: dict[str, asyncio.Semaphore] = {}

    def sign_with(self, http_key_id: str, http_signer: RequestSigner) -> None:
        """Sign requests with another key from now on; peers must have seen it.

        Args:
            http_key_id: Its id.
            http_signer: Holds it.
        """
        self._transport.sign_with(f"{self._node_name}#{http_key_id}", http_signer)

    async def fetch_descriptor(self, base: str) -> bytes:
        """Fetch the descriptor of whoever answers at a base URL; says not who we are.

        Raises:
            MalformedError: `base` is not a base URL.
        """
        where = parse_base(base)
        question = Question(
            "GET", "/.well-known/hsf", "descriptor", MAX_DESCRIPTOR_BYTES
        )
        answer = await self._transport.ask_unsigned(where.authority, where, question)
        return _content(where.authority, answer)

    async def fetch_newer_descriptor(self, peer: Peer) -> bytes:
        """Fetch the descriptor of a pinned peer again, where it was last."""
        _refuse_undialable(peer)
        return await self.fetch_descriptor(peer.base)

    async def fetch_list_note(self, peer: Peer, list_name: str) -> bytes:
        """Fetch what a peer says about one of its lists: its logs and their keys."""
        question = Question(
            "GET",
            f"/hsf/v1/lists/{list_name}",
            f"list note of {list_name}",
            MAX_DESCRIPTOR_BYTES,
        )
        return _content(peer.name, await self._ask(peer, question))

    async def fetch_relayed(
        self, peer: Peer, node: str, list_name: str, what: Literal["list-note", "owner"]
    ) -> bytes:
        """Fetch from a relay what the owner of a list signed with its identity key.

        Args:
            peer: The relay.
            node: The owner.
            list_name: The list.
            what: Its list note, or the descriptor of its owner.
        """
        path = f"/hsf/v1/mirror/{origin_hash(list_id(node, list_name))}/{what}"
        question = Question("GET", path, f"{what} of {list_name}", MAX_DESCRIPTOR_BYTES)
        return _content(peer.name, await self._ask(peer, question))

    async def fetch_checkpoint(
        self, peer: Peer, origin: str, *, wait_seconds: int = 0, etag: str | None = None
    ) -> Fetched | None:
        """Fetch a log's newest checkpoint.

        Args:
            peer: Who publishes the log, or has a copy of it.
            origin: The log.
            wait_seconds: How long to wait for one other than `etag`; 30 at most.
            etag: The version we have.

        Returns:
            None if there is still no other than `etag`.
        """
        path = f"{_prefix(peer, origin)}/checkpoint"
        what = f"checkpoint of {origin}"
        return await self._poll(peer, path, what, wait_seconds, etag)

    async def fetch_tile(self, peer: Peer, origin: str, tile: TileId) -> bytes:
        """Fetch a tile of hashes."""
        what = f"tile {tile.level}/{tile.index} of {origin}"
        path = f"{_prefix(peer, origin)}/{encode_tile_path(tile)}"
        question = Question("GET", path, what, _TILE_BYTES)
        return _content(peer.name, await self._ask(peer, question))

    async def fetch_entries(
        self, peer: Peer, origin: str, bundle: EntryBundleId
    ) -> bytes:
        """Fetch a bundle of entries."""
        path = f"{_prefix(peer, origin)}/{encode_tile_path(bundle)}"
        what = f"entries {bundle.index} of {origin}"
        question = Question("GET", path, what, _ENTRIES_BYTES)
        return _content(peer.name, await self._ask(peer, question))

    async def fetch_bodies(
        self, peer: Peer, origin: str, bundle: BodyBundleId
    ) -> bytes:
        """Fetch a bundle of bodies; compressed on the way, decoded here."""
        path = f"{_prefix(peer, origin)}/{encode_tile_path(bundle)}"
        what = f"bodies {bundle.index} of {origin}"
        question = Question("GET", path, what, MAX_BODY_BUNDLE_BYTES, holds_bodies=True)
        return _content(peer.name, await self._ask(peer, question))

    async def fetch_grants(self, peer: Peer) -> bytes:
        """Fetch what a peer lets us have, as JSON."""
        question = Question("GET", "/hsf/v1/grants", "grants", _GRANTS_BYTES)
        return _content(peer.name, await self._ask(peer, question))

    async def fetch_receipt(self, peer: Peer, origin: str, leaf_index: int) -> bytes:
        """Fetch a record with the proof that a log holds it."""
        path = f"{_prefix(peer, origin)}/receipt/{leaf_index}"
        what = f"receipt {leaf_index} of {origin}"
        question = Question("GET", path, what, MAX_RECEIPT_BYTES, holds_bodies=True)
        return _content(peer.name, await self._ask(peer, question))

    async def push_checkpoint(self, peer: Peer, request: bytes) -> PushAnswer:
        """Announce a checkpoint of ours; the peer's witness cosigns it.

        Args:
            peer: Who shall know.
            request: The encoded `AddCheckpoint`.
        """
        question = Question(
            "POST",
            "/hsf/v1/witness/add-checkpoint",
            "cosignature",
            MAX_NOTE_BYTES,
            body=request,
            content_type=_ADD_CHECKPOINT_TYPE,
        )
        answer = await self._ask(peer, question)
        if answer.status == _CONFLICT and answer.media_type == _SIZE_TYPE:
            match = _SIZE.fullmatch(answer.body)
            if match is None:
                cause = MalformedError("size", "it is not a decimal number in a line")
                raise PeerMisbehavedError(peer.name, question.what, cause, answer.body)
            return KnownSize(int(match[1]))
        return Cosigned(_content(peer.name, answer))

    async def fetch_mirror_checkpoint(
        self, peer: Peer, origin: str, *, wait_seconds: int = 0, etag: str | None = None
    ) -> Fetched | None:
        """Fetch the newest checkpoint of a log that a peer has copied whole.

        Its mirror cosignature acknowledges everything up to there, erasures included.

        Returns:
            None if there is still no other than `etag`.
        """
        path = f"/hsf/v1/mirror/{origin_hash(origin)}/checkpoint"
        what = f"mirror checkpoint of {origin}"
        return await self._poll(peer, path, what, wait_seconds, etag)

    async def fetch_relayed_acknowledgements(self, peer: Peer, origin: str) -> bytes:
        """Fetch what those who got a log of ours from a relay have acknowledged."""
        path = f"/hsf/v1/mirror/{origin_hash(origin)}/acknowledgements"
        what = f"third parties of {origin}"
        question = Question("GET", path, what, MAX_RELAYED_BYTES)
        return _content(peer.name, await self._ask(peer, question))

    async def fetch_witness_checkpoint(self, peer: Peer, origin: str) -> bytes:
        """Fetch the largest checkpoint of a log that a peer has seen."""
        path = f"/hsf/v1/witness/{origin_hash(origin)}/checkpoint"
        what = f"witness checkpoint of {origin}"
        question = Question("GET", path, what, MAX_NOTE_BYTES)
        return _content(peer.name, await self._ask(peer, question))

    async def ask(self, peer: Peer, question: Question) -> Answer:
        """Ask what has no method here; the answer's status is not looked at."""
        return await self._ask(peer, question)

    async def compare_checkpoint(self, peer: Peer, origin: str, note: bytes) -> bytes:
        """Show a peer our newest checkpoint of a log; it answers with its own.

        Args:
            peer: Who may know the log.
            origin: The log.
            note: The checkpoint.
        """
        question = Question(
            "POST",
            "/hsf/v1/witness/compare",
            f"view of {origin}",
            MAX_NOTE_BYTES,
            body=note,
            content_type=_ADD_CHECKPOINT_TYPE,
        )
        return _content(peer.name, await self._ask(peer, question))

    async def send_evidence(self, peer: Peer, evidence: bytes) -> None:
        """Give a peer the evidence that a log forked."""
        question = Question(
            "POST",
            "/hsf/v1/evidence",
            "answer to evidence",
            MAX_NOTE_BYTES,
            body=evidence,
            content_type="application/json",
        )
        answer = await self._ask(peer, question)
        if answer.status != _NO_CONTENT:
            raise refusal(peer.name, answer)

    async def request(
        self,
        method: str,
        url: str,
        body: bytes = b"",
        content_type: str = "application/octet-stream",
    ) -> tuple[int, Mapping[str, str], bytes]:
        """Send one signed request anywhere (`hashlight request`).

        Raises:
            MalformedError: `url` is not a base URL and a path without a query.

        Returns:
            Status, header fields and content of the answer.
        """
        where, path = _split_url(url)
        HttpRequest(method, where.authority, where.path + path)  # raises if it is none
        question = Question(
            method,
            path,
            "answer",
            _DEBUG_BYTES,
            body=body,
            content_type=content_type if body else None,
            holds_bodies=True,
        )
        answer = await self._transport.ask(where.authority, where, question)
        return answer.status, answer.headers, answer.body

    async def _poll(
        self, peer: Peer, path: str, what: str, wait_seconds: int, etag: str | None
    ) -> Fetched | None:
        headers: dict[str, str] = {}
        if wait_seconds:
            headers["Prefer"] = f"wait={wait_seconds}"
        if etag is not None:
            headers["If-None-Match"] = etag
        question = Question(
            "GET",
            path,
            what,
            MAX_NOTE_BYTES,
            headers=headers,
            wait_seconds=wait_seconds,
        )
        answer = await self._ask(peer, question)
        if etag is not None and is_unmodified(answer):
            return None
        body = _content(peer.name, answer)
        return Fetched(body, _etag(answer))

    async def _ask(self, peer: Peer, question: Question) -> Answer:
        _refuse_undialable(peer)
        async with self._slot(peer, waits=question.wait_seconds > 0):
            base = parse_base(peer.base)
            return await self._transport.ask(peer.name, base, question)

    @asynccontextmanager
    async def _slot(self, peer: Peer, *, waits: bool) -> AsyncIterator[None]:
        # Apart, so that long polls never keep a transfer waiting.
        slots = self._waits if waits else self._requests
        size = _WAITS_PER_PEER if waits else _REQUESTS_PER_PEER
        async with slots.setdefault(peer.name, asyncio.Semaphore(size)):
            yield


def _refuse_undialable(peer: Peer) -> None:
    if not peer.is_dialable:
        raise PeerUnavailableError(peer.name, "it is pinned as one that is not dialled")


def _prefix(peer: Peer, origin: str) -> str:
    name = parse_origin(origin)
    if name.node != peer.name:
        # Of another node's log a peer has a copy at most.
        return f"/hsf/v1/mirror/{origin_hash(origin)}"
    return f"/hsf/v1/log/{name.list_name}/{name.epoch}"


def _content(peer: str, answer: Answer) -> bytes:
    if answer.status != _OK:
        raise refusal(peer, answer)
    return answer.body


def _etag(answer: Answer) -> str | None:
    value = answer.headers.get("etag", "")
    return value if _ETAG.fullmatch(value) else None


def _split_url(url: str) -> tuple[Base, str]:
    scheme, separator, rest = url.partition("://")
    authority, slash, path = rest.partition("/")
    if not (separator and slash):
        raise MalformedError("url", "it has no path")
    return parse_base(f"{scheme}://{authority}"), f"/{path}"

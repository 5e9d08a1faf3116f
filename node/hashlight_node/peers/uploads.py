"""Uploading to a peer, as coroutines: the client side of SPEC.md#uploads.

What comes back is bytes and numbers that nobody has verified.
"""

from __future__ import annotations

import asyncio
import gzip
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

import zstandard

from hashlight_protocol import (
    MAX_MIRROR_INFO_BYTES,
    MAX_NOTE_BYTES,
    MalformedError,
    encode_add_bodies_path,
    origin_hash,
    parse_mirror_info,
)

from .errors import PeerMisbehavedError, PeerUnavailableError, blaming
from .transport import Answer, Question, refusal

if TYPE_CHECKING:
    from hashlight_node.model import Peer
    from hashlight_protocol import BodyBundleId, MirrorInfo

    from .client import PeerClient

_PREFIX: Final = "/hsf/v1/mirror"
_BYTES: Final = "application/octet-stream"
_TEXT: Final = "text/plain; charset=utf-8"
_INFO_TYPE: Final = "text/x.tlog.mirror-info"

_OK: Final = 200
_ACCEPTED: Final = 202
_NO_CONTENT: Final = 204
_TIMEOUT: Final = 408
_CONFLICT: Final = 409

_SENDING_SECONDS: Final = 90
"""On top of what an answer may take: for a slow line, and for the peer's disk."""

_GZIP_LEVEL: Final = 6
_ZSTD_LEVEL: Final = 3
_BLOCK_BYTES: Final = 8 * 1024
"""A block that a broken line cuts is lost; of zstd's own size it would be 128 KiB."""

Coding = Literal["gzip", "zstd"]


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """A peer has all that was uploaded.

    Attributes:
        lines: Signature lines, unverified.
    """

    lines: bytes


@dataclass(frozen=True, slots=True)
class Wanted:
    """A peer lacks something.

    Attributes:
        info: What it says that it wants next.
    """

    info: MirrorInfo


UploadAnswer = Acknowledged | Wanted


class UploadClient:
    """Uploads to peers; raises what `PeerClient` does.

    Args:
        client: Sends the requests.
    """

    def __init__(self, client: PeerClient) -> None:
        self._client = client
        self._codings: dict[str, Coding] = {}

    async def add_note(self, peer: Peer, raw: bytes) -> None:
        """Send what we say about ourselves or one of our lists."""
        answer = await self._send(peer, "/add-note", "note", raw, _TEXT)
        if answer.status != _NO_CONTENT:
            raise _refusal(peer, answer)

    async def add_entries(self, peer: Peer, request: bytes) -> UploadAnswer:
        """Send entries: the head of an upload and packages.

        Args:
            peer: Who mirrors the log.
            request: As encoded.
        """
        what = "answer to an upload"
        answer = await self._send(peer, "/add-entries", what, request, _BYTES)
        if answer.status == _OK:
            return Acknowledged(answer.body)
        return Wanted(_wanted(peer, answer))

    async def add_bodies(
        self, peer: Peer, origin: str, bundle: BodyBundleId, raw: bytes
    ) -> MirrorInfo | None:
        """Send bodies for entries that the peer has.

        Returns:
            None if it took them, or what it wants first.
        """
        path = f"/{origin_hash(origin)}/{encode_add_bodies_path(bundle)}"
        answer = await self._send(peer, path, "answer to bodies", raw, _BYTES)
        return None if answer.status == _NO_CONTENT else _wanted(peer, answer)

    async def _send(
        self, peer: Peer, path: str, what: str, content: bytes, content_type: str
    ) -> Answer:
        coding = self._codings.get(peer.name, "gzip")
        question = Question(
            "POST",
            _PREFIX + path,
            what,
            max(MAX_MIRROR_INFO_BYTES, MAX_NOTE_BYTES),
            body=await asyncio.to_thread(_encode, content, coding),
            content_type=content_type,
            headers={"Content-Encoding": coding},
            whole_statuses=frozenset({_OK, _ACCEPTED, _CONFLICT}),
            sending_seconds=_SENDING_SECONDS,
        )
        answer = await self._client.ask(peer, question)
        accepted = answer.headers.get("accept-encoding", "").lower()
        names = [one.partition(";")[0].strip() for one in accepted.split(",")]
        self._codings[peer.name] = "zstd" if "zstd" in names else "gzip"
        return answer


def _encode(content: bytes, coding: Coding) -> bytes:
    match coding:
        case "gzip":
            return gzip.compress(content, compresslevel=_GZIP_LEVEL, mtime=0)
        case "zstd":
            compressor = zstandard.ZstdCompressor(level=_ZSTD_LEVEL)
            stream = compressor.compressobj(size=len(content))
            pieces = (
                content[start : start + _BLOCK_BYTES]
                for start in range(0, len(content), _BLOCK_BYTES)
            )
            end_block = zstandard.COMPRESSOBJ_FLUSH_BLOCK
            blocks = [
                stream.compress(piece) + stream.flush(end_block) for piece in pieces
            ]
            return b"".join((*blocks, stream.flush()))


def _wanted(peer: Peer, answer: Answer) -> MirrorInfo:
    if answer.status not in {_ACCEPTED, _CONFLICT} or answer.media_type != _INFO_TYPE:
        raise _refusal(peer, answer)
    with blaming(peer.name, "mirror info", answer.body):
        info = parse_mirror_info(answer.body)
        if info.tree_size < info.next_entry:
            raise MalformedError("mirror-info", "it has more than it knows of")
    return info


def _refusal(peer: Peer, answer: Answer) -> Exception:
    if answer.status == _TIMEOUT:
        return PeerUnavailableError(peer.name, "the upload took too long")
    if 200 <= answer.status < 300:  # noqa: PLR2004 -- HTTP's classes
        cause = MalformedError("answer", "it is none to an upload")
        return PeerMisbehavedError(peer.name, "upload", cause, answer.body)
    return refusal(peer.name, answer)

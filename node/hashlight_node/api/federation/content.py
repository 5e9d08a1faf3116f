"""The content of an upload, read as it comes: decoded, bounded, and compared.

Everything else that peers send is small and is read whole before anything is done with
it. An upload may be as long as a list, so its reader is given pieces. None of them is
known to be the signed content before the last one is read; whoever uses them earlier
must be able to verify what they say.

Source: SPEC.md#uploads; RFC 9110, section 8.4.
"""

from __future__ import annotations

import asyncio
import hashlib
import zlib
from typing import TYPE_CHECKING, Final, Protocol

import zstandard
from aiohttp import web

from hashlight_node.api.errors import SlowBodyError, UnsupportedMediaError
from hashlight_node.peers.decoding import MAX_WINDOW_BYTES
from hashlight_protocol import MalformedError, TooLargeError, verify_body_digest

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator

ACCEPTED_CODINGS: Final = "gzip, zstd"
"""What an upload may be coded with; said in every answer to one."""

_IDLE_SECONDS: Final = 20
"""A sender whose line is so slow that nothing comes for so long begins again."""

_PIECE_BYTES: Final = 64 * 1024
_GZIP_WINDOW_BITS: Final = 31

_ZSTD_SLICE_BYTES: Final = 64
# A block takes 4 bytes at least and gives 128 KiB at most, and there is no way to ask
# for less of it. So a slice gives 2 MiB and a little.


async def read_pieces(
    request: web.Request, *, limit_bytes: int
) -> AsyncGenerator[bytes]:
    """Give the decoded content of a request in pieces of at most some megabytes.

    Args:
        request: Its head is authenticated.
        limit_bytes: Most bytes to take from the connection, and most that they may
            decode to before the last piece. Who reads all of it only to forget it
            must not be kept busy by a few bytes that decode to gigabytes.

    Raises:
        UnsupportedMediaError: Its coding is not one of ours.
        TooLargeError: More come.
        SlowBodyError: Nothing comes any more.
        MalformedError: They cannot be decoded, or end too early.
        AuthInvalidError: All came, and it was not what the sender signed.
    """
    decoder = _decoder(request)
    digest = hashlib.sha256()
    total_bytes = decoded_bytes = 0
    while chunk := await _read(request):
        total_bytes += len(chunk)
        if total_bytes > limit_bytes:
            raise TooLargeError("request body", limit_bytes)
        digest.update(chunk)
        for piece in decoder.decode(chunk):
            if decoded_bytes > limit_bytes:
                raise TooLargeError("request body", limit_bytes)
            decoded_bytes += len(piece)
            yield piece
    verify_body_digest(request.headers, digest.digest())
    decoder.finish()


async def read_decoded(request: web.Request, *, limit_bytes: int) -> bytes:
    """Read content whole.

    Args:
        request: Its head is authenticated.
        limit_bytes: Most bytes, as they come and decoded.

    Raises:
        TooLargeError: There are more.
        ProtocolError: As for `read_pieces`.
        RequestError: As for `read_pieces`.
    """
    content = bytearray()
    async for piece in read_pieces(request, limit_bytes=limit_bytes):
        content += piece
        if len(content) > limit_bytes:
            raise TooLargeError("request body", limit_bytes)
    return bytes(content)


async def _read(request: web.Request) -> bytes:
    try:
        async with asyncio.timeout(_IDLE_SECONDS):
            return await request.content.read(_PIECE_BYTES)
    except TimeoutError:
        raise SlowBodyError(_IDLE_SECONDS) from None
    except web.RequestPayloadError:
        raise MalformedError("request", "the body cannot be read") from None


class _Decoder(Protocol):
    def decode(self, data: bytes) -> Iterator[bytes]:
        """Give what the next bytes decode to."""
        ...

    def finish(self) -> None:
        """Check that nothing is missing.

        Raises:
            MalformedError: Something is.
        """
        ...


def _decoder(request: web.Request) -> _Decoder:
    codings = request.headers.getall("Content-Encoding", [])
    match [coding.lower() for coding in codings]:
        case []:
            return _Identity()
        case ["gzip"]:
            return _Gzip()
        case ["zstd"]:
            return _Zstd()
        case _:
            expected = f"coded as one of {ACCEPTED_CODINGS}, or not at all"
            raise UnsupportedMediaError(expected)


class _Identity:
    def decode(self, data: bytes) -> Iterator[bytes]:
        yield data

    def finish(self) -> None:
        pass


class _Gzip:
    def __init__(self) -> None:
        self._stream = zlib.decompressobj(wbits=_GZIP_WINDOW_BITS)

    def decode(self, data: bytes) -> Iterator[bytes]:
        rest = data
        is_full = True
        while rest or is_full:
            if self._stream.eof:
                if rest:
                    raise MalformedError("request", "it goes on after its gzip member")
                return
            try:
                piece = self._stream.decompress(rest, _PIECE_BYTES)
            except zlib.error:
                raise MalformedError("request", "the body is not gzip") from None
            rest = self._stream.unconsumed_tail + self._stream.unused_data
            # With as much as was asked for, more may be held back inside.
            is_full = len(piece) == _PIECE_BYTES
            if piece:
                yield piece

    def finish(self) -> None:
        if not self._stream.eof:
            raise MalformedError("request", "the body is not one whole gzip member")


class _Zstd:
    def __init__(self) -> None:
        self._stream = _zstd_stream()

    def decode(self, data: bytes) -> Iterator[bytes]:
        for start in range(0, len(data), _ZSTD_SLICE_BYTES):
            rest = data[start : start + _ZSTD_SLICE_BYTES]
            while rest:
                if self._stream.eof:
                    # Frames may follow each other. Source: RFC 8878, section 3.
                    self._stream = _zstd_stream()
                try:
                    piece = self._stream.decompress(rest)
                except zstandard.ZstdError:
                    reason = "the body is not zstd within the limits"
                    raise MalformedError("request", reason) from None
                rest = self._stream.unused_data
                if piece:
                    yield piece

    def finish(self) -> None:
        if not self._stream.eof:
            raise MalformedError("request", "the body does not end with a zstd frame")


def _zstd_stream() -> zstandard.ZstdDecompressionObj:
    decompressor = zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW_BYTES)
    return decompressor.decompressobj()

"""Compressed answers, decoded within limits."""

from __future__ import annotations

import zlib
from typing import Final

import zstandard

from hashlight_protocol import MalformedError, TooLargeError

ACCEPTED: Final = "zstd, gzip"
"""What we ask for where an answer may be compressed."""

MAX_WINDOW_BYTES: Final = 8 * 1024 * 1024
"""Largest zstd window; what RFC 9659 obliges senders to. Source: SPEC.md#limits."""

_GZIP_WINDOW_BITS: Final = 31


def decode(raw: bytes, coding: str, *, what: str, limit_bytes: int) -> bytes:
    """Undo a content coding; never makes more than the limit.

    Args:
        raw: The content as transferred.
        coding: The value of Content-Encoding, empty for none.
        what: What it is, for the error.
        limit_bytes: Most that may come out.

    Raises:
        MalformedError: The bytes are not of that coding, or it is not one we asked
            for.
        TooLargeError: More would come out.
    """
    match coding.lower():
        case "" | "identity":
            decoded = raw
        case "zstd":
            decoded = _decode_zstd(raw, what, limit_bytes)
        case "gzip":
            decoded = _decode_gzip(raw, what, limit_bytes)
        case _:
            raise MalformedError(what, "it is coded in a way nobody asked for")
    if len(decoded) > limit_bytes:
        raise TooLargeError(what, limit_bytes)
    return decoded


def _decode_zstd(raw: bytes, what: str, limit_bytes: int) -> bytes:
    decompressor = zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW_BYTES)
    try:
        with decompressor.stream_reader(raw, read_across_frames=True) as reader:
            return reader.read(limit_bytes + 1)
    except zstandard.ZstdError:
        raise MalformedError(what, "it is not zstd within the limits") from None


def _decode_gzip(raw: bytes, what: str, limit_bytes: int) -> bytes:
    decompressor = zlib.decompressobj(wbits=_GZIP_WINDOW_BITS)
    try:
        decoded = decompressor.decompress(raw, limit_bytes + 1)
    except zlib.error:
        raise MalformedError(what, "it is not gzip") from None
    if len(decoded) <= limit_bytes and (
        not decompressor.eof or decompressor.unused_data
    ):
        raise MalformedError(what, "it is not one whole gzip member")
    return decoded

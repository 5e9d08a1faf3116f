"""The bytes in which content goes over the wire, and how a version of it is named.

Source: RFC 9110 sections 8.4 and 8.8.3.
"""

from __future__ import annotations

import gzip
import hashlib
from typing import Final, Literal

import zstandard

Coding = Literal["zstd", "gzip", "identity"]

# Salts are half of a bundle and do not compress; a higher level gains nothing.
_ZSTD_LEVEL: Final = 3
_GZIP_LEVEL: Final = 6


def etag_of(content: bytes) -> str:
    """Name a version of what we serve; strong, and equal on every restart.

    The first half is the same for one text with other signatures, see
    `serve.names_text`.
    """
    text, _, _ = content.rpartition(b"\n\n")
    halves = (hashlib.sha256(part).hexdigest() for part in (text, content))
    return '"{:.16}{:.32}"'.format(*halves)


def coded_tag(tag: str, coding: Coding) -> str:
    """Name a content in one coding: the same content in another is other bytes.

    Args:
        tag: Strong entity tag of the content itself, with its quotes.
        coding: How it is sent.

    Source: RFC 9110 section 8.8.3.3.
    """
    return tag if coding == "identity" else f'{tag[:-1]}-{coding}"'


def encode_content(content: bytes, coding: Coding) -> bytes:
    """Compress; takes about 1 ms for 200 kB."""
    match coding:
        case "zstd":
            return zstandard.ZstdCompressor(level=_ZSTD_LEVEL).compress(content)
        case "gzip":
            # The time would make two compressions of one content differ.
            return gzip.compress(content, compresslevel=_GZIP_LEVEL, mtime=0)
        case "identity":
            return content

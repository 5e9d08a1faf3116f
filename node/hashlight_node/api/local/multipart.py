"""One field out of a `multipart/form-data` body that is wholly in memory.

aiohttp's reader is made for streams, and what it raises for broken input is not
documented. A body of bounded size needs no stream: it is split at its delimiter.

Source: RFC 2046, section 5.1.1; RFC 7578.
"""

from __future__ import annotations

import re
from typing import Final

from hashlight_protocol import MalformedError

WHAT: Final = "multipart body"

_BOUNDARY: Final = re.compile(
    r"""multipart/form-data\s*;(?:.*;)?\s*boundary=
        (?:"([^"\\]{1,70})"|([A-Za-z0-9'()+_,./:=?-]{1,70}))\s*(?:;.*)?""",
    re.VERBOSE | re.IGNORECASE,
)
_DISPOSITION: Final = re.compile(
    rb"content-disposition\s*:\s*form-data\s*;(.*)", re.IGNORECASE
)
_NAME: Final = re.compile(rb"""(?:^|;)\s*name="?([A-Za-z0-9_-]{1,64})"?\s*(?:;|$)""")
_CODED: Final = re.compile(
    rb"content-(?:transfer-encoding|encoding)\s*:\s*(.*)", re.IGNORECASE
)
_MAX_PARTS: Final = 16
_MAX_HEADER_BYTES: Final = 4096


def read_field(body: bytes, content_type: str, name: str) -> bytes:
    """Find the one part of that name.

    Args:
        body: The whole body.
        content_type: The request's header, with the boundary.
        name: Name of the form field.

    Raises:
        MalformedError: The body is not what its type says, has more than 16 parts,
            or has not exactly one part of that name.
    """
    found = [
        content
        for header, content in map(_split_part, _split_parts(body, content_type))
        if _name_of(header) == name
    ]
    if len(found) != 1:
        raise MalformedError(WHAT, f"it has not exactly one field {name}")
    return found[0]


def _split_parts(body: bytes, content_type: str) -> list[bytes]:
    match = _BOUNDARY.fullmatch(content_type)
    if match is None:
        raise MalformedError(WHAT, "its type names no boundary")
    boundary = (match[1] or match[2]).encode("utf-8", "surrogateescape")
    # The first delimiter may lack the line break before it.
    pieces = (b"\r\n" + body).split(b"\r\n--" + boundary, _MAX_PARTS + 2)
    parts, end = pieces[1:-1], pieces[-1]
    if not parts or len(pieces) > _MAX_PARTS + 2 or not end.startswith(b"--"):
        raise MalformedError(WHAT, f"it has not 1 to {_MAX_PARTS} parts and an end")
    return parts


def _split_part(part: bytes) -> tuple[bytes, bytes]:
    # What stands between the delimiter and the line's end is padding (spaces).
    padding, line_end, rest = part.partition(b"\r\n")
    if not line_end or padding.strip(b" \t"):
        raise MalformedError(WHAT, "a delimiter is followed by something else")
    header, blank, content = rest.partition(b"\r\n\r\n")
    if not blank or len(header) > _MAX_HEADER_BYTES:
        raise MalformedError(WHAT, "a part has no header, or one that is too long")
    for line in header.split(b"\r\n"):
        coding = _CODED.fullmatch(line)
        if coding and coding[1].strip().lower() not in (b"binary", b"8bit", b"7bit"):
            raise MalformedError(WHAT, "a part is sent in a transfer coding")
    return header, content


def _name_of(header: bytes) -> str | None:
    for line in header.split(b"\r\n"):
        disposition = _DISPOSITION.fullmatch(line)
        if disposition:
            name = _NAME.search(disposition[1])
            return name[1].decode() if name else None
    return None

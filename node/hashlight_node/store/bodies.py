"""Reading the bodies of records quickly, and exactly as the protocol does.

The protocol's own parser finds members that are repeated, which no quick decoder
reports. But whoever writes a decoded value again, and gets the very bytes that were
read, has shown that there are none: a value has each member once. The records of most
authors are compact JSON and pass that way; all others take the protocol's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import orjson

from hashlight_protocol import (
    MAX_BODY_BYTES,
    parse_ijson,
    parse_record,
    parse_record_value,
)

if TYPE_CHECKING:
    from hashlight_protocol import JsonValue, Record

_MAX_BRACKETS: Final = 16
"""With so many at most, nothing is nested deeper than JSON of the protocol may be."""


def read_record(body: bytes) -> Record:
    """Do what `parse_record` does, faster.

    Args:
        body: The exact bytes that a log commits to.

    Raises:
        ProtocolError: As `parse_record`.
    """
    value = _quick_value(body)
    return parse_record(body) if value is None else parse_record_value(value)


def read_value(body: bytes) -> JsonValue:
    """Decode a body as `parse_ijson` does, faster; what it says is not looked at.

    Raises:
        ProtocolError: As `parse_ijson`.
    """
    value = _quick_value(body)
    if value is None:
        return parse_ijson(body, max_bytes=MAX_BODY_BYTES)
    return value


def _quick_value(body: bytes) -> JsonValue:
    """Decode a body, None if that takes the protocol's parser."""
    if (
        len(body) > MAX_BODY_BYTES
        # Characters that JSON must not carry are beyond ASCII, or escaped.
        or not body.isascii()
        or b"\\u" in body
        or body.count(b"[") + body.count(b"{") > _MAX_BRACKETS
    ):
        return None
    try:
        value: JsonValue = orjson.loads(body)
        # Integers of more than 53 bits are an error here.
        is_same = orjson.dumps(value, option=orjson.OPT_STRICT_INTEGER) == body
    except (orjson.JSONDecodeError, orjson.JSONEncodeError):
        return None
    return value if is_same else None

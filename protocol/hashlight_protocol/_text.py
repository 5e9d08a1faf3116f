"""The two text encodings that every format here shares: decimal and base64.

Both accept exactly one text for each value, because every signed or hashed format
is parsed by round trip.
"""

import base64
import binascii

from hashlight_protocol.errors import MalformedError

MAX_TREE_SIZE = 2**63 - 1
"""Largest number of leaves; keeps proofs within 63 hashes. Source: SPEC.md#limits."""

HASH_BYTES = 32
"""Length of every hash, SHA-256. Source: SPEC.md#merkle-tree."""

_MAX_DIGITS = 19


def parse_decimal(text: bytes | str, what: str) -> int:
    """Read a number without sign, spaces or leading zeros.

    Args:
        text: The digits.
        what: The format that the number is part of, for the error.

    Returns:
        0 to `MAX_TREE_SIZE`.

    Raises:
        MalformedError: The text is not the one encoding of such a number.

    Source: SPEC.md#conventions.
    """
    # The length is checked first: int() takes quadratic time on long digit strings.
    if 0 < len(text) <= _MAX_DIGITS and text.isascii() and text.isdigit():
        number = int(text)
        if number <= MAX_TREE_SIZE and len(str(number)) == len(text):
            return number
    raise MalformedError(what, "a number is not a plain decimal below 2^63")


def encode_base64(data: bytes) -> str:
    """Write bytes as padded standard base64.

    Source: RFC 4648 section 4; SPEC.md#conventions.
    """
    return base64.b64encode(data).decode("ascii")


def parse_base64(text: bytes | str, what: str) -> bytes:
    """Read padded standard base64, refusing every second spelling of the same bytes.

    Args:
        text: The base64 text, without line breaks.
        what: The format that the text is part of, for the error.

    Returns:
        The bytes.

    Raises:
        MalformedError: The text is not what `encode_base64` writes.

    Source: RFC 4648 section 4; SPEC.md#conventions.
    """
    try:
        raw = text.encode("ascii") if isinstance(text, str) else text
        data = binascii.a2b_base64(raw, strict_mode=True)
    except ValueError:
        # binascii.Error and UnicodeEncodeError are both ValueErrors.
        raise MalformedError(what, "base64 is not valid") from None
    # Strict mode still lets unused bits of the last character vary.
    if base64.b64encode(data) != raw:
        raise MalformedError(what, "base64 is not in its one canonical form")
    return data


def parse_hash(text: bytes | str, what: str) -> bytes:
    """Read a SHA-256 hash in base64.

    Args:
        text: 44 characters.
        what: The format that the hash is part of, for the error.

    Returns:
        32 bytes.

    Raises:
        MalformedError: The text is not base64 of 32 bytes.

    Source: SPEC.md#conventions.
    """
    data = parse_base64(text, what)
    if len(data) != HASH_BYTES:
        raise MalformedError(what, "a hash is not 32 bytes long")
    return data

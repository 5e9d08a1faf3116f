"""Body bundles: the records beside the log, 256 leaves at a time.

Source: SPEC.md#body-bundles.
"""

from collections.abc import Sequence
from enum import IntEnum
from typing import NamedTuple

from hashlight_protocol.commitments import MAX_BODY_BYTES, SALT_BYTES
from hashlight_protocol.errors import MalformedError, TooLargeError
from hashlight_protocol.tiles import TILE_WIDTH

MAX_BODY_BUNDLE_BYTES = 5 * 1024 * 1024
"""Largest body bundle, decoded. Source: SPEC.md#limits."""

_LENGTH_BYTES = 2
_HEAD_BYTES = SALT_BYTES + _LENGTH_BYTES


class BodyStatus(IntEnum):
    """What a bundle says about the body of one entry.

    Source: SPEC.md#body-bundles.
    """

    NONE = 0
    """The entry is not a record."""
    PRESENT = 1
    """Salt and body follow."""
    WITHHELD = 2
    """This reader may not have it, or it is not to be had here."""
    ERASED = 3
    """Destroyed; to be believed only with a covering ERASE in a verified tree."""


class Body(NamedTuple):
    """The body of one entry, or why it is missing.

    A tuple, because bundles are taken apart by the ten thousand a second.

    Attributes:
        status: Whether it is there.
        salt: 16 bytes if it is there, else empty.
        body: 1 to 16,384 bytes if it is there, else empty.

    Source: SPEC.md#body-bundles.
    """

    status: BodyStatus
    salt: bytes = b""
    body: bytes = b""


_PRESENT = BodyStatus.PRESENT
_ABSENT = {int(status): Body(status) for status in BodyStatus if status != _PRESENT}


def encode_body_bundle(bodies: Sequence[Body]) -> bytes:
    """Write a body bundle.

    Args:
        bodies: One for each leaf, 1 to 256.

    Raises:
        MalformedError: A value cannot stand in a bundle, or their number is wrong.
        TooLargeError: A body is too long.

    Source: SPEC.md#body-bundles.
    """
    if not 1 <= len(bodies) <= TILE_WIDTH:
        raise MalformedError("body bundle", "it does not hold 1 to 256 bodies")
    return b"".join(map(_encode_body, bodies))


def _encode_body(body: Body) -> bytes:
    if body.status != _PRESENT:
        if body.salt or body.body:
            raise MalformedError("body bundle", "a missing body has content")
        return bytes([body.status])
    if len(body.salt) != SALT_BYTES or not body.body:
        raise MalformedError("body bundle", "a salt or a body is of wrong length")
    if len(body.body) > MAX_BODY_BYTES:
        raise TooLargeError("body", MAX_BODY_BYTES)
    length = len(body.body).to_bytes(_LENGTH_BYTES, "big")
    return b"%c%s%s%s" % (body.status, body.salt, length, body.body)


def parse_body_bundle(raw: bytes, width: int) -> tuple[Body, ...]:
    """Read a body bundle; whether the bodies are the right ones is not checked.

    Args:
        raw: The bundle, decompressed.
        width: Bodies that it must hold.

    Raises:
        MalformedError: The bytes are not a bundle of that width.
        TooLargeError: The bundle or a body is too long.

    Source: SPEC.md#body-bundles.
    """
    if len(raw) > MAX_BODY_BUNDLE_BYTES:
        raise TooLargeError("body bundle", MAX_BODY_BUNDLE_BYTES)
    bodies: list[Body] = []
    position = 0
    try:
        for _ in range(width):
            status = raw[position]
            position += 1
            if status == _PRESENT:
                start = position + _HEAD_BYTES
                end = start + (raw[start - 2] << 8 | raw[start - 1])
                salt = raw[position : position + SALT_BYTES]
                bodies.append(Body(_PRESENT, salt, raw[start:end]))
                position = end
            else:
                bodies.append(_ABSENT[status])
    except IndexError:
        raise MalformedError("body bundle", "it ends within a body") from None
    except KeyError:
        raise MalformedError("body bundle", "a status is unknown") from None
    if position != len(raw):
        raise MalformedError("body bundle", f"it does not hold {width} bodies")
    _check_lengths(bodies)
    return tuple(bodies)


def _check_lengths(bodies: Sequence[Body]) -> None:
    # Every body that lies wholly within the bundle has the length it says.
    lengths = [len(body.body) for body in bodies if body.status == _PRESENT]
    if lengths and min(lengths) == 0:
        raise MalformedError("body bundle", "a body is empty")
    if lengths and max(lengths) > MAX_BODY_BYTES:
        raise TooLargeError("body", MAX_BODY_BYTES)

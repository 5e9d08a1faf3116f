"""Commitments: what a log entry holds instead of a record.

The salt keeps a commitment from being reversed by guessing, and destroying it with the
body erases the record while every proof still verifies.

Source: SPEC.md#commitments.
"""

import hashlib

from hashlight_protocol.errors import (
    BadCommitmentError,
    MalformedError,
    TooLargeError,
)

SALT_BYTES = 16
"""Length of a salt. Source: SPEC.md#limits."""

MAX_BODY_BYTES = 16_384
"""Longest record body. Source: SPEC.md#limits."""


def commit(list_id: str, salt: bytes, body: bytes) -> bytes:
    """Bind a body to a list without revealing it.

    Binds the list and not the log, so a list that starts again in a new log re-sends
    no bodies.

    Args:
        list_id: Id of the list.
        salt: 16 bytes from the system's random source; never derived, never reused.
        body: Exact bytes of the record, 1 to 16,384.

    Returns:
        32 bytes.

    Raises:
        MalformedError: The salt is not 16 bytes, or the body is empty.
        TooLargeError: The body is too long.

    Source: SPEC.md#commitments.
    """
    if len(salt) != SALT_BYTES:
        raise MalformedError("salt", f"it is not {SALT_BYTES} bytes long")
    if not body:
        raise MalformedError("body", "it is empty")
    if len(body) > MAX_BODY_BYTES:
        raise TooLargeError("body", MAX_BODY_BYTES)
    return hashlib.sha256(
        b"hsf/v1/record\n%s\n%s%s%s"
        % (list_id.encode(), salt, len(body).to_bytes(2, "big"), body)
    ).digest()


def verify_commitment(
    commitment: bytes, *, list_id: str, salt: bytes, body: bytes, leaf_index: int
) -> None:
    """Check that a body is the one that a log entry commits to.

    Args:
        commitment: From the entry, 32 bytes.
        list_id: Id of the list that the log belongs to.
        salt: As it came with the body.
        body: As it came.
        leaf_index: Position of the entry, for the error.

    Raises:
        BadCommitmentError: Salt or body are not those that were committed to.
        MalformedError: The salt is not 16 bytes, or the body is empty.
        TooLargeError: The body is too long.

    Source: SPEC.md#commitments.
    """
    if commit(list_id, salt, body) != commitment:
        raise BadCommitmentError(leaf_index)

"""Commitments: they bind list, salt and body, and nothing else fits."""

import hashlib

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from hashlight_protocol import (
    MAX_BODY_BYTES,
    BadCommitmentError,
    MalformedError,
    TooLargeError,
    commit,
    verify_commitment,
)
from support.example_log import LIST_ID

SALT = bytes(range(16))


def test_a_commitment_hashes_list_salt_length_and_body() -> None:
    message = b"hsf/v1/record\n" + LIST_ID.encode() + b"\n" + SALT + b"\x00\x04body"
    assert commit(LIST_ID, SALT, b"body") == hashlib.sha256(message).digest()


@given(st.binary(min_size=1, max_size=400), st.binary(min_size=16, max_size=16))
def test_a_commitment_holds_for_what_was_committed_to(body: bytes, salt: bytes) -> None:
    verify_commitment(
        commit(LIST_ID, salt, body), list_id=LIST_ID, salt=salt, body=body, leaf_index=3
    )


@given(
    st.sampled_from([LIST_ID, LIST_ID + "2"]),
    st.binary(min_size=16, max_size=16) | st.just(SALT),
    st.binary(min_size=1, max_size=40) | st.just(b"body"),
)
def test_a_commitment_holds_for_nothing_else(
    list_id: str, salt: bytes, body: bytes
) -> None:
    assume((list_id, salt, body) != (LIST_ID, SALT, b"body"))
    with pytest.raises(BadCommitmentError, match="leaf 3") as raised:
        verify_commitment(
            commit(LIST_ID, SALT, b"body"),
            list_id=list_id,
            salt=salt,
            body=body,
            leaf_index=3,
        )
    assert raised.value.leaf_index == 3


@pytest.mark.parametrize(
    ("salt", "body"),
    [(b"", b"body"), (SALT[:-1], b"body"), (SALT + b"x", b"body"), (SALT, b"")],
)
def test_what_cannot_be_committed_to_is_refused(salt: bytes, body: bytes) -> None:
    with pytest.raises(MalformedError):
        commit(LIST_ID, salt, body)


def test_a_body_has_at_most_16384_bytes() -> None:
    commit(LIST_ID, SALT, bytes(MAX_BODY_BYTES))
    with pytest.raises(TooLargeError, match="16384"):
        commit(LIST_ID, SALT, bytes(MAX_BODY_BYTES + 1))

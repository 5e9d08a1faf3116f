"""Body bundles."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hashlight_protocol import (
    MAX_BODY_BUNDLE_BYTES,
    MAX_BODY_BYTES,
    Body,
    BodyStatus,
    MalformedError,
    TooLargeError,
    encode_body_bundle,
    parse_body_bundle,
)

SALT = bytes(range(16))
PRESENT = Body(BodyStatus.PRESENT, SALT, b"body")
PRESENT_RAW = b"\x01" + SALT + b"\x00\x04body"
ABSENT = [Body(BodyStatus.NONE), Body(BodyStatus.WITHHELD), Body(BodyStatus.ERASED)]


def test_a_bundle_says_of_each_body_whether_it_is_there() -> None:
    raw = encode_body_bundle([ABSENT[0], PRESENT, *ABSENT[1:]])
    assert raw == b"\x00" + PRESENT_RAW + b"\x02\x03"


@given(
    st.lists(
        st.sampled_from(ABSENT)
        | st.builds(
            Body,
            st.just(BodyStatus.PRESENT),
            st.binary(min_size=16, max_size=16),
            st.binary(min_size=1, max_size=60),
        ),
        min_size=1,
        max_size=256,
    )
)
def test_every_bundle_comes_back_as_it_was(bodies: list[Body]) -> None:
    raw = encode_body_bundle(bodies)
    again = parse_body_bundle(raw, len(bodies))
    assert again == tuple(bodies)
    assert all(isinstance(body.status, BodyStatus) for body in again)
    assert encode_body_bundle(again) == raw


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\x00",
        b"\x00\x00\x00",
        b"\x00\x04",
        b"\x00\xff",
        b"\x00\x01",
        b"\x00" + PRESENT_RAW[:-1],
        PRESENT_RAW[:-1] + b"\x00",
        b"\x00" + PRESENT_RAW + b"\x00",
        b"\x00\x01" + SALT + b"\x00",
        b"\x00\x01" + SALT + b"\x00\x00",
        b"\x01" + SALT + b"\xff\xff\x00",
    ],
)
def test_a_bundle_that_does_not_hold_its_bodies_is_refused(raw: bytes) -> None:
    with pytest.raises(MalformedError, match="body bundle"):
        parse_body_bundle(raw, 2)


def test_a_bundle_with_a_body_that_is_too_long_is_refused() -> None:
    length = MAX_BODY_BYTES + 1
    raw = b"\x01" + SALT + length.to_bytes(2, "big") + bytes(length)
    with pytest.raises(TooLargeError, match="16384"):
        parse_body_bundle(raw, 1)
    with pytest.raises(TooLargeError, match="16384"):
        encode_body_bundle([Body(BodyStatus.PRESENT, SALT, bytes(length))])


def test_the_fullest_bundle_is_below_the_limit() -> None:
    fullest = [Body(BodyStatus.PRESENT, SALT, bytes(MAX_BODY_BYTES))] * 256
    raw = encode_body_bundle(fullest)
    assert len(raw) <= MAX_BODY_BUNDLE_BYTES
    assert parse_body_bundle(raw, 256) == tuple(fullest)


def test_a_bundle_above_the_limit_is_refused_unread() -> None:
    with pytest.raises(TooLargeError, match="5242880"):
        parse_body_bundle(bytes(MAX_BODY_BUNDLE_BYTES + 1), 256)


@pytest.mark.parametrize(
    "bodies",
    [
        [],
        [PRESENT] * 257,
        [Body(BodyStatus.PRESENT)],
        [Body(BodyStatus.PRESENT, SALT)],
        [Body(BodyStatus.PRESENT, SALT[1:], b"body")],
        [Body(BodyStatus.ERASED, SALT)],
        [Body(BodyStatus.WITHHELD, b"", b"body")],
    ],
)
def test_no_bundle_is_made_of_what_is_none(bodies: list[Body]) -> None:
    with pytest.raises(MalformedError, match="body bundle"):
        encode_body_bundle(bodies)

"""Keys: which are refused, how they are written, what they sign."""

import hashlib
from itertools import pairwise

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st

from hashlight_protocol import (
    COSIGNATURE,
    ED25519,
    BadKeyError,
    BadSignatureError,
    Ed25519Signer,
    MalformedError,
    VerifierKey,
    cosigned_at,
    encode_vkey,
    is_key_name,
    parse_vkey,
    verify_public_key,
)
from support.example_log import IDENTITY, WITNESS, seed
from support.vectors import b64, load

# The example of Go's golang.org/x/mod/sumdb/note, where this format comes from.
GO_VKEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"

# Ed25519 as RFC 8032, section 5.1, defines it, to find its points of small order.
P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, P) % P
SQRT_M1 = pow(2, (P - 1) // 4, P)
Point = tuple[int, int]
IDENTITY_POINT: Point = (0, 1)


def add(first: Point, second: Point) -> Point:
    (x1, y1), (x2, y2) = first, second
    product = D * x1 * x2 * y1 * y2
    return (
        (x1 * y2 + x2 * y1) * pow(1 + product, -1, P) % P,
        (y1 * y2 + x1 * x2) * pow(1 - product, -1, P) % P,
    )


def multiply(scalar: int, point: Point) -> Point:
    result = IDENTITY_POINT
    while scalar:
        if scalar & 1:
            result = add(result, point)
        point = add(point, point)
        scalar >>= 1
    return result


def point_at(y: int) -> Point | None:
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(square, (P + 3) // 8, P)
    for candidate in (x, x * SQRT_M1 % P):
        if candidate * candidate % P == square:
            return candidate, y
    return None


def small_order_points() -> set[Point]:
    """Find all eight: multiples of a point of order 8."""
    for y in range(2, 100):
        point = point_at(y)
        if point is not None:
            torsion = multiply(L, point)
            points = {multiply(count, torsion) for count in range(8)}
            if len(points) == 8:
                return points
    raise AssertionError


def encodings(point: Point) -> set[bytes]:
    """Give every encoding that some library accepts, canonical or not."""
    x, y = point
    signs = {0, 1} if x == 0 else {x & 1}
    values = {value for value in (y, y + P) if value < 2**255}
    return {
        (value | sign << 255).to_bytes(32, "little")
        for value in values
        for sign in signs
    }


SMALL_ORDER = sorted(
    encoding for point in small_order_points() for encoding in encodings(point)
)


def test_there_are_eight_small_points_in_fourteen_encodings() -> None:
    assert len(small_order_points()) == 8
    assert len(set(SMALL_ORDER)) == 14


@pytest.mark.parametrize("public_key", SMALL_ORDER, ids=bytes.hex)
def test_a_key_of_small_order_is_refused_in_every_encoding(public_key: bytes) -> None:
    with pytest.raises(BadKeyError):
        verify_public_key(public_key)
    with pytest.raises(BadKeyError):
        VerifierKey("a.example", ED25519, public_key)


def test_the_vectors_have_every_key_of_small_order() -> None:
    vkeys = [case["vkey"] for case in load("keys.json")["cases"] if not case["valid"]]
    for public_key in SMALL_ORDER:
        material = b64(bytes([ED25519]) + public_key)
        assert any(vkey.endswith(f"+{material}") for vkey in vkeys)


def test_under_the_smallest_key_one_signature_would_fit_every_message() -> None:
    # This is why such keys are refused: the library underneath takes them.
    identity_point = (1).to_bytes(32, "little")
    key = Ed25519PublicKey.from_public_bytes(identity_point)
    for number in range(50):
        key.verify(identity_point + bytes(32), b"message %d" % number)


@pytest.mark.parametrize("y", range(P, 2**255))
@pytest.mark.parametrize("sign", [0, 1])
def test_a_key_that_is_not_canonical_is_refused(y: int, sign: int) -> None:
    with pytest.raises(BadKeyError, match="canonical"):
        verify_public_key((y | sign << 255).to_bytes(32, "little"))


def test_exactly_the_points_of_the_curve_are_keys() -> None:
    for y in range(2, 60):
        public_key = y.to_bytes(32, "little")
        if point_at(y) is None:
            with pytest.raises(BadKeyError, match="curve"):
                verify_public_key(public_key)
        else:
            verify_public_key(public_key)


@pytest.mark.parametrize("length", [0, 31, 33])
def test_a_key_of_another_length_is_refused(length: int) -> None:
    with pytest.raises(BadKeyError, match="32 bytes"):
        verify_public_key(bytes(length))


@given(st.binary(min_size=32, max_size=32))
def test_every_key_that_anybody_has_is_accepted(private_key: bytes) -> None:
    verify_public_key(Ed25519Signer("a", ED25519, private_key).key.public_key)


@pytest.mark.parametrize("name", ["a", "node.acme.example", "an/ori.gin/1", "ключ"])
def test_a_key_may_be_called_anything_in_one_word(name: str) -> None:
    assert is_key_name(name)


@pytest.mark.parametrize(
    "name", ["", "a b", "a+b", "a\n", "a\tb", "a\u00a0b", "a\u2003b", "\x00", "\ud800"]
)
def test_a_key_is_not_called_what_a_note_cannot_carry(name: str) -> None:
    assert not is_key_name(name)
    with pytest.raises(BadKeyError, match="name"):
        VerifierKey(name, ED25519, IDENTITY.key.public_key)


@pytest.mark.parametrize("key_type", [0, 2, 3, 5, 255])
def test_a_key_of_another_type_is_refused(key_type: int) -> None:
    with pytest.raises(BadKeyError, match="type"):
        VerifierKey("a", key_type, IDENTITY.key.public_key)


def test_the_key_of_go_is_read_and_written_as_go_does() -> None:
    key = parse_vkey(GO_VKEY)
    assert key.name == "PeterNeumann"
    assert key.key_type == ED25519
    assert key.key_id.hex() == "c74f20a3"
    assert encode_vkey(key) == GO_VKEY


def test_no_other_spelling_of_a_vkey_is_read() -> None:
    for start in range(len(GO_VKEY)):
        with pytest.raises(BadKeyError):
            parse_vkey(GO_VKEY[:start])
        with pytest.raises(BadKeyError):
            parse_vkey(GO_VKEY[:start] + GO_VKEY[start + 1 :])
        with pytest.raises(BadKeyError):
            parse_vkey(GO_VKEY[:start] + "!" + GO_VKEY[start + 1 :])
        if GO_VKEY[start] != GO_VKEY[start].swapcase():
            with pytest.raises(BadKeyError):
                parse_vkey(
                    GO_VKEY[:start] + GO_VKEY[start].swapcase() + GO_VKEY[start + 1 :]
                )


@pytest.mark.parametrize(
    "text", ["", "+", "++", "a++", "a+b", "a" * 1_025, "\ud800+00000000+AQ=="]
)
def test_what_is_no_vkey_is_refused(text: str) -> None:
    with pytest.raises(BadKeyError):
        parse_vkey(text)


def test_name_and_type_are_part_of_a_keys_id() -> None:
    key = IDENTITY.key
    other_name = VerifierKey("other.example", key.key_type, key.public_key)
    other_type = VerifierKey(key.name, COSIGNATURE, key.public_key)
    ids = [key.key_id, other_name.key_id, other_type.key_id]
    assert len(set(ids)) == 3
    named = key.name.encode() + b"\n\x01" + key.public_key
    assert key.key_id == hashlib.sha256(named).digest()[:4]


def test_a_signature_holds_for_its_text_only() -> None:
    signature = IDENTITY.sign(b"text\n")
    IDENTITY.key.verify(b"text\n", signature)
    for text, blob in (
        (b"texT\n", signature),
        (b"text\n", bytes(64)),
        (b"text\n", signature[:-1]),
        (b"text\n", b""),
    ):
        with pytest.raises(BadSignatureError) as raised:
            IDENTITY.key.verify(text, blob)
        assert raised.value.key_name == IDENTITY.name
        assert raised.value.key_id == IDENTITY.key.key_id.hex()


@pytest.mark.parametrize("blob", [b"", bytes(71), bytes(73), b"\xff" * 72])
def test_a_cosignature_of_wrong_shape_has_no_time(blob: bytes) -> None:
    with pytest.raises(MalformedError, match="cosignature"):
        cosigned_at(blob)
    with pytest.raises(BadSignatureError):
        WITNESS.key.verify(b"text\n", blob)


def test_a_signer_never_shows_its_private_key() -> None:
    assert IDENTITY.seed.hex() not in repr(IDENTITY)
    assert repr(IDENTITY.seed) not in repr(IDENTITY)


def test_a_private_key_has_32_bytes() -> None:
    with pytest.raises(BadKeyError, match="32 bytes"):
        Ed25519Signer("a", ED25519, b"short")


def test_signers_with_different_seeds_differ() -> None:
    signers = [Ed25519Signer("a", ED25519, seed(str(n))) for n in range(3)]
    assert all(first != second for first, second in pairwise(signers))
    assert signers[0] == Ed25519Signer("a", ED25519, seed("0"))

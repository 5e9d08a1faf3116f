"""Descriptors: what a node says about itself, and what it may not say."""

import json
from dataclasses import replace
from typing import Any

import pytest

from hashlight_protocol import (
    COSIGNATURE,
    ED25519,
    MAX_DESCRIPTOR_BYTES,
    BadKeyError,
    BadSignatureError,
    Descriptor,
    HttpKey,
    MalformedError,
    StaleVersionError,
    TooLargeError,
    UnknownKeyError,
    VerifierKey,
    open_descriptor,
    sign_descriptor,
    sign_note,
    verify_successor,
)
from support.example_log import IDENTITY, LOG, NODE, signer

WITNESS = signer(f"{NODE}/hsf/v1/witness", COSIGNATURE).key
MIRROR = signer(f"{NODE}/hsf/v1/mirror", COSIGNATURE).key
HTTP_KEY = HttpKey("h1", signer("http").key.public_key)
DESCRIPTOR = Descriptor(
    name=NODE,
    version=3,
    base="https://node.acme.example:8440/federation",
    http_keys=(HTTP_KEY, HttpKey("h2", signer("http", number=2).key.public_key)),
    witness=WITNESS,
    mirror=MIRROR,
    limits={"requests": 16, "request_bytes": 135_168},
    features=("mirror", "long-poll"),
)
RAW = sign_descriptor(DESCRIPTOR, IDENTITY)


def members_of(raw: bytes) -> dict[str, Any]:
    members: dict[str, Any] = json.loads(raw.split(b"\n")[1])
    return members


def signed(members: object, header: bytes = b"hsf-node/v1\n") -> bytes:
    return sign_note(header + json.dumps(members).encode() + b"\n", [IDENTITY])


def with_members(**changes: object) -> bytes:
    return signed(members_of(RAW) | changes)


def test_a_descriptor_comes_back_as_it_was() -> None:
    assert RAW.startswith(b'hsf-node/v1\n{"name":"node.acme.example","version":3,')
    assert open_descriptor(RAW, IDENTITY.key) == DESCRIPTOR


def test_members_of_later_versions_are_skipped() -> None:
    assert open_descriptor(with_members(later={"x": 1}), IDENTITY.key) == DESCRIPTOR


def test_any_changed_byte_is_refused() -> None:
    for position in range(len(RAW)):
        altered = bytearray(RAW)
        altered[position] ^= 1
        with pytest.raises((MalformedError, BadSignatureError, UnknownKeyError)):
            open_descriptor(bytes(altered), IDENTITY.key)


def test_only_the_identity_key_speaks_for_a_node() -> None:
    with pytest.raises(UnknownKeyError, match="descriptor"):
        open_descriptor(RAW, signer(NODE, number=2).key)
    for key in (LOG.key, signer(NODE, COSIGNATURE).key):
        with pytest.raises(BadKeyError, match="identity"):
            open_descriptor(RAW, key)


def test_substitution_a_node_does_not_speak_for_another() -> None:
    with pytest.raises(MalformedError, match="another node"):
        open_descriptor(with_members(name="other.example"), IDENTITY.key)
    with pytest.raises(MalformedError, match="another node"):
        sign_descriptor(replace(DESCRIPTOR, name="other.example"), IDENTITY)


@pytest.mark.parametrize(
    "base",
    [
        "https://node.acme.example",
        "https://node.acme.example:80",
        "https://203.0.113.9/a/b",
        "https://[2001:db8::1]:8440",
        "http://localhost:8440",
        "http://127.0.0.2:8440/x",
        "http://[::1]",
    ],
)
def test_a_base_is_an_https_url_or_on_loopback(base: str) -> None:
    raw = sign_descriptor(replace(DESCRIPTOR, base=base), IDENTITY)
    assert open_descriptor(raw, IDENTITY.key).base == base


@pytest.mark.parametrize(
    "base",
    [
        "",
        "node.acme.example",
        "http://node.acme.example",
        "http://203.0.113.9",
        "http://[2001:db8::1]",
        "ftp://node.acme.example",
        "https://node.acme.example/",
        "https://node.acme.example/a//b",
        "https://node.acme.example/../b",
        "https://node.acme.example/.",
        "https://node.acme.example/a?b",
        "https://node.acme.example/a#b",
        "https://user@node.acme.example",
        "https://node.acme.example:0",
        "https://node.acme.example:443",
        "http://localhost:80",
        "https://node.acme.example:65536",
        "https://node.acme.example:99999",
        "https://NODE.acme.example",
        "https://node..example",
        "https://1.2.3",
        "https://[203.0.113.9]",
        "https://[:::]",
        "https://node.acme.example\n",
        "https://" + "a." * 600 + "example",
    ],
)
def test_nothing_else_is_a_base(base: str) -> None:
    with pytest.raises(MalformedError, match="base"):
        open_descriptor(with_members(base=base), IDENTITY.key)


@pytest.mark.parametrize(
    "changes",
    [
        {"version": "3"},
        {"version": -1},
        {"version": True},
        {"version": 3.0},
        {"version": None},
        {"base": 1},
        {"http_keys": []},
        {"http_keys": {}},
        {"http_keys": ["h1"]},
        {"http_keys": [{"id": "h1"}]},
        {"http_keys": [{"id": "h1", "key": "!"}]},
        {"http_keys": members_of(RAW)["http_keys"][:1] * 2},
        {"http_keys": members_of(RAW)["http_keys"] * 9},
        {"limits": []},
        {"limits": {"requests": "16"}},
        {"features": "mirror"},
        {"features": [1]},
        {"features": ["two words"]},
        {"features": ["x"] * 65},
    ],
)
def test_members_of_wrong_shape_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(MalformedError, match="descriptor"):
        open_descriptor(with_members(**changes), IDENTITY.key)


@pytest.mark.parametrize(
    "changes",
    [
        {"witness": ""},
        {"witness": members_of(RAW)["mirror"]},
        {"mirror": members_of(RAW)["witness"]},
        {"http_keys": [{"id": "H 1", "key": members_of(RAW)["http_keys"][0]["key"]}]},
        {"http_keys": [{"id": "h1", "key": "AQ=="}]},
        {"http_keys": [{"id": "h1", "key": "AQ" + "A" * 41 + "="}]},
    ],
)
def test_keys_that_are_not_those_of_a_node_are_refused(
    changes: dict[str, object],
) -> None:
    with pytest.raises(BadKeyError):
        open_descriptor(with_members(**changes), IDENTITY.key)


def test_a_witness_key_has_the_type_of_one() -> None:
    wrong = VerifierKey(WITNESS.name, ED25519, WITNESS.public_key)
    with pytest.raises(BadKeyError, match="witness"):
        sign_descriptor(replace(DESCRIPTOR, witness=wrong), IDENTITY)


def test_no_two_parts_of_a_node_share_a_key() -> None:
    shared = VerifierKey(MIRROR.name, COSIGNATURE, WITNESS.public_key)
    identity = HttpKey("h1", IDENTITY.key.public_key)
    for descriptor in (
        replace(DESCRIPTOR, mirror=shared),
        replace(DESCRIPTOR, http_keys=(identity,)),
        replace(DESCRIPTOR, http_keys=(HTTP_KEY, replace(HTTP_KEY, id="h2"))),
    ):
        with pytest.raises(BadKeyError, match="share"):
            sign_descriptor(descriptor, IDENTITY)


@pytest.mark.parametrize(
    "text",
    [
        b"hsf-node/v1\n",
        b"hsf-node/v2\n{}\n",
        b"hsf-list/v1\n{}\n",
        b"hsf-node/v1\n{}\n\n",
        b"hsf-node/v1\n{}\n{}\n",
        b"hsf-node/v1\n[]\n",
        b"hsf-node/v1\n{\n",
        b"{}\n",
    ],
)
def test_a_descriptor_is_a_header_and_one_object(text: bytes) -> None:
    with pytest.raises(MalformedError):
        open_descriptor(sign_note(text, [IDENTITY]), IDENTITY.key)


def test_a_descriptor_has_at_most_256_kibibytes() -> None:
    with pytest.raises(TooLargeError, match="262144"):
        open_descriptor(bytes(MAX_DESCRIPTOR_BYTES + 1), IDENTITY.key)
    many = {f"limit-{number}": number for number in range(20_000)}
    with pytest.raises(TooLargeError, match="262144"):
        sign_descriptor(replace(DESCRIPTOR, limits=many), IDENTITY)


@pytest.mark.parametrize(
    "descriptor",
    [
        replace(DESCRIPTOR, version=2**53),
        replace(DESCRIPTOR, features=("\ud800",)),
        replace(DESCRIPTOR, limits={"\n": -1}),
    ],
)
def test_no_descriptor_is_signed_that_could_not_be_read(descriptor: Descriptor) -> None:
    with pytest.raises(MalformedError):
        sign_descriptor(descriptor, IDENTITY)


def test_a_descriptor_that_would_be_read_otherwise_is_not_signed() -> None:
    listed: Any = list(DESCRIPTOR.features)
    with pytest.raises(MalformedError, match="something else"):
        sign_descriptor(replace(DESCRIPTOR, features=listed), IDENTITY)


def test_a_higher_version_and_the_same_again_may_follow() -> None:
    verify_successor(DESCRIPTOR, DESCRIPTOR)
    verify_successor(DESCRIPTOR, replace(DESCRIPTOR, version=4, features=()))


@pytest.mark.parametrize(
    "new", [replace(DESCRIPTOR, version=2), replace(DESCRIPTOR, features=())]
)
def test_rollback_an_older_or_second_version_may_not_follow(new: Descriptor) -> None:
    with pytest.raises(StaleVersionError, match="descriptor") as raised:
        verify_successor(DESCRIPTOR, new)
    assert (raised.value.known, raised.value.got) == (3, new.version)


def test_a_descriptor_of_another_node_may_not_follow() -> None:
    with pytest.raises(MalformedError, match="something else"):
        verify_successor(DESCRIPTOR, replace(DESCRIPTOR, name="other.example"))

"""Descriptors: what a node says about itself, to everybody.

A descriptor names keys and an address, and no list: who has no grant learns nothing.

Source: SPEC.md#descriptor.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address

from hashlight_protocol._documents import open_document, sign_document
from hashlight_protocol._objects import JsonObject
from hashlight_protocol._text import encode_base64, parse_base64
from hashlight_protocol.errors import (
    BadKeyError,
    MalformedError,
    StaleVersionError,
)
from hashlight_protocol.keys import (
    COSIGNATURE,
    Signer,
    VerifierKey,
    encode_vkey,
    parse_vkey,
    verify_public_key,
)
from hashlight_protocol.list_note import ListNote, verify_logs_go_on
from hashlight_protocol.origins import is_node_name

MAX_HTTP_KEYS = 16
"""Most HTTP keys of one node. Source: SPEC.md#limits."""

MAX_FEATURES = 64
"""Most features of one node. Source: SPEC.md#limits."""

MAX_BASE = 512
"""Longest base URL in characters. Source: SPEC.md#limits."""

_HEADER = b"hsf-node/v1\n"
_WHAT = "descriptor"

_HTTP_KEY_ID = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}", re.ASCII)
_FEATURE = re.compile(r"[a-z0-9][a-z0-9._/-]{0,63}", re.ASCII)
_SEGMENT = r"(?!\.{1,2}(?:/|$))[A-Za-z0-9._~-]+"
_BASE = re.compile(
    r"(?P<scheme>https?)://(?P<host>[a-z0-9.-]+|\[[0-9a-f:.]+\])"
    rf"(?::(?P<port>[1-9][0-9]{{0,4}}))?(?:/{_SEGMENT})*",
    re.ASCII,
)
_MAX_PORT = 65_535
_DEFAULT_PORTS = {"http": "80", "https": "443"}
_IPV6 = 6


@dataclass(frozen=True, slots=True)
class HttpKey:
    """A key that signs a node's requests.

    Attributes:
        id: Name of the key within the node.
        public_key: Ed25519 point, 32 bytes.

    Raises:
        BadKeyError: The id is not one, or the key proves nothing.

    Source: SPEC.md#descriptor.
    """

    id: str
    public_key: bytes

    def __post_init__(self) -> None:
        if _HTTP_KEY_ID.fullmatch(self.id) is None:
            raise BadKeyError("the id of an HTTP key is not a short plain name")
        verify_public_key(self.public_key)


@dataclass(frozen=True, slots=True)
class Descriptor:
    """What a node says about itself, to everybody.

    Attributes:
        name: Node name.
        version: Counted up with every change.
        base: URL of the node, without a slash at its end.
        http_keys: Keys that sign the node's requests, at least 1.
        witness: Key of the node as a witness.
        mirror: Key of the node as a mirror.
        limits: Numbers that the node publishes about itself.
        features: Optional parts of the protocol that the node offers.

    Source: SPEC.md#descriptor.
    """

    name: str
    version: int
    base: str
    http_keys: tuple[HttpKey, ...]
    witness: VerifierKey
    mirror: VerifierKey
    limits: Mapping[str, int]
    features: tuple[str, ...] = ()


def sign_descriptor(descriptor: Descriptor, signer: Signer) -> bytes:
    """Sign a descriptor with the identity key.

    Returns:
        The note.

    Raises:
        MalformedError: A value cannot stand in a descriptor.
        BadKeyError: The keys are not those of different parts of this node.
        TooLargeError: The note would be too large.

    Source: SPEC.md#descriptor.
    """
    document = {
        "name": descriptor.name,
        "version": descriptor.version,
        "base": descriptor.base,
        "http_keys": [
            {"id": key.id, "key": encode_base64(key.public_key)}
            for key in descriptor.http_keys
        ],
        "witness": encode_vkey(descriptor.witness),
        "mirror": encode_vkey(descriptor.mirror),
        "limits": dict(descriptor.limits),
        "features": list(descriptor.features),
    }
    raw = sign_document(_HEADER, document, signer)
    if open_descriptor(raw, signer.key) != descriptor:
        raise MalformedError(_WHAT, "it would be read as something else")
    return raw


def open_descriptor(raw: bytes, identity: VerifierKey) -> Descriptor:
    """Read a descriptor that a node's identity key must have signed.

    Whether it follows the one seen before is for `verify_successor`.

    Args:
        raw: The note.
        identity: Identity key, pinned out of band.

    Raises:
        MalformedError: The bytes are not a descriptor of this node.
        TooLargeError: They are too many.
        BadKeyError: A key proves nothing, is not named like its part of the node, or
            serves two parts.
        BadSignatureError: The signature does not hold.
        UnknownKeyError: The identity key did not sign.

    Source: SPEC.md#descriptor.
    """
    document = open_document(raw, identity, header=_HEADER, what=_WHAT)
    name = document.string("name")
    if name != identity.name:
        raise MalformedError(_WHAT, "it is about another node")
    base = document.string("base")
    if not is_base(base):
        raise MalformedError(_WHAT, "base is not an https URL without a query")
    keys = tuple(
        map(_parse_http_key, document.children("http_keys", most=MAX_HTTP_KEYS))
    )
    limits = document.child("limits")
    descriptor = Descriptor(
        name,
        document.number("version"),
        base,
        keys,
        parse_vkey(document.string("witness")),
        parse_vkey(document.string("mirror")),
        {member: limits.number(member) for member in limits.members},
        document.strings("features", most=MAX_FEATURES),
    )
    _check_descriptor(descriptor, identity)
    return descriptor


def is_base(url: str) -> bool:
    """Tell whether a text is a node's base URL in its one form.

    Source: SPEC.md#descriptor.
    """
    match = _BASE.fullmatch(url) if len(url) <= MAX_BASE else None
    if match is None:
        return False
    scheme, host, port = match["scheme"], match["host"], match["port"]
    if port is not None and (port == _DEFAULT_PORTS[scheme] or int(port) > _MAX_PORT):
        return False
    address = _address_of(host)
    if scheme == "http":
        return host == "localhost" or (address is not None and address.is_loopback)
    return address is not None or is_node_name(host)


def _address_of(host: str) -> IPv4Address | IPv6Address | None:
    literal = host.strip("[]")
    try:
        address = ip_address(literal)
    except ValueError:
        return None
    return address if (address.version == _IPV6) == (literal != host) else None


def _parse_http_key(document: JsonObject) -> HttpKey:
    return HttpKey(document.string("id"), parse_base64(document.string("key"), _WHAT))


def _check_descriptor(descriptor: Descriptor, identity: VerifierKey) -> None:
    if not all(map(_FEATURE.fullmatch, descriptor.features)):
        raise MalformedError(_WHAT, "a feature is not a short plain name")
    if not descriptor.http_keys:
        raise MalformedError(_WHAT, "http_keys is empty")
    if len({key.id for key in descriptor.http_keys}) != len(descriptor.http_keys):
        raise MalformedError(_WHAT, "two HTTP keys have the same id")
    for part, key in (("witness", descriptor.witness), ("mirror", descriptor.mirror)):
        if (key.name, key.key_type) != (f"{identity.name}/hsf/v1/{part}", COSIGNATURE):
            raise BadKeyError(f"the {part} key is not named or typed like one")
    # A cosignature does not say which part of a node made it; only the key does.
    points = [key.public_key for key in descriptor.http_keys]
    points += [
        key.public_key for key in (identity, descriptor.witness, descriptor.mirror)
    ]
    if len(set(points)) != len(points):
        raise BadKeyError("two parts of a node share one key")


def verify_successor(old: Descriptor | ListNote, new: Descriptor | ListNote) -> None:
    """Check that a document may take the place of the one seen before.

    Versions in between may have been missed: whatever may follow step by step may
    follow at once.

    Args:
        old: The document seen before.
        new: Another one about the same node or list.

    Raises:
        StaleVersionError: The version went back, or stayed although the document
            changed.
        MalformedError: They are not about the same node or list.
        ContradictionError: The list note takes back what was said for good.

    Source: SPEC.md#descriptor and SPEC.md#successions.
    """
    what = _WHAT if isinstance(new, Descriptor) else "list note"
    if _subject(old) != _subject(new):
        raise MalformedError(what, "it is about something else")
    if new.version < old.version or (new.version == old.version and new != old):
        raise StaleVersionError(what, old.version, new.version)
    if isinstance(old, ListNote) and isinstance(new, ListNote):
        verify_logs_go_on(old, new)


def _subject(document: Descriptor | ListNote) -> str:
    return document.name if isinstance(document, Descriptor) else document.id

"""Keys: which public keys count, how they are named, and who signs.

The type of a key decides which bytes its signature covers, so a key and a signature
are enough to check a note.

Source: C2SP signed-note and tlog-cosignature; SPEC.md#keys.
"""

import hashlib
import re
from dataclasses import dataclass, field
from typing import Protocol

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)

from hashlight_protocol._text import encode_base64, parse_base64
from hashlight_protocol.errors import BadKeyError, BadSignatureError, MalformedError

ED25519 = 0x01
"""Type of a key that signs the text of a note itself. Source: C2SP signed-note."""

COSIGNATURE = 0x04
"""Type of a key that signs a text and a time. Source: C2SP tlog-cosignature."""

MAX_VKEY = 1_024
"""Longest verifier key in characters. Source: SPEC.md#limits."""

MAX_TIMESTAMP = 2**63 - 1
"""Latest time of a cosignature, Unix seconds. Source: C2SP tlog-cosignature."""

_PUBLIC_KEY_BYTES = 32
_SIGNATURE_BYTES = 64
_TIMESTAMP_BYTES = 8

_FIELD = 2**255 - 19
_CURVE_D = -121665 * pow(121666, -1, _FIELD) % _FIELD
# y of the points of order 8. The other small orders have y = 1, -1 and 0.
_ORDER_8 = int.from_bytes(
    bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"),
    "little",
)
_LOW_ORDER = frozenset({0, 1, _FIELD - 1, _ORDER_8, _FIELD - _ORDER_8})

_CONTROL = re.compile(r"[\x00-\x1f\ud800-\udfff]")


def verify_public_key(public_key: bytes) -> None:
    """Refuse Ed25519 public keys that prove nothing.

    Under a point of low order one fixed signature verifies on almost any message, and
    a point with two encodings has two key ids. Common libraries accept both.

    Args:
        public_key: Encoded point, 32 bytes expected.

    Raises:
        BadKeyError: The bytes are not the canonical encoding of a point on the curve,
            or the point has order 1, 2, 4 or 8.

    Source: RFC 8032 section 5.1.3; SPEC.md#keys.
    """
    if len(public_key) != _PUBLIC_KEY_BYTES:
        raise BadKeyError("an Ed25519 public key is 32 bytes long")
    y = int.from_bytes(public_key, "little") & (2**255 - 1)
    if y >= _FIELD:
        raise BadKeyError("the point is not in its canonical encoding")
    if y in _LOW_ORDER:
        raise BadKeyError("the point has low order")
    # x^2 = u/v; u/v is a square exactly if u*v is, and Euler's criterion decides that.
    # Neither factor is zero here: that would be a point of order 1 or 2.
    product = (y * y - 1) * (_CURVE_D * y * y + 1)
    if pow(product, (_FIELD - 1) // 2, _FIELD) != 1:
        raise BadKeyError("the bytes are not a point on the curve")


def is_key_name(name: str) -> bool:
    """Tell whether a text may name a key: not empty, no spaces, controls or plus.

    Source: C2SP signed-note; SPEC.md#keys.
    """
    return (
        bool(name)
        and "+" not in name
        and _CONTROL.search(name) is None
        and not any(character.isspace() for character in name)
    )


def cosigned_message(text: bytes, *, signed_at: int) -> bytes:
    """Build the bytes that a cosignature covers.

    Args:
        text: Text of the checkpoint's note, with its last newline.
        signed_at: Time of the cosignature, Unix seconds.

    Source: C2SP tlog-cosignature; SPEC.md#cosignatures.
    """
    return b"cosignature/v1\ntime %d\n%s" % (signed_at, text)


def cosigned_at(blob: bytes) -> int:
    """Read the time that a cosignature claims, Unix seconds; nothing is verified.

    Raises:
        MalformedError: The signature is not 72 bytes, or its time is not below 2^63.

    Source: C2SP tlog-cosignature; SPEC.md#cosignatures.
    """
    if len(blob) != _TIMESTAMP_BYTES + _SIGNATURE_BYTES:
        raise MalformedError("cosignature", "it is not 72 bytes long")
    signed_at = int.from_bytes(blob[:_TIMESTAMP_BYTES], "big")
    if signed_at > MAX_TIMESTAMP:
        raise MalformedError("cosignature", "its time is not below 2^63")
    return signed_at


@dataclass(frozen=True, slots=True)
class VerifierKey:
    """A public key with its name; constructing one checks that it can prove something.

    Attributes:
        name: For a log its origin, for a node the node name.
        key_type: `ED25519` or `COSIGNATURE`.
        public_key: Encoded point, 32 bytes.

    Raises:
        BadKeyError: Name, type or point are not acceptable.

    Source: C2SP signed-note; SPEC.md#keys.
    """

    name: str
    key_type: int
    public_key: bytes

    def __post_init__(self) -> None:
        if not is_key_name(self.name):
            raise BadKeyError("the name is empty or has a space, a control or a plus")
        if self.key_type not in {ED25519, COSIGNATURE}:
            raise BadKeyError(f"type {self.key_type:#04x} is not supported")
        verify_public_key(self.public_key)

    @property
    def key_id(self) -> bytes:
        """Four bytes that, with the name, tell keys apart in a note."""
        named = b"%s\n%c%s" % (self.name.encode(), self.key_type, self.public_key)
        return hashlib.sha256(named).digest()[:4]

    def verify(self, text: bytes, blob: bytes) -> None:
        """Check a note signature by this key.

        Args:
            text: Text of the note, with its last newline.
            blob: The signature without the key id: 64 bytes, or 72 for a cosignature.

        Raises:
            BadSignatureError: The signature is not by this key over this text.

        Source: RFC 8032 section 5.1.7; SPEC.md#signed-notes.
        """
        message, signature = text, blob
        try:
            if self.key_type == COSIGNATURE:
                message = cosigned_message(text, signed_at=cosigned_at(blob))
                signature = blob[_TIMESTAMP_BYTES:]
            Ed25519PublicKey.from_public_bytes(self.public_key).verify(
                signature, message
            )
        except (InvalidSignature, MalformedError):
            raise BadSignatureError(self.name, self.key_id.hex()) from None


def encode_vkey(key: VerifierKey) -> str:
    """Write a key as operators exchange it: `<name>+<key id>+<base64>`.

    Source: C2SP signed-note; SPEC.md#keys.
    """
    material = encode_base64(bytes([key.key_type]) + key.public_key)
    return f"{key.name}+{key.key_id.hex()}+{material}"


def parse_vkey(text: str) -> VerifierKey:
    """Read a verifier key; its id must be the one that follows from name and key.

    Raises:
        BadKeyError: The text is not a verifier key, or the key proves nothing.

    Source: C2SP signed-note; SPEC.md#keys.
    """
    if len(text) > MAX_VKEY:
        raise BadKeyError(f"a verifier key has at most {MAX_VKEY} characters")
    name, _, rest = text.partition("+")
    _, _, material = rest.partition("+")
    try:
        data = parse_base64(material, "verifier key")
    except MalformedError as error:
        raise BadKeyError(error.reason) from None
    if not data:
        raise BadKeyError("it is not <name>+<key id>+<base64>")
    key = VerifierKey(name, data[0], data[1:])
    if encode_vkey(key) != text:
        raise BadKeyError("its id does not follow from its name and key")
    return key


class Signer(Protocol):
    """Whoever holds a private key: a key file, or a key management service."""

    @property
    def key(self) -> VerifierKey:
        """The public half."""
        ...

    def sign(self, message: bytes) -> bytes:
        """Make the raw Ed25519 signature, 64 bytes, over exactly these bytes."""
        ...


@dataclass(frozen=True, slots=True)
class Ed25519Signer:
    """A private key in memory.

    Attributes:
        name: Name of the key.
        key_type: `ED25519` or `COSIGNATURE`.
        seed: The private key of RFC 8032, 32 bytes; never printed.
        key: The public half.

    Raises:
        BadKeyError: The name or the type is not acceptable, or the seed's length.

    Source: RFC 8032 section 5.1.5; SPEC.md#keys.
    """

    name: str
    key_type: int
    seed: bytes = field(repr=False)
    key: VerifierKey = field(init=False, compare=False)

    def __post_init__(self) -> None:
        if len(self.seed) != _PUBLIC_KEY_BYTES:
            raise BadKeyError("an Ed25519 private key is 32 bytes long")
        public_key = self._private_key().public_key().public_bytes_raw()
        # The class is frozen for its users; this is still its construction.
        key = VerifierKey(self.name, self.key_type, public_key)
        object.__setattr__(self, "key", key)

    def sign(self, message: bytes) -> bytes:
        """Make the raw Ed25519 signature, 64 bytes.

        Source: RFC 8032 section 5.1.6.
        """
        return self._private_key().sign(message)

    def _private_key(self) -> Ed25519PrivateKey:
        return Ed25519PrivateKey.from_private_bytes(self.seed)

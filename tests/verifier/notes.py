"""What every signed text has in common: JSON, keys and notes.

Each function gives a value or raises `RefusedError` with a code of SPEC.md#errors.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ed25519

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

Json = dict[str, Any]
T = TypeVar("T")

ED25519, COSIGNATURE = 1, 4
DOCUMENT_BYTES, MOST_SIGNATURES, LAST = 262_144, 32, 2**63 - 1
VKEY = re.compile(r"([^\s+]+)\+([0-9a-f]{8})\+([A-Za-z0-9+/=]+)")
SIGNATURE = re.compile(r"— ([^\s+]+) ([A-Za-z0-9+/=]+)")


class RefusedError(Exception):
    """Something breaks SPEC.md; `code` is from its registry of errors."""

    def __init__(self, code: str, detail: str, *evidence: str) -> None:
        super().__init__(detail)
        self.code, self.resource, self.evidence = code, "", evidence


def require(holds: object, code: str, detail: str) -> None:
    if not holds:
        raise RefusedError(code, detail)


@contextmanager
def reading(resource: str) -> Iterator[None]:
    """Name the resource in whatever is refused meanwhile."""
    try:
        yield
    except RefusedError as error:
        error.resource = error.resource or resource
        raise


def sha256(*parts: bytes) -> bytes:
    return hashlib.sha256(b"".join(parts)).digest()


def encode64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def decode64(text: str, length: int | None = None, code: str = "malformed") -> bytes:
    try:
        raw = base64.b64decode(text, validate=True)
    except ValueError:
        raise RefusedError(code, "no base64") from None
    require(encode64(raw) == text, code, "another spelling of base64")
    require(length in {None, len(raw)}, code, f"not {length} bytes")
    return raw


def decimal(text: str) -> int:
    require(re.fullmatch("0|[1-9][0-9]{0,18}", text), "malformed", "no decimal number")
    require(int(text) <= LAST, "malformed", "a number too large")
    return int(text)


def utf8(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise RefusedError("malformed", "not UTF-8") from None


# What all texts have in common. Source: SPEC.md#conventions.


def read_json(text: str) -> Json:
    def members(pairs: list[tuple[str, Any]]) -> Json:
        require(len({k for k, _ in pairs}) == len(pairs), "malformed", "member twice")
        return dict(pairs)

    def number(digits: str) -> float:
        value = float(digits) if set(digits) & set(".eEIN") else int(digits[:64])
        fits = math.isfinite(value) and (type(value) is float or abs(value) < 2**53)
        require(len(digits) <= 64 and fits, "malformed", "a number too large")
        return value

    kinds: Json = dict.fromkeys(("parse_int", "parse_float", "parse_constant"), number)
    try:
        found = json.loads(text, object_pairs_hook=members, **kinds)
    except (ValueError, RecursionError):
        raise RefusedError("malformed", "no JSON") from None
    require(isinstance(found, dict), "malformed", "no JSON object")
    check_strings(found, 1)
    return dict(found)


def check_strings(value: object, depth: int) -> None:
    if isinstance(value, str):
        bad = [c for c in map(ord, value) if 0xD800 <= c < 0xE000 or is_noncharacter(c)]
        require(not bad, "malformed", "a surrogate or noncharacter")
    elif isinstance(value, dict | list):
        require(depth <= 16, "malformed", "JSON too deep")
        for part in [*value, *(value.values() if isinstance(value, dict) else ())]:
            check_strings(part, depth + 1)


def is_noncharacter(point: int) -> bool:
    return 0xFDD0 <= point <= 0xFDEF or point & 0xFFFE == 0xFFFE


def member(document: Json, name: str, kind: type[T]) -> T:
    value = document.get(name)
    if not isinstance(value, kind) or isinstance(value, bool):
        raise RefusedError("malformed", f"member {name} is missing or of another type")
    return value


# Keys and notes. Source: SPEC.md#keys and SPEC.md#signed-notes.


def is_sound(public: bytes) -> bool:
    """Tell whether a key is a point in its one encoding, and of no small order."""
    p = 2**255 - 19
    d = -121665 * pow(121666, -1, p) % p
    y = int.from_bytes(public, "little") % 2**255
    square = (y * y - 1) * pow(d * y * y + 1, -1, p) % p
    x = pow(square, (p + 3) // 8, p)
    if (x * x - square) % p:
        x = x * pow(2, (p - 1) // 4, p) % p
    if y >= p or (x * x - square) % p or (x == 0 and public[31] >> 7):
        return False
    for _ in range(3):
        t = d * x * x * y * y
        x, y = (
            2 * x * y * pow(1 + t, -1, p) % p,
            (y * y + x * x) * pow(1 - t, -1, p) % p,
        )
    return (x, y) != (0, 1)


@dataclass(frozen=True)
class Key:
    name: str
    id: bytes
    kind: int
    public: bytes

    def verify(self, text: str, signature: bytes) -> int:
        """Check a signature; gives the time that a cosignature states, else 0."""
        seconds, message = 0, text
        if self.kind == COSIGNATURE:
            seconds, signature = int.from_bytes(signature[:8], "big"), signature[8:]
            message = f"cosignature/v1\ntime {seconds}\n{text}"
        try:
            key = ed25519.Ed25519PublicKey.from_public_bytes(self.public)
            key.verify(signature, message.encode())
        except InvalidSignature:
            seconds = LAST + 1
        require(seconds <= LAST, "bad-signature", f"not signed by {self.name}")
        return seconds


def read_vkey(vkey: str, name: str | None = None, kind: int | None = None) -> Key:
    require(len(vkey) <= 1_024, "too-large", "a vkey too long")
    match = VKEY.fullmatch(vkey)
    if match is None:
        raise RefusedError("bad-key", "no vkey")
    raw = decode64(match[3], 33, "bad-key")
    key = Key(match[1], bytes.fromhex(match[2]), raw[0], raw[1:])
    computed = sha256(key.name.encode(), b"\n", raw)[:4]
    require(key.id == computed, "bad-key", f"the key id of {key.name} is another")
    require(key.kind in {kind or ED25519, kind or COSIGNATURE}, "bad-key", "its type")
    require(name in {None, key.name}, "bad-key", f"a key of {key.name}, not {name}")
    require(is_sound(key.public), "bad-key", f"the key of {key.name} proves nothing")
    return key


def open_note(
    raw: bytes, keys: Sequence[Key], limit: int
) -> tuple[str, dict[Key, int]]:
    """Give a note's text, and who of `keys` signed it when."""
    require(len(raw) <= limit, "too-large", f"more than {limit} bytes")
    note = utf8(raw)
    require(not re.search(r"[\x00-\x09\x0b-\x1f]", note), "malformed", "control")
    text, gap, lines = note.rpartition("\n\n")
    require(gap and lines.endswith("\n"), "malformed", "no note")
    signatures = lines[:-1].split("\n")
    require(len(signatures) <= MOST_SIGNATURES, "too-large", "too many signatures")
    signed: dict[Key, int] = {}
    for line in signatures:
        match = SIGNATURE.fullmatch(line)
        if match is None:
            raise RefusedError("malformed", "no signature line")
        signature = decode64(match[2])
        require(len(signature) > 4, "malformed", "a signature too short")
        for key in keys:
            if (key.name, key.id) == (match[1], signature[:4]):
                at = key.verify(text + "\n", signature[4:])
                signed[key] = max(at, signed.get(key, 0))
    require(signed, "unknown-key", "no trusted key signed")
    return text + "\n", signed


def open_document(raw: bytes, identity: Key, header: str) -> Json:
    text, _ = open_note(raw, [identity], DOCUMENT_BYTES)
    lines = text.split("\n")
    form = len(lines) == 3 and lines[0] == header and lines[2] == ""
    require(form, "malformed", f"not {header} and one line of JSON")
    document = read_json(lines[1])
    require(0 <= member(document, "version", int) <= LAST, "malformed", "its version")
    return document

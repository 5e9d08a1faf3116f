"""Signal types: how each value is written, checked and matched.

One registry, from which everything else derives. A type that is not in it is carried
as it came and matched by equality, because a node that dropped what it does not know
would drop what others rely on.

Source: SPEC.md#signal-types.
"""

import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal

from hashlight_protocol.errors import BadSignalError
from hashlight_protocol.urls import canonical_domain, canonical_url

Matching = Literal["hamming", "exact", "opaque"]
"""`hamming`: within a distance. `exact`: equal canonical values. `opaque`: equal too,
but the value only names a fingerprint that a special matcher would compare."""

PDQ_BITS: Final = 256
PDQ_THRESHOLD: Final = 31
"""Distance up to which two PDQ hashes are one picture, as PDQ's authors advise."""

PDQ_QUALITY_FLOOR: Final = 50
"""Below this a picture has too little detail for its hash to mean anything."""

MAX_VALUE_CHARACTERS: Final = 4096
MAX_KEYWORD_CHARACTERS: Final = 256

_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_TYPE_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_/-]{0,63}")
_SHA256: Final = re.compile(r"sha256:[0-9a-fA-F]{64}")
_HMAC: Final = re.compile(r"(hmac-sha256:[a-z0-9][a-z0-9._-]{0,63}:)([0-9a-fA-F]{64})")


@dataclass(frozen=True, slots=True)
class SignalType:
    """One row of the registry.

    Attributes:
        name: What `type` says in a record.
        matching: How two values of the type are compared.
        form: The canonical form in words, for errors and documents.
        canonical: Gives the canonical form of a value, or None if it has none.
        bits: Length of the hash in bits, None if values are text.
        threshold: Largest distance that is a match; None unless `hamming`.
    """

    name: str
    matching: Matching
    form: str
    canonical: Callable[[str], str | None]
    bits: int | None = None
    threshold: int | None = None


@dataclass(frozen=True, slots=True)
class Signal:
    """A matchable value in canonical form; equal signals match.

    Attributes:
        type: Name of its type, registered or not.
        value: Canonical value; as it came if the type is not registered.
    """

    type: str
    value: str


def _hex_of(bits: int) -> Callable[[str], str | None]:
    pattern = re.compile(rf"[0-9a-fA-F]{{{bits // 4}}}")

    def canonical(value: str) -> str | None:
        return value.lower() if pattern.fullmatch(value) else None

    return canonical


def _canonical_digest(value: str) -> str | None:
    return value.lower() if _SHA256.fullmatch(value) else None


def _canonical_hmac(value: str) -> str | None:
    match = _HMAC.fullmatch(value)
    return f"{match[1]}{match[2].lower()}" if match else None


def _canonical_keyword(value: str) -> str | None:
    if _CONTROL.search(value):
        return None
    folded = unicodedata.normalize("NFD", value).casefold()
    keyword = " ".join(unicodedata.normalize("NFC", folded).split())
    return keyword if 0 < len(keyword) <= MAX_KEYWORD_CHARACTERS else None


def _as_it_came(value: str) -> str | None:
    return None if _CONTROL.search(value) else value


_KEYED: Final = "hmac-sha256:<key id>:<64 hex digits>; a plain value is refused"
_DIGEST: Final = "sha256:<64 hex digits> of the fingerprint file"
_OPAQUE_FORM: Final = "text without control characters"

SIGNAL_TYPES: Final[Mapping[str, SignalType]] = MappingProxyType(
    {
        row.name: row
        for row in (
            SignalType(
                "pdq",
                "hamming",
                "64 hex digits",
                _hex_of(PDQ_BITS),
                PDQ_BITS,
                PDQ_THRESHOLD,
            ),
            SignalType("md5", "exact", "32 hex digits", _hex_of(128), 128),
            SignalType("sha1", "exact", "40 hex digits", _hex_of(160), 160),
            SignalType("sha256", "exact", "64 hex digits", _hex_of(256), 256),
            SignalType("photodna", "exact", _OPAQUE_FORM, _as_it_came),
            SignalType("vpdq", "opaque", _DIGEST, _canonical_digest),
            SignalType("tmk", "opaque", _DIGEST, _canonical_digest),
            SignalType("url", "exact", "an http or https URL", canonical_url),
            SignalType("domain", "exact", "a DNS name", canonical_domain),
            SignalType("email", "exact", _KEYED, _canonical_hmac),
            SignalType("phone", "exact", _KEYED, _canonical_hmac),
            SignalType("username", "exact", _KEYED, _canonical_hmac),
            SignalType(
                "keyword",
                "exact",
                "1 to 256 characters without controls",
                _canonical_keyword,
            ),
        )
    }
)
"""Every registered type by name.

Source: SPEC.md#signal-types.
"""


def parse_signal(signal_type: str, value: str) -> Signal:
    """Bring a signal into the form in which it is stored and compared.

    Canonicalising twice changes nothing, so a canonical value may come in again.

    Args:
        signal_type: Registered or not; 1 to 64 characters of the token grammar.
        value: 1 to 4,096 characters, none of them a control character.

    Raises:
        BadSignalError: `signal_type` is no token, or `value` is not of its form. An
            e-mail address, telephone number or user name that is not keyed is
            refused here. The error never quotes the value.

    Source: SPEC.md#signal-types.
    """
    row = SIGNAL_TYPES.get(signal_type)
    if row is None and _TYPE_NAME.fullmatch(signal_type) is None:
        # Not quoted: people swap type and value, and values must not reach logs.
        raise BadSignalError("?", "the type is no token")
    if not 0 < len(value) <= MAX_VALUE_CHARACTERS:
        raise BadSignalError(
            signal_type, f"the value has not 1 to {MAX_VALUE_CHARACTERS} characters"
        )
    canonical = _as_it_came(value) if row is None else row.canonical(value)
    if canonical is None:
        form = _OPAQUE_FORM if row is None else row.form
        raise BadSignalError(signal_type, f"the value is not {form}")
    return Signal(signal_type, canonical)


def signal_bytes(signal: Signal) -> bytes:
    """Give the compact key under which an index of one type files a signal.

    Two canonical values of one type have the same key only if they are equal; the
    keys of different types are unrelated.

    Returns:
        The hash itself for types with `bits` (32 bytes for `pdq`), else the value in
        UTF-8, 1 to 16,384 bytes.
    """
    row = SIGNAL_TYPES.get(signal.type)
    if row is None or row.bits is None:
        return signal.value.encode("utf-8")
    return bytes.fromhex(signal.value)

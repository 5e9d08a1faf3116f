"""JSON that has one meaning only: I-JSON, strict and bounded.

Two programs that read the same JSON must see the same values, because signatures and
commitments cover bytes while programs act on values. RFC 8259 leaves room for
disagreement: repeated members, numbers beyond a double, lone surrogates. RFC 7493
(I-JSON) closes it, and `parse_ijson` refuses whatever it closes.

The standard library's parser is used because it is the only fast one that reports
repeated members; msgspec and orjson silently keep the last of them.
"""

import json
import re
from math import isinf
from typing import Final, NoReturn, TypeAlias

from hashlight_protocol.errors import MalformedError, TooLargeError

JsonValue: TypeAlias = (
    "dict[str, JsonValue] | list[JsonValue] | str | int | float | bool | None"
)
"""What `parse_ijson` gives: plain values, nothing of the parser's own."""

MAX_SAFE_INTEGER: Final = 2**53 - 1
"""Largest integer that every JSON reader holds exactly (RFC 7493, section 2.2)."""

DEFAULT_MAX_DEPTH: Final = 16
"""Nesting that any document of HSF/1 may use; records use four levels."""

_MAX_NUMBER_CHARACTERS: Final = 64
"""Longest number that is read at all; also keeps `int()` away from long inputs."""

_STRING_OR_BRACKET: Final = re.compile(
    rb'"[^"\\]*(?:\\.[^"\\]*)*"?|[\[{]|[\]}]', re.DOTALL
)
"""Strings are matched so that brackets inside them are skipped.

The closing quote is optional: an unterminated string then swallows the rest in one
step, and the scan stays linear on every input.
"""

_FORBIDDEN_CHARACTERS: Final = re.compile(
    "[\ud800-\udfff\ufdd0-\ufdef"
    + "".join(f"{chr(p << 16 | 0xFFFE)}{chr(p << 16 | 0xFFFF)}" for p in range(17))
    + "]"
)
"""Surrogates and noncharacters, which RFC 7493, section 2.1, keeps out."""


class _RefusedError(ValueError):
    """Raised by the parser's callbacks; never leaves this module."""


def _unique_members(pairs: list[tuple[str, JsonValue]]) -> dict[str, JsonValue]:
    members = dict(pairs)
    if len(members) != len(pairs):
        message = "a member is repeated"
        raise _RefusedError(message)
    return members


def _safe_integer(digits: str) -> int:
    if len(digits) > _MAX_NUMBER_CHARACTERS:
        message = "a number is too long"
        raise _RefusedError(message)
    number = int(digits)
    if not -MAX_SAFE_INTEGER <= number <= MAX_SAFE_INTEGER:
        message = "an integer is beyond 2^53-1"
        raise _RefusedError(message)
    return number


def _finite_float(digits: str) -> float:
    if len(digits) > _MAX_NUMBER_CHARACTERS:
        message = "a number is too long"
        raise _RefusedError(message)
    number = float(digits)
    if isinf(number):
        message = "a number is beyond the range of a double"
        raise _RefusedError(message)
    return number


def _no_constant(name: str) -> NoReturn:
    message = f"{name} is not JSON"
    raise _RefusedError(message)


_DECODER: Final = json.JSONDecoder(
    object_pairs_hook=_unique_members,
    parse_int=_safe_integer,
    parse_float=_finite_float,
    parse_constant=_no_constant,
)


def parse_ijson(
    raw: bytes,
    *,
    max_bytes: int,
    max_depth: int = DEFAULT_MAX_DEPTH,
    what: str = "JSON",
) -> JsonValue:
    """Read one I-JSON value from bytes that another party sent.

    Work and memory grow linearly with `len(raw)`, and nothing is parsed before the
    size and the nesting are known to be within bounds.

    Args:
        raw: UTF-8 without a byte order mark.
        max_bytes: Largest `raw` that is looked at.
        max_depth: Most objects and arrays around a value, 1 for a flat object.
        what: Name of the document in errors.

    Raises:
        TooLargeError: `raw` is longer than `max_bytes`.
        MalformedError: The bytes are not I-JSON: not UTF-8, not JSON, nested too
            deeply, a repeated member, a number that a double or 2^53-1 cannot hold,
            a lone surrogate or a noncharacter.

    Source: RFC 7493; SPEC.md#conventions.
    """
    if len(raw) > max_bytes:
        raise TooLargeError(what, max_bytes)
    if _is_too_deep(raw, max_depth):
        raise MalformedError(what, f"it is nested more than {max_depth} deep")
    try:
        text = raw.decode("utf-8")
        value: JsonValue = _DECODER.decode(text)
    except UnicodeDecodeError as error:
        raise MalformedError(what, f"no UTF-8 at byte {error.start}") from error
    except json.JSONDecodeError as error:
        raise MalformedError(what, f"no JSON at character {error.pos}") from error
    except _RefusedError as error:
        raise MalformedError(what, str(error)) from error
    if not _has_only_characters(raw, text, value):
        raise MalformedError(what, "a string holds a surrogate or a noncharacter")
    return value


def _is_too_deep(raw: bytes, max_depth: int) -> bool:
    # The usual document has fewer brackets than it may have levels.
    if raw.count(b"[") + raw.count(b"{") <= max_depth:
        return False
    depth = 0
    for match in _STRING_OR_BRACKET.finditer(raw):
        first = raw[match.start()]
        if first in b"[{":
            depth += 1
            if depth > max_depth:
                return True
        elif first in b"]}":
            depth -= 1
    return False


def _has_only_characters(raw: bytes, text: str, value: JsonValue) -> bool:
    if not text.isascii() and _FORBIDDEN_CHARACTERS.search(text):
        return False
    if b"\\u" not in raw:
        return True
    # Escapes can name what UTF-8 cannot carry, so the unescaped form is searched.
    return not _FORBIDDEN_CHARACTERS.search(json.dumps(value, ensure_ascii=False))

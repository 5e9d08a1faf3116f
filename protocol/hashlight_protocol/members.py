"""Members of a record's JSON objects, read one by one with their place in errors.

Everything that a record may say in words is a token of a narrow grammar: no spaces and
no dots, so that no sentence, no file name and no address of a person travels.

Every function raises BadRecordError, whose JSON pointer starts at the object that was
given, if a member is not what it should be, or is missing and the function is not
`read_optional_…`. A member that is null counts as wrong, not as missing.

Source: SPEC.md#records.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final, TypeAlias, TypeVar

from hashlight_protocol.errors import BadRecordError, MalformedError
from hashlight_protocol.ijson import MAX_SAFE_INTEGER, JsonValue
from hashlight_protocol.timestamps import parse_timestamp

Members: TypeAlias = dict[str, JsonValue]
"""The members of one JSON object."""

T = TypeVar("T")


_REMEMBERED: Final = 512

_Fits: TypeAlias = Callable[[str], bool]


@dataclass(frozen=True, slots=True)
class Grammar:
    """What a string may look like.

    Attributes:
        pattern: Matches the whole string.
        words: The same for people, in errors.
        fits: Tells whether a string matches, the quickest way.
    """

    pattern: re.Pattern[str]
    words: str
    fits: _Fits


def _grammar(regex: str, words: str) -> Grammar:
    pattern = re.compile(regex, re.DOTALL)
    return Grammar(pattern, words, lambda value: pattern.fullmatch(value) is not None)


def _vocabulary(regex: str, words: str) -> Grammar:
    # A list of a million records says the same few words a million times.
    grammar = _grammar(regex, words)
    return replace(grammar, fits=lru_cache(maxsize=_REMEMBERED)(grammar.fits))


TOKEN: Final = _vocabulary(
    r"[a-z0-9][a-z0-9_/-]{0,63}",
    "a token: 1 to 64 of a-z 0-9 _ / - with a letter or digit first",
)
"""Names from vocabularies that grow: kinds, sources, outcomes, schemes."""

LABEL_VALUE: Final = _vocabulary(
    r"[A-Za-z0-9][A-Za-z0-9_:/-]{0,63}",
    "1 to 64 of A-Z a-z 0-9 _ : / - with a letter or digit first",
)
"""Values of classification schemes, some of which use capitals (`A1`)."""

PARTY: Final = _vocabulary(r"[a-z0-9][a-z0-9._/-]{0,252}", "a node name or a token")
"""Who assigned a label."""

OPAQUE: Final = _grammar(r"[A-Za-z0-9_-]{1,64}", "1 to 64 characters of base64url")
"""References that mean something to their issuer only."""


def _fits_always(_: str) -> bool:
    return True


TEXT: Final = replace(_grammar(r".*", "a string"), fits=_fits_always)
"""Any string; for values that another parser checks."""


def read_text(members: Members, name: str, grammar: Grammar) -> str:
    """Read a string."""
    value = members.get(name)
    if not isinstance(value, str) or not grammar.fits(value):
        raise BadRecordError(f"/{name}", f"it is not {grammar.words}")
    return value


def read_optional_text(members: Members, name: str, grammar: Grammar) -> str | None:
    """Read a string, None if it is missing."""
    return read_text(members, name, grammar) if name in members else None


def read_integer(
    members: Members, name: str, low: int, high: int = MAX_SAFE_INTEGER
) -> int:
    """Read an integer of `low` to `high`; `true` and `1.0` are none."""
    value = members.get(name)
    # A bool is an int for isinstance.
    if type(value) is not int or not low <= value <= high:
        raise BadRecordError(f"/{name}", f"it is not an integer of {low} to {high}")
    return value


def read_optional_integer(
    members: Members, name: str, low: int, high: int = MAX_SAFE_INTEGER
) -> int | None:
    """Read an integer, None if it is missing."""
    return read_integer(members, name, low, high) if name in members else None


def read_optional_flag(members: Members, name: str) -> bool | None:
    """Read `true` or `false`, None if it is missing."""
    if name not in members:
        return None
    value = members[name]
    if not isinstance(value, bool):
        raise BadRecordError(f"/{name}", "it is neither true nor false")
    return value


def read_instant(members: Members, name: str) -> int:
    """Read a timestamp as Unix seconds."""
    try:
        return parse_timestamp(read_text(members, name, TEXT))
    except MalformedError as error:
        raise BadRecordError(f"/{name}", error.reason) from error


def read_optional_instant(members: Members, name: str) -> int | None:
    """Read a timestamp, None if it is missing."""
    return read_instant(members, name) if name in members else None


def read_array(
    members: Members, name: str, low: int, high: int, read: Callable[[JsonValue], T]
) -> tuple[T, ...]:
    """Read an array of `low` to `high` elements; if `low` is 0 it may be missing.

    Args:
        members: The object that has the array.
        name: The array.
        low: Fewest elements.
        high: Most elements.
        read: Gives one element or raises BadRecordError.
    """
    value = members.get(name, [])
    if not isinstance(value, list) or not low <= len(value) <= high:
        raise BadRecordError(f"/{name}", f"it is not an array of {low} to {high}")
    found: list[T] = []
    for position, element in enumerate(value):
        try:
            found.append(read(element))
        except BadRecordError as error:
            pointer = f"/{name}/{position}{error.pointer}"
            raise BadRecordError(pointer, error.reason) from error
    return tuple(found)


def read_optional_object(
    members: Members, name: str, read: Callable[[JsonValue], T]
) -> T | None:
    """Read an object, None if it is missing."""
    if name not in members:
        return None
    try:
        return read(members[name])
    except BadRecordError as error:
        raise BadRecordError(f"/{name}{error.pointer}", error.reason) from error


def as_object(value: JsonValue) -> Members:
    """Take a value for an object."""
    if not isinstance(value, dict):
        raise BadRecordError("", "it is no object")
    return value


def as_token(value: JsonValue) -> str:
    """Take a value for a token."""
    return _as_text(value, TOKEN)


def as_member_name(value: JsonValue) -> str:
    """Take a value for the name of a member, as `crit` lists them."""
    return _as_text(value, LABEL_VALUE)


def _as_text(value: JsonValue, grammar: Grammar) -> str:
    if not isinstance(value, str) or not grammar.fits(value):
        raise BadRecordError("", f"it is not {grammar.words}")
    return value

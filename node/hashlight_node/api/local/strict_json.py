"""JSON of requests: one meaning only, and fast where it is asked for a thousand times.

`parse_ijson` is the rule. It is written in Python around the standard library's
parser and takes 3 ms for a thousand queries, which the event loop would spend on
every bulk lookup. orjson takes 0.2 ms and keeps the last of repeated members in
silence, so its result counts only when it is proved to be complete: a text without a
backslash has exactly two quotes a string, so if the value is written back with as many
quotes, no member was dropped. Everything else goes to `parse_ijson`, which also words
the refusals.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar, cast

import orjson
from pydantic import BaseModel, ValidationError

from hashlight_node.api.errors import Fault, InvalidBodyError
from hashlight_protocol import parse_ijson

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pydantic_core import ErrorDetails

    from hashlight_protocol import JsonValue

Model = TypeVar("Model", bound=BaseModel)

WHAT: Final = "request body"
MAX_DEPTH: Final = 16
"""Nesting of any body; records use four levels and may carry members of others."""

_MAX_FAULTS: Final = 20
# pydantic describes all faults or none, and takes 5 to 10 microseconds for each.
_MAX_COUNTED: Final = 4000
_MAX_POINTER_CHARACTERS: Final = 200


def parse_any(raw: bytes) -> JsonValue:
    """Read a body that may hold members which no model describes.

    Raises:
        MalformedError: It is not I-JSON.
    """
    if raw.isascii() and b"\\" not in raw:
        try:
            value = cast("JsonValue", orjson.loads(raw))
            # What is written again as it came has each member once, and no number
            # that is too long or, which is an error here, too large.
            is_same = orjson.dumps(value, option=orjson.OPT_STRICT_INTEGER) == raw
        except (orjson.JSONDecodeError, orjson.JSONEncodeError):
            is_same = False
        else:
            if is_same and not _is_deeper(value, MAX_DEPTH):
                return value
    return parse_ijson(raw, max_bytes=len(raw), max_depth=MAX_DEPTH, what=WHAT)


def _is_deeper(value: JsonValue, most: int) -> bool:
    inner: list[JsonValue] = [value]
    for _ in range(most + 1):
        level = [it for it in inner if isinstance(it, dict | list)]
        if not level:
            return False
        inner = []
        for it in level:
            inner += it.values() if isinstance(it, dict) else it
    return True


def parse_closed(raw: bytes) -> JsonValue:
    """Read a body of which a model describes every member.

    As `parse_any`, except that numbers beyond 2^53-1 may come through, perhaps as
    floats, and nesting may be deeper: the model bounds each number and each level.

    Raises:
        MalformedError: It is not I-JSON.
    """
    if raw.isascii() and b"\\" not in raw:
        try:
            value = orjson.loads(raw)
            written = orjson.dumps(value)
        except (orjson.JSONDecodeError, orjson.JSONEncodeError):
            return parse_any(raw)
        if written.count(b'"') == raw.count(b'"'):
            return cast("JsonValue", value)
    return parse_any(raw)


def validate(model: type[Model], value: JsonValue) -> Model:
    """Check a parsed body against its model.

    Raises:
        InvalidBodyError: With the places that are wrong, the first 20.
    """
    try:
        return model.model_validate(value)
    except ValidationError as error:
        if error.error_count() > _MAX_COUNTED:
            reason = f"it breaks rules in more than {_MAX_COUNTED} places"
            raise InvalidBodyError((Fault("", reason),)) from error
        details = error.errors(
            include_url=False, include_context=False, include_input=False
        )
        faults = tuple(_fault(detail) for detail in details[:_MAX_FAULTS])
        raise InvalidBodyError(faults) from error


def pointer_of(location: Sequence[str | int]) -> str:
    """Write a JSON pointer (RFC 6901), cut where a caller made it absurdly long."""
    steps = (str(step).replace("~", "~0").replace("/", "~1") for step in location)
    return "".join(f"/{step}" for step in steps)[:_MAX_POINTER_CHARACTERS]


def _fault(detail: ErrorDetails) -> Fault:
    return Fault(pointer_of(detail["loc"]), detail["msg"].removeprefix("Value error, "))

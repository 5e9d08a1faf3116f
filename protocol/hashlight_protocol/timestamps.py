"""Instants: RFC 3339 text in JSON, integer Unix seconds in Python.

One instant has one text, so that two nodes never disagree about order or equality:
UTC with a capital `Z`, whole seconds, four-digit years. Leap seconds have no Unix
second of their own and are refused.
"""

import re
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

from hashlight_protocol.errors import MalformedError

MAX_TIMESTAMP: Final = 253_402_300_799
"""9999-12-31T23:59:59Z, the last instant with a four-digit year."""

_TIMESTAMP: Final = re.compile(
    r"(?:19[7-9]|[2-9][0-9]{2})[0-9]-[01][0-9]-[0-3][0-9]"
    r"T(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]Z"
)

_REMEMBERED: Final = 256
"""Instants; what is imported together was created at one."""


@lru_cache(maxsize=_REMEMBERED)
def parse_timestamp(text: str) -> int:
    """Read an instant of the one form `YYYY-MM-DDTHH:MM:SSZ`.

    Returns:
        Unix seconds, 0 to `MAX_TIMESTAMP`.

    Raises:
        MalformedError: Another form, a year before 1970, or a day or time that does
            not exist.

    Source: RFC 3339, section 5.6; SPEC.md#conventions.
    """
    if _TIMESTAMP.fullmatch(text) is None:
        raise MalformedError("timestamp", "it is not YYYY-MM-DDTHH:MM:SSZ")
    try:
        return int(datetime.fromisoformat(text).timestamp())
    except ValueError as error:
        raise MalformedError("timestamp", "there is no such day") from error


def encode_timestamp(seconds: int) -> str:
    """Write an instant in the one form that `parse_timestamp` reads.

    Args:
        seconds: Unix seconds, 0 to `MAX_TIMESTAMP`.

    Raises:
        MalformedError: `seconds` lies outside the years 1970 to 9999.

    Source: SPEC.md#conventions.
    """
    if not 0 <= seconds <= MAX_TIMESTAMP:
        raise MalformedError("timestamp", "the year is not within 1970 to 9999")
    return datetime.fromtimestamp(seconds, tz=UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

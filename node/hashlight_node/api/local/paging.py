"""Lists in pages: a cursor says where the next one starts, and nothing else.

A cursor is opaque so that clients do not build on what is inside: the name of the
list it belongs to and the key of the last row that was shown. Nothing is kept here
between two pages, so rows that come or go meanwhile are shown or not, and no row that
stays is missed or shown twice.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

from hashlight_node.api.errors import InvalidParameterError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from multidict import MultiMapping

Row = TypeVar("Row")

DEFAULT_LIMIT: Final = 100
MAX_LIMIT: Final = 1000
MAX_CURSOR_CHARACTERS: Final = 1024

_LIMIT: Final = re.compile(r"[1-9][0-9]{0,3}")
_CURSOR: Final = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True, slots=True)
class Page:
    """Which part of a list is wanted.

    Attributes:
        kind: The list, so that a cursor of another one is refused.
        after: Key of the row after which the page starts, empty for the first page.
        limit: Most rows on it.
    """

    kind: str
    after: str
    limit: int

    def cut(
        self, rows: Iterable[Row], key: Callable[[Row], str]
    ) -> tuple[list[Row], str | None]:
        """Choose the rows of this page out of all.

        Args:
            rows: All rows, in any order.
            key: Gives a row's key: unique, never empty, and the order of the list.

        Returns:
            The rows, and the cursor of the next page or None on the last.
        """
        later = sorted((row for row in rows if key(row) > self.after), key=key)
        shown = later[: self.limit]
        if len(later) == len(shown):
            return shown, None
        return shown, encode_cursor(self.kind, key(shown[-1]))


_EVERYTHING: Final = Page("", "", MAX_LIMIT)


def number_key(number: int) -> str:
    """Write a row's number so that text order is the order of numbers."""
    return f"{number:020d}"


def read_page(
    kind: str | None, query: MultiMapping[str], *, others: tuple[str, ...] = ()
) -> Page:
    """Read `limit` and `cursor` of a request.

    Args:
        kind: The list; None if the operation lists nothing, and so takes neither.
        query: The request's.
        others: Parameters that the operation takes besides.

    Raises:
        InvalidParameterError: One of them is not what it must be, or another
            parameter is there.
    """
    known = () if kind is None else ("cursor", "limit")
    if any(name not in known and name not in others for name in query):
        raise InvalidParameterError("query", "has a parameter that is not known")
    if kind is None:
        return _EVERYTHING
    limit = _single(query, "limit")
    cursor = _single(query, "cursor")
    return Page(
        kind,
        "" if cursor is None else _parse_cursor(kind, cursor),
        DEFAULT_LIMIT if limit is None else _parse_limit(limit),
    )


def encode_cursor(kind: str, after: str) -> str:
    """Make the cursor of the page that starts after a row."""
    return base64.urlsafe_b64encode(f"{kind}\n{after}".encode()).decode().rstrip("=")


def _single(query: MultiMapping[str], name: str) -> str | None:
    values = query.getall(name, [])
    if len(values) > 1:
        raise InvalidParameterError(name, "is given more than once")
    return values[0] if values else None


def _parse_limit(text: str) -> int:
    if _LIMIT.fullmatch(text) is None or int(text) > MAX_LIMIT:
        raise InvalidParameterError("limit", f"is not a number of 1 to {MAX_LIMIT}")
    return int(text)


def _parse_cursor(kind: str, cursor: str) -> str:
    found_kind, after = "", ""
    if len(cursor) <= MAX_CURSOR_CHARACTERS and _CURSOR.fullmatch(cursor):
        found_kind, after = _decode_cursor(cursor)
    # Round trip: a cursor that we did not write, or wrote for another list, is none.
    if found_kind != kind or not after or encode_cursor(kind, after) != cursor:
        raise InvalidParameterError("cursor", "is not one of this list")
    return after


def _decode_cursor(cursor: str) -> tuple[str, str]:
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        text = base64.urlsafe_b64decode(padded).decode()
    except (binascii.Error, UnicodeDecodeError):
        return "", ""
    kind, _, after = text.partition("\n")
    return kind, after

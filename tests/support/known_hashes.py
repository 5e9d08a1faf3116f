"""Hashes that a node knows when a platform scans what it has stored."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable


def pdq_of(number: int) -> bytes:
    return random.Random(number).randbytes(32)  # noqa: S311  any hash will do


def md5_of(number: int) -> str:
    return f"{number:032x}"


def records_of(numbers: Iterable[int]) -> list[dict[str, Any]]:
    """Give a record for each number, with both of its hashes."""
    return [
        {
            "type": "indicator",
            "kind": "image",
            "source": "person",
            "created": "2026-11-01T00:00:00Z",
            "signals": [
                {"type": "pdq", "value": pdq_of(number).hex()},
                {"type": "md5", "value": md5_of(number)},
            ],
        }
        for number in numbers
    ]

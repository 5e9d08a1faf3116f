"""Requests as bytes: what goes into one, and where it must be split."""

from __future__ import annotations

from datetime import UTC
from typing import TYPE_CHECKING, Final
from urllib.parse import urlencode

import orjson

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from datetime import datetime

    from .values import Purpose, Signal

MAX_QUERIES: Final = 1000
"""Queries that a node takes in one request."""

MAX_PAST_QUERIES: Final = 10
"""The same of a request with `as_of`."""

MAX_LOOKUP_BYTES: Final = 1_000_000
"""Of a request's queries: a node takes 1 MiB, members around them included."""

HASH_BYTES: Final = 32
"""Of one PDQ hash."""

MAX_BULK_HASHES: Final = 32_768
"""Hashes that a node takes in one bulk lookup."""

_REF_PARTS: Final = 6  # node, hsf, v1, log, list, number


def encode_query(signal: Signal) -> bytes:
    """Write one query."""
    return orjson.dumps({"type": signal.type, "value": signal.value})


def encode_lookup(
    queries: Iterable[bytes],
    *,
    max_distance: int | None,
    as_of: datetime | None,
    purpose: Purpose,
) -> bytes:
    """Write the body of a lookup.

    Args:
        queries: What `encode_query` gave.
        max_distance: Where near matches end; None for the node's setting.
        as_of: The moment of which the answer is to be; None for now.
        purpose: What it is for; the usual one is left out, which an older node knows.
    """
    others: dict[str, object] = {}
    if max_distance is not None:
        others["max_distance"] = max_distance
    if as_of is not None:
        others["as_of"] = rfc3339(as_of)
    if purpose != "upload":
        others["purpose"] = purpose
    rest = orjson.dumps(others)[1:]
    comma = b"," if others else b""
    return b'{"queries":[' + b",".join(queries) + b"]" + comma + rest


def bulk_path(*, max_distance: int | None, purpose: Purpose) -> str:
    """Give the address of a bulk lookup; arguments as of `encode_lookup`."""
    given: dict[str, object] = {}
    if max_distance is not None:
        given["max_distance"] = max_distance
    if purpose != "upload":
        given["purpose"] = purpose
    return "/v1/lookup/pdq" + (f"?{urlencode(given)}" if given else "")


def split_queries(
    queries: Iterable[bytes], *, most: int = MAX_QUERIES
) -> Iterator[list[bytes]]:
    """Split queries into as many as fit into one request, in order."""
    some: list[bytes] = []
    size = 0
    for query in queries:
        if some and (len(some) == most or size + len(query) > MAX_LOOKUP_BYTES):
            yield some
            some, size = [], 0
        some.append(query)
        size += len(query) + 1
    if some:
        yield some


def split_hashes(hashes: bytes) -> Iterator[tuple[int, bytes]]:
    """Split hashes into as many as fit into one request.

    Args:
        hashes: 32 bytes each, one after the other.

    Yields:
        Number of the first hash, and the hashes.

    Raises:
        ValueError: The length is no multiple of 32.
    """
    if len(hashes) % HASH_BYTES:
        message = "hashes take 32 bytes each"
        raise ValueError(message)
    step = MAX_BULK_HASHES * HASH_BYTES
    for start in range(0, len(hashes), step):
        yield start // HASH_BYTES, hashes[start : start + step]


def list_of(ref: str) -> str:
    """Give the list in which a record is.

    Args:
        ref: `<node>/hsf/v1/log/<list>/<number>#<index>`.

    Raises:
        ValueError: It is no reference.
    """
    parts = ref.partition("#")[0].split("/")
    if parts[1:4] != ["hsf", "v1", "log"] or len(parts) != _REF_PARTS:
        message = "a reference is written <node>/hsf/v1/log/<list>/<number>#<index>"
        raise ValueError(message)
    return parts[4]


def rfc3339(instant: datetime) -> str:
    """Write a time as the node reads it.

    Raises:
        ValueError: It says no time zone, so it could be any of 24 hours.
    """
    if instant.tzinfo is None:
        message = "a time needs a time zone"
        raise ValueError(message)
    return instant.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def encode_records(records: Sequence[object]) -> bytes:
    """Write the body of a publication."""
    return orjson.dumps({"records": list(records)})

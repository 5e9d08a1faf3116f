"""Bodies that differ from others only in their hashes and their time, read quickly.

The records of one author are alike: the same members and labels in the same order,
with another hash. Reading the first of them tells what all of them mean, so the others
are not read as JSON again. That this is exact, not likely, is shown for each shape: see
`_learn`.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Final, NamedTuple

from hashlight_protocol import MalformedError, parse_timestamp

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from hashlight_node.store.meanings import Meaning

_VARIES: Final = re.compile(
    rb'("value":"|"created":")'
    rb"([0-9a-f]{32,64}|[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z)"
    rb'"'
)
"""What is different in records of one shape, with the member that says so before it."""

_HASH_LENGTHS: Final = {"pdq": 64, "md5": 32, "sha1": 40, "sha256": 64}
"""Types of which every value of that many hexadecimal digits is canonical."""

_MAX_BYTES: Final = 1024
"""Longest body with a shape: beyond that, cutting it up saves little."""

_MAX_SHAPES: Final = 2048

_CREATED: Final = b'"created":"'
_PROBES: Final = ((b"a", b"2001-02-03T04:05:06Z"), (b"b", b"2002-03-04T05:06:07Z"))
"""Twice a digit that hashes are made of, and a time."""


class _Shape(NamedTuple):
    """What all bodies of a shape mean.

    Attributes:
        meaning: Of one of them.
        claims: Type and quality of each signal; their values are what varies.
        evidence: Up to the time of creation.
    """

    meaning: Meaning
    claims: tuple[tuple[str, int | None], ...]
    evidence: str


class Shapes:
    """Knows the shapes of bodies that came before.

    Only a shape that comes again is learned, so a list in which none does costs hardly
    more than without. It is safe to ask from several threads: whatever they overwrite
    of each other is learned again.

    Args:
        read: Gives what a body means, and is believed.
    """

    def __init__(self, read: Callable[[bytes], Meaning]) -> None:
        self._read = read
        self._seen: set[bytes] = set()
        self._known: dict[bytes, _Shape | None] = {}

    def __len__(self) -> int:
        return len(self._seen) + len(self._known)

    def meaning(self, body: bytes) -> Meaning | None:
        """Give what a body means if its shape is known, exactly as `read` does.

        Returns:
            None if it has to be read.
        """
        if len(body) > _MAX_BYTES:
            return None
        parts = _VARIES.split(body)
        values = parts[2::3]
        key = _key_of(parts)
        shape = self._known.get(key)
        if shape is not None:
            return _filled(shape, parts[1::3], values)
        if values and key not in self._known:
            self._meet(key, parts)
        return None

    def _meet(self, key: bytes, parts: Sequence[bytes]) -> None:
        if key not in self._seen:
            if len(self._seen) >= _MAX_SHAPES:
                self._seen.clear()
            self._seen.add(key)
            return
        if len(self._known) >= _MAX_SHAPES:
            self._known.clear()
        self._known[key] = _learn(self._read, parts)


def _key_of(parts: Sequence[bytes]) -> bytes:
    """Name a shape by a digest: a body may hold what nothing may remember."""
    # The lengths say where the parts that follow begin, and how long values are.
    lengths = repr([*map(len, parts)]).encode()
    return hashlib.sha256(lengths + b"".join([*parts[::3], *parts[1::3]])).digest()


def _learn(read: Callable[[bytes], Meaning], parts: Sequence[bytes]) -> _Shape | None:
    """Find out whether what varies in a body is its hashes and its time, and no more.

    Two bodies are read in which every such place holds something else. If both times
    each signal has the value that was put into its place, that place *is* the signal's
    value, since nothing else in the two differs; and so for the time. Nothing else of a
    meaning can depend on them then: any digits make a value of these types, no two
    signals are of one type and so none is repeated, and there is no time of expiry
    that a time of creation could be later than.
    """
    names, lengths = parts[1::3], list(map(len, parts[2::3]))
    if names.count(_CREATED) != 1:
        return None
    at = names.index(_CREATED)
    shape: _Shape | None = None
    for digit, time in _PROBES:
        values = [
            b"%d" % (place % 10) + digit * (length - 1)
            for place, length in enumerate(lengths)
        ]
        values[at] = time
        shape = _shape_of(read(_joined(parts, values)), values, at)
        if shape is None:
            return None
    return shape


def _shape_of(meaning: Meaning, values: Sequence[bytes], at: int) -> _Shape | None:
    """Tell whether a body means what its places hold."""
    created = f",{parse_timestamp(values[at].decode())}]"
    hashes = [value.decode() for value in (*values[:at], *values[at + 1 :])]
    lengths = {type_name: len(value) for type_name, value, _ in meaning.claims}
    if (
        not meaning.claims
        or [value for _, value, _ in meaning.claims] != hashes
        or len(lengths) < len(hashes)
        or not lengths.items() <= _HASH_LENGTHS.items()
        or not meaning.evidence.endswith(created)
        or meaning.expires_at is not None
    ):
        return None
    return _Shape(
        meaning,
        tuple((type_name, quality) for type_name, _, quality in meaning.claims),
        meaning.evidence.removesuffix(created),
    )


def _joined(parts: Sequence[bytes], values: Sequence[bytes]) -> bytes:
    places = zip(parts[1::3], values, parts[3::3], strict=True)
    return parts[0] + b"".join(b'%s%s"%s' % place for place in places)


def _filled(
    shape: _Shape, names: Sequence[bytes], values: Sequence[bytes]
) -> Meaning | None:
    at = names.index(_CREATED)
    try:
        created_at = parse_timestamp(values[at].decode())
    except MalformedError:
        return None  # What is wrong with it is for whoever reads it.
    hashes = (*values[:at], *values[at + 1 :])
    claims = tuple(
        [
            (type_name, value.decode(), quality)
            for (type_name, quality), value in zip(shape.claims, hashes, strict=True)
        ]
    )
    kind, is_valid, _, expires_at, replaces, _, statement = shape.meaning
    evidence = f"{shape.evidence},{created_at}]"
    return type(shape.meaning)(
        kind, is_valid, evidence, expires_at, replaces, claims, statement
    )

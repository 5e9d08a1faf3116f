"""What is worked out of a bundle before it is stored, as a function of bytes.

It is what a copy costs most of, and it needs nothing of the node. So a process of its
own can do it, which `python -m hashlight_node.exchange.following.digesting` is: it
reads jobs from its standard input and writes what came of them until the input ends.
"""

from __future__ import annotations

import marshal
import struct
import sys
from typing import TYPE_CHECKING, Final, NamedTuple

from hashlight_node.store.meanings import Meaning, read_meaning
from hashlight_protocol import (
    BodyStatus,
    ProtocolError,
    check_bodies,
    leaf_hashes,
    parse_body_bundle,
    parse_entry_bundle,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import BinaryIO

    from hashlight_protocol import Body

LENGTH: Final = struct.Struct(">I")
"""What stands before each job and each answer."""

_HASH_BYTES: Final = 32


class Job(NamedTuple):
    """A bundle, as a peer sent it.

    Attributes:
        list_id: The list.
        first_index: Leaf index of its first entry.
        width: Entries that it must hold.
        entries: The entry bundle.
        bodies: The body bundle, decoded.
    """

    list_id: str
    first_index: int
    width: int
    entries: bytes
    bodies: bytes


class Digested(NamedTuple):
    """What came of a bundle in which nothing is wrong.

    That it is the one which a checkpoint authenticates is for its `leaf_hashes` to
    show: entries and bodies are only known to belong together.

    Attributes:
        leaf_hashes: Of each entry.
        meanings: What each body means; None where there is none, or where whoever
            wants to know must read it.
    """

    leaf_hashes: tuple[bytes, ...]
    meanings: tuple[Meaning | None, ...]


def encode_job(job: Job) -> bytes:
    """Write a job."""
    return marshal.dumps(tuple(job))


def digest(job: bytes) -> bytes:
    """Check that bodies are those of the entries beside them, and read them.

    Returns:
        For `read_digested`; empty if something is wrong, of which nothing is said
        here: whoever asked finds it again, and knows whose fault it is.
    """
    try:
        return _digest(Job(*marshal.loads(job)))  # noqa: S302 -- from our own process
    except ProtocolError:
        return b""


def read_digested(raw: bytes) -> Digested | None:
    """Read what `digest` gave; None if something is wrong with the bundle."""
    if not raw:
        return None
    hashes, meanings = marshal.loads(raw)  # noqa: S302 -- from our own process
    return Digested(
        tuple(
            hashes[start : start + _HASH_BYTES]
            for start in range(0, len(hashes), _HASH_BYTES)
        ),
        tuple(None if it is None else Meaning(*it) for it in meanings),
    )


def _digest(job: Job) -> bytes:
    entries = parse_entry_bundle(job.entries, job.width)
    bodies = parse_body_bundle(job.bodies, job.width)
    check_bodies(job.list_id, entries, bodies, job.first_index)
    return marshal.dumps((b"".join(leaf_hashes(entries)), _plain_meanings(bodies)))


def _plain_meanings(bodies: Sequence[Body]) -> list[tuple[object, ...] | None]:
    found: list[tuple[object, ...] | None] = []
    for body in bodies:
        meaning = None
        if body.status is BodyStatus.PRESENT:
            meaning = read_meaning(body.body)
        # An opinion is no plain value, and there are few.
        is_plain = meaning is not None and meaning.statement is None
        found.append(tuple(meaning) if meaning is not None and is_plain else None)
    return found


def serve(jobs: BinaryIO, answers: BinaryIO) -> None:
    """Do jobs in the order in which they come, until they end."""
    while len(head := jobs.read(LENGTH.size)) == LENGTH.size:
        (length,) = LENGTH.unpack(head)
        answer = digest(jobs.read(length))
        answers.write(LENGTH.pack(len(answer)) + answer)
        answers.flush()


if __name__ == "__main__":
    serve(sys.stdin.buffer, sys.stdout.buffer)

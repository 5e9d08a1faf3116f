"""A log in memory, built from the definitions and not from the node's own code."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from hashlight_protocol import (
    ED25519,
    TILE_WIDTH,
    Body,
    BodyStatus,
    Checkpoint,
    Ed25519Signer,
    Erase,
    Meta,
    Reason,
    RecordEntry,
    Retract,
    commit,
    consistency_proof,
    encode_body_bundle,
    encode_entry,
    encode_entry_bundle,
    leaf_hash,
    parse_origin,
    root_of,
    sign_checkpoint,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hashlight_protocol import Entry

NONE = Body(BodyStatus.NONE)
WITHHELD = Body(BodyStatus.WITHHELD)
ERASED = Body(BodyStatus.ERASED)


def spoiled(raw: bytes) -> bytes:
    """Change the last byte, whatever it is: a hash may end with any."""
    return raw[:-1] + bytes([raw[-1] ^ 1])


class LogSimulator:
    """Everything a log has, at every size it ever had."""

    def __init__(self, origin: str, prev: Checkpoint | None = None) -> None:
        self.origin = origin
        self.list_id = parse_origin(origin).list_id
        self.signer = Ed25519Signer(origin, ED25519, os.urandom(32))
        self.entries: list[bytes] = []
        self.bodies: list[Body] = []
        self.leaves: list[bytes] = []
        self.append(Meta(origin, prev), NONE)

    @property
    def size(self) -> int:
        return len(self.entries)

    def append(self, entry: Entry, body: Body = NONE) -> int:
        return self.append_raw(encode_entry(entry), body)

    def append_raw(self, entry: bytes, body: Body = NONE) -> int:
        self.entries.append(entry)
        self.bodies.append(body)
        self.leaves.append(leaf_hash(entry))
        return self.size - 1

    def publish(self, bodies: Sequence[bytes]) -> list[int]:
        return [self._publish(body) for body in bodies]

    def _publish(self, body: bytes) -> int:
        salt = os.urandom(16)
        entry = RecordEntry(commit(self.list_id, salt, body))
        return self.append(entry, Body(BodyStatus.PRESENT, salt, body))

    def reissue(self, old: LogSimulator, indexes: Sequence[int]) -> None:
        """Say again what stands at these indexes of an older log; leave gaps else."""
        for index in range(self.size, max(indexes, default=0) + 1):
            if index in indexes:
                self.append_raw(old.entries[index], old.bodies[index])
            else:
                self.append_raw(b"\x04")

    def retract(self, first: int, count: int = 1) -> int:
        return self.append(Retract(first, count, Reason.WITHDRAWN))

    def erase(self, first: int, count: int = 1) -> int:
        for index in range(first, first + count):
            if self.bodies[index] != NONE:
                self.bodies[index] = ERASED
        return self.append(Erase(first, count, Reason.WITHDRAWN))

    def root(self, size: int | None = None) -> bytes:
        return root_of(self.leaves[: self.size if size is None else size])

    def checkpoint(self, size: int | None = None) -> Checkpoint:
        count = self.size if size is None else size
        return Checkpoint(self.origin, count, self.root(count))

    def note(self, size: int | None = None) -> bytes:
        return sign_checkpoint(self.checkpoint(size), [self.signer])

    def proof(self, old_size: int, new_size: int) -> tuple[bytes, ...]:
        def read(level: int, index: int) -> bytes:
            return root_of(self.leaves[index << level : (index + 1) << level])

        return tuple(consistency_proof(read, old_size=old_size, new_size=new_size))

    def tile(self, level: int, index: int, width: int) -> bytes:
        span = TILE_WIDTH**level
        first = index * TILE_WIDTH
        return b"".join(
            root_of(self.leaves[n * span : (n + 1) * span])
            for n in range(first, first + width)
        )

    def entry_bundle(self, index: int, width: int) -> bytes:
        first = index * TILE_WIDTH
        return encode_entry_bundle(self.entries[first : first + width])

    def body_bundle(self, index: int, width: int) -> bytes:
        first = index * TILE_WIDTH
        return encode_body_bundle(self.bodies[first : first + width])

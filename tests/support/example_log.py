"""A small log of a made-up node with fixed keys, for tests of the formats."""

import hashlib
from dataclasses import dataclass

from hashlight_protocol import (
    COSIGNATURE,
    ED25519,
    Body,
    BodyStatus,
    Checkpoint,
    Ed25519Signer,
    Entry,
    Erase,
    Meta,
    Reason,
    RecordEntry,
    Retract,
    UnknownEntry,
    commit,
    encode_entry,
    leaf_hashes,
    root_of,
)

NODE = "node.acme.example"
LIST_ID = f"{NODE}/hsf/v1/log/images"
ORIGIN = f"{LIST_ID}/1"


def seed(name: str) -> bytes:
    """Make a private key that anybody can make again."""
    return hashlib.sha256(f"hashlight test key {name}".encode()).digest()


def signer(name: str, key_type: int = ED25519, *, number: int = 1) -> Ed25519Signer:
    return Ed25519Signer(name, key_type, seed(f"{name} {key_type} {number}"))


IDENTITY = signer(NODE)
LOG = signer(ORIGIN)
WITNESS = signer("node.beta.example/hsf/v1/witness", COSIGNATURE)
MIRROR = signer("node.beta.example/hsf/v1/mirror", COSIGNATURE)


@dataclass(frozen=True)
class ExampleLog:
    """Entries of a log, with the bodies beside them."""

    entries: tuple[bytes, ...]
    bodies: tuple[Body, ...]

    @property
    def leaves(self) -> list[bytes]:
        return leaf_hashes(self.entries)

    def checkpoint(self, size: int | None = None) -> Checkpoint:
        count = len(self.entries) if size is None else size
        return Checkpoint(ORIGIN, count, root_of(self.leaves[:count]))


def build_log(record_count: int) -> ExampleLog:
    """Build a log of META, then records, then one entry of each other kind."""
    entries: list[Entry] = [Meta(ORIGIN)]
    bodies = [Body(BodyStatus.NONE)]
    for index in range(record_count):
        salt = hashlib.sha256(b"salt %d" % index).digest()[:16]
        content = b'{"type":"example","number":%d}' % index
        entries.append(RecordEntry(commit(LIST_ID, salt, content)))
        bodies.append(Body(BodyStatus.PRESENT, salt, content))
    if record_count:
        entries += [
            Retract(1, 1, Reason.FALSE_POSITIVE),
            Erase(1, record_count, Reason.WITHDRAWN),
            UnknownEntry(0x04, b"\x04later"),
        ]
        bodies += [Body(BodyStatus.NONE)] * 3
    return ExampleLog(tuple(map(encode_entry, entries)), tuple(bodies))

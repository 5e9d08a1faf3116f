"""A log that a test writes entry by entry into a store."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from hashlight_node.model import Role
from hashlight_node.store import logs, records
from hashlight_protocol import (
    Body,
    BodyStatus,
    Entry,
    Frontier,
    Meta,
    RecordEntry,
    Ref,
    commit,
    encode_entry,
    leaf_hashes,
    parse_origin,
)

from .clock import START

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection

    from hashlight_node.model import Log, SignalChange, StoredRecord

ORIGIN = "shield.example/hsf/v1/log/ncii/1"

Item = Entry | Body
"""An entry without a body, or the body of a RECORD entry."""

WITHHELD = Body(BodyStatus.WITHHELD)
ERASED = Body(BodyStatus.ERASED)


def present(content: bytes) -> Body:
    """Give content a salt that depends on nothing else."""
    return Body(BodyStatus.PRESENT, hashlib.sha256(content).digest()[:16], content)


class StoredLog:
    """The test's view of one log; each step is one append with what it means."""

    def __init__(self, conn: Connection, origin: str = ORIGIN) -> None:
        self.origin = origin
        self.list_id = parse_origin(origin).list_id
        self.log: Log = logs.insert_log(
            conn, origin=origin, role=Role.FOLLOWED, meta={}, created_at=START
        )
        self.frontier = Frontier()
        self.entries: list[bytes] = []
        self.append(conn, Meta(origin))

    @property
    def size(self) -> int:
        return self.log.tree_size

    def append(
        self, conn: Connection, *items: Item, now: int = START
    ) -> list[SignalChange]:
        """Append entries; a body stands for a record that has it."""
        entries, bodies = self._take_apart(items)
        raw = [encode_entry(entry) for entry in entries]
        hashes = leaf_hashes(raw)
        first, self.frontier = self.size, self.frontier.extend(hashes)
        self.entries += raw
        self.log = logs.append_verified(
            conn, self.log, raw, hashes, root_hash=self.frontier.root
        )
        return records.apply_entries(conn, self.log, first, entries, bodies, now=now)

    def ref(self, leaf_index: int) -> Ref:
        return Ref(self.origin, leaf_index)

    def read(self, conn: Connection, leaf_index: int) -> StoredRecord:
        record = records.read_record(conn, self.ref(leaf_index))
        assert record is not None
        return record

    def _take_apart(self, items: Sequence[Item]) -> tuple[list[Entry], list[Body]]:
        entries: list[Entry] = []
        bodies: list[Body] = []
        for item in items:
            if isinstance(item, Body):
                content = item.body or b"not here"
                salt = item.salt or bytes(16)
                entries.append(RecordEntry(commit(self.list_id, salt, content)))
                bodies.append(item)
            else:
                entries.append(item)
                bodies.append(Body(BodyStatus.NONE))
        return entries, bodies

"""Checking one log: everything it serves, against one checkpoint and all before it."""

from __future__ import annotations

import http.client
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .asking import UnreachableError
from .logs import (
    BUNDLE_BYTES,
    ENTRY_BYTES,
    ERASE,
    ERASED,
    NO_BODY,
    PRESENT,
    RECEIPT_BYTES,
    RECORD,
    RETRACT,
    WIDTH,
    WITHHELD,
    Head,
    Log,
    Tree,
    check_entry,
    check_prev,
    commitment,
    leaf_hash,
    read_bodies,
    read_entries,
    read_receipt,
    tile_path,
    withdrawn,
)
from .notes import Json, RefusedError, encode64, reading, require

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .asking import Client
    from .state import State

ANSWERS = {
    NO_BODY: (404, "not-found"),
    PRESENT: (200, ""),
    WITHHELD: (403, "withheld"),
    ERASED: (410, "erased"),
}
"""How a receipt is answered, by the status of the body."""


class MovedError(Exception):
    """The log may have changed while it was read; `refusal` counts if it has not."""

    def __init__(self, code: str, resource: str, detail: str) -> None:
        super().__init__(detail)
        self.refusal = RefusedError(code, detail)
        self.refusal.resource = resource


def bundles(kind: str, count: int) -> Iterator[tuple[str, int, int]]:
    """Give path, first index and width of the tiles or bundles of a level."""
    for first in range(0, count, WIDTH):
        width = min(WIDTH, count - first)
        yield tile_path(kind, first // WIDTH, width), first, width


@dataclass(frozen=True)
class Options:
    """How a list is read.

    Attributes:
        reader: Asks as a node with a grant for the list.
        base: Base URL of the list's node.
        state: What was seen before.
        most_receipts: So many receipts are asked for, those of the newest leaves.
    """

    reader: Client
    base: str
    state: State
    most_receipts: int


class LogCheck:
    """One pass over a log as it was when a checkpoint was signed."""

    def __init__(self, options: Options, log: Log, head: Head) -> None:
        self._options, self._client, self._state = (
            options,
            options.reader,
            options.state,
        )
        self._base, self._log, self._head = options.base, log, head
        self._tree = Tree()
        self._entries: list[bytes] = []
        self._bodies: list[tuple[int, bytes, bytes]] = []
        self._ended: dict[int, set[int]] = {RETRACT: set(), ERASE: set()}

    def run(self) -> Json:
        self._read_entries()
        checked = self._check_roots()
        tiles = self._check_tiles()
        self._read_bodies()
        receipts = self._check_receipts()
        largest, source = self._state.seen(self._log.origin)[-1]
        if self._log.state != "abandoned" and largest.size > self._head.size:
            raise MovedError("rollback", source, f"it has {largest.size} leaves")
        statuses = [status for status, _, _ in self._bodies]
        return {
            "origin": self._log.origin,
            "state": self._log.state,
            "size": self._head.size,
            "root": encode64(self._head.root),
            "records": len(self._entries) - statuses.count(NO_BODY),
            "retracted": len(self._ended[RETRACT]),
            "erased": statuses.count(ERASED),
            "withheld": statuses.count(WITHHELD),
            "checkpoints": checked,
            "tiles": tiles,
            "receipts": receipts,
            "erase_entries": [
                i for i, it in enumerate(self._entries) if it[0] == ERASE
            ],
        }

    def _get(self, path: str, limit: int) -> bytes:
        answer = self._client.get(self._base, f"{self._log.path}/{path}", limit)
        if answer.code == "unknown-log" or answer.status not in {200, 404}:
            told = f"{answer.status} {answer.code}"
            raise UnreachableError(f"{self._base}{self._log.path}/{path}: {told}")
        if answer.status == http.client.NOT_FOUND:
            detail = f"a checkpoint of {self._head.size} leaves has it; it is not there"
            raise MovedError("not-found", path, detail)
        return answer.body

    def _read_entries(self) -> None:
        for path, _, width in bundles("tile/entries", self._head.size):
            with reading(path):
                raw = self._get(path, WIDTH * (2 + ENTRY_BYTES))
                self._entries += read_entries(raw, width)
        for entry in self._entries:
            self._tree.append(leaf_hash(entry))

    def _check_roots(self) -> int:
        """Hold the entries against every state of the log that was ever seen."""
        if self._tree.root(self._head.size) != self._head.root:
            self._blame_entries()
        count = 0
        for head, source in self._state.seen(self._log.origin):
            if head.size <= self._head.size:
                count += 1
                with reading(source):
                    self._check_root(head)
        return count

    def _check_root(self, head: Head) -> None:
        if self._tree.root(head.size) != head.root:
            detail = f"its {head.size} leaves are not those of the tree of now"
            raise RefusedError("split-view", detail, head.note, self._head.note)

    def _blame_entries(self) -> None:
        """Say which bundle a tile contradicts; if none, the checkpoint is wrong."""
        for path, first, width in bundles("tile/0", self._head.size):
            own = b"".join(self._tree.levels[0][first : first + width])
            if self._get(path, WIDTH * 32) != own:
                with reading(tile_path("tile/entries", first // WIDTH, width)):
                    raise RefusedError("bad-bundle", "not the entries of the tile")
        with reading("checkpoint"):
            raise RefusedError("bad-proof", "neither entries nor tiles lead to it")

    def _check_tiles(self) -> int:
        """Hold every tile of every level against the entries, and read those."""
        count = 0
        for level in range(0, 64, 8):
            own = self._tree.levels[level]
            for path, first, width in bundles(f"tile/{level // 8}", len(own)):
                with reading(path):
                    raw = self._get(path, WIDTH * 32)
                    same = raw == b"".join(own[first : first + width])
                    require(same, "bad-bundle", "not the hashes of the entries")
                count += 1
        for path, first, width in bundles("tile/entries", self._head.size):
            with reading(path):
                for index in range(first, first + width):
                    self._apply(self._entries[index], index)
        return count

    def _apply(self, entry: bytes, index: int) -> None:
        prev = check_entry(entry, index, self._log.origin)
        if index == 0:
            check_prev(prev, self._log.before)
        if prev is not None:
            self._state.remember(*prev, f"META of {self._log.origin}")
        if entry[0] in self._ended:
            first, count = withdrawn(entry)
            span = range(first, first + count)
            records = {it for it in span if self._entries[it][0] == RECORD}
            self._ended[entry[0]] |= records

    def _read_bodies(self) -> None:
        for path, first, width in bundles("bodies", self._head.size):
            with reading(path):
                bodies = read_bodies(self._get(path, BUNDLE_BYTES), width)
                for index, body in enumerate(bodies, first):
                    self._check_body(index, body, path)
                self._bodies += bodies

    def _check_body(
        self, index: int, body: tuple[int, bytes, bytes], path: str
    ) -> None:
        (status, salt, content), entry = body, self._entries[index]
        fits = (status == NO_BODY) == (entry[0] != RECORD)
        require(fits, "bad-bundle", f"leaf {index} has another status")
        is_erased = index in self._ended[ERASE]
        if status == ERASED and not is_erased:
            raise MovedError("withheld", path, f"no ERASE covers leaf {index}")
        if status == PRESENT:
            same = entry[1:] == commitment(self._log.list_id, salt, content)
            require(same, "bad-commitment", f"leaf {index}")
            require(not is_erased, "erased", f"leaf {index} is erased and still there")

    def _check_receipts(self) -> Json:
        """Ask for the receipts of leaves, also of those that can have none."""
        counts = {"verified": 0, "refused": 0}
        first = max(0, len(self._bodies) - self._options.most_receipts)
        for index, (status, salt, body) in enumerate(self._bodies[first:], first):
            path = f"receipt/{index}"
            with reading(path):
                answer = self._client.get(
                    self._base, f"{self._log.path}/{path}", RECEIPT_BYTES
                )
                expected = ANSWERS[status]
                if (answer.status, answer.code) != expected:
                    detail = f"{answer.status} {answer.code} and not {expected}"
                    raise MovedError("withheld", path, detail)
                if status == PRESENT:
                    self._check_receipt(answer.body, (index, salt, body), path)
            counts["verified" if status == PRESENT else "refused"] += 1
        return counts

    def _check_receipt(
        self, raw: bytes, expected: tuple[int, bytes, bytes], path: str
    ) -> None:
        index, head, salt, body = read_receipt(raw, self._log)
        require((index, salt, body) == expected, "bad-proof", "of another record")
        self._state.remember(self._log.origin, head, path)
        if head.size <= self._head.size:
            self._check_root(head)

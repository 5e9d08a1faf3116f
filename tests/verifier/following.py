"""Following a list: its documents, what others have signed of it, and its logs."""

from __future__ import annotations

import http.client
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .asking import Client, UnreachableError
from .checking import LogCheck, MovedError, Options
from .logs import (
    NOTE_BYTES,
    Head,
    Log,
    check_succession,
    read_checkpoint,
    read_descriptor,
    read_list_note,
)
from .notes import (
    DOCUMENT_BYTES,
    Json,
    Key,
    RefusedError,
    reading,
    require,
    sha256,
    utf8,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

ROUNDS = 20
"""How often to begin again when the log has grown meanwhile."""


@dataclass(frozen=True)
class Cosignature:
    """What another node signed of a log: that it saw it, or that it applied it."""

    node: str
    part: str
    origin: str
    size: int
    time: int


@dataclass(frozen=True)
class Node:
    """Base URL and identity key, as an operator gave them."""

    base: str
    identity: Key


class Follower:
    """Reads one list of one node.

    Args:
        options: How the list is read.
        owner: Asks cosigners as the node whose list it is.
        identity: Identity key of the list's node.
        list_name: The list.
    """

    def __init__(
        self, options: Options, owner: Client, *, identity: Key, list_name: str
    ) -> None:
        self._options, self._state = options, options.state
        self._owner = owner
        self._node = Node(options.base, identity)
        self._list_name = list_name

    def run(self, cosigners: list[Node]) -> Json:
        """Check everything; gives a report, or raises what does not hold."""
        self._descriptor(self._node)
        logs = self._list_note()
        for log in logs:
            if log.final is not None:
                with reading(f"list note of {self._list_name}"):
                    self._state.remember(log.origin, log.final, "list note")
        signed = [it for each in cosigners for it in self._cosigned(each, logs)]
        # The newest first: it says where the one before ended.
        reports = [self._follow(log) for log in reversed(logs)]
        ends = {report["origin"]: report for report in reports}
        return {
            "logs": reports,
            "cosignatures": [describe(it, ends[it.origin]) for it in signed],
        }

    def _descriptor(self, node: Node) -> dict[str, Key]:
        what = f"descriptor of {node.identity.name}"
        with reading(what):
            raw = self._ask(node.base, "/.well-known/hsf", DOCUMENT_BYTES)
            document, keys = read_descriptor(raw, node.identity)
            # What is signed for this base must not be of use anywhere else.
            require(document["base"] == node.base, "malformed", "another base URL")
            self._state.check_version(what, document["version"], utf8(raw))
            self._state.keep_version(what, document["version"], utf8(raw))
        return keys

    def _list_note(self) -> list[Log]:
        what = f"list note of {self._list_name}"
        identity = self._node.identity
        with reading(what):
            path = f"/hsf/v1/lists/{self._list_name}"
            raw = self._ask(self._node.base, path, DOCUMENT_BYTES)
            document, logs = read_list_note(raw, identity, self._list_name)
            version, note = document["version"], utf8(raw)
            known = self._state.check_version(what, version, note)
            if known is not None:
                _, old = read_list_note(known.encode(), identity, self._list_name)
                try:
                    check_succession(old, logs)
                except RefusedError as error:
                    error.evidence = (known, note)
                    raise
            self._state.keep_version(what, version, note)
        return logs

    def _ask(self, base: str, path: str, limit: int) -> bytes:
        answer = self._options.reader.get(base, path, limit)
        if answer.status != http.client.OK:
            told = f"{answer.status} {answer.code}"
            raise UnreachableError(f"{base}{path}: {told}")
        return answer.body

    # What others have signed of the log.

    def _cosigned(self, node: Node, logs: list[Log]) -> Iterator[Cosignature]:
        keys = self._descriptor(node)
        for log in logs:
            for part, key in keys.items():
                with reading(f"{part} cosignature of {node.identity.name}"):
                    found = self._cosignature(node, part, key, log)
                if found is not None:
                    yield found

    def _cosignature(
        self, node: Node, part: str, key: Key, log: Log
    ) -> Cosignature | None:
        hashed = sha256(log.origin.encode()).hex()
        path = f"/hsf/v1/{part}/{hashed}/checkpoint"
        answer = self._owner.get(node.base, path, NOTE_BYTES)
        if answer.status == http.client.NOT_FOUND:
            return None  # nothing signed yet
        if answer.status != http.client.OK:
            raise UnreachableError(f"{node.base}{path}: {answer.status} {answer.code}")
        head, seconds = read_checkpoint(answer.body, log, key)
        name = node.identity.name
        self._state.remember(log.origin, head, f"{part} checkpoint of {name}")
        return Cosignature(name, part, log.origin, head.size, seconds)

    # The log itself.

    def _follow(self, log: Log) -> Json:
        last: tuple[Head, RefusedError] | None = None
        for _ in range(ROUNDS):
            head = self._newest(log)
            if last is not None and last[0] == head:
                raise last[1]
            try:
                return LogCheck(self._options, log, head).run()
            except MovedError as moved:
                last = head, moved.refusal
        raise UnreachableError(f"{log.origin} grows faster than it can be read")

    def _newest(self, log: Log) -> Head:
        if log.state == "abandoned" and log.final is not None:
            return log.final  # whatever its key signed after that does not count
        path = f"{log.path}/checkpoint"
        with reading(path):
            seen = self._state.seen(log.origin)
            raw = self._ask(self._node.base, path, NOTE_BYTES)
            head, _ = read_checkpoint(raw, log)
            if seen and head.size < seen[-1][0].size:
                known, source = seen[-1]
                detail = f"{head.size} leaves after {known.size} in {source}"
                raise RefusedError("rollback", detail, known.note, head.note)
            grown = log.final is not None and head.size > log.final.size
            require(not grown, "malformed", "a frozen log has grown")
            self._state.remember(log.origin, head, path)
        return head


def describe(signed: Cosignature, log: Json) -> Json:
    """Say what a cosignature covers, and for a mirror which erasures it does not."""
    report: Json = {
        "node": signed.node,
        "part": signed.part,
        "origin": signed.origin,
        "size": signed.size,
        "time": signed.time,
        "behind": log["size"] - signed.size,
    }
    if signed.part == "mirror":
        entries = log["erase_entries"]
        report["acknowledged"] = [it for it in entries if it < signed.size]
        report["unacknowledged"] = [it for it in entries if it >= signed.size]
    return report

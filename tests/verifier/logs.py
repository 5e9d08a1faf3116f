"""What a node says about its lists, and what a log consists of.

Each function gives a value or raises `RefusedError` with a code of SPEC.md#errors.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from .notes import (
    COSIGNATURE,
    ED25519,
    LAST,
    Json,
    Key,
    RefusedError,
    decimal,
    decode64,
    is_sound,
    member,
    open_document,
    open_note,
    read_json,
    read_vkey,
    require,
    sha256,
    utf8,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

META, RECORD, RETRACT, ERASE, FIRST_CRITICAL = 0, 1, 2, 3, 0x80
NO_BODY, PRESENT, WITHHELD, ERASED = 0, 1, 2, 3
NOTE_BYTES, RECEIPT_BYTES, MOST_HASHES, WIDTH = 131_072, 163_840, 63, 256
ENTRY_BYTES, META_BYTES, BODY_BYTES, BUNDLE_BYTES = 4_097, 4_096, 16_384, 5_242_880

NODE = re.compile(
    r"(?=.{1,253}\Z)(?:[a-z0-9](?:[a-z0-9-]*[a-z0-9])?\.)*"
    r"(?=[^.]*[a-z])[a-z0-9](?:[a-z0-9-]*[a-z0-9])?"
)
LIST = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")
TOKEN = re.compile(r"[a-z0-9][a-z0-9_/-]{0,63}")
HTTP_KEY = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
BASE = re.compile(
    r"(?P<scheme>https?)://(?P<host>[a-z0-9.-]+|\[[0-9a-f:]+\])"
    r"(?::(?P<port>[1-9][0-9]{0,4}))?(?P<path>(?:/[A-Za-z0-9._~-]+)*)"
)
LOOPBACK = re.compile(r"localhost|127(?:\.[0-9]+){3}|\[::1\]")


# Descriptor and list note. Source: SPEC.md#descriptor and SPEC.md#list-note.


def is_base(base: str) -> bool:
    match = BASE.fullmatch(base)
    if match is None or len(base) > 512 or {".", ".."} & {*match["path"].split("/")}:
        return False
    default = {"http": "80", "https": "443"}[match["scheme"]]
    private = match["scheme"] == "https" or LOOPBACK.fullmatch(match["host"])
    return bool(private) and match["port"] != default


def read_descriptor(raw: bytes, identity: Key) -> tuple[Json, dict[str, Key]]:
    """Give what it says, and the keys `witness` and `mirror`."""
    document = open_document(raw, identity, "hsf-node/v1")
    require(member(document, "name", str) == identity.name, "malformed", "its name")
    require(is_base(member(document, "base", str)), "malformed", "base")
    http_keys = member(document, "http_keys", list)
    limits = member(document, "limits", dict).values()
    features = member(document, "features", list)
    require(1 <= len(http_keys) <= 16 and len(features) <= 64, "malformed", "a length")
    require(all(type(it) in {int, float} for it in limits), "malformed", "limits")
    words = all(isinstance(it, str) and TOKEN.fullmatch(it) for it in features)
    require(words, "malformed", "features")
    public, ids = [identity.public], set()
    for it in http_keys:
        require(isinstance(it, dict), "malformed", "http_keys")
        ids.add(member(it, "id", str))
        public.append(decode64(member(it, "key", str), code="bad-key"))
        require(len(public[-1]) == 32 and is_sound(public[-1]), "bad-key", "http_keys")
    require(len(ids) == len(http_keys), "malformed", "an HTTP key id twice")
    require(all(HTTP_KEY.fullmatch(it) for it in ids), "malformed", "an HTTP key id")
    cosigners = {}
    for part in ("witness", "mirror"):
        name = f"{identity.name}/hsf/v1/{part}"
        cosigners[part] = read_vkey(member(document, part, str), name, COSIGNATURE)
        public.append(cosigners[part].public)
    require(len({*public}) == len(public), "bad-key", "one key for two purposes")
    return document, cosigners


@dataclass(frozen=True)
class Head:
    """A state of a log; `note` is empty where no checkpoint says it."""

    size: int
    root: bytes
    note: str = ""


@dataclass(frozen=True)
class Log:
    origin: str
    keys: tuple[Key, ...]
    state: str
    final: Head | None
    before: Log | None = None

    @property
    def list_id(self) -> str:
        return self.origin.rpartition("/")[0]

    @property
    def path(self) -> str:
        _, _, name, epoch = self.origin.rsplit("/", 3)
        return f"/hsf/v1/log/{name}/{epoch}"


def read_epoch(origin: str, list_id: str) -> int:
    start, _, epoch = origin.rpartition("/")
    require(start == list_id, "malformed", "a log of another list")
    require(1 <= decimal(epoch) < 2**31, "malformed", "its epoch")
    return int(epoch)


def read_state(document: Json) -> Head:
    size = member(document, "size", int)
    require(0 <= size <= LAST, "malformed", "a size")
    return Head(size, decode64(member(document, "root", str), 32))


def read_list_note(raw: bytes, identity: Key, name: str) -> tuple[Json, list[Log]]:
    document = open_document(raw, identity, "hsf-list/v1")
    list_id = f"{identity.name}/hsf/v1/log/{name}"
    require(member(document, "id", str) == list_id, "malformed", "another list")
    member(document, "meta", dict)
    items = member(document, "logs", list)
    require(1 <= len(items) <= 1_024, "malformed", "logs")
    logs = [read_log(item, list_id) for item in items]
    epochs = [read_epoch(log.origin, list_id) for log in logs]
    require(epochs == sorted({*epochs}), "malformed", "epochs do not ascend")
    require(all(it.state != "active" for it in logs[:-1]), "malformed", "an old log")
    pairs = zip(logs, [None, *logs], strict=False)
    return document, [replace(log, before=before) for log, before in pairs]


def read_log(item: object, list_id: str) -> Log:
    if not isinstance(item, dict):
        raise RefusedError("malformed", "logs")
    origin, state = member(item, "origin", str), member(item, "state", str)
    read_epoch(origin, list_id)
    vkeys = member(item, "vkeys", list)
    require(1 <= len(vkeys) <= 16, "malformed", "vkeys")
    require(all(isinstance(it, str) for it in vkeys), "malformed", "vkeys")
    keys = tuple(read_vkey(it, origin, ED25519) for it in vkeys)
    final = read_state(member(item, "final", dict)) if "final" in item else None
    fits = {"active": not final, "frozen": True, "abandoned": final}.get(state)
    require(fits, "malformed", "state is unknown or does not fit final")
    return Log(origin, keys, state, final)


def check_succession(old: Sequence[Log], new: Sequence[Log]) -> None:
    """Refuse a list note that takes back an older one. SPEC.md#successions."""
    states = ("active", "frozen", "abandoned")
    added = {log.origin: log for log in new}
    for log in old:
        after = added.pop(log.origin, None)
        kept = (
            after is not None
            and states.index(after.state) >= states.index(log.state)
            and log.final in {None, after.final}
        )
        require(kept, "contradiction", f"{log.origin} was {log.state}")
    last = read_epoch(old[-1].origin, old[-1].list_id)
    for log in added.values():
        newer = read_epoch(log.origin, log.list_id) > last
        require(newer, "contradiction", f"{log.origin} came too late")


def check_prev(prev: tuple[str, Head] | None, before: Log | None) -> None:
    """Refuse a log that continues another than the list note says."""
    if prev is None or before is None:
        neither = (prev, before) == (None, None)
        require(neither, "contradiction", "the list note says otherwise than META")
        return
    same = prev[0] == before.origin and before.final in {None, prev[1]}
    require(same, "contradiction", f"META continues another state of {prev[0]}")


# Checkpoints, trees and proofs. Source: SPEC.md#checkpoints and SPEC.md#merkle-tree.


def read_checkpoint(
    raw: bytes, log: Log, cosigner: Key | None = None
) -> tuple[Head, int]:
    """Give a log's checkpoint, and when the cosigner signed it."""
    own = {key for key in log.keys if (key.name, key.kind) == (log.origin, ED25519)}
    trusted = [*own, *([cosigner] if cosigner else [])]
    text, signed = open_note(raw, trusted, NOTE_BYTES)
    require(own & {*signed}, "unknown-key", "no key of the log signed")
    require(cosigner is None or cosigner in signed, "unknown-key", "not cosigned")
    lines = text[:-1].split("\n")
    require(len(lines) >= 3 and all(lines), "malformed", "no checkpoint")
    require(lines[0] == log.origin, "malformed", "another log")
    head = Head(decimal(lines[1]), decode64(lines[2], 32), utf8(raw))
    require(head.size or head.root == sha256(), "malformed", "root of no leaves")
    return head, signed[cosigner] if cosigner else 0


def leaf_hash(entry: bytes) -> bytes:
    return sha256(b"\0", entry)


def node_hash(left: bytes, right: bytes) -> bytes:
    return sha256(b"\1", left, right)


class Tree:
    """A Merkle tree that knows the root of every size it ever had."""

    def __init__(self) -> None:
        self.levels: list[list[bytes]] = [[] for _ in range(64)]

    def append(self, leaf: bytes) -> None:
        level = self.levels[0]
        level.append(leaf)
        for above in self.levels[1:]:
            if len(level) % 2:
                return
            above.append(node_hash(level[-2], level[-1]))
            level = above

    def root(self, size: int) -> bytes:
        whole = [
            self.levels[level][(size >> level) - 1]
            for level in range(size.bit_length())
            if size >> level & 1
        ]
        root = whole[0] if whole else sha256()
        for left in whole[1:]:
            root = node_hash(left, root)
        return root


def root_of_proof(leaf: bytes, index: int, size: int, proof: Sequence[bytes]) -> bytes:
    """Compute the root to which an inclusion proof leads. Source: RFC 9162, 2.1.3.2."""
    require(index < size, "bad-proof", "the leaf is not in the tree")
    first, last, root = index, size - 1, leaf
    for other in proof:
        require(last, "bad-proof", "too many hashes")
        if first & 1 or first == last:
            root = node_hash(other, root)
            while first and not first & 1:
                first, last = first >> 1, last >> 1
        else:
            root = node_hash(root, other)
        first, last = first >> 1, last >> 1
    require(last == 0, "bad-proof", "too few hashes")
    return root


def tile_path(kind: str, index: int, width: int) -> str:
    digits = f"{index:03}"
    digits = digits.zfill(-(-len(digits) // 3) * 3)
    groups = re.findall("...", digits)
    partial = f".p/{width}" if width < 256 else ""
    return f"{kind}/{'/'.join(['x' + it for it in groups[:-1]] + groups[-1:])}{partial}"


# Entries, bodies and receipts. Source: SPEC.md#entries to SPEC.md#receipts.


class Cursor:
    """Takes bytes from the front; all have to be taken."""

    def __init__(self, raw: bytes) -> None:
        self.rest = raw

    def take(self, count: int) -> bytes:
        require(len(self.rest) >= count, "malformed", "cut short")
        taken, self.rest = self.rest[:count], self.rest[count:]
        return taken

    def sized(self, least: int, most: int) -> bytes:
        size = int.from_bytes(self.take(2), "big")
        require(size >= least, "malformed", "nothing in it")
        require(size <= most, "too-large", f"more than {most} bytes")
        return self.take(size)


def read_entries(raw: bytes, width: int) -> list[bytes]:
    cursor = Cursor(raw)
    entries = [cursor.sized(1, ENTRY_BYTES) for _ in range(width)]
    require(not cursor.rest, "malformed", "more than its entries")
    return entries


def read_bodies(raw: bytes, width: int) -> list[tuple[int, bytes, bytes]]:
    """Give status, salt and body of each."""
    cursor, bodies = Cursor(raw), []
    for _ in range(width):
        status = cursor.take(1)[0]
        require(status <= ERASED, "malformed", "an unknown status")
        salt = cursor.take(16 if status == PRESENT else 0)
        body = cursor.sized(1, BODY_BYTES) if status == PRESENT else b""
        bodies.append((status, salt, body))
    require(not cursor.rest, "malformed", "more than its bodies")
    return bodies


def check_entry(entry: bytes, index: int, origin: str) -> tuple[str, Head] | None:
    """Refuse an entry that may not stand there; gives the log that META continues."""
    require(entry, "malformed", "an empty entry")
    require(len(entry) <= ENTRY_BYTES, "too-large", "an entry too long")
    kind, rest = entry[0], entry[1:]
    require((kind == META) == (index == 0), "malformed", "META at 0 and only there")
    require(kind < FIRST_CRITICAL, "unsupported-entry", f"leaf {index} is of {kind:#x}")
    if kind == META:
        return read_meta(rest, origin)
    if kind == RECORD:
        require(len(rest) == 32, "malformed", "no RECORD")
    if kind in {RETRACT, ERASE}:
        require(len(rest) == 13, "malformed", "no RETRACT or ERASE")
        first, count = withdrawn(entry)
        fits = count and first + count <= index
        require(fits, "malformed", "its range")
    return None


def read_meta(rest: bytes, origin: str) -> tuple[str, Head] | None:
    require(len(rest) <= META_BYTES, "too-large", "META too long")
    document = read_json(utf8(rest))
    require(member(document, "hsf", int) == 1, "malformed", "another version")
    require(member(document, "origin", str) == origin, "malformed", "another log")
    list_id, _, epoch = origin.rpartition("/")
    if "prev" in document and document["prev"] is None:
        return None
    prev = member(document, "prev", dict)
    before = read_epoch(member(prev, "origin", str), list_id)
    require(before < decimal(epoch), "malformed", "prev is not an earlier log")
    return str(prev["origin"]), read_state(prev)


def withdrawn(entry: bytes) -> tuple[int, int]:
    first, count, _ = struct.unpack(">QIB", entry[1:])
    return first, count


def commitment(list_id: str, salt: bytes, body: bytes) -> bytes:
    size = len(body).to_bytes(2, "big")
    return sha256(f"hsf/v1/record\n{list_id}\n".encode(), salt, size, body)


def read_receipt(raw: bytes, log: Log) -> tuple[int, Head, bytes, bytes]:
    """Verify a receipt; gives leaf index, tree, salt and body."""
    require(len(raw) <= RECEIPT_BYTES, "too-large", "a receipt too long")
    top, _, note = utf8(raw).partition("\n\n")
    lines = [*top.split("\n"), "", ""]
    form = re.fullmatch(
        r"c2sp\.org/tlog-proof@v1\nextra .*\nindex .*", top[: 1 << 17], re.DOTALL
    )
    require(form, "malformed", "no receipt")
    extra = decode64(lines[1].removeprefix("extra "))
    index = decimal(lines[2].removeprefix("index "))
    proof = [decode64(line, 32) for line in lines[3:-2]]
    require(len(proof) <= MOST_HASHES, "too-large", "too many hashes")
    salt, body = extra[:16], extra[16:]
    require(1 <= len(body) <= BODY_BYTES, "malformed", "no salt and body")
    head, _ = read_checkpoint(note.encode(), log)
    leaf = leaf_hash(bytes([RECORD]) + commitment(log.list_id, salt, body))
    root = root_of_proof(leaf, index, head.size, proof)
    require(root == head.root, "bad-proof", "it leads to another root")
    return index, head, salt, body

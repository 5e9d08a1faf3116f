"""A log whose owner uploads it by hand, package by package, honestly or not."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from hashlight_node.store import logs
from hashlight_node.store import peers as peer_store
from hashlight_protocol import (
    AddCheckpoint,
    AddEntries,
    BodyBundleId,
    EntryPackage,
    ListNote,
    LogInfo,
    encode_add_bodies_path,
    encode_add_checkpoint,
    encode_add_entries,
    encode_package,
    origin_hash,
    package_ranges,
    parse_mirror_info,
    parse_signal,
    root_of,
    sign_list_note,
    subtree_proof,
)

from .log_simulator import LogSimulator
from .made_records import md5_of

if TYPE_CHECKING:
    from hashlight_node.model import Log
    from hashlight_node.store.database import Connection
    from hashlight_protocol import MirrorInfo

    from .federation import Answer, World

BYTES = "application/octet-stream"
ADD_ENTRIES = "/hsf/v1/mirror/add-entries"
ADD_NOTE = "/hsf/v1/mirror/add-note"
_ADD_CHECKPOINT = "/hsf/v1/witness/add-checkpoint"


@dataclass
class UploadedLog:
    """The log `ncii` of the world's peer, which cannot be dialled."""

    world: World
    log: LogSimulator = field(
        default_factory=lambda: LogSimulator("beta.example/hsf/v1/log/ncii/1")
    )
    announced_size: int = 0

    @property
    def origin(self) -> str:
        return self.log.origin

    async def agree(self) -> None:
        """Do what the two operators do; then tell the node of the list."""
        name = self.world.peer.name

        def hang_up(conn: Connection) -> None:
            peer = peer_store.find_peer(conn, name)
            assert peer is not None
            peer_store.set_dialable(conn, peer.peer_id, is_dialable=False)

        await self.world.running.foundation.database.write(hang_up)
        await self.world.running.use_cases.peering.follow(name, "ncii")
        assert (await self.add_note(self.list_note())).status == 204

    def list_note(self, version: int = 1, *, title: str = "", state: str = "") -> bytes:
        info = LogInfo(self.origin, (self.log.signer.key,), "active")
        if state:
            info = LogInfo(self.origin, (self.log.signer.key,), "frozen")
        note = ListNote(
            self.log.list_id, "beta.example", "ncii", version, {"title": title}, (info,)
        )
        return sign_list_note(note, self.world.peer.keyring.identity)

    async def add_note(self, raw: bytes) -> Answer:
        return await self.post(ADD_NOTE, raw, content_type="text/plain; charset=utf-8")

    async def announce(self, size: int | None = None) -> None:
        """Have the node's witness see a checkpoint."""
        new_size = self.log.size if size is None else size
        old_size = self.announced_size
        proof = self.log.proof(old_size, new_size)
        body = encode_add_checkpoint(
            AddCheckpoint(old_size, proof, self.log.note(new_size))
        )
        answer = await self.world.ask(_ADD_CHECKPOINT, method="POST", body=body)
        assert answer.status == 200, answer
        self.announced_size = new_size

    def package(self, leaves: range, end: int) -> bytes:
        def read(level: int, index: int) -> bytes:
            return root_of(self.log.leaves[index << level : (index + 1) << level])

        block = range(leaves.start - leaves.start % 256, leaves.stop)
        proof = subtree_proof(read, leaves=block, tree_size=end)
        entries = tuple(self.log.entries[leaves.start : leaves.stop])
        return encode_package(EntryPackage(leaves.start, entries, proof))

    def content(self, start: int, end: int | None = None) -> bytes:
        """Write a whole upload request."""
        stop = self.log.size if end is None else end
        head = encode_add_entries(AddEntries(self.origin, start, stop))
        packages = (self.package(it, stop) for it in package_ranges(start, stop))
        return head + b"".join(packages)

    async def upload(self, start: int, end: int | None = None) -> Answer:
        return await self.post(ADD_ENTRIES, self.content(start, end))

    def bodies_path(self, index: int, width: int) -> str:
        path = encode_add_bodies_path(BodyBundleId(index, width))
        return f"/hsf/v1/mirror/{origin_hash(self.origin)}/{path}"

    async def add_bodies(self, index: int, width: int, raw: bytes = b"") -> Answer:
        return await self.post(
            self.bodies_path(index, width), raw or self.log.body_bundle(index, width)
        )

    async def post(
        self,
        path: str,
        body: bytes,
        *,
        content_type: str = BYTES,
        signed: bytes | None = None,
        **headers: str,
    ) -> Answer:
        """Send what was signed, or something else."""
        fields = self.world.peer.headers(
            "POST", path, body if signed is None else signed, content_type=content_type
        )
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.world.send("POST", path, {**fields, **named}, body)

    async def stored(self) -> Log | None:
        """Give the node's copy."""
        database = self.world.running.foundation.database
        return await database.read(lambda conn: logs.find_log(conn, self.origin))

    async def stored_size(self) -> int:
        found = await self.stored()
        return 0 if found is None else found.tree_size

    async def matches(self, number: int) -> int:
        query = parse_signal("md5", md5_of(number))
        lookup = self.world.running.use_cases.lookup
        answer = await lookup.lookup([query], max_distance=None)
        return sum(len(match.records) for match in answer.results[0].matches)


def info_of(answer: Answer) -> MirrorInfo:
    """Read mirror info."""
    assert answer.headers["Content-Type"] == "text/x.tlog.mirror-info", answer
    return parse_mirror_info(answer.body)

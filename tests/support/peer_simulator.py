"""A peer over real HTTP that does what it should, until a test tells it to lie.

It answers out of logs in memory and grants everybody every list, whole unless `narrow`
was called. `tamper` changes answers of one kind on their way out, `play` takes a kind
over, `honest` ends all tricks. `views` shows other logs to callers by name, `seen` is
what it answers to a comparison.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import zstandard
from aiohttp import web

from hashlight_node.api.server import port_of, start_server
from hashlight_protocol import (
    COSIGNATURE,
    ED25519,
    WHOLE_LIST,
    BodyBundleId,
    Checkpoint,
    Descriptor,
    Ed25519Signer,
    EntryBundleId,
    Grants,
    GrantScope,
    HttpKey,
    KnownHead,
    ListGrant,
    ListNote,
    LogInfo,
    LogState,
    TileId,
    append_signatures,
    cosign,
    encode_body_bundle,
    encode_grants,
    encode_vkey,
    list_id,
    origin_hash,
    parse_add_checkpoint,
    parse_body_bundle,
    parse_origin,
    parse_tile_path,
    sign_descriptor,
    sign_list_note,
    unverified_origin,
    withhold,
)

from .log_simulator import LogSimulator

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from hashlight_protocol import Signer

    from .clock import ManualClock

_LOG = re.compile(r"/hsf/v1/log/([a-z0-9-]+)/([0-9]+)/(.+)")
_LIST = re.compile(r"/hsf/v1/lists/([a-z0-9-]+)")
_MIRROR = re.compile(r"/hsf/v1/mirror/([0-9a-f]{64})/checkpoint")
_WITNESS = re.compile(r"/hsf/v1/witness/([0-9a-f]{64})/checkpoint")
_ADD = "/hsf/v1/witness/add-checkpoint"
_COMPARE = "/hsf/v1/witness/compare"
_EVIDENCE = "/hsf/v1/evidence"
_KEY_ID = re.compile(r'keyid="([^"#]*)#')


@dataclass(frozen=True)
class Answer:
    """What goes out, before tricks."""

    kind: str
    body: bytes
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


NOT_FOUND = Answer(
    "nothing",
    b'{"type":"hsf:unknown-log","status":404}',
    404,
    {"Content-Type": "application/problem+json"},
)


class PeerSimulator:
    """A node of another company, as its peers see it."""

    def __init__(self, name: str, clock: ManualClock) -> None:
        self.name = name
        self.clock = clock
        self.base = ""
        self.version = 1
        self.identity = Ed25519Signer(name, ED25519, os.urandom(32))
        self.http = Ed25519Signer(f"{name}#h1", ED25519, os.urandom(32))
        self.witness = self._cosigner("witness")
        self.mirror = self._cosigner("mirror")
        self.logs: dict[str, LogSimulator] = {}
        self.list_versions: dict[str, int] = {}
        self.grants_version = 1
        self.scopes: dict[str, GrantScope] = {}
        self.abandoned: dict[str, KnownHead] = {}
        self.ended: dict[str, list[tuple[LogSimulator, LogState, KnownHead | None]]] = (
            defaultdict(list)
        )
        self.mirrored: dict[str, bytes] = {}
        # By origin, what it shows as the largest checkpoint that it has cosigned.
        self.cosigned: dict[str, bytes] = {}
        # By path, what it has of logs of others; of the kind `copy`.
        self.copies: dict[str, bytes] = {}
        self.pushed: list[bytes] = []
        self.asked: list[tuple[str, str]] = []
        self.features: tuple[str, ...] = ()
        self.evidence: list[bytes] = []
        self.seen: dict[str, bytes] = {}
        self.views: dict[str, dict[str, LogSimulator]] = {}
        self._caller = ""
        self._posts = {
            _ADD: self._cosign,
            _COMPARE: self._compare,
            _EVIDENCE: self._take_evidence,
        }
        self._tricks: list[tuple[str, Callable[[Answer], Answer]]] = []
        self._plays: dict[
            str, Callable[[web.Request], Awaitable[web.StreamResponse]]
        ] = {}

    def _cosigner(self, part: str) -> Ed25519Signer:
        return Ed25519Signer(f"{self.name}/hsf/v1/{part}", COSIGNATURE, os.urandom(32))

    @property
    def vkey(self) -> str:
        return encode_vkey(self.identity.key)

    def create_list(self, name: str) -> LogSimulator:
        log = LogSimulator(f"{list_id(self.name, name)}/1")
        self.logs[name] = log
        self.list_versions[name] = 1
        return log

    def next_log(
        self,
        name: str,
        state: LogState = "frozen",
        *,
        final: KnownHead | None = None,
        prev: Checkpoint | None = None,
    ) -> LogSimulator:
        """End a list's log and begin the next one, which is empty."""
        old = self.logs[name]
        head = final or KnownHead(old.size, old.root())
        self.ended[name].append((old, state, head))
        epoch = len(self.ended[name]) + 1
        new = LogSimulator(
            f"{list_id(self.name, name)}/{epoch}",
            prev or Checkpoint(old.origin, head.tree_size, head.root_hash),
        )
        self.logs[name] = new
        self.list_versions[name] += 1
        return new

    def narrow(self, name: str, scope: GrantScope) -> None:
        """Grant a list to everybody as far as this scope goes."""
        self.scopes[name] = scope
        self.grants_version += 1

    def grants(self) -> bytes:
        rows = (
            ListGrant(log.list_id, self.clock(), self.scopes.get(name, WHOLE_LIST))
            for name, log in self.logs.items()
        )
        return encode_grants(Grants(self.grants_version, tuple(rows)))

    def tamper(self, kind: str, trick: Callable[[Answer], Answer]) -> None:
        """Change every answer of a kind."""
        self._tricks.append((kind, trick))

    def tamper_body(self, kind: str, trick: Callable[[bytes], bytes]) -> None:
        """Change the content of every answer of a kind."""
        self.tamper(kind, lambda answer: replace(answer, body=trick(answer.body)))

    def play(
        self, kind: str, act: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> None:
        """Answer requests of a kind by hand."""
        self._plays[kind] = act

    def honest(self) -> None:
        """End all tricks."""
        self._tricks.clear()
        self._plays.clear()

    def kinds_asked(self) -> list[str]:
        return [kind for kind, _ in self.asked]

    def descriptor(self) -> bytes:
        return sign_descriptor(
            Descriptor(
                name=self.name,
                version=self.version,
                base=self.base,
                http_keys=(HttpKey("h1", self.http.key.public_key),),
                witness=self.witness.key,
                mirror=self.mirror.key,
                limits={},
                features=self.features,
            ),
            self.identity,
        )

    def list_note(self, name: str) -> bytes:
        log = self.logs[name]
        final = self.abandoned.get(name)
        state: LogState = "active" if final is None else "abandoned"
        return sign_list_note(
            ListNote(
                id=log.list_id,
                node=self.name,
                list_name=name,
                version=self.list_versions[name],
                meta={},
                logs=(
                    *(
                        LogInfo(old.origin, (old.signer.key,), ended, head)
                        for old, ended, head in self.ended[name]
                    ),
                    LogInfo(log.origin, (log.signer.key,), state, final),
                ),
            ),
            self.identity,
        )

    def acknowledge(self, note: bytes, signer: Signer | None = None) -> None:
        """Say that a log of somebody else is copied up to this checkpoint."""
        line = cosign(note, signer or self.mirror, now=self.clock())
        origin = unverified_origin(note)
        self.mirrored[origin_hash(origin)] = append_signatures(note, line)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[PeerSimulator]:
        """Listen on loopback."""
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._handle)
        runner = await start_server(
            app, ("127.0.0.1", 0), shutdown_seconds=0.1, hang_up_cancels=False
        )
        self.base = f"http://127.0.0.1:{port_of(runner)}"
        try:
            yield self
        finally:
            await runner.cleanup()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        signed = _KEY_ID.search(request.headers.get("Signature-Input", ""))
        self._caller = signed[1] if signed else ""
        answer = self._answer(request.path, body)
        self.asked.append((answer.kind, request.path))
        if answer.kind in self._plays:
            return await self._plays[answer.kind](request)
        for kind, trick in self._tricks:
            if kind == answer.kind:
                answer = trick(answer)
        if answer.kind == "mirror" and answer.status == 200:
            etag = f'"{len(self.mirrored)}-{hash(answer.body)}"'
            answer.headers["ETag"] = etag
            if request.headers.get("If-None-Match") == etag:
                return web.Response(status=304)
        return web.Response(
            status=answer.status, body=answer.body, headers=answer.headers
        )

    def _answer(self, path: str, body: bytes) -> Answer:
        if path == "/.well-known/hsf":
            return Answer("descriptor", self.descriptor())
        if path == "/hsf/v1/grants":
            return Answer("grants", self.grants())
        if path in self._posts:
            return self._posts[path](body)
        if mirrored := _MIRROR.fullmatch(path):
            note = self.mirrored.get(mirrored[1])
            answer = replace(NOT_FOUND, kind="mirror")
            return answer if note is None else Answer("mirror", note)
        return self._held(path) or self._content(path)

    def _held(self, path: str) -> Answer | None:
        """Give what it has of logs of others."""
        if path in self.copies:
            return Answer("copy", self.copies[path])
        witnessed = _WITNESS.fullmatch(path)
        for origin, note in self.cosigned.items():
            if witnessed and witnessed[1] == origin_hash(origin):
                return Answer("witness", note)
        return None

    def _content(self, path: str) -> Answer:
        listed = _LIST.fullmatch(path)
        if listed and listed[1] in self.logs:
            return Answer("list-note", self.list_note(listed[1]))
        shown = self.views.get(self._caller, self.logs)
        logged = _LOG.fullmatch(path)
        if logged and logged[1] in shown:
            name, epoch = logged[1], int(logged[2])
            held = [*(old for old, _, _ in self.ended[name]), shown[name]]
            if 1 <= epoch <= len(held):
                return self._resource(held[epoch - 1], logged[3])
        return NOT_FOUND

    def _compare(self, body: bytes) -> Answer:
        note = self.seen.get(unverified_origin(body))
        answer = replace(NOT_FOUND, kind="compare")
        return answer if note is None else Answer("compare", note)

    def _take_evidence(self, body: bytes) -> Answer:
        self.evidence.append(body)
        return Answer("evidence", b"", 204)

    def _cosign(self, body: bytes) -> Answer:
        self.pushed.append(body)
        note = parse_add_checkpoint(body).note
        line = cosign(note, self.witness, now=self.clock())
        return Answer("add-checkpoint", line)

    def _resource(self, log: LogSimulator, name: str) -> Answer:
        if name == "checkpoint":
            return Answer("checkpoint", log.note())
        if name.startswith("receipt/"):
            return NOT_FOUND
        match parse_tile_path(name):
            case TileId(level, index, width):
                return Answer("tile", log.tile(level, index, width))
            case EntryBundleId(index, width):
                return Answer("entries", log.entry_bundle(index, width))
            case BodyBundleId(index, width):
                bodies = parse_body_bundle(log.body_bundle(index, width), width)
                name = parse_origin(log.origin).list_name
                scope = self.scopes.get(name, WHOLE_LIST)
                raw = encode_body_bundle(withhold(bodies, scope))
                coded = zstandard.ZstdCompressor().compress(raw)
                return Answer("bodies", coded, headers={"Content-Encoding": "zstd"})

"""Uploading to hubs that lie, forget, or do not know what an upload is."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
import zstandard
from aiohttp import web

from hashlight_node.exchange.telling.uploading import Uploader, UploadTo
from hashlight_node.store import deliveries
from hashlight_protocol import (
    COSIGNATURE,
    AddEntriesReader,
    Ed25519Signer,
    MirrorInfo,
    cosign,
    encode_mirror_info,
)
from support.clock import ManualClock
from support.exchange_node import ExchangeNode, open_exchange_node
from support.made_records import indicators
from support.peer_simulator import PeerSimulator

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

ORIGIN = "ngo.example/hsf/v1/log/ncii/1"
INFO = "text/x.tlog.mirror-info"


@dataclass
class Hub:
    """A hub whose answers to uploads a test chooses; and who uploads to it."""

    laptop: ExchangeNode
    simulator: PeerSimulator
    uploader: Uploader
    descriptor: bytes | None = b"a note about us\n"
    asked: list[str] = field(default_factory=list)
    codings: list[str] = field(default_factory=list)
    note_status: int = 204
    bodies: Callable[[], web.Response] = lambda: web.Response(status=204)
    entries: Callable[[int, int], web.Response] = lambda _start, _end: web.Response()

    async def answer(self, request: web.Request) -> web.Response:
        kind = request.path.split("/add-")[1].split("/")[0]
        self.asked.append(kind)
        self.codings.append(request.headers["Content-Encoding"])
        if kind == "note":
            return web.Response(
                status=self.note_status, headers={"Accept-Encoding": "gzip, ZSTD;q=1"}
            )
        if kind == "bodies":
            return self.bodies()
        reader = AddEntriesReader()
        reader.feed(_decoded(await request.read(), self.codings[-1]))
        head = reader.read_head()
        assert head is not None
        return self.entries(head.upload_start, head.upload_end)

    def acknowledgement(self, signer: Ed25519Signer | None = None) -> web.Response:
        note = self.simulator.pushed[-1].split(b"\n\n", 1)[1]
        key = signer or self.simulator.mirror
        line = cosign(note, key, now=self.laptop.clock())
        return web.Response(body=line)

    async def push(self) -> None:
        self.laptop.clock.advance(301)
        await self.uploader.push_to("hub.example", ORIGIN)

    async def acknowledged_size(self) -> int:
        log = await self.laptop.log(ORIGIN)
        known = await self.laptop.read(
            lambda conn: deliveries.list_acknowledgements(conn, log.log_id)
        )
        return max((one.tree_size for one in known), default=0)

    async def codes(self) -> list[str]:
        return [one.code for one in await self.laptop.evidence()]


def _decoded(raw: bytes, coding: str) -> bytes:
    return gzip.decompress(raw) if coding == "gzip" else zstandard.decompress(raw)


def info(size: int, next_entry: int, status: int = 409) -> web.Response:
    body = encode_mirror_info(MirrorInfo(size, next_entry))
    return web.Response(status=status, body=body, headers={"Content-Type": INFO})


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[Hub]:
    clock = ManualClock()
    async with (
        open_exchange_node(tmp_path, "ngo.example", clock) as laptop,
        PeerSimulator("hub.example", clock).running() as simulator,
    ):
        await laptop.publisher.create_list("ncii", {})
        await laptop.publisher.publish("ncii", indicators(3))
        await laptop.peering.add_peer(simulator.base, simulator.vkey)
        await laptop.peering.grant("hub.example", "ncii")
        uploader = Uploader(
            database=laptop.database,
            client=laptop.client,
            pusher=laptop.pusher,
            clock=clock,
            notices=laptop.notices,
            upload_to=UploadTo(frozenset({"hub.example"}), lambda: made.descriptor),
        )
        made = Hub(laptop, simulator, uploader)
        simulator.play("nothing", made.answer)
        yield made


def honest(hub: Hub) -> None:
    """Lack everything at first, then have it."""
    hub.entries = lambda _, end: hub.acknowledgement() if end else info(4, 0)


async def test_an_honest_hub_is_told_of_us_then_brought_entries_and_bodies(
    hub: Hub,
) -> None:
    honest(hub)
    await hub.push()
    assert hub.asked == ["note", "note", "entries", "entries", "bodies"]
    # Every receiver takes gzip; this one said that it takes zstd as well.
    assert hub.codings[:2] == ["gzip", "zstd"]
    assert await hub.acknowledged_size() == 4
    assert await hub.codes() == []


async def test_what_was_said_is_not_said_again_until_it_is_news(hub: Hub) -> None:
    honest(hub)
    hub.descriptor = None
    await hub.push()
    await hub.push()
    assert hub.asked.count("note") == 1
    hub.descriptor = b"a newer note about us\n"
    await hub.push()
    assert hub.asked.count("note") == 2


async def test_an_acknowledgement_by_another_key_is_kept_as_evidence(
    hub: Hub,
) -> None:
    other = hub.simulator.witness
    hub.entries = lambda _, end: hub.acknowledgement(other) if end else info(4, 0)
    await hub.push()
    assert await hub.acknowledged_size() == 0
    assert len(await hub.codes()) == 1


async def test_a_hub_with_a_newer_mirror_key_is_no_liar(hub: Hub) -> None:
    honest(hub)
    hub.simulator.mirror = Ed25519Signer(
        hub.simulator.mirror.key.name, COSIGNATURE, b"\x05" * 32
    )
    hub.simulator.version += 1
    await hub.push()
    assert await hub.codes() == []
    assert await hub.acknowledged_size() == 4


@pytest.mark.parametrize(
    ("status", "body", "kind", "code"),
    [
        (409, b"9\n0\n\n", INFO, "rollback"),
        (202, b"9\n9\n\n", INFO, "rollback"),
        (409, b"4\n5\n\n", INFO, "malformed"),
        (202, b"four\n", INFO, "malformed"),
        (202, b"4\n0\n\n", "text/plain", "malformed"),
    ],
)
async def test_answers_that_cannot_be_are_evidence(
    hub: Hub, status: int, body: bytes, kind: str, code: str
) -> None:
    hub.entries = lambda _start, _end: web.Response(
        status=status, body=body, headers={"Content-Type": kind}
    )
    await hub.push()
    assert await hub.codes() == [code]
    assert await hub.acknowledged_size() == 0


async def test_a_hub_that_never_gets_further_does_not_keep_us_busy(hub: Hub) -> None:
    hub.entries = lambda _start, _end: info(4, 2, 202)
    await hub.push()
    assert hub.asked.count("entries") <= 5
    assert await hub.codes() == []
    asked = len(hub.asked)
    # It waits for its pause to be over.
    await hub.uploader.push_to("hub.example", ORIGIN)
    assert len(hub.asked) == asked


@pytest.mark.parametrize("status", [200, 408, 409, 503])
async def test_a_hub_in_trouble_is_tried_again_later(hub: Hub, status: int) -> None:
    hub.entries = lambda _start, _end: info(1, 0, status)
    await hub.push()
    assert await hub.codes() == []
    honest(hub)
    await hub.push()
    assert await hub.acknowledged_size() == 4


async def test_a_hub_that_lost_entries_is_brought_them_again(hub: Hub) -> None:
    honest(hub)
    hub.bodies = lambda: info(4, 0)
    await hub.push()
    assert await hub.codes() == []
    hub.bodies = lambda: web.Response(status=204)
    await hub.push()
    assert hub.asked[-3:] == ["entries", "entries", "bodies"]


async def test_a_hub_that_takes_no_uploads_is_left_alone(hub: Hub) -> None:
    hub.simulator.honest()
    await hub.push()
    assert hub.asked == []
    assert await hub.codes() == []
    assert hub.simulator.pushed == []


async def test_a_hub_that_forgot_the_list_is_told_again_once(hub: Hub) -> None:
    honest(hub)
    await hub.push()
    problem = b'{"type":"hsf:unknown-log","status":404}'
    kind = {"Content-Type": "application/problem+json"}
    hub.entries = lambda _start, _end: web.Response(
        status=404, body=problem, headers=kind
    )
    hub.asked.clear()
    await hub.push()
    assert hub.asked == ["entries", "note", "note", "entries"]


async def test_a_hub_that_refuses_the_list_is_not_asked_the_rest(hub: Hub) -> None:
    kind = {"Content-Type": "application/problem+json"}
    hub.entries = lambda _start, _end: web.Response(
        status=422, body=b'{"type":"hsf:bad-proof","status":422}', headers=kind
    )
    await hub.push()
    assert hub.asked.count("entries") == 1


async def test_a_strange_answer_to_a_note_is_evidence(hub: Hub) -> None:
    hub.note_status = 200
    await hub.push()
    assert await hub.codes() == ["malformed"]

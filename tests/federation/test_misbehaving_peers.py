"""Attacks by name: what one peer does is dealt with, and costs the others nothing.

A node exchanges lists with an honest peer, a real node, and with one that misbehaves:
as a server that it asks (`asked_*`, `ANSWERS`), or as a client that asks it. While the
attack goes on, records of the honest peer must arrive as before.
"""

from __future__ import annotations

import asyncio
import base64
import gzip
import random
import time
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import aiohttp
import pytest
import zstandard
from aiohttp import web
from yarl import URL

from hashlight_node.api import authentication
from hashlight_node.api.federation import quota
from hashlight_node.api.federation.quota import Share
from hashlight_node.exchange.following import follow as follow_module
from hashlight_node.exchange.following.budgets import Budget
from hashlight_node.metrics import render_metrics
from hashlight_node.model import Follow, FollowState
from hashlight_node.peers import transport
from hashlight_node.store import deliveries
from hashlight_node.store import peers as peer_store
from hashlight_node.store.database import Connection
from hashlight_protocol import (
    Checkpoint,
    HttpRequest,
    sign_checkpoint,
    sign_request,
)
from support.clock import ManualClock
from support.federation import Answer
from support.log_simulator import LogSimulator
from support.made_records import indicators
from support.nodes import Sender, make_sender
from support.peer_simulator import PeerSimulator
from support.running_companies import MakeCompany, RunningCompany, connect, until
from support.scripted_server import scripted

EVIL = "evil.example"
EVIL_ORIGIN = f"{EVIL}/hsf/v1/log/ncii/1"
MIB = 1024 * 1024
Act = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class Scene:
    """A node, its honest peer, and one that misbehaves.

    Attributes:
        alpha: The node under attack.
        shield: The honest peer.
        evil: What the node meets when it asks the other one.
        usual_seconds: How long a record of the honest peer takes without an attack.
        numbers: Of records that were not published yet.
    """

    alpha: RunningCompany
    shield: RunningCompany
    evil: PeerSimulator
    usual_seconds: float
    numbers: count[int]

    async def honest_round(self) -> float:
        """Publish a record at the honest peer; give the seconds until it matches.

        The honest peer pushes its checkpoint, and the node pulls the rest.
        """
        number = next(self.numbers)
        started = time.monotonic()
        publisher = self.shield.node.use_cases.publisher
        await publisher.publish("ncii", indicators(1, first=number))

        async def arrived() -> bool:
            return await self.alpha.matches(number) == 1

        await until(arrived)
        return time.monotonic() - started

    async def others_are_unaffected(self) -> None:
        """Check that the honest peer's records come as quickly as ever, or nearly."""
        for _ in range(3):
            seconds = await self.honest_round()
            assert seconds < max(10 * self.usual_seconds, 3)

    def ask_evil(self) -> None:
        self.alpha.node.foundation.notices.announced(EVIL, "ncii")

    async def follow(self) -> Follow:
        def read(conn: Connection) -> Follow:
            peer = peer_store.find_peer(conn, EVIL)
            assert peer is not None
            found = peer_store.find_follow(conn, peer.peer_id, "ncii")
            assert found is not None
            return found

        return await self.alpha.node.foundation.database.read(read)

    async def until_error(self, text: str) -> Follow:
        """Wait until the operator is told about the list of the misbehaving peer."""

        async def told() -> bool:
            return text in ((await self.follow()).error or "")

        await until(told, seconds=10)
        return await self.follow()

    async def evidence_codes(self) -> set[str]:
        found = await self.alpha.node.use_cases.inspect.evidence()
        assert {one.peer_name for one in found} <= {EVIL}
        return {one.code for one in found}


@pytest.fixture
async def scene(
    make_company: MakeCompany, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Scene]:
    # Patience is a matter of seconds; tests have less of it.
    monkeypatch.setattr(transport, "_HEAD_START_SECONDS", 1)
    monkeypatch.setattr(authentication, "_BODY_SECONDS", 1)
    alpha, shield = (
        await make_company("alpha.example"),
        await make_company("shield.example"),
    )
    await shield.node.use_cases.publisher.create_list("ncii", {})
    await connect(shield, alpha, "ncii")
    clock = ManualClock(int(time.time()))
    async with PeerSimulator(EVIL, clock).running() as evil:
        evil.create_list("ncii").publish(indicators(5, first=5000))
        made = Scene(alpha, shield, evil, 0, count(0))
        await made.honest_round()
        made.usual_seconds = max([await made.honest_round() for _ in range(3)])
        await alpha.node.use_cases.peering.add_peer(evil.base, evil.vkey)
        await alpha.node.use_cases.peering.follow(EVIL, "ncii")

        async def copied() -> bool:
            return await alpha.matches(5004) == 1

        await until(copied)
        evil.logs["ncii"].publish(indicators(5, first=6000))
        yield made


@asynccontextmanager
async def bounded_memory(mebibytes: int) -> AsyncIterator[None]:
    tracemalloc.start()
    try:
        yield
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < mebibytes * MIB


# ------------------------------------------------- attacks by answers, to be retried


def raw(content: bytes, *, then_hold: bool = False) -> Act:
    """Write exactly this to the connection, and close it or keep it open."""

    async def act(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.write(content)
        if then_hold:
            await asyncio.sleep(60)
        request.transport.close()
        return web.Response()

    return act


async def hang_up(request: web.Request) -> web.StreamResponse:
    if request.transport is not None:
        request.transport.abort()
    return web.Response()


async def trickle(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    with suppress(ConnectionError):  # The node has had enough.
        while True:
            await response.write(b"x")
            await asyncio.sleep(0.05)
    return await hang_up(request)


async def ask_for_patience(_: web.Request) -> web.StreamResponse:
    return web.Response(status=429, headers={"Retry-After": "999999"})


HEAD = b"HTTP/1.1 200 OK\r\n"
ANSWERS = {
    "slow-loris-body": trickle,
    "slow-loris-header": raw(HEAD + b"X-Slow: ", then_hold=True),
    "headers-of-64-kilobytes": raw(HEAD + b"X: " + b"a" * 65_536 + b"\r\n\r\n"),
    "ten-thousand-headers": raw(HEAD + b"X-A: b\r\n" * 10_000 + b"\r\n"),
    "chunked-nonsense": raw(HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nno\r\n"),
    "chunk-without-end": raw(
        HEAD + b"Transfer-Encoding: chunked\r\n\r\nfffffffffffffff\r\nno"
    ),
    "content-length-too-long": raw(HEAD + b"Content-Length: 999\r\n\r\nshort"),
    "content-length-twice": raw(
        HEAD + b"Content-Length: 5\r\nContent-Length: 9\r\n\r\nshort"
    ),
    "content-length-negative": raw(HEAD + b"Content-Length: -5\r\n\r\nshort"),
    "no-http-at-all": raw(b"\x16\x03\x01" + bytes(999)),
    "hanging-up": hang_up,
    "patience-for-days": ask_for_patience,
}
"""What a peer may send that shows no more than trouble."""


@pytest.mark.parametrize("kind", ["checkpoint", "bodies"])
@pytest.mark.parametrize("attack", ANSWERS)
async def test_an_answer_that_is_none_is_tried_again_later(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, attack: str, kind: str
) -> None:
    if attack == "slow-loris-header":
        # There is no body yet to be slow: the time for the whole answer bounds it.
        client = scene.alpha.node.foundation.client
        monkeypatch.setattr(client._transport, "_timeout_seconds", 2)  # noqa: SLF001
    scene.evil.play(kind, ANSWERS[attack])
    async with bounded_memory(64):
        scene.ask_evil()
        await scene.others_are_unaffected()
        follow = await scene.until_error("unavailable")
        await scene.others_are_unaffected()
    assert follow.state is not FollowState.QUARANTINED
    assert await scene.evidence_codes() == set()
    assert [await scene.alpha.matches(n) for n in (5000, 6000)] == [1, 0]


async def test_a_peer_that_behaves_again_is_copied_again_by_itself(
    scene: Scene,
) -> None:
    scene.evil.play("bodies", hang_up)
    scene.ask_evil()
    await scene.until_error("unavailable")
    scene.evil.honest()

    async def copied() -> bool:
        return await scene.alpha.matches(6004) == 1

    await until(copied)


# ------------------------------------------------- attacks by answers, with evidence


async def endless(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    with suppress(ConnectionError):
        while True:
            await response.write(bytes(65_536))
    return await hang_up(request)


def bomb(coding: str) -> Act:
    packed = gzip.compress(bytes(200 * MIB))
    if coding == "zstd":
        packed = zstandard.ZstdCompressor().compress(bytes(200 * MIB))

    async def act(_: web.Request) -> web.StreamResponse:
        return web.Response(body=packed, headers={"Content-Encoding": coding})

    return act


@pytest.mark.parametrize(
    ("kind", "attack"),
    [
        ("checkpoint", "endless"),
        ("entries", "endless"),
        ("bodies", "endless"),
        ("bodies", "gzip-bomb"),
        ("bodies", "zstd-bomb"),
    ],
)
async def test_more_than_any_answer_may_be_is_quarantined_with_evidence(
    scene: Scene, kind: str, attack: str
) -> None:
    act = endless if attack == "endless" else bomb(attack.partition("-")[0])
    scene.evil.play(kind, act)
    async with bounded_memory(64):
        scene.ask_evil()
        follow = await scene.until_error("misbehaves")
    await scene.others_are_unaffected()
    assert follow.state is FollowState.QUARANTINED
    assert await scene.evidence_codes() == {"too-large"}
    assert [await scene.alpha.matches(n) for n in (5000, 6000)] == [1, 0]


async def test_a_quarantined_list_goes_on_when_an_operator_releases_it(
    scene: Scene,
) -> None:
    scene.evil.play("entries", endless)
    scene.ask_evil()
    await scene.until_error("misbehaves")
    scene.evil.honest()
    await scene.alpha.node.use_cases.peering.release(EVIL)

    async def copied() -> bool:
        return await scene.alpha.matches(6004) == 1

    await until(copied)


async def test_a_log_that_claims_2_to_the_62_leaves_is_quarantined(
    scene: Scene,
) -> None:
    log = scene.evil.logs["ncii"]
    note = sign_checkpoint(Checkpoint(log.origin, 2**62, bytes(32)), [log.signer])
    scene.evil.tamper_body("checkpoint", lambda _: note)
    async with bounded_memory(64):
        scene.ask_evil()
        await scene.until_error("misbehaves")
    await scene.others_are_unaffected()
    assert await scene.evidence_codes() == {"too-large"}


async def test_a_list_that_grows_as_quickly_as_it_is_read_lets_others_have_their_turn(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    def budget_of_a_turn() -> Budget:
        now = asyncio.get_running_loop().time
        return Budget(seconds=60, byte_count=1, now=now)

    monkeypatch.setattr(follow_module, "budget_of_a_turn", budget_of_a_turn)
    log, numbers = scene.evil.logs["ncii"], count(7000, 300)
    served = 0

    async def grow(_: web.Request) -> web.StreamResponse:
        nonlocal served
        served += 1
        log.publish(indicators(300, first=next(numbers)))
        return web.Response(body=log.note())

    scene.evil.play("checkpoint", grow)
    scene.ask_evil()
    await scene.others_are_unaffected()

    async def goes_on() -> bool:
        return served >= 3

    await until(goes_on)
    assert (await scene.follow()).state is FollowState.ACTIVE


async def test_a_redirect_leads_nowhere_and_no_signature_is_sent_there(
    scene: Scene,
) -> None:
    async with scripted() as elsewhere:

        async def redirect(_: web.Request) -> web.StreamResponse:
            location = f"{elsewhere.base}/hsf/v1/log/ncii/1/checkpoint"
            return web.Response(status=308, headers={"Location": location})

        scene.evil.play("checkpoint", redirect)
        scene.ask_evil()
        await scene.until_error("redirect")
        await scene.others_are_unaffected()
        assert elsewhere.requests == []


async def test_a_peer_whose_clock_is_off_by_days_is_shown_and_recovers(
    scene: Scene,
) -> None:
    days = 3 * 86_400

    async def refuse(_: web.Request) -> web.StreamResponse:
        body = b'{"type":"hsf:clock-skew","status":403,"now":%d}'
        return web.Response(status=403, body=body % (time.time() + days))

    scene.evil.play("checkpoint", refuse)
    scene.ask_evil()
    follow = await scene.until_error("ahead of ours")
    assert follow.state is not FollowState.QUARANTINED
    clocks = scene.alpha.node.foundation.client.clocks
    offset = clocks.offset_seconds(EVIL)
    assert offset is not None
    assert abs(offset - days) < 60
    assert clocks.offset_seconds("shield.example") is None
    await scene.others_are_unaffected()

    scene.evil.honest()

    async def copied() -> bool:
        return await scene.alpha.matches(6004) == 1

    await until(copied)
    assert clocks.offset_seconds(EVIL) is None


# --------------------------------------------------------------- attacks by requests


@dataclass
class Attack:
    """The misbehaving peer as a client: it has keys, and writes what it likes."""

    scene: Scene
    sender: Sender
    session: aiohttp.ClientSession
    address: tuple[str, int]

    async def send(
        self, method: str, path: str, headers: dict[str, str], body: bytes = b""
    ) -> Answer:
        base = self.scene.alpha.settings.node.base
        async with self.session.request(
            method,
            URL(base + path, encoded=True),
            headers=headers,
            data=body or None,
            skip_auto_headers=("Content-Type", "Accept-Encoding"),
        ) as response:
            return Answer(
                response.status, response.headers.copy(), await response.read()
            )

    async def ask(self, method: str, path: str, body: bytes = b"") -> Answer:
        headers = self.sender.headers(method, path, body)
        return await self.send(method, path, headers, body)

    async def write(self, content: bytes, *, seconds: float = 10) -> bytes:
        """Write to a connection of its own; give what comes until it is closed."""
        reader, writer = await asyncio.open_connection(*self.address)
        try:
            async with asyncio.timeout(seconds):
                writer.write(content)
                await writer.drain()
                return await reader.read()
        except ConnectionError:
            return b""
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

    def head(self, method: str, path: str, *lines: str, body: bytes = b"") -> bytes:
        """Write the head of a signed request, with more lines as they are."""
        signed = self.sender.headers(method, path, body)
        host = f"{self.address[0]}:{self.address[1]}"
        fields = [f"{name}: {value}" for name, value in signed.items()]
        start = f"{method} {path} HTTP/1.1"
        text = "\r\n".join([start, f"Host: {host}", *fields, *lines, "", ""])
        return text.encode()


@pytest.fixture
async def attack(scene: Scene, tmp_path: Path) -> AsyncIterator[Attack]:
    settings = scene.alpha.settings
    clock = ManualClock(int(time.time()))
    sender = make_sender(tmp_path, "mallory.example", settings, clock)
    await scene.alpha.node.foundation.database.write(sender.pin)
    host, port = settings.node.authority.rsplit(":", 1)
    async with aiohttp.ClientSession(auto_decompress=False) as session:
        yield Attack(scene, sender, session, (host, int(port)))


GRANTS = "/hsf/v1/grants"
ADD = "/hsf/v1/witness/add-checkpoint"


async def test_the_same_request_a_hundred_times_changes_nothing(
    attack: Attack,
) -> None:
    headers = attack.sender.headers("GET", GRANTS)
    answers = [await attack.send("GET", GRANTS, headers) for _ in range(100)]
    assert {one.status for one in answers} == {200}
    assert len({one.body for one in answers}) == 1
    await attack.scene.others_are_unaffected()


@pytest.mark.parametrize("seconds", [-400, -86_400 * 3, 120, 86_400 * 3])
async def test_a_replay_outside_of_its_time_is_refused_and_told_the_time(
    attack: Attack, seconds: int
) -> None:
    attack.sender.clock.advance(seconds)
    headers = attack.sender.headers("GET", GRANTS)
    answers = [await attack.send("GET", GRANTS, headers) for _ in range(100)]
    assert {one.problem for one in answers} == {"clock-skew"}
    assert abs(answers[0].json()["now"] - time.time()) < 60
    await attack.scene.others_are_unaffected()


def pushed(log: LogSimulator, old_size: int, new_size: int) -> bytes:
    lines = [
        base64.b64encode(one).decode() + "\n" for one in log.proof(old_size, new_size)
    ]
    note = log.note(new_size)
    return f"old {old_size}\n{''.join(lines)}\n".encode() + note


async def test_pushes_that_are_reordered_doubled_and_late_end_at_the_newest(
    attack: Attack, scene: Scene
) -> None:
    """They are the honest pushes of a list, in any order and ten times each."""
    evil = scene.evil
    log = evil.logs["ncii"]
    pushes = [pushed(log, old, old + 1) for old in range(6, log.size)] * 10
    random.Random(7).shuffle(pushes)  # noqa: S311 -- to be the same each time
    statuses = set()
    for body in pushes:
        headers = _as_evil(attack, body)
        statuses.add((await attack.send("POST", ADD, headers, body)).status)
    assert statuses <= {200, 409}

    async def read_head() -> int:
        head = await scene.alpha.node.foundation.database.read(
            lambda conn: deliveries.known_head(conn, EVIL_ORIGIN)
        )
        return 0 if head is None else head.tree_size

    assert await read_head() == log.size
    late = pushed(log, 6, 7)
    answer = await attack.send("POST", ADD, _as_evil(attack, late), late)
    assert answer.status == 409
    assert await read_head() == log.size

    async def copied() -> bool:
        return await scene.alpha.matches(6004) == 1

    await until(copied)
    assert await scene.evidence_codes() == set()
    await scene.others_are_unaffected()


def _as_evil(attack: Attack, body: bytes) -> dict[str, str]:
    return sign_request(
        HttpRequest("POST", attack.sender.authority, ADD, body),
        content_type="text/plain; charset=utf-8",
        key_id=f"{EVIL}#h1",
        signer=attack.scene.evil.http,
        now=int(time.time()),
    )


REQUESTS: dict[str, Callable[[Attack], bytes]] = {
    "headers-of-64-kilobytes": lambda a: a.head("GET", GRANTS, "X: " + "a" * 65_536),
    "a-thousand-headers": lambda a: a.head("GET", GRANTS, *["X-A: b"] * 1000),
    "chunked-nonsense": lambda a: (
        a.head("POST", ADD, "Transfer-Encoding: chunked", body=b"x") + b"zz\r\nno\r\n"
    ),
    "content-length-and-chunked": lambda a: (
        a.head(
            "POST",
            ADD,
            "Transfer-Encoding: chunked",
            "Content-Length: 5",
            body=b"x",
        )
        + b"0\r\n\r\nGET /hsf/v1/grants HTTP/1.1\r\n\r\n"
    ),
    "content-length-too-long": lambda a: (
        a.head("POST", ADD, "Content-Length: 999", body=b"x") + b"short"
    ),
    "content-length-of-a-terabyte": lambda a: (
        a.head("POST", ADD, "Content-Length: 1099511627776", body=b"x") + b"short"
    ),
    "content-length-negative": lambda a: a.head(
        "POST", ADD, "Content-Length: -1", body=b"x"
    ),
    "no-http-at-all": lambda _: b"\x16\x03\x01" + bytes(500),
}


@pytest.mark.parametrize("name", REQUESTS)
async def test_a_request_that_is_none_is_refused_in_time(
    attack: Attack, name: str
) -> None:
    content = REQUESTS[name](attack)
    started = time.monotonic()
    async with bounded_memory(64):
        answer = await attack.write(content)
    assert time.monotonic() - started < 5
    assert answer == b"" or answer.startswith((b"HTTP/1.0 4", b"HTTP/1.1 4")), answer[
        :100
    ]
    assert answer.count(b"HTTP/1.") <= 1  # What was smuggled is not answered.
    assert b" 500 " not in answer
    await attack.scene.others_are_unaffected()


async def test_a_body_that_never_ends_is_given_up(attack: Attack) -> None:
    """What comes behind the limit is thrown away for two seconds, to say why."""
    head = attack.head("POST", ADD, "Transfer-Encoding: chunked", body=b"x")
    reader, writer = await asyncio.open_connection(*attack.address)
    chunk = b"10000\r\n" + bytes(65_536) + b"\r\n"
    started = time.monotonic()
    async with bounded_memory(64):
        writer.write(head)
        with suppress(ConnectionError):
            while time.monotonic() - started < 10:
                writer.write(chunk)
                await writer.drain()
                await asyncio.sleep(0.001)
    assert time.monotonic() - started < 6
    with suppress(ConnectionError):
        assert (await reader.read()).startswith(b"HTTP/1.1 413")
    writer.close()
    await attack.scene.others_are_unaffected()


async def test_a_body_that_comes_byte_by_byte_is_given_up(attack: Attack) -> None:
    head = attack.head("POST", ADD, "Content-Length: 1000", body=b"x" * 1000)
    _, writer = await asyncio.open_connection(*attack.address)
    writer.write(head)
    started = time.monotonic()
    with suppress(ConnectionError):
        while time.monotonic() - started < 10 and not writer.is_closing():
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.05)
    assert time.monotonic() - started < 8
    writer.close()
    await attack.scene.others_are_unaffected()


async def test_hundreds_of_idle_connections_hold_up_nobody(attack: Attack) -> None:
    idle = [await asyncio.open_connection(*attack.address) for _ in range(300)]
    for _, writer in idle:
        writer.write(b"GET ")
    await attack.scene.others_are_unaffected()
    assert (await attack.ask("GET", GRANTS)).status == 200
    for _, writer in idle:
        writer.close()


async def test_a_peer_that_asks_ten_times_its_share_is_told_to_wait(
    attack: Attack, monkeypatch: pytest.MonkeyPatch
) -> None:
    share = Share(requests=20, mebibytes=8, burst_seconds=5)
    monkeypatch.setattr(quota, "PEER_SHARE", share)
    flood = [attack.ask("GET", GRANTS) for _ in range(10)]
    answers = list(await asyncio.gather(*flood))
    for _ in range(100):
        answers += await asyncio.gather(*(attack.ask("GET", GRANTS) for _ in range(10)))
    refused = [one for one in answers if one.status == 429]
    assert {one.status for one in answers} == {200, 429}
    assert len(refused) > 500
    assert all(1 <= int(one.headers["Retry-After"]) <= 60 for one in refused)
    await attack.scene.others_are_unaffected()
    metrics = render_metrics(attack.scene.alpha.node.foundation.metrics).decode()
    assert 'hashlight_peer_throttled_total{peer="mallory.example"}' in metrics
    assert 'hashlight_peer_throttled_total{peer="shield.example"}' not in metrics


async def test_forged_requests_in_the_name_of_a_peer_use_up_nothing_of_it(
    attack: Attack, monkeypatch: pytest.MonkeyPatch
) -> None:
    share = Share(requests=10, mebibytes=1, burst_seconds=2)
    monkeypatch.setattr(quota, "STRANGERS_SHARE", share)
    key_id = f"shield.example#{attack.scene.shield.node.foundation.keyring.http_key_id}"
    forged = attack.sender.headers("GET", GRANTS, key_id=key_id)
    answers = [await attack.send("GET", GRANTS, forged) for _ in range(200)]
    assert {one.status for one in answers} == {403, 429}
    await attack.scene.others_are_unaffected()
    assert (await attack.ask("GET", GRANTS)).status == 200

"""Attacks on the way in, by name; each is refused and tells the attacker nothing."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import socket
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Any

import pytest
from multidict import CIMultiDict

from hashlight_node.api import authentication, server
from hashlight_node.api.errors import RateLimitedError
from hashlight_node.api.federation import gate
from hashlight_node.exchange.answering import serve
from hashlight_node.metrics import render_metrics
from hashlight_node.model import PeerState
from hashlight_node.store import peers as peer_store
from hashlight_protocol import (
    MAX_ADD_CHECKPOINT_BYTES,
    HttpKey,
    encode_content_digest,
    encode_vkey,
    open_descriptor,
    verify_public_key,
)
from support.nodes import make_sender, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from support.federation import Answer, World
    from support.nodes import Sender

GRANTS = "/hsf/v1/grants"
PUSH = "/hsf/v1/witness/add-checkpoint"
BODY = b"old 0\n\nnot a checkpoint\n"


async def get(world: World, change: Callable[[CIMultiDict[str]], Any]) -> Answer:
    """Send a good GET after changing its headers."""
    headers = CIMultiDict(world.peer.headers("GET", GRANTS))
    change(headers)
    return await world.send("GET", GRANTS, headers)


async def post(world: World, change: Callable[[CIMultiDict[str]], Any]) -> Answer:
    """Send a good POST after changing its headers."""
    headers = CIMultiDict(world.peer.headers("POST", PUSH, BODY))
    change(headers)
    return await world.send("POST", PUSH, headers, BODY)


def replaced(name: str, old: str, new: str) -> Callable[[CIMultiDict[str]], None]:
    def change(headers: CIMultiDict[str]) -> None:
        assert old in headers[name]
        headers[name] = headers[name].replace(old, new)

    return change


def added(name: str, value: str | None = None) -> Callable[[CIMultiDict[str]], None]:
    def change(headers: CIMultiDict[str]) -> None:
        headers.add(name, value or headers[name])

    return change


def appended(name: str, value: str) -> Callable[[CIMultiDict[str]], None]:
    def change(headers: CIMultiDict[str]) -> None:
        headers[name] = headers[name] + value

    return change


def without(name: str) -> Callable[[CIMultiDict[str]], Any]:
    return lambda headers: headers.popone(name)


async def test_a_signed_request_of_a_peer_passes(world: World) -> None:
    answer = await world.ask(GRANTS)
    assert answer.status == 200


async def test_a_signed_body_of_a_peer_reaches_the_handler(world: World) -> None:
    answer = await world.ask(PUSH, method="POST", body=BODY)
    assert (answer.status, answer.problem) == (400, "malformed")


FORM_ATTACKS: dict[str, Callable[[CIMultiDict[str]], Any]] = {
    "signature stripped, description left": without("Signature"),
    "algorithm swapped for HMAC": appended("Signature-Input", ';alg="hmac-sha256"'),
    "algorithm swapped for RSA": appended("Signature-Input", ';alg="rsa-pss-sha512"'),
    "algorithm none": appended("Signature-Input", ';alg="none"'),
    "second signature in the same field": appended(
        "Signature-Input", ', other=("@method");created=1;keyid="beta.example#h1"'
    ),
    "second signature value": appended("Signature", ", other=:AAAA:"),
    "Signature-Input twice": added("Signature-Input"),
    "Signature twice": added("Signature"),
    "label of another profile": replaced("Signature-Input", "hsf=(", "sig1=("),
    "tag of another profile": replaced("Signature-Input", "hsf-v1", "hsf-v2"),
    "tag left out": replaced("Signature-Input", ';tag="hsf-v1"', ""),
    "path not signed": replaced("Signature-Input", ' "@path"', ""),
    "authority not signed": replaced("Signature-Input", ' "@authority"', ""),
    "nothing signed": replaced("Signature-Input", '"@method" "@authority" "@path"', ""),
    "components in another order": replaced(
        "Signature-Input", '"@method" "@authority"', '"@authority" "@method"'
    ),
    "key id without a node": replaced("Signature-Input", "beta.example#", "#"),
    "key id without a key": replaced("Signature-Input", "#h1", ""),
    "created repeated": appended("Signature-Input", ";created=1"),
    "created left out": lambda headers: headers.update(
        {"Signature-Input": headers["Signature-Input"].replace("created", "expires")}
    ),
    "signature cut": replaced("Signature", "==:", ":"),
}


async def test_what_is_not_of_the_profile_is_refused(world: World) -> None:
    for attack, change in FORM_ATTACKS.items():
        answer = await get(world, change)
        told = (attack, answer.status, answer.problem)
        assert told == (attack, 403, "auth-invalid")


BODY_ATTACKS: dict[str, Callable[[CIMultiDict[str]], Any]] = {
    "digest left out": without("Content-Digest"),
    "digest twice": added("Content-Digest"),
    "digest too long": replaced("Content-Digest", "sha-256=:", "sha-256=:A"),
    "digest of another kind": replaced("Content-Digest", "sha-256", "md5"),
    "content type left out": without("Content-Type"),
    "body not signed": replaced(
        "Signature-Input", ' "content-digest" "content-type"', ""
    ),
    "type not signed": replaced("Signature-Input", ' "content-type"', ""),
}


async def test_a_body_that_is_not_the_signed_one_is_refused(world: World) -> None:
    for attack, change in BODY_ATTACKS.items():
        answer = await post(world, change)
        told = (attack, answer.status, answer.problem)
        assert told == (attack, 403, "auth-invalid")


async def test_digest_altered_on_the_way(world: World) -> None:
    def of_another_body(headers: CIMultiDict[str]) -> None:
        headers["Content-Digest"] = encode_content_digest(b"another")

    answer = await post(world, of_another_body)
    assert (answer.status, answer.problem) == (403, "unknown-peer")


async def test_content_type_twice(world: World) -> None:
    # Refused where HTTP is parsed, before anything of ours sees it.
    answer = await post(world, added("Content-Type", "text/html"))
    assert (answer.status, answer.problem) == (400, "malformed")


async def test_stripped_signature(world: World) -> None:
    for path, method in ((GRANTS, "GET"), (PUSH, "POST"), ("/hsf/v1/nothing", "GET")):
        answer = await world.send(method, path)
        assert (answer.status, answer.problem) == (403, "auth-missing")


async def test_body_altered_on_the_way(world: World) -> None:
    headers = world.peer.headers("POST", PUSH, BODY)
    answer = await world.send("POST", PUSH, headers, BODY.replace(b"0", b"1"))
    assert (answer.status, answer.problem) == (403, "auth-invalid")


async def test_body_and_digest_altered_on_the_way(world: World) -> None:
    altered = BODY.replace(b"0", b"1")
    headers = world.peer.headers("POST", PUSH, BODY)
    headers["Content-Digest"] = encode_content_digest(altered)
    answer = await world.send("POST", PUSH, headers, altered)
    assert (answer.status, answer.problem) == (403, "unknown-peer")


async def test_content_type_altered_on_the_way(world: World) -> None:
    answer = await post(world, replaced("Content-Type", "plain", "html"))
    assert (answer.status, answer.problem) == (403, "unknown-peer")


async def test_signature_by_another_key(world: World) -> None:
    claimed = f"{world.peer.name}#h1"
    headers = world.stranger.headers("GET", GRANTS, key_id=claimed)
    answer = await world.send("GET", GRANTS, headers)
    assert (answer.status, answer.problem) == (403, "unknown-peer")


async def test_public_key_used_as_hmac_secret(world: World) -> None:
    headers = CIMultiDict(world.peer.headers("GET", GRANTS))
    secret = world.peer.keyring.http.key.public_key
    forged = hmac.new(secret, headers["Signature-Input"].encode(), hashlib.sha512)
    headers["Signature"] = f"hsf=:{base64.b64encode(forged.digest()).decode()}:"
    answer = await world.send("GET", GRANTS, headers)
    assert (answer.status, answer.problem) == (403, "unknown-peer")


async def test_request_meant_for_another_node(world: World) -> None:
    headers = world.peer.headers("GET", GRANTS, authority="other.example")
    for host in ({}, {"Host": "other.example"}):
        answer = await world.send("GET", GRANTS, {**headers, **host})
        assert (answer.status, answer.problem) == (403, "unknown-peer")


async def test_the_host_field_is_not_asked(world: World) -> None:
    signed = world.peer.headers("GET", GRANTS)
    answer = await world.send("GET", GRANTS, {**signed, "Host": "other.example"})
    assert answer.status == 200


async def test_signature_moved_to_another_path(world: World) -> None:
    headers = world.peer.headers("GET", "/hsf/v1/lists/ncii")
    answer = await world.send("GET", GRANTS, headers)
    assert (answer.status, answer.problem) == (403, "unknown-peer")


async def test_signature_moved_to_another_method(world: World) -> None:
    headers = world.peer.headers("GET", GRANTS)
    answer = await world.send("HEAD", GRANTS, headers)
    assert answer.status == 403


async def test_head_is_signed_as_head(world: World) -> None:
    answer = await world.ask(GRANTS, method="HEAD")
    assert (answer.status, answer.body) == (200, b"")


@pytest.mark.parametrize("seconds", [-301, -86_400, 61, 86_400])
async def test_replay_outside_the_window(world: World, seconds: int) -> None:
    headers = world.peer.headers("GET", GRANTS)
    world.clock.now -= seconds
    answer = await world.send("GET", GRANTS, headers)
    assert (answer.status, answer.problem) == (403, "clock-skew")


@pytest.mark.parametrize("seconds", [-300, 60])
async def test_a_clock_that_is_a_little_off_is_no_attack(
    world: World, seconds: int
) -> None:
    headers = world.peer.headers("GET", GRANTS)
    world.clock.now -= seconds
    assert (await world.send("GET", GRANTS, headers)).status == 200


@pytest.mark.parametrize(
    "target",
    [
        f"{GRANTS}?all=1",
        "/hsf/v1/%67rants",
        "/hsf//v1/grants",
        "//hsf/v1/grants",
        "/.well-known/hsf?x=1",
    ],
)
async def test_second_spelling_of_a_target(world: World, target: str) -> None:
    headers = world.peer.headers("GET", GRANTS)
    answer = await world.send("GET", target, headers)
    assert (answer.status, answer.problem) == (400, "malformed")


async def send_raw(world: World, *pieces: bytes) -> bytes:
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", world.running.federation_port
    )
    try:
        for piece in pieces:
            writer.write(piece)
            await asyncio.sleep(0.1)
        return await asyncio.wait_for(reader.read(), 5)
    finally:
        writer.close()


def signed_head(world: World, field: str) -> bytes:
    """Write a request of the peer up to its body, with one more field."""
    signed = world.peer.headers("POST", PUSH, BODY)
    fields = ["Host: x", "Connection: close", field]
    fields += [f"{name}: {value}" for name, value in signed.items()]
    lines = "\r\n".join([f"POST {PUSH} HTTP/1.1", *fields])
    return f"{lines}\r\n\r\n".encode()


RAW_TARGETS = {
    "method in lower case": ("get", GRANTS),
    "empty query": ("GET", f"{GRANTS}?"),
    "empty fragment": ("GET", f"{GRANTS}#"),
    "whole URL": ("GET", f"http://other.example{GRANTS}"),
    "dots": ("GET", f"/hsf/v1/x/..{GRANTS.removeprefix('/hsf/v1')}"),
    "parameters": ("GET", f"{GRANTS};a=1"),
    "backslash": ("GET", "/hsf/v1\\grants"),
    "long": ("GET", "/hsf" * 300),
}


async def test_target_or_method_that_no_honest_sender_writes(world: World) -> None:
    signed = world.peer.headers("GET", GRANTS)
    lines = ["Host: x", "Connection: close", *(f"{k}: {v}" for k, v in signed.items())]
    for case, (method, target) in RAW_TARGETS.items():
        head = "\r\n".join([f"{method} {target} HTTP/1.1", *lines])
        answer = await send_raw(world, f"{head}\r\n\r\n".encode())
        assert b" 400 " in answer.splitlines()[0], case
        assert b"hsf:malformed" in answer, case


async def test_key_id_of_another_peer(world: World, tmp_path: Path) -> None:
    other = make_sender(tmp_path, "alpha.example", world.settings, world.clock)
    await world.pinned(other)
    headers = other.headers("GET", GRANTS, key_id=f"{world.peer.name}#h1")
    answer = await world.send("GET", GRANTS, headers)
    assert (answer.status, answer.problem) == (403, "unknown-peer")
    assert (await world.ask(GRANTS, sender=other)).status == 200


async def refusals(world: World) -> dict[str, Answer]:
    """Collect every refusal that depends on whether somebody is a peer."""
    headers = world.peer.headers
    stranger = world.stranger.headers
    claimed = f"{world.peer.name}#h1"
    answers = {
        "stranger": await world.send("GET", GRANTS, stranger("GET", GRANTS)),
        "forged": await world.send(
            "GET", GRANTS, stranger("GET", GRANTS, key_id=claimed)
        ),
        "unknown key": await world.send(
            "GET", GRANTS, headers("GET", GRANTS, key_id=f"{world.peer.name}#h9")
        ),
    }
    database = world.running.foundation.database
    peer = await database.read(lambda conn: peer_store.find_peer(conn, "beta.example"))
    assert peer is not None
    await database.write(
        lambda conn: peer_store.set_peer_state(
            conn, peer.peer_id, PeerState.QUARANTINED
        )
    )
    answers["quarantine"] = await world.send("GET", GRANTS, headers("GET", GRANTS))
    answers["forged in quarantine"] = await world.send(
        "GET", GRANTS, stranger("GET", GRANTS, key_id=claimed)
    )
    return answers


async def test_a_stranger_cannot_find_out_who_is_a_peer(world: World) -> None:
    answers = await refusals(world)
    told = {name: answer.said for name, answer in answers.items()}
    assert {answer.problem for answer in answers.values()} == {"unknown-peer"}
    assert all(said == told["stranger"] for said in told.values())


async def test_a_stranger_cannot_find_out_who_is_a_peer_by_a_wrong_form(
    world: World,
) -> None:
    told = []
    for sender in (world.peer, world.stranger):
        headers = CIMultiDict(sender.headers("GET", GRANTS))
        headers.popone("Signature")
        told.append((await world.send("GET", GRANTS, headers)).said)
    assert told[0] == told[1]


def test_the_key_that_stands_in_for_a_stranger_is_a_key_that_nobody_has() -> None:
    verify_public_key(authentication._NOBODY)  # noqa: SLF001 -- see its comment


async def update(world: World, sender: Sender, *keys: HttpKey) -> None:
    raw = sender.descriptor(*keys)
    opened = open_descriptor(raw, sender.keyring.identity.key)
    database = world.running.foundation.database
    peer = await database.read(lambda conn: peer_store.find_peer(conn, sender.name))
    assert peer is not None
    await database.write(
        lambda conn: peer_store.update_descriptor(
            conn, peer.peer_id, raw, opened.version, opened.base
        )
    )


async def test_rotated_key_and_key_taken_back(world: World) -> None:
    assert (await world.ask(GRANTS)).status == 200
    spare = HttpKey("h2", world.stranger.keyring.http.key.public_key)
    old = HttpKey("h1", world.peer.keyring.http.key.public_key)
    as_spare = world.stranger.headers("GET", GRANTS, key_id=f"{world.peer.name}#h2")
    assert (await world.send("GET", GRANTS, as_spare)).status == 403
    await update(world, world.peer, old, spare)
    assert (await world.send("GET", GRANTS, as_spare)).status == 200
    assert (await world.ask(GRANTS)).status == 200
    await update(world, world.peer, spare)
    assert (await world.send("GET", GRANTS, as_spare)).status == 200
    assert (await world.ask(GRANTS)).problem == "unknown-peer"


@pytest.mark.parametrize("path", [GRANTS, "/.well-known/hsf", "/hsf/v1/lists/ncii"])
async def test_body_where_none_belongs(world: World, path: str) -> None:
    headers = world.peer.headers("GET", path, b"x")
    answer = await world.send("GET", path, headers, b"x")
    assert (answer.status, answer.problem) == (400, "malformed")


async def test_compressed_body(world: World) -> None:
    headers = world.peer.headers("POST", PUSH, BODY)
    for coding in ("gzip", "zstd", "identity"):
        coded = {**headers, "Content-Encoding": coding}
        answer = await world.send("POST", PUSH, coded, BODY)
        assert (answer.status, answer.problem) == (415, "unsupported-media")


async def test_oversized_body_that_says_so_is_not_read(world: World) -> None:
    head = signed_head(world, f"Content-Length: {MAX_ADD_CHECKPOINT_BYTES + 1}")
    answer = await send_raw(world, head)
    assert b" 413 " in answer.splitlines()[0]
    assert b"hsf:too-large" in answer


async def test_oversized_body_that_does_not_say_so_is_not_read_to_its_end(
    world: World,
) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 1
            yield b"x" * 65_536

    headers = world.peer.headers("POST", PUSH, BODY)
    try:
        answer = await world.send("POST", PUSH, headers, endless())
        assert (answer.status, answer.problem) == (413, "too-large")
    except OSError:
        pass  # The node hung up while we were still sending.
    assert sent < 1000


async def test_slow_body(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(authentication, "_BODY_SECONDS", 0.1)
    head = signed_head(world, "Content-Length: 100")
    answer = await send_raw(world, head + b"old 0\n")
    assert b" 408 " in answer.splitlines()[0]
    assert b"hsf:slow-body" in answer


async def test_broken_chunks(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(authentication, "_BODY_SECONDS", 0.3)
    head = signed_head(world, "Transfer-Encoding: chunked")
    at_once = await send_raw(world, head + b"zz\r\n")
    assert b" 400 " in at_once.splitlines()[0]
    assert b"hsf:malformed" in at_once
    # Once the handler waits for the body, aiohttp tells it nothing of the breach.
    later = await send_raw(world, head, b"zz\r\n")
    assert b" 408 " in later.splitlines()[0]
    assert b"hsf:slow-body" in later


async def test_sender_that_hangs_up_in_the_middle_of_a_body(world: World) -> None:
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", world.running.federation_port
    )
    writer.write(signed_head(world, "Content-Length: 9") + b"old")
    await asyncio.sleep(0.1)
    writer.close()
    await writer.wait_closed()
    assert await reader.read() == b""
    assert (await world.ask(GRANTS)).status == 200
    text = render_metrics(world.running.foundation.metrics).decode()
    assert 'reason="internal"' not in text


async def test_strangers_who_hold_bodies_back_hold_nothing(world: World) -> None:
    head = signed_head(world, "Content-Length: 9")
    unsigned = f"POST {PUSH} HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n".encode()
    forged = head.replace(b"/add-checkpoint", b"/other")
    unknown = head.replace(b'"beta.example#', b'"nobody.example#')
    for stranger, code in (
        (unsigned, b"hsf:auth-missing"),
        (forged, b"hsf:unknown-peer"),
        (unknown, b"hsf:unknown-peer"),
    ):
        connections = [
            await asyncio.open_connection("127.0.0.1", world.running.federation_port)
            for _ in range(70)
        ]
        for _, writer in connections:
            writer.write(stranger)
        for reader, _ in connections:
            # Answered although the body never comes.
            await asyncio.wait_for(reader.readuntil(code), 5)
        assert (await world.ask(GRANTS)).status == 200
        for _, writer in connections:
            writer.close()


async def test_the_bodies_of_one_peer_are_limited(world: World, tmp_path: Path) -> None:
    other = make_sender(tmp_path, "alpha.example", world.settings, world.clock)
    await world.pinned(other)
    writers, answers = [], []
    for _ in range(authentication.CONCURRENT_REQUESTS + 1):
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", world.running.federation_port
        )
        writer.write(signed_head(world, "Content-Length: 9"))
        writers.append(writer)
        answers.append(asyncio.create_task(reader.readuntil(b"\r\n\r\n")))
    (crowded,), waiting = await asyncio.wait(
        answers, timeout=10, return_when=asyncio.FIRST_COMPLETED
    )
    assert b" 429 " in crowded.result().splitlines()[0]
    assert (await world.ask(GRANTS, sender=other)).status == 200
    for writer in writers:
        writer.close()
    await asyncio.gather(*waiting, return_exceptions=True)


async def ask_and_not_read(world: World) -> socket.socket:
    """Ask for a large answer with little room for it."""
    path = "/hsf/v1/lists/own"
    signed = world.peer.headers("GET", path)
    fields = "".join(f"{name}: {value}\r\n" for name, value in signed.items())
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    made.setblocking(False)  # noqa: FBT003 -- the only way to say it
    loop = asyncio.get_running_loop()
    await loop.sock_connect(made, ("127.0.0.1", world.running.federation_port))
    head = f"GET {path} HTTP/1.1\r\nHost: x\r\n{fields}\r\n".encode()
    await loop.sock_sendall(made, head)
    return made


async def test_an_answer_that_is_not_read_keeps_its_place(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    answered: list[bytes] = []

    async def counted_note(*_: object) -> bytes:
        answered.append(await large_note())
        return answered[-1]

    monkeypatch.setattr(serve.Serving, "list_note", counted_note)
    places = authentication.CONCURRENT_REQUESTS

    async def all_are_answered() -> bool:
        return len(answered) == places

    async def is_answered(status: int) -> bool:
        return (await world.ask(GRANTS)).status == status

    with ExitStack() as sockets:
        first, *_ = [
            sockets.enter_context(await ask_and_not_read(world)) for _ in range(places)
        ]
        # Not asked before: the question would take the place of the last of them.
        await until(all_are_answered)
        assert await is_answered(429)
        first.close()
        await until(lambda: is_answered(200))


async def test_an_answer_that_is_not_read_is_given_up(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serve.Serving, "list_note", large_note)
    monkeypatch.setattr(gate, "_WRITE_SECONDS", 0.2)
    slow = await ask_and_not_read(world)
    await asyncio.sleep(1)
    received = 0
    with suppress(ConnectionError):
        while chunk := await asyncio.get_running_loop().sock_recv(slow, 1 << 20):
            received += len(chunk)
    assert received < 16 << 20
    slow.close()


async def large_note(*_: object) -> bytes:
    """Stand for what is larger than the system's own buffers."""
    return bytes(16 << 20)


async def test_connections_are_limited(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (await world.ask(GRANTS)).status == 200
    monkeypatch.setattr(server, "_MOST_CONNECTIONS", 2)
    port = world.running.federation_port
    one = await asyncio.open_connection("127.0.0.1", port)
    two = await asyncio.open_connection("127.0.0.1", port)
    with suppress(ConnectionError):
        assert await asyncio.wait_for(two[0].read(), 5) == b""
    assert (await world.ask(GRANTS)).status == 200
    for _, writer in (one, two):
        writer.close()


def test_a_caller_has_its_places_and_no_more() -> None:
    limit = authentication.ConcurrencyLimit(16)
    for caller in range(2):
        with pytest.raises(RateLimitedError):
            enter_many(limit, caller, 17)
        enter_many(limit, caller, 16)
    assert not limit._under_way  # noqa: SLF001 -- nothing may be left behind


def enter_many(
    limit: authentication.ConcurrencyLimit, caller: object, count: int
) -> None:
    if count:
        with limit.enter(caller):
            enter_many(limit, caller, count - 1)


async def test_nobody_is_a_peer_whose_descriptor_is_not_known(world: World) -> None:
    database = world.running.foundation.database
    await database.write(
        lambda conn: peer_store.insert_peer(
            conn,
            name=world.stranger.name,
            base="",
            identity_vkey=encode_vkey(world.stranger.keyring.identity.key),
            descriptor=b"",
            descriptor_version=0,
            added_at=0,
            is_dialable=False,
        )
    )
    headers = world.stranger.headers("GET", GRANTS)
    answer = await world.send("GET", GRANTS, headers)
    assert (answer.status, answer.problem) == (403, "unknown-peer")

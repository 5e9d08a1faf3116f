"""News that arrives in the middle of something, readers in the way, damaged stores."""

from __future__ import annotations

import asyncio
import base64
from pathlib import Path

import pytest
from aiohttp import web
from sqlalchemy import update

from hashlight_node.exchange.logs import scrubbing
from hashlight_node.exchange.telling import acknowledgements
from hashlight_node.model import LogState
from hashlight_node.peers.errors import PeerMisbehavedError
from hashlight_node.store import deliveries, tables
from hashlight_node.store.database import Connection
from hashlight_node.store.errors import ScrubError
from hashlight_protocol import BadProofError, KnownHead, Reason
from support.exchange_node import ExchangeNode
from support.log_simulator import LogSimulator
from support.made_records import indicator, indicators
from support.peer_simulator import PeerSimulator
from support.stores import reading

Pair = tuple[ExchangeNode, PeerSimulator]
ORIGIN = "alpha.example/hsf/v1/log/ours/1"


def submission(log: LogSimulator, old_size: int) -> bytes:
    proof = log.proof(old_size, log.size)
    lines = [f"old {old_size}", *(base64.b64encode(one).decode() for one in proof)]
    return "\n".join(lines).encode() + b"\n\n" + log.note()


async def announce(alpha: ExchangeNode, log: LogSimulator) -> None:
    known = await alpha.read(lambda conn: deliveries.known_head(conn, log.origin))
    old_size = 0 if known is None else known.tree_size
    peer = await alpha.peer("shield.example")
    await alpha.witness.add_checkpoint(peer, submission(log, old_size))


async def test_news_during_a_pull_is_left_to_the_next(following: Pair) -> None:
    alpha, shield = following
    log = shield.logs["ncii"]
    log.publish(indicators(3))
    news = 2

    async def act(request: web.Request) -> web.Response:
        nonlocal news
        tile = shield._answer(request.path, b"").body  # noqa: SLF001 -- honest answer
        if news:
            news -= 1
            log.publish(indicators(1, first=100 + news))
            await announce(alpha, log)
        return web.Response(body=tile)

    shield.play("tile", act)
    reports = [await alpha.follower.sync("shield.example", "ncii") for _ in range(3)]
    assert [report.new_size for report in reports] == [4, 5, 6]
    assert shield.kinds_asked().count("checkpoint") == 3
    assert await alpha.evidence() == []
    head = await alpha.read(lambda conn: deliveries.known_head(conn, log.origin))
    assert head == KnownHead(6, log.root())


async def test_news_of_what_is_being_pulled_is_a_step_to_it(following: Pair) -> None:
    """A push that was slow brings a size between what we knew and what we saw."""
    alpha, shield = following
    log = shield.logs["ncii"]
    await alpha.follower.sync("shield.example", "ncii")
    log.publish(indicators(3))
    late = submission(log, 1)
    log.publish(indicators(300, first=3))
    peer = await alpha.peer("shield.example")

    async def act(request: web.Request) -> web.Response:
        shield.honest()
        await alpha.witness.add_checkpoint(peer, late)
        return web.Response(body=shield._answer(request.path, b"").body)  # noqa: SLF001 -- honest answer

    shield.play("tile", act)
    report = await alpha.follower.sync("shield.example", "ncii")
    assert report.new_size == log.size == 304
    assert shield.kinds_asked().count("checkpoint") == 2
    assert await alpha.evidence() == []


async def test_a_fork_announced_during_a_pull_is_noticed(following: Pair) -> None:
    """What is pulled and what is announced have one size and different roots."""
    alpha, shield = following
    log = shield.logs["ncii"]
    await alpha.follower.sync("shield.example", "ncii")
    fork = LogSimulator(log.origin)
    fork.signer = log.signer
    log.publish(indicators(2))
    fork.publish(indicators(2, first=50))
    peer = await alpha.peer("shield.example")
    forked = submission(fork, 1)

    async def act(request: web.Request) -> web.Response:
        shield.honest()
        await alpha.witness.add_checkpoint(peer, forked)
        return web.Response(body=shield._answer(request.path, b"").body)  # noqa: SLF001 -- honest answer

    shield.play("tile", act)
    with pytest.raises(PeerMisbehavedError):
        await alpha.follower.sync("shield.example", "ncii")
    (evidence,) = await alpha.evidence()
    assert evidence.code == "split-view"
    assert await alpha.matches(0) == 0


async def test_a_fork_announced_beyond_a_pull_is_noticed_by_the_next(
    following: Pair,
) -> None:
    alpha, shield = following
    log = shield.logs["ncii"]
    await alpha.follower.sync("shield.example", "ncii")
    fork = LogSimulator(log.origin)
    fork.signer = log.signer
    log.publish(indicators(2))
    fork.publish(indicators(3, first=50))
    peer = await alpha.peer("shield.example")
    forked = submission(fork, 1)

    async def act(request: web.Request) -> web.Response:
        shield.honest()
        await alpha.witness.add_checkpoint(peer, forked)
        return web.Response(body=shield._answer(request.path, b"").body)  # noqa: SLF001 -- honest answer

    shield.play("tile", act)
    await alpha.follower.sync("shield.example", "ncii")
    log.publish(indicators(2, first=2))
    with pytest.raises(PeerMisbehavedError):
        await alpha.follower.sync("shield.example", "ncii")
    assert (await alpha.log(log.origin)).state is LogState.QUARANTINED


async def test_news_while_the_checkpoint_is_on_its_way_is_no_rollback(
    following: Pair,
) -> None:
    alpha, shield = following
    log = shield.logs["ncii"]
    log.publish(indicators(3))
    await alpha.follower.sync("shield.example", "ncii")
    log.publish(indicators(1, first=3))

    async def act(_: web.Request) -> web.Response:
        answered = log.note()
        shield.honest()
        log.publish(indicators(1, first=4))
        await announce(alpha, log)
        return web.Response(body=answered)

    shield.play("checkpoint", act)
    await alpha.follower.sync("shield.example", "ncii")
    report = await alpha.follower.sync("shield.example", "ncii")
    assert report.new_size == 6
    assert await alpha.evidence() == []
    assert (await alpha.log(log.origin)).state is LogState.ACTIVE


async def test_a_log_that_never_stands_still_is_copied_all_the_same(
    following: Pair,
) -> None:
    alpha, shield = following
    log = shield.logs["ncii"]

    async def act(request: web.Request) -> web.Response:
        tile = shield._answer(request.path, b"").body  # noqa: SLF001 -- honest answer
        log.publish(indicators(1, first=log.size))
        await announce(alpha, log)
        return web.Response(body=tile)

    shield.play("tile", act)
    sizes: list[int] = []
    for _ in range(4):
        report = await alpha.follower.sync("shield.example", "ncii")
        sizes.append(report.new_size)
    assert sizes == sorted(set(sizes))
    assert await alpha.evidence() == []


async def test_what_was_announced_is_still_to_be_fetched(following: Pair) -> None:
    alpha, shield = following
    log = shield.logs["ncii"]
    log.publish(indicators(300))
    await announce(alpha, log)
    head = await alpha.read(lambda conn: deliveries.known_head(conn, log.origin))
    assert head == KnownHead(301, log.root())
    report = await alpha.follower.sync("shield.example", "ncii")
    assert report.new_size == 301


async def test_an_erasure_waits_for_readers_to_let_go(
    alpha: ExchangeNode, tmp_path: Path
) -> None:
    await alpha.publisher.create_list("ours", {})
    secret = indicator(1, kind="the-kind-that-will-be-erased")
    (ref,) = await alpha.publisher.publish("ours", [secret])
    with reading(tmp_path / "alpha"):
        erasing = asyncio.create_task(
            alpha.publisher.withdraw(ref, "erase", Reason.WITHDRAWN)
        )
        await asyncio.sleep(0.3)
        assert not erasing.done()
    await erasing
    for path in (tmp_path / "alpha").glob("hashlight.db*"):
        assert b"the-kind-that-will-be-erased" not in path.read_bytes()


async def test_no_erasure_is_acknowledged_before_its_bytes_are_gone(
    following: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alpha, shield = following
    log = shield.logs["ncii"]
    (index,) = log.publish([indicator(1, kind="the-kind-that-will-be-erased")])
    await alpha.follower.sync("shield.example", "ncii")
    log.erase(index)
    monkeypatch.setattr(scrubbing, "_PAUSES_SECONDS", (0.01,))
    with reading(tmp_path / "alpha"):
        with pytest.raises(ScrubError):
            await alpha.follower.sync("shield.example", "ncii")

        copy = await alpha.log(log.origin)
        assert (copy.tree_size, copy.checkpoint_size) == (3, 2)
        assert await alpha.matches(1) == 0
        (failed,) = await alpha.follower.sync_all()
        assert failed.error is not None

    report = await alpha.follower.sync("shield.example", "ncii")
    assert report.error is None
    assert (await alpha.log(log.origin)).checkpoint_size == 3
    for path in (tmp_path / "alpha").glob("hashlight.db*"):
        assert b"the-kind-that-will-be-erased" not in path.read_bytes()


async def test_nothing_is_signed_on_top_of_a_damaged_store(
    alpha: ExchangeNode,
) -> None:
    log = await alpha.publisher.create_list("ours", {})

    def damage(conn: Connection) -> None:
        conn.execute(update(tables.tiles).values(hashes=bytes(32)))

    await alpha.database.write(damage)
    with pytest.raises(BadProofError, match="do not give its root"):
        await alpha.publisher.publish("ours", indicators(1))
    assert (await alpha.log(ORIGIN)).checkpoint == log.checkpoint


async def test_an_older_note_that_arrives_late_does_not_replace_a_newer(
    following: Pair,
) -> None:
    alpha, shield = following
    peer = await alpha.peer("shield.example")
    old = shield.list_note("ncii")
    shield.list_versions["ncii"] = 2
    new = shield.list_note("ncii")
    gates = [asyncio.Event(), asyncio.Event()]
    answers = iter([(gates[0], old), (gates[1], new)])

    async def act(_: web.Request) -> web.Response:
        gate, note = next(answers)
        await gate.wait()
        return web.Response(body=note)

    shield.play("list-note", act)
    late = asyncio.create_task(alpha.list_notes.refresh(peer, "ncii"))
    await asyncio.sleep(0.05)
    first = asyncio.create_task(alpha.list_notes.refresh(peer, "ncii"))
    await asyncio.sleep(0.05)
    gates[1].set()
    await first
    gates[0].set()
    assert (await late).note.version == 2
    assert (await alpha.list_notes.current(peer, "ncii")).note.version == 2


async def test_a_peer_that_acknowledges_late_is_asked_again_and_again(
    alpha: ExchangeNode, shield: PeerSimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At first it does not copy the log, then it lags behind, then it has all."""
    monkeypatch.setattr(acknowledgements, "_PAUSE_SECONDS", 0)
    monkeypatch.setattr(acknowledgements, "_REFUSALS", (0, 0, 0))
    await alpha.peering.add_peer(shield.base, shield.vkey)
    log = await alpha.publisher.create_list("ours", {})
    await alpha.peering.grant("shield.example", "ours")
    await alpha.publisher.publish("ours", indicators(1))
    steps = iter([None, log.checkpoint, (await alpha.log(ORIGIN)).checkpoint])

    async def act(request: web.Request) -> web.Response:
        note = next(steps)
        if note is None:
            return web.Response(status=404, body=b'{"type":"hsf:unknown-log"}')
        shield.acknowledge(note)
        answer = shield._answer(request.path, b"")  # noqa: SLF001 -- honest answer
        return web.Response(body=answer.body, headers={"ETag": f'"{len(note)}"'})

    shield.play("mirror", act)
    await alpha.pusher.push(ORIGIN)
    sizes: list[int] = []
    for _ in range(500):
        own = await alpha.log(ORIGIN)
        found = await alpha.read(
            lambda conn, i=own.log_id: deliveries.list_acknowledgements(conn, i)  # type: ignore[misc]
        )
        sizes = [one.tree_size for one in found]
        if 2 in sizes:
            break
        await asyncio.sleep(0.01)
    assert sizes == [1, 2]


@pytest.mark.parametrize("answer", ["refused", "unavailable", "lie"])
async def test_collecting_in_the_background_ends_quietly(
    alpha: ExchangeNode,
    shield: PeerSimulator,
    monkeypatch: pytest.MonkeyPatch,
    answer: str,
) -> None:
    monkeypatch.setattr(acknowledgements, "_PAUSE_SECONDS", 0)
    monkeypatch.setattr(acknowledgements, "_REFUSALS", (0,))
    await alpha.peering.add_peer(shield.base, shield.vkey)
    await alpha.publisher.create_list("ours", {})
    await alpha.peering.grant("shield.example", "ours")

    async def act(_: web.Request) -> web.Response:
        status = {"refused": 404, "unavailable": 503, "lie": 200}[answer]
        return web.Response(status=status, body=b"a lie")

    shield.play("mirror", act)
    await alpha.pusher.push(ORIGIN)
    await alpha.pusher.push(ORIGIN)
    for _ in range(500):
        if not alpha.pusher.is_collecting:
            break
        await asyncio.sleep(0.01)
    assert not alpha.pusher.is_collecting
    assert len(await alpha.evidence()) == (answer == "lie")


async def test_closing_stops_collecting(
    alpha: ExchangeNode, shield: PeerSimulator
) -> None:
    await alpha.peering.add_peer(shield.base, shield.vkey)
    await alpha.publisher.create_list("ours", {})
    await alpha.peering.grant("shield.example", "ours")
    asked = asyncio.Event()

    async def act(_: web.Request) -> web.Response:
        asked.set()
        await asyncio.sleep(20)
        return web.Response()

    shield.play("mirror", act)
    await alpha.pusher.push(ORIGIN)
    await asked.wait()
    assert alpha.pusher.is_collecting
    await alpha.pusher.close()
    assert not alpha.pusher.is_collecting

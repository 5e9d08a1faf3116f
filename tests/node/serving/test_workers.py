"""Several processes on one port answer as one."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import aiohttp
import psycopg
import pytest
from sqlalchemy.exc import OperationalError

from hashlight_node.api.local.match_events import PATH as EVENTS_PATH
from hashlight_node.exchange.errors import StoreSilentError
from hashlight_node.exchange.looking_up.catching_up import FeedLostError
from hashlight_node.serving import worker
from support.made_records import md5_of, pdq_of
from support.nodes import until
from support.pictures import PHOTOS

from .conftest import Served, serving, wait_until

if TYPE_CHECKING:
    from hashlight_node.exchange.looking_up.live import LiveView

Json = dict[str, Any]

MANY = 12  # With two workers all of so many connections go to one once in 2,048 times.


def record(number: int) -> Json:
    return {
        "type": "indicator",
        "kind": "image",
        "source": "person",
        "created": "2026-11-21T09:30:00Z",
        "signals": [
            {"type": "md5", "value": md5_of(number)},
            {"type": "pdq", "value": pdq_of(number)},
        ],
    }


async def publish(session: aiohttp.ClientSession, number: int) -> str:
    async with session.post("/v1/lists/ncii/records", json=record(number)) as answer:
        assert answer.status == 201, await answer.text()
        (ref,) = (await answer.json())["refs"]
        return str(ref)


async def withdraw(session: aiohttp.ClientSession, ref: str, how: str) -> None:
    body = {"ref": ref, "reason": "withdrawn"}
    async with session.post(f"/v1/lists/ncii/{how}", json=body) as answer:
        assert answer.status == 201, await answer.text()


async def matches(session: aiohttp.ClientSession, number: int) -> tuple[int, int]:
    """Ask once for both hashes, on a connection of its own."""
    body = {
        "queries": [
            {"type": "md5", "value": md5_of(number)},
            {"type": "pdq", "value": pdq_of(number)},
        ]
    }
    async with session.post("/v1/lookup", json=body) as answer:
        assert answer.status == 200, await answer.text()
        exact, near = (await answer.json())["results"]
        return len(exact["matches"]), len(near["matches"])


async def everywhere(
    session: aiohttp.ClientSession, number: int
) -> set[tuple[int, int]]:
    """Ask all workers."""
    asked = [matches(session, number) for _ in range(MANY)]
    return set(await asyncio.gather(*asked))


async def counts(session: aiohttp.ClientSession) -> dict[str, float]:
    """Give the matched queries by worker."""
    async with session.get("/metrics") as answer:
        assert answer.status == 200
        lines = (await answer.text()).splitlines()
    start = 'hashlight_lookups_total{outcome="matched",worker="'
    found = [line.removeprefix(start) for line in lines if line.startswith(start)]
    return {line[0]: float(line.split()[1]) for line in found}


async def start_list(session: aiohttp.ClientSession) -> None:
    async with session.post("/v1/lists", json={"name": "ncii"}) as answer:
        assert answer.status == 201


async def test_every_worker_knows_of_the_last_commit(served: Served) -> None:
    async with served.session() as session:
        await start_list(session)
        for number in range(6):
            assert await everywhere(session, number) == {(0, 0)}
            ref = await publish(session, number)
            assert await everywhere(session, number) == {(1, 1)}
            await withdraw(session, ref, "erase" if number % 2 else "retract")
            assert await everywhere(session, number) == {(0, 0)}
        by_worker = await counts(session)
    assert set(by_worker) == {"1", "2"}
    assert sum(by_worker.values()) == 6 * MANY * 2
    assert all(by_worker.values())


async def test_no_worker_ever_gives_what_is_withdrawn(served: Served) -> None:
    withdrawn: set[int] = set()
    wrong: list[int] = []
    finished = asyncio.Event()

    async def watch(session: aiohttp.ClientSession) -> None:
        while not finished.is_set():
            for number in range(8):
                was_gone = number in withdrawn
                if await matches(session, number) != (0, 0) and was_gone:
                    wrong.append(number)

    async with served.session() as session:
        await start_list(session)
        watching = [asyncio.create_task(watch(session)) for _ in range(3)]
        for number in range(8):
            ref = await publish(session, number)
            await withdraw(session, ref, "erase" if number % 2 else "retract")
            withdrawn.add(number)
        await asyncio.sleep(0.2)
        finished.set()
        await asyncio.gather(*watching)
    assert wrong == []


async def test_a_killed_worker_is_started_anew_and_the_others_go_on(
    served: Served,
) -> None:
    async with served.session() as session:
        await start_list(session)
        await publish(session, 1)
        before = served.children
        killed = before[-1]
        answered = failed = 0

        async def ask() -> None:
            nonlocal answered, failed
            try:
                assert await matches(session, 1) == (1, 1)
                answered += 1
            except aiohttp.ClientError:
                failed += 1  # It was on a connection of the one that was killed.

        for turn in range(40):
            if turn == 10:
                os.kill(killed, signal.SIGKILL)
            await asyncio.gather(*(ask() for _ in range(4)))
        assert answered > 100
        assert failed <= 10
        wait_until(lambda: len(served.children) == 3 and killed not in served.children)
        await until(lambda: _all_answer(session))
        assert await everywhere(session, 1) == {(1, 1)}
    assert "worker has ended and is started anew" in served.events()


async def _all_answer(session: aiohttp.ClientSession) -> bool:
    await everywhere(session, 1)
    return set(await counts(session)) == {"1", "2"}


async def test_what_is_no_lookup_goes_to_the_node(served: Served) -> None:
    async with served.session() as session:
        await start_list(session)
        async with session.get("/v1/status") as answer:
            assert answer.status == 200
            assert len(answer.headers.getall("X-Request-Id")) == 1
            assert answer.headers["Server"] == "hashlight"
            assert (await answer.json())["lists"][0]["name"] == "ncii"
        for path in ("/healthz", "/readyz", "/docs", "/v1/openapi.json"):
            async with session.get(path) as answer:
                assert (path, answer.status) == (path, 200)
        for method, path, status in (
            ("GET", "/nothing/here", 404),
            ("GET", "/v1/lookup", 405),
            ("HEAD", "/v1/status", 405),
            ("DELETE", "/v1/tokens/999", 404),
        ):
            async with session.request(method, path) as answer:
                assert (path, answer.status) == (path, status)
        async with session.get("/v1/status", headers={"Authorization": "x"}) as answer:
            assert answer.status == 401


async def test_a_picture_and_hashes_are_looked_up_in_workers(served: Served) -> None:
    async with served.session() as session:
        await start_list(session)
        await publish(session, 1)
        digest = bytes.fromhex(pdq_of(1))
        for _ in range(MANY):
            async with session.post(
                "/v1/lookup/pdq",
                data=digest * 2,
                headers={"Content-Type": "application/octet-stream"},
            ) as answer:
                assert len((await answer.read()).splitlines()) == 2
        picture = PHOTOS[0].read_bytes()
        for _ in range(2):
            async with session.post(
                "/v1/lookup/image", data=picture, headers={"Content-Type": "image/jpeg"}
            ) as answer:
                assert answer.status == 200


async def test_large_bodies_are_passed_on_whole_or_refused(served: Served) -> None:
    async with served.session() as session:
        await start_list(session)
        records = [record(number) for number in range(1000)]
        async with session.post(
            "/v1/lists/ncii/records", json={"records": records}, expect100=True
        ) as answer:
            assert len((await answer.json())["refs"]) == 1000
        too_large = b" " * 9_000_000
        async with session.post(
            "/v1/lists/ncii/records",
            data=_pieces(too_large),
            headers={"Content-Type": "application/json"},
        ) as answer:
            assert answer.status == 413
        assert await everywhere(session, 999) == {(1, 1)}


async def _pieces(data: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(data), 65_536):
        yield data[start : start + 65_536]


async def test_events_come_through_and_end_with_the_caller(served: Served) -> None:
    async with served.session() as session, served.session() as other:
        await start_list(session)
        events = await session.get("/v1/changes")
        assert events.status == 200
        await publish(other, 1)
        text = b""
        async with asyncio.timeout(10):
            while text.count(b"event: live") < 2:
                text += await events.content.readany()
        events.close()
        assert await everywhere(session, 1) == {(1, 1)}


async def test_matches_that_workers_see_are_logged_by_the_node(served: Served) -> None:
    async with served.session() as session:
        await start_list(session)
        await publish(session, 1)
        assert await everywhere(session, 1) == {(1, 1)}

        async def logged() -> bool:
            async with session.get("/v1/matches?limit=1000") as answer:
                found = (await answer.json())["matches"]
                return len(found) == 2 * MANY

        await until(logged)
        # Nobody but a worker can add to them.
        async with session.post(EVENTS_PATH, json=[[1, "block", "{}"]]) as answer:
            assert answer.status == 404


# ----------------------------------------------------------------- starting and ending


async def test_stopping_finishes_what_was_begun(served: Served) -> None:
    children = served.children
    async with served.session() as session:
        await start_list(session)
        stream = await session.get("/v1/changes")
        records = {"records": [record(number) for number in range(1000)]}
        publishing = asyncio.create_task(
            session.post("/v1/lists/ncii/records", json=records)
        )
        await asyncio.sleep(0.05)
        assert await asyncio.to_thread(served.stop) == 0
        # An event stream would never end by itself; it is cut off.
        with contextlib.suppress(aiohttp.ClientError):
            await stream.read()
        with contextlib.suppress(aiohttp.ClientConnectorError):
            assert (await publishing).status == 201
    assert served.events()[-2:] == ["node is stopping", "node has stopped"]
    assert not any(_is_alive(pid) for pid in children)
    assert not list(served.home.glob(".run-*"))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_every_process_cuts_nothing_off(
    served: Served, number: signal.Signals
) -> None:
    """As service managers and terminals send it, and then the supervisor its own."""
    pids = [*served.children, served.popen.pid]
    body = b'{"name":"ncii"}'
    head = (
        "POST /v1/lists HTTP/1.1\r\nHost: x\r\n"
        f"Authorization: Bearer {served.token}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode()
    host, _, port = served.settings.local.listen.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=20) as caller:
        os.kill(pids[0], signal.SIGSTOP)  # So what is passed on has to wait.
        caller.sendall(head + body)
        time.sleep(0.3)
        for _ in range(2):
            for pid in pids[:-1]:
                os.kill(pid, number)
            time.sleep(0.2)
        served.popen.send_signal(number)
        time.sleep(0.3)
        os.kill(pids[0], signal.SIGCONT)
        answer = caller.recv(65_536)
    assert answer.startswith(b"HTTP/1.1 201")
    assert served.popen.wait(30) == 0
    assert served.events()[-2:] == ["node is stopping", "node has stopped"]
    assert not [*served.home.glob(".run-*")]


def test_if_the_supervisor_is_killed_the_others_stop_by_themselves(
    served: Served,
) -> None:
    children = served.children
    assert len(children) == 3
    served.popen.kill()
    served.popen.wait()
    wait_until(lambda: not any(_is_alive(pid) for pid in children))
    assert served.events()[-1] == "node has stopped"


def test_if_the_node_ends_all_end(served: Served) -> None:
    node, *workers = served.children
    os.kill(node, signal.SIGKILL)
    assert served.popen.wait(30) == 128 + signal.SIGKILL
    assert not any(_is_alive(pid) for pid in workers)


def test_one_that_was_killed_leaves_nothing_behind_for_long(served: Served) -> None:
    served.popen.kill()
    served.popen.wait()
    wait_until(lambda: served.events()[-1] == "node has stopped")
    (left,) = served.home.glob(".run-*")
    served.start()
    (running,) = served.home.glob(".run-*")
    assert running != left
    assert served.stop(signal.SIGINT) == 0
    assert not list(served.home.glob(".run-*"))


def test_a_port_that_is_taken_is_refused(tmp_path: Path) -> None:
    """Also one on which others listen together, as our workers would."""
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("HASHLIGHT_LOCAL_LISTEN", address)
            with serving(tmp_path, 1) as served:
                assert served.popen.wait(30) == 1
                assert served.events() == []


def test_a_node_that_cannot_start_says_why(tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HASHLIGHT_KEYS_DIRECTORY", "nowhere")
        with serving(tmp_path, 1) as served:
            assert served.popen.wait(30) == 1
            served.log.seek(0)
            assert served.log.read().startswith("Error: ")


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_readers_of_events_leave_room_for_everybody_else(served: Served) -> None:
    host, _, port = served.settings.local.listen.rpartition(":")
    authorization = f"Host: x\r\nAuthorization: Bearer {served.token}\r\n"
    held = [socket.create_connection((host, int(port)), timeout=20) for _ in range(500)]
    for one in held:
        one.sendall(f"GET /v1/changes HTTP/1.1\r\n{authorization}\r\n".encode())
    statuses = Counter(one.recv(12)[9:12] for one in held)
    assert statuses == {b"200": 200, b"429": 300}
    body = b'{"name":"ncii"}'
    typed = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    with socket.create_connection((host, int(port)), timeout=20) as caller:
        head = f"POST /v1/lists HTTP/1.1\r\n{authorization}{typed}\r\n"
        caller.sendall(head.encode() + body)
        assert caller.recv(12) == b"HTTP/1.1 201"
    for one in held:
        one.close()
    assert served.stop() == 0


async def test_a_worker_outlives_a_database_that_is_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(worker, "_FOLLOW_SECONDS", 0)
    view = _Troubled(
        StoreSilentError(),
        OperationalError("", {}, psycopg.OperationalError("server closed")),
        FeedLostError(1),
    )
    # The last of them is what a new start helps against.
    with pytest.raises(FeedLostError):
        await worker._follow(cast("LiveView", view))  # noqa: SLF001
    assert not view.errors


class _Troubled:
    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)

    async def lists(self) -> None:
        raise self.errors.pop(0)

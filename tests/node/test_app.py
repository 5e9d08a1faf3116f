from __future__ import annotations

import asyncio
import json
import signal
import socket
import subprocess
import sys
import time
from contextlib import AsyncExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from sqlalchemy import text

from hashlight_node.api.local.bearer import generate_secret, hash_secret
from hashlight_node.app import RunningNode, start_node, system_clock
from hashlight_node.config import SettingsError, split_address
from hashlight_node.keys import KeyFileError
from hashlight_node.last_signed import LastSignedInUseError
from hashlight_node.model import Handling, Scope
from hashlight_node.store import logs
from hashlight_node.store.errors import DatabaseInUseError, SchemaError
from hashlight_node.store.peers import find_peer
from hashlight_node.store.tokens import insert_token
from hashlight_protocol import Reason, encode_vkey, parse_signal
from support.made_records import indicators, md5_of
from support.nodes import make_settings, until
from support.stores import make_store, writing

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
    from pathlib import Path

    from hashlight_node.config import Settings
    from hashlight_node.exchange.looking_up.lookup import LookupAnswer


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Callable[..., Awaitable[RunningNode]]]:
    """Start nodes that run until the test ends."""
    async with AsyncExitStack() as stack:

        async def start_one(name: str, extra: str = "") -> RunningNode:
            settings = make_settings(tmp_path, name, extra)
            return await stack.enter_async_context(start_node(settings))

        yield start_one


def base(node: RunningNode) -> str:
    return node.foundation.settings.node.base


async def introduce(one: RunningNode, other: RunningNode) -> None:
    for host, guest in ((one, other), (other, one)):
        vkey = encode_vkey(guest.foundation.keyring.identity.key)
        await host.use_cases.peering.add_peer(base(guest), vkey)


async def look_up(node: RunningNode, number: int) -> LookupAnswer:
    query = parse_signal("md5", md5_of(number))
    return await node.use_cases.lookup.lookup([query], max_distance=None)


def matching(node: RunningNode, number: int) -> Callable[[], Awaitable[bool]]:
    async def matches() -> bool:
        return bool((await look_up(node, number)).results[0].matches)

    return matches


async def fetch(address: str, path: str) -> tuple[int, bytes]:
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://{address}{path}") as response,
    ):
        return response.status, await response.read()


async def test_a_node_answers_on_both_listeners(
    start: Callable[..., Awaitable[RunningNode]],
) -> None:
    node = await start("shield.example")
    settings = node.foundation.settings
    status, _ = await fetch(settings.federation.listen, "/.well-known/hsf")
    assert status == 200
    for path in ("/healthz", "/readyz", "/metrics"):
        status, body = await fetch(settings.local.listen, path)
        assert (path, status) == (path, 200)
        assert (b"hashlight_build_info{" in body) is (path == "/metrics")
    assert node.federation_port == split_address(settings.federation.listen)[1]
    assert node.local_port == split_address(settings.local.listen)[1]


async def test_the_listeners_share_no_route(
    start: Callable[..., Awaitable[RunningNode]],
) -> None:
    settings = (await start("shield.example")).foundation.settings
    status, _ = await fetch(settings.local.listen, "/.well-known/hsf")
    assert status == 404
    for path in ("/healthz", "/metrics", "/v1/status", "/docs"):
        status, body = await fetch(settings.federation.listen, path)
        assert (path, status) == (path, 403)
        assert b"hsf:auth-missing" in body


async def test_what_one_company_publishes_another_matches_until_it_is_withdrawn(
    start: Callable[..., Awaitable[RunningNode]],
) -> None:
    shield, beta = await start("shield.example"), await start("beta.example")
    await introduce(shield, beta)
    await shield.use_cases.publisher.create_list("ncii", {})
    await shield.use_cases.peering.grant("beta.example", "ncii")
    await beta.use_cases.peering.follow("shield.example", "ncii")
    refs = await shield.use_cases.publisher.publish("ncii", indicators(2))
    await until(matching(beta, 1))
    await shield.use_cases.publisher.withdraw(refs[1], "erase", Reason.WITHDRAWN)

    async def gone() -> bool:
        return not await matching(beta, 1)()

    await until(gone)
    assert await matching(beta, 0)()

    async def acknowledged() -> bool:
        report = await shield.use_cases.inspect.erasure(refs[1])
        return [it.acknowledgement is not None for it in report.peers] == [True]

    await until(acknowledged)


async def test_a_list_that_was_granted_late_comes_by_itself(
    start: Callable[..., Awaitable[RunningNode]],
) -> None:
    shield, beta = await start("shield.example"), await start("beta.example")
    await introduce(shield, beta)
    await beta.use_cases.peering.follow("shield.example", "ncii")
    await shield.use_cases.publisher.create_list("ncii", {})
    await shield.use_cases.publisher.publish("ncii", indicators(1))
    await asyncio.sleep(0.3)
    assert not await matching(beta, 0)()
    await shield.use_cases.peering.grant("beta.example", "ncii")
    await until(matching(beta, 0))


async def test_a_restart_keeps_everything(tmp_path: Path) -> None:
    settings = make_settings(tmp_path, "shield.example")
    async with start_node(settings) as node:
        await node.use_cases.publisher.create_list("ncii", {})
        await node.use_cases.publisher.publish("ncii", indicators(3))
        before = await node.foundation.database.read(logs.list_logs)
    async with start_node(settings) as node:
        assert await node.foundation.database.read(logs.list_logs) == before
        assert await matching(node, 2)()
        await node.use_cases.publisher.publish("ncii", indicators(1, first=9))


async def test_the_policy_of_the_settings_decides(
    start: Callable[..., Awaitable[RunningNode]],
) -> None:
    rules = (
        '[policy]\ndefault = "ignore"\n[[policy.rules]]\nlist = "ncii"\n'
        'match = "exact"\nhandling = "review"\n'
    )
    for extra, handling in ((rules, Handling.REVIEW), ("", Handling.REVIEW)):
        name = "with.example" if extra else "without.example"
        node = await start(name, extra)
        await node.use_cases.publisher.create_list("ncii", {})
        await node.use_cases.publisher.create_list("other", {})
        await node.use_cases.publisher.publish("ncii", indicators(1))
        await node.use_cases.publisher.publish("other", indicators(1, first=5))
        assert (await look_up(node, 0)).results[0].handling is handling
        other = (await look_up(node, 5)).results[0].handling
        assert other is (Handling.IGNORE if extra else Handling.REVIEW)


# --------------------------------------------------------------- refusing to start


async def refuse(settings: Settings, error: type[Exception]) -> None:
    with pytest.raises(error):
        async with start_node(settings):
            pytest.fail("the node started")


async def test_a_node_without_its_keys_does_not_start(tmp_path: Path) -> None:
    settings = make_settings(tmp_path, "shield.example")
    (settings.keys.directory / "mirror.key").unlink()
    await refuse(settings, KeyFileError)


async def test_a_node_whose_quorum_cannot_be_read_does_not_start(
    tmp_path: Path,
) -> None:
    quorum = '\n[exchange]\nquorum = "policy.txt"\n'
    settings = make_settings(tmp_path, "shield.example", quorum)
    (tmp_path / "shield.example" / "policy.txt").write_text("quorum nobody\n")
    with pytest.raises(
        SettingsError, match=r"policy\.txt: .*the quorum is not defined"
    ):
        async with start_node(settings):
            pass


@pytest.mark.sqlite
async def test_a_node_without_its_database_does_not_start(tmp_path: Path) -> None:
    settings = make_settings(tmp_path, "shield.example")
    (tmp_path / "shield.example" / "hashlight.db").unlink()
    await refuse(settings, SchemaError)
    assert not (tmp_path / "shield.example" / "hashlight.db").exists()


async def test_two_nodes_on_one_database(tmp_path: Path) -> None:
    settings = make_settings(tmp_path, "shield.example")
    apart = settings.keys.model_copy(update={"last_signed": tmp_path / "apart"})
    async with start_node(settings):
        second = settings.model_copy(update={"keys": apart})
        await refuse(second, DatabaseInUseError)


async def test_two_nodes_on_one_identity(tmp_path: Path) -> None:
    settings = make_settings(tmp_path, "shield.example")
    async with start_node(settings) as node:
        await refuse(settings, LastSignedInUseError)
        await node.use_cases.publisher.create_list("ncii", {})


@pytest.mark.parametrize("listener", ["federation", "local"])
async def test_a_node_whose_address_is_taken_lets_go_of_everything(
    tmp_path: Path, listener: str
) -> None:
    settings = make_settings(tmp_path, "shield.example")
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(split_address(getattr(settings, listener).listen))
        taken.listen()
        await refuse(settings, OSError)
    async with start_node(settings):
        pass


# ------------------------------------------------------------------------- stopping


async def test_stopping_releases_long_polls(tmp_path: Path) -> None:
    shield_settings = make_settings(tmp_path, "shield.example")
    async with AsyncExitStack() as stack:
        beta = await stack.enter_async_context(
            start_node(make_settings(tmp_path, "beta.example"))
        )
        async with start_node(shield_settings) as shield:
            await introduce(shield, beta)
            await shield.use_cases.publisher.create_list("ncii", {})
            await shield.use_cases.peering.grant("beta.example", "ncii")
            peers = await beta.use_cases.inspect.peers()
            assert [peer.name for peer in peers] == ["shield.example"]
            client = beta.foundation.client
            peer = await beta.foundation.database.read(
                lambda conn: find_peer(conn, "shield.example")
            )
            assert peer is not None
            origin = "shield.example/hsf/v1/log/ncii/1"
            known = await client.fetch_checkpoint(peer, origin)
            assert known is not None
            poll = asyncio.create_task(
                client.fetch_checkpoint(peer, origin, wait_seconds=30, etag=known.etag)
            )
            await asyncio.sleep(0.2)
            assert not poll.done()
            started = time.monotonic()
        assert time.monotonic() - started < 3
        answer = await asyncio.wait_for(poll, 1)
        # Beta has cosigned meanwhile, which is worth an answer and no waking.
        assert answer is None or _text(answer.body) == _text(known.body)


def _text(checkpoint: bytes) -> bytes:
    """Cut off who signed it."""
    return checkpoint.partition(b"\n\n")[0]


async def test_a_request_that_is_under_way_is_finished(tmp_path: Path) -> None:
    secret = generate_secret()
    async with (
        aiohttp.ClientSession() as session,
        start_node(make_settings(tmp_path, "shield.example")) as node,
    ):
        database = node.foundation.database
        await database.write(
            lambda conn: insert_token(
                conn, "test", [Scope.ADMIN], hash_secret(secret), 1
            )
        )
        # The writer is busy, so the request has to wait for its turn.
        busy = asyncio.create_task(database.write(lambda _: time.sleep(1)))
        request = asyncio.create_task(
            session.post(
                f"http://127.0.0.1:{node.local_port}/v1/lists",
                json={"name": "ncii"},
                headers={"Authorization": f"Bearer {secret}"},
            )
        )
        await asyncio.sleep(0.5)
        assert not request.done()
        leaving = time.monotonic()
    assert time.monotonic() - leaving < 5
    assert (await request).status == 201
    await busy


async def test_a_job_that_fails_is_not_hidden(tmp_path: Path) -> None:
    settings = make_settings(
        tmp_path, "shield.example", "[exchange]\nsweep_seconds = 1\n"
    )
    with pytest.raises(ExceptionGroup):  # noqa: PT012 -- at the block's end
        async with start_node(settings) as node:
            await node.foundation.database.write(
                lambda conn: conn.exec_driver_sql("DROP TABLE follows")
            )
            await until(node.jobs.done)


# ------------------------------------------------------------------ as a process


class Process:
    """`python -m hashlight_node serve`, and what it writes."""

    def __init__(self, directory: Path) -> None:
        config = str(directory / "hashlight.toml")
        self.popen = subprocess.Popen(
            [sys.executable, "-m", "hashlight_node", "serve", "-c", config],
            stderr=subprocess.PIPE,
            text=True,
        )

    def next_line(self) -> dict[str, Any]:
        assert self.popen.stderr is not None
        line: dict[str, Any] = json.loads(self.popen.stderr.readline())
        return line

    def rest(self) -> list[dict[str, Any]]:
        assert self.popen.stderr is not None
        return [json.loads(line) for line in self.popen.stderr]


@contextmanager
def running(directory: Path) -> Iterator[Process]:
    process = Process(directory)
    try:
        yield process
    finally:
        process.popen.kill()
        process.popen.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_node_says_when_it_is_ready_and_stops_in_order(
    tmp_path: Path, number: signal.Signals
) -> None:
    settings = make_settings(tmp_path, "shield.example")
    with running(tmp_path / "shield.example") as process:
        ready = process.next_line()
        assert ready["event"] == "node is ready"
        assert ready["node"] == "shield.example"
        assert ready["federation"] == settings.federation.listen
        assert ready["local"] == settings.local.listen
        assert "withheld" not in ready
        process.popen.send_signal(number)
        assert process.popen.wait(10) == 0
        said = [line["event"] for line in process.rest()]
    assert said == ["node is stopping", "node has stopped"]


def test_a_node_whose_job_fails_ends_with_an_error(tmp_path: Path) -> None:
    make_settings(tmp_path, "shield.example")
    home = tmp_path / "shield.example"
    with writing(make_store(home)) as connection:
        connection.execute(text("DROP TABLE follows"))
    with running(home) as process:
        assert process.popen.wait(20) == 1
        last = process.rest()[-1]
    assert last["event"] == "node ends because a job failed"
    assert last["error_type"] in {"OperationalError", "ProgrammingError"}
    assert last["stack"]


def test_the_clock_of_the_system_counts_seconds() -> None:
    assert abs(system_clock() - time.time()) < 2

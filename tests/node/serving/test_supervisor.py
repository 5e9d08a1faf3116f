"""What becomes of processes that fail, hang, or fall too far behind."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from sqlalchemy import text

from support.made_records import md5_of
from support.nodes import until
from support.stores import interfering

from .conftest import Served, serving, wait_until

Json = dict[str, Any]

ENDED = "worker has ended and is started anew"
REFILLED = "memory is filled anew"

_PROGRAM = """
import sys
from pathlib import Path
from hashlight_node.config import load_settings
from hashlight_node.serving import serve
serve(load_settings(Path(sys.argv[1])), drain_seconds={drain_seconds})
"""


_NO_WORKER = """
import hashlight_node.serving.supervisor as supervisor
def fail(*_):
    raise OSError("no room for a worker")
supervisor.run_worker = fail
"""

_BROKEN_JOB = """
import hashlight_node.app.node as node
async def fail(*_, **__):
    raise ExceptionGroup("jobs", [ValueError("private-value")])
node.run_jobs = fail
"""


def draining(drain_seconds: float, first: str = "") -> tuple[str, str]:
    """Give a program that serves, and waits so long for what has to stop.

    Args:
        drain_seconds: How long.
        first: Code that is run before.
    """
    return ("-c", first + _PROGRAM.format(drain_seconds=drain_seconds))


async def publish(session: aiohttp.ClientSession, number: int) -> str:
    record = {
        "type": "indicator",
        "kind": "image",
        "source": "person",
        "created": "2026-11-21T09:30:00Z",
        "signals": [{"type": "md5", "value": md5_of(number)}],
    }
    async with session.post("/v1/lists/ncii/records", json=record) as answer:
        assert answer.status == 201, await answer.text()
        (ref,) = (await answer.json())["refs"]
        return str(ref)


async def retract(session: aiohttp.ClientSession, ref: str) -> None:
    body = {"ref": ref, "reason": "withdrawn"}
    async with session.post("/v1/lists/ncii/retract", json=body) as answer:
        assert answer.status == 201


async def start_list(session: aiohttp.ClientSession) -> None:
    async with session.post("/v1/lists", json={"name": "ncii"}) as answer:
        assert answer.status == 201


async def is_known(session: aiohttp.ClientSession, number: int) -> bool | None:
    """Look a hash up; None if nobody answers."""
    body = {"queries": [{"type": "md5", "value": md5_of(number)}]}
    try:
        async with session.post("/v1/lookup", json=body) as answer:
            if answer.status != 200:
                return None
            return bool((await answer.json())["results"][0]["matches"])
    except aiohttp.ClientError:
        return None


def prune(served: Served) -> None:
    """Forget all changes but the newest, as days do."""
    query = (
        "DELETE FROM signal_changes WHERE seq < (SELECT max(seq) FROM signal_changes)"
    )
    with interfering(served.home) as connection:
        assert connection.execute(text(query)).rowcount > 0


def behind(served: Served) -> aiohttp.ClientSession:
    """Give a caller of the node itself, as workers call it."""
    (path,) = served.home.glob(".run-*/node")
    connector = aiohttp.UnixConnector(str(path))
    return aiohttp.ClientSession(
        "http://node", headers=served.headers, connector=connector
    )


def ends(served: Served) -> list[float]:
    """Give the times at which the log says that a worker has ended."""
    return [
        datetime.fromisoformat(entry["timestamp"]).timestamp()
        for entry in served.entries()
        if entry["event"] == ENDED
    ]


@pytest.fixture
def one(near: Path) -> Iterator[Served]:
    """Give a node with one worker."""
    with serving(near, 1) as served:
        yield served


@pytest.fixture
def two(near: Path) -> Iterator[Served]:
    """Give a node with two workers."""
    with serving(near, 2) as served:
        yield served


# -------------------------------------------------------------------- starting anew


def test_a_worker_that_ends_again_and_again_waits_longer_each_time(
    tmp_path: Path,
) -> None:
    with serving(tmp_path, 1) as served:
        for pause_seconds in (0.2, 0.4, 0.8):
            before = {*served.children}
            killed_at = time.monotonic()
            os.kill(max(before), signal.SIGKILL)
            while not {*served.children} - before:
                time.sleep(0.01)
            assert time.monotonic() - killed_at >= pause_seconds
        assert served.stop() == 0
        assert len(ends(served)) == 3


async def test_a_worker_that_cannot_start_is_tried_again_until_it_can(
    two: Served,
) -> None:
    (directory,) = two.home.glob(".run-*")
    aside = directory.with_name("aside")
    directory.rename(aside)  # So it has nowhere to tell its counts.
    killed = two.children[-1]
    os.kill(killed, signal.SIGKILL)
    wait_until(lambda: len(ends(two)) >= 4)
    async with two.session() as session:
        # The other one answers all the while.
        assert await is_known(session, 1) is False
        aside.rename(directory)
        wait_until(lambda: len([*directory.glob("worker-*")]) == 2)
        times = ends(two)
        pauses = [late - early for early, late in pairwise(times)]
        assert pauses[1] >= 0.4
        assert pauses[2] >= 0.8
        await start_list(session)
        await publish(session, 1)
        for _ in range(12):
            assert await is_known(session, 1)
    assert two.stop() == 0


def test_a_node_whose_first_worker_cannot_start_ends(tmp_path: Path) -> None:
    with serving(tmp_path, 2, program=draining(30, _NO_WORKER)) as served:
        assert served.popen.wait(30) == 1
        served.log.seek(0)
        assert "Error: no room for a worker" in served.log.read()
        assert "node has stopped" in served.events()


@pytest.mark.parametrize("workers", [0, 2])
def test_a_job_that_fails_by_our_mistake_ends_the_node(
    tmp_path: Path, workers: int
) -> None:
    program = draining(30, _BROKEN_JOB)
    with serving(tmp_path, workers, program=program) as served:
        assert served.popen.wait(30) == 1
        assert "node ends because a job failed" in served.events()
        served.log.seek(0)
        assert "private-value" not in served.log.read()


async def test_a_worker_that_is_started_after_the_feed_was_pruned_reads_the_store(
    one: Served,
) -> None:
    async with one.session() as session:
        await start_list(session)
        taken_back = await publish(session, 1)
        await publish(session, 2)
        await retract(session, taken_back)
        prune(one)
        assert REFILLED not in one.events()
        os.kill(one.children[-1], signal.SIGKILL)
        await until(lambda: _answers(session, {1: False, 2: True}), seconds=30)
    assert REFILLED in one.events()
    assert one.stop() == 0


async def test_a_worker_that_slept_while_the_feed_was_pruned_starts_anew(
    one: Served,
) -> None:
    async with one.session() as session, behind(one) as node:
        await start_list(session)
        taken_back = await publish(session, 1)
        assert await is_known(session, 1)
        worker = one.children[-1]
        os.kill(worker, signal.SIGSTOP)
        await retract(node, taken_back)
        await publish(node, 2)
        await publish(node, 3)
        prune(one)
        os.kill(worker, signal.SIGCONT)
        # It gives no answer rather than one that may be wrong.
        assert await is_known(session, 1) is not True
        await until(lambda: _answers(session, {1: False, 2: True, 3: True}), seconds=30)
    assert "process ends by a mistake of ours" in one.events()
    assert ENDED in one.events()
    assert REFILLED in one.events()
    assert one.stop() == 0


async def _answers(session: aiohttp.ClientSession, expected: dict[int, bool]) -> bool:
    return {it: await is_known(session, it) for it in expected} == expected


# -------------------------------------------------------------------------- stopping


def test_a_worker_that_hangs_is_killed_once_its_time_is_over(tmp_path: Path) -> None:
    with serving(tmp_path, 2, program=draining(0.5)) as served:
        hanging = served.children[-1]
        os.kill(hanging, signal.SIGSTOP)
        assert served.stop() == 0
        assert not _is_alive(hanging)
        assert served.events()[-1] == "node has stopped"


def test_a_node_that_hangs_is_killed_once_its_time_is_over(tmp_path: Path) -> None:
    with serving(tmp_path, 1, program=draining(0.5)) as served:
        node = served.children[0]
        os.kill(node, signal.SIGSTOP)
        assert served.stop() == 128 + signal.SIGKILL
        assert not _is_alive(node)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_waits_for_nothing(
    tmp_path: Path, number: signal.Signals
) -> None:
    with serving(tmp_path, 2, program=draining(3600)) as served:
        _, *workers = served.children
        os.kill(workers[-1], signal.SIGSTOP)
        served.popen.send_signal(number)
        # The other one ends, so the first signal has arrived.
        wait_until(lambda: len(served.children) == 2)
        assert served.stop(number) == 0
        assert not any(_is_alive(pid) for pid in workers)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True

"""Another process checks and reads what is copied, and nothing depends on it."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import TYPE_CHECKING

import pytest

from hashlight_node.exchange.following import digesters
from hashlight_node.exchange.following.digesters import Digester, Digesters
from hashlight_node.exchange.following.digesting import (
    Digested,
    Job,
    digest,
    encode_job,
    read_digested,
)
from hashlight_node.peers.errors import PeerMisbehavedError
from hashlight_node.store.meanings import read_meaning
from hashlight_protocol import Ref, leaf_hashes, parse_origin
from support.log_simulator import LogSimulator, spoiled
from support.made_records import indicator, indicators, opinion

if TYPE_CHECKING:
    from support.exchange_node import ExchangeNode
    from support.peer_simulator import PeerSimulator

    Pair = tuple[ExchangeNode, PeerSimulator]

ORIGIN = "shield.example/hsf/v1/log/ncii/1"


def a_log(*bodies: bytes) -> LogSimulator:
    log = LogSimulator(ORIGIN)
    log.publish(bodies)
    return log


def job_of(log: LogSimulator) -> Job:
    return Job(
        parse_origin(log.origin).list_id,
        0,
        log.size,
        log.entry_bundle(0, log.size),
        log.body_bundle(0, log.size),
    )


def test_what_is_digested_is_what_would_be_read_here() -> None:
    log = a_log(indicator(1), b"no record", opinion(Ref(ORIGIN, 1)))
    log.retract(2)
    found = read_digested(digest(encode_job(job_of(log))))
    assert found is not None
    assert found.leaf_hashes == tuple(leaf_hashes(log.entries))
    no_body, first, second, an_opinion, retract = found.meanings
    assert (first, second) == (read_meaning(indicator(1)), read_meaning(b"no record"))
    # What has an opinion in it is read where it is stored.
    assert (no_body, an_opinion, retract) == (None, None, None)


def test_nothing_is_said_of_a_bundle_in_which_something_is_wrong() -> None:
    log = a_log(indicator(1))
    job = job_of(log)
    for wrong in (
        job._replace(bodies=spoiled(job.bodies)),
        job._replace(entries=spoiled(job.entries)),
        job._replace(width=job.width + 1),
        job._replace(list_id="shield.example/other"),
    ):
        assert read_digested(digest(encode_job(wrong))) is None


async def test_a_process_answers_in_the_order_of_the_questions() -> None:
    logs = [a_log(*indicators(count, first=count)) for count in (200, 1, 90)]
    async with Digesters(processors=2).lend(10**6) as digester:
        assert digester is not None
        found = await asyncio.gather(*(digester.digest(job_of(log)) for log in logs))
    assert [it and it.leaf_hashes for it in found] == [
        tuple(leaf_hashes(log.entries)) for log in logs
    ]


async def test_a_process_that_dies_leaves_the_work_to_us() -> None:
    job = job_of(a_log(*indicators(100)))
    async with Digesters(processors=2).lend(10**6) as digester:
        assert digester is not None
        assert await digester.digest(job) is not None
        os.kill(digester.pid, signal.SIGKILL)
        answers = [await digester.digest(job) for _ in range(3)]
    assert answers[-1] is None


async def test_processes_are_lent_only_where_they_pay_and_never_too_many() -> None:
    lender = Digesters(processors=2)
    async with lender.lend(10) as short, lender.lend(10**6) as first:
        async with lender.lend(10**6) as second:
            assert short is None
            assert isinstance(first, Digester)
            assert second is None
        pid = first.pid
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    async with lender.lend(10**6) as again:
        assert again is not None
    async with Digesters(processors=1).lend(10**6) as none:
        assert none is None


@pytest.fixture
def helped(
    alpha: ExchangeNode, monkeypatch: pytest.MonkeyPatch
) -> list[Digested | None]:
    """Let every copy have a process, and give what they answer."""
    answers: list[Digested | None] = []
    digest_it = Digester.digest

    async def remember(digester: Digester, job: Job) -> Digested | None:
        answers.append(await digest_it(digester, job))
        return answers[-1]

    monkeypatch.setattr(digesters, "_WORTHWHILE", 1)
    monkeypatch.setattr(alpha.following.digesters, "_left", 1)
    monkeypatch.setattr(Digester, "digest", remember)
    return answers


async def test_a_copy_that_another_process_helped_with_is_like_any_other(
    following: Pair, helped: list[Digested | None]
) -> None:
    alpha, shield = following
    log = shield.logs["ncii"]
    log.publish([*indicators(700), b"no record"])
    log.retract(3)
    log.erase(4)
    await alpha.follower.sync("shield.example", "ncii")
    log.publish(indicators(300, first=700))
    await alpha.follower.sync("shield.example", "ncii")
    copy = await alpha.log(log.origin)
    assert (copy.checkpoint_size, copy.root_hash) == (log.size, log.root())
    matches = [await alpha.matches(number) for number in (0, 2, 3, 699, 999)]
    assert matches == [1, 0, 0, 1, 1]
    assert len(helped) == 5
    assert None not in helped


@pytest.mark.parametrize("kind", ["entries", "bodies"])
async def test_a_lie_is_told_of_in_the_same_words(
    following: Pair, helped: list[Digested | None], kind: str
) -> None:
    alpha, shield = following
    log = shield.logs["ncii"]
    log.publish(indicators(5))
    if kind == "bodies":
        log.bodies[2] = log.bodies[3]
    else:
        shield.tamper_body(kind, spoiled)
    with pytest.raises(PeerMisbehavedError, match=f"{kind} 0 of"):
        await alpha.follower.sync("shield.example", "ncii")
    (evidence,) = await alpha.evidence()
    assert evidence.peer_name == "shield.example"
    assert helped == [None]

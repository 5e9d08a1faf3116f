"""A process that stands by knows what the one that leads has signed."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from hashlight_node.exchange.looking_up.keeping_up import (
    Waker,
    learn_signed,
    unsigned_logs,
)
from hashlight_node.exchange.notices import Notices
from hashlight_node.keys import create_keyring
from hashlight_node.last_signed import LastSigned, read_signed
from hashlight_node.store import logs
from hashlight_protocol import Checkpoint, KnownHead, sign_checkpoint
from support.made_records import indicators
from support.running_companies import RunningCompany, start_company

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from hashlight_node.keys import Keyring

ORIGIN = "shield.example/hsf/v1/log/ncii/1"


@pytest.fixture
async def leader(tmp_path: Path) -> AsyncIterator[RunningCompany]:
    company = await start_company(tmp_path, "shield.example")
    await company.node.use_cases.publisher.create_list("ncii", {})
    yield company
    await company.stop()


@pytest.fixture
def ours(tmp_path: Path) -> Iterator[LastSigned]:
    opened = LastSigned.open(tmp_path / "ours")
    yield opened
    opened.close()


async def publish(leader: RunningCompany, number: int) -> None:
    await leader.node.use_cases.publisher.publish("ncii", indicators(1, first=number))


async def learn(leader: RunningCompany, ours: LastSigned) -> int:
    """Learn, and tell at which size the list is known to be."""
    foundation = leader.node.foundation
    await foundation.database.read(
        lambda conn: learn_signed(conn, foundation.keyring, ours)
    )
    newest = ours.newest(ORIGIN)
    return 0 if newest is None else newest.head.tree_size


def signed_by(keyring: Keyring, size: int, root: bytes) -> bytes:
    return sign_checkpoint(Checkpoint(ORIGIN, size, root), keyring.log(ORIGIN).every)


async def test_what_goes_on_where_we_know_it_to_end_is_learned(
    leader: RunningCompany, ours: LastSigned
) -> None:
    assert await learn(leader, ours) == 1
    await publish(leader, 1)
    await publish(leader, 2)
    assert await learn(leader, ours) == 3
    assert await learn(leader, ours) == 3


async def test_what_was_prepared_here_and_never_committed_is_forgotten(
    leader: RunningCompany, ours: LastSigned
) -> None:
    keyring = leader.node.foundation.keyring
    assert await learn(leader, ours) == 1
    newest = ours.newest(ORIGIN)
    assert newest is not None
    ours.prepare(signed_by(keyring, 2, bytes(32)), extends=newest.head)
    assert await learn(leader, ours) == 1
    assert ours.prepared(ORIGIN) is None


@pytest.mark.parametrize(("size", "expected"), [(1, 1), (5, 5)])
async def test_what_does_not_fit_or_is_older_is_not_learned(
    size: int, expected: int, leader: RunningCompany, ours: LastSigned
) -> None:
    keyring = leader.node.foundation.keyring
    ours.learn(signed_by(keyring, size, bytes(32)))
    await publish(leader, 1)
    assert await learn(leader, ours) == expected
    known = ours.newest(ORIGIN)
    assert known is not None
    assert known.head == KnownHead(size, bytes(32))


async def test_what_our_keys_did_not_sign_is_not_learned(
    leader: RunningCompany, ours: LastSigned, tmp_path: Path
) -> None:
    stranger = create_keyring(tmp_path / "strange", "shield.example")
    database = leader.node.foundation.database
    assert await database.read(lambda conn: unsigned_logs(conn, stranger)) == [ORIGIN]
    await database.read(lambda conn: learn_signed(conn, stranger, ours))
    assert ours.newest(ORIGIN) is None
    stranger.create_log(ORIGIN)
    assert not await database.read(lambda conn: unsigned_logs(conn, stranger))
    await database.read(lambda conn: learn_signed(conn, stranger, ours))
    assert ours.newest(ORIGIN) is None


async def test_peers_who_wait_for_news_are_woken_by_what_the_leader_commits(
    leader: RunningCompany,
) -> None:
    notices = Notices()
    waker = Waker(leader.node.foundation.database, notices)
    await waker.look()
    event = notices.subscribe(ORIGIN)
    await waker.look()
    assert not event.is_set()
    await publish(leader, 1)
    await waker.look()
    await asyncio.wait_for(event.wait(), 1)
    log = await leader.node.foundation.database.read(
        lambda conn: logs.find_log(conn, ORIGIN)
    )
    assert log is not None
    assert log.checkpoint is not None
    assert read_signed(log.checkpoint).head.tree_size == 2

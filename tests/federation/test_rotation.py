"""Keys are replaced while two nodes exchange a list, and nothing stops."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import pytest

from hashlight_node.exchange.following.descriptors import descriptor_behind
from hashlight_node.peers.errors import PeerUnavailableError
from hashlight_node.store import deliveries
from hashlight_protocol import (
    Reason,
    Ref,
    UnknownKeyError,
    open_checkpoint,
    open_descriptor,
    open_list_note,
    verify_cosignature,
)
from support.clock import ManualClock
from support.made_records import indicators
from support.nodes import make_settings
from support.running_companies import connect, until
from support.timed_company import TimedCompany

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from hashlight_node.keys import RotatingUse
    from hashlight_node.store.database import Connection

ORIGIN = "shield.example/hsf/v1/log/ncii/1"
DAY = 86_400
USES: tuple[RotatingUse, ...] = ("log", "http", "witness", "mirror")


@dataclass
class Pair:
    """An owner and a follower of its list."""

    owner: TimedCompany
    follower: TimedCompany
    clock: ManualClock
    published: int = 0

    async def settle(self) -> None:
        for company in (self.owner, self.follower):
            if company.is_running:
                await company.node.use_cases.rotation.settle()
        # As the hourly job does.
        for one, other in (
            (self.owner, self.follower),
            (self.follower, self.owner),
        ):
            if one.is_running and other.is_running:
                await one.node.use_cases.peering.refresh_descriptor(other.name)

    async def rotate(self, company: TimedCompany, use: RotatingUse) -> None:
        name = "ncii" if use == "log" else None
        await company.node.use_cases.rotation.rotate(use, name)

    async def exchange(self) -> Ref:
        """Publish two records and erase one; gives the erased one."""
        publisher = self.owner.node.use_cases.publisher
        first = self.published
        refs = await publisher.publish("ncii", indicators(2, first=first))
        self.published += 2
        await publisher.withdraw(refs[0], "erase", Reason.WITHDRAWN)
        return refs[0]

    async def is_exchanged(self, ref: Ref) -> bool:
        last = self.published - 1
        found = [await self.follower.matches(n) for n in (last - 1, last)]
        if found != [0, 1]:
            return False
        report = await self.owner.node.use_cases.inspect.erasure(ref)
        confirmed = [one.acknowledgement is not None for one in report.peers]
        return confirmed == [True]

    async def evidence(self) -> int:
        return sum(
            [
                len(await company.node.foundation.database.read(_evidence))
                for company in (self.owner, self.follower)
            ]
        )

    async def exchanged(self) -> None:
        """Exchange, and see that it arrives, is confirmed, and nobody is blamed."""
        ref = await self.exchange()
        await until(partial(self.is_exchanged, ref))
        assert await self.evidence() == 0


def _evidence(conn: Connection) -> list[object]:
    return list(deliveries.list_evidence(conn))


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[Pair]:
    clock = ManualClock()
    names = ("shield.example", "beta.example")
    extra = "\n[exchange]\nsweep_seconds = 1\n"
    owner, follower = (
        TimedCompany(make_settings(tmp_path, name, extra), clock) for name in names
    )
    for company in (owner, follower):
        await company.start()
    await owner.node.use_cases.publisher.create_list("ncii", {"title": "A list"})
    await connect(owner, follower, "ncii")
    pair = Pair(owner, follower, clock)
    await pair.exchanged()
    yield pair
    for company in (owner, follower):
        await company.stop()


async def test_every_key_is_replaced_and_every_message_is_still_verified(
    pair: Pair,
) -> None:
    owner, follower = pair.owner, pair.follower
    before = {company: keys_of(company) for company in (owner, follower)}
    for use in USES:
        await pair.rotate(owner, use)
        if use != "log":
            await pair.rotate(follower, use)
        await pair.exchanged()
    for days in (1, 3, 31):
        pair.clock.advance(days * DAY)
        await pair.settle()
        await pair.exchanged()
    for company in (owner, follower):
        assert not before[company] & keys_of(company)


async def test_both_keys_of_a_log_sign_while_both_are_named(pair: Pair) -> None:
    owner = pair.owner
    old = owner.node.foundation.keyring.log(ORIGIN).key
    await pair.rotate(owner, "log")
    new = owner.node.foundation.keyring.log(ORIGIN).key
    assert (await signed_by(pair), await named_by(pair)) == ({old, new}, {old, new})
    await pair.exchanged()
    assert await signed_by(pair) == {old, new}
    pair.clock.advance(29 * DAY)
    await pair.settle()
    assert await named_by(pair) == {old, new}
    pair.clock.advance(2 * DAY)
    await pair.settle()
    # Without news: whoever reads the newest list note can read the checkpoint too.
    assert (await signed_by(pair), await named_by(pair)) == ({new}, {new})
    await pair.exchanged()


async def test_both_keys_cosign_while_one_replaces_the_other(pair: Pair) -> None:
    """So a quorum file that names the old one has the overlap's days to follow."""
    keyring = pair.follower.node.foundation.keyring
    old = keyring.mirror.key, keyring.witness.key
    for use in ("mirror", "witness"):
        await pair.rotate(pair.follower, use)
    await pair.exchanged()
    log = await pair.follower.log(ORIGIN)
    witnessed = await pair.follower.node.foundation.database.read(
        lambda conn: deliveries.read_witnessed(conn, ORIGIN)
    )
    assert witnessed is not None
    assert log.mirror_checkpoint is not None
    for key in (old[0], keyring.mirror.key):
        verify_cosignature(log.mirror_checkpoint, key)
    for key in (old[1], keyring.witness.key):
        verify_cosignature(witnessed, key)


async def test_a_follower_that_was_away_during_the_whole_overlap_comes_back(
    pair: Pair,
) -> None:
    await pair.follower.stop()
    for use in USES:
        await pair.rotate(pair.owner, use)
    pair.clock.advance(31 * DAY)
    await pair.settle()
    ref = await pair.exchange()
    await pair.follower.start()
    await until(partial(pair.is_exchanged, ref))
    assert await pair.evidence() == 0


async def test_an_owner_that_was_away_reads_cosignatures_by_keys_it_never_saw(
    pair: Pair,
) -> None:
    await pair.owner.stop()
    for use in ("http", "witness", "mirror"):
        await pair.rotate(pair.follower, use)
    pair.clock.advance(31 * DAY)
    await pair.settle()
    await pair.owner.start()
    await pair.exchanged()


async def test_what_a_retired_key_signed_is_known_when_a_peer_still_has_it(
    pair: Pair,
) -> None:
    """The follower's copy carries the old signature until there is something new."""
    await pair.follower.stop()
    await pair.rotate(pair.owner, "log")
    pair.clock.advance(31 * DAY)
    await pair.settle()
    await pair.follower.start()
    peer = await pair.owner.peer(pair.follower.name)
    pusher = pair.owner.node.use_cases.pusher
    await pusher.collect_acknowledgement(ORIGIN, peer, wait_seconds=0)
    await pair.exchanged()


async def test_what_a_retired_mirror_key_acknowledged_can_still_be_proved(
    pair: Pair,
) -> None:
    ref = await pair.exchange()
    await until(partial(pair.is_exchanged, ref))
    report = await pair.owner.node.use_cases.inspect.erasure(ref)
    acknowledged = report.peers[0].acknowledgement
    assert acknowledged is not None
    keyring = pair.follower.node.foundation.keyring
    old = keyring.mirror.key
    for _ in range(2):
        await pair.rotate(pair.follower, "mirror")
        pair.clock.advance(31 * DAY)
        await pair.settle()
    peer = await pair.owner.peer(pair.follower.name)
    raw, key = await pair.owner.node.foundation.database.read(
        lambda conn: descriptor_behind(conn, peer, acknowledged.note)
    )
    assert key == old
    assert open_descriptor(raw, keyring.identity.key).mirror == old
    # The identity key bound it then; a note of nobody's is nobody's now.
    log = await pair.owner.log(ORIGIN)
    with pytest.raises(UnknownKeyError):
        await pair.owner.node.foundation.database.read(
            lambda conn: descriptor_behind(conn, peer, log.checkpoint or b"")
        )


async def test_what_is_stored_is_signed_anew_although_there_is_nothing_new(
    pair: Pair,
) -> None:
    old = await pair.follower.log(ORIGIN)
    await pair.rotate(pair.owner, "log")
    await pair.rotate(pair.follower, "mirror")
    pair.clock.advance(31 * DAY)
    await pair.settle()
    await pair.follower.node.use_cases.follower.sync(pair.owner.name, "ncii")

    new = await pair.follower.log(ORIGIN)
    assert new.tree_size == old.tree_size
    assert new.mirror_checkpoint is not None
    assert new.checkpoint is not None
    log_key = pair.owner.node.foundation.keyring.log(ORIGIN).key
    mirror_key = pair.follower.node.foundation.keyring.mirror.key
    open_checkpoint(new.checkpoint, [log_key], origin=ORIGIN)
    open_checkpoint(new.mirror_checkpoint, [log_key], origin=ORIGIN)
    at = verify_cosignature(new.mirror_checkpoint, mirror_key)
    assert at == pair.clock.now
    peer = await pair.owner.peer(pair.follower.name)
    pusher = pair.owner.node.use_cases.pusher
    await pusher.collect_acknowledgement(ORIGIN, peer, wait_seconds=0)
    assert await pair.evidence() == 0


async def test_a_stolen_key_is_retired_at_once_and_the_exchange_goes_on(
    pair: Pair,
) -> None:
    rotation = pair.owner.node.use_cases.rotation
    for use in USES:
        name = "ncii" if use == "log" else None
        await rotation.rotate(use, name)
        kept = [one for one in await rotation.retire(use, name) if one.use == use]
        assert [one.state for one in kept] == ["signs"]
    pair.clock.advance(3601)
    await pair.exchanged()


async def test_keys_that_change_twice_in_a_minute_put_no_list_into_quarantine(
    pair: Pair,
) -> None:
    rotation = pair.owner.node.use_cases.rotation
    for _ in range(2):
        await rotation.rotate("log", "ncii")
        await rotation.retire("log", "ncii")
        # The clock stands still: the second time the list note was just read.
        with suppress(PeerUnavailableError):
            await pair.follower.node.use_cases.follower.sync(pair.owner.name, "ncii")
    assert await pair.evidence() == 0
    pair.clock.advance(61)
    await pair.exchanged()


async def test_a_node_that_is_started_again_signs_with_the_same_keys(
    pair: Pair,
) -> None:
    for use in USES:
        await pair.rotate(pair.owner, use)
    before = keys_of(pair.owner)
    await pair.owner.stop()
    await pair.owner.start()
    assert keys_of(pair.owner) == before
    await pair.exchanged()


def keys_of(company: TimedCompany) -> set[bytes]:
    keyring = company.node.foundation.keyring
    return {one.key.public_key for use in USES for one in keyring.stored(use)}


async def signed_by(pair: Pair) -> set[object]:
    log = await pair.owner.log(ORIGIN)
    keys = pair.owner.node.foundation.keyring.log_keys(ORIGIN)
    assert log.checkpoint is not None
    opened = open_checkpoint(log.checkpoint, keys, origin=ORIGIN).opened
    return {key for key, _ in opened.verified}


async def named_by(pair: Pair) -> set[object]:
    log = await pair.owner.log(ORIGIN)
    identity = pair.owner.node.foundation.keyring.identity.key
    assert log.list_note is not None
    return set(open_list_note(log.list_note, identity).logs[0].vkeys)


async def test_the_descriptor_names_both_http_keys_until_one_is_retired(
    pair: Pair,
) -> None:
    foundation = pair.owner.node.foundation

    def ids() -> list[str]:
        raw = foundation.descriptor.read()
        assert raw is not None
        opened = open_descriptor(raw, foundation.keyring.identity.key)
        return [key.id for key in opened.http_keys]

    await pair.rotate(pair.owner, "http")
    assert (ids(), foundation.keyring.http_key_id) == (["h1", "h2"], "h1")
    pair.clock.advance(2 * DAY)
    await pair.settle()
    assert (ids(), foundation.keyring.http_key_id) == (["h1", "h2"], "h2")
    pair.clock.advance(29 * DAY)
    await pair.settle()
    assert (ids(), foundation.keyring.http_key_id) == (["h2"], "h2")
    # An id is never used again, or a request could be taken for one of another time.
    await pair.rotate(pair.owner, "http")
    assert ids() == ["h2", "h3"]

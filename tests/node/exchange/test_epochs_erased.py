"""An erasure after a list went on in a new log: nothing is left of it in any file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from hashlight_node.exchange.publishing.epochs import Abandoned, Frozen
from hashlight_protocol import Reason, Ref
from support.log_simulator import WITHHELD
from support.made_records import indicators, md5_of, pdq_of

if TYPE_CHECKING:
    from pathlib import Path

    from hashlight_node.exchange.publishing.epochs import Ending
    from support.exchange_node import ExchangeNode
    from support.peer_simulator import PeerSimulator


# What PostgreSQL's files keep for a while is told in docs/adr/0075.
pytestmark = pytest.mark.sqlite


def left_of(directory: Path, number: int, *more: bytes) -> bool:
    """Tell whether anything of a record is in a file of a node."""
    everything = b"".join(it.read_bytes() for it in sorted(directory.glob("*.db*")))
    needles = (
        md5_of(number).encode(),
        pdq_of(number).encode(),
        bytes.fromhex(pdq_of(number)),
        *more,
    )
    return any(needle in everything for needle in needles)


@pytest.mark.parametrize("ending", [Frozen(), Abandoned(7), Abandoned(3, "keep")])
@pytest.mark.parametrize("epoch", [1, 2])
async def test_nothing_is_left_here_whichever_log_the_request_names(
    alpha: ExchangeNode, tmp_path: Path, ending: Ending, epoch: int
) -> None:
    await alpha.publisher.create_list("ncii", {})
    refs = await alpha.publisher.publish("ncii", indicators(6))
    salt = (await alpha.record(refs[2].origin, 3)).salt
    await alpha.epochs.begin_next("ncii", ending=ending)
    assert left_of(tmp_path / "alpha", 2)
    assert left_of(tmp_path / "alpha", 2, salt)

    named = Ref(f"alpha.example/hsf/v1/log/ncii/{epoch}", 3)
    await alpha.publisher.withdraw(named, "erase", Reason.WITHDRAWN)

    assert not left_of(tmp_path / "alpha", 2, salt)
    assert left_of(tmp_path / "alpha", 3)


@pytest.mark.parametrize("ending", [Frozen(), Abandoned(3)])
async def test_nothing_is_left_of_what_did_not_go_on(
    alpha: ExchangeNode, tmp_path: Path, ending: Ending
) -> None:
    await alpha.publisher.create_list("ncii", {})
    refs = await alpha.publisher.publish("ncii", indicators(6))
    await alpha.publisher.withdraw(refs[4], "retract", Reason.FALSE_POSITIVE)
    await alpha.epochs.begin_next("ncii", ending=ending)
    await alpha.publisher.withdraw(refs[4], "erase", Reason.WITHDRAWN)
    assert not left_of(tmp_path / "alpha", 4)
    assert left_of(tmp_path / "alpha", 5)


async def test_nothing_is_left_at_a_follower_before_it_signs(
    alpha: ExchangeNode, shield: PeerSimulator, tmp_path: Path
) -> None:
    await alpha.peering.add_peer(shield.base, shield.vkey)
    await alpha.peering.follow("shield.example", "ncii")
    old = shield.logs["ncii"]
    old.publish(indicators(6))
    salts = [body.salt for body in old.bodies]
    await alpha.follower.sync("shield.example", "ncii")
    new = shield.next_log("ncii")
    new.reissue(old, [1, 2, 3, 4])
    alpha.clock.advance(3600)
    await alpha.follower.sync("shield.example", "ncii")
    for number in range(6):
        assert left_of(tmp_path / "alpha", number, salts[number + 1])

    new.erase(3)  # It went on.
    new.append_raw(old.entries[6], WITHHELD)
    new.erase(new.size - 1)  # It did not.
    await alpha.follower.sync("shield.example", "ncii")

    copy = await alpha.log(new.origin)
    assert copy.mirror_checkpoint is not None
    assert copy.checkpoint_size == new.size
    left = [left_of(tmp_path / "alpha", it, salts[it + 1]) for it in range(6)]
    assert left == [True, True, False, True, True, False]


async def test_a_body_is_stored_once_for_all_logs(
    alpha: ExchangeNode, tmp_path: Path
) -> None:
    await alpha.publisher.create_list("ncii", {})
    refs = await alpha.publisher.publish("ncii", indicators(1))
    salt = (await alpha.record(refs[0].origin, 1)).salt
    for _ in range(3):
        await alpha.epochs.begin_next("ncii", ending=Frozen())
    await alpha.database.scrub()
    assert (tmp_path / "alpha" / "hashlight.db").read_bytes().count(salt) == 1

"""Copies of peers' logs over HTTP: for their owners, for third parties, for nobody."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from hashlight_node.app import RunningNode, start_node
from hashlight_node.store import logs, relaying
from hashlight_protocol import (
    encode_vkey,
    list_id,
    open_descriptor,
    origin_hash,
    parse_receipt,
    parse_relayed,
)
from support.made_records import indicator, shared
from support.nodes import Sender, make_settings, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from hashlight_node.config import Settings
    from hashlight_node.store.database import Connection
    from support.federation import World

ORIGIN = "owner.example/hsf/v1/log/own/1"
COPY = f"/hsf/v1/mirror/{origin_hash(ORIGIN)}"
LIST = f"/hsf/v1/mirror/{origin_hash(list_id('owner.example', 'own'))}"
RESOURCES = (
    f"{COPY}/checkpoint",
    f"{COPY}/tile/0/000.p/3",
    f"{COPY}/tile/entries/000.p/3",
    f"{COPY}/bodies/000.p/3",
    f"{COPY}/receipt/2",
    f"{LIST}/list-note",
    f"{LIST}/owner",
)
ACKNOWLEDGEMENTS = f"{COPY}/acknowledgements"


@pytest.fixture
def owner_settings(tmp_path: Path) -> Settings:
    return make_settings(tmp_path, "owner.example")


@pytest.fixture
async def owner_node(
    world: World, owner_settings: Settings
) -> AsyncIterator[RunningNode]:
    """Let the node under test copy a list of a real node, and relay it to nobody."""
    async with start_node(owner_settings, clock=world.clock) as running:
        await connect(world, running, owner_settings.node.base)
        yield running


@pytest.fixture
def owner(world: World, owner_node: RunningNode, owner_settings: Settings) -> Sender:
    """Sign as the owner of the list."""
    return Sender(
        owner_node.foundation.keyring,
        owner_settings.node.base,
        world.peer.authority,
        world.clock,
    )


async def connect(world: World, owner: RunningNode, base: str) -> None:
    here, there = world.running.use_cases, owner.use_cases
    await there.publisher.create_list("own", {})
    await there.publisher.publish("own", [indicator(1), shared(2)])
    vkey = encode_vkey(world.running.foundation.keyring.identity.key)
    await there.peering.add_peer(world.settings.node.base, vkey)
    await here.peering.add_peer(
        base, encode_vkey(owner.foundation.keyring.identity.key)
    )
    await there.peering.grant("shield.example", "own", may_relay=True)
    await here.peering.follow("owner.example", "own")

    async def is_copied() -> bool:
        log = await world.running.foundation.database.read(
            lambda conn: logs.find_log(conn, ORIGIN)
        )
        return log is not None and log.checkpoint_size == 3

    await until(is_copied)


async def allow(world: World) -> None:
    await world.running.use_cases.relaying.relay("beta.example", "owner.example", "own")


async def test_a_third_party_gets_everything_but_what_concerns_the_owner(
    world: World, owner: Sender
) -> None:
    await allow(world)
    for path in RESOURCES:
        answer = await world.ask(path)
        assert (path, answer.status) == (path, 200)
        assert answer.headers["Cache-Control"].startswith("private")
    assert parse_receipt((await world.ask(f"{COPY}/receipt/2")).body).body == shared(2)
    descriptor = (await world.ask(f"{LIST}/owner")).body
    assert open_descriptor(descriptor, owner.keyring.identity.key).name == owner.name
    answer = await world.ask(ACKNOWLEDGEMENTS)
    assert (answer.status, answer.problem) == (404, "unknown-log")


async def test_the_owner_gets_all_of_it_and_who_else_has_it(
    world: World, owner: Sender
) -> None:
    await allow(world)
    for path in (*RESOURCES, f"{COPY}/receipt/1"):
        answer = await world.ask(path, sender=owner)
        assert (path, answer.status) == (path, 200)
    answer = await world.ask(ACKNOWLEDGEMENTS, sender=owner)
    (beta,) = parse_relayed(answer.body)
    assert beta.identity == world.peer.keyring.identity.key
    assert beta.descriptor == world.peer.descriptor()
    assert beta.checkpoint == b""
    # Whoever could fetch once may have it for ever.
    await world.running.use_cases.relaying.stop("beta.example", "owner.example", "own")
    again = await world.ask(ACKNOWLEDGEMENTS, sender=owner)
    assert again.body == answer.body


@pytest.mark.parametrize("lacks", ["our grant", "the owner's permission", "a copy"])
async def test_whatever_is_lacking_there_is_one_answer(
    world: World, owner_node: RunningNode, lacks: str
) -> None:
    if lacks == "the owner's permission":
        await allow(world)
        peering = owner_node.use_cases.peering
        await peering.grant("shield.example", "own", may_relay=False)

        async def is_known() -> bool:
            await world.running.use_cases.follower.sync_all()
            (follow,) = await world.running.use_cases.inspect.follows()
            return not follow.may_relay

        await until(is_known)
    if lacks == "a copy":
        await allow(world)
        await world.running.use_cases.peering.unfollow("owner.example", "own")
    absent = origin_hash("owner.example/hsf/v1/log/none/1")
    for path in (*RESOURCES, ACKNOWLEDGEMENTS, f"{COPY}/receipt/99"):
        nothing = await world.ask(f"/hsf/v1/mirror/{absent}/{path.split('/', 5)[5]}")
        answer = await world.ask(path)
        assert (path, answer.status, answer.problem) == (path, 404, "unknown-log")
        assert answer.said == nothing.said


async def test_a_path_that_no_log_has_is_not_found(world: World, owner: Sender) -> None:
    for path in ("tile/0/1", "bodies/000.p/300", "receipt/x", "nothing"):
        answer = await world.ask(f"{COPY}/{path}", sender=owner)
        assert (path, answer.status, answer.problem) == (path, 404, "not-found")


async def test_a_grant_for_a_node_of_the_same_list_name_opens_nothing(
    world: World, owner: Sender
) -> None:
    assert owner.name == "owner.example"

    def write(conn: Connection) -> None:
        relaying.insert_relay_grant(
            conn, 1, node="other.example", list_name="own", now=1
        )

    await world.running.foundation.database.write(write)
    for path in RESOURCES:
        assert (await world.ask(path)).problem == "unknown-log"

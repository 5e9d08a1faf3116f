"""Who gets a copy of another node's list: over the local API, and by command."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest_asyncio
from typer.testing import CliRunner

from hashlight_node.cli.main import app
from support.clock import ManualClock
from support.local_api import LocalApi, run_node
from support.peer_simulator import PeerSimulator

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from typer.testing import Result

RELAY = {"peer": "gamma.example", "owner": "shield.example", "list": "ncii"}
PATH = "/v1/relays/gamma.example/shield.example/ncii"


@pytest_asyncio.fixture
async def peers() -> AsyncIterator[tuple[PeerSimulator, PeerSimulator]]:
    """Give the owner of a list, and a node that wants it."""
    clock = ManualClock()
    async with (
        PeerSimulator("shield.example", clock).running() as shield,
        PeerSimulator("gamma.example", clock).running() as gamma,
    ):
        shield.create_list("ncii")
        yield shield, gamma


async def pin(api: LocalApi, *simulators: PeerSimulator) -> None:
    for one in simulators:
        reply = await api.post("/v1/peers", {"base": one.base, "vkey": one.vkey})
        assert reply.status == 201, reply


async def test_a_copy_is_relayed_listed_and_relayed_no_more(
    api: LocalApi, peers: tuple[PeerSimulator, PeerSimulator]
) -> None:
    await pin(api, *peers)
    followed = await api.post("/v1/follows", {"peer": "shield.example", "list": "ncii"})
    shown = (followed.json["via"], followed.json["withheld"])
    assert (followed.status, shown) == (201, (None, 0))
    assert (await api.post("/v1/relays", RELAY)).status == 201
    made = await api.post("/v1/relays", RELAY)
    assert made.status == 201
    assert {name: made.json[name] for name in RELAY} == RELAY
    assert made.json["is_allowed"] is False
    (row,) = (await api.get("/v1/relays")).json["relays"]
    assert row == made.json
    for _ in range(2):
        assert (await api.delete(PATH)).status == 204
        assert (await api.get("/v1/relays")).json["relays"] == []
    assert (await api.post("/v1/relays", RELAY)).status == 201


async def test_what_is_not_there_is_not_relayed(
    api: LocalApi, peers: tuple[PeerSimulator, PeerSimulator]
) -> None:
    reply = await api.post("/v1/relays", RELAY)
    assert (reply.status, reply.code) == (404, "unknown-peer")
    assert (await api.delete(PATH)).code == "unknown-peer"
    await pin(api, *peers)
    reply = await api.post("/v1/relays", RELAY)
    assert (reply.status, reply.code) == (404, "unknown-follow")


async def test_a_list_is_followed_through_a_relay_and_then_from_its_owner(
    api: LocalApi, peers: tuple[PeerSimulator, PeerSimulator]
) -> None:
    shield, gamma = peers
    assert (await api.post("/v1/pinned-peers", {"vkey": shield.vkey})).status == 201
    wish = {"peer": "shield.example", "list": "ncii", "via": "gamma.example"}
    reply = await api.post("/v1/follows", wish)
    assert (reply.status, reply.code) == (404, "unknown-peer")
    await pin(api, gamma)
    reply = await api.post("/v1/follows", wish)
    assert (reply.status, reply.json["via"]) == (201, "gamma.example")
    wish["via"] = "shield.example"
    assert (await api.post("/v1/follows", wish)).json["via"] is None


async def test_a_grant_says_whether_it_allows_relaying(
    api: LocalApi, peers: tuple[PeerSimulator, PeerSimulator]
) -> None:
    await pin(api, *peers)
    await api.create_list()
    wish = {"peer": "gamma.example", "list": "ncii", "relay": True}
    assert (await api.post("/v1/grants", wish)).json["relay"] is True
    (row,) = (await api.get("/v1/peers/gamma.example")).json["grants"]
    assert row["relay"] is True
    # Granting again says all of it again.
    wish["relay"] = False
    assert (await api.post("/v1/grants", wish)).json["relay"] is False


def command(directory: Path, *arguments: str) -> Result:
    config = directory / "hashlight.toml"
    return CliRunner().invoke(app, [*arguments, "-c", str(config)])


async def test_an_operator_relays_from_the_command_line(
    tmp_path: Path, peers: tuple[PeerSimulator, PeerSimulator]
) -> None:
    async with run_node(tmp_path) as (_, api):
        here = tmp_path / "alpha.example"
        (here / "admin.token").write_text(str(api.token), encoding="ascii")
        await pin(api, *peers)
        for arguments, said in (
            (["follow", "shield.example", "ncii"], "following ncii of shield.example"),
            (["relay", *RELAY.values()], "as soon as its owner lets us"),
            (["relays"], "gamma.example"),
            (["unrelay", *RELAY.values()], "may no longer fetch ncii"),
            (
                ["follow", "shield.example", "ncii", "--via", "gamma.example"],
                "via gamma.example",
            ),
        ):
            done = await asyncio.to_thread(command, here, *arguments)
            assert done.exit_code == 0, done.output
            assert said in " ".join(done.stdout.split())
        done = await asyncio.to_thread(command, here, "relays", "--json")
        assert json.loads(done.stdout) == {"relays": []}

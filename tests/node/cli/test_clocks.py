"""An operator sees which peer takes no signature of ours because of the time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web
from typer.testing import CliRunner

from hashlight_node.cli.main import app
from hashlight_node.model import Peer
from hashlight_node.peers.errors import PeerClockSkewError
from hashlight_node.store import peers as peer_store
from hashlight_node.store.database import Connection
from support.clock import ManualClock
from support.local_api import LocalApi, run_node
from support.peer_simulator import PeerSimulator

if TYPE_CHECKING:
    from pathlib import Path

NAME = "shield.example"
METRIC = f'hashlight_peer_clock_offset_seconds{{peer="{NAME}"}}'


def find(conn: Connection) -> Peer:
    found = peer_store.find_peer(conn, NAME)
    assert found is not None
    return found


async def offset_in_status(api: LocalApi) -> Any:  # noqa: ANN401 -- JSON
    (peer,) = (await api.get("/v1/status")).json["peers"]
    return peer["clock_offset_seconds"]


async def metrics_of(api: LocalApi) -> str:
    return (await api.get("/metrics")).content.decode()


def table_of(directory: Path) -> str:
    config = str(directory / "hashlight.toml")
    environment = {"COLUMNS": "200"}
    done = CliRunner().invoke(app, ["status", "-c", config], env=environment)
    assert done.exit_code == 0, done.output
    return done.stdout


async def test_an_offset_is_shown_until_the_clock_is_mended(tmp_path: Path) -> None:
    clock = ManualClock()
    async with (
        run_node(tmp_path) as (node, api),
        PeerSimulator(NAME, clock).running() as shield,
    ):
        here = tmp_path / "alpha.example"
        (here / "admin.token").write_text(str(api.token), encoding="ascii")
        log = shield.create_list("ncii")
        await node.use_cases.peering.add_peer(shield.base, shield.vkey)
        peer = await node.foundation.database.read(find)
        client = node.foundation.client
        assert await offset_in_status(api) is None

        async def refuse(_: web.Request) -> web.StreamResponse:
            body = b'{"type":"hsf:clock-skew","status":403,"now":%d}'
            return web.Response(status=403, body=body % (clock() - 7200))

        shield.play("checkpoint", refuse)
        with pytest.raises(PeerClockSkewError, match="7200 s behind ours"):
            await client.fetch_checkpoint(peer, log.origin)
        assert await offset_in_status(api) == -7200
        assert f"{METRIC} -7200.0" in await metrics_of(api)
        assert "-7200 s" in await asyncio.to_thread(table_of, here)

        shield.honest()
        await client.fetch_checkpoint(peer, log.origin)
        assert await offset_in_status(api) is None
        assert f"{METRIC} 0.0" in await metrics_of(api)

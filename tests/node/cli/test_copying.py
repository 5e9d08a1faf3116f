"""Whoever waits for a list sees how far its copy is."""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING, cast

from typer.testing import CliRunner

from hashlight_node.cli.copying import wait_for_copy, watched
from hashlight_node.cli.main import app
from hashlight_node.local_client import LocalClient
from support.clock import ManualClock
from support.local_api import LocalApi, run_node
from support.made_records import indicators
from support.peer_simulator import PeerSimulator

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from hashlight_node.local_client import Json

NAME = "shield.example"
ORIGIN = f"{NAME}/hsf/v1/log/ncii/1"


def client_of(api: LocalApi) -> LocalClient:
    return LocalClient(str(api.base).removeprefix("http://").strip("/"), str(api.token))


def run(directory: Path, *arguments: str) -> tuple[int, str]:
    config = str(directory / "hashlight.toml")
    environment = {"COLUMNS": "200"}
    done = CliRunner().invoke(app, [*arguments, "-c", config], env=environment)
    return done.exit_code, done.output


async def copying_of(api: LocalApi) -> object:
    (row,) = (await api.get("/v1/status")).json["lists"]
    return row["copying"]


async def test_status_and_a_bar_tell_how_far_a_copy_is(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = ManualClock()
    async with (
        run_node(tmp_path) as (node, api),
        PeerSimulator(NAME, clock).running() as shield,
    ):
        here = tmp_path / "alpha.example"
        (here / "admin.token").write_text(str(api.token), encoding="ascii")
        shield.create_list("ncii").publish(indicators(9))
        await node.use_cases.peering.add_peer(shield.base, shield.vkey)

        code, output = await asyncio.to_thread(
            run, here, "follow", NAME, "ncii", "--wait", "--json"
        )
        assert code == 0, output
        assert json.loads(output.splitlines()[-1])["state"] == "active"
        assert await copying_of(api) is None

        client = client_of(api)
        copies = node.use_cases.follower._parts.copies  # noqa: SLF001 -- what a pull tells
        with copies.under_way(ORIGIN, size=0, target_size=2_000_000) as meter:
            meter.size = 1_000_000
            shown = cast("Json", await copying_of(api))
            assert (shown["size"], shown["target_size"]) == (1_000_000, 2_000_000)
            assert cast("int", shown["entries_per_second"]) > 0
            assert cast("int", shown["seconds_left"]) > 0
            code, output = await asyncio.to_thread(run, here, "status")
            assert code == 0
            assert "copying 1,000,000 of 2,000,000," in output

            def work() -> Json:
                time.sleep(1.5)
                return {"is": "done"}

            monkeypatch.setenv("FORCE_COLOR", "1")  # As if a terminal showed it.
            done = await asyncio.to_thread(watched, client, work, quiet=False)
            assert done == {"is": "done"}
        assert "copying" in capsys.readouterr().err
        found = await asyncio.to_thread(wait_for_copy, client, NAME, "ncii", quiet=True)
        assert found["error"] is None


async def test_a_first_copy_that_cannot_begin_ends_the_wait(tmp_path: Path) -> None:
    clock = ManualClock()
    async with (
        run_node(tmp_path) as (node, api),
        PeerSimulator(NAME, clock).running() as shield,
    ):
        here = tmp_path / "alpha.example"
        (here / "admin.token").write_text(str(api.token), encoding="ascii")
        shield.create_list("ncii")
        await node.use_cases.peering.add_peer(shield.base, shield.vkey)
        code, output = await asyncio.to_thread(
            run, here, "follow", NAME, "other", "--wait"
        )
        assert code != 0
        assert "no such list" in output

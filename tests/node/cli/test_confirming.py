"""Who has what, on the command line: for people, for scripts, and for third parties."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import sys
from typing import TYPE_CHECKING, cast

import pytest
import pytest_asyncio
from typer.testing import CliRunner

from hashlight_node.cli.main import app
from hashlight_node.cli.session import EXIT_UNVERIFIED
from hashlight_node.store import logs, peers, tables
from hashlight_protocol import encode_vkey
from support.clock import ManualClock
from support.local_api import LocalApi, run_node
from support.made_records import indicator
from support.nodes import until
from support.peer_simulator import PeerSimulator

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from typer.testing import Result

    from hashlight_node.app import RunningNode
    from hashlight_node.store.database import Connection

    Run = Callable[..., Awaitable[Result]]

LOG = "alpha.example/hsf/v1/log/ncii/1"


@pytest_asyncio.fixture
async def running(tmp_path: Path) -> AsyncIterator[tuple[RunningNode, LocalApi]]:
    async with run_node(tmp_path) as (node, api):
        token = tmp_path / "alpha.example" / "admin.token"
        token.write_text(str(api.token), encoding="ascii")
        yield node, api


@pytest.fixture
def clock(running: tuple[RunningNode, LocalApi]) -> ManualClock:
    return cast("ManualClock", running[0].foundation.clock)


@pytest_asyncio.fixture
async def shield(
    running: tuple[RunningNode, LocalApi], clock: ManualClock
) -> AsyncIterator[PeerSimulator]:
    _, api = running
    async with PeerSimulator("shield.example", clock).running() as simulator:
        await api.create_list()
        await api.post("/v1/peers", {"base": simulator.base, "vkey": simulator.vkey})
        await api.post("/v1/grants", {"peer": "shield.example", "list": "ncii"})
        yield simulator


@pytest_asyncio.fixture
async def ref(running: tuple[RunningNode, LocalApi], shield: PeerSimulator) -> str:
    assert shield.name == "shield.example"
    (made,) = await running[1].publish("ncii", json.loads(indicator(1)))
    return made


@pytest.fixture
def run(running: object, tmp_path: Path) -> Run:
    assert running is not None
    config = tmp_path / "alpha.example" / "hashlight.toml"

    async def call(*arguments: str) -> Result:
        everything = [*arguments, "-c", str(config)]
        return await asyncio.to_thread(CliRunner().invoke, app, everything)

    return call


def notes_in(directory: Path) -> list[str]:
    return [path.name for path in directory.glob("*.note")]


async def acknowledge(
    running: tuple[RunningNode, LocalApi], shield: PeerSimulator
) -> None:
    node, api = running
    checkpoint = (await api.get("/v1/lists/ncii")).json["checkpoint"]
    shield.acknowledge(checkpoint.encode())
    await node.use_cases.pusher.push(LOG)


async def test_an_erase_names_who_has_not_confirmed_it(run: Run, ref: str) -> None:
    done = await run("erase", ref)
    assert done.exit_code == 0, done.output
    assert "erased, by entry" in done.output
    assert "shield.example" in done.output
    assert "missing" in done.output
    done = await run("erase", ref, "--json")
    assert json.loads(done.stdout)["peers"][0]["state"] == "missing"


async def test_an_erase_that_waits_ends_when_everybody_has_confirmed(
    run: Run,
    ref: str,
    running: tuple[RunningNode, LocalApi],
    shield: PeerSimulator,
) -> None:
    async def confirm_soon() -> None:
        async def is_erased() -> bool:
            size: int = (await running[1].get("/v1/lists/ncii")).json["size"]
            return size == 3

        await until(is_erased)
        await acknowledge(running, shield)

    confirming = asyncio.create_task(confirm_soon())
    done = await run("erase", ref, "--wait", "20", "--json")
    await confirming
    assert done.exit_code == 0, done.output
    answer = json.loads(done.stdout)
    assert answer["ref"] == f"{LOG}#2"
    assert answer["is_complete"]
    assert answer["peers"][0]["state"] == "acknowledged"


async def test_a_wait_in_vain_is_a_failure_that_says_so(run: Run, ref: str) -> None:
    done = await run("retract", ref, "--reason", "expired", "--wait", "1")
    assert done.exit_code == 1
    assert "retracted, by entry" in done.output
    assert "not every peer has confirmed within 1 s" in done.output


async def test_a_proof_is_saved_and_verified_offline(
    run: Run,
    ref: str,
    running: tuple[RunningNode, LocalApi],
    shield: PeerSimulator,
    tmp_path: Path,
) -> None:
    proofs = tmp_path / "proofs"
    await run("erase", ref)
    await acknowledge(running, shield)
    done = await run("erase", ref, "--wait", "20")
    assert done.exit_code == 0, done.output
    done = await run("erasure", ref, "--save", str(proofs))
    assert "acknowledged by every peer" in done.output
    note = proofs / "shield.example-1.note"

    vkey = (await running[1].get("/v1/lists/ncii")).json["vkey"]
    mirror = encode_vkey(shield.mirror.key)
    verify = ("verify", str(note), "--vkey", vkey, "--cosigner", mirror)
    done = await run(*verify, "--covers", f"{LOG}#2", "--json")
    assert done.exit_code == 0, done.output
    answer = json.loads(done.stdout)
    assert (answer["origin"], answer["tree_size"]) == (LOG, 3)
    assert (answer["cosigner"], answer["means"]) == (
        "shield.example/hsf/v1/mirror",
        "stored and applied",
    )
    done = await run(*verify)
    assert "stored and applied by shield.example/hsf/v1/mirror" in done.output

    done = await run(*verify, "--covers", f"{LOG}#3")
    assert done.exit_code == EXIT_UNVERIFIED
    assert "up to entry 2" in done.output
    other = encode_vkey(shield.witness.key)
    done = await run("verify", str(note), "--vkey", vkey, "--cosigner", other)
    assert done.exit_code == EXIT_UNVERIFIED
    note.write_bytes(note.read_bytes().replace(b"\n3\n", b"\n4\n"))
    done = await run(*verify)
    assert done.exit_code == EXIT_UNVERIFIED


async def test_questions_that_make_no_sense_are_refused(
    run: Run, ref: str, running: tuple[RunningNode, LocalApi], tmp_path: Path
) -> None:
    vkey = (await running[1].get("/v1/lists/ncii")).json["vkey"]
    file = tmp_path / "x.note"
    file.write_text("x")
    for arguments in (("--covers", ref), ("--cosigner", vkey)):
        done = await run("verify", str(file), "--vkey", vkey, *arguments)
        assert done.exit_code == 2, done.output
    done = await run("deliveries", "ncii", "--save", str(tmp_path))
    assert done.exit_code == 2
    done = await run("deliveries", "ncii", "shield.example", "--save", f"{file}/x")
    assert done.exit_code == 1


async def test_deliveries_are_a_table_and_files(
    run: Run,
    ref: str,
    running: tuple[RunningNode, LocalApi],
    shield: PeerSimulator,
    tmp_path: Path,
) -> None:
    await run("retract", ref, "--reason", "expired")
    done = await run("deliveries", "ncii")
    assert "shield.example" in done.output
    assert "retract 0 s" in done.output
    await acknowledge(running, shield)
    await run("retract", ref, "--reason", "expired", "--wait", "20")
    done = await run("deliveries", "ncii", "--json")
    (row,) = json.loads(done.stdout)["deliveries"]
    assert (row["lag_records"], row["unacknowledged"]) == (0, None)
    done = await run("deliveries", "ncii", "shield.example", "--save", str(tmp_path))
    assert "applied" in done.output
    saved = notes_in(tmp_path)
    assert any(name.startswith("applied-3-") for name in saved)
    assert any(name.startswith("delivered-") for name in saved)


async def test_a_check_fails_once_a_withdrawal_is_too_old(
    run: Run, ref: str, clock: ManualClock
) -> None:
    await run("erase", ref)
    assert (await run("status", "--check")).exit_code == 0
    clock.advance(86_401)
    done = await run("status")
    assert done.exit_code == 0
    assert "has not confirmed a retraction or an erasure" in done.output
    done = await run("status", "--check", "--json")
    assert done.exit_code == 1
    assert json.loads(done.stdout)["alerts"][0]["severity"] == "error"


async def test_whoever_waits_at_a_terminal_sees_what_is_missing(
    ref: str, tmp_path: Path
) -> None:
    ours, theirs = pty.openpty()
    config = tmp_path / "alpha.example" / "hashlight.toml"
    command = ("-m", "hashlight_node", "erase", ref, "--wait", "1", "-c", str(config))
    process = await asyncio.create_subprocess_exec(
        sys.executable, *command, stdout=asyncio.subprocess.PIPE, stderr=theirs
    )
    os.close(theirs)
    shown = asyncio.create_task(asyncio.to_thread(read_terminal, ours))
    said, _ = await process.communicate()
    assert process.returncode == 1
    assert b"erased, by entry" in said
    assert b"shield.example" in await shown
    os.close(ours)


def read_terminal(terminal: int) -> bytes:
    """Read what a terminal was sent, until nobody has it open any more."""
    shown = b""
    while True:
        try:
            piece = os.read(terminal, 65_536)
        except OSError:  # Linux says so when the last process is gone.
            return shown
        if not piece:
            return shown
        shown += piece


async def test_a_node_behind_a_relay_is_shown_with_its_way(
    run: Run,
    ref: str,
    running: tuple[RunningNode, LocalApi],
    shield: PeerSimulator,
    clock: ManualClock,
) -> None:
    node, _ = running
    behind = PeerSimulator("beta.example", clock)
    behind.base = "https://beta.example"

    def write(conn: Connection) -> None:
        log = logs.find_log(conn, LOG)
        peer = peers.find_peer(conn, shield.name)
        assert log is not None
        assert peer is not None
        conn.execute(
            tables.relayed_acknowledgements.insert().values(
                log_id=log.log_id,
                node=behind.name,
                tree_size=2,
                via_peer_id=peer.peer_id,
                acknowledged_at=0,
                note=b"note",
                identity_vkey=behind.vkey,
                descriptor=behind.descriptor(),
            )
        )

    await node.foundation.database.write(write)
    await run("peer", "quarantine", shield.name)
    await run("revoke", shield.name, "ncii")
    await run("erase", ref)
    named = "beta.example through shield.example"
    assert named in (await run("status")).output
    shown = (await run("erasure", ref)).output
    assert named in shown
    assert "missing, not granted any more, in quarantine" in shown
    done = await run("deliveries", "ncii", "--json")
    ways = [row["via"] for row in json.loads(done.stdout)["deliveries"]]
    assert ways == [shield.name, None]

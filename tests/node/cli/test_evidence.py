"""Evidence on the command line: listed, shown, exported, and checked offline."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio
from typer.testing import CliRunner

from hashlight_node.cli.main import app
from hashlight_node.exchange.logs.forks import keep_fork
from hashlight_node.store import deliveries
from hashlight_node.store import peers as peer_store
from hashlight_protocol import ForkEvidence, encode_fork_evidence, encode_vkey
from support.clock import ManualClock
from support.local_api import run_node
from support.log_simulator import LogSimulator
from support.made_records import indicators
from support.peer_simulator import PeerSimulator

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from typer.testing import Result

    from hashlight_node.store.database import Connection

    Run = Callable[..., Awaitable[Result]]


@pytest.fixture
def liar() -> PeerSimulator:
    simulator = PeerSimulator("shield.example", ManualClock())
    simulator.base = "http://127.0.0.1:1"
    simulator.create_list("ncii").publish(indicators(2))
    return simulator


@pytest.fixture
def fork(liar: PeerSimulator) -> ForkEvidence:
    log = liar.logs["ncii"]
    lie = LogSimulator(log.origin)
    lie.signer = log.signer
    lie.publish(indicators(9, first=900))
    return ForkEvidence(log.note(), lie.note(), lie.root(3), lie.proof(3, 10))


@pytest_asyncio.fixture
async def run(
    tmp_path: Path, liar: PeerSimulator, fork: ForkEvidence
) -> AsyncIterator[Run]:
    config = tmp_path / "alpha.example" / "hashlight.toml"

    def keep(conn: Connection) -> None:
        owner = peer_store.insert_peer(
            conn,
            name=liar.name,
            base=liar.base,
            identity_vkey=liar.vkey,
            descriptor=liar.descriptor(),
            descriptor_version=1,
            added_at=1,
        )
        deliveries.save_evidence(
            conn,
            peer_id=owner.peer_id,
            list_name="ncii",
            code="bad-bundle",
            what="entries",
            found_at=1,
            payload=b"\x00bytes",
        )
        keep_fork(conn, fork, owner, now=2)

    async def call(*arguments: str) -> Result:
        command = [*arguments, "-c", str(config)]
        return await asyncio.to_thread(CliRunner().invoke, app, command)

    async with run_node(tmp_path) as (running, api):
        token = tmp_path / "alpha.example" / "admin.token"
        token.write_text(str(api.token), encoding="ascii")
        await running.foundation.database.write(keep)
        yield call


async def test_evidence_is_listed_with_the_logs_that_forked(run: Run) -> None:
    said = await run("evidence", "--json")
    assert said.exit_code == 0, said.output
    answer = json.loads(said.stdout)
    assert [row["code"] for row in answer["evidence"]] == ["bad-bundle", "split-view"]
    (row,) = answer["forks"]
    assert row == {
        "origin": "shield.example/hsf/v1/log/ncii/1",
        "found_at": "1970-01-01T00:00:02Z",
    }
    for_people = await run("evidence")
    assert "forked: shield.example/hsf/v1/log/ncii/1" in for_people.stdout


async def test_evidence_is_shown_with_what_its_checkpoints_say(run: Run) -> None:
    other, forked = [
        json.loads((await run("evidence", "show", number, "--json")).stdout)
        for number in ("1", "2")
    ]
    assert other["fork"] is None
    assert forked["fork"]["older"]["tree_size"] == 3
    assert forked["fork"]["newer"]["tree_size"] == 10
    assert (await run("evidence", "show", "3")).exit_code == 1


async def test_evidence_is_exported_as_it_is(run: Run, fork: ForkEvidence) -> None:
    raw = encode_fork_evidence(fork)
    for which, expected in (("1", b"\x00bytes"), ("2", raw), (fork.origin, raw)):
        said = await run("evidence", "export", which)
        assert (said.exit_code, said.stdout_bytes) == (0, expected)
    for which in ("3", "shield.example/hsf/v1/log/ncii/2"):
        assert (await run("evidence", "export", which)).exit_code == 1


def check(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["verify", *arguments])


@pytest.fixture
def file(tmp_path: Path, fork: ForkEvidence) -> Path:
    path = tmp_path / "fork.json"
    path.write_bytes(encode_fork_evidence(fork))
    return path


def test_evidence_is_checked_without_a_node(file: Path, liar: PeerSimulator) -> None:
    vkey = encode_vkey(liar.logs["ncii"].signer.key)
    said = check(str(file), "--vkey", vkey, "--json")
    assert said.exit_code == 0, said.output
    assert json.loads(said.stdout)["fork"]["origin"] == liar.logs["ncii"].origin
    assert "signed two histories" in check(str(file), "--vkey", vkey).stdout


def test_evidence_is_checked_with_the_identity_key_and_a_list_note(
    file: Path, liar: PeerSimulator, tmp_path: Path
) -> None:
    note = tmp_path / "list.note"
    note.write_bytes(liar.list_note("ncii"))
    given = ("--vkey", liar.vkey, "--list-note", str(note))
    assert check(str(file), *given).exit_code == 0
    stranger = PeerSimulator("shield.example", ManualClock())
    given = ("--vkey", stranger.vkey, "--list-note", str(note))
    assert check(str(file), *given).exit_code == 3
    given = ("--vkey", liar.vkey, "--list-note", str(tmp_path / "none"))
    assert check(str(file), *given).exit_code == 1


def test_what_is_no_evidence_is_not_verified(file: Path, liar: PeerSimulator) -> None:
    log = liar.logs["ncii"]
    vkey = encode_vkey(log.signer.key)
    assert check(str(file), "--vkey", liar.vkey).exit_code == 3
    honest = ForkEvidence(log.note(2), log.note(), log.root(2), log.proof(2, 3))
    file.write_bytes(encode_fork_evidence(honest))
    said = check(str(file), "--vkey", vkey, "--json")
    assert said.exit_code == 3
    assert json.loads(said.stderr)["error"] == "no-fork"
    file.write_bytes(b"{}")
    assert check(str(file), "--vkey", vkey).exit_code == 3

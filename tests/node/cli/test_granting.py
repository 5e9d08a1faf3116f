"""Grants from the command line, against a node that runs."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio
from typer.testing import CliRunner

from hashlight_node.cli.main import app
from support.clock import ManualClock
from support.local_api import LocalApi, run_node
from support.made_records import labelled
from support.peer_simulator import PeerSimulator

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from typer.testing import Result

    Run = Callable[..., Awaitable[Result]]

PEER = "shield.example"
REF = "alpha.example/hsf/v1/log/ncii/1#"


@pytest_asyncio.fixture
async def api(tmp_path: Path) -> AsyncIterator[LocalApi]:
    shield = PeerSimulator(PEER, ManualClock())
    async with shield.running(), run_node(tmp_path) as (_, api):
        token = tmp_path / "alpha.example" / "admin.token"
        token.write_text(str(api.token), encoding="ascii")
        await api.post("/v1/peers", {"base": shield.base, "vkey": shield.vkey})
        await api.create_list()
        for number, label in enumerate(("ncii:adult", "ncii:child", "ncii:adult")):
            await api.publish("ncii", json.loads(labelled(number, label)))
        yield api


@pytest.fixture
def run(api: LocalApi, tmp_path: Path) -> Run:
    del api
    config = str(tmp_path / "alpha.example" / "hashlight.toml")

    async def run(*arguments: str, code: int = 0) -> Result:
        # The node answers in this thread's loop, so the command has one of its own.
        result = await asyncio.to_thread(
            CliRunner().invoke, app, [*arguments, "-c", config]
        )
        assert result.exit_code == code, result.output
        return result

    return run


async def run_json(run: Run, *arguments: str) -> Any:  # noqa: ANN401 -- JSON
    # The node's own log is in the way: here it has the same standard output.
    said = (await run(*arguments, "--json")).stdout
    return json.loads(said.splitlines()[-1])


async def test_a_list_is_granted_in_part_and_then_whole(run: Run) -> None:
    said = await run("grant", PEER, "ncii", "--label", "ncii:adult", "--signal", "md5")
    assert f"{PEER} may now fetch ncii: labels ncii:adult; signal types md5" in (
        said.stdout
    )
    wider = await run("grant", PEER, "ncii")
    assert "may now fetch ncii: all records" in wider.stdout
    assert "erase" not in wider.stdout
    assert "pass on" not in wider.stdout
    relayed = await run("grant", PEER, "ncii", "--relay")
    assert "all records; it may pass on what says `share: peers`" in relayed.stdout


async def test_narrowing_says_that_nothing_is_taken_back(run: Run) -> None:
    await run("grant", PEER, "ncii")
    said = await run("grant", PEER, "ncii", "--label", "ncii:child")
    assert "2 records that the peer may already have are no longer shown" in (
        said.stdout
    )
    assert "erase what it must not keep" in said.stdout
    again = await run_json(run, "grant", PEER, "ncii", "--label", "ncii:child")
    assert again["no_longer_shown"] == 0
    assert again["scope"] == {"labels": ["ncii:child"]}
    taken = await run("revoke", PEER, "ncii")
    assert "it keeps what it has" in taken.stdout


async def test_feedback_is_granted_to_those_whom_it_is_about(run: Run) -> None:
    said = await run("grant", PEER, "ncii", "--about-them")
    assert f"about records of {PEER}" in said.stdout
    assert (await run_json(run, "peer", "show", PEER))["grants"][0]["scope"] == {
        "about": PEER
    }


async def test_a_dry_run_shows_what_would_be_seen(run: Run, api: LocalApi) -> None:
    dry = await run("grant", PEER, "ncii", "--label", "ncii:*", "--dry-run")
    assert "it sees now: no grant" in dry.stdout
    assert "live records: 3 shown, 0 hidden" in dry.stdout
    assert f"newly shown: {REF}1" in dry.stdout
    assert "ncii:child" in dry.stdout
    assert (await api.get("/v1/grants")).json["grants"] == []

    await run("grant", PEER, "ncii")
    narrower = await run("grant", PEER, "ncii", "--label", "a:b", "--dry-run")
    assert "it sees now: all records" in narrower.stdout
    assert "3 records that the peer may already have" in narrower.stdout
    assert (await run_json(run, "grant", PEER, "ncii", "--dry-run"))["live"] == {
        "shown": 3,
        "hidden": 0,
    }


async def test_one_record_is_explained(run: Run) -> None:
    why = await run("grant", PEER, "ncii", "--why", f"{REF}2")
    assert f"{PEER} does not see {REF}2 (live)" in why.stdout
    assert "no-grant: it has no grant for the list" in why.stdout
    assert "labels ncii:child" in why.stdout
    proposed = ("--label", "ncii:adult", "--why")
    hidden = await run("grant", PEER, "ncii", *proposed, f"{REF}2")
    assert "labels: no label of the record matches" in hidden.stdout
    shown = await run("grant", PEER, "ncii", *proposed, f"{REF}1")
    assert f"{PEER} sees {REF}1 (live)" in shown.stdout
    await run("erase", f"{REF}1")
    erased = await run("grant", PEER, "ncii", *proposed, f"{REF}1")
    assert "erased: the record is erased" in erased.stdout
    assert "signal types" not in erased.stdout


async def test_a_record_of_another_list_is_refused(run: Run) -> None:
    other = await run("grant", PEER, "other", "--why", f"{REF}1", code=2)
    assert "is no record of other" in other.output
    none = await run("grant", PEER, "ncii", "--why", "nonsense", code=2)
    assert none.output


async def test_a_record_is_published_for_a_case_and_for_relays(run: Run) -> None:
    signal = ("--signal", "md5:0123456789abcdef0123456789abcdef")
    marked = await run_json(
        run, "publish", "ncii", *signal, "--case", "c-17", "--share"
    )
    plain = await run_json(run, "publish", "ncii", *signal)

    bodies = [
        (await run_json(run, "record", published["refs"][0]))["body"]
        for published in (marked, plain)
    ]

    assert [(body.get("case"), body.get("share")) for body in bodies] == [
        ("c-17", "peers"),
        (None, None),
    ]

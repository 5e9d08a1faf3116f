"""Asking why from the command line, against a node that runs."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio
from typer.testing import CliRunner

from hashlight_node.cli.main import app
from hashlight_node.store.matches import MatchEvent
from hashlight_protocol import encode_timestamp
from support.clock import START, ManualClock
from support.local_api import LocalApi, run_node
from support.made_records import md5_of, pdq_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from typer.testing import Result

    from hashlight_node.app import RunningNode

    Run = Callable[..., Awaitable[Result]]

SETTINGS = """
[matching]
log_matches = true
[[policy.rules]]
review = "none"
handling = "block"
"""


@pytest_asyncio.fixture
async def running(tmp_path: Path) -> AsyncIterator[tuple[RunningNode, LocalApi]]:
    async with run_node(tmp_path, SETTINGS) as (node, api):
        token = tmp_path / "alpha.example" / "admin.token"
        token.write_text(str(api.token), encoding="ascii")
        await api.create_list()
        signals = [
            {"type": "md5", "value": md5_of(1)},
            {"type": "pdq", "value": pdq_of(1)},
        ]
        record = {
            "type": "indicator",
            "kind": "image",
            "source": "person",
            "created": encode_timestamp(START),
            "signals": signals,
        }
        await api.publish("ncii", record)
        for signal in signals:
            await api.post("/v1/lookup", {"queries": [signal]})
        assert node.foundation.match_log is not None
        await node.foundation.match_log.flush()
        yield node, api


@pytest.fixture
def run(running: object, tmp_path: Path) -> Run:
    assert running is not None
    config = tmp_path / "alpha.example" / "hashlight.toml"

    async def call(*arguments: str) -> Result:
        everything = [*arguments, "-c", str(config)]
        return await asyncio.to_thread(CliRunner().invoke, app, everything)

    return call


async def test_a_signal_is_explained(run: Run) -> None:
    done = await run("explain", f"md5:{md5_of(1)}")
    assert done.exit_code == 0, done.output
    assert done.output.startswith("handling block\n")
    rule = "rule 0: review = none, handling = block"
    assert f"-> block because of rule, {rule}" in done.output
    assert "judged by alpha.example/hsf/v1/log/ncii/1#1" in done.output
    assert "live" in done.output
    assert "from alpha.example/hsf/v1/log/ncii/1 at size 2" in done.output
    done = await run("explain", f"md5:{md5_of(2)}")
    assert "nothing is known" in done.output


async def test_a_signal_is_explained_as_of_then(
    run: Run, running: tuple[RunningNode, LocalApi]
) -> None:
    node, api = running
    clock = node.foundation.clock
    assert isinstance(clock, ManualClock)
    clock.advance(60)
    ref = "alpha.example/hsf/v1/log/ncii/1#1"
    await api.post("/v1/lists/ncii/retract", {"ref": ref, "reason": "withdrawn"})
    then = encode_timestamp(START)
    done = await run("explain", f"md5:{md5_of(1)}", "--as-of", then)
    assert "retracted" in done.output
    assert "proven for size 2" in done.output
    done = await run("explain", f"md5:{md5_of(1)}", "--as-of", "then")
    assert done.exit_code == 2
    await api.post("/v1/lists/ncii/erase", {"ref": ref, "reason": "withdrawn"})
    done = await run("explain", f"md5:{md5_of(1)}", "--as-of", then)
    assert "nothing is known" in done.output
    assert "1 entries erased since" in done.output
    done = await run("explain", "1")
    assert "erased at distance 0 of 0" in done.output
    assert "no: erased" in done.output


async def test_matches_are_listed_and_explained(run: Run) -> None:
    done = await run("matches", "--json")
    assert [it["type"] for it in json.loads(done.output)["matches"]] == ["md5", "pdq"]
    done = await run("matches", "--limit", "1")
    assert "there are more: hashlight matches --after 1" in done.output
    done = await run("matches", "--after", "1")
    assert "pdq" in done.output
    assert "md5" not in done.output
    done = await run("explain", "2")
    assert done.output.startswith("match 2 of 2025-06-15T15:06:40Z: handling block\n")
    assert f"pdq:{pdq_of(1)} at distance 0 of 31 -> block" in done.output
    assert "proven for size 2" in done.output
    done = await run("explain", "2", "--json")
    assert json.loads(done.output)["match"]["id"] == 2


async def test_what_cannot_be_explained_is_said(run: Run) -> None:
    assert (await run("explain", "7")).exit_code == 1
    assert (await run("explain", "nothing")).exit_code == 2
    assert (await run("explain", "1", "--as-of", "2025-01-01T00:00:00Z")).exit_code == 2


async def test_what_is_not_here_any_more_is_said(
    run: Run, running: tuple[RunningNode, LocalApi]
) -> None:
    node, _ = running
    log = node.foundation.match_log
    assert log is not None
    gone = ["gone.example/hsf/v1/log/ncii/1", 7]
    event = {
        "request": None,
        "type": "md5",
        "matches": [
            {
                "signal": 999,
                "distance": 0,
                "threshold": 0,
                "opinion": "seed",
                "handling": "review",
                "allowed": False,
                "flooded": False,
                "rule": None,
                "because": "default",
                "decided_by": gone,
                "records": [gone],
                "more_records": 4,
            }
        ],
        "more_matches": 2,
        "truncated": True,
        "lists": {gone[0]: 9},
    }
    log.buffer.add_events([MatchEvent(START, "review", json.dumps(event))])
    await log.flush()
    done = await run("explain", "3")
    assert "erased at distance 0 of 0 -> review because of default\n" in done.output
    assert "and 2 more signals" in done.output
    assert "and 4 more records" in done.output
    assert "not here" in done.output
    assert "no: unknown-record" in done.output

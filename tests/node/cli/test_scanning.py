"""A scan of what is stored is no upload: it counts for nothing."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest_asyncio
from typer.testing import CliRunner

from hashlight_client import AsyncClient
from hashlight_node.cli.main import app
from support.local_api import LocalApi, run_node
from support.made_records import md5_of, pdq_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from hashlight_node.app import RunningNode

ROWS = 2000
LIMIT = 10
SETTINGS = f"""
[policy]
flood_matches = {LIMIT}
[[policy.rules]]
review = "none"
handling = "block"
[matching]
log_matches = true
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
            "created": "2026-11-01T00:00:00Z",
            "signals": signals,
        }
        await api.publish("ncii", record)
        yield node, api


async def scan(tmp_path: Path, output: str) -> dict[str, Any]:
    file = tmp_path / "stored.csv"
    file.write_text("pdq,md5\n" + f"{pdq_of(1)},{md5_of(1)}\n" * ROWS)
    config = tmp_path / "alpha.example" / "hashlight.toml"
    arguments = ("scan", str(file), "--output", str(tmp_path / output))
    done = await asyncio.to_thread(
        CliRunner().invoke, app, [*arguments, "-c", str(config), "--json"]
    )
    assert done.exit_code == 0, done.output
    answer: dict[str, Any] = json.loads(done.output)
    return answer


async def upload(api: LocalApi, kind: str, value: str) -> tuple[str, bool]:
    (match,) = await api.matches(kind, value)
    return match["handling"], match["flooded"]


async def logged(node: RunningNode, api: LocalApi) -> int:
    assert node.foundation.match_log is not None
    await node.foundation.match_log.flush()
    reply = await api.get("/v1/matches")
    return len(reply.json["matches"])


async def test_a_scan_trips_no_breaker_and_enters_no_log(
    running: tuple[RunningNode, LocalApi], tmp_path: Path
) -> None:
    node, api = running
    answer = await scan(tmp_path, "matches.ndjson")
    assert answer["handlings"] == {"block": 2 * ROWS}
    assert await logged(node, api) == 0
    assert await upload(api, "md5", md5_of(1)) == ("block", False)
    assert await upload(api, "pdq", pdq_of(1)) == ("block", False)
    assert await logged(node, api) == 2
    # The breaker works; the scan does not reset it either.
    for _ in range(LIMIT):
        await upload(api, "pdq", pdq_of(1))
    assert await upload(api, "pdq", pdq_of(1)) == ("review", True)
    again = await scan(tmp_path, "again.ndjson")
    assert again["handlings"] == {"block": 2 * ROWS}
    assert await upload(api, "pdq", pdq_of(1)) == ("review", True)


async def test_a_client_says_what_its_lookups_are_for(
    running: tuple[RunningNode, LocalApi],
) -> None:
    node, api = running
    hashes = bytes.fromhex(pdq_of(1)) * (LIMIT + 5)
    md5 = f"md5:{md5_of(1)}"
    async with AsyncClient(
        api.base, token=str(api.token), batch_seconds=0.001
    ) as client:
        for _ in range(LIMIT + 1):
            result = await client.lookup(md5, purpose="scan")
            assert result.handling == "block"
        many = await client.lookup_many([md5] * (LIMIT + 1), purpose="scan")
        assert {it.handling for it in many.results} == {"block"}
        found = await client.lookup_pdq(hashes, purpose="scan")
        assert {it.handling for it in found} == {"block"}
        assert await logged(node, api) == 0
        assert await upload(api, "md5", md5_of(1)) == ("block", False)
        found = await client.lookup_pdq(hashes)
        assert [it.handling for it in found] == ["block"] * LIMIT + ["review"] * 5
    assert await logged(node, api) == 1 + len(found)


async def test_a_purpose_is_one_of_two(
    running: tuple[RunningNode, LocalApi],
) -> None:
    _, api = running
    query = {"type": "md5", "value": md5_of(1)}
    for purpose in ("", "Scan", "scans", 1, None):
        reply = await api.post("/v1/lookup", {"queries": [query], "purpose": purpose})
        assert (reply.status, reply.code) == (422, "invalid-body"), purpose
        assert reply.json["errors"][0]["pointer"] == "/purpose"
    for given in ("", "Scan", "scan%20", "scan&purpose=scan"):
        path = f"/v1/lookup/pdq?purpose={given}"
        octets = {"Content-Type": "application/octet-stream"}
        reply = await api.send("POST", path, data=bytes(32), headers=octets)
        assert (reply.status, reply.code) == (400, "invalid-parameter"), given

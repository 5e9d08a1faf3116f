"""Feedback and cases from the command line, against a node that runs."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio
from typer.testing import CliRunner

from hashlight_node.cli.main import app
from support.local_api import LocalApi, run_node

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from typer.testing import Result

    Run = Callable[..., Awaitable[Result]]

MD5 = "0123456789abcdef0123456789abcdef"


def report(case: str) -> dict[str, Any]:
    return {
        "type": "indicator",
        "kind": "image",
        "source": "person",
        "created": "2026-11-01T00:00:00Z",
        "signals": [{"type": "md5", "value": MD5}],
        "case": case,
    }


@pytest_asyncio.fixture
async def api(tmp_path: Path) -> AsyncIterator[LocalApi]:
    async with run_node(tmp_path) as (node, api):
        token = tmp_path / "alpha.example" / "admin.token"
        token.write_text(str(api.token), encoding="ascii")
        await api.create_list()
        first, _ = await api.publish("ncii", report("anna"), report("berta"))
        await api.post("/v1/opinions", {"ref": first, "stance": "affirm"})
        met = {"ref": first, "outcome": "removed", "count": 1200}
        times = {"first_at": "2026-11-01T00:00:00Z", "last_at": "2026-11-01T00:00:00Z"}
        await api.post("/v1/sightings", met | times)
        await node.use_cases.feedback.publish_sightings()
        yield api


@pytest.fixture
def run(api: LocalApi, tmp_path: Path) -> Run:
    del api
    config = str(tmp_path / "alpha.example" / "hashlight.toml")

    async def invoke(*arguments: str) -> Result:
        return await asyncio.to_thread(
            CliRunner().invoke, app, [*arguments, "-c", config], terminal_width=200
        )

    return invoke


async def test_feedback_is_shown_folded(run: Run) -> None:
    shown = await run("feedback", "ncii")
    assert shown.exit_code == 0, shown.output
    assert "alpha.example: affirm" in shown.stdout
    assert "removed 1,200x" in shown.stdout
    (row,) = json.loads((await run("feedback", "ncii", "--json")).stdout)["feedback"]
    assert row["opinion"] == "positive"


async def test_a_list_that_is_not_ours_has_no_feedback(run: Run) -> None:
    assert (await run("feedback", "nothing")).exit_code == 1


async def test_a_case_ends_and_what_goes_on_is_said(run: Run) -> None:
    shown = await run("case", "withdraw", "anna")
    assert shown.exit_code == 0, shown.output
    assert "goes on matching" in shown.stdout
    assert "ncii/1#2" in shown.stdout
    last = await run("case", "withdraw", "berta", "--retract")
    assert "nothing of the case matches any more" in last.stdout
    assert (await run("case", "withdraw", "carla")).exit_code == 1

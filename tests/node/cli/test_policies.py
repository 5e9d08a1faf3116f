"""The operator's word from the command line, against a node that runs."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio
from typer.testing import CliRunner

from hashlight_node.cli import policies
from hashlight_node.cli.main import app
from support.local_api import LocalApi, run_node

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from typer.testing import Result

    Run = Callable[..., Awaitable[Result]]

MD5 = "0123456789abcdef0123456789abcdef"
PDQ = "f8f8f0cee0f4a84f06370a22038f63f0b36e2ed596621e1d33e6b39c4e9c9b22"
RULES = """
[node]
name = "whatever.example"

[policy]
default = "ignore"
flood_matches = 7
rules = [{ match = "exact", review = "human", handling = "block" }]
"""


@pytest_asyncio.fixture
async def api(tmp_path: Path) -> AsyncIterator[LocalApi]:
    async with run_node(tmp_path) as (_, api):
        token = tmp_path / "alpha.example" / "admin.token"
        token.write_text(str(api.token), encoding="ascii")
        await api.create_list()
        record = {
            "type": "indicator",
            "kind": "image",
            "source": "person",
            "created": "2026-11-01T00:00:00Z",
            "review": {"level": "human", "reviewers": 1},
            "signals": [
                {"type": "pdq", "value": PDQ},
                {"type": "md5", "value": MD5},
            ],
        }
        await api.publish("ncii", record)
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
    return json.loads((await run(*arguments, "--json")).stdout)


async def test_a_signal_is_allowed_listed_and_taken_back(run: Run) -> None:
    said = await run("allow", "add", f"pdq:{PDQ}", "--distance", "9", "--note", "logo")
    assert said.stdout == f"entry 1: pdq:{PDQ} is ignored\n"
    shown = (await run("allow", "list")).stdout
    assert PDQ in shown
    assert "logo" in shown
    (row,) = (await run_json(run, "allow", "list"))["allowed"]
    assert (row["id"], row["max_distance"]) == (1, 9)
    (result,) = (await run_json(run, "lookup", f"pdq:{PDQ}"))["results"]
    assert result["handling"] == "ignore"
    assert result["matches"][0]["allowed"]
    assert "ignore, allowed" in (await run("lookup", f"pdq:{PDQ}")).stdout
    assert (await run("allow", "remove", "1")).stdout == "entry 1 is removed\n"
    assert (await run_json(run, "allow", "list"))["allowed"] == []
    assert "not-found" in (await run("allow", "remove", "1", "--json", code=1)).stderr


async def test_a_signal_that_is_none_is_a_usage_error(run: Run) -> None:
    await run("allow", "add", "md5:zz", code=2)
    await run("allow", "add", "nothing", code=2)
    await run("allow", "add", f"md5:{MD5}", "--distance", "3", code=2)


async def test_a_policy_is_tried_on_a_file_of_lines(run: Run, tmp_path: Path) -> None:
    rules, file = tmp_path / "new.toml", tmp_path / "some.txt"
    rules.write_text(RULES, encoding="utf-8")
    near = f"{int(PDQ, 16) ^ 1:064X}"
    file.write_text(f"md5:{MD5}\n\n{near}\npdq:{'0' * 64}\r\n", encoding="utf-8")
    answer = await run_json(run, "policy", "try", str(file), "--rules", str(rules))
    assert answer["queries"] == 3
    assert answer["now"] == {"block": 0, "review": 2, "ignore": 1}
    assert answer["then"] == {"block": 1, "review": 0, "ignore": 2}
    assert [(it["now"], it["then"]) for it in answer["changed"]] == [
        ("review", "block"),
        ("review", "ignore"),
    ]
    shown = (await run("policy", "try", str(file), "--rules", str(rules))).stdout
    assert "2 of 3 change" in shown
    assert f"md5:{MD5}" in shown
    assert "rule 0" in shown
    assert "default" in shown


async def test_a_file_larger_than_a_call_is_tried_in_parts(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(policies, "SHOWN_CHANGES", 3)
    rules, file = tmp_path / "new.toml", tmp_path / "some.csv"
    rules.write_text('default = "ignore"', encoding="utf-8")
    rows = [
        f"{MD5.upper()},,x" if at % 500 == 0 else f"{at:032x},," for at in range(2500)
    ]
    file.write_text("\n".join(["md5,pdq,note", *rows]), encoding="utf-8")
    arguments = ("policy", "try", str(file), "--rules", str(rules))
    answer = await run_json(run, *arguments)
    assert answer["queries"] == 2500
    assert answer["now"] == {"block": 0, "review": 5, "ignore": 2495}
    assert len(answer["changed"]) == 5
    assert "and 2 more" in (await run(*arguments)).stdout


async def test_long_addresses_are_cut_into_smaller_calls(
    run: Run, tmp_path: Path
) -> None:
    rules, file = tmp_path / "new.toml", tmp_path / "some.txt"
    rules.write_text(RULES, encoding="utf-8")
    long = "\n".join(f"x-path:{at}{'y' * 3500}" for at in range(700))
    file.write_text(long, encoding="utf-8")
    answer = await run_json(run, "policy", "try", str(file), "--rules", str(rules))
    assert answer["queries"] == 700
    assert answer["changed"] == []
    assert (
        "0 of 700"
        in (await run("policy", "try", str(file), "--rules", str(rules))).stdout
    )


@pytest.mark.parametrize(
    ("name", "content", "rules", "code"),
    [
        ("a.txt", "", 'default = "ignore"', 2),
        ("a.txt", "neither", 'default = "ignore"', 2),
        ("a.csv", "name\nx", 'default = "ignore"', 2),
        ("a.csv", f'md5\n"{MD5}', 'default = "ignore"', 2),
        ("a.txt", f"md5:{MD5}", "default = ", 2),
        ("a.txt", f"md5:{MD5}", 'name = "x"', 2),
        ("a.txt", f"md5:{MD5}", "policy = 3", 2),
        ("a.txt", f"md5:{MD5}", "default = 2026-11-22", 2),
        ("a.txt", f"md5:{MD5}", 'default = "maybe"', 2),
        ("missing", None, 'default = "ignore"', 1),
        ("a.txt", f"md5:{MD5}", None, 1),
    ],
)
async def test_what_cannot_be_tried_is_said(
    run: Run,
    tmp_path: Path,
    name: str,
    content: str | None,
    rules: str | None,
    code: int,
) -> None:
    for path, text in ((tmp_path / name, content), (tmp_path / "r.toml", rules)):
        if text is not None:
            path.write_text(text, encoding="utf-8")
    arguments = (str(tmp_path / name), "--rules", str(tmp_path / "r.toml"))
    assert (await run("policy", "try", *arguments, code=code)).stderr


async def test_a_cluster_is_shown_with_its_lists(run: Run) -> None:
    near = f"{int(PDQ, 16) ^ 0b111:064x}"
    answer = await run_json(run, "cluster", f"pdq:{near}")
    (member,) = answer["members"]
    assert (member["distance"], member["lists"]) == (3, ["alpha.example/ncii"])
    shown = (await run("cluster", f"pdq:{near}", "--max-distance", "3")).stdout
    assert "1 known hash hangs together" in shown
    assert "alpha.example/ncii" in shown
    none = await run("cluster", f"pdq:{near}", "--max-distance", "2")
    assert "0 known hashes" in none.stdout
    await run("cluster", f"md5:{MD5}", code=2)

"""Pinning a node that cannot be dialled, from both command lines."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

from typer.testing import CliRunner

from hashlight_node.app import start_node
from hashlight_node.cli.main import app
from hashlight_protocol import encode_vkey
from support.local_api import run_node
from support.nodes import make_settings

if TYPE_CHECKING:
    from pathlib import Path

    from typer.testing import Result


def command(directory: Path, *arguments: str) -> Result:
    config = directory / "hashlight.toml"
    return CliRunner().invoke(app, [*arguments, "-c", str(config)])


async def test_a_descriptor_goes_from_one_operator_to_the_other(
    tmp_path: Path,
) -> None:
    settings = make_settings(tmp_path, "beta.example")
    async with start_node(settings) as beta:
        vkey = encode_vkey(beta.foundation.keyring.identity.key)
    printed = command(tmp_path / "beta.example", "descriptor")
    assert printed.exit_code == 0, printed.output
    file = tmp_path / "beta.note"
    file.write_bytes(printed.stdout_bytes)
    async with run_node(tmp_path) as (_, api):
        here = tmp_path / "alpha.example"
        (here / "admin.token").write_text(str(api.token), encoding="ascii")
        for options in ([], ["--descriptor", str(file)]):
            asked = ["peer", "pin", vkey, *options, "--json"]
            done = await asyncio.to_thread(command, here, *asked)
            assert done.exit_code == 0, done.output
            answer = json.loads(done.stdout)
            assert not answer["is_dialable"]
            assert answer["base"] == (settings.node.base if options else "")
        missing = ["peer", "pin", vkey, "--descriptor", str(tmp_path / "none")]
        done = await asyncio.to_thread(command, here, *missing)
        assert done.exit_code == 1
        assert "cannot be read" in done.stderr


def test_a_node_that_was_never_started_has_no_descriptor(tmp_path: Path) -> None:
    make_settings(tmp_path, "beta.example")
    done = command(tmp_path / "beta.example", "descriptor")
    assert (done.exit_code, done.stdout) == (1, "")
    assert "start it once" in done.stderr

"""What `hashlight --help` shows."""

from __future__ import annotations

import pytest
import typer
from typer.testing import CliRunner

from hashlight_node.cli.main import SECTIONS, app

NAMES = [name for names in SECTIONS.values() for name in names]


def test_every_command_stands_in_one_section() -> None:
    group = typer.main.get_group(app)

    assert sorted(NAMES) == sorted(group.commands)


def test_the_help_shows_every_command_under_its_heading() -> None:
    shown = CliRunner().invoke(app, ["--help"], terminal_width=100).output

    lines = shown.splitlines()
    listed = [line.split()[0] for line in lines if line[2:3].strip() and " " in line]
    headings = [line[:-1] for line in lines if line.endswith(":") and line[0] != " "]
    assert headings == ["Options", *SECTIONS]
    assert [name for name in listed if name in NAMES] == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_command_says_in_one_line_what_it_does(name: str) -> None:
    shown = CliRunner().invoke(app, ["--help"], terminal_width=100).output

    (line,) = (line for line in shown.splitlines() if line.startswith(f"  {name} "))
    assert line.endswith(".")
    assert not line.endswith("...")
